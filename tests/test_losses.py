"""Losses: each against its paper's formula, written out slowly, and what holds for all of them."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from foldstack import techniques
from foldstack.techniques import Loss
from foldstack.training import criteria
from foldstack.training.criteria import make_criterion

OUTPUTS = {"binary": 1, "multiclass": 3, "multilabel": 3, "regression": 2}
LINKS = {"multiclass": "softmax", "regression": "identity"}
# Everything that is at its least or off by default switched on, so that what holds for all holds here.
CASES = [
    *[(name, {}, kind) for name, loss in Loss.registered.items() for kind in loss.kinds],
    ("cross_entropy", {"label_smoothing": 0.1, "class_weights": "inverse"}, "multiclass"),
    ("cross_entropy", {"label_smoothing": 0.1, "class_weights": "effective"}, "multilabel"),
    ("focal", {"gamma": 0.5, "class_weights": "inverse"}, "multiclass"),
    ("focal", {"gamma": 0.5, "class_weights": "effective"}, "multilabel"),
    ("soft_f1", {"share": 0.3, "average": "micro"}, "multiclass"),
    ("soft_f1", {"share": 0.3, "average": "micro"}, "multilabel"),
    ("pairwise_auc", {"share": 1}, "multilabel"),
    ("correlation", {"share": 1}, "regression"),
    ("asymmetric", {"gamma_positive": 0.5, "gamma_negative": 0.5, "margin": 0.2}, "multilabel"),
    ("asymmetric", {"margin": 0}, "multilabel"),
]
all_cases = pytest.mark.parametrize("name, options, kind", CASES, ids=str)


def settings_of(name: str, **options: object) -> techniques.Loss:
    return techniques.TrainingSettings(loss={"name": name, **options}).loss


def link_of(kind: str) -> str:
    return LINKS.get(kind, "sigmoid")


def draw(kind: str, n: int = 6, seed: int = 0, soft: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Raw outputs, targets and weights of n rows, in double; hard targets name every class."""
    rng = np.random.default_rng(seed)
    outputs = OUTPUTS[kind]
    raw = rng.normal(size=(n, outputs)) * 2
    if kind == "regression":
        targets = rng.uniform(size=(n, outputs))
    elif soft:
        targets = rng.uniform(size=(n, outputs))
        if kind == "multiclass":
            targets /= targets.sum(axis=1, keepdims=True)
    elif kind == "multiclass":
        targets = np.eye(outputs)[np.arange(n) % 4 % 3]
    else:
        targets = (np.arange(n)[:, None] % (np.arange(outputs) + 2) == 0).astype(float)
    weights = rng.uniform(0.5, 2, size=n)
    return torch.tensor(raw), torch.tensor(targets), torch.tensor(weights)


def value(
    loss: techniques.Loss | None,
    kind: str,
    raw: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    train: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The loss of a whole batch; class weights and priors are of `train`, or of the batch itself."""
    weights = torch.ones(len(raw)).to(raw) if weights is None else weights
    criterion = make_criterion(loss, link_of(kind), *(train or (targets, weights)))
    return criterion(raw, targets, weights, weights.sum())


def gradient(loss: techniques.Loss | None, kind: str, raw: Tensor, *rest: object) -> Tensor:
    raw = raw.clone().requires_grad_()
    return torch.autograd.grad(value(loss, kind, raw, *rest), raw)[0]


# The papers' formulas, one number at a time


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


def class_weights_by_hand(method: str, counts: list[float]) -> list[float]:
    """Of the classes of one choice, whose mean over the rows is 1."""
    if method == "none":
        return [1.0] * len(counts)
    if method == "inverse":
        weights = [1 / n for n in counts]
    else:
        weights = [(1 - 0.999) / (1 - 0.999**n) for n in counts]
    mean = sum(w * n for w, n in zip(weights, counts, strict=True)) / sum(counts)
    return [w / mean for w in weights]


def choices(raw: np.ndarray, y: np.ndarray, link: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(probabilities, targets) of each choice of a row: among the classes, or of yes and no."""
    if link == "softmax":
        return [(softmax(raw), y)]
    return [(np.array([sigmoid(x), 1 - sigmoid(x)]), np.array([t, 1 - t])) for x, t in zip(raw, y)]  # noqa: B905


def counts_of(targets: np.ndarray, weights: np.ndarray, link: str) -> list[list[float]]:
    """For each choice of a row, how much weight each outcome has."""
    yes, total = weights @ targets, weights.sum()
    return [list(yes)] if link == "softmax" else [[n, total - n] for n in yes]


def row_reference(loss, link: str, raw, y, counts) -> float:
    """The loss of one row."""
    if loss.name in ("mse", "huber", "scaled_bce", "multilabel_ce", "asymmetric", "dice"):
        return OTHERS[loss.name](loss, link, raw, y)
    if loss.name == "logit_adjusted":
        shares = [np.array(c) / sum(c) for c in counts]
        if link == "softmax":
            raw = raw + loss.tau * np.log(shares[0])
        else:
            raw = raw + [loss.tau * math.log(yes / no) for yes, no in shares]
    out = []
    for (p, t), count in zip(choices(raw, y, link), counts, strict=True):
        balance = class_weights_by_hand(getattr(loss, "class_weights", "none"), count)
        smoothing = getattr(loss, "label_smoothing", 0)
        t = (1 - smoothing) * t + smoothing / len(t)
        gamma = getattr(loss, "gamma", 0)
        out.append(
            sum(
                -balance[k] * t[k] * abs(t[k] - p[k]) ** gamma * math.log(p[k])
                for k in range(len(t))
            )
        )
    return float(np.mean(out))


def dice_reference(loss, link, raw, y) -> float:
    p = softmax(raw) if link == "softmax" else np.array([sigmoid(x) for x in raw])
    q = (1 - p) ** loss.alpha * p
    out = [1 - (2 * a * b + loss.smooth) / (a + b + loss.smooth) for a, b in zip(q, y, strict=True)]
    return sum(out) if link == "softmax" else sum(out) / len(out)


def asymmetric_reference(loss, link, raw, y) -> float:
    out = []
    for x, t in zip(raw, y, strict=True):
        p = sigmoid(x)
        q = max(p - loss.margin, 0)
        yes = (1 - p) ** loss.gamma_positive * math.log(p)
        no = q**loss.gamma_negative * math.log(1 - q)
        out.append(-t * yes - (1 - t) * no)
    return sum(out) / len(out)


def huber_reference(loss, link, raw, y) -> float:
    errors = np.abs(raw - y)
    small = errors <= loss.delta
    return np.where(small, errors**2 / 2, loss.delta * (errors - loss.delta / 2)).mean()


OTHERS = {
    "dice": dice_reference,
    "asymmetric": asymmetric_reference,
    "huber": huber_reference,
    "mse": lambda loss, link, raw, y: ((raw - y) ** 2).mean(),
    "scaled_bce": lambda loss, link, raw, y: np.mean(
        [-t * math.log(sigmoid(x)) - (1 - t) * math.log(1 - sigmoid(x)) for x, t in zip(raw, y)]  # noqa: B905
    ),
    "multilabel_ce": lambda loss, link, raw, y: (
        math.log(1 + sum(y * np.exp(-raw))) + math.log(1 + sum((1 - y) * np.exp(raw)))
    ),
}


def cross_entropy_reference(link, raw, targets, weights) -> float:
    plain = techniques.CrossEntropy()
    counts = counts_of(targets, weights, link)
    rows = [row_reference(plain, link, r, y, counts) for r, y in zip(raw, targets, strict=True)]
    return float(weights @ rows / weights.sum())


def soft_f1_reference(loss, link, raw, targets, weights) -> float:
    p = np.array([softmax(r) if link == "softmax" else [sigmoid(x) for x in r] for r in raw])
    found = (weights[:, None] * p * targets).sum(axis=0)
    sizes = (weights[:, None] * (p + targets)).sum(axis=0)
    if loss.average == "micro":
        f1 = 2 * found.sum() / sizes.sum()
    else:
        f1 = np.mean([2 * found[j] / sizes[j] for j in range(len(sizes)) if targets[:, j].any()])
    rest = cross_entropy_reference(link, raw, targets, weights)
    return loss.share * (1 - f1) + (1 - loss.share) * rest


def ghm_reference(loss, link, raw, targets, weights) -> float:
    """As the authors' code: weights N / (rows in the bin), over the number of bins that have rows."""
    each = [
        (weights[i], np.abs(p - t).sum() / 2, -(t * np.log(p)).sum())
        for i in range(len(raw))
        for p, t in choices(raw[i], targets[i], link)
    ]
    total = sum(w for w, *_ in each)
    bin_of = [min(int(g * loss.bins), loss.bins - 1) for _, g, _ in each]
    loss_sum = 0.0
    for (w, _, row_loss), own in zip(each, bin_of, strict=True):
        in_bin = sum(each[k][0] for k in range(len(each)) if bin_of[k] == own)
        loss_sum += w * total / in_bin / len(set(bin_of)) * row_loss
    return loss_sum / total


def pairwise_auc_reference(loss, link, raw, targets, weights) -> float:
    """Each pair of rows in each label; no label has less than a row of positives or negatives here."""
    by_label = []
    for s, t in zip(raw.T, targets.T, strict=True):
        pairs = [
            (weights[i] * t[i] * weights[k] * (1 - t[k]), math.log(1 + math.exp(s[k] - s[i])))
            for i in range(len(s))
            for k in range(len(s))
        ]
        by_label.append(sum(w * x for w, x in pairs) / sum(w for w, _ in pairs))
    rest = cross_entropy_reference(link, raw, targets, weights)
    return loss.share * float(np.mean(by_label)) + (1 - loss.share) * rest


def correlation_reference(loss, link, raw, targets, weights) -> float:
    """numpy's weighted covariances."""
    apart = []
    for x, y in zip(raw.T, targets.T, strict=True):
        (xx, xy), (_, yy) = np.cov(x, y, aweights=weights)
        apart.append(1 - xy / math.sqrt(xx * yy))
    squared = weights @ ((raw - targets) ** 2).mean(axis=1) / weights.sum()
    return loss.share * float(np.mean(apart)) + (1 - loss.share) * squared


OF_THE_BATCH = {
    "soft_f1": soft_f1_reference,
    "ghm": ghm_reference,
    "pairwise_auc": pairwise_auc_reference,
    "correlation": correlation_reference,
}


def reference(loss: techniques.Loss, kind: str, raw: Tensor, targets: Tensor, weights: Tensor):
    link, arrays = link_of(kind), [x.numpy() for x in (raw, targets, weights)]
    if loss.whole_batch:
        return OF_THE_BATCH[loss.name](loss, link, *arrays)
    raw, targets, weights = arrays
    counts = counts_of(targets, weights, link)
    rows = [row_reference(loss, link, r, y, counts) for r, y in zip(raw, targets, strict=True)]
    return float(weights @ rows / weights.sum())


# What holds for all


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@all_cases
def test_a_loss_is_the_papers_formula(name, options, kind, soft):
    loss, data = settings_of(name, **options), draw(kind, soft=soft)
    assert value(loss, kind, *data).item() == pytest.approx(reference(loss, kind, *data), rel=1e-9)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@all_cases
def test_a_gradient_is_that_of_the_value(name, options, kind, soft):
    loss, (raw, targets, weights) = settings_of(name, **options), draw(kind, soft=soft)
    assert torch.autograd.gradcheck(
        lambda x: value(loss, kind, x, targets, weights), raw.requires_grad_(), fast_mode=True
    )


@all_cases
def test_a_row_of_weight_two_is_the_row_twice(name, options, kind):
    """Where it is drawn, and where class weights and priors come from.

    With another seed the row is alone in its bin of GHM, whose mean its weight does not change.
    """
    loss, (raw, targets, _) = settings_of(name, **options), draw(kind, seed=1)
    heavy = value(loss, kind, raw, targets, torch.tensor([2.0, 1, 1, 1, 1, 1]).double())
    rows = [0, 0, 1, 2, 3, 4, 5]
    assert heavy.item() == pytest.approx(value(loss, kind, raw[rows], targets[rows]).item())
    assert heavy.item() != pytest.approx(value(loss, kind, raw, targets).item())


@all_cases
def test_a_row_of_weight_zero_is_as_if_it_were_not_there(name, options, kind):
    loss, (raw, targets, _) = settings_of(name, **options), draw(kind, n=9)
    weights = torch.tensor([1.0, 1, 1, 1, 1, 1, 0, 1, 0]).double()
    left = weights > 0
    with_zero = value(loss, kind, raw, targets, weights)
    assert with_zero.item() == pytest.approx(value(loss, kind, raw[left], targets[left]).item())
    assert (gradient(loss, kind, raw, targets, weights)[~left] == 0).all()


@all_cases
def test_the_scale_of_all_weights_does_not_matter(name, options, kind):
    """A column of weights may be thousandths; only `effective` counts rows, and so reads its scale."""
    options = {k: v for k, v in options.items() if v != "effective"}
    loss, (raw, targets, weights) = settings_of(name, **options), draw(kind)
    whole, small = (gradient(loss, kind, raw, targets, weights * s) for s in (1, 1e-3))
    torch.testing.assert_close(small, whole)


@all_cases
def test_row_wise_losses_of_micro_batches_add_up(name, options, kind):
    loss, (raw, targets, weights) = settings_of(name, **options), draw(kind)
    criterion = make_criterion(loss, link_of(kind), targets, weights)
    total = weights.sum()
    parts = [slice(0, 2), slice(2, 6)]
    added = sum(criterion(raw[s], targets[s], weights[s], total) for s in parts)
    whole = criterion(raw, targets, weights, total)
    assert (added.item() == pytest.approx(whole.item())) == (not loss.whole_batch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@all_cases
def test_extreme_outputs_stay_finite(name, options, kind, dtype):
    """A power of 0 has an infinite gradient, and log 0 is infinite: both are common ways to a nan."""
    loss, outputs = settings_of(name, **options), OUTPUTS[kind]
    grid = [[sign * size] for sign in (1, -1) for size in (0, 17, 40, 100, 1e4)]
    raw = torch.tensor(grid).repeat(1, outputs)
    raw[:, 1:] *= -1
    for hot in (0, 1):
        if kind == "multiclass":
            targets = torch.eye(3)[[hot] * len(raw)]
        else:
            targets = torch.full((len(raw), outputs), float(hot))
        rows = raw.to(dtype), targets.to(dtype)
        assert torch.isfinite(value(loss, kind, *rows))
        assert torch.isfinite(gradient(loss, kind, *rows)).all()
        assert gradient(loss, kind, *rows).dtype == dtype


@all_cases
def test_outputs_that_are_no_number_give_none(name, options, kind):
    """The loop then says so; an index made of nan would crash instead."""
    raw, targets, weights = draw(kind)
    raw[0, 0] = math.nan
    assert value(settings_of(name, **options), kind, raw, targets, weights).isnan()


@pytest.mark.parametrize(
    "name, kind, one, other",
    [
        ("cross_entropy", "multiclass", {}, {"label_smoothing": 0.2}),
        ("cross_entropy", "multilabel", {}, {"label_smoothing": 0.2}),
        ("cross_entropy", "multiclass", {}, {"class_weights": "inverse"}),
        ("cross_entropy", "multilabel", {}, {"class_weights": "effective"}),
        ("soft_f1", "multiclass", {}, {"share": 0.5}),
        ("soft_f1", "multilabel", {}, {"average": "micro"}),
        ("soft_f1", "multilabel", {"average": "micro"}, {"average": "macro"}),
        ("focal", "binary", {}, {"gamma": 1}),
        ("focal", "binary", {}, {"class_weights": "inverse"}),
        ("dice", "multiclass", {}, {"alpha": 0.1}),
        ("dice", "multiclass", {}, {"smooth": 0.1}),
        ("ghm", "multilabel", {}, {"bins": 3}),
        ("ghm", "multiclass", {}, {"bins": 3}),
        ("pairwise_auc", "multilabel", {}, {"share": 1}),
        ("correlation", "regression", {}, {"share": 1}),
        ("logit_adjusted", "multiclass", {}, {"tau": 2}),
        ("asymmetric", "multilabel", {}, {"gamma_positive": 1}),
        ("asymmetric", "multilabel", {}, {"gamma_negative": 1}),
        ("asymmetric", "multilabel", {}, {"margin": 0.2}),
        ("huber", "regression", {}, {"delta": 0.3}),
    ],
    ids=str,
)
def test_each_setting_changes_the_gradient(name, kind, one, other):
    """An option that is read and then forgotten is worse than none."""
    data = draw(kind)
    a, b = (gradient(settings_of(name, **options), kind, *data) for options in (one, other))
    assert (a - b).abs().max() > 1e-4


def test_auto_is_cross_entropy_or_the_squared_error():
    for kind, wanted in (("multiclass", "cross_entropy"), ("regression", "mse")):
        data = draw(kind)
        assert value(None, kind, *data) == value(settings_of(wanted), kind, *data)


@all_cases
def test_a_criterion_goes_where_the_outputs_are(name, options, kind):
    """Class weights and priors are computed on the CPU; `meta` stands for an accelerator here."""
    raw, targets, weights = draw(kind)
    criterion = make_criterion(settings_of(name, **options), link_of(kind), targets, weights)
    there = [x.to("meta") for x in (raw, targets, weights, weights.sum())]
    assert criterion(*there).device.type == "meta"


@all_cases
def test_a_run_whose_rows_all_weigh_nothing_has_finite_losses(name, options, kind):
    raw, targets, weights = draw(kind)
    train = targets, 0 * weights
    loss = settings_of(name, **options)
    assert torch.isfinite(value(loss, kind, raw, targets, weights, train))


# Cross-entropy, class weights, priors


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_is_torchs_own(smoothing):
    raw, targets, _ = draw("multiclass")
    torch.testing.assert_close(
        criteria.cross_entropy("softmax", raw, targets, smoothing=smoothing),
        F.cross_entropy(raw, targets.argmax(1), reduction="none", label_smoothing=smoothing),
    )
    raw, targets, _ = draw("multilabel", soft=True)
    smoothed = (1 - smoothing) * targets + smoothing / 2
    torch.testing.assert_close(
        criteria.cross_entropy("sigmoid", raw, targets, smoothing=smoothing).mean(),
        F.binary_cross_entropy_with_logits(raw, smoothed),
    )


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_cross_entropy_pulls_towards_soft_targets(kind):
    """d loss / d raw = probability − target (sigmoid: over the number of outputs, its mean)."""
    raw, targets, _ = draw(kind, soft=True)
    wanted = raw.softmax(1) - targets if kind == "multiclass" else (raw.sigmoid() - targets) / 3
    torch.testing.assert_close(gradient(None, kind, raw, targets), wanted / len(raw))


@pytest.mark.parametrize("name", ["cross_entropy", "logit_adjusted", "scaled_bce"])
def test_a_soft_target_is_a_mixture_of_hard_ones(name):
    """Linear in the target: .3 of a yes and .7 of a no."""
    raw, weight = torch.tensor([[1.7]]), torch.ones(1)
    train = torch.tensor([[1.0], [0.0], [0.0]]), torch.ones(3)
    yes, no, soft = (
        value(settings_of(name), "binary", raw, torch.tensor([[t]]), weight, train)
        for t in (1.0, 0.0, 0.3)
    )
    assert soft.item() == pytest.approx(0.3 * yes.item() + 0.7 * no.item())


def test_two_softmax_outputs_are_one_sigmoid_of_their_difference():
    """A binary competition's head may have either; the same settings mean the same."""
    generator = torch.Generator().manual_seed(0)
    two = torch.randn(6, 2, generator=generator)
    y = torch.rand(6, 1, generator=generator)
    one, pair, weights = two[:, 1:] - two[:, :1], torch.cat([1 - y, y], 1), torch.ones(6)
    for name, options in (
        ("cross_entropy", {"label_smoothing": 0.2, "class_weights": "inverse"}),
        ("focal", {"gamma": 1.5, "class_weights": "effective"}),
        ("logit_adjusted", {"tau": 0.7}),
        ("ghm", {"bins": 3}),
    ):
        loss = settings_of(name, **options)
        softmax_value = value(loss, "multiclass", two, pair, weights)
        torch.testing.assert_close(softmax_value, value(loss, "binary", one, y, weights))


def test_inverse_class_weights_by_hand():
    """n / (K n_k) of 8 rows of classes a a a a a a b c; yes and no have a pair for each label."""
    classes = torch.eye(3)[[0, 0, 0, 0, 0, 0, 1, 2]]
    weights = criteria.class_weights("inverse", classes, torch.ones(8), "softmax")
    assert weights[:, 0].tolist() == pytest.approx([8 / 18, 8 / 3, 8 / 3])
    labels = torch.tensor([[1.0, 0], [1, 0], [1, 1], [0, 0]])
    weights = criteria.class_weights("inverse", labels, torch.ones(4), "sigmoid")
    assert weights.tolist() == [pytest.approx([4 / 6, 4 / 2]), pytest.approx([4 / 2, 4 / 6])]


def test_effective_class_weights_by_hand():
    """Between none and inverse: many rows of a class bring less and less that is new."""
    classes = torch.eye(2)[[0] * 3000 + [1] * 10]
    a, b = criteria.class_weights("effective", classes, torch.ones(3010), "softmax")[:, 0].tolist()
    assert b / a == pytest.approx((1 - 0.999**3000) / (1 - 0.999**10))
    assert 3000 * a + 10 * b == pytest.approx(3010)
    assert 1 < b / a < 300


@pytest.mark.parametrize("method", ["none", "inverse", "effective"])
@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_the_mean_class_weight_over_the_training_rows_is_one(kind, method):
    """Else class weights would quietly scale the learning rate."""
    _, targets, weights = draw(kind, soft=True)
    balance = criteria.class_weights(method, targets, weights, link_of(kind))
    outcomes = criteria._outcomes(targets, targets, link_of(kind))[1]
    means = (weights[:, None, None] * outcomes * balance).sum(dim=(0, 1)) / weights.sum()
    torch.testing.assert_close(means, torch.ones_like(means))


@pytest.mark.parametrize("method", ["inverse", "effective"])
def test_a_class_without_rows_has_an_ordinary_weight(method):
    """1 / 0 rows, and label smoothing gives every row a little of it."""
    targets = torch.eye(3)[[0, 0, 0, 2]]
    a, b, c = criteria.class_weights(method, targets, torch.ones(4), "softmax")[:, 0].tolist()
    assert (b, 3 * a + c) == (1, pytest.approx(4))
    assert a < b < c
    never = criteria.class_weights(method, torch.zeros(4, 1), torch.ones(4), "sigmoid")
    assert never.tolist() == [[1], [1]]


def test_priors_by_hand():
    """Of 4 rows; a class without any counts as having one, so that its logarithm is finite."""
    priors = criteria.log_priors(torch.eye(3)[[0, 0, 0, 2]], torch.ones(4), "softmax")
    assert priors.tolist() == pytest.approx(np.log([3 / 4, 1 / 4, 1 / 4]))
    odds = criteria.log_priors(
        torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 0]]), torch.ones(4), "sigmoid"
    )
    assert odds.tolist() == pytest.approx([math.log(3), math.log(1 / 4)])


@pytest.mark.parametrize("kind", ["multiclass", "binary"])
def test_logit_adjustment_is_cross_entropy_of_shifted_outputs(kind):
    raw, targets, weights = draw(kind)
    shares = (weights @ targets) / weights.sum()
    shift = shares.log() if kind == "multiclass" else (shares / (1 - shares)).log()
    adjusted = gradient(settings_of("logit_adjusted", tau=1.3), kind, raw, targets, weights)
    shifted = gradient(None, kind, raw + 1.3 * shift, targets, weights)
    torch.testing.assert_close(adjusted, shifted)


def test_class_weights_and_priors_are_of_the_training_rows_not_of_the_batch():
    raw, targets, weights = draw("multiclass")
    train = torch.eye(3)[[0] * 20 + [1, 2]].double(), torch.ones(22).double()
    for loss in (
        settings_of("cross_entropy", class_weights="inverse"),
        settings_of("focal", class_weights="inverse"),
        settings_of("logit_adjusted"),
    ):
        own = value(loss, "multiclass", raw, targets, weights)
        assert value(loss, "multiclass", raw, targets, weights, train) != pytest.approx(own)


# Soft F1


def test_soft_f1_of_three_rows_by_hand():
    """p .9 .6 .2 for labels 1 0 1: 1 − 2 (.9 + .2) / (1.7 + 2)."""
    raw = torch.tensor([[0.9], [0.6], [0.2]]).logit()
    labels = torch.tensor([[1.0], [0], [1]])
    loss = value(settings_of("soft_f1"), "binary", raw, labels)
    assert loss.item() == pytest.approx(1 - 2.2 / 3.7)
    certain = value(settings_of("soft_f1"), "binary", (labels - 0.5) * 100, labels)
    assert certain.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_soft_f1_gradient_in_closed_form(average):
    """dL/dp_i = −2 w_i (y_i S − T) / S², T = Σ w p y, S = Σ w (p + y); times p (1 − p) by sigmoid."""
    raw, y, w = draw("multilabel")
    p = raw.sigmoid()
    weighted = w[:, None] * (p * y), w[:, None] * (p + y)
    if average == "micro":
        found, size = (x.sum() for x in weighted)
    else:
        found, size = (x.sum(0) for x in weighted)
    by_p = -2 * w[:, None] * (y * size - found) / size**2
    if average == "macro":
        by_p /= 3
    got = gradient(settings_of("soft_f1", average=average), "multilabel", raw, y, w)
    torch.testing.assert_close(got, by_p * p * (1 - p))


def test_macro_leaves_labels_without_positives_out():
    """A label that nobody has in this batch would count as an F1 of 0, whatever is predicted."""
    raw, targets, _ = draw("multilabel")
    targets[:, 1] = 0
    loss = settings_of("soft_f1", average="macro")
    both = [0, 2]
    assert value(loss, "multilabel", raw, targets) == pytest.approx(
        value(loss, "multilabel", raw[:, both], targets[:, both])
    )
    assert (gradient(loss, "multilabel", raw, targets)[:, 1] == 0).all()
    micro = gradient(settings_of("soft_f1", average="micro"), "multilabel", raw, targets)
    assert (micro[:, 1] > 0).all()


@pytest.mark.parametrize("average", ["micro", "macro"])
@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_a_batch_without_positives_pulls_probabilities_down(kind, average):
    """The plain formula is 1 there, with no gradient: the batches of a rare label taught nothing."""
    raw, targets, _ = draw(kind)
    none = torch.zeros_like(targets)
    loss = settings_of("soft_f1", average=average)
    size = raw.sigmoid().sum(0) if average == "macro" else raw.sigmoid().sum()
    assert value(loss, kind, raw, none) == pytest.approx((size / (1 + size)).mean())
    assert (gradient(loss, kind, raw, none) > 0).all()
    assert value(loss, kind, raw - 100, none) == pytest.approx(0)


def test_soft_f1_has_no_jump_where_the_last_positive_fades():
    raw, targets, _ = draw("binary")
    loss = settings_of("soft_f1")
    at = [value(loss, "binary", raw, targets * s).item() for s in (0, 1e-9, 1 / 3 - 1e-9, 1 / 3)]
    assert targets.sum() == 3
    assert at[0] == pytest.approx(at[1], abs=1e-8)
    assert at[2] == pytest.approx(at[3], abs=1e-8)


def test_soft_f1_is_the_formula_with_a_single_positive_of_the_least_weight():
    """What smooths a batch without positives is not to touch the others."""
    raw, _, weights = draw("binary")
    one = (weights == weights.min()).double()[:, None]
    p, w = raw.sigmoid()[:, 0], weights
    formula = 1 - 2 * (w @ (p * one[:, 0])) / (w @ (p + one[:, 0]))
    assert value(settings_of("soft_f1"), "binary", raw, one, weights) == pytest.approx(formula)


def test_soft_f1_of_a_batch_of_no_weight_is_no_loss():
    raw, targets, weights = draw("binary")
    criterion = make_criterion(settings_of("soft_f1"), "sigmoid", targets, weights)
    assert criterion(raw, targets, 0 * weights, torch.tensor(1e-12)) == 0


# Pairs


def test_pairwise_auc_of_three_rows_by_hand():
    """Positives at 2 and −1, a negative at 1: the mean of log(1 + e^−1) and log(1 + e^2)."""
    raw, labels = torch.tensor([[2.0], [-1.0], [1.0]]), torch.tensor([[1.0], [1], [0]])
    loss = value(settings_of("pairwise_auc", share=1), "binary", raw, labels)
    wanted = (math.log1p(math.exp(-1)) + math.log1p(math.exp(2))) / 2
    assert loss.item() == pytest.approx(wanted)


def test_pairwise_auc_of_far_apart_rows_counts_the_wrong_pairs():
    """It bounds the share of wrong pairs, 1 − AUC, from above, and is near 0 where that is 0."""
    labels = torch.tensor([[1.0], [1], [0], [0]])
    loss = settings_of("pairwise_auc", share=1)
    right = torch.tensor([[50.0], [90], [10], [-30]])
    assert value(loss, "binary", right, labels).item() == pytest.approx(0, abs=1e-6)
    one_of_four_wrong = torch.tensor([[50.0], [5], [10], [-30]])
    assert value(loss, "binary", one_of_four_wrong, labels).item() == pytest.approx(5 / 4, rel=0.01)


def test_pairwise_auc_alone_sees_no_intercept():
    """So `share: 1` leaves the probabilities without a level, which its docstring says."""
    raw, targets, weights = draw("multilabel")
    alone, mixed = settings_of("pairwise_auc", share=1), settings_of("pairwise_auc")
    for loss, same in ((alone, True), (mixed, False)):
        at, moved = (value(loss, "multilabel", raw + by, targets, weights) for by in (0, 3))
        assert (moved.item() == pytest.approx(at.item())) == same


@pytest.mark.parametrize("label", [0.0, 1.0], ids=["negatives", "positives"])
@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_a_batch_without_pairs_is_no_loss_of_pairs(kind, label):
    """0 / 0 pairs, and so were all weights after it; the cross-entropy beside it still teaches."""
    raw, targets, weights = draw(kind)
    one_class = torch.full_like(targets, label)
    alone = settings_of("pairwise_auc", share=1)
    assert value(alone, kind, raw, one_class, weights) == 0
    assert (gradient(alone, kind, raw, one_class, weights) == 0).all()
    mixed = gradient(settings_of("pairwise_auc", share=0.3), kind, raw, one_class, weights)
    torch.testing.assert_close(mixed, 0.7 * gradient(None, kind, raw, one_class, weights))


def test_a_label_without_pairs_is_left_out_of_their_mean():
    raw, targets, weights = draw("multilabel")
    targets[:, 1] = 0
    loss = settings_of("pairwise_auc", share=1)
    both = [0, 2]
    assert value(loss, "multilabel", raw, targets, weights).item() == pytest.approx(
        value(loss, "multilabel", raw[:, both], targets[:, both], weights).item()
    )
    assert (gradient(loss, "multilabel", raw, targets, weights)[:, 1] == 0).all()


def test_pairs_fade_with_the_last_positive():
    """Soft targets of a hundredth would otherwise rank the batch as if they were sure."""
    raw = draw("binary")[0]
    first = torch.eye(6)[:, :1].double()
    loss = settings_of("pairwise_auc", share=1)
    at = [value(loss, "binary", raw, first * s).item() for s in (0, 0.01, 1)]
    assert at[0] == 0
    assert at[1] == pytest.approx(at[2] / 100, rel=0.1)


def test_many_labels_are_compared_a_few_at_a_time(monkeypatch):
    """All at once, 500 labels of 1,024 rows were 2 GB of differences."""
    data = draw("multilabel")
    loss = settings_of("pairwise_auc", share=1)
    whole = value(loss, "multilabel", *data), gradient(loss, "multilabel", *data)
    for pairs in (1, 36 * 2):
        monkeypatch.setattr(criteria, "PAIRS", pairs)
        parts = value(loss, "multilabel", *data), gradient(loss, "multilabel", *data)
        torch.testing.assert_close(parts, whole)


# Two processes

PROCESSES = 2
SHARES = [slice(0, 4), slice(4, 9)]  # unequal, as the last update's may be


def _ddp_gradients(rank: int, rendezvous: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=PROCESSES)
    got = {}
    for key, loss in _distributed_losses().items():
        x, targets, weights = _distributed_rows()
        criterion = make_criterion(loss, "sigmoid", targets, weights)
        net = nn.parallel.DistributedDataParallel(_linear())
        own = SHARES[rank]
        # The mean over processes, see Criterion.
        args = targets[own], weights[own], weights.sum() / PROCESSES
        result = criterion(net(x[own]), *args)
        result.backward()
        got[key] = [p.grad for p in net.parameters()]
    torch.save(got, f"{out}/{rank}.pt")
    dist.destroy_process_group()


def _distributed_losses() -> dict[str, techniques.Loss]:
    return {
        "soft F1": settings_of("soft_f1"),
        "mixed": settings_of("soft_f1", share=0.4, average="micro"),
        "GHM": settings_of("ghm", bins=4),
        "pairs": settings_of("pairwise_auc", share=1),
        "pairs, mixed": settings_of("pairwise_auc", share=0.4),
        "correlation": settings_of("correlation", share=1),
        "correlation, mixed": settings_of("correlation", share=0.4),
        "BCE": settings_of("cross_entropy"),
    }


def _distributed_rows() -> tuple[Tensor, Tensor, Tensor]:
    """A label's only positives are all in the second share."""
    _, targets, weights = draw("multilabel", n=9)
    targets[:, 2] = (torch.arange(9) > 6).double()
    return torch.randn(9, 5, generator=torch.Generator().manual_seed(0)).double(), targets, weights


def _linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(5, 3).double()


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_the_whole_batch(tmp_path: Path):
    """The mean of two F1s is not the F1: sums are reduced first, then gradients averaged by DDP."""
    rendezvous = (tmp_path / "rendezvous").as_uri()
    torch.multiprocessing.spawn(
        _ddp_gradients, (rendezvous, str(tmp_path)), nprocs=PROCESSES, join=True
    )
    x, targets, weights = _distributed_rows()
    got = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    for key, loss in _distributed_losses().items():
        net = _linear()
        value(loss, "multilabel", net(x), targets, weights).backward()
        for rank in range(PROCESSES):
            torch.testing.assert_close(got[rank][key], [p.grad for p in net.parameters()], msg=key)


# Focal, dice, asymmetric, GHM


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_focal_without_focus_is_cross_entropy(kind):
    raw, targets, _ = draw(kind, soft=True)
    link = link_of(kind)
    torch.testing.assert_close(
        criteria.focal(link, raw, targets, gamma=0), criteria.cross_entropy(link, raw, targets)
    )


def test_focal_spares_what_is_easy():
    """A row at p = .9 counts (1 − .9)² = a hundredth of its cross-entropy."""
    raw, yes = torch.tensor([[0.9]]).logit(), torch.ones(1, 1)
    loss = value(settings_of("focal"), "binary", raw, yes).item()
    assert loss == pytest.approx(-0.01 * math.log(0.9), rel=1e-5)


@pytest.mark.parametrize("link", ["sigmoid", "softmax"])
def test_focal_of_soft_targets_is_least_at_the_target(link):
    """(1 − p)^gamma alone would put the minimum elsewhere."""
    p = torch.tensor([[0.2, 0.5, 0.3]])
    raw = p.log() if link == "softmax" else p.logit()
    at = criteria.focal(link, raw, p, gamma=2)
    assert at.item() == pytest.approx(0, abs=1e-6)
    for j in range(3):
        moved = raw.clone()
        moved[0, j] += 0.5
        assert criteria.focal(link, moved, p, gamma=2) > at + 1e-3


def test_dice_without_its_weight_is_the_plain_dice_coefficient():
    """p = .75: 1 − (2 · .75 + 1) / (.75 + 1 + 1) for a yes, 1 − 1 / (.75 + 1) for a no."""
    raw = torch.tensor([[0.75], [0.75]]).logit()
    loss = criteria.dice("sigmoid", raw, torch.tensor([[1.0], [0]]), alpha=0, smooth=1)
    assert loss.tolist() == pytest.approx([1 - 2.5 / 2.75, 1 - 1 / 1.75])


def test_dice_asks_for_no_more_certainty_than_its_weight_allows():
    """(1 − p)^alpha p is largest at p = 1 / (1 + alpha); what the docstring warns of."""
    raw = torch.tensor([[1 / 1.6]], dtype=torch.float64).logit()
    for target in (0.0, 1.0):
        assert gradient(settings_of("dice"), "binary", raw, torch.tensor([[target]])).abs() < 1e-9


def test_asymmetric_without_focus_and_margin_is_cross_entropy():
    raw, targets, weights = draw("multilabel", soft=True)
    loss = settings_of("asymmetric", gamma_positive=0, gamma_negative=0, margin=0)
    for compute in (value, gradient):
        torch.testing.assert_close(
            compute(loss, "multilabel", raw, targets, weights),
            compute(None, "multilabel", raw, targets, weights),
        )


def test_asymmetric_drops_negatives_below_the_margin():
    """What is that surely a no teaches nothing; a yes at the same p does."""
    raw = torch.tensor([[0.04]]).logit()
    assert gradient(settings_of("asymmetric"), "binary", raw, torch.zeros(1, 1)) == 0
    assert gradient(settings_of("asymmetric"), "binary", raw, torch.ones(1, 1)) < 0
    above = torch.tensor([[0.06]]).logit()
    assert gradient(settings_of("asymmetric"), "binary", above, torch.zeros(1, 1)) > 0


def test_ghm_gives_every_filled_bin_the_same_say():
    """Three easy rows and one hard one: the hard one counts as much as the three together."""
    raw, targets = torch.tensor([[3.0], [3.0], [3.0], [-1.0]]), torch.ones(4, 1)
    easy, hard = math.log1p(math.exp(-3)), math.log1p(math.exp(1))
    loss = value(settings_of("ghm"), "binary", raw, targets)
    assert loss.item() == pytest.approx((easy + hard) / 2)
    by_row = gradient(settings_of("ghm"), "binary", raw, targets)[:, 0].tolist()
    assert by_row == pytest.approx([-(1 - sigmoid(3)) / 6] * 3 + [-(1 - sigmoid(-1)) / 2])


def test_ghm_of_rows_without_weight_is_no_loss():
    raw, targets, weights = draw("binary")
    assert value(settings_of("ghm"), "binary", raw, targets, 0 * weights) == 0


# Several labels


def test_multilabel_cross_entropy_ranks_positives_over_0_over_negatives():
    """One positive at 2, one negative at −1: log(1 + e^−2) + log(1 + e^−1)."""
    raw, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    wanted = math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))
    assert value(settings_of("multilabel_ce"), "multilabel", raw, targets) == pytest.approx(wanted)


def test_multilabel_cross_entropy_of_hard_labels_is_softmax_over_pairs():
    """With a threshold output of 0, log(1 + Σ_neg e^s + Σ_pos e^−s + Σ_neg,pos e^(s_neg − s_pos))."""
    raw, targets, _ = draw("multilabel")
    for s, y in zip(raw.tolist(), targets.tolist(), strict=True):
        positive = [x for x, t in zip(s, y, strict=True) if t]
        negative = [x for x, t in zip(s, y, strict=True) if not t]
        wanted = 1 + sum(map(math.exp, negative)) + sum(math.exp(-x) for x in positive)
        wanted += sum(math.exp(a - b) for a in negative for b in positive)
        got = criteria.multilabel_cross_entropy(torch.tensor([s]), torch.tensor([y]))
        assert got.item() == pytest.approx(math.log(wanted))


# Regression


def test_the_squared_error_is_the_mean_over_outputs():
    raw, targets = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 3.0]])
    assert criteria.squared_error(raw, targets).tolist() == [2.5, 4.5]


def test_huber_is_linear_beyond_delta():
    raw, zero = torch.tensor([[0.5], [3.0], [-5.0]]), torch.zeros(3, 1)
    assert criteria.huber(1.0, raw, zero).tolist() == [0.125, 2.5, 4.5]
    got = gradient(settings_of("huber"), "regression", raw, zero) * 3
    assert got[:, 0].tolist() == pytest.approx([0.5, 1, -1])


def test_scaled_cross_entropy_is_least_at_the_scaled_target():
    targets = torch.tensor([[0.2, 0.9], [0.5, 0.01]])
    loss = settings_of("scaled_bce")
    assert gradient(loss, "regression", targets.logit(), targets).abs().max() < 1e-7


def test_correlation_is_numpys():
    raw, targets, _ = draw("regression")
    wanted = 1 - np.mean([np.corrcoef(raw[:, j], targets[:, j])[0, 1] for j in range(2)])
    loss = settings_of("correlation", share=1)
    assert value(loss, "regression", raw, targets).item() == pytest.approx(wanted)


def test_correlation_alone_sees_neither_mean_nor_scale():
    data = draw("regression")
    alone, mixed = settings_of("correlation", share=1), settings_of("correlation")
    for loss, same in ((alone, True), (mixed, False)):
        at, moved = (value(loss, "regression", x, *data[1:]) for x in (data[0], 3 * data[0] - 7))
        assert (moved.item() == pytest.approx(at.item())) == same


@pytest.mark.parametrize("n", [1, 6], ids=["a single row", "equal rows"])
@pytest.mark.parametrize("constant", ["logits", "targets", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_correlation_of_a_constant_is_0(dtype, constant, n):
    """0 / 0 of a batch whose rows agree, as after a start with an empty head."""
    raw, targets, _ = (x.to(dtype) for x in draw("regression", n=n))
    raw = torch.full_like(raw, 0.3) if constant != "targets" else raw
    targets = torch.full_like(targets, 0.7) if constant != "logits" else targets
    loss = settings_of("correlation", share=1)
    assert value(loss, "regression", raw, targets).item() == pytest.approx(1, abs=1e-3)
    slope = gradient(loss, "regression", raw, targets)
    assert torch.isfinite(slope).all()
    if constant == "logits" and n > 1:  # towards the targets
        assert (slope * (targets - targets.mean(0)) < 0).all()


# R-Drop


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * np.log(p / q)).sum())


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_divergence_is_half_of_both_kl_divergences(kind):
    a, b = draw(kind)[0], draw(kind, seed=1)[0]
    link = link_of(kind)
    for i, got in enumerate(criteria.divergence(a, b, link).tolist()):
        if kind == "regression":
            wanted = ((a[i] - b[i]) ** 2).mean().item()
        else:
            pairs = zip(
                choices(a[i].numpy(), np.zeros(3), link),
                choices(b[i].numpy(), np.zeros(3), link),
                strict=True,
            )
            wanted = np.mean([kl(p, q) / 2 + kl(q, p) / 2 for (p, _), (q, _) in pairs])
        assert got == pytest.approx(wanted)
    both = a.requires_grad_(), b.requires_grad_()
    assert torch.autograd.gradcheck(partial(criteria.divergence, link=link), both)


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_equal_outputs_do_not_diverge(link):
    raw = torch.tensor([[3.0, -2.0, 0.5], [1e4, -1e4, 0]], requires_grad=True)
    apart = criteria.divergence(raw, raw.detach(), link)
    assert apart.tolist() == [0, 0]
    assert (torch.autograd.grad(apart.sum(), raw)[0] == 0).all()


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_divergence_of_extreme_outputs_is_finite(link):
    a = torch.tensor([[1e4, -1e4], [1e4, 1e4], [0, -1e4]], requires_grad=True)
    apart = criteria.divergence(a, -a.detach(), link)
    assert torch.isfinite(apart).all()
    assert apart[0] > 1e3
    assert torch.isfinite(torch.autograd.grad(apart.sum(), a)[0]).all()


# Supervised contrastive learning


def contrastive_reference(vectors, similar, weights, temperature) -> float:
    """Khosla et al.'s L_out, one pair at a time, with weighted rows and degrees of agreement."""
    z = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    n, total, loss = len(z), 0.0, 0.0
    for i in range(n):
        others = [a for a in range(n) if a != i and weights[a] > 0]
        positives = [p for p in others if similar[i][p] > 0]
        if not positives:
            continue
        total += weights[i]
        all_ = sum(weights[a] * math.exp(z[i] @ z[a] / temperature) for a in others)
        mass = sum(weights[p] * similar[i][p] for p in positives)
        pulls = sum(
            weights[p] * similar[i][p] * math.log(math.exp(z[i] @ z[p] / temperature) / all_)
            for p in positives
        )
        loss -= weights[i] * max(similar[i][p] for p in positives) * pulls / mass
    return loss / total


def vectors_of(n: int = 6) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_supervised_contrastive_is_the_papers_formula(kind, soft):
    vectors, (_, targets, weights) = vectors_of(), draw(kind, soft=soft)
    weights[4] = 0
    y = targets.numpy()
    if kind == "binary":
        y = np.hstack([y, 1 - y])
    similar = [
        [np.minimum(a, b).sum() / np.maximum(a, b).sum() if (a + b).any() else 1 for b in y]
        for a in y
    ]
    got = criteria.supervised_contrastive(vectors, targets, weights, 0.5)
    assert got.item() == pytest.approx(
        contrastive_reference(vectors.numpy(), similar, weights.numpy(), 0.5)
    )
    assert torch.autograd.gradcheck(
        lambda v: criteria.supervised_contrastive(v, targets, weights, 0.5),
        vectors.requires_grad_(),
    )


def test_agreement_by_hand():
    """One-hot by class, sets of labels by Jaccard, a single column by its two classes."""
    classes = criteria.agreement(torch.eye(3)[[0, 1, 0]])
    assert classes.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    labels = torch.tensor([[1.0, 1, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]])
    assert criteria.agreement(labels)[0].tolist() == pytest.approx([1, 1 / 3, 0, 0])
    assert criteria.agreement(labels)[2].tolist() == [0, 0, 1, 1]
    binary = criteria.agreement(torch.tensor([[1.0], [0.0], [0.0]]))
    assert binary.tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 1]]
    soft = criteria.agreement(torch.tensor([[0.7, 0.3], [0.4, 0.6]]))
    assert soft[0, 1].item() == pytest.approx(0.7 / 1.3)


def test_contrastive_rows_without_a_positive_are_left_out_but_stay_negatives():
    vectors, weights = vectors_of(4), torch.ones(4).double()
    lonely = torch.eye(3)[[0, 0, 1, 2]].double()
    z = F.normalize(vectors, dim=1)
    logits = (z @ z.T / 0.1).masked_fill(torch.eye(4, dtype=torch.bool), -math.inf)
    log_p = logits.log_softmax(1)
    wanted = -(log_p[0, 1] + log_p[1, 0]) / 2
    got = criteria.supervised_contrastive(vectors, lonely, weights, 0.1)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("rows", [[0, 1, 2], [0]], ids=["all different", "a single row"])
def test_contrastive_of_a_batch_without_positives_is_zero_without_gradient(rows):
    """A mean over no rows is nan, and so were all weights after it."""
    vectors = vectors_of(len(rows)).requires_grad_()
    targets, weights = torch.eye(3)[rows].double(), torch.ones(len(rows)).double()
    for w in (weights, 0 * weights):
        loss = criteria.supervised_contrastive(vectors, targets, w, 0.1)
        assert loss == 0
        assert (torch.autograd.grad(loss, vectors)[0] == 0).all()


def test_contrastive_row_of_weight_zero_is_as_if_it_were_not_there():
    vectors, (_, targets, weights) = vectors_of(), draw("multiclass")
    weights[2] = 0
    left = weights > 0
    compute = partial(criteria.supervised_contrastive, temperature=0.1)
    got, wanted = (
        compute(vectors, targets, weights),
        compute(vectors[left], targets[left], weights[left]),
    )
    torch.testing.assert_close(got, wanted)


def test_contrastive_sees_directions_not_lengths_and_its_temperature():
    vectors, (_, targets, weights) = vectors_of(), draw("multiclass")
    at = criteria.supervised_contrastive(vectors, targets, weights, 0.1)
    torch.testing.assert_close(
        criteria.supervised_contrastive(vectors * 1e4, targets, weights, 0.1), at
    )
    assert criteria.supervised_contrastive(vectors, targets, weights, 0.2) != pytest.approx(at)


def test_contrastive_is_finite_in_single_precision_at_a_low_temperature():
    vectors, (_, targets, weights) = vectors_of().float() * 1e4, draw("multiclass")
    vectors.requires_grad_()
    loss = criteria.supervised_contrastive(vectors, targets.float(), weights.float(), 1e-3)
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, vectors)[0]).all()
