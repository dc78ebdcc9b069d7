"""Stage: a blend of models' runs, or a single model, with a nested estimate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldstack import config, ensemble
from foldstack.competition import Competition
from foldstack.defined import scored_by
from foldstack.ensemble import OF_RANKS, STACKS, BlendOptions, BlendResult, Members, RunTests
from foldstack.ensemble.optimism import SharedTraining
from foldstack.errors import InputError
from foldstack.files import write_text
from foldstack.progress import Progress
from foldstack.records import (
    BlendHashes,
    BlendRecord,
    CandidateRecord,
    Correction,
    EstimateRecord,
    FoldsUsed,
    ModelEstimate,
    PositiveRates,
    RepeatedTexts,
    ReportRecord,
    RuleRecord,
)
from foldstack.report import (
    format_report,
    label_report,
    read_report,
    report_rows,
    target_report,
)
from foldstack.rows import Rows
from foldstack.stages.choices import describe_calibration, describe_rules, reliability_csv
from foldstack.stages.dependencies import Doubts, made_with, reasons_of_rows, why_stale
from foldstack.stages.drift import drifted_score
from foldstack.stages.features import describe_features, stack_features
from foldstack.stages.oof import Model, fold_runs, match_confidence, read_model, sampled
from foldstack.stages.shared import choose_shared, folds_used, trained_folds
from foldstack.store import Folds, write_parquet
from foldstack.workspace import Workspace

FEWEST = 50  # test rows
COMPARED_ON = "held-out rows"  # of runs, see `means.RunScales`


@dataclass(frozen=True)
class Blend:
    """A fitted blend: predictions, record, and the members and rows that it was fitted on."""

    result: BlendResult
    record: BlendRecord
    members: Members
    scored: Rows
    report: pd.DataFrame


def choose_members(ws: Workspace, text: str | None) -> tuple[list[str], dict[str, str]]:
    """Return the models of a comma list; for `all` or None those listed and others with their folds.

    A model that is not listed, such as a variant or a teacher, is a member if it has a run for each fold
    that all listed ones have, none of them stale; the others come second, each with why it is not.
    """
    if text not in (None, "", "all"):
        return ws.choose_models(text), {}
    stored = {key.model for key in ws.store.runs() if len(key.left_out) == 1}
    if not stored:
        raise InputError("oof/ holds no runs to blend: run `make train` first")
    folds = ws.store.read_folds(ws.competition.train)
    of = {name: set(trained_folds(ws, name, folds)) for name in sorted(stored.union(ws.listed))}
    listed = [of[name] for name in ws.listed]
    wanted = set.intersection(*listed) if listed else max(of.values(), key=len)
    members, others, today = list(ws.listed), {}, made_with(ws)
    for name in sorted(stored.difference(ws.listed)):
        why = f"has runs of {len(of[name])} of the folds" if not wanted <= of[name] else None
        why = why or _stale(ws, name, wanted, today)
        if why is None:
            members.append(name)
        else:
            others[name] = why
    return members, others


def _stale(ws: Workspace, name: str, folds: set[int], today: dict[str, Any]) -> str | None:
    """Return why a model has a stale run among those of these folds, as a clause; see `why_stale`."""
    runs = fold_runs(ws, name).items()
    stale = (why_stale(ws, run, today) for key, run in runs if key.left_out[0] in folds)
    return next((f"has a run that {reasons[0]}" for reasons in stale if reasons), None)


def make_blend(
    ws: Workspace,
    names: list[str],
    *,
    methods: tuple[str, ...] | None = None,
    quiet: bool = False,
    command: str = "make blend",
) -> Blend:
    """Read the models, choose and fit a blend, and estimate it nested; write nothing.

    The blend is made on the folds that all models have runs for. One fold allows a single model only,
    as it is.

    Args:
        ws: the workspace.
        names: the models.
        methods: replace those of the settings; () keeps a single model as it is.
        quiet: show no progress.
        command: the command that takes MODEL=, for messages.

    Returns:
        The fitted blend.

    Raises:
        InputError: a run is missing, stale or damaged, or several models share fewer than two folds.
    """
    folds = choose_shared(ws, names, ws.store.read_folds(ws.competition.train), command)
    alone = len(folds.numbers) == 1
    options = _options(ws, () if alone else methods)
    train = ws.competition.scored_rows(folds.scored)
    models = [read_model(ws, name, folds) for name in names]
    text = options.text_features and any(method in STACKS for method in options.methods)
    members = members_of(ws, models, folds, text)
    result = score_one_fold(ws, members) if alone else _fit(ws, members, options, quiet)
    if options.match_sharpness and not alone and _rests_on_confidence(members, result):
        models = [match_confidence(ws, model) for model in models]
        tests = np.stack([m.test for m in models], axis=1)
        members = dataclasses.replace(members, test_probabilities=tests)
        result = result.predicting(members.test_inputs)
    record = _describe(ws, models, folds, members, result, text)
    return Blend(result, record, members, train, _report(ws, members, result))


def _options(ws: Workspace, methods: tuple[str, ...] | None) -> BlendOptions:
    """Return the settings of the blend with other methods; with () there is no calibration."""
    settings = ws.competition.settings
    options = BlendOptions.of(settings.blend, settings.runtime.threads)
    methods = options.methods if methods is None else methods
    calibration = options.calibration if methods else ("none",)
    return options.model_copy(update={"methods": methods, "calibration": calibration})


def members_of(ws: Workspace, models: list[Model], folds: Folds, text: bool = False) -> Members:
    """Return the models' predictions and the features of stacks, with text: those of texts too."""
    competition = ws.competition
    train = competition.scored_rows(folds.scored)
    return Members(
        names=[m.name for m in models],
        probabilities=np.stack([m.oof for m in models], axis=1),
        ranks=np.stack([m.oof_ranks for m in models], axis=1),
        test_probabilities=np.stack([m.test for m in models], axis=1),
        test_ranks=np.stack([m.test_ranks for m in models], axis=1),
        targets=train.targets,
        folds=folds.fold[folds.scored],
        groups=train.groups,
        kind=competition.kind,
        seed_variance=float(np.mean([m.seed_variance for m in models])),
        features=stack_features(train, text),
        test_features=stack_features(competition.test, text),
        categorical=tuple(range(len(competition.settings.numeric), len(competition.feature_names))),
        runs=_runs(competition, folds, models),
        scored=scored_by(competition, folds).columns,
        cells=competition.metric.take(folds.scored).cells,
    )


def _runs(competition: Competition, folds: Folds, models: list[Model]) -> RunTests | None:
    """Return the test predictions of single runs; None if the rows are too few to compare them."""
    if len(competition.test) < FEWEST:
        return None
    return RunTests(
        sampled(len(competition.test)),
        np.stack([m.of_folds.probabilities for m in models], axis=2),
        np.stack([m.of_folds.ranks for m in models], axis=2),
        share_labels=not folds.in_time_order,
    )


def _fit(ws: Workspace, members: Members, options: BlendOptions, quiet: bool) -> BlendResult:
    competition = ws.competition
    candidates = ensemble.list_candidates(
        members.names,
        competition.metric,
        options.methods,
        kind=competition.kind,
        features=members.features is not None,
        calibration=options.calibration,
    )
    total = ensemble.count_fits(len(np.unique(members.folds)), len(candidates))
    with Progress("blending", total, "fits") as progress:
        return ensemble.blend(
            members,
            competition.metric,
            wants_labels=competition.submission.wants_labels,
            options=options,
            progress=None if quiet else progress.add,
        )


def score_one_fold(ws: Workspace, members: Members) -> BlendResult:
    """Return the only model as it is, scored on its only fold."""
    settings = ws.competition.settings.blend
    return ensemble.one_fold(
        members,
        ws.competition.metric,
        wants_labels=ws.competition.submission.wants_labels,
        seed=settings.seed,
        rules=settings.rules,
    )


def _correction(found: SharedTraining) -> Correction | None:
    return None if found == SharedTraining() else Correction.from_dataclass(found)


def rule_reasons(family: str | None, folds: Sequence[int]) -> list[str]:
    """Return why an estimate is optimistic: rules of this family are fitted on the only fold."""
    if len(folds) > 1 or not ensemble.reads_labels(family):
        return []
    (fold,) = folds
    return [f"its decision rule is fitted on fold {fold}, the only one trained, and scored on it"]


def _rests_on_confidence(members: Members, result: BlendResult) -> bool:
    """Return whether a rule or a stack was fitted to the confidence of out-of-fold predictions."""
    if members.kind.is_values:
        return False
    plain = ensemble.default_rule(members.kind, members.targets.shape[1])
    is_mean = "weights" in result.parameters or "power" in result.parameters
    return result.rule not in (None, plain) or not is_mean


def _decided(
    members: Members, result: BlendResult, values: np.ndarray, mean: np.ndarray, winners: set[str]
) -> np.ndarray:
    """Return (n, outputs) decisions of 0/1; for means of ranks, decide on the mean probability."""
    rule = result.rule or ensemble.default_rule(members.kind, members.targets.shape[1])
    return rule.apply(mean if OF_RANKS & winners else values)


def _nested_decisions(members: Members, result: BlendResult) -> np.ndarray:
    if result.rule is not None:
        return result.nested_predictions
    winners = set(result.winners_by_fold.values())  # one of ranks: decide all on probabilities
    return _decided(members, result, result.oof, members.probabilities.mean(axis=1), winners)


def _report(ws: Workspace, members: Members, result: BlendResult) -> pd.DataFrame:
    """Return one row per label, or regression target, with its out-of-fold scores."""
    competition = ws.competition
    if competition.kind.is_values:
        values = result.oof if result.rule is None else result.nested_predictions
        return target_report(members.targets, values, competition.outputs)
    decisions = _nested_decisions(members, result)
    return label_report(members.targets, decisions, competition.labels, competition.kind)


def _describe(
    ws: Workspace,
    models: list[Model],
    folds: Folds,
    members: Members,
    result: BlendResult,
    text: bool,
) -> BlendRecord:
    """Return the record of a blend.

    Args:
        text: whether stacks read features of the texts.
    """
    competition, used = ws.competition, folds_used(folds)
    return BlendRecord(
        kind=competition.kind,
        metric=competition.metric.name,
        costs=_costs(competition),
        scores_are="pooled over all rows" if used is None else _scores_are(used),
        test_mean=_test_mean(competition, models, result),
        temperatures={m.name: m.temperature for m in models} if _are_matched(models) else {},
        members={m.name: m.runs for m in models},
        settings=competition.settings.blend.model_dump(mode="json"),
        hashes=_hashes(competition, folds),
        winner=result.winner,
        winners_by_fold={str(fold): winner for fold, winner in result.winners_by_fold.items()},
        parameters=result.parameters,
        rule=None if result.rule is None else RuleRecord(**result.rule.to_json()),
        nested=EstimateRecord.from_dataclass(result.nested),
        submitted=_submitted(competition, members, result),
        correction=_correction(result.correction),
        in_sample=result.in_sample,
        seed_variance=members.seed_variance,
        optimistic=_why_optimistic(ws, models, result),
        repeated_texts=reweighted(ws, folds, result.nested_predictions),
        candidates=[CandidateRecord.from_dataclass(c) for c in result.candidates],
        rules=describe_rules(result, competition.metric, competition.kind),
        calibration=describe_calibration(members, result),
        models={m.name: _single(ws, members, i, m, result) for i, m in enumerate(models)},
        positives=_positives(ws, members, result),
        features=describe_features(competition, text),
        folds=used,
        undefined=_undefined(competition, folds, result),
        drift=drifted_score(ws, folds, result, members.seed_variance),
        compared_on=COMPARED_ON,
    )


def _submitted(
    competition: Competition, members: Members, result: BlendResult
) -> EstimateRecord | None:
    found = ensemble.submission_estimate(
        members,
        competition.metric,
        result,
        wants_labels=competition.submission.wants_labels,
        seed=competition.settings.blend.seed,
    )
    return None if found is None else EstimateRecord.from_dataclass(found)


def _undefined(competition: Competition, folds: Folds, result: BlendResult) -> list[str] | None:
    """Return what of the metric is undefined, and why; None if all is defined."""
    sentences = scored_by(competition, folds).undefined
    if not sentences and np.isnan(result.nested.score):
        sentences = [f"{competition.metric.name} has no value for the nested predictions"]
    return sentences or None


def _scores_are(used: FoldsUsed) -> str:
    return f"pooled over the {used.rows:,} rows of {used}"


def _why_optimistic(ws: Workspace, models: list[Model], result: BlendResult) -> list[str]:
    of_all = [set(m.optimistic) for m in models]
    of_rows = [why for why in reasons_of_rows(ws, "all") if all(why in each for each in of_all)]
    of_models = {f"{m.name}: {why}" for m in models for why in m.optimistic if why not in of_rows}
    return [
        *of_rows,
        *sorted(of_models),
        *rule_reasons(result.family, list(result.winners_by_fold)),
    ]


def _hashes(competition: Competition, folds: Folds) -> BlendHashes:
    train, test = competition.train, competition.test
    return BlendHashes(
        folds=folds.hash,
        train=train.hash(),
        overlay=competition.overlay_hash,
        edits=competition.edits_hash,
        test=test.hash(),
        features=[train.features_hash(), test.features_hash()],
    )


def _test_mean(competition: Competition, models: list[Model], result: BlendResult) -> str:
    mean = f"of {competition.kind.predicted} over folds and seeds"
    if result.winner in OF_RANKS:
        mean += f", of ranks within each run for {result.winner}"
    return mean + (", as sharp as the out-of-fold ones" if _are_matched(models) else "")


def _costs(competition: Competition) -> list[list[float]] | None:
    costs = competition.metric.costs
    return costs and [list(row) for row in costs]


def read_stored(ws: Workspace, name: str) -> BlendRecord:
    """Return the record of a stored blend.

    Raises InputError if it does not exist, or was chosen by another metric or other costs.
    """
    record = ws.store.read_blend(name)
    if record is None:
        named = "" if name == "blend" else f" NAME={name}"
        raise InputError(
            f"oof/_blends/{name} does not exist: run `make blend{named}` first, or name a MODEL"
        )
    metric = ws.competition.metric.name
    if record.metric != metric:
        other = f"metric {record.metric}, not {metric}"
    elif record.costs != _costs(ws.competition):
        other = "other costs than competition.yaml has now"
    elif record.rule is not None and not record.rule.fits(len(ws.competition.outputs)):
        other = "another number of labels"
    else:
        return record
    raise InputError(f"blend '{name}' was made for {other}: run {blend_command(name)} again")


def blend_command(name: str) -> str:
    """Return the command that makes a blend of this name."""
    return "`make blend`" if name == "blend" else f"`make blend NAME={name}`"


def _are_matched(models: list[Model]) -> bool:
    return any(model.temperature != 1 for model in models)


def _single(
    ws: Workspace, members: Members, index: int, model: Model, result: BlendResult
) -> ModelEstimate:
    """Return the estimate of a model alone.

    result: that of the blend, which is the model itself if there is one fold.
    """
    if len(np.unique(members.folds)) == 1:
        return ModelEstimate(
            nested=EstimateRecord.from_dataclass(result.nested),
            in_sample=result.in_sample,
            optimistic=[
                *model.optimistic,
                *rule_reasons(result.family, list(result.winners_by_fold)),
            ],
        )
    of_model = dataclasses.replace(members, seed_variance=model.seed_variance)
    nested, in_sample = ensemble.single_estimate(
        of_model,
        index,
        ws.competition.metric,
        ws.competition.submission.wants_labels,
        ws.competition.settings.blend.seed,
        ws.competition.settings.blend.rules,
    )
    return ModelEstimate(
        nested=EstimateRecord.from_dataclass(nested),
        in_sample=in_sample,
        optimistic=model.optimistic,
    )


def reweighted(ws: Workspace, folds: Folds, nested: np.ndarray) -> RepeatedTexts | None:
    """Return the nested score, weighted to the test set's share of repeated texts.

    A training row is repeated if another training row has its text; its prediction comes from a run
    that saw neither.

    Args:
        nested: (n, outputs) predictions of the scored rows.

    Returns:
        None if no test text occurs in training.
    """
    competition = ws.competition
    _, test_in_train = competition.repeated_in_test
    if not test_in_train:
        return None
    share = test_in_train / len(competition.test)
    groups = competition.train.groups
    repeated = (np.bincount(groups)[groups] > 1)[folds.scored]
    found = float(repeated.mean())
    if not 0 < found < 1:
        return RepeatedTexts(test_share=share, train_share=found, score=None)
    weights = np.where(repeated, share / found, (1 - share) / (1 - found))
    targets = competition.train.targets[folds.scored]
    try:
        task = dataclasses.replace(competition.task, metric=scored_by(competition, folds).metric)
        score = task.score_probabilities(targets, nested, weights)
    except InputError:  # a user's metric without weights
        score = np.nan
    score = None if np.isnan(score) else score
    return RepeatedTexts(test_share=share, train_share=found, score=score)


def _positives(ws: Workspace, members: Members, result: BlendResult) -> dict[str, PositiveRates]:
    competition = ws.competition
    labels = competition.kind.has_labels and competition.submission.wants_labels
    if not labels or len(members.test_probabilities) < FEWEST:
        return {}  # rates are those of decisions, and of many rows
    test_mean = members.test_probabilities.mean(axis=1)
    oof, test = (
        _nested_decisions(members, result),
        _decided(members, result, result.test, test_mean, {result.winner}),
    )
    return positive_rates(competition.outputs, oof, test)


def positive_rates(
    outputs: Sequence[str], oof: np.ndarray, test: np.ndarray
) -> dict[str, PositiveRates]:
    """Return per label the rates of predicted positives on out-of-fold and test rows.

    Args:
        outputs: the labels.
        oof, test: (n, outputs) and (t, outputs) decisions of 0/1.
    """
    n, t = len(oof), len(test)
    out = {}
    for name, a, b in zip(outputs, oof.mean(axis=0), test.mean(axis=0), strict=True):
        pooled = (a * n + b * t) / (n + t)
        error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / t))
        parts = bool(abs(a - b) > 3 * error)
        out[name] = PositiveRates(oof=float(a), test=float(b), parts=parts)
    return out


# The stage


def blend(ws: Workspace, *, model: str | None = None, name: str | None = None) -> BlendRecord:
    """Blend the models' runs and store the result in oof/_blends/<name>/."""
    name = config.check_name(name or "blend", "name")
    names, others = choose_members(ws, model)
    made = make_blend(ws, names, command=blend_command(name).strip("`"))
    record = made.record.model_copy(update={"not_members": others or None})
    return ws.store.write_blend(name, record, lambda place: _fill(ws, made, place))


def _fill(ws: Workspace, made: Blend, place: Path) -> None:
    """Write a blend's predictions, fitted model and report into a folder."""
    competition, result, outputs = ws.competition, made.result, ws.competition.outputs
    for name, rows, values in (
        ("oof", made.scored, result.oof),
        ("test", competition.test, result.test),
        ("nested", made.scored, result.nested_predictions),
    ):
        write_parquet(place / f"{name}.parquet", rows, values, "identity", outputs)
    (place / "model").mkdir()
    result.fitted.save(place / "model")
    write_text(place / "labels.csv", made.report.to_csv())
    write_text(place / "labels.txt", format_report(made.report) + "\n")
    if result.calibrated is not None:
        curves = reliability_csv(made.members, result, competition.labels)
        write_text(place / "reliability.csv", curves)


def report(ws: Workspace, *, model: str | None = None, name: str | None = None) -> ReportRecord:
    """Return the scores per label on out-of-fold rows, by nested decisions."""
    if model and name:
        raise InputError("report takes MODEL= or the blend's NAME=, not both")
    return _report_of_models(ws, model) if model else _report_of_blend(ws, name or "blend")


def _report_of_models(ws: Workspace, model: str) -> ReportRecord:
    names = ws.choose_models(model)
    methods = None if len(names) > 1 else ()
    made = make_blend(ws, names, methods=methods, quiet=True, command="make report")
    return ReportRecord(
        of=", ".join(names),
        winner=made.record.winner,
        file=None,
        folds=made.record.folds,
        rows=report_rows(made.report),
        stale=[],
        optimistic=made.record.optimistic,
        undefined=made.record.undefined,
    )


def _report_of_blend(ws: Workspace, name: str) -> ReportRecord:
    record = read_stored(ws, name)
    shown, path = (ws.store.blend_file(name, record, f"labels.{form}") for form in ("txt", "csv"))
    stale, optimistic = Doubts.of(ws).of_blend(record)
    return ReportRecord(
        of=name,
        winner=record.winner,
        file=ws.store.name(shown),
        folds=record.folds,
        rows=report_rows(read_report(path)),
        stale=stale,
        optimistic=optimistic,
        undefined=record.undefined,
    )
