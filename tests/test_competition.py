"""The competition: what stands in the files comes back unchanged, in the sample's form."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foldstack.competition import Competition
from foldstack.rows import Rows
from makers import unlabelled
from tiny import go_through, make_workspace, refuses, write, write_competition


def load(root: Path, train: str, test: str = "", sample: str = "", **settings) -> Competition:
    """A competition of these three files; `test` and `sample` default to one row."""
    write(root / "input/train.csv", train)
    write(root / "input/test.csv", test or "id,text\nt0,x\n")
    write(root / "input/sample_submission.csv", sample or "id,label\nt0,0\n")
    write_competition(root, **settings)
    return Competition.load(root)


# Nothing is guessed

STRANGE = [
    "NA",
    "007",
    " x ",
    "nan",
    "None",
    "1e5",
    "TRUE",
    "a,b",
    'say "no"',
    "two\nlines",
    "two\r\nlines",
    "\u00e9\u0065\u0301",
    "漢字 🎬",
    "\ufefftext",
    "tab\there",
    "-",
    "",
]


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def test_ids_texts_and_labels_come_back_unchanged(tmp_path: Path) -> None:
    """A CSV reader that guesses turns the text NA into nothing and the id 007 into 7."""
    ids = [s or "some" for s in STRANGE]
    rows = "".join(
        f"{quoted(i)},{quoted(t)},{quoted(t)}\n" for i, t in zip(ids, STRANGE, strict=True)
    )
    texts = "".join(f"{quoted(i)},{quoted(t)}\n" for i, t in zip(ids, STRANGE, strict=True))
    sample = "id,label\n" + "".join(f"{quoted(i)},x\n" for i in reversed(ids))
    competition = load(
        tmp_path,
        "id,text,label\n" + rows,
        "id,text\n" + texts,
        sample,
        kind="multiclass",
        metric="accuracy",
        unlabelled="class",  # the empty one, too
    )
    assert list(competition.train.ids) == list(competition.test.ids) == ids
    assert competition.train.texts == competition.test.texts == [(s,) for s in STRANGE]
    assert set(competition.labels) == set(STRANGE)
    submitted = competition.submission.fill(competition.test.ids, competition.train.targets)
    assert list(submitted["id"]) == ids[::-1]
    assert list(submitted["label"]) == STRANGE[::-1]


def test_unquoted_blanks_belong_to_the_value(tmp_path: Path) -> None:
    competition = load(tmp_path, "id,text,label\n a , x ,0\nb,,1\n")
    assert list(competition.train.ids) == [" a ", "b"]
    assert competition.train.texts == [(" x ",), ("",)]


COLUMNS = "id,title,body,label\na,x,y,0\nb,,z,1\n"


def test_several_text_columns_are_joined_by_a_space(tmp_path: Path) -> None:
    """In the order of the settings; an empty one leaves no space behind."""
    competition = load(tmp_path, COLUMNS, text=["body", "title"])
    assert competition.train.texts == [("y x",), ("z",)]


def test_a_template_joins_text_columns(tmp_path: Path) -> None:
    """Braces in the texts themselves are texts."""
    train = COLUMNS.replace("a,x,y", "a,x,{y}")
    competition = load(tmp_path, train, text=["title", "body"], template="{title}: {body}!")
    assert competition.train.texts == [("x: {y}!",), (": z!",)]


def test_a_template_names_columns_with_dots(tmp_path: Path) -> None:
    """Python's format would look for an attribute `b` of a column `a`."""
    train = COLUMNS.replace("title", "a.b").replace("body", "c[0]")
    competition = load(tmp_path, train, text=["a.b", "c[0]"], template="{{{a.b}}} {c[0]}")
    assert competition.train.texts == [("{x} y",), ("{} z",)]


def test_a_pair_stays_two_texts(tmp_path: Path) -> None:
    competition = load(tmp_path, COLUMNS, text=["body", "title"], pair=True)
    assert competition.train.texts == [("y", "x"), ("z", "")]


# Labels and targets

LABEL_ORDERS = [
    (["10", "9", "2"], ("2", "9", "10")),
    (["b", "a", "C"], ("C", "a", "b")),
    (["x", "10", "-1.5", "2"], ("-1.5", "2", "10", "x")),
    (["nan", "b", "inf", "1"], ("1", "b", "inf", "nan")),
]


@pytest.mark.parametrize(("found", "order"), LABEL_ORDERS)
def test_labels_are_ordered_by_number_then_by_text(
    tmp_path: Path, found: list[str], order: tuple[str, ...]
) -> None:
    """By text, 10 would come before 2; `nan` as a number would leave the order to chance."""
    rows = "".join(f"r{i},x,{label}\n" for i, label in enumerate(found))
    train = "id,text,label\n" + rows
    competition = load(tmp_path, train, kind="multiclass", metric="accuracy", unlabelled="class")
    assert competition.labels == competition.outputs == order
    wanted = np.eye(len(order))[[order.index(label) for label in found]]
    assert competition.train.targets.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("listed", "targets"),
    [([], [[0], [1], [0]]), (["no", "yes"], [[0], [1], [0]]), (["yes", "no"], [[1], [0], [1]])],
)
def test_the_last_binary_label_is_the_positive(
    tmp_path: Path, listed: list[str], targets: list
) -> None:
    train = "id,text,label\na,x,no\nb,y,yes\nc,z,no\n"
    competition = load(tmp_path, train, labels=listed)
    assert competition.outputs == ((listed or ["yes"])[-1],)
    assert competition.train.targets.tolist() == targets


def test_a_listed_class_without_rows_keeps_its_column(tmp_path: Path) -> None:
    competition = load(
        tmp_path,
        "id,text,label\na,x,c\nb,y,a\n",
        kind="multiclass",
        metric="accuracy",
        labels=["a", "b", "c"],
    )
    assert competition.train.targets.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_multilabel_targets_are_their_columns(tmp_path: Path) -> None:
    competition = load(
        tmp_path,
        "id,text,p,q\na,x,1,0\nb,y,0.0,1.0\nc,z,False,true\n",
        kind="multilabel",
        target=["q", "p"],
    )
    assert competition.labels == competition.outputs == ("q", "p")
    assert competition.train.targets.tolist() == [[0, 1], [1, 0], [1, 0]]


def test_a_single_target_may_be_written_without_brackets(tmp_path: Path) -> None:
    competition = load(tmp_path, "id,body,y\na,x,0\nb,z,1\n", target="y", text="body")
    assert competition.settings.target == ("y",)
    assert competition.train.texts == [("x",), ("z",)]


def test_group_and_weight_columns(tmp_path: Path) -> None:
    train = "id,text,label,author,w\na,x,0,ann,1\nb,y,1,bob,0.5\nc,z,0,ann,0\n"
    competition = load(tmp_path, train, group="author", weight="w")
    assert competition.train.groups.tolist() == [0, 1, 0]
    assert competition.train.weights.tolist() == [1, 0.5, 0]
    plain = load(tmp_path, train)
    assert plain.train.groups.tolist() == [0, 1, 2]
    assert plain.train.weights.tolist() == [1, 1, 1]


# What the submission wants

BINARY = {"train": "id,text,label\na,x,no\nb,y,yes\n"}
CLASSES = {"train": "id,text,label\na,x,p\nb,y,q\nc,z,r\n", "kind": "multiclass"}
LABELS = {"train": "id,text,p,q\na,x,1,0\nb,y,0,1\n", "kind": "multilabel", "target": ["p", "q"]}
WANTS = [
    (BINARY, "f1", ["label"], "auto", True),
    (BINARY, "roc_auc", ["label"], "auto", False),
    (BINARY, "log_loss", ["anything"], "auto", False),
    (BINARY, "f1", ["no", "yes"], "auto", False),
    (BINARY, "f1", ["label"], "probabilities", False),
    (BINARY, "roc_auc", ["label"], "labels", True),
    (CLASSES, "f1_macro", ["label"], "auto", True),
    (CLASSES, "f1_macro", ["q", "r", "p"], "auto", False),
    (CLASSES, "log_loss", ["p", "q", "r"], "auto", False),
    (LABELS, "f1_macro", ["q", "p"], "auto", True),
    (LABELS, "roc_auc", ["p", "q"], "auto", False),
    (LABELS, "f1_macro", ["p", "q"], "probabilities", False),
]


@pytest.mark.parametrize("placeholder", ["0", "0.5", "1", "x", ""])
@pytest.mark.parametrize(("base", "metric", "columns", "submission", "labels"), WANTS)
def test_labels_or_probabilities_follow_the_metric_and_the_samples_columns(
    tmp_path: Path, base, metric, columns, submission, labels, placeholder
) -> None:
    """Many samples hold 0 where probabilities are wanted, and .5 where labels are."""
    settings = dict(base)
    train = settings.pop("train")
    sample = ",".join(["id", *columns]) + "\n" + ",".join(["t0", *[placeholder] * len(columns)])
    competition = load(
        tmp_path, train, sample=sample + "\n", metric=metric, submission=submission, **settings
    )
    assert competition.submission.wants_labels is labels


TEST = "id,text\nt0,x\nt1,y\nt2,z\n"


def submitted(tmp_path: Path, base: dict, metric: str, header: str, values) -> list[list[str]]:
    """The rows of a submission whose sample has this header and the ids t2, t0, t1."""
    settings = dict(base)
    fill = ",0" * header.count(",")
    sample = header + "\n" + "".join(f"{id_}{fill}\n" for id_ in ("t2", "t0", "t1"))
    if not header.startswith("id"):
        sample = header + "\n" + "".join(f"0,{id_}\n" for id_ in ("t2", "t0", "t1"))
    competition = load(tmp_path, settings.pop("train"), TEST, sample, metric=metric, **settings)
    table = competition.submission.fill(competition.test.ids, np.array(values, dtype=float))
    assert ",".join(table.columns) == header
    return table.to_numpy().tolist()


def test_a_submission_of_binary_labels(tmp_path: Path) -> None:
    """In the sample's order and with the labels' own names."""
    rows = submitted(tmp_path, BINARY, "f1", "id,label", [[1], [0], [0]])
    assert rows == [["t2", "no"], ["t0", "yes"], ["t1", "no"]]


def test_a_submission_of_binary_probabilities(tmp_path: Path) -> None:
    """Of the positive label; numbers keep eight digits, however small."""
    rows = submitted(tmp_path, BINARY, "roc_auc", "id,label", [[0.123456789], [0.5], [1.5e-9]])
    assert rows == [["t2", "1.5e-09"], ["t0", "0.12345679"], ["t1", "0.5"]]


def test_the_ids_may_stand_in_another_column_than_the_first(tmp_path: Path) -> None:
    rows = submitted(tmp_path, BINARY, "roc_auc", "target,id", [[0.25], [0.5], [0.75]])
    assert rows == [["0.75", "t2"], ["0.25", "t0"], ["0.5", "t1"]]


@pytest.mark.parametrize("header", ["id,no,yes", "id,yes,no"])
def test_a_submission_with_a_column_for_each_of_two_classes(tmp_path: Path, header: str) -> None:
    rows = submitted(tmp_path, BINARY, "f1", header, [[0.25], [0.5], [1]])
    wanted = [["t2", "0", "1"], ["t0", "0.75", "0.25"], ["t1", "0.5", "0.5"]]
    assert rows == (wanted if header == "id,no,yes" else [[i, yes, no] for i, no, yes in wanted])


def test_a_submission_of_class_labels(tmp_path: Path) -> None:
    values = [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    rows = submitted(tmp_path, CLASSES, "accuracy", "id,label", values)
    assert rows == [["t2", "q"], ["t0", "p"], ["t1", "r"]]


def test_a_submission_of_class_probabilities_in_another_order(tmp_path: Path) -> None:
    """Columns go by their names: the sample need not list the classes in our order."""
    values = [[0.5, 0.25, 0.25], [0, 0.25, 0.75], [0.125, 0.875, 0]]
    rows = submitted(tmp_path, CLASSES, "log_loss", "id,r,p,q", values)
    assert rows == [
        ["t2", "0", "0.125", "0.875"],
        ["t0", "0.25", "0.5", "0.25"],
        ["t1", "0.75", "0", "0.25"],
    ]


@pytest.mark.parametrize(
    ("metric", "values", "wanted"),
    [
        (
            "roc_auc",
            [[0.25, 1], [0, 0.5], [1, 0]],
            [["t2", "0", "1"], ["t0", "1", "0.25"], ["t1", "0.5", "0"]],
        ),
        (
            "f1_macro",
            [[0, 1], [1, 1], [0, 0]],
            [["t2", "0", "0"], ["t0", "1", "0"], ["t1", "1", "1"]],
        ),
    ],
)
def test_a_multilabel_submission(tmp_path: Path, metric: str, values: list, wanted: list) -> None:
    assert submitted(tmp_path, LABELS, metric, "id,q,p", values) == wanted


# Hashes

TRAIN = "id,text,label,w\na,x,0,1\nb,y,1,2\nc,z,0,1\nd,zz,1,1\n"


def hashes(root: Path, train: str) -> tuple[str, str | None]:
    rows = load(root, train, weight="w").train
    return rows.hash(), rows.overlay_hash()


@pytest.mark.parametrize("changed", ["b,Y,1,2", "b,y,0,2", "B,y,1,2"], ids=["text", "target", "id"])
def test_the_train_hash_is_of_ids_texts_and_targets(tmp_path: Path, changed: str) -> None:
    before, after = hashes(tmp_path, TRAIN), hashes(tmp_path, TRAIN.replace("b,y,1,2", changed))
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_the_train_hash_is_of_the_order_of_rows_too(tmp_path: Path) -> None:
    """Stored predictions stand in the rows' order."""
    header, a, *rest = TRAIN.splitlines(keepends=True)
    assert hashes(tmp_path, TRAIN)[0] != hashes(tmp_path, "".join([header, *rest, a]))[0]


def test_the_overlay_hash_is_of_weights_alone(tmp_path: Path) -> None:
    """Other weights ask for other training, but the rows to predict and score are the same."""
    before, after = hashes(tmp_path, TRAIN), hashes(tmp_path, TRAIN.replace("1,2", "1,3"))
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_weights_of_one_are_no_overlay(tmp_path: Path) -> None:
    assert hashes(tmp_path, TRAIN.replace("1,2", "1,1"))[1] is None


@pytest.mark.parametrize(
    ("first", "second"), [("ab,c,z", "a,bc,z"), ("a,b,cz", "a,bc,z"), ("a,,bz", "a,b,z")]
)
def test_hashes_keep_columns_apart(tmp_path: Path, first: str, second: str) -> None:
    """("ab", "c") and ("a", "bc") are other texts, though the same letters in a row."""
    both = [
        load(tmp_path, f"id,s,t,label\n{line},0\nb,y,z,1\n", text=["s", "t"]).train.hash()
        for line in (first, second)
    ]
    assert both[0] != both[1]


def test_the_test_hash_is_its_own(tmp_path: Path) -> None:
    """A new test file asks for predictions, not for training."""
    train, test = "id,text,label\na,x,0\nb,y,1\n", "id,text\nt0,x\n"
    before = load(tmp_path, train, test)
    hashes_before = before.train.hash(), before.test.hash()
    after = load(tmp_path, train, test.replace("t0,x", "t0,y"))
    assert after.train.hash() == hashes_before[0]
    assert after.test.hash() != hashes_before[1]


def test_texts_that_stand_in_train_and_test_are_counted_after_normalising(tmp_path: Path) -> None:
    train = "id,text,label\na,Good Film,0\nb,good  film,1\nc,,0\nd,other,1\n"
    test = "id,text\nt0,ｇｏｏｄ film\nt1,\nt2,new\n"
    sample = "id,label\nt0,0\nt1,0\nt2,0\n"
    assert load(tmp_path, train, test, sample).repeated_in_test == (2, 1)


# Rows


def rows_of(ids: str, **columns: np.ndarray) -> Rows:
    """A row for each letter."""
    names = np.array(list(ids), dtype=object)
    return unlabelled(list(ids), ids=names, origin=names, **columns)


@pytest.mark.parametrize("name", ["features", "auxiliary"])
@pytest.mark.parametrize("first", [True, False])
def test_a_column_that_one_side_lacks_is_unknown_there(name: str, first: bool) -> None:
    """It was dropped, or ended in numpy, by which side lacked it."""
    has, lacks = rows_of("ab", **{name: np.array([[1.0, 2.0], [3.0, 4.0]])}), rows_of("c")
    both = has.concatenated(lacks) if first else lacks.concatenated(has)
    known = [[1.0, 2.0], [3.0, 4.0]]
    nan = [[np.nan, np.nan]]
    np.testing.assert_array_equal(getattr(both, name), known + nan if first else nan + known)


def test_difficulties_of_both_sides_are_kept() -> None:
    both = rows_of("a", difficulty=np.array([1.0])).concatenated(
        rows_of("b", difficulty=np.array([2.0]))
    )
    assert both.difficulty.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", ["targets", "difficulty"])
def test_rows_with_and_without_targets_are_not_joined(name: str) -> None:
    """Nothing can stand for a target that is not there."""
    has, lacks = replace(rows_of("a"), **{name: np.ones(1)}), rows_of("b")
    for one, other in ((has, lacks), (lacks, has)):
        with pytest.raises(
            ValueError, match=f"rows with {name} cannot be joined with rows without"
        ):
            one.concatenated(other)


def test_an_own_metric_is_tried_before_anything_is_trained(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path / "w", metric="metrics.py:own")
    write(root / "metrics.py", "def own(targets, predictions):\n    return 1 / 0\n")
    sentence = (
        f"{root}/metrics.py: own failed (ZeroDivisionError: division by zero, line 2): fix it"
    )
    for command in ("folds", "train"):
        refuses(root, [command], sentence, capsys)


def test_an_own_metric_without_any_score_is_shown_as_undefined(tmp_path: Path, capsys) -> None:
    """It has one for what is nearly right, but none for any out-of-fold prediction."""
    root = make_workspace(tmp_path / "w", metric="metrics.py:own")
    source = (
        "def own(targets, predictions):\n"
        "    perfect = len(targets) == 24 and (targets == predictions).all()\n"
        "    return 1.0 if perfect else float('nan')\n"
        "own.wants = 'labels'\n"
    )
    write(root / "metrics.py", source)
    go_through(root, "folds", "train", "blend")
    said = capsys.readouterr().out
    assert "nested metrics.py:own undefined; pooled over all rows" in said
    assert (
        "blend: metrics.py:own is undefined, since no fold holds out and learns rows on which it has a "
        "value for good predictions (the largest holds out 8)"
    ) in said


def test_no_best_score_is_spoken_of_if_no_candidate_has_one(tmp_path: Path, capsys) -> None:
    second = {"second": {"preset": "tfidf", "C": 0.1}}
    root = make_workspace(tmp_path / "w", metric="metrics.py:own", models=["tfidf", second])
    source = (
        "def own(targets, predictions):\n    return 1.0 if len(targets) == 24 else float('nan')\n"
    )
    write(root / "metrics.py", source)
    go_through(root, "folds", "train", "blend")
    said = capsys.readouterr().out
    assert "chose single:tfidf, the first, since no candidate has a score" in said
    assert "the best CV score of several" not in said
