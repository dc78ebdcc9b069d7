"""Techniques as a preset switches them on: each changes what is learned, or is refused in a sentence."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foldstack import techniques
from foldstack.config import merge, parse_overrides
from foldstack.learners.encoder import Scale
from foldstack.learners.transformer import TransformerLearner
from foldstack.metrics import get
from foldstack.store import RunKey, Store
from foldstack.techniques import TrainingSettings
from foldstack.training import loop
from makers import OUTPUTS, fit_and_predict, make_learner, tiny_rows
from tiny import add_preset, foldstack, make_workspace, refuses, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


@pytest.fixture(scope="module")
def plain(backbone, tmp_path_factory) -> dict[str, np.ndarray]:
    """What each kind predicts without any technique."""
    folder = tmp_path_factory.mktemp("plain")
    return {kind: fit_and_predict(backbone, folder / kind, kind) for kind in OUTPUTS}


# Each loss, for each kind of competition that it is for


@pytest.mark.parametrize(
    "kind, loss",
    [
        (kind, loss)
        for loss, settings in techniques.Loss.registered.items()
        for kind in settings.kinds
        if loss not in ("cross_entropy", "mse")
    ],
)
def test_each_loss_trains_each_kind(backbone, plain, tmp_path, kind, loss):
    predicted = fit_and_predict(backbone, tmp_path / "run", kind, training={"loss": loss})
    assert np.isfinite(predicted).all()
    assert np.abs(predicted - plain[kind]).max() > 1e-5


@pytest.mark.parametrize("kind", list(OUTPUTS))
def test_auto_is_cross_entropy_or_squared_error(backbone, plain, tmp_path, kind):
    named = "mse" if kind == "regression" else "cross_entropy"
    predicted = fit_and_predict(backbone, tmp_path / "a", kind, training={"loss": named})
    assert (predicted == plain[kind]).all()


def test_a_loss_learns(backbone, tmp_path):
    """Guards a sign: after three times the epochs each ranks the rows it has seen better than chance."""
    rows = tiny_rows()
    metric = get("roc_auc", "binary")
    for loss in ("soft_f1", "pairwise_auc", "focal", "dice", "ghm", "logit_adjusted", "asymmetric"):
        training = {"loss": loss, "epochs": 6, "lr": 5e-3}
        predicted = fit_and_predict(backbone, tmp_path / loss, training=training)
        assert metric.score(rows.targets, predicted) > 0.9, loss


# Each other technique, and each of its settings


TECHNIQUES = [
    {"rdrop": 1.0},
    {"contrastive": {"weight": 0.5}},
    {"adversary": "fgm"},
    {"adversary": "pgd"},
    {"adversary": "freelb"},
    {"adversary": {"name": "awp", "start": 1}},
    {"adversary": "vat"},
    {"optimizer": "adafactor"},
    {"optimizer": "adagrad"},
    {"head_lr": 1e-2},
    {"layer_decay": 0.5},
    {"freeze_embeddings": True},
    {"freeze_layers": 1},
    {"reinit_layers": 1},
    {"schedule": "constant"},
    {"schedule": "step"},
    {"averaging": "ema"},
    {"averaging": {"name": "swa", "start": 0}},
]


@pytest.mark.parametrize("technique", TECHNIQUES, ids=str)
def test_each_technique_changes_the_predictions(backbone, plain, tmp_path, technique):
    predicted = fit_and_predict(backbone, tmp_path / "run", training=technique)
    assert np.isfinite(predicted).all()
    assert np.abs(predicted - plain["binary"]).max() > 1e-5


@pytest.mark.parametrize(
    "option", [{"dropout_samples": 4}, {"binary_link": "softmax"}, {"head_bias": "prior"}], ids=str
)
def test_each_option_of_the_head_changes_the_predictions(backbone, plain, tmp_path, option):
    predicted = fit_and_predict(backbone, tmp_path / "run", **option)
    assert predicted.shape == (32, 1)
    assert np.abs(predicted - plain["binary"]).max() > 1e-5


@pytest.mark.parametrize("binary_link", ["sigmoid", "softmax"])
def test_a_head_begins_with_the_priors(backbone, binary_link):
    """What it gives a vector of zeros is the weighted share of rows of each class."""
    rows = tiny_rows()
    learner = make_learner(backbone, binary_link=binary_link, head_bias="prior")
    learner.prepare(rows)
    raw = learner.model.eval().score(torch.zeros(1, 16))
    share = np.average(rows.targets[:, 0], weights=rows.weights)
    assert raw.sigmoid().item() == pytest.approx(share, abs=1e-6)


def test_awp_begins_with_its_epoch(backbone, plain, tmp_path):
    """Of two epochs: never, in the second, from the first update on."""
    runs = [
        fit_and_predict(
            backbone, tmp_path / str(n), training={"adversary": {"name": "awp", "start": n}}
        )
        for n in (2, 1, 0)
    ]
    assert (runs[0] == plain["binary"]).all()
    assert all(np.abs(a - b).max() > 1e-5 for a, b in pairwise(runs))


def test_frozen_layers_stay_and_the_rest_learns(backbone, tmp_path):
    learner = make_learner(backbone, training={"freeze_layers": 1})
    learner.prepare(tiny_rows())
    before = {k: v.clone() for k, v in learner.model.state_dict().items()}
    learner.fit(tiny_rows(), None, tmp_path)
    moved = {k for k, v in learner.model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved and not [k for k in moved if "embeddings" in k or "layer.0." in k]


def test_swa_is_the_mean_of_the_epochs(backbone, tmp_path):
    """With a constant rate of the same number of updates, the first epoch of two is the run of one."""

    def weights(folder: str, **training: object) -> dict[str, torch.Tensor]:
        (tmp_path / folder).mkdir()
        options = {"schedule": "constant", "warmup": 0, **training}
        learner = make_learner(backbone, training=options)
        learner.fit(tiny_rows(), None, tmp_path / folder)
        return learner.model.state_dict()

    one, two = weights("one", epochs=1), weights("two", epochs=2)
    mean = weights("mean", epochs=2, averaging={"name": "swa", "start": 0})
    for key, value in mean.items():
        torch.testing.assert_close(value, (one[key] + two[key]) / 2)


# What looks at a score


def train_with_scores(
    backbone: Path, folder: Path, scores: list[float], **training: object
) -> tuple[dict, TransformerLearner, list[dict[str, torch.Tensor]]]:
    """A run whose evaluations give these scores; its facts, and the weights at each of them."""
    folder.mkdir(exist_ok=True)
    learner = make_learner(backbone, training={"select": "inner", **training})
    examples = learner.prepare(tiny_rows())
    given, seen = iter(scores), []

    def evaluate(net: torch.nn.Module) -> loop.EpochScore:
        seen.append({k: v.clone() for k, v in learner.model.state_dict().items()})
        score = next(given)
        return loop.EpochScore(score, score)

    facts = loop.train(
        learner.model,
        examples,
        learner.settings.training,
        learner.accelerator,
        seed=0,
        folder=folder,
        checkpoint_seconds=60,
        evaluate=evaluate,
    )
    return facts, learner, seen


def test_patience_ends_the_training(backbone, tmp_path):
    """Two epochs without a better score after the second: the fifth and sixth are not trained."""
    scores = [0.5, 0.8, 0.7, 0.8, 0.9, 0.9]
    facts, learner, seen = train_with_scores(backbone, tmp_path, scores, epochs=6, patience=2)
    assert (facts["epoch_scores"], facts["best_epoch"]) == ([0.5, 0.8, 0.7, 0.8], 2)
    assert facts["updates"] == 16
    for key, value in learner.model.state_dict().items():
        assert torch.equal(value, seen[1][key])


def test_an_epoch_is_scored_and_chosen_as_the_average_that_will_predict(backbone, tmp_path):
    """Guards a score of the last weights, by which the run does not predict."""
    last, averaged = (
        train_with_scores(
            backbone, tmp_path / str(averaging), [0.6, 0.5], epochs=2, averaging=averaging
        )
        for averaging in (None, "ema")
    )
    for (_, learner, seen), other in ((last, averaged), (averaged, last)):
        chosen = learner.model.state_dict()
        assert all(torch.equal(value, seen[0][key]) for key, value in chosen.items())
        for one, another in zip(seen, other[2], strict=True):
            assert any((one[key] - another[key]).abs().max() > 1e-6 for key in one)


def test_plateau_lowers_the_rate_after_its_patience(backbone, tmp_path):
    """Alike until the second epoch has brought nothing; then the two runs part."""
    schedule = {"name": "plateau", "factor": 0.1, "patience": 1}
    options = {"epochs": 3, "warmup": 0}
    _, _, flat = train_with_scores(
        backbone, tmp_path / "a", [0.5, 0.5, 0.5], schedule="constant", **options
    )
    _, _, cut = train_with_scores(
        backbone, tmp_path / "b", [0.5, 0.5, 0.5], schedule=schedule, **options
    )
    alike = [all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(flat, cut, strict=True)]
    assert alike == [True, True, False]


def test_a_soup_keeps_what_raises_the_score(backbone, tmp_path):
    """Epochs 3, 1, 2 by their scores: 3 and 1 together are better, 2 makes it worse."""
    scores = [0.6, 0.5, 0.7, 0.8, 0.75]  # the last two are of the mixtures
    facts, learner, seen = train_with_scores(backbone, tmp_path, scores, epochs=3, averaging="soup")
    assert (facts["epoch_scores"], facts["soup_epochs"]) == ([0.6, 0.5, 0.7], [3, 1])
    for key, value in learner.model.state_dict().items():
        torch.testing.assert_close(value, (seen[0][key] + seen[2][key]) / 2)


def test_the_epoch_is_chosen_by_the_averaged_weights(backbone, tmp_path):
    """An average that is predicted from is also what the score is of, and what is kept."""
    ema = {"averaging": {"name": "ema", "decay": 0.9}}
    _, _, raw = train_with_scores(backbone, tmp_path / "a", [0.5, 0.9])
    facts, learner, averaged = train_with_scores(backbone, tmp_path / "b", [0.9, 0.5], **ema)
    assert facts["best_epoch"] == 1
    assert any(not torch.equal(raw[0][k], averaged[0][k]) for k in raw[0])
    for key, value in learner.model.state_dict().items():
        assert torch.equal(value, averaged[0][key])


# Regression between bounds


def test_a_bounded_scale_puts_targets_between_0_and_1():
    rows = tiny_rows("regression", 4)
    scale = Scale.of(rows, bounded=True)
    scaled = scale.apply(rows.targets)
    assert (scaled.min(axis=0).tolist(), scaled.max(axis=0).tolist()) == ([0, 0], [1, 1])
    logits = np.log(np.clip(scaled, 1e-9, 1) / np.clip(1 - scaled, 1e-9, 1))
    np.testing.assert_allclose(scale.restore(logits), rows.targets, atol=1e-5)


def test_a_bounded_regression_stays_between_what_was_seen_and_is_stored(backbone, tmp_path):
    learner = make_learner(backbone, "regression", training={"loss": "scaled_bce"})
    rows = tiny_rows("regression")
    learner.fit(rows, None, tmp_path)
    predicted = learner.predict(rows)
    assert (predicted >= rows.targets.min(axis=0)).all()
    assert (predicted <= rows.targets.max(axis=0)).all()
    learner.save(tmp_path / "model")
    again = make_learner(backbone, "regression", training={"loss": "scaled_bce"})
    again.load(tmp_path / "model")
    assert (again.predict(rows) == predicted).all()


# Settings


@pytest.fixture
def root(backbone, tmp_path) -> Path:
    root = make_workspace(tmp_path / "w")
    add_preset(root, backbone)
    assert foldstack(root, "folds") == 0
    return root


REFUSED = {
    "training.loss=mse": (
        "training.loss mse is for regression competitions, but this one is binary: take one of "
        "cross_entropy, soft_f1, pairwise_auc, focal, dice, ghm, logit_adjusted, asymmetric"
    ),
    "binary_link=hinge": (
        "setting 'binary_link' is 'hinge': input should be 'sigmoid' or 'softmax'"
    ),
    "training.loss=focl": "setting 'training.loss' is 'focl': did you mean 'focal'?",
    "training.loss.gama=2 training.loss.name=focal": (
        "unknown setting 'training.loss.gama': did you mean 'gamma'?"
    ),
    "training.loss.gamma=2": (
        "setting 'training.loss' has no name: write `training.loss: {name: …, …}`"
    ),
    "training.adversary=fmg": "setting 'training.adversary' is 'fmg': did you mean 'fgm'?",
    "training.loss=[focal]": (
        "setting 'training.loss' is ['focal']: give one name, or `training.loss: {name: …, …}`"
    ),
    "training.adversary=[fgm,awp]": (
        "setting 'training.adversary' is ['fgm', 'awp']: give one name, or "
        "`training.adversary: {name: …, …}`"
    ),
    "pretrain=yes": (
        "setting 'pretrain' is 'yes': it has settings of its own, write `pretrain: {…}`"
    ),
    "training.adversary={name: fgm, epsilon: -1}": (
        "setting 'training.adversary.epsilon' is '-1': input should be greater than 0"
    ),
    "training.loss=soft_f1 training.micro_batch_size=4": (
        "loss soft_f1 is of the whole batch, which micro_batch_size would split: set "
        "micro_batch_size to 0 or take another loss"
    ),
    "training.loss=pairwise_auc training.micro_batch_size=4": (
        "loss pairwise_auc is of the whole batch, which micro_batch_size would split: set "
        "micro_batch_size to 0 or take another loss"
    ),
    "training.loss=correlation": (
        "training.loss correlation is for regression competitions, but this one is binary: take "
        "one of cross_entropy, soft_f1, pairwise_auc, focal, dice, ghm, logit_adjusted, asymmetric"
    ),
    "training.contrastive.weight=1 training.micro_batch_size=4": (
        "contrastive compares the rows of the whole batch, which micro_batch_size would split: set "
        "one of them only"
    ),
    "training.schedule=plateau": (
        "schedule plateau requires a score per epoch, but select is 'last', which computes none: set "
        "select: inner"
    ),
    "training.averaging=soup": (
        "averaging soup requires a score per epoch, but select is 'last', which computes none: set "
        "select: inner"
    ),
    "training.patience=2": (
        "patience requires a score per epoch, but select is 'last', which computes none: set "
        "select: inner"
    ),
    "training.select_by=accuracy": (
        "select_by requires a score per epoch, but select is 'last', which computes none: set "
        "select: inner"
    ),
    "training.select=inner training.select_by=acuracy": (
        "training.select_by: metric 'acuracy' is not known: did you mean 'accuracy'?"
    ),
    "training.averaging=swa training.select=inner": (
        "averaging swa takes the last epochs' mean: set select: last"
    ),
    "dropout_samples=3 dropout=0": (
        "dropout_samples samples several masks, but dropout is 0: set one of them"
    ),
    "head_bias=prior training.loss=logit_adjusted": (
        "loss logit_adjusted adds the log of each class's share to the outputs, which head_bias "
        "prior sets already: set one of them only"
    ),
    "training.rdrop=1 dropout=0 backbone_dropout=0": (
        "training.rdrop compares two passes with different dropout, but dropout and backbone_dropout "
        "are 0: raise one of them"
    ),
}


@pytest.mark.parametrize("sets", list(REFUSED))
def test_what_does_not_go_together_is_refused(root, capsys, sets):
    parts = [sets] if "{" in sets else sets.split()
    options = [word for pair in parts for word in ("--set", pair)]
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "tiny", *options],
        f"tiny.yaml with --set: {REFUSED[sets]}",
        capsys,
    )


@pytest.mark.parametrize(
    "kind, sets, sentence",
    [
        (
            "multiclass",
            "training.loss=multilabel_ce",
            "training.loss multilabel_ce is for multilabel competitions, but this one is "
            "multiclass: take one of cross_entropy, soft_f1, focal, dice, ghm, logit_adjusted",
        ),
        (
            "multiclass",
            "training.loss=pairwise_auc",
            "training.loss pairwise_auc is for binary and multilabel competitions, but this one is "
            "multiclass: take one of cross_entropy, soft_f1, focal, dice, ghm, logit_adjusted",
        ),
        (
            "regression",
            "training.contrastive.weight=1",
            "training.contrastive compares labels, but this competition is regression: leave it out",
        ),
        (
            "regression",
            "head_bias=prior",
            "head_bias prior uses the shares of classes, but this competition is regression: leave "
            "it out",
        ),
        (
            "multiclass",
            "binary_link=softmax",
            "binary_link softmax is for binary competitions, but this one is multiclass: leave it out",
        ),
    ],
)
def test_what_does_not_fit_the_kind_is_refused(root, capsys, kind, sets, sentence):
    competition = root / "competition.yaml"
    metric = {"regression": "rmse", "multiclass": "accuracy"}[kind]
    write(
        competition,
        competition.read_text().replace("binary", kind).replace("roc_auc", metric),
    )
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "tiny", "--set", sets],
        f"tiny.yaml with --set: {sentence}",
        capsys,
    )


def test_a_name_alone_is_short_for_a_mapping():
    short = TrainingSettings(loss="focal", adversary="fgm", schedule="cosine", averaging="ema")
    long = TrainingSettings(
        loss={"name": "focal"},
        adversary={"name": "fgm"},
        schedule={"name": "cosine"},
        averaging={"name": "ema"},
    )
    assert short == long
    off = TrainingSettings(loss="auto", adversary="none", averaging="null")
    assert (off.loss, off.adversary, off.averaging) == (None, None, None)


def test_one_setting_over_a_short_form():
    """`--set training.loss.gamma=3` over a preset that says `loss: focal`."""
    over = parse_overrides(["training.loss.gamma=3"])
    merged = merge({"training": {"loss": "focal", "lr": "1e-5"}}, over)
    assert merged["training"] == {"loss": {"name": "focal", "gamma": "3"}, "lr": "1e-5"}


def test_what_a_run_was_trained_with_is_stored(root):
    options = ["--set", "training.loss=focal", "--set", "training.adversary.name=fgm"]
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0", *options) == 0
    stored = Store(root).read_run(RunKey("tiny", 0, (0,))).identity.settings["training"]
    assert stored["loss"] == {"name": "focal", "gamma": 2.0, "class_weights": "none"}
    assert stored["adversary"]["epsilon"] == 1.0
    weights = load_file(
        Store(root).run_dir(RunKey("tiny", 0, (0,))) / "model/classifier.safetensors"
    )
    assert all(torch.isfinite(w).all() for w in weights.values())


@pytest.mark.parametrize("metric", ["roc_auc", "f1"])
def test_roberta_trains_with_an_adversary_and_for_f1_with_an_f1_stage(root, backbone, metric):
    """The preset as it ships, but for the backbone, which this machine has not."""
    competition = root / "competition.yaml"
    write(competition, competition.read_text().replace("roc_auc", metric))
    options = ["--set", f"backbone={backbone}", "--set", "training.epochs=1 repeats=1"]
    assert foldstack(root, "train", "--model", "roberta", "--fold", "0", *options) == 0
    run = Store(root).read_run(RunKey("roberta", 0, (0,)))
    adversarial, f1 = run.identity.settings["stages"]
    assert adversarial["adversary"]["name"] == "fgm" and adversarial["loss"] is None
    assert (f1["loss"]["name"], f1["freeze_backbone"], f1["batch_size"]) == ("soft_f1", True, 1024)
    trained = [stage["updates"] for stage in run.facts.get("stages", [run.facts])]
    assert trained == ([1, 5] if metric == "f1" else [1])
