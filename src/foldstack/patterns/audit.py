"""The audit of rules and nearest texts on out-of-fold predictions: coverage and precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foldstack.patterns.rules import Applied, Claims, Patterns, labels_of


@dataclass(frozen=True)
class Line:
    """One rule, or the nearest texts, over n out-of-fold rows.

    Attributes:
        name: of the rule.
        cached: whether it is a rule of cached texts. Each of these is in training where it matches, so
            the line is in-sample and takes part in no estimate.
        rows, share: for which it is the first match, of all n.
        precision: of its labels there; nan without any.
        model_precision: of the model's decisions in the same places.
        acts: rows that it decides; in the others the model was more confident, or overruled it.
        wrong_to_right, right_to_wrong: decisions that it corrected, and that it broke.
        units: (n, units) the places that it decides.
    """

    name: str
    cached: bool
    rows: int
    share: float
    precision: float
    model_precision: float
    acts: int
    wrong_to_right: int
    right_to_wrong: int
    units: np.ndarray

    def to_json(self) -> dict:
        """Return plain values, without the places; None if undefined."""
        plain = {k: v for k, v in vars(self).items() if k != "units"}
        return {k: None if v != v else v for k, v in plain.items()}


def audit(
    patterns: Patterns,
    applied: Applied,
    everything: Claims,
    targets: np.ndarray,
    decisions: np.ndarray,
) -> list[Line]:
    """Return a line per rule and one for nearest texts, then one of all that decided anything.

    Args:
        patterns: the rules.
        applied: without cached texts.
        everything: the rules' claims with cached texts.
        targets: (n, outputs) of 0/1.
        decisions: (n, outputs) of 0/1, the model's.

    Returns:
        The lines, in the order of the file.
    """
    gold, model = (labels_of(each, applied.kind) for each in (targets, decisions))
    names = [rule.name for rule in patterns.rules]
    lines = []
    for number, rule in enumerate(patterns.rules):
        claims = everything if rule.cached else applied.claims
        spoken = claims.rule == number
        lines.append(
            _line(
                names[number], rule.cached, spoken, claims.value, applied.by == number, gold, model
            )
        )
    if patterns.nearest is not None:
        near = applied.by == len(patterns.rules)
        lines.append(_line("nearest text", False, near, applied.values, near, gold, model))
    decided = applied.by >= 0
    lines.append(_line("all", False, decided, applied.values, decided, gold, model))
    return lines


def _line(
    name: str,
    cached: bool,
    spoken: np.ndarray,
    values: np.ndarray,
    acts: np.ndarray,
    gold: np.ndarray,
    model: np.ndarray,
) -> Line:
    """Return a line from (n, units): where it matches, its values, where it decides, targets, model."""
    rows = int(spoken.any(axis=1).sum())
    right, was_right = values == gold, model == gold
    return Line(
        name=name,
        cached=cached,
        rows=rows,
        share=rows / max(len(spoken), 1),
        precision=_mean(right[spoken]),
        model_precision=_mean(was_right[spoken]),
        acts=int(acts.any(axis=1).sum()),
        wrong_to_right=int((acts & right & ~was_right).sum()),
        right_to_wrong=int((acts & ~right & was_right).sum()),
        units=acts,
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
