"""The end of the local page on the console."""

from __future__ import annotations

from foldstack.progress import say
from foldstack.records import ServedApp
from foldstack.views.console import show


@show.register
def _(found: ServedApp) -> None:
    texts = "1 text" if found.texts == 1 else f"{found.texts:,} texts"
    files = "1 file" if found.files == 1 else f"{found.files:,} files"
    say(f"app: stopped after {texts} and {files}")
