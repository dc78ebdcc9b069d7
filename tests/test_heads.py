"""Heads: each against a slow reference; padding never counts; trained, stored, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import TypeAdapter
from scipy.special import expit, softmax
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from foldstack.errors import InputError
from foldstack.learners.columns import FARTHEST, MOST_VALUES, FeatureColumns
from foldstack.nets.classifier import Classifier
from foldstack.nets.layers import blocks
from foldstack.nets.poolings import Pooling, make_pooling
from foldstack.rows import Rows
from foldstack.store import RunKey, Store
from foldstack.techniques import Head, TransformerSettings
from makers import fit_and_predict, make_learner, tiny_rows
from test_layers import CONFIGS
from test_layers import classifier as of_architecture
from tiny import TINY, add_preset, foldstack, make_workspace, refuses, train_folds

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

# Settings that fit a backbone of two layers.
HEADS: dict[str, dict] = {
    "cls": {},
    "last": {},
    "mean": {},
    "max": {},
    "mean_max": {},
    "attention": {"width": 5},
    "cls_attention": {"heads": 2},
    "layers": {"layers": 2},
    "concat": {"layers": 2},
    "gem": {},
    "lstm": {"width": 3},
    "gru": {"width": 3},
    "cnn": {"widths": (2, 4), "filters": 4},
    "labels": {"width": 5},
    "rcnn": {"context": 3, "width": 5},
    "dpcnn": {"filters": 4, "blocks": 2},
    "charcnn": {"filters": 4},
    "encoder": {"layers": 2, "heads": 2, "width": 5},
    "han": {"width": 3},
}
WEIGHING = ("attention", "cls_attention", "labels", "han")
LENGTHS = [3, 7, 1]
MASK = (torch.arange(7) < torch.tensor(LENGTHS)[:, None]).long()

# The sentences of each row, for a head that reads them.
SENTENCES = torch.tensor([[1, 2, 2, 0, 0, 0, 0], [1, 1, 1, 2, 3, 3, 3], [1, 0, 0, 0, 0, 0, 0]])

of_each_head = pytest.mark.parametrize("name", HEADS)
# Subword tokens do not show where sentences end.
of_each_transformers_head = pytest.mark.parametrize("name", [n for n in HEADS if n != "han"])


def head(name: str, **settings: object) -> Head:
    return TypeAdapter(Head).validate_python({"name": name, **HEADS[name], **settings})


def pooling(name: str, model_type: str = "bert", **settings: object) -> Pooling:
    """For a backbone of two layers of width 6, and three outputs."""
    config = SimpleNamespace(hidden_size=6, num_hidden_layers=2, model_type=model_type)
    torch.manual_seed(0)
    made = make_pooling(head(name, **settings), config, 3)
    for parameter in made.parameters():  # nothing is zero that begins so
        nn.init.normal_(parameter, std=0.5)
    return made.eval()  # one has dropout


def mask_of(name: str) -> Tensor:
    return SENTENCES if head(name).reads_sentences else MASK


def states(layers: int = 1) -> Tensor:
    """(3, layers, 7, 6) token vectors, those of padding a thousand times as large."""
    torch.manual_seed(1)
    return torch.randn(3, layers, 7, 6) * torch.where(MASK > 0, 1.0, 1000.0)[:, None, :, None]


# What each computes


def test_every_head_has_a_name_and_a_pooling():
    assert sorted(Head.registered) == sorted(HEADS)
    assert all(issubclass(head(name).load(), Pooling) for name in HEADS)


@of_each_head
def test_padding_never_changes_a_vector(name):
    made = pooling(name)
    given = states(made.layers)
    mask = mask_of(name)
    together = made(given, mask)
    for row, n in enumerate(LENGTHS):
        alone = made(given[row : row + 1, :, :n], mask[row : row + 1, :n])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-6, atol=1e-6)


@of_each_head
def test_the_order_of_rows_is_kept(name):
    made, order = pooling(name), torch.tensor([2, 0, 1])
    given, mask = states(made.layers), mask_of(name)
    torch.testing.assert_close(made(given[order], mask[order]), made(given, mask)[order])


Weights = dict[str, np.ndarray]


def mean_max(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x.mean(0), x.max(0)])


def slow_attention(x: np.ndarray, w: Weights) -> np.ndarray:
    """(queries, h): the vectors, weighed by softmax(u tanh(W x + b))."""
    scores = [
        w["scores.2.weight"] @ np.tanh(w["scores.0.weight"] @ v + w["scores.0.bias"]) for v in x
    ]
    return softmax(np.array(scores), axis=0).T @ x


def slow_cls_attention(x: np.ndarray, w: Weights) -> np.ndarray:
    """Two heads of width 3: softmax(q k / √3) v each, side by side, through the output layer."""
    matrices, biases = (
        np.split(w["attend.in_proj_weight"], 3),
        np.split(w["attend.in_proj_bias"], 3),
    )
    query = matrices[0] @ x[0] + biases[0]
    keys, values = (x @ m.T + b for m, b in zip(matrices[1:], biases[1:], strict=True))
    parts = []
    for own in (slice(0, 3), slice(3, 6)):
        weights = softmax(keys[:, own] @ query[own] / np.sqrt(3))
        parts.append(weights @ values[:, own])
    out = w["attend.out_proj.weight"] @ np.concatenate(parts) + w["attend.out_proj.bias"]
    return np.concatenate([mean_max(x), out])


def slow_layers(x: np.ndarray, w: Weights) -> np.ndarray:
    return sum(s * layer for s, layer in zip(softmax(w["mix"]), x, strict=True)).mean(0)


def slow_gem(x: np.ndarray, w: Weights) -> np.ndarray:
    p = np.exp(w["log_p"])
    return np.mean(np.maximum(x, 1e-6) ** p, axis=0) ** (1 / p)


def lstm_steps(x: np.ndarray, wx: np.ndarray, wh: np.ndarray, b: np.ndarray, c: np.ndarray) -> list:
    hidden = cell = np.zeros(3)
    out = []
    for v in x:
        i, f, g, o = np.split(wx @ v + b + wh @ hidden + c, 4)
        cell = expit(f) * cell + expit(i) * np.tanh(g)
        hidden = expit(o) * np.tanh(cell)
        out.append(hidden)
    return out


def gru_steps(x: np.ndarray, wx: np.ndarray, wh: np.ndarray, b: np.ndarray, c: np.ndarray) -> list:
    hidden, out = np.zeros(3), []
    for v in x:
        (r, z, n), (hr, hz, hn) = np.split(wx @ v + b, 3), np.split(wh @ hidden + c, 3)
        z, n = expit(z + hz), np.tanh(n + expit(r + hr) * hn)
        hidden = (1 - z) * n + z * hidden
        out.append(hidden)
    return out


def slow_recurrent(steps: Callable) -> Callable:
    def slow(x: np.ndarray, w: Weights) -> np.ndarray:
        names = [f"{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        ahead = steps(x, *(w[f"ahead.{n}"] for n in names))
        back = steps(x[::-1], *(w[f"back.{n}"] for n in names))[::-1]
        return mean_max(np.concatenate([ahead, back], axis=1))

    return slow


def slow_level(x: np.ndarray, w: Weights, level: str) -> np.ndarray:
    """A GRU in each direction over one group, weighed by attention (Yang et al. 2016)."""
    names = [f"{level}.gru.{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    ahead = gru_steps(x, *(w[name] for name in names))
    back = gru_steps(x[::-1], *(w[f"{name}_reverse"] for name in names))[::-1]
    own = {name.removeprefix(f"{level}."): value for name, value in w.items()}
    return slow_attention(np.concatenate([ahead, back], axis=1), own)[0]


def slow_han(x: np.ndarray, w: Weights, numbers: np.ndarray) -> np.ndarray:
    """numbers: (t,) of the sentence that each token is in."""
    sentences = [slow_level(x[numbers == n], w, "words") for n in np.unique(numbers)]
    return slow_level(np.array(sentences), w, "sentences")


def slow_cnn(x: np.ndarray, w: Weights) -> np.ndarray:
    """Every window within the text; one, filled up with zeros, where the text is shorter."""
    parts = []
    for i, width in enumerate((2, 4)):
        filters, bias = w[f"convolutions.{i}.weight"], w[f"convolutions.{i}.bias"]
        filled = np.concatenate([x, np.zeros((max(width - len(x), 0), 6))])
        windows = [filled[start : start + width].T for start in range(len(filled) - width + 1)]
        found = [(filters * window).sum((1, 2)) + bias for window in windows]
        parts.append(np.maximum(found, 0).max(0))
    return np.concatenate(parts)


def slow_rcnn(x: np.ndarray, w: Weights) -> np.ndarray:
    """A token between the states of one LSTM before it, and of one that comes from the end."""
    names = [f"{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    ahead = lstm_steps(x, *(w[f"both.ahead.{n}"] for n in names))
    back = lstm_steps(x[::-1], *(w[f"both.back.{n}"] for n in names))[::-1]
    found = []
    for i, token in enumerate(x):
        left = ahead[i - 1] if i else np.zeros(3)
        right = back[i + 1] if i + 1 < len(x) else np.zeros(3)
        between = np.concatenate([left, token, right])
        found.append(np.tanh(w["dense.weight"] @ between + w["dense.bias"]))
    return np.max(found, axis=0)


def slow_convolution(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    """A window around each token; beyond the text all is zero."""
    filters, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    around = filters.shape[2] // 2
    edge = np.zeros((around, x.shape[1]))
    filled = np.concatenate([edge, x, edge])
    return np.array(
        [
            [
                (f * filled[i : i + 2 * around + 1].T).sum() + b
                for f, b in zip(filters, bias, strict=True)
            ]
            for i in range(len(x))
        ]
    )


def slow_pooled(x: np.ndarray, stride: int) -> np.ndarray:
    """The maxima over 3 tokens, or what the text has left, from every stride-th on."""
    return np.array([x[i : i + 3].max(0) for i in range(0, len(x), stride)])


def slow_dpcnn(x: np.ndarray, w: Weights, blocks: int = 2) -> np.ndarray:
    x = slow_convolution(x, w, "region")
    for number in range(blocks):
        x = slow_pooled(x, 2) if number else x
        inner = x
        for each in (0, 1):
            inner = slow_convolution(np.maximum(inner, 0), w, f"pairs.{number}.{each}")
        x = x + inner
    return x.max(0)


def slow_charcnn(x: np.ndarray, w: Weights) -> np.ndarray:
    for number in range(6):
        x = np.maximum(slow_convolution(x, w, f"convolutions.{number}"), 0)
        x = slow_pooled(x, 3) if number in (0, 1, 5) else x
    return x.max(0)


def slow_encoder(x: np.ndarray, w: Weights) -> np.ndarray:
    """Vaswani et al. 2017: √d x + sin(place / 10000^(2i/d)), or cos, then layers, the norm first."""
    places = np.array(
        [
            [(np.sin, np.cos)[i % 2](place / 10000 ** (i // 2 * 2 / 6)) for i in range(6)]
            for place in range(len(x))
        ]
    )
    x = np.sqrt(6) * x + places

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        scaled = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    for number in (0, 1):
        at = f"encoder.layers.{number}"
        given = norm(x, f"{at}.norm1")
        both = given @ w[f"{at}.self_attn.in_proj_weight"].T + w[f"{at}.self_attn.in_proj_bias"]
        query, key, value = np.split(both, 3, axis=1)
        heads = [
            softmax(query[:, own] @ key[:, own].T / np.sqrt(3), axis=1) @ value[:, own]
            for own in (slice(0, 3), slice(3, 6))
        ]
        x = x + dense(np.concatenate(heads, axis=1), f"{at}.self_attn.out_proj")
        inner = np.maximum(dense(norm(x, f"{at}.norm2"), f"{at}.linear1"), 0)
        x = x + dense(inner, f"{at}.linear2")
    return norm(x, "encoder.norm").mean(0)


# From (layers, n, 6) states of one row and the pooling's weights.
SLOW: dict[str, Callable[[np.ndarray, Weights], np.ndarray]] = {
    "cls": lambda x, w: x[0, 0],
    "last": lambda x, w: x[0, -1],
    "mean": lambda x, w: x[0].mean(0),
    "max": lambda x, w: x[0].max(0),
    "mean_max": lambda x, w: mean_max(x[0]),
    "attention": lambda x, w: slow_attention(x[0], w)[0],
    "cls_attention": lambda x, w: slow_cls_attention(x[0], w),
    "layers": slow_layers,
    "concat": lambda x, w: np.concatenate([x[0, 0], x[1, 0]]),
    "gem": lambda x, w: slow_gem(x[0], w),
    "lstm": lambda x, w: slow_recurrent(lstm_steps)(x[0], w),
    "gru": lambda x, w: slow_recurrent(gru_steps)(x[0], w),
    "cnn": lambda x, w: slow_cnn(x[0], w),
    "labels": lambda x, w: slow_attention(x[0], w),
    "rcnn": lambda x, w: slow_rcnn(x[0], w),
    "dpcnn": lambda x, w: slow_dpcnn(x[0], w),
    "charcnn": lambda x, w: slow_charcnn(x[0], w),
    "encoder": lambda x, w: slow_encoder(x[0], w),
    "han": lambda x, w, numbers: slow_han(x[0], w, numbers),
}


@of_each_head
def test_each_vector_is_that_of_a_slow_reference(name):
    made = pooling(name)
    given = states(made.layers)
    weights = {k: v.detach().double().numpy() for k, v in made.named_parameters()}
    found = made(given, mask_of(name)).detach()
    assert found.shape == ((3, 3, made.size) if name == "labels" else (3, made.size))
    for row, n in enumerate(LENGTHS):
        own = given[row, :, :n].double().numpy()
        numbers = (SENTENCES[row, :n].numpy(),) if head(name).reads_sentences else ()
        wanted = SLOW[name](own, weights, *numbers)
        np.testing.assert_allclose(found[row], wanted, rtol=1e-5, atol=1e-6)


@of_each_head
def test_gradients_reach_every_parameter(name):
    made = pooling(name)
    assert made.fixed == (not list(made.parameters()))
    given = states(made.layers).requires_grad_()
    (made(given, mask_of(name)) * torch.linspace(-1, 1, made.size)).sum().backward()
    for parameter in (given, *made.parameters()):
        assert torch.isfinite(parameter.grad).all() and parameter.grad.norm() > 0
    padding = given.grad.transpose(1, 2)[MASK == 0]
    assert (padding == 0).all()


@pytest.mark.parametrize("name", WEIGHING)
def test_weights_are_of_real_tokens_and_sum_to_1(name):
    made = pooling(name)
    weights = made.attention(states(), mask_of(name))
    assert weights.shape == ((3, 3, 7) if name == "labels" else (3, 7))
    by_token = weights.reshape(3, -1, 7)
    assert (by_token.transpose(1, 2)[MASK == 0] == 0).all()
    assert (by_token.transpose(1, 2)[MASK == 1] > 0).all()
    torch.testing.assert_close(by_token.sum(2), torch.ones_like(by_token.sum(2)))


@pytest.mark.parametrize("name", ["attention", "labels"])
def test_the_weights_are_those_that_the_vector_is_made_with(name):
    made, given = pooling(name), states()
    weights = made.attention(given, MASK)
    vectors = torch.einsum("b...t,bth->b...h", weights, given[:, 0])
    torch.testing.assert_close(made(given, MASK), vectors)


def test_heads_without_weights_say_so():
    for name in set(HEADS) - set(WEIGHING):
        made = pooling(name)
        assert made.attention(states(made.layers), MASK) is None


def test_gem_is_between_the_mean_and_the_maximum():
    """p = 1 is the mean, a large one the maximum; what is negative counts as next to nothing."""
    x = torch.tensor([[[1.0, -5.0], [3.0, -1.0]]])[:, None]
    config = SimpleNamespace(hidden_size=2, model_type="bert")

    def gem(p: float) -> list[float]:
        return make_pooling(head("gem", p=p), config, 1)(x, torch.ones(1, 2))[0].tolist()

    assert gem(1) == pytest.approx([2, 1e-6], rel=1e-5)
    assert gem(3) == pytest.approx([14 ** (1 / 3), 1e-6], rel=1e-5)
    assert gem(100) == pytest.approx([3, 1e-6], rel=1e-2)


def test_gem_does_not_overflow():
    """The third power of 1e20 is no float32."""
    made = pooling("gem")
    given = (1e20 * states().abs()).requires_grad_()
    out = made(given, MASK)
    out.sum().backward()
    assert torch.isfinite(out).all() and torch.isfinite(made.log_p.grad)


def test_the_mix_of_layers_begins_as_their_mean():
    config = SimpleNamespace(hidden_size=6, num_hidden_layers=2, model_type="bert")
    given = states(2)
    wanted = pooling("mean")(given.mean(1, keepdim=True), MASK)
    torch.testing.assert_close(make_pooling(head("layers"), config, 1)(given, MASK), wanted)


def test_convolutions_begin_he_normal():
    """He et al. 2015: a standard deviation of √(2 / inputs), and no bias."""
    config = SimpleNamespace(hidden_size=64, model_type="bert")
    torch.manual_seed(0)
    made = make_pooling(head("cnn", widths=(3, 5), filters=200), config, 1)
    for width, convolution in zip((3, 5), made.convolutions, strict=True):
        assert convolution.weight.std().item() == pytest.approx((2 / 64 / width) ** 0.5, rel=0.02)
        assert (convolution.bias == 0).all()


# Settings


SETTINGS = [
    ("attention", {"width": 6}),
    ("labels", {"width": 6}),
    ("cls_attention", {"heads": 1}),
    ("layers", {"layers": 1}),
    ("concat", {"layers": 1}),
    ("gem", {"p": 2.0}),
    ("lstm", {"width": 4}),
    ("gru", {"width": 4}),
    ("cnn", {"widths": (2, 3)}),
    ("cnn", {"filters": 5}),
    ("rcnn", {"context": 4}),
    ("rcnn", {"width": 6}),
    ("dpcnn", {"filters": 5}),
    ("dpcnn", {"blocks": 3}),
    ("charcnn", {"filters": 5}),
    ("encoder", {"layers": 1}),
    ("encoder", {"heads": 1}),
    ("encoder", {"width": 6}),
]


def raw_outputs(backbone: Path, chosen: Head, **options: object) -> Tensor:
    torch.manual_seed(0)
    model = Classifier(AutoModel.from_pretrained(backbone), 3, 0.0, head=chosen, **options).eval()
    return model(torch.tensor([[2, 6, 9, 3], [2, 7, 3, 0]]), torch.tensor([[1] * 4, [1, 1, 1, 0]]))


@pytest.mark.parametrize("name, setting", SETTINGS)
def test_each_setting_of_a_head_changes_the_outputs(backbone, name, setting):
    as_before, changed = (raw_outputs(backbone, head(name, **s)) for s in ({}, setting))
    assert (as_before - changed).abs().max() > 1e-6


def test_a_name_alone_is_short_for_a_mapping():
    def settings(value: object) -> TransformerSettings:
        return TransformerSettings(learner="transformer", backbone="x", head=value)

    assert settings("gem") == settings({"name": "gem", "p": 3.0})
    assert TransformerSettings(learner="transformer", backbone="x") == settings("mean")


REFUSED = {
    "head=han": (
        "head han reads where sentences end, which only learner network knows: take another, such as "
        "attention"
    ),
    "head=men": "setting 'head' is 'men': did you mean 'mean'?",
    "head.width=3": "setting 'head' has no name: write `head: {name: …, …}`",
    "head={name: cnn, widths: []}": ("setting 'head.widths' is []: name at least one"),
    "join_features=true": (
        "join_features joins the competition's feature columns, but competition.yaml names none: "
        "list some under `numeric` or `categorical`, or leave join_features out"
    ),
}


@pytest.mark.parametrize("given", REFUSED)
def test_wrong_settings_are_refused(backbone, tmp_path, capsys, given):
    root = make_workspace(tmp_path / "w")
    add_preset(root, backbone)
    assert foldstack(root, "folds") == 0
    capsys.readouterr()
    sentence = f"tiny.yaml with --set: {REFUSED[given]}"
    refuses(root, ["train", "--model", "tiny", "--set", given], sentence, capsys)


@pytest.mark.parametrize(
    "name, setting, sentence",
    [
        (
            "concat",
            {"layers": 3},
            "head.layers is 3, but the backbone has 2 layers: set it to 2 or less",
        ),
        (
            "encoder",
            {"heads": 3},
            "head.heads is 3, which does not divide the width of 16: set it to a divisor",
        ),
        (
            "cls_attention",
            {"heads": 3},
            "head.heads is 3, which does not divide the backbone's width of 16: set it to 1 or "
            "another divisor",
        ),
    ],
)
def test_what_does_not_fit_the_backbone_is_refused(backbone, name, setting, sentence):
    with pytest.raises(InputError) as e:
        make_learner(backbone, head={"name": name, **setting}).prepare(tiny_rows())
    assert str(e.value) == sentence


# In the classifier


class Before(nn.Module):
    """The classifier as it was when the mean over tokens was the only head."""

    def __init__(self, backbone: nn.Module, outputs: int, dropout: float):
        super().__init__()
        self.backbone, self.dropout = backbone, nn.Dropout(dropout)
        self.head = nn.Linear(backbone.config.hidden_size, outputs)
        nn.init.normal_(self.head.weight, std=backbone.config.initializer_range)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask)[0]
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return self.head(self.dropout((hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)))


def test_the_default_head_keeps_its_bytes(backbone):
    """Names, first weights, dropout masks, gradients, three updates: bit for bit as before."""
    ids = torch.tensor([[2, 6, 9, 3], [2, 7, 3, 0]])
    states = []
    for kind in (Before, Classifier):
        torch.manual_seed(0)
        model = kind(AutoModel.from_pretrained(backbone), 2, 0.3).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(3):
            model(ids, (ids > 0).long()).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        states.append(model.state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@of_each_transformers_head
def test_padding_never_changes_an_output(backbone, name):
    """From token ids on: a row alone, and beside a longer one."""
    torch.manual_seed(0)
    model = Classifier(AutoModel.from_pretrained(backbone), 3, 0.1, head=head(name)).eval()
    nn.init.normal_(model.head.weight)
    ids = torch.tensor([[2, 6, 9, 8, 14, 3], [2, 7, 3, 0, 0, 0]])
    raw, pooled = model(ids, (ids > 0).long(), pooled=True)
    assert (raw.shape, pooled.ndim) == ((2, 3), 2)
    for row, n in enumerate([6, 3]):
        own = ids[row : row + 1, :n]
        torch.testing.assert_close(raw[row], model(own, own.sign())[0], rtol=1e-6, atol=1e-6)


@of_each_transformers_head
def test_outputs_are_finite_in_half_precision(backbone, name):
    torch.manual_seed(0)
    model = Classifier(AutoModel.from_pretrained(backbone), 3, 0.1, head=head(name))
    ids = torch.tensor([[2, 6, 9, 3], [2, 7, 3, 0]])
    with torch.autocast("cpu", torch.bfloat16):
        raw = model(ids, (ids > 0).long())
    raw.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(model.eval()(ids, (ids > 0).long())).all()


def test_each_output_has_its_own_vector_and_weights(backbone):
    """LAAT: output l is weight l · vector l + bias l; for the contrastive loss they stand in a row."""
    torch.manual_seed(0)
    model = Classifier(AutoModel.from_pretrained(backbone), 3, 0.0, head=head("labels"))
    nn.init.normal_(model.head.bias)
    ids = torch.tensor([[2, 6, 9, 3], [2, 7, 3, 0]])
    mask = (ids > 0).long()
    raw, pooled = model(ids, mask, pooled=True)
    vectors = model.pooling(model.read(ids, mask), mask)
    assert torch.equal(pooled, vectors.reshape(2, 48))
    for output in range(3):
        alone = vectors[:, output] @ model.head.weight[output] + model.head.bias[output]
        torch.testing.assert_close(raw[:, output], alone)


def test_a_heads_weights_for_a_report(backbone):
    ids = torch.tensor([[2, 6, 9, 3], [2, 7, 3, 0]])
    mask = (ids > 0).long()
    for name in ("cls_attention", "mean"):
        torch.manual_seed(0)
        model = Classifier(AutoModel.from_pretrained(backbone), 3, 0.0, head=head(name)).eval()
        weights = model.attention(ids, mask)
        if name == "mean":
            assert weights is None
        else:
            assert weights[1, 3] == 0 and weights.sum(1).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_last_layers_of_every_architecture(kind):
    """Longformer fills up to windows, XLNet computes time first, ALBERT passes one layer thrice."""
    model = of_architecture(kind).eval()
    config = model.backbone.config
    model.pooling = make_pooling(head("layers", layers=3), config, 1)
    pad = config.pad_token_id
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11], [5, 6, 7, *[pad] * 4]])
    mask = torch.tensor([[1] * 7, [1] * 3 + [0] * 4])
    seen = []
    for block in blocks(model.backbone):
        block.register_forward_hook(lambda *args: seen.append(args[2]))
    found = model.read(ids, mask)
    assert found.shape == (2, 3, 7, 16)
    second = seen[1][0] if isinstance(seen[1], tuple) else seen[1]
    second = second.transpose(0, 1) if kind == "xlnet" else second
    torch.testing.assert_close(second[:, :7], found[:, 1])
    alone = model.read(ids[1:, :3], mask[1:, :3])
    torch.testing.assert_close(found[1:, :, :3], alone, rtol=1e-5, atol=1e-5)
    model.pooling = make_pooling(head("mean"), config, 1)
    torch.testing.assert_close(model.read(ids, mask)[:, 0], found[:, -1])


@pytest.mark.parametrize("name, place", [("cls", 0), ("concat", 0), ("cls_attention", 12)])
def test_xlnets_cls_is_the_last_real_token(name, place):
    """XLNet puts [CLS] at the end: its first token is a word like any other."""
    first, last = pooling(name), pooling(name, "xlnet")
    given = states(first.layers)
    turned = given.clone()
    for row, n in enumerate(LENGTHS):
        turned[row, :, :n] = given[row, :, :n].flip(1)
    torch.testing.assert_close(last(turned, MASK), first(given, MASK))
    assert (last(given, MASK) - first(given, MASK))[:, place:].abs().max() > 0.1


# In a run


@of_each_transformers_head
def test_each_head_trains_and_is_stored(backbone, tmp_path, name):
    """Three outputs; the head's own weights move, and what is loaded again predicts the same bytes."""
    settings = {"head": {"name": name, **HEADS[name]}, "training": {"epochs": 1}}
    learner = make_learner(backbone, "multilabel", **settings)
    learner.prepare(tiny_rows("multilabel", 16))
    before = {k: v.clone() for k, v in learner.model.state_dict().items()}
    assert {k.partition(".")[0] for k in before} == {"backbone", "head"} | (
        set() if learner.model.pooling.fixed else {"pooling"}
    )
    rows = tiny_rows("multilabel", 16)
    learner.fit(rows, None, tmp_path / "run")
    after = learner.model.state_dict()
    assert [
        k for k in before if k.startswith(("pooling", "head")) and before[k].equal(after[k])
    ] == []
    predicted = learner.predict(rows)
    assert predicted.shape == (16, 3) and np.isfinite(predicted).all()
    learner.save(tmp_path / "model")
    again = make_learner(backbone, "multilabel", **settings)
    again.load(tmp_path / "model")
    assert again.predict(rows).tobytes() == predicted.tobytes()


@pytest.mark.parametrize("name", ["labels", "lstm"])
def test_heads_go_with_masks_softmax_and_the_contrastive_loss(backbone, tmp_path, name):
    """Of a binary competition with two outputs whose difference counts."""
    options = {
        "dropout_samples": 2,
        "binary_link": "softmax",
        "head": {"name": name, **HEADS[name]},
    }
    training = {"epochs": 1, "contrastive": {"weight": 0.5}, "adversary": "fgm"}
    predicted = fit_and_predict(backbone, tmp_path / "run", **options, training=training)
    assert predicted.shape == (32, 1) and np.isfinite(predicted).all()


# Feature columns


def table_rows(
    numbers: list[float], codes: list[float], weights: list[float] | None = None
) -> Rows:
    """A numeric column and a categorical one."""
    rows = tiny_rows(n=len(numbers))
    weights = np.ones(len(numbers)) if weights is None else np.array(weights)
    return replace(rows, weights=weights, features=np.column_stack([numbers, codes]).astype(float))


NAN = float("nan")


def test_numbers_are_standardised_and_categories_one_hot():
    """Mean 2 and deviation 1 of 1 and 3; an unknown number is the mean, and marked."""
    rows = table_rows([1, 3, NAN], [1, 0, 1])
    columns = FeatureColumns.of(rows, [("mail", "web")])
    assert (columns.mean, columns.unit, columns.lacking) == ((2.0,), (1.0,), (0,))
    assert columns.values == (("web", "mail"),)  # the more frequent first
    assert columns.width == 4
    found = columns.apply(rows.features, [("mail", "web")])
    assert found.tolist() == [[-1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]]
    assert found.dtype == np.float32


def test_a_row_without_weight_says_nothing_of_the_columns():
    weighed = FeatureColumns.of(table_rows([1, 3, 99], [0, 0, 1], [1, 3, 0]), [("a", "b")])
    assert weighed.mean == (2.5,) and weighed.unit == (pytest.approx(0.75**0.5),)
    assert weighed.values == (("a",),)


def test_a_column_that_never_changes_or_is_never_known_says_nothing():
    columns = FeatureColumns.of(table_rows([5, 5], [NAN, NAN]), [("a",)])
    assert (columns.mean, columns.unit, columns.values) == ((5.0,), (1.0,), ((),))
    unknown = FeatureColumns.of(table_rows([NAN, NAN], [0, 0]), [("a",)])
    assert unknown.apply(np.array([[NAN, 0], [3, NAN]]), [("a",)]).tolist() == [
        [0, 1, 1],
        [3, 0, 0],
    ]


def test_categories_are_known_by_name():
    """A new test file with another value moves the codes: `web` was 1 and is 2 now."""
    columns = FeatureColumns.of(table_rows([0, 0], [0, 1]), [("mail", "web")])
    now = [("mail", "phone", "web")]
    found = columns.apply(np.array([[0, 0], [0, 1], [0, 2], [0, NAN]]), now)
    assert found[:, 1:].tolist() == [[1, 0], [0, 0], [0, 1], [0, 0]]


def test_numbers_far_away_and_rare_categories_are_bounded():
    columns = FeatureColumns.of(
        table_rows([0, 1] * 100, range(200)), [[f"v{i}" for i in range(200)]]
    )
    assert len(columns.values[0]) == MOST_VALUES
    assert columns.apply(np.array([[1e300, 0]]), [["v0"]])[0, 0] == FARTHEST


@pytest.mark.parametrize("name", ["mean", "labels"])
def test_joined_features_count_and_are_restored(backbone, tmp_path, name):
    """The label is in the columns alone; the texts are all the same."""
    rows = tiny_rows("multilabel", 16)
    target = rows.targets[:, 0]
    columns = np.column_stack([np.where(np.arange(16) % 5 == 0, NAN, target * 100), target])
    rows = replace(rows, texts=[("a film",)] * 16, features=columns)
    settings = {
        "head": {"name": name, **HEADS[name]},
        "training": {"epochs": 20, "head_lr": 0.05, "batch_size": 16},
    }

    def learner(joined: bool):
        made = make_learner(backbone, "multilabel", join_features=joined, **settings)
        made.task = replace(made.task, categories=(("bad", "good"),))
        return made

    plain, joined = learner(False), learner(True)
    plain.fit(rows, None, tmp_path / "plain")
    joined.fit(rows, None, tmp_path / "joined")
    assert np.ptp(plain.predict(rows), axis=0).max() < 1e-6
    predicted = joined.predict(rows)
    assert ((predicted > 0) == (rows.targets > 0.5)).all()
    assert joined.model.head.weight.shape == (3, 16 + 4)
    joined.save(tmp_path / "model")
    stored = json.loads((tmp_path / "model/classifier.json").read_text())["columns"]
    assert stored["values"] == [["bad", "good"]] and stored["lacking"] == [0]
    again = learner(True)
    again.load(tmp_path / "model")
    assert again.predict(rows).tobytes() == predicted.tobytes()


def add_columns(root: Path) -> None:
    """`stars` of train and test, and where they are from."""
    for name in ("train", "test"):
        path = root / f"input/{name}.csv"
        table = pd.read_csv(path, dtype=str)
        table["stars"] = [str(i % 5) for i in range(len(table))]
        table["source"] = ["mail" if i % 3 else "web" for i in range(len(table))]
        table.to_csv(path, index=False)


@pytest.fixture
def with_columns(backbone, tmp_path) -> Path:
    root = make_workspace(
        tmp_path / "w", models=["tiny"], numeric=["stars"], categorical=["source"]
    )
    add_columns(root)
    add_preset(root, backbone, join_features=True, training={"epochs": 1})
    assert foldstack(root, "folds") == 0
    return root


def test_a_run_with_features_is_of_these_columns(with_columns, capsys):
    """Other numbers in train.csv are another run; in test.csv they are predicted again."""
    root, key = with_columns, RunKey("tiny", 0, (0,))
    train = ["train", "--model", "tiny", "--fold", "0"]
    assert foldstack(root, *train) == 0
    before = Store(root).read_run(key).predictions
    test = root / "input/test.csv"
    test.write_text(test.read_text().replace(",mail", ",card"))
    capsys.readouterr()
    assert foldstack(root, *train) == 0
    assert "the test file is new, the model is not" in capsys.readouterr().out
    after = Store(root).read_run(key).predictions
    assert before["test"] != after["test"] and before["heldout"] == after["heldout"]
    assert foldstack(root, *train) == 0
    assert "nothing to do" in capsys.readouterr().out
    path = root / "input/train.csv"
    path.write_text(path.read_text().replace(",3,mail", ",4,mail"))
    assert foldstack(root, *train) == 2
    assert "is finished with other settings or data (features" in capsys.readouterr().err


def test_new_texts_want_the_joined_columns(with_columns, tmp_path, capsys):
    root = with_columns
    train_folds(root, "--model", "tiny")
    new = tmp_path / "new.csv"
    new.write_text("id,text,source\nn0,a good film,web\n")
    capsys.readouterr()
    assert foldstack(root, "predict", "--model", "tiny", "--file", str(new)) == 2
    assert "stars" in capsys.readouterr().err
    new.write_text("id,text,stars,source\nn0,a good film,3,phone\nn1,a good film,,\n")
    assert foldstack(root, "predict", "--model", "tiny", "--file", str(new)) == 0


# Causal backbones


def causal(kind: str = "gpt2", **config: object) -> nn.Module:
    """A tiny random decoder."""
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40, "n_positions": 32}
    if kind != "gpt2":
        sizes = TINY | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
    return AutoModel.from_config(AutoConfig.for_model(kind, **sizes | config))


FIRST_TOKEN = ("cls", "cls_attention", "concat")


@pytest.mark.parametrize("name", FIRST_TOKEN)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_head_on_the_first_token_of_a_causal_backbone_is_refused(kind: str, name: str) -> None:
    """That token has seen nothing, and the head would learn from the same vector for every text."""
    settings = {"layers": 2} if name == "concat" else {}
    backbone = causal(kind).train()
    with pytest.raises(InputError) as refused:
        Classifier(backbone, 1, 0.0, head=head(name, **settings))
    assert str(refused.value) == (
        f"head '{name}' reads the first token, which in a causal backbone ({kind}) has seen none of the "
        "others: set `head: last` or `head: mean`, or another that reads every token"
    )


def test_the_other_heads_read_a_causal_backbone() -> None:
    backbone = causal()
    for name in Head.registered.keys() - set(FIRST_TOKEN):
        settings = {"layers": 2} if name == "layers" else {}
        Classifier(backbone, 1, 0.0, head=head(name, **settings))


@pytest.mark.parametrize("name", FIRST_TOKEN)
def test_a_decoder_whose_attention_sees_both_ways_keeps_every_head(name: str) -> None:
    """Of Gemma 3 the embedding models are such; it is left in training mode as it was."""
    backbone = causal("gemma3_text", use_bidirectional_attention=True).train()
    settings = {"layers": 2} if name == "concat" else {}
    Classifier(backbone, 1, 0.0, head=head(name, **settings))
    assert backbone.training


def test_a_bert_that_is_set_to_decode_is_causal() -> None:
    backbone = causal("bert", is_decoder=True)
    with pytest.raises(InputError, match="in a causal backbone"):
        Classifier(backbone, 1, 0.0, head=head("cls"))
