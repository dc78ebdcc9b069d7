"""Label edits: training rows that are dropped, relabelled or weighted, and still scored as given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from foldstack.stages.dependencies import why_stale
from foldstack.stages.learned import rows_of
from foldstack.store import RunKey, Store
from foldstack.workspace import Workspace
from tiny import (
    foldstack,
    make_kind,
    make_workspace,
    refuses,
    run_of,
    train_folds,
    turn_labels,
    write,
)

LINEAR = "preset: tfidf\nmin_count: 1\nchar_ngrams: [0, 0]\nword_ngrams: [1, 1]\nC: 10\n"
EDITS = (
    "id,action,label,weight,reason\nr0,drop,,,advertisement\nr1,relabel,0,,wrong\nr2,weight,,0.5,\n"
)


@pytest.fixture
def root(tmp_path) -> Path:
    """30 rows in three folds, and edits: r0 dropped, r1 relabelled from 1 to 0, r2 weighs .5."""
    root = make_workspace(tmp_path / "w", n=30, models=["linear"], edits="edits.csv")
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "input/edits.csv", EDITS)
    assert foldstack(root, "folds") == 0
    return root


def fold_of(root: Path, id_: str) -> int:
    ws, run = run_of(root, "linear")
    return int(run.folds.fold[ws.competition.train.ids.tolist().index(id_)])


def learned(root: Path, left_out: int) -> dict[str, tuple[float, float]]:
    """Target and weight of each row that the run learns from."""
    rows = rows_of(*run_of(root, "linear", left_out))[0]
    pairs = zip(rows.targets[:, 0].tolist(), rows.weights.tolist(), strict=True)
    return dict(zip(rows.ids, pairs, strict=True))


def without_edits(root: Path) -> None:
    settings = (root / "competition.yaml").read_text()
    write(root / "competition.yaml", settings.replace("edits: edits.csv\n", ""))


# What is learned


def test_each_action_changes_what_is_learned(root):
    for fold in range(3):
        rows = learned(root, fold)
        assert "r0" not in rows
        assert rows.get("r1") == (None if fold == fold_of(root, "r1") else (0.0, 1.0))
        assert rows.get("r2") == (None if fold == fold_of(root, "r2") else (0.0, 0.5))
        assert {w for id_, (_, w) in rows.items() if id_ != "r2"} == {1.0}


def test_held_out_rows_are_predicted_and_scored_on_their_given_labels(root):
    for fold in range(3):
        _, held, _, _ = rows_of(*run_of(root, "linear", fold))
        ws, run = run_of(root, "linear", fold)
        assert held.hash() == ws.competition.train.take(run.folds.held_out((fold,))).hash()
        assert (held.weights == 1).all()
        assert foldstack(root, "train", "--fold", str(fold)) == 0
        key = RunKey("linear", 0, (fold,))
        made = ws.store.read_predictions(key, "heldout", held)
        score = ws.store.read_run(key).score
        assert score == pytest.approx(roc_auc_score(held.targets[:, 0], made.raw[:, 0]))


def test_rows_that_select_the_epoch_keep_their_given_labels(root):
    """The same rows select it with and without edits, so that both can be compared."""
    write(root / "presets/network.yaml", "preset: textcnn\ntraining: {select: inner}\n")
    chosen = []
    for relabelled in (
        EDITS,
        "id,action,label\n" + "".join(f"r{i},relabel,0\n" for i in range(28)),
    ):
        write(root / "input/edits.csv", relabelled)
        _, _, select, _ = rows_of(*run_of(root, "network", 0))
        ws, _ = run_of(root, "linear")
        given = dict(zip(ws.competition.train.ids, ws.competition.train.targets, strict=True))
        assert select.targets.tolist() == [given[i].tolist() for i in select.ids]
        chosen.append(select.ids.tolist())
    assert chosen[0] == chosen[1] != []


def test_edits_change_what_is_predicted(root):
    def predicted() -> np.ndarray:
        assert foldstack(root, "train", "--fold", "0", "--force") == 0
        ws, _ = run_of(root, "linear")
        key = RunKey("linear", 0, (0,))
        return ws.store.read_predictions(key, "test", ws.competition.test).raw

    with_them = predicted()
    write(root / "input/edits.csv", "id,action\nr0,keep\n")
    assert np.abs(predicted() - with_them).max() > 1e-3


def test_a_weight_multiplies_the_rows_own(tmp_path):
    root = make_workspace(tmp_path / "w", n=30, models=["linear"], edits="e.csv", weight="w")
    lines = (root / "input/train.csv").read_text().splitlines()
    write(root / "input/train.csv", "\n".join([lines[0] + ",w", *[x + ",2" for x in lines[1:]]]))
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "input/e.csv", "id,action,weight,label\nr0,weight,0.5,\nr1,relabel,3,0\n")
    assert foldstack(root, "folds") == 0
    rows = learned(root, 0) | learned(root, 1)
    assert (rows["r0"], rows["r1"], rows["r3"]) == ((0.0, 1.0), (0.0, 6.0), (1.0, 2.0))


def test_a_copy_of_an_edited_row_stays_as_it_is(tmp_path):
    root = make_workspace(tmp_path / "w", n=30, models=["linear"], edits="e.csv")
    train = (root / "input/train.csv").read_text()
    first = train.splitlines()[1]
    write(root / "input/train.csv", train + first.replace("r0,", "copy,") + "\n")
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "input/e.csv", "id,action\nr0,drop\n")
    assert foldstack(root, "folds") == 0
    other = next(k for k in range(3) if k != fold_of(root, "r0"))
    rows = learned(root, other)
    assert "r0" not in rows and rows["copy"] == (0.0, 1.0)


def test_edited_labels_are_mixed_with_what_teachers_predict(root):
    """And a dropped row is not taught either."""
    write(root / "presets/distilled.yaml", LINEAR + "distil: {teachers: linear, share: 0.25}\n")
    fold = next(k for k in range(3) if k not in (fold_of(root, "r0"), fold_of(root, "r1")))
    for other in {0, 1, 2} - {fold}:
        options = ("--model", "linear", "--fold", f"{fold}-{other}")
        assert foldstack(root, "train", *options) == 0
    rows, _, _, optimistic = rows_of(*run_of(root, "distilled", fold))
    targets = dict(zip(rows.ids, rows.targets[:, 0].tolist(), strict=True))
    assert "r0" not in targets and len(targets) == 19 and optimistic == []
    assert 0 < targets["r1"] < 0.25 and 0.75 < targets["r3"] < 1


def test_folds_are_those_of_the_given_labels(root):
    folds = (root / "folds/folds.csv").read_bytes()
    without_edits(root)
    assert foldstack(root, "folds", "--force") == 0
    assert (root / "folds/folds.csv").read_bytes() == folds


def test_counts_are_printed(root, capsys):
    write(root / "input/edits.csv", EDITS + "r3,keep,,,looks right\n")
    counts = "1 dropped, 1 relabelled, 1 weighted, 1 kept as they are"
    assert foldstack(root, "folds") == 0
    assert f"folds: edits, which training alone reads: {counts}\n" in capsys.readouterr().out
    fold = str(next(k for k in range(3) if k not in [fold_of(root, f"r{i}") for i in range(2)]))
    assert foldstack(root, "train", "--fold", fold) == 0
    assert (
        f"linear seed 0 fold{fold}: edits.csv: 1 dropped, 1 relabelled" in capsys.readouterr().out
    )


KINDS = {
    "binary": ("roc_auc", ["label"], "label\nr0,relabel,good", [1.0]),
    "multiclass": ("accuracy", ["label"], "label\nr0,relabel,other", [0.0, 0.0, 1.0]),
    "multilabel": ("roc_auc", ["p", "q", "r"], "p,q,r\nr0,relabel,1,0,1", [1.0, 0.0, 1.0]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_has_the_form_that_it_has_in_train(tmp_path, kind):
    metric, columns, edits, target = KINDS[kind]
    root = make_kind(tmp_path / "w", kind, metric, columns)
    write(root / "competition.yaml", (root / "competition.yaml").read_text() + "edits: e.csv\n")
    write(root / "input/e.csv", f"id,action,{edits}\n")
    assert applied(root)["r0"] == target


OTHER_FORMS = {  # settings, the training file, edits, the target of a
    "labels in a cell": (
        {"kind": "multilabel", "metric": "f1_micro", "separator": "|"},
        "id,text,label\na,one,x|y\nb,two,x\nc,three,x|y\n",
        "id,action,label\na,relabel,y\nb,relabel,\n",
        [0.0, 1.0],
    ),
    "numbers": (
        {"kind": "regression", "metric": "rmse"},
        "id,text,label\na,one,1.5\nb,two,2\nc,three,0\n",
        "id,action,label\na,relabel,-0.25\n",
        [-0.25],
    ),
    "several numbers": (
        {"kind": "regression", "metric": "mcrmse", "target": ["u", "v"]},
        "id,text,u,v\na,one,1,2\nb,two,2,3\nc,three,4,5\n",
        "id,action,v,u\na,relabel,7,6\n",
        [6.0, 7.0],
    ),
    "a column per class": (
        {"kind": "multiclass", "metric": "accuracy", "target": ["u", "v"]},
        "id,text,u,v\na,one,1,0\nb,two,0,1\nc,three,1,0\n",
        "id,action,u,v\na,relabel,0,1\n",
        [0.0, 1.0],
    ),
    "shares": (
        {"kind": "multiclass", "metric": "log_loss", "target": ["u", "v"]},
        "id,text,u,v\na,one,0.9,0.1\nb,two,0,1\nc,three,1,0\n",
        "id,action,u,v\na,relabel,0.4,0.6\n",
        [0.4, 0.6],
    ),
    "a threshold": (
        {"threshold": 0.5},
        "id,text,label\na,one,0.2\nb,two,0.9\nc,three,0.1\n",
        "id,action,label\na,relabel,0.7\n",
        [1.0],
    ),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_other_forms_of_labels(tmp_path, form):
    settings, train, edits, target = OTHER_FORMS[form]
    root = make_workspace(tmp_path / "w", edits="e.csv", **settings)
    write(root / "input/train.csv", train)
    write(root / "input/e.csv", edits)
    assert applied(root)["a"] == target


def applied(root: Path) -> dict[str, list[float]]:
    competition = Workspace.open(root, []).competition
    rows = competition.edits.applied(competition.train)
    return dict(zip(rows.ids, rows.targets.tolist(), strict=True))


def test_ids_are_matched_as_numbers(tmp_path):
    root = make_workspace(tmp_path / "w", edits="e.csv")
    write(root / "input/train.csv", "id,text,label\n7,one,0\n8,two,1\n9,three,0\n")
    write(root / "input/e.csv", "id,action,label\n7.0,relabel,1\n")
    assert applied(root)["7"] == [1.0]


# No label of the held-out fold teaches


def test_turned_labels_and_other_edits_of_the_held_out_fold_change_nothing(root):
    """The training input of the run that leaves fold 0 out is the same byte by byte."""

    def input_of_run() -> list[bytes]:
        rows, _, _, optimistic = rows_of(*run_of(root, "linear", 0))
        assert optimistic == []
        arrays = [rows.targets.tobytes(), rows.weights.tobytes()]
        return [*arrays, repr((rows.ids.tolist(), rows.texts)).encode()]

    ws, run = run_of(root, "linear", 0)
    held = ws.competition.train.ids[run.folds.held_out((0,))].tolist()
    mine = [x for x in EDITS.splitlines() if x.split(",")[0] not in held]
    write(root / "input/edits.csv", "\n".join(mine) + "\n")
    before = input_of_run()
    turn_labels(root, set(held))
    more = [f"{i},{('drop,,', 'relabel,1,', 'weight,,9')[k % 3]}," for k, i in enumerate(held)]
    write(root / "input/edits.csv", "\n".join([*mine, *more]) + "\n")
    assert input_of_run() == before


def test_edits_by_a_model_are_marked(root):
    """It may have learned the held-out fold when it chose to change a row of another one."""
    write(root / "input/edits.csv", "id,action,label,by\nr0,drop,,model\nr1,relabel,0,person\n")
    reason = (
        "1 row is edited by a model in edits.csv, which may have learned the labels of the held-out "
        "folds: what it changes of other folds' rows carries them into training; without those edits "
        "this mark goes"
    )
    assert rows_of(*run_of(root, "linear", 0))[3] == [reason]
    train_folds(root)
    assert foldstack(root, "blend") == foldstack(root, "submit") == 0
    assert Store(root).read_run(RunKey("linear", 0, (0,))).optimistic == [reason]
    submission = json.loads((root / "submissions/blend.json").read_text())
    assert submission["optimistic"] == [reason]
    write(root / "presets/pupil.yaml", LINEAR + "pseudo_labels: {teachers: linear}\n")
    assert rows_of(*run_of(root, "pupil", 0))[3] == [reason]  # once, though its teacher has it too


@pytest.mark.parametrize("by", ["", "person"])
def test_edits_by_a_person_and_rows_kept_by_a_model_are_not_marked(root, by):
    write(root / "input/edits.csv", f"id,action,by\nr0,drop,{by}\nr1,keep,model\n")
    assert rows_of(*run_of(root, "linear", 0))[3] == []


# Identity and provenance


def test_runs_of_other_edits_are_stale(root, capsys):
    train_folds(root)
    assert foldstack(root, "blend") == 0
    then = Workspace.open(root, []).competition.edits_hash
    write(root / "input/edits.csv", EDITS + "r4,drop,,,\n")
    ws, _ = run_of(root, "linear")
    now = ws.competition.edits_hash
    reason = f"was made with other edits of training rows (hash {then}) than today's (hash {now})"
    assert why_stale(ws, ws.store.read_run(RunKey("linear", 0, (0,)))) == [reason]
    for command in ("blend", "submit"):
        capsys.readouterr()
        assert foldstack(root, command) == 2
        assert "edits of training rows" in capsys.readouterr().err
    without_edits(root)
    ws, _ = run_of(root, "linear")
    reason = f"was made with other edits of training rows (hash {then}) than today's (hash None)"
    assert why_stale(ws, ws.store.read_run(RunKey("linear", 0, (0,)))) == [reason]


def test_what_changes_nothing_leaves_runs_as_they_are(root):
    """Another order, a reason, or a row that is kept."""
    assert foldstack(root, "train", "--fold", "0") == 0
    head, *rows = EDITS.splitlines()
    write(root / "input/edits.csv", "\n".join([head, "r9,keep,,,is right", *rows[::-1]]) + "\n")
    ws, _ = run_of(root, "linear")
    assert why_stale(ws, ws.store.read_run(RunKey("linear", 0, (0,)))) == []


def test_a_file_of_kept_rows_leaves_the_identity_of_runs(root):
    without_edits(root)
    assert foldstack(root, "train", "--fold", "0") == 0
    record = Store(root).read_run(RunKey("linear", 0, (0,)))
    assert "edits" not in record.identity.to_json()
    settings = (root / "competition.yaml").read_text()
    write(root / "competition.yaml", settings + "edits: edits.csv\n")
    write(root / "input/edits.csv", "id,action\nr0,keep\n")
    ws, _ = run_of(root, "linear")
    assert why_stale(ws, ws.store.read_run(RunKey("linear", 0, (0,)))) == []


def test_records_name_the_edits(root):
    from foldstack.stages.provenance import provenance

    train_folds(root)
    assert foldstack(root, "blend") == 0
    ws = Workspace.open(root, [])
    made = ws.competition.edits_hash
    blend = ws.store.read_blend("blend")
    assert Store(root).read_run(RunKey("linear", 0, (0,))).identity.edits == made
    assert blend.hashes.edits == made
    assert provenance(ws, "blend", blend).hashes["edits of training rows"] == made


def test_the_debug_workspace_has_the_edits_of_its_rows(root):
    assert foldstack(root, "--debug", "folds") == 0
    competition = Workspace.open(root / "debug", []).competition
    assert competition.root.name == "debug"
    assert (root / "debug/input/edits.csv").exists()


# What is refused

REFUSED = [
    ("id,action\nzz,drop\n", "row 1: 'id' 'zz' is no training row: leave it out"),
    ("id,action\nr0,drop\nr0,keep\n", "row 2 repeats 'id' 'r0': a row is edited once"),
    (
        "id,action\nr0,remove\n",
        "row 1: column 'action' holds 'remove': one of drop, relabel, weight, keep is expected",
    ),
    (
        "id,action,label\nr0,drop,\nr1,relabel,maybe\n",
        "row 2: column 'label' holds 'maybe', which is none of the labels '0', '1': fix the row or "
        "`labels` in competition.yaml",
    ),
    (
        "id,action,label\nr1,relabel,\n",
        "row 1: action relabel needs a label in 'label': write one, or change the action",
    ),
    (
        "id,action\nr1,relabel\n",
        "column 'label' is missing (known: action, id): each row of edits names a training row and an "
        "action",
    ),
    (
        "id,action,label\nr1,drop,1\n",
        "row 1: action drop makes no use of 'label', which holds '1': empty the cell, or change the "
        "action",
    ),
    (
        "id,action,weight\nr1,drop,1\n",
        "row 1: action drop makes no use of 'weight', which holds '1': empty the cell, or change the "
        "action",
    ),
    (
        "id,action,weight\nr1,weight,-1\n",
        "row 1: column 'weight' holds '-1': a number of 0 or more is expected",
    ),
    (
        "id,action,weight\nr1,weight,\n",
        "row 1: column 'weight' is empty: a number of 0 or more is expected",
    ),
    (
        "id,action,by\nr1,drop,robot\n",
        "row 1: column 'by' holds 'robot': who chose the edit is person or model, or nothing for person",
    ),
    (
        "id,action\n" + "".join(f"r{i},drop\n" for i in range(0, 30, 2)),
        "the edits leave no row of label '0' to learn from: take some out",
    ),
    (
        "id,action\n" + "".join(f"r{i},drop\n" for i in range(30)),
        "the edits leave no row to learn from: take some out",
    ),
]


@pytest.mark.parametrize("edits, sentence", REFUSED)
def test_bad_edits_are_refused_in_a_sentence(root, capsys, edits, sentence):
    path = write(root / "input/edits.csv", edits)
    refuses(root, ["train"], f"{path}: {sentence}", capsys)
    assert not (root / "oof/linear").exists()


def test_a_file_without_edits_is_refused(root, capsys):
    path = write(root / "input/edits.csv", "id,action\n")
    refuses(root, ["train"], f"{path} has a header but no rows", capsys)


def test_an_edit_of_a_row_without_a_label_is_refused(tmp_path, capsys):
    root = make_workspace(tmp_path / "w", edits="e.csv", unlabelled="drop")
    with (root / "input/train.csv").open("a") as file:
        file.write("x,another text,\n")
    path = write(root / "input/e.csv", "id,action,label\nx,relabel,1\n")
    sentence = f"{path}: row 1: 'id' 'x' has no label and is not learned: leave it out"
    refuses(root, ["folds"], sentence, capsys)


def test_a_target_named_as_a_column_of_edits_is_refused(tmp_path, capsys):
    settings = {"kind": "regression", "metric": "mcrmse", "target": ["weight", "size"]}
    root = make_workspace(tmp_path / "w", edits="e.csv", **settings)
    write(root / "input/train.csv", "id,text,weight,size\na,one,1,2\nb,two,2,3\nc,three,4,5\n")
    path = write(root / "input/e.csv", "id,action,weight\na,weight,1\n")
    sentence = (
        f"{path}: target column 'weight' is named as the edits' own column: name it otherwise by "
        "`columns` in competition.yaml"
    )
    refuses(root, ["folds"], sentence, capsys)
