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
from foldstack.stages.fitted import load_learner, model_folder, token_cache
from foldstack.store import Folds, RunKey
from foldstack.techniques import LearnerSettings
from foldstack.text.augment import augmented, wash
from foldstack.workspace import Workspace

# Parts of a run's identity that stand for other runs, which left out the same folds.
BY_OTHER_RUNS = ("hard", "start", "washed")


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
        training = getattr(self.settings, "training", None)
        return training.select if training else "last"

    @property
    def joins_features(self) -> bool:
        return getattr(self.settings, "join_features", False)

    @property
    def copies(self) -> int:
        """Changed copies of each row to learn from."""
        return getattr(self.settings, "augment_copies", 0)

    @property
    def washed_by(self) -> str | None:
        """The model whose runs judge the copies."""
        return getattr(self.settings, "augment_washed_by", None)

    @property
    def hard_rows_judge(self) -> RunKey | None:
        """The run whose losses say which rows are hard: same seed, same folds left out."""
        model = self.settings.hard_model
        return model and RunKey(model, self.key.seed, self.key.left_out)

    @property
    def start(self) -> RunKey | None:
        """The run that this one begins from: same seed, same folds left out."""
        model = getattr(self.settings, "start_from", None)
        return model and RunKey(model, self.key.seed, self.key.left_out)

    @property
    def pretrains(self) -> bool:
        """Whether it begins from a backbone that has learned from the workspace's texts."""
        return getattr(self.settings, "pretrain", None) is not None and self.start is None

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
    for name, other in (("hard", run.hard_rows_judge), ("start", run.start)):
        if other:
            identity[name] = ws.store.content(other, "test") if ws.store.read_run(other) else None
    if run.washed_by:
        identity["washed"] = _judges(ws, run)
    if run.joins_features:
        learned = (competition.train, competition.external)
        identity["features"] = [competition.features_hash(rows) for rows in learned]
    if run.settings.learns_auxiliary:
        learned = (competition.train, competition.external)
        hashes = [None if rows is None else rows.auxiliary_hash() for rows in learned]
        identity["auxiliary"] = [competition.settings.auxiliary, *hashes]
    return identity


def _judges(ws: Workspace, run: Run) -> dict[str, str]:
    """A digest of each run that washes; InputError where one is not there."""
    if run.folds.in_time_order:
        raise InputError(
            f"{run.key}: augment_washed_by wants runs that leave two folds out, which time order "
            "cannot: leave it out"
        )
    split = _folds_of(ws, run, ws.competition.train)
    judges = [run.judge_of_copies(j) for j in np.unique(split) if j not in run.key.left_out]
    missing = [key for key in judges if ws.store.read_run(key) is None]
    if missing:
        names = ",".join(key.run.removeprefix("fold") for key in missing)
        raise InputError(
            f"{run.key}: its copies are washed by runs of {missing[0].model} that are not there: run "
            f"`make train MODEL={missing[0].model} FOLD={names} SEED={run.key.seed}`"
        )
    return {key.run: ws.store.content(key, "test") for key in judges}


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
    shared = np.intersect1d(rows.groups[learned], held.groups).size if left_out else 0
    if shared:
        optimistic.append(f"{shared} texts or groups stand on both sides of the fold")
    if run.folds.in_time_order and left_out and ws.competition.external is not None:
        optimistic.append("external rows have no time and may be later than the held-out ones")
    for other in filter(None, (run.hard_rows_judge, run.start)):
        optimistic += [f"{other.model}: {reason}" for reason in _reasons(ws, other)]
    train = _with_external(ws, run, train, held, select)
    train = _with_copies(ws, run, _with_difficulty(ws, run, train))
    return train, held, select, optimistic


def _reasons(ws: Workspace, other: RunKey) -> list[str]:
    """Why a run that this one rests on is optimistic."""
    found = ws.store.read_run(other)
    return found["optimistic"] if found else []


def start_of(ws: Workspace, run: Run) -> Path | None:
    """The folder of the fitted model that this run begins from, where it does not begin anew."""
    if run.start is None:
        return None
    _check_there(ws, run, "start_from goes on from", run.start)
    return model_folder(ws, run.start)


def _check_there(ws: Workspace, run: Run, what: str, other: RunKey) -> None:
    """Raises InputError where a run that this one rests on is not there, or its model is not known."""
    if ws.store.read_run(other) is not None:
        return
    ws.choose_model(other.model, what)
    fold = other.run.removeprefix("fold")
    raise InputError(
        f"{run.key}: {what} {other}, which is not there: run `make train MODEL={other.model} "
        f"FOLD={fold} SEED={other.seed}`"
    )


def _with_external(ws: Workspace, run: Run, train: Rows, held: Rows, select: Rows | None) -> Rows:
    """The rows to learn from and the external ones, but for texts that are to be predicted here.

    An external copy of a held-out text would carry its label into the training.
    """
    external = ws.competition.external
    if external is None:
        return train
    judged = held.groups if select is None else np.union1d(held.groups, select.groups)
    known = np.isin(external.groups, judged)
    copies = f", {known.sum():,} left out as copies of rows to be predicted" if known.any() else ""
    say(f"{run.key}: {(~known).sum():,} external rows to learn from{copies}")
    return train.and_then(external.take(np.flatnonzero(~known)))


def _with_difficulty(ws: Workspace, run: Run, train: Rows) -> Rows:
    """The rows with their losses under the run that `sampling: hard` names.

    It left the same folds out, so no held-out label is in them.
    """
    judge = run.hard_rows_judge
    if judge is None:
        return train
    _check_there(ws, run, "sampling hard goes by the losses of", judge)
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
    splits, left_out = run.folds.splits, run.key.left_out
    split = int(np.isin(splits, left_out).any(axis=0).argmax()) if left_out else 0
    known = dict(zip(ws.competition.train.ids, splits[:, split].tolist(), strict=True))
    gold = zip(train.ids, train.origin == "gold", strict=True)
    return np.array([known[id_] if own else -1 for id_, own in gold])
