"""External rows with soft labels, and weights of sources."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foldstack.competition import Competition
from foldstack.rows import Rows
from foldstack.stages.dependencies import Doubts, why_stale
from foldstack.stages.learned import rows_of
from foldstack.store import RunKey, Store
from foldstack.workspace import Workspace
from tiny import foldstack, make_kind, make_workspace, refuses, run_of, write

LINEAR = "preset: tfidf\nmin_count: 1\nchar_ngrams: [0, 0]\nword_ngrams: [1, 1]\nC: 10\n"
SOFT = {"file": "more.csv", "labels": "soft"}


def external(root: Path) -> Rows:
    return Competition.load(root).external


def with_soft(root: Path, table: str, **source: object) -> Path:
    """The workspace with a soft source that holds this table."""
    write(root / "input/more.csv", table)
    given = ", ".join(f"{k}: {v}" for k, v in (SOFT | source).items())
    settings = (root / "competition.yaml").read_text()
    write(root / "competition.yaml", f"{settings}external: [{{{given}}}]\n")
    return root


# What is read


def test_a_probability_in_a_binary_target_is_of_the_positive_class(tmp_path):
    root = with_soft(make_workspace(tmp_path / "w"), "text,label\none,0.7\ntwo,0\nthree,1\n")
    assert external(root).targets.tolist() == [[0.7], [0.0], [1.0]]
    assert (external(root).weights == 1).all()


def test_a_column_per_class_of_a_binary_target(tmp_path):
    root = make_kind(tmp_path / "w", "binary", "roc_auc", ["label"])
    with_soft(root, "text,good,bad\none,0.7,0.3\ntwo,0.2,0.8\n")
    assert external(root).targets.tolist() == [[0.7], [0.2]]


def test_a_column_per_class(tmp_path):
    """The rounding of their sum is taken out."""
    root = make_kind(tmp_path / "w", "multiclass", "accuracy", ["label"])
    with_soft(root, "text,other,good,bad\none,0.5,0.3,0.2\ntwo,0.332,0.332,0.332\n")
    np.testing.assert_allclose(external(root).targets, [[0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]])


def test_classes_that_have_columns_in_train(tmp_path):
    settings = {"kind": "multiclass", "metric": "accuracy", "target": ["u", "v"]}
    root = make_workspace(tmp_path / "w", **settings)
    write(root / "input/train.csv", "id,text,u,v\na,one,1,0\nb,two,0,1\nc,three,1,0\n")
    with_soft(root, "text,u,v\nfour,0.4,0.6\n")
    assert external(root).targets.tolist() == [[0.4, 0.6]]


def test_labels_of_a_row_need_no_sum(tmp_path):
    root = make_kind(tmp_path / "w", "multilabel", "roc_auc", ["p", "q", "r"])
    with_soft(root, "text,p,q,r\none,0.9,0.8,0\n")
    assert external(root).targets.tolist() == [[0.9, 0.8, 0.0]]


def test_labels_that_share_a_cell_in_train_have_a_column_each(tmp_path):
    root = make_workspace(tmp_path / "w", kind="multilabel", metric="f1_micro", separator="|")
    write(root / "input/train.csv", "id,text,label\na,one,x|y\nb,two,x\nc,three,y\n")
    with_soft(root, "text,x,y\none,0.9,0.25\n")
    assert external(root).targets.tolist() == [[0.9, 0.25]]


def test_sources_have_weights(tmp_path):
    root = make_workspace(
        tmp_path / "w",
        weight="w",
        external=["plain.csv", SOFT | {"weight": 0.5}, {"file": "half.csv", "weight": 0.5}],
    )
    train = (root / "input/train.csv").read_text().splitlines()
    write(root / "input/train.csv", "\n".join([train[0] + ",w", *[f"{x},1" for x in train[1:]]]))
    write(root / "input/plain.csv", "text,label\none,1\n")
    write(root / "input/more.csv", "text,label\ntwo,0.75\n")
    write(root / "input/half.csv", "text,label,w\nthree,0,3\n")
    rows = external(root)
    assert rows.targets[:, 0].tolist() == [1.0, 0.75, 0.0]
    assert rows.weights.tolist() == [1.0, 0.5, 1.5]
    assert rows.ids.tolist() == ["plain.csv:1", "more.csv:1", "half.csv:1"]


def test_a_name_is_a_source_with_hard_labels(tmp_path):
    """A plain list is what it always was, and so is its hash."""
    root = make_workspace(tmp_path / "w", external=["more.csv"])
    write(root / "input/more.csv", "text,label\none,1\n")
    plain = Competition.load(root)
    mapping = Competition.load(root, {"external": [{"file": "more.csv"}]})
    assert plain.overlay_hash == mapping.overlay_hash
    soft = Competition.load(root, {"external": [SOFT]})
    assert soft.external.targets.tolist() == plain.external.targets.tolist() == [[1.0]]
    other = Competition.load(root, {"external": [{"file": "more.csv", "weight": 0.5}]})
    assert other.overlay_hash != plain.overlay_hash


def test_unlabelled_texts_of_other_sources_stay_for_pretraining(tmp_path):
    root = make_workspace(tmp_path / "w", unlabelled="pool", external=["plain.csv", SOFT])
    write(root / "input/plain.csv", "text,label\none,1\nno label,\n")
    write(root / "input/more.csv", "text,label\ntwo,0.75\n")
    competition = Competition.load(root)
    assert competition.external.texts == [("one",), ("two",)]
    assert competition.pool == [("no label",)]


# What is learned


def test_soft_labels_and_weights_change_what_is_predicted(tmp_path):
    root = make_workspace(tmp_path / "w", n=30, models=["linear"])
    write(root / "presets/linear.yaml", LINEAR)
    table = "text,label\nunheard words,0.9\nunheard things,0.9\n"
    with_soft(root, table)
    assert foldstack(root, "folds") == 0

    def predicted() -> np.ndarray:
        assert foldstack(root, "train", "--fold", "0", "--force") == 0
        ws, _ = run_of(root, "linear")
        made = ws.store.read_predictions(RunKey("linear", 0, (0,)), "test", ws.competition.test)
        return made.raw[:, 0]

    soft = predicted()
    rows = rows_of(*run_of(root, "linear"))[0]
    assert rows.targets[rows.origin == "external"].tolist() == [[0.9], [0.9]]
    write(root / "input/more.csv", table.replace("0.9", "0.1"))
    lower = predicted()
    assert np.abs(lower - soft).max() > 1e-3
    settings = (root / "competition.yaml").read_text()
    write(root / "competition.yaml", settings.replace("labels: soft", "labels: soft, weight: 0.01"))
    assert np.abs(predicted() - lower).max() > 1e-3


def test_soft_labels_by_a_model_of_this_workspace_are_marked(tmp_path):
    """As `predict` writes them, so that they are read as they are."""
    root = make_workspace(tmp_path / "w", n=30, models=["linear"])
    write(root / "presets/linear.yaml", LINEAR)
    assert foldstack(root, "folds") == 0
    for fold in range(3):
        assert foldstack(root, "train", "--fold", str(fold)) == 0
    assert foldstack(root, "blend") == 0
    new = write(tmp_path / "new.csv", "text\nfresh text 1\nfresh text 2\n")
    out = tmp_path / "out.csv"
    assert foldstack(root, "predict", "--file", str(new), "--out", str(out)) == 0
    with_soft(root, "text,label\nfresh text 1,0.8\nfresh text 2,0.3\n")
    assert foldstack(root, "train", "--fold", "0", "--force") == 0
    reason = (
        "2 external rows, 'more.csv:1' the first, have texts that a model has labelled here: their "
        "labels may come from a model of this competition, which has seen every fold; without those "
        "rows this mark goes"
    )
    assert Store(root).read_run(RunKey("linear", 0, (0,))).optimistic == [reason]


def test_soft_copies_of_held_out_rows_are_not_learned(tmp_path):
    root = make_workspace(tmp_path / "w", n=30, models=["linear"])
    write(root / "presets/linear.yaml", LINEAR)
    ws = Workspace.open(root, [])
    lines = [f"{text},0.8\n" for (text,) in ws.competition.train.texts]
    with_soft(root, "text,label\n" + "".join(lines))
    assert foldstack(root, "folds") == 0
    ws, run = run_of(root, "linear")
    rows = rows_of(ws, run)[0]
    held = {ws.competition.train.texts[i] for i in run.folds.held_out((0,))}
    assert not held & set(rows.texts) and (rows.origin == "external").sum() == 20


# What is refused

REFUSED = [
    (
        "text,label\none,0.5\ntwo,1.5\n",
        "row 2: column 'label' holds '1.5': soft labels are numbers from 0 to 1",
    ),
    ("text,label\none,\n", "row 1: column 'label' is empty: soft labels are numbers from 0 to 1"),
    (
        "text,label\none,yes\n",
        "row 1: column 'label' holds 'yes': soft labels are numbers from 0 to 1",
    ),
    (
        "text,0,1\none,0.5,0.5\ntwo,0.5,0.6\n",
        "row 2: the soft labels in '0', '1' sum to 1.1: probabilities of classes sum to 1: fix the row",
    ),
    (
        "text,0\none,0.5\n",
        "column 'label' is missing (known: 0, text): fix the file or competition.yaml",
    ),
]


@pytest.mark.parametrize("table, sentence", REFUSED)
def test_bad_soft_labels_are_refused_in_a_sentence(tmp_path, capsys, table, sentence):
    root = with_soft(make_workspace(tmp_path / "w"), table)
    refuses(root, ["folds"], f"{root / 'input/more.csv'}: {sentence}", capsys)
    assert not (root / "folds").exists()


def test_a_class_without_a_column_is_refused(tmp_path, capsys):
    root = make_kind(tmp_path / "w", "multiclass", "accuracy", ["label"])
    with_soft(root, "text,other,good\none,0.5,0.5\n")
    sentence = (
        "column 'bad' is missing (known: good, other, text): fix the file or competition.yaml"
    )
    refuses(root, ["folds"], f"{root / 'input/more.csv'}: {sentence}", capsys)


def test_numbers_are_not_marked_as_soft(tmp_path, capsys):
    root = make_workspace(tmp_path / "w", kind="regression", metric="rmse", external=[SOFT])
    sentence = (
        f"{root / 'competition.yaml'}: `external` marks the labels of 'more.csv' as soft, but targets "
        "of kind regression are numbers in any case: leave `labels` out"
    )
    refuses(root, ["folds"], sentence, capsys)


def test_a_weight_is_above_0(tmp_path, capsys):
    root = make_workspace(tmp_path / "w", external=[SOFT | {"weight": 0}])
    assert foldstack(root, "folds") == 2
    assert "external.0.weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    "sources, twice",
    [
        (["a.csv", "a.csv"], "a.csv"),
        ([{"file": "a.csv", "name": "one"}, {"file": "a.csv", "name": "two"}], "a.csv"),
        (["a.csv", {"file": "b.csv", "name": "a.csv"}], "a.csv"),
    ],
)
def test_a_file_is_named_once(tmp_path, capsys, sources, twice):
    """Its rows would be learned twice."""
    root = make_workspace(tmp_path / "w", external=sources)
    assert foldstack(root, "folds") == 2
    assert f"it names '{twice}' twice: leave one out" in capsys.readouterr().err


def test_the_debug_workspace_keeps_what_is_said_of_a_source(tmp_path):
    root = make_workspace(tmp_path / "w", n=30, models=["linear"], pool=["pool.csv"])
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "input/pool.csv", "text\nanother\n")
    with_soft(root, "text,label\none,0.7\n")
    assert foldstack(root, "--debug", "folds") == 0
    written = sorted(path.name for path in (root / "debug/input").glob("*-0.csv"))
    assert written == ["external-0.csv", "pool-0.csv"]


# Which files a model learns


@pytest.fixture
def two_files(tmp_path) -> Path:
    """Two external files of a row each, and models that learn both, one or none of them."""
    sources = ["one.csv", {"file": "two.csv", "name": "second"}]
    root = make_workspace(tmp_path / "w", n=30, models=["both"], external=sources)
    for name in ("one", "two"):
        write(root / f"input/{name}.csv", f"text,label\nunheard {name},1\n")
    chosen = {"both": "all", "first": "one.csv", "second": "[second]", "neither": "none"}
    for model, files in chosen.items():
        write(root / f"presets/{model}.yaml", f"{LINEAR}external_files: {files}\n")
    write(root / "presets/plain.yaml", LINEAR)
    assert foldstack(root, "folds") == 0
    return root


@pytest.mark.parametrize(
    "model, ids",
    [
        ("both", ["one.csv:1", "two.csv:1"]),
        ("plain", ["one.csv:1", "two.csv:1"]),
        ("first", ["one.csv:1"]),
        ("second", ["two.csv:1"]),
        ("neither", []),
    ],
)
def test_a_preset_chooses_its_external_files(two_files, model, ids):
    rows = rows_of(*run_of(two_files, model))[0]
    assert rows.ids[rows.origin == "external"].tolist() == ids
    assert len(rows) == 20 + len(ids)


def test_the_choice_is_part_of_the_identity(two_files):
    for model in ("first", "plain"):
        assert foldstack(two_files, "train", "--model", model, "--fold", "0") == 0
    found = [
        Store(two_files).read_run(RunKey(model, 0, (0,))).identity.settings["external_files"]
        for model in ("first", "plain")
    ]
    assert found == [["one.csv"], "all"]
    write(two_files / "presets/first.yaml", LINEAR + "external_files: none\n")
    assert foldstack(two_files, "train", "--model", "first", "--fold", "0") == 2


def test_a_run_is_stale_if_a_file_that_it_learns_from_changes(two_files, capsys):
    """And a blend of such runs; runs that chose other files stay as they are."""
    for model in ("first", "neither", "plain"):
        assert foldstack(two_files, "train", "--model", model) == 0
    assert foldstack(two_files, "blend", "--model", "first,neither") == 0
    path = two_files / "input/two.csv"
    write(path, "text,label\nunheard three,1\n")
    ws, _ = run_of(two_files, "first")

    def reasons(model: str) -> list[str]:
        return why_stale(ws, ws.store.read_run(RunKey(model, 0, (0,))))

    assert [bool(reasons(model)) for model in ("first", "neither", "plain")] == [False, False, True]
    assert "other external rows or weights" in reasons("plain")[0]
    assert foldstack(two_files, "train", "--model", "first") == 0
    blend = ws.store.read_blend("blend")
    assert Doubts.of(ws).of_blend(blend)[0] == []
    path = two_files / "input/one.csv"
    write(path, "text,label\nunheard four,1\n")
    ws, _ = run_of(two_files, "first")
    (stale,) = Doubts.of(ws).of_blend(ws.store.read_blend("blend"))[0]
    assert stale.startswith(
        "depends on first seed 0 fold0, which was made with other external rows"
    )


def test_a_mark_is_on_the_models_that_learn_the_file(two_files):
    """Labels of test rows may come from a model; who does not learn them is not marked."""
    ws, _ = run_of(two_files, "first")
    (text,) = ws.competition.test.texts[0]
    write(two_files / "input/two.csv", f"text,label\n{text},1\n")
    for model in ("first", "neither", "plain"):
        assert foldstack(two_files, "train", "--model", model) == 0
    ws, _ = run_of(two_files, "first")
    of_runs = [Doubts.of(ws).of_run(run)[1] for run in ws.store.runs("first").values()]
    assert of_runs == [[], [], []]
    marked = ws.store.read_run(RunKey("plain", 0, (0,))).optimistic
    assert len(marked) == 1 and "have texts of the test file" in marked[0]
    assert foldstack(two_files, "blend", "--model", "first,neither") == 0
    assert ws.store.read_blend("blend").optimistic == []
    assert foldstack(two_files, "blend", "--model", "first,plain") == 0
    assert ws.store.read_blend("blend").optimistic == [f"plain: {marked[0]}"]
    assert foldstack(two_files, "submit") == 0
    submission = json.loads((two_files / "submissions/blend.json").read_text())
    assert f"plain: {marked[0]}" in submission["optimistic"]


def test_an_unknown_external_file_is_refused(two_files, capsys):
    write(two_files / "presets/first.yaml", LINEAR + "external_files: [two.csv]\n")
    sentence = (
        "first.yaml: external_files names 'two.csv', which is no file of `external` in "
        "competition.yaml: did you mean 'one.csv'?"
    )
    refuses(two_files, ["train", "--model", "first", "--fold", "0"], sentence, capsys)


def test_the_debug_workspace_knows_the_files_by_their_names(two_files):
    for model in ("first", "second"):
        assert foldstack(two_files, "--debug", "folds") == 0
        options = ("train", "--model", model, "--fold", "0", "--force")
        assert foldstack(two_files, "--debug", *options) == 0
