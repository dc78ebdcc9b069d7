"""Two answers in both orders: labels that say which one is preferred change places with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foldstack.config import identity, stored_settings, validate
from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext
from foldstack.learners import make_learner as make
from foldstack.learners.transformer import TransformerLearner
from foldstack.rows import PSEUDO, Rows
from foldstack.techniques import BiEncoderSettings, NetworkSettings, TransformerSettings
from foldstack.text.pairs import turned
from makers import interrupted_after, make_learner, make_rows, make_task, unlabelled
from test_bundle import predict as by_bundle
from tiny import (
    BAD,
    GOOD,
    PLACES,
    add_preset,
    foldstack,
    go_through,
    make_workspace,
    refuses,
    train_folds,
    write,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

NAMES = ("prompt", "first", "second")
PREFERENCE = {"texts": ["first", "second"], "exchange": {"y0": "y1"}}
ORDERS = {
    "multiclass": PREFERENCE,
    "multilabel": PREFERENCE,
    "binary": {"texts": ["first", "second"], "exchange": "opposite"},
    "regression": PREFERENCE,
}


def answers(kind: str = "multiclass", n: int = 16) -> Rows:
    """A prompt and two answers per row; outputs y0 and y1 say which one is good, y2 neither."""
    texts = [
        (PLACES[i % 8], f"a {GOOD[i % 4]} film", f"{BAD[i % 3]} {PLACES[i % 5]}") for i in range(n)
    ]
    number = np.arange(n)
    targets = {
        "multiclass": np.eye(3)[number % 3],
        "multilabel": np.stack([number % 2, number % 3 > 1, number % 3 < 2], axis=1),
        "binary": number % 2,
        "regression": np.stack([number, 5.0 - number], axis=1),
    }[kind]  # fmt: skip
    return make_rows(texts, targets)


def exchanged(rows: Rows, kind: str = "multiclass") -> Rows:
    """By hand: (prompt, a, b) becomes (prompt, b, a), and the labels of a those of b."""
    targets = rows.targets
    if targets is not None:
        order = [1, 0] if kind == "regression" else [1, 0, 2]
        targets = 1 - targets if kind == "binary" else targets[:, order]
    return replace(rows, texts=[(p, b, a) for p, a, b in rows.texts], targets=targets)


def learner_of(
    backbone: Path, kind: str = "multiclass", when: str = "train", **settings: object
) -> TransformerLearner:
    columns = settings.pop("task", {})
    orders = ORDERS[kind] | {"when": when} | settings.pop("orders", {})
    made = make_learner(backbone, kind, both_orders=orders, **settings).settings
    task = replace(make_task(kind), texts=NAMES, **columns)
    return TransformerLearner(made, LearnerContext(task))


def fitted(learner: TransformerLearner, rows: Rows, folder: Path) -> TransformerLearner:
    folder.mkdir(parents=True, exist_ok=True)
    learner.fit(rows, None, folder)
    return learner


# Prediction


@pytest.mark.parametrize("when", ["predict", "train"])
@pytest.mark.parametrize("kind", ORDERS)
def test_exchanged_answers_have_the_exchanged_prediction_exactly(backbone, tmp_path, kind, when):
    rows = answers(kind)
    learner = fitted(learner_of(backbone, kind, when), rows, tmp_path)
    both = learner.predict(rows.concatenated(exchanged(rows, kind)))
    plain, other = both[: len(rows)], both[len(rows) :]
    order = [1, 0] if kind == "regression" else [1, 0, 2]
    wanted = -plain if kind == "binary" else plain[:, order]
    assert other.tobytes() == wanted.astype(np.float32).tobytes()
    assert abs(plain - wanted).max() > 1e-3


def test_a_network_from_scratch_exchanges_them_too(tmp_path):
    rows = answers()
    settings = NetworkSettings(
        learner="network",
        size=8,
        head="gru",
        words={"min_count": 1},
        both_orders=PREFERENCE,
        training={"epochs": 1, "batch_size": 8, "precision": "fp32"},
    )
    learner = make(settings, LearnerContext(replace(make_task("multiclass"), texts=NAMES)))
    learner.fit(rows, None, tmp_path)
    both = learner.predict(rows.concatenated(exchanged(rows)))
    assert both[16:].tobytes() == both[:16][:, [1, 0, 2]].tobytes()


@pytest.mark.parametrize("kind", ORDERS)
def test_logits_are_the_mean_of_both_orders_with_outputs_exchanged(backbone, tmp_path, kind):
    """Of the same network, row by row, since `predict` changes no training."""
    rows = answers(kind)
    both = fitted(learner_of(backbone, kind, "predict"), rows, tmp_path / "both")
    one = make_learner(backbone, kind)
    one.task = both.task
    one.prepare(rows)
    one.model.load_state_dict(both.model.state_dict())
    one.encoder.scale = both.encoder.scale
    for i in range(3):
        row = rows.take(np.array([i]))
        here, there = one.predict(row), one.predict(exchanged(row, kind))
        there = -there if kind == "binary" else there[:, [1, 0, *range(2, there.shape[1])]]
        np.testing.assert_allclose(both.predict(row), (here + there) / 2, atol=1e-5)


def test_the_prompt_stays_where_it_is(backbone):
    learner = learner_of(backbone)
    learner.prepare(answers())
    tokens = learner.encoder.tokens(unlabelled([("plot", "good film", "bad")]))
    texts = learner.encoder.tokenizer.batch_decode(np.split(tokens.flat, tokens.offsets[1:-1]))
    assert texts == [
        "plot good film bad",  # the tiny tokenizer has no separator
        "plot bad good film",
    ]


def test_a_template_has_them_in_its_places(backbone):
    learner = learner_of(backbone, template="{second} film {prompt} {first}")
    learner.prepare(answers())
    tokens = learner.encoder.tokens(unlabelled([("plot", "good", "bad")]))
    texts = learner.encoder.tokenizer.batch_decode(np.split(tokens.flat, tokens.offsets[1:-1]))
    assert texts == ["[CLS] bad film plot good [SEP]", "[CLS] good film plot bad [SEP]"]


# Training


@pytest.mark.parametrize("kind", ORDERS)
@pytest.mark.parametrize("augment", [(), ("delete_words",)], ids=["plain", "augmented"])
def test_an_epoch_learns_each_row_in_an_order_of_its_own_with_its_labels(backbone, kind, augment):
    """Against the rows exchanged by hand, one by one."""
    rows, learner = answers(kind), learner_of(backbone, kind, augment=augment)
    examples = learner.prepare(rows)
    encoder, stage = learner.encoder, learner.settings.training
    of_epoch = encoder.epochs(rows, examples, stage, seed=3)
    there = exchanged(rows, kind).targets
    scaled = encoder.scale.apply(there) if encoder.scale else there
    for epoch in range(2):
        turn, found = turned(len(rows), 3, epoch), of_epoch(epoch)
        assert 0 < turn.mean() < 1
        wanted = np.where(turn[:, None], scaled, examples.targets)
        np.testing.assert_allclose(found.targets, wanted, rtol=1e-6)
        if augment:
            continue
        for i in range(len(rows)):
            row = rows.take(np.array([i]))
            alone = encoder._cut(encoder._read(exchanged(row, kind) if turn[i] else row))
            a, b = found.tokens.offsets[i : i + 2]
            assert found.tokens.flat[a:b].tolist() == alone.flat.tolist()


def test_targets_of_values_have_one_scale_in_both_orders(backbone):
    learner = learner_of(backbone, "regression")
    learner.prepare(answers("regression"))
    scale = learner.encoder.scale
    assert scale.shift[0] == pytest.approx(scale.shift[1]) and scale.unit[0] == scale.unit[1]


def test_soft_labels_teachers_and_pseudo_labelled_rows_are_exchanged_too(backbone):
    """Each row's probabilities belong to its answers, whoever gave them."""
    rng = np.random.default_rng(0)
    soft, taught = rng.dirichlet(np.ones(3), 16), rng.dirichlet(np.ones(3), 16)
    rows = replace(answers(), targets=soft, taught=taught)
    rows = replace(rows, origin=np.where(np.arange(16) % 2, PSEUDO, "gold").astype(object))
    learner = learner_of(backbone, distil={"teachers": "other", "temperature": 2.0})
    examples = learner.prepare(rows)
    found = learner.encoder.epochs(rows, examples, learner.settings.training, seed=0)(0)
    turn = turned(16, 0, 0)
    wanted = np.where(turn[:, None], soft[:, [1, 0, 2]], soft)
    np.testing.assert_allclose(found.targets, wanted, rtol=1e-6)
    softer = examples.taught.numpy()
    wanted = np.where(turn[:, None], softer[:, [1, 0, 2]], softer)
    np.testing.assert_allclose(found.taught, wanted, rtol=1e-6)
    assert found.pseudo.tolist() == examples.pseudo.tolist()


COLUMNS = {"numeric": ("likes_a", "likes_b", "age"), "auxiliary": ("score_a", "score_b")}
PAIRED = {"columns": {"likes_a": "likes_b", "score_a": "score_b"}}


def test_auxiliary_targets_are_exchanged_on_one_scale(backbone):
    auxiliary = np.stack([np.arange(16.0), 30.0 - np.arange(16.0)], axis=1)
    rows = replace(answers(), auxiliary=auxiliary)
    training = {"auxiliary": 0.5}
    learner = learner_of(backbone, orders=PAIRED, training=training, task=COLUMNS)
    examples = learner.prepare(rows)
    found = learner.encoder.epochs(rows, examples, learner.settings.training, seed=0)(0)
    turn, scaled = turned(16, 0, 0), auxiliary / 30
    np.testing.assert_allclose(examples.auxiliary, scaled, rtol=1e-6)
    wanted = np.where(turn[:, None], scaled[:, ::-1], scaled)
    np.testing.assert_allclose(found.auxiliary, wanted, rtol=1e-6)


def test_feature_columns_of_an_answer_go_with_it(backbone, tmp_path):
    features = np.random.default_rng(0).normal(size=(16, 3))
    rows = replace(answers(), features=features)
    learner = learner_of(backbone, orders=PAIRED, join_features=True, task=COLUMNS)
    fitted(learner, rows, tmp_path)
    swapped = replace(exchanged(rows), features=features[:, [1, 0, 2]])
    both = learner.predict(rows.concatenated(swapped))
    assert both[16:].tobytes() == both[:16][:, [1, 0, 2]].tobytes()
    wrong = learner.predict(rows.concatenated(exchanged(rows)))
    assert abs(wrong[16:] - wrong[:16][:, [1, 0, 2]]).max() > 1e-4


def test_an_interrupted_run_ends_with_the_same_predictions(backbone, tmp_path):
    rows, options = answers(), {"checkpoint_seconds": 0}
    whole = fitted(learner_of(backbone, **options), rows, tmp_path / "whole")
    with interrupted_after(3):
        fitted(learner_of(backbone, **options), rows, tmp_path / "part")
    again = fitted(learner_of(backbone, **options), rows, tmp_path / "part")
    assert again.predict(rows).tobytes() == whole.predict(rows).tobytes()


def test_a_stored_model_predicts_in_both_orders(backbone, tmp_path):
    learner, rows = fitted(learner_of(backbone), answers(), tmp_path), answers()
    learner.save(tmp_path / "model")
    loaded = TransformerLearner(learner.settings, LearnerContext(learner.task))
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_each_setting_changes_the_predictions(backbone, tmp_path):
    rows, found = answers(), []
    for i, orders in enumerate(
        ({}, {"when": "predict"}, {"exchange": {}}, {"texts": ["prompt", "first"]})
    ):
        learner = fitted(learner_of(backbone, orders=orders), rows, tmp_path / str(i))
        found.append(learner.predict(rows))
    assert all(abs(found[0] - other).max() > 1e-5 for other in found[1:])


# From files to a submission


def test_a_preference_goes_through_every_stage(backbone, tmp_path):
    """A column per outcome, and the columns of texts by their names."""
    columns = ["winner_a", "winner_b", "tie"]
    root, rows = tmp_path / "w", answers(n=18)
    make_workspace(
        root, kind="multiclass", metric="log_loss", target=columns, text=list(NAMES),
        segments=["{prompt}", "{first}", "{second}"], models=["tiny"], numeric=["likes_a", "likes_b"],
    )  # fmt: skip

    def table(ids: list[str], some: slice, *, labelled: bool) -> str:
        head = ["id", *NAMES, "likes_a", "likes_b", *(columns if labelled else [])]
        lines = [
            [i, *text, str(n), str(2 * n), *(str(int(y)) for y in (target if labelled else []))]
            for n, (i, text, target) in enumerate(
                zip(ids, rows.texts[some], rows.targets[some], strict=True)
            )
        ]
        return "".join(",".join(line) + "\n" for line in [head, *lines])

    write(root / "input/train.csv", table([f"r{i}" for i in range(12)], slice(12), labelled=True))
    ids = [f"t{i}" for i in range(6)]
    write(root / "input/test.csv", table(ids, slice(12, 18), labelled=False))
    sample = "".join(f"{i},0,0,0\n" for i in ids)
    write(root / "input/sample_submission.csv", f"id,{','.join(columns)}\n{sample}")
    orders = {
        "texts": ["first", "second"],
        "exchange": {"winner_a": "winner_b"},
        "columns": {"likes_a": "likes_b"},
    }
    add_preset(root, backbone, both_orders=orders, join_features=True, training={"epochs": 1})
    go_through(root, "folds")
    train_folds(root)
    go_through(root, "blend", "submit")
    assert foldstack(root, "bundle") == 0
    submitted = pd.read_csv(root / "submissions/blend.csv")
    bundled = by_bundle(root, root / "input", tmp_path)
    np.testing.assert_allclose(bundled.iloc[:, 1:], submitted.iloc[:, 1:], atol=1e-5)


def test_an_unknown_text_is_refused_before_a_run_begins(backbone, tmp_path, capsys):
    root = make_workspace(tmp_path / "w", models=["tiny"])
    add_preset(root, backbone, both_orders={"texts": ["texts", "text"]})
    assert foldstack(root, "folds") == 0
    refuses(
        root,
        ["train", "--fold", "0"],
        "tiny.yaml: both_orders.texts names 'texts', which is no text of a row: did you mean 'text'?",
        capsys,
    )


# Settings


def settings_with(**orders: object) -> TransformerSettings:
    return TransformerSettings(learner="transformer", backbone="b", both_orders=orders)


def test_a_stored_run_has_its_settings_again():
    settings = settings_with(when="predict", **PREFERENCE)
    assert stored_settings(identity(settings)) == settings
    plain = TransformerSettings(learner="transformer", backbone="b", both_orders="train")
    assert identity(plain)["both_orders"] == "train"
    assert plain.both_orders == settings_with(when="train").both_orders


def test_labels_that_are_numbers_are_read_as_text():
    given = {"learner": "transformer", "backbone": "b", "both_orders": {"exchange": {0: 1}}}
    assert validate(TransformerSettings, given, "p.yaml").both_orders.pairs == {"0": "1"}


@pytest.mark.parametrize(
    "orders, sentence",
    [
        ({"texts": ["a"]}, "both_orders.texts exchanges two texts, and it names 1"),
        (
            {"exchange": {"a": "b", "b": "a"}},
            "both_orders.exchange names 'a' twice: write each pair once",
        ),
        (
            {"columns": {"a": "a"}},
            "both_orders.columns names 'a' twice: write each pair once",
        ),
    ],
)
def test_settings_are_refused_in_a_sentence(orders, sentence):
    with pytest.raises(ValueError) as e:
        settings_with(**orders)
    assert sentence in str(e.value)


@pytest.mark.parametrize(
    "kind, exchange, sentence",
    [
        (
            "multiclass",
            "opposite",
            "both_orders.exchange opposite is of the two labels of a binary competition, but this one "
            "is multiclass: write {label: label}",
        ),
        (
            "binary",
            {"a": "b"},
            "both_orders.exchange has no pairs in a binary competition, whose labels are each other's "
            "opposite: set `exchange: opposite`",
        ),
    ],
)
def test_the_kind_says_what_can_be_exchanged(kind, exchange, sentence):
    with pytest.raises(ValueError) as e:
        settings_with(exchange=exchange).check_kind(Kind(kind))
    assert str(e.value) == sentence


def test_an_unknown_output_is_refused(backbone):
    with pytest.raises(InputError) as e:
        learner_of(backbone, orders={"exchange": {"y0": "y00"}}).prepare(answers())
    assert str(e.value) == (
        "both_orders.exchange names 'y00', which is no output of the competition: did you mean 'y0'?"
    )


@pytest.mark.parametrize(
    "columns, sentence",
    [
        (
            {"like": "likes_b"},
            "both_orders.columns names 'like', which is no numeric or auxiliary column: did you mean "
            "'likes_b'?",
        ),
        (
            {"likes_a": "likes_b"},
            "both_orders.columns exchanges 'likes_a', which this preset does not read: set "
            "join_features or training.auxiliary, or leave it out",
        ),
    ],
)
def test_columns_that_are_not_read_are_refused(columns, sentence):
    with pytest.raises(ValueError) as e:
        settings_with(columns=columns).check_names(NAMES, ("likes_a", "likes_b"), ())
    assert str(e.value) == sentence


def test_a_bi_encoder_has_no_label_to_exchange():
    with pytest.raises(
        ValueError, match="a bi-encoder compares two texts whose order has no meaning"
    ):
        BiEncoderSettings(
            learner="biencoder",
            backbone="b",
            pair_loss="softmax",
            both_orders={"exchange": "opposite"},
        )
