"""Records: the JSON beside what a stage has made, with a digest of itself and of the files it is for.

A record is checked whenever it is read, and a file against its record before it is used, so that a
damaged one is named instead of giving other numbers. Records of versions before digests were kept are
checked for their form alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from foldstack.config import digest
from foldstack.errors import InputError
from foldstack.files import file_sha256, write_json


class Record(BaseModel):
    """A value that a stage returns and the store keeps: frozen, typed, to and from JSON.

    Attributes:
        VERSION: the newest version that this code reads and the one it writes. A key on disk changes
            its name or meaning only with a new version and a reader of the old one.
        version: of this record; records written before there were versions have none, which reads as 1.
    """

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)
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


class SparseRecord(Record):
    """A record whose keys are on disk only if they were given: an optional field may have none."""

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_unset=True)


class RunIdentity(SparseRecord):
    """All that decides what a run learns; a run of another identity is another run.

    A key that this version does not know is kept, and makes the identity another one.

    Attributes:
        settings: of the model, as `config.identity` gives them.
        folds, train, overlay: hashes of the folds, the training rows, and what is laid over them.
        start, hard, washed: digests of the runs that it rests on, see `stages.run.Dependency`; of
            washed copies one per judge.
        features: hashes of the feature columns of the training and the external rows.
        auxiliary: the auxiliary targets' settings and their hashes, in the same order.
    """

    model_config = ConfigDict(extra="allow")

    settings: dict[str, Any]
    folds: str
    train: str
    overlay: str | None
    start: str | None = None
    hard: str | None = None
    washed: dict[str, str | None] | None = None
    features: list[str | None] | None = None
    auxiliary: list[Any] | None = None


class PartialRecord(SparseRecord):
    """identity.json of an unfinished run.

    Attributes:
        run: the seed and the folds that it leaves out.
        machine, versions: what the last bits depend on.
    """

    run: list[int] | None = None
    identity: RunIdentity
    machine: dict[str, Any]
    versions: dict[str, str]


class RunRecord(SparseRecord):
    """run.json of a finished run.

    Attributes:
        preset: that it was trained by, another name than the model's for a variant (NAME=); None in
            records from before it was kept.
        left_out: the folds that it has not learned from.
        score: on its held-out rows; None if it has none.
        predictions: the digest of each named set of predictions.
        test_features: the hash of the test rows' feature columns, if the model reads them.
        optimistic: why its score may be too good.
        rows: the number that it has learned from, copies and external rows included.
        facts: of the learner: `updates`, `training_seconds`, `precision`, `epoch_scores` …; each is a
            key of its own on disk, between `peak_memory_mb` and `pretrained`.
        pretrained: the key of the backbone that it started from.
        files: the sha256 of each file; None in records from before digests were kept.
    """

    model: str | None = None
    preset: str | None = None
    seed: int
    run: str | None = None
    left_out: list[int]
    identity: RunIdentity
    metric: str
    score: float | None
    predictions: dict[str, str]
    test_features: str | None = None
    optimistic: list[str]
    rows: int | None = None
    seconds: float
    peak_memory_mb: int
    facts: dict[str, Any] = {}
    pretrained: str | None = None
    machine: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _gather_facts(cls, flat: Any) -> Any:
        """Collect the keys that are no field of the record; its own digest is none of them."""
        if not isinstance(flat, dict) or "facts" in flat:
            return flat
        own = {k: v for k, v in flat.items() if k in cls.model_fields}
        return own | {"facts": {k: v for k, v in flat.items() if k not in own and k != "digest"}}

    @field_validator("facts")
    @classmethod
    def _is_no_field(cls, facts: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(facts.keys() & cls.model_fields.keys())
        if taken:
            raise ValueError(
                f"a learner's fact cannot be named '{taken[0]}' as a field of the record"
            )
        return facts

    def to_json(self) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in super().to_json().items():
            flat |= value if key == "facts" else {key: value}
        return flat


class TrainedRecord(Record):
    """The runs that `train` was asked for, by name: trained now, or finished before."""

    trained: list[str]
    finished: list[str]

    @property
    def nothing_to_do(self) -> str | None:
        """The line for a call that found every run finished; None for another one."""
        if self.trained:
            return None
        shown = ", ".join(self.finished[:3]) + (" …" if len(self.finished) > 3 else "")
        return f"train: nothing to do, {len(self.finished)} finished: {shown}"


class Int8Record(SparseRecord):
    """int8.json: what int8 costs and gains, measured on a run's held-out rows.

    Attributes:
        rows: the number that it was measured on.
        precision: of the training, and so of `stored`, the score of the stored predictions.
        int8: the score of the same rows in int8.
        largest_difference: of a probability.
        times_as_fast: the ratio of CPU times.
    """

    metric: str
    rows: int
    precision: str
    stored: float
    int8: float
    largest_difference: float
    times_as_fast: float
    machine: dict[str, Any]


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


class FoldsRecord(Record):
    settings: dict[str, Any]
    hash: str
    train: str


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record with its own digest."""
    plain = json.loads(json.dumps(record))  # as it will be read
    plain.pop("digest", None)
    write_json(path, plain | {"digest": digest(plain)})


Again = str | Callable[[], str]  # what makes a damaged record again, or finds that out


def read_record(path: Path, form: type[R], name: str, again: Again) -> R:
    """Return a typed record; arguments and errors are those of `read_mapping`."""
    return form.model_validate(read_mapping(path, form, name, again))


def read_mapping(path: Path, form: type[Record], name: str, again: Again) -> dict[str, Any]:
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


def damaged(name: str, reason: str, again: Again) -> InputError:
    return InputError(f"{name} is damaged ({reason}): {again() if callable(again) else again}")


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


def verify(folder: Path, files: dict[str, str] | None, what: str, name: str, again: Again) -> None:
    """Raise InputError unless files are as their record says.

    Args:
        files: the record's, the sha256 of each; None in one from before digests were kept.
        what: a file's path below the folder, or a folder's with all that the record has of it.
        name, again: see `read_mapping`.
    """
    if files is None:
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
