"""The folders of runs, finished and unfinished, below oof/."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foldstack import config
from foldstack.errors import InputError
from foldstack.files import remove, replace_folder, restore_folder
from foldstack.records import (
    Int8Record,
    PartialRecord,
    RunRecord,
    damaged,
    digests_of,
    read_record,
    write_record,
)
from foldstack.store.advice import make_again, train_command
from foldstack.store.keys import RUN_NAME, RunKey
from foldstack.store.part import StorePart
from foldstack.store.splits import Folds
from foldstack.system import is_fault, naming

CHECKPOINTS, IDENTITY, INT8 = "checkpoints", "identity.json", "int8.json"  # in a run's folder
# Not recorded in run.json, unlike predictions and models.
NO_ARTEFACTS = ("run.json", CHECKPOINTS, IDENTITY, INT8)
TEMPORARY = ".*.tmp"  # see `files.publish`


class RunFiles(StorePart):
    """The runs of one workspace."""

    @property
    def tokens_dir(self) -> Path:
        """The cache of `text.cache.TokenCache`, which may be removed at any time."""
        return self.root / "oof" / ".tokens"

    @property
    def vectors_dir(self) -> Path:
        """The cache of `text.vector_cache.VectorCache`, which may be removed at any time."""
        return self.root / "oof" / ".vectors"

    @property
    def filled_dir(self) -> Path:
        """The cache of `text.augment.filled.FilledCache`, which may be removed at any time."""
        return self.root / "oof" / ".filled"

    @property
    def near_dir(self) -> Path:
        """The cache of near-duplicates, which may be removed at any time."""
        return self.root / "oof" / ".near"

    @property
    def pretrained_dir(self) -> Path:
        """The cache of backbones pretrained on the texts, which may be removed at any time."""
        return self.root / "oof" / ".pretrained"

    @property
    def tracking_dir(self) -> Path:
        """The folder of trackers that write files, see `tracking`."""
        return self.root / "tracking"

    def run_dir(self, key: RunKey) -> Path:
        model = config.check_name(key.model, "model")
        return self.root / "oof" / model / f"seed{key.seed}" / key.run

    def _beside(self, key: RunKey, suffix: str) -> Path:
        place = self.run_dir(key)
        return place.with_name(f".{place.name}.{suffix}")

    def train_command(self, model: str) -> str:
        """Return the command that trains a model; for a variant (NAME=), with its preset."""
        return train_command(self.root / "oof" / model)

    def partial_dir(self, key: RunKey) -> Path:
        """Return the folder of an unfinished run: its checkpoints and the files written so far."""
        return self._beside(key, "partial")

    def checkpoints_dir(self, key: RunKey) -> Path:
        """Return the folder of an unfinished run's checkpoints."""
        return self.partial_dir(key) / CHECKPOINTS

    def open_partial(self, key: RunKey, record: PartialRecord) -> None:
        """Make an unfinished run's folder, if it does not exist, and write its record."""
        self.checkpoints_dir(key).mkdir(parents=True, exist_ok=True)
        write_record(self.partial_dir(key) / IDENTITY, record.to_json())

    def read_partial(self, key: RunKey) -> PartialRecord | None:
        """Return the record of an unfinished run; None if it is missing or damaged."""
        partial = self.partial_dir(key)
        if not partial.exists():
            return None
        try:
            return read_record(partial / IDENTITY, PartialRecord, "its identity", "")
        except (InputError, OSError) as e:
            if is_fault(e):  # a fault of the machine: the run may be intact
                raise
            return None

    def put_aside(self, key: RunKey, identity: str) -> Path:
        """Rename an unfinished run's folder after the digest of its identity."""
        aside = self._beside(key, f"partial-{identity}")
        shutil.rmtree(aside, ignore_errors=True)
        return self.partial_dir(key).rename(aside)

    def take_back(self, key: RunKey, identity: str) -> bool:
        """Undo `put_aside`; return whether there is an unfinished run now."""
        aside = self._beside(key, f"partial-{identity}")
        if aside.exists():
            aside.rename(self.partial_dir(key))
        return self.partial_dir(key).exists()

    @contextmanager
    def lock(self, key: RunKey) -> Iterator[None]:
        """Hold the run's exclusive lock; raise InputError if another process holds it.

        The kernel releases an flock when its process ends.
        """
        path = self._beside(key, "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                f.seek(0)
                raise InputError(
                    f"{key} is being trained by process {f.read().decode().strip()}: wait for "
                    "it, or stop it first"
                ) from None
            with naming(path):
                f.truncate(0)
                f.write(str(os.getpid()).encode())
            restore_folder(self.run_dir(key))
            yield

    def finish(self, key: RunKey) -> None:
        """Replace a run by its unfinished one with one rename.

        Checkpoints are removed last, so that a kill before does not lose the training.
        """
        place = self.run_dir(key)
        replace_folder(self.partial_dir(key), place)
        shutil.rmtree(place / CHECKPOINTS)
        (place / IDENTITY).unlink()

    def read_run(self, key: RunKey) -> RunRecord | None:
        """Return a run's record; None if there is no finished run."""
        path = self.run_dir(key) / "run.json"
        if not path.exists():
            return None

        def again() -> str:
            return make_again(path.parent)

        record = read_record(path, RunRecord, self.name(path), again)
        if (record.seed, tuple(record.left_out)) != (key.seed, key.left_out):
            of = RunKey(key.model, record.seed, tuple(record.left_out))
            raise damaged(self.name(path), f"it is the record of {of}", again)
        return record

    def write_run(self, key: RunKey, record: RunRecord) -> None:
        """Write an unfinished run's run.json with the digests of its other files."""
        folder = self.partial_dir(key)
        files = digests_of(folder, leave_out=NO_ARTEFACTS)
        write_record(folder / "run.json", record.to_json() | {"files": files})

    def new_model_dir(self, key: RunKey) -> Path:
        """Return the folder of an unfinished run's fitted model, empty again."""
        folder = self.partial_dir(key) / "model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def has_model(self, key: RunKey) -> bool:
        """Return whether a finished run has kept its fitted model."""
        return (self.run_dir(key) / "model").is_dir()

    def model_dir(self, key: RunKey, record: RunRecord) -> Path | None:
        """Return the verified folder of a run's fitted model; None if it was not kept."""
        if not self.has_model(key):
            return None
        folder = self.run_dir(key)
        self._verify(folder, record.files, "model")
        return folder / "model"

    def read_int8(self, key: RunKey) -> Int8Record | None:
        """Return an earlier measurement of int8; None if it is missing or damaged."""
        path = self.run_dir(key) / INT8
        try:
            return read_record(path, Int8Record, path.name, "") if path.exists() else None
        except InputError:
            return None

    def write_int8(self, key: RunKey, record: Int8Record) -> None:
        """Write a measurement of int8 to the run's folder."""
        write_record(self.run_dir(key) / INT8, record.to_json())

    def tidy_run(self, key: RunKey) -> int:
        """Remove what a kill has left beside a finished run; return the bytes freed.

        Do nothing if the run is being trained or the disk cannot be written to.
        """
        place = self.run_dir(key)
        left = [place / CHECKPOINTS, place / IDENTITY, *place.rglob(TEMPORARY)]
        left += [self._beside(key, "old"), self._beside(key, "next")]
        if not any(path.exists() for path in left):
            return 0
        try:
            with self.lock(key):
                return sum(remove(path) for path in left) if place.exists() else 0
        except (InputError, OSError):
            return 0

    def is_of_run(self, path: Path) -> bool:
        """Return whether an entry of a seed's folder is a run, finished or not, or beside one."""
        name = re.sub(r"^\.|\.(lock|next|old|partial(-\w+)?)$", "", path.name)
        hidden = path.name.startswith(".")
        return hidden == (name != path.name) and bool(RUN_NAME.fullmatch(name))

    def models(self) -> set[str]:
        """Return the names of all models with a finished run."""
        return {key.model for key in self.run_keys()}

    def run_keys(self, model: str | None = None) -> list[RunKey]:
        found = []
        for path in self.root.glob("oof/*/seed*/*/run.json"):
            run, seed, name = path.parent.name, path.parent.parent.name, path.parts[-4]
            seed = seed.removeprefix("seed")
            if not RUN_NAME.fullmatch(run) or not seed.isdecimal():
                continue  # unfinished, or a user's copy
            if not config.MODEL_NAME.fullmatch(name) or (model and name != model):
                continue  # _blends and the like, or a user's copy
            found.append(RunKey(name, int(seed), RunKey.left_out_of(run)))
        return sorted(found)

    def runs(self, model: str | None = None, folds: Folds | None = None) -> dict[RunKey, RunRecord]:
        """Return all finished runs, sorted; with folds those that were made with them."""
        keys = self.run_keys(model)
        for key in keys:
            self.tidy_run(key)
        found = {key: self.read_run(key) for key in keys}
        return {
            key: record
            for key, record in found.items()
            if record is not None and (folds is None or record.identity.folds == folds.hash)
        }

    def unfinished(self) -> list[Path]:
        """Return the folders of unfinished runs and backbones."""
        runs = self.root.glob("oof/*/seed*/.*.partial*")
        return [*sorted(runs), *sorted(self.pretrained_dir.glob(".*.partial"))]

    def locked_keys(self) -> Iterator[RunKey]:
        """Yield the runs with a lock file, whether or not a process holds it."""
        for path in sorted(self.root.glob("oof/*/seed*/.*.lock")):
            run, seed = path.name[1:].removesuffix(".lock"), path.parent.name.removeprefix("seed")
            if RUN_NAME.fullmatch(run) and seed.isdecimal():
                yield RunKey(path.parts[-3], int(seed), RunKey.left_out_of(run))
