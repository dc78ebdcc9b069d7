"""The only reader and writer of folds, runs, blends and submissions: atomic, hashed, aligned by id.

    folds/folds.csv, folds.json, report.csv
    oof/<model>/seed<s>/<run>/      run.json, heldout.parquet, test.parquet, model/
    oof/<model>/seed<s>/.<run>.*    an unfinished run (.partial) and its lock (.lock)
    oof/.tokens/                    texts as token ids, see text.cache
    oof/.pretrained/<key>/          backbones that have learned from the texts, see stages.pretrain
    oof/_blends/<name>/             blend.json, oof.parquet, nested.parquet, test.parquet, model/
    oof/_patterns/<name>.json       the audit of rules over a blend or a model
    submissions/<name>.csv, .json

Every file is written beside its place and renamed into it; a finished run appears by one rename.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldstack.config import digest
from foldstack.errors import InputError, cut
from foldstack.files import publish, read_json, read_table, write_json, write_table
from foldstack.rows import Rows

RUN_NAME = re.compile(r"full|fold(\d+(?:-\d+)*)")


@dataclass(frozen=True, order=True)
class RunKey:
    """One run: a model, a seed, and the folds it does not learn from (none: `full`)."""

    model: str
    seed: int
    left_out: tuple[int, ...]

    @property
    def run(self) -> str:
        return "fold" + "-".join(map(str, self.left_out)) if self.left_out else "full"

    def __str__(self) -> str:
        return f"{self.model} seed {self.seed} {self.run}"

    @staticmethod
    def left_out_of(run: str) -> tuple[int, ...]:
        """The folds that a run's name says it leaves out; ValueError where it is no such name."""
        match = RUN_NAME.fullmatch(run)
        if not match:
            raise ValueError(f"'{run}' is not the name of a run")
        return tuple(sorted({int(f) for f in (match[1] or "").split("-") if f}))


@dataclass(frozen=True)
class Folds:
    """The splits of the training rows, in the order of the training file, and what made them.

    splits: (n, repeats) the fold of each row in each split, numbered on from split to split; -1 for the
    rows at the beginning that time order never holds out. groups: (n,) rows that a run in time order
    must not have on both sides; None for all other kinds, where a group shares a fold.
    """

    splits: np.ndarray
    settings: dict[str, Any]
    hash: str
    groups: np.ndarray | None = None

    @property
    def fold(self) -> np.ndarray:
        """(n,) fold in the first split, by which blends are nested."""
        return self.splits[:, 0]

    @property
    def count(self) -> int:
        """Folds of all splits together."""
        return int(self.splits.max()) + 1

    @property
    def numbers(self) -> list[int]:
        """Of all folds that are held out."""
        return np.unique(self.splits[self.splits >= 0]).tolist()

    def only(self, numbers: Sequence[int]) -> Folds:
        """The same folds, of which these alone are held out and scored."""
        return replace(self, splits=np.where(np.isin(self.splits, numbers), self.splits, -1))

    @property
    def in_time_order(self) -> bool:
        return self.groups is not None

    @property
    def scored(self) -> np.ndarray:
        """Positions of the rows that some run holds out: all, but in time order."""
        return np.flatnonzero(self.fold >= 0)

    def held_out(self, left_out: tuple[int, ...]) -> np.ndarray:
        """Positions of the rows in any of these folds."""
        return np.flatnonzero(self._in(left_out))

    def learned(self, left_out: tuple[int, ...]) -> np.ndarray:
        """Positions of the other rows; in time order, of strictly earlier ones of other groups."""
        held = self._in(left_out)
        if not self.in_time_order or not left_out:
            return np.flatnonzero(~held)
        earlier = self.fold < min(left_out)
        return np.flatnonzero(earlier & ~np.isin(self.groups, self.groups[held]))

    def _in(self, left_out: tuple[int, ...]) -> np.ndarray:
        return np.isin(self.splits, left_out).any(axis=1)


@dataclass(frozen=True)
class Predictions:
    """(n, outputs) float32 raw outputs, and the link that makes them probabilities."""

    raw: np.ndarray
    link: str


def write_parquet(
    path: Path, rows: Rows, raw: np.ndarray, link: str, outputs: Iterable[str]
) -> str:
    """Raw outputs with ids, link and the hash of their rows; returns a digest of the contents."""
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
    """Link, hash of the rows and digest of the contents, without reading the contents."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return {k.decode(): v.decode() for k, v in pq.read_schema(path).metadata.items()}
    except (pa.ArrowInvalid, OSError) as e:
        raise _damaged(path, e) from None


def _damaged(path: Path, reason: object) -> InputError:
    again = (
        "run `make blend` again"
        if "_blends" in path.parts
        else "train this run again with --force (FORCE=1)"
    )
    return InputError(f"{path} cannot be read ({str(reason).splitlines()[0]}): {again}")


def read_parquet(path: Path) -> tuple[pd.Index, Predictions, dict[str, str]]:
    """Ids, raw outputs and metadata; InputError where the file is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as e:
        raise _damaged(path, e) from None
    meta = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
    raw = np.column_stack([table[c].to_numpy() for c in table.column_names if c != "id"])
    if _digest_of(raw) != meta["content"]:
        raise _damaged(path, "its checksum does not match")
    return pd.Index(table["id"].to_pylist(), dtype=object), Predictions(raw, meta["link"]), meta


class Store:
    """The files of one workspace."""

    def __init__(self, root: Path):
        self.root = root

    def name(self, path: Path) -> str:
        """A path as messages show it, from the workspace on."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def _read(self, path: Path) -> Any:
        try:
            return read_json(path)
        except ValueError:
            raise InputError(
                f"{self.name(path)} is damaged: remove {self.name(path.parent)} and run that stage again"
            ) from None

    # Folds

    @property
    def folds_path(self) -> Path:
        return self.root / "folds" / "folds.csv"

    @staticmethod
    def folds_hash(ids: np.ndarray, splits: np.ndarray, groups: np.ndarray | None = None) -> str:
        """Of all that decides which rows a run learns from: (n,) or (n, repeats) folds, groups."""
        columns = [splits] if groups is None else [splits, groups]
        numbers = np.column_stack(columns).astype(int).tolist()
        return digest([[str(i), *row] for i, row in zip(ids, numbers, strict=True)])

    def write_folds(self, rows: Rows, folds: Folds, report: dict, per_fold: pd.DataFrame) -> None:
        """folds.csv and, beside it, what made them, a report, and a table with a row a fold."""
        table = pd.DataFrame({"id": rows.ids})
        for split, fold in enumerate(folds.splits.T):
            table[f"fold_{split}" if split else "fold"] = fold
        if folds.groups is not None:
            table["group"] = folds.groups
        write_json(
            self.root / "folds" / "folds.json",
            {"settings": folds.settings, "hash": folds.hash, "train": rows.hash(), **report},
        )
        write_table(self.root / "folds" / "report.csv", per_fold)
        write_table(self.folds_path, table)

    def has_folds(self) -> bool:
        return self.folds_path.exists()

    def read_folds(self, rows: Rows) -> Folds:
        """The stored folds in the order of these rows.

        Raises InputError where there are none, or where they are not for these rows.
        """
        if not self.has_folds():
            raise InputError(f"{self.name(self.folds_path)} does not exist: run `make folds` first")
        table = read_table(self.folds_path, "utf-8")
        name = self.name(self.folds_path)
        columns = list(table.columns)
        timed = columns == ["id", "fold", "group"]
        of_splits = columns[1:2] if timed else columns[1:]
        if columns[:2] != ["id", "fold"] or of_splits[1:] != [
            f"fold_{split}" for split in range(1, len(of_splits))
        ]:
            raise InputError(
                f"{name} has columns {', '.join(columns)}: id and fold are wanted; "
                "run `make folds FORCE=1`"
            )
        splits = np.column_stack(
            [
                self._fold_numbers(table, c, name, -1 if timed else 0, len(of_splits))
                for c in of_splits
            ]
        )
        self._refuse_gaps(splits, name)
        if len(table) != len(rows) or set(table["id"]) != set(rows.ids):
            raise InputError(
                f"{name} is for other rows than input/train.csv ({len(table)} ids there, "
                f"{len(rows)} here): run `make folds FORCE=1`"
            )
        order = pd.Index(table["id"]).get_indexer(rows.ids)
        groups = self._fold_numbers(table, "group", name, 0, 1)[order] if timed else None
        beside = self.root / "folds" / "folds.json"
        settings = self._read(beside).get("settings", {}) if beside.exists() else {}
        splits = splits[order]
        return Folds(splits, settings, self.folds_hash(rows.ids, splits, groups), groups)

    @staticmethod
    def _fold_numbers(
        table: pd.DataFrame, column: str, name: str, least: int, splits: int
    ) -> np.ndarray:
        """(n,) int of a column of folds.csv; InputError where one is no whole number.

        No split has more folds than rows, and folds are counted: a number of eight digits would be
        as many runs.
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
        """InputError where a fold has no row, or where there is one fold only, in a split."""
        lacking = np.flatnonzero(np.bincount(splits[splits >= 0], minlength=2) == 0)
        alone = (splits.min(axis=0) == splits.max(axis=0)).any()
        if len(lacking) or alone:
            what = f"no row has fold {lacking[0]}" if len(lacking) else "a split has one fold only"
            raise InputError(f"{name}: {what}: run `make folds FORCE=1`")

    # Runs

    @property
    def tokens_dir(self) -> Path:
        """Where `text.cache.TokenCache` keeps what it has tokenised; it may be removed at any time."""
        return self.root / "oof" / ".tokens"

    @property
    def pretrained_dir(self) -> Path:
        """Where backbones are kept that have learned from the texts; it may be removed at any time."""
        return self.root / "oof" / ".pretrained"

    def run_dir(self, key: RunKey) -> Path:
        return self.root / "oof" / key.model / f"seed{key.seed}" / key.run

    def _beside(self, key: RunKey, suffix: str) -> Path:
        place = self.run_dir(key)
        return place.with_name(f".{place.name}.{suffix}")

    def partial_dir(self, key: RunKey) -> Path:
        """Where an unfinished run keeps its checkpoints and what it has written so far."""
        return self._beside(key, "partial")

    @contextmanager
    def lock(self, key: RunKey) -> Iterator[None]:
        """Hold this run alone; InputError naming the process that has it.

        The kernel drops an flock with its process, so a dead one's lock is free at once.
        """
        path = self._beside(key, "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                f.seek(0)
                raise InputError(
                    f"{key} is being trained by process {f.read().strip()}: wait for "
                    "it, or stop it first"
                ) from None
            f.truncate(0)
            f.write(str(os.getpid()))
            f.flush()
            old = self._beside(key, "old")
            if old.exists() and not self.run_dir(key).exists():
                old.rename(self.run_dir(key))  # killed between the two renames of finish()
            yield

    def finish(self, key: RunKey) -> None:
        """The partial run becomes the run, by one rename; what stood there goes after it."""
        place, old = self.run_dir(key), self._beside(key, "old")
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            place.rename(old)
        self.partial_dir(key).rename(place)
        shutil.rmtree(old, ignore_errors=True)

    def read_run(self, key: RunKey) -> dict[str, Any] | None:
        """The run's JSON, None where there is no finished run."""
        path = self.run_dir(key) / "run.json"
        return self._read(path) if path.exists() else None

    def runs(self, model: str | None = None) -> dict[RunKey, dict[str, Any]]:
        """All finished runs, in order."""
        found = {}
        for path in self.root.glob("oof/*/seed*/*/run.json"):
            run, seed, name = path.parent.name, path.parent.parent.name, path.parts[-4]
            seed = seed.removeprefix("seed")
            if not RUN_NAME.fullmatch(run) or not seed.isdecimal():
                continue  # unfinished, or somebody's copy
            if name.startswith("_") or (model and name != model):
                continue
            key = RunKey(name, int(seed), RunKey.left_out_of(run))
            found[key] = self._read(path)
        return dict(sorted(found.items()))

    def read_predictions(self, key: RunKey, name: str, rows: Rows) -> Predictions:
        """A run's raw outputs for exactly these rows, in their order.

        Raises InputError where they are missing, damaged, for other rows, or not finite.
        """
        path = self.run_dir(key) / f"{name}.parquet"
        if not path.exists():
            raise InputError(
                f"{key} has no predictions for {name}: run `make train MODEL={key.model}"
                f" FOLD={key.run.removeprefix('fold')} SEED={key.seed}`"
            )
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
        return predictions

    def rows_hash(self, key: RunKey, name: str) -> str | None:
        """The hash of the rows that a run's predictions are for; None where it has none."""
        path = self.run_dir(key) / f"{name}.parquet"
        return parquet_meta(path)["rows"] if path.exists() else None

    def content(self, key: RunKey, name: str) -> str:
        """A digest of a run's predictions."""
        return parquet_meta(self.run_dir(key) / f"{name}.parquet")["content"]

    # Blends and submissions

    def blend_dir(self, name: str) -> Path:
        return self.root / "oof" / "_blends" / name

    @contextmanager
    def writing_blend(self, name: str) -> Iterator[Path]:
        """A folder to fill, which takes the blend's place when the block ends without error."""
        place = self.blend_dir(name)
        beside = place.with_name(f".{name}.partial")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        yield beside
        old = place.with_name(f".{name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            place.rename(old)
        beside.rename(place)
        shutil.rmtree(old, ignore_errors=True)

    def read_blend(self, name: str) -> dict[str, Any] | None:
        path = self.blend_dir(name) / "blend.json"
        return self._read(path) if path.exists() else None

    def blends(self) -> dict[str, dict[str, Any]]:
        paths = sorted(self.root.glob("oof/_blends/*/blend.json"))
        return {p.parent.name: self._read(p) for p in paths if not p.parent.name.startswith(".")}

    def write_submission(self, name: str, table: pd.DataFrame, info: dict, encoding: str) -> Path:
        path = self.root / "submissions" / f"{name}.csv"
        write_table(path, table, encoding)
        write_json(path.with_suffix(".json"), info)
        return path

    def submissions(self) -> dict[str, dict[str, Any]]:
        """What each submission's JSON says, by name; only those whose CSV is there."""
        paths = sorted((self.root / "submissions").glob("*.json"))
        return {p.stem: self._read(p) for p in paths if p.with_suffix(".csv").exists()}

    def submission_path(self, name: str) -> Path:
        return self.root / "submissions" / f"{name}.csv"
