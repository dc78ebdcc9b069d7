"""SIGINT and SIGTERM: at once where nothing is lost, after a checkpoint inside the loop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from foldstack import parallel
from foldstack.errors import Interrupted

_PARENT = "FOLDSTACK_PARENT"
SAME_SECONDS = 1.0  # `timeout`, and a terminal with a parent that passes signals on, send one twice


class Stop:
    """Turns signals into `Interrupted`, raised by the handler or, inside `deferred()`, by `check()`.

    requested: the signal that `check` will raise; received: the last one that came, whatever it led to.
    """

    def __init__(self) -> None:
        self._deferred = False
        self.requested: int | None = None
        self.received: int | None = None
        self._last = -SAME_SECONDS

    def install(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._on_signal)

    def _on_signal(self, signum: int, _frame: object) -> None:
        last, self._last = self._last, time.monotonic()
        self.received = signum
        if self._last - last < SAME_SECONDS:
            return
        if self._deferred and self.requested is None:
            self.requested = signum
        else:  # nothing to save, or the user asks a second time
            raise Interrupted(signum)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a first signal only sets `requested`; the loop saves its state and calls check.

        One that came too late for the loop to see counts on leaving.
        """
        self._deferred = True
        try:
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


STOP = Stop()


def is_child() -> bool:
    """Whether another foldstack process started this one for a single run."""
    return os.environ.get(_PARENT) == str(os.getppid())


def child_environment() -> dict[str, str]:
    """For a run started by this process: it stops, resumably, when this process is killed."""
    return os.environ | {_PARENT: str(os.getpid())}
