"""Loss, learning rate and scores of a run in experiment trackers, by accelerate's classes.

Nothing of it enters a run's identity, its files or its random numbers.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foldstack.errors import InputError

Log = Callable[[Mapping[str, float], int], None]  # values by name, and the update they are of
PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
}


def check_trackers(names: Sequence[str]) -> None:
    """Raise InputError if the package of a tracker is not installed."""
    for name in names:
        if not any(importlib.util.find_spec(package) for package in PACKAGES[name]):
            raise InputError(
                f"runtime.trackers: {name} requires the package {name}, which is not installed: pip "
                f"install {name}, or leave it out"
            )


class Tracking:
    """The trackers of one run, which start with the first values.

    names: of the trackers. project: under which they file it. run: its name. folder: for trackers
    that write files. settings: of the run, as plain JSON.
    """

    def __init__(
        self,
        names: Sequence[str],
        project: str,
        run: str,
        folder: Path,
        settings: Mapping[str, Any],
    ):
        self.names, self.project, self.run = names, project, run
        self.folder, self.settings = folder, settings
        self._started: list[Any] = []

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Log values as those of an update."""
        if not self._started:
            self._started = [self._start(name) for name in self.names]
        for tracker in self._started:
            tracker.log(dict(values), step=step)

    def _start(self, name: str) -> Any:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        form = LOGGER_TYPE_TO_CLASS[name]
        self.folder.mkdir(parents=True, exist_ok=True)
        if form.requires_logging_directory:
            tracker = form(self.run, str(self.folder))
        else:
            options = {"dir": str(self.folder)} if name == "wandb" else {}
            tracker = form(self.project, name=self.run, **options)
        tracker.start()
        tracker.store_init_configuration(_flat(self.settings))
        return tracker

    def finish(self) -> None:
        for tracker in self._started:
            tracker.finish()
        self._started = []


@contextmanager
def tracked(tracking: Tracking | None) -> Iterator[Tracking | None]:
    """Yield the trackers of a run; finish them after the block, whatever ended it."""
    try:
        yield tracking
    finally:
        if tracking is not None:
            tracking.finish()


def under(prefix: str, log: Log | None) -> Log | None:
    """Return a log that puts `prefix/` before the names; None if there is none."""
    if log is None:
        return None

    def logged(values: Mapping[str, float], step: int) -> None:
        log({f"{prefix}/{name}": value for name, value in values.items()}, step)

    return logged


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return nested settings by dotted names; other values than numbers and texts as JSON."""
    flat: dict[str, str | int | float | bool] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            plain = isinstance(value, (str, int, float))
            flat[f"{prefix}{name}"] = value if plain else json.dumps(value)
    return flat
