"""Stages: `push` a submission, or a bundle as a data set, to Kaggle; the `log` of what was pushed."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from foldstack import config
from foldstack.errors import InputError
from foldstack.files import file_sha256
from foldstack.kaggle_site import SiteSubmission, connect
from foldstack.records import (
    Push,
    PushedFile,
    PushScores,
    RankCorrelation,
    SelectedPush,
    SubmissionRecord,
)
from foldstack.stages.blend import blend_command
from foldstack.stages.dependencies import Doubts
from foldstack.tables import read_table
from foldstack.workspace import Workspace

DATASET = re.compile(r"[\w-]+/[\w-]{6,50}")
FEWEST = 3  # submissions for a rank correlation
TO_95 = 1.96  # standard errors from a score to an end of its interval


def push(
    ws: Workspace,
    *,
    message: str | None = None,
    name: str | None = None,
    bundle: bool = False,
    force: bool = False,
) -> PushedFile:
    """Submit submissions/<name>.csv to the competition, or upload bundle/<name> as a data set.

    Args:
        ws: the workspace.
        message: shown beside it on the site; None for its name and nested score.
        name: the submission or the bundle; None for `blend`.
        bundle: upload the bundle.
        force: push a stale submission, or the same file again.

    Returns:
        What was pushed, and where to.

    Raises:
        InputError: it is missing, changed, stale or pushed already, or the site cannot be reached.
    """
    name = config.check_name(name or "blend", "name")
    if bundle:
        return _push_bundle(ws, name, message)
    slug = _competition(ws)
    ws.store.refuse_foreign_log()
    path, record = ws.store.submission_path(name), _record(ws, name)
    sha256 = file_sha256(path)
    stale, optimistic = Doubts.of(ws).of_blend(record)
    if stale and not force:
        raise InputError(
            f"{ws.store.name(path)} is stale, it {stale[0]}: run {blend_command(name)} and `make "
            "submit` again, or push it as it is with FORCE=1"
        )
    earlier = [each for each in ws.store.read_push_log().pushes if each.competition == slug]
    same = next((each for each in earlier if each.sha256 == sha256), None)
    if same is not None and not force:
        raise InputError(
            f"{ws.store.name(path)} was pushed already, as submission {same.ref} ('{same.message}'): "
            "FORCE=1 pushes it again"
        )
    message = message or f"{name}, nested {record.metric} {record.nested.score:.4f}"
    ref = connect().submit(path, message, slug)
    made = Push(
        name=name,
        sha256=sha256,
        message=message,
        competition=slug,
        ref=ref,
        metric=record.metric,
        nested=record.nested.score,
        low=record.nested.low,
        high=record.nested.high,
        standard_error=record.nested.standard_error,
        optimistic=optimistic,
        stale=stale,
    )
    ws.store.add_push(made, path)
    return PushedFile(what=ws.store.name(path), where=slug, push=made)


def _competition(ws: Workspace) -> str:
    slug = ws.competition.settings.kaggle.competition
    if slug is None:
        raise InputError(
            "kaggle.competition is not set: write the last part of the competition's address there, as "
            'by `make set SET="kaggle.competition=NAME"`'
        )
    return slug


def _record(ws: Workspace, name: str) -> SubmissionRecord:
    """Return a submission's record; raise InputError unless `submit` wrote its file as it is."""
    path = ws.store.submission_path(name)
    record = ws.store.submissions().get(name)
    if record is None:
        raise InputError(
            f"{ws.store.name(path)} is not a file that `submit` wrote: run `make submit NAME={name}` "
            "first"
        )
    if record.sha256 is None or not ws.store.is_as_submitted(name, record):
        raise InputError(
            f"{ws.store.name(path)} has been changed since `submit` wrote it: run `make submit "
            f"NAME={name}` again"
        )
    return record


def _push_bundle(ws: Workspace, name: str, message: str | None) -> PushedFile:
    folder, dataset = ws.store.bundle_dir(name), ws.competition.settings.kaggle.dataset
    if not folder.is_dir() or not any(folder.iterdir()):
        raise InputError(f"{ws.store.name(folder)} does not exist: run `make bundle` first")
    if dataset is None or not DATASET.fullmatch(dataset):
        raise InputError(
            "kaggle.dataset names the data set for the bundle, your account and 6 to 50 letters, digits "
            'or dashes: write it as by `make set SET="kaggle.dataset=ACCOUNT/NAME-OF-DATA"`'
        )
    new = connect().upload(folder, dataset, message or name)
    return PushedFile(what=ws.store.name(folder), where=dataset, new=new)


def log(ws: Workspace) -> PushScores:
    """Return the submissions pushed to the competition with the site's scores, which are stored.

    Raises InputError if nothing was pushed, or the site cannot be reached.
    """
    slug = _competition(ws)
    ws.store.refuse_foreign_log()
    if not any(each.competition == slug for each in ws.store.read_push_log().pushes):
        raise InputError(f"nothing was pushed to '{slug}': run `make push MESSAGE=…` first")
    of_site = {each.ref: each for each in connect().submissions(slug)}

    def updated(pushes: list[Push]) -> list[Push]:
        ours = {each.ref for each in pushes if each.competition == slug}
        known = {ref: each for ref, each in of_site.items() if ref in ours}
        return [
            _scored(each, known[each.ref])
            if each.competition == slug and each.ref in known
            else each
            for each in pushes
        ]

    stored = ws.store.change_push_log(updated).pushes
    rows = [each for each in stored if each.competition == slug]
    select, undecided = _select(ws, rows)
    return PushScores(
        metric=ws.competition.metric.name,
        rows=rows,
        public=_rank_correlation(rows, [each.public for each in rows]),
        private=_rank_correlation(rows, [each.private for each in rows]),
        select=select,
        undecided=undecided,
    )


def _scored(push: Push, found: SiteSubmission) -> Push:
    """Return a push with what the site says now."""
    names = ("date", "status", "public", "private", "error")
    return push.model_copy(update={name: getattr(found, name) for name in names})


def _rank_correlation(rows: list[Push], scores: list[float | None]) -> RankCorrelation:
    """Return how the nested scores and the site's rank the submissions alike."""
    both = [
        (row.nested, score)
        for row, score in zip(rows, scores, strict=True)
        if score is not None and np.isfinite(row.nested)
    ]
    if len(both) < FEWEST:
        return RankCorrelation(correlation=None, submissions=len(both))
    nested, others = map(np.array, zip(*both, strict=True))
    if np.ptp(nested) == 0 or np.ptp(others) == 0:
        return RankCorrelation(correlation=None, submissions=len(both))
    found = float(spearmanr(nested, others).statistic)
    return RankCorrelation(correlation=round(found, 6), submissions=len(both))


def _select(ws: Workspace, rows: list[Push]) -> tuple[list[SelectedPush], str | None]:
    """Return the best submission and the most different good one; and why there are not two.

    Good is a nested score within one standard error of the best.
    """
    metric = ws.competition.metric
    known = {
        number: row
        for number, row in enumerate(rows)
        if np.isfinite(row.nested) and row.metric == metric.name and row.status != "error"
    }
    if not known:
        return [], f"no submission has a nested {metric.name}"
    best = max(known, key=lambda number: metric.sign * known[number].nested)
    chosen = [SelectedPush(row=best, why="the best nested score")]
    error = _standard_error(known[best])
    good = {
        number: row
        for number, row in known.items()
        if row.sha256 != known[best].sha256 and abs(row.nested - known[best].nested) <= error
    }
    if not good:
        return (
            chosen,
            f"no other is within one standard error ({error:.4f}) of the best nested score",
        )
    alike = {number: _correlation(ws, known[best], row) for number, row in good.items()}
    defined = {number: value for number, value in alike.items() if value is not None}
    if not defined:
        return chosen, "the other good submissions have no copy in submissions/pushed/"
    other = min(defined, key=lambda number: (defined[number], number))
    why = f"the most different of {len(good)} within one standard error of it, correlation "
    return [*chosen, SelectedPush(row=other, why=f"{why}{defined[other]:.3f}")], None


def _standard_error(push: Push) -> float:
    if push.standard_error is not None:
        return push.standard_error
    width = push.high - push.low
    return width / (2 * TO_95) if np.isfinite(width) else 0.0


def _correlation(ws: Workspace, a: Push, b: Push) -> float | None:
    """Return the mean correlation of two files' columns; None if one has no copy."""
    tables = [_predictions(ws, each) for each in (a, b)]
    if any(table is None for table in tables):
        return None
    first, second = (pd.get_dummies(table, dtype=float) for table in tables)
    columns = first.columns.union(second.columns)
    first, second = (t.reindex(columns=columns, fill_value=0.0) for t in (first, second))
    found = first.corrwith(second).mean()  # of columns that vary in both
    if np.isnan(found):
        return 1.0 if first.equals(second) else 0.0
    return float(found)


def _predictions(ws: Workspace, push: Push) -> pd.DataFrame | None:
    """Return the columns of a pushed file by id, numbers where all are; None without its copy."""
    path, competition = ws.store.pushed_copy(push.sha256), ws.competition
    if not path.exists() or file_sha256(path) != push.sha256:
        return None
    table = read_table(path, competition.submission_form).set_index(competition.settings.id)
    table = table.sort_index()
    classes = competition.submission.wants_labels and competition.kind.has_labels
    for column in table.columns:
        numbers = pd.to_numeric(table[column], errors="coerce")
        if numbers.notna().all() and not classes:
            table[column] = numbers
    return table
