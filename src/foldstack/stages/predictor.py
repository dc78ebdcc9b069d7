"""Predictions of new texts by the stored runs of a model or a blend, with its decision rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack.competition import require
from foldstack.ensemble import OF_RANKS, STACKS, Inputs, Rule, default_rule, load_fitted
from foldstack.ensemble.alignment import KINDS
from foldstack.ensemble.calibration import temper
from foldstack.ensemble.candidates import Fitted
from foldstack.errors import InputError, shown
from foldstack.input_tables import spelled
from foldstack.kinds import Kind
from foldstack.learners import Learner
from foldstack.patterns import Neighbours
from foldstack.records import BlendRecord, damaged
from foldstack.rows import Rows
from foldstack.settings import CompetitionSettings
from foldstack.stages.blend import blend_command, make_blend, read_stored
from foldstack.stages.dependencies import Doubts
from foldstack.stages.features import check_features, stack_features
from foldstack.stages.fitted import load_learner, threads_to_predict
from foldstack.stages.int8 import check_int8, in_int8
from foldstack.stages.means import RunScales, live_probabilities, over_runs
from foldstack.stages.patterned import (
    apply_to_new,
    deciders,
    neighbours,
    require_probabilities,
)
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


@dataclass(frozen=True)
class Outcome:
    """Predictions as a submission holds them.

    values: (n, outputs) probabilities, ranks or values. decisions: (n, outputs) of 0/1, or the levels
    of a regression; None if none are decided. by: see `Prediction`.
    """

    values: np.ndarray
    decisions: np.ndarray | None
    by: list[str] | None = None

    def submitted(self, labels: bool) -> np.ndarray:
        """Return what a submission is filled with: decisions if it holds labels, else values."""
        return self.decisions if labels else self.values


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
    def _known(self) -> Neighbours | None:
        """The index of all training rows; None if the patterns do not use nearest texts."""
        patterns = self.ws.patterns
        if patterns is None or patterns.nearest is None:
            return None
        return neighbours(self.ws, self.ws.competition.train)

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
    def of_model(cls, ws: Workspace, name: str, *, int8: bool = False) -> Predictor:
        """Load a model's fold runs of all seeds, with the rule that `make submit MODEL=` uses."""
        made = make_blend(ws, [name], methods=(), quiet=True, command="make predict")
        keys = [RunKey.of_name(name, run) for run in made.record.members[name]]
        result = made.result
        return cls(
            ws,
            {name: keys},
            result.winner,
            result.fitted,
            result.rule,
            made.record.temperatures,
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
        self, texts: Sequence | pd.DataFrame, source: str = "the given texts", start: int = 0
    ) -> Rows:
        """Return new texts as rows, with the ids of the id column or numbers from 1.

        start: the number of rows of the source before these, for ids and messages.
        """
        competition = self.ws.competition
        s = competition.settings
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise InputError(f"{source}: {shown(texts)} is not a list of texts: put it into a list")
        table = texts if isinstance(texts, pd.DataFrame) else _table(list(texts), s, source)
        table = table.astype(str).astype(object)
        table.index = pd.RangeIndex(start, start + len(table))
        if not len(table):
            raise InputError(f"{source}: there is nothing to predict")
        table = competition.tables.joined(Path(source), table, required=False)
        required = s.text if not self._uses_features else (*s.text, *competition.feature_names)
        table = spelled(table, (*required, s.id))
        for column in required:
            require(Path(source), table, column)
        lacking = [c for c in competition.feature_names if c not in table.columns]
        table[lacking] = ""
        if s.id not in table.columns:
            table[s.id] = np.array([str(i + 1) for i in table.index], dtype=object)
        return competition.unlabelled(Path(source), table)

    @property
    def _uses_features(self) -> bool:
        """Whether the blend is a stack on feature columns, or a model joins them."""
        runs = (self.ws.store.read_run(key) for keys in self.members.values() for key in keys)
        joined = any(run and run.identity.settings.get("join_features") for run in runs)
        return joined or (self.winner in STACKS and bool(self.ws.competition.feature_names))

    def predict_rows(self, rows: Rows) -> Prediction:
        """Return labels and probabilities of rows."""
        competition, found = self.ws.competition, self.outcome(rows)
        values, outputs = found.values, list(competition.outputs)
        if competition.kind.is_values:
            return Prediction(self._levels(found.decisions), pd.DataFrame(values, columns=outputs))
        labels = label_texts(found.decisions, competition.labels, competition.settings)
        if competition.kind.has_positive_class:
            values, outputs = np.hstack([1 - values, values]), list(competition.labels)
        return Prediction(labels, pd.DataFrame(values, columns=outputs), found.by)

    def outcome(self, rows: Rows) -> Outcome:
        """Return the predictions of rows before they are named."""
        competition = self.ws.competition
        by_model = [self._of_model(name, rows) for name in self.members]
        probabilities, ranks = (np.stack(a, axis=1) for a in zip(*by_model, strict=True))
        text = self.text_features and self.winner in STACKS
        values = self.fitted.predict(Inputs(probabilities, ranks, stack_features(rows, text)))
        if competition.kind.is_values:
            return Outcome(values, None if self.rule is None else self.rule.apply(values))
        # The default rule of .5 does not apply to ranks: decide on the mean probability.
        shown = probabilities.mean(axis=1) if self.winner in OF_RANKS else values
        rule = self.rule or default_rule(competition.kind, len(competition.outputs))
        decisions, by = rule.apply(shown), None
        if self.ws.patterns is not None:
            applied = apply_to_new(self.ws, rows, values, self._known)
            values, decisions = applied.probabilities, applied.decide(decisions)
            by = deciders(self.ws.patterns, applied)
        return Outcome(values, decisions, by)

    def _levels(self, decisions: np.ndarray | None) -> list[str] | None:
        """Return the levels decided for a regression's values; None without a rule."""
        if decisions is None:
            return None
        return self.ws.competition.submission.level_texts(decisions[:, 0])

    def _of_model(self, name: str, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Return a model's (probabilities, ranks), each (n, outputs): means over its runs."""
        learners = ((key, self._learner(key)) for key in self.members[name])
        values, kind = live_probabilities(learners, rows), self.ws.competition.kind
        mean = temper(kind, over_runs(values), self.temperatures.get(name, 1.0))
        if self.winner not in OF_RANKS:
            return mean, np.zeros_like(mean)
        return mean, self._scales_of(name).mean_ranks(values)

    def _scales_of(self, name: str) -> RunScales:
        if name not in self._scales:
            self._scales[name] = RunScales.read(self.ws, self.members[name])
        return self._scales[name]

    def _learner(self, key: RunKey) -> Learner:
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


def _table(texts: list, s: CompetitionSettings, source: str) -> pd.DataFrame:
    """Return texts, or tuples with one text per text column, as a table."""
    rows = [(text,) if isinstance(text, str) else _texts(text) for text in texts]
    odd = next((i for i, row in enumerate(rows) if not all(isinstance(t, str) for t in row)), None)
    if odd is not None:
        raise InputError(f"{source}: row {odd + 1} is {shown(texts[odd])}, which is not a text")
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(s.text)), None)
    if wrong is not None:
        raise InputError(
            f"{source}: row {wrong + 1} has {len(rows[wrong])} texts, but this competition has "
            f"{len(s.text)} text columns ({', '.join(s.text)}): give each row as a tuple of "
            f"{len(s.text)}"
        )
    return pd.DataFrame(rows, columns=list(s.text), dtype=object)


def _texts(row: object) -> tuple:
    """Return the texts of a row; the value itself, if it is no sequence."""
    return tuple(row) if isinstance(row, Iterable) else (row,)
