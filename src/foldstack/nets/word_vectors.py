"""The body of a network from scratch: word vectors, with dropout of words and of features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foldstack.nets.vocabulary import TrimmedEmbedding

FACTOR, MASK = 116_049_371, 2**62 - 1  # of fastText's hash; its sums stay positive
BOUND = 0.25  # of the uniform distribution that word vectors are drawn from (Kim 2014)


@dataclass(frozen=True)
class WordVectorsConfig:
    """The attributes that poolings and the classifier read of a backbone's config.

    averages: the body gives one vector per text, the mean over its tokens: the same without the vector
    of each token, which takes a third of the time.
    """

    vocab_size: int
    hidden_size: int
    word_dropout: float = 0.0
    spatial_dropout: float = 0.0
    ngrams: int = 1
    buckets: int = 0
    ngram_rows: int = 0
    mode: str = "tuned"
    sentence_ends: Sequence[int] = ()  # ids of tokens that end a sentence
    averages: bool = False
    pad_token_id: int = 0
    num_hidden_layers: int = 1
    max_position_embeddings: int | None = None
    initializer_range: float = 0.02
    model_type: str = "word vectors"

    def to_dict(self) -> dict:
        return asdict(self)


class Ngrams(nn.Module):
    """Vectors of hashed word n-grams, added to those of words as fastText has them (Joulin et al. 2017).

    A hash that too few training texts hold has no vector. The sums are scaled so that their mean over
    tokens is the mean over all words and n-grams of the text.
    """

    def __init__(self, config: WordVectorsConfig):
        super().__init__()
        self.most = config.ngrams
        self.register_buffer("rows", torch.zeros(config.buckets, dtype=torch.int32))
        self.vectors = nn.Embedding(config.ngram_rows + 1, config.hidden_size, padding_idx=0)
        nn.init.uniform_(self.vectors.weight, -BOUND, BOUND)
        with torch.no_grad():
            self.vectors.weight[0] = 0

    def forward(self, words: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Return (b, t, h) vectors; an n-gram's is added to that of its first word."""
        counts = mask.sum(dim=1)
        features, found = counts, words
        for rows in self.rows_of(ids, counts):
            found = found + self.vectors(rows)
            features = features + (rows > 0).sum(dim=1)
        return found * (counts / features).view(-1, 1, 1).to(words.dtype)

    def rows_of(self, ids: Tensor, counts: Tensor) -> Iterator[Tensor]:
        """Yield for n = 2 … the (b, t) row of the n-gram at each token; 0 if there is none.

        counts: (b,) tokens of each text.
        """
        for hashes, begins in hashed(ids, counts.unsqueeze(1), self.most, len(self.rows)):
            yield torch.where(begins, self.rows[hashes], 0)


def hashed(ids: Tensor, ends: Tensor, most: int, buckets: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for n = 2 … `most` the (b, t) hash of the n-gram at each token, and whether there is one.

    Args:
        ids: (b, t) word ids.
        ends: (b, 1) or (b, t) the place behind the last token of each token's text.
        most: largest n.
        buckets: hashes are below this number.
    """
    hashes, places = ids, torch.arange(ids.shape[1], device=ids.device)
    for n in range(2, most + 1):
        following = F.pad(ids, (0, n - 1))[:, n - 1 :]
        hashes = (hashes * FACTOR + following) & MASK
        yield hashes % buckets, places + n <= ends


def summed(
    embedding: nn.Embedding | TrimmedEmbedding, ids: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return (b, h) sums of the vectors of (b, t) ids, times (b, t) weights, without padding."""
    if isinstance(embedding, TrimmedEmbedding):
        ids = embedding.index[ids]
    return F.embedding_bag(
        ids,
        embedding.weight,
        mode="sum",
        sparse=embedding.sparse,
        per_sample_weights=weights,
        padding_idx=embedding.padding_idx,
    )


class WordVectors(nn.Module):
    """One vector per token, whatever the tokens beside it.

    In mode `both` it is the sum of a tuned and a static one: a filter over two channels, each under the
    same weights, gives the sum of its results for either (Kim 2014), and so it does for their sum.
    """

    layered = False

    def __init__(self, config: WordVectorsConfig):
        super().__init__()
        self.config = config
        self.words = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        nn.init.uniform_(self.words.weight, -BOUND, BOUND)
        with torch.no_grad():
            self.words.weight[config.pad_token_id] = 0
        self.words.requires_grad_(config.mode != "static")
        self.static = deepcopy(self.words).requires_grad_(False) if config.mode == "both" else None
        self.ngrams = Ngrams(config) if config.ngrams > 1 else None
        ends = torch.tensor(list(config.sentence_ends), dtype=torch.int64)
        self.register_buffer("sentence_ends", ends, persistent=False)

    @torch.no_grad()
    def begin_from(self, vectors: Tensor) -> None:
        """Set the (vocabulary, size) vectors of words."""
        for embedding in filter(None, (self.words, self.static)):
            embedding.weight.copy_(vectors)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.words = module

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        """Return ((b, t, h) vectors,) of (b, t) ids; if it averages, ((b, 1, h) means,).

        The vectors of the words that are kept grow in proportion, so that their mean is that over
        these words alone (Iyyer et al. 2015).
        """
        if self.config.averages:
            return (self._means(input_ids, attention_mask).unsqueeze(1),)
        vectors = self.words(input_ids)
        if self.static is not None:
            vectors = vectors + self.static(input_ids)
        if self.ngrams is not None:
            vectors = self.ngrams(vectors, input_ids, attention_mask)
        if self.training and (rate := self.config.spatial_dropout):
            vectors = F.dropout1d(vectors.transpose(1, 2), rate).transpose(1, 2)
        if self.training and (rate := self.config.word_dropout):
            vectors = vectors * self._kept(attention_mask, rate).unsqueeze(2).to(vectors.dtype)
        return (vectors,)

    def sentences(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (b, t): the number of each token's sentence in its text, from 1; 0 for padding.

        End tokens in a row, such as `?!` or the last full stop and [END], end one sentence.
        """
        ends = torch.isin(input_ids, self.sentence_ends)
        after_end = F.pad(ends, (1, 0))[:, :-1]
        return attention_mask * (1 + (after_end & ~ends).cumsum(dim=1))

    def _means(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return (b, h): the mean over tokens of what `forward` gives without `averages`."""
        counts = features = mask.sum(dim=1)
        weights = None
        if self.training and (rate := self.config.word_dropout):
            weights = self._kept(mask, rate).to(self.words.weight.dtype)
        total = summed(self.words, ids, weights)
        if self.static is not None:
            total = total + summed(self.static, ids, weights)
        if self.ngrams is not None:
            for rows in self.ngrams.rows_of(ids, counts):
                total = total + summed(self.ngrams.vectors, rows, weights)
                features = features + (rows > 0).sum(dim=1)
        means = total / features.unsqueeze(1).to(total.dtype)
        rate = self.config.spatial_dropout
        return F.dropout(means, rate) if self.training and rate else means

    @staticmethod
    def _kept(mask: Tensor, rate: float) -> Tensor:
        """Return (b, t): zero for words that are left out, and what the others are multiplied with."""
        kept = mask * (torch.rand(mask.shape, device=mask.device) >= rate)
        # A text of which no word would be left is read whole.
        kept = torch.where(kept.sum(dim=1, keepdim=True) > 0, kept, mask)
        return kept * (mask.sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True))
