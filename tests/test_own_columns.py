"""A metric of the user's own that takes columns of the training file: they follow the rows it scores."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from foldstack.competition import Competition
from foldstack.ensemble.estimate import bootstrap
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.store import read_parquet
from foldstack.tables import read_table
from tiny import foldstack, go_through, make_workspace, write, write_competition

# The mean of the AUC of all rows and of those that name a group, as in a competition on bias.
SOURCE = """
from scipy.stats import rankdata

def auc(targets, predictions):
    positives = targets.sum()
    ranks = rankdata(predictions)[targets > 0.5].sum()
    return (ranks - positives * (positives + 1) / 2) / (positives * (len(targets) - positives))

def bias(targets, predictions, male, note):
    assert all(text.startswith("of ") for text in note)
    named = male > 0.5
    if len(set(targets[named])) < 2 or len(set(targets)) < 2:
        return float("nan")
    return (auc(targets, predictions) + auc(targets[named], predictions[named])) / 2

bias.wants = "ranking"
"""


def bias(targets, predictions, male) -> float:
    named = male > 0.5
    both = roc_auc_score(targets, predictions), roc_auc_score(targets[named], predictions[named])
    return float(np.mean(both))


def make_biased(root: Path, source: str = SOURCE, **settings: object) -> Path:
    """60 training rows with a column of numbers, empty in places, and one of text."""
    make_workspace(root, n=60)
    for name in ("train", "private/solution"):
        path = root / f"input/{name}.csv"
        header, *rows = path.read_text().splitlines()
        beside = [f"{['1', '', '0', '0.7', '1'][i % 5]},of {i}" for i in range(len(rows))]
        lines = [f"{row},{more}" for row, more in zip(rows, beside, strict=True)]
        write(path, "\n".join([f"{header},male,note", *lines]) + "\n")
    write(root / "metrics.py", source)
    write_competition(root, metric="metrics.py:bias", **settings)
    return root


def male(root: Path, name: str = "train") -> np.ndarray:
    return np.array(
        [float(v or "nan") for v in read_table(root / f"input/{name}.csv", "utf-8")["male"]]
    )


def rows_of(root: Path) -> tuple[Competition, np.ndarray, np.ndarray]:
    competition = Competition.load(root)
    targets = competition.train.targets
    return competition, targets, np.random.default_rng(0).random((60, 1)) + targets / 2


def test_columns_follow_the_rows(tmp_path: Path):
    """All rows, a part in another order by position, and the same part by ids."""
    root = make_biased(tmp_path)
    competition, targets, predictions = rows_of(root)
    column, metric = male(root), competition.metric
    wanted = bias(targets[:, 0], predictions[:, 0], column)
    assert metric.score(targets, predictions) == pytest.approx(wanted)
    part = np.random.default_rng(1).permutation(60)[:40]
    wanted = bias(targets[part, 0], predictions[part, 0], column[part])
    by_ids = metric.of_ids(competition.train.ids[part])
    for of_part in (metric.take(part), by_ids):
        assert of_part.score(targets[part], predictions[part]) == pytest.approx(wanted)
    with pytest.raises(ValueError, match="has columns of 60 rows, but scores 40"):
        metric.score(targets[part], predictions[part])


def test_columns_are_resampled_with_the_rows(tmp_path: Path):
    root = make_biased(tmp_path)
    competition, targets, predictions = rows_of(root)
    found = bootstrap(
        competition.metric, targets, [predictions], np.arange(60), seed=0, resamples=5
    )
    rng = np.random.default_rng(0)
    for score in found[:, 0]:
        rows = rng.integers(60, size=60)
        assert score == pytest.approx(
            bias(targets[rows, 0], predictions[rows, 0], male(root)[rows])
        )


def test_with_weights_columns_come_once_per_row(tmp_path: Path):
    source = (
        "def bias(targets, predictions, weights, male):\n"
        "    assert len(male) == len(weights) == 60\n"
        "    return float(weights @ (male == 1))"
    )
    competition, targets, predictions = rows_of(make_biased(tmp_path, source))
    assert competition.metric.score(targets, predictions, np.full(60, 0.5)) == 12


def test_a_column_is_of_numbers_only_if_all_its_cells_are(tmp_path: Path):
    source = (
        "def bias(targets, predictions, male, note, label, id):\n"
        "    assert (male.dtype, note.dtype, label.dtype) == (float, object, float)\n"
        "    assert id[0] == 'r0' and note[1] == 'of 1'\n"
        "    male[:] = 9\n"
        "    return 1.0"
    )
    competition, targets, predictions = rows_of(make_biased(tmp_path, source))
    assert competition.metric.score(targets, predictions) == 1
    assert np.nanmax(competition.metric.cells["male"]) == 1


def test_a_parameter_with_a_default_is_no_column(tmp_path: Path):
    source = "def bias(targets, predictions, power=2, *, other=3):\n    return float(power + other)"
    competition, targets, predictions = rows_of(make_biased(tmp_path, source))
    assert competition.metric.score(targets, predictions) == 5


def test_a_column_that_is_not_there_is_named(tmp_path: Path):
    root = make_biased(tmp_path, "def bias(targets, predictions, mael):\n    return 1.0")
    with pytest.raises(InputError) as refused:
        Competition.load(root).check()
    assert str(refused.value) == (
        f"{root}/metrics.py: bias takes 'mael', which is no column of {root}/input/train.csv "
        "(did you mean 'male'?): rename it, or give it a default"
    )


@pytest.mark.parametrize("several", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_from_folds_to_the_private_score(
    tmp_path: Path, capsys: pytest.CaptureFixture, several: bool
):
    """The nested score is that of the stored nested predictions with the columns of their rows."""
    models = ["tfidf", *([{"words": {"preset": "tfidf", "C": 0.1}}] if several else [])]
    root = make_biased(tmp_path / "w", models=models, categorical=["male"])
    write(root / "input/test.csv", with_male(root / "input/test.csv"))
    go_through(root, "folds", "train", "blend", "submit", "score", "views", "scores", "report")
    if several:
        assert foldstack(root, "compare", "--a", "tfidf", "--b", "words") == 0
    record = read_json(root / "oof/_blends/blend/blend.json")
    ids, nested, _ = read_parquet(root / "oof/_blends/blend/nested.parquet")
    train = read_table(root / "input/train.csv", "utf-8").set_index("id").loc[list(ids)]
    column = np.array([float(v or "nan") for v in train["male"]])
    wanted = bias(train["label"].astype(int).to_numpy(), nested.raw[:, 0], column)
    assert record["nested"]["score"] == pytest.approx(wanted)
    submitted = read_table(root / "submissions/blend.csv", "utf-8")["label"].astype(float)
    solution = read_table(root / "input/private/solution.csv", "utf-8")
    wanted = bias(
        solution["label"].astype(int), submitted.to_numpy(), male(root, "private/solution")
    )
    assert f"{wanted:.4f}" in capsys.readouterr().out


def with_male(path: Path) -> str:
    header, *rows = path.read_text().splitlines()
    return "\n".join([f"{header},male", *(f"{row},1" for row in rows)]) + "\n"


def test_a_solution_without_the_column_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    root = go_through(make_biased(tmp_path / "w"), "folds", "train", "blend", "submit")
    solution = root / "input/private/solution.csv"
    write(solution, solution.read_text().replace("male", "man"))
    capsys.readouterr()
    assert foldstack(root, "score") == 2
    assert (
        f"{root}/metrics.py: bias takes 'male', which is no column of {solution} (did you mean 'man'?): "
        "rename it, or give it a default"
    ) in capsys.readouterr().err
