"""Records: the JSON beside what a stage has made, with a digest of itself and of the files it is for.

A record is checked whenever it is read, and a file against its record before it is used, so that a
damaged one is named instead of giving other numbers. Records of versions before digests were kept are
checked for their form alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import pandas as pd
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationError,
    field_validator,
)

from foldstack.config import digest
from foldstack.errors import InputError
from foldstack.files import file_sha256, write_json


class Value(BaseModel):
    """A part of a record: frozen and typed, without a version of its own."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Record(Value):
    """A value that a stage returns and the store keeps: frozen, typed, to and from JSON.

    Attributes:
        VERSION: the newest version that this code reads and the one it writes. A key on disk changes
            its name or meaning only with a new version and a reader of the old one.
        version: of this record; records written before there were versions have none, which reads as 1.
    """

    VERSION: ClassVar[int] = 1

    version: int = 1

    @field_validator("version")
    @classmethod
    def _is_known(cls, version: int) -> int:
        if not 1 <= version <= cls.VERSION:
            raise ValueError(
                f"a record of version {version}, and this foldstack reads up to {cls.VERSION}"
            )
        return version

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return self.model_dump(mode="json")


R = TypeVar("R", bound=Record)

# A number that may be undefined: nan in memory, null in JSON.
Undefined = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: None if math.isnan(value) else value, when_used="json"),
]


class Table(Record):
    """A record of rows of one form, which reads as a data frame and shows as one in a notebook."""

    rows: list[Any]

    @property
    def frame(self) -> pd.DataFrame:
        """Return one line per row and one column per field."""
        return pd.DataFrame([self._cells(row) for row in self.rows])

    def _cells(self, row: Any) -> dict[str, Any]:
        return row if isinstance(row, dict) else row.model_dump()

    def _repr_html_(self) -> str:
        return self.frame.to_html(index=False)


class RunIdentity(Record):
    settings: dict[str, Any]
    folds: str
    train: str
    overlay: str | None


class PartialRecord(Record):
    """identity.json of an unfinished run."""

    identity: RunIdentity
    machine: dict[str, Any]
    versions: dict[str, str]


class RunRecord(Record):
    """run.json."""

    seed: int
    left_out: list[int]
    identity: RunIdentity
    metric: str
    score: float | None
    predictions: dict[str, str]
    optimistic: list[str]
    seconds: float
    peak_memory_mb: int
    machine: dict[str, Any]
    versions: dict[str, str]


class EstimateRecord(Record):
    score: float
    low: float
    high: float


class SubmissionRecord(Record):
    """submissions/NAME.json."""

    kind: str
    metric: str
    members: dict[str, dict[str, str]]
    hashes: dict[str, Any]
    winner: str
    nested: EstimateRecord
    in_sample: float
    optimistic: list[str]


class BlendRecord(SubmissionRecord):
    """blend.json."""

    winners_by_fold: dict[str, str]
    parameters: dict[str, Any]
    rule: dict[str, Any] | None
    settings: dict[str, Any]
    candidates: list[dict[str, Any]]
    seed_variance: float
    positives: dict[str, dict[str, Any]]


class BalanceRecord(Value):
    """How even the folds of one split are, see `stratify.Balance`."""

    labels: float
    examples: float
    missing: int


class FoldsRecord(Record):
    """folds.json: what made the folds, and what in the rows may surprise.

    Attributes:
        settings: those of `folds` in competition.yaml.
        hash: of the folds, see `Store.folds_hash`.
        train: the hash of the training rows.
        repeated_rows: rows that repeat another's text or group.
        parted_groups: groups that folds given by a file part.
        contradicting_texts, contradicting_rows: equal texts with different labels, and their rows.
        train_rows_in_test, test_rows_in_train: rows whose text stands in the other file.
        near: the counts of `near.NearDuplicates.report`; None if near-duplicates were not searched.
        balance: one per split; None for regression.
    """

    settings: dict[str, Any]
    hash: str
    train: str
    repeated_rows: int = 0
    parted_groups: int = 0
    contradicting_texts: int = 0
    contradicting_rows: int = 0
    train_rows_in_test: int = 0
    test_rows_in_train: int = 0
    near: dict[str, int] | None = None
    balance: list[BalanceRecord] | None = None

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in super().to_json().items() if value is not None}


class ComparedModel(Value):
    """One model of a comparison.

    Attributes:
        score: the mean over seeds of the score pooled over the rows.
        better_by: the mean over seeds of how much better it is than the baseline, for losses too.
        low, high: the 95 % interval of `better_by`; standard_error: of which seed_error is the part
            that the seeds make, undefined for a single one.
        by_seed: the differences of the seeds, in the order of `Comparison.seeds`.
        time: the ratio of the training times; undefined if the machines differ.
    """

    model: str
    score: float
    better_by: float
    low: float
    high: float
    standard_error: float
    seed_error: Undefined
    by_seed: list[float]
    time: Undefined


class Comparison(Table):
    """oof/_comparisons/BASELINE-vs-OTHERS.json: how much better models are than a baseline.

    Attributes:
        score: the baseline's, as that of a `ComparedModel`.
        folds: those that were held out and scored, of `folds_in_all`.
        scored_rows: the number of rows that the scores are pooled over.
        hashes: of the folds, the training rows and their overlay, as in a run's identity.
        runs: of each model the digest of each run's held-out predictions.
        optimistic: of each model why its score may be too good.
    """

    baseline: str
    metric: str
    score: float
    seeds: list[int]
    folds: list[int]
    folds_in_all: int
    scored_rows: int
    rows: list[ComparedModel]
    hashes: dict[str, str | None]
    runs: dict[str, dict[str, str]]
    optimistic: dict[str, list[str]]


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record with its own digest."""
    plain = json.loads(json.dumps(record))  # as it will be read
    plain.pop("digest", None)
    write_json(path, plain | {"digest": digest(plain)})


def read_record(path: Path, form: type[R], name: str, again: str) -> R:
    """Return a typed record; arguments and errors are those of `read_mapping`."""
    return form.model_validate(read_mapping(path, form, name, again))


def read_mapping(path: Path, form: type[Record], name: str, again: str) -> dict[str, Any]:
    """Return a record as it was written, without its digest.

    Args:
        form: the fields that must be there.
        name: the path, for the message.
        again: what makes the record again, for the message.

    Raises:
        InputError: it is damaged, or another file than a stage has written.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        form.model_validate(record)
        found = record.pop("digest", None)
        if found is not None and found != digest(record):
            raise ValueError("its digest does not match")
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise damaged(name, f"{where}: {first['msg'].lower()}", again) from None
    except (ValueError, RecursionError) as e:
        raise damaged(name, str(e).splitlines()[0], again) from None
    return record


def damaged(name: str, reason: str, again: str) -> InputError:
    return InputError(f"{name} is damaged ({reason}): {again}")


def digests_of(folder: Path, leave_out: Iterable[str] = ()) -> dict[str, str]:
    """Return the sha256 of each file below a folder, by its path there; hidden ones do not count.

    leave_out: names in the folder itself.
    """
    skipped = set(leave_out)
    paths = (p for p in sorted(folder.rglob("*")) if p.is_file())
    parts = ((path, path.relative_to(folder).parts) for path in paths)
    return {
        "/".join(names): file_sha256(path)
        for path, names in parts
        if names[0] not in skipped and not any(n.startswith(".") for n in names)
    }


def verify(folder: Path, record: dict[str, Any], what: str, name: str, again: str) -> None:
    """Raise InputError unless files are as their record says.

    Args:
        what: a file's path below the folder, or a folder's with all that the record has of it.
        name, again: see `read_mapping`.
    """
    files = record.get("files")
    if files is None:  # of a version before digests were kept
        return
    known = {k: v for k, v in files.items() if k == what or k.startswith(f"{what}/")}
    if not known and any(path.is_file() for path in (folder / what, *(folder / what).rglob("*"))):
        raise damaged(f"{name}/{what}", "its record does not know it", again)
    for path, sha256 in known.items():
        place = folder / path
        if not place.is_file():
            raise damaged(f"{name}/{path}", "it is missing", again)
        if file_sha256(place) != sha256:
            raise damaged(f"{name}/{path}", "its digest does not match", again)
