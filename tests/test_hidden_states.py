"""A shallow transformer whose hidden states are matched with those of the one it was cut from."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel

from foldstack.errors import InputError
from foldstack.learners import sequence
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.classifier import Classifier
from foldstack.nets.hidden_states import HiddenMatch
from foldstack.nets.layers import thin
from foldstack.nets.mixup import Mixup
from foldstack.stages.fitted import load_learner
from foldstack.store import RunKey, Store
from foldstack.techniques import TrainingSettings, TransformerSettings
from foldstack.training.micro_batch import MicroBatch, TrainingObjective
from makers import make_learner, tiny_rows
from test_layers import CONFIGS, classifier
from tiny import add_preset, foldstack, make_workspace, refuses, run_of

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

CPU = torch.device("cpu")
IDS = torch.tensor([[2, 6, 9, 7, 3], [2, 8, 3, 0, 0], [2, 5, 6, 3, 0]])
INPUTS = {"input_ids": IDS, "attention_mask": (IDS > 0).long()}
MATCHED = {"start_from": "tiny", "keep_every": 2, "match_hidden": 0.5}


def shallow(deep: Path, weight: float = 1.0, every: int = 2, dropout: float = 0.0) -> Classifier:
    """A classifier of each n-th layer, matched with all of them."""
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    whole = AutoModel.from_pretrained(deep, **rates)
    torch.manual_seed(0)
    model = Classifier(deepcopy(whole), 1, 0.0)
    thin(model.backbone, every)
    model.matched = HiddenMatch(whole, every, weight, CPU)
    return model.train()


def distance(model: Classifier) -> Tensor:
    """(3,) what the rows add to the loss."""
    return model(**INPUTS, pooled=True)[2]


def part_of(net: nn.Module, rows: slice = slice(None), **training: object) -> MicroBatch:
    """A micro-batch of these rows, of unequal weight."""
    targets, weights = torch.tensor([[1.0], [0.0], [1.0]]), torch.tensor([1.0, 2.0, 0.5])
    settings = TrainingSettings(**training)
    objective = TrainingObjective.of(settings, targets, weights, "sigmoid")
    inputs = {k: v[rows] for k, v in INPUTS.items()}
    return MicroBatch(objective, net, inputs, targets[rows], weights[rows], weights.sum())


# The distance


@pytest.mark.parametrize("kind", CONFIGS)
def test_it_is_0_if_teacher_and_student_have_the_same_layers(kind):
    """In each architecture, final norms and token types included."""
    model = classifier(kind).eval()
    match = HiddenMatch(deepcopy(model.backbone), 1, 1.0, CPU)
    model.matched = match
    assert match.layers == 3
    np.testing.assert_allclose(distance(model).detach(), 0, atol=1e-6)
    with torch.no_grad():
        for p in model.backbone.parameters():
            p.add_(0.1 * torch.randn_like(p))
    assert (distance(model) > 1e-4).all()


def test_it_is_the_mean_over_own_tokens_and_kept_layers(deep):
    """Against a loop: layer 1 with layer 2 of the whole, layer 2 with layer 4."""
    model = shallow(deep, weight=0.7)
    whole = AutoModel.from_pretrained(deep).eval()
    with torch.no_grad():
        wanted = whole(**INPUTS, output_hidden_states=True).hidden_states
        own = model.backbone(**INPUTS, output_hidden_states=True).hidden_states
        found = distance(model)
    for row, length in enumerate([5, 3, 4]):
        apart = []
        for layer, of_whole in ((1, 2), (2, 4)):
            for token in range(length):
                a, b = own[layer][row, token].numpy(), wanted[of_whole][row, token].numpy()
                a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
                apart.append(((a - b) ** 2).sum() / 2)  # 1 − cosine
        assert float(found[row]) == pytest.approx(0.7 * np.mean(apart), rel=1e-4)


def test_a_head_reads_its_own_layers(deep):
    """The logits are those without a match, of one layer or of several."""
    for head in ("mean", {"name": "layers", "layers": 2}):
        learner = make_learner(deep, head=head, **MATCHED)
        learner.prepare(tiny_rows())
        model = learner.model.eval()
        logits, pooled, _ = model(**INPUTS, pooled=True)
        model.matched = None
        for one, other in zip((logits, pooled), model(**INPUTS, pooled=True), strict=True):
            torch.testing.assert_close(one, other)


def test_rows_count_by_their_weight_and_micro_batches_add_up(deep):
    model = shallow(deep)
    whole, alone = part_of(model), part_of(model)
    matched = whole.loss()
    wanted = (distance(model) @ alone.weights) / alone.weights.sum()
    parts = [part_of(model, rows).loss() for rows in (slice(0, 2), slice(2, 3))]
    torch.testing.assert_close(sum(parts), matched)
    model.matched = None
    torch.testing.assert_close(matched - alone.loss(), wanted)


@pytest.mark.parametrize("given", ["rdrop", "mixup", "masks"])
def test_it_is_added_once_a_row(deep, given):
    """Not once for each of two passes or of several masks; mix-up mixes what is read after it."""
    model = shallow(deep)
    model.dropout_samples = 3 if given == "masks" else 1
    part = part_of(model, rdrop=0.5 if given == "rdrop" else 0.0)
    if given == "mixup":
        part = replace(part, mixup=Mixup(torch.tensor([1, 2, 0]), torch.tensor(0.7)))
    matched, wanted = part.loss(), (distance(model) @ part.weights) / part.weights.sum()
    model.matched = None
    torch.testing.assert_close(matched - part.loss(), wanted)


# The teacher


def test_the_teacher_reads_without_dropout_and_learns_nothing(deep):
    model = shallow(deep, dropout=0.5)
    teacher = model.matched.teacher
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    model.train()
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    part_of(model).loss().backward()
    optimizer.step()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    of_layers = [p for n, p in model.named_parameters() if "layer.1." in n]
    assert of_layers and all(p.grad.abs().sum() > 0 for p in of_layers if p.ndim > 1)


def test_the_teacher_is_no_part_of_the_network(deep):
    model = shallow(deep)
    assert not any("teacher" in name for name in model.state_dict())
    model_alone = Classifier(deepcopy(model.backbone), 1, 0.0)
    assert model.state_dict().keys() == model_alone.state_dict().keys()
    own = {p.data_ptr() for p in model.parameters()}
    assert not own & {p.data_ptr() for p in model.matched.teacher.parameters()}


# Training


def fit(learner: TransformerLearner, folder: Path) -> dict[str, Tensor]:
    folder.mkdir()
    learner.fit(tiny_rows(), None, folder)
    return {k: v.clone() for k, v in learner.model.state_dict().items()}


def apart_from(start: TransformerLearner, weights: dict[str, Tensor]) -> float:
    """The mean distance of trained weights from the backbone that they began from."""
    start.prepare(tiny_rows())
    start.model.load_state_dict(weights)
    with torch.no_grad():
        return float(distance(start.model.eval()).mean())


def test_training_lowers_the_distance(deep, tmp_path):
    distances = []
    for weight in (1e-9, 100.0):
        settings = MATCHED | {"match_hidden": weight}
        weights = fit(make_learner(deep, **settings), tmp_path / str(weight))
        distances.append(apart_from(make_learner(deep, **MATCHED), weights))
    learner = make_learner(deep, **MATCHED)
    learner.prepare(tiny_rows())
    at_first = apart_from(make_learner(deep, **MATCHED), learner.model.state_dict())
    assert distances[1] < 0.8 * min(at_first, distances[0])


def test_the_fitted_model_has_let_its_teacher_go(deep, tmp_path):
    learner = make_learner(deep, **MATCHED)
    fit(learner, tmp_path / "run")
    assert learner.model.matched is None


@pytest.mark.parametrize("adversary", [None, "fgm", "freelb"])
def test_the_occurring_word_embeddings_are_enough(deep, tmp_path, monkeypatch, adversary):
    """The teacher keeps all of its own, which the trimmed ones equal at first."""
    given = MATCHED | {"training": {"adversary": adversary, "weight_decay": 0.5}}
    short = fit(make_learner(deep, **given), tmp_path / "short")
    monkeypatch.setattr(sequence, "trimmed", lambda *_: nullcontext())
    whole = fit(make_learner(deep, **given), tmp_path / "whole")
    for key, value in whole.items():
        torch.testing.assert_close(short[key], value, rtol=1e-4, atol=1e-5)


def test_a_resumed_fit_ends_with_the_same_bytes(deep, tmp_path):
    given = MATCHED | {"checkpoint_seconds": 0}
    whole = fit(make_learner(deep, **given), tmp_path / "run")
    shutil.rmtree(max((tmp_path / "run").glob("step-*")))  # as if killed before the last update
    resumed = make_learner(deep, **given)
    resumed.fit(tiny_rows(), None, tmp_path / "run")
    assert all(torch.equal(v, whole[k]) for k, v in resumed.model.state_dict().items())


def test_a_run_is_matched_with_the_run_that_it_starts_from(deep, tmp_path, capsys):
    """Of the same fold: its fitted layers. What is stored predicts alone."""
    root = make_workspace(tmp_path / "w", n=30, runtime={"threads": 1})
    add_preset(root, deep)
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0
    begin = load_file(Store(root).run_dir(RunKey("tiny", 0, (0,))) / "model/classifier.safetensors")
    seen = []
    real = HiddenMatch.__init__

    def noted(self, teacher: nn.Module, *options: object):
        seen.append({f"backbone.{k}": v.clone() for k, v in teacher.state_dict().items()})
        real(self, teacher, *options)

    add_preset(root, deep, "plain", **MATCHED | {"match_hidden": 0})
    add_preset(root, deep, "second", **MATCHED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HiddenMatch, "__init__", noted)
        for model in ("plain", "second"):
            assert foldstack(root, "train", "--model", model, "--fold", "0") == 0
    (teacher,) = seen
    assert all(torch.equal(teacher[k], v) for k, v in begin.items() if k.startswith("backbone."))
    plain, second = (
        load_file(Store(root).run_dir(RunKey(m, 0, (0,))) / "model/classifier.safetensors")
        for m in ("plain", "second")
    )
    assert plain.keys() == second.keys()
    assert any(not torch.equal(plain[k], second[k]) for k in plain)
    ws, _ = run_of(root, "second")
    key = RunKey("second", 0, (0,))
    stored = ws.store.read_predictions(key, "test", ws.competition.test)
    loaded = load_learner(ws, key, 1)
    assert loaded.predict(ws.competition.test).tobytes() == stored.raw.tobytes()
    capsys.readouterr()
    add_preset(root, deep, "third", **MATCHED | {"keep_every": 3})
    refuses(
        root,
        ["train", "--model", "third", "--fold", "0"],
        "match_hidden requires that the last layer is kept, but keep_every 3 does not divide the "
        "backbone's 4 layers: set another keep_every, or leave it out",
        capsys,
    )


# What is refused


NEITHER = (
    "match_hidden matches the layers that keep_every keeps with the network of start_from: set "
    "start_from, and keep_every to 2 or more, or leave it out"
)
FROZEN = (
    "match_hidden trains the backbone, which freeze_backbone leaves as it is: set one of them only"
)


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"start_from": None}, NEITHER),
        ({"keep_every": 1}, NEITHER),
        ({"training": {"freeze_backbone": True}}, FROZEN),
        ({"stages": [{"freeze_backbone": True}, {}]}, FROZEN),
        ({"match_hidden": -1.0}, "greater than or equal to 0"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        TransformerSettings(learner="transformer", backbone="x", **MATCHED | given)


def test_a_backbone_without_hidden_states_is_refused():
    class Silent(nn.Module):
        config = SimpleNamespace(model_type="silent")

        def forward(self, input_ids: Tensor, **options: object) -> SimpleNamespace:
            return SimpleNamespace(last_hidden_state=input_ids)

    with pytest.raises(InputError) as e:
        HiddenMatch(Silent(), 2, 1.0, CPU)
    assert str(e.value) == (
        "match_hidden reads the hidden states of each layer, but a backbone of type 'silent' gives "
        "none: leave it out"
    )
