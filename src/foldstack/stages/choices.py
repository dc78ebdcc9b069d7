"""Construction of the records of a blend's decision rules and calibration."""

from __future__ import annotations

import pandas as pd

from foldstack.ensemble import BlendResult, Members, reliability
from foldstack.ensemble.decide import may_miss_best, reference_family
from foldstack.kinds import Kind
from foldstack.metrics import Metric
from foldstack.records import CalibrationRecord, GainRecord, RulesRecord, RuleTrial


def describe_rules(result: BlendResult, metric: Metric, kind: Kind) -> RulesRecord | None:
    """Return the record of the rule families tried; None if no rule was fitted."""
    gain = result.gain
    if gain is None:
        return None
    return RulesRecord(
        family=result.family,
        families_by_fold={str(fold): family for fold, family in result.families_by_fold.items()},
        tried=[RuleTrial.from_dataclass(trial) for trial in result.rules],
        reference=reference_family(metric, kind, [trial.family for trial in result.rules]),
        may_miss_best=may_miss_best(metric, kind) or None,
        gain_over_default=GainRecord(
            difference=gain.difference,
            low=gain.low,
            high=gain.high,
            standard_error=gain.standard_error,
        ),
    )


def describe_calibration(members: Members, result: BlendResult) -> list[CalibrationRecord] | None:
    """Return the reliability of nested predictions before and after calibration, if it was tried."""
    if result.calibrated is None:
        return None
    return [
        CalibrationRecord(
            candidate=name, **reliability.scores(members.kind, members.targets, predictions)
        )
        for name, predictions in result.calibrated.items()
    ]


def reliability_csv(members: Members, result: BlendResult, names: list[str]) -> str:
    """Return the reliability curves before and after calibration as CSV."""
    tables = {
        candidate: reliability.table(members.kind, members.targets, predictions, names)
        for candidate, predictions in result.calibrated.items()
    }
    frame = pd.concat(tables, names=["candidate", ""]).reset_index("candidate")
    return frame.to_csv(index=False, lineterminator="\n")
