"""Bi-encoders: their losses beside slow references, sentences read once, runs, resumption, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from foldstack.kinds import Kind
from foldstack.learners import LearnerContext, make_learner
from foldstack.learners.biencoder import BiEncoderLearner, CosineLine
from foldstack.links import to_probabilities
from foldstack.rows import Rows
from foldstack.stages.learned import rows_of
from foldstack.store import RunKey, Store
from foldstack.techniques import BiEncoderSettings, PairLoss
from foldstack.text.augment import Augmenter
from foldstack.text.pairs import PairTokens, Sentenced
from foldstack.training import loop
from foldstack.training.pair_criteria import PairBatch
from makers import make_rows, make_task
from tiny import foldstack, make_workspace, refuses, run_of, turn_labels, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

LOSSES = ("cosent", "cosine_mse", "contrastive", "multiple_negatives")


def batch(b: int = 6, seed: int = 0, soft: bool = False, weighted: bool = False) -> PairBatch:
    """b pairs of different sentences, the first three positive."""
    torch.manual_seed(seed)
    targets = torch.rand(b, 1) if soft else (torch.arange(b) < b // 2).float()[:, None]
    weights = torch.rand(b) + 0.5 if weighted else torch.ones(b)
    u, v = (torch.randn(b, 4, requires_grad=True) for _ in range(2))
    return PairBatch(u, v, targets, weights, torch.arange(2 * b), None, "sigmoid")


def loss_of(name: str, pairs: PairBatch, **settings: float) -> Tensor:
    loss = PairLoss.parse({"name": name, **settings})
    return loss.load()(loss, pairs)


def slowly(name: str, pairs: PairBatch) -> float:
    """The same in loops over rows, with the settings' defaults."""
    u, v = (x.detach().double().numpy() for x in (pairs.u, pairs.v))
    y, w = pairs.targets[:, 0].double().numpy(), pairs.weights.double().numpy()
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, v))
    cos, n = (u * v).sum(axis=1), len(u)
    if name == "cosent":
        higher = [(i, j) for i in range(n) for j in range(n) if y[i] > y[j]]
        return np.log1p(sum(w[i] * w[j] * np.exp(20 * (cos[j] - cos[i])) for i, j in higher))
    if name == "multiple_negatives":
        found, total = 0.0, 0.0
        for i in np.flatnonzero(y >= 0.5):
            p = np.exp(20 * (u[i] @ v.T))
            found -= w[i] * np.log(p[i] / p.sum())
            total += w[i]
        return found / total
    if name == "cosine_mse":
        return np.average((cos - y) ** 2, weights=w)
    d = 1 - cos
    return np.average((y * d**2 + (1 - y) * np.maximum(0.5 - d, 0) ** 2) / 2, weights=w)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_a_loop(name, weighted):
    for soft in (False, True):
        pairs = batch(soft=soft, weighted=weighted)
        assert loss_of(name, pairs).item() == pytest.approx(slowly(name, pairs), rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_differences(name):
    pairs = batch(weighted=True)
    loss_of(name, pairs).backward()
    for vectors in (pairs.u, pairs.v):
        for place in ((0, 0), (4, 2)):
            ends = []
            for step in (1e-3, -1e-3):
                moved = vectors.detach().clone()
                moved[place] += step
                sides = (moved, pairs.v) if vectors is pairs.u else (pairs.u, moved)
                given = (pairs.targets, pairs.weights, pairs.sentences, None, "sigmoid")
                ends.append(slowly(name, PairBatch(*sides, *given)))
            slope = (ends[0] - ends[1]) / 2e-3
            assert vectors.grad[place].item() == pytest.approx(slope, rel=2e-2, abs=1e-4)


THEIRS = {
    "cosent": "CoSENTLoss",
    "cosine_mse": "CosineSimilarityLoss",
    "contrastive": "ContrastiveLoss",
    "multiple_negatives": "MultipleNegativesRankingLoss",
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_sentence_transformers(name):
    """If that package is installed. Its ranking loss knows positive pairs only."""
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    pairs = batch()
    if name == "multiple_negatives":
        pairs = replace(pairs, targets=torch.ones(6, 1))
    made = getattr(losses, THEIRS[name])(None)
    found = made.compute_loss_from_embeddings([pairs.u, pairs.v], pairs.targets[:, 0])
    assert loss_of(name, pairs).item() == pytest.approx(found.item(), rel=1e-5)


def test_a_negative_pair_gives_a_further_negative():
    """And a second sentence that belongs to the first one is none."""
    pairs = batch(b=3)
    pairs = replace(pairs, targets=torch.tensor([[1.0], [1.0], [0.0]]))
    hard = slowly("multiple_negatives", pairs)
    assert loss_of("multiple_negatives", pairs).item() == pytest.approx(hard, rel=1e-4)
    same_first = torch.tensor([0, 0, 2, 3, 4, 5])
    u, v = (torch.nn.functional.normalize(x, dim=1) for x in (pairs.u, pairs.v))
    p = (20 * u @ v.T).exp()
    each = [-(p[0, 0] / (p[0, 0] + p[0, 2])).log(), -(p[1, 1] / (p[1, 1] + p[1, 2])).log()]
    found = loss_of("multiple_negatives", replace(pairs, sentences=same_first))
    assert found.item() == pytest.approx(sum(each).item() / 2, rel=1e-4)
    nobody = replace(pairs, targets=torch.zeros(3, 1))
    assert loss_of("multiple_negatives", nobody).item() == 0


def test_settings_of_losses():
    pairs = batch()
    for name, settings in (
        ("cosent", {"scale": 5}),
        ("contrastive", {"margin": 1.5}),
        ("multiple_negatives", {"scale": 5}),
    ):
        assert loss_of(name, pairs).item() != loss_of(name, pairs, **settings).item()


# The learner

WORDS = ("good", "fine", "great", "lovely", "bad", "poor", "awful", "dull")


def pair_rows(kind: str = "binary", n: int = 24) -> Rows:
    """n pairs of eight sentences; those of one mood belong together."""
    places = [(i % 8, (i * 5 + i // 8) % 8) for i in range(n)]
    alike = np.array([(a < 4) == (b < 4) for a, b in places])
    targets = {
        "binary": alike,
        "regression": 1 + 4 * alike,
        "multiclass": np.eye(3)[np.where(alike, 2, [a % 2 for a, _ in places])],
    }[kind]
    texts = [(f"a {WORDS[a]} film", f"so {WORDS[b]}") for a, b in places]
    return make_rows(texts, targets)


def made(backbone: Path, kind: str = "binary", **settings: object) -> BiEncoderLearner:
    training = {"epochs": 2, "batch_size": 8, "lr": 2e-3, "precision": "fp32", "max_length": 16}
    training |= settings.pop("training", {})
    checked = BiEncoderSettings(
        learner="biencoder", backbone=str(backbone), training=training, **settings
    )
    checked.check_kind(Kind(kind))
    outputs = 1 if kind == "regression" else None
    return make_learner(checked, LearnerContext(make_task(kind, outputs), 0))


def test_each_sentence_is_read_once_and_pairs_have_the_scores_that_they_have_alone(
    backbone, tmp_path, monkeypatch
):
    learner, rows = made(backbone), pair_rows()
    learner.fit(rows, None, tmp_path)
    together = learner.predict(rows)
    read = []
    vectors = type(learner.model).vectors
    monkeypatch.setattr(
        type(learner.model),
        "vectors",
        lambda self, ids, *more, **named: read.extend(ids) or vectors(self, ids, *more, **named),
    )
    learner.predict(rows)
    assert len(read) == 16  # of 48
    monkeypatch.undo()
    alone = [learner.predict(rows.take(np.array([i])))[0, 0] for i in range(len(rows))]
    np.testing.assert_allclose(together[:, 0], alone, rtol=1e-4, atol=1e-4)
    tokens = learner.encoder.tokens(rows)
    with torch.no_grad():
        whole = learner.model.eval()(**tokens.batch(np.arange(len(rows))))[:, 0].numpy()
    line = learner.line
    np.testing.assert_allclose(together[:, 0], whole * line.slope + line.intercept, atol=1e-4)


@pytest.mark.parametrize(
    "kind, loss",
    [
        *(("binary", loss) for loss in (*LOSSES, "softmax")),
        *(("regression", loss) for loss in ("cosent", "cosine_mse", "multiple_negatives")),
        ("multiclass", "softmax"),
    ],
)
def test_training_tells_pairs_that_belong_together(backbone, tmp_path, kind, loss):
    rows = pair_rows(kind)
    learner = made(backbone, kind, pair_loss=loss, training={"epochs": 30})
    learner.fit(rows, None, tmp_path / "run")
    found = to_probabilities(learner.predict(rows), learner.link)
    alike = rows.targets[:, -1] == rows.targets[:, -1].max()
    score = found[:, -1]
    assert score[alike].mean() > score[~alike].mean() + 0.05
    learner.save(tmp_path / "model")
    again = make_learner(learner.settings, LearnerContext(learner.task, 0))
    again.load(tmp_path / "model")
    assert again.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_auto_is_chosen_and_read_again(backbone, tmp_path):
    """`auto` was resolved, and read, as settings of a transformer, which has no pair_loss."""
    rows, auto = pair_rows(), {"epochs": "auto"}
    learner = made(backbone, training=auto)
    learner.fit(rows, None, tmp_path / "run")
    learner.save(tmp_path / "model")
    again = made(backbone, training=auto)
    again.load(tmp_path / "model")
    assert again.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_the_line_is_that_of_a_regression_on_cosines():
    rows = pair_rows("regression")
    tokens = replace(PairTokens(None, None, None), targets=rows.targets, weights=rows.weights)
    cosines = np.linspace(-1, 1, len(rows))
    line = CosineLine.of(cosines, tokens, "identity")
    assert [line.slope, line.intercept] == pytest.approx(np.polyfit(cosines, rows.targets[:, 0], 1))
    binary = replace(tokens, targets=(cosines[:, None] > 0).astype(float))
    line = CosineLine.of(cosines, binary, "sigmoid")
    assert line.slope > 1 and line.intercept == pytest.approx(0, abs=0.2)


def test_a_pair_has_its_sentences_by_number():
    found = Sentenced.of([("a", "b"), ("b", "c"), ("a", "a")])
    assert found.texts == ["a", "b", "c"]
    assert found.first.tolist() == [0, 1, 0] and found.second.tolist() == [1, 2, 0]
    assert found.rows.texts == [("a",), ("b",), ("c",)]


# Changed words

DELETED = {"name": "delete_words", "probability": 1, "share": 0.5}


def test_the_words_of_each_sentence_are_changed_in_each_epoch(backbone):
    """Targets and weights stay with their pairs."""
    learner, rows = made(backbone, augment=[DELETED]), pair_rows()
    examples = learner.prepare(rows)
    drawn = learner.encoder.tokens_by_epoch(rows, examples, learner.settings.training, 0)
    texts = Augmenter.of(learner.settings.augment, rows).texts(rows, 0, 1)
    assert drawn(0).flat.tolist() != drawn(1).flat.tolist() == drawn(1).flat.tolist()
    wanted = learner.encoder.tokens(replace(rows, texts=texts))
    for i in range(len(rows)):
        found, own = (tokens.batch(np.array([i]))["input_ids"] for tokens in (drawn(1), wanted))
        assert found.tolist() == own.tolist()
    assert drawn(1).targets is examples.tokens.targets
    assert sum(a != b for a, b in zip(rows.texts, texts, strict=True)) == len(rows)
    assert all(len(pair) == 2 and all(pair) for pair in texts)


def test_changed_words_change_what_is_learned(backbone, tmp_path):
    rows, found = pair_rows(), []
    for number, changes in enumerate(({}, {"augment": [DELETED]})):
        learner = made(backbone, **changes)
        learner.fit(rows, None, tmp_path / str(number))
        found.append(learner.predict(rows))
    assert np.abs(found[0] - found[1]).max() > 1e-4


# In a workspace


@pytest.fixture
def root(backbone, tmp_path) -> Path:
    """30 pairs in three folds, and a preset `pairs`."""
    root = make_workspace(
        tmp_path / "w",
        n=30,
        text=["one", "two"],
        pair=True,
        models=["pairs"],
        runtime={"threads": 1},
    )
    lines = [f"r{i},a {WORDS[i % 8]} film {i},so {WORDS[i * 5 % 8]} {i},{i % 2}" for i in range(36)]
    write(root / "input/train.csv", "\n".join(["id,one,two,label", *lines[:30]]) + "\n")
    new = [line.rpartition(",")[0].replace("r", "t", 1) for line in lines[30:]]
    new = [f"t{i},{line.split(',', 1)[1]}" for i, line in enumerate(new)]
    write(root / "input/test.csv", "\n".join(["id,one,two", *new]) + "\n")
    training = {"epochs": 2, "batch_size": 8, "max_length": 16}
    preset = {"learner": "biencoder", "backbone": str(backbone), "training": training}
    write(root / "presets/pairs.yaml", yaml.safe_dump(preset | {"checkpoint_seconds": 0}))
    assert foldstack(root, "folds") == 0
    return root


def test_bi_encoders_go_from_folds_to_a_submission(root):
    assert foldstack(root, "train", "--model", "pairs") == 0
    assert foldstack(root, "blend") == foldstack(root, "submit") == 0


def weights(root: Path) -> dict[str, Tensor]:
    place = Store(root).run_dir(RunKey("pairs", 0, (0,))) / "model"
    return load_file(place / "classifier.safetensors")


def test_labels_of_the_held_out_fold_change_nothing(root):
    assert foldstack(root, "train", "--model", "pairs", "--fold", "0") == 0
    before = weights(root)
    ws, run = run_of(root, "pairs")
    turn_labels(root, set(ws.competition.train.ids[run.folds.held_out((0,))]))
    assert foldstack(root, "train", "--model", "pairs", "--fold", "0", "--force") == 0
    after = weights(root)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_interrupted_run_ends_with_the_same_weights(backbone, tmp_path, monkeypatch):
    rows = pair_rows()
    whole = made(backbone, checkpoint_seconds=0)
    whole.fit(rows, None, tmp_path / "whole")
    part, taken = made(backbone, checkpoint_seconds=0), []
    update = loop.update

    def stopping(*args: object, **options: object) -> Tensor:
        if len(taken) == 4:
            raise KeyboardInterrupt
        taken.append(1)
        return update(*args, **options)

    monkeypatch.setattr(loop, "update", stopping)
    with pytest.raises(KeyboardInterrupt):
        part.fit(rows, None, tmp_path / "part")
    monkeypatch.setattr(loop, "update", update)
    again = made(backbone, checkpoint_seconds=0)
    again.fit(rows, None, tmp_path / "part")
    assert again.predict(rows).tobytes() == whole.predict(rows).tobytes()


def test_changed_copies_of_pairs_are_learned_with_their_labels(root):
    settings = yaml.safe_load((root / "presets/pairs.yaml").read_text())
    copies = {"augment": [DELETED], "augment_copies": 2}
    write(root / "presets/pairs.yaml", yaml.safe_dump(settings | copies))
    train, _, _, _ = rows_of(*run_of(root, "pairs"))
    assert len(train) == 60 and (train.origin == "augmented").sum() == 40
    assert train.targets.tolist() == np.tile(train.targets[:20], (3, 1)).tolist()
    for pair, copy in zip(train.texts[:20], train.texts[20:40], strict=True):
        assert all(0 < len(b) < len(a) for a, b in zip(pair, copy, strict=True))
    assert foldstack(root, "train", "--model", "pairs", "--fold", "0") == 0


# Refusals


def test_one_text_per_row_is_refused(backbone, tmp_path, capsys):
    root = make_workspace(tmp_path / "w", models=["pairs"])
    write(root / "presets/pairs.yaml", f"learner: biencoder\nbackbone: {backbone}\n")
    assert foldstack(root, "folds") == 0
    refuses(
        root,
        ["train", "--model", "pairs", "--fold", "0"],
        "learner biencoder compares two texts per row, but `text` in competition.yaml names 1: name "
        "two, or take another learner",
        capsys,
    )


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"head_bias": "prior"}, "a bi-encoder has no use for head_bias: leave it out"),
        ({"training": {"rdrop": 1}}, "a bi-encoder has no use for training.rdrop, see pair_loss"),
        ({"training": {"loss": "focal"}}, "a bi-encoder has no use for training.loss"),
        ({"dropout": 0.1}, "dropout is before a linear layer, which pair_loss cosent has not"),
        ({"long": "windows"}, "long windows is of one text with labels"),
        ({"kind": "multiclass"}, "pair_loss cosent is for binary and regression, but this"),
    ],
)
def test_what_a_bi_encoder_cannot_use(backbone, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        made(backbone, **settings)
