"""`predict --attention`: the weight of each token of a text, by one run of one model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from foldstack.records import AttendedText, AttendedToken, PredictedText
from foldstack.stages.attended import HEADS, attention_of
from foldstack.stages.fitted import load_learner
from foldstack.stages.predict import predict
from foldstack.stages.predictor import Predictor
from foldstack.store import RunKey
from foldstack.techniques import Head
from foldstack.views.console import show
from foldstack.workspace import Workspace
from makers import make_rows
from test_networks import network
from tiny import (
    add_preset,
    foldstack,
    make_kind,
    make_workspace,
    refuses,
    train_folds,
    write,
    write_competition,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

NETWORK = """learner: network
size: 8
words: {{min_count: 1}}
head: {head}
training: {{epochs: 1, batch_size: 8, lr: 0.01, max_length: {length}, precision: fp32}}
"""


def add_network(root: Path, name: str, head: str, more: str = "", length: int = 16) -> None:
    write(root / f"presets/{name}.yaml", NETWORK.format(head=head, length=length) + more)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("attention") / "w", models=["tfidf", "docs"])
    add_network(root, "docs", "{name: han, width: 4}")
    add_network(root, "plain", "mean")
    add_network(root, "cut", "attention", "long: windows\n", length=4)
    add_network(root, "twice", "{name: gru, width: 4, read: attention}", "repeats: 2\n")
    add_network(root, "both", "labels", "binary_link: softmax\n")
    assert foldstack(root, "folds") == 0
    for name in ("tfidf", "docs", "plain", "cut", "twice", "both"):
        train_folds(root, "--model", name)
    assert foldstack(root, "blend", "--model", "tfidf,docs") == 0
    return root


def attended(root: Path, text: str, **options: str) -> AttendedText:
    found = predict(Workspace.open(root, []), text=text, attention=True, **options)
    assert isinstance(found, PredictedText) and found.attention is not None
    return found.attention


def printed(root: Path, capsys: pytest.CaptureFixture, *args: str) -> list[str]:
    capsys.readouterr()
    assert foldstack(root, "predict", "--attention", *args) == 0
    lines = capsys.readouterr().out.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith("attention of")) :]


def token(word: str, weight: float, sentence: int | None = None) -> AttendedToken:
    return AttendedToken(token=word, weight=weight, sentence=sentence)


def test_what_is_printed_of_sentences(capsys):
    windows = [[token("good", 0.5, 1), token(".", 0.1, 1), token("[END]", 0.4, 2)]]
    show(AttendedText(run="han seed 0 fold0", runs=6, fits=1, label=None, windows=windows))
    assert capsys.readouterr().out.splitlines() == [
        "attention of han seed 0 fold0, the first of 6 runs",
        "0.6000  sentence 1",
        "    0.5000  good",
        "    0.1000  .",
        "0.4000  sentence 2",
        "    0.4000  [END]",
    ]


def test_what_is_printed_of_windows_and_a_label(capsys):
    windows = [[token("good", 0.75), token("[END]", 0.25)], [token("[END]", 1.0)]]
    show(AttendedText(run="a seed 0 full", runs=1, fits=3, label="toxic", windows=windows))
    assert capsys.readouterr().out.splitlines() == [
        "attention of a seed 0 full, in the first of its 3 fits, for toxic",
        "window 1 of 2",
        "0.7500  good",
        "0.2500  [END]",
        "window 2 of 2",
        "1.0000  [END]",
    ]


def test_the_weights_are_those_of_the_first_run(root, capsys):
    text = "a good film. dull plot"
    learner = load_learner(Workspace.open(root, []), RunKey("docs", 0, (0,)), threads=1)
    given = learner.encoder.tokens(make_rows([text])).batch([0])
    with torch.no_grad():
        weights = learner.model.attention(**given)[0].tolist()
    words = ["a", "good", "film", ".", "dull", "plot", "[END]"]
    assert learner.encoder.tokenizer.convert_ids_to_tokens(given["input_ids"][0].tolist()) == words
    assert printed(root, capsys, "--model", "docs", "--text", text) == [
        "attention of docs seed 0 fold0, the first of 3 runs",
        f"{sum(weights[:4]):.4f}  sentence 1",
        *(f"    {w:.4f}  {word}" for w, word in zip(weights[:4], words[:4], strict=True)),
        f"{sum(weights[4:]):.4f}  sentence 2",
        *(f"    {w:.4f}  {word}" for w, word in zip(weights[4:], words[4:], strict=True)),
    ]
    assert sum(weights) == pytest.approx(1)


def test_a_blend_shows_its_first_model_that_has_attention(root):
    found = attended(root, "a good film")
    assert (found.run, found.runs, found.label) == ("docs seed 0 fold0", 3, None)
    assert [t.token for t in found.windows[0]] == ["a", "good", "film", "[END]"]


def test_each_window_of_a_long_text_has_weights(root):
    found = attended(root, "a good film of a dull plot", model="cut")
    assert len(found.windows) > 1
    for window in found.windows:
        assert sum(t.weight for t in window) == pytest.approx(1)
        assert all(t.sentence is None for t in window)


def test_of_several_fits_the_first_is_shown(root):
    found = attended(root, "a good film", model="twice")
    assert (found.run, found.fits) == ("twice seed 0 fold0", 2)


def test_the_label_is_the_more_probable_one_of_two(root):
    """`binary_link: softmax` gives each class weights of its own."""
    ws = Workspace.open(root, [])
    learner = load_learner(ws, RunKey("both", 0, (0,)), threads=1)
    for text in ("good lovely great", "bad awful dull"):
        row = make_rows([text])
        which = int(learner.predict(row)[0, 0] > 0)
        found = attended(root, text, model="both")
        assert found.label == ws.competition.labels[which]
        weights = learner.attention(row)[0].weights
        assert weights.shape == (2, 4)
        assert [t.weight for t in found.windows[0]] == weights[which].tolist()


def test_the_label_is_the_most_probable_one_of_many(tmp_path):
    root = make_kind(tmp_path / "w", "multilabel", "macro_f1", ["p", "q", "r"])
    add_network(root, "each", "{name: labels, width: 4}")
    write_competition(root, kind="multilabel", metric="macro_f1", target=["p", "q", "r"])
    assert foldstack(root, "folds") == 0
    train_folds(root, "--model", "each")
    predictor = Predictor.of_model(Workspace.open(root, []), "each")
    learner = predictor.learner(predictor.members["each"][0])
    row = make_rows(["a good film"], [[0, 0, 0]])
    best = int(learner.predict(row)[0].argmax())
    found = attention_of(predictor, row)
    assert found.label == ["p", "q", "r"][best]
    assert [t.weight for t in found.windows[0]] == learner.attention(row)[0].weights[best].tolist()


def test_a_transformers_tokens_are_shown(backbone, tmp_path, capsys):
    root = make_workspace(tmp_path / "w", models=["tiny"])
    add_preset(root, backbone, head="cls_attention", training={"epochs": 1})
    assert foldstack(root, "folds") == 0
    train_folds(root)
    first, *lines = printed(root, capsys, "--model", "tiny", "--text", "good film")
    assert first == "attention of tiny seed 0 fold0, the first of 3 runs"
    assert [line.split()[1] for line in lines] == ["[CLS]", "good", "film", "[SEP]"]
    assert sum(float(line.split()[0]) for line in lines) == pytest.approx(1, abs=1e-3)


def test_models_without_attention_are_refused(root, capsys):
    for name in ("plain", "tfidf"):
        refuses(
            root,
            ["predict", "--model", name, "--text", "fine", "--attention"],
            f"ATTENTION=1: no attention weights are learned by {name}: name a MODEL whose head is "
            f"{HEADS}",
            capsys,
        )


def test_attention_is_of_one_text_in_full_precision(root, tmp_path, capsys):
    new = write(tmp_path / "new.csv", "id,text\nn1,fine\n")
    refuses(
        root,
        ["predict", "--file", str(new), "--attention"],
        'ATTENTION=1 is for one text: give TEXT="…" instead of FILE=',
        capsys,
    )
    refuses(
        root,
        ["predict", "--text", "fine", "--attention", "--int8"],
        "ATTENTION=1 reads weights that int8 does not give: leave INT8=1 out",
        capsys,
    )


def test_the_message_names_every_head_that_learns_attention():
    """A head that is added must be named in the refusal, and only such heads may."""
    named = HEADS.replace(",", " ").replace("`", " ").split()
    for name in Head.registered:
        head = TypeAdapter(Head).validate_python({"name": name})
        reads = {"read": "attention"} if "read" in type(head).model_fields else {}
        if name in (
            "cls",
            "cls_attention",
            "concat",
            "layers",
            "cnn",
        ):  # read [CLS], layers, a text
            assert (name in named) == (name == "cls_attention")
            continue
        made = network(head={"name": name, **reads}, size=8)
        made.prepare(make_rows(["a b", "a b"], [0, 1]))
        found = made.attention(make_rows(["a b"]))
        assert (name in named) == (found is not None), name
