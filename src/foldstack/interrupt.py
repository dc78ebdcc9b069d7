"""SIGINT, SIGTERM and SIGHUP: at once where nothing is lost, after a checkpoint inside the loop."""

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
SAME_SECONDS = 1.0  # `timeout`, and a terminal with a parent that passes signals on, send one twice
AGAIN_SECONDS = 0.05  # the callback that hid a signal is over


class Stop:
    """Turns signals into `Interrupted`, raised by the handler or, inside `deferred()`, by `check()`.

    requested: the signal that `check` will raise; received: the last one that came, whatever it led to.
    """

    def __init__(self) -> None:
        self._deferred = self._installed = False
        self.requested: int | None = None
        self.received: int | None = None
        self._last = -SAME_SECONDS
        self._before = sys.unraisablehook

    def install(self) -> None:
        """Handle the signals from now on; SIGHUP not if it is ignored, as `nohup` asks for."""
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
        """Send the signal again if the handler ran where Python ignores errors, as in `__del__`."""
        if not isinstance(lost.exc_value, Interrupted):
            return self._before(lost)
        self._last = -SAME_SECONDS
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), lost.exc_value.signum))
        again.daemon = True
        again.start()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a first signal only sets `requested`; the loop saves its state and calls check.

        The user gets an answer at once. A signal that came too late for the loop to see counts on
        leaving.
        """
        self._deferred = True
        try:
            with _answered() if self._installed and parallel.is_main() else nullcontext():
                yield
        finally:
            self._deferred = False
        self.check()

    def wanted(self) -> bool:
        """Whether to stop now: a signal came, or the process that started this run is gone.

        Of several processes all call it at the same point, and all stop where one of them wants to.
        """
        parent = os.environ.get(_PARENT)
        if parent and os.getppid() != int(parent):
            self.requested = signal.SIGTERM
        self.requested = parallel.largest(self.requested or 0) or None
        return self.requested is not None

    def check(self) -> None:
        if self.requested is not None:
            raise Interrupted(self.requested)


def hidden_stop(error: BaseException | None) -> Interrupted | None:
    """Return the `Interrupted` during which the error arose and which it hides; None if there is none.

    The handler may raise anywhere, and a library that is left half-way may fail in its `finally`.
    """
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error


@contextmanager
def _answered() -> Iterator[None]:
    """Answer the first signal from a thread, for a handler waits for the C call that it interrupts.

    That may be a backward pass of seconds. Python writes the signal's number into the pipe at once.
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
    """Say once that a signal has arrived; return when the pipe's other end is closed."""
    while number := os.read(numbers, 1):
        if number[0] in SIGNALS:
            _say(ANSWER)
            return


def _say(text: str) -> None:
    """A line on standard error, over a progress bar's, which the next update draws again.

    Nothing else is locked or allocated that the main thread may hold.
    """
    with suppress(OSError):  # the terminal may be gone, which sent SIGHUP
        clear = "\r\x1b[K" if os.isatty(2) else ""
        os.write(2, f"{clear}{text}\n".encode())


STOP = Stop()


def is_child() -> bool:
    """Whether another foldstack process started this one for a single run."""
    return os.environ.get(_PARENT) == str(os.getppid())


def child_environment() -> dict[str, str]:
    """For a run started by this process: it stops, resumably, when this process is killed."""
    return os.environ | {_PARENT: str(os.getpid())}
