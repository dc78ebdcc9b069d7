"""Updates that mix training rows and pseudo-labelled ones in a ratio."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foldstack import config
from foldstack.errors import InputError
from foldstack.learners import LearnerContext
from foldstack.learners.network import NetworkLearner
from foldstack.rows import PSEUDO, Rows
from foldstack.store import RunKey, Store
from foldstack.techniques import Augmentation, NetworkSettings
from foldstack.text.augment import Augmenter
from foldstack.text.batches import mixed_batches, rows_drawn
from foldstack.training import loop
from makers import make_task, tiny_rows
from test_resume import UPDATE, bytes_of, end, start, steps
from tiny import foldstack, make_workspace, refuses, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

NETWORK = (
    "learner: network\nhead: mean\nsize: 8\nwords: {min_count: 1}\ncheckpoint_seconds: 0\n"
    "training: {epochs: 3, batch_size: 8, lr: 0.01, precision: fp32, max_length: 16}\n"
)


def drawn_lengths(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, 60, n)


def parted(batches: list[np.ndarray], gold: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The training rows of each batch, which come first, and its pseudo-labelled ones."""
    return [b[b < gold] for b in batches], [b[b >= gold] for b in batches]


@pytest.mark.parametrize("ratio, own, others", [(1, 8, 8), (3, 4, 12), (0.5, 10, 5), (2, 5, 10)])
def test_each_update_has_the_ratio(ratio, own, others):
    """120 training rows and 50 others, 16 rows an update at most."""
    pseudo = np.arange(170) >= 120
    for epoch in range(3):
        batches = mixed_batches(drawn_lengths(170), pseudo, ratio, 16, seed=0, epoch=epoch)
        gold, more = parted(batches, 120)
        assert {len(b) for b in gold} == {own} and {len(b) for b in more} == {others}
        assert sorted(np.concatenate(gold)) == list(range(120))


def test_a_broken_ratio_holds_over_the_epochs():
    """21 training rows, a third of a row beside each: 7 an epoch, 2 or 3 with 7 rows."""
    pseudo = np.arange(30) >= 21
    found = [mixed_batches(drawn_lengths(30), pseudo, 1 / 3, 10, seed=0, epoch=e) for e in range(4)]
    counts = [[int((b >= 21).sum()) for b in batches] for batches in found]
    assert [sum(c) for c in counts] == [7] * 4
    assert {n for c in counts for n in c} == {2, 3}


def test_no_row_returns_before_all_are_taken():
    """Also from one epoch to the next: 40 rows an epoch of 100 others."""
    pseudo = np.arange(140) >= 40
    taken = []
    for epoch in range(5):
        batches = mixed_batches(drawn_lengths(140), pseudo, 1, 16, seed=0, epoch=epoch)
        taken += np.concatenate(parted(batches, 40)[1]).tolist()
        assert max(Counter(taken).values()) == -(-len(taken) // 100)
    assert set(Counter(taken).values()) == {2}


def test_draws_depend_on_the_seed_and_on_nothing_else():
    """Trap 6: what is drawn later does not depend on where the drawing began."""
    whole = rows_drawn(7, 0, 30, seed=0)
    assert rows_drawn(7, 10, 24, seed=0).tolist() == whole[10:24].tolist()
    assert sorted(whole[7:14]) == list(range(7)) and whole[:7].tolist() != whole[7:14].tolist()
    assert rows_drawn(7, 0, 30, seed=1).tolist() != whole.tolist()


def test_mixed_batches_of_similar_length_pad_less():
    """Even if the other rows are few and return often."""
    for others in (60, 4000):
        n = 2000 + others
        lengths, pseudo = drawn_lengths(n), np.arange(n) >= 2000
        batches = mixed_batches(lengths, pseudo, 1, 32, seed=0, epoch=0)
        read = sum(lengths[b].sum() for b in batches)
        padded = sum(len(b) * lengths[b].max() for b in batches)
        assert 1 - read / padded < (0.35 if others == 60 else 0.1)
        assert np.mean([np.unique(b).size / len(b) for b in batches]) > 0.95


def test_an_update_has_room_for_a_training_row():
    with pytest.raises(InputError) as refused:
        mixed_batches(drawn_lengths(9), np.arange(9) > 4, 9, 8, seed=0, epoch=0)
    assert str(refused.value) == (
        "pseudo_labels.ratio 9 leaves no training row in an update of 8 rows: lower it, or raise "
        "training.batch_size"
    )


# In a learner

RATIO = {"teachers": ["linear"], "ratio": 2}


def network(pseudo_labels: dict | None, **settings: object) -> NetworkLearner:
    data = {
        "learner": "network",
        "size": 8,
        "words": {"min_count": 1},
        "pseudo_labels": pseudo_labels,
        "training": {"epochs": 2, "batch_size": 6, "precision": "fp32", "max_length": 16},
    }
    checked = config.validate(NetworkSettings, data | settings, "mine.yaml")
    return NetworkLearner(checked, LearnerContext(make_task(), 0))


def partly_taught(gold: int = 8, others: int = 24) -> Rows:
    rows = tiny_rows(n=gold + others)
    origin = np.array(["gold"] * gold + [PSEUDO] * others, dtype=object)
    return replace(rows, origin=origin)


def test_an_epoch_is_a_pass_over_the_training_rows(tmp_path):
    """Of 6 rows 2 are training rows: 4 updates an epoch, not 6."""
    assert network(RATIO).fit(partly_taught(), None, tmp_path)["updates"] == 2 * 4
    for other in (None, {"teachers": ["linear"]}):
        place = tmp_path / str(other is None)
        place.mkdir()
        assert network(other).fit(partly_taught(), None, place)["updates"] == 2 * 6


def test_without_pseudo_labelled_rows_updates_are_of_training_rows_alone(tmp_path):
    """No teacher is confident enough: nothing is mixed in."""
    learner, rows = network(RATIO), partly_taught(gold=24, others=0)
    assert learner.fit(rows, None, tmp_path)["updates"] == 2 * 4


def test_micro_batches_of_a_mixed_update_add_up(tmp_path):
    learned = []
    for size in (0, 4):
        place = tmp_path / str(size)
        place.mkdir()
        training = {"epochs": 2, "batch_size": 6, "precision": "fp32", "max_length": 16}
        learner = network(RATIO, dropout=0, training=training | {"micro_batch_size": size})
        learner.fit(partly_taught(), None, place)
        learned.append(learner.predict(tiny_rows(n=8)))
    np.testing.assert_allclose(*learned, rtol=1e-4, atol=1e-6)


def test_copies_of_pseudo_labelled_rows_are_no_training_rows():
    """Bug guarded: `augment_copies` named all copies alike, so that they counted as gold."""
    change = Augmentation.registered["swap_words"](name="swap_words")
    rows = partly_taught(gold=2, others=3)
    copies = Augmenter.of([change], rows).copies(rows, 1, seed=0)
    assert copies.origin.tolist() == ["augmented"] * 2 + [PSEUDO] * 3


def test_the_forecast_counts_them():
    measured = network(RATIO).measure(tiny_rows(n=32), learned=100)
    assert measured.fit_seconds == pytest.approx(100 * 2 * 3 / measured.learned_per_second)


def test_windows_of_a_row_are_of_its_kind():
    learner = network(RATIO, long={"name": "windows", "overlap": 0})
    rows = partly_taught(gold=2, others=2)
    rows = replace(rows, texts=[(" ".join(text * 9),) for text in rows.texts])
    examples = learner.prepare(rows)
    assert len(examples.pseudo) > 4
    assert examples.pseudo.tolist() == [bool(row >= 2) for row in examples.tokens.rows]


def test_rows_that_are_taken_keep_their_kind():
    examples = network(RATIO).prepare(partly_taught(gold=2, others=2))
    assert examples.take(np.array([3, 0])).pseudo.tolist() == [True, False]
    assert loop.batches_of(examples, network(RATIO).settings.training, None, 0, 0)[0].size == 4


# In a workspace


@pytest.fixture
def root(tmp_path) -> Path:
    """30 rows in three folds; a linear model teaches a network 40 rows of a pool."""
    root = make_workspace(tmp_path / "w", n=30, models=["linear"], pool=["more.csv"])
    pool = "".join(f"an unheard {'lovely' if i % 2 else 'dull'} thing of {i}\n" for i in range(40))
    write(root / "input/more.csv", "text\n" + pool)
    write(root / "presets/linear.yaml", "preset: tfidf\nmin_count: 1\n")
    write(
        root / "presets/pupil.yaml",
        NETWORK + "pseudo_labels: {teachers: linear, texts: [pool], ratio: 3}\n",
    )
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "linear", "--fold", "0") == 0
    return root


TRAIN = ("train", "--model", "pupil", "--fold", "0")
PUPIL = RunKey("pupil", 0, (0,))


def test_a_run_that_is_killed_mixes_the_same_rows(root, tmp_path, fork_server):
    """20 training rows, 2 an update: 10 updates an epoch, which take 60 of 40 others."""
    whole = Path(shutil.copytree(root, tmp_path / "whole"))
    assert foldstack(whole, *TRAIN) == 0
    assert Store(whole).read_run(PUPIL).facts["updates"] == 30
    for call in (17, 9):  # in the second epoch, and in the third
        assert end(start(root, *TRAIN, at=(UPDATE, call, [signal.SIGKILL]))) == -signal.SIGKILL
    assert steps(root, PUPIL)[-1] == 24
    assert foldstack(root, *TRAIN) == 0
    assert bytes_of(root, PUPIL) == bytes_of(whole, PUPIL)


def test_a_linear_model_mixes_nothing(root, capsys):
    ratio = "pseudo_labels: {teachers: linear, ratio: 1}\n"
    write(root / "presets/pupil.yaml", "preset: tfidf\n" + ratio)
    refuses(
        root,
        [*TRAIN],
        "pupil.yaml: learner tfidf takes no updates in which pseudo_labels.ratio could mix rows: set "
        "pseudo_labels.weight instead",
        capsys,
    )


def test_sampling_draws_other_rows():
    with pytest.raises(InputError) as refused:
        network(RATIO, training={"sampling": "power"})
    assert str(refused.value) == (
        "mine.yaml: training.sampling power draws the rows of an epoch, and pseudo_labels.ratio takes "
        "each training row once: set one of them only"
    )
