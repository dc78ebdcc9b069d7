"""The training loop: one function, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foldstack.config import TrainingSettings
from foldstack.errors import InputError
from foldstack.interrupt import STOP
from foldstack.progress import Progress, say
from foldstack.text.batches import epoch_batches, micro_batches, sorted_batches
from foldstack.text.tokens import Tokens
from foldstack.training import checkpoint
from foldstack.training.losses import row_loss
from foldstack.training.optim import lr_factor, make_optimizer

LOSS_EVERY = 20  # updates between two looks at the loss, each of which waits for the device
PREDICT_ROWS = 64


@dataclass(frozen=True)
class Examples:
    """Tokens of n rows with their (n, outputs) soft targets, (n,) weights, and the link."""

    tokens: Tokens
    targets: Tensor
    weights: Tensor
    link: str


def train(
    model: nn.Module,
    examples: Examples,
    settings: TrainingSettings,
    accelerator: Accelerator,
    *,
    seed: int,
    folder: Path,
    checkpoint_seconds: float,
    evaluate: Callable[[nn.Module], float] | None = None,
) -> dict:
    """Fine-tune `model` in place; go on from the newest checkpoint in `folder`, if there is one.

    evaluate, where given, scores the model after each epoch (larger is better), and the best
    epoch's weights are the ones left in the model; without it they are the last ones. Everything
    random depends on the seed and the step alone, so a resumed run takes the very same steps.

    Raises InputError where the loss is no longer finite, Interrupted after a signal.
    """
    optimizer = make_optimizer(model, settings)
    net, optimizer = accelerator.prepare(model, optimizer)
    per_epoch = math.ceil(len(examples.targets) / settings.batch_size)
    total = per_epoch * settings.epochs
    step, scores, seconds = _restore(model, optimizer, accelerator, folder)
    begin = time.monotonic() - seconds
    running, saved_at, patience = None, time.monotonic(), checkpoint_seconds
    batches: list[np.ndarray] = []
    shown: dict[str, float] = {}

    with STOP.deferred(), Progress("training", total, "updates", start=step) as progress:
        while True:
            epoch, position = divmod(step, per_epoch)
            if evaluate and position == 0 and epoch > len(scores):
                scores.append(evaluate(net))
                say(f"epoch {epoch}: {scores[-1]:.4f}")
                if scores[-1] == max(scores) and scores.count(scores[-1]) == 1:
                    save_file(_weights(model), folder / f"best-epoch{epoch}.safetensors")
            if step == total:
                break
            if not batches or position == 0:
                batches = epoch_batches(examples.tokens.lengths, settings.batch_size, seed, epoch)

            factor = lr_factor(step, total, settings.warmup, settings.schedule)
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * factor
            net.train()
            torch.manual_seed(_step_seed(seed, step))
            loss = update(net, optimizer, accelerator, examples, batches[position], settings)
            step += 1

            running = loss if running is None else 0.98 * running + 0.02 * loss
            if step % LOSS_EVERY == 0 or step == total:
                shown = {"loss": _finite(running, step)}
            progress.add(1, **shown)
            stop = STOP.wanted()
            if stop or time.monotonic() - saved_at >= patience:
                took = _save(
                    model, optimizer, accelerator, folder, step, scores, time.monotonic() - begin
                )
                # At most a twentieth of the time goes into checkpoints, however large they are.
                saved_at, patience = time.monotonic(), max(checkpoint_seconds, 20 * took)
                if checkpoint_seconds == 0:
                    patience = 0.0
            if stop:
                say(f"stopped after update {step} of {total}: the same command goes on from here")
                STOP.check()

    facts = {"updates": total, "training_seconds": round(time.monotonic() - begin, 2)}
    if evaluate:
        best = int(np.argmax(scores)) + 1
        model.load_state_dict(load_file(folder / f"best-epoch{best}.safetensors"))
        facts |= {"epoch_scores": scores, "best_epoch": best}
    return facts


def update(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    examples: Examples,
    rows: np.ndarray,
    settings: TrainingSettings,
) -> Tensor:
    """One step on these rows; returns their weighted mean loss.

    Each row counts by its weight over the whole update's, so that micro-batches of any size, a
    short last one too, add up to the gradient of the large batch.
    """
    device = accelerator.device
    total_weight = examples.weights[rows].sum().clamp(min=1e-12).to(device)
    update_loss = torch.zeros((), device=device)
    for part in micro_batches(rows, settings.micro_batch_size):
        batch = {k: v.to(device) for k, v in examples.tokens.batch(part).items()}
        raw = net(**batch).float()
        losses = row_loss(raw, examples.targets[part].to(device), examples.link)
        loss = (losses * examples.weights[part].to(device)).sum() / total_weight
        accelerator.backward(loss)
        update_loss += loss.detach()
    if settings.clip:
        accelerator.clip_grad_norm_(net.parameters(), settings.clip)
    optimizer.step()
    optimizer.zero_grad()
    return update_loss


@torch.inference_mode()
def predict(net: nn.Module, tokens: Tokens, device: torch.device, what: str = "") -> np.ndarray:
    """(n, outputs) float32 raw outputs in the order of the tokens, computed longest first."""
    net.eval()
    batches = sorted_batches(tokens.lengths, PREDICT_ROWS)
    parts = []
    with Progress(f"predicting {what}".strip(), len(tokens.lengths), "rows") as progress:
        for rows in batches:
            batch = {k: v.to(device) for k, v in tokens.batch(rows).items()}
            parts.append(net(**batch).float().cpu().numpy())
            progress.add(len(rows))
    out = np.empty((len(tokens.lengths), parts[0].shape[1]), dtype=np.float32)
    out[np.concatenate(batches)] = np.concatenate(parts)
    return out


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _finite(loss: Tensor, step: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise InputError(
            f"the loss is {value} at update {step}: lower training.lr, raise "
            "training.warmup, or set training.precision=fp32"
        )
    return value


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().contiguous().cpu() for k, v in model.state_dict().items()}


def _save(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    folder: Path,
    step: int,
    scores: list[float],
    seconds: float,
) -> float:
    """Write a checkpoint; returns the seconds it took."""
    begin = time.monotonic()
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    scaler = accelerator.scaler.state_dict() if accelerator.scaler else None
    checkpoint.save(folder, step, tensors, {"scores": scores, "scaler": scaler, "seconds": seconds})
    return time.monotonic() - begin


def _restore(
    model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator, folder: Path
) -> tuple[int, list[float], float]:
    """Put the newest checkpoint back; returns its step, the epochs' scores, the seconds so far."""
    saved = checkpoint.load_last(folder)
    if saved is None:
        return 0, [], 0.0
    tensors, state = saved
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    for name, parameter in model.named_parameters():
        kept = {
            key: tensors[f"optimizer.{key}.{name}"]
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"optimizer.{key}.{name}" in tensors
        }
        if kept:
            optimizer.state[parameter] = {k: v.to(parameter.device) for k, v in kept.items()}
    if accelerator.scaler and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    say(f"going on from the checkpoint after update {state['step']}")
    return state["step"], state["scores"], state["seconds"]
