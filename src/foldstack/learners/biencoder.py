"""The learner of a bi-encoder: sentences' vectors, compared pair by pair."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from transformers import PreTrainedTokenizerBase

from foldstack.config import digest
from foldstack.errors import InputError
from foldstack.files import read_json, write_json
from foldstack.learners import LearnerContext
from foldstack.learners.encoder import Encoder, Scale
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.classifier import positions
from foldstack.nets.siamese import BiEncoder, Sentences
from foldstack.progress import say
from foldstack.rows import Rows, evenly
from foldstack.techniques import BiEncoderSettings, TrainingSettings
from foldstack.text.augment import Augmenter
from foldstack.text.batches import Sequences
from foldstack.text.cutting import Texts
from foldstack.text.pairs import PairTokens, Sentenced, turned
from foldstack.text.tokens import Tokens
from foldstack.training import loop
from foldstack.training.pair_criteria import CRITERION
from foldstack.training.precision import cast_once

LINE = "line.json"
MOST = 20_000  # pairs that the line is fitted on
AT_ONCE = 1 << 16  # pairs


class PairEncoder(Encoder):
    """Encoding of sentence pairs as the tokens of each sentence by itself."""

    def fit(self, train: Rows) -> loop.Examples:
        """Fit on these rows; return them encoded, with targets in 0 … 1."""
        self._check(train)
        found = Sentenced.of(train.texts)
        texts = self._read(found.rows)
        self._fit_length(texts)
        targets = train.targets
        if self.task.kind.is_values:
            self.scale = replace(Scale.of(train, bounded=True), bounded=False)
            targets = np.clip(self.scale.apply(targets), 0, 1)
        tokens = PairTokens(
            self._cut(texts, training=True), found.first, found.second, targets, train.weights
        )
        return loop.Examples(
            tokens,
            torch.tensor(targets, dtype=torch.float32),
            torch.tensor(train.weights, dtype=torch.float32),
            self.task.link,
        )

    def tokens_by_epoch(
        self, train: Rows, examples: loop.Examples, stage: TrainingSettings, seed: int
    ) -> Callable[[int], PairTokens]:
        tokens, n = self._texts_by_epoch(train, examples, seed), len(train)
        if not self.settings.learns_both_orders:
            return tokens
        return lambda epoch: tokens(epoch).turned(turned(n, seed, epoch))

    def _texts_by_epoch(
        self, train: Rows, examples: loop.Examples, seed: int
    ) -> Callable[[int], PairTokens]:
        if not self.settings.new_texts_each_epoch:
            return lambda epoch: examples.tokens
        changed = Augmenter.of(self.settings.augment, train, self.beside)

        def of_epoch(epoch: int) -> PairTokens:
            found = Sentenced.of(changed.texts(train, seed, epoch))
            texts = Texts.read(found.rows, self.tokenizer, self.settings.prefix)
            sentences = self._cut(texts, training=True)
            return replace(
                examples.tokens, sentences=sentences, first=found.first, second=found.second
            )

        return of_epoch

    def tokens(self, rows: Rows) -> PairTokens:
        self._check(rows)
        found = Sentenced.of(rows.texts)
        return PairTokens(self.of_sentences(found), found.first, found.second)

    def of_sentences(self, found: Sentenced) -> Tokens:
        """Return the tokens of each sentence."""
        return self._cut(self._read(found.rows))

    @staticmethod
    def _check(rows: Rows) -> None:
        segments = len(rows.texts[0]) if len(rows) else 2
        if segments != 2:
            raise InputError(
                f"learner biencoder compares two texts per row, but `text` in competition.yaml names "
                f"{segments}: name two, or take another learner"
            )


@dataclass(frozen=True)
class CosineLine:
    """A pair's logit (binary), or its target in 0 … 1 (regression), from its cosine."""

    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def of(cls, cosines: np.ndarray, tokens: PairTokens, link: str) -> CosineLine:
        """Fit to (n,) cosines of training pairs, by weighted logistic or linear regression."""
        x, y, weights = cosines[:, None], tokens.targets[:, 0], tokens.weights
        if link == "identity":
            fitted = LinearRegression().fit(x, y, weights)
            return cls(float(fitted.coef_[0]), float(fitted.intercept_))
        both = np.concatenate([weights * y, weights * (1 - y)])
        seen, labels = both > 0, np.repeat([1, 0], len(y))
        if len(np.unique(labels[seen])) < 2:
            return cls()
        fitted = LogisticRegression().fit(np.tile(x, (2, 1))[seen], labels[seen], both[seen])
        return cls(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


class BiEncoderLearner(TransformerLearner):
    """A backbone and a pooling, trained so that the vectors of a pair's sentences tell its target."""

    settings: BiEncoderSettings
    criterion = CRITERION

    def __init__(self, settings: BiEncoderSettings, context: LearnerContext):
        super().__init__(settings, context)
        self.line = CosineLine()
        self._learned: PairTokens | None = None

    def _encoder(
        self, backbone: torch.nn.Module, tokenizer: PreTrainedTokenizerBase
    ) -> PairEncoder:
        return PairEncoder(
            self.settings,
            self.task,
            tokenizer,
            types=False,
            limit=positions(backbone, tokenizer),
            longest=self._longest,
            cache=self.cache,
            beside=self.beside,
        )

    def _classifier(self, backbone: torch.nn.Module, auxiliary: int = 0) -> BiEncoder:
        s = self.settings
        options = {"head": s.head, "pair_loss": s.pair_loss, "link": self.link}
        return BiEncoder(backbone, len(self.task.outputs), s.dropout, **options)

    def prepare(self, train: Rows, learned: int | None = None) -> loop.Examples:
        examples = super().prepare(train, learned)
        self._learned = examples.tokens
        return examples

    def fit(self, train: Rows, select: Rows | None, run_dir: Path) -> dict:
        facts = super().fit(train, select, run_dir)
        self._fit_line(self.model.to(self.accelerator.device))
        self._learned = None
        return facts

    def _fit_line(self, net: torch.nn.Module) -> None:
        """Fit the line to evenly spaced training pairs."""
        if net.head is not None:
            return
        some = self._learned.take(evenly(len(self._learned.first), MOST))
        scores = self._scores(net, some, "training pairs")
        self.line = CosineLine.of(scores[:, 0].astype(float), some, self.link)

    def _judge(self, select: Rows, held: PairTokens, net: torch.nn.Module) -> loop.EpochScore:
        self._fit_line(net)
        return super()._judge(select, held, net)

    def _predict(self, net: torch.nn.Module, tokens: PairTokens, what: str = "") -> np.ndarray:
        """Return logits; each different sentence runs through the network once."""
        scores = self._scores(net, tokens, what)
        if net.head is None:
            scores = scores * self.line.slope + self.line.intercept
        return self.encoder.restore(scores.astype(np.float32), tokens)

    def _scores(self, net: BiEncoder, tokens: PairTokens, what: str) -> np.ndarray:
        """Return the (n, outputs) cosines of pairs, or outputs of the linear layer."""
        used, places = np.unique([tokens.first, tokens.second], return_inverse=True)
        first, second = places.reshape(2, -1)
        device = self.accelerator.device
        found = self.vectors_of(net, loop.Taken(tokens.sentences, used), what)
        vectors, made = torch.from_numpy(found), []
        with torch.no_grad():
            net.eval()
            for start in range(0, len(first), AT_ONCE):
                u, v = (vectors[at[start : start + AT_ONCE]].to(device) for at in (first, second))
                scores = net.scores(u, v)
                if self.settings.predicts_both_orders:
                    scores = (scores + net.scores(v, u)) / 2
                made.append(scores.cpu().numpy())
        return np.concatenate(made)

    def vectors_of(self, net: BiEncoder, tokens: Sequences, what: str = "") -> np.ndarray:
        """Return (n, size) float32 vectors of n sentences."""
        with cast_once(net.backbone, self.precision), self.accelerator.autocast():
            return loop.predict(Sentences(net), tokens, self.accelerator.device, what)

    def text_network(self, fitted: str | None) -> SentenceNetwork:
        """Return the network from a sentence to its vector; see `learners.GivesVectors`."""
        return SentenceNetwork(self, fitted)

    def attention(self, rows: Rows) -> None:
        """None: weights of two sentences that are read apart are not those of a pair."""

    def save(self, folder: Path) -> None:
        super().save(folder)
        write_json(folder / LINE, asdict(self.line))

    def load(self, folder: Path) -> None:
        super().load(folder)
        self.line = CosineLine(**read_json(folder / LINE))


class SentenceNetwork:
    """A fitted bi-encoder as a `text.vector_cache.TextNetwork`; content: of its fitted model."""

    def __init__(self, learner: BiEncoderLearner, content: str):
        self.learner, self.content = learner, content
        self.size, self.precision = learner.model.pooling.size, learner.precision

    @property
    def key(self) -> str:
        device = self.learner.accelerator.device.type
        machine = [self.precision, device, importlib.metadata.version("torch")]
        return digest([self.content, *machine])

    def fill(self, texts: Sequence[str], out: np.ndarray) -> None:
        """Compute the (n, size) vectors of n different texts."""
        learner = self.learner
        found = Sentenced.of([(text, text) for text in texts])
        tokens = learner.encoder.of_sentences(found)
        if tokens.cut:
            length = learner.encoder.max_length
            say(f"{tokens.cut:,} of {len(texts):,} texts are cut at max_length {length}")
        net = learner.model.to(learner.accelerator.device)
        out[:] = learner.vectors_of(net, tokens, "texts")
