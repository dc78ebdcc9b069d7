"""Gradient checkpointing: the same gradients, from less memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from foldstack.errors import InputError
from foldstack.nets.backbone import recomputing
from foldstack.nets.classifier import Classifier
from foldstack.techniques import TransformerSettings
from foldstack.training import loop
from makers import loop_learner, make_learner, tiny_rows
from test_layers import classifier
from test_lora import backbone_of

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


def kept(model: Classifier, enabled: bool) -> tuple[dict[str, Tensor], int]:
    """The gradients of one pass with dropout, and the bytes that are kept for them."""
    ids = torch.arange(2, 62).reshape(5, 12)
    params = {p.untyped_storage().data_ptr() for p in model.parameters()}
    stored: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in params:
            stored[storage.data_ptr()] = storage.nbytes()
        return x

    torch.manual_seed(3)
    model.zero_grad()
    with recomputing(model, enabled), torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        out = model(input_ids=ids, attention_mask=torch.ones_like(ids)).square().sum()
        size = sum(stored.values())
        out.backward()
    return {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}, size


@pytest.mark.parametrize("kind", ["bert", "deberta-v2", "qwen3", "gemma3_text"])
def test_gradients_are_the_same_from_less_memory(kind):
    model = Classifier(backbone_of(kind), 1, 0.1).train()
    plain, much = kept(model, False)
    ours, little = kept(model, True)
    assert ours.keys() == plain.keys() and little < much / 2
    for name, gradient in plain.items():
        torch.testing.assert_close(ours[name], gradient, rtol=0, atol=1e-6)


def test_a_run_with_it_has_the_same_losses(backbone, tmp_path):
    ends = []
    for on in (False, True):
        folder = tmp_path / str(on)
        folder.mkdir()
        learner = loop_learner(
            backbone, dropout=0.1, backbone_dropout=0.1, gradient_checkpointing=on, epochs=2
        )
        facts = learner.fit(tiny_rows(), None, folder)
        ends.append([loss for _, loss in facts["losses"]])
        layers = learner.model.backbone.encoder.layer
        assert not any(layer.gradient_checkpointing for layer in layers)  # off again
    assert ends[0] == pytest.approx(ends[1], abs=1e-5)


def test_training_recomputes(backbone, tmp_path, monkeypatch):
    """Each layer runs twice in an update, and once in one without."""
    update = loop.update
    for on, times in ((False, 1), (True, 2)):
        learner = loop_learner(backbone, gradient_checkpointing=on, epochs=1, batch_size=32)
        calls = []

        def counted(training: loop.Training, *args: object, calls=calls, update=update) -> Tensor:
            layer = training.model.backbone.encoder.layer[0].attention
            handle = layer.register_forward_hook(lambda *_: calls.append(1))
            try:
                return update(training, *args)
            finally:
                handle.remove()

        folder = tmp_path / str(on)
        folder.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "update", counted)
            learner.fit(tiny_rows(), None, folder)
        assert len(calls) == times


def test_an_architecture_without_it_is_refused():
    with pytest.raises(InputError) as e, recomputing(classifier("xlnet"), True):
        pass
    assert str(e.value) == (
        "training.gradient_checkpointing does not fit a backbone of type 'xlnet': leave it out"
    )


def settings_of(**given: object) -> TransformerSettings:
    return TransformerSettings(learner="transformer", backbone="x", **given)


def test_a_frozen_backbone_has_no_backward_pass():
    with pytest.raises(ValidationError) as e:
        settings_of(training={"gradient_checkpointing": True, "freeze_backbone": True})
    assert (
        "gradient_checkpointing requires passes through the backbone, which freeze_backbone runs once"
        in str(e.value)
    )
    stages = [{"freeze_backbone": True}, {}]
    made = settings_of(training={"gradient_checkpointing": True}, stages=stages)
    assert [s.gradient_checkpointing for s in made.stages] == [False, True]


def test_times_are_measured_with_it(backbone: Path, monkeypatch):
    learner = make_learner(backbone, training={"gradient_checkpointing": True})
    seen = []
    update = loop.update

    def noting(training: loop.Training, *args: object) -> Tensor:
        layers = training.model.backbone.encoder.layer
        seen.append(all(layer.gradient_checkpointing for layer in layers))
        return update(training, *args)

    monkeypatch.setattr(loop, "update", noting)
    learner.measure(tiny_rows(), 32, updates=1)
    assert seen and all(seen)
