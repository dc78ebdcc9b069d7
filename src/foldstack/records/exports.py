"""Records of exported models."""

from __future__ import annotations

from typing import ClassVar, Literal

from foldstack.records.base import Record, Undefined, Value
from foldstack.records.estimates import EstimateRecord


class ExportRecord(Record):
    """export.json in the folder of an exported run.

    Attributes:
        model, run: the run, as `minilm` and `seed0/full`.
        form: 'transformers' or 'openvino'.
        head, backbone: the head's name, and the backbone's architecture.
        problem_type: as in a hub model's config.
        labels: the names of the outputs, in their order.
        metric: the competition's.
        estimate: the model's score on out-of-fold rows; None without fold runs.
        held_out: the run's score on its held-out rows; None if it has none.
        checked_rows: the training rows on which the folder's predictions were compared.
        largest_difference: their largest difference from the learner's probabilities, or values.
        files: the sha256 of each other file; None before it is stored.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset({"files"})

    model: str
    run: str
    form: Literal["transformers", "openvino"]
    head: str
    backbone: str
    problem_type: str
    labels: list[str]
    max_length: int
    metric: str
    estimate: EstimateRecord | None
    held_out: Undefined | None
    optimistic: list[str]
    stale: list[str]
    notes: list[str]
    checked_rows: int
    largest_difference: float
    files: dict[str, str] | None = None


class ExportedFolder(Value):
    folder: str
    export: ExportRecord


class Exported(Record):
    """The result of the export stage: one folder per run."""

    folders: list[ExportedFolder]
