"""Training with the word embeddings that occur is training with all of them."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from foldstack.learners import sequence
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets import vocabulary
from foldstack.nets.vocabulary import TrimmedEmbedding, trimmed
from makers import make_learner, tiny_rows
from tiny import make_backbone

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    """A backbone with 500 word embeddings, of which the texts use some twenty."""
    return make_backbone(tmp_path_factory.mktemp("roomy"), vocab_size=500)


def fit(learner: TransformerLearner, folder) -> dict[str, torch.Tensor]:
    folder.mkdir()
    learner.fit(tiny_rows(), None, folder)
    return learner.model.state_dict()


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"adversary": {"name": "fgm", "epsilon": 0.3}},
        {"averaging": {"name": "ema", "decay": 0.9}, "layer_decay": 0.8},
        {"adversary": "awp"},
        {"optimizer": "adafactor"},
        {"optimizer": "adagrad"},
    ],
)
def test_the_weights_are_those_of_the_whole_vocabulary(roomy, tmp_path, monkeypatch, training):
    """Also of the pieces that no text has, which weight decay alone moves."""
    training = {"weight_decay": 0.5, **training}
    short = fit(make_learner(roomy, training=training), tmp_path / "short")
    monkeypatch.setattr(sequence, "trimmed", lambda *_: nullcontext())
    whole = fit(make_learner(roomy, training=training), tmp_path / "whole")
    for key, value in whole.items():
        torch.testing.assert_close(short[key], value, rtol=1e-4, atol=1e-6)


def test_training_sees_the_occurring_embeddings_alone(roomy, tmp_path, monkeypatch):
    learner, seen = make_learner(roomy), []
    real = learner._train_stage

    def watched(*args):
        seen.append(learner.model.backbone.get_input_embeddings().weight.shape[0])
        return real(*args)

    monkeypatch.setattr(learner, "_train_stage", watched)
    fit(learner, tmp_path / "run")
    assert len(seen) == 1 and seen[0] < 30
    assert learner.model.backbone.get_input_embeddings().weight.shape == (500, 16)


DRAWN_ANEW = [{"augment": ["swap_words"]}, {"long": "random"}]
SHORT = {"max_length": 6, "epochs": 2, "weight_decay": 0.5}


@pytest.mark.parametrize("settings", DRAWN_ANEW, ids=str)
def test_texts_that_are_drawn_anew_are_drawn_once_more_for_their_pieces(
    roomy, tmp_path, monkeypatch, settings
):
    sizes = []
    real = vocabulary.TrimmedEmbedding.__init__

    def noted(self, whole, ids):
        sizes.append(len(ids))
        real(self, whole, ids)

    monkeypatch.setattr(vocabulary.TrimmedEmbedding, "__init__", noted)
    short = fit(make_learner(roomy, training=SHORT, **settings), tmp_path / "short")
    monkeypatch.setattr(sequence, "trimmed", lambda *_: nullcontext())
    whole = fit(make_learner(roomy, training=SHORT, **settings), tmp_path / "whole")
    assert len(sizes) == 1 and sizes[0] < 30
    for key, value in whole.items():
        torch.testing.assert_close(short[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", DRAWN_ANEW, ids=str)
def test_a_gpu_keeps_all_pieces_of_texts_that_are_drawn_anew(roomy, settings):
    learner = make_learner(roomy, training=SHORT, **settings)
    examples = learner.prepare(tiny_rows())
    stages = learner.settings.stages_for("accuracy")
    assert list(learner._tokens_read(tiny_rows(), examples, stages, None))[1:]
    learner.accelerator = SimpleNamespace(device=torch.device("cuda"))
    assert learner._tokens_read(tiny_rows(), examples, stages, None) is None


def test_a_lookup_is_the_same_and_its_gradient_too():
    torch.manual_seed(0)
    whole = nn.Embedding(50, 3, padding_idx=1)
    part = TrimmedEmbedding(whole, np.array([1, 7, 40]))
    ids = torch.tensor([[7, 40, 1], [40, 40, 1]])
    assert torch.equal(part(ids), whole(ids))
    for each in (whole, part):
        (each(ids) * torch.arange(18.0).view(2, 3, 3)).sum().backward()
    assert torch.equal(part.weight.grad[:3], whole.weight.grad[[1, 7, 40]])
    assert not part.weight.grad[3].any()  # of the row that only decays
    assert not part.weight.grad[0].any()  # of the padding


def test_a_piece_that_was_not_announced_is_no_silent_zero():
    part = TrimmedEmbedding(nn.Embedding(50, 3), np.array([1, 7]))
    with pytest.raises(IndexError):
        part(torch.tensor([8]))


def test_a_vocabulary_in_full_use_stays_as_it_is(backbone):
    learner = make_learner(backbone)
    learner.prepare(tiny_rows())
    whole = learner.model.backbone.get_input_embeddings()
    with trimmed(learner.model.backbone, np.arange(20)):
        assert learner.model.backbone.get_input_embeddings() is whole
