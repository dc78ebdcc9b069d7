"""Consistency training on unlabelled rows: what is added to the loss, and which rows it reads."""

from __future__ import annotations

import math
import shutil
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foldstack import config
from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext, sequence
from foldstack.learners.network import NetworkLearner
from foldstack.learners.transformer import TransformerLearner
from foldstack.rows import Rows
from foldstack.stages.dependencies import why_stale
from foldstack.stages.learned import rows_of, unlabelled_of
from foldstack.store import RunKey, Store
from foldstack.techniques import Consistency, LoopSettings, NetworkSettings, TransformerSettings
from foldstack.training import loop
from foldstack.training.criteria import consistency
from foldstack.training.micro_batch import MicroBatch, TrainingObjective, UnlabelledPart
from makers import make_rows, make_task, tiny_rows, unlabelled
from test_resume import UPDATE, bytes_of, end, start, steps
from tiny import (
    BAD,
    GOOD,
    PLACES,
    add_preset,
    foldstack,
    make_workspace,
    refuses,
    run_of,
    turn_labels,
    write,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

DELETE = {"name": "delete_words", "share": 0.3}
HALF = {"name": "delete_words", "share": 0.5, "probability": 1}
TEXTS = [f"a {word} {place} in {place}" for word in (*GOOD, *BAD) for place in PLACES][:30]


# The term


def slow_term(
    original: list[float], changed: list[float], link: str, temperature: float, confidence: float
) -> float:
    """Xie et al. 2020, section 2.2 and 2.3 of one row, in plain Python."""

    def softmax(logits: list[float]) -> list[float]:
        powers = [math.exp(x) for x in logits]
        return [x / sum(powers) for x in powers]

    def of_choice(given: list[float], other: list[float]) -> float:
        if max(softmax(given)) < confidence:
            return 0.0
        wanted, found = softmax([x / temperature for x in given]), softmax(other)
        return sum(p * math.log(p / q) for p, q in zip(wanted, found, strict=True))

    if link == "softmax":
        return of_choice(original, changed)
    # A sigmoid is a softmax over the logits (z, 0).
    each = [of_choice([a, 0], [b, 0]) for a, b in zip(original, changed, strict=True)]
    return sum(each) / len(each)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
@pytest.mark.parametrize("temperature, confidence", [(0.4, 0.8), (1.0, 0.0), (0.7, 0.6)])
def test_the_term_is_that_of_the_paper(link, temperature, confidence):
    rng = np.random.default_rng(0)
    original, changed = rng.normal(scale=2, size=(2, 40, 3))
    found = consistency(
        torch.tensor(original),
        torch.tensor(changed),
        link,
        temperature=temperature,
        confidence=confidence,
    )
    pairs = zip(original.tolist(), changed.tolist(), strict=True)
    wanted = [slow_term(a, b, link, temperature, confidence) for a, b in pairs]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9, atol=1e-12)
    assert 0 < np.count_nonzero(wanted) <= 40 and (confidence == 0) == (min(wanted) > 0)


def test_confidence_is_of_the_prediction_that_is_not_sharpened():
    """p = .73 is below .8, and at temperature .4 it would be .92."""
    logits = torch.tensor([[1.0]])
    some = {"temperature": 0.4, "confidence": 0.8}
    assert float(consistency(logits, -logits, "sigmoid", **some)) == 0
    assert float(consistency(logits, -logits, "sigmoid", **some | {"confidence": 0.7})) > 0


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_extreme_logits_give_a_finite_loss_and_gradient(link):
    original = torch.tensor([[1e4, -1e4], [80.0, 0.0]])
    changed = torch.tensor([[-1e4, 1e4], [0.0, 90.0]], requires_grad=True)
    loss = consistency(original, changed, link, temperature=0.1, confidence=0.5).sum()
    loss.backward()
    assert loss.isfinite() and changed.grad.isfinite().all()


def test_the_original_has_no_gradient():
    original, changed = (torch.tensor([[2.0, -1.0]], requires_grad=True) for _ in range(2))
    consistency(original, changed, "softmax", temperature=0.4, confidence=0.5).sum().backward()
    assert original.grad is None and changed.grad.abs().max() > 0.01


class Scaled(nn.Module):
    """A network that multiplies what it is given by its only weight; it notes whether it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.learns: list[bool] = []

    def forward(self, x: Tensor, pooled: bool) -> tuple[Tensor, Tensor]:
        self.learns.append(torch.is_grad_enabled())
        return x * self.weight, x


def part(x: list[float], texts: list[float], changed: list[float], **settings: Any) -> MicroBatch:
    """A micro-batch of rows with target 1, and unlabelled rows beside them."""
    column = {"x": torch.tensor(x)[:, None]}
    targets, weights = torch.ones(len(x), 1), torch.ones(len(x))
    objective = TrainingObjective.of(LoopSettings(), targets, weights, "sigmoid")
    beside = UnlabelledPart(
        Consistency(**settings),
        {"x": torch.tensor(texts)[:, None]},
        {"x": torch.tensor(changed)[:, None]},
        torch.ones(len(texts)),
        len(texts),
    )
    total = torch.tensor(float(len(x)))
    return MicroBatch(objective, Scaled(), column, targets, weights, total, unlabelled=beside)


def test_the_mean_over_all_unlabelled_rows_is_added_with_its_weight():
    """The second one is not confident, and counts 0."""
    given = part([0.5], [3.0, 0.1], [1.0, 5.0], weight=2, temperature=0.5)
    alone = replace(given, unlabelled=None).loss().item()
    term = slow_term([3.0], [1.0], "sigmoid", 0.5, 0.8) / 2
    assert given.loss().item() == pytest.approx(alone + 2 * term, rel=1e-6)
    assert given.net.learns == [True, True, False, True]


def test_the_gradient_is_by_the_changed_text_alone():
    """By finite differences of the term whose target is held."""
    given = part([0.5], [3.0], [1.0], temperature=0.5)
    given.consistency().backward()
    step = 1e-3
    up, down = (slow_term([3.0], [1.0 + s], "sigmoid", 0.5, 0.8) for s in (step, -step))
    assert float(given.net.weight.grad) == pytest.approx((up - down) / (2 * step), rel=1e-4)


# Which rows an update has


class Known:
    """Sequences of these lengths, whose batch is the row numbers."""

    def __init__(self, lengths: np.ndarray):
        self.lengths = lengths

    def batch(self, rows: np.ndarray, multiple: int = 1) -> dict[str, Tensor]:
        return {"row": torch.from_numpy(np.asarray(rows))}


def beside(rows: int, **settings: Any) -> loop.Unlabelled:
    """Unlabelled rows; the changed ones of an epoch have the numbers of the rows that it draws."""
    texts = Known(np.random.default_rng(0).integers(3, 30, rows))

    def changed(epoch: int, which: np.ndarray) -> Any:
        return SimpleNamespace(batch=lambda some, multiple: {"row": torch.from_numpy(which[some])})

    return loop.Unlabelled(Consistency(**settings), texts, changed, seed=0)


def test_each_update_has_the_ratio_and_no_row_returns_before_all_are_read():
    """5 updates of 4 labelled rows, 8 unlabelled ones in each, of 100: 40 an epoch."""
    of_all, read = beside(100, ratio=2), []
    for epoch in range(5):
        pairs = of_all.of_epoch([9, 8, 7, 9, 3], 4, epoch)
        assert [len(p.rows) for p in pairs] == [8] * 5
        read.append(np.concatenate([p.rows for p in pairs]))
        assert sorted(np.unique(read[-1])) == of_all.drawn(epoch, 5, 4).tolist()
    assert (np.bincount(np.concatenate(read)) == 2).all()


def test_a_text_stands_beside_its_own_change():
    for pairs in beside(10).of_epoch([9, 8, 7], 4, 1):
        changed = pairs.changed.batch(pairs.of_changed, 1)["row"]
        assert changed.tolist() == pairs.rows.tolist()


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("parts", [1, 3])
def test_micro_batches_and_processes_divide_them(processes, parts):
    """7 rows, each in one part; a part without any has one that counts 0."""
    (pairs,) = beside(20, ratio=7 if parts < 3 else 2).of_epoch([9], 1, 0)
    found, counted = [], 0.0
    for process in range(processes):
        place = SimpleNamespace(
            num_processes=processes, process_index=process, device=torch.device("cpu")
        )
        for number in range(parts):
            one = loop.unlabelled_part(pairs, number, parts, place)
            assert one.total == len(pairs.rows) / processes and len(one.counted) > 0
            kept = one.counted > 0
            found += one.texts["row"][kept].tolist()
            assert one.changed["row"].tolist() == one.texts["row"].tolist()
            counted += float(one.counted.sum())
    assert sorted(found) == sorted(pairs.rows.tolist()) and counted == len(pairs.rows)


# In a learner


def learner_of(backbone: Path, rows: Rows | None = None, **settings: Any) -> TransformerLearner:
    """A transformer with consistency on these rows, by default on 30 texts; no dropout."""
    given: dict[str, Any] = {"confidence": 0, "augment": [DELETE]}
    training = {"epochs": 2, "batch_size": 8, "lr": 2e-3, "precision": "fp32", "max_length": 16}
    data = {
        "learner": "transformer",
        "backbone": str(backbone),
        "dropout": 0,
        "backbone_dropout": 0,
        "consistency": given | settings.pop("consistency", {}),
        "training": training | settings.pop("training", {}),
    }
    checked = config.validate(TransformerSettings, data | settings, "mine.yaml")
    rows = unlabelled(TEXTS) if rows is None else rows
    return TransformerLearner(checked, LearnerContext(make_task(), unlabelled=rows))


def predicted(
    backbone: Path, folder: Path, rows: Rows | None = None, **settings: Any
) -> np.ndarray:
    folder.mkdir(parents=True)
    learner = learner_of(backbone, rows, **settings)
    learner.fit(tiny_rows(n=20), None, folder)
    return learner.predict(tiny_rows(n=20))


@pytest.fixture(scope="module")
def as_usual(backbone, tmp_path_factory) -> np.ndarray:
    return predicted(backbone, tmp_path_factory.mktemp("usual") / "run")


CHANGED: dict[str, dict] = {
    "weight": {"consistency": {"weight": 3}},
    "ratio": {"consistency": {"ratio": 1}},
    "temperature": {"consistency": {"temperature": 1}},
    "confidence": {"consistency": {"confidence": 0.55}},
    "augment": {"consistency": {"augment": ["swap_words"]}},
}


@pytest.mark.parametrize("setting", list(CHANGED))
def test_each_setting_changes_what_is_learned(backbone, as_usual, tmp_path, setting):
    other = predicted(backbone, tmp_path / "run", **CHANGED[setting])
    assert np.abs(other - as_usual).max() > 1e-6


def test_the_presets_own_changes_are_taken_if_it_names_none(backbone, as_usual, tmp_path):
    """Copies are made of training rows alone, and none here: `augment_copies` is not the question."""
    learner = learner_of(backbone, consistency={"augment": []}, augment=[DELETE])
    assert learner.settings.consistency_changes == learner_of(backbone).settings.consistency_changes


def test_nothing_is_learned_of_rows_that_are_never_confident(backbone, tmp_path):
    """The same bytes as without consistency: the labelled rows' order and dropout do not change."""
    usual = {"dropout": 0.1, "training": {"clip": 0}}
    with_them = predicted(backbone, tmp_path / "a", consistency={"confidence": 0.999}, **usual)
    without = predicted(backbone, tmp_path / "b", unlabelled([]), **usual)
    assert with_them.tobytes() == without.tobytes()


@pytest.mark.parametrize(
    "confidence, line",
    [
        (0, None),
        (
            0.9999,
            "consistency: no prediction of an unlabelled text reached confidence 0.9999 in the ",
        ),
        (
            0.5275,
            "consistency: {:.1%} of the unlabelled texts' predictions reached confidence 0.5275 in ",
        ),
    ],
)
def test_a_fit_says_how_many_predictions_reach_the_confidence(
    backbone, tmp_path, capsys, confidence, line
):
    """Without dropout and at a rate of nearly 0 they are those of the fitted model.

    An epoch has two updates, each of which reads all 30 texts.
    """
    learner = learner_of(
        backbone, consistency={"confidence": confidence}, training={"lr": 1e-12, "batch_size": 10}
    )
    facts = learner.fit(tiny_rows(n=20), None, tmp_path)
    p = 1 / (1 + np.exp(-learner.predict(unlabelled(TEXTS))))
    wanted = float((np.maximum(p, 1 - p) >= confidence).mean())
    assert facts["confident_share"] == pytest.approx(wanted, abs=1e-6)
    out = capsys.readouterr().out
    assert out.count("consistency: ") == (line is not None)
    assert line is None or line.format(wanted) in out


def test_the_count_of_confident_predictions_is_of_the_last_epoch(backbone, tmp_path):
    """In the first one, before anything is learned, no prediction reaches it."""
    learner = learner_of(
        backbone,
        consistency={"confidence": 0.7, "weight": 1e-6},
        training={"epochs": 15, "lr": 0.02, "batch_size": 20},
    )
    labels = np.ones((20, 1))
    facts = learner.fit(replace(tiny_rows(n=20), targets=labels), None, tmp_path)
    assert facts["confident_share"] == 1


def test_a_resumed_fit_counts_the_whole_last_epoch(backbone, tmp_path):
    def facts(folder: Path) -> dict:
        learner = learner_of(backbone, consistency={"confidence": 0.52}, checkpoint_seconds=0)
        return learner.fit(tiny_rows(n=20), None, folder)

    whole = facts(tmp_path)["confident_share"]
    shutil.rmtree(max(tmp_path.glob("step-*")))  # as if killed before the last update
    assert facts(tmp_path)["confident_share"] == whole and 0 < whole < 1


def test_unlabelled_pairs_are_read_in_one_order(backbone):
    """Else a row's number would be that of a sequence, of which a row has two."""
    pairs = unlabelled([(text, "film") for text in TEXTS])
    learner = learner_of(backbone, pairs, both_orders="train")
    learner.prepare(make_rows([("a", "b"), ("b", "a")]))
    found = learner.encoder.unlabelled(pairs)(0)
    assert len(found.texts.lengths) == len(TEXTS)


def test_a_change_of_no_unlabelled_text_is_named(backbone, tmp_path):
    """Bug guarded: the sentence spoke of training texts."""
    learner = learner_of(backbone, unlabelled(["one"]), consistency={"augment": ["swap_words"]})
    with pytest.raises(InputError) as refused:
        learner.fit(tiny_rows(n=20), None, tmp_path)
    assert str(refused.value).startswith(
        "augment: swap_words changes none of the 1 unlabelled text tried: it is for "
    )


def test_a_learner_that_is_given_no_rows_is_refused(backbone, tmp_path):
    """Bug guarded: a caller that forgot them trained without the term and without a word."""
    learner = learner_of(backbone)
    learner.unlabelled = None
    with pytest.raises(ValueError) as refused:
        learner.fit(tiny_rows(n=20), None, tmp_path)
    assert str(refused.value) == "consistency reads unlabelled rows: give LearnerContext.unlabelled"


def test_micro_batches_add_up_to_the_update(backbone, as_usual, tmp_path):
    parts = predicted(backbone, tmp_path / "run", training={"micro_batch_size": 3})
    np.testing.assert_allclose(parts, as_usual, rtol=1e-3, atol=1e-5)


def test_texts_are_changed_in_another_way_in_each_epoch(backbone):
    learner = learner_of(backbone)
    learner.prepare(tiny_rows(n=20))
    rows = unlabelled(TEXTS)
    of_all = learner.encoder.unlabelled(rows)(0)
    first, again, second = (of_all.changed(epoch, np.arange(30)) for epoch in (0, 0, 1))
    assert (first.flat == again.flat).all() and first.flat.tolist() != second.flat.tolist()
    assert (first.lengths < of_all.texts.lengths).all()  # at least one change of each
    some = of_all.changed(0, np.array([3, 7]))
    assert some.lengths.tolist() == first.lengths[[3, 7]].tolist()


@pytest.fixture(scope="module")
def many_words(backbone, tmp_path_factory) -> Path:
    """The tiny backbone with a vocabulary that is mostly unused, so that it is trimmed."""
    from transformers import AutoModel

    folder = tmp_path_factory.mktemp("many") / "b"
    shutil.copytree(backbone, folder)
    model = AutoModel.from_pretrained(folder)
    torch.manual_seed(0)
    model.resize_token_embeddings(400, mean_resizing=False)
    model.save_pretrained(folder)
    return folder


def test_trimmed_word_embeddings_give_the_same(many_words, tmp_path, monkeypatch):
    """A token that was trimmed raises IndexError."""
    rows = unlabelled([f"{GOOD[i % 4]} thing of {i}" for i in range(30)])
    found = predicted(many_words, tmp_path / "a", rows)
    monkeypatch.setattr(sequence, "trimmed", lambda *_: nullcontext())
    whole = predicted(many_words, tmp_path / "b", rows)
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-6)


def test_they_hold_the_texts_as_each_epoch_changes_them(backbone):
    """Bug guarded: a change makes words that stand in no text, such as a slip on the keyboard."""
    learner, few = learner_of(backbone), tiny_rows(n=20)
    examples, stages = learner.prepare(few), learner.settings.stages_for("roc_auc")
    unlabelled_rows = learner.encoder.unlabelled(unlabelled(TEXTS))
    listed = [few, examples, stages, None, unlabelled_rows]
    found = [tokens.flat.tolist() for tokens in learner._tokens_read(*listed)]
    of_all = unlabelled_rows(0)
    read = [of_all.of_epoch([9, 9, 9], 8, epoch)[0].changed.flat.tolist() for epoch in (0, 1)]
    assert found == [examples.tokens.flat.tolist(), of_all.texts.flat.tolist(), *read]


def test_nothing_is_trimmed_if_sampling_draws_another_number_of_rows(backbone):
    learner, few = learner_of(backbone, training={"sampling": "oversample"}), tiny_rows(n=20)
    examples, stages = learner.prepare(few), learner.settings.stages_for("roc_auc")
    unlabelled_rows = learner.encoder.unlabelled(unlabelled(TEXTS))
    assert learner._tokens_read(few, examples, stages, None, unlabelled_rows) is None


def test_each_stage_reads_them(backbone, as_usual, tmp_path):
    """In another order in the second one, by a seed of its own."""
    other = predicted(backbone, tmp_path / "a", stages=[{"epochs": 1}, {"epochs": 1}])
    assert np.abs(other - as_usual).max() > 1e-6


def test_adversaries_of_weights_perturb_the_whole_objective(backbone, as_usual, tmp_path):
    for name in ("fgm", "awp"):
        adversary = {"name": name, "start": 0} if name == "awp" else {"name": name}
        other = predicted(backbone, tmp_path / name, training={"adversary": adversary})
        assert np.abs(other - as_usual).max() > 1e-6


def test_no_graph_is_made_of_an_update_with_unlabelled_rows(backbone):
    learner = learner_of(backbone)
    examples = learner.prepare(tiny_rows(n=8))
    training = loop.prepare(learner.model, examples, learner.settings.training, learner.accelerator)
    training = replace(training, graphs={})
    (pairs,) = learner.encoder.unlabelled(unlabelled(TEXTS))(0).of_epoch([9], 8, 0)
    loop.update(training, examples, np.arange(8), 0, pairs)
    assert training.graphs == {}


def test_the_forecast_measures_updates_with_unlabelled_rows(backbone, monkeypatch):
    real, sizes = loop.update, []

    def noted(*args: Any) -> Tensor:
        sizes.append(len(args[4].rows))
        return real(*args)

    monkeypatch.setattr(loop, "update", noted)
    learner_of(backbone).measure(tiny_rows(n=20), learned=100)
    assert sizes == [24, 24, 24]


def test_the_divergence_of_unlabelled_texts_falls(tmp_path):
    """Eight labelled rows, which are learned all the same."""
    few, rows = tiny_rows(n=8), tiny_rows(n=40)

    def fitted(weight: float) -> tuple[float, float]:
        """The divergence of rows that are changed in another way, and the area under the ROC curve."""
        data = {
            "learner": "network",
            "size": 16,
            "dropout": 0,
            "words": {"min_count": 1},
            "training": {"epochs": 40, "batch_size": 8, "lr": 0.02, "precision": "fp32"},
            "consistency": {"weight": weight, "confidence": 0, "augment": [HALF]},
        }
        folder = tmp_path / str(weight)
        folder.mkdir()
        checked = config.validate(NetworkSettings, data, "mine.yaml")
        learner = NetworkLearner(checked, LearnerContext(make_task(), unlabelled=rows))
        learner.fit(few, None, folder)
        of_all = learner.encoder.unlabelled(rows)(1)
        changed = learner._predict(learner.model, of_all.changed(99, np.arange(40)))
        a, b = (torch.tensor(x) for x in (learner.predict(rows), changed))
        apart = consistency(a, b, "sigmoid", temperature=1, confidence=0)
        return float(apart.mean()), make_task().score(few.targets, learner.predict(few))

    (divergence, score), (without, _) = fitted(10), fitted(1e-9)
    assert divergence < 0.5 * without and score == 1


# In a workspace

NETWORK = (
    "learner: network\nhead: mean\nsize: 8\nwords: {min_count: 1}\ncheckpoint_seconds: 0\n"
    "training: {epochs: 3, batch_size: 8, lr: 0.01, precision: fp32, max_length: 16}\n"
    "augment: delete_words\nconsistency: {texts: [test, pool], confidence: 0}\n"
)
KEY = RunKey("mine", 0, (0,))
TRAIN = ("train", "--model", "mine", "--fold", "0")


@pytest.fixture
def root(tmp_path) -> Path:
    """30 rows in three folds, a pool of 20 texts, and a network with consistency on pool and test."""
    root = make_workspace(
        tmp_path / "w", n=30, models=["mine"], pool=["more.csv"], runtime={"threads": 1}
    )
    write(root / "input/more.csv", "text\n" + "".join(f"{text}\n" for text in TEXTS[:20]))
    write(root / "presets/mine.yaml", NETWORK)
    assert foldstack(root, "folds") == 0
    return root


def read(root: Path, fold: int = 0) -> list[str]:
    """The ids of the unlabelled rows that the run reads."""
    return unlabelled_of(*run_of(root, "mine", fold)).ids.tolist()


def test_rows_are_those_of_the_test_file_and_of_the_pool(root, capsys):
    assert read(root) == [
        *(f"test:t{i}" for i in range(6)),
        *(f"more.csv:{i + 1}" for i in range(20)),
    ]
    assert foldstack(root, *TRAIN) == 0
    assert "20 rows to learn from, 10 held out, 26 without a label\n" in capsys.readouterr().out
    record = Store(root).read_run(KEY)
    assert record.rows == 20 and record.identity.unlabelled is not None


def test_a_run_says_what_it_reads_of_each_source_and_records_it(root, capsys):
    """Bug guarded: a pool of copies of held-out rows was no consistency training at all, silently."""
    ws, run = run_of(root, "mine")
    (text,) = ws.competition.train.texts[int(run.folds.held_out((0,))[0])]
    write(root / "input/more.csv", f"text\n{text}\n{text} !\n")
    assert foldstack(root, *TRAIN) == 0
    out = capsys.readouterr().out
    start = "mine seed 0 fold0: consistency: "
    assert [line for line in out.splitlines() if line.startswith(start)] == [
        f"{start}6 of 6 texts of test; 0 of 2 texts of pool",
        f"{start}no text of pool is left to this run: each repeats a row to be predicted, shares its "
        "group, or is empty",
    ]
    record = Store(root).read_run(KEY).unlabelled
    assert [of.to_json() for of in record.consistency] == [
        {"source": "test", "rows": 6, "free": 6, "learned": 6},
        {"source": "pool", "rows": 2, "free": 0, "learned": 0},
    ]
    assert foldstack(root, *TRAIN[:-1], "1") == 0
    assert f"{start.replace('0:', '1:')}6 of 6 texts of test; 2 of 2 texts of pool\n" in (
        capsys.readouterr().out
    )


def test_a_pool_without_any_text_is_refused(root, capsys):
    write(root / "input/more.csv", 'text\n" "\n" "\n')
    sentence = (
        f"{root}/input/more.csv: none of its 2 rows has a text: fill in 'text', or take the file out of "
        "`pool`"
    )
    refuses(root, list(TRAIN), sentence, capsys)


def test_without_it_none_are_read(root):
    write(root / "presets/mine.yaml", NETWORK.split("consistency")[0])
    assert unlabelled_of(*run_of(root, "mine")) is None


def test_a_copy_of_a_held_out_text_is_not_read(root):
    """Nor one that is nearly equal; other runs read it."""
    ws, run = run_of(root, "mine")
    (text,) = ws.competition.train.texts[int(run.folds.held_out((0,))[0])]
    write(root / "input/more.csv", f"text\n{text.upper()}\n{text} !\nan unheard thing\n")
    of_pool = [[i for i in read(root, fold) if i.startswith("more")] for fold in (0, 1)]
    assert of_pool == [["more.csv:3"], ["more.csv:1", "more.csv:2", "more.csv:3"]]


def test_a_copy_of_a_row_that_selects_the_epoch_is_not_read(root):
    write(root / "presets/mine.yaml", NETWORK.replace("{epochs: 3", "{select: inner, epochs: 3"))
    _, _, select, _ = rows_of(*run_of(root, "mine"))
    write(root / "input/more.csv", f"text\n{select.texts[0][0]}\nan unheard thing\n")
    assert [i for i in read(root) if i.startswith("more")] == ["more.csv:2"]


def test_turned_labels_of_the_held_out_fold_change_nothing(root):
    """Neither what is read nor what is learned of it."""
    ws, run = run_of(root, "mine")

    def learned() -> list[bytes]:
        rows, place = unlabelled_of(*run_of(root, "mine")), Store(root).run_dir(KEY)
        files = [place / name for name in ("model/classifier.safetensors", "test.parquet")]
        return [repr(rows.texts).encode(), *(file.read_bytes() for file in files)]

    assert foldstack(root, *TRAIN) == 0
    before = learned()
    turn_labels(root, set(ws.competition.train.ids[run.folds.held_out((0,))]))
    assert foldstack(root, *TRAIN, "--force") == 0
    assert learned() == before


def test_a_run_that_is_killed_reads_the_same_rows(root, tmp_path, fork_server):
    """9 updates of 8 labelled rows and 24 of 26 others, also changed ones in the middle of an epoch."""
    whole = Path(shutil.copytree(root, tmp_path / "whole"))
    assert foldstack(whole, *TRAIN) == 0
    for call in (3, 4):
        assert end(start(root, *TRAIN, at=(UPDATE, call, [signal.SIGKILL]))) == -signal.SIGKILL
    assert steps(root, KEY)[-1] == 5
    assert foldstack(root, *TRAIN) == 0
    assert bytes_of(root, KEY) == bytes_of(whole, KEY)


@pytest.mark.parametrize("name", ["more.csv", "test.csv"])
def test_a_run_is_stale_whose_unlabelled_rows_are_others(root, name):
    assert foldstack(root, *TRAIN) == 0
    ws, _ = run_of(root, "mine")
    assert why_stale(ws, ws.store.read_run(KEY)) == []
    place = root / "input" / name
    header, first, *lines = place.read_text().splitlines()
    changed = first.replace("a ", "quite another ", 1)
    assert changed != first
    write(place, "\n".join([header, changed, *lines]) + "\n")
    ws, _ = run_of(root, "mine")
    reasons = why_stale(ws, ws.store.read_run(KEY))
    assert [why.split(" (hash")[0] for why in reasons] == ["was made with other unlabelled rows"]


def test_a_run_is_stale_whose_unlabelled_rows_are_of_other_groups(tmp_path):
    """A row of a held-out row's group is not read, so that the group is part of what is."""
    root = make_workspace(tmp_path / "w", n=30, models=["mine"], pool=["more.csv"], group="author")
    header, *lines = (root / "input/train.csv").read_text().splitlines()
    named = [f"{line},author{i // 3}" for i, line in enumerate(lines)]
    write(root / "input/train.csv", "\n".join([f"{header},author", *named]) + "\n")
    write(root / "input/more.csv", "text,author\nan unheard thing,x\nanother,x\n")
    write(root / "presets/mine.yaml", NETWORK.replace("[test, pool]", "[pool]"))
    assert foldstack(root, "folds") == 0
    assert foldstack(root, *TRAIN) == 0
    _, run = run_of(root, "mine")
    held = int(run.folds.held_out((0,))[0])
    write(root / "input/more.csv", f"text,author\nan unheard thing,author{held // 3}\nanother,x\n")
    assert read(root) == ["more.csv:2"]
    ws, _ = run_of(root, "mine")
    reasons = why_stale(ws, ws.store.read_run(KEY))
    assert [why.split(" (hash")[0] for why in reasons] == ["was made with other unlabelled rows"]


def test_unlabelled_rows_have_no_time(tmp_path):
    """Bug guarded: test rows, which are later than the held-out ones, were read without a mark."""
    folds = {"count": 3, "kind": "time"}
    root = make_workspace(tmp_path / "w", n=30, models=["mine"], time="day", folds=folds)
    header, *lines = (root / "input/train.csv").read_text().splitlines()
    dated = [f"{line},{i}" for i, line in enumerate(lines)]
    write(root / "input/train.csv", "\n".join([f"{header},day", *dated]) + "\n")
    write(root / "presets/mine.yaml", NETWORK.replace("[test, pool]", "[test]"))
    assert foldstack(root, "folds") == 0
    _, _, _, optimistic = rows_of(*run_of(root, "mine", fold=1))
    assert optimistic == ["unlabelled rows may be later than the held-out ones"]


def test_a_pool_without_free_rows_adds_nothing(root):
    ws, run = run_of(root, "mine")
    (text,) = ws.competition.train.texts[int(run.folds.held_out((0,))[0])]
    write(root / "input/more.csv", f"text\n{text}\n")
    write(root / "presets/mine.yaml", NETWORK.replace("[test, pool]", "[pool]"))
    assert read(root) == []
    assert foldstack(root, *TRAIN) == 0


REFUSED: dict[str, str] = {
    "augment=none": (
        "consistency compares a text with a changed one, but `augment` names no change: set "
        "consistency.augment or augment"
    ),
    "long.name=windows consistency.augment=swap_words augment=none": (
        "consistency compares a text with a changed one, of which long windows reads other windows: "
        "take another `long`"
    ),
    "training.freeze_backbone=true consistency.augment=swap_words augment=none": (
        "consistency requires passes through the backbone, which freeze_backbone runs once: set one of "
        "them only"
    ),
    "training.adversary=vat": (
        "adversary vat adds noise to the word vectors of labelled rows, and consistency reads others "
        "beside them: take fgm, pgd or awp"
    ),
}


@pytest.mark.parametrize("sets", list(REFUSED))
def test_what_does_not_go_together_is_refused(root, capsys, sets):
    options = [word for pair in sets.split() for word in ("--set", pair)]
    capsys.readouterr()
    sentence = f"mine.yaml with --set: {REFUSED[sets]}"
    refuses(root, [*TRAIN, *options], sentence, capsys)


def test_auxiliary_columns_alone_have_no_predictions_to_compare():
    data = {
        "learner": "network",
        "consistency": {"augment": "swap_words"},
        "training": {"auxiliary": 1},
        "stages": [{"auxiliary": 1}, {"auxiliary": 0}],
    }
    with pytest.raises(InputError, match="which auxiliary 1 does not learn"):
        config.validate(NetworkSettings, data, "mine.yaml")


@pytest.mark.parametrize(
    "kind, pool, sentence",
    [
        (
            "regression",
            ["a.csv"],
            "consistency compares probabilities, but this competition is regression: leave it out",
        ),
        (
            "binary",
            [],
            "consistency.texts names the pool, but competition.yaml has no `pool`: name a file there, "
            "or set texts to [test]",
        ),
    ],
)
def test_what_the_competition_does_not_fit(kind, pool, sentence):
    given = {"texts": ["pool"], "augment": "swap_words"}
    checked = config.validate(
        NetworkSettings, {"learner": "network", "consistency": given}, "mine.yaml"
    )
    with pytest.raises(ValueError) as refused:
        checked.check_unlabelled(Kind(kind), pool)
    assert str(refused.value) == sentence


def test_a_transformer_reads_them_too(root, backbone):
    add_preset(root, backbone, "mine", consistency={"texts": ["pool"], "augment": "delete_words"})
    assert foldstack(root, *TRAIN) == 0
    assert Store(root).read_run(KEY).identity.unlabelled is not None
