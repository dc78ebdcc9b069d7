"""What campaigns share."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def in_child(call: Callable, *args: object) -> None:
    """This process computes nothing itself: a fork would lack the threads that it had started."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            call(*args)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the workspaces could not be prepared")
