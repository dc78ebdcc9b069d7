"""A run to be trained, its dependencies and its identity.

Every way in which one run's result enters another's training is a `Dependency`. The identity of a run,
whether it can be trained, why it is optimistic and whether it is stale all follow from the same list,
`Run.dependencies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldstack import config
from foldstack.backbones import model_digest
from foldstack.competition import Competition
from foldstack.files import file_digest
from foldstack.records import RunIdentity, RunRecord
from foldstack.stages.drift import weights_to_test
from foldstack.store import Folds, RunKey
from foldstack.techniques import LearnerSettings
from foldstack.workspace import Workspace

# The setting behind each purpose of a dependency.
PURPOSES = {
    "start": "start_from",
    "hard": "sampling hard",
    "washed": "augment_washed_by",
    "pseudo": "pseudo_labels.teachers",
    "fitted": "pseudo_labels.fitted",
    "distil": "distil.teachers",
}
BY_FOLD = ("washed", "fitted", "distil")  # the purposes of runs that leave one fold more out
TEACHING = ("pseudo", "fitted", "distil")  # the purposes of teachers


@dataclass(frozen=True, order=True)
class Dependency:
    """A run that another run depends on.

    Attributes:
        purpose: 'start' (its weights), 'hard' (its losses), 'washed' (its predictions of copies),
            'pseudo' (of unlabelled rows), 'fitted' (of training rows, on which the teachers of
            unlabelled ones are calibrated and weighed), 'distil' (of training rows, which are learned).
        run: its key; it leaves out at least the same folds, so that it has seen none of their labels,
            unless `distil.by` is out_of_fold.
    """

    purpose: str
    run: RunKey

    @property
    def of_model(self) -> bool:
        """Whether the run's fitted model is used, not its stored predictions alone."""
        return self.purpose not in ("fitted", "distil")

    def content(self, ws: Workspace) -> str | None:
        """Return a digest of the run's fitted model today; None if the run is missing."""
        record = ws.store.read_run(self.run)
        return None if record is None else ws.store.model_content(self.run, record)


@dataclass(frozen=True)
class Run:
    """A run to be trained: its key, settings and folds.

    Attributes:
        preset: the source of `settings`, which differs from the key's model for a variant (NAME=).
    """

    key: RunKey
    settings: LearnerSettings
    folds: Folds
    preset: str | None = None

    @property
    def select(self) -> str:
        """Return what chooses the epoch; a learner without epochs has only its last state."""
        return self.settings.epoch_chosen_by

    @property
    def joins_features(self) -> bool:
        return self.settings.joins_features

    @property
    def copies(self) -> int:
        """The number of augmented copies of each row to learn from."""
        return self.settings.copies

    @property
    def washed_by(self) -> str | None:
        """The model whose runs judge the copies."""
        return self.settings.judge_model

    def dependencies(self) -> list[Dependency]:
        """Return every run that this one depends on, all of its seed."""
        same, found = (self.key.seed, self.key.left_out), []
        if self.settings.start_model:
            found.append(Dependency("start", RunKey(self.settings.start_model, *same)))
        if self.settings.hard_model:
            found.append(Dependency("hard", RunKey(self.settings.hard_model, *same)))
        if self.washed_by:
            found += [
                Dependency("washed", self.judge_of_copies(fold)) for fold in self._learned_folds
            ]
        return [*found, *self.teachers(*TEACHING)]

    @property
    def _learned_folds(self) -> list[int]:
        split = self.folds.split_of(self.key.left_out)
        return np.setdiff1d(split[split >= 0], self.key.left_out).tolist()

    def teachers(self, *purposes: str) -> list[Dependency]:
        """Return the runs that teach this one: of training rows one per model and fold to learn from."""
        pseudo, distil, found = self.settings.pseudo_labels, self.settings.distil, []
        left_out = self.key.left_out
        if "pseudo" in purposes and pseudo is not None:
            keys = [RunKey(model, self.key.seed, left_out) for model in pseudo.teachers]
            found += [Dependency("pseudo", key) for key in keys]
        if "fitted" in purposes and pseudo is not None and pseudo.fitted:
            found += self._by_fold("fitted", pseudo.teachers, left_out)
        if "distil" in purposes and distil is not None:
            known = () if distil.by == "out_of_fold" else left_out
            found += self._by_fold("distil", distil.teachers, known)
        return found

    def _by_fold(
        self, purpose: str, models: Iterable[str], known: tuple[int, ...]
    ) -> Iterator[Dependency]:
        """Yield the runs that leave out a fold to learn from and these ones."""
        for model in models:
            for fold in self._learned_folds:
                left_out = tuple(sorted({fold, *known}))
                yield Dependency(purpose, RunKey(model, self.key.seed, left_out))

    def fold_taught_by(self, teacher: RunKey) -> int:
        """Return the fold whose rows this teacher of training rows predicts."""
        (fold,) = set(teacher.left_out) - set(self.key.left_out)
        return fold

    def dependency(self, purpose: str) -> RunKey | None:
        """Return the run of this purpose, if any; the first of several judges."""
        return next((d.run for d in self.dependencies() if d.purpose == purpose), None)

    @property
    def start(self) -> RunKey | None:
        """The run whose weights this one starts from."""
        return self.dependency("start")

    @property
    def pretrains(self) -> bool:
        """Whether it starts from a backbone that is pretrained on the workspace's texts."""
        return self.settings.pretrains

    def judge_of_copies(self, fold: int) -> RunKey:
        """Return the run that filters copies of this fold's rows, which it has not learned from."""
        left_out = tuple(sorted({int(fold), *self.key.left_out}))
        return RunKey(self.washed_by, self.key.seed, left_out)


def identity_of(ws: Workspace, run: Run, then: RunIdentity | None = None) -> RunIdentity:
    """Return everything that determines what a run learns.

    then: the identity of the finished run; a file that was removed since cannot be compared and counts
        as the same.
    """
    identity: dict[str, Any] = {
        "settings": config.identity(run.settings),
        "folds": run.folds.hash,
        **data_of(ws, run.settings, then),
        **content_by_purpose(ws, run.dependencies()),
    }
    if run.settings.rules:
        identity["auto_rules"] = run.settings.rules
    return RunIdentity(**identity)


def data_of(
    ws: Workspace, settings: LearnerSettings, then: RunIdentity | None = None
) -> dict[str, Any]:
    """Return digests of what such a model learns from `input/`, by key of `RunIdentity`.

    then: see `identity_of`.
    """
    competition = ws.competition
    found: dict[str, Any] = {
        "train": competition.train.hash(),
        "overlay": competition.overlay_of(settings.external_files),
        "edits": competition.edits_hash,
        "unlabelled": unlabelled_hash(ws, settings),
    }
    if settings.joins_features:
        found["features"] = competition.learned_features
    if settings.weighs_by_drift:
        found["row_weights"] = config.digest(weights_to_test(ws).tolist())
    if settings.learns_auxiliary:
        learned = (competition.train, competition.external)
        hashes = [None if rows is None else rows.auxiliary_hash() for rows in learned]
        found["auxiliary"] = [list(competition.settings.auxiliary), *hashes]
    named = files_today(competition, settings)
    if then is not None:
        earlier = then.named_files or {}
        named = {
            setting: named.get(setting) or earlier.get(setting)
            for setting in {**named, **earlier}
            if setting in earlier or setting not in settings.models_read  # which once had no digest
        }
    if named:
        found["named_files"] = named
    return {key: value for key, value in found.items() if key == "overlay" or value is not None}


def files_today(competition: Competition, settings: LearnerSettings) -> dict[str, str | None]:
    """Return digests of the files that the settings name, None if missing, and of models' folders."""
    files = {
        setting: file_digest(path) if path.is_file() else None
        for setting, path in competition.files_of(settings).items()
    }
    models = {s: model_digest(model) for s, model in settings.models_read.items()}
    return files | {setting: digest for setting, digest in models.items() if digest}


def missing_files(ws: Workspace, runs: Iterable[Run]) -> list[str]:
    """Return sentences about files and folders that finished runs have learned from, and that are no
    longer there; one of each model and file."""
    found: dict[str, None] = {}
    for run in runs:
        recorded = ws.store.read_run(run.key).identity.named_files or {}
        today = files_today(ws.competition, run.settings)
        places = ws.competition.files_of(run.settings) | run.settings.models_read
        for setting in recorded:
            if not today.get(setting) and setting in places:
                found[
                    f"{run.key.model}: {setting}: there is no {places[setting]} any more, so that its "
                    "finished runs cannot be compared with it: put it back before you train others"
                ] = None
    return list(found)


def unlabelled_hash(ws: Workspace, settings: LearnerSettings) -> str | None:
    """Return a digest of the unlabelled rows that a model learns from; None if it reads none."""
    competition, pseudo = ws.competition, settings.pseudo_labels
    names = {*(() if pseudo is None else pseudo.files), *settings.consistent_on}
    by_row = bool(names)
    if settings.reads_pool and competition.pooled is not None:
        names.add("pool")
    found = [[n, *_facts_of(competition, n, by_row)] for n in sorted(names)]
    return config.digest(found) if found else None


def _facts_of(competition: Competition, name: str, by_row: bool) -> list[Any]:
    """Return what a run learns of unlabelled rows: their texts; if `by_row`, features and ties too.

    None alone if the pool's files are no longer named.
    """
    rows = competition.rows_to_label.get(name)
    if rows is None:
        return [None]
    facts: list[Any] = [rows.hash()]
    if by_row and rows.features is not None:  # teachers may predict from them
        facts.append(competition.features_hash(rows))
    if by_row and len(ties := competition.ties_of(name)):  # these are no rows of some runs
        facts.append(ties.tolist())
    return facts


def content_by_purpose(ws: Workspace, dependencies: Iterable[Dependency]) -> dict[str, Any]:
    """Return the digests of dependencies for a run's identity; for judges and teachers, one per run."""
    found: dict[str, Any] = {}
    for dependency in dependencies:
        purpose, run = dependency.purpose, dependency.run
        if purpose == "washed":
            found.setdefault(purpose, {})[run.run] = dependency.content(ws)
        elif purpose in TEACHING:
            found.setdefault(purpose, {})[f"{run.model}/{run.run}"] = dependency.content(ws)
        else:
            found[dependency.purpose] = dependency.content(ws)
    return found


def recorded(run: RunRecord) -> list[tuple[Dependency, str | None]]:
    """Return the recorded dependencies of a finished run, each with its digest at that time."""
    identity, found = run.identity, []
    settings = config.stored_settings_or_none(identity.settings)
    models = {
        "start": getattr(settings, "start_from", None),
        "hard": getattr(settings, "hard_model", None),
    }
    for purpose, model in models.items():
        content = getattr(identity, purpose)
        if model and content is not None:
            key = RunKey(model, run.seed, tuple(run.left_out))
            found.append((Dependency(purpose, key), content))
    judge = getattr(settings, "augment_washed_by", None)
    for name, content in (identity.washed or {}).items():
        key = RunKey(judge, run.seed, RunKey.left_out_of(name))
        found.append((Dependency("washed", key), content))
    for purpose in TEACHING:
        for place, content in (getattr(identity, purpose) or {}).items():
            model, _, name = place.partition("/")
            key = RunKey(model, run.seed, RunKey.left_out_of(name))
            found.append((Dependency(purpose, key), content))
    return found
