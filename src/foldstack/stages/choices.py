"""What is told of a blend's decision rules and of its calibration."""

from __future__ import annotations

import dataclasses

import pandas as pd

from foldstack.ensemble import BlendResult, Members, reliability
from foldstack.progress import say, table


def describe_rules(result: BlendResult) -> dict | None:
    """The families of decision rules that were tried, and what their choice gains over the default."""
    if result.gain is None:
        return None
    gain = dataclasses.asdict(result.gain)
    return {
        "family": result.family,
        "families_by_fold": result.families_by_fold,
        "tried": [dataclasses.asdict(report) for report in result.rules],
        "gain_over_default": {k: gain[k] for k in ("difference", "low", "high", "standard_error")},
    }


def describe_calibration(members: Members, result: BlendResult) -> list[dict] | None:
    """A candidate before and after calibration, by nested predictions."""
    if result.calibrated is None:
        return None
    return [
        {"candidate": name} | reliability.scores(members.kind, members.targets, predictions)
        for name, predictions in result.calibrated.items()
    ]


def reliability_csv(members: Members, result: BlendResult, names: list[str]) -> str:
    """The reliability curves before and after calibration, as CSV."""
    tables = {
        candidate: reliability.table(members.kind, members.targets, predictions, names)
        for candidate, predictions in result.calibrated.items()
    }
    frame = pd.concat(tables, names=["candidate", ""]).reset_index("candidate")
    return frame.to_csv(index=False, lineterminator="\n")


def say_rules(name: str, info: dict) -> None:
    """The families of rules, where there was a choice, and the gain over the default rule."""
    rules = info["rules"]
    if rules is None:
        return
    if len(rules["tried"]) > 1:
        lines = [
            [
                r["family"],
                f"{r['nested']:.4f}",
                f"{r['gain']:+.4f} ± {r['standard_error']:.4f}",
                f"{r['in_sample']:.4f}",
            ]
            for r in rules["tried"]
        ]
        zero = (r["family"] for r in rules["tried"] if r["standard_error"] == r["gain"] == 0)
        own = next(zero, "default")  # a metric that is nan for all has no gain of 0
        header = ["decision rule", "left-out score", f"better than {own}", "in-sample (optimistic)"]
        say(table(header, lines))
        by_fold = ", ".join(dict.fromkeys(rules["families_by_fold"].values()))
        say(f"{name}: decided by the rule '{rules['family']}' (without one fold: {by_fold})")
    gain = rules["gain_over_default"]
    default = "the most probable class" if info["kind"] == "multiclass" else "thresholds of .5"
    say(
        f"{name}: gain over {default} {gain['difference']:+.4f} [{gain['low']:+.4f}, "
        f"{gain['high']:+.4f}], nested"
    )


def say_calibration(name: str, info: dict) -> None:
    """How reliable the probabilities are before and after calibration, where any took part."""
    for scores in info["calibration"] or ():
        say(
            f"{name}: reliability of {scores['candidate']}, nested: log loss {scores['log_loss']:.4f}, "
            f"Brier {scores['brier']:.4f}, ECE {scores['ece']:.4f} in {reliability.BINS} bins of "
            f"equally many rows, {scores['ece_width']:.4f} of equal width"
        )
