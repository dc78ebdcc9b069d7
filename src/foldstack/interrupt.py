"""Handling of SIGINT, SIGTERM and SIGHUP: immediate, or inside the training loop after a checkpoint."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from foldstack import parallel
from foldstack.errors import Interrupted

_PARENT = "FOLDSTACK_PARENT"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ANSWER = "stopping after this update"
SAME_SECONDS = 1.0  # `timeout`, or a parent that forwards a terminal's signals, sends one twice
AGAIN_SECONDS = 0.05  # by then the callback that hid a signal has returned


class Stop:
    """Signal handler that raises `Interrupted`, inside `deferred()` only when `check()` is called.

    requested: the signal that `check` will raise. received: the last signal, handled or not.
    """

    def __init__(self) -> None:
        self._deferred = self._installed = False
        self.requested: int | None = None
        self.received: int | None = None
        self._last = -SAME_SECONDS
        self._before = sys.unraisablehook

    def install(self) -> None:
        """Install the handlers; leave SIGHUP ignored if it is, as under `nohup`."""
        for signum in SIGNALS:
            if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
                signal.signal(signum, self._on_signal)
        if not self._installed:
            self._before, sys.unraisablehook = sys.unraisablehook, self._on_unraisable
        self._installed = True

    def _on_signal(self, signum: int, _frame: object) -> None:
        last, self._last = self._last, time.monotonic()
        self.received = signum
        if self._last - last < SAME_SECONDS:
            return
        if self._deferred and self.requested is None:
            self.requested = signum
        else:  # nothing to save, or the user asks a second time
            raise Interrupted(signum)

    def _on_unraisable(self, lost: sys.UnraisableHookArgs) -> None:
        """Resend the signal if the handler ran where Python ignores exceptions, as in `__del__`."""
        if not isinstance(lost.exc_value, Interrupted):
            return self._before(lost)
        self._last = -SAME_SECONDS
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), lost.exc_value.signum))
        again.daemon = True
        again.start()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer the first signal in the block: the loop sees `requested`, saves and calls `check`.

        The user is answered at once. A signal that the loop has not seen is raised at the block's end.
        """
        self._deferred = True
        try:
            with _answered() if self._installed and parallel.is_main() else nullcontext():
                yield
        finally:
            self._deferred = False
        self.check()

    def should_stop(self) -> bool:
        """Return whether to stop: a signal was received, or the parent process is gone.

        All processes of a run call it at the same point, and all stop if one of them is to stop.
        """
        parent = os.environ.get(_PARENT)
        if parent and os.getppid() != int(parent):
            self.requested = signal.SIGTERM
        self.requested = parallel.all_reduce_max(self.requested or 0) or None
        return self.requested is not None

    def check(self, *, is_said: bool = False) -> None:
        """Raise `Interrupted` if a signal was deferred.

        is_said: whether the user has been told where the work stopped.
        """
        if self.requested is not None:
            stop = Interrupted(self.requested)
            stop.is_said = is_said
            raise stop


def hidden_stop(error: BaseException | None) -> Interrupted | None:
    """Return the `Interrupted` in the error's context; None if there is none.

    The handler may raise anywhere, and a library that it interrupts may fail in its `finally`.
    """
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error


@contextmanager
def saying_stop(what: str) -> Iterator[None]:
    """Say that a signal has stopped this work, unless that has been said."""
    try:
        yield
    except Exception as e:
        stop = hidden_stop(e)
        if stop is not None and not stop.is_said:
            from foldstack.progress import say  # here: it loads tqdm, which --help does without

            say(f"{what}: stopped: the same command resumes it")
        raise


@contextmanager
def _answered() -> Iterator[None]:
    """Answer the first signal from a thread: Python runs a handler only after the current C call.

    That may be a backward pass of seconds. The signal's number is written to the wakeup pipe at once.
    """
    numbers, arrived = os.pipe()
    os.set_blocking(arrived, False)
    before = signal.set_wakeup_fd(arrived, warn_on_full_buffer=False)
    thread = threading.Thread(target=_answer, args=(numbers,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(arrived)
        thread.join()
        os.close(numbers)


def _answer(numbers: int) -> None:
    """Print ANSWER once a signal has arrived; return when the pipe's other end is closed."""
    while number := os.read(numbers, 1):
        if number[0] in SIGNALS:
            _say(ANSWER)
            return


def _say(text: str) -> None:
    """Print a line on standard error over a progress bar, which redraws at the next update.

    Takes no lock that the main thread may hold.
    """
    with suppress(OSError):  # the terminal may be gone, which sent SIGHUP
        clear = "\r\x1b[K" if os.isatty(2) else ""
        os.write(2, f"{clear}{text}\n".encode())


STOP = Stop()


def is_child() -> bool:
    """Return whether another foldstack process started this one for a single run."""
    return os.environ.get(_PARENT) == str(os.getppid())


def child_environment() -> dict[str, str]:
    """Return the environment of a child run, which stops, resumably, when this process is killed."""
    return os.environ | {_PARENT: str(os.getpid())}
