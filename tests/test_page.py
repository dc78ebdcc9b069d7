"""The page of a blend: what it shows, that it is honest about it, and that text stays text."""

from __future__ import annotations

import dataclasses
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foldstack.files import read_json
from foldstack.links import to_probabilities
from foldstack.records import PageRecord, write_record
from foldstack.records.base import read_record
from foldstack.stages.fitted import load_learner
from foldstack.stages.page import describe
from foldstack.store import RunKey
from foldstack.views.page import render
from foldstack.workspace import Workspace
from tiny import (
    add_preset,
    files,
    foldstack,
    go_through,
    make_kind,
    make_workspace,
    refuses,
    turn_labels,
    write,
    write_competition,
)

HOSTILE = "<script>alert(1)</script> </script><b onclick=alert(2)>'\"&amp; film good"
SCRIPTS = ["这部电影很好看", "فيلم رائع جدا", "סרט נהדר מאוד", "a lovely film 😀👍🏽"]


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text outside script and style."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._inside = "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text += data

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def page_of(root: Path) -> tuple[str, Page]:
    assert foldstack(root, "page") == 0
    html = (root / "submissions/blend.html").read_text(encoding="utf-8")
    return html, Page(html)


def record_of(root: Path) -> PageRecord:
    return describe(Workspace.open(root, []), "blend")


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "w"))


@pytest.fixture(scope="module")
def shown(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PageRecord]:
    """A finished workspace and the content of its page, to be read only."""
    root = Path(shutil.copytree(finished, tmp_path_factory.mktemp("shown") / "w"))
    return root, record_of(root)


# --- the file ---------------------------------------------------------------------------------


def test_it_is_one_file_that_asks_nothing_of_a_network(copied: Path) -> None:
    html, page = page_of(copied)
    assert html.startswith("<!doctype html>\n<!-- a page of foldstack -->\n<html lang=")
    assert "://" not in html and not page.named("link") and not page.named("img")
    policy = next(m["content"] for m in page.named("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; ") and "script-src 'sha256-" in policy
    assert len(page.named("script")) == 1


def test_the_same_workspace_gives_the_same_bytes(copied: Path) -> None:
    page_of(copied)
    before = files(copied)
    page_of(copied)
    assert files(copied) == before


def test_it_says_where_it_is(copied: Path, capsys: pytest.CaptureFixture) -> None:
    page_of(copied)
    out = capsys.readouterr().out
    assert out.startswith("page: submissions/blend.html, 0.") and "open it in a browser" in out


def test_it_needs_a_blend(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    sentence = "oof/_blends/blend does not exist: run `make blend` first, or name a MODEL"
    refuses(workspace, ["page"], sentence, capsys)


def test_another_file_in_its_place_is_kept(copied: Path, capsys: pytest.CaptureFixture) -> None:
    mine = write(copied / "submissions/blend.html", "<p>mine</p>")
    sentence = (
        "submissions/blend.html is there already and `page` did not write it so: move it away"
    )
    refuses(copied, ["page"], sentence, capsys)
    assert mine.read_text() == "<p>mine</p>"


def test_clean_removes_it_and_nothing_of_the_users(copied: Path) -> None:
    page_of(copied)
    mine = write(copied / "submissions/notes.html", "<p>mine</p>")
    assert foldstack(copied, "clean", "submissions") == 0
    assert mine.exists() and not (copied / "submissions/blend.html").exists()


# --- texts ------------------------------------------------------------------------------------


def odd_workspace(root: Path) -> Path:
    """Texts and labels that would be markup, or that are read from the right."""
    make_workspace(root)
    texts = [HOSTILE, *SCRIPTS]
    labels = ["</script><iframe>yes", "no & \"no'"]
    rows = [(f"<r{i}>", f"{texts[i % 5]} n{i}", labels[i % 2]) for i in range(30)]
    train = [{"id": i, "text": t, "label": y} for i, t, y in rows[:24]]
    test = [{"id": i, "text": t} for i, t, _ in rows[24:]]
    sample = [{"id": row["id"], "label": labels[0]} for row in test]
    for name, table in (("train", train), ("test", test), ("sample_submission", sample)):
        pd.DataFrame(table).to_csv(root / f"input/{name}.csv", index=False)
    shutil.rmtree(root / "input/private")
    write_competition(root, metric="accuracy", name="<b>tiny</b>")
    return root


def test_every_text_stays_text(tmp_path: Path) -> None:
    """A row, a label, an id or a name that is markup opens no tag and ends no script."""
    html, page = page_of(go_through(odd_workspace(tmp_path / "w")))
    assert len(page.named("script")) == 1 and not page.named("iframe")
    assert not any("onclick" in attributes for _, attributes in page.tags)
    assert HOSTILE in page.text and "<b>tiny</b>" in page.text and "<r0>" in page.text
    assert html.count("</script>") == 1


def test_texts_of_any_direction_are_whole(tmp_path: Path) -> None:
    _, page = page_of(go_through(odd_workspace(tmp_path / "w")))
    assert all(text in page.text for text in SCRIPTS)
    texts = [p for p in page.named("p") if (p.get("class") or "").startswith("text")]
    assert texts and all(p["dir"] == "auto" for p in texts)


def test_the_largest_rows_fit_into_five_megabytes(shown: tuple[Path, PageRecord]) -> None:
    """All that grows with the rows is bounded: 240 rows of 1,500 characters of three bytes."""
    _, record = shown
    (row, *_) = record.rows.rows
    longest = row.model_copy(update={"texts": ["电" * 1500]})
    full = record.rows.model_copy(update={"rows": [longest] * 240})
    assert len(render(record.model_copy(update={"rows": full})).encode()) < 5_000_000


# --- kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "metric", "columns"),
    [
        ("binary", "f1", ["label"]),
        ("multiclass", "f1_macro", ["label"]),
        ("multilabel", "f1_macro", ["p", "q", "r"]),
    ],
)
def test_every_kind_of_labels_has_its_page(
    tmp_path: Path, kind: str, metric: str, columns: list[str]
) -> None:
    root = make_kind(tmp_path / "w", kind, metric, columns)
    sample = root / "input/sample_submission.csv"
    if kind != "multilabel":
        sample.write_text(sample.read_text().replace(",0", ",good"))
    html, _ = page_of(go_through(root))
    record = record_of(root)
    assert [row.label for row in record.files.shares] == list(Workspace(root).competition.outputs)
    assert record.confusion is not None and record.report and record.reliability
    assert bool(record.thresholds) == (kind != "multiclass")
    assert "Confusion matrix" in html or kind == "multilabel"


def test_a_regression_has_errors_instead_of_mistakes(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w", kind="regression", metric="rmse")
    html, page = page_of(go_through(root))
    record = record_of(root)
    assert record.confusion is None and not record.thresholds and not record.reliability
    assert len(record.predicted) == 24 and "Predicted and true" in html
    assert "the rows with the largest errors are below" in " ".join(page.text.split())


# --- honesty ----------------------------------------------------------------------------------


def test_opinions_are_of_models_that_have_not_seen_the_row(
    shown: tuple[Path, PageRecord],
) -> None:
    """Guards the prediction of the mean over all runs, four of five of which know the label."""
    ws, record = Workspace.open(shown[0], []), shown[1]
    folds = ws.store.read_folds(ws.competition.train)
    positions = {str(id_): k for k, id_ in enumerate(ws.competition.train.ids)}
    assert len(record.rows.rows) == 24
    for row in record.rows.rows:
        k = positions[row.id]
        key = RunKey("tfidf", 0, (int(folds.fold[k]),))
        stored = ws.store.stored_predictions(key, "heldout")
        p = to_probabilities(stored.raw, stored.link)[list(folds.held_out(key.left_out)).index(k)]
        truth = p[0] if row.true == "1" else 1 - p[0]
        assert row.opinions[0].probability == pytest.approx(truth, abs=1e-6)


def test_attributions_are_of_the_run_that_held_the_row_out(
    shown: tuple[Path, PageRecord],
) -> None:
    """Of a linear model: what the log odds lose without the word, by the run of the row's fold."""
    ws, record = Workspace.open(shown[0], []), shown[1]
    folds, train = ws.store.read_folds(ws.competition.train), ws.competition.train
    row = next(row for row in record.rows.rows if row.attributions)
    k = [str(i) for i in train.ids].index(row.id)
    learner = load_learner(ws, RunKey("tfidf", 0, (int(folds.fold[k]),)), 1)
    whole = train.take(np.array([k]))
    words = whole.texts[0][0].split()
    sign = 1 if row.attributions[0].toward == "1" else -1
    parts = [part for part in row.attributions[0].parts if part.effect is not None]
    assert [part.text for part in parts] == words
    for number, part in enumerate(parts):
        without = " ".join(words[:number] + words[number + 1 :])
        other = dataclasses.replace(whole, texts=[(without,)])
        expected = sign * (learner.predict(whole) - learner.predict(other))[0, 0]
        assert part.effect == pytest.approx(expected, abs=1e-3)


def test_a_fitted_threshold_is_marked_and_in_sample(tmp_path: Path) -> None:
    root = make_kind(tmp_path / "w", "binary", "f1", ["label"])
    sample = root / "input/sample_submission.csv"
    sample.write_text(sample.read_text().replace(",0", ",good"))
    html, _ = page_of(go_through(root))
    (curve,) = record_of(root).thresholds
    assert curve.fitted == ("it was fitted on these rows" in html)
    assert curve.metric == "f1" and curve.chosen in [t for t, _ in curve.points]


def test_what_is_stale_is_said_at_the_top_and_not_shown(copied: Path) -> None:
    turn_labels(copied, {"r0", "r1"})
    html, page = page_of(copied)
    record = record_of(copied)
    assert {mark.mark for mark in record.marks} == {"STALE"} and record.rows is None
    top = page.text[: page.text.index("Leaderboard")]
    assert "Before you believe a number" in html
    assert "was made with other train" in " ".join(page.text.split())
    assert "is not shown: " in " ".join(page.text.split()) and top


def test_what_is_optimistic_is_said_with_its_reason(copied: Path) -> None:
    """A run chosen by the fold that scores it, as its record says."""
    for path in copied.glob("oof/tfidf/seed0/*/run.json"):
        known = read_json(path)
        reason = "the epoch was chosen on the held-out fold"
        write_record(path, known | {"optimistic": [reason]})
    _, page = page_of(copied)
    shown = " ".join(page.text.split())
    assert "OPTIMISTIC tfidf: the epoch was chosen on the held-out fold" in shown


def test_private_scores_are_those_of_score(copied: Path) -> None:
    record = record_of(copied)
    assert record.leaders[0].private == pytest.approx(1.0)  # the words of the tiny texts say all
    shutil.rmtree(copied / "input/private")
    assert np.isnan(record_of(copied).leaders[0].private)
    assert "Private score" not in page_of(copied)[0]


def test_a_model_without_its_files_has_no_attributions(copied: Path) -> None:
    for run in copied.glob("oof/tfidf/seed0/*/model"):
        shutil.rmtree(run)
    record = record_of(copied)
    assert not any(row.attributions for row in record.rows.rows)
    (remark,) = record.rows.remarks
    assert remark.startswith("no attributions of tfidf: tfidf seed 0 fold")


def test_one_fold_nests_nothing(workspace: Path) -> None:
    assert foldstack(workspace, "folds") == foldstack(workspace, "train", "--fold", "0") == 0
    html, _ = page_of(go_through(workspace, "blend", "submit"))
    assert "CV score of one fold" in html and "Nested CV score" not in html


def test_a_submission_of_another_blend_lends_it_no_private_score(copied: Path) -> None:
    path = copied / "submissions/blend.csv"
    path.write_text(path.read_text().replace("t0,0.", "t0,0.0"))
    assert np.isnan(record_of(copied).leaders[0].private)


# --- transformers -----------------------------------------------------------------------------


def test_a_transformer_has_learning_curves_and_its_own_tokens(
    workspace: Path, backbone: Path, cpu_settings_restored: None
) -> None:
    """The epoch was chosen by the fold that scores it, which is said."""
    add_preset(workspace, backbone, training={"select": "fold", "epochs": 3})
    write_competition(workspace, models=["tfidf", "tiny"])
    html, _ = page_of(go_through(workspace))
    record = record_of(workspace)
    assert [line.of for line in record.learning.losses] == ["tiny"] * 3
    assert [[x for x, _ in line.points] for line in record.learning.scores] == [[1, 2, 3]] * 3
    assert record.files.tokens_are == "tokens of tiny"
    assert "OPTIMISTIC" in {mark.mark for mark in record.marks}
    assert "the best of several looks better than it is" in html
    row = next(row for row in record.rows.rows if row.attributions)
    assert [each.model for each in row.attributions] == ["tfidf", "tiny"]
    assert record.agreement.correlations[0][0] == pytest.approx(1)


# --- figures ----------------------------------------------------------------------------------


def test_lengths_duplicates_and_conflicts_are_counted(workspace: Path) -> None:
    train = workspace / "input/train.csv"
    lines = train.read_text().splitlines()
    twice = lines[1].split(",")
    train.write_text("\n".join([*lines, f"again,{twice[1]},{1 - int(twice[2])}"]) + "\n")
    test = workspace / "input/test.csv"
    first = test.read_text().splitlines()
    test.write_text("\n".join([first[0], f"t0,{twice[1]}", *first[2:]]) + "\n")
    found = record_of(go_through(workspace)).files
    d = found.duplicates
    assert (d.in_train, d.train_in_test, d.test_in_train, d.conflicts) == (2, 2, 1, 1)
    lengths = {(row.unit, row.part): row for row in found.lengths}
    assert lengths["tokens", "test"].rows == 6 and lengths["tokens", "train: 1"].rows == 13
    assert lengths["characters", "train"].quantiles[0] == min(
        len(line.split(",")[1]) for line in lines[1:]
    )


def test_a_page_record_is_plain_json(shown: tuple[Path, PageRecord], tmp_path: Path) -> None:
    _, record = shown
    write_record(tmp_path / "page.json", record.to_json())
    again = read_record(tmp_path / "page.json", PageRecord, "page.json", "")
    assert render(again) == render(record)
