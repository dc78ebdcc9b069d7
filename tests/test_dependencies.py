"""What a run rests on: other runs, which must be of the same folds and fresh, and external rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from foldstack.near import by_characters, near_duplicates, near_pairs
from foldstack.stages import train as train_stage
from foldstack.stages.dependencies import external_reasons, why_stale
from foldstack.stages.learned import rows_of
from foldstack.store import RunKey, Store
from foldstack.workspace import Workspace
from tiny import (
    add_preset,
    foldstack,
    go_through,
    make_workspace,
    refuses,
    run_of,
    train_folds,
    turn_labels,
    write,
    write_competition,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

SYLLABLES = [a + b + c for a in "bcdfg" for b in "aeiou" for c in "lmnrst"]


def random_texts(n: int, words: int = 12, seed: int = 5) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(SYLLABLES, words)) for _ in range(n)]


def noise_workspace(root: Path, texts: list[str], **settings: object) -> Path:
    """Labels that nothing in the texts tells: every second row of the file is positive."""
    train = "".join(f"r{i},{text},{i % 2}\n" for i, text in enumerate(texts))
    write(root / "input/train.csv", "id,text,label\n" + train)
    write(root / "input/test.csv", "id,text\nt0,a new text\nt1,another one\n")
    write(root / "input/sample_submission.csv", "id,label\nt0,0\nt1,0\n")
    write_competition(root, runtime={"threads": 1}, **settings)
    return root


def learned_by(root: Path, fold: int, name: str = "tfidf"):
    """The rows that a run learns from, and why it is optimistic."""
    train, _, _, optimistic = rows_of(*run_of(root, name, fold))
    return train, optimistic


def external_ids(root: Path, fold: int) -> set[int]:
    train, _ = learned_by(root, fold)
    return {int(i.rpartition(":")[2]) - 1 for i in train.ids[train.origin == "external"]}


def fold_of_rows(root: Path) -> np.ndarray:
    ws = Workspace.open(root, [])
    return ws.store.read_folds(ws.competition.train).fold


# External rows that give held-out labels away


@pytest.mark.parametrize("near", [0, 0.8])
def test_external_rows_near_to_held_out_texts_are_left_out(tmp_path: Path, near: float) -> None:
    """A copy that differs in punctuation would carry its label into the run."""
    texts = random_texts(60)
    root = noise_workspace(tmp_path, texts, external=["more.csv"], folds={"count": 3, "near": near})
    copies = "".join(f"{text} !,{i % 2}\n" for i, text in enumerate(texts))
    write(root / "input/more.csv", "text,label\n" + copies)
    assert foldstack(root, "folds") == 0
    fold = fold_of_rows(root)
    for k in range(3):
        assert external_ids(root, k) == set(np.flatnonzero(fold != k))


def test_external_rows_of_a_held_out_group_are_left_out(tmp_path: Path) -> None:
    root, texts = tmp_path, random_texts(40)
    noise_workspace(root, texts, external=["more.csv", "plain.csv"], group="author")
    train = "".join(f"r{i},{t},g{i // 4},{i // 4 % 2}\n" for i, t in enumerate(texts))
    write(root / "input/train.csv", "id,text,author,label\n" + train)
    others = random_texts(42, seed=6)
    more = "".join(f"{t},g{i // 4},{i // 4 % 2}\n" for i, t in enumerate(others))
    write(root / "input/more.csv", "text,author,label\n" + more + "nobody's,,1\n")
    write(root / "input/plain.csv", "text,label\nof no author,1\n")
    assert foldstack(root, "folds") == 0
    fold = fold_of_rows(root)
    for k in range(3):
        train, _ = learned_by(root, k)
        left_out = set(np.flatnonzero(fold == k))
        found = set(train.ids[train.origin == "external"])
        # Authors g10 of the last two rows, nobody's, and a file without authors are in no fold.
        assert found == {f"more.csv:{i + 1}" for i in set(range(43)) - left_out} | {"plain.csv:1"}


@pytest.mark.parametrize("relation", ["near", "group"])
def test_turned_labels_of_the_fold_change_nothing_in_what_a_run_learns(
    tmp_path: Path, relation: str
) -> None:
    """In external rows that are tied to the fold the labels turn along with those of train."""
    texts, root = random_texts(30), tmp_path
    group = {"group": "author"} if relation == "group" else {}
    noise_workspace(root, texts, external=["more.csv"], **group)

    def labelled(turned: set[int]) -> None:
        def line(i: int, text: str) -> str:
            return f"{text},g{i // 2},{(i // 2 + (i in turned)) % 2}\n"

        train = "".join(f"r{i}," + line(i, t) for i, t in enumerate(texts))
        write(root / "input/train.csv", "id,text,author,label\n" + train)
        own = random_texts(30, seed=9) if group else [f"{t}..." for t in texts]
        more = "".join(line(i, t) for i, t in enumerate(own))
        write(root / "input/more.csv", "text,author,label\n" + more)

    labelled(set())
    assert foldstack(root, "folds") == 0
    fold = fold_of_rows(root)
    before = learned_by(root, 1)[0]
    labelled(set(np.flatnonzero(fold == 1).tolist()))
    after = learned_by(root, 1)[0]
    assert before.ids.tolist() == after.ids.tolist() and "external" in before.origin
    np.testing.assert_array_equal(before.targets, after.targets)


def test_near_pairs_are_those_of_brute_force() -> None:
    """Between two lists of texts, equal ones and repeated ones included."""
    base = random_texts(12)
    texts = [(t,) for t in [*base[:6], base[0] + " !", base[0], ""]]
    others = [(t,) for t in [base[0], base[3] + " ?", *base[6:], base[0], ""]]

    def near(a: str, b: str) -> bool:
        _, _, refused = near_duplicates([(a,), (b,)], 1, by_characters(0.8, 0))
        return bool(a) and bool(b) and (a == b or len(refused) == 1)

    # The last but one of the others repeats the first, which stands for both.
    expected = {
        (i, j)
        for i, (a,) in enumerate(texts)
        for j, (b,) in enumerate(others)
        if near(a, b) and j != len(others) - 2
    }
    found = near_pairs(texts, others, by_characters(0.8, 0))
    assert sorted(map(tuple, found.tolist())) == sorted(expected)
    assert {(0, 0), (6, 0), (7, 0), (3, 1)} == expected
    assert near_pairs([("a b",)], [("c d",)], by_characters(0.8, 0)).shape == (0, 2)


def test_other_ties_make_another_run(tmp_path: Path) -> None:
    """Runs that had learned from near copies are not today's; equal copies alone change no hash."""
    texts = random_texts(30)
    root = noise_workspace(tmp_path, texts, external=["more.csv"])

    def overlay(line: str) -> str | None:
        write(root / "input/more.csv", f"text,label\n{line},1\nfar away from all,0\n")
        competition = Workspace.open(root, []).competition
        import hashlib

        parts = ["", competition.external.hash(), ""]
        plain = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
        return None if competition.overlay_hash == plain else competition.overlay_hash

    assert overlay(texts[3]) is None
    assert overlay(texts[3] + " !") is not None


# External rows whose labels may be a model's


def pseudo_labels(root: Path) -> None:
    test = (root / "input/test.csv").read_text().splitlines()[1:]
    lines = "".join(f"{line.split(',')[1].upper()},1\n" for line in test[:4])
    write(root / "input/more.csv", "text,label\nsomething else,1\n" + lines)


IN_TEST = (
    "4 external rows, 'more.csv:2' the first, have texts of the test file: their labels may come from a "
    "model of this competition, which has seen every fold; without those rows this mark goes"
)


@pytest.fixture(scope="module")
def with_pseudo_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose external rows are test texts with labels, up to a submission."""
    root = make_workspace(tmp_path_factory.mktemp("pseudo") / "w", external=["more.csv"])
    write(root / "patterns.yaml", "rules: [{text: a good film, label: '1'}]")
    pseudo_labels(root)
    return go_through(root)


def test_external_rows_with_texts_of_the_test_file_are_marked(with_pseudo_labels: Path) -> None:
    store = Store(with_pseudo_labels)
    assert [run.optimistic for run in store.runs().values()] == [[IN_TEST]] * 3
    assert store.read_blend("blend").optimistic == [IN_TEST]
    assert store.submissions()["blend"].optimistic == [IN_TEST]


@pytest.mark.parametrize(
    "command",
    [
        "blend",
        "submit",
        "submit --model tfidf",
        "scores",
        "score",
        "report",
        "report --model tfidf",
        "views",
        "views --model tfidf",
        "predict --text good",
        "predict --text good --model tfidf",
        "compare --a tfidf --b other",
        "--set patterns=patterns.yaml patterns",
    ],
)
def test_every_command_that_shows_a_number_names_what_is_optimistic(
    with_pseudo_labels: Path, tmp_path: Path, capsys, command: str
) -> None:
    root = shutil.copytree(with_pseudo_labels, tmp_path / "w")
    if "other" in command:
        shutil.copytree(root / "oof/tfidf", root / "oof/other")
    capsys.readouterr()
    assert foldstack(root, *command.split()) == 0
    assert f"OPTIMISTIC, {IN_TEST}" in capsys.readouterr().out


def test_external_rows_that_were_predicted_here_are_marked(workspace: Path, tmp_path) -> None:
    """The marks are made where numbers are shown, too: the prediction may be later than the run."""
    root = workspace
    write_competition(root, external=["more.csv"])
    lines = "".join(f"fresh text {i},1\n" for i in range(3))
    write(root / "input/more.csv", "text,label\nunknown,1\n" + lines)
    go_through(root, "folds", "train", "blend")
    ws = Workspace.open(root, [])
    assert external_reasons(ws) == []
    new = write(tmp_path / "new.csv", "text\nFresh  text 1\nfresh text 2\n\n")
    assert foldstack(root, "predict", "--file", str(new), "--out", str(tmp_path / "o.csv")) == 0
    reason = (
        "2 external rows, 'more.csv:3' the first, have texts that a model has labelled here: their "
        "labels may come from a model of this competition, which has seen every fold; without those "
        "rows this mark goes"
    )
    assert external_reasons(ws) == [reason]
    assert foldstack(root, "submit") == 0
    assert ws.store.submissions()["blend"].optimistic == [reason]


def test_a_damaged_record_of_predicted_texts_is_named(workspace: Path, capsys) -> None:
    write_competition(workspace, external=["more.csv"])
    write(workspace / "input/more.csv", "text,label\nunknown,1\n")
    path = write(workspace / "predictions/.records/0.npy", "no array")
    assert foldstack(workspace, "folds") == 0
    capsys.readouterr()
    refuses(
        workspace,
        ["train", "--fold", "0"],
        f"{path}, the texts that `predict` has labelled, is damaged: remove it and predict those files "
        "again",
        capsys,
    )


# Near-duplicates that cross folds all the same


def test_pairs_beyond_the_cap_that_cross_folds_are_marked(tmp_path: Path) -> None:
    """Twelve variants of one text, of which no more than three may chain together."""
    text = random_texts(1, words=30)[0]
    texts = [f"{text} {'abcdefghijkl'[i]}" for i in range(12)]
    root = noise_workspace(tmp_path, texts, folds={"count": 3, "near": 0.8, "near_cap": 3})
    assert foldstack(root, "folds") == 0
    ws = Workspace.open(root, [])
    fold, refused = fold_of_rows(root), ws.competition.near.refused
    for k in range(3):
        crossing = int(((fold[refused] == k).sum(axis=1) == 1).sum())
        assert crossing > 0
        assert learned_by(root, k)[1] == [
            f"{crossing} pairs of near-duplicates stand on both sides of the fold (folds.near_cap)"
        ]


def test_given_folds_that_part_near_duplicates_are_marked(tmp_path: Path) -> None:
    texts = [t for text in random_texts(6) for t in (text, text + " !")]
    root = noise_workspace(tmp_path, texts, folds={"near": 0.8, "file": "folds.csv"})
    write(root / "input/folds.csv", "fold\n" + "0\n1\n" * 6)
    assert foldstack(root, "folds") == 0
    assert learned_by(root, 0)[1] == ["6 texts or groups stand on both sides of the fold"]


@pytest.mark.parametrize("setting", ["group", "near"])
def test_ties_that_are_set_after_training_are_marked(tmp_path: Path, setting: str, capsys) -> None:
    """The folds and the runs are older than the setting; nothing but the marks knows of it."""
    texts = [t for text in random_texts(12) for t in (text, text + " !")]
    root = noise_workspace(tmp_path, texts)
    train = "".join(f"r{i},{t},{i % 2},g{i // 2}\n" for i, t in enumerate(texts))
    write(root / "input/train.csv", "id,text,label,author\n" + train)
    write(root / "input/folds.csv", "fold\n" + "0\n1\n" * 12)
    write_competition(root, folds={"file": "folds.csv"}, runtime={"threads": 1})
    go_through(root, "folds")
    train_folds(root, folds=2)
    assert foldstack(root, "blend") == 0
    assert Store(root).read_blend("blend").optimistic == []
    more = {"group": "author"} if setting == "group" else {}
    near = {"near": 0.8} if setting == "near" else {}
    folds = {"file": "folds.csv"} | near
    write_competition(root, folds=folds, runtime={"threads": 1}, **more)
    for command in (["scores"], ["report"], ["views"], ["blend"], ["submit"]):
        capsys.readouterr()
        assert foldstack(root, *command) == 0
        said = "OPTIMISTIC, tfidf: 12 texts or groups stand on both sides of the fold"
        assert said.replace("tfidf: ", "") in capsys.readouterr().out.replace("tfidf: ", "")


# Other runs


@pytest.fixture
def root(backbone: Path, tmp_path: Path) -> Path:
    """`tiny` is trained on every fold; `start` and `hard` rest on it."""
    root = make_workspace(
        tmp_path / "w", n=30, runtime={"threads": 1}, folds={"count": 3, "kind": "kfold"}
    )
    add_preset(root, backbone, training={"epochs": 1})
    add_preset(root, backbone, "start", start_from="tiny", training={"epochs": 1})
    hard = {"epochs": 1, "sampling": {"name": "hard", "model": "tiny"}}
    add_preset(root, backbone, "hard", training=hard)
    assert foldstack(root, "folds") == 0
    train_folds(root, "--model", "tiny")
    return root


@pytest.mark.parametrize(("model", "setting"), [("start", "start_from"), ("hard", "sampling hard")])
@pytest.mark.parametrize("changed", ["folds", "train"])
def test_a_run_of_other_folds_or_rows_is_not_rested_on(
    root: Path, capsys, model: str, setting: str, changed: str
) -> None:
    """Its weights and losses know labels of the fold that is held out today."""
    store = Store(root)
    old = getattr(store.read_run(RunKey("tiny", 0, (0,))).identity, changed)
    if changed == "folds":
        write_competition(
            root, runtime={"threads": 1}, folds={"count": 3, "kind": "kfold", "seed": 1}
        )
        assert foldstack(root, "folds", "--force") == 0
    else:
        turn_labels(root, {"r3"})
    ws = Workspace.open(root, [])
    train = ws.competition.train
    new = train.hash() if changed == "train" else store.read_folds(train).hash
    what = {"train": "training rows", "folds": "folds"}[changed]
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", model, "--fold", "0"],
        f"{model} seed 0 fold0: {setting} needs tiny seed 0 fold0, which was made with other {what} "
        f"(hash {old}) than today's (hash {new}): run `make train MODEL=tiny FOLD=0 SEED=0 FORCE=1` "
        "first",
        capsys,
    )


def test_a_run_whose_start_was_trained_again_is_stale(root: Path, capsys) -> None:
    """It cannot be blended, compared or submitted, and what shows it says so."""
    train_folds(root, "--model", "start")
    assert foldstack(root, "blend", "--model", "start") == 0
    again = ["--model", "tiny", "--fold", "1", "--force", "--set", "training.lr=0.01"]
    assert foldstack(root, "train", *again) == 0
    ws = Workspace.open(root, [])
    stale = "depends on tiny seed 0 fold1 (start_from), which was trained again since"
    runs = {key: why_stale(ws, run) for key, run in ws.store.runs("start").items()}
    assert list(runs.values()) == [[], [stale], []]
    capsys.readouterr()
    for command in ("blend", "submit"):
        refuses(
            root,
            [command, "--model", "start"],
            f"start seed 0 fold1 {stale}: train it again with --force (FORCE=1)",
            capsys,
        )
    for command in (["scores"], ["report"], ["views"], ["predict", "--text", "good"]):
        assert foldstack(root, *command) == 0
        assert f"STALE, depends on start seed 0 fold1, which {stale}" in capsys.readouterr().out
    table = "start     0  fold1"
    assert foldstack(root, "scores") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("stale") for line in lines if line.startswith(table)] == [True]


def test_a_run_is_stale_through_a_chain(root: Path, backbone: Path) -> None:
    add_preset(root, backbone, "third", start_from="start", training={"epochs": 1})
    for model in ("start", "third"):
        assert foldstack(root, "train", "--model", model, "--fold", "0") == 0
    again = ["--model", "tiny", "--fold", "0", "--force", "--set", "training.lr=0.01"]
    assert foldstack(root, "train", *again) == 0
    ws = Workspace.open(root, [])
    run = ws.store.read_run(RunKey("third", 0, (0,)))
    assert why_stale(ws, run) == ["depends on start seed 0 fold0 (start_from), which is stale"]


def test_a_removed_start_makes_nothing_stale(root: Path) -> None:
    assert foldstack(root, "train", "--model", "start", "--fold", "0") == 0
    shutil.rmtree(root / "oof/tiny")
    ws = Workspace.open(root, [])
    assert why_stale(ws, ws.store.read_run(RunKey("start", 0, (0,)))) == []


def test_copies_washed_by_an_optimistic_judge_make_a_run_optimistic(
    root: Path, backbone: Path
) -> None:
    add_preset(root, backbone, "chosen", training={"epochs": 1, "select": "fold"})
    for fold in ("0-1", "0-2"):
        assert foldstack(root, "train", "--model", "chosen", "--fold", fold) == 0
    washed = {"augment": ["swap_words"], "augment_copies": 1, "augment_washed_by": "chosen"}
    add_preset(root, backbone, "washed", training={"epochs": 1}, **washed)
    assert foldstack(root, "train", "--model", "washed", "--fold", "0") == 0
    ws = Workspace.open(root, [])
    run = ws.store.read_run(RunKey("washed", 0, (0,)))
    assert run.optimistic == ["chosen: the epoch was chosen on the held-out fold"]
    again = ["--model", "chosen", "--fold", "0-2", "--force", "--set", "training.lr=0.01"]
    assert foldstack(root, "train", *again) == 0
    assert why_stale(ws, run) == [
        "depends on chosen seed 0 fold0-2 (augment_washed_by), which was trained again since"
    ]


def test_what_is_rested_on_is_trained_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order in which models are named: its dependents would be stale at once."""
    trained: list[list[str]] = []
    monkeypatch.setattr(
        train_stage,
        "train_each",
        lambda ws, todo, *_, **__: trained.append([str(run.key) for run in todo]),
    )
    args = ["--model", "start,tfidf,tiny", "--fold", "0", "--force"]
    assert foldstack(root, "train", *args) == 0
    assert trained == [["tfidf seed 0 fold0", "tiny seed 0 fold0"], ["start seed 0 fold0"]]


def test_what_is_shown_without_folds_says_that_nothing_can_be_compared(
    workspace: Path, capsys
) -> None:
    go_through(workspace, "folds", "train", "blend")
    assert foldstack(workspace, "clean", "folds") == 0
    capsys.readouterr()
    assert foldstack(workspace, "scores") == 0
    shown = capsys.readouterr().out
    assert (
        shown.count("STALE, cannot be compared with today's folds and rows (folds/folds.csv") == 2
    )


def test_near_duplicates_are_searched_once_for_all_runs(tmp_path: Path, monkeypatch) -> None:
    """Each run is a process of its own, and a search of a million texts takes minutes."""
    texts = random_texts(30)
    settings = {"external": ["more.csv"], "folds": {"count": 3, "near": 0.8}}
    root = noise_workspace(tmp_path, texts, **settings)
    write(root / "input/more.csv", f"text,label\n{texts[3]} !,1\n")
    assert foldstack(root, "folds") == 0
    first = learned_by(root, 0)[0]
    kept = sorted((root / "oof/.near").iterdir())
    assert len(kept) == 2

    def never(*_: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr("foldstack.near._near_pairs", never)
        assert learned_by(root, 0)[0].ids.tolist() == first.ids.tolist()
    for path in kept:  # a damaged file is made again
        path.write_bytes(path.read_bytes()[:-40])
    assert learned_by(root, 0)[0].ids.tolist() == first.ids.tolist()
    write(root / "input/more.csv", f"text,label\n{texts[4]} !,1\n")
    assert (
        learned_by(root, 0)[0].ids.tolist() != [] and len(list((root / "oof/.near").iterdir())) == 3
    )


def test_labels_of_a_former_test_file_and_of_debug_are_marked(workspace: Path, tmp_path) -> None:
    """What was the test file once has labels from here as well; and DEBUG=1 is no other place."""
    go_through(workspace, "folds", "train", "blend")
    lines = (workspace / "input/test.csv").read_text().splitlines()
    former = [line.split(",")[1] for line in lines[1:3]]
    renewed = [lines[0], *(f"t{i},quite another text {i}" for i in range(6))]
    write(workspace / "input/test.csv", "\n".join(renewed) + "\n")
    assert foldstack(workspace, "--debug", "folds") == 0
    for fold in range(2):
        assert foldstack(workspace, "--debug", "train", "--fold", str(fold)) == 0
    assert foldstack(workspace, "--debug", "blend") == 0
    new = write(tmp_path / "new.csv", "text\nseen by debug alone\n")
    args = ["predict", "--file", str(new), "--out", str(tmp_path / "out.csv")]
    assert foldstack(workspace, "--debug", *args) == 0
    write_competition(workspace, external=["more.csv"])
    more = "".join(f"{text},1\n" for text in [*former, "seen by debug alone", "never seen"])
    write(workspace / "input/more.csv", "text,label\n" + more)
    (reason,) = external_reasons(Workspace.open(workspace, []))
    assert reason.startswith(
        "3 external rows, 'more.csv:1' the first, have texts that a model has labelled here"
    )


def test_a_mark_stays_where_the_setting_that_showed_it_is_taken_out(tmp_path: Path) -> None:
    """What a run shares with its fold does not go with the setting that said so."""
    texts = [t for text in random_texts(6) for t in (text, text + " !")]
    settings = {"file": "folds.csv"}
    root = noise_workspace(tmp_path, texts, folds=settings | {"near": 0.8})
    write(root / "input/folds.csv", "fold\n" + "0\n1\n" * 6)
    assert foldstack(root, "folds") == 0
    train_folds(root, folds=2)
    write_competition(root, folds=settings, runtime={"threads": 1})
    assert foldstack(root, "blend") == 0
    assert Store(root).read_blend("blend").optimistic == [
        "tfidf: 6 texts or groups stand on both sides of the fold"
    ]
