"""Stages within a run, and backbones that are frozen and run once."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.layers import depths
from foldstack.techniques import TransformerSettings
from foldstack.training import frozen, loop, stagewise
from makers import make_learner, tiny_rows
from tiny import add_preset, foldstack, make_workspace, refuses

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

FROZEN = {"freeze_backbone": True, "head_lr": 1e-2, "epochs": 3}


def fit(learner: TransformerLearner, folder: Path) -> dict:
    folder.mkdir(exist_ok=True)
    return learner.fit(tiny_rows(), None, folder)


def weights(learner: TransformerLearner) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in learner.model.state_dict().items()}


def watch_stages(
    learner: TransformerLearner, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, int]]:
    """Fills, stage by stage, with the names of the weights that it changes and their depths."""
    moved, real = [], learner._train_stage

    def watched(*args):
        before = {k: v.clone() for k, v in learner.model.named_parameters()}
        facts = real(*args)
        depth = depths(learner.model)
        changed = (k for k, p in learner.model.named_parameters() if not torch.equal(before[k], p))
        moved.append({name: depth[name] for name in changed})
        return facts

    monkeypatch.setattr(learner, "_train_stage", watched)
    return moved


# A frozen backbone


def test_a_frozen_backbone_stays_and_the_head_learns(backbone, tmp_path):
    learner = make_learner(backbone, training=FROZEN)
    learner.prepare(tiny_rows())
    before = weights(learner)
    fit(learner, tmp_path)
    after = weights(learner)
    assert {k for k in after if not torch.equal(before[k], after[k])} == {
        "head.weight",
        "head.bias",
    }


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each pass through a backbone."""
    from foldstack.nets.classifier import Classifier

    real, seen = Classifier.read, []

    def counting(self, input_ids, *args, **kwargs):
        seen.append(len(input_ids))
        return real(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(Classifier, "read", counting)
    return seen


@pytest.mark.parametrize("head", ["mean", "attention"])
def test_it_runs_once_and_the_result_is_as_if_it_ran_each_time(
    backbone, tmp_path, monkeypatch, head
):
    """Even where the backbone has dropout: a frozen one is in eval mode."""
    seen = count_reads(monkeypatch)
    options = {"training": FROZEN, "backbone_dropout": 0.3, "dropout": 0, "head": head}
    cached = make_learner(backbone, **options)
    fit(cached, tmp_path / "cached")
    assert sum(seen) == 32
    seen.clear()
    again = make_learner(backbone, cache_gb=0, **options)
    fit(again, tmp_path / "again")
    assert sum(seen) == 3 * 32
    for key, value in weights(again).items():
        torch.testing.assert_close(value, weights(cached)[key], atol=1e-5, rtol=1e-4)


def test_outputs_on_disk_are_those_in_memory_and_are_found_again(backbone, tmp_path, monkeypatch):
    """A key of weights, tokens and layers: others are computed anew."""
    in_memory = make_learner(backbone, training=FROZEN, head="attention")
    fit(in_memory, tmp_path / "memory")
    monkeypatch.setattr(frozen, "IN_MEMORY_GB", 0)
    on_disk = make_learner(backbone, training=FROZEN, head="attention")
    fit(on_disk, tmp_path / "disk")
    for key, value in weights(on_disk).items():
        assert torch.equal(value, weights(in_memory)[key])
    assert len(list((tmp_path / "disk").glob("outputs-*.npy"))) == 1

    seen = count_reads(monkeypatch)
    tokens = on_disk.encoder.tokens(tiny_rows())
    on_disk._run_once(tokens, tmp_path / "disk")
    assert seen == []
    with torch.no_grad():
        on_disk.model.backbone.get_input_embeddings().weight[6] += 1
    on_disk._run_once(tokens, tmp_path / "disk")
    assert sum(seen) == 32


def test_too_large_outputs_are_computed_in_each_epoch_and_that_is_said(backbone, tmp_path, capsys):
    fit(make_learner(backbone, training=FROZEN, cache_gb=0), tmp_path)
    assert (
        "the frozen backbone's outputs would take 0.0 GB, more than cache_gb 0: computing them again "
        "in each epoch\n"
    ) in capsys.readouterr().out


def test_the_head_alone_is_saved_in_the_checkpoints(backbone, tmp_path):
    learner = make_learner(backbone, training=FROZEN, checkpoint_seconds=0)
    fit(learner, tmp_path)
    state = tmp_path / "step-00000012/state.safetensors"
    assert state.stat().st_size < 5_000


# Stages


def test_a_stage_goes_on_from_the_weights_of_the_one_before(backbone, tmp_path):
    """A second stage that hardly moves ends where the first ended."""
    first = make_learner(backbone)
    fit(first, tmp_path / "one")
    both = make_learner(backbone, stages=[{}, {"lr": 1e-12, "epochs": 1}])
    facts = fit(both, tmp_path / "both")
    assert [f["updates"] for f in facts["stages"]] == [8, 4]
    assert facts["updates"] == 12
    for key, value in weights(both).items():
        torch.testing.assert_close(value, weights(first)[key], atol=1e-6, rtol=0)


def test_each_stage_draws_batches_and_chance_of_its_own(backbone, tmp_path, monkeypatch):
    """The first as a run without stages does; the second does not replay it."""

    def drawn(folder: str, **settings: object) -> list[tuple]:
        seen = []

        def look(training, examples, rows, *_):
            seen.append((*rows, torch.rand(1).item()))
            return torch.zeros(())

        monkeypatch.setattr(loop, "update", look)
        fit(make_learner(backbone, training={"epochs": 1}, **settings), tmp_path / folder)
        return seen

    plain, both = drawn("plain"), drawn("both", stages=[{}, {}])
    assert both[:4] == plain
    assert {step[:-1] for step in both[4:]} != {step[:-1] for step in plain}
    assert len({step[-1] for step in both}) == 8


def test_gradual_unfreezing(backbone, tmp_path, monkeypatch):
    """Howard and Ruder 2018: the head, then the layers from the top downwards."""
    learner = make_learner(
        backbone,
        stages=[
            {"freeze_backbone": True, "epochs": 1},
            {"freeze_layers": 1, "epochs": 1},
            {"epochs": 1},
        ],
    )
    moved = watch_stages(learner, monkeypatch)
    fit(learner, tmp_path)
    assert [set(each.values()) for each in moved] == [{3}, {2, 3}, {0, 1, 2, 3}]


def test_cross_entropy_then_frozen_soft_f1(backbone, tmp_path):
    """The reference: the second stage lowers the soft F1 loss, by the head alone."""
    plain = make_learner(backbone)
    fit(plain, tmp_path / "plain")
    learner = make_learner(backbone, stages=[{}, {"loss": "soft_f1", **FROZEN, "epochs": 20}])
    fit(learner, tmp_path / "two")

    def soft_f1(learner: TransformerLearner) -> float:
        rows = tiny_rows()
        p = 1 / (1 + np.exp(-learner.predict(rows)))
        w, y = rows.weights[:, None], rows.targets
        return float(1 - 2 * (w * p * y).sum() / (w * (p + y)).sum())

    assert soft_f1(learner) < soft_f1(plain) - 0.01
    for key, value in weights(learner).items():
        assert key.startswith("head.") or torch.equal(value, weights(plain)[key])


def test_a_stages_dropout_is_its_own(backbone, tmp_path):
    learner = make_learner(backbone, dropout=0.2)
    learner.prepare(tiny_rows())
    inside = learner.model.backbone.encoder.layer[0].output.dropout
    with stagewise.dropout(learner.model, 0.0, 0.4):
        assert (learner.model.dropout.p, inside.p) == (0.0, 0.4)
    with stagewise.dropout(learner.model, None, None):
        assert (learner.model.dropout.p, inside.p) == (0.2, 0.1)
    assert (learner.model.dropout.p, inside.p) == (0.2, 0.1)

    def fitted(name: str, **stage: object) -> Tensor:
        learner = make_learner(backbone, stages=[stage])
        fit(learner, tmp_path / name)
        return weights(learner)["head.weight"]

    plain = fitted("plain")
    assert not torch.equal(fitted("head", dropout=0.6), plain)
    assert not torch.equal(fitted("inside", backbone_dropout=0), plain)


def test_a_finished_stage_is_not_trained_again(backbone, tmp_path, monkeypatch, capsys):
    options = {"stages": [{}, {"epochs": 1}]}
    whole = make_learner(backbone, **options)
    fit(whole, tmp_path / "whole")
    learner = make_learner(backbone, **options)
    real, numbers = learner._train_stage, []

    def failing(number, *args):
        numbers.append(number)
        if number == 2 and len(numbers) == 2:
            raise RuntimeError("crash")
        return real(number, *args)

    monkeypatch.setattr(learner, "_train_stage", failing)
    with pytest.raises(RuntimeError):
        fit(learner, tmp_path / "crashed")
    fit(learner, tmp_path / "crashed")
    assert numbers == [1, 2, 2]
    assert "stage 1 of 2 is finished\n" in capsys.readouterr().out
    for key, value in weights(learner).items():
        assert torch.equal(value, weights(whole)[key])


# Settings


def settings(**given: object) -> TransformerSettings:
    return TransformerSettings(learner="transformer", backbone="x", **given)


def test_a_stage_is_training_and_what_it_changes():
    s = settings(training={"lr": 1e-3, "epochs": 5, "reinit_layers": 1}, stages=[{}, {"lr": 1e-4}])
    assert [(x.lr, x.epochs) for x in s.stages] == [(1e-3, 5), (1e-4, 5)]
    assert [x.reinit_layers for x in s.stages] == [1, 0]


def test_a_frozen_soft_f1_stage_has_large_batches():
    """Soft F1 of a small batch is a poor estimate, and without a backbone large ones cost nothing."""
    frozen_f1 = {"loss": "soft_f1", "freeze_backbone": True}
    s = settings(
        training={"batch_size": 16},
        stages=[frozen_f1, frozen_f1 | {"batch_size": 64}, {"loss": "soft_f1"}],
    )
    assert [x.batch_size for x in s.stages] == [1024, 64, 16]


def test_a_frozen_stage_takes_over_nothing_that_goes_through_the_backbone():
    frozen = {"freeze_backbone": True}
    training = {"adversary": "fgm", "rdrop": 0.5, "mask_spans": {}, "lr": 1e-3}
    second = settings(training=training, stages=[{}, frozen]).stages[1]
    assert (second.adversary, second.rdrop, second.mask_spans, second.lr) == (None, 0, None, 1e-3)
    awp = settings(training={"adversary": "awp"}, stages=[{}, frozen]).stages[1]
    assert awp.adversary.name == "awp"


def test_a_stage_may_be_for_some_metrics_only():
    s = settings(stages=[{"epochs": 3}, {"loss": "soft_f1", "metrics": ["f1", "f1_micro"]}])
    assert [len(s.stages_for(metric)) for metric in ("f1", "roc_auc")] == [2, 1]
    assert settings(training={"epochs": 7}).stages_for("f1")[0].epochs == 7


def test_settings_with_stages_come_back_from_what_is_stored():
    s = settings(training={"lr": 1e-3}, stages=[{}, {"loss": "focal", "freeze_layers": 1}])
    assert TransformerSettings.model_validate(s.model_dump(mode="json")) == s


REFUSED = {
    "stages=[{max_length: 64}]": (
        "stage 1 sets max_length, which applies to the whole run: set training.max_length"
    ),
    "stages=[{}, {reinit_layers: 1}]": (
        "stage 2 sets reinit_layers, which would discard the stage before: set it in the first"
    ),
    "training.freeze_backbone=true training.adversary=fgm": (
        "adversary fgm requires passes through the backbone, which freeze_backbone runs once: set "
        "one of them only"
    ),
    "training.freeze_backbone=true training.rdrop=1": (
        "rdrop requires passes through the backbone, which freeze_backbone runs once: set one of "
        "them only"
    ),
    "stages=[{freeze_backbone: true}] training.adversary=fgm": (
        "training.adversary is set, but no stage uses it: set it in one, or leave it out"
    ),
    "training.patience=1 training.select=inner stages=[{patience: 0}]": (
        "training.patience is set, but no stage uses it: set it in one, or leave it out"
    ),
    "training.length_quantile=0.5": (
        "length_quantile is for max_length: auto, but max_length is 16: leave one of them out"
    ),
    "stages=[{epoch: 2}]": "unknown setting 'stages.0.epoch': did you mean 'epochs'?",
}


@pytest.mark.parametrize("sets", list(REFUSED))
def test_what_does_not_go_together_is_refused(backbone, tmp_path, capsys, sets):
    root = make_workspace(tmp_path / "w")
    add_preset(root, backbone)
    assert foldstack(root, "folds") == 0
    parts = re.split(r" (?=training|stages)", sets)
    options = [word for pair in parts for word in ("--set", pair)]
    capsys.readouterr()
    sentence = f"tiny.yaml with --set: {REFUSED[sets]}"
    refuses(root, ["train", "--model", "tiny", *options], sentence, capsys)
