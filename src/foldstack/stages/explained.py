"""Predictions of typed texts and uploaded files by a blend, with their reasons."""

from __future__ import annotations

import errno
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack.errors import InputError
from foldstack.files import csv_text, writing
from foldstack.links import to_logits
from foldstack.patterns.rules import CompiledRule
from foldstack.records import (
    Attribution,
    ExplainedText,
    NamedValues,
    Neighbour,
    PredictedUpload,
    PreviewRow,
    RuleHit,
)
from foldstack.rows import Rows, normalise, text_digests
from foldstack.stages.combination import Outcome
from foldstack.stages.predictor import Prediction, Predictor
from foldstack.stages.shown_rows import text_parts
from foldstack.text.occlusion import occlude
from foldstack.text.similar import SimilarTexts

PREVIEW = 20  # rows of a file
NEIGHBOURS = 5
MOST_CHARACTERS = 300  # of a shown text
TYPED = "the typed text"


@dataclass
class Explainer:
    """A blend or a model that explains its predictions; `name`: what it is called beside its models."""

    predictor: Predictor
    name: str
    texts: int = field(default=0, init=False)
    files: int = field(default=0, init=False)

    def row(self, values: Mapping[str, str]) -> Rows:
        """Return typed columns as a row; raise InputError if all texts are empty."""
        names = self.predictor.ws.competition.settings.text
        if not any(values.get(name, "").strip() for name in names):
            column = f"'{names[0]}'" if len(names) == 1 else " and ".join(f"'{n}'" for n in names)
            raise InputError(f"{column} {'is' if len(names) == 1 else 'are'} empty: type a text")
        table = pd.DataFrame([dict(values)], dtype=object)
        return self.predictor.rows_of(table, TYPED)

    def explain(self, row: Rows) -> ExplainedText:
        """Return the prediction of one row with its rules and neighbours, without attributions."""
        runs = self.predictor.of_runs(row)
        found = self.predictor.patterned(self.predictor.blended(runs, row), row)
        prediction = self.predictor.named(found)
        self.texts += 1
        return ExplainedText(
            label=prediction.labels[0] if prediction.labels else None,
            by=prediction.by[0] if prediction.by else None,
            says=self._says(prediction, self.predictor.means(runs)),
            hits=self._hits(row, prediction),
            neighbours=self._neighbours(row),
        )

    def attributed(self, found: ExplainedText, row: Rows) -> ExplainedText:
        """Return the same with the effect of each word of the row on the blend and on each model."""
        plain = self.predictor.blended(self.predictor.of_runs(row), row)
        output, sign, toward = self._toward(plain)
        # A blend of one model says what the model says.
        blend = len(self.predictor.members) > 1

        def score(rows: Rows, _: np.ndarray) -> np.ndarray:
            runs = self.predictor.of_runs(rows)
            of_all = list(self.predictor.means(runs).values())
            scores = [self._scale(p[:, output]) for p in of_all]
            if blend:
                values = self.predictor.blended(runs, rows).values[:, output]
                scores.insert(0, values if self.predictor.of_ranks else self._scale(values))
            return sign * np.column_stack(scores)

        (occlusion,) = occlude(row, score)
        names = [*([self.name] if blend else []), *self.predictor.members]
        own = [
            Attribution(model=name, toward=toward, parts=text_parts(occlusion.of(k)))
            for k, name in enumerate(names)
        ]
        return found.model_copy(update={"attributions": own})

    def predict_file(self, file: Path, out: Path) -> PredictedUpload:
        """Write the predictions of a file's rows in the form of the sample submission.

        The texts are recorded as those of `predict` are, so that a later run that learns from labels
        made this way is marked.

        Args:
            file: of any format that the tables reader knows.
            out: the CSV to write.

        Raises:
            InputError: it is no such file, or lacks a column; nothing is written then.
        """
        try:
            return self._predict_file(file, out)
        except InputError as e:  # the upload's folder means nothing to the user
            raise InputError(str(e).replace(str(file), file.name)) from None

    # A text

    def _says(self, prediction: Prediction, means: dict[str, np.ndarray]) -> list[NamedValues]:
        """Return what the blend says and, if there are several or patterns, what each model says."""
        own = prediction.probabilities.iloc[0].to_numpy()
        columns = list(prediction.probabilities.columns)
        rules = self.predictor.ws.patterns is not None
        of_all = [(f"{self.name} with rules" if rules else self.name, own)]
        if len(means) > 1 or rules:
            both = self.predictor.ws.competition.kind.has_positive_class
            of_all += [
                (name, np.array([1 - p[0, 0], p[0, 0]]) if both else p[0])
                for name, p in means.items()
            ]
        return [
            NamedValues(name=name, values=dict(zip(columns, map(float, values), strict=True)))
            for name, values in of_all
        ]

    def _hits(self, row: Rows, prediction: Prediction) -> list[RuleHit]:
        """Return the rules that match, whether or not they decide."""
        patterns = self.predictor.ws.patterns
        if patterns is None or self.predictor.ws.competition.kind.is_values:
            return []
        deciding = set(prediction.by[0].split("|")) if prediction.by else set()
        forms = [normalise(text) for text in row.texts]
        hits = []
        for name, rule in zip(patterns.names, patterns.rules, strict=False):
            claimed = rule.says(row.texts, forms)[0]
            if (claimed >= 0).any():
                hits.append(self._hit(name, rule, claimed, name in deciding))
        return hits

    def _hit(self, name: str, rule: CompiledRule, claimed: np.ndarray, decides: bool) -> RuleHit:
        return RuleHit(
            rule=name,
            matches="its list of texts" if rule.cached else f"/{rule.pattern.pattern}/",
            says=self._claimed(claimed),
            confidence=rule.confidence,
            decides=decides,
        )

    def _claimed(self, values: np.ndarray) -> str:
        """Return the labels that a rule claims by (units,) values; -1 claims nothing."""
        labels = self.predictor.ws.competition.labels
        if len(values) == 1:
            return labels[values[0]]
        return ", ".join(
            labels[k] if values[k] else f"not {labels[k]}" for k in np.flatnonzero(values >= 0)
        )

    def _neighbours(self, row: Rows) -> list[Neighbour]:
        competition = self.predictor.ws.competition
        train, own = competition.train, normalise(row.texts[0])
        found = self._similar.nearest(row.joined_texts()[0], NEIGHBOURS)
        labels = competition.named(train.targets[[k for k, _ in found]]) if found else []
        return [
            Neighbour(
                id=str(train.ids[k]),
                label=label,
                similarity=cosine,
                same=normalise(train.texts[k]) == own,
                text=_shortened(train.texts[k]),
            )
            for (k, cosine), label in zip(found, labels, strict=True)
        ]

    @cached_property
    def _similar(self) -> SimilarTexts:
        return SimilarTexts(self.predictor.ws.competition.train.joined_texts())

    # Its words

    def _toward(self, found: Outcome) -> tuple[int, float, str]:
        """Return the output that is explained, its sign, and what it favours.

        It is what the models decide; of several labels the most probable one.
        """
        competition = self.predictor.ws.competition
        labels, values = competition.labels, found.values[0]
        if competition.kind.is_values:
            return 0, 1.0, labels[0]
        if competition.kind.has_positive_class:
            holds = int(found.decisions[0, 0] > 0.5)
            return 0, 1.0 if holds else -1.0, labels[holds]
        decided = found.decisions[0] > 0.5
        output = int(np.where(decided | ~decided.any(), values, -np.inf).argmax())
        return output, 1.0, labels[output]

    def _scale(self, values: np.ndarray) -> np.ndarray:
        """Return log odds of probabilities, and values of a regression as they are."""
        return values if self.predictor.ws.competition.kind.is_values else to_logits(values)

    # A file

    def _predict_file(self, file: Path, out: Path) -> PredictedUpload:
        competition = self.predictor.ws.competition
        form, new = competition.submission_form, self.predictor.file(file)
        counts: Counter[str] = Counter()
        preview: list[PreviewRow] = []
        digests = []
        with writing(out, competition.settings.encoding) as f:
            for start, part, rows in new.parts():
                found = self.predictor.outcome(rows)
                table = found.form(competition.submission, rows, part)
                f.write(csv_text(table, header=start == 0, sep=form.delimiter or ","))
                prediction = self.predictor.named(found)
                counts.update(prediction.labels or ())
                preview += self._preview(rows, prediction, PREVIEW - len(preview))
                digests.append(text_digests(rows.texts))
        self.files += 1
        return PredictedUpload(
            file=str(out),
            rows=new.stream.rows,
            labels=dict(counts.most_common()),
            preview=preview,
            unrecorded=self._remember(np.concatenate(digests)),
        )

    def _preview(self, rows: Rows, prediction: Prediction, most: int) -> list[PreviewRow]:
        one = self.predictor.ws.competition.kind.one_class_per_row
        found = []
        for k in range(min(most, len(rows))):
            p = prediction.probabilities.iloc[k]
            says = ", ".join(f"{value:.4g}" for value in p)
            if prediction.labels is not None:
                says = prediction.labels[k]
            confidence = float(p[says]) if one else math.nan
            found.append(
                PreviewRow(
                    id=str(rows.ids[k]),
                    text=_shortened(rows.texts[k]),
                    says=says,
                    confidence=confidence,
                )
            )
        return found

    def _remember(self, digests: np.ndarray) -> str | None:
        """Record texts as labelled; return why the workspace cannot be written to."""
        try:
            self.predictor.ws.store.predictions.remember(digests)
        except OSError as e:
            if not isinstance(e, PermissionError) and e.errno != errno.EROFS:
                raise
            return e.strerror
        return None


def _shortened(texts: tuple[str, ...]) -> str:
    """Return the beginning of a row's segments."""
    whole = " ¦ ".join(texts)
    return whole if len(whole) <= MOST_CHARACTERS else whole[:MOST_CHARACTERS] + "…"
