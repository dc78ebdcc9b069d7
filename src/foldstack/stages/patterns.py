"""Stage: an audit of the effect of each rule and of nearest texts on out-of-fold predictions."""

from __future__ import annotations

import numpy as np

from foldstack import config
from foldstack.errors import InputError
from foldstack.patterns import Applied
from foldstack.records import AuditedPatterns, AuditLine, PatternsAudit
from foldstack.report import format_audit
from foldstack.stages.blend import make_blend
from foldstack.stages.patterned import (
    Described,
    Judged,
    OutOfFold,
    describe,
    fitted_patterns,
    interval_of,
    judge,
    require_probabilities,
)
from foldstack.stages.submit import stored_blend
from foldstack.workspace import Workspace


def patterns(
    ws: Workspace, *, model: str | None = None, name: str | None = None
) -> AuditedPatterns:
    """Audit the competition's patterns; write oof/_patterns/NAME.json and .txt.

    model: audit them on this model instead of the blend `name`.
    """
    if ws.patterns is None:
        raise InputError(
            "competition.yaml names no patterns: add `patterns: patterns.yaml` and write the file"
        )
    if model and name:
        raise InputError("patterns takes MODEL= or the blend's NAME=, not both")
    name = config.check_name(model or name or "blend", "name")
    oof, test = _of_model(ws, model) if model else _of_blend(ws, name)
    require_probabilities(oof.record, name)
    judged = judge(ws, oof)
    applied = fitted_patterns(ws).apply(ws.competition.test.texts, test)
    audit = _audit(name, oof, judged, applied, describe(ws, oof, judged, applied))
    path, text = ws.store.audit_path(name), format_audit(audit.lines)
    ws.refuse_named(path)
    ws.store.write_audit(audit, text + "\n")
    files = ws.store.name(path.with_suffix(""))
    return AuditedPatterns(files=files, rows=len(judged.rows), text=text, audit=audit)


def _of_model(ws: Workspace, model: str) -> tuple[OutOfFold, np.ndarray]:
    chosen = [ws.choose_model(model, "patterns")]
    made = make_blend(ws, chosen, methods=(), quiet=True, command="make patterns")
    return OutOfFold.of_made(made), made.result.test


def _of_blend(ws: Workspace, name: str) -> tuple[OutOfFold, np.ndarray]:
    values, record = stored_blend(ws, name)
    return OutOfFold.of_blend(ws, name, record), values.astype(float)


def _audit(
    name: str, oof: OutOfFold, judged: Judged, applied: Applied, described: Described
) -> PatternsAudit:
    """Return the record of the audit.

    Args:
        name: the blend or the model.
        oof, judged: the out-of-fold rows without and with the patterns.
        applied: the patterns applied to the test rows.
        described: the estimate with the patterns.
    """
    effect, all_of_test = described.patterns, int((applied.by >= 0).any(axis=1).sum())
    lines = _lines(judged, effect.test, all_of_test)
    return PatternsAudit(
        **dict(effect) | {"lines": lines},
        all_of_test=all_of_test,
        of=name,
        metric=oof.record.metric,
        nested=described.nested,
        optimistic=described.optimistic,
    )


def _lines(judged: Judged, test: dict[str, int], all_of_test: int) -> list[AuditLine]:
    """Return each line with its effect on the metric and its test rows."""
    rules = [test.get(name, 0) for name in judged.patterns.names]
    counts = [*rules[: len(judged.lines) - 1], all_of_test]
    return [
        AuditLine(
            **line.to_json(),
            better_by=interval_of(judged.effect(line)) if line.acts else None,
            test_rows=count,
        )
        for line, count in zip(judged.lines, counts, strict=True)
    ]
