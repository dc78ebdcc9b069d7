"""The written page on the console."""

from __future__ import annotations

from foldstack.progress import say
from foldstack.records import WrittenPage
from foldstack.views.console import show


@show.register
def _(found: WrittenPage) -> None:
    size = found.bytes / 1_000_000
    say(f"page: {found.file}, {size:.2f} MB: open it in a browser")
    for remark in found.page.remarks:
        say(f"page: {remark}")
