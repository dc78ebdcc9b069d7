"""Which rows a run learns from, and what decides it: no label of the folds that it leaves out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from foldstack import config
from foldstack.errors import InputError
from foldstack.links import row_losses, to_probabilities
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.stages.dependencies import (
    Dependency,
    content_by_purpose,
    inherited_reasons,
    shared_reasons,
)
from foldstack.stages.fitted import load_learner, model_folder, token_cache
from foldstack.store import Folds, RunKey
from foldstack.techniques import LearnerSettings
from foldstack.text.augment import augmented, wash
from foldstack.workspace import Workspace


@dataclass(frozen=True)
class Run:
    """What to do: which run, by which settings, on which folds.

    Not every learner has every setting; what a run asks of them stands here, as it is without.
    """

    key: RunKey
    settings: LearnerSettings
    folds: Folds

    @property
    def select(self) -> str:
        """What chooses the epoch; a learner without epochs has only its last state."""
        return self.settings.epoch_chosen_by

    @property
    def joins_features(self) -> bool:
        return self.settings.joins_features

    @property
    def copies(self) -> int:
        """Changed copies of each row to learn from."""
        return self.settings.copies

    @property
    def washed_by(self) -> str | None:
        """The model whose runs judge the copies."""
        return self.settings.judge_model

    def dependencies(self) -> list[Dependency]:
        """Return every run that this one rests on, all of its seed."""
        same, found = (self.key.seed, self.key.left_out), []
        if self.settings.start_model:
            found.append(Dependency("start", RunKey(self.settings.start_model, *same)))
        if self.settings.hard_model:
            found.append(Dependency("hard", RunKey(self.settings.hard_model, *same)))
        if self.washed_by:
            split = self.folds.split_of(self.key.left_out)
            others = np.setdiff1d(split[split >= 0], self.key.left_out).tolist()
            found += [Dependency("washed", self.judge_of_copies(fold)) for fold in others]
        return found

    def dependency(self, purpose: str) -> RunKey | None:
        """Return the run that this one takes its start or its hard rows from."""
        return next((d.run for d in self.dependencies() if d.purpose == purpose), None)

    @property
    def start(self) -> RunKey | None:
        """The run that this one begins from."""
        return self.dependency("start")

    @property
    def pretrains(self) -> bool:
        """Whether it begins from a backbone that has learned from the workspace's texts."""
        return self.settings.pretrains

    def judge_of_copies(self, fold: int) -> RunKey:
        """The run that may wash copies of this fold's rows: it knows neither it nor those left out."""
        left_out = tuple(sorted({int(fold), *self.key.left_out}))
        return RunKey(self.washed_by, self.key.seed, left_out)


def identity_of(ws: Workspace, run: Run) -> dict:
    """All that decides what a run learns; another identity is another run."""
    competition = ws.competition
    identity = {
        "settings": config.identity(run.settings),
        "folds": run.folds.hash,
        "train": competition.train.hash(),
        "overlay": competition.overlay_hash,
    }
    identity |= content_by_purpose(ws, run.dependencies())
    if run.joins_features:
        learned = (competition.train, competition.external)
        identity["features"] = [competition.features_hash(rows) for rows in learned]
    if run.settings.learns_auxiliary:
        learned = (competition.train, competition.external)
        hashes = [None if rows is None else rows.auxiliary_hash() for rows in learned]
        identity["auxiliary"] = [competition.settings.auxiliary, *hashes]
    return identity


def require_dependencies(ws: Workspace, run: Run) -> None:
    """Raise InputError unless every run that this one rests on may be rested on today."""
    if run.washed_by and run.folds.in_time_order:
        raise InputError(
            f"{run.key}: augment_washed_by wants runs that leave two folds out, which time order "
            "cannot: leave it out"
        )
    dependencies = run.dependencies()
    judges = [d.run for d in dependencies if d.purpose == "washed"]
    missing = [key for key in judges if ws.store.read_run(key) is None]
    if missing:
        names = ",".join(key.run.removeprefix("fold") for key in missing)
        raise InputError(
            f"{run.key}: its copies are washed by runs of {missing[0].model} that are not there: run "
            f"`make train MODEL={missing[0].model} FOLD={names} SEED={run.key.seed}`"
        )
    for dependency in dependencies:
        dependency.require(ws, run.key)


def rows_of(ws: Workspace, run: Run) -> tuple[Rows, Rows, Rows | None, list[str]]:
    """(rows to learn from, held-out rows, rows that choose the epoch, why it is optimistic)."""
    rows, left_out = ws.competition.train, run.key.left_out
    learned = run.folds.learned(left_out)
    train, held = rows.take(learned), rows.take(run.folds.held_out(left_out))
    select, optimistic = None, []
    if run.select == "inner":
        if np.unique(train.groups).size < 2:
            raise InputError(
                f"{run.key}: training.select=inner holds back a tenth of the texts to learn from, but "
                "there is only one: use select=last"
            )
        split = GroupShuffleSplit(1, test_size=0.1, random_state=run.key.seed)
        inner, chosen = next(split.split(learned, groups=train.groups))
        train, select = train.take(inner), train.take(chosen)
    elif run.select == "fold":
        select = held
        optimistic.append("the epoch was chosen on the held-out fold")
    optimistic += shared_reasons(ws, run.folds, left_out)
    if run.folds.in_time_order and left_out and ws.competition.external is not None:
        optimistic.append("external rows have no time and may be later than the held-out ones")
    optimistic += inherited_reasons(ws, run.dependencies())
    judged = run.folds.held_out(left_out)
    if run.select == "inner":
        judged = np.union1d(judged, learned[chosen])
    train = _with_external(ws, run, train, judged)
    train = _with_copies(ws, run, _with_difficulty(ws, run, train))
    return train, held, select, optimistic


def start_of(ws: Workspace, run: Run) -> Path | None:
    """The folder of the fitted model that this run begins from, where it does not begin anew."""
    return None if run.start is None else model_folder(ws, run.start)


def _with_external(ws: Workspace, run: Run, train: Rows, judged: np.ndarray) -> Rows:
    """The rows to learn from and those external ones that give no label away.

    judged: positions of the rows that are held out or choose the epoch.
    """
    external = ws.competition.external
    if external is None:
        return train
    ties = ws.competition.external_ties
    known = np.zeros(len(external), dtype=bool)
    known[ties[np.isin(ties[:, 1], ws.competition.tied[judged]), 0]] = True
    copies = (
        f", {known.sum():,} left out as copies of rows to be predicted, or of their groups"
        if known.any()
        else ""
    )
    say(f"{run.key}: {(~known).sum():,} external rows to learn from{copies}")
    return train.and_then(external.take(np.flatnonzero(~known)))


def _with_difficulty(ws: Workspace, run: Run, train: Rows) -> Rows:
    """The rows with their losses under the run that `sampling: hard` names.

    It left the same folds out, so no held-out label is in them.
    """
    judge = run.dependency("hard")
    if judge is None:
        return train
    learner = load_learner(ws, judge, token_cache(ws))
    return replace(
        train, difficulty=row_losses(learner.predict(train), train.targets, learner.link)
    )


# Changed copies


def _with_copies(ws: Workspace, run: Run, train: Rows) -> Rows:
    """The rows and, where the preset asks for them, changed copies of each behind them."""
    if not run.copies:
        return train
    both = augmented(train, run.settings.augment, run.copies, run.key.seed)
    if run.washed_by is None:
        return both
    kept = _survivors(ws, run, train, both)
    say(
        f"{run.key}: {len(both) - len(kept):,} of {len(both) - len(train):,} changed copies washed away "
        f"by {run.washed_by}"
    )
    return both.take(kept)


def _survivors(ws: Workspace, run: Run, train: Rows, both: Rows) -> np.ndarray:
    """Positions of the rows and of those copies that keep their label for somebody who has not seen it.

    Copies of rows in fold j are judged by the run that left out j and what this one leaves out. Nobody
    can judge those of external rows, which every run has learned from.
    """
    n = len(train)
    fold = _folds_of(ws, run, train)
    kept, cache = [np.arange(n)], token_cache(ws)
    for j in np.unique(fold):
        rows = np.flatnonzero(fold == j)
        copies = np.concatenate([rows + start for start in range(n, len(both), n)])
        if j >= 0:
            learner = load_learner(ws, run.judge_of_copies(j), cache)
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
    """(n,) the fold of each row in the split that the run leaves a fold of out; -1 for external rows."""
    split = run.folds.split_of(run.key.left_out).tolist()
    known = dict(zip(ws.competition.train.ids, split, strict=True))
    gold = zip(train.ids, train.origin == "gold", strict=True)
    return np.array([known[id_] if own else -1 for id_, own in gold])
