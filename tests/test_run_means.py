"""The mean over a model's runs is the same whether predictions are stored or made by the learners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foldstack.ensemble.calibration import temper
from foldstack.kinds import Kind
from foldstack.stages.fitted import load_learner
from foldstack.stages.means import RunScales, live_probabilities, over_runs, stored_probabilities
from foldstack.stages.oof import match_confidence, read_model
from foldstack.stages.predictor import Predictor
from foldstack.store import RunKey
from foldstack.workspace import Workspace
from tiny import foldstack, go_through, make_workspace, refuses

KEYS = [RunKey("tfidf", seed, (fold,)) for seed in (0, 1) for fold in (0, 1, 2)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds and two seeds, with enough test rows to align runs by; a full run of each seed."""
    root = make_workspace(tmp_path_factory.mktemp("means") / "w", n=60, seeds=[0, 1])
    test = root / "input/test.csv"
    header, *lines = test.read_text().splitlines()
    ids = [f"t{i}" for i in range(120)]
    texts = [lines[i % len(lines)].split(",", 1)[1] + " more" * (i // 20) for i in range(120)]
    test.write_text("\n".join([header, *map(",".join, zip(ids, texts, strict=True))]) + "\n")
    sample = root / "input/sample_submission.csv"
    first = sample.read_text().splitlines()[0]
    sample.write_text("\n".join([first, *(f"{id_},0" for id_ in ids)]) + "\n")
    return go_through(root, "folds", "train")


@pytest.fixture
def ws(root: Path) -> Workspace:
    return Workspace.open(root, [])


def test_the_live_source_gives_what_is_stored(ws: Workspace) -> None:
    test = ws.competition.test
    stored = stored_probabilities(ws, KEYS, "test", test)
    live = live_probabilities(((key, load_learner(ws, key, 1)) for key in KEYS), test)
    assert list(live) == list(stored) == KEYS
    for key in KEYS:
        np.testing.assert_allclose(live[key], stored[key], atol=1e-6)
    scales = RunScales.read(ws, KEYS)
    np.testing.assert_allclose(scales.mean_ranks(stored), scales.mean_ranks(live), atol=0.02)


def test_new_texts_that_are_the_test_rows_get_the_stored_test_mean(ws: Workspace) -> None:
    """Averaged and made as confident in the same way."""
    folds = ws.store.read_folds(ws.competition.train)
    model = read_model(ws, "tfidf", folds)
    matched = match_confidence(ws, model)
    assert matched.temperature < 1
    predictor = Predictor.of_model(ws, "tfidf")
    found = predictor.outcome(ws.competition.test).values
    stored = matched.test if predictor.temperatures else model.test
    np.testing.assert_allclose(found, stored, atol=1e-6)
    predictor.temperatures = {"tfidf": 0.5}
    found = predictor.outcome(ws.competition.test).values
    np.testing.assert_allclose(found, temper(Kind.BINARY, model.test, 0.5), atol=1e-6)


def test_runs_are_averaged_within_a_seed_first() -> None:
    """A seed of fewer runs counts as much as another."""
    values = {
        RunKey("m", 0, (0,)): np.array([[0.0]]),
        RunKey("m", 0, (1,)): np.array([[0.5]]),
        RunKey("m", 1, (0,)): np.array([[0.75]]),
    }
    assert over_runs(values).tolist() == [[0.5]]


def test_full_runs_are_submitted_as_the_mean_over_seeds(root: Path, ws: Workspace, capsys) -> None:
    full = ["--model", "tfidf", "--fold", "full"]
    sentence = "model 'tfidf' has no full run: run `make train MODEL=tfidf FOLD=full`"
    refuses(root, ["submit", *full], sentence, capsys)
    assert foldstack(root, "train", *full) == 0
    assert foldstack(root, "submit", *full, "--name", "full") == 0
    test = ws.competition.test
    keys = [RunKey("tfidf", seed, ()) for seed in (0, 1)]
    stored = over_runs(stored_probabilities(ws, keys, "test", test))
    lines = (root / "submissions/full.csv").read_text().splitlines()[1:]
    submitted = [float(line.split(",")[1]) for line in lines]
    np.testing.assert_allclose(submitted, stored[:, 0], rtol=1e-6)
