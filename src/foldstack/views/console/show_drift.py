"""How the test file differs from the training file, on the console."""

from __future__ import annotations

from foldstack.progress import say
from foldstack.records import DriftedScore, DriftRecord, DriftResult, SharedRecord
from foldstack.views.console import show
from foldstack.views.console.text import interval


@show.register
def show_drift(result: DriftResult) -> None:
    """Print the AUC, what gives test rows away, and where the rows are."""
    found = result.drift
    if not result.made:
        say(f"drift: nothing to do, {result.file} is of these files")
    say_drift("drift", found)
    if found.compared < found.train_rows + found.test_rows:
        say(f"drift: by {found.compared:,} of the {found.train_rows + found.test_rows:,} rows")
    if result.pool is not None:
        say(
            f"drift: a linear model tells test rows from the {result.pool_rows:,} pool rows with AUC "
            f"{interval(result.pool)} (.5 is chance)"
        )
    say(f"drift: {result.file} has the training rows, those most like the test file first")


def say_drift(name: str, found: DriftRecord) -> None:
    """Print one line, and one for each reason if the files differ."""
    of = f"a linear model tells test rows from training rows with AUC {interval(found.auc)}"
    if not found.claimed:
        say(f"{name}: the test file looks like the training file: {of} (.5 is chance)")
        return
    say(
        f"{name}: the test file DIFFERS from the training file: {of}; weighted to the test file, the "
        f"{found.train_rows:,} training rows count as {found.effective_rows:,.0f}"
    )
    for reason in found.reasons:
        say(f"{name}: {reason.text}")


def say_drifted(name: str, metric: str, drift: DriftedScore | None) -> None:
    """Print the score weighted to the test file, and by what that differs."""
    if drift is None:
        return
    if drift.nested is None:
        why = "" if drift.why is None else f" ({drift.why})"
        score = f"no weighted {metric} can be given{why}"
    else:
        score = f"weighted to the test file the nested {metric} is {interval(drift.nested)}"
    say(
        f"{name}: the test file DIFFERS from the training file (AUC {interval(drift.auc)}): {score}, "
        f"from {drift.rows:,} rows that count as {drift.effective_rows:,.0f}"
    )
    if drift.reasons:
        say(f"{name}: it differs in this: {'; '.join(drift.reasons)}")


def say_shared(shared: SharedRecord, connected: bool) -> None:
    """Print a warning if folds share more, or less, than the test file shares with training."""
    if not shared.differs:
        return
    rows = "pairs" if shared.what == "sentence" else "rows"
    high = shared.held_out > shared.test
    advice = {
        ("sentence", True): "; set folds.connected: true to keep pairs that share one in one fold",
        ("segment", True): "; set folds.connected: true to keep rows that share one in one fold",
        ("sentence", False): "; set folds.connected: false" if connected else "",
        ("segment", False): "; set folds.connected: false" if connected else "",
        ("group", False): "; without `group` in competition.yaml folds share groups, too",
    }.get((shared.what, high), "")
    say(
        f"warning: {shared.held_out:.1%} of the training {rows} share a {shared.what} with other folds, "
        f"but {shared.test:.1%} of the test {rows} share one with the training file: the estimate is "
        f"too {'high' if high else 'low'} if a known {shared.what} helps{advice}"
    )
