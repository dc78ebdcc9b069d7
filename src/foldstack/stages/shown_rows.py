"""The training rows that the page shows, with each model's out-of-fold opinion and its reasons."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.links import row_losses, to_logits, to_probabilities
from foldstack.records import Attribution, Opinion, ShownRow, ShownRows, TextPart
from foldstack.rows import Rows
from foldstack.stages.fitted import load_learner, threads_to_predict
from foldstack.stages.oof import Model
from foldstack.stages.page_source import BlendRows
from foldstack.store import RunKey
from foldstack.text.occlusion import Occlusion, occlude
from foldstack.workspace import Workspace

HARDEST, WRONG = "hardest", "confidently wrong"
MOST_ROWS = 120  # of each sort
MOST_CHARACTERS = 1_500  # of a row's text
EXPLAINED = 8  # rows of each sort with attributions
MOST_NAMES = 6  # labels of a row that are named


def shown_rows(ws: Workspace, source: BlendRows) -> ShownRows:
    """Return the rows with the largest loss, and the wrong ones that the blend is surest of."""
    errors = np.mean([_losses(source, model) for model in source.models], axis=0)
    hardest = np.argsort(-errors, kind="stable")[:MOST_ROWS]
    wrong = _wrong(source)
    surest = _confidence(source, source.decisions)
    surely = wrong[np.argsort(-surest[wrong], kind="stable")][:MOST_ROWS]
    explained = list(dict.fromkeys([*surely[:EXPLAINED].tolist(), *hardest[:EXPLAINED].tolist()]))
    attributions, remarks = _attributions(ws, source, explained)
    order = list(dict.fromkeys([*surely.tolist(), *hardest.tolist()]))
    of_sort = {WRONG: set(surely.tolist()), HARDEST: set(hardest.tolist())}
    rows = [
        _shown(source, k, [why for why, its in of_sort.items() if k in its], errors[k], surest[k])
        for k in order
    ]
    rows = [
        row.model_copy(update={"attributions": attributions.get(k, [])})
        for k, row in zip(order, rows, strict=True)
    ]
    return ShownRows(of=len(source.rows), wrong=len(wrong), rows=rows, remarks=remarks)


def _losses(source: BlendRows, model: Model) -> np.ndarray:
    """Return (n,) losses of a model's out-of-fold predictions."""
    kind, targets = source.competition.kind, source.rows.targets
    if kind.is_values:
        return row_losses(model.oof, targets, "identity")
    if kind.is_one_hot:
        return row_losses(np.log(np.clip(model.oof, 1e-7, 1)), targets, "softmax")
    return row_losses(to_logits(model.oof), targets, "sigmoid")


def _wrong(source: BlendRows) -> np.ndarray:
    """Return the positions of the rows that the blend decides wrong; none for regression."""
    if source.competition.kind.is_values:
        return np.empty(0, dtype=int)
    return np.flatnonzero((source.decisions != source.rows.targets).any(axis=1))


def _confidence(source: BlendRows, decisions: np.ndarray) -> np.ndarray:
    """Return (n,) the blend's probability of what it decides.

    For several labels per row that of the label that it gets wrong, or is least sure of.
    """
    kind, p = source.competition.kind, source.probabilities
    if kind.is_values:
        return np.full(len(p), math.nan)
    if kind.is_one_hot:
        return np.take_along_axis(p, decisions.argmax(axis=1)[:, None], axis=1)[:, 0]
    of_decision = np.where(decisions > 0.5, p, 1 - p)
    wrong = decisions != source.rows.targets
    most = np.where(wrong, of_decision, -1).max(axis=1)
    return np.where(wrong.any(axis=1), most, of_decision.min(axis=1))


# One row


def _shown(source: BlendRows, k: int, why: list[str], error: float, confidence: float) -> ShownRow:
    """Return a row as it is shown.

    Args:
        source: the blend.
        k: the row's position among the scored ones.
        why: it is shown.
        error, confidence: see `ShownRow`.

    Returns:
        The row without attributions.
    """
    texts, cut = _cut(source.rows.texts[k])
    targets, competition = source.rows.targets[k], source.competition
    return ShownRow(
        id=str(source.rows.ids[k]),
        why=why,
        texts=texts,
        cut=cut,
        true=_names(competition, targets),
        says=_names(competition, source.decisions[k]),
        confidence=float(confidence),
        error=float(error),
        opinions=[_opinion(competition, model, k, targets) for model in source.models],
    )


def _cut(texts: tuple[str, ...]) -> tuple[list[str], int]:
    """Return the beginning of each segment, and the number of characters left out."""
    most = MOST_CHARACTERS // len(texts)
    shown = [text if len(text) <= most else text[:most] for text in texts]
    return shown, sum(map(len, texts)) - sum(map(len, shown))


def _names(competition: Competition, values: np.ndarray) -> str:
    """Return the labels of a row of 0/1, or the values of a regression."""
    if competition.kind.is_values:
        return ", ".join(f"{value:.4g}" for value in values)
    labels = competition.labels
    if competition.kind.has_positive_class:
        return labels[int(values[0] > 0.5)]
    held = [labels[j] for j in np.flatnonzero(values > 0.5)]
    more = f" and {len(held) - MOST_NAMES} more" if len(held) > MOST_NAMES else ""
    return ", ".join(held[:MOST_NAMES]) + more if held else "(none)"


def _opinion(competition: Competition, model: Model, k: int, targets: np.ndarray) -> Opinion:
    """Return what a model that has not seen the row says of it."""
    p = model.oof[k]
    if competition.kind.is_values:
        return Opinion(model=model.name, says=_names(competition, p), probability=math.nan)
    if competition.kind.is_one_hot:
        says, truth = np.eye(len(p))[p.argmax()], float(p[targets.argmax()])
    else:  # of several labels the one that it gets least right
        says, truth = p >= 0.5, float(np.where(targets > 0.5, p, 1 - p).min())
    return Opinion(model=model.name, says=_names(competition, says), probability=truth)


# Attributions


def _attributions(
    ws: Workspace, source: BlendRows, positions: list[int]
) -> tuple[dict[int, list[Attribution]], list[str]]:
    """Return per row the attributions of each model, and why some have none.

    A row is predicted by the run of the first seed that has not seen it.
    """
    found: dict[int, list[Attribution]] = defaultdict(list)
    remarks = []
    for model in source.models:
        try:
            for k, attribution in _of_model(ws, source, model, positions):
                found[k].append(attribution)
        except InputError as e:
            remarks.append(f"no attributions of {model.name}: {e}")
    return dict(found), remarks


def _of_model(
    ws: Workspace, source: BlendRows, model: Model, positions: list[int]
) -> list[tuple[int, Attribution]]:
    """Return (position, attribution) of one model; raise InputError if it was not kept."""
    by_fold: dict[int, list[int]] = defaultdict(list)
    folds = source.folds.fold[source.folds.scored]
    for k in positions:
        by_fold[int(folds[k])].append(k)
    seed = min(RunKey.of_name(model.name, run).seed for run in model.runs)
    found = []
    for fold, own in sorted(by_fold.items()):
        outputs, signs, names = _toward(source, own)
        learner = load_learner(ws, RunKey(model.name, seed, (fold,)), threads_to_predict(ws))

        def score(
            rows: Rows, of: np.ndarray, learner=learner, outputs=outputs, signs=signs
        ) -> np.ndarray:
            p = to_probabilities(learner.predict(rows), learner.link)
            p = p if source.competition.kind.is_values else to_logits(p)
            return signs[of] * p[np.arange(len(p)), outputs[of]]

        occluded = occlude(source.rows.take(np.array(own)), score)
        found += [
            (k, Attribution(model=model.name, toward=name, parts=text_parts(each)))
            for k, name, each in zip(own, names, occluded, strict=True)
        ]
    return found


def _toward(source: BlendRows, own: list[int]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the output that is explained of each row, its sign, and what it favours.

    It is what the blend decides; of several labels the one that it is surest of and gets wrong.
    """
    competition, rows = source.competition, np.array(own)
    kind, labels = competition.kind, competition.labels
    ones = np.ones(len(own))
    if kind.is_values:
        return np.zeros(len(own), dtype=int), ones, [labels[0]] * len(own)
    decisions, targets = source.decisions[rows], source.rows.targets[rows]
    if kind.is_one_hot:
        chosen = decisions.argmax(axis=1)
        return chosen, ones, [labels[k] for k in chosen]
    p = source.probabilities[rows]
    sure = np.where(decisions > 0.5, p, 1 - p) + (decisions != targets)
    chosen = sure.argmax(axis=1)
    holds = np.take_along_axis(decisions, chosen[:, None], axis=1)[:, 0] > 0.5
    if kind.has_positive_class:
        names = [labels[int(each)] for each in holds]
    else:
        names = [
            labels[k] if on else f"not {labels[k]}" for k, on in zip(chosen, holds, strict=True)
        ]
    return chosen, np.where(holds, ones, -ones), names


def text_parts(occlusion: Occlusion) -> list[TextPart]:
    """Return the parts of all segments up to `MOST_CHARACTERS`, with effects to three decimals."""
    parts, length = [], 0
    for segment in range(len(occlusion.words)):
        if segment:
            parts.append(TextPart(text=" ¦ "))
        for text, effect in occlusion.parts(segment):
            length += len(text)
            if length > MOST_CHARACTERS:
                return [*parts, TextPart(text="…")]
            parts.append(TextPart(text=text, effect=None if effect is None else round(effect, 3)))
    return parts
