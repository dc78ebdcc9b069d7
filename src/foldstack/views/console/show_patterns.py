"""The audit of patterns on the console."""

from __future__ import annotations

from foldstack.progress import say
from foldstack.records import AuditedPatterns
from foldstack.views.console import show
from foldstack.views.console.text import interval, say_marks


@show.register
def show_patterns(audited: AuditedPatterns) -> None:
    """Print a line per rule, and the estimate with and without them."""
    audit = audited.audit
    say(f"patterns: {audit.file} ({audit.mode}) over {audit.of}, {audited.rows:,} out-of-fold rows")
    say(audited.text)
    if audit.cached:
        say(
            "patterns: * optimistic: these rows are the training rows with a cached text, whose label "
            "may be their own; the estimate skips cached texts, test rows and new texts do not"
        )
    say(
        f"patterns: nested {audit.metric} {interval(audit.nested)} with them, "
        f"{interval(audit.nested_without)} without"
    )
    say_marks("patterns", [], audit.optimistic)
    say(f"patterns: {audited.files}.json and .txt hold this")
