"""Patterns with the labelled texts that they look up: what decides a row that no run learned from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import regex

from foldstack.files import write_text
from foldstack.kinds import Kind
from foldstack.meaning import Meaning
from foldstack.patterns.nearest import Neighbours, TextsOfRows, index_by
from foldstack.patterns.rule_settings import NearestSettings
from foldstack.patterns.rules import Applied, CompiledRule, Patterns

FILE, MEANING, VECTORS = "patterns.json", "meaning", "vectors.npy"


@dataclass(frozen=True)
class FittedPatterns:
    """Patterns and the training rows that `nearest` asks.

    Attributes:
        patterns: cached texts included.
        learned: returns the texts of all training rows and their (n, units) values; called if a row
            asks for its nearest text.
        meaning: returns the backbone that compares texts by meaning; called if one asks for that.
        vectors: returns the vectors of the different training texts, if they are known.
    """

    patterns: Patterns
    learned: Callable[[], tuple[TextsOfRows, np.ndarray]]
    meaning: Callable[[], Meaning]
    vectors: Callable[[], np.ndarray] | None = None

    @cached_property
    def known(self) -> Neighbours:
        """The index of the training rows."""
        make = index_by(self.patterns.nearest, self.meaning, self.vectors)
        return Neighbours(*self.learned(), make)

    def apply(self, texts: TextsOfRows, probabilities: np.ndarray) -> Applied:
        """Return the patterns applied to n texts and a model's (n, outputs) probabilities."""

        def look_up(asked: np.ndarray) -> np.ndarray:
            return self.known.look_up(texts, asked) if asked.any() else np.full(asked.shape, -1)

        return self.patterns.apply(texts, probabilities, look_up)

    def write(self, folder: Path) -> None:
        """Write the patterns as `FILE`, with the training rows if `nearest` asks them.

        If that is by meaning, also the backbone and the training texts' vectors, in folder `MEANING`.
        """
        p, rows = self.patterns, None
        if p.nearest is not None:
            texts, values = self.learned()
            rows = {"texts": texts, "values": values.tolist()}
        if p.nearest is not None and p.nearest.by_meaning:
            place = folder / MEANING
            place.mkdir()
            self.meaning().save(place)
            np.save(place / VECTORS, self.known.index.vectors)
        data = {
            "file": p.file,
            "hash": p.hash,
            "kind": str(p.kind),
            "mode": p.mode,
            "overrule_below": p.overrule_below,
            "rules": [_rule_to_json(rule) for rule in p.rules],
            "nearest": None if p.nearest is None else p.nearest.model_dump(mode="json"),
            "rows": rows,
        }
        write_text(folder / FILE, json.dumps(data, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> FittedPatterns:
        """Read what `write` wrote."""
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
        rows, near = data.pop("rows"), data.pop("nearest")
        near = None if near is None else NearestSettings.model_validate(near)
        rules = tuple(_rule_of_json(rule) for rule in data.pop("rules"))
        patterns = Patterns(**data | {"kind": Kind(data["kind"])}, rules=rules, nearest=near)
        place = folder / MEANING
        return cls(
            patterns,
            lambda: ([tuple(t) for t in rows["texts"]], np.array(rows["values"], int)),
            lambda: Meaning.load(place),
            lambda: np.load(place / VECTORS),
        )


def _rule_to_json(rule: CompiledRule) -> dict[str, Any]:
    pattern = None if rule.pattern is None else rule.pattern.pattern
    return vars(rule) | {"answers": rule.answers.tolist(), "pattern": pattern}


def _rule_of_json(data: dict[str, Any]) -> CompiledRule:
    pattern = None if data["pattern"] is None else regex.compile(data["pattern"])
    return CompiledRule(**data | {"answers": np.array(data["answers"], int), "pattern": pattern})
