"""Errors of the user's machine (full disk, no permission, no memory) as one sentence.

`naming` gives an error the name of the file it is about, where the error arises; `sentence` puts it
into words, at the border in `cli.main`. An error that neither knows is ours and keeps its traceback.
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

OUTPUT, ERRORS = "standard output", "standard error"

AGAIN = "and run the same command again"
LESS_MEMORY = (
    "close other programs, run fewer --jobs, or lower training.micro_batch_size or "
    "training.max_length"
)
FILE_NOT_FOLDER = "a file is where a folder is expected: move it away, or take another folder"
NOT_PERMITTED = "permission is denied: change its owner or permissions, or take another folder"

# Errors that name no file may arise anywhere: these are the machine's all the same.
OF_RESOURCES = {
    errno.ENOSPC: f"the disk is full: free some space {AGAIN}",
    errno.EDQUOT: f"the disk quota is used up: free some space {AGAIN}",
    errno.EFBIG: "the file is too large for this disk or for the limit that `ulimit -f` shows: raise "
    "the limit, or take another disk",
    errno.EIO: "the device reports an input/output error: check it, or take another one",
    errno.EMFILE: "too many files are open: raise the limit that `ulimit -n` shows",
    errno.ENFILE: "this machine has too many open files: close other programs",
    errno.ENOMEM: f"the memory is not enough: {LESS_MEMORY}",
    errno.EAGAIN: "no more processes or threads can be started: raise the limit that `ulimit -u` "
    "shows, or run fewer --jobs",
}
# Of a file that the error names.
OF_FILES = {
    errno.EROFS: "the disk is read-only: take a folder that can be written to",
    errno.EACCES: NOT_PERMITTED,
    errno.EPERM: NOT_PERMITTED,
    errno.ENAMETOOLONG: "the name is too long for this disk: take a shorter one",
    errno.EISDIR: "a folder is where a file is expected: move it away, or take another name",
    errno.ENOTDIR: FILE_NOT_FOLDER,
    errno.EEXIST: FILE_NOT_FOLDER,
    errno.ELOOP: "its symbolic links lead in a circle: correct them",
    errno.ENOLCK: "its disk has no file locks: take a folder on a local disk",
    errno.ESTALE: f"the shared disk has lost it: mount the disk again {AGAIN}",
}
GPU_MEMORY = (
    "the GPU's memory is not enough: lower training.micro_batch_size or training.max_length, or "
    "close other programs that use the GPU"
)

# What libraries say instead of raising an OSError or a MemoryError.
NUMBER = re.compile(r"\(os error (\d+)\)|\[errno (\d+)\]", re.IGNORECASE)
PHRASES = {
    re.compile(r"\d+ requested and \d+ written"): errno.ENOSPC,  # NumPy, which drops the number
    re.compile(r"can't allocate memory|not enough memory|bad_alloc|bad allocation"): errno.ENOMEM,
    # Of the dynamic loader, when a library is imported.
    re.compile(
        r"failed to map segment from shared object(: Cannot allocate memory)?$"
    ): errno.ENOMEM,
    re.compile(r"can't start new thread"): errno.EAGAIN,
}
GPU_PHRASE = re.compile(r"(CUDA|HIP|MPS|XPU)\b.*out of memory|_STATUS_ALLOC_FAILED")

GENERAL = (Exception, RuntimeError, OSError, ImportError)  # which libraries raise as well


def sentence(error: BaseException | None) -> str | None:
    """Return what is wrong with the machine and what to do; None if the error is none of these."""
    while error is not None:
        if GPU_PHRASE.search(_library_text(error)):
            return GPU_MEMORY
        number, name = error_number(error), _name(error)
        if number in OF_RESOURCES:
            return OF_RESOURCES[number] if name is None else f"{name}: {OF_RESOURCES[number]}"
        if number in (errno.ENOTDIR, errno.EEXIST) and name is not None:
            name = _obstacle(name)
        if number in OF_FILES and name is not None:
            return f"{name}: {OF_FILES[number]}"
        error = error.__cause__  # a library may wrap what it met
    return None


def is_fault(error: BaseException) -> bool:
    """Whether the machine is at fault, and not the file that was to be read."""
    return sentence(error) is not None


@contextmanager
def naming(name: Path | str, instead_of: Path | None = None) -> Iterator[None]:
    """Give an OSError of the block that names no file this name; a library's becomes an OSError.

    instead_of: another name that the user does not know, a temporary one.
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
    """Raise the OSError that a library's error stands for, with this name; another error as it is."""
    number = error_number(error)
    if number is None or number in (errno.ENOMEM, errno.EAGAIN):
        raise error
    raise OSError(number, os.strerror(number), str(name)) from error


def error_number(error: BaseException) -> int | None:
    """The error's number, of OSErrors and of what libraries raise instead."""
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
    """What the error says, if a library may have raised it: no ValueError or KeyError of ours."""
    package = type(error).__module__.partition(".")[0]
    ours = package == "builtins" and type(error) not in GENERAL
    return "" if ours or package == "foldstack" else str(error)


def _name(error: BaseException) -> str | None:
    """The file that the error is about: of two, the one that was to be written."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][1])
    for name in (getattr(error, "filename2", None), getattr(error, "filename", None)):
        if name is not None:
            return os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else str(name)
    return None


def _obstacle(name: str) -> str | None:
    """The file on this path where a folder is expected; None if there is none, which is our fault."""
    path = Path(name)
    on_the_way = (str(p) for p in (*reversed(path.parents), path))
    return next((p for p in on_the_way if os.path.lexists(p) and not os.path.isdir(p)), None)


# Standard streams


def open_streams() -> None:
    """Open standard streams that were closed (`>&-`), else the next file takes their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(opened, True)
            if getattr(sys, name) is None:
                stream = open(opened, "r" if number == 0 else "w", closefd=False)  # noqa: SIM115
                setattr(sys, name, stream)


def flush_output() -> None:
    """Write what is left of the output; raises an OSError that names it."""
    with naming(OUTPUT):
        sys.stdout.flush()


def drop_output() -> None:
    """Forget what cannot be written, which the interpreter would try again at its end."""
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
    """A line on standard error; where it cannot be written, the exit code says it alone."""
    with suppress(OSError):
        print(f"foldstack: {text}", file=sys.stderr, flush=True)


def is_of_streams(error: BaseException) -> bool:
    """Whether standard output or standard error could not be written."""
    return isinstance(error, OSError) and error.filename in (OUTPUT, ERRORS)
