"""The three tables with the overrides, and the settings guessed from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from foldstack.errors import InputError, nearest
from foldstack.kinds import Kind

OVERRIDES = ("metric", "kind", "id", "text", "target", "pair", "group", "unlabelled")


@dataclass
class Guess:
    """Settings for competition.yaml, and why: (setting, value, sentence) in the order of guessing.

    A reason whose value is None is about a column that no setting names. `examples` are settings that
    the data suggests and the user may decide. `proposals` are questions that the files do not answer
    and that change scores: (setting, value, sentence). `symmetric` are two columns of which neither
    comes first.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    reasons: list[tuple[str, Any, str]] = field(default_factory=list)
    examples: dict[str, Any] = field(default_factory=dict)
    proposals: list[tuple[str, Any, str]] = field(default_factory=list)
    symmetric: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        return Kind(self.settings["kind"])

    def set(self, setting: str, value: Any, reason: str) -> None:
        self.settings[setting] = value
        self.reasons.append((setting, value, reason))

    def propose(self, setting: str, value: Any, sentence: str) -> None:
        self.proposals.append((setting, value, sentence))

    def unused(self, column: str, why: str) -> None:
        self.reasons.append((column, None, f"not used: {why}"))

    def unused_time(self, column: str) -> None:
        self.examples.setdefault("time", column)
        self.unused(
            column, f"it holds dates; `time: {column}` with `folds.kind: time` sorts by them"
        )


@dataclass
class GivenTables:
    """The three tables and the overrides; columns are assigned one after the other.

    of_files: further arguments of `init`, to be repeated. made_sample: there is no sample, and the
    table is one that `init` made.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    sample: pd.DataFrame
    given: dict[str, str]
    id: str = ""
    of_files: Mapping[str, str] = field(default_factory=dict)
    made_sample: bool = False

    @cached_property
    def sample_columns(self) -> list[str]:
        return [c for c in self.sample.columns if c != self.id]

    @cached_property
    def train_only(self) -> list[str]:
        return [c for c in self.train.columns if c != self.id and c not in self.test.columns]

    @cached_property
    def shared(self) -> list[str]:
        return [c for c in self.train.columns if c != self.id and c in self.test.columns]

    def again(self, **more: str) -> str:
        """Return the arguments that repeat the overrides given, with these besides."""
        options = self.of_files | self.given | more | {"force": "1"}
        return " ".join(f"{k.upper()}={v}" for k, v in options.items())

    def columns(self, what: str) -> tuple[str, ...]:
        """Return the train columns that an override names: one whole name, or a comma list."""
        text = self.given[what]
        names = [text] if text in self.train.columns else [part.strip() for part in text.split(",")]
        for name in names:
            if name not in self.train.columns:
                raise InputError(
                    f"{what.upper()}={text}: train has no column '{name}' "
                    f"({nearest(name, self.train.columns)})"
                )
        return tuple(dict.fromkeys(names))
