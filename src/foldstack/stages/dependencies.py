"""Checks by a run's dependencies and rows: whether it can be trained, is stale or is optimistic."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foldstack import config
from foldstack.errors import InputError
from foldstack.records import BlendRecord, RunRecord, SubmissionRecord
from foldstack.rows import text_digests
from foldstack.stages.run import PURPOSES, Dependency, Run, data_of, recorded
from foldstack.store import Folds, RunKey
from foldstack.workspace import Workspace

# An identity's keys as messages name them.
WHAT = {
    "folds": "folds",
    "train": "training rows",
    "overlay": "external rows or weights",
    "edits": "edits of training rows",
    "unlabelled": "unlabelled rows",
    "features": "feature columns",
    "row_weights": "weights to the test file",
    "auxiliary": "auxiliary targets",
    "named_files": "files that its preset names",
}
OF_ALL = ("folds", "train", "overlay", "edits")  # what does not depend on a model's settings
# What several runs do for one that depends on them, by purpose.
SEVERAL = {
    "washed": "its copies are filtered by",
    "pseudo": "its unlabelled rows are labelled by",
    "fitted": "its teachers are fitted on",
    "distil": "its targets are from",
}
ChosenFiles = Literal["all"] | tuple[str, ...]  # names of `external`
COUNT = re.compile(r"(?<!\S)\d[\d,]*\b")


def refuse_in_time_order(run: Run) -> None:
    """Raise InputError if a run is taught or judged by runs that time-ordered folds do not have."""
    if run.washed_by and run.folds.in_time_order:
        raise InputError(
            f"{run.key}: augment_washed_by requires runs that leave two folds out, which time order "
            "cannot: remove it"
        )
    found = run.teachers("fitted", "distil")
    if found and run.folds.in_time_order:
        setting = PURPOSES[found[0].purpose].removesuffix(".teachers")
        raise InputError(
            f"{run.key}: {setting} requires runs that leave two folds out, which time order cannot: "
            "remove it"
        )


def refuse_unkept(ws: Workspace, run: Run) -> None:
    """Raise InputError if a fitted model that the run requires would not be kept, or was removed."""
    for dependency in run.dependencies():
        if not dependency.of_model:
            continue
        found = ws.store.read_run(dependency.run)
        what = f"{PURPOSES[dependency.purpose]} requires the fitted model of {dependency.run}"
        if found is not None and ws.store.model_dir(dependency.run, found) is None:
            command = train_command(ws, dependency.run)
            raise InputError(f"{run.key}: {what}, which was removed: run `{command} FORCE=1` first")
        if found is None and not ws.competition.settings.store.keep_models:
            raise InputError(
                f"{run.key}: {what}, which store.keep_models: false would not keep: set it to true"
            )


def require_dependencies(ws: Workspace, run: Run) -> None:
    """Raise InputError if a run that this one depends on is missing or stale."""
    dependencies = run.dependencies()
    for purpose, what in SEVERAL.items():
        several = [d.run for d in dependencies if d.purpose == purpose]
        missing = [key for key in several if ws.store.read_run(key) is None]
        if missing:
            model = missing[0].model
            names = ",".join(k.run.removeprefix("fold") for k in missing if k.model == model)
            raise InputError(
                f"{run.key}: {what} runs of {model} that are missing: run "
                f"`{ws.store.train_command(model)} FOLD={names} SEED={run.key.seed}`"
            )
    for dependency in dependencies:
        _require(ws, dependency, run.key)
    _require_alike(ws, run, dependencies)


def _require_alike(ws: Workspace, run: Run, dependencies: list[Dependency]) -> None:
    """Raise InputError if the runs of a model that serve this run, or its other folds, are not alike."""
    for model in {dependency.run.model for dependency in dependencies}:
        needed = [dependency.run for dependency in dependencies if dependency.run.model == model]
        sizes = {len(key.left_out) for key in needed}
        runs = ws.store.runs(model, run.folds)
        found = {key: each for key, each in runs.items() if len(key.left_out) in sizes}
        settings = {key: each.identity.settings for key, each in found.items()}
        changed = unlike(settings, settings[needed[0]])
        if changed:
            (other, differences), *more = changed.items()
            and_more = f" (and {len(more)} more)" if more else ""
            raise InputError(
                f"{run.key} depends on runs that were made with different settings, {needed[0]} and "
                f"{other}{and_more} ({'; '.join(differences)}): train those of one kind again with "
                "--force (FORCE=1)"
            )


def unlike(
    settings: Mapping[RunKey, dict[str, Any]], like: dict[str, Any]
) -> dict[RunKey, list[str]]:
    """Return the runs whose settings are not like these, each with the differences.

    Runs of a model serve together, for a blend, as teachers, for all rows, if their settings are alike.
    """
    found = {key: config.settings_differences(like, own) for key, own in settings.items()}
    return {key: differences for key, differences in found.items() if differences}


def _require(ws: Workspace, dependency: Dependency, key: RunKey) -> None:
    """Raise InputError if the dependency is missing or stale.

    key: the run that depends on it, for the message.
    """
    setting, run = PURPOSES[dependency.purpose], dependency.run
    found = ws.store.read_run(run)
    if found is None:
        ws.choose_model(run.model, f"{setting} of {key}")
        raise InputError(
            f"{key}: {setting} needs {run}, which is missing: run `{train_command(ws, run)}`"
        )
    stale = stale_runs(ws, {run: found})
    if stale:
        (first, why), *_ = stale.items()
        by = f"{run}, which" if first == run else f"{run}, which depends on {first}, which"
        command = train_command(ws, first)
        raise InputError(f"{key}: {setting} needs {by} {why}: run `{command} FORCE=1` first")


def train_command(ws: Workspace, run: RunKey) -> str:
    """Return the command that trains one run."""
    fold = run.run.removeprefix("fold")
    return f"{ws.store.train_command(run.model)} FOLD={fold} SEED={run.seed}"


def why_stale(ws: Workspace, run: RunRecord, today: dict[str, Any] | None = None) -> list[str]:
    """Return why a finished run is stale, as clauses that follow the run's name; [] if it is not.

    A dependency that was removed since cannot be compared and is ignored.

    today: the result of `made_with`, if known.
    """
    today, then = today or made_with(ws), run.identity
    settings = config.stored_settings_or_none(then.settings)
    try:
        of_model = {} if settings is None else data_of(ws, settings, then)
    except InputError as e:
        return [f"cannot be compared with today's rows ({e})"]
    reasons = _made_otherwise(then.to_json(), today | of_model, WHAT if settings else OF_ALL)
    for dependency, content in recorded(run):
        setting, now = PURPOSES[dependency.purpose], ws.store.read_run(dependency.run)
        if now is None:
            continue
        if ws.store.model_content(dependency.run, now) != content:
            reasons.append(
                f"depends on {dependency.run} ({setting}), which was trained again since"
            )
        elif why_stale(ws, now, today):
            reasons.append(f"depends on {dependency.run} ({setting}), which is stale")
    return reasons


def stale_runs(
    ws: Workspace, runs: Mapping[RunKey, RunRecord], without_model: Iterable[RunKey] = ()
) -> dict[RunKey, str]:
    """Return why runs cannot teach today, as a clause; stale ones that these depend on come first.

    without_model: runs whose fitted model is needed and was removed.
    """
    found: dict[RunKey, str] = {}

    def add(key: RunKey, record: RunRecord) -> None:
        why = why_stale(ws, record) or (["has no fitted model"] if key in without_model else [])
        if not why or key in found:
            return
        for dependency, _ in recorded(record):
            before = ws.store.read_run(dependency.run)
            if before is not None:
                add(dependency.run, before)
        found[key] = why[0]

    without_model = set(without_model)
    for key, record in runs.items():
        add(key, record)
    return found


def _made_otherwise(
    hashes: Mapping[str, Any], today: Mapping[str, Any], compared: Iterable[str] = OF_ALL
) -> list[str]:
    """Return which hashes of a run or a blend differ from today's."""
    return [
        f"was made with other {WHAT[what]} (hash {_hash(hashes, what)}) than today's (hash "
        f"{_hash(today, what)})"
        for what in compared
        if hashes.get(what) != today.get(what)
    ]


def _hash(hashes: Mapping[str, Any], what: str) -> str | None:
    """Return one hash; of several, one of them all."""
    found = hashes.get(what)
    return found if found is None or isinstance(found, str) else config.digest(found)


def made_with(ws: Workspace) -> dict[str, Any]:
    """Return the hashes that a run trained today would record; with other folds it may leak labels."""
    competition = ws.competition
    folds, edits = ws.store.read_folds(competition.train), competition.edits_hash
    made = {
        "folds": folds.hash,
        "train": competition.train.hash(),
        "overlay": competition.overlay_hash,
    }
    return made if edits is None else made | {"edits": edits}


def inherited_reasons(ws: Workspace, run: Run) -> list[str]:
    """Return why a run is optimistic because of its dependencies, external rows and edits."""
    before = [ws.store.read_run(dependency.run) for dependency in run.dependencies()]
    files = _joined(
        [run.settings.external_files, *(files_of(ws, found) for found in before if found)]
    )
    reasons, of_rows = [], reasons_of_rows(ws, files)
    for found in filter(None, before):
        own = [why for why in found.optimistic if why not in of_rows]
        reasons += [f"{found.model}: {why}" for why in own]
    return list(dict.fromkeys([*reasons, *of_rows]))


def shared_reasons(ws: Workspace, folds: Folds, left_out: tuple[int, ...]) -> list[str]:
    """Return the texts, groups and near-duplicates that training and held-out rows share.

    Today's settings decide, which may be newer than the folds.
    """
    learned, held = folds.learned(left_out), folds.held_out(left_out)
    if not left_out or not len(held):
        return []
    competition = ws.competition
    shared = np.intersect1d(competition.tied[learned], competition.tied[held]).size
    reasons = [f"{shared} texts or groups stand on both sides of the fold"] if shared else []
    if competition.near is not None and len(competition.near.refused):
        a, b = competition.near.refused.T
        known, hidden = (np.zeros(len(competition.train), dtype=bool) for _ in range(2))
        known[learned] = hidden[held] = True
        crossing = int(((known[a] & hidden[b]) | (known[b] & hidden[a])).sum())
        if crossing:
            reasons.append(
                f"{crossing} pairs of near-duplicates stand on both sides of the fold (folds.near_cap)"
            )
    return reasons


def merged(reasons: Iterable[str]) -> list[str]:
    """Return the sorted reasons; merge those that differ only in a count, as `312 to 330 texts …`."""
    counts = defaultdict(set)
    for reason in set(reasons):
        found = COUNT.search(reason)
        counts[COUNT.sub("{}", reason, count=1)].add(int(found[0].replace(",", "")) if found else 0)
    return sorted(
        reason.replace("{}", " to ".join(f"{n:,}" for n in sorted({min(each), max(each)})))
        for reason, each in counts.items()
    )


def files_of(ws: Workspace, run: RunRecord | None) -> ChosenFiles:
    """Return the external files that a finished run, or one that it depends on, has chosen.

    All if that is not known. A dependency that was removed since is ignored.
    """
    settings = None if run is None else config.stored_settings_or_none(run.identity.settings)
    if settings is None:
        return "all"
    before = (ws.store.read_run(dependency.run) for dependency, _ in recorded(run))
    return _joined([settings.external_files, *(files_of(ws, each) for each in before if each)])


def files_of_members(ws: Workspace, members: Mapping[str, Mapping[str, str]]) -> ChosenFiles:
    """Return the external files that any run of a blend has chosen, see `files_of`.

    members: per model what is known of each of its runs, by `seed0/fold2`.
    """
    return _joined(
        files_of(ws, ws.store.read_run(RunKey.of_name(model, name)))
        for model, runs in members.items()
        for name in runs
    )


def _joined(chosen: Iterable[ChosenFiles]) -> ChosenFiles:
    """Return the files that stand in any of these."""
    found: set[str] = set()
    for each in chosen:
        if each == "all":
            return "all"
        found.update(each)
    return tuple(sorted(found))


def reasons_of_rows(ws: Workspace, files: ChosenFiles) -> list[str]:
    """Return why rows of these external files, or edits, make an estimate optimistic."""
    edits = ws.competition.edits
    return [*external_reasons(ws, files), *([] if edits is None else edits.optimistic)]


def external_reasons(ws: Workspace, files: ChosenFiles = "all") -> list[str]:
    """Return why rows of these external files make an estimate optimistic, if a model may have
    labelled them.

    A model of this competition has seen the labels of every fold and leaks them through its own.
    """
    places = ws.competition.external_places(files)
    if not len(places):
        return []
    external = ws.competition.external.take(places)
    digests = text_digests(external.texts)
    ids, digests = external.ids[digests != 0], digests[digests != 0]
    in_test = np.isin(digests, text_digests(ws.competition.test.texts))
    labelled = np.isin(digests, ws.store.predictions.texts()) & ~in_test
    return [
        f"{int(found.sum()):,} external rows, '{ids[found][0]}' the first, have texts {where}: their "
        "labels may come from a model of this competition, which has seen every fold; without those "
        "rows this mark goes"
        for found, where in (
            (in_test, "of the test file"),
            (labelled, "that a model has labelled here"),
        )
        if found.any()
    ]


# Marks in views


Reasons = tuple[list[str], list[str]]  # why it is stale, why it is optimistic


@dataclass(frozen=True)
class Doubts:
    """Stale and optimistic marks of stored results, by comparison with today's files, read once.

    Attributes:
        today: the result of `made_with`; None if the folds are missing or for other rows.
        why_not: why it is None.
        of_folds: per fold what its rows share with the training rows.
    """

    ws: Workspace
    today: dict[str, Any] | None
    why_not: str
    of_folds: dict[int, list[str]]

    @classmethod
    def of(cls, ws: Workspace) -> Doubts:
        today, why_not, shared = None, "", {}
        try:
            today = made_with(ws)
            folds = ws.store.read_folds(ws.competition.train)
            shared = {k: shared_reasons(ws, folds, (k,)) for k in folds.numbers}
        except InputError as e:
            why_not = f"cannot be compared with today's folds and rows ({e})"
        return cls(ws, today, why_not, shared)

    def of_run(self, run: RunRecord) -> Reasons:
        """Return the marks of a finished run."""
        stale = [self.why_not] if self.today is None else why_stale(self.ws, run, self.today)
        of_rows = reasons_of_rows(self.ws, files_of(self.ws, run))
        return stale, self._optimistic([*of_rows, *run.optimistic], run.left_out)

    def of_blend(self, record: BlendRecord | SubmissionRecord) -> Reasons:
        """Return the marks of a stored blend or a submission.

        It is also stale if one of its runs is stale, was trained again or is missing.
        """
        used = list(self.of_folds) if record.folds is None else record.folds.numbers
        of_rows = reasons_of_rows(self.ws, files_of_members(self.ws, record.members))
        optimistic = self._optimistic([*of_rows, *record.optimistic], used)
        if self.today is None:
            return [self.why_not], optimistic
        stale = _made_otherwise(dict(record.hashes), self._of_rows_of(record))
        features = self.ws.competition.train.features_hash()
        if record.hashes.features and record.hashes.features[0] != features:
            stale.append("was made with other feature columns than today's")
        for model, contents in record.members.items():
            reasons = [self._of_member(model, *item) for item in contents.items()]
            reasons = [reason for reason in reasons if reason]
            if reasons and not stale:
                more = f" (and {len(reasons) - 1} more of {model})" if len(reasons) > 1 else ""
                stale.append(reasons[0] + more)
        return stale, optimistic

    def _of_rows_of(self, record: BlendRecord | SubmissionRecord) -> dict[str, Any]:
        """Return today's hashes; of external rows, which each model chooses, its runs know more."""
        return self.today | ({"overlay": record.hashes.overlay} if record.members else {})

    def _optimistic(self, known: list[str], left_out: list[int]) -> list[str]:
        """Return the known reasons, which in a blend follow a model's name, and today's new ones."""
        of_folds = merged(why for fold in left_out for why in self.of_folds.get(fold, []))
        new = [why for why in of_folds if not any(each.endswith(why) for each in known)]
        return list(dict.fromkeys([*known, *new]))

    def _of_member(self, model: str, name: str, content: str) -> str | None:
        """Return why a blend's run is stale or missing; content: the digest of its predictions then."""
        key = RunKey.of_name(model, name)
        run = self.ws.store.read_run(key)
        if run is None:
            return f"depends on {key}, which is missing"
        if not content.endswith(self.ws.store.content(key, "test")):
            return f"depends on {key}, which was trained again or predicted another test file since"
        stale = why_stale(self.ws, run, self.today)
        return f"depends on {key}, which {stale[0]}" if stale else None
