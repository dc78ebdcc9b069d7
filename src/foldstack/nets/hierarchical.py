"""Hierarchical attention: words make sentences, sentences make the text.

Groups of unequal size are never padded: a recurrent network reads them packed, and sums are taken
over the parts of each group, so that memory grows with the number of tokens alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from transformers import PretrainedConfig

from foldstack import techniques
from foldstack.nets.poolings import Pooling, additive_scores


class HanPooling(Pooling):
    """A bidirectional GRU with attention over the words of each sentence, then over sentences.

    Yang et al. 2016, Hierarchical Attention Networks for Document Classification. The mask numbers
    the sentences of a text from 1.
    """

    def __init__(self, head: techniques.HanHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.size = 2 * head.width
        self.words = AttentionLevel(config.hidden_size, head.width)
        self.sentences = AttentionLevel(self.size, head.width)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return self._read(states, mask)[0]

    def attention(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return (b, t) weights: a word's within its sentence times that of the sentence."""
        _, of_words, of_sentences, lengths = self._read(states, mask)
        weights = torch.zeros(mask.shape, device=mask.device, dtype=of_words.dtype)
        weights[mask > 0] = of_words * of_sentences.repeat_interleave(lengths)
        return weights

    def _read(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (b, size) vectors; the weights of all words and sentences; words per sentence."""
        with torch.autocast(states.device.type, enabled=False):
            tokens = states[:, -1].to(self.words.gru.weight_ih_l0.dtype)[mask > 0]
            lengths = sentence_lengths(mask)
            sentences, of_words = self.words(tokens, lengths)
            texts, of_sentences = self.sentences(sentences, mask.amax(dim=1))
            return texts, of_words, of_sentences, lengths


class AttentionLevel(nn.Module):
    """A bidirectional GRU over the parts of each group, and what additive attention reads of it."""

    def __init__(self, given: int, width: int):
        super().__init__()
        self.gru = nn.GRU(given, width, bidirectional=True)
        self.scores = additive_scores(2 * width, 2 * width, 1)

    def forward(self, parts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return (k, 2 width) vectors of k groups, and the (n,) weight of each part in its group.

        Args:
            parts: (n, given), group after group.
            lengths: (k,) number of parts of each group, at least 1.
        """
        outputs = self._outputs(parts, lengths)
        scores = self.scores(outputs).squeeze(1)
        greatest = torch.segment_reduce(scores.detach(), "max", lengths=lengths)
        powers = (scores - greatest.repeat_interleave(lengths)).exp()
        total = torch.segment_reduce(powers, "sum", lengths=lengths)
        sums = torch.segment_reduce(powers.unsqueeze(1) * outputs, "sum", lengths=lengths, axis=0)
        # Divided last: the gradient of a repeated divisor would be added in any order on a GPU.
        return sums / total.unsqueeze(1), powers.detach() / total.detach().repeat_interleave(
            lengths
        )

    def _outputs(self, parts: Tensor, lengths: Tensor) -> Tensor:
        """Return (n, 2 width) outputs; each group is read alone, from a state of zeros."""
        rank = lengths.argsort(descending=True, stable=True).argsort()
        begins = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        places = torch.arange(len(parts), device=parts.device) - begins
        # Packed: the first part of every group, the longest group's first; then the second parts.
        order = (places * len(lengths) + rank.repeat_interleave(lengths)).argsort()
        packed, _ = self.gru(PackedSequence(parts[order], places.bincount().cpu()))
        return packed.data[order.argsort()]


def sentence_lengths(mask: Tensor) -> Tensor:
    """Return the tokens of each sentence, text after text, of a (b, t) mask that numbers them."""
    rows = torch.arange(len(mask), device=mask.device).unsqueeze(1)
    numbers = (rows * (mask.shape[1] + 1) + mask)[mask > 0]
    return numbers.unique_consecutive(return_counts=True)[1]
