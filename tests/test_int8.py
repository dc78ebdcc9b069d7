"""Prediction in int8: what is computed, what it costs, where it is refused."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import foldstack as package
from foldstack.ensemble import load_fitted
from foldstack.errors import InputError
from foldstack.links import to_probabilities
from foldstack.nets.int8 import Int8Linear, to_int8
from foldstack.stages.fitted import load_learner
from foldstack.stages.int8 import describe
from foldstack.stages.predictor import Predictor
from foldstack.store import RunKey
from foldstack.workspace import Workspace
from tiny import add_preset, files, foldstack, go_through, make_workspace, refuses, write

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


# The layer


@torch.no_grad()
def test_the_layer_rounds_weights_by_output_and_inputs_by_token():
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(24, 5), torch.randn(2, 3, 24)
    x[0, 1] *= 1000  # one large token takes nothing from the others
    layer = Int8Linear(linear)

    scale = linear.weight.abs().amax(1, keepdim=True) / 127
    weight = (linear.weight / scale).round() * scale
    step = x.abs().amax(-1, keepdim=True) / layer.inputs.levels
    by_hand = (x / step).round() * step @ weight.T + linear.bias

    out = layer(x)
    np.testing.assert_allclose(out, by_hand, rtol=1e-5, atol=1e-5)
    error = (out - linear(x)).norm(dim=-1) / linear(x).norm(dim=-1)
    assert 0 < error.max() < 0.1
    assert torch.equal(layer(x[1, 2:]), out[1, 2:])


@torch.no_grad()
def test_the_largest_products_do_not_overflow():
    """Without VNNI two neighbouring products are added up in 16 bits."""
    linear = torch.nn.Linear(64, 3, bias=False)
    linear.weight.data = torch.ones(3, 64) * torch.tensor([[1.0], [-1.0], [0.5]])
    np.testing.assert_allclose(Int8Linear(linear)(torch.ones(1, 64)), [[64, -64, 32]], rtol=1e-5)


@torch.no_grad()
def test_a_layer_without_bias_and_an_input_of_zeros():
    linear = torch.nn.Linear(8, 4, bias=False)
    assert (Int8Linear(linear)(torch.zeros(2, 8)) == 0).all()
    linear.bias = torch.nn.Parameter(torch.arange(4.0))
    assert Int8Linear(linear)(torch.zeros(1, 8)).tolist() == [[0, 1, 2, 3]]


def test_all_linear_layers_of_the_backbone_and_nothing_else(finished):
    ws = Workspace.open(finished, [])
    exact = load_learner(ws, RunKey("tiny", 0, (0,)))
    rough = exact.in_int8()
    found = [k for k, m in rough.model.named_modules() if isinstance(m, Int8Linear)]
    assert len(found) == 2 * 6 and all(k.startswith("backbone.encoder.layer") for k in found)
    assert type(rough.model.head) is torch.nn.Linear
    assert not any(isinstance(m, Int8Linear) for m in exact.model.modules())
    rows = ws.competition.test
    assert 0 < np.abs(rough.predict(rows) - exact.predict(rows)).max() < 0.05
    assert rough.predict(rows).tobytes() == rough.predict(rows).tobytes()


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
        r"([01]\.\d{4}); the largest difference of a prediction is 0\.00\d\d; \d+\.\d\d times as fast",
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
    learner = load_learner(ws, key).in_int8()
    values = to_probabilities(learner.predict(held), learner.link)
    kept = ws.store.read_predictions(key, "heldout", held)
    exact = to_probabilities(kept.raw, kept.link)
    assert score == round(task.score_probabilities(held.targets, values), 4)
    assert stored == round(ws.store.read_run(key)["score"], 4)
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
    found |= {"largest_difference": 0.125, "times_as_fast": 0.9}
    assert describe(found) == (
        "int8 has f1 0.2500 on 12 held-out rows, bf16 0.5000; the largest difference of a prediction "
        "is 0.1250; 0.90 times as fast: no gain, leave int8 out here"
    )
    assert describe(found | {"times_as_fast": 1.5}).endswith("1.50 times as fast")


def test_a_machine_without_integer_products_is_refused(monkeypatch):
    with pytest.raises(InputError) as e:
        to_int8(torch.nn.Linear(2, 2, device="meta"))
    assert str(e.value) == (
        "int8 is for processors, and this machine predicts on meta: leave it out"
    )
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    with pytest.raises(InputError) as e:
        to_int8(torch.nn.Linear(2, 2))
    assert str(e.value) == ("int8 is for x86 processors and a torch with oneDNN: leave it out here")
