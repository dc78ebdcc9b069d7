"""Blends, reports of labels and submissions on the console."""

from __future__ import annotations

import math

from foldstack.progress import say, table
from foldstack.records import (
    BlendRecord,
    CandidateRecord,
    PatternsEffect,
    PositiveRates,
    RepeatedTexts,
    ReportRecord,
    RulesRecord,
    RuleTrial,
    SubmissionRecord,
    Submitted,
)
from foldstack.report import format_report
from foldstack.views.console import show
from foldstack.views.console.show_drift import say_drifted
from foldstack.views.console.text import (
    difference,
    interval,
    nested,
    number,
    say_marks,
    say_undefined,
)

DEFAULTS = {"multiclass": "the most probable class", "regression": "the nearest level"}


@show.register
def show_blend(blend: BlendRecord) -> None:
    """Print the candidates, the winner, its nested and in-sample scores, and rates of positives."""
    if nested(blend.folds):
        _say_candidates(blend)
    else:
        say(
            f"{blend.name}: {blend.winner} as it is, since one fold leaves nothing to choose by; "
            f"{blend.metric} {interval(blend.nested)}{_marked(blend)}; {blend.scores_are}"
        )
    for model, why in (blend.not_members or {}).items():
        say(
            f"{blend.name}: without {model}, which is not listed in competition.yaml and {why}: MODEL= "
            "names members"
        )
    say_undefined(blend.name, blend.undefined, blend.nested)
    _say_rules(blend.name, blend.kind, blend.rules)
    _say_calibration(blend)
    say_marks(blend.name, [], blend.optimistic)
    _say_repeated(blend.name, blend.repeated_texts)
    say_drifted(blend.name, blend.metric, blend.drift)
    _say_positives(blend.name, blend.positives)


@show.register
def show_report(report: ReportRecord) -> None:
    """Print the report of each label, and reasons that make it stale or optimistic."""
    rows = "out-of-fold rows" + (f" of {report.folds}" if report.folds else "")
    decisions = f"{nested(report.folds)}decisions"
    if report.file is None:
        say(f"{report.of}: {report.winner}, {rows}, {decisions}")
    else:
        say(f"{report.of}: {rows}, {decisions} ({report.file}, and .csv beside it)")
    say(format_report(report.frame.set_index(report.frame.columns[0])))
    name = "report" if report.file is None else report.of
    say_undefined(name, report.undefined)
    say_marks(name, report.stale, report.optimistic)


@show.register
def show_submission(submitted: Submitted) -> None:
    """Print what was submitted, and its estimated score."""
    submission = submitted.submission
    if submission.patterns is not None:
        _say_patterns(submission.patterns, submission.rows)
    source = submission.winner + (f" ({submission.folds})" if submission.folds else "")
    means = f"; test predictions are means {submission.test_mean}" if submission.test_mean else ""
    say(
        f"submit: {submitted.file}, {submission.rows:,} rows of {submission.holds} from {source}, "
        f"{nested(submission.folds)}{submission.metric} {interval(submission.nested)}"
        f"{_marked(submission)}{means}"
    )
    if submitted.sample_format is not None:
        say(
            f"submit: the sample is {submitted.sample_format}, and {submitted.file} is CSV: convert it "
            "if the competition asks for the sample's format"
        )
    say_undefined(submitted.name, submission.undefined, submission.nested)
    say_marks(submitted.name, [], submission.optimistic)
    if submission.note is not None:
        say(f"submit: {submission.note}")
    say_drifted(submitted.name, submission.metric, submission.drift)
    _say_positives(submitted.name, submission.positives)
    _say_what_to_believe(submission)
    if not submitted.metric_confirmed:
        say(
            f"submit: METRIC? {submission.metric} was guessed and never confirmed: compare it with the "
            "competition's page, then set another `metric`, or `metric_confirmed: true`, in "
            "competition.yaml"
        )


def _say_what_to_believe(submission: SubmissionRecord) -> None:
    """Print the one estimate of the submitted file, or why there is none."""
    found, drift = submission.submitted or submission.nested, submission.drift
    if math.isnan(found.score):
        return
    what = f"the expected {submission.metric} of this file is {interval(found)}"
    if submission.optimistic:
        say(f"submit: {what}, which is OPTIMISTIC for the reasons above: believe less")
        return
    why = "nested" if submission.submitted is None else "nested, and what the mean over runs gains"
    shift = "" if drift is None else "; the test file differs, see the weighted score above"
    say(f"submit: {what} (95 % interval; {why}){shift}")


def _marked(of: BlendRecord | SubmissionRecord) -> str:
    return " (OPTIMISTIC)" if of.optimistic else ""


def _say_candidates(blend: BlendRecord) -> None:
    """Print the candidates, the winner, its nested and in-sample scores, and their corrections."""
    header = ["candidate", "CV score", "difference from the best", "in-sample (optimistic)"]
    rows = [[c.name, *_score_cells(c, number(c.difference_to_best))] for c in blend.candidates]
    say(table(header, rows))
    defined = [each for each in blend.candidates if not math.isnan(each.nested)]
    if len(blend.candidates) > 1 and defined:
        say(
            "the best CV score of several is above what it scores on new rows; believe the nested one"
        )
    why = "the simplest within one standard error of the best"
    if len(blend.candidates) == 1:
        why = "the only candidate"
    if not defined:
        why = "the first, since no candidate has a score"
    in_sample = (
        "" if math.isnan(blend.in_sample) else f", in-sample {blend.in_sample:.4f} (optimistic)"
    )
    say(
        f"{blend.name}: chose {blend.winner}, {why}; nested {blend.metric} {interval(blend.nested)}"
        f"{in_sample}; {blend.scores_are}"
    )
    _say_corrections(blend)


def _say_corrections(blend: BlendRecord) -> None:
    """Print what was taken off the nested score, and the estimate of the mean over runs."""
    if blend.correction is not None and abs(blend.correction.optimism) >= 0.00005:
        say(
            f"{blend.name}: the nested score is corrected by {-blend.correction.optimism:+.4f} (larger "
            f"is better) for choosing among {len(blend.members)} models whose runs share training rows"
        )
    if blend.submitted is not None and not math.isnan(blend.submitted.score):
        over = "all folds" if blend.folds is None else str(blend.folds)
        say(
            f"{blend.name}: nested scores each row by the runs of one fold; the mean over {over}, "
            f"which is submitted, is expected to score {interval(blend.submitted)}"
        )


def _say_rules(name: str, kind: str, rules: RulesRecord | None) -> None:
    """Print the families of rules if there was a choice, and the gain over the default rule."""
    if rules is None:
        return
    if len(rules.tried) > 1:
        _say_tried(rules)
        by_fold = ", ".join(dict.fromkeys(rules.families_by_fold.values()))
        why = ""
        if rules.family == rules.reference:
            why = ", the metric's own, as no other is better by more than its standard error"
        say(f"{name}: decided by the rule '{rules.family}'{why} (without one fold: {by_fold})")
    default = DEFAULTS.get(kind, "thresholds of .5")
    if rules.may_miss_best and rules.family in ("fitted", "at_least_one"):
        say(f"{name}: the rule is found by a search that may miss the best one (a local optimum)")
    say(f"{name}: gain over {default} {difference(rules.gain_over_default)}, nested")


def _say_tried(rules: RulesRecord) -> None:
    lines = [
        [r.family, *_score_cells(r, number(round(r.gain, 4) + 0.0, "+.4f"))] for r in rules.tried
    ]
    zero = (r.family for r in rules.tried if r.standard_error == r.gain == 0)  # of older records
    own = rules.reference or next(zero, "default")
    header = ["decision rule", "CV score", f"better than {own}", "in-sample (optimistic)"]
    say(table(header, lines))


def _score_cells(of: CandidateRecord | RuleTrial, compared: str) -> list[str]:
    """Return the cells of CV score, comparison with its standard error, and in-sample score."""
    if not math.isnan(of.standard_error):
        compared += f" ± {of.standard_error:.4f}"
    return [number(of.nested), compared, number(of.in_sample)]


def _say_calibration(blend: BlendRecord) -> None:
    """Print how reliable the probabilities are before and after calibration, if any took part."""
    from foldstack.ensemble.reliability import BINS  # slow to import

    for scores in blend.calibration or ():
        say(
            f"{blend.name}: reliability of {scores.candidate}, nested: log loss "
            f"{scores.log_loss:.4f}, Brier {scores.brier:.4f}, ECE {scores.ece:.4f} in {BINS} bins of "
            f"equally many rows, {scores.ece_width:.4f} of equal width"
        )


def _say_repeated(name: str, repeated: RepeatedTexts | None) -> None:
    if repeated is not None and repeated.score is not None:
        say(
            f"{name}: {repeated.test_share:.1%} of the test texts stand in train; with the rows "
            f"weighted to that share of repeated texts the nested score is {repeated.score:.4f}"
        )


def _say_positives(name: str, rates: dict[str, PositiveRates]) -> None:
    """Print how often each label is decided on OOF and test rows; of many labels, those that differ."""
    if 0 < len(rates) <= 8:
        shown = ", ".join(f"'{k}' {v.oof:.1%} / {v.test:.1%}" for k, v in rates.items())
        say(f"{name}: predicted, OOF / test rows: {shown}")
    for label, rate in rates.items():
        if rate.parts:
            say(
                f"warning: '{label}' is predicted in {rate.oof:.1%} of the OOF rows but "
                f"{rate.test:.1%} of the test rows, more than chance explains"
            )


def _say_patterns(patterns: PatternsEffect, test_rows: int) -> None:
    """Print the estimate without and with the patterns, and what they decide of the test rows."""
    shown = ", ".join(f"{name} {count:,}" for name, count in patterns.test.items()) or "none"
    say(
        f"submit: {patterns.file} ({patterns.mode}) decides of the {test_rows:,} test rows: {shown}; "
        f"nested without it {interval(patterns.nested_without)}, better by "
        f"{difference(patterns.better_by)} with it"
    )
    cached = sum(patterns.test.get(name, 0) for name in patterns.cached)
    if cached:
        say(f"submit: the estimate skips cached texts, which decide {cached:,} of the test rows")
