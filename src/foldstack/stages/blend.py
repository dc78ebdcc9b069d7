"""Stage: from runs to a blend, or one model alone, with an estimate one can believe."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foldstack import config, ensemble
from foldstack.competition import Competition
from foldstack.ensemble import OF_RANKS, STACKS, BlendOptions, BlendResult, Members
from foldstack.errors import InputError
from foldstack.files import write_text
from foldstack.progress import Progress, say, table
from foldstack.report import format_report, label_report, target_report
from foldstack.rows import Rows
from foldstack.stages.choices import (
    describe_calibration,
    describe_rules,
    reliability_csv,
    say_calibration,
    say_rules,
)
from foldstack.stages.dependencies import Doubts, external_reasons, say_marks
from foldstack.stages.features import describe_features, stack_features
from foldstack.stages.oof import Model, match_sharpness, read_model
from foldstack.store import Folds, write_parquet
from foldstack.workspace import Workspace

VALUES = {"regression": "values"}  # what a mean over runs is taken of, where not of probabilities


@dataclass(frozen=True)
class Blend:
    """What a submission is made from: the members' result and all that must be said with it."""

    result: BlendResult
    info: dict
    members: Members
    scored: Rows
    report: pd.DataFrame


def choose_members(ws: Workspace, text: str | None) -> list[str]:
    """`all` or nothing: the listed models and every variant with runs; else those named."""
    if text not in (None, "", "all"):
        return ws.choose_models(text)
    stored = {key.model for key in ws.store.runs() if len(key.left_out) == 1}
    if not stored:
        raise InputError("oof/ holds no runs to blend: run `make train` first")
    return [*ws.listed, *sorted(stored - set(ws.listed))]


def make_blend(
    ws: Workspace, names: list[str], *, methods: tuple[str, ...] | None = None, quiet: bool = False
) -> Blend:
    """Read the models, choose and fit a blend, estimate it nested; nothing is written.

    methods: instead of the settings'; with none of them a single model stays as it is.
    """
    competition, settings = ws.competition, ws.competition.settings.blend
    methods = settings.methods if methods is None else methods
    calibration = settings.calibration if methods else "none"
    wants_labels = competition.submission.wants_labels
    folds = ws.store.read_folds(competition.train)
    train = competition.train.take(folds.scored)
    models = [read_model(ws, name, folds) for name in names]
    text = settings.text_features and any(method in STACKS for method in methods)
    members = Members(
        names=names,
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
    )
    candidates = ensemble.list_candidates(
        names,
        competition.metric,
        methods,
        kind=competition.kind,
        features=members.features is not None,
        calibration=calibration,
    )
    total = ensemble.count_fits(len(np.unique(members.folds)), len(candidates))
    with Progress("blending", total, "fits") as progress:
        result = ensemble.blend(
            members,
            competition.metric,
            wants_labels=wants_labels,
            seed=settings.seed,
            methods=methods,
            options=BlendOptions(
                bags=settings.bags,
                negative=settings.negative,
                power=settings.power,
                stack_inputs=settings.stack_inputs,
                stack_monotone=settings.stack_monotone,
                threads=competition.settings.runtime.threads,
            ),
            rules=settings.rules,
            calibration=calibration,
            progress=None if quiet else progress.add,
        )
    if settings.match_sharpness and _rests_on_sharpness(members, result):
        models = [match_sharpness(ws, model, folds) for model in models]
        tests = np.stack([m.test for m in models], axis=1)
        members = dataclasses.replace(members, test_probabilities=tests)
        result = result.predicting(members.test_inputs)
    info = _describe(ws, models, folds, members, result)
    info["features"] = describe_features(competition, text)
    return Blend(result, info, members, train, _report(ws, members, result))


def _rests_on_sharpness(members: Members, result: BlendResult) -> bool:
    """Whether something learned how sharp the out-of-fold predictions are: a rule, or whatever is no
    mean of them.
    """
    if members.kind == "regression":
        return False
    plain = ensemble.default_rule(members.kind, members.targets.shape[1])
    is_mean = "weights" in result.parameters or "power" in result.parameters
    return result.rule not in (None, plain) or not is_mean


def _decided(
    members: Members, result: BlendResult, values: np.ndarray, mean: np.ndarray, winners: set[str]
) -> np.ndarray:
    """(n, outputs) of 0/1; ranks say nothing of .5, so there the mean probability decides."""
    rule = result.rule or ensemble.default_rule(members.kind, members.targets.shape[1])
    return rule.apply(mean if OF_RANKS & winners else values)


def _nested_decisions(members: Members, result: BlendResult) -> np.ndarray:
    if result.rule is not None:
        return result.nested_predictions
    winners = set(result.winners_by_fold.values())  # one of ranks makes ranks of all
    return _decided(members, result, result.oof, members.probabilities.mean(axis=1), winners)


def _report(ws: Workspace, members: Members, result: BlendResult) -> pd.DataFrame:
    """A line for each label, or each regression target, over the out-of-fold rows."""
    competition = ws.competition
    if competition.kind == "regression":
        return target_report(members.targets, result.oof, competition.outputs)
    decisions = _nested_decisions(members, result)
    return label_report(members.targets, decisions, competition.labels, competition.kind)


def _describe(
    ws: Workspace, models: list[Model], folds: Folds, members: Members, result: BlendResult
) -> dict:
    """All of a blend but its arrays, as JSON."""
    competition = ws.competition
    train, test = competition.train, competition.test
    of_rows = external_reasons(ws)  # of all models alike
    optimistic = sorted(
        {f"{m.name}: {why}" for m in models for why in m.optimistic if why not in of_rows}
    )
    optimistic = [*of_rows, *optimistic]
    return {
        "kind": competition.kind,
        **_scored_by(competition),
        "scores_are": "pooled over all rows",
        "test_mean": f"of {VALUES.get(competition.kind, 'probabilities')} over folds and seeds"
        + (f", of ranks within each run for {result.winner}" if result.winner in OF_RANKS else "")
        + (", as sharp as the out-of-fold ones" if _are_matched(models) else ""),
        "sharpness": {m.name: m.sharpness for m in models} if _are_matched(models) else {},
        "members": {m.name: m.runs for m in models},
        "settings": competition.settings.blend.model_dump(mode="json"),
        "hashes": {
            "folds": folds.hash,
            "train": train.hash(),
            "overlay": competition.overlay_hash,
            "test": test.hash(),
            "features": [train.features_hash(), test.features_hash()],
        },
        "winner": result.winner,
        "winners_by_fold": result.winners_by_fold,
        "parameters": result.parameters,
        "rule": None if result.rule is None else result.rule.to_json(),
        "nested": dataclasses.asdict(result.nested),
        "in_sample": result.in_sample,
        "seed_variance": members.seed_variance,
        "optimistic": optimistic,
        "repeated_texts": reweighted(ws, folds, result.nested_predictions),
        "candidates": [dataclasses.asdict(c) for c in result.candidates],
        "rules": describe_rules(result),
        "calibration": describe_calibration(members, result),
        "models": {m.name: _single(ws, members, i, m) for i, m in enumerate(models)},
        "positives": _positives(ws, members, result),
    }


def _scored_by(competition: Competition) -> dict:
    """What all of a blend's scores are by, and so what it chose."""
    metric = competition.metric
    return {"metric": metric.name, "costs": metric.costs and [list(row) for row in metric.costs]}


def read_stored(ws: Workspace, name: str) -> dict:
    """What a stored blend says of itself.

    Raises InputError where there is none, or it was chosen by another metric, or costs, than today's.
    """
    info = ws.store.read_blend(name)
    if info is None:
        named = "" if name == "blend" else f" NAME={name}"
        raise InputError(
            f"oof/_blends/{name} does not exist: run `make blend{named}` first, or name a MODEL"
        )
    today = _scored_by(ws.competition)
    if info["metric"] != today["metric"]:
        other = f"metric {info['metric']}, not {today['metric']}"
    elif info.get("costs") != today["costs"]:
        other = "other costs than competition.yaml has now"
    else:
        return info
    raise InputError(f"blend '{name}' was made for {other}: run {blend_command(name)} again")


def blend_command(name: str) -> str:
    """What makes a blend of this name."""
    return "`make blend`" if name == "blend" else f"`make blend NAME={name}`"


def _are_matched(models: list[Model]) -> bool:
    return any(model.sharpness != 1 for model in models)


def _single(ws: Workspace, members: Members, index: int, model: Model) -> dict:
    of_model = dataclasses.replace(members, seed_variance=model.seed_variance)
    nested, in_sample = ensemble.single_estimate(
        of_model,
        index,
        ws.competition.metric,
        ws.competition.submission.wants_labels,
        ws.competition.settings.blend.seed,
        ws.competition.settings.blend.rules,
    )
    return {
        "nested": dataclasses.asdict(nested),
        "in_sample": in_sample,
        "optimistic": model.optimistic,
    }


def reweighted(ws: Workspace, folds: Folds, nested: np.ndarray) -> dict | None:
    """The score of nested predictions, weighted to the test set's share of repeated texts.

    nested: (n, outputs) of the scored rows.

    A training row counts as repeated where its text stands in training a second time; its own
    prediction comes from a run that did not see it, so nothing is credited to remembering.
    None where no test text stands in training.
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
        return {"test_share": share, "train_share": found, "score": None}
    weights = np.where(repeated, share / found, (1 - share) / (1 - found))
    targets = competition.train.targets[folds.scored]
    try:
        score = competition.task.score_probabilities(targets, nested, weights)
    except InputError:  # a user's metric that takes no weights
        score = None
    return {"test_share": share, "train_share": found, "score": score}


def _positives(ws: Workspace, members: Members, result: BlendResult) -> dict[str, dict]:
    competition = ws.competition
    if competition.kind == "regression":
        return {}
    test_mean = members.test_probabilities.mean(axis=1)
    oof, test = (
        _nested_decisions(members, result),
        _decided(members, result, result.test, test_mean, {result.winner}),
    )
    return positive_rates(competition.outputs, oof, test)


def positive_rates(outputs: Sequence[str], oof: np.ndarray, test: np.ndarray) -> dict[str, dict]:
    """Per label: the rate decided positive on OOF rows and on test, and whether they part.

    oof, test: (n, outputs) and (t, outputs) decisions of 0/1.
    """
    n, t = len(oof), len(test)
    out = {}
    for name, a, b in zip(outputs, oof.mean(axis=0), test.mean(axis=0), strict=True):
        pooled = (a * n + b * t) / (n + t)
        error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / t))
        out[name] = {"oof": float(a), "test": float(b), "parts": bool(abs(a - b) > 3 * error)}
    return out


# The stage


def blend(ws: Workspace, *, model: str | None = None, name: str | None = None) -> None:
    """Blend the models' runs and keep the result in oof/_blends/<name>/."""
    name = config.check_name(name or "blend", "name")
    made = make_blend(ws, choose_members(ws, model))
    competition, result = ws.competition, made.result
    with ws.store.writing_blend(name, made.info) as place:
        write_parquet(
            place / "oof.parquet", made.scored, result.oof, "identity", competition.outputs
        )
        write_parquet(
            place / "test.parquet", competition.test, result.test, "identity", competition.outputs
        )
        nested = result.nested_predictions
        write_parquet(
            place / "nested.parquet", made.scored, nested, "identity", competition.outputs
        )
        (place / "model").mkdir()
        result.fitted.save(place / "model")
        write_text(place / "labels.csv", made.report.to_csv())
        write_text(place / "labels.txt", format_report(made.report) + "\n")
        if result.calibrated is not None:
            write_text(
                place / "reliability.csv", reliability_csv(made.members, result, competition.labels)
            )
    say_blend(name, made.info)


def report(ws: Workspace, *, model: str | None = None, name: str | None = None) -> None:
    """Show how each label does on out-of-fold rows, by decisions that were not fitted on them."""
    if model:
        names = ws.choose_models(model)
        made = make_blend(ws, names, methods=None if len(names) > 1 else (), quiet=True)
        say(f"{', '.join(names)}: {made.info['winner']}, out-of-fold rows, nested decisions")
        say(format_report(made.report))
        say_marks("report", [], made.info["optimistic"])
        return
    name = name or "blend"
    info = read_stored(ws, name)
    path, marks = ws.store.blend_file(name, info, "labels.txt"), Doubts.of(ws).of_blend(info)
    say(f"{name}: out-of-fold rows, nested decisions ({ws.store.name(path)}, and .csv beside it)")
    say(path.read_text(encoding="utf-8").rstrip("\n"))
    say_marks(name, *marks)


def say_blend(name: str, info: dict) -> None:
    """The candidates, the winner, its honest and its optimistic score, the rates of positives."""
    rows = [
        [
            c["name"],
            f"{c['nested']:.4f}",
            f"{c['difference_to_best']:.4f} ± {c['standard_error']:.4f}",
            f"{c['in_sample']:.4f}",
        ]
        for c in info["candidates"]
    ]
    say(table(["candidate", "left-out score", "behind the best", "in-sample (optimistic)"], rows))
    say(
        f"{name}: chose {info['winner']}, the simplest within one standard error of the best; nested "
        f"{info['metric']} {interval(info['nested'])}, in-sample {info['in_sample']:.4f} (optimistic); "
        f"{info['scores_are']}"
    )
    say_rules(name, info)
    say_calibration(name, info)
    say_marks(name, [], info["optimistic"])
    repeated = info["repeated_texts"]
    if repeated and repeated["score"] is not None:
        say(
            f"{name}: {repeated['test_share']:.1%} of the test texts stand in train; with the rows "
            f"weighted to that share of repeated texts the nested score is {repeated['score']:.4f}"
        )
    say_positives(name, info)


def say_positives(name: str, info: dict) -> None:
    """Rates decided positive on OOF and test, a line or, for many labels, those that part."""
    rates = info["positives"]
    if 0 < len(rates) <= 8:
        shown = ", ".join(f"'{k}' {v['oof']:.1%} / {v['test']:.1%}" for k, v in rates.items())
        say(f"{name}: rate decided positive, OOF / test: {shown}")
    for label, rate in rates.items():
        if rate["parts"]:
            say(
                f"warning: '{label}' is decided positive in {rate['oof']:.1%} of the OOF rows but "
                f"{rate['test']:.1%} of the test rows, more than chance explains"
            )


def interval(nested: dict) -> str:
    return f"{nested['score']:.4f} [{nested['low']:.4f}, {nested['high']:.4f}]"
