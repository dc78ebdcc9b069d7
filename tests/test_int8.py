"""Prediction in int8: what is computed, what it costs, where it is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

import foldstack as package
from foldstack.ensemble import load_fitted
from foldstack.errors import InputError
from foldstack.learners import Learner
from foldstack.links import to_probabilities
from foldstack.nets import quantized
from foldstack.nets.attention import install_attention
from foldstack.nets.classifier import Classifier
from foldstack.nets.poolings import make_pooling
from foldstack.nets.quantized import GROUP, Int8Reader, converted, load_openvino, round_weights
from foldstack.records import Int8Record
from foldstack.rows import Rows
from foldstack.stages.fitted import load_learner
from foldstack.stages.int8 import describe, in_int8
from foldstack.stages.predictor import Predictor
from foldstack.store import RunKey
from foldstack.techniques import LayersHead
from foldstack.training.precision import has_fast_bf16_cpu
from foldstack.workspace import Workspace
from makers import loop_learner, tiny_rows
from test_layers import CONFIGS, classifier
from tiny import add_preset, files, foldstack, go_through, make_workspace, refuses, write

openvino = load_openvino()
pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    """Three folds of a tiny transformer and of tfidf, blended by the mean."""
    root = make_workspace(
        tmp_path_factory.mktemp("int8") / "w",
        n=60,
        models=["tiny", "tfidf"],
        blend={"methods": ["mean"]},
        runtime={"threads": 1},
    )
    add_preset(root, backbone, training={"lr": 0.01})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        go_through(root, "folds")
        for model in ("tiny", "tfidf"):
            for fold in range(3):
                assert foldstack(root, "train", "--model", model, "--fold", str(fold)) == 0
        go_through(root, "blend")
    return root


# What OpenVINO computes


def openvino_model(module: torch.nn.Module, example: torch.Tensor):
    graph = round_weights(openvino.convert_model(module, example_input=example))
    options = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(GROUP)}
    compiled = openvino.Core().compile_model(graph, "CPU", options)
    return lambda x: torch.from_numpy(compiled([x.numpy()])[0])


@torch.no_grad()
def test_weights_are_rounded_by_output_and_inputs_by_128_features_of_a_token():
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(3 * GROUP, 5), torch.randn(2, 3, 3 * GROUP)
    x[0, 1] *= 1000  # one large token takes nothing from the others
    scale = linear.weight.abs().amax(1, keepdim=True) / 127
    weight = (linear.weight / scale).round() * scale
    groups = x.unflatten(-1, (3, GROUP))
    step = groups.abs().amax(-1, keepdim=True) / 127
    rounded = ((groups / step).round() * step).flatten(-2)
    if not torch.cpu._is_vnni_supported():
        rounded = x  # and weights become floating-point numbers again

    layer = openvino_model(linear, x)
    by_hand = torch.nn.functional.linear(rounded, weight, linear.bias)
    out, exact = layer(x), linear(x)
    size = exact.norm(dim=-1, keepdim=True)
    assert ((out - by_hand) / size).abs().max() < 1e-5
    assert 1e-3 < ((out - exact).norm(dim=-1, keepdim=True) / size).max() < 0.05
    np.testing.assert_allclose(layer(x[1:, 2:]), out[1:, 2:], rtol=1e-5)


@torch.no_grad()
def test_a_layer_of_zeros_without_bias():
    linear = torch.nn.Linear(GROUP, 4, bias=False)
    linear.weight.data = torch.zeros(4, GROUP)
    assert (openvino_model(linear, torch.ones(2, GROUP))(torch.ones(2, GROUP)) == 0).all()


def test_the_largest_products_do_not_overflow():
    """Without VNNI two neighbouring products may be added up in 16 bits."""
    linear = torch.nn.Linear(GROUP, 3, bias=False)
    linear.weight.data = torch.ones(3, GROUP) * torch.tensor([[1.0], [-1.0], [0.5]])
    out = openvino_model(linear, torch.ones(1, GROUP))(torch.ones(1, GROUP))
    np.testing.assert_allclose(out, [[128, -128, 64]], rtol=1e-5)


def exact_reader(model: Classifier, inputs: int = 2) -> Callable[..., torch.Tensor]:
    graph = converted(model, inputs)
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda *given: torch.from_numpy(compiled([x.numpy() for x in given])[0])


def texts(rows: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, and a mask by which the first text is half as long as the others."""
    ids = torch.randint(2, 60, (rows, tokens), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, (tokens + 1) // 2 :] = 0
    return ids, mask


def difference(model: Classifier, reader: Callable, *given: torch.Tensor) -> float:
    """The largest, of what the reader and the model itself read of the texts, padding apart."""
    with torch.inference_mode():
        found, wanted = reader(*given), model.read(*given)
    assert found.shape == wanted.shape and found.dtype == torch.float32
    real = given[1][:, None].bool().expand(found.shape[:3])
    return float((found - wanted).abs()[real].max())


def adapted(kind: str, **config: object) -> Classifier:
    """A random backbone with this project's attention, its weights so large that rounding shows."""
    model = classifier(kind, **config)
    for weight in model.backbone.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.3)
    install_attention(model.backbone)
    return model.eval()


@pytest.mark.parametrize("kind", sorted(set(CONFIGS) - {"longformer"}))
def test_a_backbone_is_converted_for_texts_of_any_number_and_length(kind):
    model = adapted(kind)
    attention, reader = model.backbone.config._attn_implementation, exact_reader(model)
    for given in (texts(2, 3), texts(1, 12), texts(5, 20)):
        assert difference(model, reader, *given) < 1e-4
    rough = Int8Reader(model, "fp32")
    assert 0 < difference(model, rough, *texts(5, 20)) < 0.5
    assert model.backbone.config._attn_implementation == attention


def test_padding_beyond_the_window_leaves_a_short_text_as_it_is():
    """It attends to nothing, which OpenVINO makes NaN and the next layer spreads."""
    model = classifier("modernbert", local_attention=4, global_attn_every_n_layers=3).eval()
    install_attention(model.backbone)
    read = Int8Reader(model, "fp32")
    ids = torch.randint(5, 60, (2, 24), generator=torch.manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    alone, beside = read(ids[:1, :5], mask[:1, :5]), read(ids, mask)
    assert beside.isfinite().all()
    torch.testing.assert_close(beside[:1, :, :5], alone, rtol=1e-4, atol=1e-4)


def test_a_backbone_that_openvino_does_not_take(monkeypatch):
    def fails(model: Classifier, inputs: int) -> None:
        raise RuntimeError("an operation that it does not know")

    monkeypatch.setattr(quantized, "converted", fails)
    with pytest.raises(InputError) as e:
        Int8Reader(adapted("bert"), "fp32")(*texts(2, 8))
    assert str(e.value) == (
        "OpenVINO cannot take a backbone of type 'bert', so it has no int8: leave it out"
    )


def test_the_texts_of_a_pair_are_told_apart_where_there_are_types():
    model = adapted("bert")
    ids, mask = texts(3, 8)
    types = (torch.arange(8) > 4).long().expand(3, 8).contiguous()
    assert difference(model, exact_reader(model, 3), ids, mask, types) < 1e-4
    rough = Int8Reader(model, "fp32")
    one, pair = rough(ids, mask), rough(ids, mask, types)
    assert (one - pair).abs().max() > 0.1
    assert difference(model, rough, ids, mask, types) < 0.5


def test_a_head_that_reads_several_layers():
    model = adapted("bert")
    model.pooling = make_pooling(LayersHead(name="layers", layers=2), model.backbone.config, 1)
    given = texts(3, 8)
    assert Int8Reader(model, "fp32")(*given).shape[1] == 2
    assert difference(model, exact_reader(model), *given) < 1e-4


def test_the_linear_layers_of_the_backbone_are_rounded_and_the_model_stays_as_it_is(finished):
    ws = Workspace.open(finished, [])
    exact = load_learner(ws, RunKey("tiny", 0, (0,)), 1)
    rows, before = ws.competition.test, exact.predict(ws.competition.test)
    rough = exact.in_int8()
    assert 0 < np.abs(rough.predict(rows) - before).max() < 0.05
    assert rough.predict(rows).tobytes() == rough.predict(rows).tobytes()
    assert exact.predict(rows).tobytes() == before.tobytes()

    constants = [
        n
        for n in round_weights(converted(exact.model, 2)).get_ops()
        if n.get_type_name() == "Constant" and n.get_element_type() == openvino.Type.i8
    ]
    linear = [m for m in exact.model.backbone.modules() if type(m) is torch.nn.Linear]
    assert len(constants) == len(linear) == 2 * 6
    assert {tuple(c.get_output_shape(0)) for c in constants} == {
        tuple(m.weight.shape) for m in linear
    }


def test_a_model_that_was_trained_just_now(backbone, tmp_path):
    learner, rows = loop_learner(backbone, precision="bf16"), tiny_rows(n=21)
    learner.fit(rows, None, tmp_path)
    assert np.abs(learner.in_int8().predict(rows) - learner.predict(rows)).max() > 0
    learner.save(tmp_path / "model")
    loaded = loop_learner(backbone, precision="bf16")
    loaded.load(tmp_path / "model")
    assert loaded.in_int8().predict(rows).tobytes() == learner.in_int8().predict(rows).tobytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_not_a_product_is_computed_in_the_models_precision(precision):
    reader = Int8Reader(adapted("bert"), precision)
    reader(*texts(2, 3))
    (compiled,) = reader._compiled.values()
    hint = compiled.get_property("INFERENCE_PRECISION_HINT")
    wanted = "bf16" if precision == "bf16" and has_fast_bf16_cpu() else "f32"
    assert hint == {"bf16": openvino.Type.bf16, "f32": openvino.Type.f32}[wanted]


@pytest.mark.slow
def test_openvino_tells_nobody():
    """Its telemetry is left out before it is imported for the first time, in a process of its own."""
    lines = (
        "import torch",
        "from test_int8 import Int8Reader, adapted, texts",
        "Int8Reader(adapted('bert'), 'fp32')(*texts(2, 3))",
        "from openvino.tools.ovc import telemetry_utils",
        "print(telemetry_utils.tm.__name__)",
    )
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd="tests", capture_output=True, text=True
    )
    assert run.stdout.strip() == "openvino.tools.ovc.telemetry_stub", run.stderr


# In `predict`


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return write(tmp_path / "new.csv", "id,text\nn1,a lovely film\nn2,a dull song n3\n")


def probabilities(path: Path) -> np.ndarray:
    with path.open() as f:
        return np.array([float(row["1"]) for row in csv.DictReader(f)])


def test_predict_says_what_int8_costs_and_predicts_by_it(finished, new, tmp_path, capsys):
    outs = [tmp_path / "plain.csv", tmp_path / "int8.csv", tmp_path / "again.csv"]
    before = files(finished)
    arguments = ["predict", "--model", "tiny", "--file", str(new), "--out"]
    assert foldstack(finished, *arguments, str(outs[0])) == 0
    assert "int8 has" not in capsys.readouterr().out
    assert foldstack(finished, *arguments, str(outs[1]), "--int8") == 0
    said = capsys.readouterr().out
    line = re.compile(
        r"^tiny seed 0 fold0: int8 has roc_auc ([01]\.\d{4}) on 20 held-out rows, (?:fp32|bf16) "
        r"([01]\.\d{4}); the largest difference of a prediction is 0\.0\d{3}; \d+\.\d\d times as fast",
        re.M,
    )
    score, stored = map(float, line.search(said).groups())
    plain, rough = probabilities(outs[0]), probabilities(outs[1])
    assert 0 < np.abs(plain - rough).max() < 0.05

    # What it said is so.
    ws = Workspace.open(finished, [])
    key, task = RunKey("tiny", 0, (0,)), ws.competition.task
    folds = ws.store.read_folds(ws.competition.train)
    held = ws.competition.train.take(folds.held_out((0,)))
    learner = load_learner(ws, key, 1).in_int8()
    values = to_probabilities(learner.predict(held), learner.link)
    kept = ws.store.read_predictions(key, "heldout", held)
    exact = to_probabilities(kept.raw, kept.link)
    assert score == round(task.score_probabilities(held.targets, values), 4)
    assert stored == round(ws.store.read_run(key).score, 4)
    facts = json.loads((finished / "oof/tiny/seed0/fold0/int8.json").read_text())
    assert facts["largest_difference"] == np.abs(values - exact).max() > 0

    # It is measured once, and the stored predictions stay as they are.
    places = [finished / f"oof/tiny/seed0/fold{i}/int8.json" for i in range(3)]
    written = [p.read_bytes() for p in places]
    assert foldstack(finished, *arguments, str(outs[2]), "--int8") == 0
    assert [p.read_bytes() for p in places] == written
    assert outs[1].read_bytes() == outs[2].read_bytes()
    now = files(finished)
    assert {k: now[k] for k in before} == before

    # On another machine it is measured again.
    write(places[0], json.dumps(facts | {"machine": {"processor": "another"}, "rows": 1}))
    assert foldstack(finished, *arguments, str(outs[2]), "--int8") == 0
    assert json.loads(places[0].read_text())["rows"] == 20


class Contrary:
    """A learner whose int8 says the opposite, so that its score cannot be taken for the exact one."""

    def __init__(self, exact: Learner, sign: int = 1):
        self.exact, self.sign, self.link = exact, sign, exact.link
        self.settings = exact.settings

    def predict(self, rows: Rows) -> np.ndarray:
        return self.sign * self.exact.predict(rows)

    def in_int8(self) -> Contrary:
        return Contrary(self.exact, -1)


def test_the_score_of_int8_is_that_of_what_int8_predicts(finished, tmp_path, capsys):
    """Rounding hardly ever changes an order, so a real model's two scores do not tell them apart."""
    root = shutil.copytree(finished, tmp_path / "w")
    (root / "oof/tiny/seed0/fold0/int8.json").unlink(missing_ok=True)
    ws, key = Workspace.open(root, []), RunKey("tiny", 0, (0,))
    rough = in_int8(ws, key, Contrary(load_learner(ws, key, 1)))
    facts = json.loads((root / "oof/tiny/seed0/fold0/int8.json").read_text())
    assert facts["stored"] == ws.store.read_run(key).score > 0.6
    assert facts["int8"] == pytest.approx(1 - facts["stored"])
    held = ws.competition.train.take(
        ws.store.read_folds(ws.competition.train).held_out(key.left_out)
    )
    p = expit(rough.predict(held).astype(float))
    assert facts["largest_difference"] == pytest.approx(np.abs(1 - 2 * p).max(), abs=1e-6)
    assert f"int8 has roc_auc {facts['int8']:.4f} on 20" in capsys.readouterr().out


def test_a_blend_has_its_transformers_in_int8_and_the_rest_as_it_is(finished, capsys):
    ws, text = Workspace.open(finished, []), ["a lovely film"]
    keys = {m: [RunKey(m, 0, (f,)) for f in range(3)] for m in ("tiny", "tfidf")}
    equal = {"weights": {"tiny": 0.5, "tfidf": 0.5}}
    mean = load_fitted("mean", equal, ["tiny", "tfidf"], "binary", 1, finished)
    rough, plain = (
        Predictor(ws, keys, "mean", mean, None, int8=int8).predict(text).probabilities
        for int8 in (True, False)
    )
    said = capsys.readouterr().out
    assert said.count("int8 has") == 3 and "tfidf" not in said
    assert 0 < np.abs(rough - plain).to_numpy().max() < 0.05


def test_a_loaded_model_or_blend_predicts_in_int8(finished, capsys):
    text = ["a lovely film"]
    rough = package.load(finished, model="tiny", int8=True).predict(text).probabilities
    plain = package.load(finished, model="tiny").predict(text).probabilities
    assert 0 < np.abs(rough - plain).to_numpy().max() < 0.05
    capsys.readouterr()
    package.load(finished, int8=True).predict(text)
    assert capsys.readouterr().out.count("int8 has") == 3


def test_int8_of_a_model_that_has_none_is_refused(finished, capsys):
    refuses(
        finished,
        ["predict", "--model", "tfidf", "--text", "a film", "--int8"],
        "INT8=1 changes nothing: only a transformer is predicted in int8",
        capsys,
    )


def test_where_it_is_no_gain_it_says_so():
    found = {"metric": "f1", "rows": 12, "precision": "bf16", "stored": 0.5, "int8": 0.25}
    found |= {"largest_difference": 0.125, "times_as_fast": 0.9, "machine": {}}
    assert describe(Int8Record(**found)) == (
        "int8 has f1 0.2500 on 12 held-out rows, bf16 0.5000; the largest difference of a prediction "
        "is 0.1250; 0.90 times as fast: no gain, leave int8 out here"
    )
    assert describe(Int8Record(**found | {"times_as_fast": 1.5})).endswith("1.50 times as fast")


def test_where_there_is_no_int8(monkeypatch):
    with pytest.raises(InputError) as e:
        Int8Reader(torch.nn.Linear(2, 2, device="meta"), "fp32")
    assert str(e.value) == ("int8 is for CPUs, and this machine predicts on meta: leave it out")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError) as e:
        Int8Reader(torch.nn.Linear(2, 2), "fp32")
    assert str(e.value) == (
        "int8 requires the package openvino, which is not installed: pip install 'foldstack[int8]'"
    )
