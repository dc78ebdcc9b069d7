"""Records of patterns: the effect of rules and nearest texts on predictions of a blend or a model."""

from __future__ import annotations

from foldstack.records.base import Record, Value
from foldstack.records.estimates import DifferenceRecord, EstimateRecord


class LineRecord(Value):
    """The counts of one rule, or of nearest texts, on out-of-fold rows; see `patterns.audit.Line`."""

    name: str
    cached: bool
    rows: int
    share: float
    precision: float | None
    model_precision: float | None
    acts: int
    wrong_to_right: int
    right_to_wrong: int


class AuditLine(LineRecord):
    """A line with its effect on the metric.

    Attributes:
        better_by: None if it decides no row.
        test_rows: the number of test rows that it decides.
    """

    better_by: DifferenceRecord | None
    test_rows: int


class PatternsEffect(Value):
    """The effect of the competition's patterns on a submission.

    Attributes:
        file, hash, mode: those of the patterns, see `patterns.file`.
        cached: the names of the rules of cached texts.
        nested_without: the estimate of the predictions without patterns.
        better_by: the improvement of the nested predictions with them.
        lines: one per rule, one for the nearest texts, then one for all of them.
        test: the number of test rows that each rule decides, without zeros.
    """

    file: str
    hash: str
    mode: str
    cached: list[str]
    nested_without: EstimateRecord
    better_by: DifferenceRecord
    lines: list[LineRecord]
    test: dict[str, int]


class PatternsAudit(Record, PatternsEffect):
    """oof/_patterns/NAME.json.

    Attributes:
        all_of_test: the number of test rows that any rule or nearest text decides.
        of: the blend or the model that the patterns are applied to.
        nested: the estimate with the patterns.
    """

    lines: list[AuditLine]
    all_of_test: int
    of: str
    metric: str
    nested: EstimateRecord
    optimistic: list[str]


class AuditedPatterns(Record):
    """The result of the patterns stage.

    Attributes:
        files: the path of the audit's files without suffix, relative to the workspace.
        rows: the number of out-of-fold rows.
        text: the audit as a table.
    """

    files: str
    rows: int
    text: str
    audit: PatternsAudit
