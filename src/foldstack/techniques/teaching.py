"""Settings of what other models teach: pseudo-labels and distillation."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.settings import (
    Listed,
    OneOrMore,
    Positive,
    Settings,
    Share,
    at_least_one,
    none_from_text,
    once_each,
)
from foldstack.techniques.common import Ratio, Temperature, UnitShare


def _weighted(given: Any) -> Any:
    """Return `{model: weight}` of a name, a list of names, or such a mapping."""
    if isinstance(given, str):
        given = given.replace(",", " ").split()
    names = [] if given is None else given
    if not isinstance(names, list | tuple | dict) or not all(isinstance(n, str) for n in names):
        raise ValueError("write models' names, or `{model: weight}`")
    once_each(at_least_one(names))
    return given if isinstance(given, dict) else dict.fromkeys(names, 1.0)


Teachers = Annotated[dict[str, Positive], BeforeValidator(_weighted)]

RECOMBINED = "recombined"  # pairs that are made of a run's own training rows


class Recombination(Settings):
    """Make new pairs of the sentences of training pairs, for teachers to label (Thakur et al. 2021,
    Augmented SBERT).

    A first sentence is paired with second ones of other pairs. No sentence of a row that is held out,
    or selects the epoch, is used, and no pair is made that is a training pair in either order.

    by: how partners are found: random; bm25: words in common, weighted by BM25; semantic: cosine of
        the vectors of the preset's backbone before training; bm25_semantic: those of both.
    top: partners per first sentence, by each way.
    most: most such rows per training row; of more, some are drawn at random.
    density: keep a row with probability min(1, ratio of the density of the training rows' targets to
        that of the new rows' labels, both at its label), by Gaussian kernels, so that the labels are
        distributed like the targets.
    """

    by: Literal["random", "bm25", "semantic", "bm25_semantic"] = "semantic"
    top: PositiveInt = 3
    most: Positive = 3.0
    density: bool = False

    @property
    def by_words(self) -> bool:
        return self.by in ("bm25", "bm25_semantic")

    @property
    def by_vectors(self) -> bool:
        return self.by in ("semantic", "bm25_semantic")

    def check_package(self) -> None:
        """Raise InputError if words are to be compared and bm25s is not installed."""
        if self.by_words and importlib.util.find_spec("bm25s") is None:
            raise InputError(
                f"pseudo_labels.recombine.by {self.by} requires the package bm25s, which is not "
                "installed: pip install 'foldstack[pairs]'"
            )


class PseudoLabels(Settings):
    """Learn unlabelled rows too, with the labels that other models predict (Lee 2013).

    The run that leaves a fold out is taught by the teachers' runs that leave it out, and no row that
    equals, nearly equals or shares a group with a held-out one is among them.

    teachers: models; several with their weights in the mean of probabilities: `{minilm: 2, tfidf: 1}`.
    texts: test: rows of the test file; pool: those of the files of `pool`; recombined: new pairs of the
        sentences of training pairs; or several of them.
    recombine: how recombined pairs are made.
    labels: soft: the probabilities; hard: what they decide.
    confidence: least probability of what is decided; of several labels, of each.
    agreement: only rows on which all teachers decide alike.
    top: most rows per class of each of the `texts`, those of highest confidence.
    weight: of each such row beside 1 for a training row.
    ratio: such rows per training row in each update of a network, whose epoch is then one pass over
        the training rows; none: an epoch has every row once.
    fitted: what of the teachers is fitted on training rows, each predicted by runs that have learned
        neither it nor the folds that are left out (`fold2-4`): calibration: a temperature for each
        teacher (Guo et al. 2017); weights: of their mean, by likelihood (Smyth and Wolpert 1999,
        Stacked density estimation), instead of given ones.
    """

    teachers: Teachers
    texts: OneOrMore[Literal["test", "pool", "recombined"]] = ("test",)
    recombine: Recombination = Recombination()
    labels: Literal["soft", "hard"] = "soft"
    confidence: Share = 0.0
    agreement: bool = False
    top: PositiveInt | None = None
    weight: Positive = 1.0
    ratio: Annotated[Ratio | None, BeforeValidator(none_from_text)] = None
    fitted: Listed[Literal["calibration", "weights"]] = ()

    @model_validator(mode="after")
    def _teachers_may_differ(self) -> PseudoLabels:
        if self.agreement and len(self.teachers) == 1:
            raise ValueError(
                "`agreement` is of several teachers: name another one, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _weights_once(self) -> PseudoLabels:
        if "weights" in self.fitted and len(self.teachers) == 1:
            raise ValueError(
                "`fitted` weights are of several teachers: name another one, or leave weights out"
            )
        if "weights" in self.fitted and len(set(self.teachers.values())) > 1:
            raise ValueError(
                "`fitted` names weights, but the teachers have given ones: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _recombined_texts(self) -> PseudoLabels:
        if self.recombine != Recombination() and not self.recombines:
            raise ValueError(
                "`recombine` says how pairs are recombined, but `texts` does not name recombined: add "
                "it, or leave `recombine` out"
            )
        return self

    @property
    def recombines(self) -> bool:
        """Whether pairs are made of training rows."""
        return RECOMBINED in self.texts

    @property
    def files(self) -> tuple[str, ...]:
        """The names of `texts` that are rows of files."""
        return tuple(name for name in self.texts if name != RECOMBINED)

    @property
    def compares_vectors(self) -> bool:
        """Whether vectors of the preset's backbone are compared."""
        return self.recombines and self.recombine.by_vectors

    def check_package(self) -> None:
        """Raise InputError if a package is not installed."""
        if self.recombines:
            self.recombine.check_package()

    def check(self, kind: Kind, pool: Sequence[str], segments: int = 1) -> None:
        """Raise ValueError if a setting does not apply to this kind of competition, or there is no pool.

        pool: names of the competition's pool files.
        segments: texts of a row that are read apart.
        """
        if self.recombines and segments != 2:
            raise ValueError(
                "pseudo_labels.texts recombined makes new pairs of sentences, but rows of this "
                f"competition have {segments} text{'s' * (segments != 1)}: set `pair: true` with two "
                "text columns, or leave recombined out"
            )
        if self.recombine.density and not (kind.is_values or kind.has_positive_class):
            raise ValueError(
                "pseudo_labels.recombine.density compares distributions of one score, but this "
                f"competition is {kind}: leave it out"
            )
        if "pool" in self.texts and not pool:
            raise ValueError(
                "pseudo_labels.texts names the pool, but competition.yaml has no `pool`: name a file "
                "there, or set texts to [test]"
            )
        decided = {
            "labels hard": self.labels == "hard",
            "confidence": self.confidence > 0,
            "agreement": self.agreement,
            "top": self.top is not None,
            f"fitted {' '.join(self.fitted)}": bool(self.fitted),
        }
        used = next((name for name, is_used in decided.items() if is_used), None)
        if kind.is_values and used:
            raise ValueError(
                f"pseudo_labels.{used} is for labels, but this competition is regression: leave it out"
            )
        if self.top is not None and kind.several_labels_per_row:
            raise ValueError(
                "pseudo_labels.top counts rows per class, but this competition is multilabel: set "
                "confidence instead"
            )


class Distillation(Settings):
    """Learn training rows from their labels and from what other models predict of them.

    teachers: models; several with their weights in the mean of probabilities.
    share: of the teachers in what is learned of each row, the rest is its label.
    temperature: T of Hinton et al. 2015: the loss is (1 - share) times that of the labels plus share
        times T² times the cross-entropy between the probabilities of the teachers' logits and of the
        learner's own, both divided by T. At 1 the teachers are mixed into the targets, which any
        learner takes; at any other one a network must learn, from classes or labels.
    labels: soft: the teachers' probabilities; hard: what these decide.
    by: unseen: runs that have learned neither the row nor the folds that are left out (`fold2-4`);
        out_of_fold: the row's out-of-fold prediction, as public notebooks do, whose run has learned the
        labels of the held-out fold: the score is marked OPTIMISTIC.
    """

    teachers: Teachers
    share: Annotated[UnitShare, Field(gt=0)] = 0.5
    temperature: Temperature = 1.0
    labels: Literal["soft", "hard"] = "soft"
    by: Literal["unseen", "out_of_fold"] = "unseen"

    @property
    def is_tempered(self) -> bool:
        """Whether the teachers' probabilities are a loss of their own, beside that of the labels."""
        return self.temperature != 1

    @model_validator(mode="after")
    def _hard_labels_have_no_temperature(self) -> Distillation:
        if self.is_tempered and self.labels == "hard":
            raise ValueError(
                "`temperature` softens probabilities, and labels hard leaves none: set one of them only"
            )
        return self

    def check(self, kind: Kind) -> None:
        """Raise ValueError if a setting does not apply to this kind of competition."""
        of_labels = {"temperature": self.is_tempered, "labels hard": self.labels == "hard"}
        used = next((name for name, is_used in of_labels.items() if is_used), None)
        if kind.is_values and used:
            raise ValueError(
                f"distil.{used} is for labels, but this competition is regression: leave it out"
            )


class JointDistillation(Settings):
    """Train a teacher and its student together, which learns from what the teacher predicts meanwhile.

    The student's loss is that of its targets plus weight times T² times the cross-entropy between the
    probabilities of the teacher's logits and of its own, both divided by T (Hinton et al. 2015; Anil
    et al. 2018). The teacher learns the targets alone. Each counts half; the student is what predicts.

    weight: of the teacher beside the targets.
    temperature: T.
    """

    weight: Positive = 1.0
    temperature: Temperature = 1.0
