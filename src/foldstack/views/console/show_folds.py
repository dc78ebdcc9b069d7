"""The folds on the console: notable rows, and a table with one row per fold."""

from __future__ import annotations

from typing import Any

from foldstack.edits import counted
from foldstack.errors import first_of
from foldstack.kinds import Kind
from foldstack.progress import say, table
from foldstack.records import SHOWN_LABELS, FoldsResult, LoneLabel, ThroughputRecord
from foldstack.views.console import show
from foldstack.views.console.show_drift import say_drift, say_shared
from foldstack.views.console.show_places import say_read


@show.register
def _(result: FoldsResult) -> None:
    record, how = result.record, _how(result)
    if result.edits is not None:
        say(f"folds: edits, which training alone reads: {counted(result.edits)}")
    if not result.made:
        say(f"folds: nothing to do, {result.file} holds these folds ({how}, hash {record.hash})")
        return
    if result.unlabelled:
        rows = "1 row has" if result.unlabelled == 1 else f"{result.unlabelled:,} rows have"
        say(f"folds: {rows} no label and stand in no fold (`unlabelled` in competition.yaml)")
    for remark in result.remarks:
        say(f"warning: {remark}")
    say_read("folds", result.files)
    _say_repeats(result)
    lone = {label.of for label in result.lone}
    for rare in (each for each in result.rare if f"with '{each.label}'" not in lone):
        folds = result.count // record.settings["repeats"]
        say(
            f"warning: label '{rare.label}' has {rare.rows} rows, fewer than the {folds} folds: some "
            "folds have none to score"
        )
    _say_lone(result.lone)
    _say_table(result)
    if result.labels > SHOWN_LABELS and record.balance:
        _say_balance(result)
    for shared in result.shared:
        say_shared(shared, record.settings.get("connected", False))
    if result.drift is not None:
        say_drift("folds", result.drift)
    if result.stale:
        say(
            f"stale now: {len(result.stale)} runs made with other folds, {first_of(result.stale)}; "
            "train them again with --force (FORCE=1)"
        )
    rows = ", ".join(str(row["rows"]) for row in result.rows)
    if result.throughput is not None:
        _say_throughput(result.throughput)
    say(f"folds: {how}, hash {record.hash}, rows {rows}")


def _say_throughput(found: ThroughputRecord) -> None:
    """Print the threads per run, which the runs' bytes depend on, and how many runs are made at once."""
    threads = found.given or found.threads
    machine = f"{found.cores} core{'s' * (found.cores != 1)}{' and a GPU' * found.gpu}"
    each = (
        f"{threads} thread{'s' * (threads != 1)} per run{' (runtime.threads)' * bool(found.given)}"
    )
    runs = f"{found.runs:,} run{'s' * (found.runs != 1)}"
    say(f"folds: {machine}, {runs}: {each}; {found.at_once} at once")


def _say_lone(lone: list[LoneLabel]) -> None:
    """Print a warning for labels whose rows stand in one fold; of many, the first."""
    for label in lone[:SHOWN_LABELS]:
        say(
            f"warning: {label.stand}: its run learns none of them, and no other is scored on one; a "
            "score that requires both is undefined"
        )
    if len(lone) > SHOWN_LABELS:
        say(f"warning: and so for {len(lone) - SHOWN_LABELS:,} more")


def _how(result: FoldsResult) -> str:
    """Return how the folds were made, as part of a sentence."""
    settings = result.record.settings
    if settings["file"]:
        return f"{result.count} given by input/{settings['file']}"
    if settings["kind"] == "time":
        return f"{settings['count']} in time order, {result.unscored:,} rows before the first"
    repeats = f"{settings['repeats']} x " if settings["repeats"] > 1 else ""
    return f"{repeats}{settings['count']} {settings['kind']}, seed {settings['seed']}"


def _kept(settings: dict[str, Any]) -> str:
    if settings["file"]:
        return "wherever the given folds have them"
    if not settings["dedupe"]:
        return "which may CROSS FOLDS (dedupe=false)"
    if settings["kind"] == "time":
        return "never on both sides of a run"
    return "each kept in one fold"


def _say_repeats(result: FoldsResult) -> None:
    record, settings = result.record, result.record.settings
    if record.repeated_rows:
        say(
            f"folds: {record.repeated_rows:,} rows repeat another's text or group, {_kept(settings)}"
        )
    if record.parted_groups:
        say(
            f"warning: input/{settings['file']} parts {record.parted_groups:,} groups of rows that "
            "share a text or a group: runs that have one on both sides are marked optimistic"
        )
    if record.near is not None:
        _say_near(record.near, settings)
    if record.contradicting_texts:
        texts = "1 text carries" if record.contradicting_texts == 1 else None
        texts = texts or f"{record.contradicting_texts:,} texts carry"
        say(f"folds: {texts} contradicting labels, in {record.contradicting_rows:,} rows")
    if record.test_rows_in_train:
        say(
            f"folds: {record.test_rows_in_train:,} of {result.test_rows:,} test texts stand in train "
            f"({record.train_rows_in_test:,} rows there)"
        )


def _say_near(near: dict[str, int], settings: dict[str, Any]) -> None:
    measure = "cosine" if settings.get("near_by") == "meaning" else "Jaccard similarity"
    say(
        f"folds: {near['rows']:,} rows are near-duplicates ({measure} of "
        f"{settings['near']:g} or more) in {near['groups']:,} groups of up to {near['largest']:,}, "
        f"{_kept(settings)}"
    )
    if near["refused"]:
        say(
            f"warning: {near['refused']:,} pairs of near-duplicates were not joined, since their "
            f"group would exceed {settings['near_cap']} rows (folds.near_cap): they may cross folds"
        )
    if near["large_buckets"]:
        say(
            f"folds: very similar texts, up to {near['largest_bucket']:,} in a MinHash bucket, "
            "were compared with some of the others only"
        )


def _say_table(result: FoldsResult) -> None:
    columns = list(result.rows[0])
    if result.labels > SHOWN_LABELS:
        columns = columns[:3]
    form = "{:.4g}" if Kind(result.kind).is_values else "{:.1%}"
    cells = [
        [str(row[c]) for c in columns[:3]] + [form.format(row[c]) for c in columns[3:]]
        for row in result.rows
    ]
    say(table([f"'{c[6:]}'" if c.startswith("label ") else c for c in columns], cells))


def _say_balance(result: FoldsResult) -> None:
    """Print LD, ED, and the names of labels that are most uneven or absent from a fold."""
    worst = max(result.record.balance, key=lambda b: (b.labels, b.examples, b.missing))
    say(
        f"folds: {result.labels} labels, balance LD {worst.labels:.3g}, ED {worst.examples:.3g} rows "
        "(Sechidis et al. 2011; 0 is even)"
    )
    spread = ", ".join(f"'{each.label}' {each.low} to {each.high}" for each in result.uneven)
    say(f"folds: most uneven, rows per fold: {spread}")
    if result.absent:
        absent = first_of([f"'{label}'" for label in result.absent])
        say(f"folds: {len(result.absent)} labels are absent from some fold: {absent}")
