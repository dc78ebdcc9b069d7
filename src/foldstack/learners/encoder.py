"""Encoding of rows as the network's input, fitted on the training rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from transformers import PreTrainedTokenizerBase

from foldstack.files import read_json, write_json
from foldstack.learners import Task
from foldstack.learners.columns import FeatureColumns
from foldstack.learners.keyword_columns import KEYWORDS, KeywordColumns
from foldstack.learners.other_order import OtherOrder, exchanged
from foldstack.links import softened
from foldstack.progress import say
from foldstack.rows import PSEUDO, Rows
from foldstack.techniques import (
    AUTO,
    Beginning,
    SequenceSettings,
    TrainingSettings,
    Windows,
)
from foldstack.text.augment import Augmenter
from foldstack.text.augment.resources import NOTHING, Resources
from foldstack.text.cache import TokenCache
from foldstack.text.cutting import Texts, auto_length, cut_texts, fit_keywords
from foldstack.text.keywords import KeywordTable
from foldstack.text.laid import Laid
from foldstack.text.pairs import check_pairs, in_an_order, in_both_orders, turned
from foldstack.text.spans import mask_spans
from foldstack.text.special import set_special
from foldstack.text.tokens import Tokens, mean_by_row, to_tokens
from foldstack.training.loop import Examples, Sequences
from foldstack.training.unlabelled import Unlabelled


@dataclass(frozen=True)
class Scale:
    """Scaling of regression targets, (target - shift) / unit; both have shape (outputs,).

    bounded: a sigmoid is applied to the logits before the scaling is inverted.
    """

    shift: np.ndarray
    unit: np.ndarray
    bounded: bool

    @classmethod
    def of(cls, rows: Rows, bounded: bool) -> Scale:
        """Fit on these rows: to 0 … 1 from minimum to maximum if bounded, else standardised (weighted).

        A constant column has unit 1.
        """
        counted = rows.targets[rows.weights > 0]
        least, width = counted.min(axis=0), np.ptp(counted, axis=0)
        if bounded:
            return cls(least, np.where(width > 0, width, 1.0), bounded)
        mean = np.average(rows.targets, axis=0, weights=rows.weights)
        std = np.sqrt(np.average((rows.targets - mean) ** 2, axis=0, weights=rows.weights))
        return cls(mean, np.where(width > 0, std, 1.0), bounded)

    def apply(self, targets: np.ndarray) -> np.ndarray:
        """Return (n, outputs) scaled targets; if bounded, rows of zero weight are clipped to 0 … 1."""
        scaled = (targets - self.shift) / self.unit
        return np.clip(scaled, 0, 1) if self.bounded else scaled

    def restore(self, logits: np.ndarray) -> np.ndarray:
        """Return (n, outputs) float32 values in the units of the targets, from logits."""
        values = expit(logits) if self.bounded else logits
        return (values * self.unit + self.shift).astype(np.float32)


def zero_to_one(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return (n, a) values scaled to 0 … 1 between minimum and maximum of (m, a) others; NaN stays.

    A constant column is 0. What is beyond is clipped.
    """
    least, greatest = np.fmin.reduce(counted), np.fmax.reduce(counted)
    return np.clip((values - least) / np.where(greatest > least, greatest - least, 1.0), 0, 1)


def in_turn(examples: Examples, exchanged: Examples, turn: np.ndarray) -> Examples:
    """Return the examples with the targets of `exchanged` where `turn` (n,) says so."""
    chosen = torch.from_numpy(turn)[:, None]

    def of(name: str) -> torch.Tensor | None:
        plain = getattr(examples, name)
        return None if plain is None else torch.where(chosen, getattr(exchanged, name), plain)

    names = ("targets", "auxiliary", "taught")
    return replace(examples, **{name: of(name) for name in names})


class Encoder:
    """Encoding of texts as tokens, of targets, and of feature columns as numbers.

    All that is fitted (length, keywords, listed ones too, scale, columns, augmentation) is fitted on
    the training rows only, and stored with the model. tokenizer: the backbone's. types: whether token
    types separate the texts of a pair. limit: maximum number of tokens, by the backbone's positions.
    longest: most tokens that `max_length: auto` chooses, if given. cache: of tokenised texts, except
    those that are resampled in each epoch. listed: file of the user's keywords, if any. laid: the
    template around the texts, if any. beside: what augmentation reads beside the rows.
    """

    def __init__(
        self,
        settings: SequenceSettings,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        *,
        types: bool,
        limit: int,
        longest: int | None = None,
        cache: TokenCache | None = None,
        listed: Path | None = None,
        laid: Laid | None = None,
        beside: Resources = NOTHING,
    ):
        self.settings, self.task, self.tokenizer = settings, task, tokenizer
        self.types, self.limit, self.longest, self.cache = types, limit, longest, cache
        given = settings.training.max_length
        self.max_length: int | None = None if given == AUTO else given  # auto: until it is fitted
        self._set_special(settings.special_tokens)
        self.laid = laid
        self.other = OtherOrder.of(settings.both_orders, task) if settings.both_orders else None
        self.keywords: KeywordTable | None = None
        self.scale: Scale | None = None
        self.columns: FeatureColumns | None = None
        self._file, self.beside = listed, beside
        self.listed: KeywordColumns | None = None

    def _set_special(self, read_as: str) -> None:
        self.special_tokens = read_as
        written = (self.settings.prefix, *self.task.templates)
        set_special(self.tokenizer, read_as == "text", written)

    @property
    def feature_width(self) -> int:
        listed = self.listed.width + self.embedded_width if self.listed else 0
        return (self.columns.width if self.columns else 0) + listed

    @property
    def embedded_width(self) -> int:
        """Number of the last feature columns that are embedded: shares of keywords' categories."""
        return len(self.listed.groups) if self.listed else 0

    def fit(self, train: Rows) -> Examples:
        """Fit on these rows; return them encoded."""
        s = self.settings
        if s.both_orders is not None and not s.both_orders.texts:
            check_pairs(train, "both_orders exchanges")
        if s.join_features:
            self.columns = FeatureColumns.of(train, self.task.categories)
        if s.keywords:
            self.listed = KeywordColumns.of(self._file, train.joined_texts())
        if self.task.kind.is_values:
            moved = self.other is not None and self.other.changes_targets
            both = train.concatenated(self.other.rows(train)) if moved else train
            self.scale = Scale.of(both, bounded=s.bounded)
        texts = self._read(train)
        if joining := texts.joining(self.types):
            say(joining)
        self._fit_length(texts)
        self.keywords = fit_keywords(s.long, train)
        return self._examples(train, self._cut(texts, training=True))

    def fit_texts(self, rows: Rows) -> Tokens:
        """Fit the length only, on rows without labels; return all of their texts, in windows.

        Several segments are truncated instead, since they must stay together.
        """
        texts = Texts.read(rows, self.tokenizer, self.settings.prefix, self.cache)
        self._fit_length(texts)
        most = int(texts.lengths.max())
        single = len(texts.columns) == 1
        whole = Windows(name="windows", overlap=0, most=most) if single else Beginning()
        return to_tokens(texts, cut_texts(texts, self.max_length, whole), self.types)

    def _fit_length(self, texts: Texts) -> None:
        s = self.settings
        if self.max_length is None:
            length = auto_length(texts, s.training.length_quantile)
            self.max_length = min(length, self.longest or length)
            share = f"{s.training.length_quantile:.0%}"
            what = f"the length {self.max_length}, enough for {share} of the rows,"
            if self.max_length < length:
                say(
                    f"{share} of the rows have up to {length} tokens: `max_length: auto` reads the "
                    f"first {self.max_length}; training.max_length={length} reads more and takes longer"
                )
        else:
            what = f"training.max_length {self.max_length}"
        if self.max_length > self.limit:
            say(f"{what} is more than the backbone's {self.limit} positions: using {self.limit}")
            self.max_length = self.limit

    def tokens(self, rows: Rows) -> Tokens:
        """Return the tokens of rows to be predicted; both orders of a pair are two of its windows."""
        tokens = self._cut(self._read(rows))
        if self.other is None:
            return tokens
        return in_both_orders(tokens, self._cut(self._read(self.other.rows(rows))))

    def whole(self, rows: Rows) -> np.ndarray:
        """Return (n,) whether each row fits the model's input without being cut."""
        return self._read(rows).lengths <= self.max_length

    def restore(self, logits: np.ndarray, tokens: Tokens) -> np.ndarray:
        """Return (n, outputs) values in the units of the targets, from logits per token sequence."""
        if self.other is None or not self.other.changes_targets:
            logits = mean_by_row(logits, tokens.rows)
            return self.scale.restore(logits) if self.scale else logits
        found = self.scale.restore(logits) if self.scale else logits.copy()
        found[1::2] = self.other.logits(found[1::2])
        return mean_by_row(found, tokens.rows)

    def epochs(
        self, train: Rows, examples: Examples, stage: TrainingSettings, seed: int
    ) -> Callable[[int], Examples]:
        """Return a function from the epoch to its examples, with resampled texts, windows or masks.

        Args:
            train: n training rows.
            examples: these rows encoded, as `fit` returned them.
            stage: settings of the stage.
            seed: of the resampling.
        """
        tokens = self.tokens_by_epoch(train, examples, stage, seed)
        turned_ = None
        if self.settings.learns_both_orders and self.other.changes_targets:
            turned_ = self._examples(self.other.rows(train), examples.tokens)

        def of_epoch(epoch: int) -> Examples:
            drawn = replace(examples, tokens=tokens(epoch))
            if turned_ is None:
                return drawn
            return in_turn(drawn, turned_, turned(len(train), seed, epoch))

        return of_epoch

    def tokens_by_epoch(
        self, train: Rows, examples: Examples, stage: TrainingSettings, seed: int
    ) -> Callable[[int], Sequences]:
        """Return a function from the epoch to its token sequences, before rows are sampled from them.

        Args:
            train: n training rows.
            examples: these rows encoded, as `fit` returned them.
            stage: settings of the stage.
            seed: of the resampling.
        """
        changed = other = None
        if self.settings.new_texts_each_epoch:
            changed = Augmenter.of(self.settings.augment, train, self.beside)
        turns = self.settings.learns_both_orders
        if turns and changed is None:
            other = self._cut(self._read(self.other.rows(train)), training=True)

        def of_epoch(epoch: int) -> Sequences:
            tokens, reversed_ = examples.tokens, other
            if changed is not None:
                drawn = replace(train, texts=changed.texts(train, seed, epoch))
                tokens = self._cut_drawn(drawn)
                reversed_ = self._cut_drawn(self.other.rows(drawn)) if turns else None
            if not isinstance(tokens, Tokens):  # but the outputs of a frozen backbone
                return tokens
            tokens = tokens.for_epoch(seed, epoch)
            if reversed_ is not None:
                tokens = in_an_order(tokens, reversed_, turned(len(train), seed, epoch))
            if not stage.mask_spans:
                return tokens
            return mask_spans(tokens, train.ids, self.tokenizer, stage.mask_spans, seed, epoch)

        return of_epoch

    def _cut_drawn(self, rows: Rows) -> Tokens:
        """Return the tokens of resampled training texts, which no cache holds."""
        return self._cut(self._read(rows, cached=False), training=True)

    def unlabelled(self, rows: Rows) -> Callable[[int], Unlabelled]:
        """Return a function from the seed to these rows for consistency training.

        Raises InputError if a change of the texts is unavailable or changes none.
        """
        changes = Augmenter.of(self.settings.consistency_changes, rows, self.beside)
        texts = self._cut(self._read(rows))

        def with_seed(seed: int) -> Unlabelled:
            def changed(epoch: int, which: np.ndarray) -> Tokens:
                some = rows.take(which)
                drawn = replace(some, texts=changes.texts(some, seed, epoch, always=True))
                return self._cut(self._read(drawn, cached=False))

            return Unlabelled(self.settings.consistency, texts, changed, seed)

        return with_seed

    def _read(self, rows: Rows, *, cached: bool = True) -> Texts:
        cache = self.cache if cached else None
        return Texts.read(rows, self.tokenizer, self.settings.prefix, cache, self.laid)

    def _cut(self, texts: Texts, *, training: bool = False) -> Tokens:
        long, keywords = self.settings.long, self.keywords
        cut = cut_texts(texts, self.max_length, long, keywords=keywords, training=training)
        tokens = to_tokens(texts, cut, self.types)
        features = self._features(texts.rows)
        if features is None:
            return tokens
        return replace(tokens, features=features if tokens.rows is None else features[tokens.rows])

    def _features(self, rows: Rows) -> np.ndarray | None:
        """Return (n, feature_width) float32 inputs of the head beside the texts; None without any."""
        parts = []
        if self.columns:
            parts.append(self.columns.apply(rows.features, self.task.categories))
        if self.listed:
            parts.append(self.listed.wide_and_deep(rows.joined_texts()))
        return np.hstack(parts) if parts else None

    def _auxiliary(self, rows: Rows) -> np.ndarray:
        """Return (n, a) auxiliary targets in 0 … 1; columns that change places have one scale."""
        counted = rows.auxiliary[rows.weights > 0]
        if self.other is not None:
            counted = np.vstack([counted, exchanged(counted, self.other.auxiliary)])
        return zero_to_one(rows.auxiliary, counted)

    def _examples(self, rows: Rows, tokens: Tokens) -> Examples:
        """Return the rows as examples; the windows of a row share its weight."""
        targets, weights, difficulty = rows.targets, rows.weights, rows.difficulty
        pseudo = rows.origin == PSEUDO
        taught, distil = rows.taught, self.settings.distil
        targets = self.scale.apply(targets) if self.scale else targets
        if tokens.rows is not None:
            weights = (weights / np.bincount(tokens.rows))[tokens.rows]
            targets = targets[tokens.rows]
            difficulty = None if difficulty is None else difficulty[tokens.rows]
            pseudo = pseudo[tokens.rows]
            taught = None if taught is None else taught[tokens.rows]
        further = self._auxiliary(rows) if self.settings.learns_auxiliary else None
        if further is not None and tokens.rows is not None:
            further = further[tokens.rows]
        if taught is not None:
            taught = softened(taught, self.task.link, distil.temperature)
        return Examples(
            tokens,
            torch.tensor(targets, dtype=torch.float32),
            torch.tensor(weights, dtype=torch.float32),
            self.task.link,
            None if further is None else torch.tensor(further, dtype=torch.float32),
            difficulty,
            pseudo if pseudo.any() else None,
            None if taught is None else torch.tensor(taught, dtype=torch.float32),
            distil,
        )

    def save(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)
        facts: dict = {"max_length": self.max_length, "special_tokens": self.special_tokens}
        if self.scale:
            facts |= {"shift": self.scale.shift.tolist(), "unit": self.scale.unit.tolist()}
            facts["bounded"] = self.scale.bounded
        if self.columns:
            facts["columns"] = asdict(self.columns)
        if self.keywords:
            write_json(folder / "keywords.json", self.keywords.to_json())
        if self.listed:
            write_json(folder / KEYWORDS, asdict(self.listed))
        write_json(folder / "classifier.json", facts)

    def load(self, folder: Path) -> None:
        facts = read_json(folder / "classifier.json")
        self.max_length = facts["max_length"]
        self._set_special(facts.get("special_tokens", "tokens"))  # older runs read the tokens
        self.columns = FeatureColumns.from_json(facts["columns"]) if "columns" in facts else None
        if (folder / KEYWORDS).exists():
            self.listed = KeywordColumns.from_json(read_json(folder / KEYWORDS))
        if self.settings.long.fits_keywords:
            self.keywords = KeywordTable.from_json(read_json(folder / "keywords.json"))
        if self.task.kind.is_values:
            self.scale = Scale(np.array(facts["shift"]), np.array(facts["unit"]), facts["bounded"])
