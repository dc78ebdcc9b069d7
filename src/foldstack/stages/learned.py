"""The training rows of a run, without any label of its held-out folds."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from foldstack.edits import counted
from foldstack.errors import InputError
from foldstack.links import row_losses, to_probabilities
from foldstack.progress import say
from foldstack.records import TextsOf, UnlabelledRecord
from foldstack.rows import Rows
from foldstack.stages.dependencies import inherited_reasons, shared_reasons
from foldstack.stages.drift import weights_to_test
from foldstack.stages.fitted import load_learner, model_folder, threads_of, token_cache
from foldstack.stages.made_texts import texts_of_file
from foldstack.stages.run import Run
from foldstack.stages.taught import free_of_ties, with_distilled, with_pseudo_labels
from foldstack.text.augment import augmented, changeable, wash
from foldstack.text.augment.resources import Resources
from foldstack.workspace import Workspace


def rows_of(
    ws: Workspace,
    run: Run,
    found: UnlabelledRecord | None = None,
    backbone: Path | None = None,
) -> tuple[Rows, Rows, Rows | None, list[str]]:
    """Return training rows, held-out rows, rows that select the epoch, and why it is optimistic.

    found: what is learned of unlabelled rows is added to it. backbone: that the run has pretrained.
    """
    found = UnlabelledRecord() if found is None else found
    rows, left_out = _weighted(ws, run, ws.competition.train), run.key.left_out
    learned = run.folds.learned(left_out)
    train, held = rows.take(learned), rows.take(run.folds.held_out(left_out))
    select, optimistic = None, []
    if run.select == "inner":
        inner, chosen = _inner_split(ws, run)
        train, select = train.take(inner), train.take(chosen)
    elif run.select == "fold":
        select = held
        optimistic.append("the epoch was chosen on the held-out fold")
    optimistic += shared_reasons(ws, run.folds, left_out)
    if run.folds.in_time_order and left_out and len(_external_places(ws, run)):
        optimistic.append("external rows have no time and may be later than the held-out ones")
    pseudo = run.settings.pseudo_labels
    if run.folds.in_time_order and left_out and pseudo is not None and pseudo.files:
        optimistic.append("rows with the labels of teachers may be later than the held-out ones")
    if run.folds.in_time_order and left_out and run.settings.consistent_on:
        optimistic.append("unlabelled rows may be later than the held-out ones")
    if left_out and run.settings.distil is not None and run.settings.distil.by == "out_of_fold":
        optimistic.append(
            "its targets hold predictions of runs that have learned the held-out fold"
        )
    optimistic += inherited_reasons(ws, run)
    judged = _judged(ws, run)
    gold = _edited(ws, run, train)
    train = _with_external(ws, run, with_distilled(ws, run, gold), judged)
    train = with_pseudo_labels(ws, run, train, gold, judged, found)
    train = _with_copies(ws, run, _with_difficulty(ws, run, train), judged, backbone)
    return train, held, select, optimistic


def unlabelled_of(ws: Workspace, run: Run, found: UnlabelledRecord | None = None) -> Rows | None:
    """Return the unlabelled rows for consistency training; None if the preset has none of it.

    They are no copies of rows that are held out or select the epoch, nor of their groups.
    found: what is read of each source is added to it.
    """
    names = run.settings.consistent_on
    if not names:
        return None
    judged = _judged(ws, run)
    parts = [free_of_ties(ws, run, name, judged) for name in names]
    offered = ws.competition.rows_to_label
    if found is not None:
        found.consistency.extend(
            TextsOf(source=name, rows=len(offered[name]), free=len(rows), learned=len(rows))
            for name, rows in zip(names, parts, strict=True)
        )
    return reduce(Rows.concatenated, parts)


def _judged(ws: Workspace, run: Run) -> np.ndarray:
    """Return the positions of the rows that are held out or select the epoch."""
    held = run.folds.held_out(run.key.left_out)
    if run.select != "inner":
        return held
    _, chosen = _inner_split(ws, run)
    return np.union1d(held, run.folds.learned(run.key.left_out)[chosen])


def _inner_split(ws: Workspace, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the rows to learn from are learned, and which select the epoch."""
    learned = run.folds.learned(run.key.left_out)
    groups = ws.competition.tied[learned]
    if np.unique(groups).size < 2:
        raise InputError(
            f"{run.key}: training.select=inner holds back a tenth of the texts to learn from, but "
            "there is only one: use select=last"
        )
    split = GroupShuffleSplit(1, test_size=0.1, random_state=run.key.seed)
    return next(split.split(learned, groups=groups))


def _weighted(ws: Workspace, run: Run, rows: Rows) -> Rows:
    """Return the training rows, weighted to the test file if the preset says so."""
    if not run.settings.weighs_by_drift:
        return rows
    return replace(rows, weights=rows.weights * weights_to_test(ws))


def _edited(ws: Workspace, run: Run, train: Rows) -> Rows:
    """Return the rows to learn from with their edits.

    Held-out rows, and those that select the epoch, keep the labels of the training file.
    """
    edits = ws.competition.edits
    if edits is None:
        return train
    _log(run, f"{edits.path.name}: {counted(edits.counts(train))} of {len(train):,} rows")
    return edits.applied(train)


def _log(run: Run, line: str) -> None:
    say(f"{run.key}: {line}")


def start_of(ws: Workspace, run: Run) -> Path | None:
    """Return the folder of the fitted model that this run starts from, if any."""
    if run.start is None:
        return None
    return model_folder(ws, run.start, ws.store.read_run(run.start))


def _with_external(ws: Workspace, run: Run, train: Rows, judged: np.ndarray) -> Rows:
    """Return the training rows followed by those external rows that leak no label.

    judged: positions of the rows that are held out or select the epoch.
    """
    places = _external_places(ws, run)
    if not len(places):
        return train
    ties = ws.competition.external_ties
    known = ties[np.isin(ties[:, 1], ws.competition.tied[judged]), 0]
    free = np.setdiff1d(places, known)
    left_out = len(places) - len(free)
    copies = (
        f", {left_out:,} left out as copies of rows to be predicted, or of their groups"
        if left_out
        else ""
    )
    _log(run, f"{len(free):,} external rows to learn from{copies}")
    return train.concatenated(ws.competition.external.take(free))


def _external_places(ws: Workspace, run: Run) -> np.ndarray:
    """Return the positions of the external rows that the preset chooses."""
    return ws.competition.external_places(run.settings.external_files)


def _with_difficulty(ws: Workspace, run: Run, train: Rows) -> Rows:
    """Return the rows with their losses under the run that `sampling: hard` names.

    That run left the same folds out, so the losses leak no held-out label.
    """
    judge = run.dependency("hard")
    if judge is None:
        return train
    learner = load_learner(ws, judge, threads_of(ws), token_cache(ws))
    return replace(
        train, difficulty=row_losses(learner.predict(train), train.targets, learner.link)
    )


# Augmented copies


def _with_copies(
    ws: Workspace, run: Run, train: Rows, judged: np.ndarray, backbone: Path | None
) -> Rows:
    """Return the rows followed by their augmented copies, if the preset asks for any.

    judged: positions of the rows that are held out or select the epoch. backbone: see `rows_of`.
    """
    if not run.copies:
        return train
    made = {s.file: texts_of_file(ws, s.file, judged) for s in run.settings.augment if s.of_file}
    beside = Resources(made, backbone, ws.store.filled_dir)
    both = augmented(train, run.settings.augment, run.copies, run.key.seed, beside)
    if run.washed_by is None:
        return both
    copied = changeable(train, run.settings.augment, beside)
    kept = _survivors(ws, run, train, both, copied)
    _log(
        run,
        f"{len(both) - len(kept):,} of {len(both) - len(train):,} augmented copies filtered "
        f"out by {run.washed_by}",
    )
    return both.take(kept)


def _survivors(ws: Workspace, run: Run, train: Rows, both: Rows, copied: np.ndarray) -> np.ndarray:
    """Return positions of the rows and of copies whose label an independent model still predicts.

    copied: (m,) positions of the rows that have copies.

    The judge of copies of fold j left out j and this run's folds. Copies of external rows, which every
    run learns from, have no judge and are kept.
    """
    n = len(train)
    fold = _folds_of(ws, run, train)
    kept, cache = [np.arange(n)], token_cache(ws)
    for j in np.unique(fold):
        rows = np.flatnonzero(fold == j)
        of_rows = np.flatnonzero(fold[copied] == j)
        copies = np.concatenate([of_rows + at for at in range(n, len(both), len(copied))])
        if j >= 0:
            learner = load_learner(ws, run.judge_of_copies(j), threads_of(ws), cache)
            washed = wash(
                both.take(rows),
                both.take(copies),
                lambda r, of=learner: to_probabilities(of.predict(r), of.link),
                learner.link,
            )
            copies = copies[np.isin(both.ids[copies], washed.ids)]
        kept.append(copies)
    return np.sort(np.concatenate(kept))


def _folds_of(ws: Workspace, run: Run, train: Rows) -> np.ndarray:
    """Return (n,) each row's fold in the split of the run's folds; -1 for external rows."""
    split = run.folds.split_of(run.key.left_out).tolist()
    known = dict(zip(ws.competition.train.ids, split, strict=True))
    gold = zip(train.ids, train.origin == "gold", strict=True)
    return np.array([known[id_] if own else -1 for id_, own in gold])
