"""Errors that the user can fix, reported in one sentence; any other error keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class InputError(Exception):
    """Invalid input: a file, a row or column, a setting or a name that the user can fix.

    The command line prints the sentence and exits with code 2. The message names the file,
    what is wrong with it and what to do about it.

    Attributes:
        result: what the stage had done before, which the command line shows first.
    """

    result: object = None


class Interrupted(Exception):
    """SIGINT, SIGTERM or SIGHUP arrived; the work stopped where it can be resumed.

    Attributes:
        signum: the signal's number; the process exits with 128 + signum.
        is_said: whether the user has been told where the work stopped.
    """

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum, self.is_said = signum, False


class ChildFailed(Exception):
    """Failure of a run's process, which has reported the error itself; `code` is its exit code."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a clause for an unknown name: the closest valid one, or all if none is close."""
    valid = sorted(valid)
    close = [v for v in valid if _is_code_of(v, name) or _is_code_of(name, v)]
    close = close or difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{cut(close[0])}'?"
    more = f" and {len(valid) - LISTED} more" if len(valid) > LISTED else ""
    return f"known: {', '.join(map(cut, valid[:LISTED]))}{more}"


def _is_code_of(code: str, name: str) -> bool:
    """Return whether the name begins with the code, as english does with en."""
    return 1 < len(code) <= CODE and name.startswith(code)


SHOWN = 200  # most characters of a value quoted in a message
CODE = 3  # most characters of a code such as en
LISTED = 100  # most names listed in a message


def cut(text: str) -> str:
    """Return a text as quoted in a message: truncated, on one line, control characters escaped."""
    text = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return (
        text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def shown(value: object) -> str:
    """Return the repr of a value as quoted in a message."""
    try:
        return cut(repr(value))
    except RecursionError:
        return "a value that nests very deep"


def some(names: Sequence[str]) -> str:
    """Return the first names, quoted, and the number of the others."""
    first = ", ".join(f"'{cut(n)}'" for n in names[:6])
    return first + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def first_of(names: Sequence[object]) -> str:
    """The first three names, and a sign that there are more."""
    return ", ".join(map(str, names[:3])) + (" …" if len(names) > 3 else "")
