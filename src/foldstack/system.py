"""Errors of the user's machine (full disk, no permission, out of memory) as one-line messages.

`naming` attaches the file's name where the error is raised; `sentence` turns it into a message in
`cli.main`. Any other error is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from foldstack import hints

OUTPUT, ERRORS = "standard output", "standard error"

AGAIN = "and run the same command again"
LESS_MEMORY = (
    "close other programs, run fewer --jobs, or lower training.micro_batch_size or "
    "training.max_length"
)
FILE_NOT_FOLDER = "a file is where a folder is expected: move it away, or take another folder"
NOT_PERMITTED = "permission is denied: change its owner or permissions, or take another folder"

# Errors of the machine even if they name no file.
OF_RESOURCES = {
    errno.ENOSPC: f"the disk is full: free some space {AGAIN}",
    errno.EDQUOT: f"the disk quota is used up: free some space {AGAIN}",
    errno.EFBIG: "the file is too large for this disk or for the limit that `ulimit -f` shows: raise "
    "the limit, or take another disk",
    errno.EIO: "the device reports an input/output error: check it, or take another one",
    errno.EMFILE: "too many files are open: raise the limit that `ulimit -n` shows",
    errno.ENFILE: "this machine has too many open files: close other programs",
    errno.ENOMEM: f"out of memory: {LESS_MEMORY}",
    errno.EAGAIN: "no more processes or threads can be started: raise the limit that `ulimit -u` "
    "shows, or run fewer --jobs",
}
# Errors of the machine only if they name a file.
OF_FILES = {
    errno.EROFS: "the disk is read-only: take a folder that can be written to",
    errno.EACCES: NOT_PERMITTED,
    errno.EPERM: NOT_PERMITTED,
    errno.ENAMETOOLONG: "the name is too long for this disk: take a shorter one",
    errno.EISDIR: "a folder is where a file is expected: move it away, or take another name",
    errno.ENOTDIR: FILE_NOT_FOLDER,
    errno.EEXIST: FILE_NOT_FOLDER,
    errno.ELOOP: "its symbolic links form a loop: fix them",
    errno.ENOLCK: "its disk has no file locks: take a folder on a local disk",
    errno.ESTALE: f"the shared disk has lost it: mount the disk again {AGAIN}",
}
GPU_MEMORY = (
    "out of GPU memory: lower training.micro_batch_size or training.max_length, or close other "
    "programs that use the GPU"
)

INSTALL = (
    "run `python -m pip install --editable .` with it in foldstack's folder, which keeps a torch that "
    "it has, or leave PY out"
)

# Messages of libraries that do not raise OSError or MemoryError.
NUMBER = re.compile(r"\(os error (\d+)\)|\[errno (\d+)\]", re.IGNORECASE)
PHRASES = {
    re.compile(r"\d+ requested and \d+ written"): errno.ENOSPC,  # NumPy drops the errno
    re.compile(r"can't allocate memory|not enough memory|bad_alloc|bad allocation"): errno.ENOMEM,
    # From the dynamic loader, on importing a library.
    re.compile(
        r"failed to map segment from shared object(: Cannot allocate memory)?$"
    ): errno.ENOMEM,
    re.compile(r"can't start new thread"): errno.EAGAIN,
}
GPU_PHRASE = re.compile(r"(CUDA|HIP|MPS|XPU)\b.*out of memory|_STATUS_ALLOC_FAILED")

GENERAL = (Exception, RuntimeError, OSError, ImportError)  # types that libraries raise as well


def sentence(error: BaseException | None) -> str | None:
    """Return a message with the cause and the remedy; None if the machine did not cause the error."""
    while error is not None:
        if GPU_PHRASE.search(_library_text(error)):
            return GPU_MEMORY
        if (package := _missing_package(error)) is not None:
            return f"this Python lacks the package {package}: {INSTALL}"
        number, name = error_number(error), _name(error)
        if number in OF_RESOURCES:
            return OF_RESOURCES[number] if name is None else f"{name}: {OF_RESOURCES[number]}"
        if number in (errno.ENOTDIR, errno.EEXIST) and name is not None:
            name = _obstacle(name)
        if number in OF_FILES and name is not None:
            return f"{name}: {OF_FILES[number]}"
        error = error.__cause__  # a library may wrap the OSError
    return None


def _missing_package(error: BaseException) -> str | None:
    """Return the package whose absence the error reports; None for modules of foldstack itself."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    package = error.name.partition(".")[0]
    return None if package == "foldstack" else package


def is_fault(error: BaseException) -> bool:
    """Return whether the machine caused the error, not the contents of a file."""
    return sentence(error) is not None


@contextmanager
def naming(name: Path | str, instead_of: Path | None = None) -> Iterator[None]:
    """Add a file name to an OSError of the block; convert a library's error to OSError.

    instead_of: the temporary name that `name` replaces. An OSError with any other name keeps it.
    """
    try:
        yield
    except OSError as e:
        if e.errno is not None:
            if _name(e) in (None, str(instead_of)):
                e.filename, e.filename2 = str(name), None
            raise
        _raise_as_os_error(e, name)
    except Exception as e:
        _raise_as_os_error(e, name)


def _raise_as_os_error(error: Exception, name: Path | str) -> NoReturn:
    """Raise the equivalent OSError of a library's error, with this name; re-raise any other."""
    number = error_number(error)
    if number is None or number in (errno.ENOMEM, errno.EAGAIN):
        raise error
    raise OSError(number, os.strerror(number), str(name)) from error


def error_number(error: BaseException) -> int | None:
    """Return the errno of an OSError, MemoryError or library error; None if it has none."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = _library_text(error)
    found = NUMBER.search(text)
    if found:
        return int(found[1] or found[2])
    return next((number for phrase, number in PHRASES.items() if phrase.search(text)), None)


def _library_text(error: BaseException) -> str:
    """Return the message if a library may have raised the error, else "" (our own ValueError)."""
    package = type(error).__module__.partition(".")[0]
    ours = package == "builtins" and type(error) not in GENERAL
    return "" if ours or package == "foldstack" else str(error)


def _name(error: BaseException) -> str | None:
    """Return the file that the error names; the destination if it names two."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][1])
    for name in (getattr(error, "filename2", None), getattr(error, "filename", None)):
        if name is not None:
            return os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else str(name)
    return None


def _obstacle(name: str) -> str | None:
    """Return the file on this path where a folder is expected; None if there is none (a bug)."""
    path = Path(name)
    on_the_way = (str(p) for p in (*reversed(path.parents), path))
    return next((p for p in on_the_way if os.path.lexists(p) and not os.path.isdir(p)), None)


# Standard streams


def open_streams() -> None:
    """Reopen closed standard streams (`>&-`), or the next file would take their descriptors."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor: this one
            os.set_inheritable(opened, True)
            if getattr(sys, name) is None:
                stream = open(opened, "r" if number == 0 else "w", closefd=False)  # noqa: SIM115
                setattr(sys, name, stream)


def flush_output() -> None:
    """Flush standard output. Raises an OSError that names it."""
    with naming(OUTPUT):
        sys.stdout.flush()


def drop_output() -> None:
    """Discard output that cannot be written; the interpreter would retry at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, stream.fileno())
                os.close(nothing)
        except ValueError:  # it is closed
            pass


def say_error(text: str) -> None:
    """Print a line on standard error; if that fails, only the exit code remains."""
    with suppress(OSError):
        print(f"foldstack: {hints.completed(text)}", file=sys.stderr, flush=True)


def is_of_streams(error: BaseException) -> bool:
    """Return whether standard output or standard error could not be written."""
    return isinstance(error, OSError) and error.filename in (OUTPUT, ERRORS)
