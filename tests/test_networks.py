"""Networks from scratch: each against a slow reference without padding; their words; the learner."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import regex
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from foldstack import config
from foldstack.errors import InputError, Interrupted
from foldstack.files import read_json
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext, make_learner
from foldstack.learners import network as network_module
from foldstack.learners.network import NetworkLearner
from foldstack.nets.classifier import Classifier
from foldstack.nets.encoder_head import sinusoids
from foldstack.nets.poolings import DensePooling
from foldstack.nets.word_vectors import BOUND, FACTOR, WordVectors, WordVectorsConfig
from foldstack.nets.word_vectors import hashed as hashed_ngrams
from foldstack.rows import Rows
from foldstack.stages.forecast import forecast
from foldstack.store import RunKey, Store
from foldstack.techniques import Head, NetworkSettings, Words
from foldstack.text.sequences import encode
from foldstack.text.special import set_special
from foldstack.text.tokens import tokenise
from foldstack.text.words import CHARACTER, SPECIAL, WORD, WordTokenizer, kind_of
from foldstack.training import loop, optim
from makers import make_rows, make_task, tiny_rows
from test_heads import LENGTHS, MASK, Weights, pooling, slow_dpcnn, states
from tiny import foldstack, make_workspace, refuses, run_of, train_folds, turn_labels, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


@pytest.fixture(scope="module", autouse=True)
def one_thread(cpu_settings_restored: None) -> None:
    """Threads cost more than they gain on networks this small."""
    torch.set_num_threads(1)


def weights_of(module: nn.Module) -> Weights:
    return {k: v.detach().double().numpy() for k, v in module.named_parameters()}


def rows_of(given: Tensor) -> list[np.ndarray]:
    """The (n, 6) vectors of each row's own tokens."""
    return [given[row, -1, :n].double().numpy() for row, n in enumerate(LENGTHS)]


# Convolutions

ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "identity": lambda x: x}


def slow_cnn(
    x: np.ndarray, w: Weights, widths: tuple[int, ...], dilation: int, activation: str
) -> list[np.ndarray]:
    """(windows, filters) of each width; a text shorter than a window is filled up with zeros."""
    out = []
    for i, width in enumerate(widths):
        filters, bias = w[f"convolutions.{i}.weight"], w[f"convolutions.{i}.bias"]
        size = dilation * (width - 1) + 1
        filled = np.concatenate([x, np.zeros((max(size - len(x), 0), x.shape[1]))])
        found = [
            [
                sum(f[:, j] @ filled[start + dilation * j] for j in range(width)) + b
                for f, b in zip(filters, bias, strict=True)
            ]
            for start in range(len(filled) - size + 1)
        ]
        out.append(ACTIVATIONS[activation](np.array(found)))
    return out


READ_OF_FILTER = {
    "max": lambda values: [max(values)],
    "mean": lambda values: [sum(values) / len(values)],
    "top": lambda values: slow_top(values, 3),
}


def slow_top(values: list[float], k: int) -> list[float]:
    """The k largest in the order of the text, of equal ones the first; zeros if there are fewer."""
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    return [values[i] for i in sorted(order)] + [0.0] * (k - len(order))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths, dilation", [((1, 3), 1), ((2, 4), 2), ((9,), 1)])
@pytest.mark.parametrize("read", ["max", "mean", "top"])
def test_convolutions_are_those_of_a_loop(read, widths, dilation, activation):
    top = {"top": 3} if read == "top" else {}
    chosen = {"widths": widths, "dilation": dilation, "activation": activation, "read": read}
    made, given = pooling("cnn", **chosen, **top), states()
    found = made(given, MASK).detach()
    for row, x in enumerate(rows_of(given)):
        by_width = slow_cnn(x, weights_of(made), widths, dilation, activation)
        columns = [list(filter_) for values in by_width for filter_ in values.T]
        wanted = [value for values in columns for value in READ_OF_FILTER[read](values)]
        np.testing.assert_allclose(found[row], wanted, rtol=1e-5, atol=1e-5)


def test_equal_values_are_the_first_ones_whatever_the_padding():
    """Guards torch.topk, which takes any of the zeros that ReLU leaves, other ones beside padding."""
    made = pooling("cnn", widths=(1,), filters=1, read="top", top=2)
    with torch.no_grad():
        made.convolutions[0].weight.fill_(1.0)
        made.convolutions[0].bias.zero_()
    values = torch.tensor([0.0, 0.0, 0.0, 2.0, 0.0, 1.0, 0.0, 0.0])
    for further in (0, 5, 60):
        given = torch.zeros(1, 1, 8 + further, 6)
        given[0, 0, :8, 0] = values
        mask = (torch.arange(8 + further) < 8).long()[None]
        assert made(given, mask).tolist() == [[2.0, 1.0]]
        assert made(given * torch.tensor([0.0]), mask).tolist() == [[0.0, 0.0]]
        given[0, 0, 5, 0] = 0
        assert made(given, mask).tolist() == [[0.0, 2.0]]


def test_the_top_values_of_a_short_text_are_followed_by_zeros():
    made = pooling("cnn", widths=(1,), filters=1, activation="identity", read="top", top=3)
    with torch.no_grad():
        made.convolutions[0].weight.fill_(1.0)
        made.convolutions[0].bias.fill_(-10.0)
    given = torch.zeros(1, 1, 2, 6)
    assert made(given, torch.ones(1, 2)).tolist() == [[-10.0, -10.0, 0.0]]


def test_textcnn_is_kims():
    """Kim 2014, section 2: h windows, a filter each, ReLU, the maximum over time, side by side."""
    settings = shipped("textcnn")
    assert settings.head.widths == (3, 4, 5) and settings.head.filters == 100
    assert settings.head.activation == "relu" and settings.head.read == "max"
    assert (settings.dropout, settings.size, settings.training.batch_size) == (0.5, 300, 50)
    network = WordVectors(WordVectorsConfig(50, 300))
    model = Classifier(network, 2, 0.5, head=settings.head)
    assert model.head.in_features == 300
    assert {k.split(".")[0] for k in model.state_dict()} == {"backbone", "pooling", "head"}


def test_a_pyramid_of_one_block_is_a_region_and_a_pair():
    """Nothing is halved before the first pair."""
    made, given = pooling("dpcnn", blocks=1), states()
    w = weights_of(made)
    assert {name.rsplit(".", 1)[0] for name in w} == {"region", "pairs.0.0", "pairs.0.1"}
    for row, x in enumerate(rows_of(given)):
        found = made(given, MASK)[row].detach()
        np.testing.assert_allclose(found, slow_dpcnn(x, w, blocks=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length, left", [(1, 1), (2, 1), (3, 2), (8, 4), (9, 5)])
def test_each_block_halves_the_length(length, left):
    from foldstack.nets.convolutions import pooled

    x = torch.arange(12.0).expand(1, 4, 12)
    found, lengths = pooled(x, torch.tensor([length]), 3, 2)
    wanted = [float(min(i + 2, length - 1)) for i in range(0, length, 2)]
    assert lengths.tolist() == [left] == [len(wanted)]
    assert found[0, 0, :left].tolist() == wanted and (found[0, 0, left:] == 0).all()


# Recurrent networks

READS = {
    "mean_max": lambda o, ends: np.concatenate([o.mean(0), o.max(0)]),
    "mean": lambda o, ends: o.mean(0),
    "max": lambda o, ends: o.max(0),
    "last": lambda o, ends: ends,
}


def as_torch(made: nn.Module, kind: str, layers: int, both: bool) -> nn.RNNBase:
    """torch's own network of several layers, with the pooling's weights."""
    network = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](
        6, 3, layers, bidirectional=both, batch_first=True
    )
    own = made.state_dict()
    for name in network.state_dict():
        stem, layer = name.removesuffix("_reverse").rsplit("_l", 1)
        direction = "back" if name.endswith("_reverse") else "ahead"
        at = direction if layer == "0" else f"further.{int(layer) - 1}.{direction}"
        getattr(network, name).data.copy_(own[f"{at}.{stem}_l0"])
    return network


@pytest.mark.parametrize("kind, layers", [*product(["lstm", "gru"], [1, 2, 3])])
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("read", [*READS, "attention"])
@torch.no_grad()
def test_recurrent_heads_are_torchs_network_on_each_row_alone(kind, layers, both, read):
    directions = "both" if both else "forward"
    made = pooling(kind, layers=layers, directions=directions, read=read)
    network, given = as_torch(made, kind, layers, both), states()
    found = made(given, MASK)
    for row, n in enumerate(LENGTHS):
        outputs, ends = network(given[row, :, :n])
        ends = ends[0] if kind == "lstm" else ends
        ends = ends[-2:] if both else ends[-1:]  # of the last layer
        outputs = outputs[0].numpy()
        if read == "attention":
            weights = made.scores(torch.tensor(outputs)).softmax(0)[:, 0]
            torch.testing.assert_close(made.attention(given, MASK)[row, :n], weights)
            wanted = weights.numpy() @ outputs
        else:
            wanted = READS[read](outputs, ends.flatten().numpy())
        np.testing.assert_allclose(found[row], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_head_of_old_has_its_old_names_and_first_weights(kind):
    """Guards stored runs from when there was one layer, read by mean and maximum."""
    from foldstack.nets.poolings import make_pooling
    from test_heads import head

    torch.manual_seed(3)
    made = make_pooling(head(kind), SimpleNamespace(hidden_size=6, model_type="bert"), 1)
    torch.manual_seed(3)
    rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[kind]
    before = nn.ModuleDict(
        {name: rnn(6, 3, batch_first=True, bidirectional=False) for name in ("ahead", "back")}
    ).state_dict()
    after = made.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


# A transformer


def test_sinusoids_are_those_of_the_paper():
    """PE(t, 2i) = sin(t / 10000^(2i/d)), PE(t, 2i + 1) = cos of the same; a width may be odd."""
    for width in (6, 5):
        found = sinusoids(torch.zeros(1, 50, width))
        for t, j in product(range(50), range(width)):
            angle = t / 10000 ** (2 * (j // 2) / width)
            wanted = math.cos(angle) if j % 2 else math.sin(angle)
            assert found[t, j].item() == pytest.approx(wanted, abs=1e-5)


def test_the_order_of_words_counts():
    made, given = pooling("encoder"), states()
    turned = given[:, :, [2, 1, 0, 3, 4, 5, 6]]
    assert (made(given, MASK) - made(turned, MASK)).abs()[:2].max() > 1e-3
    mean = pooling("mean")
    torch.testing.assert_close(mean(given, MASK)[:2], mean(turned, MASK)[:2])


def test_what_is_predicted_without_gradients_is_the_same():
    """torch has a fast path for encoders in evaluation."""
    made, given = pooling("encoder"), states()
    with torch.no_grad():
        fast = made(given, MASK)
    torch.testing.assert_close(fast, made(given, MASK))


# Word vectors, and what is dropped of them

IDS = torch.tensor([[5, 6, 7, 8, 4], [9, 4, 0, 0, 0], [4, 0, 0, 0, 0]])
IDS_MASK = (IDS > 0).long()


def word_vectors(size: int = 6, **options: float) -> WordVectors:
    torch.manual_seed(0)
    return WordVectors(WordVectorsConfig(20, size, **options))


def test_vectors_begin_uniform_and_that_of_padding_is_zero():
    vectors = word_vectors(size=500).words.weight
    assert (vectors[0] == 0).all()
    assert vectors.abs().max() <= BOUND == 0.25
    assert vectors[1:].std().item() == pytest.approx(0.5 / math.sqrt(12), rel=0.02)


def both_means(**options: object) -> list[Tensor]:
    """The (3, h) means of the network that gives each token's vector, and of the one that averages."""
    hashed = {"ngrams": 3, "buckets": 1000, "ngram_rows": 500}
    found = []
    for averages in (False, True):
        made = word_vectors(averages=averages, **hashed, **options)
        made.ngrams.rows.copy_(torch.arange(1000) % 501)
        torch.manual_seed(1)
        (vectors,) = made(IDS, IDS_MASK)
        config = SimpleNamespace(hidden_size=6, model_type="", averages=averages)
        mean = Head.registered["mean"](name="mean")
        pooled = mean.load()(mean, config, 1)(vectors.unsqueeze(1), IDS_MASK)
        (pooled**2).sum().backward()
        found.append([pooled.detach(), *(p.grad for p in made.parameters() if p.requires_grad)])
    return found


@pytest.mark.parametrize(
    "options", [{}, {"word_dropout": 0.5}, {"mode": "both"}, {"mode": "static"}], ids=str
)
def test_averages_are_the_mean_over_tokens(options):
    """The same numbers and gradients without a vector per token."""
    for plain, quick in zip(*both_means(**options), strict=True):
        torch.testing.assert_close(quick, plain)


def test_averages_drop_features_of_the_whole_text():
    torch.manual_seed(0)
    made = WordVectors(WordVectorsConfig(20, 400, spatial_dropout=0.2, averages=True))
    ratio = made(IDS, IDS_MASK)[0] / made.eval()(IDS, IDS_MASK)[0]
    assert ratio.round(decimals=4).unique().tolist() == [0.0, 1.25]
    assert (ratio == 0).float().mean().item() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize(
    "given, averages",
    [
        ({"head": "mean"}, True),
        ({"head": "max"}, False),
        ({"head": "mean", "training": {"adversary": "fgm"}}, False),
        ({"head": "mean", "stages": [{"epochs": 1}, {"adversary": "freelb"}]}, False),
    ],
)
def test_vectors_of_tokens_are_there_for_all_that_reads_them(given, averages):
    """An adversary perturbs the vectors of words."""
    learner = network(**given)
    learner.prepare(tiny_rows())
    assert learner.model.backbone.config.averages == averages


def test_the_mean_is_that_of_the_words_that_are_kept():
    """Iyyer et al. 2015, section 3; a text of which nothing would be left is read whole."""
    network, mean = word_vectors(word_dropout=0.5), pooling("mean")
    numbers = set()
    for _ in range(40):
        (vectors,) = network(IDS, IDS_MASK)
        pooled = mean(vectors.unsqueeze(1), IDS_MASK)
        for row in range(3):
            kept = [i for i in range(5) if vectors[row, i].abs().sum() > 0]
            wanted = network.words(IDS[row, kept]).mean(dim=0)
            torch.testing.assert_close(pooled[row], wanted)
            numbers.add((row, len(kept)))
    assert numbers >= {(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)}
    assert not numbers & {(0, 0), (1, 0), (2, 0)}


def test_the_share_of_words_that_are_dropped():
    network = word_vectors(word_dropout=0.3)
    ids = torch.randint(1, 20, (200, 30))
    (vectors,) = network(ids, torch.ones_like(ids))
    assert (vectors.abs().sum(2) == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_a_dropped_feature_is_dropped_in_the_whole_text():
    network = word_vectors(size=400, spatial_dropout=0.2)
    (vectors,) = network(IDS, IDS_MASK)
    whole = network.words(IDS)
    for row in range(2):
        ratio = vectors[row, IDS_MASK[row] > 0] / whole[row, IDS_MASK[row] > 0]
        assert (ratio - ratio[0]).abs().max() < 1e-5  # alike in all words
        shares = ratio[0].round(decimals=4).unique().tolist()
        assert shares == [0.0, 1.25]
        assert (ratio[0] == 0).float().mean().item() == pytest.approx(0.2, abs=0.06)
    assert not torch.equal(vectors[0] == 0, vectors[1] == 0)


def test_nothing_is_dropped_in_prediction():
    network = word_vectors(word_dropout=0.9, spatial_dropout=0.9).eval()
    assert torch.equal(network(IDS, IDS_MASK)[0], network.words(IDS))


def test_dense_layers_are_those_of_numpy():
    torch.manual_seed(0)
    made = DensePooling(pooling("mean"), (4, 3), 0.5).eval()
    w, given = weights_of(made), states()
    for row, x in enumerate(rows_of(given)):
        vector = x.mean(0)
        for place in (1, 4):
            vector = np.maximum(w[f"dense.{place}.weight"] @ vector + w[f"dense.{place}.bias"], 0)
        np.testing.assert_allclose(made(given, MASK)[row].detach(), vector, rtol=1e-5, atol=1e-6)
    assert made.size == 3


def test_dense_layers_have_dropout_before_each():
    made = DensePooling(pooling("mean"), (4, 3), 0.5)
    assert [type(layer).__name__ for layer in made.dense] == ["Dropout", "Linear", "ReLU"] * 2
    assert [layer.p for layer in made.dense if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


NETWORKS = {
    **{name: {} for name in Head.registered if name not in ("cls", "cls_attention", "concat")},
    "layers": {"layers": 1},
    "encoder": {"heads": 2},
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ngrams", [1, 3])
@torch.no_grad()
def test_a_row_alone_has_the_logits_that_it_has_beside_longer_ones(name, ngrams):
    from test_heads import head

    torch.manual_seed(0)
    hashed = {"ngrams": 3, "buckets": 1000, "ngram_rows": 1000} if ngrams == 3 else {}
    network = WordVectors(WordVectorsConfig(20, 6, word_dropout=0.5, spatial_dropout=0.5, **hashed))
    if hashed:
        network.ngrams.rows.copy_(torch.arange(1, 1001))
    model = Classifier(network, 2, 0.5, head=head(name, **NETWORKS[name]), dense=(5,)).eval()
    nn.init.normal_(model.head.weight)
    together = model(IDS, IDS_MASK)
    for row, n in enumerate((5, 2, 1)):
        alone = model(IDS[row : row + 1, :n], IDS_MASK[row : row + 1, :n])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-6)


# Words

ODD = [
    "Good FILM_1, isn't it?!",
    "👍🏽 👩‍👩‍👧 🇩🇪",
    "e\u0301tude étude ÉTUDE",
    "हिन्दी में किताब",
    "ภาษาไทย ที่นี่",
    "今天天气很好 film好",
    "zero\u200bwidth joi\u200dner \ufeffbom",
    "a\u00a0b\u2003c\u3000d\x1ce\x85f\u180eg\u2028h",
    "İstanbul STRASSE ẞ ΣΑΣ",
    "x² ½ Ⅷ ① 1,234.5 ２０",
    "\t\n",
    "",
    "\u0301 alone",
]


def words(**settings: object) -> Words:
    return Words(**{"cut": "unicode", "min_count": 1} | settings)


def ids_of(text: str | tuple[str, ...], tokenizer: WordTokenizer) -> list[str]:
    """The tokens of a row, as the learner reads it."""
    set_special(tokenizer, True)
    read = tokenise(make_rows([text]), tokenizer, max_length=100)
    return tokenizer.convert_ids_to_tokens(read.flat.tolist())


def known(tokenizer: WordTokenizer) -> list[str]:
    """The vocabulary in its order, without the special tokens."""
    return sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)[len(SPECIAL) :]


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("unit, pattern", [("words", WORD), ("characters", CHARACTER)])
def test_odd_texts_are_read_as_regex_finds_them(unit, pattern, lower):
    """The backend has an engine of its own: what it calls a space or a letter must not differ."""
    cut = {} if unit == "words" else {"cut": "auto"}
    made = WordTokenizer.fit(ODD, words(unit=unit, lower=lower, **cut))
    normal = made.backend_tokenizer.normalizer.normalize_str
    for text in ODD:
        assert ids_of(text, made) == [*regex.findall(pattern, normal(text)), "[END]"]


def test_what_a_word_is():
    made = WordTokenizer.fit(ODD, words())
    assert ids_of(ODD[0], made)[:-1] == ["good", "film_1", ",", "isn", "'", "t", "it", "?", "!"]
    assert ids_of(ODD[2], made)[:-1] == ["étude"] * 3
    assert ids_of(ODD[3], made)[:-1] == ["हिन्दी", "में", "किताब"]


def test_a_word_keeps_its_capitals_without_lower():
    made = WordTokenizer.fit(["Good good"], words(lower=False))
    assert known(made) == ["Good", "good"]


TEXTS = ["b b a c", "a b .", "A d d d", "c e", "a"]


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize(
    "chosen", [{}, {"min_count": 2}, {"max_share": 0.5}, {"most": 3}, {"min_count": 2, "most": 2}]
)
def test_the_vocabulary_is_that_of_a_slow_reference(chosen, lower):
    """Texts with the word, not its occurrences, are counted; of equal ones the first by name."""
    settings = words(lower=lower, **chosen)
    counts = Counter(w for t in TEXTS for w in set((t.lower() if lower else t).split()))
    wanted = [w for w, n in counts.items() if settings.min_count <= n <= settings.max_share * 5]
    wanted = sorted(wanted, key=lambda w: (-counts[w], w))[: settings.most]
    made = WordTokenizer.fit(TEXTS, settings)
    assert known(made) == wanted
    assert [made.get_vocab()[token] for token in SPECIAL] == [0, 1, 2, 3, 4]
    for text in TEXTS:
        tokens = (text.lower() if lower else text).split()
        assert ids_of(text, made)[:-1] == [t if t in wanted else "[UNK]" for t in tokens]


def test_a_share_of_texts_is_not_rounded():
    """A word of 2 texts of 3 is in more than .66 of them, and in no more than .67."""
    texts = ["a b", "a", "c"]
    assert "a" not in known(WordTokenizer.fit(texts, words(max_share=0.66)))
    assert "a" in known(WordTokenizer.fit(texts, words(max_share=0.67)))


def test_chinese_is_cut_into_words():
    chinese = ["今天天气很好", "film好", "Привет今天"]
    settings = words(cut="rjieba")
    made = kind_of(settings).fit(chinese, settings)
    assert ids_of(chinese[0], made) == ["今天天气", "很", "好", "[END]"]
    assert ids_of("今天天气，很好 Привет!", made)[:5] == ["今天天气", "[UNK]", "很", "好", "[UNK]"]
    assert ids_of(chinese[1], made)[:-1] == ["film", "好"]
    whole = WordTokenizer.fit(chinese, words())
    assert ids_of(chinese[0], whole) == ["今天天气很好", "[END]"]


def test_words_of_other_scripts_stay_whole_beside_chinese():
    """rjieba takes every letter of such a word for a word."""
    settings = words(cut="rjieba")
    made = kind_of(settings).fit(["Привет हिन्दी 今天"], settings)
    assert sorted(known(made)) == sorted(["привет", "हिन्दी", "今天"])


def test_a_typed_unknown_token_does_not_undo_the_cutting():
    """Texts that hold [UNK] are spelled again, which was done by the backend alone."""
    settings = words(cut="rjieba")
    made = kind_of(settings).fit(["今天天气很好", "很好"], settings)
    assert ids_of("今天天气很好[UNK]", made)[:3] == ["今天天气", "很", "好"]


@pytest.mark.parametrize(
    "texts, cut",
    [
        (["今天天气很好", "质量很差"], "rjieba"),
        (["a good film", "a bad plot"], "unicode"),
        (["今日はとても良い天気です", "あ"], "unicode"),
    ],
)
def test_auto_cuts_where_most_letters_are_chinese(texts, cut):
    learner = network(words={"min_count": 1})
    learner.prepare(make_rows(texts))
    assert learner.encoder.tokenizer.words.cut == cut
    assert isinstance(learner.encoder.tokenizer, kind_of(Words(cut=cut)))


def test_characters_are_not_cut():
    learner = network(words={"unit": "characters", "min_count": 1})
    learner.prepare(make_rows(["今天 天气", "很好"]))
    tokenizer = learner.encoder.tokenizer
    assert type(tokenizer) is WordTokenizer
    assert ids_of("今天 气x", tokenizer) == ["今", "天", "气", "[UNK]", "[END]"]


def test_no_text_is_empty():
    made = WordTokenizer.fit(["a"], words())
    assert ids_of("", made) == ids_of(" \t", made) == ["[END]"]
    assert ids_of(("", ""), made) == ["[SEP]", "[END]"]


def test_the_texts_of_a_pair_are_joined_by_a_separator():
    made = WordTokenizer.fit(["a b c"], words())
    assert ids_of(("a b", "c"), made) == ["a", "b", "[SEP]", "c", "[END]"]
    assert ids_of(("a", "b", "c"), made) == ["a", "[SEP]", "b", "[SEP]", "c", "[END]"]


@pytest.mark.parametrize("token", SPECIAL)
def test_a_special_token_that_is_typed_is_text(token):
    text = f"a {token} a"
    made = WordTokenizer.fit([text], words(lower=False))
    name = token.strip("[]")
    assert ids_of(text, made) == ["a", "[", name, "]", "a", "[END]"]
    assert known(made) == sorted(["a", "[", name, "]"])


def test_a_special_token_is_read_as_one_if_that_is_set():
    made = WordTokenizer.fit(["a b"], words())
    set_special(made, False)
    read = encode(["a [SEP] b"], made).flat.tolist()
    assert made.convert_ids_to_tokens(read) == ["a", "[SEP]", "b"]


# The learner


def network(kind: str = "binary", seed: int = 0, training: dict | None = None, **settings: object):
    """Two epochs of batches of 8, vectors of width 8, all words."""
    defaults = {"epochs": 2, "batch_size": 8, "lr": 1e-2, "precision": "fp32", "max_length": 16}
    checked = NetworkSettings(
        **{"learner": "network", "size": 8, "words": {"min_count": 1}, "dropout": 0.1}
        | settings
        | {"training": defaults | (training or {})}
    )
    checked.check_kind(Kind(kind))
    return NetworkLearner(checked, LearnerContext(make_task(kind), seed))


def fitted(folder: Path, rows: Rows | None = None, kind: str = "binary", **settings: object):
    folder.mkdir(parents=True)
    learner = network(kind, **settings)
    learner.fit(rows or tiny_rows(kind), None, folder)
    return learner


def weights_bytes(learner: NetworkLearner) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in learner.model.state_dict().items()}


def shipped(name: str) -> NetworkSettings:
    return NetworkSettings(**config.read_preset(config.SHIPPED / f"{name}.yaml", Path("nowhere")))


SMALL: dict[str, dict] = {
    "textcnn": {"head": {"name": "cnn", "widths": [2, 3], "filters": 6}},
    "textrnn": {"head": {"name": "lstm", "width": 4, "layers": 2}, "spatial_dropout": 0.2},
    "rcnn": {"head": {"name": "rcnn", "context": 4, "width": 6}},
    "dan": {"head": "mean", "word_dropout": 0.3, "dense": [6, 6]},
    "dpcnn": {"head": {"name": "dpcnn", "filters": 6, "blocks": 2}},
    "charcnn": {
        "head": {"name": "charcnn", "filters": 6},
        "words": {"unit": "characters", "min_count": 1},
    },
    "encoder": {"head": {"name": "encoder", "layers": 1, "heads": 2, "width": 8}},
    "fasttext": {"head": "mean", "ngrams": 2, "buckets": 1000},
    "han": {"head": {"name": "han", "width": 4}},
    "labels": {"head": {"name": "labels", "width": 4}},
}


@pytest.mark.parametrize("name", SMALL)
def test_it_learns_and_what_is_loaded_predicts_the_same_bytes(name, tmp_path):
    rows = tiny_rows(n=24)
    rows = replace(rows, weights=np.ones(24))
    training = {"epochs": 12, "lr": 2e-2}
    learner = fitted(tmp_path / "run", rows, training=training, **SMALL[name])
    logits = learner.predict(rows)
    assert np.isfinite(logits).all() and logits.dtype == np.float32
    assert ((logits > 0) == rows.targets).mean() >= 0.9
    learner.save(tmp_path / "model")
    loaded = network(training=training, **SMALL[name])
    loaded.load(tmp_path / "model")
    new = make_rows(["a good film", "an unheard thing", "", "a bad plot n3"])
    assert loaded.predict(new).tobytes() == learner.predict(new).tobytes()
    assert loaded.predict(rows).tobytes() == logits.tobytes()


@pytest.mark.parametrize("name", ["textrnn", "dan", "encoder", "han"])
def test_the_same_settings_give_the_same_bytes_and_another_seed_others(name, tmp_path):
    first, second = (fitted(tmp_path / run, **SMALL[name]) for run in "ab")
    assert weights_bytes(first) == weights_bytes(second)
    other = fitted(tmp_path / "c", seed=1, **SMALL[name])
    assert (
        weights_bytes(other)["backbone.words.weight"]
        != (weights_bytes(first)["backbone.words.weight"])
    )


@pytest.mark.parametrize("name, update", [*product(["textrnn", "dan", "han"], [2, 4, 6])])
def test_a_run_that_is_resumed_has_the_bytes_of_one_that_is_not(
    name, update, tmp_path, monkeypatch
):
    """Four updates in each epoch; with dropout of words and features, and an average."""
    settings = SMALL[name] | {"checkpoint_seconds": 0, "training": {"averaging": "ema"}}
    whole = fitted(tmp_path / "whole", **settings)
    real, calls = loop.update, []

    def interrupted(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == update:
            raise Interrupted(15)
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "update", interrupted)
        with pytest.raises(Interrupted):
            fitted(tmp_path / "cut", **settings)
    learner = network(**settings)
    learner.fit(tiny_rows(), None, tmp_path / "cut")
    assert weights_bytes(learner) == weights_bytes(whole)
    assert learner.predict(tiny_rows()).tobytes() == whole.predict(tiny_rows()).tobytes()


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_every_kind(kind, tmp_path):
    rows = tiny_rows(kind)
    learner = fitted(tmp_path / "run", kind=kind, training={"epochs": 30, "lr": 2e-2})
    values = learner.predict(rows)
    assert values.shape == rows.targets.shape
    if kind == "regression":  # in the units of the targets
        assert np.corrcoef(values[:, 0], rows.targets[:, 0])[0, 1] > 0.9
        assert abs(values[:, 0].mean() - rows.targets[:, 0].mean()) < 15
    else:
        assert learner.task.score(rows.targets, values) > 0.7


def test_each_label_attends_to_its_own_word(tmp_path):
    """The head `labels` over words: an attention and a vector for each output."""
    words = ["red", "green", "blue"]
    texts = [f"{a} {b} thing {c}" for a, b, c in product([*words, "none"], ["a", "the"], words)]
    targets = [[float(word in text.split()) for word in words] for text in texts]
    rows = make_rows(texts * 2, np.array(targets * 2))
    training = {"epochs": 60, "lr": 2e-2}
    learner = fitted(tmp_path / "run", rows, "multilabel", training=training, **SMALL["labels"])
    assert ((learner.predict(rows) > 0) == rows.targets).all()
    (read,) = learner.attention(make_rows(["the red thing green blue"], [[1, 1, 1]]))
    assert read.weights.shape == (3, 6) and read.sentences is None
    assert [read.tokens[i] for i in read.weights.argmax(axis=1)] == words
    assert learner.model.head.in_features == 8


def test_which_text_of_a_pair_comes_first(tmp_path):
    """A pair is read as one sequence with a separator: its order counts for all but a mean."""
    pairs = [(f"{a} film", f"{b} film") for a, b in product(["good", "bad"], repeat=2)] * 4
    rows = make_rows(pairs, [a.startswith("good") for a, _ in pairs])
    learner = fitted(
        tmp_path / "run", rows, training={"epochs": 40, "lr": 2e-2}, **SMALL["textcnn"]
    )
    assert ((learner.predict(rows) > 0) == rows.targets).all()


def with_features(rows: Rows) -> Rows:
    """One numeric column that is the target's."""
    return replace(rows, features=rows.targets[:, :1] * 3 + 1)


def with_soft_targets(rows: Rows) -> Rows:
    return replace(rows, targets=0.1 + 0.8 * rows.targets)


CHANGES: dict[str, dict] = {
    "loss": {"training": {"loss": "focal"}},
    "fgm": {"training": {"adversary": "fgm"}},
    "freelb": {"training": {"adversary": "freelb"}},
    "vat": {"training": {"adversary": "vat"}},
    "awp": {"training": {"adversary": {"name": "awp", "start": 0}}},
    "ema": {"training": {"averaging": "ema"}},
    "mixup": {"training": {"mixup": 0.5}},
    "contrastive": {"training": {"contrastive": {}}},
    "sampling": {"training": {"sampling": "oversample"}},
    "rdrop": {"training": {"rdrop": 1.0}},
    "masks": {"training": {"mask_spans": {"probability": 1.0, "share": 0.4}}},
    "drops": {"training": {"mask_spans": {"probability": 1.0, "share": 0.4, "by": "drop"}}},
    "augment": {"augment": [{"name": "delete_words", "probability": 1.0, "share": 0.3}]},
    "stages": {"stages": [{"epochs": 1}, {"epochs": 1, "lr": 1e-3}]},
    "head_lr": {"training": {"head_lr": 1e-4}},
    "freeze_embeddings": {"training": {"freeze_embeddings": True}},
    "word_dropout": {"word_dropout": 0.5},
    "spatial_dropout": {"spatial_dropout": 0.5},
    "dropout": {"dropout": 0.6},
    "dense": {"dense": [4]},
    "size": {"size": 9},
    "ngrams": {"ngrams": 2},
    "unit": {"words": {"unit": "characters", "min_count": 1}},
    "min_count": {"words": {"min_count": 3}},
    "max_share": {"words": {"min_count": 1, "max_share": 0.5}},
    "most": {"words": {"min_count": 1, "most": 5}},
    "max_length": {"training": {"max_length": 4}},
    "prefix": {"prefix": "dull "},
    "windows": {"long": "windows", "training": {"max_length": 6}},
    "long": {"long": "tail", "training": {"max_length": 5}},
    "head": {"head": "max"},
    "dropout_samples": {"dropout_samples": 3},
    "binary_link": {"binary_link": "softmax"},
    "head_bias": {"head_bias": "prior"},
    "optimizer": {"training": {"optimizer": "adagrad"}},
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> NetworkLearner:
    return fitted(tmp_path_factory.mktemp("plain") / "run")


def test_the_bias_is_chosen_by_the_rows_of_the_run(plain, tmp_path) -> None:
    """Few rows: each class begins from its share, as with `prior`; values have none."""
    chosen = fitted(tmp_path / "auto", head_bias="auto")
    given = fitted(tmp_path / "prior", head_bias="prior")
    assert chosen.chosen == {"head_bias": {"value": "prior", "why": "up to 1,000 rows"}}
    assert torch.equal(chosen.model.head.bias, given.model.head.bias)
    assert not torch.equal(chosen.model.head.bias, plain.model.head.bias)
    assert chosen.settings.rules is None and network(head_bias="auto").settings.rules


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_what_is_learned(plain, tmp_path, name):
    changed = fitted(tmp_path / "run", **CHANGES[name]).predict(tiny_rows())
    assert np.isfinite(changed).all()
    assert np.abs(changed - plain.predict(tiny_rows())).max() > 1e-6


@pytest.mark.parametrize("change", [with_features, with_soft_targets], ids=lambda f: f.__name__)
def test_columns_and_soft_targets_are_read(plain, tmp_path, change):
    rows = change(tiny_rows())
    learner = fitted(tmp_path / "run", rows, join_features=rows.features is not None)
    assert np.abs(learner.predict(rows) - plain.predict(rows)).max() > 1e-4
    if rows.features is not None:
        assert learner.model.head.in_features == 8 + learner.encoder.feature_width


@pytest.mark.parametrize("at_once", [1, 20, 1_000_000])
def test_ngrams_are_counted_without_padding(monkeypatch, at_once):
    """Bug guarded: beside one of 180,000 words, 1,000 short texts took 8 GB."""
    rows = make_rows(["a b a b", "a b c", "c", "", "b a " * 50])
    read = []

    def watched(ids, ends, most, buckets):
        read.append(ids.numel())
        return hashed_ngrams(ids, ends, most, buckets)

    monkeypatch.setattr(network_module, "hashed", watched)
    monkeypatch.setattr(network_module, "TOKENS", at_once)
    learner = network(ngrams=2, buckets=1000)
    tokenizer = WordTokenizer.fit(["a b", "c"], words())
    learner.settings = learner.settings.model_copy(update={"words": words(min_count=2)})
    kept = learner._ngrams(rows, tokenizer)
    assert sum(read) == 5 + 4 + 2 + 1 + 101  # [END] included
    a, b, c, end = (tokenizer.convert_tokens_to_ids(t) for t in ("a", "b", "c", "[END]"))
    in_two_texts = [(a, b), (b, a), (c, end)]
    assert kept.tolist() == sorted((x * FACTOR + y) % 1000 for x, y in in_two_texts)


SPARSE = SMALL["fasttext"] | {
    "training": {"optimizer": "adagrad", "lr": 0.1, "clip": 0, "weight_decay": 0},
    "checkpoint_seconds": 0,
}


def test_sparse_gradients_change_no_weight(tmp_path, monkeypatch):
    """An update of the words that occur is Adagrad's of all words, also after a kill."""
    dense = fitted(tmp_path / "dense", **SPARSE)
    monkeypatch.setattr(optim, "MANY", 1)
    sparse = fitted(tmp_path / "sparse", **SPARSE)
    assert sparse.model.backbone.words.sparse and not dense.model.backbone.words.sparse
    for name, weight in dense.model.state_dict().items():
        torch.testing.assert_close(sparse.model.state_dict()[name], weight)
    real, calls = loop.update, []

    def interrupted(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == 4:
            raise Interrupted(15)
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "update", interrupted)
        with pytest.raises(Interrupted):
            fitted(tmp_path / "cut", **SPARSE)
    resumed = network(**SPARSE)
    resumed.fit(tiny_rows(), None, tmp_path / "cut")
    assert weights_bytes(resumed) == weights_bytes(sparse)


@pytest.mark.parametrize(
    "given", [{"clip": 1}, {"weight_decay": 0.1}, {"adversary": "fgm"}, {"optimizer": "adamw"}]
)
def test_gradients_are_dense_where_an_update_reads_all_of_them(given, monkeypatch):
    monkeypatch.setattr(optim, "MANY", 1)
    learner = network(**SPARSE | {"training": SPARSE["training"] | given})
    examples = learner.prepare(tiny_rows())
    loop.prepare(learner.model, examples, learner.settings.training, learner.accelerator)
    assert not learner.model.backbone.words.sparse


@pytest.mark.parametrize("given", [{"clip": 1.0}, {"adversary": "fgm"}, {"optimizer": "adamw"}])
def test_a_stage_after_one_of_sparse_gradients_has_dense_ones(given, tmp_path, monkeypatch):
    """Bug guarded: embeddings stayed sparse, which AdamW and the norm of gradients do not read."""
    first = SPARSE["training"] | {"epochs": 1}
    settings = SPARSE | {"stages": [first, first | given]}
    dense = fitted(tmp_path / "dense", **settings)
    monkeypatch.setattr(optim, "MANY", 1)
    sparse = fitted(tmp_path / "sparse", **settings)
    for name, weight in dense.model.state_dict().items():
        torch.testing.assert_close(sparse.model.state_dict()[name], weight)


def test_rows_of_no_weight_decide_the_vocabulary_alone(tmp_path):
    """Their labels count nothing."""
    rows = tiny_rows()
    weights = np.where(np.arange(len(rows)) < 24, 1.0, 0.0)
    targets = np.where(weights[:, None] > 0, rows.targets, 1 - rows.targets)
    each = [replace(rows, weights=weights), replace(rows, weights=weights, targets=targets)]
    learners = [fitted(tmp_path / str(i), given) for i, given in enumerate(each)]
    assert weights_bytes(learners[0]) == weights_bytes(learners[1])
    assert weights_bytes(fitted(tmp_path / "all")) != weights_bytes(learners[0])


def test_auxiliary_columns_are_learned_beside_the_task(tmp_path):
    rows = tiny_rows()
    film = np.array([float("film" in text) for (text,) in rows.texts])
    rows = replace(rows, auxiliary=film[:, None])
    learner = fitted(tmp_path / "run", rows, training={"auxiliary": 0.5})
    without = fitted(tmp_path / "without", rows)
    assert np.abs(learner.predict(rows) - without.predict(rows)).max() > 1e-5
    assert learner.predict(rows).shape == (32, 1)


def test_a_frozen_network_trains_its_head_alone(tmp_path):
    """The vectors and the pooling's weights stay as they were drawn."""
    settings = SMALL["textcnn"]
    drawn = network(**settings)
    drawn.prepare(tiny_rows())
    before = weights_bytes(drawn)
    learner = fitted(tmp_path / "run", training={"freeze_backbone": True}, **settings)
    after = weights_bytes(learner)
    words = [k for k in before if k.startswith("backbone.")]
    assert all(before[k] == after[k] for k in words)
    assert before["head.weight"] != after["head.weight"]


def test_the_vector_of_padding_stays_zero(plain):
    assert (plain.model.backbone.words.weight[0] == 0).all()


def test_a_cut_text_keeps_its_end_token(tmp_path):
    learner = network(training={"max_length": 5})
    read = learner.prepare(make_rows(["a b c d e f g", "a"])).tokens
    tokens = learner.encoder.tokenizer.convert_ids_to_tokens(read.flat.tolist())
    assert tokens == ["a", "b", "c", "d", "[END]", "a", "[END]"]
    assert read.cut == 1


@pytest.mark.parametrize("name", SMALL)
def test_bf16_predicts_nearly_what_fp32_predicts(name, tmp_path):
    """Guards operations that take one type only, and sums of a padded row."""
    rows = tiny_rows(n=12)
    exact = fitted(tmp_path / "run", rows, training={"epochs": 8}, **SMALL[name])
    exact.save(tmp_path / "model")
    coarse = network(training={"precision": "bf16"}, **SMALL[name])
    coarse.load(tmp_path / "model")
    wanted = exact.predict(rows)
    assert np.abs(coarse.predict(rows) - wanted).max() <= 0.02 * np.abs(wanted).max() + 0.01
    assert np.isfinite(
        fitted(tmp_path / "bf16", rows, training={"precision": "bf16"}, **SMALL[name]).predict(rows)
    ).all()


def test_an_epoch_is_chosen_by_the_rows_to_select_by(tmp_path):
    learner, rows = network(training={"epochs": 3, "lr": 0.3, "select": "inner"}), tiny_rows()
    facts = learner.fit(rows, rows, tmp_path)
    best = max(facts["epoch_scores"])
    assert facts["best_epoch"] == facts["epoch_scores"].index(best) + 1
    assert learner.task.score(rows.targets, learner.predict(rows)) == pytest.approx(best)


def test_a_run_of_several_fits_is_their_mean(tmp_path):
    rows, settings = tiny_rows(), network().settings
    several = make_learner(
        settings.model_copy(update={"repeats": 2}), LearnerContext(make_task(), 0)
    )
    several.fit(rows, None, tmp_path)
    fits = [each.predict(rows) for each in several.members]
    assert not np.array_equal(*fits)
    np.testing.assert_allclose(several.predict(rows), np.mean(fits, axis=0), rtol=1e-5, atol=1e-7)


def test_measuring_a_network():
    measured = network(**SMALL["textcnn"]).measure(tiny_rows(), 1000)
    assert measured.work == "2 epochs" and measured.fit_seconds > 0


# Settings that are refused

REFUSED: list[tuple[dict, str]] = [
    (
        {"training": {"epochs": "auto"}},
        "training.epochs is auto, whose rules are for pre-trained backbones: give it a value",
    ),
    (
        {"stages": [{"lr": "auto"}]},
        "training.lr is auto, whose rules are for pre-trained backbones: give it a value",
    ),
    ({"head": "auto"}, "head is auto, whose rules are for pre-trained backbones: give it a value"),
    (
        {"dropout": "auto"},
        "dropout is auto, whose rules are for pre-trained backbones: give it a value",
    ),
    (
        {"repeats": "auto"},
        "repeats is auto, whose rules are for pre-trained backbones: give it a value",
    ),
    *(
        (
            {"head": name},
            f"head {name} reads [CLS], which words do not have: take another, such as mean or attention",
        )
        for name in ("cls", "cls_attention", "concat")
    ),
    (
        {"head": {"name": "cnn", "top": 2}},
        "setting 'head' is {'name': 'cnn', 'top': 2}: `top` changes nothing if read is max: leave it "
        "out",
    ),
    (
        {"words": {"unit": "characters", "cut": "rjieba"}},
        "setting 'words' is {'unit': 'characters', 'cut': 'rjieba'}: `cut` changes nothing if unit is "
        "characters: leave it out",
    ),
    ({"buckets": 5000}, "`buckets` changes nothing without `ngrams`: leave it out"),
    *(
        (
            given,
            f"{name} is for the layers of a pre-trained backbone, and word vectors have none: leave it "
            "out",
        )
        for name, given in {
            "layer_decay": {"training": {"layer_decay": 0.9}},
            "freeze_layers": {"training": {"freeze_layers": 1}},
            "reinit_layers": {"stages": [{"reinit_layers": 1}]},
            "backbone_dropout": {"stages": [{"backbone_dropout": 0.1}]},
        }.items()
    ),
    ({"sise": 5}, "unknown setting 'sise': did you mean 'size'?"),
    ({"word_dropout": 1}, "setting 'word_dropout' is 1: input should be less than 1"),
    ({"dense": [0]}, "setting 'dense.0' is 0: input should be greater than 0"),
    ({"words": {"max_share": 0}}, "setting 'words.max_share' is 0: input should be greater than 0"),
    ({"backbone": "x"}, "unknown setting 'backbone': "),
]


@pytest.mark.parametrize("given, sentence", REFUSED)
def test_settings_that_do_not_fit_are_refused(given, sentence):
    with pytest.raises(InputError) as refused:
        config.validate(NetworkSettings, {"learner": "network"} | given, "mine.yaml")
    found = str(refused.value)
    assert found == f"mine.yaml: {sentence}" or (
        sentence.endswith(": ") and found.startswith(f"mine.yaml: {sentence}")
    )


@pytest.mark.parametrize(
    "given, sentence",
    [
        (
            {"head": {"name": "layers", "layers": 2}},
            "head.layers is 2, but the backbone has 1 layer: set it to 1 or less",
        ),
        (
            {"head": {"name": "encoder", "heads": 3}},
            "head.heads is 3, which does not divide the width of 8: set it to a divisor",
        ),
    ],
)
def test_what_does_not_fit_a_network_is_refused(tmp_path, given, sentence):
    with pytest.raises(InputError) as refused:
        fitted(tmp_path / "run", **given)
    assert str(refused.value) == sentence


# In a workspace

TEXTCNN = """learner: network
size: 8
words: {min_count: 1}
head: {name: cnn, widths: [2, 3], filters: 8}
training: {epochs: 2, batch_size: 8, lr: 0.01, max_length: 16, precision: fp32}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A workspace with a linear model and a network, both trained on every fold."""
    root = make_workspace(tmp_path_factory.mktemp("networks") / "w", models=["tfidf", "cnn"])
    write(root / "presets/cnn.yaml", TEXTCNN)
    assert foldstack(root, "folds") == 0
    train_folds(root)
    return root


def test_a_network_is_blended_submitted_and_predicts(root, tmp_path):
    for stage in ("blend", "submit", "score", "report", "page"):
        assert foldstack(root, stage) == 0
    new = write(tmp_path / "new.csv", "id,text\nn1,a good film\nn2,\n")
    out = tmp_path / "out.csv"
    args = ("predict", "--model", "cnn", "--file", str(new), "--out", str(out))
    assert foldstack(root, *args) == 0
    assert len(out.read_text().splitlines()) == 3


@pytest.mark.slow
def test_a_network_is_bundled(root):
    assert foldstack(root, "blend") == 0
    assert foldstack(root, "bundle") == 0


def test_init_forecasts_a_network(root):
    ws, _ = run_of(root, "cnn")
    made = forecast(ws.competition, root, "cnn")
    assert made.work == "2 epochs" and made.runs == 3 and made.seconds > 0


def test_a_network_has_no_export_and_no_int8(root, capsys):
    capsys.readouterr()
    refuses(
        root,
        ["export", "--model", "cnn", "--fold", "0"],
        "export takes a transformer, and 'cnn' is a network: `make predict MODEL=cnn` predicts new "
        "texts with it",
        capsys,
    )
    refuses(
        root,
        ["predict", "--model", "cnn", "--text", "fine", "--int8"],
        "INT8=1 changes nothing: only a transformer is predicted in int8",
        capsys,
    )


def test_a_network_is_not_pre_trained(root, capsys):
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "cnn", "--fold", "0", "--set", "pretrain={}"],
        "--set: setting 'pretrain' changes nothing in cnn: leave it out or name another MODEL",
        capsys,
    )


def test_held_out_texts_do_not_decide_the_vocabulary(root):
    """Each text has a word of its own."""
    ws, run = run_of(root, "cnn")
    held = set(np.arange(24)[run.folds.held_out((0,))].tolist())
    place = Store(root).run_dir(RunKey("cnn", 0, (0,))) / "model"
    vocabulary = set(read_json(place / "tokenizer.json")["model"]["vocab"])
    own = [text.split()[-1] for (text,) in ws.competition.train.texts]
    assert len(held) == 8
    assert [i for i, word in enumerate(own) if word not in vocabulary] == sorted(held)


def test_labels_of_the_held_out_fold_change_nothing(root):
    ws, run = run_of(root, "cnn")
    place = Store(root).run_dir(RunKey("cnn", 0, (0,))) / "model"
    before = load_file(place / "classifier.safetensors")
    turn_labels(root, set(ws.competition.train.ids[run.folds.held_out((0,))]))
    assert foldstack(root, "train", "--model", "cnn", "--fold", "0", "--force") == 0
    after = load_file(place / "classifier.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
