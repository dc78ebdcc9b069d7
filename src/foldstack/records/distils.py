"""The record of what `distil` made."""

from __future__ import annotations

from pydantic import Field

from foldstack.records.base import Record, Value
from foldstack.records.estimates import DifferenceRecord, EstimateRecord


class MeasuredStudent(Value):
    """A candidate for the student, measured on this machine.

    Attributes:
        name: of the candidate.
        mb: megabytes (10^6 bytes) of its stored model.
        rate: rows that it predicts per second.
        fits: whether it is within the limits.
        fit_seconds: forecast of one run's training.
    """

    name: str
    mb: float
    rate: float
    fits: bool
    fit_seconds: float


class DistilledSide(Value):
    """The student or the blend: its estimate, and the size and the speed of the runs that predict.

    Attributes:
        name: of the model or the blend.
        runs: number of the runs that predict together.
        mb: megabytes (10^6 bytes) of their stored models.
        rate: rows per second that all of them predict; None if nothing was trained now.
        nested: the estimate; the student's is of its fold runs.
        optimistic: why it may be too good.
    """

    name: str
    runs: int
    mb: float
    rate: float | None
    nested: EstimateRecord
    optimistic: list[str]


class Distilled(Record):
    """The result of `distil`: a student beside the blend that taught it.

    Attributes:
        preset: the path of the student's preset within the workspace.
        state: of the preset: `written` now, `kept` as distil wrote it before, or `edited` since then.
        chosen: the candidate that was written; None if the preset was not written now.
        without_limit: whether neither megabytes nor a rate were asked for.
        teachers: the members of the blend that teach, which count equally.
        notes: a sentence per member that does not teach, or no training rows.
        why_not_distilled: why the student learns pseudo-labels alone; None if it is distilled too.
        mb, rate: the limits; None for none.
        measured: the candidates in the order of preference, down to the one that was chosen.
        trained: number of runs that were trained now.
        better_by: the student's nested score minus the blend's, positive if the student is better.
    """

    preset: str
    state: str
    chosen: str | None
    without_limit: bool
    teachers: list[str]
    why_not_distilled: str | None = None
    notes: list[str] = Field(default_factory=list)
    mb: float | None = None
    rate: float | None = None
    measured: list[MeasuredStudent] = Field(default_factory=list)
    trained: int
    metric: str
    student: DistilledSide
    blend: DistilledSide
    better_by: DifferenceRecord
