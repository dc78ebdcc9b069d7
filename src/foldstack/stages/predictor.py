"""Predictions of new texts by the stored runs of a model or a blend, with its decision rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack.ensemble import OF_RANKS, STACKS, Rule, load_fitted
from foldstack.ensemble.alignment import KINDS
from foldstack.ensemble.candidates import Fitted
from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.learners import Learner
from foldstack.patterns import FittedPatterns
from foldstack.records import BlendRecord, damaged
from foldstack.rows import Rows
from foldstack.stages.blend import blend_command, make_blend, read_stored
from foldstack.stages.combination import Combination, Outcome
from foldstack.stages.dependencies import Doubts
from foldstack.stages.features import check_features
from foldstack.stages.fitted import load_learner, threads_to_predict
from foldstack.stages.int8 import check_int8, in_int8
from foldstack.stages.means import OfRuns, RunScales, live_probabilities
from foldstack.stages.new_rows import NewFile, new_rows
from foldstack.stages.oof import full_runs
from foldstack.stages.patterned import fitted_patterns, require_probabilities
from foldstack.store import RunKey
from foldstack.submission import label_texts
from foldstack.workspace import Workspace


@dataclass(frozen=True)
class Prediction:
    """The predictions of n rows.

    Attributes:
        labels: (n,) the predicted label, several joined by the competition's separator or a bar; for
            regression the level, None if there are none.
        probabilities: (n, labels), one column per class, label or regression target.
        by: (n,) the source of the decision: `model`, `rule 2`, `nearest` or several of them; None
            without patterns.
    """

    labels: list[str] | None
    probabilities: pd.DataFrame
    by: list[str] | None = None


@dataclass
class Predictor:
    """The stored runs of a model or a blend, which are loaded when they are first needed.

    The competition's patterns apply as in a submission.

    Attributes:
        members: per model its runs.
        winner: the name of the blend's method.
        fitted: the blend fitted on the members.
        rule: the fitted decision rule; None for the default rule.
        temperatures: per model the temperature of its mean; 1 if missing.
        text_features: whether a stack reads features of the texts.
        int8: predict with transformers in int8, after measuring and logging the loss of score.
        stale, optimistic: marks of the estimate.
    """

    ws: Workspace
    members: dict[str, list[RunKey]]
    winner: str
    fitted: Fitted
    rule: Rule | None
    temperatures: dict[str, float] = field(default_factory=dict)
    text_features: bool = False
    int8: bool = False
    stale: list[str] = field(default_factory=list)
    optimistic: list[str] = field(default_factory=list)
    _learners: dict[RunKey, Learner] = field(default_factory=dict)
    _scales: dict[str, RunScales] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.int8:
            check_int8(self.ws, [key for keys in self.members.values() for key in keys])

    @cached_property
    def _patterns(self) -> FittedPatterns | None:
        return None if self.ws.patterns is None else fitted_patterns(self.ws)

    @classmethod
    def of_blend(cls, ws: Workspace, name: str = "blend", *, int8: bool = False) -> Predictor:
        """Load a stored blend.

        Raises InputError if it or one of its runs is missing, or int8 has no effect.
        """
        record = read_stored(ws, name)
        members, competition = _members(ws, name, record), ws.competition
        if ws.patterns is not None:
            require_probabilities(record, name)
        if record.winner in STACKS:
            check_features(competition, name, record.features)
        fitted = _fitted(ws, name, record)
        rule = Rule.from_json(record.rule.to_json()) if record.rule else None
        text = record.features is not None and bool(record.features.text)
        stale, optimistic = Doubts.of(ws).of_blend(record)
        return cls(
            ws,
            members,
            record.winner,
            fitted,
            rule,
            record.temperatures,
            text,
            int8,
            [*stale, *_older_scales(record)],
            optimistic,
        )

    @classmethod
    def of_model(
        cls, ws: Workspace, name: str, *, full: bool = False, int8: bool = False
    ) -> Predictor:
        """Load a model's fold runs of all seeds, with the rule that `make submit MODEL=` uses.

        full: its runs on all rows instead, as `make submit MODEL= FOLD=full`, with the same rule.
        """
        made = make_blend(ws, [name], methods=(), quiet=True, command="make predict")
        keys = [RunKey.of_name(name, run) for run in made.record.members[name]]
        keys = list(full_runs(ws, name)) if full else keys
        result = made.result
        return cls(
            ws,
            {name: keys},
            result.winner,
            result.fitted,
            result.rule,
            {} if full else made.record.temperatures,
            int8=int8,
            optimistic=made.record.optimistic,
        )

    def predict(
        self, texts: Sequence[str] | Sequence[tuple[str, str]] | pd.DataFrame
    ) -> Prediction:
        """Return labels and probabilities of new texts.

        texts: a list of texts; a list of pairs if the competition has two text columns; or a table
        with its text columns, and its feature columns if a stack or a model reads them.

        Raises InputError if a column or a stored model is missing.
        """
        return self.predict_rows(self.rows_of(texts))

    def rows_of(
        self,
        texts: Sequence | pd.DataFrame,
        source: str = "the given texts",
        start: int = 0,
        *,
        ids: bool = False,
    ) -> Rows:
        """Return new texts as rows, with the ids of the id column or numbers from 1.

        Args:
            texts: see `predict`.
            source: where they come from, for messages.
            start: the number of rows of the source before these, for ids and messages.
            ids: whether the id column is required.

        Raises:
            InputError: there are none, or a column is missing.
        """
        features = self.uses_features
        return new_rows(self.ws.competition, texts, source, start, features=features, ids=ids)

    def file(self, path: Path, *, ids: bool = False) -> NewFile:
        """Return a file of new rows; ids: whether each row needs an id of its own."""
        return NewFile(self.ws.competition, path, self.uses_features, ids)

    @property
    def uses_features(self) -> bool:
        """Whether the blend is a stack on feature columns, or a model joins them."""
        runs = (self.ws.store.read_run(key) for keys in self.members.values() for key in keys)
        joined = any(run and run.identity.settings.get("join_features") for run in runs)
        return joined or (self.winner in STACKS and bool(self.ws.competition.feature_names))

    def predict_rows(self, rows: Rows) -> Prediction:
        """Return labels and probabilities of rows."""
        return self.named(self.outcome(rows))

    def named(self, found: Outcome) -> Prediction:
        """Return predictions by the names of labels."""
        competition = self.ws.competition
        values, outputs = found.values, list(competition.outputs)
        if competition.kind.is_values:
            return Prediction(self._levels(found.decisions), pd.DataFrame(values, columns=outputs))
        labels = label_texts(found.decisions, competition.labels, competition.settings)
        if competition.kind.has_positive_class:
            values, outputs = np.hstack([1 - values, values]), list(competition.labels)
        return Prediction(labels, pd.DataFrame(values, columns=outputs), found.by)

    def outcome(self, rows: Rows) -> Outcome:
        """Return the predictions of rows before they are named."""
        return self.patterned(self.blended(self.of_runs(rows), rows), rows)

    def of_runs(self, rows: Rows) -> dict[str, OfRuns]:
        """Return per model each run's probabilities of rows."""
        return {name: self._of_model(name, rows) for name in self.members}

    def means(self, values: dict[str, OfRuns]) -> dict[str, np.ndarray]:
        """Return per model its (n, outputs) mean over runs, as confident as in the blend."""
        return {name: self._combination.model_mean(name, each) for name, each in values.items()}

    def blended(self, values: dict[str, OfRuns], rows: Rows) -> Outcome:
        """Return the predictions of rows without the patterns, from those of each run."""
        return self._combination.outcome(values, self._scales_of, rows)

    def patterned(self, found: Outcome, rows: Rows) -> Outcome:
        """Return the predictions of rows with the patterns, if there are any."""
        return found.patterned(self._patterns, rows)

    @property
    def of_ranks(self) -> bool:
        """Whether the blend's values are ranks."""
        return self._combination.of_ranks

    @property
    def _combination(self) -> Combination:
        return Combination(
            self.ws.competition.kind,
            self.winner,
            self.fitted,
            self.rule,
            self.temperatures,
            self.text_features,
        )

    def _levels(self, decisions: np.ndarray | None) -> list[str] | None:
        """Return the levels decided for a regression's values; None without a rule."""
        if decisions is None:
            return None
        return self.ws.competition.submission.level_texts(decisions[:, 0])

    def _of_model(self, name: str, rows: Rows) -> OfRuns:
        return live_probabilities(((key, self.learner(key)) for key in self.members[name]), rows)

    def _scales_of(self, name: str) -> RunScales:
        if name not in self._scales:
            self._scales[name] = RunScales.read(self.ws, self.members[name])
        return self._scales[name]

    def learner(self, key: RunKey) -> Learner:
        """Return the fitted learner of a run, which is loaded once."""
        if key not in self._learners:
            learner = load_learner(self.ws, key, threads_to_predict(self.ws))
            self._learners[key] = in_int8(self.ws, key, learner) if self.int8 else learner
        return self._learners[key]


def _older_scales(record: BlendRecord) -> list[str]:
    """Return why the blend is stale if it was fitted to ranks or aligned runs of an older version."""
    aligned = record.settings.get("align_runs") and Kind(record.kind) in KINDS
    if record.compared_on is None and (aligned or record.winner in OF_RANKS):
        return ["was made by a version that compared runs on the test rows"]
    return []


def _members(ws: Workspace, name: str, record: BlendRecord) -> dict[str, list[RunKey]]:
    """Return a blend's runs by model; raise InputError if their predictions have changed."""
    members: dict[str, list[RunKey]] = {}
    for model, runs in record.members.items():
        members[model] = [RunKey.of_name(model, run) for run in runs]
        for key, content in zip(members[model], runs.values(), strict=True):
            if not content.endswith(ws.store.content(key, "test")):
                raise InputError(
                    f"blend '{name}' was made from other runs of '{model}' than exist now: "
                    f"run {blend_command(name)} again"
                )
    return members


def _fitted(ws: Workspace, name: str, record: BlendRecord) -> Fitted:
    """Return a blend's fitted candidate; raise InputError if its parameters are not of its form."""
    place = ws.store.blend_model(name, record)
    kind, outputs = ws.competition.kind, len(ws.competition.outputs)
    try:
        names = list(record.members)
        return load_fitted(record.winner, record.parameters, names, kind, outputs, place)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
        file = ws.store.name(place.with_name("blend.json"))
        again = f"run {blend_command(name)} again"
        raise damaged(file, f"parameters: not those of {record.winner}: {e!r}", again) from None
