"""A stored blend's out-of-fold predictions beside those of its models, for the page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from foldstack.competition import Competition
from foldstack.ensemble import OF_RANKS, default_rule
from foldstack.errors import InputError
from foldstack.records import BlendRecord
from foldstack.rows import Rows
from foldstack.stages.blend import blend_command
from foldstack.stages.oof import Model, read_model
from foldstack.stages.shared import folds_of
from foldstack.store import Folds, read_parquet
from foldstack.workspace import Workspace


@dataclass(frozen=True)
class BlendRows:
    """The scored rows of a blend with its nested predictions and its models' out-of-fold ones.

    Attributes:
        rows: the n scored training rows.
        oof: (n, outputs) the blend's nested predictions before the decision; ranks for rank means.
        decisions: (n, outputs) nested decisions of 0/1; levels or plain values for regression.
        models: its models, with their out-of-fold predictions.
    """

    name: str
    record: BlendRecord
    competition: Competition
    folds: Folds
    rows: Rows
    oof: np.ndarray
    decisions: np.ndarray
    models: list[Model]

    @classmethod
    def read(cls, ws: Workspace, name: str, record: BlendRecord) -> BlendRows:
        """Read a stored blend; raise InputError if it is of other rows, or a run is stale."""
        folds = folds_of(ws, record)
        rows = ws.competition.scored_rows(folds.scored)
        oof = _predictions(ws, name, record, "oof.parquet", rows)
        models = [read_model(ws, member, folds) for member in record.members]
        decisions = _decisions(ws, name, record, rows, oof, models)
        return cls(name, record, ws.competition, folds, rows, oof, decisions, models)

    @property
    def is_of_ranks(self) -> bool:
        """Whether the blend's values are ranks, which are no probabilities."""
        return bool(OF_RANKS & {self.record.winner, *self.record.winners_by_fold.values()})

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(n, outputs) the blend's probabilities; the models' mean if its values are ranks."""
        if self.is_of_ranks:
            return np.mean([model.oof for model in self.models], axis=0)
        return self.oof


def _predictions(
    ws: Workspace, name: str, record: BlendRecord, file: str, rows: Rows
) -> np.ndarray:
    """Return (n, outputs) stored values; raise InputError if they are of other rows."""
    path = ws.store.blend_file(name, record, file)
    if path is None:
        raise InputError(f"blend '{name}' has no {file}: run {blend_command(name)} again")
    _, predictions, meta = read_parquet(path)
    if meta["rows"] != rows.hash():
        raise InputError(
            f"blend '{name}' was made for other training rows or folds: run {blend_command(name)} again"
        )
    return predictions.raw.astype(float)


def _decisions(
    ws: Workspace,
    name: str,
    record: BlendRecord,
    rows: Rows,
    oof: np.ndarray,
    models: list[Model],
) -> np.ndarray:
    """Return (n, outputs) nested decisions; by the default rule if probabilities are submitted."""
    if record.rule is not None:
        return _predictions(ws, name, record, "nested.parquet", rows)
    kind = ws.competition.kind
    if kind.is_values:
        return oof
    if OF_RANKS & {record.winner, *record.winners_by_fold.values()}:
        oof = np.mean([model.oof for model in models], axis=0)
    return default_rule(kind, oof.shape[1]).apply(oof)
