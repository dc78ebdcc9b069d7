"""Hierarchical attention: against a slow loop over sentences one by one; where sentences end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from foldstack.learners.network import NetworkLearner
from foldstack.nets.classifier import Classifier
from foldstack.nets.hierarchical import AttentionLevel, sentence_lengths
from foldstack.nets.word_vectors import WordVectors, WordVectorsConfig
from foldstack.techniques import HanHead
from foldstack.text.words import END_MARKS, SPECIAL
from foldstack.training.frozen import HeadOnly, run_once
from makers import make_rows
from test_networks import fitted, network

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

HAN = {"head": {"name": "han", "width": 4}}
# 4 is [END], 3 is [SEP], 5 and 6 are end marks, the others are words.
TEXTS = {
    "two sentences": [10, 11, 5, 12, 13, 14, 6, 4],
    "of one word each": [10, 5, 11, 5, 12, 5, 13, 5, 4],
    "without an end mark": [10, 11, 12, 4],
    "of an end mark": [5, 4],
    "empty": [4],
    "several marks in a row": [10, 5, 5, 6, 11, 4],
    "begins with a mark": [5, 10, 11, 5, 4],
    "a pair": [10, 11, 3, 12, 5, 13, 4],
    "a long sentence": [*range(7, 20), *range(7, 20), 5, 10, 4],
}
NUMBERS = {
    "two sentences": [1, 1, 1, 2, 2, 2, 2, 2],
    "of one word each": [1, 1, 2, 2, 3, 3, 4, 4, 4],
    "without an end mark": [1, 1, 1, 1],
    "of an end mark": [1, 1],
    "empty": [1],
    "several marks in a row": [1, 1, 1, 1, 2, 2],
    "begins with a mark": [1, 2, 2, 2, 2],
    "a pair": [1, 1, 1, 2, 2, 3, 3],
    "a long sentence": [*[1] * 27, 2, 2],
}


def batch(names: list[str]) -> tuple[Tensor, Tensor]:
    """(b, t) ids and mask of these texts."""
    longest = max(len(TEXTS[name]) for name in names)
    ids = [TEXTS[name] + [0] * (longest - len(TEXTS[name])) for name in names]
    return torch.tensor(ids), (torch.tensor(ids) > 0).long()


def classifier(width: int = 3) -> Classifier:
    """In float64, for two outputs."""
    torch.manual_seed(0)
    body = WordVectors(WordVectorsConfig(20, 5, sentence_ends=(3, 4, 5, 6)))
    model = Classifier(body, 2, 0.0, head=HanHead(name="han", width=width)).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def slow_level(level: AttentionLevel, parts: Tensor) -> tuple[Tensor, Tensor]:
    """The vector of one group of (n, h) parts, and the (n,) weights in it."""
    outputs, _ = level.gru(parts.unsqueeze(1))
    outputs = outputs.squeeze(1)
    first, _, last = level.scores
    weights = (torch.tanh(outputs @ first.weight.T + first.bias) @ last.weight[0]).softmax(dim=0)
    return weights @ outputs, weights


def slow(model: Classifier, name: str) -> tuple[Tensor, Tensor]:
    """The logits of one text, and the weight of each word, sentence by sentence."""
    sentences, weights, start = [], [], 0
    numbers = NUMBERS[name]
    for number in sorted(set(numbers)):
        end = start + numbers.count(number)
        words = model.backbone.words.weight[TEXTS[name][start:end]]
        vector, of_words = slow_level(model.pooling.words, words)
        sentences.append(vector)
        weights.append(of_words)
        start = end
    text, of_sentences = slow_level(model.pooling.sentences, torch.stack(sentences))
    weighed = [w * s for w, s in zip(weights, of_sentences, strict=True)]
    return model.head.weight @ text + model.head.bias, torch.cat(weighed)


def test_where_sentences_end():
    """At an end mark, or the last of several; at the end of a segment and of the text."""
    ids, mask = batch(list(TEXTS))
    found = classifier().backbone.sentences(ids, mask)
    for name, row in zip(TEXTS, found.tolist(), strict=True):
        numbers = NUMBERS[name]
        assert row == numbers + [0] * (len(row) - len(numbers)), name
    assert sentence_lengths(found)[:2].tolist() == [3, 5]
    assert sentence_lengths(found).sum() == mask.sum()


@pytest.mark.parametrize(
    "names", [list(TEXTS), list(TEXTS)[::-1], *([name] for name in TEXTS)], ids=lambda n: n[0]
)
def test_each_text_has_what_a_loop_over_its_sentences_gives(names):
    model = classifier()
    found, weights = model(*batch(names)), model.attention(*batch(names))
    for row, name in enumerate(names):
        logits, of_words = slow(model, name)
        torch.testing.assert_close(found[row], logits, rtol=1e-10, atol=1e-12)
        n = len(TEXTS[name])
        torch.testing.assert_close(weights[row, :n], of_words, rtol=1e-10, atol=1e-12)
        assert (weights[row, n:] == 0).all()


def test_gradients_are_those_of_the_loop():
    model, names = classifier(), list(TEXTS)
    trained = list(model.parameters())
    losses = [
        model(*batch(names)).square().sum(),
        sum(slow(model, name)[0].square().sum() for name in names),
    ]
    for own, wanted in zip(*(torch.autograd.grad(loss, trained) for loss in losses), strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-8, atol=1e-10)


def test_nothing_is_padded():
    """Bug guarded: beside a sentence of 2,000 words, 2,000 short ones would take 2,000 times as much."""
    model, read = classifier(), []
    for level in (model.pooling.words, model.pooling.sentences):
        level.gru.register_forward_hook(lambda _, given, out: read.append(len(given[0].data)))
    ids = torch.tensor([[10, 5] * 2000, [10] * 3999 + [5]])
    assert torch.isfinite(model(ids, torch.ones_like(ids))).all()
    assert read == [8000, 2001]


def test_the_width_counts():
    assert classifier(3).head.in_features == 6 and classifier(4).head.in_features == 8


# In the learner


def sentences_of(learner: NetworkLearner, text: str | tuple[str, ...]) -> list[list[str]]:
    """The tokens of each sentence of a row."""
    given = learner.encoder.tokens(make_rows([text])).batch([0])
    numbers = learner.model.mask(given["input_ids"], given["attention_mask"])[0].tolist()
    tokens = learner.encoder.tokenizer.convert_ids_to_tokens(given["input_ids"][0].tolist())
    return [
        [t for t, n in zip(tokens, numbers, strict=True) if n == number]
        for number in sorted(set(numbers))
    ]


@pytest.fixture(scope="module")
def learner(tmp_path_factory) -> NetworkLearner:
    texts = ["a good film. i liked it", "a bad plot. 坏。", "so good. yes", "so bad. no"] * 4
    rows = make_rows(texts, [1, 0, 1, 0] * 4)
    words = {"min_count": 3, "max_share": 0.9}
    return fitted(tmp_path_factory.mktemp("han") / "run", rows, words=words, **HAN)


def test_end_marks_are_known_however_rare_or_frequent(learner):
    """Each text has a full stop, more than max_share; no text has an exclamation mark."""
    vocabulary = learner.encoder.tokenizer.get_vocab()
    first = len(SPECIAL)
    assert [vocabulary[mark] for mark in END_MARKS] == list(range(first, first + len(END_MARKS)))
    assert sentences_of(learner, "so good?! yes. no") == [
        ["so", "good", "?", "!"],
        ["yes", "."],
        ["no", "[END]"],
    ]
    assert sentences_of(learner, "坏。坏！") == [["坏", "。"], ["坏", "！", "[END]"]]


def test_other_networks_keep_their_vocabulary():
    """Bug guarded: the end marks of one head in the vocabulary of every network."""
    plain = network(head="mean")
    plain.prepare(make_rows(["a b", "a b"], [0, 1]))
    assert set(plain.encoder.tokenizer.get_vocab()) == {*SPECIAL, "a", "b"}
    assert list(plain.model.backbone.config.sentence_ends) == []


def test_the_end_of_a_segment_ends_a_sentence(learner):
    assert sentences_of(learner, ("so good", "yes. no")) == [
        ["so", "good", "[SEP]"],
        ["yes", "."],
        ["no", "[END]"],
    ]
    assert sentences_of(learner, ("so good.", "yes")) == [
        ["so", "good", ".", "[SEP]"],
        ["yes", "[END]"],
    ]


def test_what_is_loaded_knows_where_sentences_end(learner, tmp_path):
    learner.save(tmp_path)
    loaded = network(words={"min_count": 3, "max_share": 0.9}, **HAN)
    loaded.load(tmp_path)
    assert sentences_of(loaded, "so good! yes") == [["so", "good", "!"], ["yes", "[END]"]]
    new = make_rows(["so good! yes", "so bad. so bad. no", ""])
    assert loaded.predict(new).tobytes() == learner.predict(new).tobytes()


def test_a_frozen_body_passes_its_sentences_on(tmp_path: Path):
    """The head reads stored vectors of words: the logits are those of the whole network."""
    rows = make_rows(["a good. film", "a bad plot", "so. so. so"], [1, 0, 1])
    made = network(**HAN)
    tokens = made.prepare(rows).tokens
    model = made.model.eval()
    outputs = run_once(model, tokens, tmp_path, 1.0)
    stored = HeadOnly(model).eval()(**outputs.batch([0, 1, 2]))
    torch.testing.assert_close(stored, model(**tokens.batch([0, 1, 2])))
    model.backbone.sentence_ends = torch.tensor([], dtype=torch.int64)
    assert not torch.allclose(stored, model(**tokens.batch([0, 1, 2])), rtol=1e-6, atol=1e-9)
