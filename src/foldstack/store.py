"""Files of a workspace: the only reader and writer of folds, runs, blends and submissions.

    folds/folds.csv, folds.json, report.csv
    folds/drift.json, drift.csv     how the test file differs, and which rows are most like it
    oof/<model>/seed<s>/<run>/      run.json, heldout.parquet, test.parquet, model/
    oof/<model>/seed<s>/.<run>.*    an unfinished run (.partial) and its lock (.lock)
    oof/.tokens/                    tokenised texts, see text.cache
    oof/.near/                      near-duplicates, see near.cached
    oof/.pretrained/<key>/          backbones pretrained on the texts, see stages.pretrain
    oof/_blends/<name>/             blend.json, oof.parquet, nested.parquet, test.parquet, model/
    oof/_patterns/<name>.json       the audit of rules on a blend or a model
    oof/_comparisons/<a>-vs-<b>.json    paired differences of models from a baseline
    oof/…/views.csv                 scores on parts of the rows, of a model or of a blend
    submissions/<name>.csv, .json
    submissions/private/<name>.csv, .txt    scores per label against the solution
    predictions/                    predictions of new texts, see `predictions`

Every file is written to a temporary file and renamed; a finished run appears by one rename.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldstack import config
from foldstack.config import digest
from foldstack.errors import InputError, cut
from foldstack.files import (
    csv_text,
    file_sha256,
    filling,
    locked,
    placing_folder,
    publish,
    read_json,
    read_table,
    remove,
    replace_folder,
    restore_folder,
    together,
    write_json,
    write_table,
    write_text,
)
from foldstack.predictions import PredictionFiles
from foldstack.records import (
    BlendRecord,
    Comparison,
    DriftRecord,
    FoldsRecord,
    Int8Record,
    PartialRecord,
    PatternsAudit,
    RunRecord,
    SubmissionRecord,
    damaged,
    digests_of,
    read_record,
    verify,
    write_record,
)
from foldstack.rows import Rows
from foldstack.system import is_fault, naming

CHECKPOINTS, IDENTITY, INT8 = "checkpoints", "identity.json", "int8.json"  # in a run's folder
# Not recorded in run.json, unlike predictions and models.
NO_ARTEFACTS = ("run.json", CHECKPOINTS, IDENTITY, INT8)
TEMPORARY = ".*.tmp"  # see `files.publish`
FOLDERS = ("folds", "oof", "submissions")
LONGEST_COMPARISON = 200  # characters of a file name
RUN_NAME = re.compile(r"full|fold(\d+(?:-\d+)*)")


@dataclass(frozen=True, order=True)
class RunKey:
    """The key of a run: a model, a seed, and the folds that it leaves out (none: `full`)."""

    model: str
    seed: int
    left_out: tuple[int, ...]

    @property
    def run(self) -> str:
        return "fold" + "-".join(map(str, self.left_out)) if self.left_out else "full"

    def __str__(self) -> str:
        return f"{self.model} seed {self.seed} {self.run}"

    @classmethod
    def of_name(cls, model: str, name: str) -> RunKey:
        """Return the key of `seed0/fold2`, as blends name their runs."""
        seed, _, run = name.partition("/")
        return cls(model, int(seed.removeprefix("seed")), cls.left_out_of(run))

    @staticmethod
    def left_out_of(run: str) -> tuple[int, ...]:
        """Return the held-out folds in a run's name; raise ValueError if it is not such a name."""
        match = RUN_NAME.fullmatch(run)
        if not match:
            raise ValueError(f"'{run}' is not the name of a run")
        return tuple(sorted({int(f) for f in (match[1] or "").split("-") if f}))


@dataclass(frozen=True)
class Folds:
    """The splits of the training rows, in the order of the training file, and their settings.

    Attributes:
        splits: (n, repeats) the fold of each row in each split, numbered consecutively over splits; -1
            for early rows that time order never holds out.
        settings: the `folds` section of competition.yaml; empty without folds.json.
        hash: see `Store.folds_hash`.
        groups: (n,) groups that must not occur both in training and in held-out rows in time order;
            None for the other kinds, which keep a group in one fold.
    """

    splits: np.ndarray
    settings: dict[str, Any]
    hash: str
    groups: np.ndarray | None = None

    @property
    def fold(self) -> np.ndarray:
        """(n,) fold in the first split, which nests blends."""
        return self.splits[:, 0]

    @property
    def count(self) -> int:
        """The number of folds of all splits together."""
        return int(self.splits.max()) + 1

    @property
    def numbers(self) -> list[int]:
        """All folds that are held out."""
        return np.unique(self.splits[self.splits >= 0]).tolist()

    def only(self, numbers: Sequence[int]) -> Folds:
        """Return the same folds with only these held out and scored."""
        return replace(self, splits=np.where(np.isin(self.splits, numbers), self.splits, -1))

    @property
    def in_time_order(self) -> bool:
        return self.groups is not None

    @property
    def scored(self) -> np.ndarray:
        """Positions of the rows that some run holds out; without time order, all rows."""
        return np.flatnonzero(self.fold >= 0)

    def held_out(self, left_out: tuple[int, ...]) -> np.ndarray:
        """Return the positions of the rows in any of these folds."""
        return np.flatnonzero(self._in(left_out))

    def learned(self, left_out: tuple[int, ...]) -> np.ndarray:
        """Return the positions of the other rows; in time order, only earlier ones of other groups."""
        held = self._in(left_out)
        if not self.in_time_order or not left_out:
            return np.flatnonzero(~held)
        earlier = self.fold < min(left_out)
        return np.flatnonzero(earlier & ~np.isin(self.groups, self.groups[held]))

    def split_of(self, left_out: tuple[int, ...]) -> np.ndarray:
        """Return (n,) the fold of each row in the split of these folds; the first split for none."""
        at = int(np.isin(self.splits, left_out).any(axis=0).argmax()) if left_out else 0
        return self.splits[:, at]

    def _in(self, left_out: tuple[int, ...]) -> np.ndarray:
        return np.isin(self.splits, left_out).any(axis=1)


@dataclass(frozen=True)
class Predictions:
    """Logits (n, outputs), float32, and their link to probabilities; values for link 'identity'."""

    raw: np.ndarray
    link: str


def write_parquet(
    path: Path, rows: Rows, raw: np.ndarray, link: str, outputs: Iterable[str]
) -> str:
    """Write predictions as Parquet with ids, link and the hash of their rows.

    Args:
        path: the file, written atomically.
        rows: the n rows.
        raw: (n, outputs) logits, values or probabilities, stored as float32.
        link: from `raw` to probabilities, see `links`.
        outputs: the names of the outputs.

    Returns:
        A digest of `raw`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = np.ascontiguousarray(raw, dtype=np.float32)
    columns = {"id": pa.array(list(rows.ids), pa.string())}
    columns |= {f"output:{name}": pa.array(raw[:, i]) for i, name in enumerate(outputs)}
    content = _digest_of(raw)
    meta = {"link": link, "rows": rows.hash(), "content": content}
    table = pa.table(columns).replace_schema_metadata(meta)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    publish(path, sink.getvalue().to_pybytes())
    return content


def _digest_of(raw: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(raw).tobytes()).hexdigest()[:16]


def parquet_meta(path: Path) -> dict[str, str]:
    """Return the link, the hash of the rows and the digest of a file without reading its columns.

    Raises InputError if the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _meta_of(pq.read_schema(path))
    except (pa.ArrowException, OSError, ValueError) as e:
        raise _damaged(path, e) from None


def _meta_of(schema: Any) -> dict[str, str]:
    """Return the metadata of a schema; raise ValueError if `write_parquet` did not write it."""
    meta = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    outputs = [name for name in schema.names if name != "id"]
    floats = all(str(schema.field(name).type) == "float" for name in outputs)
    if not {"link", "rows", "content"} <= meta.keys() or "id" not in schema.names or not floats:
        raise ValueError("it is not a file of predictions")
    return meta


def _damaged(path: Path, reason: object) -> InputError:
    if isinstance(reason, OSError) and is_fault(reason):
        raise reason  # a fault of the machine: the file may be intact
    first = (str(reason).splitlines() or [type(reason).__name__])[0]
    return InputError(f"{path} cannot be read ({first}): {_again(path.parent)}")


def _again(folder: Path) -> str:
    """Return the advice to train a run, or to make a blend, again."""
    if folder.parent.name == "_blends":
        return f"run `make blend NAME={folder.name}` again"
    _, seed, run = folder.parts[-3:]
    fold, number = run.removeprefix("fold"), seed.removeprefix("seed")
    return f"run `{_train_command(folder.parents[1])} FOLD={fold} SEED={number} FORCE=1`"


def _train_command(model_dir: Path) -> str:
    """Return the command that trains a model; for a variant (NAME=), with its preset."""
    model = model_dir.name
    presets = map(_preset_in, sorted(model_dir.glob("seed*/*/run.json")))
    preset = next(filter(None, presets), model)
    return f"make train MODEL={preset}" + (f" NAME={model}" if model != preset else "")


def _preset_in(path: Path) -> str | None:
    """Return the preset in a run.json, even if its digest is wrong; None if it has none."""
    try:
        found = read_json(path).get("preset")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    known = isinstance(found, str) and config.MODEL_NAME.fullmatch(found)
    return found if known else None


def read_parquet(path: Path) -> tuple[pd.Index, Predictions, dict[str, str]]:
    """Return ids, predictions and metadata; raise InputError if the file is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        meta = _meta_of(table.schema)
    except (pa.ArrowException, OSError, ValueError) as e:
        raise _damaged(path, e) from None
    raw = np.column_stack([table[c].to_numpy() for c in table.column_names if c != "id"])
    if _digest_of(raw) != meta["content"]:
        raise _damaged(path, "its checksum does not match")
    return pd.Index(table["id"].to_pylist(), dtype=object), Predictions(raw, meta["link"]), meta


def _link(source: str, place: str) -> None:
    try:
        os.link(source, place)
    except OSError:  # a disk without links
        shutil.copy2(source, place)


class Store:
    """The files of one workspace."""

    def __init__(self, root: Path):
        self.root = root

    def name(self, path: Path) -> str:
        """Return a path as messages show it: relative to the workspace."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def _verify(self, folder: Path, files: dict[str, str] | None, what: str) -> None:
        verify(folder, files, what, self.name(folder), lambda: _again(folder))

    def folder(self, name: str) -> Path:
        """Return a folder of the workspace."""
        return self.root / name

    @property
    def solution(self) -> Path:
        """The test labels, which only the score stage reads."""
        return self.root / "input" / "private" / "solution.csv"

    # Folds

    @property
    def folds_path(self) -> Path:
        return self.root / "folds" / "folds.csv"

    @property
    def folds_record_path(self) -> Path:
        return self.folds_path.with_name("folds.json")

    @property
    def folds_report_path(self) -> Path:
        """The table with one row per fold and all labels."""
        return self.folds_path.with_name("report.csv")

    @staticmethod
    def folds_hash(ids: np.ndarray, splits: np.ndarray, groups: np.ndarray | None = None) -> str:
        """Return the hash of everything that determines the rows a run learns from.

        Args:
            ids: (n,) ids.
            splits: (n,) or (n, repeats) folds.
            groups: (n,) groups of folds in time order.
        """
        columns = [splits] if groups is None else [splits, groups]
        numbers = np.column_stack(columns).astype(int).tolist()
        return digest([[str(i), *row] for i, row in zip(ids, numbers, strict=True)])

    def write_folds(
        self, rows: Rows, folds: Folds, record: FoldsRecord, per_fold: pd.DataFrame
    ) -> None:
        """Write folds.csv, folds.json and report.csv together.

        Args:
            rows: the n training rows.
            folds: their folds.
            record: the content of folds.json.
            per_fold: the table for report.csv, one row per fold.
        """
        table = pd.DataFrame({"id": rows.ids})
        for split, fold in enumerate(folds.splits.T):
            table[f"fold_{split}" if split else "fold"] = fold
        if folds.groups is not None:
            table["group"] = folds.groups
        with together():
            write_record(self.folds_record_path, record.to_json())
            write_table(self.folds_report_path, per_fold)
            write_table(self.folds_path, table)

    def has_folds(self) -> bool:
        return self.folds_path.exists()

    def read_folds(self, rows: Rows) -> Folds:
        """Return the stored folds in the order of these rows.

        Raises InputError if there are none, if they are damaged, or if they are for other rows.
        """
        if not self.has_folds():
            raise InputError(f"{self.name(self.folds_path)} does not exist: run `make folds` first")
        name = self.name(self.folds_path)
        try:
            table = read_table(self.folds_path, "utf-8")
        except InputError as e:
            raise InputError(f"{name} is damaged: {e}; run `make folds FORCE=1`") from None
        splits, groups = self._splits_and_groups(table, name)
        if len(table) != len(rows) or set(table["id"]) != set(rows.ids):
            raise InputError(
                f"{name} is for other rows than input/train.csv ({len(table)} ids there, "
                f"{len(rows)} here): run `make folds FORCE=1`"
            )
        # Either file may have been sorted since: align by id.
        in_file = self.folds_hash(table["id"].to_numpy(), splits, groups)
        order = pd.Index(table["id"]).get_indexer(rows.ids)
        splits, groups = splits[order], None if groups is None else groups[order]
        of_rows = self.folds_hash(rows.ids, splits, groups)
        return Folds(splits, self._folds_settings(of_rows, in_file), of_rows, groups)

    def _splits_and_groups(
        self, table: pd.DataFrame, name: str
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (n, splits) folds and (n,) groups, if any, of the rows of folds.csv."""
        columns = list(table.columns)
        timed = columns == ["id", "fold", "group"]
        of_splits = columns[1:2] if timed else columns[1:]
        if columns[:2] != ["id", "fold"] or of_splits[1:] != [
            f"fold_{split}" for split in range(1, len(of_splits))
        ]:
            raise InputError(
                f"{name} has columns {', '.join(columns)}: id and fold are required; "
                "run `make folds FORCE=1`"
            )
        least = -1 if timed else 0
        found = [self._fold_numbers(table, c, name, least, len(of_splits)) for c in of_splits]
        splits = np.column_stack(found)
        self._refuse_gaps(splits, name)
        return splits, self._fold_numbers(table, "group", name, 0, 1) if timed else None

    def _folds_settings(self, found: str, in_file: str) -> dict[str, Any]:
        """Return the settings in folds.json, if it exists; its hash must be one of these."""
        record = self.read_folds_record()
        if record is None:
            return {}
        if record.hash not in (found, in_file):
            raise InputError(
                f"{self.name(self.folds_path)} is not as `make folds` wrote it (hash {found}, "
                f"folds.json says {record.hash}): run `make folds FORCE=1`, or give your own folds "
                "by `folds.file`"
            )
        return record.settings

    def read_folds_record(self) -> FoldsRecord | None:
        """Return folds.json; None if it does not exist."""
        path = self.folds_record_path
        if not path.exists():
            return None
        return read_record(path, FoldsRecord, self.name(path), "run `make folds FORCE=1`")

    @staticmethod
    def _fold_numbers(
        table: pd.DataFrame, column: str, name: str, least: int, splits: int
    ) -> np.ndarray:
        """Return the (n,) integers of a column of folds.csv; raise InputError if one is invalid.

        least: the smallest valid number; the largest follows from the number of splits, since a split
        has no more folds than rows.
        """
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
        good = (values >= least) & (values < splits * len(table)) & (values == np.floor(values))
        bad = np.flatnonzero(~good)
        if len(bad):
            raise InputError(
                f"{name}: row {bad[0] + 1}: {column} '{cut(table[column].iloc[bad[0]])}' is not "
                "a number 0, 1, 2 …: run `make folds FORCE=1`"
            )
        return values.astype(np.int64)

    @staticmethod
    def _refuse_gaps(splits: np.ndarray, name: str) -> None:
        """Raise InputError if a fold has no row, or a split has one fold only."""
        lacking = np.flatnonzero(np.bincount(splits[splits >= 0], minlength=2) == 0)
        alone = (splits.min(axis=0) == splits.max(axis=0)).any()
        if len(lacking) or alone:
            what = f"no row has fold {lacking[0]}" if len(lacking) else "a split has one fold only"
            raise InputError(f"{name}: {what}: run `make folds FORCE=1`")

    # Drift

    @property
    def drift_path(self) -> Path:
        return self.folds_path.with_name("drift.json")

    @property
    def drift_rows_path(self) -> Path:
        """The training rows with their probability to be test rows, most like test first."""
        return self.folds_path.with_name("drift.csv")

    def write_drift(self, record: DriftRecord, rows: pd.DataFrame) -> DriftRecord:
        """Write drift.csv and drift.json; return the record with the digest of the former."""
        data = csv_text(rows).encode("utf-8")
        record = record.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
        with together():
            publish(self.drift_rows_path, data)
            write_record(self.drift_path, record.to_json())
        return record

    def read_drift(self) -> DriftRecord | None:
        """Return drift.json; None if there is none, or if drift.csv is another."""
        if not self.drift_path.exists() or not self.drift_rows_path.exists():
            return None
        again = "run `make drift FORCE=1`"
        record = read_record(self.drift_path, DriftRecord, self.name(self.drift_path), again)
        return record if record.sha256 == file_sha256(self.drift_rows_path) else None

    def read_drift_rows(self) -> pd.DataFrame:
        """Return columns `p` and `weight` by id."""
        table = read_table(self.drift_rows_path, "utf-8").set_index("id")
        return table.astype(float)

    # Runs

    @property
    def tokens_dir(self) -> Path:
        """The cache of `text.cache.TokenCache`, which may be removed at any time."""
        return self.root / "oof" / ".tokens"

    @property
    def near_dir(self) -> Path:
        """The cache of near-duplicates, which may be removed at any time."""
        return self.root / "oof" / ".near"

    @property
    def pretrained_dir(self) -> Path:
        """The cache of backbones pretrained on the texts, which may be removed at any time."""
        return self.root / "oof" / ".pretrained"

    def run_dir(self, key: RunKey) -> Path:
        model = config.check_name(key.model, "model")
        return self.root / "oof" / model / f"seed{key.seed}" / key.run

    def _beside(self, key: RunKey, suffix: str) -> Path:
        place = self.run_dir(key)
        return place.with_name(f".{place.name}.{suffix}")

    def train_command(self, model: str) -> str:
        """Return the command that trains a model; for a variant (NAME=), with its preset."""
        return _train_command(self.root / "oof" / model)

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
            return _again(path.parent)

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

    def write_predictions(
        self, key: RunKey, name: str, rows: Rows, predictions: Predictions, outputs: Iterable[str]
    ) -> str:
        """Write an unfinished run's predictions.

        Args:
            key: the run.
            name: the set of rows: `heldout` or `test`.
            rows: the n rows.
            predictions: (n, outputs).
            outputs: the names of the outputs.

        Returns:
            A digest of the predictions.
        """
        path = self.partial_dir(key) / f"{name}.parquet"
        return write_parquet(path, rows, predictions.raw, predictions.link, outputs)

    def replace_predictions(
        self,
        key: RunKey,
        record: RunRecord,
        name: str,
        rows: Rows,
        predictions: Predictions,
        outputs: Iterable[str],
    ) -> RunRecord:
        """Replace a finished run's predictions of a named set of rows.

        Predictions and record are replaced by one rename, so that a kill leaves the run as it was. All
        other files are hard links, or copies if the disk has none.

        Args:
            key: the run.
            record: the run's record, with the digests of the old predictions.
            name: the set of rows: `heldout` or `test`.
            rows: the n rows.
            predictions: (n, outputs).
            outputs: the names of the outputs.

        Returns:
            The record as written.
        """
        place, beside, file = self.run_dir(key), self._beside(key, "next"), f"{name}.parquet"
        shutil.rmtree(beside, ignore_errors=True)
        leave_out = shutil.ignore_patterns(file, CHECKPOINTS, ".*")
        with filling(beside, place):
            shutil.copytree(place, beside, copy_function=_link, ignore=leave_out)
            content = write_parquet(beside / file, rows, predictions.raw, predictions.link, outputs)
            changes: dict[str, Any] = {"predictions": record.predictions | {name: content}}
            if record.files is not None:
                changes["files"] = record.files | {file: file_sha256(beside / file)}
            record = record.model_copy(update=changes)
            write_record(beside / "run.json", record.to_json())
        replace_folder(beside, place)
        return record

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

    def runs(self, model: str | None = None) -> dict[RunKey, RunRecord]:
        """Return all finished runs, sorted."""
        keys = self.run_keys(model)
        for key in keys:
            self.tidy_run(key)
        found = {key: self.read_run(key) for key in keys}
        return {key: record for key, record in found.items() if record is not None}

    def read_predictions(
        self, key: RunKey, name: str, rows: Rows, record: RunRecord | None = None
    ) -> Predictions:
        """Read a run's predictions of exactly these rows, in their order.

        Args:
            key: the run.
            name: the set of rows: `heldout` or `test`.
            rows: the n rows.
            record: the run's record; None to read it.

        Returns:
            The (n, outputs) logits.

        Raises:
            InputError: they are missing, damaged, for other rows, or not finite.
        """
        path = self.run_dir(key) / f"{name}.parquet"
        if not path.exists():
            raise InputError(f"{key} has no predictions for {name}: {_again(path.parent)}")
        ids, predictions, meta = read_parquet(path)
        if meta["rows"] != rows.hash():
            raise InputError(
                f"{self.name(path)} is for other rows (hash {meta['rows']}) than the "
                f"{name} rows of today (hash {rows.hash()}): train {key} again"
            )
        if list(ids) != list(rows.ids):
            raise InputError(
                f"{self.name(path)}: its ids are not those of its rows: train {key} "
                "again with --force"
            )
        bad = np.flatnonzero(~np.isfinite(predictions.raw).all(axis=1))
        if len(bad):
            raise InputError(
                f"{self.name(path)}: row {bad[0] + 1} (id '{rows.ids[bad[0]]}') holds a "
                f"prediction that is not finite: train {key} again with --force, or "
                "leave the model out"
            )
        self._verify_predictions(key, name, record)
        return predictions

    def _verify_predictions(self, key: RunKey, name: str, record: RunRecord | None = None) -> None:
        record = record or self.read_run(key)
        if record is not None:
            self._verify(self.run_dir(key), record.files, f"{name}.parquet")

    def stored_predictions(self, key: RunKey, name: str) -> Predictions:
        """Return a run's logits without checking their rows; raise InputError if they are damaged."""
        _, predictions, _ = read_parquet(self.run_dir(key) / f"{name}.parquet")
        self._verify_predictions(key, name)
        return predictions

    def verify_heldout(self, key: RunKey, record: RunRecord) -> None:
        """Raise InputError if a finished run's held-out predictions are missing or damaged."""
        if "heldout" in record.predictions:
            self._verify_predictions(key, "heldout", record)

    def rows_hash(self, key: RunKey, name: str) -> str | None:
        """Return the hash of the rows of a run's predictions; None if it has none."""
        path = self.run_dir(key) / f"{name}.parquet"
        return parquet_meta(path)["rows"] if path.exists() else None

    def content(self, key: RunKey, name: str) -> str:
        """Return a digest of a run's predictions."""
        return parquet_meta(self.run_dir(key) / f"{name}.parquet")["content"]

    def model_content(self, key: RunKey, record: RunRecord) -> str:
        """Return a digest of the fitted model; of the test predictions, if the model was not kept.

        It does not change if the run predicts a new test file.
        """
        files = (record.files or {}).items()
        model = {name: sha256 for name, sha256 in files if name.startswith("model/")}
        return digest(model) if model else self.content(key, "test")

    # Comparisons and views

    def comparison_path(self, baseline: str, others: Sequence[str]) -> Path:
        """Return the path of a comparison, named by a digest if the names are too long or ambiguous."""
        of = "+".join(config.check_name(name, "model") for name in others)
        name = f"{config.check_name(baseline, 'model')}-vs-{of}"
        ambiguous = len(re.findall("(?=-vs-)", name)) > 1  # models may have -vs- in their names
        if ambiguous or len(name) > LONGEST_COMPARISON:
            name = f"vs-{digest([baseline, *others])}"
        return self.root / "oof" / "_comparisons" / f"{name}.json"

    def write_comparison(self, comparison: Comparison) -> Path:
        others = [each.model for each in comparison.rows]
        path = self.comparison_path(comparison.baseline, others)
        write_record(path, comparison.to_json())
        return path

    def comparisons(self) -> list[Comparison]:
        """Return all stored comparisons, sorted by file name."""
        paths = sorted(self.root.glob("oof/_comparisons/*.json"))
        return [self.read_comparison(path) for path in paths]

    def read_comparison(self, path: Path) -> Comparison:
        return read_record(path, Comparison, self.name(path), "run `make compare` again")

    def views_path(self, name: str, *, of_model: bool) -> Path:
        """Return the path of the scores on parts of the rows, for a model or a blend."""
        if not of_model:
            return self.blend_dir(name) / "views.csv"
        return self.root / "oof" / config.check_name(name, "model") / "views.csv"

    # Blends and submissions

    @property
    def blends_dir(self) -> Path:
        return self.root / "oof" / "_blends"

    def blend_dir(self, name: str) -> Path:
        return self.blends_dir / config.check_name(name, "name")

    def write_blend(
        self, name: str, record: BlendRecord, fill: Callable[[Path], object]
    ) -> BlendRecord:
        """Write a blend's folder and put it in place by one rename, under a lock.

        Args:
            name: the blend.
            record: its record without name and digests.
            fill: writes all files but blend.json into the folder that it is called with.

        Returns:
            The record as written, with the name and the digests of the files.
        """
        place = self.blend_dir(name)
        with (
            locked(place.with_name(f".{name}.lock")),
            placing_folder(place, place.with_name(f".{name}.partial")) as beside,
        ):
            fill(beside)
            stored = record.model_copy(update={"name": name, "files": digests_of(beside)})
            write_record(beside / "blend.json", stored.to_json())
        return stored

    def read_blend(self, name: str) -> BlendRecord | None:
        path = self.blend_dir(name) / "blend.json"
        restore_folder(path.parent)
        if not path.exists():
            return None
        again = _again(path.parent)
        record = read_record(path, BlendRecord, self.name(path), again)
        if record.name not in (None, name):
            raise damaged(self.name(path), f"it is the record of blend '{record.name}'", again)
        return record

    def blend_file(self, name: str, record: BlendRecord, file: str) -> Path | None:
        """Return the path of a blend's verified file or folder; None if the blend has none."""
        place = self.blend_dir(name)
        if not (place / file).exists() and not any(
            known.startswith(file) for known in record.files or ()
        ):
            return None
        self._verify(place, record.files, file)
        return place / file

    def blend_model(self, name: str, record: BlendRecord) -> Path:
        """Return the folder of a blend's fitted model, which is empty for a mean."""
        return self.blend_file(name, record, "model") or self.blend_dir(name) / "model"

    def blends(self) -> dict[str, BlendRecord]:
        paths = sorted(self.blends_dir.glob("*/blend.json"))
        names = [p.parent.name for p in paths if config.MODEL_NAME.fullmatch(p.parent.name)]
        return {name: self.read_blend(name) for name in names}

    def audit_path(self, name: str) -> Path:
        """Return the path of the audit of patterns on a blend or a model."""
        return self.root / "oof" / "_patterns" / f"{config.check_name(name, 'name')}.json"

    def write_audit(self, audit: PatternsAudit, text: str) -> None:
        """Write the audit of patterns as JSON and its table as text."""
        path = self.audit_path(audit.of)
        with together():
            write_json(path, audit.to_json())
            write_text(path.with_suffix(".txt"), text)

    def write_submission(
        self, name: str, table: pd.DataFrame, record: SubmissionRecord, encoding: str
    ) -> Path:
        """Write NAME.csv and NAME.json, which has the sha256 of the CSV.

        NAME.json is written first with the digests of both the new and the old CSV, so that after a
        kill the CSV is still recognised as one of `submit`.

        Args:
            name: the submission.
            table: the rows of the CSV.
            record: its record without digests.
            encoding: the encoding of the CSV.

        Returns:
            The path of the CSV.

        Raises:
            InputError: NAME.csv exists and differs from what `submit` wrote.
        """
        path = self.submission_path(name)
        data = csv_text(table).encode(encoding)
        sha256 = hashlib.sha256(data).hexdigest()
        with locked(path.with_name(f".{name}.lock")):
            old = self._own_submission(name)
            replaces = None if old == sha256 else old
            known = record.model_copy(update={"sha256": sha256, "replaces": replaces})
            with together():
                write_record(path.with_suffix(".json"), known.to_json())
                publish(path, data)
            if replaces is not None:
                alone = known.model_copy(update={"replaces": None})
                write_record(path.with_suffix(".json"), alone.to_json())
        return path

    def _own_submission(self, name: str) -> str | None:
        """Return the sha256 of the stored CSV, if any; raise InputError if `submit` did not write it."""
        path, beside = self.submission_path(name), self.submission_path(name).with_suffix(".json")
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise InputError(f"{self.name(path)} is a link or a folder: move it away, or add NAME=")
        if not path.exists():
            if beside.is_symlink() or (beside.exists() and not self.is_submissions(beside)):
                raise InputError(
                    f"{self.name(beside)} is there already and `submit` did not write it: move it away, "
                    "or name another submission with NAME="
                )
            return None
        found = file_sha256(path)
        known = self._digests_of_submission(beside) if beside.exists() else []
        if known is not None and found not in known:
            raise InputError(
                f"{self.name(path)} is there already and `submit` did not write it so: move it away, or "
                "name another submission with NAME="
            )
        return found

    def _digests_of_submission(self, path: Path) -> list[str | None] | None:
        """Return the digests that NAME.csv may have; None if its record has none."""
        record = self.read_submission(path)
        return None if record.sha256 is None else [record.sha256, record.replaces]

    def submissions(self) -> dict[str, SubmissionRecord]:
        """Return the record of each submission with a CSV, by name."""
        paths = sorted((self.root / "submissions").glob("*.json"))
        ours = [p for p in paths if config.MODEL_NAME.fullmatch(p.stem)]
        return {p.stem: self.read_submission(p) for p in ours if p.with_suffix(".csv").exists()}

    def read_submission(self, path: Path) -> SubmissionRecord:
        again = f"remove it and {path.stem}.csv, then run `make submit` again"
        return read_record(path, SubmissionRecord, self.name(path), again)

    def is_submissions(self, path: Path) -> bool:
        try:
            return bool(self.read_submission(path))
        except InputError:
            return False

    def is_as_submitted(self, name: str, record: SubmissionRecord) -> bool:
        """Return whether NAME.csv is unchanged since `submit` wrote it."""
        return record.sha256 in (None, file_sha256(self.submission_path(name)))

    def submission_path(self, name: str) -> Path:
        return self.root / "submissions" / f"{config.check_name(name, 'name')}.csv"

    @property
    def private_dir(self) -> Path:
        """The folder of scores against the solution, which no other stage reads."""
        return self.root / "submissions" / "private"

    def write_private(self, name: str, table: str, text: str) -> None:
        """Write the scores per label of a submission as CSV and as text."""
        with together():
            write_text(self.private_dir / f"{name}.csv", table)
            write_text(self.private_dir / f"{name}.txt", text)

    # Leftovers of killed processes, see `tidy`

    def tidy_blends(self) -> int:
        """Remove what kills have left beside the blends; return the bytes freed."""
        freed = 0
        for path in [*self.blends_dir.glob(".*.partial"), *self.blends_dir.glob(".*.old")]:
            name = path.name[1:].rpartition(".")[0]
            with locked(self.blends_dir / f".{name}.lock"):
                restore_folder(self.blends_dir / name)
                freed += remove(path)
        return freed

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

    # Predictions of new texts

    @property
    def predictions(self) -> PredictionFiles:
        return PredictionFiles(self.root / "predictions")
