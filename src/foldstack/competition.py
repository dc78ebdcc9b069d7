"""The competition: its files read and checked once, labels turned into targets."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from foldstack import config, metrics
from foldstack.costs import Costs, cost_table, read_costs
from foldstack.edits import Edits, read_edits, refuse_lost
from foldstack.errors import InputError, cut, nearest, some
from foldstack.input_tables import FileFacts, InputTables, in_spelling_of
from foldstack.kinds import Kind
from foldstack.labels import alike
from foldstack.learners import Task
from foldstack.rows import Rows, connected_groups, duplicate_groups, normalise, sentences_of
from foldstack.settings import CompetitionSettings, ExternalSource
from foldstack.store import Store
from foldstack.submission import Submission, label_texts
from foldstack.tables.form import FIRST_SPACE, TableForm
from foldstack.targets import TargetColumns, numbers_of, refuse_first

if TYPE_CHECKING:
    from foldstack.drift import Files
    from foldstack.meaning import Meaning
    from foldstack.near import Find, NearDuplicates
    from foldstack.techniques import LearnerSettings

WHOLE_LEVELS, LEVELS = 100, 20  # most values that a regression is decided among
EXTERNAL_NEAR = 0.8  # Jaccard similarity from which an external text counts as a copy


@dataclass(frozen=True)
class Competition:
    """A workspace's competition, read lazily and checked on reading.

    Nothing here reads `input/private`: the solution is for the score stage only.
    """

    root: Path
    settings: CompetitionSettings

    @classmethod
    def load(cls, root: Path, overrides: dict | None = None) -> Competition:
        return cls(root, config.load_competition(root / "competition.yaml", overrides or {}))

    @property
    def kind(self) -> Kind:
        return self.settings.kind

    @cached_property
    def metric(self) -> metrics.Metric:
        return self._metric(self.settings.metric)

    def _metric(self, name: str) -> metrics.Metric:
        costs = self.costs if name == "cost" and self.kind.has_labels else None
        metric = metrics.get(name, self.kind, root=self.root, costs=costs)
        if metric.reads:
            metric = self.beside(metric, self.path("train"), self._train_table)
        if self.kind.is_values and metric.wants == "labels":
            return replace(metric, levels=self._levels(metric.name))
        if metric.name == "rmsle" and (self.train.targets < 0).any():
            row, column = np.argwhere(self.train.targets < 0)[0]
            raise InputError(
                f"{self.path('train')}: id '{self.train.ids[row]}': column "
                f"'{self.settings.target[column]}' is below 0, and metric 'rmsle' requires numbers of 0 "
                "or more: choose rmse"
            )
        return metric

    def beside(self, metric: metrics.Metric, path: Path, table: pd.DataFrame) -> metrics.Metric:
        """Return the metric of the rows of a table, whose columns a user's function may take.

        A column is of numbers, nan for empty cells, if it holds nothing else; otherwise of text.

        Raises InputError if a column is missing.
        """
        for column in metric.reads:
            if column not in table.columns:
                function = metric.name.partition(":")[2]
                raise InputError(
                    f"{self.root / 'metrics.py'}: {function} takes '{column}', which is no column of "
                    f"{path} ({nearest(column, table.columns)}): rename it, or give it a default"
                )
        cells = {column: _numbers_or_texts(table[column]) for column in metric.reads}
        return metric.given(pd.DataFrame(cells).set_axis(table[self.settings.id].to_numpy()))

    def _levels(self, metric: str) -> tuple[float, ...]:
        """Return the different values of a regression's target, which the metric decides among."""
        s, path = self.settings, self.path("train")
        if len(s.target) != 1:
            raise InputError(
                f"competition.yaml: metric '{metric}' of kind regression is of one target, got "
                f"{len(s.target)}: {some(s.target)}"
            )
        levels = np.unique(self.train.targets)
        most = WHOLE_LEVELS if (levels == np.round(levels)).all() else LEVELS
        if not 2 <= len(levels) <= most:
            raise InputError(
                f"{path}: column '{s.target[0]}' holds {len(levels):,} different values, but metric "
                f"'{metric}' decides among 2 to {WHOLE_LEVELS} whole numbers, or {LEVELS} of any kind: "
                "choose rmse"
            )
        return tuple(levels.tolist())

    @cached_property
    def costs(self) -> Costs | None:
        """The costs of decisions; None if `costs` are not set."""
        given, path = self.settings.costs, self.root / "competition.yaml"
        if given is None:
            return None
        if isinstance(given, str):
            path = self.input_path(given)
            given = read_costs(path, self.settings.form_of(given))
        return cost_table(given, self.kind, self.labels, str(path))

    @cached_property
    def report_metrics(self) -> list[metrics.Metric]:
        """Metrics reported beside the main one; InputError if the submission does not determine one."""
        found = [self._metric(name) for name in self.settings.report_metrics]
        top = self.submission.top
        for metric in found:
            if top is not None and metric.wants != "labels" and (metric.top or top + 1) > top:
                raise InputError(
                    f"competition.yaml: report_metrics names {metric.name}, but {top} labels per row "
                    "are submitted, without probabilities: leave it out"
                )
            decided = self.submission.wants_labels and self.kind.has_labels
            if decided and metric.wants != "labels":
                raise InputError(
                    f"competition.yaml: report_metrics names {metric.name}, which requires a "
                    f"{metric.wants}, but labels are submitted: leave it out"
                )
        return found

    @cached_property
    def task(self) -> Task:
        """The task as seen by a learner."""
        categories = tuple(tuple(self._categories[c]) for c in self.settings.categorical)
        return Task(
            self.kind,
            self.link,
            self.outputs,
            self.metric,
            categories,
            self.settings.templates,
            self.settings.segment_names,
            self.labels if self.kind.has_labels else (),
            self.settings.numeric,
            self.settings.auxiliary,
        )

    @property
    def link(self) -> str:
        """The function from logits to probabilities; 'identity' for values."""
        return self.kind.link

    # The files

    def path(self, name: str) -> Path:
        """Return the path of 'train', 'test' or 'sample'."""
        return self.input_path(getattr(self.settings.files, name))

    def input_path(self, name: str) -> Path:
        """Return the path that a setting names: in `input/`, or an absolute one."""
        return self.root / "input" / name

    @property
    def named_files(self) -> dict[str, Path]:
        """Return every file that the settings name, by setting; no stage may overwrite or remove one."""
        s = self.settings
        found = {f"files.{role}": self.path(role) for role in type(s.files).model_fields}
        found |= {f"external ('{each.file}')": self.input_path(each.file) for each in s.external}
        found |= {f"pool ('{name}')": self.input_path(name) for name in s.pool}
        if s.edits is not None:
            found["edits"] = self.input_path(s.edits)
        if isinstance(s.costs, str):
            found["costs"] = self.input_path(s.costs)
        found |= {
            f"join ('{name}')": self.input_path(name) for join in s.join for name in join.file
        }
        if s.patterns is not None:
            found["patterns"] = self.root / s.patterns
        if s.folds.file is not None:
            found["folds.file"] = self.input_path(s.folds.file)
        return found | {setting: self.input_path(name) for setting, name in self.models_files}

    @property
    def models_files(self) -> list[tuple[str, str]]:
        """The files that the settings of models and of the workspace's presets name, by setting."""
        listed = [name for name, _ in config.listed_models(self.settings)]
        own = sorted(path.stem for path in (self.root / "presets").glob("*.yaml"))
        found = []
        for model in dict.fromkeys(listed + own):
            with suppress(InputError):  # training says what is wrong with its settings
                settings = config.load_model(model, self.root, self.settings, {})
                files = settings.input_files.items()
                found += [(f"models ('{model}').{setting}", name) for setting, name in files]
        return found

    def files_of(self, settings: LearnerSettings) -> dict[str, Path]:
        """Return the paths of the files that a model's settings name, by setting."""
        return {setting: self.input_path(name) for setting, name in settings.input_files.items()}

    @cached_property
    def tables(self) -> InputTables:
        return InputTables(self.settings, self.input_path)

    @property
    def facts(self) -> list[FileFacts]:
        """Facts on the training and the test file, which are read for them."""
        _ = self._train_table, self._test_table
        names = self.settings.files
        return [self.tables.facts[name] for name in (names.train, names.test)]

    @cached_property
    def _all_rows(self) -> pd.DataFrame:
        s = self.settings
        table = self.tables.read(s.files.train, decides=True)
        if not s.train_has_id:
            if s.id in table.columns:
                raise InputError(
                    f"{self.path('train')}: column '{s.id}' is there, but competition.yaml says "
                    "`train_has_id: false`: remove that line"
                )
            table.insert(0, s.id, np.array([f"train-{i + 1}" for i in range(len(table))], object))
        extra = [c for c in (s.group, s.weight, s.time) if c]
        columns = (*self._inputs, *s.target, *s.auxiliary, *extra)
        table = self.tables.named(self.path("train"), table, columns)
        self._check(self.path("train"), table, columns)
        return table

    @cached_property
    def _train_table(self) -> pd.DataFrame:
        """The rows of the training file that have a label."""
        return self.labelled(self.path("train"), self._all_rows)

    @cached_property
    def _test_table(self) -> pd.DataFrame:
        table = self.tables.read(self.settings.files.test)
        table = self.tables.named(self.path("test"), table, self._inputs)
        self._check(self.path("test"), table, self._inputs)
        return table

    @property
    def _inputs(self) -> tuple[str, ...]:
        s = self.settings
        return (s.id, *s.text, *s.numeric, *s.categorical)

    def _check(self, path: Path, table: pd.DataFrame, columns: Sequence[str]) -> None:
        for column in columns:
            require(path, table, column)
        self.check_ids(path, table[self.settings.id])

    def check_ids(self, path: Path, ids: pd.Series) -> None:
        column = self.settings.id
        empty = np.flatnonzero(ids == "")
        if len(empty):
            raise InputError(
                f"{path}: row {empty[0] + 1} has an empty '{column}': every row needs "
                "an id of its own"
            )
        twice = np.flatnonzero(ids.duplicated())
        if len(twice):
            value = ids.iloc[twice[0]]
            raise InputError(
                f"{path}: row {twice[0] + 1} repeats '{column}' '{cut(value)}': every row "
                "needs an id of its own"
            )

    # Rows

    @cached_property
    def train(self) -> Rows:
        table, path = self._train_table, self.path("train")
        keys = list(table[self.settings.group]) if self.settings.group else None
        targets, weights = self.targets_of(table, path), self._weights(path, table)
        rows = self._labelled(path, table, targets, weights, keys)
        self._refuse_weightless(path, rows)
        return rows

    @cached_property
    def edits(self) -> Edits | None:
        """The edits of training rows; None without any."""
        s, rows = self.settings, self.train
        if s.edits is None:
            return None
        path = self.input_path(s.edits)
        table = self.tables.read(s.edits)
        found = read_edits(path, table, s, self.labels, rows.ids, self.unlabelled_ids)
        labels = self.labels if self.kind.has_labels else ()
        refuse_lost(path, rows, found.applied(rows), labels, self.kind.has_positive_class)
        return found

    @property
    def edits_hash(self) -> str | None:
        """The digest of the edits of training rows; None without any."""
        return None if self.edits is None else self.edits.hash

    def column(self, name: str) -> np.ndarray:
        """Return (n,) a column of the training file, as text."""
        return self._train_table[name].to_numpy(dtype=object)

    @cached_property
    def test(self) -> Rows:
        return self.unlabelled(self.path("test"), self._test_table)

    def unlabelled(self, path: Path, table: pd.DataFrame) -> Rows:
        """Return rows to predict, from a table with ids, text and feature columns."""
        return self._rows(path, table, None, np.ones(len(table)), None)

    def _rows(
        self,
        path: Path,
        table: pd.DataFrame,
        targets: np.ndarray | None,
        weights: np.ndarray,
        keys: list[str] | None,
    ) -> Rows:
        texts = self.texts_of(table)
        return Rows(
            ids=table[self.settings.id].to_numpy(dtype=object),
            texts=texts,
            targets=targets,
            weights=weights,
            groups=duplicate_groups(texts, keys),
            origin=np.full(len(table), "gold", dtype=object),
            features=self._features(path, table),
        )

    def _labelled(
        self,
        path: Path,
        table: pd.DataFrame,
        targets: np.ndarray,
        weights: np.ndarray,
        keys: list[str] | None,
    ) -> Rows:
        rows = self._rows(path, table, targets, weights, keys)
        if not self.settings.auxiliary:
            return rows
        wanted = "a number or nothing is expected; leave the column out of `auxiliary` otherwise"
        columns = [
            _numbers_or_nothing(path, table[name], wanted, "auxiliary column")
            for name in self.settings.auxiliary
        ]
        return replace(rows, auxiliary=np.column_stack(columns))

    def texts_of(self, table: pd.DataFrame) -> list[tuple[str, ...]]:
        """Return each row's segments: one text, by the template or with spaces, or two or three."""
        s = self.settings
        columns = [table[c].tolist() for c in s.text]
        if s.pair or (len(columns) == 1 and not s.segments):
            return list(zip(*columns, strict=True))
        if s.templates:
            # A field such as `{a.b}` may name a column, too.
            parts = [list(string.Formatter().parse(template)) for template in s.templates]
            rows = (dict(zip(s.text, row, strict=True)) for row in zip(*columns, strict=True))
            return [tuple(_filled(of_one, row) for of_one in parts) for row in rows]
        return [(" ".join(filter(None, row)),) for row in zip(*columns, strict=True)]

    def _weights(self, path: Path, table: pd.DataFrame) -> np.ndarray:
        column = self.settings.weight
        if column is None:
            return np.ones(len(table))
        weights = numbers_of(table[column])
        refuse_first(
            ~(np.isfinite(weights) & (weights >= 0)),
            path,
            table[column],
            "weights are numbers of 0 or more",
            "weight column",
        )
        return weights

    def _refuse_weightless(self, path: Path, rows: Rows) -> None:
        """Refuse a class whose rows all weigh 0: it would be learned from nothing, in silence."""
        if rows.weights.all():
            return
        labels = self.labels if self.kind.has_labels else ()
        of_label = rows.targets >= 0.5
        if self.kind.has_positive_class:
            of_label = np.hstack([~of_label, of_label])
        for label, has in zip(labels, of_label.T, strict=False):
            if has.any() and not rows.weights[has].any():
                raise InputError(
                    f"{path}: weight column '{self.settings.weight}' is 0 in every row of label "
                    f"'{cut(label)}', so that nothing could learn it: give its rows a weight, or leave "
                    "`weight` out"
                )
        if not rows.weights.any():
            raise InputError(
                f"{path}: weight column '{self.settings.weight}' is 0 in every row: leave `weight` out"
            )

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `Rows.features`: the numeric ones, then the categorical ones."""
        return self.settings.numeric + self.settings.categorical

    @cached_property
    def _categories(self) -> dict[str, pd.Index]:
        """Sorted values of each categorical column in train and test, without the empty one."""
        tables = (self._train_table, self._test_table)
        return {
            column: pd.Index(sorted({v for t in tables for v in t[column]} - {""}), dtype=object)
            for column in self.settings.categorical
        }

    def _features(self, path: Path, table: pd.DataFrame) -> np.ndarray | None:
        """Return (n, f) numbers, then codes of categories; nan if empty or unknown."""
        if not self.feature_names:
            return None
        wanted = (
            "a number or nothing is expected; name the column in `categorical` if it holds words"
        )
        columns = [
            _numbers_or_nothing(path, table[name], wanted, "numeric column")
            for name in self.settings.numeric
        ]
        for name in self.settings.categorical:
            codes = self._categories[name].get_indexer(table[name]).astype(float)
            columns.append(np.where(codes < 0, np.nan, codes))
        return np.column_stack(columns)

    @cached_property
    def learned_features(self) -> list[str | None]:
        """Digests of the feature columns of the training and the external rows."""
        return [self.features_hash(rows) for rows in (self.train, self.external)]

    def features_hash(self, rows: Rows | None) -> str | None:
        """Return the digest of feature columns, names and categories: codes depend on the test file."""
        if rows is None or rows.features is None:
            return None
        cells = rows.features.astype(object)
        for place, column in enumerate(self.settings.categorical, len(self.settings.numeric)):
            names = [*self._categories[column], None]
            cells[:, place] = [
                names[-1 if np.isnan(c) else int(c)] for c in rows.features[:, place]
            ]
        return config.digest([self.feature_names, cells.tolist()])

    # Groups, times, rows from elsewhere

    @cached_property
    def near(self) -> NearDuplicates | None:
        """The near-duplicates among the training texts; None if `folds.near` is 0."""
        s = self.settings.folds
        if not s.near:
            return None
        if not s.dedupe:
            raise InputError(
                "competition.yaml: folds.near keeps near-duplicates in one fold, but folds.dedupe is "
                "false: set `dedupe: true` or `near: 0`"
            )
        from foldstack.near import NearDuplicates, cached, near_duplicates

        find, by = self._nearness

        def search() -> dict[str, np.ndarray]:
            found = near_duplicates(self.train.texts, s.near_cap, find)
            report = np.array(json.dumps(found.report))
            return {"groups": found.groups, "report": report, "refused": found.refused}

        key = config.digest([self.train.hash(), s.near, s.near_cap, s.seed, *by])
        kept = cached(self._near_dir, key, search)
        return NearDuplicates(kept["groups"], json.loads(str(kept["report"])), kept["refused"])

    @cached_property
    def _nearness(self) -> tuple[Find, list[str]]:
        """The search for near-duplicates, and what it depends on besides threshold and seed."""
        from foldstack.near import by_characters

        s = self.settings.folds
        if s.near_by == "characters":
            return by_characters(s.near or EXTERNAL_NEAR, s.seed), []
        from foldstack.meaning import by_meaning

        return by_meaning(self.meaning, s.near), [self.meaning.key]

    @cached_property
    def meaning(self) -> Meaning:
        """The backbone by which texts are compared by meaning; InputError if it is not installed."""
        from foldstack.meaning import Meaning

        found = Meaning.of(self.root, self.settings)
        found.check()
        return found

    @property
    def _near_dir(self) -> Path:
        return Store(self.root).near_dir

    @cached_property
    def tied(self) -> np.ndarray:
        """(n,) int: equal for training rows that share a text, a near-duplicate or a group.

        With `folds.connected` also for pairs that share a sentence.

        A run that learns from one of them has information on the others' labels.
        """
        from foldstack.near import merge_groups

        tied = self.train.groups
        if self.near is not None:
            tied = merge_groups(tied, self.near.groups)
        if self.settings.folds.connected:
            tied = merge_groups(tied, connected_groups(self.train.texts))
        return tied

    def scored_rows(self, positions: np.ndarray) -> Rows:
        """Return the training rows at these positions, with the groups of `tied`.

        Scores are resampled and rows split by these groups, since rows that share a text, a
        near-duplicate or a group are not independent.
        """
        return replace(self.train.take(positions), groups=self.tied[positions])

    @cached_property
    def fold_groups(self) -> np.ndarray:
        """(n,) int: training rows that must share a fold; without dedupe, only by the group column."""
        s = self.settings
        if s.folds.dedupe:
            return self.tied
        if s.group is None:
            return np.arange(len(self.train))
        no_texts = [("",)] * len(self.train)
        return duplicate_groups(no_texts, list(self._train_table[s.group]))

    def check_groups(self) -> None:
        """Raise InputError if the group column has fewer values than there are folds."""
        name, count = self.settings.group, self.settings.folds.count
        if name is None:
            return
        values = self._train_table[name]
        different = values[values != ""].nunique() + int((values == "").sum())
        if different < count:
            held = "one value" if different == 1 else f"{different} different values"
            raise InputError(
                f"{self.path('train')}: group column '{name}' holds {held}, and rows of one share a "
                f"fold, which is too few for {count} folds: set `folds.count` to {different} or fewer, "
                "or leave `group` out"
                if different > 1
                else f"{self.path('train')}: group column '{name}' holds one value, so that all rows "
                "would share a fold: leave `group` out of competition.yaml"
            )

    @property
    def group_remarks(self) -> list[str]:
        """Sentences about a group column with empty cells, or with a value that most rows share."""
        name, n, found = self.settings.group, len(self.train), []
        if name is None:
            return found
        values = self._train_table[name]
        empty = int((values == "").sum())
        if empty:
            rows = "1 row has" if empty == 1 else f"{empty:,} rows have"
            found.append(
                f"{rows} an empty '{name}' (group): each is a group of its own; if they belong "
                "together, fill the cells"
            )
        counts = values[values != ""].value_counts()
        if len(counts) and counts.iloc[0] >= 2 * n / self.settings.folds.count:
            found.append(
                f"group '{cut(counts.index[0])}' of column '{name}' has {counts.iloc[0]:,} of the "
                f"{n:,} rows and stands in one fold: its run learns from the few others, and the score "
                "rests on it; split the group, or leave `group` out if rows of it are independent"
            )
        return found

    @cached_property
    def times(self) -> np.ndarray:
        """(n,) float: the time of each training row, used for its order only."""
        values = self._train_table[self.settings.time]
        numbers = numbers_of(values)
        if np.isfinite(numbers).all():
            return numbers
        parsed = pd.to_datetime(values, errors="coerce", format="ISO8601", utc=True)
        refuse_first(
            parsed.isna().to_numpy(),
            self.path("train"),
            values,
            "times are numbers or dates as 2026-03-31 or 2026-03-31T23:59",
            "time column",
        )
        return parsed.astype("int64").to_numpy(dtype=float)

    @cached_property
    def external(self) -> Rows | None:
        """The rows of all external files, for training only; None without any.

        A run leaves out those that are tied to its held-out rows (`external_ties`).
        """
        parts = [self._external(source) for source in self.settings.external]
        if not parts:
            return None
        rows = reduce(Rows.concatenated, parts)
        first = {normalise(t): g for t, g in zip(self.train.texts, self.train.groups, strict=True)}
        own = duplicate_groups(rows.texts) + self.train.groups.max() + 1
        groups = [first.get(normalise(t), g) for t, g in zip(rows.texts, own, strict=True)]
        origin = np.full(len(rows), "external", dtype=object)
        return replace(rows, groups=np.array(groups), origin=origin)

    def external_places(self, names: Literal["all"] | Collection[str]) -> np.ndarray:
        """Return the positions of the rows of these external files."""
        sources = self.settings.external
        if not sources or names == "all":
            return np.arange(len(self.external) if sources else 0)
        files = {source.file for source in sources if source.called in names}
        of_row = [id_.rpartition(":")[0] in files for id_ in self.external.ids]
        return np.flatnonzero(of_row)

    @cached_property
    def external_ties(self) -> np.ndarray:
        """(ties, 2): an external row, and a number of `tied` whose labels it leaks.

        They share a text, near-duplicates included, or a value of the group column. Near-duplicates are
        those of `folds.near` and `near_by`, without them those of similarity .8: a data set that is
        published twice differs in punctuation, and learning from such a copy leaks the held-out label.
        With `folds.connected` they may share a sentence only.
        """
        ties = self._ties(self.external, self._groups_of(self._external_tables.values()))
        if not self.settings.folds.connected:
            return ties
        own = zip(self.train.texts, self.tied.tolist(), strict=True)
        tied = {sentence: number for text, number in own for sentence in sentences_of([text])}
        each = ((i, s) for i, text in enumerate(self.external.texts) for s in sentences_of([text]))
        return _more_ties(ties, ((i, tied[s]) for i, s in each if s in tied))

    def ties_of(self, name: str) -> np.ndarray:
        """(ties, 2): the same of those `rows_to_label`."""
        return self._test_ties if name == "test" else self._pool_ties

    @cached_property
    def _test_ties(self) -> np.ndarray:
        return self._ties(self.rows_to_label["test"], self._groups_of([self._test_table]))

    @cached_property
    def _pool_ties(self) -> np.ndarray:
        keys = self._groups_of(self._pool_tables.values())
        return self._ties(self.rows_to_label["pool"], keys)

    def _ties(self, rows: Rows, keys: list[str]) -> np.ndarray:
        """Return the ties of rows from elsewhere, whose groups are `keys`; empty: none."""
        from foldstack.near import cached, near_pairs

        s = self.settings
        threshold, (find, by) = s.folds.near or EXTERNAL_NEAR, self._nearness

        def search() -> dict[str, np.ndarray]:
            return {"pairs": near_pairs(rows.texts, self.train.texts, find)}

        key = config.digest([self.train.hash(), rows.hash(), threshold, s.folds.seed, *by])
        ties = cached(self._near_dir, key, search)["pairs"]
        ties[:, 1] = self.tied[ties[:, 1]]
        if s.group is None:
            return np.unique(ties, axis=0)
        of_value = dict(zip(self._train_table[s.group], self.tied.tolist(), strict=True))
        return _more_ties(
            ties, ((i, of_value[k]) for i, k in enumerate(keys) if k and k in of_value)
        )

    def _groups_of(self, tables: Iterable[pd.DataFrame]) -> list[str]:
        """Return the group of each row of these tables; empty if there is no group column."""
        group, found = self.settings.group, []
        for table in tables:
            found += list(table[group]) if group in table.columns else [""] * len(table)
        return found

    # Rows without labels

    @cached_property
    def rows_to_label(self) -> dict[str, Rows]:
        """The rows of `test` and, if there is one, of `pool`; ids are their own: `test:ID`, `FILE:1`."""
        ids = np.array([f"test:{i}" for i in self.test.ids], dtype=object)
        found = {"test": replace(self.test, ids=ids)}
        if self.pooled is not None:
            found["pool"] = self.pooled
        first = self.train.groups.max() + 1
        return {name: replace(rows, groups=rows.groups + first) for name, rows in found.items()}

    @cached_property
    def pooled(self) -> Rows | None:
        """The rows of all pool files; None without any."""
        parts = [
            self.unlabelled(self.input_path(name), table)
            for name, table in self._pool_tables.items()
        ]
        if not parts:
            return None
        rows = reduce(Rows.concatenated, parts)
        return replace(rows, groups=duplicate_groups(rows.texts))

    @cached_property
    def _pool_tables(self) -> dict[str, pd.DataFrame]:
        """The tables of the pool files, with ids and with the features that they have."""
        s, found = self.settings, {}
        for name in s.pool:
            path = self.input_path(name)
            table = self.tables.external(path, self.tables.read(name), s.text).copy()
            for column in s.text:
                require(path, table, column)
            if not any(text.strip() for column in s.text for text in table[column]):
                raise InputError(
                    f"{path}: none of its {len(table):,} rows has a text: fill in "
                    f"{some(s.text)}, or take the file out of `pool`"
                )
            table[s.id] = np.array([f"{name}:{i + 1}" for i in table.index], dtype=object)
            table[[c for c in self.feature_names if c not in table.columns]] = ""
            found[name] = table
        return found

    @cached_property
    def _external_files(self) -> dict[str, pd.DataFrame]:
        s, found = self.settings, {}
        for source in s.external:
            path, table = self.input_path(source.file), self.tables.read(source.file)
            named = (*s.text, *s.target, *(self.labels if source.is_soft else ()))
            table = self.tables.external(path, table, named)
            targets = s.target
            if source.is_soft:
                targets = self._columns.soft_columns(table.columns, self.labels)
            for column in (*s.text, *targets):
                require(path, table, column)
            found[source.file] = table
        return found

    @cached_property
    def _external_tables(self) -> dict[str, pd.DataFrame]:
        """The rows of each external file that have a label; soft labels are required in each row."""
        tables = dict(self._external_files)
        for name in self._hard_files:
            tables[name] = self.labelled(self.input_path(name), tables[name])
        return tables

    @property
    def _hard_files(self) -> list[str]:
        return [source.file for source in self.settings.external if not source.is_soft]

    def _external(self, source: ExternalSource) -> Rows:
        """Return one external file: text and targets as in train, features and the like if present."""
        s, path = self.settings, self.input_path(source.file)
        table = self._external_tables[source.file].copy()
        table[s.id] = np.array([f"{source.file}:{i + 1}" for i in table.index], dtype=object)
        lacking = [c for c in (*self.feature_names, *s.auxiliary) if c not in table.columns]
        table[lacking] = ""
        has_weights = s.weight in table.columns
        weights = self._weights(path, table) if has_weights else np.ones(len(table))
        read = self._columns.read_soft if source.is_soft else self._columns.read
        targets = read(path, table, self.labels)
        return self._labelled(path, table, targets, weights * source.weight, None)

    @property
    def all_texts(self) -> list[tuple[str, ...]]:
        """Every different text, of held-out, test and pooled rows too, for training without labels."""
        tables = (self.train, self.external, self.test, self.pooled)
        found = [text for rows in tables if rows is not None for text in rows.texts]
        return list(dict.fromkeys(found + self.pool))

    @cached_property
    def overlay_hash(self) -> str | None:
        """The digest of row weights and external rows, used in training only; None without any."""
        return self.overlay_of("all")

    def overlay_of(self, chosen: Literal["all"] | Collection[str]) -> str | None:
        """Return the same of these external files alone."""
        weights = self.train.overlay_hash()
        if self.pool:  # pretraining reads it
            weights = config.digest([weights, self.pool])
        places = self.external_places(chosen)
        if not len(places):
            return weights
        external, ties = self.external.take(places), self.external_ties
        ties = ties[np.isin(ties[:, 0], places)]
        parts = [weights or "", external.hash(), external.overlay_hash() or ""]
        same = np.isin(self.external.groups, self.train.groups)
        if not same[ties[:, 0]].all():  # other rows than equal texts are left out, too
            parts.append(config.digest(ties.tolist()))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    @property
    def both_files(self) -> Files:
        """The training and the test rows without targets, to be compared."""
        from foldstack.drift import Files

        s, keys = self.settings, None
        if s.group in self._test_table.columns:
            keys = [*self._train_table[s.group], *self._test_table[s.group]]
        return Files.of(
            self.train,
            self.test,
            keys=keys,
            train_keys=None if s.group is None else list(self._train_table[s.group]),
            numeric=s.numeric,
            categorical=s.categorical,
            categories=tuple(self._categories[name] for name in s.categorical),
        )

    def check(self) -> None:
        """Read and check all files now, instead of after hours of training."""
        _ = self.train, self.test, self.external, self.pooled, self.edits
        self._check_features()
        _ = self.submission.wants_labels
        self._check_names_of_files()
        for metric in (self.metric, *self.report_metrics):
            if metric.is_own:
                metrics.try_on(metric, self.train.targets, self.root / "metrics.py")

    def _check_names_of_files(self) -> None:
        """Raise InputError if `delimiter`, `header` or `columns` name a file that is not read."""
        s = self.settings
        read = {s.files.train, s.files.test, s.files.sample, *s.pool}
        read |= {source.file for source in s.external}
        read.add("private/solution.csv")
        read |= {name for join in s.join for name in join.file}
        read |= {name for name in (s.costs, s.folds.file, s.edits) if isinstance(name, str)}
        read |= {Path(name).name for name in read}
        for setting in ("delimiter", "header", "columns"):
            given = getattr(s, setting)
            for name in given if isinstance(given, dict) else ():
                if name not in read:
                    raise InputError(
                        f"competition.yaml: `{setting}` names '{cut(name)}', which is none of the "
                        f"competition's files: {nearest(name, read)}"
                    )

    def _check_features(self) -> None:
        """Raise InputError for a feature column that is the target itself, as a joined file may hold."""
        targets = {name: numbers_of(self._train_table[name]) for name in self.settings.target}
        for column in self.settings.numeric:
            values = numbers_of(self._train_table[column])
            for name, target in targets.items():
                if np.isfinite(target).all() and np.array_equal(values, target):
                    raise InputError(
                        f"{self.path('train')}: feature column '{column}' equals the target '{name}' in "
                        "every row, and would give it away: leave it out of `numeric`"
                    )

    @property
    def feature_remarks(self) -> list[str]:
        """Sentences about feature columns that test rows lack."""
        return [
            f"feature column '{column}' is empty in every test row: what a model learns of it is of no "
            "use there, and its score is too good; leave it out of competition.yaml"
            for column in (*self.settings.numeric, *self.settings.categorical)
            if (self._test_table[column] == "").all()
            and not (self._train_table[column] == "").all()
        ]

    # Labels and targets

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, of the labels of a multilabel competition, or of the targets.

        In a binary competition the last one is the positive class.
        """
        return self._columns.labels(self.path("train"), lambda: self._train_table)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of a learner's outputs, in order."""
        return self.kind.outputs_of(self.labels)

    def named(self, targets: np.ndarray) -> list[str]:
        """Return the labels of (n, outputs) targets as text; for regression their values."""
        if self.kind.is_values:
            return [", ".join(f"{value:.4g}" for value in row) for row in targets]
        decided = targets if self.kind.is_one_hot else targets >= 0.5
        return label_texts(decided, self.labels, self.settings)

    @property
    def _columns(self) -> TargetColumns:
        return TargetColumns(self.settings)

    def labelled(self, path: Path, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a table that have a label; see the setting `unlabelled`."""
        for column in self.settings.target:
            require(path, table, column)
        return self._columns.labelled(path, table)

    def targets_of(self, table: pd.DataFrame, path: Path) -> np.ndarray:
        """Return (n, outputs) targets of a table's label column(s); InputError naming path and row."""
        for column in self.settings.target:
            require(path, table, column)
        return self._columns.read(path, table, self.labels)

    @cached_property
    def pool(self) -> list[tuple[str, ...]]:
        """The texts of rows without a label, for pretraining; none unless `unlabelled: pool`."""
        s = self.settings
        if s.unlabelled != "pool":
            return []
        tables = [self._all_rows, *(self._external_files[name] for name in self._hard_files)]
        return [text for t in tables for text in self.texts_of(self._columns.unlabelled(t))]

    @property
    def unlabelled_ids(self) -> set[str]:
        """The ids of the training file's rows that are not learned."""
        return set(self._all_rows[self.settings.id]) - set(self._train_table[self.settings.id])

    @property
    def unlabelled_rows(self) -> int:
        """The number of rows of the training file that are not learned, since they have no label."""
        return len(self._all_rows) - len(self._train_table)

    @cached_property
    def label_remarks(self) -> list[str]:
        """Sentences about labels that may be spelled wrong, in train or in the sample."""
        found = []
        if self.kind.has_labels and not self._columns.one_hot:
            for same in alike(self.labels):
                found.append(
                    f"labels {' and '.join(repr(label) for label in same)} differ in case or white "
                    "space alone, and are different classes: fix the file if they are one"
                )
        return found + self.submission.label_remarks

    # The submission

    @cached_property
    def submission(self) -> Submission:
        """The sample submission, read and compared with the test file."""
        path, s = self.path("sample"), self.settings
        table = self.tables.read(s.files.sample)
        require(path, table, s.id)
        self.check_ids(path, table[s.id])
        ids = in_spelling_of(self.test.ids, table[s.id])
        test = self.path("test")
        test = test.relative_to(self.root) if test.is_relative_to(self.root) else test
        wanted, given = set(self.test.ids), set(ids)
        for a, b, where in ((given, wanted, test), (wanted, given, path.name)):
            only = sorted(a - b)
            if only:
                raise InputError(
                    f"{path}: ids differ from {test}: '{only[0]}' and "
                    f"{len(only) - 1} more are missing in {where}"
                )
        outputs = {*s.target, *self.labels, s.id}
        repeated = tuple(c for c in table.columns if c in self._test_table and c not in outputs)
        return Submission(path, table, s, self.labels, self.metric, ids.to_numpy(object), repeated)

    @property
    def submission_form(self) -> TableForm:
        """How a submission is written: as CSV, with the sample's delimiter if one is set."""
        form = self.settings.form_of(self.settings.files.sample)
        delimiter = None if form.delimiter == FIRST_SPACE else form.delimiter
        return replace(form, delimiter=delimiter, quoting="csv", columns={}, header=True)

    # What the data says of itself

    @cached_property
    def repeated_in_test(self) -> tuple[int, int]:
        """Return (training rows whose text is in test, test rows whose text is in training)."""
        train = [normalise(t) for t in self.train.texts]
        test = [normalise(t) for t in self.test.texts]
        in_test, in_train = set(test), set(train)
        return (
            sum(t in in_test for t in train if t.strip("\x1f")),
            sum(t in in_train for t in test if t.strip("\x1f")),
        )


def _filled(parts: list[tuple], row: dict[str, str]) -> str:
    """Return a template, parsed to parts, with a row's cells in it."""
    return "".join(text + row.get(name, "") for text, name, *_ in parts)


def require(path: Path, table: pd.DataFrame, column: str) -> None:
    """Raise InputError if the table lacks the column."""
    if column not in table.columns:
        raise InputError(
            f"{path}: column '{column}' is missing ({nearest(column, table.columns)}): fix the file "
            "or competition.yaml"
        )


def _numbers_or_texts(column: pd.Series) -> np.ndarray:
    """Return (n,) float, nan for empty cells, if the others are numbers; otherwise the texts."""
    values, empty = numbers_of(column), (column == "").to_numpy()
    only_numbers = not (np.isnan(values) & ~empty).any() and not empty.all()
    return values if only_numbers else column.to_numpy(dtype=object)


def _numbers_or_nothing(path: Path, column: pd.Series, wanted: str, what: str) -> np.ndarray:
    """Return (n,) float, nan for empty cells."""
    values = numbers_of(column)
    refuse_first(~np.isfinite(values) & (column != "").to_numpy(), path, column, wanted, what)
    return values


def _more_ties(ties: np.ndarray, more: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return (ties, 2), these and more, each once."""
    both = [ties, np.array(list(more), dtype=np.int64).reshape(-1, 2)]
    return np.unique(np.concatenate(both), axis=0)
