"""Progress reports: a bar on a terminal, a plain line every 30 seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from contextlib import suppress
from typing import TextIO

from tqdm import tqdm

from foldstack import hints, parallel, system

PLAIN_SECONDS = 30.0
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt}{unit} [{speed}, {remaining} left{postfix}]"


_aside = [False]  # whether standard output is for something else


def say_aside(aside: bool) -> None:
    """Let `say` print on standard error, or again on standard output."""
    _aside[0] = aside


def say(text: str) -> None:
    """Print a line on standard output above any progress bar, in the main process only."""
    if parallel.is_main():
        stream = sys.stderr if _aside[0] else sys.stdout
        with system.naming(system.OUTPUT):
            tqdm.write(hints.completed(text), file=stream)
            stream.flush()


class _Bar(tqdm):
    """A bar that gives a slow rate per minute, not as seconds per step."""

    @property
    def format_dict(self) -> dict:
        found = super().format_dict
        rate = found["rate"]
        if not rate and found["elapsed"]:
            rate = (found["n"] - found["initial"]) / found["elapsed"]
        return found | {"speed": speed(rate or 0.0)}


class Progress:
    """Progress bar with rate, remaining time and running values; shown by the main process only.

    If the stream is not a terminal, a plain line is printed every 30 seconds, and a last one if the
    work took longer than that. A failure to print (closed terminal, full disk) does not stop the
    work.
    """

    def __init__(
        self, what: str, total: int, unit: str, start: int = 0, stream: TextIO | None = None
    ):
        self.what, self.total, self.unit, self.done = what, total, unit, start
        self.stream = stream or sys.stderr
        self._first = start
        self._begin = self._last = time.monotonic()
        self._values = ""
        self._bar = None
        if self.stream.isatty() and parallel.is_main():
            self._bar = _Bar(
                total=total,
                initial=start,
                desc=what,
                unit=f" {unit}",
                bar_format=BAR,
                leave=False,
                file=self.stream,
                dynamic_ncols=True,
            )

    def add(self, count: int = 1, **values: float) -> None:
        """Advance by `count` and show these running values."""
        self.done += count
        self._values = " ".join(f"{k} {v:.4f}" for k, v in values.items())
        with suppress(OSError):
            if self._bar is not None:
                self._bar.set_postfix_str(self._values, refresh=False)
                self._bar.update(count)
            elif time.monotonic() - self._last >= PLAIN_SECONDS:
                self._line()

    def _line(self) -> None:
        if not parallel.is_main():
            return
        self._last = now = time.monotonic()
        rate = (self.done - self._first) / max(now - self._begin, 1e-9)
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        print(
            f"{self.what}: {self.done}/{self.total} {self.unit} ({speed(rate)}, {duration(left)} left)"
            f" {self._values}".rstrip(),
            file=self.stream,
            flush=True,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            if self._bar is not None:
                self._bar.close()
            elif self._last > self._begin and self.done >= self.total:
                self._line()


class StatusLine:
    """A line below all others on a terminal, which the next one replaces.

    A failure to print does not stop the work, as with `Progress`.

    Attributes:
        shown: whether it is requested and standard error is a terminal.
    """

    def __init__(self, requested: bool):
        self.shown = requested and sys.stderr.isatty() and parallel.is_main()
        self._bar = tqdm(bar_format="{desc}", file=sys.stderr, leave=False) if self.shown else None

    def show(self, text: str) -> None:
        with suppress(OSError):
            if self._bar is not None:
                self._bar.set_description_str(text)

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            if self._bar is not None:
                self._bar.close()


def speed(rate: float) -> str:
    """Return a rate per second as `5.3/s`, or a slow one as `12.0/min`."""
    return f"{rate:.1f}/s" if rate >= 1 or rate == 0 else f"{rate * 60:.1f}/min"


def duration(seconds: float) -> str:
    """Return seconds as `m:ss` or `h:mm:ss`; "?" if infinite."""
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table(header: list[str], rows: list[list[str]], left: Collection[int] = (0,)) -> str:
    """Return an aligned text table; left: the columns that are not right-aligned."""
    cells = [header, *rows]
    width = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width[i]) if i in left else cell.rjust(width[i])
            for i, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * w for w in width).rstrip())
    return "\n".join(lines)
