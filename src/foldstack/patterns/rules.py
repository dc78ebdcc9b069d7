"""Rules beside a model: what they match in texts, and which of the two decides.

Decisions are in units. A row of one label is one unit with one value per class; a row of several labels
has one unit of two values (0: absent, 1: present) per label, so that a rule for one label leaves
the others to the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import regex

from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.patterns.rule_settings import NearestSettings
from foldstack.rows import normalise

TIMEOUT = 2.0  # seconds of one search, exceeded only by a pattern that backtracks endlessly


@dataclass(frozen=True)
class CompiledRule:
    """A rule: a pattern with one answer, or texts, each with the number of its answer.

    answers: (k, units) values, -1 for units without one; name: for tables; source: for messages.
    """

    name: str
    source: str
    confidence: float
    answers: np.ndarray
    pattern: regex.Pattern | None
    texts: dict[str, int] | None

    @property
    def cached(self) -> bool:
        return self.texts is not None

    def says(self, texts: list[tuple[str, ...]], forms: list[str]) -> np.ndarray:
        """Return (n, units) values for texts, whose normalised forms are `forms`; -1 for none."""
        if self.texts is not None:
            found = np.array([self.texts.get(form, -1) for form in forms], dtype=int)
        else:
            found = np.array([0 if self._matches(text) else -1 for text in texts], dtype=int)
        return np.where(found[:, None] < 0, -1, self.answers[found])

    def _matches(self, text: tuple[str, ...]) -> bool:
        joined = " ".join(part for part in text if part)
        try:
            return self.pattern.search(joined, timeout=TIMEOUT) is not None
        except TimeoutError:
            shown = joined[:60] + ("…" if len(joined) > 60 else "")
            raise InputError(
                f"{self.source}: pattern /{self.pattern.pattern}/ takes more than {TIMEOUT:g} s on one "
                f"text ('{shown}'): repeat no group within a repetition, as in (a+)+"
            ) from None


@dataclass(frozen=True)
class Claims:
    """(n, units): the first rule that matches a unit, and its value; -1 for none."""

    rule: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Applied:
    """n rows after rules and nearest texts.

    Attributes:
        model, probabilities: (n, outputs) before and after.
        values: (n, units) decided by a rule or the nearest text; -1 if the model decides.
        by: (n, units) the rule that decided, from 0; the number of rules for the nearest text; -1.
        claims: of the rules, including those that the model overruled.
    """

    kind: Kind
    model: np.ndarray
    probabilities: np.ndarray
    values: np.ndarray
    by: np.ndarray
    claims: Claims

    def decide(self, decisions: np.ndarray) -> np.ndarray:
        """Return (n, outputs) of 0/1: the model's decisions, replaced where a rule or text decided."""
        values = np.where(self.values < 0, labels_of(decisions, self.kind), self.values)
        return decisions_of(values, self.kind, decisions.shape[1])

    def only(self, units: np.ndarray) -> Applied:
        """Return the same with the model deciding in all but these units (n, units; bool)."""
        both = (distribution(each, self.kind) for each in (self.probabilities, self.model))
        kept = np.where(units[..., None], *both)
        values, by = (np.where(units, each, -1) for each in (self.values, self.by))
        return Applied(self.kind, self.model, collapse(kept, self.kind), values, by, self.claims)


@dataclass(frozen=True)
class Patterns:
    """A competition's rules and its settings for nearest texts; hash: of all of them."""

    file: str
    hash: str
    kind: Kind
    mode: str
    overrule_below: float
    rules: tuple[CompiledRule, ...]
    nearest: NearestSettings | None

    @property
    def names(self) -> list[str]:
        """Return the names that `by` counts: each rule, then the nearest text."""
        return [*(f"rule {number}" for number in range(1, len(self.rules) + 1)), "nearest"]

    def claims(self, texts: list[tuple[str, ...]], units: int, cached: bool = True) -> Claims:
        """Return the rules' claims on n texts; the first rule that matches a unit counts.

        cached: False skips cached texts, as if the list had none.
        """
        forms = [normalise(text) for text in texts] if cached else []
        rule = np.full((len(texts), units), -1)
        value = rule.copy()
        for number, each in enumerate(self.rules):
            if each.cached and not cached:
                continue
            says = each.says(texts, forms)
            new = (says >= 0) & (rule < 0)
            rule[new], value[new] = number, says[new]
        return Claims(rule, value)

    def apply(
        self,
        texts: list[tuple[str, ...]],
        probabilities: np.ndarray,
        look_up: Callable[[np.ndarray], np.ndarray],
        cached: bool = True,
    ) -> Applied:
        """Apply the rules to n texts and a model's probabilities, then the nearest texts.

        A rule that decides sets its label's probability to its confidence; the others share the rest in
        proportion to the model's. Mode `before`: every rule that matches decides. Mode `beside`: a rule
        decides if its confidence reaches that of the model's most probable value, and the model's
        probability of its value is not below `overrule_below`. Units that are then undecided, and in
        which the model's confidence is under `nearest.below`, are looked up.

        Args:
            texts: n texts, each of one or two parts.
            probabilities: (n, outputs) of the model.
            look_up: from the selected units (n, units; bool) to the values of their nearest texts, -1
                if there is none; not called without `nearest`.
            cached: False skips cached texts.

        Returns:
            The rows before and after.
        """
        model = distribution(probabilities, self.kind)
        sure = model.max(axis=2)
        claims = self.claims(texts, model.shape[1], cached)
        confidence = np.array([*(rule.confidence for rule in self.rules), 0.0])[claims.rule]
        acts = claims.rule >= 0
        if self.mode == "beside":
            found = np.take_along_axis(model, claims.value.clip(0)[..., None], axis=2)[..., 0]
            acts &= (confidence >= sure) & (found >= self.overrule_below)
        by, values = np.where(acts, claims.rule, -1), np.where(acts, claims.value, -1)
        if self.nearest is not None:
            asked = ~acts & (sure < self.nearest.below)
            nearest = np.where(asked, look_up(asked), -1)
            values = np.where(nearest >= 0, nearest, values)
            by = np.where(nearest >= 0, len(self.rules), by)
            confidence = np.where(nearest >= 0, self.nearest.confidence, confidence)
        changed = collapse(_with(model, values, confidence), self.kind)
        return Applied(self.kind, probabilities, changed, values, by, claims)

    def decided_by(self, applied: Applied) -> dict[str, int]:
        """Return the number of rows that each rule and the nearest text decide, without zeros."""
        rows = {name: int((applied.by == k).any(axis=1).sum()) for k, name in enumerate(self.names)}
        return {name: count for name, count in rows.items() if count}

    def deciders(self, applied: Applied) -> list[str]:
        """Return (n,) the names of the rules, nearest text or model that decided a label of each row."""
        names = np.array([*self.names, "model"], dtype=object)
        # -1, the model, sorts last.
        return [
            "|".join(names[sorted(set(row), key=lambda k: k % len(names))]) for row in applied.by
        ]


def _with(model: np.ndarray, values: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Return (n, units, values) with this probability for the decided value; -1 changes nothing."""
    decided = np.arange(model.shape[2]) == values[..., None]
    rest = np.where(decided, 0.0, model)
    total = rest.sum(axis=2, keepdims=True)
    even = np.where(decided, 0.0, 1 / (model.shape[2] - 1))
    share = np.where(total > 0, rest / np.where(total > 0, total, 1), even)
    mixed = np.where(decided, confidence[..., None], (1 - confidence[..., None]) * share)
    return np.where(values[..., None] < 0, model, mixed)


# Units


def distribution(probabilities: np.ndarray, kind: Kind) -> np.ndarray:
    """Return (n, units, values) of probabilities (n, outputs)."""
    if kind.is_one_hot:
        return probabilities[:, None, :].astype(float)
    return np.stack([1 - probabilities, probabilities], axis=2).astype(float)


def collapse(units: np.ndarray, kind: Kind) -> np.ndarray:
    """Return (n, outputs), the inverse of `distribution`."""
    return units[:, 0, :] if kind.is_one_hot else units[:, :, 1]


def labels_of(decisions: np.ndarray, kind: Kind) -> np.ndarray:
    """Return (n, units) values of targets or decisions (n, outputs)."""
    if kind.is_one_hot:
        return decisions.argmax(axis=1)[:, None]
    return (decisions >= 0.5).astype(int)


def decisions_of(values: np.ndarray, kind: Kind, outputs: int) -> np.ndarray:
    """Return (n, outputs) of 0/1, the inverse of `labels_of`."""
    return np.eye(outputs)[values[:, 0]] if kind.is_one_hot else values.astype(float)
