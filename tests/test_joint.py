"""A shallow transformer and the whole one, trained together: the student learns from it meanwhile."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from foldstack.kinds import Kind
from foldstack.learners import sequence
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.layers import freeze
from foldstack.stages.fitted import load_learner
from foldstack.store import RunKey, Store
from foldstack.techniques import JointDistillation, TrainingSettings, TransformerSettings
from foldstack.training.micro_batch import MicroBatch, TrainingObjective
from foldstack.training.optim import layer_rates
from makers import make_learner, tiny_rows
from test_hidden_states import INPUTS
from tiny import add_preset, foldstack, make_workspace, run_of

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

JOINT = {"keep_every": 2, "joint": {"weight": 1.5, "temperature": 3.0}}
STILL = {"dropout": 0.0, "backbone_dropout": 0.0}
TARGETS = torch.eye(3)
WEIGHTS = torch.tensor([1.0, 2.0, 0.5])


def prepared(deep: Path, kind: str = "multiclass", **settings: object) -> TransformerLearner:
    """A learner without dropout, before it has learned anything."""
    learner = make_learner(deep, kind, **JOINT | STILL | settings)
    learner.prepare(tiny_rows(kind))
    learner.model.train()
    return learner


def part_of(learner: TransformerLearner, rows: slice = slice(None), **training: object):
    """A micro-batch of these of three rows of three classes."""
    settings = TrainingSettings(**training)
    objective = TrainingObjective.of(settings, TARGETS, WEIGHTS, "softmax")
    inputs = {k: v[rows] for k, v in INPUTS.items()}
    total = WEIGHTS.sum()
    return MicroBatch(objective, learner.model, inputs, TARGETS[rows], WEIGHTS[rows], total)


def alone(learner: TransformerLearner) -> tuple[Tensor, Tensor]:
    """(3, 3) logits of the student and of the teacher."""
    model, teacher = learner.model, learner.model.teacher
    return model(**INPUTS), teacher.whole(**INPUTS)


def entropy(wanted: Tensor, logits: Tensor) -> Tensor:
    losses = -(wanted * logits.log_softmax(dim=1)).sum(dim=1)
    return (losses * WEIGHTS).sum() / WEIGHTS.sum()


# The loss


def test_the_loss_is_of_both_and_the_student_learns_from_the_teacher(deep):
    """½ (CE(student) + weight T² CE(teacher / T, student / T)) + ½ CE(teacher)."""
    learner = prepared(deep)
    student, teacher = alone(learner)
    soft = 9 * entropy((teacher / 3).softmax(dim=1), student / 3)
    wanted = (entropy(TARGETS, student) + 1.5 * soft + entropy(TARGETS, teacher)) / 2
    torch.testing.assert_close(part_of(learner).loss(), wanted)


def test_labels_are_taught_one_by_one(deep):
    learner = prepared(deep, "multilabel")
    objective = TrainingObjective.of(TrainingSettings(), TARGETS, WEIGHTS, "sigmoid")
    part = replace(part_of(learner), objective=objective)
    student, teacher = alone(learner)

    def loss(logits: Tensor, wanted: Tensor) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=1)
        return (losses * WEIGHTS).sum() / WEIGHTS.sum()

    soft = 9 * loss(student / 3, (teacher / 3).sigmoid().detach())
    wanted = (loss(student, TARGETS) + 1.5 * soft + loss(teacher, TARGETS)) / 2
    torch.testing.assert_close(part.loss(), wanted)


def test_the_teacher_learns_the_targets_alone(deep):
    """Its gradient is half that of its own loss, whatever its student makes of it."""
    learner = prepared(deep)
    part_of(learner).loss().backward()
    whole = learner.model.teacher.whole
    found = {name: p.grad.clone() for name, p in whole.named_parameters()}
    whole.zero_grad()
    (entropy(TARGETS, alone(learner)[1]) / 2).backward()
    for name, p in whole.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-7)


def test_micro_batches_add_up(deep):
    learner = prepared(deep)
    parts = [part_of(learner, rows).loss() for rows in (slice(0, 2), slice(2, 3))]
    torch.testing.assert_close(sum(parts), part_of(learner).loss())


def test_several_masks_count_as_their_mean(deep):
    """Without dropout all masks are alike."""
    one, three = prepared(deep), prepared(deep)
    three.model.dropout_samples = three.model.teacher.whole.dropout_samples = 3
    torch.testing.assert_close(part_of(three).loss(), part_of(one).loss())


def test_both_begin_alike(deep):
    """The teacher is the network before layers are left out, its head and its start's included."""
    learner = prepared(deep)
    model, whole = learner.model, learner.model.teacher.whole
    assert len(model.backbone.encoder.layer) == 2 and len(whole.backbone.encoder.layer) == 4
    assert torch.equal(model.head.weight, whole.head.weight)
    for kept, of_whole in ((0, 1), (1, 3)):
        own, its = model.backbone.encoder.layer[kept], whole.backbone.encoder.layer[of_whole]
        assert all(
            torch.equal(a, b) for a, b in zip(own.parameters(), its.parameters(), strict=True)
        )


# Layers


def test_a_layer_of_the_teacher_has_the_rate_of_the_one_that_it_is_cut_to(deep):
    learner = prepared(deep)
    rates = layer_rates(learner.model, TrainingSettings(lr=1.0, layer_decay=0.5, head_lr=9.0))
    assert rates.keys() == {name for name, _ in learner.model.named_parameters()}
    whole = "teacher.whole.backbone.encoder.layer"
    found = [rates[f"{whole}.{i}.output.dense.weight"] for i in range(4)]
    assert found == [0.5, 0.5, 1.0, 1.0]
    of_embeddings = "backbone.embeddings.word_embeddings.weight"
    assert rates[of_embeddings] == rates[f"teacher.whole.{of_embeddings}"] == 0.25
    assert rates["head.weight"] == rates["teacher.whole.head.weight"] == 9.0


def test_frozen_layers_are_frozen_in_both(deep):
    learner = prepared(deep)
    freeze(learner.model, embeddings=True, layers=1)
    for backbone, frozen in (
        (learner.model.backbone, 1),
        (learner.model.teacher.whole.backbone, 2),
    ):
        learns = [
            all(p.requires_grad for p in layer.parameters()) for layer in backbone.encoder.layer
        ]
        assert learns == [False] * frozen + [True] * frozen
        assert not backbone.embeddings.word_embeddings.weight.requires_grad


# Training


def fit(learner: TransformerLearner, folder: Path, kind: str = "binary") -> dict[str, Tensor]:
    folder.mkdir()
    learner.fit(tiny_rows(kind), None, folder)
    return {k: v.clone() for k, v in learner.model.state_dict().items()}


def test_a_fit_changes_the_student_and_lets_the_teacher_go(deep, tmp_path):
    shallow = fit(make_learner(deep, keep_every=2), tmp_path / "shallow")
    joint = fit(make_learner(deep, **JOINT), tmp_path / "joint")
    assert joint.keys() == shallow.keys()
    assert any(not torch.equal(joint[k], shallow[k]) for k in joint)


def test_the_student_comes_near_its_teacher(deep):
    """While the teacher itself moves to the targets."""
    learner = prepared(deep, joint={"weight": 30.0})
    optimizer = torch.optim.SGD(learner.model.parameters(), lr=1e-3)

    def distances() -> tuple[float, float]:
        with torch.no_grad():
            student, teacher = (logits.softmax(dim=1) for logits in alone(learner))
        return float((student - teacher).abs().mean()), float((teacher - TARGETS).abs().mean())

    before = distances()
    for _ in range(50):
        optimizer.zero_grad()
        part_of(learner).loss().backward()
        optimizer.step()
    after = distances()
    assert after[0] < before[0] / 2 and after[1] < 0.9 * before[1], (before, after)


def test_a_resumed_fit_ends_with_the_same_bytes(deep, tmp_path):
    given = JOINT | {"checkpoint_seconds": 0}
    whole = fit(make_learner(deep, **given), tmp_path / "run")
    shutil.rmtree(max((tmp_path / "run").glob("step-*")))  # as if killed before the last update
    resumed = make_learner(deep, **given)
    resumed.fit(tiny_rows(), None, tmp_path / "run")
    assert all(torch.equal(v, whole[k]) for k, v in resumed.model.state_dict().items())


TOGETHER = {
    "adversary": {"training": {"adversary": "fgm"}},
    "noise": {"training": {"adversary": "freelb", "mixup": 0.4}},
    "average": {"training": {"averaging": "ema", "layer_decay": 0.9, "freeze_layers": 1}},
    "auxiliary passes": {"training": {"rdrop": 0.5}, "dropout_samples": 2},
    "stages": {"stages": [{"epochs": 1, "freeze_embeddings": True}, {"epochs": 1}]},
    "hidden states": {"start_from": "tiny", "match_hidden": 1.0},
}


@pytest.mark.parametrize("settings", TOGETHER.values(), ids=TOGETHER)
def test_other_techniques_beside_it(deep, tmp_path, monkeypatch, settings):
    """With the occurring word embeddings of the student alone the result is the same."""
    short = fit(make_learner(deep, **JOINT | settings), tmp_path / "short")
    assert all(value.isfinite().all() for value in short.values())
    monkeypatch.setattr(sequence, "trimmed", lambda *_: nullcontext())
    whole = fit(make_learner(deep, **JOINT | settings), tmp_path / "whole")
    for key, value in whole.items():
        torch.testing.assert_close(short[key], value, rtol=1e-3, atol=1e-4)


def test_the_stored_model_is_the_student(deep, tmp_path):
    root = make_workspace(tmp_path / "w", n=30, runtime={"threads": 1})
    add_preset(root, deep, **JOINT)
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0
    key = RunKey("tiny", 0, (0,))
    stored = load_file(Store(root).run_dir(key) / "model/classifier.safetensors")
    assert not any(name.startswith("teacher") or "layer.2." in name for name in stored)
    ws, _ = run_of(root)
    made = ws.store.read_predictions(key, "test", ws.competition.test)
    loaded = load_learner(ws, key, 1)
    np.testing.assert_array_equal(loaded.predict(ws.competition.test), made.raw)


# What is refused


TWO = "joint trains two whole networks on the target, which training.{} does not: set one of them only"


@pytest.mark.parametrize(
    "given, sentence",
    [
        (
            {"keep_every": 1},
            "joint trains the whole backbone beside the layers that keep_every keeps: set it to 2 or "
            "more, or leave joint out",
        ),
        ({"training": {"freeze_backbone": True}}, TWO.format("freeze_backbone")),
        ({"training": {"reinit_layers": 1}}, TWO.format("reinit_layers")),
        ({"stages": [{"auxiliary": 1}, {}]}, TWO.format("auxiliary 1")),
    ],
    ids=str,
)
def test_settings_that_do_not_fit(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        TransformerSettings(learner="transformer", backbone="x", **JOINT | given)


def test_a_regression_has_no_probabilities():
    settings = TransformerSettings(learner="transformer", backbone="x", **JOINT)
    sentence = "joint compares probabilities, but this competition is regression: leave it out"
    with pytest.raises(ValueError, match=sentence):
        settings.check_kind(Kind.REGRESSION)


def test_nothing_needs_to_be_set():
    settings = TransformerSettings(learner="transformer", backbone="x", keep_every=2, joint={})
    assert settings.joint == JointDistillation(weight=1.0, temperature=1.0)
