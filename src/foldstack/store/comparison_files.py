"""The folder oof/_comparisons/: paired differences of models from a baseline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from foldstack import config
from foldstack.config import digest
from foldstack.records import Comparison, read_record, write_record
from foldstack.store.part import StorePart

LONGEST_COMPARISON = 200  # characters of a file name


class ComparisonFiles(StorePart):
    """The comparisons of one workspace."""

    @property
    def comparisons_dir(self) -> Path:
        return self.root / "oof" / "_comparisons"

    def comparison_path(self, baseline: str, others: Sequence[str]) -> Path:
        """Return the path of a comparison, named by a digest if the names are too long or ambiguous."""
        of = "+".join(config.check_name(name, "model") for name in others)
        name = f"{config.check_name(baseline, 'model')}-vs-{of}"
        ambiguous = len(re.findall("(?=-vs-)", name)) > 1  # models may have -vs- in their names
        if ambiguous or len(name) > LONGEST_COMPARISON:
            name = f"vs-{digest([baseline, *others])}"
        return self.comparisons_dir / f"{name}.json"

    def is_comparison(self, path: Path) -> bool:
        """Return whether `write_comparison` wrote this file and nobody has changed it."""
        return path.suffix == ".json" and self._is_record(path, Comparison)

    def refuse_foreign_comparison(self, baseline: str, others: Sequence[str]) -> None:
        """Raise InputError if `write_comparison` would overwrite a file that it did not write."""
        path = self.comparison_path(baseline, others)
        self._refuse_foreign(path, self.is_comparison, "compare")

    def write_comparison(self, comparison: Comparison) -> Path:
        others = [each.model for each in comparison.rows]
        self.refuse_foreign_comparison(comparison.baseline, others)
        path = self.comparison_path(comparison.baseline, others)
        write_record(path, comparison.to_json())
        return path

    def comparisons(self) -> list[Comparison]:
        """Return all stored comparisons, sorted by file name."""
        paths = sorted(self.comparisons_dir.glob("*.json"))
        return [self.read_comparison(path) for path in paths]

    def read_comparison(self, path: Path) -> Comparison:
        return read_record(
            path, Comparison, self.name(path), "remove it and run `make compare` again"
        )
