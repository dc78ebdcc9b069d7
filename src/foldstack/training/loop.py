"""The training loop: one function, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn

from foldstack import parallel
from foldstack.errors import InputError
from foldstack.interrupt import STOP
from foldstack.nets.device import to_device
from foldstack.nets.mixup import Mixup
from foldstack.nets.trainable import Trainable
from foldstack.progress import Progress, say
from foldstack.techniques import Consistency, Distillation, LoopSettings
from foldstack.text.batches import (
    Sequences,
    epoch_batches,
    micro_batches,
    mixed_batches,
    shared_out,
    token_batches,
)
from foldstack.tracking import Log
from foldstack.training import checkpoint
from foldstack.training.attacks import Attack, make_attack
from foldstack.training.criteria import Criterion
from foldstack.training.graphs import Graphs
from foldstack.training.micro_batch import MicroBatch, TrainingObjective, UnlabelledPart
from foldstack.training.optim import (
    layer_rates,
    load_state_tensors,
    lr_factor,
    make_optimizer,
    state_tensors,
)
from foldstack.training.precision import batch_tokens, padding_multiple
from foldstack.training.samplers import sampled_rows
from foldstack.training.sharding import is_sharded, sharded_copy
from foldstack.training.threads import parallel_map
from foldstack.training.unlabelled import TextPairs, Unlabelled
from foldstack.training.weight_averaging import WeightAverage, greedy_soup, make_averaging

MOST_POINTS = 200  # maximum length of the loss curve
LOSS_EVERY = 20  # updates between two reads of the loss, each of which waits for the device


@dataclass(frozen=True)
class Examples:
    """Tokens of n rows with their (n, outputs) soft targets, (n,) weights, and the link.

    auxiliary: (n, a) auxiliary targets in 0 … 1, NaN if unknown, if a stage learns them.
    difficulty: (n,) losses of an earlier run, for sampling of hard rows.
    pseudo: (n,) whether a row has been labelled by teachers; None if no row has.
    taught: (n, outputs) probabilities of teachers at the temperature of distil, NaN without one.
    distil: how they are learned.
    """

    tokens: Sequences
    targets: Tensor
    weights: Tensor
    link: str
    auxiliary: Tensor | None = None
    difficulty: np.ndarray | None = None
    pseudo: np.ndarray | None = None
    taught: Tensor | None = None
    distil: Distillation | None = None

    def take(self, rows: np.ndarray) -> Examples:
        """Return these rows, which may repeat."""
        some = Taken(self.tokens, rows)
        return replace(
            self,
            tokens=some,
            targets=self.targets[rows],
            weights=self.weights[rows],
            auxiliary=None if self.auxiliary is None else self.auxiliary[rows],
            difficulty=None if self.difficulty is None else self.difficulty[rows],
            pseudo=None if self.pseudo is None else self.pseudo[rows],
            taught=None if self.taught is None else self.taught[rows],
        )


@dataclass(frozen=True)
class Taken:
    """Some of the sequences, by number, without a copy."""

    of: Sequences
    rows: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return self.of.lengths[self.rows]

    def batch(self, rows: np.ndarray, multiple: int = 1) -> dict[str, Tensor]:
        return self.of.batch(self.rows[rows], multiple)


class EpochScore(NamedTuple):
    """Score of an epoch's weights: larger is better and selects; metric: the competition's."""

    chooses: float
    metric: float


@dataclass(frozen=True)
class Training:
    """A model and everything that an update of it needs.

    model: the network, or a copy whose weights are shared out over processes. net: the model wrapped
    by accelerate, which averages gradients over processes; passes without gradients use the model
    itself. graphs: by the adversary's phase, on a GPU; not with unlabelled rows, whose lengths would
    make a graph of nearly every update. reached: (2,) the predictions of unlabelled texts in this
    process and epoch that reach the confidence of consistency, and all.
    """

    model: Trainable
    net: nn.Module
    optimizer: torch.optim.Optimizer
    objective: TrainingObjective
    adversary: Attack
    averaging: WeightAverage
    settings: LoopSettings
    accelerator: Accelerator
    graphs: dict[bool, Graphs] | None
    reached: Tensor

    def backward(self, part: MicroBatch, epoch: float) -> Tensor:
        """Add the gradient of this micro-batch; return its loss, valid until the next call."""
        run = partial(self.adversary.backward, backward=self.accelerator.backward, epoch=epoch)
        if self.graphs is None or part.unlabelled is not None:
            return run(part)
        phase = self.adversary.attacks(epoch)
        if phase not in self.graphs:
            self.graphs[phase] = Graphs(run)
        return self.graphs[phase](part)


def prepare(
    model: Trainable,
    examples: Examples,
    settings: LoopSettings,
    accelerator: Accelerator,
    criterion: Criterion | None = None,
    *,
    sharded: bool = False,
) -> Training:
    """Return the training state of this network and these rows, as the settings say.

    Args:
        model: the network.
        examples: n training rows.
        settings: of the loop.
        accelerator: of this process.
        criterion: used instead of the settings' loss.
        sharded: share the weights, gradients and optimiser state out over the processes.

    Raises:
        InputError: the network lacks a part that a setting requires, or a setting cannot be split
            over several processes.
    """
    check_network(model, settings)
    if settings.contrastive and accelerator.num_processes > 1:
        raise InputError(
            "training.contrastive compares the rows of a whole update, which "
            f"{accelerator.num_processes} processes would split: train it in one process"
        )
    if accelerator.num_processes > 1:
        with accelerator.autocast():  # frozen weights may be in half precision
            _freeze_unused(model, examples)
    if sharded:
        rates = layer_rates(model, settings)
        model = sharded_copy(model, accelerator.device)
        optimizer = accelerator.prepare(make_optimizer(model, settings, rates=rates))
        # Nothing but autocast.
        net = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    else:
        # CUDA graphs and the mean over processes take dense gradients only.
        sparse = accelerator.device.type == "cpu" and accelerator.num_processes == 1
        net, optimizer = accelerator.prepare(model, make_optimizer(model, settings, sparse))
    adversary = make_attack(settings.adversary, model)
    if criterion is None:
        of = (examples.targets.to(accelerator.device), examples.weights.to(accelerator.device))
        objective = TrainingObjective.of(settings, *of, examples.link, examples.distil)
    else:
        objective = TrainingObjective(criterion, settings, examples.link)
    return Training(
        model,
        net,
        optimizer,
        objective,
        adversary,
        make_averaging(settings.averaging, model),
        settings,
        accelerator,
        {} if _allows_graphs(accelerator, adversary, settings) else None,
        torch.zeros(2, device=accelerator.device),
    )


def check_network(network: Trainable, settings: LoopSettings) -> None:
    """Raise InputError if a setting requires a part that the network lacks."""
    for setting, part in settings.requirements():
        if part not in network.parts:
            raise InputError(
                f"training.{setting} requires {part}, and {network.body_name} has none: leave it out"
            )


def _allows_graphs(accelerator: Accelerator, adversary: Attack, settings: LoopSettings) -> bool:
    """Whether no step reads a value first: fp16's overflow, other processes' results, random states."""
    on_gpu = accelerator.device.type == "cuda" and accelerator.num_processes == 1
    reads_none = accelerator.scaler is None and not settings.recomputes
    return on_gpu and reads_none and adversary.capturable


def _freeze_unused(model: nn.Module, examples: Examples) -> None:
    """Freeze weights without effect on the outputs; processes would wait for their gradients.

    They would get no gradient, and no optimiser updates a weight without one.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    inputs = to_device(examples.tokens.batch(np.arange(1)), trained[0].device)
    logits, *_ = model.train()(**inputs, pooled=True)
    gradients = torch.autograd.grad(logits.sum(), trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def train(
    model: Trainable,
    examples: Examples,
    settings: LoopSettings,
    accelerator: Accelerator,
    *,
    seed: int,
    folder: Path,
    checkpoint_seconds: float,
    evaluate: Callable[[nn.Module], EpochScore] | None = None,
    of_epoch: Callable[[int], Examples] | None = None,
    ratio: float | None = None,
    unlabelled: Unlabelled | None = None,
    criterion: Criterion | None = None,
    what: str = "training",
    log: Log | None = None,
    sharded: bool = False,
) -> dict:
    """Train `model` in place; resume from the newest checkpoint in `folder`, if there is one.

    All randomness depends on seed, step and process only, so that a resumed run takes identical
    steps. Several processes divide each update's rows among them.

    Args:
        model: the network; it has the last or best weights afterwards.
        examples: n training rows.
        settings: of the loop.
        accelerator: of this process.
        seed: of all randomness.
        folder: of checkpoints.
        checkpoint_seconds: minimum time between two checkpoints.
        evaluate: scores the model after each epoch, and the best epoch's weights are used; without
            it, the last ones.
        of_epoch: from an epoch (from 0) to its examples, always the same number of rows, before
            `settings.sampling`; default: `examples` in each.
        ratio: pseudo-labelled rows per other row in each update; default: each row once in an epoch.
        unlabelled: rows for consistency training.
        criterion: used instead of the settings' loss.
        what: name of the work, for progress lines.
        log: of the running loss and the learning rate, and of each epoch's metric.
        sharded: share the weights, gradients and optimiser state out over the processes; `model` is
            the same afterwards.

    Returns:
        Facts for run.json: `updates`, `training_seconds`; `losses`, at most 200 points [update,
            running mean of the training loss]; with `evaluate` also `epoch_scores` (larger is
            better), `epoch_metric` and `best_epoch`.

    Raises:
        InputError: the loss is no longer finite, or the network lacks what a setting requires.
        Interrupted: a signal arrived; the newest checkpoint is that of the last update.
    """
    training = prepare(model, examples, settings, accelerator, criterion, sharded=sharded)
    net, optimizer, averaging = training.model, training.optimizer, training.averaging
    of_epoch = lru_cache(maxsize=1)(_sampled(of_epoch or (lambda epoch: examples), settings, seed))
    current = of_epoch(0)
    per_epoch = len(batches_of(current, settings, ratio, seed, 0))
    total = per_epoch * settings.epochs
    curve = LossCurve(total)
    step, scores, seconds = _restore(training, curve, folder)
    begin = time.monotonic() - seconds
    saved_at, patience = time.monotonic(), checkpoint_seconds
    batches: list[np.ndarray] = []
    beside: list[TextPairs | None] = []
    shown: dict[str, float] = {}

    with STOP.deferred(), Progress(what, total, "updates", start=step) as progress:
        while True:
            epoch, position = divmod(step, per_epoch)
            if position == 0 and epoch > 0:  # no checkpoint until the next update
                averaging.after_epoch(net, epoch, settings.epochs)
                if evaluate:
                    with averaging.applied(net):
                        scores.append(evaluate(net))
                        if epoch == _best(scores) or settings.mixes_epochs:
                            checkpoint.save_weights(net.learned(), _epoch_file(folder, epoch))
                    say(f"epoch {epoch}: {scores[-1].metric:.4f}")
                    if log:
                        log({"metric": scores[-1].metric}, step)
                if step == total or _out_of_patience(scores, settings.patience):
                    break
            if position == 0:
                training.reached.zero_()
            if not batches or position == 0:
                current = of_epoch(epoch)
                batches = batches_of(current, settings, ratio, seed, epoch)
                beside = [None] * per_epoch
                if unlabelled:
                    longest = [int(current.tokens.lengths[rows].max()) for rows in batches]
                    beside = unlabelled.of_epoch(longest, settings.batch_size, epoch)

            factor = lr_factor(
                step, total, per_epoch, settings.warmup, settings.schedule, _choosing(scores)
            )
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            training.net.train()
            torch.manual_seed(_step_seed(seed, step, accelerator.process_index))
            rows, pairs = batches[position], beside[position]
            loss = update(training, current, rows, step / per_epoch, pairs)
            averaging.after_update(net)
            step += 1

            if accelerator.num_processes > 1:
                loss = accelerator.reduce(loss, "mean")
            curve.add(step, loss)
            if step % LOSS_EVERY == 0 or step == total:
                shown = {"loss": _finite(curve.running, step)}
                if log:
                    log(shown | {"lr": settings.lr * factor}, step)
            progress.add(1, **shown)
            stop = STOP.should_stop()
            if stop or time.monotonic() - saved_at >= patience:
                took = _save(training, curve, folder, step, scores, time.monotonic() - begin)
                # At most a twentieth of the time is spent on checkpoints, whatever their size.
                saved_at, patience = time.monotonic(), max(checkpoint_seconds, 20 * took)
                if checkpoint_seconds == 0:
                    patience = 0.0
            if stop:
                parallel.barrier()  # so that the checkpoint is complete
                say(f"stopped after update {step} of {total}: the same command resumes from here")
                STOP.check(is_said=True)

    parallel.barrier()  # until the weights of the last epoch are written
    chosen = _choose(training, model, scores, folder, evaluate)
    if sharded:
        accelerator.free_memory()  # of the copy and its optimiser
    facts = {"updates": step, "training_seconds": round(time.monotonic() - begin, 2)}
    facts |= {"losses": curve.points()} | chosen
    return facts | _confident(training, unlabelled.settings) if unlabelled else facts


def _confident(training: Training, settings: Consistency) -> dict[str, float]:
    """Log and return the share of the last epoch's predictions that have reached the confidence."""
    reached, read = _over_processes(training).tolist()
    wanted = f"confidence {settings.confidence:g} in the last epoch"
    if not reached:
        say(
            f"consistency: no prediction of an unlabelled text reached {wanted}, so that nothing was "
            "learned of them: lower consistency.confidence"
        )
    elif settings.confidence:
        say(
            f"consistency: {reached / read:.1%} of the unlabelled texts' predictions reached {wanted}"
        )
    return {"confident_share": round(reached / read, 6) if read else 0.0}


def _over_processes(training: Training) -> Tensor:
    """Return the mean of `reached` over processes."""
    if training.accelerator.num_processes == 1:
        return training.reached
    return training.accelerator.reduce(training.reached, "mean")


class LossCurve:
    """The running mean of the training loss, and its value at evenly spaced updates.

    Only `points` and `state` read values from an accelerator. All processes add the same losses, so
    that the main process's state is valid for all.
    """

    def __init__(self, total: int):
        self.every = math.ceil(total / MOST_POINTS)
        self.total = total
        self.running: Tensor | None = None
        self.at: list[int] = []
        self.values: list[Tensor] = []

    def add(self, step: int, loss: Tensor) -> None:
        """Count the loss of update `step` (from 1)."""
        self.running = loss if self.running is None else 0.98 * self.running + 0.02 * loss
        if step % self.every == 0 or step == self.total:
            self.at.append(step)
            self.values.append(self.running)

    def points(self) -> list[list[float]]:
        """Return [update, running mean], the mean to six digits."""
        values = torch.stack(self.values).tolist() if self.values else []
        return [[step, float(f"{value:.6g}")] for step, value in zip(self.at, values, strict=True)]

    def state(self) -> dict:
        """Return the state for a checkpoint, as JSON."""
        values = [float(v) for v in (self.running, *self.values) if v is not None]
        return {"running": values[:1], "at": list(self.at), "values": values[1:]}

    def load(self, state: dict, device: torch.device) -> None:
        """Load what `state` returned."""
        running, *values = torch.tensor([*state["running"], *state["values"]], device=device)
        self.running, self.at, self.values = running, list(state["at"]), values


def _sampled(
    of_epoch: Callable[[int], Examples], settings: LoopSettings, seed: int
) -> Callable[[int], Examples]:
    """Return a function from the epoch to its examples, sampled as the settings say."""
    if settings.sampling is None:
        return of_epoch

    def drawn(epoch: int) -> Examples:
        given = of_epoch(epoch)
        targets = given.targets.numpy()
        rows = sampled_rows(settings.sampling, targets, given.difficulty, seed, epoch)
        return given.take(rows)

    return drawn


def batches_of(
    examples: Examples, settings: LoopSettings, ratio: float | None, seed: int, epoch: int
) -> list[np.ndarray]:
    """Return the row numbers of each update of an epoch, see `train`."""
    lengths, size = examples.tokens.lengths, settings.batch_size
    if ratio is None or examples.pseudo is None:
        return epoch_batches(lengths, size, seed, epoch)
    return mixed_batches(lengths, examples.pseudo, ratio, size, seed, epoch)


def update(
    training: Training,
    examples: Examples,
    rows: np.ndarray,
    epoch: float,
    pairs: TextPairs | None = None,
) -> Tensor:
    """Take one optimiser step on these rows; return their weighted mean loss.

    Each row counts by its share of the update's total weight, so that micro-batches of any size, a
    short last one included, add up to the gradient of the large batch. Each of several processes
    takes its share of the rows, and the mean over processes is the loss. No value is read from an
    accelerator, which would wait for its pending work.

    Args:
        training: the model and its optimiser.
        examples: n training rows.
        rows: (b,) numbers of the update's rows.
        epoch: number of finished epochs, fractional.
        pairs: unlabelled rows, which micro-batches and processes divide as they divide `rows`.

    Returns:
        The loss, a scalar on the device.
    """
    settings, accelerator = training.settings, training.accelerator
    device, processes = accelerator.device, accelerator.num_processes
    # Divided by the number of processes, since DDP averages gradients.
    total_weight = to_device(examples.weights[rows].sum().clamp(min=1e-12) / processes, device)
    update_loss = torch.zeros((), device=device)
    parts = micro_batches(rows, settings.micro_batch_size, processes, accelerator.process_index)
    for number, own in enumerate(parts):
        some = (
            own if len(own) else rows[:1]
        )  # of zero weight: all processes need the same number of passes
        part = MicroBatch(
            training.objective,
            training.net,
            to_device(examples.tokens.batch(some, padding_multiple(device)), device),
            to_device(examples.targets[some], device),
            to_device(examples.weights[some] * (len(own) > 0), device),
            total_weight,
            Mixup.draw(len(some), settings.mixup, device) if settings.mixup else None,
            to_device(examples.auxiliary[some], device) if settings.auxiliary else None,
            pairs and unlabelled_part(pairs, number, len(parts), accelerator, training.reached),
            None if examples.taught is None else to_device(examples.taught[some], device),
        )
        update_loss += training.backward(part, epoch)
    if settings.clip:
        accelerator.clip_grad_norm_(training.net.parameters(), settings.clip)
    training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=training.graphs is None)
    return update_loss


def unlabelled_part(
    pairs: TextPairs,
    number: int,
    parts: int,
    accelerator: Accelerator,
    reached: Tensor | None = None,
) -> UnlabelledPart:
    """Return the unlabelled rows beside a micro-batch.

    Args:
        pairs: u rows of the update.
        number: of the micro-batch in this process, from 0.
        parts: micro-batches per process.
        accelerator: of this process.
        reached: counts predictions that reach the confidence, see `UnlabelledPart`.
    """
    processes, device = accelerator.num_processes, accelerator.device
    rows = np.arange(len(pairs.rows))
    own = shared_out(rows, parts, processes, accelerator.process_index)[number]
    some = pairs.take(own if len(own) else np.arange(1))
    multiple = padding_multiple(device)
    return UnlabelledPart(
        pairs.settings,
        to_device(pairs.texts.batch(some.rows, multiple), device),
        to_device(pairs.changed.batch(some.of_changed, multiple), device),
        to_device(torch.full((len(some.rows),), float(len(own) > 0)), device),
        len(pairs.rows) / processes,  # since DDP averages gradients
        reached,
    )


def predict(net: nn.Module, tokens: Sequences, device: torch.device, what: str = "") -> np.ndarray:
    """Return (n, outputs) float32 logits in the order of the tokens, computed longest first.

    They stay on the device until the last batch. Several processes share the batches, and each
    returns all rows.

    Args:
        net: the network.
        tokens: n sequences.
        device: of the network.
        what: name of the rows, for the progress line.
    """
    net.eval()
    n, out = len(tokens.lengths), None
    batches = token_batches(tokens.lengths, batch_tokens(device))
    own, together = parallel.shard(batches), is_sharded(net)

    def outputs_of(rows: np.ndarray) -> Tensor:
        inputs = tokens.batch(rows, padding_multiple(device))
        return net(**to_device(inputs, device)).float()

    def one_by_one() -> Iterator[Tensor]:
        """Yield the same, and take as many passes as the process with the most batches."""
        with torch.no_grad():
            yield from map(outputs_of, own)
            if len(own) < -(-len(batches) // parallel.world_size()):
                outputs_of(batches[0])

    computed = one_by_one() if together else parallel_map(outputs_of, own, device)
    with Progress(f"predicting {what}".strip(), sum(map(len, own)), "rows") as progress:
        for rows, logits in zip(own, computed, strict=True):
            if out is None:
                out = torch.zeros(n, logits.shape[1], device=device)
            out[to_device(torch.from_numpy(rows), device)] = logits
            progress.add(len(rows))
    outputs = parallel.all_reduce_max(0 if out is None else out.shape[1])
    if out is None:  # fewer batches than processes
        out = torch.zeros(n, outputs, device=device)
    return parallel.all_reduce_sum(out).cpu().numpy()


def _step_seed(seed: int, step: int, process: int = 0) -> int:
    sequence = np.random.SeedSequence((seed, step, process))  # a trailing 0 does not change it
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def _finite(loss: Tensor, step: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise InputError(
            f"the loss is {value} at update {step}: lower training.lr, raise "
            "training.warmup, or set training.precision=fp32"
        )
    return value


def _epoch_file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch{epoch}.safetensors"


def _choosing(scores: list[EpochScore]) -> list[float]:
    return [score.chooses for score in scores]


def _best(scores: list[EpochScore]) -> int:
    """Return the number of the epoch with the best score, from 1; the earliest if several have it."""
    return int(np.argmax(_choosing(scores))) + 1


def _out_of_patience(scores: list[EpochScore], patience: int) -> bool:
    return patience > 0 and len(scores) - _best(scores) >= patience


def _choose(
    training: Training,
    model: Trainable,
    scores: list[EpochScore],
    folder: Path,
    evaluate: Callable[[nn.Module], EpochScore] | None,
) -> dict:
    """Load the weights that the settings select into `model`; return facts about the selection."""
    net = training.model
    if not evaluate:
        with training.averaging.applied(net):
            last = {k: v.clone() for k, v in checkpoint.on_cpu(net.learned()).items()}
        model.load_learned(last)
        return {}
    facts = {
        "epoch_scores": _choosing(scores),
        "epoch_metric": [score.metric for score in scores],
        "best_epoch": _best(scores),
    }
    if not training.settings.mixes_epochs:
        model.load_learned(load_file(_epoch_file(folder, _best(scores))))
        return facts

    def score_of(weights: dict[str, Tensor]) -> float:
        net.load_learned(weights)
        return evaluate(net).chooses

    files = [_epoch_file(folder, epoch + 1) for epoch in range(len(scores))]
    weights, epochs = greedy_soup(files, _choosing(scores), score_of)
    model.load_learned(weights)
    return facts | {"soup_epochs": epochs}


def _save(
    training: Training,
    curve: LossCurve,
    folder: Path,
    step: int,
    scores: list[EpochScore],
    seconds: float,
) -> float:
    """Write a checkpoint; return the seconds it took.

    It is the same in all processes; the main process writes it.
    """
    begin = time.monotonic()
    tensors = {f"model.{k}": v for k, v in training.model.learned().items()}
    tensors |= {f"averaging.{k}": v for k, v in training.averaging.state().items()}
    of_optimizer = state_tensors(training.model, training.optimizer)
    tensors |= {f"optimizer.{k}": v for k, v in of_optimizer.items()}
    scaler = training.accelerator.scaler
    state = {"scores": scores, "scaler": scaler.state_dict() if scaler else None}
    state["reached"] = _over_processes(training).tolist()
    checkpoint.save(folder, step, tensors, state | {"seconds": seconds, "curve": curve.state()})
    return time.monotonic() - begin


def _restore(
    training: Training, curve: LossCurve, folder: Path
) -> tuple[int, list[EpochScore], float]:
    """Load the newest checkpoint; return its step, the scores of its epochs, and the seconds so far."""
    # The main process deletes damaged checkpoints before the others read.
    saved = parallel.main_first(partial(checkpoint.load_last, folder))
    if saved is None:
        return 0, [], 0.0
    tensors, state = saved

    def under(start: str) -> dict[str, Tensor]:
        return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}

    training.model.load_learned(under("model."))
    training.averaging.load(under("averaging."))
    load_state_tensors(training.model, training.optimizer, under("optimizer."))
    if training.accelerator.scaler and state["scaler"]:
        training.accelerator.scaler.load_state_dict(state["scaler"])
    if "curve" in state:  # missing in checkpoints before 0.2
        curve.load(state["curve"], training.accelerator.device)
    training.reached.copy_(torch.tensor(state.get("reached", [0.0, 0.0])))
    say(f"resuming from the checkpoint after update {state['step']}")
    return state["step"], [EpochScore(*score) for score in state["scores"]], state["seconds"]
