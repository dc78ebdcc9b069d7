"""Records of patterns: what rules and nearest texts do to the predictions of a blend or a model."""

from __future__ import annotations

from foldstack.records.base import Record, Value
from foldstack.records.estimates import DifferenceRecord, EstimateRecord


class LineRecord(Value):
    """One rule, or the nearest texts, over the out-of-fold rows; see `patterns.audit.Line`."""

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
        test_rows: how many test rows it decides.
    """

    better_by: DifferenceRecord | None
    test_rows: int


class PatternsEffect(Value):
    """What the competition's patterns do to a submission.

    Attributes:
        file, hash, mode: of the patterns, as `patterns.file` reads them.
        cached: the names of the rules of cached texts.
        nested_without: the estimate of the predictions without patterns.
        better_by: how much better the nested predictions are with them.
        lines: one for each rule and for the nearest texts, then one of all.
        test: how many test rows each rule decides; those that decide none are left out.
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
        all_of_test: test rows that any rule or nearest text decides.
        of: the blend or the model that the patterns are over.
        nested: the estimate with the patterns.
    """

    lines: list[AuditLine]
    all_of_test: int
    of: str
    metric: str
    nested: EstimateRecord
    optimistic: list[str]


class AuditedPatterns(Record):
    """What the patterns stage returns.

    Attributes:
        files: the path of the audit's files without their suffix, from the workspace on.
        rows: the out-of-fold rows.
        text: the audit as a table.
    """

    files: str
    rows: int
    text: str
    audit: PatternsAudit
