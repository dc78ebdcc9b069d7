"""Teachers at a temperature: the loss of Hinton et al. 2015, from the rows to the update."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import Tensor, nn

from foldstack.kinds import Kind
from foldstack.links import softened
from foldstack.nets.mixup import Mixup
from foldstack.rows import Rows
from foldstack.techniques import Distillation, TrainingSettings, Windows
from foldstack.text.augment import augmented
from foldstack.training import loop
from foldstack.training.micro_batch import MicroBatch, TrainingObjective
from makers import make_learner, make_rows, tiny_rows
from test_augment import settings_of

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

NAN = float("nan")
WEIGHTS = torch.tensor([1.0, 2.0, 0.5])
# Three rows of each link: logits, targets, the teachers' probabilities.
ROWS = {
    "softmax": (
        [[0.3, -1.0, 2.0], [0.0, 1.5, 0.5], [1.0, 1.0, -2.0]],
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [[0.2, 0.1, 0.7], [0.5, 0.3, 0.2], [0.05, 0.9, 0.05]],
    ),
    "sigmoid": (
        [[0.3, -1.0], [0.0, 1.5], [1.0, -2.0]],
        [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]],
        [[0.6, 0.3], [0.9, 0.8], [0.45, 0.01]],
    ),
}


class Given(nn.Module):
    """A network with these logits in every pass."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, pooled: bool, mixup: Mixup | None = None) -> tuple[Tensor, Tensor]:
        return self.logits, torch.ones(len(self.logits), 2)


def distilled(temperature: float = 3.0, share: float = 0.7) -> Distillation:
    return Distillation(teachers="a", temperature=temperature, share=share)


def part_of(
    link: str,
    rows: slice = slice(None),
    distil: Distillation | None = None,
    logits: Tensor | None = None,
    without: list[int] = (),
    **training: object,
) -> MicroBatch:
    """The micro-batch of these of the three rows; `without`: those that have no teacher."""
    distil = distil or distilled()
    given, targets, taught = (torch.tensor(each) for each in ROWS[link])
    given = given if logits is None else logits
    probabilities = taught.double().numpy()
    probabilities[list(without)] = NAN
    taught = torch.tensor(softened(probabilities, link, distil.temperature), dtype=targets.dtype)
    settings = TrainingSettings(**training)
    objective = TrainingObjective.of(settings, targets, WEIGHTS, link, distil)
    parts = (targets[rows], WEIGHTS[rows], WEIGHTS.sum())
    return MicroBatch(objective, Given(given[rows]), {}, *parts, taught=taught[rows])


def slow(link: str, temperature: float, share: float, without: list[int] = ()) -> float:
    """The same loss, row by row, by the paper's words."""
    total = 0.0
    for i, (z, y, p) in enumerate(zip(*map(np.array, ROWS[link]), strict=True)):
        hard = _entropy(link, y, z)
        soft = temperature**2 * _entropy(link, _soft(link, p, temperature), z / temperature)
        row = hard if i in without else (1 - share) * hard + share * soft
        total += float(WEIGHTS[i]) * row
    return total / float(WEIGHTS.sum())


def _soft(link: str, p: np.ndarray, temperature: float) -> np.ndarray:
    if link == "softmax":
        powers = p ** (1 / temperature)
        return powers / powers.sum()
    return 1 / (1 + ((1 - p) / p) ** (1 / temperature))


def _entropy(link: str, wanted: np.ndarray, z: np.ndarray) -> float:
    if link == "softmax":
        return float(-(wanted * np.log(np.exp(z) / np.exp(z).sum())).sum())
    q = 1 / (1 + np.exp(-z))
    return float(-(wanted * np.log(q) + (1 - wanted) * np.log(1 - q)).mean())


# The probabilities


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softened_probabilities_are_those_of_softened_logits(temperature):
    logits = np.random.default_rng(0).normal(0, 4, (20, 5))
    for link, probabilities_of in (("softmax", lambda x: softmax(x, axis=1)), ("sigmoid", expit)):
        found = softened(probabilities_of(logits), link, temperature)
        np.testing.assert_allclose(found, probabilities_of(logits / temperature), rtol=1e-9)


def test_certain_teachers_and_absent_ones():
    """A probability of 0 or 1 has no logit; NaN stays where there is no teacher."""
    classes = softened(np.array([[1.0, 0.0], [NAN, NAN]]), "softmax", 2.0)
    labels = softened(np.array([[1.0, 0.0], [NAN, NAN]]), "sigmoid", 2.0)
    for found in (classes, labels):
        assert 0 < found[0, 1] < 1e-7 and 1 - 1e-7 < found[0, 0] < 1
        assert np.isnan(found[1]).all()


# The loss


@pytest.mark.parametrize("link", ROWS)
@pytest.mark.parametrize("temperature, share", [(3.0, 0.7), (0.5, 0.2), (10.0, 1.0)])
def test_the_loss_is_the_papers(link, temperature, share):
    found = part_of(link, distil=distilled(temperature, share)).loss()
    assert float(found) == pytest.approx(slow(link, temperature, share), rel=1e-5)


@pytest.mark.parametrize("link", ROWS)
def test_rows_without_a_teacher_learn_their_targets_alone(link):
    found = part_of(link, without=[0, 2]).loss()
    assert float(found) == pytest.approx(slow(link, 3.0, 0.7, without=[0, 2]), rel=1e-5)


@pytest.mark.parametrize("link", ROWS)
def test_the_gradient_is_that_of_finite_differences(link):
    logits = torch.tensor(ROWS[link][0], dtype=torch.float64, requires_grad=True)
    net = Given(logits)
    part = replace(part_of(link, without=[1]), net=net)

    def loss(at: Tensor) -> Tensor:
        # `_pass` computes in float32, which is too coarse for differences.
        return part._of_task(at)

    assert torch.autograd.gradcheck(loss, (logits,), atol=1e-6)


@pytest.mark.parametrize("link", ROWS)
def test_towards_temperature_1_the_gradient_is_that_of_mixed_targets(link):
    """There the teachers are mixed into the targets instead, by (1 − share) and share."""
    logits, targets, taught = (torch.tensor(each) for each in ROWS[link])
    logits.requires_grad_()
    near = part_of(link, distil=distilled(1.0001, 0.7), logits=logits)
    mixed = replace(near, targets=0.3 * targets + 0.7 * taught, taught=None)
    found, wanted = (torch.autograd.grad(part.loss(), logits)[0] for part in (near, mixed))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_the_gradient_keeps_its_size_at_a_high_temperature():
    """T² of the paper: in the limit the logits of both are matched, (z_i − v_i) / classes."""
    logits = torch.tensor([[0.3, -1.3, 1.0]], requires_grad=True)  # of mean 0, as the teacher's
    teacher = torch.tensor([[1.0, 0.5, -1.5]])
    taught = (teacher / 1e3).softmax(dim=1)
    objective = TrainingObjective.of(
        TrainingSettings(), taught, torch.ones(1), "softmax", distilled(1e3, 1.0)
    )
    one = torch.ones(1)
    part = MicroBatch(objective, Given(logits), {}, taught, one, one.sum(), taught=taught)
    (gradient,) = torch.autograd.grad(part.loss(), logits)
    torch.testing.assert_close(gradient, (logits - teacher) / 3, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("link", ROWS)
def test_micro_batches_add_up(link):
    parts = [part_of(link, rows, without=[1]).loss() for rows in (slice(0, 2), slice(2, 3))]
    torch.testing.assert_close(sum(parts), part_of(link, without=[1]).loss())


def test_another_loss_is_of_the_labels_alone():
    """So that its smoothing does not change what teachers predict."""
    smoothing = {"loss": {"name": "cross_entropy", "label_smoothing": 0.2}}
    plain, smooth = (part_of("softmax", **training) for training in ({}, smoothing))
    alone = [replace(part, taught=None).loss() for part in (plain, smooth)]
    torch.testing.assert_close(smooth.loss() - plain.loss(), 0.3 * (alone[1] - alone[0]))


def test_a_loss_of_the_whole_batch_keeps_its_share():
    """Bug guarded: soft F1 does not change with the scale of all weights."""
    part = part_of("sigmoid", loss="soft_f1")
    alone = replace(part, taught=None).loss()
    soft = part_of("sigmoid", distil=distilled(3.0, 1.0)).loss()
    torch.testing.assert_close(part.loss(), 0.3 * alone + 0.7 * soft)


@pytest.mark.parametrize("link", ROWS)
def test_several_dropout_masks_count_as_their_mean(link):
    logits = torch.tensor(ROWS[link][0])
    other = logits.flip(0) - 0.5
    one, two = (part_of(link, logits=z, without=[1]) for z in (logits, other))
    both = replace(one, net=Given(torch.cat([logits, other])))
    torch.testing.assert_close(both.loss(), (one.loss() + two.loss()) / 2)


@pytest.mark.parametrize("link", ROWS)
def test_rdrop_adds_its_divergence_to_the_same_loss(link):
    """Of two equal passes it is 0."""
    torch.testing.assert_close(part_of(link, rdrop=0.5).loss(), part_of(link).loss())


@pytest.mark.parametrize("link", ROWS)
def test_mixup_mixes_teachers_as_targets(link):
    """Each mixed row learns λ of one row's loss and 1 − λ of its partner's, with a teacher or not."""
    order, own = [1, 2, 0], 0.7
    part = part_of(link, without=[1])
    partner = replace(
        part,
        targets=part.targets[order],
        weights=part.weights[order],
        taught=part.taught[order],
    )
    mixed = replace(part, mixup=Mixup(torch.tensor(order), torch.tensor(own)))
    torch.testing.assert_close(mixed.loss(), own * part.loss() + (1 - own) * partner.loss())


@pytest.mark.parametrize("link", ROWS)
def test_auxiliary_columns_take_their_share_of_the_whole(link):
    logits = torch.cat([torch.tensor(ROWS[link][0]), torch.ones(3, 1)], dim=1)
    part = part_of(link, auxiliary=0.25)
    part = replace(part, net=Given(logits), auxiliary=torch.ones(3, 1))
    further = float(torch.nn.functional.softplus(torch.tensor(-1.0)))
    wanted = 0.75 * slow(link, 3.0, 0.7) + 0.25 * further
    assert float(part.loss()) == pytest.approx(wanted, rel=1e-5)


# The rows


def test_teachers_stay_with_their_rows():
    rows = make_rows(["a", "b"], taught=np.array([[0.1], [0.9]]))
    assert rows.take(np.array([1, 0, 1])).taught.tolist() == [[0.9], [0.1], [0.9]]
    both = rows.concatenated(make_rows(["c"]))
    assert both.taught[:2].tolist() == [[0.1], [0.9]] and np.isnan(both.taught[2]).all()
    assert np.isnan(make_rows(["c"]).concatenated(rows).taught[0]).all()
    assert make_rows(["c"]).concatenated(make_rows(["d"])).taught is None
    copies = augmented(
        make_rows(["a film", "a plot"], taught=rows.taught), settings_of("swap_words"), 2, seed=0
    )
    assert copies.taught.tolist() == [[0.1], [0.9]] * 3


def test_examples_hold_softened_probabilities_of_every_window(backbone):
    texts = ["film plot cast song end start scene joke", "good film"]
    rows = make_rows(texts, taught=np.array([[0.9], [NAN]]))
    learner = make_learner(
        backbone,
        training={"max_length": 6},
        long=Windows(name="windows", overlap=0),
        distil={"teachers": "a", "temperature": 2.0},
    )
    examples = learner.prepare(rows)
    assert examples.tokens.rows.tolist() == [0, 0, 1]
    np.testing.assert_allclose(examples.taught[:2, 0], expit(np.log(9) / 2), rtol=1e-6)
    assert examples.taught[2].isnan().all()
    taken = examples.take(np.array([2, 0]))
    assert taken.taught.isnan().tolist() == [[True], [False]]


def tempered(kind: str = "binary") -> Rows:
    """The tiny rows, of which every third has no teacher, and others one that knows better."""
    rows = tiny_rows(kind)
    taught = 0.8 * rows.targets + 0.2 / rows.targets.shape[1]
    taught[::3] = NAN
    return replace(rows, taught=taught)


def weights_of(backbone: Path, folder: Path, rows: Rows, **settings: object) -> dict[str, Tensor]:
    folder.mkdir()
    defaults = {"distil": {"teachers": "a", "temperature": 2.0}, "checkpoint_seconds": 0}
    settings = defaults | settings
    learner = make_learner(backbone, "binary", **settings)
    learner.fit(rows, None, folder)
    return learner.model.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[k], other[k]) for k in one)


def test_a_fit_learns_from_teachers_at_their_temperature(backbone, tmp_path):
    """Three temperatures make three models, and rows without teachers are learned as without distil."""
    found = [
        weights_of(
            backbone,
            tmp_path / str(temperature),
            tempered(),
            distil={"teachers": "a", "temperature": temperature},
        )
        for temperature in (0.5, 2.0, 4.0)
    ]
    assert not same(found[0], found[1]) and not same(found[1], found[2])
    rows = tiny_rows()
    nobody = replace(rows, taught=np.full((32, 1), NAN))
    alone = weights_of(backbone, tmp_path / "alone", rows)
    for key, value in weights_of(backbone, tmp_path / "nobody", nobody).items():
        torch.testing.assert_close(value, alone[key], rtol=1e-4, atol=1e-5)


def test_a_resumed_fit_ends_with_the_same_bytes(backbone, tmp_path):
    """Teachers are not in the checkpoint: they come from the same rows again."""
    rows, folder = tempered(), tmp_path / "run"
    whole = weights_of(backbone, folder, rows)
    shutil.rmtree(max(folder.glob("step-*")))  # as if killed before the last update
    resumed = make_learner(backbone, distil={"teachers": "a", "temperature": 2.0})
    resumed.fit(rows, None, folder)
    assert same(whole, resumed.model.state_dict())


@pytest.mark.parametrize("adversary", ["fgm", "pgd", "awp", "freelb", "vat"])
def test_adversaries_attack_the_same_loss(backbone, tmp_path, adversary):
    rows, training = tempered(), {"adversary": {"name": adversary}, "epochs": 1}
    if adversary == "awp":
        training["adversary"]["start"] = 0
    taught = weights_of(backbone, tmp_path / "a", rows, training=training)
    alone = weights_of(backbone, tmp_path / "b", tiny_rows(), training=training)
    assert not same(taught, alone)
    assert all(value.isfinite().all() for value in taught.values())


def test_micro_batches_make_the_same_model(backbone, tmp_path):
    settings = {"dropout": 0.0, "backbone_dropout": 0.0}
    whole, parts = (
        weights_of(
            backbone,
            tmp_path / str(size),
            tempered(),
            training={"micro_batch_size": size},
            **settings,
        )
        for size in (0, 3)
    )
    for key, value in whole.items():
        torch.testing.assert_close(value, parts[key], rtol=1e-3, atol=2e-4)


def test_synthetic_rows_have_no_teacher(backbone, tmp_path, monkeypatch):
    """Those of SMOTE stand after the rows that they lie between."""
    seen = []

    def noted(net, examples, *args, **options):
        seen.append(examples)
        return original(net, examples, *args, **options)

    original = loop.train
    monkeypatch.setattr(loop, "train", noted)
    rows = tempered().take(np.r_[0:32:2, 1:9:2])  # 16 of one class, 4 of the other
    training = {"freeze_backbone": True, "sampling": "smote", "epochs": 1}
    weights_of(backbone, tmp_path / "a", rows, training=training)
    (examples,) = seen
    assert len(examples.targets) == len(examples.taught) == 32
    torch.testing.assert_close(
        examples.taught[:20].isnan(), torch.tensor(np.isnan(rows.taught)), rtol=0, atol=0
    )
    assert examples.taught[20:].isnan().all()


# What is refused


REFUSED = [
    (
        {"temperature": 2.0},
        "regression",
        "distil.temperature is for labels, but this competition is",
    ),
    ({"labels": "hard"}, "regression", "distil.labels hard is for labels, but this competition is"),
]


@pytest.mark.parametrize("given, kind, sentence", REFUSED)
def test_settings_that_do_not_apply(given, kind, sentence):
    with pytest.raises(ValueError, match=sentence):
        Distillation(teachers="a", **given).check(Kind(kind))
    Distillation(teachers="a", **given).check(Kind.MULTICLASS)


def test_hard_labels_cannot_be_softened():
    with pytest.raises(ValueError, match="and labels hard leaves none: set one of them only"):
        Distillation(teachers="a", temperature=2.0, labels="hard")
