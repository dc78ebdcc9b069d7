"""Exported networks: equal to the trained ones, loadable by other tools, with an honest card."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModel, pipeline

from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.kinds import Kind
from foldstack.learners.hub_form import HubForm
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.classifier import Classifier
from foldstack.nets.standard import FAMILIES, LogitsLayer, standard_model
from foldstack.rows import Rows
from foldstack.techniques import Head
from makers import make_learner, make_rows, tiny_rows
from test_biencoder import made as bi_encoder
from tiny import add_preset, files, foldstack, go_through, make_workspace, refuses

SIZES = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "vocab_size": 64,
}
OWN = {
    "distilbert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "vocab_size": 64},
    "electra": SIZES | {"embedding_size": 8},
    "deberta-v2": SIZES | {"relative_attention": True, "position_biased_input": False},
}
pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


def network(kind: str, head: str, labels: int = 5) -> Classifier:
    """A random network, whose norms have weights and biases like those of a trained one."""
    torch.manual_seed(0)
    backbone = AutoModel.from_config(AutoConfig.for_model(kind, **OWN.get(kind, SIZES)))
    if hasattr(backbone, "pooler"):
        backbone.pooler = None
    model = Classifier(backbone, labels, 0.0, head=Head.parse({"name": head})).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.head.weight.data.normal_(0, 1)
    return model


def standard(model: Classifier):
    return standard_model(model, LogitsLayer(model.head.weight.data, model.head.bias.data))


# A standard architecture with our head


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        (kind, head)
        for kind, family in FAMILIES.items()
        for head in ("cls", "mean")
        if len(family.poolings) == 2 or head == "cls"
    ],
)
@torch.no_grad()
def test_a_standard_architecture_has_the_same_logits(kind, head):
    """Texts of unequal length in one batch: padding takes no part in the mean."""
    model = network(kind, head)
    ids, mask = torch.randint(4, 60, (4, 12)), torch.ones(4, 12, dtype=torch.long)
    for row, length in enumerate((3, 6, 9)):
        mask[row, length:] = 0
        ids[row, length:] = model.backbone.config.pad_token_id or 0
    ours, theirs = model(ids, mask), standard(model)(input_ids=ids, attention_mask=mask).logits
    assert ours.abs().max() > 3
    np.testing.assert_allclose(theirs, ours, atol=5e-6)


def test_the_layers_of_the_backbone_compute_the_same_bits():
    """All inputs of a layer norm are multiplied by the root of what its epsilon is multiplied by."""
    model = network("bert", "mean")
    ids = torch.randint(4, 60, (2, 9))
    with torch.no_grad():
        ours = model.backbone(input_ids=ids, output_hidden_states=True).hidden_states
        theirs = standard(model)(input_ids=ids, output_hidden_states=True).hidden_states
    times = 2.0**20  # epsilon is 1e-12
    assert len(theirs) == len(ours) + 1
    for place in range(len(ours) - 1):
        assert torch.equal(theirs[place], times * ours[place])


def test_other_heads_and_backbones_are_refused_with_what_can_be_exported():
    with pytest.raises(
        InputError,
        match=r"^a max head on a backbone of type bert has no standard form: heads cls and mean have "
        r"one on bert, roberta, xlm-roberta, camembert, electra, and cls on mpnet, deberta-v2, "
        r"distilbert; FORM=openvino holds any head$",
    ):
        standard(network("bert", "max"))
    with pytest.raises(InputError, match="a mean head on a backbone of type mpnet has no standard"):
        standard(network("mpnet", "mean"))
    with pytest.raises(
        InputError, match="has a standard form for up to 8 labels, not 9: FORM=openv"
    ):
        standard(network("bert", "mean", labels=9))


# A learner's folder


LABELS = {
    "binary": ("bad", "good"),
    "multiclass": ("y0", "y1", "y2"),
    "multilabel": ("y0", "y1", "y2"),
    "regression": ("y0", "y1"),
}


def prepared(backbone: Path, kind: str = "binary", rows: Rows | None = None, **settings):
    """A learner that has seen the rows but has learned nothing, with a large random head."""
    learner = make_learner(backbone, kind, **settings)
    learner.prepare(tiny_rows(kind) if rows is None else rows)
    torch.manual_seed(1)
    learner.model.head.weight.data.normal_(0, 1)
    learner.model.head.bias.data.normal_(0, 1)
    return learner


def written(learner: TransformerLearner, folder: Path, form: str, kind: str = "binary") -> HubForm:
    folder.mkdir()
    hub = HubForm.of(learner, Kind(kind), LABELS[kind])
    hub.write(folder, form)
    return hub


OF_KINDS = [("transformers", kind) for kind in LABELS] + [
    pytest.param("openvino", kind, marks=[] if kind == "multilabel" else pytest.mark.slow)
    for kind in LABELS
]


@pytest.mark.parametrize(("form", "kind"), OF_KINDS)
def test_predictions_are_the_learners(backbone, tmp_path, kind, form):
    if form == "openvino":
        pytest.importorskip("openvino")
    rows = tiny_rows(kind)
    hub = written(prepared(backbone, kind), tmp_path / "out", form, kind)
    expected = hub.expected(rows)
    assert expected.shape == (32, len(LABELS[kind]))
    found = hub.found(rows, tmp_path / "out", form)
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.ptp(expected)))
    config = read_json(tmp_path / "out/config.json")
    assert tuple(config["id2label"].values()) == LABELS[kind]
    assert config["problem_type"] == hub.problem


def test_a_batch_of_the_pipeline_is_padded(backbone, tmp_path):
    rows = tiny_rows()
    hub = written(prepared(backbone), tmp_path / "out", "transformers")
    model = pipeline("text-classification", model=str(tmp_path / "out"), device="cpu")
    texts = [text for (text,) in rows.texts]
    scores = [each["score"] for each in model(texts, batch_size=8, truncation=True)]
    np.testing.assert_allclose(scores, hub.expected(rows).max(axis=1), atol=1e-5)


@pytest.mark.parametrize("settings", [{"binary_link": "softmax"}, {"prefix": "a joke "}])
def test_settings_of_the_head_and_of_the_text(backbone, tmp_path, settings):
    hub = written(prepared(backbone, **settings), tmp_path / "out", "transformers")
    rows = make_rows(["a good film", "bad [SEP] plot", "a " * 50])
    found = hub.found(rows, tmp_path / "out", "transformers")
    np.testing.assert_allclose(found, hub.expected(rows), atol=1e-5)


def test_sentence_pairs(backbone, tmp_path):
    rows = make_rows([("a good film", "a fine plot"), ("bad", "good"), ("a " * 9, "song " * 20)])
    hub = written(prepared(backbone, rows=rows), tmp_path / "out", "transformers")
    found = hub.found(rows, tmp_path / "out", "transformers")
    np.testing.assert_allclose(found, hub.expected(rows), atol=1e-5)


HEADS = ["attention"]
LIKE_THEM = [
    "labels",
    "lstm",
    "last",
    "max",
    "mean_max",
    "layers",
    "concat",
    "gem",
    "cls_attention",
    "cnn",
    "gru",
]
SLOW = [pytest.param(head, marks=pytest.mark.slow) for head in LIKE_THEM]


@pytest.mark.parametrize("head", [*HEADS, *SLOW])
def test_openvino_holds_any_head(backbone, tmp_path, head):
    pytest.importorskip("openvino")
    layers = {"layers": 2} if head in ("layers", "concat") else {}
    settings = {"head": {"name": head, **layers}}
    hub = written(
        prepared(backbone, "multilabel", **settings), tmp_path / "out", "openvino", "multilabel"
    )
    rows = tiny_rows("multilabel")
    found = hub.found(rows, tmp_path / "out", "openvino")
    np.testing.assert_allclose(found, hub.expected(rows), atol=1e-5)


@pytest.mark.parametrize("pair_loss", ["cosent", "softmax"])
def test_a_bi_encoder_is_no_pipeline(backbone, pair_loss):
    """Bug guarded: an AttributeError, since a cosine has no last layer."""
    learner = bi_encoder(backbone, pair_loss=pair_loss)
    with pytest.raises(InputError) as refused:
        HubForm.of(learner, Kind.BINARY, ("0", "1"))
    assert str(refused.value) == (
        "this model compares vectors of texts that it reads apart, which a pipeline does not: its runs "
        "are predicted by `make predict`"
    )


def test_bounded_values_have_no_standard_form(backbone, tmp_path):
    settings = {"training": {"loss": {"name": "scaled_bce"}}}
    learner = prepared(backbone, "regression", **settings)
    with pytest.raises(InputError, match="are bounded by a sigmoid, which a standard"):
        written(learner, tmp_path / "out", "transformers", "regression")
    pytest.importorskip("openvino")
    hub = written(learner, tmp_path / "graph", "openvino", "regression")
    rows = tiny_rows("regression")
    found = hub.found(rows, tmp_path / "graph", "openvino")
    np.testing.assert_allclose(found, hub.expected(rows), rtol=1e-5, atol=1e-5)


# The command


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    """A tiny transformer with a run on all rows and one that leaves fold 0 out."""
    root = make_workspace(
        tmp_path_factory.mktemp("export") / "w",
        n=30,
        models=["tiny"],
        metric="f1",
        runtime={"threads": 1},
    )
    training = {"lr": 0.01, "precision": "fp32"}
    add_preset(root, backbone, training=training)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        go_through(root, "folds")
        assert foldstack(root, "train", "--model=tiny", "--fold=full") == 0
        add_preset(root, backbone, training=training | {"select": "fold"})
        assert foldstack(root, "train", "--model=tiny", "--fold=0", "--force") == 0
    return root


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "w"))


def test_the_command_writes_a_folder_with_a_card(workspace, capsys):
    assert foldstack(workspace, "export", "--model", "tiny") == 0
    folder = workspace / "exports/tiny-seed0-full-transformers"
    record = read_json(folder / "export.json")
    assert record["largest_difference"] < 1e-5
    assert record["checked_rows"] == 30
    card = (folder / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---")[1])
    result = head["model-index"][0]["results"][0]["metrics"][0]
    assert result == {
        "type": "f1",
        "value": round(record["estimate"]["score"], 6),
        "name": "f1, nested (OPTIMISTIC)",
    }
    low, high = (record["estimate"][name] for name in ("low", "high"))
    assert f"**f1 {record['estimate']['score']:.4f} [{low:.4f}, {high:.4f}]**" in card
    assert record["optimistic"]
    for reason in record["optimistic"]:
        assert f"- OPTIMISTIC: {reason}\n" in card
    assert "`make train MODEL=tiny FOLD=full SEED=0`: 30 rows" in card
    assert "- The estimate is of the fold runs; these weights come from a run on all rows" in card
    assert str(workspace.parent.parent) not in card
    rule = read_json(folder / "thresholds.json")
    assert rule["labels"] == ["0", "1"]
    assert rule["rule"]["thresholds"]
    out = capsys.readouterr().out
    assert "export: exports/tiny-seed0-full-transformers, seed0/full as transformers; on 30 " in out


def test_no_private_score_is_read(workspace):
    shutil.rmtree(workspace / "input/private")
    assert foldstack(workspace, "export", "--model", "tiny") == 0
    card = (workspace / "exports/tiny-seed0-full-transformers/README.md").read_text()
    assert "- No score on hidden test labels is stated\n" in card


def test_the_same_command_gives_the_same_bytes(workspace):
    assert foldstack(workspace, "export", "--model", "tiny", "--fold", "0") == 0
    first = files(workspace / "exports")
    assert foldstack(workspace, "export", "--model", "tiny", "--fold", "0") == 0
    assert files(workspace / "exports") == first


def test_several_runs_go_below_out(workspace, tmp_path):
    assert (
        foldstack(workspace, "export", "--model=tiny", "--fold=0,full", f"--out={tmp_path}/o") == 0
    )
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["seed0-fold0", "seed0-full"]


def test_a_folder_of_the_user_stays(workspace, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/note.txt").write_text("keep")
    sentence = (
        f"{tmp_path}/mine is there already and `export` did not write it so: move it away, or name a "
        "new folder with OUT="
    )
    refuses(workspace, ["export", "--model", "tiny", "--out", f"{tmp_path}/mine"], sentence, capsys)
    assert foldstack(workspace, "export", "--model", "tiny", "--out", f"{tmp_path}/new") == 0
    (tmp_path / "new/README.md").write_text("mine")
    capsys.readouterr()
    sentence = sentence.replace("/mine is", "/new is")
    refuses(workspace, ["export", "--model", "tiny", "--out", f"{tmp_path}/new"], sentence, capsys)


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(workspace, capsys):
    refuses(
        workspace,
        ["export"],
        "export takes the model: add MODEL=, as `make export MODEL=minilm`",
        capsys,
    )
    refuses(
        workspace,
        ["export", "--model", "tiny", "--fold", "1"],
        "there is no run tiny seed 0 fold1: run `make train MODEL=tiny FOLD=1`, or add FOLD= with one "
        "of its runs, 0, full",
        capsys,
    )
    refuses(
        workspace,
        ["export", "--model", "tiny", "--form", "onnx"],
        "FORM=onnx is not known: give FORM=transformers or FORM=openvino",
        capsys,
    )
    assert foldstack(workspace, "train", "--model", "tfidf", "--fold", "full") == 0
    capsys.readouterr()
    refuses(
        workspace,
        ["export", "--model", "tfidf"],
        "export takes a transformer, and 'tfidf' is a tfidf: `make predict MODEL=tfidf` predicts new "
        "texts with it",
        capsys,
    )
    assert not (workspace / "exports").exists()


def test_a_network_that_differs_is_not_written(workspace, capsys, monkeypatch):
    """Whatever makes the folder predict otherwise, nobody gets it."""
    monkeypatch.setattr("foldstack.nets.standard.SMALL", 0.5)  # tanh is not the identity there
    assert foldstack(workspace, "export", "--model", "tiny") == 2
    assert "the exported network differs from the trained one by up to" in capsys.readouterr().err
    assert not list((workspace / "exports").iterdir())


@pytest.mark.slow
def test_a_run_of_several_fits_is_averaged_in_one_graph(workspace, backbone, capsys):
    pytest.importorskip("openvino")
    add_preset(workspace, backbone, "twice", repeats=2)
    assert foldstack(workspace, "train", "--model", "twice", "--fold", "full") == 0
    assert foldstack(workspace, "export", "--model", "twice", "--form", "openvino") == 0
    record = read_json(workspace / "exports/twice-seed0-full-openvino/export.json")
    assert record["largest_difference"] < 1e-5
    assert record["estimate"] is None
    capsys.readouterr()
    refuses(
        workspace,
        ["export", "--model", "twice"],
        "this run averages 2 fits (`repeats`), and a standard architecture is one: FORM=openvino holds "
        "it",
        capsys,
    )
