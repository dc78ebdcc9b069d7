"""Rules beside a model: what is refused, who decides, and what may be said of it on training rows."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.near import shingles
from foldstack.patterns import ByCharacters, Index, Neighbours, Patterns, audit, load, rules
from foldstack.stages.patterned import Judged, OutOfFold, judge
from foldstack.stages.predictor import Predictor
from foldstack.store import read_parquet
from foldstack.tables import read_table
from foldstack.workspace import Workspace
from tiny import (
    foldstack,
    go_through,
    make_kind,
    make_workspace,
    refuses,
    seal,
    sentences,
    turn_labels,
    write,
    write_competition,
)


def texts(*lines: str) -> list[tuple[str, ...]]:
    return [(line,) for line in lines]


def nothing_near(asked: np.ndarray) -> np.ndarray:
    return np.full(asked.shape, -1)


LABELS = {"binary": ["no", "yes"], "multiclass": ["thanks", "complaint", "other"]}


def competition(root: Path, kind: str = "multiclass", **settings: object) -> Competition:
    """One that is never read from, but for its labels (or the columns p, q, r of several)."""
    if kind == "multilabel":
        settings = {"target": ["p", "q", "r"], "metric": "f1_macro"} | settings
    else:
        settings = {"labels": LABELS[kind], "metric": "accuracy"} | settings
    write_competition(root, kind=kind, patterns="patterns.yaml", **settings)
    return Competition.load(root)


def given(root: Path, yaml: str, kind: str = "multiclass", **settings: object) -> Patterns:
    write(root / "patterns.yaml", yaml)
    return load(competition(root, kind, **settings))


# --- the file ---------------------------------------------------------------------------------


REFUSED = {
    # the file, and the sentence after its path
    "no mapping of settings": ("- a", " holds no settings: write `name: value` lines"),
    "nothing in it": (
        "rules: []",
        ": it holds neither `rules` nor `nearest`: write some, or remove `patterns` from "
        "competition.yaml",
    ),
    "rules that are no list": (
        "rules: {pattern: a}",
        ": `rules` is a list: write `- pattern: …` lines below it",
    ),
    "a rule that is a word": (
        "rules: [refund]",
        ": rule 1 is no mapping: write `pattern: …`, `label: …`",
    ),
    "an unknown setting": (
        "mood: before\nrules: [{text: a, label: other}]",
        ": unknown setting 'mood': did you mean 'mode'?",
    ),
    "an unknown setting of a rule": (
        "rules:\n- {text: a, label: other}\n- {patern: a, label: other}",
        ": rule 2: unknown setting 'patern': did you mean 'pattern'?",
    ),
    "an unknown mode": (
        "mode: after\nrules: [{text: a, label: other}]",
        ": setting 'mode' is 'after': input should be 'before' or 'beside'",
    ),
    "two ways to tell a row": (
        "rules: [{pattern: a, text: a, label: other}]",
        ": rule 1: it requires exactly one of `pattern`, `text` and `texts`",
    ),
    "no label": (
        "rules: [{pattern: a}]",
        ": rule 1: setting 'label' is missing: add `label: …`",
    ),
    "a label beside a file": (
        "rules: [{texts: cached.csv, label: other}]",
        ": rule 1: the labels stand in the file that `texts` names: leave out the others",
    ),
    "an unknown label": (
        "rules: [{text: a, label: complain}]",
        ": rule 1: label 'complain' is not known: did you mean 'complaint'?",
    ),
    "absent of one label": (
        "rules: [{text: a, label: other, absent: true}]",
        ": rule 1: `absent` is for kind multilabel: name the label that holds instead",
    ),
    "a certain rule": (
        "rules: [{text: a, label: other, confidence: 1}]",
        ": rule 1: setting 'confidence' is '1': input should be less than 1",
    ),
    "a doubtful rule": (
        "rules: [{text: a, label: other, confidence: 0.5}]",
        ": rule 1: setting 'confidence' is '0.5': input should be greater than 0.5",
    ),
    "a bad expression": (
        "rules: [{pattern: '(a', label: other}]",
        ": rule 1: pattern /(a/ does not compile: missing ) at position 2",
    ),
    "an expression that matches everything": (
        "rules: [{pattern: 'a*', label: other}]",
        ": rule 1: pattern /a*/ matches the empty text, and so every row: make it longer",
    ),
    "an empty text": (
        "rules: [{text: '  ', label: other}]",
        ": rule 1: `text` is empty: write the cached text",
    ),
    "overruling where the model is not asked": (
        "mode: before\noverrule_below: 0.1\nrules: [{text: a, label: other}]",
        ": `overrule_below` changes nothing if mode is before: leave it out",
    ),
    "a mode of no rules": (
        "mode: before\nnearest: {}",
        ": `mode` changes nothing without `rules`: leave it out",
    ),
    "a confidence that nothing is under": (
        "nearest: {below: 0.33}",
        ": nearest.below is 0.33, but the most probable of 3 has 0.333 or more, so it selects no "
        "row: raise it",
    ),
    "a nearest text less sure than the model": (
        "nearest: {below: 0.9, confidence: 0.8}",
        ": setting 'nearest' is {'below': '0.9', 'confidence': '0.8'}: the nearest text's confidence "
        "0.8 is less than below, 0.9, and would make surer rows less sure: raise it",
    ),
}


@pytest.mark.parametrize(("yaml", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_file_is_refused(tmp_path: Path, yaml: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        given(tmp_path, yaml)
    assert str(error.value) == f"{tmp_path}/patterns.yaml{sentence}"


def test_before_anything_is_trained_the_file_is_read(workspace: Path, capsys) -> None:
    write_competition(workspace, patterns="patterns.yaml")
    sentence = f"{workspace}/patterns.yaml does not exist"
    refuses(workspace, ["folds"], sentence, capsys)


def test_numbers_have_no_labels(workspace: Path, capsys) -> None:
    settings = {"kind": "regression", "metric": "rmse", "patterns": "patterns.yaml"}
    write_competition(workspace, **settings)
    sentence = "`patterns` say labels, which kind regression lacks: remove the setting"
    refuses(workspace, ["folds"], f"{workspace}/competition.yaml: {sentence}", capsys)


def test_a_pattern_that_backtracks_without_end_is_refused(tmp_path: Path, monkeypatch) -> None:
    """Guards the prediction of new texts: one unlucky text would hold it up for ever."""
    monkeypatch.setattr(rules, "TIMEOUT", 0.05)
    slow = given(tmp_path, "rules: [{pattern: '(a|aa)+$', label: other}]")
    assert slow.claims(texts("baa"), 1).value.tolist() == [[2]]
    with pytest.raises(InputError) as error:
        slow.claims(texts("a" * 60 + "!"), 1)
    assert str(error.value) == (
        f"{tmp_path}/patterns.yaml: rule 1: pattern /(a|aa)+$/ takes more than 0.05 s on one text "
        f"('{'a' * 60}…'): repeat no group within a repetition, as in (a+)+"
    )


# --- what rules say ---------------------------------------------------------------------------

THREE = """
rules:
- {pattern: '(?i)\\bfull refund\\b', label: complaint}
- {text: ' ＴＨＡＮＫS  a lot', label: thanks}
- {pattern: refund, label: other}
"""


def test_the_first_rule_that_speaks_wins(tmp_path: Path) -> None:
    """A text is compared after normalising, a pattern searched as it stands; NFKC, case, white space."""
    claims = given(tmp_path, THREE).claims(
        texts("a FULL refund", "thanks a LOT", "thanks a lot, refund", "Refund"), 1
    )
    assert claims.rule.tolist() == [[0], [1], [2], [-1]]
    assert claims.value.tolist() == [[1], [0], [2], [-1]]


def test_cached_texts_can_be_passed_over(tmp_path: Path) -> None:
    """Then a later rule speaks, as if the text did not stand in the list."""
    both = given(tmp_path, "rules: [{text: hi, label: thanks}, {pattern: hi, label: other}]")
    assert both.claims(texts("hi"), 1).value.tolist() == [[0]]
    assert both.claims(texts("hi"), 1, cached=False).value.tolist() == [[2]]


def test_a_file_of_cached_texts_is_as_the_training_file(tmp_path: Path) -> None:
    write(
        tmp_path / "input/cached.csv", "text,label\nThank you,thanks\nno,complaint\nNO ,complaint\n"
    )
    cached = given(tmp_path, "rules: [{texts: cached.csv}]")
    assert cached.claims(texts("thank  you", "No", "yes"), 1).value.tolist() == [[0], [1], [-1]]
    assert cached.rules[0].name == "rule 1: 2 texts of cached.csv"


FILES = {
    "a label": (
        "text,label\na,thank\n",
        "row 1: column 'label' holds 'thank', which is none of the ",
    ),
    "a column": ("body,label\na,other\n", "column 'text' is missing"),
    "no text": ("text,label\na,other\n ,other\n", "row 2 has no text: remove the row"),
    "a contradiction": (
        "text,label\na,other\nb,other\nA,thanks\n",
        "row 3 repeats the text of row 1 with another label: remove one of them",
    ),
}


@pytest.mark.parametrize(("file", "sentence"), FILES.values(), ids=FILES.keys())
def test_a_wrong_file_of_cached_texts_is_refused(tmp_path: Path, file: str, sentence: str) -> None:
    write(tmp_path / "input/cached.csv", file)
    with pytest.raises(InputError) as error:
        given(tmp_path, "rules: [{texts: cached.csv}]")
    assert str(error.value).startswith(f"{tmp_path}/input/cached.csv: {sentence}")


def test_a_pair_is_searched_as_one_text_and_cached_as_two(tmp_path: Path) -> None:
    pair = {"text": ["a", "b"], "pair": True}
    write(tmp_path / "input/cached.csv", "a,b,label\nx,y,other\n")
    found = given(
        tmp_path, "rules: [{texts: cached.csv}, {pattern: y z, label: thanks}]", **pair
    ).claims([("x", "y"), ("y", "z"), ("x y", "")], 1)
    assert found.rule.tolist() == [[0], [1], [-1]]
    with pytest.raises(
        InputError, match="rule 1: `text` is one text, but this competition is of pairs"
    ):
        given(tmp_path, "rules: [{text: x, label: other}]", **pair)


def test_the_hash_is_of_all_that_is_said(tmp_path: Path) -> None:
    """Guards the record of a submission: another cached label under the same name is another file."""
    write(tmp_path / "input/cached.csv", "text,label\na,thanks\n")
    one = given(tmp_path, "rules: [{texts: cached.csv}]").hash
    assert given(tmp_path, "# again\nrules: [{texts: cached.csv}]").hash == one
    assert given(tmp_path, "rules: [{texts: cached.csv, confidence: 0.9}]").hash != one
    write(tmp_path / "input/cached.csv", "text,label\na,other\n")
    assert given(tmp_path, "rules: [{texts: cached.csv}]").hash != one


# --- who decides ------------------------------------------------------------------------------

ROWS = texts("full refund", "full refund", "full refund", "hello")
MODEL = np.array([[0.30, 0.30, 0.40], [0.04, 0.04, 0.92], [0.01, 0.03, 0.96], [0.2, 0.2, 0.6]])


def run(patterns: Patterns, rows=ROWS, model=MODEL, near=nothing_near, **settings):
    return patterns.apply(rows, model, near, **settings)


def test_before_the_model_a_rule_decides_alone(tmp_path: Path) -> None:
    """Its label has its confidence, the others share the rest as the model would have it."""
    applied = run(given(tmp_path, "mode: before" + THREE))
    assert applied.values.tolist() == [[1], [1], [1], [-1]]
    np.testing.assert_allclose(applied.probabilities[0], [0.05 * 3 / 7, 0.95, 0.05 * 4 / 7])
    np.testing.assert_array_equal(applied.probabilities[3], MODEL[3])
    np.testing.assert_allclose(applied.probabilities.sum(axis=1), 1)


def test_beside_the_model_the_surer_decides(tmp_path: Path) -> None:
    """The third row's model is surer than the rule; the second's is not, but finds it improbable."""
    free = run(given(tmp_path, "overrule_below: 0" + THREE))
    assert free.by.tolist() == [[0], [0], [-1], [-1]]
    overruled = run(given(tmp_path, "overrule_below: 0.05" + THREE))
    assert overruled.by.tolist() == [[0], [-1], [-1], [-1]]
    np.testing.assert_array_equal(overruled.probabilities[1:], MODEL[1:])
    assert overruled.claims.rule.tolist() == [[0], [0], [0], [-1]]


def test_a_surer_rule_decides_more(tmp_path: Path) -> None:
    yaml = "overrule_below: 0\nrules: [{pattern: refund, label: complaint, confidence: %s}]"
    decided = [
        int((run(given(tmp_path, yaml % confidence)).by == 0).sum())
        for confidence in (0.6, 0.95, 0.99)
    ]
    assert decided == [1, 2, 3]


def test_a_decision_follows_the_rule_whatever_the_models_threshold(tmp_path: Path) -> None:
    """A threshold fitted to the model's probabilities says nothing of a rule's confidence."""
    yaml = "mode: before\nrules: [{text: a, label: yes}, {text: b, label: no}]"
    applied = run(
        given(tmp_path, yaml, "binary"), texts("a", "b", "c"), np.array([[0.1], [0.99], [0.7]])
    )
    np.testing.assert_allclose(applied.probabilities, [[0.95], [0.05], [0.7]])
    at_98_percent = np.array([[0.0], [1.0], [0.0]])
    assert applied.decide(at_98_percent).tolist() == [[1], [0], [0]]


def test_of_several_labels_each_is_decided_apart(tmp_path: Path) -> None:
    """A rule speaks of one label, holding or absent; the rest is the model's."""
    yaml = """
mode: before
rules:
- {pattern: a, label: p}
- {pattern: b, label: q, absent: true}
- {pattern: ab, label: q}
"""
    model = np.array([[0.2, 0.9, 0.6], [0.2, 0.9, 0.6]])
    applied = run(given(tmp_path, yaml, "multilabel"), texts("ab", "c"), model)
    assert applied.values.tolist() == [[1, 0, -1], [-1, -1, -1]]
    np.testing.assert_allclose(applied.probabilities, [[0.95, 0.05, 0.6], model[1]])
    assert applied.decide(np.ones((2, 3))).tolist() == [[1, 0, 1], [1, 1, 1]]


def test_a_cached_row_of_several_labels_says_all_of_them(tmp_path: Path) -> None:
    write(tmp_path / "input/cached.csv", "text,p,q,r\na,1,0,0\n")
    cached = given(tmp_path, "rules: [{texts: cached.csv}]", "multilabel")
    assert cached.claims(texts("A"), 3).value.tolist() == [[1, 0, 0]]


def test_a_certain_model_leaves_the_rest_to_be_shared_evenly(tmp_path: Path) -> None:
    yaml = "mode: before\nrules: [{text: a, label: other}]"
    applied = run(given(tmp_path, yaml), texts("a"), np.array([[0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(applied.probabilities, [[0.025, 0.025, 0.95]])


def test_the_unconfident_ask_their_nearest_text(tmp_path: Path) -> None:
    """Neither confident rows nor those that a rule decides, nor such as are near to nothing."""
    asked_for = []

    def near(asked: np.ndarray) -> np.ndarray:
        asked_for.append(asked.ravel().tolist())
        return np.where(np.arange(len(asked))[:, None] == 1, -1, 1)

    yaml = "nearest: {below: %s, confidence: %s}\nrules: [{pattern: refund, label: other}]"
    rows = texts("refund", "b", "c", "d")
    model = np.array([[0.5, 0.2, 0.3], [0.5, 0.2, 0.3], [0.4, 0.2, 0.4], [0.8, 0.1, 0.1]])
    applied = run(given(tmp_path, yaml % (0.6, 0.9)), rows, model, near)
    assert asked_for == [[False, True, True, False]]
    assert applied.by.tolist() == [[0], [-1], [1], [-1]]
    assert given(tmp_path, yaml % (0.6, 0.9)).names == ["rule 1", "nearest"]
    np.testing.assert_allclose(applied.probabilities[2], [0.05, 0.9, 0.05])
    run(given(tmp_path, yaml % (0.85, 0.9)), rows, model, near)
    assert asked_for[1] == [False, True, True, True]


# --- the nearest text -------------------------------------------------------------------------


def slow_nearest(queries: list[str], known: list[str], least: float) -> list[int]:
    """Every pair compared, as sets."""

    def sets(lines: list[str]) -> list[set[int]]:
        return [set(shingles([line])[0].tolist()) for line in lines]

    out, others = [], sets(known)
    for a in sets(queries):
        scores = [len(a & b) / max(len(a | b), 1) for b in others]
        best = int(np.argmax(scores))
        out.append(best if a and scores[best] >= least - 1e-9 else -1)
    return out


@pytest.mark.parametrize("least", [0.2, 0.5, 0.6, 0.8, 1.0])
def test_the_nearest_text_is_that_of_comparing_all(least: float, monkeypatch) -> None:
    """Prefix filtering loses nothing, at similarities that are met exactly and in several chunks."""
    monkeypatch.setattr("foldstack.patterns.nearest.QUERIES", 7)
    rng = np.random.default_rng(0)
    words = ["good", "bad", "film", "plot", "谢谢你", "电影", "a"]
    lines = [" ".join(rng.choice(words, rng.integers(1, 7))) for _ in range(120)]
    known, queries = lines[:80], [*lines[80:], "", "zzzzzz", lines[3]]
    found = Index(known, least).nearest(queries).tolist()
    assert found == slow_nearest(queries, known, least)
    assert any(k >= 0 for k in found) and found[-3:-1] == [-1, -1]


def test_nothing_is_near_to_no_texts() -> None:
    assert Index([], 0.5).nearest(["abc"]).tolist() == [-1]
    assert Index([""], 0.5).nearest(["", "abc"]).tolist() == [-1, -1]


def test_texts_that_contradict_themselves_say_nothing() -> None:
    known = Neighbours(
        texts("a good film", "A good  film", "a bad film"),
        np.array([[0, 1], [0, 0], [1, 1]]),
        lambda known: ByCharacters(known, 1.0),
    )
    asked = np.array([[True, True], [True, False], [True, True], [False, False]])
    rows = texts("a good film", "a bad film", "a film", "a bad film")
    assert known.look_up(rows, asked).tolist() == [[0, -1], [1, -1], [-1, -1], [-1, -1]]


# --- the audit --------------------------------------------------------------------------------


def test_the_audit_counts_what_each_rule_did(tmp_path: Path) -> None:
    """Precision where it speaks, changes where it decides; cached texts in a line of their own."""
    yaml = "rules: [{pattern: refund, label: complaint}, {text: hi, label: thanks}]\nnearest: {}"
    patterns = given(tmp_path, yaml)
    rows = texts("refund 1", "refund 2", "refund 3", "hi", "near")
    model = np.array(
        [[0.2, 0.1, 0.7], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0], [0.6, 0, 0.4], [0.4, 0.3, 0.3]]
    )
    targets = np.eye(3)[[1, 2, 2, 0, 0]]
    applied = patterns.apply(rows, model, lambda asked: np.where(asked, 1, -1), cached=False)
    lines = audit(
        patterns, applied, patterns.claims(rows, 1), targets, np.eye(3)[model.argmax(axis=1)]
    )
    found = [(x.rows, x.acts, x.wrong_to_right, x.right_to_wrong) for x in lines]
    assert found == [(3, 2, 1, 1), (1, 0, 0, 0), (1, 1, 0, 1), (3, 3, 1, 2)]
    assert [x.precision for x in lines] == pytest.approx([1 / 3, 1, 0, 1 / 3])
    assert [x.model_precision for x in lines] == pytest.approx([2 / 3, 1, 1, 2 / 3])
    assert [x.cached for x in lines] == [False, True, False, False]
    assert lines[0].share == 0.6
    only = applied.only(lines[2].units)
    assert (only.values >= 0).ravel().tolist() == [False, False, False, False, True]
    np.testing.assert_array_equal(only.probabilities[:4], model[:4])


def test_a_rule_that_never_speaks_has_no_precision(tmp_path: Path) -> None:
    patterns = given(tmp_path, "rules: [{pattern: refund, label: complaint}]")
    applied = patterns.apply(texts("a"), MODEL[:1], nothing_near)
    line, _ = audit(patterns, applied, applied.claims, MODEL[:1], MODEL[:1])
    assert np.isnan(line.precision)
    assert line.to_json()["precision"] is None


# --- over out-of-fold rows --------------------------------------------------------------------

FILE = r"""
rules:
- {pattern: '\b(good|fine)\b', label: 1}
- {text: 'a BAD film  film n0', label: 0}
nearest: {below: 0.9, similarity: 0.4}
"""


MODELS = [{"tfidf": {"C": 4.0}}]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """f1 of 24 rows, whose fold runs and blend are there."""
    root = make_workspace(tmp_path_factory.mktemp("patterns") / "w", metric="f1", models=MODELS)
    return go_through(root, "folds", "train", "blend")


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    root = shutil.copytree(trained, tmp_path / "w")
    write(root / "patterns.yaml", FILE)
    write_competition(root, metric="f1", patterns="patterns.yaml", models=MODELS)
    return root


def judged(root: Path) -> Judged:
    """The patterns over the blend."""
    ws = Workspace.open(root, [])
    return judge(ws, OutOfFold.of_blend(ws, "blend", ws.store.read_blend("blend")))


def nearest_of_all(root: Path) -> np.ndarray:
    """(n,) what the nearest texts say of out-of-fold rows, none of which the model is sure of."""
    ws = Workspace.open(root, [])
    n = len(ws.store.read_folds(ws.competition.train).scored)
    of_all_folds = SimpleNamespace(folds=None)
    oof = OutOfFold(np.full((n, 1), 0.5), np.ones((n, 1)), of_all_folds)
    return judge(ws, oof).applied.values.ravel()


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_no_label_of_its_own_fold_decides_by_a_nearest_text(root: Path, fold: int) -> None:
    """Turning every label of fold k changes no decision in fold k, and some elsewhere."""
    write(root / "patterns.yaml", "nearest: {below: 0.95, similarity: 0.3}")
    folds = read_table(root / "folds/folds.csv", "utf-8")
    here = (folds["fold"] == str(fold)).to_numpy()
    before = nearest_of_all(root)
    turn_labels(root, set(folds["id"][here]))
    after = nearest_of_all(root)
    assert (before >= 0).sum() > 12
    np.testing.assert_array_equal(before[here], after[here])
    assert (before[~here] != after[~here]).any()


def test_copies_of_a_text_never_answer_for_it(tmp_path: Path) -> None:
    """With `dedupe: false` a copy may stand in another fold: its label is the row's own."""
    rows = [(t, y) for t, y in sentences(12)] * 2
    folds = {"count": 3, "dedupe": False}
    root = make_workspace(tmp_path / "w", metric="f1", folds=folds, patterns="patterns.yaml")
    train = "".join(f"r{i},{text},{label}\n" for i, (text, label) in enumerate(rows))
    write(root / "input/train.csv", "id,text,label\n" + train)
    write(root / "patterns.yaml", "nearest: {below: 0.95, similarity: 1}")
    assert foldstack(root, "folds") == 0
    assert (nearest_of_all(root) == -1).all()


def test_time_order_lets_earlier_rows_answer_alone(tmp_path: Path) -> None:
    """A later text's label is not known yet."""
    timed = {"time": "day", "folds": {"kind": "time", "count": 3}}
    root = make_workspace(tmp_path / "w", metric="f1", patterns="patterns.yaml", **timed)
    lines = (root / "input/train.csv").read_text().splitlines()
    dated = [f"{line},{i}" for i, line in enumerate(lines[1:])]
    write(root / "input/train.csv", "\n".join([lines[0] + ",day", *dated]) + "\n")
    write(root / "patterns.yaml", "nearest: {below: 0.95, similarity: 0.3}")
    assert foldstack(root, "folds") == 0
    before = nearest_of_all(root)
    turn_labels_of_last(root, 6)
    np.testing.assert_array_equal(nearest_of_all(root), before)
    assert (before >= 0).any()


def turn_labels_of_last(root: Path, count: int) -> None:
    path = root / "input/train.csv"
    lines = path.read_text().splitlines()
    for i in range(len(lines) - count, len(lines)):
        *front, label, day = lines[i].split(",")
        lines[i] = ",".join([*front, str(1 - int(label)), day])
    path.write_text("\n".join(lines) + "\n")


def test_cached_texts_take_no_part_in_the_estimate(root: Path) -> None:
    """A cache of all training texts with their labels would score 1."""
    shutil.copy(root / "input/train.csv", root / "input/cached.csv")
    write(root / "patterns.yaml", "mode: before\nrules: [{texts: cached.csv}]")
    found = judged(root)
    np.testing.assert_array_equal(found.after, found.before)
    line = found.lines[0]
    assert (line.cached, line.rows, line.precision, line.acts) == (True, 24, 1.0, 0)


# --- the stages -------------------------------------------------------------------------------


def test_the_audit_is_printed_and_kept(root: Path, capsys) -> None:
    assert foldstack(root, "patterns") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "patterns: patterns.yaml (beside) over blend, 24 out-of-fold rows"
    starts = ["rule 1: /\\b(good|fine)\\b/ → 1 ", "rule 2: 'a BAD film  film n0' → 0 "]
    for line, start in zip(said[3:7], [*starts, "nearest text ", "all "], strict=True):
        assert line.startswith(start)
    kept = read_json(root / "oof/_patterns/blend.json")
    rule, cached, near, total = kept["lines"]
    assert (rule["rows"], rule["precision"], rule["test_rows"]) == (6, 1.0, 2)
    assert (cached["rows"], cached["acts"], cached["better_by"]) == (1, 0, None)
    assert total["acts"] == rule["acts"] + near["acts"]
    assert total["test_rows"] == kept["all_of_test"] == sum(kept["test"].values())
    decisions = read_parquet(root / "oof/_blends/blend/nested.parquet")[1].raw
    gold = read_table(root / "input/train.csv", "utf-8")["label"].astype(int).to_numpy()
    by_rule = read_table(root / "input/train.csv", "utf-8")["text"].str.contains("good|fine")
    assert rule["wrong_to_right"] == ((decisions[:, 0] != gold) & by_rule).sum()
    assert "\n".join(said[1:7]) + "\n" == (root / "oof/_patterns/blend.txt").read_text()
    assert said[7].startswith("patterns: * optimistic: these rows are the training rows with")
    assert said[9] == (
        "patterns: OPTIMISTIC, patterns.yaml: its patterns decide 6 of the scored rows, whose labels "
        "their writer may have seen"
    )


def test_a_submission_has_the_patterns_over_it_and_says_so(root: Path, capsys) -> None:
    """Decisions, estimate, rates of positives and the JSON are those with the patterns."""
    assert foldstack(root, "patterns") == foldstack(root, "submit") == 0
    said = capsys.readouterr().out
    info, kept = (
        read_json(root / p) for p in ("submissions/blend.json", "oof/_patterns/blend.json")
    )
    assert info["nested"] == kept["nested"] != kept["nested_without"]
    assert info["nested"]["score"] - info["patterns"]["nested_without"]["score"] == pytest.approx(
        info["patterns"]["better_by"]["difference"]
    )
    assert info["patterns"]["hash"] == kept["hash"]
    assert info["patterns"]["test"] == kept["test"]
    assert "submit: patterns.yaml (beside) decides of the 6 test rows: rule 1 2, nearest " in said
    assert " (OPTIMISTIC)" in said
    labels = read_table(root / "submissions/blend.csv", "utf-8").set_index("id")["label"]
    assert labels["t1"] == labels["t3"] == "1"  # fine, good
    assert info["positives"]["1"]["test"] == (labels == "1").mean()


def test_test_rows_that_the_estimate_knows_nothing_of_are_counted(root: Path, capsys) -> None:
    """Cached texts decide test rows, but no row of the estimate."""
    text = read_table(root / "input/test.csv", "utf-8")["text"][2]
    write(root / "patterns.yaml", f"mode: before\nrules: [{{text: {text.upper()}, label: 1}}]")
    assert foldstack(root, "submit") == 0
    said = "submit: the estimate skips cached texts, which decide 1 of the test rows\n"
    assert said in capsys.readouterr().out
    info = read_json(root / "submissions/blend.json")
    assert info["nested"] == info["patterns"]["nested_without"]
    assert (info["patterns"]["cached"], info["optimistic"]) == (["rule 1"], [])
    submitted = read_table(root / "submissions/blend.csv", "utf-8").set_index("id")["label"]
    assert submitted["t2"] == "1"


def test_without_the_setting_a_file_changes_nothing(root: Path, capsys) -> None:
    write_competition(root, metric="f1")
    assert foldstack(root, "submit") == 0
    assert "patterns" not in read_json(root / "submissions/blend.json")
    sentence = (
        "competition.yaml names no patterns: add `patterns: patterns.yaml` and write the file"
    )
    capsys.readouterr()
    refuses(root, ["patterns"], sentence, capsys)


def test_the_nearest_text_alone_makes_nothing_optimistic(root: Path) -> None:
    """It reads what the fold's runs read, and nobody has written it."""
    write(root / "patterns.yaml", "nearest: {below: 0.9, similarity: 0.4}")
    assert foldstack(root, "submit") == 0
    info = read_json(root / "submissions/blend.json")
    assert info["patterns"]["lines"][0]["acts"] > 0
    assert info["optimistic"] == []


def test_one_model_and_its_full_runs_are_patterned_as_a_blend_is(root: Path) -> None:
    assert foldstack(root, "patterns", "--model", "tfidf") == 0
    assert foldstack(root, "submit", "--model", "tfidf") == 0
    assert foldstack(root, "train", "--fold", "full") == 0
    assert foldstack(root, "submit", "--model", "tfidf", "--fold", "full", "--name", "full") == 0
    kept = read_json(root / "oof/_patterns/tfidf.json")
    for name in ("tfidf", "full"):
        info = read_json(root / f"submissions/{name}.json")
        assert info["nested"] == kept["nested"]
    assert "note" in info


def test_new_texts_meet_the_patterns_with_cached_texts(root: Path, capsys) -> None:
    """predict's file says who decided; the same texts are decided as in the submission."""
    assert foldstack(root, "predict", "--file", str(root / "input/test.csv")) == 0
    assert foldstack(root, "submit") == 0
    new = read_table(root / "predictions/test.csv", "utf-8")
    submitted = read_table(root / "submissions/blend.csv", "utf-8")
    assert list(new.columns) == ["id", "predicted", "by", "0", "1"]
    assert new["predicted"].tolist() == submitted["label"].tolist()
    tests = read_json(root / "submissions/blend.json")["patterns"]["test"]
    assert {k: (new["by"] == k).sum() for k in tests} == tests
    found = Predictor.of_blend(Workspace.open(root, [])).predict(["A bad film film N0", "so good"])
    assert found.by == ["rule 2", "rule 1"]
    assert found.labels == ["0", "1"]
    capsys.readouterr()
    assert foldstack(root, "predict", "--text", "so good") == 0
    assert capsys.readouterr().out.startswith("predict: 1 (by rule 1)\n")


def test_several_deciders_of_one_row_are_all_named(tmp_path: Path) -> None:
    yaml = "mode: before\nrules: [{pattern: a, label: p}, {pattern: b, label: q}]"
    patterns = given(tmp_path, yaml, "multilabel")
    applied = patterns.apply(texts("ab", "b", "c"), np.full((3, 3), 0.5), nothing_near)
    assert patterns.deciders(applied) == ["rule 1|rule 2|model", "rule 2|model", "model"]


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_probabilities_are_submitted_with_the_patterns_in_them(root: Path, metric: str) -> None:
    """Never 0 or 1, so that a log loss stays small where a rule errs."""
    write_competition(root, metric=metric, patterns="patterns.yaml")
    write(root / "patterns.yaml", "mode: before\nrules: [{pattern: film, label: 0}]")
    assert foldstack(root, "--set", "blend.methods=[mean]", "blend") == 0
    assert foldstack(root, "submit") == 0
    info = read_json(root / "submissions/blend.json")
    rows = read_table(root / "input/test.csv", "utf-8")["text"].str.contains("film")
    values = read_table(root / "submissions/blend.csv", "utf-8")["label"].astype(float)
    np.testing.assert_allclose(values[rows], 0.05)
    assert info["nested"]["score"] != info["patterns"]["nested_without"]["score"]
    loss = metric == "log_loss"
    assert (info["patterns"]["better_by"]["difference"] > 0) == (
        (info["nested"]["score"] < info["patterns"]["nested_without"]["score"]) == loss
    )
    assert info["nested"]["score"] < 2
    # What the mean over runs gains is known without patterns alone.
    assert "submitted" not in info


WAYS = {
    # kind, metric, columns of the sample, the label that a rule gives, what its rows then hold there
    "classes": ("multiclass", "log_loss", ["bad", "good", "other"], "good", 0.95),
    "several labels": ("multilabel", "f1_macro", ["p", "q", "r"], "q", 1),
}


@pytest.mark.parametrize(("kind", "metric", "columns", "label", "holds"), WAYS.values(), ids=WAYS)
def test_the_whole_way(
    tmp_path: Path, kind: str, metric: str, columns: list[str], label: str, holds: float
) -> None:
    """Every kind of target from the file to the submission, with texts that are asked for."""
    root = make_kind(tmp_path / "w", kind, metric, columns)
    rule = f"mode: before\nrules: [{{pattern: film, label: {label}}}]"
    write(root / "patterns.yaml", rule + "\nnearest: {below: 0.95, similarity: 0.3}")
    target = {"target": columns} if kind == "multilabel" else {"target": ["label"]}
    write_competition(root, kind=kind, metric=metric, patterns="patterns.yaml", **target)
    go_through(root, "folds", "train", "blend", "patterns", "submit")
    rows = read_table(root / "input/test.csv", "utf-8").set_index("id")["text"]
    values = read_table(root / "submissions/blend.csv", "utf-8").set_index("id").astype(float)
    np.testing.assert_allclose(values.loc[rows[rows.str.contains("film")].index, label], holds)
    lines = read_json(root / "oof/_patterns/blend.json")["lines"]
    assert [line["acts"] > 0 for line in lines] == [True, True, True]
    info = read_json(root / "submissions/blend.json")
    assert info["nested"]["score"] != info["patterns"]["nested_without"]["score"]


def test_means_of_ranks_are_refused(root: Path, capsys) -> None:
    path = root / "oof/_blends/blend/blend.json"
    info = read_json(path)
    info["winners_by_fold"]["1"] = "rank_mean"
    path.write_text(json.dumps(info))
    seal(path.parent)
    sentence = (
        "blend has means of ranks (rank_mean), which say nothing of confidence, but patterns "
        'require probabilities: run `make blend SET="blend.methods=[mean,greedy,stack]"`'
    )
    for stage in (["submit"], ["patterns"], ["predict", "--text", "a"]):
        refuses(root, stage, sentence, capsys)


def test_a_blend_from_before_decisions_were_kept_is_refused(root: Path, capsys) -> None:
    (root / "oof/_blends/blend/nested.parquet").unlink()
    seal(root / "oof/_blends/blend")
    sentence = (
        "blend 'blend' has no out-of-fold decisions, which patterns are compared with: run "
        "`make blend` again"
    )
    refuses(root, ["submit"], sentence, capsys)


def test_the_debug_workspace_has_the_patterns(root: Path) -> None:
    shutil.copy(root / "input/train.csv", root / "input/cached.csv")
    write(root / "patterns.yaml", "rules: [{texts: cached.csv}]")
    assert foldstack(root, "--debug", "folds") == 0
    assert Workspace.open(root / "debug", []).patterns.hash == (
        Workspace.open(root, []).patterns.hash
    )
    assert (root / "debug/input/cached.csv").read_bytes() == (
        root / "input/cached.csv"
    ).read_bytes()
