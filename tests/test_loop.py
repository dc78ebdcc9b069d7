"""The training loop: what a step computes, what it takes in which order, what the options do."""

from __future__ import annotations

import io
import math
import platform
import resource
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch.profiler import ProfilerActivity, profile

from foldstack import progress
from foldstack.errors import InputError
from foldstack.learners import sequence
from foldstack.progress import Progress
from foldstack.records import RunRecord
from foldstack.rows import Rows
from foldstack.store import RunKey, Store
from foldstack.text.batches import epoch_batches, micro_batches, token_batches
from foldstack.training import loop, precision
from foldstack.training.optim import lr_factor
from foldstack.workspace import Workspace
from makers import loop_learner, tiny_rows
from tiny import (
    add_preset,
    foldstack,
    make_workspace,
    refuses,
    run_of,
    train_folds,
    turn_labels,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


def one_step(
    backbone: Path, rows: Rows, chosen: np.ndarray, **training: object
) -> tuple[torch.Tensor, torch.Tensor]:
    """All gradients of one update, and all weights after it, each as one long vector."""
    learner = loop_learner(backbone, weight_decay=0, backbone_dropout=0, **training)
    examples = learner.prepare(rows)
    learner.model.train()
    training = loop.prepare(learner.model, examples, learner.settings.training, learner.accelerator)
    gradients = []
    training.optimizer.optimizer.register_step_pre_hook(
        lambda *_: gradients.append(
            torch.cat([p.grad.flatten().clone() for p in learner.model.parameters()])
        )
    )
    loop.update(training, examples, chosen, epoch=0)
    weights = torch.cat([p.detach().flatten().clone() for p in learner.model.parameters()])
    return gradients[0], weights


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


# One update


@pytest.mark.parametrize("rows_in_update", [21, 8, 5])
def test_accumulation_is_the_large_batch(backbone, rows_in_update):
    """Trap 7: means of unequal micro-batches are not the mean; 8 rows in threes go as 3, 3, 2."""
    rows = tiny_rows(n=21)
    chosen = np.random.default_rng(0).permutation(21)[:rows_in_update]
    gradient, weights = one_step(backbone, rows, chosen, micro_batch_size=0)
    assert gradient.norm() > 0.01
    for size in (1, 3, 8):
        g, w = one_step(backbone, rows, chosen, micro_batch_size=size)
        assert relative(g, gradient) < 1e-6
        assert relative(w, weights) < 1e-6


def test_a_row_of_weight_two_is_the_row_twice(backbone):
    rows = replace(tiny_rows(n=4), weights=np.ones(4))
    heavy, _ = one_step(backbone, replace(rows, weights=np.array([2.0, 1, 1, 1])), np.arange(4))
    twice, _ = one_step(backbone, rows, np.array([0, 0, 1, 2, 3]))
    plain, _ = one_step(backbone, rows, np.arange(4))
    assert relative(heavy, twice) < 1e-6
    assert relative(heavy, plain) > 1e-2


def test_micro_batches_hold_every_row_and_at_most_their_size():
    rows = np.arange(8)
    assert [len(part) for part in micro_batches(rows, 3)] == [3, 3, 2]
    assert [len(part) for part in micro_batches(rows, 5)] == [4, 4]
    assert np.concatenate(micro_batches(rows, 3)).tolist() == rows.tolist()
    assert len(micro_batches(rows, 0)) == 1


def test_clipping_bounds_the_gradient_of_the_whole_update(backbone):
    """Clipped per micro-batch, the sum could be longer than the bound, and point elsewhere."""
    rows = tiny_rows(n=21)
    free, _ = one_step(backbone, rows, np.arange(21), clip=0)
    bounded, _ = one_step(backbone, rows, np.arange(21), clip=0.01, micro_batch_size=3)
    assert free.norm() > 0.02
    assert bounded.norm().item() == pytest.approx(0.01, rel=1e-3)
    assert relative(bounded / bounded.norm(), free / free.norm()) < 1e-5


# Batches


@pytest.mark.parametrize("n", [1, 7, 64, 401, 1000])
def test_an_epoch_takes_every_row_once(n):
    """n = 401 with batches of 8 has a chunk of its own for a single row."""
    lengths = np.random.default_rng(0).integers(3, 60, n)
    batches = epoch_batches(lengths, 8, seed=0, epoch=0)
    assert sorted(np.concatenate(batches)) == list(range(n))
    assert sorted(map(len, batches))[1:] == [8] * (math.ceil(n / 8) - 1)


def test_batches_depend_on_seed_and_epoch_and_on_nothing_else():
    """Trap 6: a resumed run takes the same batches only if they follow from these two."""
    lengths = np.random.default_rng(0).integers(3, 60, 100)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_batches(lengths, 8, seed, epoch)).tolist()

    first = order(0, 0)
    np.random.rand(7)  # another user of numpy's global generator
    assert order(0, 0) == first
    assert len({tuple(order(s, e)) for s in (0, 1) for e in (0, 1)}) == 4


def test_batches_of_similar_length_pad_less():
    lengths = np.random.default_rng(0).integers(3, 128, 2000)

    def padding(batches: list[np.ndarray]) -> float:
        held = sum(lengths[b].max() * len(b) for b in batches)
        return 1 - lengths.sum() / held

    order = np.random.default_rng(1).permutation(2000)
    at_random = padding([order[i : i + 16] for i in range(0, 2000, 16)])
    assert padding(epoch_batches(lengths, 16, 0, 0)) < 0.05 < 0.4 < at_random


def test_batches_do_not_come_in_the_order_of_their_length():
    """Else the run would see short texts at a high rate and long ones at a low one."""
    lengths = np.random.default_rng(0).integers(3, 128, 2000)
    means = [lengths[b].mean() for b in epoch_batches(lengths, 16, 0, 0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.25


# Predictions


def test_predictions_come_back_in_order_and_do_not_know_their_padding(backbone):
    rows = tiny_rows(n=70)  # more than one batch of 64
    learner = loop_learner(backbone)
    learner.prepare(rows)
    torch.nn.init.normal_(learner.model.head.weight)  # predictions that lie far apart
    together = learner.predict(rows)
    one_by_one = np.concatenate([learner.predict(rows.take(np.array([i]))) for i in range(70)])
    assert together.dtype == np.float32
    assert np.ptp(one_by_one) > 0.1
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)


def test_a_batch_of_predictions_has_so_many_tokens_at_most_the_longest_first():
    """Memory then peaks at once and not after an hour; a row beyond the budget is a batch."""
    batches = token_batches(np.array([3, 9, 5, 7, 30, 3]), 16)
    assert [b.tolist() for b in batches] == [[4], [1], [3], [2], [0, 5]]
    lengths = np.random.default_rng(0).integers(1, 128, 500)
    batches = token_batches(lengths, 512)
    assert sorted(np.concatenate(batches)) == list(range(500))
    assert max(len(b) * lengths[b].max() for b in batches) <= 512
    padded = sum(len(b) * lengths[b].max() for b in batches)
    assert padded / lengths.sum() - 1 < 0.02
    assert len(batches) < 2 * padded / 512


def test_what_the_network_reads_alike_is_computed_once(backbone, monkeypatch):
    """Repeated texts get the very same prediction; another feature or token makes another row."""
    learner, rows = loop_learner(backbone), tiny_rows(n=6)
    learner.prepare(rows)
    repeated = rows.take(np.array([4, 0, 4, 1, 0, 4]))
    plain = learner.predict(rows)
    seen, forward = [], learner.model.forward
    monkeypatch.setattr(
        learner.model,
        "forward",
        lambda **batch: seen.append(batch["input_ids"]) or forward(**batch),
    )
    predicted = learner.predict(repeated)
    assert sum(map(len, seen)) == 3
    assert (predicted[[0, 1]] == predicted[[2, 4]]).all()
    np.testing.assert_allclose(predicted, plain[[4, 0, 4, 1, 0, 4]], atol=1e-6)
    tokens = learner.encoder.tokens(repeated)
    assert [a.tolist() for a in tokens.distinct()] == [[0, 1, 3], [0, 1, 0, 2, 1, 0]]
    told_apart = replace(
        tokens, features=np.array([[0], [1], [0], [2], [3], [4]], dtype=np.float32)
    )
    assert told_apart.distinct()[0].tolist() == [0, 1, 3, 4, 5]
    types = np.zeros(len(tokens.flat), dtype=np.int8)
    types[-1] = 1
    assert replace(tokens, types=types).distinct()[0].tolist() == [0, 1, 3, 5]


def test_weights_are_cast_to_a_lower_precision_once_and_give_the_same(backbone, monkeypatch):
    """Autocast casts them anew for each batch: here one row each. Bytes are the same."""
    monkeypatch.setattr(loop, "batch_tokens", lambda device: 1)
    learner, rows = loop_learner(backbone, precision="bf16"), tiny_rows(n=12)
    learner.prepare(rows)
    torch.nn.init.normal_(learner.model.head.weight)
    before = learner.model.backbone.encoder.layer[0].intermediate.dense.weight.clone()

    def casts() -> tuple[np.ndarray, int]:
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as events:
            raw = learner.predict(rows)
        copies = (e for e in events.events() if e.name == "aten::_to_copy")
        return raw, sum(e.input_shapes[:1] == [list(before.shape)] for e in copies)

    raw, once = casts()
    assert (learner.model.backbone.encoder.layer[0].intermediate.dense.weight == before).all()
    monkeypatch.setattr(sequence, "cast_once", lambda backbone, precision: nullcontext())
    by_autocast, each_time = casts()
    assert (once, each_time) == (2, 12 * 2)  # two layers have such a weight
    assert raw.tobytes() == by_autocast.tobytes()
    full = loop_learner(backbone)
    full.prepare(rows)
    full.model.load_state_dict(learner.model.state_dict())
    assert 0 < np.abs(full.predict(rows) - raw).max() < 0.05


def test_dropout_is_off_in_prediction(backbone):
    learner = loop_learner(backbone, dropout=0.5)
    rows = tiny_rows(n=8)
    learner.prepare(rows)
    learner.model.train()
    assert (learner.predict(rows) == learner.predict(rows)).all()


# A loss that is lost


class Exploding(torch.nn.Module):
    """One weight whose loss is not a number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, 1))

    def forward(self, input_ids, attention_mask, pooled):
        raw = self.weight * torch.full((len(input_ids), 1), torch.nan)
        return raw, raw


def test_a_loss_that_is_not_finite_is_refused(backbone, tmp_path):
    learner = loop_learner(backbone)
    examples = learner.prepare(tiny_rows(n=21))
    with pytest.raises(InputError) as e:
        loop.train(
            Exploding(),
            examples,
            learner.settings.training,
            learner.accelerator,
            seed=0,
            folder=tmp_path,
            checkpoint_seconds=60,
        )
    assert str(e.value) == (
        "the loss is nan at update 3: lower training.lr, raise training.warmup, or set "
        "training.precision=fp32"
    )


# Which epoch's weights


def select_run(root: Path, select: str, backbone: Path, **training: object) -> RunRecord:
    training = {"select": select, "epochs": 3} | training
    add_preset(root, backbone, training=training, checkpoint_seconds=60)
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0
    return Store(root).read_run(RunKey("tiny", 0, (0,)))


def test_select_takes_the_best_epochs_weights_exactly(backbone, tmp_path):
    """The scores are given: epoch 2 is the best, and 3 ties with it but comes later."""
    learner, rows = loop_learner(backbone, epochs=4), tiny_rows(n=21)
    examples = learner.prepare(rows)
    scores, seen = iter([0.1, 0.9, 0.9, 0.3]), []

    def evaluate(net: torch.nn.Module) -> loop.EpochScore:
        seen.append(loop.predict(net, examples.tokens, learner.accelerator.device))
        score = next(scores)
        return loop.EpochScore(score, -score)

    facts = loop.train(
        learner.model,
        examples,
        learner.settings.training,
        learner.accelerator,
        seed=0,
        folder=tmp_path,
        checkpoint_seconds=60,
        evaluate=evaluate,
    )
    assert facts["best_epoch"] == 2
    assert facts["epoch_scores"] == [0.1, 0.9, 0.9, 0.3]
    assert facts["epoch_metric"] == [-0.1, -0.9, -0.9, -0.3]
    assert len({s.tobytes() for s in seen}) == 4
    assert learner.predict(rows).tobytes() == seen[1].tobytes()


@pytest.fixture
def folded(tmp_path: Path) -> Path:
    """90 rows in three folds."""
    root = make_workspace(tmp_path / "w", n=90, runtime={"threads": 1})
    assert foldstack(root, "folds") == 0
    return root


def test_select_last_holds_nothing_back(folded, backbone):
    run = select_run(folded, "last", backbone)
    assert (run.rows, run.optimistic) == (60, [])
    assert "best_epoch" not in run.facts


def test_select_inner_holds_back_a_tenth_and_never_sees_the_fold(folded, backbone):
    """Trap 13: turning round every label of the held-out fold changes no byte of what it predicts.

    The labels of the fold do stand in the run's identity, so it is the prediction that is compared.
    """
    run = select_run(folded, "inner", backbone)
    assert (run.rows, run.optimistic) == (54, [])
    assert len(run.facts["epoch_scores"]) == 3
    predicted = Store(folded).run_dir(RunKey("tiny", 0, (0,))) / "test.parquet"
    before = load_file(predicted.parent / "model/classifier.safetensors")

    folds = (folded / "folds/folds.csv").read_text().splitlines()[1:]
    held = {line.split(",")[0] for line in folds if line.endswith(",0")}
    assert len(held) == 30
    turn_labels(folded, held)
    assert foldstack(folded, "train", "--model", "tiny", "--fold", "0", "--force") == 0
    again = Store(folded).read_run(RunKey("tiny", 0, (0,)))
    assert again.facts["epoch_scores"] == run.facts["epoch_scores"]
    assert again.score == pytest.approx(1 - run.score)
    after = load_file(predicted.parent / "model/classifier.safetensors")
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_epoch_may_be_chosen_by_another_metric(folded, backbone):
    """The run itself is scored by the competition's. Of errors, the least is the best."""
    run = select_run(folded, "fold", backbone, select_by="accuracy")
    ws = Workspace.open(folded, [])
    rows, folds = ws.competition.train, ws.store.read_folds(ws.competition.train)
    held = rows.take(folds.held_out((0,)))
    raw = ws.store.read_predictions(RunKey("tiny", 0, (0,)), "heldout", held).raw
    accuracy = ((raw > 0) == held.targets).mean()
    assert max(run.facts["epoch_scores"]) == pytest.approx(accuracy)
    assert run.score == pytest.approx(roc_auc_score(held.targets[:, 0], raw[:, 0]))
    assert run.facts["epoch_metric"][run.facts["best_epoch"] - 1] == run.score

    assert foldstack(folded, "clean", "oof") == 0
    run = select_run(folded, "fold", backbone, select_by="log_loss")
    assert max(run.facts["epoch_scores"]) < 0


def test_inner_keeps_groups_whole(folded, backbone):
    """A text that stands on both sides would let memorising choose the epoch."""
    from foldstack.stages.learned import rows_of

    train = folded / "input/train.csv"
    lines = train.read_text().splitlines()
    texts = [line.split(",")[1] for line in lines]
    doubled = [lines[0]]
    for i, line in enumerate(lines[1:], 1):  # every text twice, in two ways of writing
        id_, _, label = line.split(",")
        doubled.append(f"{id_},{texts[i] if i % 2 else texts[i - 1].upper()},{label}")
    train.write_text("\n".join(doubled) + "\n")
    assert foldstack(folded, "folds", "--force") == 0
    add_preset(folded, backbone, training={"select": "inner"})
    learned, held, select, _ = rows_of(*run_of(folded))
    assert len(learned) + len(select) + len(held) == 90
    assert len(select) == pytest.approx(len(learned) / 9, abs=2)
    groups = [set(rows.groups) for rows in (learned, held, select)]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_select_fold_marks_the_run_and_all_that_is_made_of_it(folded, backbone, capsys):
    run = select_run(folded, "fold", backbone)
    reason = "the epoch was chosen on the held-out fold"
    assert (run.rows, run.optimistic) == (60, [reason])
    assert run.score == max(run.facts["epoch_scores"])
    assert f"tiny seed 0 fold0: OPTIMISTIC, {reason}\n" in capsys.readouterr().out
    train_folds(folded, "--model", "tiny")
    assert foldstack(folded, "blend", "--model", "tiny") == 0
    assert Store(folded).read_blend("blend").optimistic == [f"tiny: {reason}"]


def test_select_fold_wants_a_fold(folded, backbone, capsys):
    add_preset(folded, backbone, training={"select": "fold"})
    refuses(
        folded,
        ["train", "--model", "tiny", "--fold", "full"],
        "tiny seed 0 full: training.select=fold chooses the epoch on the held-out fold, but a full "
        "run holds none out: use select=last or inner",
        capsys,
    )


def test_a_metric_that_is_undefined_where_the_epoch_is_chosen(backbone, tmp_path):
    """roc_auc of one class is nan, and nan is the best epoch of none."""
    rows = tiny_rows(n=24)
    one_class = rows.take(np.flatnonzero(rows.targets[:, 0] == 1)[:3])
    learner = loop_learner(backbone, select="inner")
    with pytest.raises(InputError) as e:
        learner.fit(rows, one_class, tmp_path)
    assert str(e.value) == (
        "roc_auc is undefined on the 3 rows that training.select=inner chooses the epoch by: use "
        "select=last, or a metric that is defined there"
    )


# What differs from step to step, and from seed to seed


class Look(NamedTuple):
    """What a step is given: its rows, the next random number, the rate."""

    rows: tuple[int, ...]
    chance: float
    lr: float


def looks(backbone: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> list[Look]:
    """What each of the three steps of two epochs would be given."""
    seen = []

    def look(training: loop.Training, examples: loop.Examples, rows: np.ndarray, *_: object):
        seen.append(
            Look(tuple(rows), torch.rand(1).item(), training.optimizer.param_groups[0]["lr"])
        )
        return torch.zeros(())

    monkeypatch.setattr(loop, "update", look)
    folder.mkdir()
    loop_learner(backbone, seed, epochs=2).fit(tiny_rows(n=21), None, folder)
    return seen


def test_every_step_has_rows_and_chance_of_its_own_and_the_rate_of_the_schedule(
    backbone, tmp_path, monkeypatch
):
    """Guards dropout drawn alike in all steps, one order for all epochs, and a rate cut twice."""
    seen = looks(backbone, tmp_path / "one", monkeypatch, seed=0)
    assert len({look.chance for look in seen}) == 6
    first, second = (sorted(look.rows for look in part) for part in (seen[:3], seen[3:]))
    assert first != second
    assert sorted(sum(first, ())) == sorted(sum(second, ())) == list(range(21))
    settings = loop_learner(backbone).settings.training
    factors = [lr_factor(step, 6, 3, settings.warmup, settings.schedule) for step in range(6)]
    assert [look.lr for look in seen] == pytest.approx([1e-3 * factor for factor in factors])
    assert 0 < seen[-1].lr < seen[2].lr
    other = looks(backbone, tmp_path / "other", monkeypatch, seed=1)
    assert not {look.chance for look in seen} & {look.chance for look in other}
    assert [look.rows for look in seen] != [look.rows for look in other]


def test_each_seed_draws_a_head_of_its_own(backbone):
    """On the same backbone."""
    one, again, other = (loop_learner(backbone, seed) for seed in (0, 0, 1))
    for learner in (one, again, other):
        learner.prepare(tiny_rows(n=21))
    weights = [learner.model.state_dict() for learner in (one, again, other)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])
        drawn = not name.startswith("backbone.") and tensor.ndim > 1
        assert torch.equal(tensor, weights[2][name]) != drawn


# Every option does something


def fitted(backbone: Path, folder: Path, **settings: object) -> np.ndarray:
    """What the tiny model predicts after training with these settings over the defaults."""
    folder.mkdir()
    learner = loop_learner(backbone, **settings)
    learner.fit(tiny_rows(n=40), None, folder)
    return learner.predict(tiny_rows(n=40))


@pytest.fixture(scope="module")
def plain(backbone, tmp_path_factory) -> np.ndarray:
    return fitted(backbone, tmp_path_factory.mktemp("plain") / "run")


@pytest.mark.parametrize(
    "option",
    [
        {"epochs": 2},
        {"batch_size": 16},
        {"lr": 2e-3},
        {"weight_decay": 0.5},
        {"warmup": 0.5},
        {"schedule": "cosine"},
        {"clip": 0.05},
        {"max_length": 5},
        {"precision": "bf16"},
        {"prefix": "good: "},
        {"dropout": 0.5},
        {"backbone_dropout": 0.0},
        {"seed": 1},
    ],
    ids=str,
)
def test_each_option_changes_the_predictions(backbone, plain, tmp_path, option):
    """An option that is read and then forgotten is worse than none."""
    assert np.abs(fitted(backbone, tmp_path / "run", **option) - plain).max() > 1e-6


def test_the_same_settings_give_the_same_bytes(backbone, plain, tmp_path):
    assert fitted(backbone, tmp_path / "run").tobytes() == plain.tobytes()


def test_micro_batches_are_used_and_change_nothing(backbone, tmp_path, monkeypatch):
    """Without dropout, that is: what it draws depends on the shape of a batch."""
    sizes: list[int] = []

    real = loop.MicroBatch.loss

    def watched(part: loop.MicroBatch) -> torch.Tensor:
        sizes.append(len(part.targets))
        return real(part)

    monkeypatch.setattr(loop.MicroBatch, "loss", watched)
    predicted = []
    for micro, largest in ((0, 8), (3, 3)):
        options = {"lr": 1e-4, "backbone_dropout": 0, "micro_batch_size": micro}
        predicted.append(fitted(backbone, tmp_path / str(micro), **options))
        assert max(sizes) == largest
        sizes.clear()
    np.testing.assert_allclose(*predicted, atol=1e-5)


def test_checkpoint_seconds_spaces_the_checkpoints(backbone, tmp_path, monkeypatch):
    """0: after every update, with the last two kept; 60: none in a run of a second."""
    learner, rows = loop_learner(backbone), tiny_rows(n=40)
    for seconds, kept in ((0, ["step-00000004", "step-00000005"]), (60, [])):
        learner.settings = learner.settings.model_copy(update={"checkpoint_seconds": seconds})
        folder = tmp_path / str(seconds)
        folder.mkdir()
        learner.fit(rows, None, folder)
        assert sorted(p.name for p in folder.iterdir()) == kept


# The machine


def test_denormals_are_flushed():
    """Trap 10: a moment of 1e-39 slows a step several times over, and is as good as zero."""
    torch.set_flush_denormal(False)
    small = torch.full((4,), 1e-38)
    assert (small / 10 > 0).all()
    precision.prepare_cpu(1)
    assert (small / 10 == 0).all()
    assert torch.get_num_threads() == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_a_large_array_takes_the_memory_that_the_last_one_left():
    """glibc alone would map 64 MiB anew each time, all 16,384 pages of them."""
    precision.prepare_cpu(1)
    faults = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(1 << 24)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults) < 1000


@pytest.mark.parametrize("fast, chosen", [(False, "fp32"), (True, "bf16")])
def test_auto_takes_bf16_only_where_the_processor_multiplies_it(monkeypatch, fast, chosen):
    """Emulated bf16 is many times slower than fp32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: fast, raising=False)
    assert precision.choose_precision("auto") == chosen
    assert precision.choose_precision("fp32") == "fp32"
    assert precision.choose_precision("bf16") == "bf16"


def test_fp16_without_an_accelerator_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError) as e:
        precision.choose_precision("fp16")
    assert str(e.value) == (
        "training.precision=fp16 requires an accelerator and this machine has none: use auto, fp32 "
        "or bf16"
    )


# Progress


def test_progress_off_a_terminal_is_sparse_plain_lines(monkeypatch):
    """A log of a thousand carriage returns helps nobody: a line each 30 s, and one at the end."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with Progress("training", 8, "updates", stream=out) as shown:
        for _ in range(8):
            now[0] += 10.0
            shown.add(1, loss=0.5)
    assert out.getvalue().splitlines() == [
        "training: 3/8 updates (6.0/min, 0:50 left) loss 0.5000",
        "training: 6/8 updates (6.0/min, 0:20 left) loss 0.5000",
        "training: 8/8 updates (6.0/min, 0:00 left) loss 0.5000",
    ]


def test_short_work_prints_nothing():
    out = io.StringIO()
    with Progress("training", 3, "updates", stream=out) as shown:
        for _ in range(3):
            shown.add()
    assert out.getvalue() == ""


def test_a_resumed_bar_counts_from_where_it_was(monkeypatch):
    """The rate is of this process: 3 updates in 30 s, not 53."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    shown = Progress("training", 100, "updates", start=50, stream=out)
    now[0] = 30.0
    shown.add(3)
    assert out.getvalue() == "training: 53/100 updates (6.0/min, 7:50 left)\n"
