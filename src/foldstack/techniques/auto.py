"""Rules for `auto` in a transformer's preset, by the rows that a run learns from.

The first rule of a setting that holds decides. Each names the measurement behind it; the table of
measurements is in docs/defaults.md, made by `tests/bench/defaults.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldstack.kinds import Kind

OF_PRESET = ("head", "head_bias", "dropout", "backbone_dropout")
OF_TRAINING = ("epochs", "batch_size", "lr", "warmup", "averaging", "head_lr", "layer_decay")
SMALL_BACKBONE = 40_000_000  # weights, without the word embeddings
RARE = 0.05  # share of the rows
LARGE_BACKBONE = 200_000_000


@dataclass(frozen=True)
class RunFacts:
    """Numbers that the rules read, of the rows that a run learns from and of its backbone.

    A caller that chooses one setting gives what the rules of that setting read.

    Attributes:
        rows: number of rows of positive weight.
        kind: of the competition.
        rarest: share of the rows with the rarest class or label; 1 for values.
        parameters: number of weights of the backbone without its embeddings.
        adds_log_priors: whether the loss adds the log of each class's share to the outputs.
        scores_untrained: whether the head has its first weights from label words.
        causal: whether a token of the backbone sees only those before it.
    """

    rows: int = 0
    kind: Kind = Kind.BINARY
    rarest: float = 1.0
    parameters: int = 0
    adds_log_priors: bool = False
    scores_untrained: bool = False
    causal: bool = False

    @classmethod
    def of(
        cls, kind: Kind, targets: np.ndarray, weights: np.ndarray, parameters: int = 0
    ) -> RunFacts:
        """Return the facts of (n, outputs) targets with (n,) weights, and of a backbone."""
        rarest = 1.0
        if kind.has_labels and weights.any():
            shares = np.average(targets, axis=0, weights=weights)
            rarest = float(
                np.minimum(shares, 1 - shares).min() if len(shares) == 1 else shares.min()
            )
        return cls(int((weights > 0).sum()), kind, rarest, parameters)


@dataclass(frozen=True)
class AutoRule:
    """One line of the table.

    Attributes:
        setting: that it decides.
        when: its condition, in words.
        holds: its condition.
        value: as written in a preset; of max_length, the most that is chosen.
        because: the measurement or the source behind it.
    """

    setting: str
    when: str
    holds: Callable[[RunFacts], bool]
    value: Any
    because: str


def _to(rows: int) -> Callable[[RunFacts], bool]:
    return lambda facts: facts.rows <= rows


def _small(facts: RunFacts) -> bool:
    return facts.parameters < SMALL_BACKBONE


def _small_and_hard(facts: RunFacts) -> bool:
    return _small(facts) and (facts.rows <= 1_000 or _rare_to(20_000)(facts))


def _base(facts: RunFacts) -> bool:
    return facts.parameters < LARGE_BACKBONE


def _without_priors(facts: RunFacts) -> bool:
    return not facts.kind.has_labels or facts.adds_log_priors or facts.scores_untrained


def _rare(facts: RunFacts) -> bool:
    return facts.rarest < RARE


def _rare_to(rows: int) -> Callable[[RunFacts], bool]:
    return lambda facts: facts.rows <= rows and facts.rarest < RARE


def _causal(facts: RunFacts) -> bool:
    return facts.causal


def _always(facts: RunFacts) -> bool:
    return True


# "Not measured" is said where a line rests on papers or custom alone.
RULES = (
    AutoRule(
        "epochs", "up to 250 rows", _to(250), 10,
        "few rows need more updates (Mosbach et al. 2021); not measured here",
    ),
    AutoRule(
        "epochs", "up to 1,000 rows, a class or label with less than 5 % of them", _rare_to(1_000), 10,
        "duee, 65 labels, 500 rows: F1 .614 with `head_bias: prior`, 0 with five epochs without it",
    ),
    AutoRule(
        "epochs", "up to 1,000 rows", _to(1_000), 5,
        "500 rows, twelve sets: +.027 over the plain loop; on ten of them ten epochs no more than five",
    ),
    AutoRule(
        "epochs", "up to 20,000 rows, a class or label with less than 5 % of them", _rare_to(20_000), 5,
        "duee, 65 labels, 2,000 rows, rate 1e-4: F1 .805, three epochs .677",
    ),
    AutoRule(
        "epochs", "up to 20,000 rows", _to(20_000), 3,
        "2,000 rows, eleven sets: +.003 over the plain loop; five epochs, six sets, +.002",
    ),
    AutoRule("epochs", "up to 100,000 rows", _to(100_000), 2, "not measured"),
    AutoRule("epochs", "more rows", _always, 1, "not measured"),
    AutoRule("batch_size", "up to 20,000 rows", _to(20_000), 16, "as in the search"),
    AutoRule("batch_size", "more rows", _always, 32, "not measured"),
    AutoRule(
        "lr", "a backbone of less than 40 million weights; up to 1,000 rows, 20,000 with such a label",
        _small_and_hard, 1e-4, "as in the search at 500 rows, and on duee",
    ),
    AutoRule(
        "lr", "a backbone of less than 40 million weights", _small, 5e-5,
        "2,000 rows, eleven sets: +.003 ± .005 over the plain loop; 1e-4 +.004 ± .011",
    ),
    AutoRule(
        "lr", "a backbone of less than 200 million weights", _base, 2e-5,
        "the papers of these backbones; not measured here",
    ),
    AutoRule("lr", "a larger backbone", _always, 1e-5, "likewise"),
    AutoRule(
        "head_lr", "a backbone of less than 40 million weights", _small, 1e-3,
        "three epochs at 5e-5: +.003 over none on eleven sets of 2,000 rows, .000 on three of 8,000",
    ),
    AutoRule("head_lr", "a larger backbone", _always, 2e-4, "ten times `lr`; not measured"),
    AutoRule(
        "max_length", "a backbone of less than 40 million weights", _small, 256,
        "bounds the time without a GPU; not measured",
    ),
    AutoRule("max_length", "a larger backbone", _always, 512, "bounds the memory; not measured"),
    AutoRule(
        "repeats", "up to 500 rows", _to(500), 3,
        "200 rows, six sets: +.003 over one fit, on one .001 below it",
    ),
    AutoRule("repeats", "more rows", _always, 1, "bounds the time"),
    AutoRule("warmup", "always", _always, 0.1, "as in the search"),
    AutoRule("layer_decay", "always", _always, 1.0, "as in the search"),
    AutoRule("averaging", "always", _always, "none", "as in the search"),
    AutoRule(
        "head", "a causal backbone", _causal, "last",
        "only its last token has read the whole text (Radford et al. 2018); not measured",
    ),
    AutoRule("head", "otherwise", _always, "mean", "as in the search"),
    AutoRule(
        "head_bias", "values, label words, or a loss that adds log priors", _without_priors, "zero",
        "values have no priors; words and such a loss have their own",
    ),
    AutoRule(
        "head_bias", "up to 1,000 rows", _to(1_000), "prior",
        "500 rows: duee (65 labels) 0 → .614, emotion .711 → .717, offensive .744 → .751",
    ),
    AutoRule(
        "head_bias", "a class or label with less than 5 % of the rows", _rare, "prior",
        "duee, 2,000 rows: .805, not tried without it",
    ),
    AutoRule(
        "head_bias", "otherwise", _always, "zero",
        "2,000 rows, eleven sets: +.003 over the plain loop, with priors +.003",
    ),
    AutoRule("dropout", "always", _always, 0.1, "as in the search"),
    AutoRule("backbone_dropout", "always", _always, 0.1, "as in the search"),
)  # fmt: skip


def digest(settings: Collection[str] | None = None) -> str:
    """Return a short sha256 of the rules of these settings, by default of all.

    Other rules are another choice of settings.
    """
    rules = [rule for rule in RULES if settings is None or rule.setting in settings]
    text = json.dumps([(rule.setting, rule.when, rule.value) for rule in rules])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def choose(setting: str, facts: RunFacts) -> AutoRule:
    """Return the first rule of this setting that holds."""
    return next(rule for rule in RULES if rule.setting == setting and rule.holds(facts))


def longest(parameters: int) -> int:
    """Return the most tokens that `max_length: auto` chooses for a backbone of this size."""
    return choose("max_length", RunFacts(parameters=parameters)).value


def table() -> str:
    """Return the rules as a Markdown table, for docs/defaults.md."""
    lines = ["| setting | if | value | because |", "|---|---|---|---|"]
    lines += [
        f"| `{rule.setting}` | {rule.when} | {rule.value} | {rule.because} |" for rule in RULES
    ]
    return "\n".join(lines) + "\n"
