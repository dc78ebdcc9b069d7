"""The combination of a blend's runs on new rows, without a workspace or training rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from foldstack.ensemble import OF_RANKS, STACKS, Inputs, Rule, default_rule
from foldstack.ensemble.calibration import temper
from foldstack.ensemble.candidates import Fitted
from foldstack.kinds import Kind
from foldstack.patterns import FittedPatterns
from foldstack.rows import Rows
from foldstack.stages.features import stack_features
from foldstack.stages.means import OfRuns, RunScales, over_runs
from foldstack.submission import Submission


@dataclass(frozen=True)
class Outcome:
    """Predictions as a submission holds them.

    values: (n, outputs) probabilities, ranks or values. decisions: (n, outputs) of 0/1, or the levels
    of a regression; None if none are decided. by: see `Prediction`.
    """

    values: np.ndarray
    decisions: np.ndarray | None
    by: list[str] | None = None

    def submitted(self, submission: Submission) -> np.ndarray:
        """Return what a submission is filled with: decisions if it holds labels, else values."""
        return self.decisions if submission.wants_labels else self.values

    def form(self, submission: Submission, rows: Rows, table: pd.DataFrame) -> pd.DataFrame:
        """Return the predictions of these rows, whose table is given, in the sample's columns."""
        return submission.form(rows.ids, self.submitted(submission), table)

    def patterned(self, patterns: FittedPatterns | None, rows: Rows) -> Outcome:
        """Return the predictions of n rows with the patterns, if there are any."""
        if patterns is None:
            return self
        applied = patterns.apply(rows.texts, self.values)
        decided = applied.decide(self.decisions)
        return Outcome(applied.probabilities, decided, patterns.patterns.deciders(applied))


@dataclass(frozen=True)
class Combination:
    """A fitted blend with its decision rule.

    Attributes:
        kind: of the competition.
        winner: the name of the blend's method.
        fitted: the blend.
        rule: the fitted decision rule; None for the default rule.
        temperatures: per model the temperature of its mean; 1 if missing.
        text_features: whether a stack reads features of the texts.
    """

    kind: Kind
    winner: str
    fitted: Fitted
    rule: Rule | None
    temperatures: dict[str, float] = field(default_factory=dict)
    text_features: bool = False

    @property
    def of_ranks(self) -> bool:
        return self.winner in OF_RANKS

    def model_mean(self, name: str, values: OfRuns) -> np.ndarray:
        """Return a model's (n, outputs) mean over its runs, as confident as in the blend."""
        return temper(self.kind, over_runs(values), self.temperatures.get(name, 1.0))

    def outcome(
        self, values: dict[str, OfRuns], scales: Callable[[str], RunScales], rows: Rows
    ) -> Outcome:
        """Return the predictions of n rows.

        Args:
            values: per model each run's (n, outputs) probabilities, in the order of the blend.
            scales: returns those of a model's runs; called if ranks are averaged.
            rows: the rows, for the features of a stack.

        Returns:
            Values and decisions.
        """
        means = [self.model_mean(name, of_runs) for name, of_runs in values.items()]
        probabilities = np.stack(means, axis=1)
        ranks = np.zeros_like(probabilities)
        if self.of_ranks:
            each = [scales(name).mean_ranks(of_runs) for name, of_runs in values.items()]
            ranks = np.stack(each, axis=1)
        text = self.text_features and self.winner in STACKS
        found = self.fitted.predict(Inputs(probabilities, ranks, stack_features(rows, text)))
        if self.kind.is_values:
            return Outcome(found, None if self.rule is None else self.rule.apply(found))
        return Outcome(found, self.decided(found, probabilities.mean(axis=1)))

    def decided(self, values: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Return (n, outputs) decisions on the blend's values, or of ranks on the mean probability.

        The default rule of .5 does not apply to ranks.
        """
        rule = self.rule or default_rule(self.kind, values.shape[1])
        return rule.apply(mean if self.of_ranks else values)
