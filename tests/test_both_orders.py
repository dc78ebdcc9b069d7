"""Pairs whose order has no meaning: predicted as the mean of both orders, learned in either."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from foldstack.config import identity, stored_settings
from foldstack.errors import InputError
from foldstack.files import read_json, write_json
from foldstack.kinds import Kind
from foldstack.learners import Learner, LearnerContext
from foldstack.learners import make_learner as make
from foldstack.rows import Rows
from foldstack.techniques import BiEncoderSettings, NetworkSettings, TransformerSettings
from foldstack.text.pairs import turned
from foldstack.text.tokens import Tokens
from foldstack.training import loop
from makers import make_learner, make_rows, make_task, unlabelled
from test_biencoder import made, pair_rows
from tiny import foldstack, make_workspace, refuses, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


def swapped(rows: Rows) -> Rows:
    return replace(rows, texts=[text[::-1] for text in rows.texts])


def softmax_pairs(backbone: Path, **settings: object) -> Learner:
    return made(backbone, pair_loss="softmax", **settings)


def network(backbone: Path, **settings: object) -> Learner:
    training = {"epochs": 2, "batch_size": 8, "precision": "fp32"}
    given = NetworkSettings(learner="network", size=8, head="gru", training=training, **settings)
    return make(given, LearnerContext(make_task("binary"), 0))


def without_separators(backbone: Path, folder: Path) -> Path:
    """The backbone with a tokenizer that adds no special token."""
    shutil.copytree(backbone, folder)
    stored = read_json(folder / "tokenizer.json")
    write_json(folder / "tokenizer.json", stored | {"post_processor": None})
    return folder


@pytest.mark.parametrize("learner_of", [make_learner, softmax_pairs, network])
@pytest.mark.parametrize("orders", ["predict", "train"])
def test_a_pair_has_the_same_logits_in_either_order(backbone, tmp_path, learner_of, orders):
    learner, rows = learner_of(backbone, both_orders=orders), pair_rows()
    learner.fit(rows, None, tmp_path)
    both = learner.predict(rows.concatenated(swapped(rows)))
    assert both[: len(rows)].tobytes() == both[len(rows) :].tobytes()


@pytest.mark.parametrize("learner_of", [make_learner, softmax_pairs, network])
def test_logits_are_the_mean_of_those_of_both_orders(backbone, tmp_path, learner_of):
    """Of the same network, since `predict` changes no training."""
    rows, learners = pair_rows(), []
    for orders in ("none", "predict"):
        learners.append(learner_of(backbone, both_orders=orders))
        learners[-1].fit(rows, None, tmp_path / orders)
    one, both = learners
    slow = np.stack([one.predict(rows), one.predict(swapped(rows))])
    assert abs(slow[0] - slow[1]).max() > 1e-3
    np.testing.assert_allclose(both.predict(rows), slow.mean(axis=0), atol=1e-5)


def test_values_are_the_mean_too(backbone, tmp_path):
    rows = pair_rows("regression")
    rows = replace(rows, targets=np.hstack([rows.targets, -rows.targets]))
    learner = make_learner(backbone, "regression", both_orders="predict")
    learner.fit(rows, None, tmp_path)
    tokens = learner.encoder.tokens(rows)
    assert tokens.rows.tolist() == np.repeat(np.arange(len(rows)), 2).tolist()
    assert learner.predict(rows).shape == rows.targets.shape


def read(tokens: Tokens) -> list[list[int]]:
    bounds = tokens.offsets
    return [tokens.flat[a:b].tolist() for a, b in pairwise(bounds)]


@pytest.mark.parametrize("augment", [(), ("delete_words",)])
def test_an_epoch_reads_each_pair_in_an_order_of_its_own(backbone, augment):
    learner, rows = make_learner(backbone, both_orders="train", augment=augment), pair_rows()
    examples = learner.prepare(rows)
    of_epoch = learner.encoder.epochs(rows, examples, learner.settings.training, seed=3)
    turns = [turned(len(rows), 3, epoch) for epoch in range(2)]
    assert 0 < turns[0].mean() < 1 and (turns[0] != turns[1]).any()
    seen = [read(of_epoch(epoch).tokens) for epoch in range(2)]
    assert seen[0] == read(of_epoch(0).tokens) and seen[0] != seen[1]
    if not augment:
        plain, other = (read(learner.encoder._cut(learner.encoder._read(r))) for r in both(rows))
        for turn, sequences in zip(turns, seen, strict=True):
            picked = zip(turn, plain, other, strict=True)
            assert sequences == [there if turn else here for turn, here, there in picked]


def test_the_order_depends_on_seed_and_epoch():
    found = {turned(40, seed, epoch).tobytes() for seed in range(3) for epoch in range(3)}
    assert len(found) == 9


def test_words_that_the_other_order_keeps_have_their_embeddings(deep, tmp_path):
    """The first text of a pair loses its last word: `film`, or `plot` in the other order."""
    rows = make_rows([("good fine film", "bad poor plot")] * 8)
    training = {"max_length": 5, "epochs": 6}
    learner = make_learner(deep, both_orders="train", training=training)
    learner.fit(rows, None, tmp_path / "trimmed")
    whole = make_learner(deep, both_orders="train", training=training)
    whole._trimmed_to = lambda read: nullcontext()
    whole.fit(rows, None, tmp_path / "whole")
    np.testing.assert_allclose(learner.predict(rows), whole.predict(rows), atol=1e-5)


def both(rows: Rows) -> tuple[Rows, Rows]:
    return rows, swapped(rows)


def test_sentences_of_a_bi_encoder_change_sides(backbone):
    learner, rows = softmax_pairs(backbone, both_orders="train"), pair_rows()
    examples = learner.prepare(rows)
    of_epoch = learner.encoder.epochs(rows, examples, learner.settings.training, seed=3)
    tokens, turn = of_epoch(1).tokens, turned(len(rows), 3, 1)
    first, second = examples.tokens.first, examples.tokens.second
    assert tokens.first.tolist() == np.where(turn, second, first).tolist()
    assert tokens.second.tolist() == np.where(turn, first, second).tolist()


def test_features_stay_with_their_pair(backbone, tmp_path):
    rows = replace(pair_rows(), features=np.arange(24.0)[:, None])
    learner = make_learner(backbone, both_orders="train", join_features=True)
    examples = learner.prepare(rows)
    epoch = learner.encoder.epochs(rows, examples, learner.settings.training, seed=0)(0)
    assert epoch.tokens.features.tobytes() == examples.tokens.features.tobytes()
    assert learner.encoder.tokens(rows).features.ravel().tolist() == [
        each for each in examples.tokens.features.ravel().tolist() for _ in range(2)
    ]


@pytest.mark.parametrize("learner_of", [make_learner, softmax_pairs])
def test_an_interrupted_run_ends_with_the_same_predictions(
    backbone, tmp_path, monkeypatch, learner_of
):
    rows, options = pair_rows(), {"both_orders": "train", "checkpoint_seconds": 0}
    whole = learner_of(backbone, **options)
    whole.fit(rows, None, tmp_path / "whole")
    part, taken, update = learner_of(backbone, **options), [], loop.update

    def stopping(*args: object, **more: object) -> Tensor:
        if len(taken) == 4:
            raise KeyboardInterrupt
        taken.append(1)
        return update(*args, **more)

    monkeypatch.setattr(loop, "update", stopping)
    with pytest.raises(KeyboardInterrupt):
        part.fit(rows, None, tmp_path / "part")
    monkeypatch.setattr(loop, "update", update)
    again = learner_of(backbone, **options)
    again.fit(rows, None, tmp_path / "part")
    assert again.predict(rows).tobytes() == whole.predict(rows).tobytes()


def test_training_in_both_orders_is_another_training(backbone, tmp_path):
    rows, found = pair_rows(), []
    for orders in ("predict", "train"):
        learner = make_learner(backbone, both_orders=orders)
        learner.fit(rows, None, tmp_path / orders)
        found.append(learner.predict(rows))
    assert abs(found[0] - found[1]).max() > 1e-4


def test_a_run_of_before_the_setting_has_the_same_identity(backbone):
    settings = make_learner(backbone).settings
    before = identity(settings)
    assert before.pop("both_orders") == "none"
    assert stored_settings(before) == settings


@pytest.mark.parametrize("learner_of", [make_learner, softmax_pairs])
@pytest.mark.parametrize("orders", ["none", "predict", "train"])
def test_a_row_without_a_token_has_the_same_finite_logits_beside_any_other(
    backbone, tmp_path, learner_of, orders
):
    """Of a tokenizer that adds no separators; bug guarded: nan, or an error of torch's."""
    place = without_separators(backbone, tmp_path / "backbone")
    learner, rows = learner_of(place, both_orders=orders), pair_rows()
    learner.fit(rows, None, tmp_path / "run")
    empty = unlabelled([("", " "), ("good film", "bad plot"), ("", "")])
    found = learner.predict(empty)
    assert np.isfinite(found).all() and found[0] == found[2]
    alone = learner.predict(empty.take(np.array([0])))
    np.testing.assert_allclose(alone[0], found[0], rtol=1e-5)


def test_a_text_without_a_token_is_learned(backbone, tmp_path):
    rows = make_rows(["", "good film", " ", "bad plot"] * 4)
    learner = make_learner(without_separators(backbone, tmp_path / "backbone"))
    learner.fit(rows, None, tmp_path / "run")
    assert np.isfinite(learner.predict(rows)).all()
    tokens = learner.encoder.tokens(rows)
    assert tokens.lengths.tolist() == [1, 2, 1, 2] * 4 and tokens.flat[0] == tokens.pad_id


# Refusals


def test_a_single_text_has_one_order(backbone, tmp_path, capsys):
    root = make_workspace(tmp_path / "w", models=["pairs"])
    write(
        root / "presets/pairs.yaml",
        f"learner: transformer\nbackbone: {backbone}\nboth_orders: predict\n",
    )
    assert foldstack(root, "folds") == 0
    refuses(
        root,
        ["train", "--model", "pairs", "--fold", "0"],
        "both_orders exchanges the two texts of a pair, but `text` in competition.yaml names 1: leave "
        "it out",
        capsys,
    )


def test_three_segments_have_no_other_order(backbone, tmp_path):
    learner = make_learner(backbone, both_orders="predict")
    with pytest.raises(InputError, match="`text` in competition\\.yaml names 3: leave it out"):
        learner.fit(make_rows([("a", "b", "c")] * 4), None, tmp_path)


def test_a_cosine_is_the_same_in_both_orders():
    with pytest.raises(
        ValueError, match="both_orders has no effect on a cosine, which is the same"
    ):
        BiEncoderSettings(learner="biencoder", backbone="x", both_orders="predict")


def test_a_frozen_backbone_reads_one_order():
    training = {"freeze_backbone": True}
    with pytest.raises(ValueError, match="both_orders train reads pairs in another order in each"):
        TransformerSettings(
            learner="transformer", backbone="x", both_orders="train", training=training
        )


def test_a_frozen_backbone_predicts_both(backbone, tmp_path):
    training = {"freeze_backbone": True}
    learner = make_learner(backbone, both_orders="predict", training=training)
    rows = pair_rows()
    learner.fit(rows, None, tmp_path)
    both = learner.predict(unlabelled([*rows.texts, *(t[::-1] for t in rows.texts)]))
    assert both[:24].tobytes() == both[24:].tobytes()


def test_settings_that_a_run_chooses_are_those_of_a_bi_encoder(backbone):
    settings = BiEncoderSettings(
        learner="biencoder", backbone=str(backbone), training={"epochs": "auto"}
    )
    settings.check_kind(Kind.BINARY)
    learner = make(settings, LearnerContext(make_task("binary"), 0))
    learner.prepare(pair_rows())
    assert isinstance(learner.settings, BiEncoderSettings) and learner.chosen
