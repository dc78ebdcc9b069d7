"""What an accelerator wants: that no step waits for it, and the precision that it is fast in."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from foldstack.errors import InputError
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets import attention, dropout
from foldstack.nets.classifier import Classifier
from foldstack.nets.device import to_device, to_host
from foldstack.techniques import AttentionHead, Consistency, TransformerSettings
from foldstack.training import frozen, loop, precision
from makers import loop_learner, tiny_rows

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

# Operations whose result, or its size, Python looks at.
LOOKS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2"}


class Watch(TorchDispatchMode):
    """Notes who asks a device for a value, or how many there are of something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        name = call._schema.name
        by_mask = name.startswith("aten::index") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool
            for index in (args[1] if isinstance(args[1], list | tuple) else [])
        )
        if name in LOOKS or by_mask:
            own = [f for f in traceback.extract_stack()[:-1] if "/torch/" not in f.filename]
            self.found.add(f"{name} in {own[-1].filename}:{own[-1].lineno}")
        return call(*args, **(kwargs or {}))


@pytest.fixture
def ahead(monkeypatch) -> None:
    """The CPU is treated as a device that computes while Python goes on."""
    for module in (attention, dropout):
        monkeypatch.setattr(module, "is_asynchronous", lambda tensor: True)


TECHNIQUES = [
    {},
    {"micro_batch_size": 3},
    {"precision": "bf16"},
    {"rdrop": 1.0},
    {"contrastive": {}},
    {"averaging": {"name": "ema"}},
    *(
        {"loss": {"name": name}}
        for name in ("focal", "dice", "soft_f1", "pairwise_auc", "ghm", "logit_adjusted")
    ),
    {"loss": {"name": "cross_entropy", "class_weights": "inverse", "label_smoothing": 0.1}},
    *({"adversary": {"name": name}} for name in ("fgm", "pgd", "freelb", "vat")),
    {"adversary": {"name": "awp", "start": 0}},
]


@pytest.mark.parametrize("settings", TECHNIQUES, ids=str)
def test_a_step_never_looks_at_a_value(backbone, ahead, settings):
    """Each look would wait for all that an accelerator has still to compute."""
    learner = loop_learner(backbone, dropout=0.1, **settings)
    examples = learner.prepare(tiny_rows(n=21))
    training = loop.prepare(learner.model, examples, learner.settings.training, learner.accelerator)
    training.net.train()
    with Watch() as watch:
        loop.update(training, examples, np.arange(9), 0.0)
        training.averaging.after_update(training.model)
    assert watch.found == set()


def test_nor_does_a_step_with_unlabelled_rows(backbone, ahead):
    learner = loop_learner(backbone, dropout=0.1)
    consistency = Consistency(augment=["swap_words"])
    learner.settings = learner.settings.model_copy(update={"consistency": consistency})
    examples = learner.prepare(tiny_rows(n=21))
    training = loop.prepare(learner.model, examples, learner.settings.training, learner.accelerator)
    training.net.train()
    (pairs,) = learner.encoder.unlabelled(tiny_rows(n=21))(0).of_epoch([9], 8, 0)
    with Watch() as watch:
        loop.update(training, examples, np.arange(9), 0.0, pairs)
    assert watch.found == set()


def test_the_watch_sees_a_look(backbone):
    """Among them the library's own, whether a batch has any padding."""
    values = torch.arange(4.0)
    for look in (lambda: values.sum().item(), lambda: values[values > 1], lambda: bool(values[0])):
        with Watch() as watch:
            look()
        assert len(watch.found) == 1
    learner = loop_learner(backbone)
    examples = learner.prepare(tiny_rows(n=21))
    with Watch() as watch:
        learner.model(**examples.tokens.batch(np.arange(9)))
    assert ["masking_utils" in found for found in watch.found] == [True]


def test_the_mask_of_a_batch_without_padding_changes_nothing(backbone, monkeypatch):
    learner = loop_learner(backbone)
    tokens = learner.prepare(tiny_rows(n=21)).tokens
    same = np.flatnonzero(tokens.lengths == tokens.lengths[0])
    assert len(same) > 1
    predicted = []
    for ahead in (False, True):
        monkeypatch.setattr(attention, "is_asynchronous", lambda tensor, ahead=ahead: ahead)
        predicted.append(learner.model.eval()(**tokens.batch(same)))
    torch.testing.assert_close(*predicted)


def test_predictions_are_looked_at_once_they_are_all_there(backbone, ahead):
    learner = loop_learner(backbone)
    tokens = learner.prepare(tiny_rows(n=131)).tokens
    with Watch() as watch:
        loop.predict(learner.model, tokens, learner.accelerator.device)
    assert watch.found == set()


@pytest.mark.parametrize("head", [None, AttentionHead(name="attention")])
def test_a_frozen_backbones_outputs_are_not_counted_on_the_device(backbone, ahead, tmp_path, head):
    learner = loop_learner(backbone)
    if head:
        learner.settings = learner.settings.model_copy(update={"head": head})
    tokens = learner.prepare(tiny_rows(n=70)).tokens
    with Watch() as watch:
        outputs = frozen.run_once(learner.model, tokens, tmp_path, 1.0)
    assert watch.found == set()
    with torch.no_grad():  # and they are the rows' own
        given = tokens.batch(np.array([3]))
        states = learner.model.read(**given)
        expected = (
            states[0].transpose(0, 1)
            if head
            else learner.model.pooling(states, given["attention_mask"])
        )
    begin, end = tokens.offsets[3:5] if head else (3, 4)
    np.testing.assert_allclose(outputs.flat[begin:end], expected.numpy(), atol=1e-5)


def test_tensors_go_to_the_cpu_and_back_as_they_are():
    cpu, tensor = torch.device("cpu"), torch.arange(3)
    assert to_device(tensor, cpu) is tensor
    assert to_device({"a": tensor}, cpu)["a"] is tensor
    assert to_host(tensor)() is tensor


# Precision


@pytest.fixture
def gpu(monkeypatch) -> Iterator[dict]:
    """A GPU that does not compute anything; what it can do is in the dictionary."""
    can = {"bf16": True, "capability": (9, 0)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: can["bf16"] or including_emulation,
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: can["capability"])
    return can


def test_a_gpu_computes_in_bf16_where_it_multiplies_it_itself(gpu):
    assert precision.choose_precision("auto") == "bf16"
    gpu["bf16"] = False  # a T4 emulates it
    assert precision.choose_precision("auto") == "fp16"


def test_tf32_is_for_gpus_that_have_it(gpu):
    assert precision.choose_precision("tf32") == "tf32"
    gpu["capability"] = (7, 5)
    with pytest.raises(InputError) as e:
        precision.choose_precision("tf32")
    assert str(e.value) == (
        "training.precision=tf32 requires a GPU of compute capability 8.0 or more and this machine has "
        "none: use auto or fp32"
    )


def test_fp32_means_all_bits_of_it():
    try:
        precision.prepare_products("tf32")
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        precision.prepare_products("fp32")
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32


HEADS = ["cls_attention", "lstm", "gru", "cnn", "attention", "labels", "gem", "mean_max"]


def trained_on_a_gpu(learner: TransformerLearner, updates: int) -> tuple[Tensor, loop.Training]:
    """All weights after some updates of ten rows, of two shapes in turn."""
    examples = learner.prepare(tiny_rows(n=20))
    training = loop.prepare(learner.model, examples, learner.settings.training, learner.accelerator)
    training.net.train()
    order = np.argsort(examples.tokens.lengths)
    for step in range(updates):
        torch.manual_seed(step)
        loop.update(training, examples, order[step % 2 :: 2], epoch=step / 2)
    return torch.cat([p.detach().flatten().cpu() for p in learner.model.parameters()]), training


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["bf16", "fp16", "tf32", "fp32"])
@pytest.mark.parametrize("settings", TECHNIQUES, ids=str)
def test_a_step_on_a_gpu_never_waits_for_it(backbone, settings, kind):
    """CUDA itself says so, of copies too; and the loss goes down."""
    learner = loop_learner(backbone, dropout=0.1, **settings | {"precision": kind})
    examples = learner.prepare(tiny_rows(n=21))
    training = loop.prepare(learner.model, examples, learner.settings.training, learner.accelerator)
    training.net.train()
    # Which allocate, and make a graph.
    first, _ = (loop.update(training, examples, np.arange(9), 0.0) for _ in range(2))
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = [loop.update(training, examples, np.arange(9), 0.0) for _ in range(20)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert losses[-1].item() < first.item()


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("settings", "head"),
    [*((s, None) for s in (*TECHNIQUES, {"mixup": 0.4})), *(({}, head) for head in HEADS)],
    ids=str,
)
def test_a_graph_computes_what_a_gpu_computes_without(backbone, monkeypatch, settings, head):
    """With the same dropout masks; FreeLB and VAT set a generator back, which no graph does."""
    learner = loop_learner(backbone, dropout=0.1, backbone_dropout=0.1, **settings)
    if head:
        learner.settings = TransformerSettings(
            **learner.settings.model_dump() | {"head": {"name": head}}
        )
    with_graphs, training = trained_on_a_gpu(learner, 8)
    name = (settings.get("adversary") or {}).get("name")
    if name in ("freelb", "vat"):
        assert training.graphs is None
    else:
        (graphs,) = training.graphs.values()
        assert graphs.works and all(graphs.graphs.values())
    monkeypatch.setattr(loop, "_allows_graphs", lambda *_: False)
    without, _ = trained_on_a_gpu(learner, 8)
    torch.testing.assert_close(with_graphs, without, atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
def test_what_cannot_be_a_graph_is_trained_without(backbone, monkeypatch, capsys):
    """A head that looks at a value; dropout still draws what it would have drawn."""
    score = Classifier.score

    def looking(self, vectors, *args, **options):
        return score(self, vectors * float(vectors.sum() != 0.5), *args, **options)

    monkeypatch.setattr(Classifier, "score", looking)
    found, training = trained_on_a_gpu(loop_learner(backbone, dropout=0.1), 8)
    assert not training.graphs[True].works
    assert (
        capsys.readouterr().out.count("without CUDA graphs, which this model does not allow") == 1
    )
    monkeypatch.setattr(loop, "_allows_graphs", lambda *_: False)
    without, _ = trained_on_a_gpu(loop_learner(backbone, dropout=0.1), 8)
    torch.testing.assert_close(found, without, atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
def test_a_gpu_predicts_what_the_cpu_does(backbone):
    learner = loop_learner(backbone)
    tokens = learner.prepare(tiny_rows(n=131)).tokens
    on_cpu = loop.predict(learner.model.cpu(), tokens, torch.device("cpu"))
    on_gpu = loop.predict(learner.model.cuda(), tokens, torch.device("cuda"))
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-5)
