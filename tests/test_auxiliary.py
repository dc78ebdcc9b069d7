"""Auxiliary targets: further columns that train alone has, learned beside the task or before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel

from foldstack.competition import Competition
from foldstack.learners.encoder import zero_to_one
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.classifier import Classifier
from foldstack.rows import Rows
from foldstack.store import RunKey, Store
from foldstack.techniques import TrainingSettings
from foldstack.training.criteria import known_cross_entropy
from foldstack.training.micro_batch import MicroBatch, TrainingObjective
from makers import make_learner, tiny_rows
from test_training_stages import watch_stages
from tiny import add_preset, foldstack, make_workspace, refuses

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

NAN = float("nan")


def with_auxiliary(rows: Rows, seed: int = 0) -> Rows:
    """Two columns: a place that the text names, unknown in every third row, and noise from 0 to 5."""
    film = np.array([float("film" in text) for (text,) in rows.texts])
    film[::3] = NAN
    noise = np.random.default_rng(seed).uniform(0, 5, len(rows))
    return replace(rows, auxiliary=np.stack([film, noise], axis=1))


def fit(learner: TransformerLearner, rows: Rows, folder: Path) -> dict[str, Tensor]:
    folder.mkdir(parents=True)
    learner.fit(rows, None, folder)
    return {k: v.clone() for k, v in learner.model.state_dict().items()}


# The loss


def test_unknown_values_have_no_say():
    """The mean over what is known of a row; none is 0, with a gradient of 0."""
    raw = torch.tensor([[0.3, -1.0], [2.0, 0.5], [1.0, 1.0]], requires_grad=True)
    losses = known_cross_entropy(raw, torch.tensor([[1.0, 0.25], [NAN, 0.0], [NAN, NAN]]))
    first = F.binary_cross_entropy_with_logits(raw[0], torch.tensor([1.0, 0.25]))
    second = F.binary_cross_entropy_with_logits(raw[1, 1], torch.tensor(0.0))
    torch.testing.assert_close(losses, torch.stack([first, second, torch.tensor(0.0)]))
    (gradient,) = torch.autograd.grad(losses.sum(), raw)
    p = raw.detach().sigmoid()
    wanted = torch.tensor([[(p[0, 0] - 1) / 2, (p[0, 1] - 0.25) / 2], [0, p[1, 1]], [0, 0]])
    torch.testing.assert_close(gradient, wanted)


class Given(torch.nn.Module):
    """A network with these raw outputs: one of the task, two auxiliary ones."""

    def __init__(self, raw: Tensor):
        super().__init__()
        self.raw = raw

    def forward(self, pooled: bool) -> tuple[Tensor, Tensor]:
        return self.raw, torch.ones(len(self.raw), 2)


def loss_of(share: float, rows: slice = slice(None), **training: object) -> float:
    raw = torch.tensor([[0.3, 1.0, -2.0], [-1.0, 0.5, 0.1], [2.0, 0.0, 1.0]])
    targets, weights = torch.tensor([[1.0], [0.0], [1.0]]), torch.tensor([1.0, 2.0, 0.5])
    auxiliary = torch.tensor([[1.0, NAN], [0.0, 0.5], [NAN, NAN]])
    settings = TrainingSettings(auxiliary=share, **training)
    objective = TrainingObjective.of(settings, targets, weights, "sigmoid")
    part = MicroBatch(
        objective,
        Given(raw[rows]),
        {},
        targets[rows],
        weights[rows],
        weights.sum(),
        auxiliary=auxiliary[rows],
    )
    return float(part.loss())


def test_the_share_is_that_of_the_loss():
    task, auxiliary = loss_of(0), loss_of(1)
    assert loss_of(0.3) == pytest.approx(0.7 * task + 0.3 * auxiliary, rel=1e-6)
    one = F.binary_cross_entropy_with_logits(torch.tensor(1.0), torch.tensor(1.0))
    two = F.binary_cross_entropy_with_logits(torch.tensor([0.5, 0.1]), torch.tensor([0.0, 0.5]))
    assert auxiliary == pytest.approx(float(one + 2 * two) / 3.5, rel=1e-6)


def test_the_parts_of_an_update_add_up():
    """Trap 7: each part is divided by the whole update's weight."""
    parts = loss_of(0.3, slice(0, 2)) + loss_of(0.3, slice(2, 3))
    assert parts == pytest.approx(loss_of(0.3), rel=1e-6)


def test_two_passes_are_compared_by_the_outputs_of_the_task():
    """R-Drop of two equal passes adds nothing, whatever the auxiliary outputs are."""
    assert loss_of(0.3, rdrop=1) == pytest.approx(loss_of(0.3), rel=1e-6)


def test_values_are_scaled_by_the_rows_that_count():
    values = np.array([[2.0, NAN, NAN], [4.0, 7.0, NAN], [3.0, 7.0, NAN], [9.0, NAN, 1.0]])
    scaled = zero_to_one(values, values[:3])
    wanted = [[0, NAN, NAN], [1, 0, NAN], [0.5, 0, NAN], [1, NAN, NAN]]
    np.testing.assert_array_equal(scaled, wanted)


# The network


@pytest.mark.parametrize("head", ["mean", "labels"])
def test_a_network_with_auxiliary_outputs_is_the_one_without_beside_them(backbone, head):
    """Drawn after all else; only training shows them, for each dropout mask."""
    plain = make_learner(backbone, head=head, dropout_samples=2)
    plain.prepare(tiny_rows())
    learner = make_learner(backbone, head=head, dropout_samples=2, training={"auxiliary": 0.5})
    examples = learner.prepare(with_auxiliary(tiny_rows()))
    with_more = learner.model.state_dict()
    assert all(torch.equal(v, with_more[k]) for k, v in plain.model.state_dict().items())

    batch = examples.tokens.batch(np.arange(3))
    assert learner.model.eval()(**batch).shape == (3, 1)
    assert learner.model.train()(**batch).shape == (6, 3)


def test_the_difference_of_two_outputs_is_the_tasks_alone(backbone):
    net = Classifier(
        AutoModel.from_pretrained(backbone), 1, dropout=0, as_difference=True, auxiliary=2
    )
    vectors = torch.randn(4, 32)[:, : net.pooling.size]
    raw = net.train().score(vectors)
    two = net.head(vectors)
    torch.testing.assert_close(raw[:, :1], two[:, 1:] - two[:, :1])
    torch.testing.assert_close(raw[:, 1:], net.auxiliary(vectors))


# Runs


def test_what_is_learned_beside_the_task(backbone, tmp_path):
    """Other auxiliary values teach other weights; a share of 0 is as if there were none."""
    rows = tiny_rows()
    one = fit(
        make_learner(backbone, training={"auxiliary": 0.5}), with_auxiliary(rows), tmp_path / "a"
    )
    other = fit(
        make_learner(backbone, training={"auxiliary": 0.5}), with_auxiliary(rows, 1), tmp_path / "b"
    )
    assert one.keys() == other.keys() and not any(k.startswith("auxiliary") for k in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    without = fit(make_learner(backbone), rows, tmp_path / "c")
    unused = fit(make_learner(backbone), with_auxiliary(rows), tmp_path / "d")
    assert all(torch.equal(without[k], unused[k]) for k in without)


def test_auxiliary_targets_first_then_the_task(backbone, tmp_path, monkeypatch):
    """The first stage leaves the task's head as it was drawn, the second the auxiliary outputs."""
    learner = make_learner(
        backbone,
        training={"loss": "focal", "rdrop": 0.5, "epochs": 2},
        stages=[{"auxiliary": 1}, {}],
    )
    moved = watch_stages(learner, monkeypatch)
    fit(learner, with_auxiliary(tiny_rows()), tmp_path / "w")
    parts = [{name.split(".")[0] for name in each} for each in moved]
    assert parts == [{"backbone", "auxiliary"}, {"backbone", "head"}]


def test_an_auxiliary_target_is_learned(backbone, tmp_path, monkeypatch):
    """After its stage the network knows what the text says of it, better than a guess."""
    learner = make_learner(
        backbone, training={"epochs": 30}, stages=[{"auxiliary": 1}, {"epochs": 1, "lr": 1e-12}]
    )
    seen, real = {}, learner._train_stage
    rows = with_auxiliary(tiny_rows())

    def watched(number, stage, train, examples, *args):
        facts = real(number, stage, train, examples, *args)
        batch = examples.tokens.batch(np.arange(len(rows)))
        learner.model.train()
        learner.model.dropout.p = 0.0
        with torch.no_grad():
            seen[number] = learner.model(**batch)[:, 1:], examples.auxiliary
        return facts

    monkeypatch.setattr(learner, "_train_stage", watched)
    fit(learner, rows, tmp_path / "w")
    raw, wanted = seen[1]
    known = ~wanted[:, 0].isnan()
    p = raw[known, 0].sigmoid()
    assert p[wanted[known, 0] == 1].mean() > p[wanted[known, 0] == 0].mean() + 0.3


def test_a_frozen_backbone_reads_auxiliary_values_too(backbone, tmp_path):
    frozen = {"freeze_backbone": True, "head_lr": 1e-2, "auxiliary": 0.5}
    rows = with_auxiliary(tiny_rows())
    once = fit(make_learner(backbone, training=frozen, head="attention"), rows, tmp_path / "a")
    without = fit(
        make_learner(backbone, training=frozen | {"auxiliary": 0}, head="attention"),
        rows,
        tmp_path / "b",
    )
    assert not any(torch.equal(once[k], v) for k, v in without.items() if k.startswith("pooling."))


# Workspaces


@pytest.fixture
def root(backbone, tmp_path) -> Path:
    """train.csv has a third column, stars, empty in one row; an external file lacks it."""
    root = make_workspace(tmp_path / "w", auxiliary=["stars"], external=["more.csv"])
    lines = (root / "input/train.csv").read_text().splitlines()
    values = ["stars", "", *(str(i % 5) for i in range(len(lines) - 2))]
    train = "".join(f"{line},{value}\n" for line, value in zip(lines, values, strict=True))
    (root / "input/train.csv").write_text(train)
    (root / "input/more.csv").write_text("text,label\na new film,1\n")
    add_preset(root, backbone, training={"auxiliary": 0.3})
    assert foldstack(root, "folds") == 0
    return root


def test_columns_of_train_are_read(root):
    competition = Competition.load(root)
    assert competition.train.auxiliary[:3, 0].tolist()[1:] == [0, 1]
    assert np.isnan(competition.train.auxiliary[0, 0])
    assert np.isnan(competition.external.auxiliary).all()
    assert competition.test.auxiliary is None


def test_a_change_of_them_is_another_run(root):
    args = ("train", "--model", "tiny", "--fold", "0")
    assert foldstack(root, *args) == 0
    store = Store(root)
    before = store.read_run(RunKey("tiny", 0, (0,)))
    path = root / "input/train.csv"
    path.write_text(path.read_text().replace(",4\n", ",3\n"))
    assert foldstack(root, *args) == 2
    assert foldstack(root, *args, "--force") == 0
    after = store.read_run(RunKey("tiny", 0, (0,)))
    assert before.identity.auxiliary != after.identity.auxiliary
    assert before.identity.train == after.identity.train


@pytest.mark.parametrize(
    "pairs, sentence",
    [
        (
            ["training.auxiliary=1"],
            "training.auxiliary 1 learns auxiliary columns only, so that nothing learns the target: "
            "add a later stage with less",
        ),
        (
            ["stages=[{auxiliary: 1}, {metrics: [f1], auxiliary: 0}]"],
            "training.auxiliary 1 learns auxiliary columns only, so that nothing learns the target: "
            "add a later stage with less",
        ),
        (
            ["stages=[{auxiliary: 1, rdrop: 1}, {}]"],
            "rdrop uses the target, which auxiliary 1 leaves out: set one of them only",
        ),
        (
            ["training.select=inner", "stages=[{auxiliary: 1, schedule: plateau}, {}]"],
            "schedule plateau requires a score, but auxiliary 1 does not learn what is scored: leave "
            "one of them out",
        ),
        (
            ["training={sampling: smote, freeze_backbone: true, auxiliary: 0.5}"],
            "sampling smote makes rows without auxiliary values: leave auxiliary or smote out",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(root, capsys, pairs, sentence):
    options = [word for pair in pairs for word in ("--set", pair)]
    capsys.readouterr()
    assert foldstack(root, "train", "--model", "tiny", *options) == 2
    said = capsys.readouterr().err
    assert said.startswith("foldstack: tiny.yaml with --set: ") and said.endswith(f"{sentence}\n")


def test_no_columns_to_learn(backbone, tmp_path, capsys):
    root = make_workspace(tmp_path / "w")
    add_preset(root, backbone, training={"auxiliary": 0.3})
    refuses(
        root,
        ["train", "--model", "tiny"],
        "tiny.yaml: training.auxiliary learns the competition's auxiliary columns, but "
        "competition.yaml names none: list some under `auxiliary`, or leave it out",
        capsys,
    )


def test_a_word_among_the_numbers(root, capsys):
    path = root / "input/train.csv"
    path.write_text(path.read_text().replace(",4\n", ",four\n", 1))
    refuses(
        root,
        ["train", "--model", "tiny", "--fold", "0"],
        f"{path}: row 6: auxiliary column 'stars' holds 'four': a number or nothing is expected; leave "
        "the column out of `auxiliary` otherwise",
        capsys,
    )


def test_a_column_cannot_be_input_too(root, capsys):
    refuses(
        root,
        ["train", "--model", "tiny", "--set", "numeric=stars"],
        f"{root / 'competition.yaml'} with --set: column 'stars' cannot be both auxiliary target and "
        "input: leave one out",
        capsys,
    )
