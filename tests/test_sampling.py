"""Which rows an epoch learns from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foldstack.links import row_losses
from foldstack.stages.fitted import load_learner
from foldstack.stages.learned import rows_of
from foldstack.store import RunKey, Store
from foldstack.techniques import Hard, Oversample, Power, Smote, Undersample
from foldstack.training.samplers import classes_of, sampled_rows, smote
from makers import fit_and_predict, tiny_rows
from tiny import add_preset, foldstack, make_workspace, run_of, turn_labels

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

SMOTE = Smote(name="smote", neighbours=5)
# 16 rows of class 0, four of class 1, none of class 2, one of class 3.
LONG_TAIL = np.eye(4)[[0] * 16 + [1] * 4 + [3]]


def counts(settings: object, targets: np.ndarray = LONG_TAIL, epoch: int = 0) -> list[int]:
    rows = sampled_rows(settings, targets, None, seed=0, epoch=epoch)
    return np.bincount(targets[rows].argmax(axis=1), minlength=4).tolist()


def test_power_draws_classes_in_proportion_to_a_power_of_their_size():
    """4 : 2 : 0 : 1 of 21 rows; balanced, 7 of each that there is; next to 1, as it is."""
    assert counts(Power(name="power", exponent=0.5)) == [12, 6, 0, 3]
    assert counts(Power(name="power", exponent=0)) == [7, 7, 0, 7]
    assert counts(Power(name="power", exponent=0.9999)) == [16, 4, 0, 1]


def test_oversampling_and_undersampling_make_classes_alike():
    assert counts(Oversample(name="oversample")) == [16, 16, 0, 16]
    assert counts(Undersample(name="undersample")) == [1, 1, 0, 1]


def test_rows_of_a_class_come_equally_often_but_for_one_time():
    rows = sampled_rows(Power(name="power", exponent=0), LONG_TAIL, None, 0, 0)
    times = np.bincount(rows, minlength=21)
    assert set(times[:16]) == {0, 1} and set(times[16:20]) == {1, 2} and times[20] == 7


def test_draws_depend_on_seed_and_epoch_and_on_nothing_else():
    def draw(seed: int, epoch: int) -> list[int]:
        return sampled_rows(Undersample(name="undersample"), LONG_TAIL, None, seed, epoch).tolist()

    first = draw(0, 0)
    np.random.rand(3)
    assert draw(0, 0) == first
    assert len({tuple(draw(s, e)) for s in range(3) for e in range(3)}) > 5


def test_the_class_of_a_row():
    assert classes_of(np.array([[0.2], [0.5], [1]])).tolist() == [0, 1, 1]
    assert classes_of(np.array([[0.2, 0.5, 0.3], [1, 0, 0]])).tolist() == [1, 0]
    several = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1], [1, 0, 1]])
    # Label 0 stands in four rows, 1 in one, 2 in two; a row goes by the rarest that it has.
    assert classes_of(several).tolist() == [1, 0, 3, 2, 2]


def test_hard_rows_come_as_often_as_their_loss_asks():
    """Systematic sampling: each row comes as often as expected, rounded up or down."""
    loss = np.array([0.1, 0.1, 0.2, 1.6])
    targets = np.zeros((4, 1))
    hard = Hard(name="hard", model="x")
    drawn = [np.bincount(sampled_rows(hard, targets, loss, 0, e), minlength=4) for e in range(200)]
    expected = 4 * loss / loss.sum()
    assert (np.abs(np.array(drawn) - expected) < 1).all()
    np.testing.assert_allclose(np.mean(drawn, axis=0), expected, atol=0.1)
    flat = Hard(name="hard", model="x", exponent=1e-9)
    assert np.bincount(sampled_rows(flat, targets, loss, 0, 0)).tolist() == [1, 1, 1, 1]


# Synthetic rows


def test_smote_puts_rows_between_neighbours_of_a_class():
    """Class 1 has two rows, so each synthetic one lies between them; class 3 has one and stays."""
    targets = np.eye(4)[[0, 0, 0, 0, 1, 1, 3]]
    vectors = np.arange(14, dtype=np.float32).reshape(7, 2)
    weights = np.array([1, 1, 1, 1, 2.0, 4.0, 1])
    grown, new_targets, new_weights = smote(SMOTE, vectors, targets, weights, seed=0)
    assert (grown[:7] == vectors).all() and (new_targets[:7] == targets).all()
    assert new_targets[7:].argmax(axis=1).tolist() == [1, 1]
    assert new_weights.tolist() == [1, 1, 1, 1, 2, 4, 1, 3, 3]
    for point in grown[7:]:
        assert 8 <= point[0] <= 10 and point[1] == pytest.approx(point[0] + 1)
    again, _, _ = smote(SMOTE, vectors, targets, weights, seed=0)
    assert (again == grown).all()
    assert not (smote(SMOTE, vectors, targets, weights, seed=1)[0] == grown).all()


def test_smote_learns_from_a_frozen_backbones_vectors(backbone, tmp_path):
    frozen = {"freeze_backbone": True, "head_lr": 1e-2}
    plain = fit_and_predict(backbone, tmp_path / "plain", "multiclass", training=frozen)
    smoted = [
        fit_and_predict(
            backbone,
            tmp_path / str(k),
            "multiclass",
            training=frozen | {"sampling": {"name": "smote", "neighbours": k}},
        )
        for k in (1, 5)
    ]
    assert np.abs(plain - smoted[0]).max() > 1e-5
    assert np.abs(smoted[0] - smoted[1]).max() > 1e-5


# Hard rows, by an earlier run


def test_row_losses_are_cross_entropies_or_squared_errors():
    raw = np.array([[2.0, -1.0], [0.0, 0.0]])
    p = 1 / (1 + np.exp(-raw))
    targets = np.array([[1.0, 0.3], [0, 1]])
    wanted = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean(axis=1)
    np.testing.assert_allclose(row_losses(raw, targets, "sigmoid"), wanted)
    shares = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    wanted = -(targets * np.log(shares)).sum(axis=1)
    np.testing.assert_allclose(row_losses(raw, targets, "softmax"), wanted)
    np.testing.assert_allclose(row_losses(raw, targets, "identity"), [1.345, 0.5])


@pytest.fixture
def root(backbone, tmp_path) -> Path:
    """`tiny` draws hard rows by the losses of tfidf, of which fold 0 is trained."""
    root = make_workspace(tmp_path / "w", n=30, runtime={"threads": 1})
    add_preset(root, backbone, training={"sampling": {"name": "hard", "model": "tfidf"}})
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "tfidf", "--fold", "0") == 0
    return root


def test_the_losses_are_those_of_the_run_that_left_the_same_fold_out(root):
    ws, run = run_of(root)
    train, held, _, optimistic = rows_of(ws, run)
    raw = load_learner(ws, RunKey("tfidf", 0, (0,)), 1).predict(train)
    np.testing.assert_allclose(train.difficulty, row_losses(raw, train.targets, "sigmoid"))
    assert (held.difficulty, optimistic) == (None, [])
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0


def test_no_label_of_the_held_out_fold_is_in_the_losses(root):
    """Trap 3: turning all of them round and training both again leaves the drawn rows as they were."""
    ws, run = run_of(root)
    before = rows_of(ws, run)[0].difficulty
    turn_labels(root, set(ws.competition.train.ids[run.folds.held_out((0,))]))
    assert foldstack(root, "train", "--model", "tfidf", "--fold", "0", "--force") == 0
    ws, run = run_of(root)
    np.testing.assert_array_equal(rows_of(ws, run)[0].difficulty, before)


def test_runs_that_were_judged_by_other_runs_are_blended(root):
    """Each fold has a judge of its own, which is no other setting."""
    for model, folds in (("tfidf", "12"), ("tiny", "012")):
        for fold in folds:
            assert foldstack(root, "train", "--model", model, "--fold", fold) == 0
    assert foldstack(root, "blend", "--model", "tiny,tfidf") == 0


def test_a_run_that_is_not_there_is_trained_first(root, capsys):
    capsys.readouterr()
    assert foldstack(root, "train", "--model", "tiny", "--fold", "1") == 0
    said = capsys.readouterr().out.splitlines()
    assert "train: first the run of tfidf, which others depend on" in said
    assert Store(root).read_run(RunKey("tfidf", 0, (1,))) is not None


def test_a_judge_that_was_trained_again_asks_for_training_again(root, capsys):
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0
    other = ["--model", "tfidf", "--fold", "0", "--force", "--set", "C=0.1"]
    assert foldstack(root, "train", *other) == 0
    capsys.readouterr()
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 2
    assert "is finished with other settings or data (hard " in capsys.readouterr().err


@pytest.mark.parametrize("sampling", ["power", "oversample", "undersample"])
def test_each_sampling_changes_the_predictions(backbone, tmp_path: Path, sampling):
    kind = "multiclass"  # 16, 8 and 8 rows
    rows = tiny_rows(kind)
    assert sorted(rows.targets.sum(axis=0)) == [8, 8, 16]
    plain = fit_and_predict(backbone, tmp_path / "plain", kind)
    other = fit_and_predict(backbone, tmp_path / "other", kind, training={"sampling": sampling})
    assert np.abs(plain - other).max() > 1e-5
