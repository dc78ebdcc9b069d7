"""The local page: what it says of a text and of a file, and that it serves this machine alone."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from browser import CHROMIUM, Browser
from foldstack.errors import InputError
from foldstack.links import to_logits
from foldstack.records import ExplainedText
from foldstack.rows import text_digests
from foldstack.stages.app import App, prepare
from foldstack.text.similar import SimilarTexts
from foldstack.views.app.html import file_shown, head, text_shown
from foldstack.workspace import Workspace
from tiny import (
    foldstack,
    go_through,
    make_kind,
    make_workspace,
    refuses,
    turn_labels,
    write,
    write_competition,
)

HOSTILE = "a good <script>alert(1)</script> ${1+1} {{value}}"


def app_of(root: Path, *sets: str, **options: str) -> App:
    return prepare(Workspace.open(root, list(sets)), **options)


def explained(app: App, **values: str) -> ExplainedText:
    row = app.explainer.row(values)
    return app.explainer.attributed(app.explainer.explain(row), row)


@pytest.fixture(scope="module")
def app(finished: Path) -> App:
    return app_of(finished)


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "w"))


# A text


def test_a_text_is_predicted_as_by_predict(app: App) -> None:
    found = explained(app, text="a good film")
    prediction = app.explainer.predictor.predict(["a good film"])
    assert found.label == prediction.labels[0] == "1"
    (blend,) = found.says  # a blend of one model says what the model says
    assert blend.name == "blend"
    assert blend.values == prediction.probabilities.iloc[0].to_dict()
    assert found.by is None and found.hits == []


def test_words_have_the_effect_of_leaving_them_out(app: App) -> None:
    (words,) = explained(app, text="a good film").attributions
    p = app.explainer.predictor.predict(["a good film", "a film"]).probabilities["1"]
    whole, without = to_logits(p.to_numpy())
    assert (words.model, words.toward) == ("tfidf", "1")
    assert "".join(part.text for part in words.parts) == "a good film"
    effects = {part.text: part.effect for part in words.parts}
    assert effects["good"] == pytest.approx(whole - without, abs=1e-3) and effects["good"] > 0


def test_the_effects_are_toward_what_is_decided(app: App) -> None:
    """A sign that is not turned makes `bad` speak against label 0."""
    (words,) = explained(app, text="a bad film").attributions
    assert words.toward == "0"
    assert {part.text: part.effect for part in words.parts}["bad"] > 0


def test_a_text_of_the_training_file_is_said_to_be_one(app: App) -> None:
    train = app.explainer.predictor.ws.competition.train
    nearest = explained(app, text=train.texts[1][0].upper()).neighbours[0]
    assert (nearest.id, nearest.label, nearest.same) == ("r1", "1", True)
    assert nearest.similarity == pytest.approx(1)
    assert not explained(app, text="a good film").neighbours[0].same
    assert explained(app, text="Ω").neighbours == []


def test_an_empty_text_is_refused(app: App) -> None:
    with pytest.raises(InputError, match="'text' is empty: type a text"):
        app.explainer.row({"text": " \n"})


def test_rules_that_match_are_shown_whether_or_not_they_decide(copied: Path) -> None:
    rules = """rules:
  - {pattern: good, label: "0", confidence: 0.99}
  - {pattern: film, label: "1", confidence: 0.9}
"""
    write(copied / "patterns.yaml", rules)
    found = explained(app_of(copied, "patterns=patterns.yaml"), text="a good film")
    assert (found.label, found.by) == ("0", "rule 1")
    first, second = found.hits
    assert (first.rule, first.matches, first.says, first.decides) == ("rule 1", "/good/", "0", True)
    assert (second.rule, second.says, second.decides) == ("rule 2", "1", False)
    assert [each.name for each in found.says] == ["blend with rules", "tfidf"]
    assert found.says[0].values["0"] == pytest.approx(0.99)
    assert found.says[1].values["1"] > 0.5


@pytest.mark.parametrize(
    ("kind", "metric", "columns", "label", "toward"),
    [
        ("multiclass", "accuracy", ["label"], "good", "good"),
        ("multilabel", "f1_macro", ["p", "q", "r"], "p", "p"),
    ],
)
def test_each_kind_has_a_label_to_explain(
    tmp_path: Path, kind: str, metric: str, columns: list[str], label: str, toward: str
) -> None:
    app = app_of(go_through(make_kind(tmp_path / "w", kind, metric, columns)))
    found = explained(app, text="a lovely great plot")
    assert found.label == label and found.attributions[0].toward == toward
    assert found.neighbours[0].label in ("good", "p", "p|q")
    assert label in text_shown(app.description, found)


def test_a_regression_has_values(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w", kind="regression", metric="rmse")
    app = app_of(go_through(root))
    found = explained(app, text="a good film")
    assert found.label is None and list(found.says[0].values) == ["label"]
    effects = {part.text: part.effect for part in found.attributions[0].parts}
    assert effects["good"] > 0 and found.neighbours[0].label in ("0", "1")
    assert "%" not in text_shown(app.description, found)


def test_the_columns_to_type_in_are_those_that_the_models_read(tmp_path: Path) -> None:
    """Two texts of a pair, and the numbers of a stack."""
    rows = [f"r{i},plot,{'x' * (i + 1)},{5 * (i % 2) + i % 3},{i % 2}" for i in range(48)]
    root = tmp_path / "w"
    write(root / "input/train.csv", "\n".join(["id,a,b,stars,label", *rows, ""]))
    write(root / "input/test.csv", "id,a,b,stars\nt0,good,film,1\nt1,bad,film,0\n")
    write(root / "input/sample_submission.csv", "id,label\nt0,0\nt1,0\n")
    pair = {"text": ["a", "b"], "pair": True, "numeric": ["stars"]}
    write_competition(root, **pair, blend={"methods": ["stack"]})
    app = app_of(go_through(root, "folds", "train", "blend"))
    fields = [(each.name, each.what) for each in app.description.fields]
    assert fields == [("a", "text"), ("b", "text"), ("stars", "number")]
    assert explained(app, a="plot", b="film", stars="6").label == "1"
    assert explained(app, a="plot", b="film", stars="0").label == "0"
    assert explained(app, a="plot", b="", stars="").label in ("0", "1")
    with pytest.raises(InputError, match="'a' and 'b' are empty: type a text"):
        app.explainer.row({"a": "", "b": " ", "stars": "1"})
    with pytest.raises(
        InputError, match="the typed text: row 1: numeric column 'stars' holds 'many'"
    ):
        app.explainer.row({"a": "plot", "b": "film", "stars": "many"})


# A file


def test_a_file_is_predicted_as_by_predict_in_the_samples_form(copied: Path, tmp_path) -> None:
    app, out = app_of(copied), tmp_path / "out.csv"
    found = app.explainer.predict_file(copied / "input/test.csv", out)
    given = ("--file", str(copied / "input/test.csv"), "--form", "submission")
    assert foldstack(copied, "predict", *given, "--out", str(tmp_path / "p.csv")) == 0
    assert out.read_bytes() == (tmp_path / "p.csv").read_bytes()
    assert found.rows == sum(found.labels.values()) == len(found.preview) == 6
    assert [row.id for row in found.preview] == [f"t{i}" for i in range(6)]
    assert all(0.5 <= row.confidence <= 1 for row in found.preview)


def test_the_texts_of_a_file_are_recorded_as_labelled(copied: Path, tmp_path: Path) -> None:
    """Labels that a model of the workspace gave must not come back as external ones unmarked."""
    app, file = app_of(copied), write(tmp_path / "new.csv", "text\nsome film\n")
    known = app.explainer.predictor.ws.store.predictions.texts
    assert not np.isin(text_digests([("some film",)]), known()).any()
    assert app.explainer.predict_file(file, tmp_path / "o.csv").unrecorded is None
    assert np.isin(text_digests([("some film",)]), known()).all()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "a,b\n1,2\n", "a.csv: column 'text' is missing (known: a, b): "),
        ("a.csv", "text\n", "a.csv has a header but no rows"),
        ("a.xlsx", "PK", "a.xlsx"),
        ("a.jsonl", '{"text": ', "a.jsonl, line 1"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_its_own_name(
    app: App, tmp_path: Path, name: str, content: str, sentence: str
) -> None:
    """The upload lies in a temporary folder, whose path says nothing to the user."""
    with pytest.raises(InputError) as refused:
        app.explainer.predict_file(write(tmp_path / "f" / name, content), tmp_path / "o.csv")
    assert str(refused.value).startswith(sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


# What is written


def test_text_stays_text(app: App, tmp_path: Path) -> None:
    html = text_shown(app.description, explained(app, text=HOSTILE))
    assert "<script" not in html and "&lt;<mark" in html
    file = write(tmp_path / "<b>.csv", f'text\n"{HOSTILE}"\n')
    html = file_shown(app.explainer.predict_file(file, tmp_path / "o.csv"), file.name)
    assert "<script" not in html and "<b>.csv" not in html


def test_every_reason_to_doubt_stands_on_the_page(copied: Path) -> None:
    turn_labels(copied, {"r1"})
    html = head(app_of(copied).description)
    assert "<b>STALE</b> " in html and "nested score" in html


def test_a_model_alone_has_its_reasons_too(copied: Path) -> None:
    app = app_of(copied, model="tfidf")
    assert app.description.source == "model 'tfidf'" and app.description.nested is None
    assert explained(app, text="a good film").says[0].name == "tfidf"


# The command


def test_without_gradio_a_sentence_names_the_extra(workspace: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    sentence = (
        "app requires the package gradio, which is not installed: pip install 'foldstack[app]'"
    )
    refuses(workspace, ["app"], sentence, capsys)


@pytest.mark.parametrize("port", ["80", "65536", "-1", "x"])
def test_a_port_is_a_number_that_anyone_may_use(port: str, workspace: Path, capsys) -> None:
    sentence = f"--port (PORT=): '{port}' is not a port from 1024 to 65535"
    refuses(workspace, ["app", f"--port={port}"], sentence, capsys)


# Similar texts


def test_similarity_is_the_cosine_of_tfidf() -> None:
    texts = ["good film", "good good plot", "很好的电影", "", "good film"]
    similar = SimilarTexts(texts)
    assert [k for k, _ in similar.nearest("good film", 2)] == [0, 4]
    assert dict(similar.nearest("good film", 5))[0] == pytest.approx(1)
    assert [k for k, _ in similar.nearest("电影", 5)] == [2]
    assert similar.nearest("other", 5) == [] and SimilarTexts(["", " "]).nearest("a", 5) == []


def test_scripts_without_spaces_are_compared_by_characters() -> None:
    texts = ["หนังดีมาก", "อากาศร้อน", "หนังแย่มาก"]
    assert SimilarTexts(texts).nearest("หนังดี", 1)[0][0] == 0


# Gradio


@pytest.fixture(scope="module")
def address(finished: Path, tmp_path_factory: pytest.TempPathFactory):
    """The page of a copied workspace on a free port."""
    pytest.importorskip("gradio", reason="the package gradio is not installed")
    from foldstack.views.app import build, launch

    root = Path(shutil.copytree(finished, tmp_path_factory.mktemp("app") / "w"))
    made = app_of(root)
    page = build(made.description, made.explainer, tmp_path_factory.mktemp("uploads"))
    yield launch(page, None)
    page.close(verbose=False)


@pytest.fixture(scope="module")
def client(address: str):
    from gradio_client import Client

    return Client(address, verbose=False)


def test_it_listens_on_this_machine_alone(address: str) -> None:
    import psutil

    port = int(address.rstrip("/").rpartition(":")[2])
    own = psutil.Process().net_connections("inet")
    listening = [c.laddr for c in own if c.status == psutil.CONN_LISTEN and c.laddr.port == port]
    assert [each.ip for each in listening] == ["127.0.0.1"]


def test_it_answers_its_own_page_only(address: str) -> None:
    """Another site may lead its name to 127.0.0.1, or post to it from its own page."""
    import httpx

    assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 400
    assert httpx.get(address, headers={"Origin": "http://evil.example"}).status_code == 403
    found = httpx.get(address)
    assert found.status_code == 200
    assert found.headers["content-security-policy"].startswith("default-src 'self' ")


def test_the_page_predicts_a_text(client) -> None:
    html = client.predict("a good film", api_name="/predict_text")
    assert "<bdi>1</bdi>" in html and ">good</mark>" in html
    html = client.predict("  ", api_name="/predict_text")
    assert (
        html.strip() == '<p class="fs-error" role="alert">&#39;text&#39; is empty: type a text</p>'
    )


def test_the_page_predicts_a_file(client, tmp_path: Path) -> None:
    from gradio_client import handle_file

    file = write(tmp_path / "new.csv", "id,text\nx1,a good film\nx2,a bad film\n")
    html, download = client.predict(handle_file(file), api_name="/predict_file")
    assert "<b>new.csv</b>: 2 rows predicted" in html
    assert Path(download["value"]).name == "new-submission.csv"
    lines = Path(download["value"]).read_text()
    assert [line.split(",")[0] for line in lines.splitlines()] == ["id", "x1", "x2"]
    bad = write(tmp_path / "bad.csv", "a\n1\n")
    html, _ = client.predict(handle_file(bad), api_name="/predict_file")
    assert "bad.csv: column &#39;text&#39; is missing" in html
    html, _ = client.predict(None, api_name="/predict_file")
    assert "there is no file yet: choose one" in html


def test_a_port_in_use_is_refused(address: str, finished: Path, tmp_path: Path, app: App) -> None:
    from foldstack.views.app import build, launch

    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(InputError, match=f"^PORT={port} is in use on 127.0.0.1: give another"):
        launch(build(app.description, app.explainer, tmp_path), port)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_in_a_browser_text_stays_text_and_nothing_else_is_asked(address: str) -> None:
    until = (
        "new Promise(done => {{ const look = () => {0} ? done(1) : setTimeout(look, 50); look() }})"
    )
    type_in = (
        "(() => { const box = document.querySelector('textarea');"
        f"box.value = {HOSTILE!r}; box.dispatchEvent(new Event('input', {{bubbles: true}})) }})()"
    )
    click = "[...document.querySelectorAll('button')].find(b => b.innerText == 'Predict').click()"
    with Browser() as browser:
        browser.call("Page.navigate", url=address)
        browser.run(until.format("document.querySelector('textarea')"))
        browser.run(type_in)
        browser.run(until.format("1"))
        browser.run(click)
        browser.run(until.format("document.querySelector('.fs-words')"))
        assert browser.run("document.querySelector('.fs-words').innerText") == HOSTILE
        assert browser.errors == []
        here = {url.split("/")[2] for url in browser.requests if url.startswith("http")}
        assert here == {address.split("/")[2]}
    assert np.all([url.startswith(("http", "data", "blob")) for url in browser.requests])
