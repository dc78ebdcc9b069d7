"""Adversaries: gradients at small worst-case perturbations of weights or word vectors.

The loop calls `backward` once per micro-batch instead of `loss.backward()`; afterwards `.grad`
holds the earlier gradient plus what the method adds. Common to all:

- Under gradient accumulation an adversary attacks the current micro-batch: the direction comes from
  its own gradient only, and the gradients of earlier micro-batches in `.grad` are unchanged.
- Weights are restored bit by bit, from copies, after errors too.
- With several processes `backward` leaves the processes' mean gradient in `.grad` (DDP), so that
  weights take the same step everywhere. Do not wrap it in `no_sync`. Noise on word vectors is per
  row.
- Directions are normalised, so that fp16's loss scaling changes nothing; a zero or non-finite
  gradient gives no perturbation.
- A tied weight (one parameter with several names) is perturbed once. A frozen one never is, but for
  the word embeddings of a backbone whose adapters are trained in place of its weights.
- Randomness comes from torch's global generators.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foldstack import parallel, techniques
from foldstack.errors import InputError, some
from foldstack.nets.shared_out import is_shared, shared_as

if TYPE_CHECKING:
    from foldstack.nets.trainable import Trainable
    from foldstack.training.micro_batch import MicroBatch

Backward = Callable[[Tensor], None]
ROW = (1, 2)  # dimensions of (b, t, h) noise whose norm is taken: one per row


class Attack(Protocol):
    """A way to compute the gradient of a micro-batch.

    capturable: a CUDA graph can capture it; it cannot if it resets a random generator.
    """

    capturable: bool

    def attacks(self, epoch: float) -> bool:
        """Whether the attack has started by this epoch."""

    def backward(self, part: MicroBatch, backward: Backward, epoch: float) -> Tensor:
        """Add the gradient of this micro-batch to `.grad`; return its clean loss, detached.

        backward: computes gradients of a scalar, `accelerator.backward`. epoch: number of finished
        epochs, fractional.
        """


def make_attack(settings: techniques.Adversary | None, model: Trainable) -> Attack:
    """Return the adversary of a model whose layers are already frozen; None: plain training.

    model: the network itself; micro-batches may call a DDP wrapper around it.

    Raises InputError if the model has nothing to perturb.
    """
    if settings is None:
        return NoAttack()
    return settings.load()(settings, model)


class _FromStart:
    """An adversary that starts with the first epoch."""

    capturable = True

    def attacks(self, epoch: float) -> bool:
        return True


class NoAttack(_FromStart):
    """No adversary."""

    def backward(self, part: MicroBatch, backward: Backward, epoch: float) -> Tensor:
        return backward_loss(part, backward)


# Perturbed weights


class FGMAttack(_FromStart):
    """Fast gradient method (Miyato et al. 2017, Adversarial Training Methods for Text).

    Each attacked parameter moves by epsilon g / ||g||; the gradient there is added to the clean one.
    Two passes.
    """

    def __init__(self, settings: techniques.FGM, model: Trainable):
        self.settings = settings
        self.attacked = attacked_parameters(settings, model)
        self.frozen = [p for p in self.attacked if not p.requires_grad]

    def backward(self, part: MicroBatch, backward: Backward, epoch: float) -> Tensor:
        with gradients_reaching(self.frozen), gradients_accumulated(self.attacked):
            loss = backward_loss(part, backward)
            with self.attack():
                backward(part.loss())
        return loss

    @contextmanager
    def attack(self) -> Iterator[None]:
        """Move the weights one step up the gradient in `.grad`, inside the context."""
        share_gradients(self.frozen)
        with restored(self.attacked):
            put(self.attacked, (p + self.settings.epsilon * direction(p) for p in self.attacked))
            yield


class PGDAttack(_FromStart):
    """Projected gradient descent (Madry et al. 2018).

    Steps of alpha g / ||g||, each attacked parameter projected into the ball of radius epsilon around
    its start; the gradient at the last point is added to the clean one. steps + 1 passes.
    """

    def __init__(self, settings: techniques.PGD, model: Trainable):
        self.settings = settings
        self.attacked = attacked_parameters(settings, model)
        self.frozen = [p for p in self.attacked if not p.requires_grad]
        self.trained = trained_parameters(model)

    def backward(self, part: MicroBatch, backward: Backward, epoch: float) -> Tensor:
        with gradients_reaching(self.frozen), gradients_accumulated(self.attacked):
            loss = backward_loss(part, backward)
            with self.attack(part, backward):
                backward(part.loss())
        return loss

    @contextmanager
    def attack(self, part: MicroBatch, backward: Backward) -> Iterator[None]:
        """Move the weights by all steps, the first up the gradient in `.grad`, inside the context."""
        with restored(self.attacked) as start:
            self.climb(start)
            for _ in range(self.settings.steps - 1):
                with gradients_restored([*self.trained, *self.frozen]):
                    backward(part.loss())
                    self.climb(start)
            yield

    def climb(self, start: list[Tensor]) -> None:
        s = self.settings
        share_gradients(self.frozen)
        moves = (
            projected(p.detach() - w + s.alpha * direction(p), s.epsilon)
            for p, w in zip(self.attacked, start, strict=True)
        )
        put(self.attacked, (w + move for w, move in zip(start, moves, strict=True)))


class AWPAttack(_FromStart):
    """Adversarial weight perturbation (Wu et al. 2020) of matrices; biases and norms are not perturbed.

    From epoch `start` on, each attacked matrix moves by lr ||w|| g / ||g||, no element by more than
    epsilon times its own size. The gradient at that point counts; the clean gradient only gives the
    direction. Two passes.
    """

    def __init__(self, settings: techniques.AWP, model: Trainable):
        self.settings = settings
        self.attacked = attacked_parameters(settings, model, least_ndim=2)
        self.frozen = [p for p in self.attacked if not p.requires_grad]
        self.trained = trained_parameters(model)

    def attacks(self, epoch: float) -> bool:
        return epoch >= self.settings.start

    def backward(self, part: MicroBatch, backward: Backward, epoch: float) -> Tensor:
        if not self.attacks(epoch):
            return backward_loss(part, backward)
        with gradients_reaching(self.frozen), self.attack(part, backward) as loss:
            backward(part.loss())
        return loss

    @contextmanager
    def attack(self, part: MicroBatch, backward: Backward) -> Iterator[Tensor]:
        """Move the weights by the step inside the context; yield the clean loss."""
        with restored(self.attacked) as start:
            with gradients_restored([*self.trained, *self.frozen]):
                loss = backward_loss(part, backward)
                share_gradients(self.frozen)
                put(self.attacked, map(self.worse, self.attacked, start))
            yield loss

    def worse(self, parameter: nn.Parameter, start: Tensor) -> Tensor:
        step = self.settings.lr * start.norm() * direction(parameter)
        room = self.settings.epsilon * start.abs()
        return start + step.clamp(-room, room)


# Noise on word vectors


class FreeLBAttack(_FromStart):
    """Free large-batch adversarial training (Zhu et al. 2020).

    Noise on the word vectors of real tokens starts uniform in ±init / sqrt(tokens x width) and
    climbs by lr g / ||g|| per row, projected to length max_norm; the mean gradient of the steps
    counts. As in the paper, dropout samples the same masks in all steps. As many passes as steps;
    none of them is clean, so the loss at the start stands for the clean one.
    """

    capturable = False

    def __init__(self, settings: techniques.FreeLB, model: Trainable):
        self.settings = settings
        self.words = PerturbedVectors(settings, model)

    def backward(self, part: MicroBatch, backward: Backward, epoch: float) -> Tensor:
        s = self.settings
        real = real_tokens(part)
        noise = self.start(real)
        losses = []
        for step in range(s.steps):
            if step:
                climbed = noise.detach() + s.lr * unit(torch.where(real, noise.grad, 0.0), ROW)
                noise = projected(climbed, s.max_norm, ROW)
            last = step == s.steps - 1
            noise.requires_grad_(not last)
            with self.words.same_random_state(not last), self.words.attack(noise):
                loss = part.loss()
                backward(loss / s.steps)
            losses.append(loss.detach())
        return losses[0]

    def start(self, real: Tensor) -> Tensor:
        """Return (b, t, h) initial noise for a (b, t, 1) mask."""
        noise = self.words.blank(real).uniform_(-1, 1) * real
        numbers = real.sum(dim=ROW, keepdim=True) * noise.shape[2]
        return noise * self.settings.init / numbers.clamp(min=1).to(noise).sqrt()


class VATAttack(_FromStart):
    """Virtual adversarial training (Miyato et al. 2018); SMART (Jiang et al. 2020) smooths likewise.

    Added to the loss: `weight` times the divergence of the outputs from those under noise on the
    word vectors, of length epsilon per row. Its direction is that of the fastest growth of the
    divergence, by one power iteration from random noise of length xi. Labels are not used. Dropout
    samples the same masks with and without the noise. Four passes, one of them without gradients.
    """

    capturable = False

    def __init__(self, settings: techniques.VAT, model: Trainable):
        self.settings = settings
        self.words = PerturbedVectors(settings, model)

    def backward(self, part: MicroBatch, backward: Backward, epoch: float) -> Tensor:
        loss = backward_loss(part, backward)
        real = real_tokens(part)
        noise = self.settings.xi * unit(self.words.blank(real).normal_() * real, ROW)
        with self.words.same_random_state(), torch.no_grad():
            clean = part.outputs()
            # Half precision often rounds the effect of small noise to zero; outputs changed by a
            # random 1e-7 then give some direction instead of none.
            almost = clean + torch.finfo(torch.float32).eps * torch.randn_like(clean)
        with self.words.same_random_state(), self.words.attack(noise.requires_grad_()):
            noisy = part.outputs()
            (change,) = torch.autograd.grad(
                part.divergence(almost, noisy), noisy, retain_graph=True
            )
            # Normalised, since so small a gradient would underflow in fp16's backward pass.
            (gradient,) = torch.autograd.grad(noisy, noise, unit(change))
        worst = self.settings.epsilon * unit(torch.where(real, gradient, 0.0), ROW)
        with self.words.attack(worst):
            backward(self.settings.weight * part.divergence(clean, part.outputs()))
        return loss


class PerturbedVectors:
    """Output of the network's word-embedding module, to which noise can be added."""

    def __init__(self, settings: techniques.FreeLB | techniques.VAT, model: Trainable):
        instead = "take fgm, pgd or awp and name other weights with training.adversary.parameters"
        self.embeddings = word_embeddings(settings, model, instead)
        self.time_first = model.embeds_time_first

    def blank(self, real: Tensor) -> Tensor:
        """Return (b, t, h) zeros for a (b, t, 1) mask."""
        weight = self.embeddings.weight
        size = (*real.shape[:2], weight.shape[1])
        return torch.zeros(size, dtype=weight.dtype, device=real.device)

    @contextmanager
    def attack(self, noise: Tensor) -> Iterator[None]:
        """Add (b, t, h) noise to the word vectors of every pass inside the context."""

        def add(module: nn.Module, args: tuple, vectors: Tensor) -> Tensor:
            fitting = noise.transpose(0, 1) if self.time_first else noise
            # Longformer pads its inputs to whole windows.
            return vectors + F.pad(fitting, (0, 0, 0, vectors.shape[1] - fitting.shape[1]))

        handle = self.embeddings.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()

    def same_random_state(self, enabled: bool = True):
        """Return a context that restores the random state of CPU and device at its end."""
        device = self.embeddings.weight.device
        devices = [] if device.type == "cpu" else [device]
        return torch.random.fork_rng(devices, enabled, device_type=device.type)


def real_tokens(part: MicroBatch) -> Tensor:
    """Return (b, t, 1) whether each token is real, by the attention mask; ids do not mark padding."""
    return part.inputs["attention_mask"].unsqueeze(-1).bool()


# Attacked parameters


def attacked_parameters(
    settings: techniques.FGM | techniques.PGD | techniques.AWP,
    model: Trainable,
    least_ndim: int = 1,
) -> list[nn.Parameter]:
    """Return the trained parameters that `settings.parameters` names, each once; InputError if none.

    Word embeddings that are frozen because adapters are trained instead count as trained.
    """
    pattern = settings.parameters
    named = [
        (name, p)
        for name, p in model.named_parameters(remove_duplicate=False)
        if p.ndim >= least_ndim
    ]
    if pattern == techniques.WORD_EMBEDDINGS:
        instead = "name other weights with training.adversary.parameters"
        weight = word_embeddings(settings, model, instead).weight
        found = [(name, p) for name, p in named if p is weight]
    else:
        found = [(name, p) for name, p in named if re.search(pattern, name)]
    if not found:
        near = difflib.get_close_matches(pattern, [name for name, _ in named], n=1, cutoff=0)[0]
        what = "weights" if least_ndim == 1 else "matrices"
        raise InputError(
            f"adversary {settings.name}: training.adversary.parameters '{pattern}' matches none "
            f"of the names of the model's {what}; the nearest is '{near}'"
        )
    trained = {id(p): p for _, p in found if p.requires_grad}
    if pattern == techniques.WORD_EMBEDDINGS and model.changing is not None:
        return [weight]
    if not trained:
        raise InputError(
            f"adversary {settings.name} perturbs {some([name for name, _ in found])}, which "
            f"{'is' if len(found) == 1 else 'are'} frozen: name trained weights with "
            "training.adversary.parameters, or freeze less (freeze_embeddings, freeze_layers)"
        )
    return list(trained.values())


def word_embeddings(settings: techniques.Adversary, model: Trainable, instead: str) -> nn.Module:
    """Return the network's word-embedding module; InputError, with what to do instead, if none."""
    embeddings = model.word_embeddings()
    if embeddings is None:
        raise InputError(
            f"adversary {settings.name} perturbs the word embeddings, but {model.body_name} has none: "
            f"{instead}"
        )
    return embeddings


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


# Gradients and weights


def backward_loss(part: MicroBatch, backward: Backward) -> Tensor:
    """Run forward and backward; return the detached loss."""
    loss = part.loss()
    backward(loss)
    return loss.detach()


def unit(gradient: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
    """Return the gradient over its Euclidean norm (over `dim`); zero if that is zero or not finite."""
    length = torch.linalg.vector_norm(gradient, dim=dim, keepdim=True)
    return torch.where((length > 0) & length.isfinite(), gradient / length, 0.0)


def projected(move: Tensor, radius: float, dim: tuple[int, ...] | None = None) -> Tensor:
    """Return the move, shortened to the radius if it is longer."""
    length = torch.linalg.vector_norm(move, dim=dim, keepdim=True)
    return move * (radius / length).clamp(max=1)


def direction(parameter: nn.Parameter) -> Tensor:
    """Return the unit vector of its gradient; zero if the loss does not depend on it."""
    if parameter.grad is None:
        return torch.zeros_like(parameter)
    return unit(parameter.grad)


@torch.no_grad()
def put(parameters: Sequence[nn.Parameter], values: Iterable[Tensor]) -> None:
    """Assign values to parameters in place."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(shared_as(parameter, value))
    torch.clear_autocast_cache()  # autocast around the step would use the cached old weights


@contextmanager
def restored(parameters: Sequence[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Yield copies of the weights, which may change inside the context; restore them afterwards."""
    start = [p.detach().clone() for p in parameters]
    try:
        yield start
    finally:
        put(parameters, start)


@contextmanager
def gradients_reaching(frozen: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let frozen parameters get gradients inside the context; none remain afterwards."""
    for p in frozen:
        p.requires_grad_(True)
    try:
        yield
    finally:
        for p in frozen:
            p.requires_grad_(False)
            p.grad = None


def share_gradients(frozen: Sequence[nn.Parameter]) -> None:
    """Replace the gradients of frozen parameters by the processes' mean; DDP leaves them out."""
    for p in frozen:
        if p.grad is not None and not is_shared(p.grad):
            parallel.all_reduce_sum(p.grad).div_(parallel.world_size())


def set_aside(parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
    """Detach and return the current gradients; reset `.grad` to None."""
    earlier = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    return earlier


@contextmanager
def gradients_accumulated(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Reset gradients inside; afterwards add the earlier ones."""
    earlier = set_aside(parameters)
    try:
        yield
    finally:
        for p, gradient in zip(parameters, earlier, strict=True):
            if p.grad is None:
                p.grad = gradient
            elif gradient is not None:
                p.grad = gradient.add_(p.grad)


@contextmanager
def gradients_restored(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Reset gradients inside; afterwards put the earlier ones back."""
    earlier = set_aside(parameters)
    try:
        yield
    finally:
        for p, gradient in zip(parameters, earlier, strict=True):
            p.grad = gradient
