"""Stage: what each rule, and the nearest training texts, do to out-of-fold predictions."""

from __future__ import annotations

import numpy as np

from foldstack import config
from foldstack.errors import InputError
from foldstack.files import together, write_json, write_text
from foldstack.patterns import Line
from foldstack.progress import say, table
from foldstack.stages.blend import interval, make_blend
from foldstack.stages.dependencies import say_marks
from foldstack.stages.patterned import (
    Judged,
    OutOfFold,
    apply_to_new,
    decided_by,
    describe,
    judge,
    require_probabilities,
)
from foldstack.stages.submit import stored_blend
from foldstack.workspace import Workspace

HEADER = (
    *("", "rows", "share", "precision", "the model's", "decides", "wrong → right", "right → wrong"),
    *("better by [95 % interval]", "test rows"),
)


def patterns(ws: Workspace, *, model: str | None = None, name: str | None = None) -> None:
    """Print the audit of the competition's patterns and keep it in oof/_patterns/NAME.json and .txt.

    model: over this model alone instead of the blend `name`.
    """
    if ws.patterns is None:
        raise InputError(
            "competition.yaml names no patterns: add `patterns: patterns.yaml` and write the file"
        )
    if model and name:
        raise InputError("patterns takes MODEL= or the blend's NAME=, not both")
    name = config.check_name(model or name or "blend", "name")
    oof, test = _of_model(ws, model) if model else _of_blend(ws, name)
    require_probabilities(oof.info, name)
    judged = judge(ws, oof)
    applied = apply_to_new(ws, ws.competition.test, test)
    by = decided_by(judged.patterns, applied)
    info = describe(ws, oof, judged)
    found = info["patterns"] | {"test": by}
    found["all_of_test"] = int((applied.by >= 0).any(axis=1).sum())
    found |= {"of": name, "metric": info["metric"], "nested": info["nested"]}
    found["optimistic"] = info["optimistic"]
    lines, effects = _effects(judged, found)
    text = table(list(HEADER), lines)
    place = ws.root / "oof" / "_patterns" / name
    ws.refuse_named(place.with_suffix(".json"))
    with together():
        write_json(place.with_suffix(".json"), found | {"lines": effects})
        write_text(place.with_suffix(".txt"), text + "\n")
    _say(judged, found, text)
    say(f"patterns: {ws.store.name(place)}.json and .txt hold this")


def _of_model(ws: Workspace, model: str) -> tuple[OutOfFold, np.ndarray]:
    made = make_blend(ws, [ws.choose_model(model, "patterns")], methods=(), quiet=True)
    return OutOfFold.of_made(made), made.result.test


def _of_blend(ws: Workspace, name: str) -> tuple[OutOfFold, np.ndarray]:
    values, info = stored_blend(ws, name)
    return OutOfFold.of_blend(ws, name, info), values.astype(float)


def _effects(judged: Judged, found: dict) -> tuple[list[list[str]], list[dict]]:
    """Lines of the table, and of the JSON, each with its effect on the metric and its test rows."""
    shown, kept = [], []
    rules = [found["test"].get(name, 0) for name in judged.patterns.names]
    counts = [*rules[: len(judged.lines) - 1], found["all_of_test"]]
    for line, test in zip(judged.lines, counts, strict=True):
        effect = judged.effect(line) if line.acts else None
        better = None
        if effect is not None:
            better = {"difference": effect.difference, "low": effect.low, "high": effect.high}
        shown.append(_cells(line, better, test))
        kept.append(line.to_json() | {"better_by": better, "test_rows": test})
    return shown, kept


def _cells(line: Line, better: dict | None, test: int) -> list[str]:
    precision, of_model = (
        "" if np.isnan(p) else f"{p:.4f}" for p in (line.precision, line.model_precision)
    )
    effect = ""
    if better is not None:
        low, high = better["low"], better["high"]
        effect = f"{better['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
    did = [f"{n:,}" for n in (line.acts, line.wrong_to_right, line.right_to_wrong)]
    if line.cached:
        precision, did = precision and f"{precision}*", [""] * 3
    return [
        line.name,
        f"{line.rows:,}",
        f"{line.share:.1%}",
        precision,
        of_model,
        *did,
        effect,
        f"{test:,}",
    ]


def _say(judged: Judged, found: dict, text: str) -> None:
    say(
        f"patterns: {found['file']} ({found['mode']}) over {found['of']}, {len(judged.rows):,} "
        "out-of-fold rows"
    )
    say(text)
    if any(rule.cached for rule in judged.patterns.rules):
        say(
            "patterns: * optimistic: these rows are the training rows with a cached text, whose label "
            "may be their own; the estimate passes cached texts over, test rows and new texts do not"
        )
    say(
        f"patterns: nested {found['metric']} {interval(found['nested'])} with them, "
        f"{interval(found['nested_without'])} without"
    )
    say_marks("patterns", [], found["optimistic"])
