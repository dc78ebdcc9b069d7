"""The reliability of a blend's nested probabilities, before and after calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd

from foldstack.ensemble import reliability
from foldstack.ensemble.calibration import calibrate
from foldstack.records import CalibrationRecord, ReliabilityLine
from foldstack.stages.page_source import BlendRows
from foldstack.workspace import Workspace

METHOD = "temperature"  # which every kind has
MOST_CURVES = 8  # outputs whose curves are plotted, the most frequent ones


def calibration_shown(
    ws: Workspace, source: BlendRows
) -> tuple[list[CalibrationRecord], list[ReliabilityLine]]:
    """Return scores and curves before and after calibration; nothing for regression.

    They are the blend's own if it tried a calibration. Otherwise a temperature is fitted to each fold's
    other folds, to show what calibration would change.
    """
    kind = source.competition.kind
    if kind.is_values:
        return [], []
    path = ws.store.blend_file(source.name, source.record, "reliability.csv")
    if path is not None:
        frame = pd.read_csv(path, dtype={"candidate": str, "output": str}, keep_default_na=False)
        return source.record.calibration or [], _lines(source, frame)
    winner, names = source.record.winner, source.competition.labels
    both = {winner: source.probabilities}
    if len(np.unique(source.folds.fold[source.folds.scored])) > 1:
        both[f"{winner}+{METHOD}"] = _calibrated(source)
    scores = [
        CalibrationRecord(
            candidate=name, **reliability.scores(kind, source.rows.targets, probabilities)
        )
        for name, probabilities in both.items()
    ]
    tables = {
        name: reliability.table(kind, source.rows.targets, probabilities, names)
        for name, probabilities in both.items()
    }
    frame = pd.concat(tables, names=["candidate", ""]).reset_index("candidate")
    return scores, _lines(source, frame)


def _calibrated(source: BlendRows) -> np.ndarray:
    """Return (n, outputs) probabilities, each fold's calibrated by the other folds."""
    kind, p, targets = source.competition.kind, source.probabilities, source.rows.targets
    fold = source.folds.fold[source.folds.scored]
    calibrated = np.empty_like(p)
    for number in np.unique(fold):
        own = fold == number
        calibrated[own] = calibrate(METHOD, kind, p[~own], targets[~own]).apply(p[own])
    return calibrated


def _lines(source: BlendRows, frame: pd.DataFrame) -> list[ReliabilityLine]:
    lines = [
        ReliabilityLine(candidate=str(candidate), output=str(output), bins=_bins(of_output))
        for (candidate, output), of_output in frame.groupby(["candidate", "output"], sort=False)
    ]
    if len(source.competition.outputs) <= MOST_CURVES:
        return lines
    shown = {*most_frequent(source), "most probable"}
    return [line for line in lines if line.output in shown]


def _bins(frame: pd.DataFrame) -> list[tuple[float, float, int]]:
    columns = (frame["probability"], frame["rate"], frame["rows"])
    return [(float(p), float(r), int(n)) for p, r, n in zip(*columns, strict=True)]


def most_frequent(source: BlendRows) -> list[str]:
    """Return the names of the outputs with the most rows, in the competition's order."""
    order = np.argsort(-source.rows.targets.sum(axis=0), kind="stable")[:MOST_CURVES]
    return [source.competition.outputs[k] for k in sorted(order.tolist())]
