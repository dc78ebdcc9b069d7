"""`init`: what it guesses from which data, what it says, and what becomes of the files."""

import gzip
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from foldstack.competition import Competition
from foldstack.competition_file import PARTS, competition_yaml
from foldstack.config import load_competition
from foldstack.errors import InputError
from foldstack.guess import guess
from foldstack.separators import find_separator
from foldstack.settings import CompetitionSettings
from foldstack.stages.init import init
from foldstack.views.console import show
from tiny import files, foldstack, go_through, make_workspace, refuses, sentences, write

TEXTS = [text for text, _ in sentences(60)]


def column(values, n: int | None = None) -> list[str]:
    """The values as text, repeated to n rows."""
    values = [str(v) for v in values]
    return values if n is None else [values[i % len(values)] for i in range(n)]


def tables(train: dict, sample: dict, test: dict | None = None) -> tuple[pd.DataFrame, ...]:
    """Train with ids and texts beside these columns, three test rows, and their sample."""
    n = len(next(iter(train.values())))
    train = {"id": column(range(n)), "text": column(TEXTS, n)} | train
    ids = ["t0", "t1", "t2"]
    test = {"id": ids, "text": TEXTS[-3:]} | (test or {})
    sample = {"id": ids[::-1]} | {name: column([v] * 3) for name, v in sample.items()}
    return tuple(pd.DataFrame(t).astype(str) for t in (train, test, sample))


def settings(train: dict, sample: dict, test: dict | None = None, **overrides) -> dict:
    return guess(*tables(train, sample, test), overrides).settings


def why(setting: str, train: dict, sample: dict, test: dict | None = None, **overrides) -> str:
    reasons = guess(*tables(train, sample, test), overrides).reasons
    return next(reason for name, _, reason in reasons if name == setting)


def refused(train: dict, sample: dict, test: dict | None = None, **overrides) -> str:
    with pytest.raises(InputError) as reason:
        settings(train, sample, test, **overrides)
    return str(reason.value)


# Kinds, labels, metrics

BALANCED = column(["0", "1"], 10)
SHAPES = {
    # name: (train's columns, the sample's columns with their placeholder, what must be guessed)
    "binary, probabilities": (
        {"label": BALANCED},
        {"label": "0.5"},
        {"kind": "binary", "labels": ("0", "1"), "metric": "roc_auc"},
    ),
    "binary, a placeholder of zeros": (
        {"label": BALANCED},
        {"label": "0"},
        {"kind": "binary", "metric": "accuracy", "metric_confirmed": False},
    ),
    "binary, a placeholder of zeros, few ones": (
        {"label": column(["0"] * 9 + ["1"], 20)},
        {"label": "0"},
        {"kind": "binary", "metric": "f1", "metric_confirmed": False},
    ),
    "binary, a placeholder of ones": (
        {"label": BALANCED},
        {"label": "1"},
        {"kind": "binary", "metric": "log_loss", "metric_confirmed": False},
    ),
    "binary, words": (
        {"label": column(["positive", "negative"], 10)},
        {"label": "negative"},
        {"kind": "binary", "labels": ("negative", "positive"), "metric": "accuracy"},
    ),
    "binary, a rare word": (
        {"label": column(["ham"] * 9 + ["spam"], 20)},
        {"label": "ham"},
        {"kind": "binary", "labels": ("ham", "spam"), "metric": "f1"},
    ),
    "binary, booleans": (
        {"label": column(["True", "False"], 10)},
        {"label": "False"},
        {"kind": "binary", "labels": ("False", "True"), "metric": "accuracy"},
    ),
    "binary, a column for each class": (
        {"label": column(["yes", "no"], 10)},
        {"yes": "0.5", "no": "0.5"},
        {"kind": "binary", "target": ("label",), "labels": ("no", "yes"), "metric": "log_loss"},
    ),
    "multiclass, balanced": (
        {"label": column("abc", 9)},
        {"label": "a"},
        {"kind": "multiclass", "labels": ("a", "b", "c"), "metric": "accuracy"},
    ),
    "multiclass, not balanced": (
        {"label": column("aaaaaaaabc", 20)},
        {"label": "a"},
        {"kind": "multiclass", "metric": "accuracy"},
    ),
    "multiclass, a class of one row in 30": (
        {"label": column("a" * 29 + "b" * 29 + "cd", 60)},
        {"label": "a"},
        {"kind": "multiclass", "metric": "f1_macro"},
    ),
    "multiclass, a column for each class": (
        {"author": column("abc", 9)},
        {"c": "0.3", "a": "0.3", "b": "0.3"},
        {"kind": "multiclass", "target": ("author",), "labels": ("a", "b", "c")}
        | {"metric": "log_loss", "metric_confirmed": None},
    ),
    "multiclass, ratings": (
        {"stars": column([1, 2, 3, 4, 5, 10], 12)},
        {"stars": "3"},
        {"kind": "multiclass", "labels": ("1", "2", "3", "4", "5", "10"), "metric": "accuracy"},
    ),
    "regression, ratings where the sample has decimals": (
        {"stars": column([1, 2, 3, 4, 5], 10)},
        {"stars": "2.5"},
        {"kind": "regression", "metric": "rmse"},
    ),
    "regression, decimals": (
        {"score": column(["0.5", "1", "-2"], 10)},
        {"score": "0"},
        {"kind": "regression", "metric": "rmse"},
    ),
    "regression, many whole numbers": (
        {"likes": column(range(30), 40)},
        {"likes": "0"},
        {"kind": "regression", "metric": "rmse"},
    ),
    "regression, several": (
        {"ease": column(["1.5", "2"], 8), "style": column(["3", "4.5"], 8)},
        {"ease": "0", "style": "0"},
        {"kind": "regression", "target": ("ease", "style"), "metric": "mcrmse"},
    ),
    "multilabel, columns": (
        {"toxic": BALANCED, "insult": BALANCED},
        {"toxic": "0", "insult": "0"},
        {"kind": "multilabel", "target": ("toxic", "insult"), "metric": "f1_macro"},
    ),
    "multilabel, columns of booleans, probabilities": (
        {"toxic": column(["True", "False"], 8), "insult": column(["1.0", "0.0"], 8)},
        {"toxic": "0.5", "insult": "0.5"},
        {"kind": "multilabel", "metric": "roc_auc"},
    ),
    "multilabel, joined": (
        {"tags": column(["a|b", "b", "a|c", "c", ""], 10)},
        {"tags": "a|b"},
        {"kind": "multilabel", "separator": "|", "labels": ("a", "b", "c"), "metric": "f1_micro"},
    ),
    "multilabel, joined, a column for each label in the sample": (
        {"tags": column(["a b", "c", "a c"], 9)},
        {"a": "0.5", "b": "0.5", "c": "0.5"},
        {"kind": "multilabel", "target": ("tags",), "separator": " ", "metric": "roc_auc"},
    ),
    "the sample calls the target otherwise": (
        {"class": column("abc", 9), "weight": column([1], 9)},
        {"prediction": "a"},
        {"kind": "multiclass", "target": ("class",), "weight": "weight"},
    ),
}


@pytest.mark.parametrize(("train", "sample", "wanted"), SHAPES.values(), ids=SHAPES.keys())
def test_the_shape_of_a_competition(train: dict, sample: dict, wanted: dict) -> None:
    found = settings(train, sample)
    assert {name: found.get(name) for name in wanted} == wanted
    assert ("labels" in found) == (
        found["kind"] in ("binary", "multiclass") or "separator" in found
    )


def test_reasons_are_said() -> None:
    train, sample = {"label": column(["ham"] * 9 + ["spam"], 20)}, {"label": "ham"}
    assert why("id", train, sample) == (
        "the sample's first column, which test has too, different in each row"
    )
    assert why("target", train, sample) == "the sample asks for it, train has it and test does not"
    assert why("kind", train, sample) == "'label' holds two different values"
    assert why("labels", train, sample) == "'spam' is the positive class: the last one is"
    assert why("metric", train, sample) == (
        "the sample holds labels, and 'spam' is rare (10.0%); METRIC= overrides"
    )
    assert why("kind", {"y": column(range(30), 40)}, {"y": "0"}) == (
        "'y' holds 30 different whole numbers in 40 rows; KIND=multiclass makes them classes"
    )
    assert why("separator", {"y": ["a", "b", "c", "a|b"]}, {"y": "a"}) == (
        "1 row holds several labels joined by '|'"
    )


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["1", "-1"], ("-1", "1")),
        (["10", "9"], ("9", "10")),
        (["TRUE", "FALSE"], ("FALSE", "TRUE")),
        (["Yes", "No"], ("No", "Yes")),
        (["funny", "not funny"], ("not funny", "funny")),
        (["real", "fake"], ("real", "fake")),
        (["b", "a"], ("a", "b")),
    ],
)
def test_the_positive_label_is_the_last(labels: list[str], order: tuple) -> None:
    assert settings({"y": column(labels, 6)}, {"y": labels[0]})["labels"] == order


# Separators

SEPARATORS = {
    "a bar, in one cell of thousands": (["a", "b", "c"] * 999 + ["a|b"], "|"),
    "a comma and a space": (["a, b", "b, c", "a", "c", "b"], ", "),
    "a comma": (["a,b", "b, c", "a", "c", "b"], ","),
    "a semicolon": (["a;b", "b;c", "a"], ";"),
    "a tab": (["a\tb", "b\tc", "a"], "\t"),
    "a space": (["a b", "b c", "a", "c", "b"], " "),
    "a slash": (["a/b", "b", "a"], "/"),
    "a hash": (["a#b", "b", "a"], "#"),
    "a space, between labels of two words": (["New York|Rome", "Rome", "New York", "Bonn"], "|"),
    "numbers of proteins": (
        [f"{i} {j} {k}" for i in range(6) for j in range(i) for k in range(j)] + ["0", "1", "2"],
        " ",
    ),
    "Chinese labels with a dash": (["财经-上市", "司法-起诉|财经-上市", "司法-起诉"], "|"),
    "names of two words": (["New York", "New Jersey", "Los Angeles", "Boston"], None),
    "names with a common word": (["Sports News", "World News", "Sports", "World"], None),
    "degrees": (["very positive", "positive", "neutral", "negative", "very negative"], None),
    "a slash within a name": (["World", "Sports", "Business", "Sci/Tech"], None),
    "a comma within a name": (["rec", "sci", "soc, other"], None),
    "topic and mood": ([f"{a} {b}" for a in "abcdefgh" for b in "xyzuvw"], None),
    "a bar within a name": (["a", "b", "US|Canada"], None),
    "C#": (["C#", "C", "Java"], None),
}


@pytest.mark.parametrize(("cells", "separator"), SEPARATORS.values(), ids=SEPARATORS.keys())
def test_a_separator_is_told_from_a_sign_within_names(cells: list, separator: str | None) -> None:
    assert find_separator(cells) == separator


# Ids and targets that are not plain


def test_a_train_file_without_ids_is_numbered() -> None:
    train, test, sample = tables({"label": BALANCED}, {"label": "0.5"})
    found = guess(train.drop(columns="id"), test, sample)
    assert found.settings["id"] == "id"
    assert found.settings["train_has_id"] is False


def test_the_id_may_stand_anywhere_in_the_sample() -> None:
    train, test, sample = tables({"label": BALANCED}, {"label": "0.5"})
    found = guess(train, test, sample[["label", "id"]])
    assert found.settings["id"] == "id"
    assert found.reasons[0][2] == "the sample's column that test has too, different in each row"


def test_a_test_file_without_ids_is_refused() -> None:
    train, test, sample = tables({"label": BALANCED}, {"label": "0.5"})
    with pytest.raises(InputError) as reason:
        guess(train, test.drop(columns="id"), sample)
    assert str(reason.value) == (
        "test (columns 'text') and the sample (columns 'id', 'label') share no id column: add one "
        "with a different value in each row to both"
    )
    with pytest.raises(InputError) as reason:
        guess(train, test.assign(id="x"), sample)
    assert str(reason.value) == (
        "test, row 2 repeats 'id' 'x', and no other column of the sample names its rows: give every "
        "row an id of its own"
    )


REFUSED = {
    "classes that differ": (
        {"y": column(["a", "b", "c"], 9)},
        {"a": "0", "b": "0", "d": "0"},
        {},
        "the classes of train's column 'y' are not the sample's columns: 'c' stands only in train "
        "and 'd' stands only in the sample: fix the files, or name another TARGET=",
    ),
    "columns half of which are in train": (
        {"toxic": BALANCED},
        {"toxic": "0", "insult": "0"},
        {},
        "the sample's columns 'insult' are not in train beside 'toxic' (or are in test too): fix "
        "the files, or name the target with TARGET=",
    ),
    "no such classes": (
        {"y": BALANCED},
        {"a": "0", "b": "0", "c": "0"},
        {},
        "no column of train has the sample's columns 'a', 'b', 'c' as its classes, nor does train "
        "have them as columns: name the target with TARGET=",
    ),
    "two possible targets": (
        {"y": BALANCED, "z": BALANCED},
        {"prediction": "0"},
        {},
        "train has no column 'prediction', for which the sample asks, and several could be it: 'y', "
        "'z': name the target with TARGET=, one column of train (or several of 0 and 1, or numbers, "
        "with commas)",
    ),
    "as many texts as rows": (
        {"y": [*column(range(30)), "a"]},
        {"y": "x"},
        {},
        "train's target column 'y' holds 31 different texts in 31 rows, too many for classes: name "
        "another TARGET=",
    ),
    "one value": (
        {"y": column("a", 9)},
        {"y": "a"},
        {},
        "train's target column 'y' holds nothing but 'a': give another TARGET=",
    ),
    "an empty label": (
        {"y": ["a", "", "b", "c"]},
        {"y": "a"},
        {},
        "train: row 2 has no label: column 'y' holds nothing there: set `unlabelled: drop` in "
        "competition.yaml (UNLABELLED=drop for `make init`) to leave them out, `pool` to keep their "
        "texts for pretraining, or `class` if that is a label",
    ),
    "lists of Python": (
        {"y": ["['a', 'b']", "['a']", "['b']"]},
        {"y": "a"},
        {},
        "the target's cells are written as Python lists, ['a', 'b']: join their labels by a bar, a|b",
    ),
    "KIND": (
        {"y": BALANCED},
        {"y": "0"},
        {"kind": "ranking"},
        "KIND=ranking: choose one of binary, multiclass, multilabel, regression",
    ),
    "METRIC": (
        {"y": BALANCED},
        {"y": "0"},
        {"metric": "roc_acu"},
        "metric 'roc_acu' is not known: did you mean 'roc_auc'?",
    ),
    "TARGET": (
        {"label": BALANCED},
        {"label": "0"},
        {"target": "lable"},
        "TARGET=lable: train has no column 'lable' (did you mean 'label'?)",
    ),
    "TEXT": (
        {"label": BALANCED, "note": BALANCED},
        {"label": "0"},
        {"text": "note"},
        "TEXT: test has no column 'note'",
    ),
    "PAIR": (
        {"label": BALANCED},
        {"label": "0"},
        {"pair": "text"},
        "PAIR=text names 1 column: name two, PAIR=a,b",
    ),
    "ID": (
        {"label": BALANCED},
        {"label": "0"},
        {"id": "text"},
        "ID=text: the sample has no column 'text' (known: id, label)",
    ),
}


@pytest.mark.parametrize(
    ("train", "sample", "overrides", "sentence"), REFUSED.values(), ids=REFUSED.keys()
)
def test_what_cannot_be_told_is_refused(
    train: dict, sample: dict, overrides: dict, sentence: str
) -> None:
    assert refused(train, sample, **overrides) == sentence


# Inputs and models


def test_each_column_finds_its_use() -> None:
    train = {
        "label": BALANCED,
        "title": column(reversed(TEXTS), 10),
        "stars": column([1, "", 3.5], 10),
        "source": column(["web", "mail"], 10),
        "url": column([f"https://x.org/{i}" for i in range(10)]),
        "date": column(["2026-03-31", "2026-04-01"], 10),
        "language": column(["en"], 10),
        "group_id": column("abcde", 10),
        "weight": column(["1", "0.5"], 10),
        "annotator": column("xyz", 10),
    }
    test = {
        name: train[name][:3] for name in ("title", "stars", "source", "url", "date", "language")
    }
    found = guess(*tables(train, {"label": "0.5"}, test))
    unseen = ("labels", "metric", "metric_confirmed", "models")
    assert {k: v for k, v in found.settings.items() if k not in unseen} == {
        "id": "id",
        "target": ("label",),
        "kind": "binary",
        "text": ("text", "title"),
        "numeric": ("stars",),
        "categorical": ("source",),
        "group": "group_id",
        "weight": "weight",
    }
    assert {name: reason for name, value, reason in found.reasons if value is None} == {
        "url": "not used: its values are ids, no features",
        "date": "not used: it holds dates; `time: date` with `folds.kind: time` sorts by them",
        "language": "not used: it holds one value only",
        "annotator": "not used: test does not have it",
    }
    assert found.examples == {"time": "date"}


def test_overrides_come_before_guesses() -> None:
    train = {"a": column(TEXTS, 10), "y": column([1, 2, 3], 10), "z": BALANCED}
    found = settings(
        train,
        {"y": "0"},
        {"a": TEXTS[:3]},
        pair="text, a",
        target="y",
        kind="regression",
        metric="mae",
        id="id",
    )
    assert found["text"] == ("text", "a")
    assert found["pair"] is True
    assert (found["kind"], found["metric"]) == ("regression", "mae")
    assert "labels" not in found


def test_a_given_metric_tells_classes_from_quantities() -> None:
    train, sample = {"stars": column([1, 2, 3, 4, 5], 10)}, {"stars": "3"}
    assert settings(train, sample, metric="mae")["kind"] == "regression"
    assert settings(train, sample, metric="f1_macro")["kind"] == "multiclass"
    many = {"y": column(range(30), 60)}
    assert settings(many, {"y": "0"}, metric="accuracy")["kind"] == "multiclass"
    assert settings(many, {"y": "0"}, metric="qwk")["kind"] == "multiclass"


def test_the_metric_is_written_by_its_name_here() -> None:
    binary, stars = {"label": BALANCED}, {"stars": column([1, 2, 3, 4, 5], 10)}
    assert settings(binary, {"label": "0.5"}, metric="auc")["metric"] == "roc_auc"
    found = settings(stars, {"stars": "3"}, kind="regression", metric="qwk")
    assert (found["kind"], found["metric"]) == ("regression", "quadratic_kappa")


@pytest.mark.parametrize(
    ("text", "on_cpu", "on_gpu"),
    [
        ("a good film with a dull end", ["minilm"], ["deberta-v3-base", "roberta"]),
        (
            "这部电影非常好看，演员 iPhone 很棒",
            ["multilingual-e5-small"],
            ["macbert", "roberta-wwm-zh"],
        ),
        ("この映画はとても面白かったです", ["multilingual-e5-small"], ["xlm-roberta"]),
        ("이 영화는 정말 재미있었다", ["multilingual-e5-small"], ["xlm-roberta"]),
        ("этот фильм очень хороший", ["multilingual-e5-small"], ["xlm-roberta"]),
    ],
)
@pytest.mark.parametrize("gpu", [False, True])
def test_the_models_follow_script_and_machine(
    text: str, on_cpu: list[str], on_gpu: list[str], gpu: bool, monkeypatch
) -> None:
    monkeypatch.setattr("foldstack.guess.model.has_gpu", lambda: gpu)
    models = ("tfidf", "naive-bayes", *(on_gpu if gpu else on_cpu))
    rows = {"text": [f"{text} {i}" for i in range(10)], "label": BALANCED}
    assert settings(rows, {"label": "0.5"}, {"text": [text] * 3})["models"] == models


# The file that is written

NASTY = ["no", "on", "a: b", "#x", "007", "漢字", 'say "x"', "it's", "two\nlines", "~", "1e3"]
NASTY += [
    "a, b",
    "[a]",
    "{a}",
    "- a",
    " x ",
    "",
    "tab\t",
    "\u2028",
    "\x85",
    "null",
    "@a",
    "😀",
    "é\\n",
]


def parsed(text: str, tmp_path: Path) -> CompetitionSettings:
    return load_competition(write(tmp_path / "competition.yaml", text), {})


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """YAML takes `no` for false and 007 for 7, unless they are quoted."""
    wanted = {
        "name": "a: b",
        "kind": "multilabel",
        "metric": "f1_macro",
        "id": "no",
        "text": tuple(NASTY),
        "target": tuple(f"{name}!" for name in NASTY),
        "labels": tuple(NASTY),
        "group": "#group",
        "train_has_id": False,
        "files": {"train": "train: 1.csv", "test": "test.csv", "sample": "sample.csv"},
        "folds": {"count": 7},
        "models": ("tfidf", {"tiny": {"training": {"epochs": "3"}}}),
    }
    text = competition_yaml(wanted, "about")
    read = parsed(text, tmp_path).model_dump(include=set(wanted))
    assert read.pop("folds")["count"] == 7
    assert read == {name: value for name, value in wanted.items() if name != "folds"}
    assert yaml.safe_load(text)["text"] == NASTY


LEAST = {"name": "x", "kind": "binary", "metric": "f1", "id": "id", "text": ["a"], "target": ["b"]}


def test_every_setting_is_shown(tmp_path: Path) -> None:
    shown = {entry.name: entry for part in PARTS for entry in part}
    assert shown.keys() == CompetitionSettings.model_fields.keys()
    for name, entry in shown.items():
        if entry.within:
            inner = CompetitionSettings.model_fields[name].annotation
            assert [e.name for e in entry.within] == list(inner.model_fields)


def test_the_metrics_of_the_kind_stand_below_the_metric(tmp_path: Path) -> None:
    lines = competition_yaml(LEAST, "about").splitlines()
    below = lines[next(i for i, line in enumerate(lines) if line.startswith("metric: f1")) + 1]
    assert below.startswith("#   metrics of kind binary: roc_auc, average_precision, log_loss, ")


def test_commented_settings_stand_there_as_they_could_be_used(tmp_path: Path) -> None:
    """Without their `# ` the defaults and examples are valid YAML of the same settings."""
    text = competition_yaml(LEAST, "about", {"time": "my: date"})
    assert '# time: "my: date"' in text
    uncommented = yaml.safe_load(re.sub(r"(?m)^# (?= *[a-z_]+:)", "", text))
    assert uncommented.keys() == CompetitionSettings.model_fields.keys()
    assert parsed(text, tmp_path) == CompetitionSettings(**LEAST)


# The stage

TRAIN = "id,text,label\n" + "".join(f"r{i},{t},{y}\n" for i, (t, y) in enumerate(sentences(12)))
TEST = "id,text\n" + "".join(f"t{i},{t}\n" for i, (t, _) in enumerate(sentences(6)))
SAMPLE = "id,label\n" + "".join(f"t{i},0.5\n" for i in range(6))


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """The three files in a folder of downloads."""
    for name, text in (("train.csv", TRAIN), ("test.csv", TEST), ("sample.csv", SAMPLE)):
        write(tmp_path / "downloads" / name, text)
    return tmp_path / "downloads"


def paths(folder: Path) -> dict[str, str]:
    return {role: str(folder / f"{role}.csv") for role in ("train", "test", "sample")}


def refuses_init(root: Path, **arguments) -> str:
    """The sentence, without the workspace's path; nothing is written."""
    before = files(root) if root.exists() else {}
    with pytest.raises(InputError) as reason:
        init(root, **arguments)
    assert (files(root) if root.exists() else {}) == before
    return str(reason.value).replace(str(root), "ROOT").replace(str(root.parent), "TMP")


def test_files_from_elsewhere_are_copied_and_the_guesses_said(
    given: Path, tmp_path, capsys
) -> None:
    root = tmp_path / "w"
    show(init(root, **paths(given)))
    assert (root / "input/train.csv").read_text() == TRAIN
    competition = Competition.load(root)
    assert competition.settings.files.sample == "sample.csv"
    assert len(competition.train), len(competition.test) == (12, 6)
    said = capsys.readouterr().out.replace(str(root), "ROOT").splitlines()
    assert "init: kind: binary ('label' holds two different values)" in said
    assert said[-4:] == [
        "init: METRIC? roc_auc is a guess, log_loss would fit as well; the competition's page says "
        "which: give METRIC=NAME FORCE=1; METRIC=roc_auc confirms it",
        "init: ROOT/competition.yaml is written; METRIC= KIND= ID= TEXT= TARGET= PAIR= GROUP= "
        "override, with FORCE=1",
        "init: next, look at competition.yaml, then `make folds`, `make train`, `make blend submit`",
        'init: besides, id: id, labels: ["0", "1"], models: [tfidf, naive-bayes, minilm] (REASONS=1 '
        "says why)",
    ]


def test_every_reason_is_said_on_request(given: Path, tmp_path, capsys) -> None:
    show(init(tmp_path / "w", **paths(given), reasons=True))
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == [
        "init: id: id (the sample's first column, which test has too, different in each row)",
        'init: labels: ["0", "1"] (\'1\' is the positive class: the last one is)',
        "init: models: [tfidf, naive-bayes, minilm] (most letters are Latin, taken for English; this "
        "machine has no GPU)",
    ]


def test_files_in_input_are_found_and_stay(tmp_path: Path) -> None:
    root = tmp_path / "w"
    write(root / "input/train.csv", TRAIN)
    write(root / "input/sampleSubmission.csv", SAMPLE)
    (root / "input/test.csv.gz").write_bytes(gzip.compress(TEST.encode()))
    before = files(root)
    init(root)
    after = files(root)
    del after["competition.yaml"]
    assert after == before
    assert Competition.load(root).settings.files.model_dump() == {
        "train": "train.csv",
        "test": "test.csv.gz",
        "sample": "sampleSubmission.csv",
    }


def test_init_again_writes_the_same_bytes(given: Path, tmp_path: Path) -> None:
    root = tmp_path / "w"
    init(root, **paths(given))
    before = files(root)
    assert refuses_init(root, **paths(given)) == (
        "ROOT/competition.yaml is there already: take another WORKSPACE, or add --force (FORCE=1) to "
        "write over it"
    )
    init(root, **paths(given), force=True)
    init(root, force=True)
    assert files(root) == before


def test_another_file_of_that_name_is_kept_without_force(given: Path, tmp_path: Path) -> None:
    root = tmp_path / "w"
    write(root / "input/train.csv", "precious")
    assert refuses_init(root, **paths(given)) == (
        "ROOT/input/train.csv is there already and differs from TMP/downloads/train.csv: rename one, "
        "or add --force (FORCE=1) to write over it"
    )
    init(root, **paths(given), force=True)
    assert (root / "input/train.csv").read_text() == TRAIN


def test_files_that_are_missing_or_ambiguous_are_named(given: Path, tmp_path: Path) -> None:
    root = tmp_path / "w"
    assert refuses_init(root) == (
        "ROOT/input holds no train.csv: put it there, or name it with TRAIN="
    )
    assert refuses_init(root, **paths(given) | {"test": "nowhere.csv"}) == (
        "TEST=nowhere.csv is not a file: give the path of one"
    )
    write(root / "input/train.csv", TRAIN)
    write(root / "input/train.tsv", TRAIN)
    assert refuses_init(root) == (
        "ROOT/input holds 'train.csv', 'train.tsv': name the one that is meant with TRAIN="
    )
    same = {"test": paths(given)["train"], "train": paths(given)["train"]}
    assert refuses_init(root, **paths(given) | same) == (
        "TRAIN=TMP/downloads/train.csv and TEST=TMP/downloads/train.csv would both be "
        "ROOT/input/train.csv: rename one"
    )


def test_a_guess_that_fails_leaves_nothing_behind(given: Path, tmp_path: Path) -> None:
    write(given / "sample.csv", SAMPLE.replace("label", "a,b").replace("0.5", "0,0"))
    assert refuses_init(tmp_path / "w", **paths(given)).startswith("no column of train has")


def test_another_encoding_is_guessed_and_said(given: Path, tmp_path: Path, capsys) -> None:
    train = TRAIN.replace("film", "café")
    (given / "train.csv").write_bytes(train.encode("cp1252"))
    root = tmp_path / "w"
    show(init(root, **paths(given)))
    assert "init: encoding: cp1252 (guessed" in capsys.readouterr().out
    competition = Competition.load(root)
    assert competition.settings.encoding == "cp1252"
    assert any("café" in text for (text,) in competition.train.texts)


def test_files_of_two_encodings_are_refused(given: Path, tmp_path: Path) -> None:
    """One `encoding` serves all files: read by it, the UTF-8 one would be nonsense, unseen."""
    (given / "train.csv").write_bytes(TRAIN.replace("film", "café").encode("cp1252"))
    write(given / "test.csv", TEST.replace("film", "café"))
    assert refuses_init(tmp_path / "w", **paths(given)) == (
        "TMP/downloads/train.csv looks like cp1252, but TMP/downloads/test.csv like utf-8: save both "
        "as UTF-8"
    )


def test_what_a_later_stage_would_refuse_is_refused_now(given: Path, tmp_path: Path) -> None:
    """Nothing is written, so that nothing asks for FORCE=1 once the file is right."""
    write(given / "train.csv", TRAIN.replace("r1,", "r0,"))
    assert refuses_init(tmp_path / "w", **paths(given)).startswith(
        "TMP/downloads/train.csv: row 2 repeats 'id' 'r0'"
    )
    write(given / "train.csv", TRAIN)
    assert init(tmp_path / "w", **paths(given)).checked


def test_one_column_of_0_and_1_is_no_multilabel_competition(tmp_path, capsys):
    root = make_workspace(tmp_path / "w")
    (root / "competition.yaml").unlink()
    sentence = (
        "KIND=multilabel: train's column 'label' holds 0 and 1, which is kind binary: leave KIND out, "
        "or name a 0/1 column per label with TARGET="
    )
    refuses(root, ["init", "--kind", "multilabel"], sentence, capsys)
    assert not (root / "competition.yaml").exists()


def test_submit_repeats_a_metric_that_was_never_confirmed(tmp_path, capsys) -> None:
    root = make_workspace(tmp_path / "w", metric_confirmed=False)
    go_through(root)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "submit: METRIC? roc_auc was guessed and never confirmed: compare it with the competition's "
        "page, then set another `metric`, or `metric_confirmed: true`, in competition.yaml"
    )
    assert foldstack(root, "--set", "metric_confirmed=true", "submit") == 0
    assert "METRIC?" not in capsys.readouterr().out
