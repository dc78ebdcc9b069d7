"""MAP@k and top-k accuracy, and submissions of labels that are joined by spaces."""

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.metrics import get
from foldstack.tables import read_table
from tiny import go_through, make_kind, write, write_competition

IDS = ["t5", "t4", "t3", "t2", "t1", "t0"]


def apk(actual: list[int], predicted: list[int], k: int) -> float:
    """Average precision at k, by its definition in the package ml_metrics."""
    score, hits = 0.0, 0
    for i, label in enumerate(predicted[:k]):
        if label in actual and label not in predicted[:i]:
            hits += 1
            score += hits / (i + 1)
    return score / min(len(actual), k)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 9])
def test_map_at_k_is_the_mean_of_apk_over_rows(k: int):
    rng = np.random.default_rng(k)
    given, probabilities = rng.integers(5, size=40), rng.dirichlet(np.ones(5), 40)
    weights = rng.integers(3, size=40)
    ranked = np.argsort(-probabilities, axis=1).tolist()
    slow = [apk([label], row, k) for label, row in zip(given.tolist(), ranked, strict=True)]
    metric = get(f"map_at_{k}", "multiclass")
    found = metric.score(np.eye(5)[given], probabilities, weights)
    assert found == pytest.approx(np.average(slow, weights=weights))
    assert (metric.wants, metric.greater_is_better, metric.top) == ("probability", True, k)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_accuracy_is_that_of_scikit_learn(k: int):
    rng = np.random.default_rng(k)
    given, probabilities = rng.integers(5, size=40), rng.dirichlet(np.ones(5), 40)
    wanted = sk.top_k_accuracy_score(given, probabilities, k=k, labels=range(5))
    found = get(f"top_{k}_accuracy", "multiclass").score(np.eye(5)[given], probabilities)
    assert found == pytest.approx(wanted)


def test_of_equally_probable_labels_the_first_is_ranked_first():
    """As in the submission, so that a metric scores what is submitted."""
    equal = np.full((3, 3), 1 / 3)
    assert get("map_at_3", "multiclass").score(np.eye(3), equal) == pytest.approx(
        (1 + 1 / 2 + 1 / 3) / 3
    )


def test_a_number_of_no_labels_is_no_metric():
    with pytest.raises(InputError, match="metric 'map_at_0' is not known"):
        get("map_at_0", "multiclass")


def test_the_most_probable_labels_are_joined_by_a_space_and_read_back(tmp_path: Path):
    competition = Competition.load(make_kind(tmp_path, "multiclass", "map_at_2", ["label"]))
    probabilities = np.array(3 * [[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])
    filled = competition.submission.fill(np.array(IDS), probabilities)
    assert list(filled["label"]) == 3 * ["good other", "bad other"]
    read = competition.submission.read(tmp_path / "s.csv", filled)
    assert read.tolist() == 3 * [[0, 2, 1], [2, 0, 1]]
    targets = np.eye(3)[[1, 0, 2, 2, 0, 1]]
    assert competition.metric.score(targets, read) == pytest.approx(
        competition.metric.score(targets, probabilities)
    )


@pytest.mark.parametrize("cell", ["good bad other", "good good", "goood", "", "good  bad"])
def test_a_cell_that_is_not_k_different_labels_is_named(tmp_path: Path, cell: str):
    competition = Competition.load(make_kind(tmp_path, "multiclass", "map_at_2", ["label"]))
    filled = competition.submission.fill(np.array(IDS), np.eye(3)[[0, 1, 2, 0, 1, 2]])
    filled.loc[1, "label"] = cell
    with pytest.raises(InputError) as refused:
        competition.submission.read(tmp_path / "s.csv", filled)
    assert str(refused.value) == (
        f"{tmp_path}/s.csv: row 2 holds '{cell}', which is not 1 to 2 different labels: "
        "run `make submit` again"
    )


def test_with_a_column_per_class_probabilities_are_submitted(tmp_path: Path):
    root = make_kind(tmp_path, "multiclass", "map_at_2", ["bad", "good", "other"])
    filled = Competition.load(root).submission.fill(np.array(IDS), np.tile([0.2, 0.5, 0.3], (6, 1)))
    assert filled.loc[0].tolist() == ["t5", "0.2", "0.5", "0.3"]


def test_a_label_with_a_space_cannot_be_joined_by_one(tmp_path: Path):
    root = make_kind(tmp_path, "multiclass", "map_at_2", ["label"])
    train = root / "input/train.csv"
    write(train, train.read_text().replace(",good", ",very good"))
    with pytest.raises(InputError) as refused:
        _ = Competition.load(root).submission.wants_labels
    assert str(refused.value) == (
        f"{root}/input/sample_submission.csv: map_at_2 joins labels by spaces, but label 'very good' is "
        "empty or holds one: choose accuracy or log_loss, or rename the labels"
    )


def test_metrics_that_require_probabilities_are_not_reported(tmp_path: Path):
    root = make_kind(tmp_path, "multiclass", "map_at_2", ["label"])
    write_competition(
        root, kind="multiclass", metric="map_at_2", report_metrics=["accuracy", "log_loss"]
    )
    with pytest.raises(InputError) as refused:
        _ = Competition.load(root).report_metrics
    assert str(refused.value) == (
        "competition.yaml: report_metrics names log_loss, but 2 labels per row are submitted, without "
        "probabilities: leave it out"
    )


def test_from_folds_to_the_private_score(tmp_path: Path, capsys: pytest.CaptureFixture):
    root = make_kind(tmp_path / "w", "multiclass", "map_at_2", ["label"])
    go_through(root, "folds", "train", "blend", "submit", "report", "views", "scores", "score")
    said = capsys.readouterr().out
    assert "6 rows of the 2 most probable labels from" in said
    cells = list(read_table(root / "submissions/blend.csv", "utf-8")["label"])
    solution = read_table(root / "input/private/solution.csv", "utf-8").set_index("id")["label"]
    slow = np.mean(
        [apk([solution[id_]], cell.split(), 2) for id_, cell in zip(IDS, cells, strict=True)]
    )
    assert f"{slow:.4f}" in said.splitlines()[-1]


def test_labels_are_joined_in_the_samples_spelling(tmp_path: Path) -> None:
    competition_root = make_kind(tmp_path, "multiclass", "map_at_2", ["label"])
    for name in ("train", "private/solution"):
        path = competition_root / f"input/{name}.csv"
        text = path.read_text()
        for number, word in enumerate(("bad", "good", "other")):
            text = text.replace(f",{word}\n", f",{number}.0\n")
        write(path, text)
    path = competition_root / "input/sample_submission.csv"
    write(path, path.read_text().replace(",0\n", ",0 1\n"))
    go_through(competition_root)
    lines = (competition_root / "submissions/blend.csv").read_text().splitlines()[1:]
    assert {part for line in lines for part in line.split(",")[1].split()} <= {"0", "1", "2"}
