"""Input tables: a second file by a key, names and ids that differ in spelling, weights."""

from pathlib import Path

import pandas as pd
import pytest

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.input_tables import in_spelling_of, spelled
from foldstack.workspace import Workspace
from tiny import files, foldstack, go_through, make_workspace, refuses, write, write_competition

JOIN = {"file": "prompts.csv", "on": "prompt"}


def with_prompts(root: Path, prompts: str, **settings: object) -> Path:
    """A workspace whose rows have a prompt, p0 or p1, with its text in a second file."""
    make_workspace(root)
    for name in ("train", "test"):
        path = root / f"input/{name}.csv"
        header, *rows = path.read_text().splitlines()
        rows = [f"{row},p{i % 2}" for i, row in enumerate(rows)]
        write(path, "\n".join([f"{header},prompt", *rows]) + "\n")
    write(root / "input/prompts.csv", prompts)
    write_competition(root, **{"join": JOIN, "text": ["question", "text"]} | settings)
    return root


def refused(root: Path) -> str:
    with pytest.raises(InputError) as reason:
        Competition.load(root).check()
    return str(reason.value).replace(str(root), "ROOT")


PROMPTS = "prompt,question,level\np0,Why?,1\np1,How so?,2\n"


def test_columns_of_a_second_file_are_joined_by_a_key(tmp_path: Path) -> None:
    root = with_prompts(tmp_path / "w", PROMPTS, numeric=["level"], group="question")
    competition = Competition.load(root)
    assert [text.split(" a ")[0] for (text,) in competition.train.texts[:2]] == ["Why?", "How so?"]
    assert competition.test.features[:2, 0].tolist() == [1, 2]
    assert len(set(competition.train.groups)) == 2


def test_a_change_in_the_second_file_changes_the_rows(tmp_path: Path) -> None:
    """A run made with other prompts is stale."""
    before = Competition.load(with_prompts(tmp_path / "a", PROMPTS)).train.hash()
    after = Competition.load(with_prompts(tmp_path / "b", PROMPTS.replace("Why", "Who")))
    assert after.train.hash() != before


def test_a_second_file_goes_through_to_new_texts(tmp_path: Path) -> None:
    """`predict` joins the second file to new rows, and keeps a column that they have."""
    root = go_through(with_prompts(tmp_path / "w", PROMPTS, folds={"count": 2}), folds=2)
    new = write(tmp_path / "new.csv", "id,text,prompt\nn1,a good film,p1\n")
    own = write(tmp_path / "own.csv", "id,text,question\nn1,a good film,How so?\n")
    for path in (new, own):
        assert foldstack(root, "predict", "--file", str(path)) == 0
    predicted = [(root / f"predictions/{name}.csv").read_text() for name in ("new", "own")]
    assert predicted[0] == predicted[1]


def test_the_debug_workspace_has_the_second_file(tmp_path: Path) -> None:
    root = with_prompts(tmp_path / "w", PROMPTS)
    before = files(root / "input")
    assert foldstack(root, "--debug", "folds") == 0
    assert files(root / "input") == before
    assert "question" in (root / "debug/input/train.csv").read_text().splitlines()[0]


def test_the_files_of_train_and_test_may_differ(tmp_path: Path) -> None:
    two = {"file": ["prompts.csv", "more.csv"], "on": "prompt"}
    root = with_prompts(tmp_path / "w", PROMPTS.replace("p1,How so?,2\n", ""), join=[two])
    write(root / "input/more.csv", PROMPTS)
    assert Competition.load(root).train.texts[1][0].startswith("How so? a")


JOINS = {
    "no key": (
        PROMPTS.replace("p1", "p2"),
        {},
        "ROOT/input/train.csv: row 2: prompts.csv has no 'prompt' 'p1', nor the keys of 11 more rows: "
        "add what is missing there",
    ),
    "a key twice": (
        PROMPTS.replace("p1", "p0"),
        {},
        "ROOT/input/prompts.csv: row 2 repeats 'prompt' 'p0': a file that is joined has one row for "
        "each key",
    ),
    "no key column": (
        "id,question\np0,Why?\n",
        {},
        "ROOT/input/prompts.csv: column 'prompt' is missing, by which `join` finds its rows (known: id, "
        "question): fix the file or competition.yaml",
    ),
    "no such column in train": (
        "promt,question\np0,Why?\n",
        {"join": JOIN | {"on": "promt"}},
        "ROOT/input/train.csv: column 'promt' is missing, by which `join` finds rows of prompts.csv "
        "(did you mean 'prompt'?): fix the file or competition.yaml",
    ),
    "a column of both": (
        PROMPTS.replace("level", "text"),
        {},
        "ROOT/input/train.csv: column 'text' stands in prompts.csv, too: name one otherwise by "
        "`columns` in competition.yaml",
    ),
}


@pytest.mark.parametrize(("prompts", "settings", "sentence"), JOINS.values(), ids=JOINS.keys())
def test_a_wrong_join_is_refused(
    tmp_path: Path, prompts: str, settings: dict, sentence: str
) -> None:
    assert refused(with_prompts(tmp_path / "w", prompts, **settings)) == sentence


SETTINGS = {
    "delimiter": (
        {"delimiter": "::"},
        "setting 'delimiter' is '::': write one character, as `delimiter: \";\"`, first_space for lines "
        "of labels, a space and the text, or `{FILE: …}`",
    ),
    "columns": (
        {"columns": {"c1": "id"}},
        "setting 'columns' is {'c1': 'id'}: write `{FILE: {NAME IN THE FILE: NAME}}`",
    ),
    "quoting": (
        {"quoting": "never"},
        "setting 'quoting' is 'never': input should be 'auto', 'csv' or 'none'",
    ),
    "join": ({"join": {"file": "p.csv"}}, "setting 'join.0.on' is missing: add `join.0.on: …`"),
}


@pytest.mark.parametrize(("settings", "sentence"), SETTINGS.values(), ids=SETTINGS.keys())
def test_impossible_settings_of_files_are_refused(
    tmp_path: Path, settings: dict, sentence: str, capsys
) -> None:
    root = make_workspace(tmp_path / "w", **settings)
    refuses(root, ["folds"], f"{root}/competition.yaml: {sentence}", capsys)


# Other forms of the three files


def test_forms_by_file_go_through_to_a_submission(tmp_path: Path) -> None:
    """Semicolons everywhere, no header in train and test; the submission is as the sample."""
    root = make_workspace(tmp_path / "w")
    for path in (root / "input").glob("*.csv"):
        text = path.read_text().replace(",", ";")
        write(path, text if path.stem == "sample_submission" else text.split("\n", 1)[1])
    names = {"c1": "id", "c2": "text", "c3": "label"}
    write_competition(
        root,
        delimiter=";",
        header={"train.csv": False, "test.csv": False},
        columns={"train.csv": names, "test.csv": {"c1": "id", "c2": "text"}},
    )
    go_through(root)
    assert (root / "submissions/blend.csv").read_text().startswith("id;label\nt0;0.")
    write(root / "new.csv", "n1;a good film\n")  # read as the test file is
    assert foldstack(root, "predict", "--file", str(root / "new.csv")) == 0


def test_names_that_differ_in_case_are_matched(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w")
    train = root / "input/train.csv"
    write(train, train.read_text().replace("id,text,label", "ID, Text,label"))
    assert len(Competition.load(root).train) == 24


def test_names_are_matched_only_if_they_are_unambiguous() -> None:
    table = pd.DataFrame({"ID": ["1"], "Id": ["2"], "Text": ["a"]})
    assert list(spelled(table, ["id", "text"])) == ["ID", "Id", "text"]
    assert list(spelled(table, ["ID", "id"])) == ["ID", "id", "Text"]


IDS = {
    "as floats": (["900", "901"], ["901.0", "900.0"], ["901", "900"]),
    "the same": (["900.0"], ["900.0"], ["900.0"]),
    "words": (["a", "900"], ["a", "900.0"], ["a", "900.0"]),
    "two of one number": (["7", "007"], ["7.0", "8"], ["7.0", "8"]),
    "large": (["9007199254740993"], ["9007199254740993.0"], ["9007199254740993"]),
}


@pytest.mark.parametrize(("known", "given", "wanted"), IDS.values(), ids=IDS.keys())
def test_ids_are_matched_as_numbers(known: list, given: list, wanted: list) -> None:
    assert in_spelling_of(known, pd.Series(given, dtype=object)).tolist() == wanted


def test_ids_are_submitted_as_the_sample_spells_them(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w")
    for name, end in (("test", ""), ("sample_submission", ".0"), ("private/solution", "")):
        path = root / f"input/{name}.csv"
        lines = path.read_text().splitlines()[1:]
        rows = [f"{900 + i}{end},{line.split(',', 1)[1]}" for i, line in enumerate(lines)]
        header = path.read_text().splitlines()[0]
        write(path, "\n".join([header, *rows]) + "\n")
    go_through(root)
    ids = [line.split(",")[0] for line in (root / "submissions/blend.csv").read_text().split()]
    assert ids == ["id", *(f"{i}.0" for i in range(900, 906))]
    assert foldstack(root, "score") == 0


def test_a_sample_may_repeat_columns_of_the_test_file(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w")
    test = (root / "input/test.csv").read_text().splitlines()[1:]
    rows = [f"{row.split(',')[0]},0,{row.split(',')[1]}" for row in test]
    write(root / "input/sample_submission.csv", "\n".join(["id,label,text", *rows]) + "\n")
    go_through(root)
    submitted = pd.read_csv(root / "submissions/blend.csv")
    assert list(submitted) == ["id", "label", "text"]
    assert submitted["text"].tolist() == [row.split(",")[1] for row in test]
    assert submitted["label"].between(0, 1, inclusive="neither").all()


# Weights


def with_weights(root: Path, weights: list[str], **settings: object) -> Path:
    make_workspace(root, weight="w", **settings)
    path = root / "input/train.csv"
    header, *rows = path.read_text().splitlines()
    lines = [f"{row},{w}" for row, w in zip(rows, weights, strict=True)]
    write(path, "\n".join([f"{header},w", *lines]) + "\n")
    return root


def test_an_empty_weight_is_named(tmp_path: Path) -> None:
    assert refused(with_weights(tmp_path / "w", ["1", "", *["1"] * 22])) == (
        "ROOT/input/train.csv: row 2: weight column 'w' is empty: weights are numbers of 0 or more"
    )


def test_a_class_whose_weights_are_all_0_is_refused(tmp_path: Path) -> None:
    assert refused(with_weights(tmp_path / "w", ["1", "0"] * 12)) == (
        "ROOT/input/train.csv: weight column 'w' is 0 in every row of label '1', so that nothing could "
        "learn it: give its rows a weight, or leave `weight` out"
    )
    root = with_weights(tmp_path / "r", ["0"] * 24, kind="regression", metric="rmse")
    assert refused(root) == (
        "ROOT/input/train.csv: weight column 'w' is 0 in every row: leave `weight` out"
    )


def test_some_rows_may_weigh_0(tmp_path: Path) -> None:
    root = with_weights(tmp_path / "w", ["0", "0", *["1"] * 22])
    assert Workspace.open(root, []).competition.train.weights.sum() == 22
