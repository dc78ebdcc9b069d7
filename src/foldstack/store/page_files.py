"""The pages, submissions/NAME.html: each beside the submission of the blend that it shows."""

from __future__ import annotations

from pathlib import Path

from foldstack import config
from foldstack.files import write_text
from foldstack.store.part import StorePart

MADE = "<!doctype html>\n<!-- a page of foldstack -->\n"  # how every page begins


class PageFiles(StorePart):
    """The pages of one workspace."""

    def page_path(self, name: str) -> Path:
        return self.root / "submissions" / f"{config.check_name(name, 'name')}.html"

    def is_page(self, path: Path) -> bool:
        """Return whether `write_page` wrote this file."""
        with path.open("rb") as f:
            return f.read(len(MADE)) == MADE.encode()

    def write_page(self, name: str, html: str) -> Path:
        """Write a blend's page.

        Raises InputError if another file has its place.
        """
        path = self.page_path(name)
        self._refuse_foreign(path, self.is_page, "page")
        write_text(path, MADE + html)
        return path
