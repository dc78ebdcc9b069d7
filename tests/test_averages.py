"""Averages of weights: their closed forms, swapped in and out to the bit, saved and resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from foldstack.techniques import EMA, SWA, Soup
from foldstack.training.weight_averaging import WeightAverage, greedy_soup, make_averaging
from test_layers import classifier, snapshot


class One(nn.Module):
    """A weight, a frozen weight, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.frozen = nn.Parameter(torch.tensor([5.0]), requires_grad=False)
        self.register_buffer("buffer", torch.tensor([7.0]))


def learn(model: nn.Module, step: int) -> None:
    """What an update does, without an optimiser: noise that follows from the step."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape, generator=generator))


def train(model: nn.Module, averaging: WeightAverage, epochs: range, of: int = 6) -> list[Tensor]:
    """Three updates an epoch; returns the weight after each update."""
    seen = []
    for epoch in epochs:
        for i in range(3):
            learn(model, 3 * epoch + i)
            averaging.after_update(model)
            seen.append(next(model.parameters()).detach().clone())
        averaging.after_epoch(model, epoch + 1, of)
    return seen


def average_of(averaging: WeightAverage, model: nn.Module) -> dict[str, Tensor]:
    with averaging.applied(model):
        return {k: v.clone() for k, v in model.state_dict().items()}


EVERY = [None, EMA(name="ema", decay=0.9), SWA(name="swa", start=0.3), Soup(name="soup")]


# Closed forms


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_moving_average_is_its_closed_form(decay):
    """Weight k counts by (1 − d_k) and by every later decay; the first by all of them."""
    model = One()
    averaging = make_averaging(EMA(name="ema", decay=decay), model)
    first = model.weight.detach().clone()
    seen = train(model, averaging, range(6))
    decays = np.minimum(decay, (1 + np.arange(18)) / (10 + np.arange(18)))
    later = np.append(np.cumprod(decays[::-1])[::-1], 1.0)  # later[k]: of all from k on
    wanted = later[0] * first.double()
    for k, weight in enumerate(seen):
        wanted += (1 - decays[k]) * later[k + 1] * weight.double()
    found = average_of(averaging, model)["weight"]
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


def test_the_warm_up_forgets_the_start():
    """A decay of 0.999 from the first update on would keep 98 % of the untrained weights here."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    averaging = make_averaging(EMA(name="ema"), model)
    nn.init.ones_(model.weight)
    for _ in range(20):
        averaging.after_update(model)
    assert average_of(averaging, model)["weight"].item() > 0.999


@pytest.mark.parametrize(
    ("start", "epochs", "counted"),
    [(0.5, 4, [3, 4]), (0.5, 5, [3, 4, 5]), (0, 3, [1, 2, 3]), (0.99, 3, [3]), (0.29, 100, [30])],
)
def test_the_mean_is_of_the_epochs_after_the_start(start, epochs, counted):
    """0.29 · 100 is 28.999999999999996: epoch 29 is not after the start."""
    model = One()
    averaging = make_averaging(SWA(name="swa", start=start), model)
    seen = []
    for epoch in range(1, counted[-1] + 1):
        learn(model, epoch)
        averaging.after_update(model)
        averaging.after_epoch(model, epoch, epochs)
        if epoch in counted:
            seen.append(model.weight.detach().double())
    found = average_of(averaging, model)["weight"]
    torch.testing.assert_close(found.double(), torch.stack(seen).mean(0), rtol=1e-6, atol=1e-6)


def test_the_mean_is_torchs():
    model = classifier()
    reference = AveragedModel(model)
    averaging = make_averaging(SWA(name="swa", start=0), model)
    for epoch in range(1, 8):
        learn(model, epoch)
        averaging.after_epoch(model, epoch, 7)
        reference.update_parameters(model)
    found = average_of(averaging, model)
    for name, tensor in reference.module.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("settings", EVERY)
def test_before_anything_counts_the_weights_are_their_own_average(settings):
    model = One()
    averaging = make_averaging(settings, model)
    learn(model, 0)
    averaging.after_epoch(model, 1, 10)
    assert torch.equal(average_of(averaging, model)["weight"], model.weight)


@pytest.mark.parametrize("settings", [None, Soup(name="soup")])
def test_without_an_average_nothing_happens(settings):
    model = One()
    averaging = make_averaging(settings, model)
    train(model, averaging, range(6))
    assert torch.equal(average_of(averaging, model)["weight"], model.weight)
    assert averaging.state() == {}
    averaging.load({})


# In the model, and out again


@pytest.mark.parametrize("settings", EVERY)
@pytest.mark.parametrize("fails", [False, True])
def test_the_very_weights_come_back(settings, fails):
    """Also after an error: else a run would go on from the average."""
    model = classifier()
    averaging = make_averaging(settings, model)
    train(model, averaging, range(6))
    before, state = snapshot(model), {k: v.clone() for k, v in averaging.state().items()}
    where = {n: p.data_ptr() for n, p in model.named_parameters()}
    try:
        with averaging.applied(model):
            applied = snapshot(model)
            assert all(torch.equal(v, state[k]) for k, v in averaging.state().items())
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    after = snapshot(model)
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert {n: p.data_ptr() for n, p in model.named_parameters()} == where
    averaged = settings is not None and settings.name != "soup"
    assert all(torch.equal(applied[k], before[k]) != averaged for k in before)
    assert all(torch.equal(v, state[k]) for k, v in averaging.state().items())


@pytest.mark.parametrize("settings", EVERY[1:3])
def test_frozen_weights_and_buffers_stay(settings):
    model = One()
    averaging = make_averaging(settings, model)
    train(model, averaging, range(6))
    found = average_of(averaging, model)
    assert (found["frozen"].item(), found["buffer"].item()) == (5, 7)
    assert set(averaging.state()) == {"moves", "average.weight"}


@pytest.mark.parametrize("settings", EVERY[1:3])
def test_training_goes_on_unmoved(settings):
    """The average learns from the run, never the run from the average."""
    plain, averaged = One(), One()
    train(plain, make_averaging(None, plain), range(4))
    averaging = make_averaging(settings, averaged)
    for epoch in range(4):
        train(averaged, averaging, range(epoch, epoch + 1))
        average_of(averaging, averaged)
    assert torch.equal(plain.weight, averaged.weight)


# Saved and resumed


@pytest.mark.parametrize("settings", EVERY)
@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_resumed_average_goes_on_bit_by_bit(settings, at, tmp_path):
    """at 1: before the first epoch that the mean counts."""
    straight, cut = classifier(), classifier()
    whole = make_averaging(settings, straight)
    train(straight, whole, range(6))

    first = make_averaging(settings, cut)
    train(cut, first, range(at))
    if first.state():
        save_file(first.state(), tmp_path / "state.safetensors")
    resumed = classifier()
    second = make_averaging(settings, resumed)  # over the weights from before the training
    resumed.load_state_dict(cut.state_dict())
    second.load(load_file(tmp_path / "state.safetensors") if first.state() else {})
    train(resumed, second, range(at, 6))
    wanted, found = average_of(whole, straight), average_of(second, resumed)
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)
    assert all(torch.equal(v, whole.state()[k]) for k, v in second.state().items())


# Greedy soup


def epochs(folder: Path, weights: list[dict[str, Tensor]]) -> list[Path]:
    out = [folder / f"epoch{i}.safetensors" for i in range(1, len(weights) + 1)]
    for path, tensors in zip(out, weights, strict=True):
        save_file(tensors, path)
    return out


def slow_soup(weights, scores, score_of):
    """The paper's recipe, with every mean taken anew over all that are in it."""

    def mean(chosen):
        return {k: torch.stack([weights[i][k] for i in chosen]).mean(0) for k in weights[0]}

    order = sorted(range(len(weights)), key=lambda i: (-scores[i], i))
    chosen = []
    for i in order:
        if not chosen or score_of(mean([*chosen, i])) >= score_of(mean(chosen)):
            chosen.append(i)
    return mean(chosen), [i + 1 for i in chosen]


@pytest.mark.parametrize("seed", range(6))
def test_the_soup_is_the_slow_one(seed, tmp_path):
    generator = torch.Generator().manual_seed(seed)
    weights = [
        {"a": torch.randn(3, 2, generator=generator), "b": torch.randn(4, generator=generator)}
        for _ in range(7)
    ]

    def score_of(tensors: dict[str, Tensor]) -> float:  # the nearer to nought, the better
        return round(-sum(t.square().sum().item() for t in tensors.values()), 4)

    scores = [score_of(w) for w in weights]
    found, chosen = greedy_soup(epochs(tmp_path, weights), scores, score_of)
    wanted, wanted_chosen = slow_soup(weights, scores, score_of)
    assert chosen == wanted_chosen and len(chosen) > 1
    assert all(torch.allclose(found[k], wanted[k], atol=1e-6) for k in wanted)
    assert set(found) == set(wanted)


def numbers(tmp_path: Path, *values: float) -> list[Path]:
    return epochs(tmp_path, [{"w": torch.tensor([v])} for v in values])


def test_only_the_best_is_kept_where_others_hurt(tmp_path):
    paths = numbers(tmp_path, 4.0, 1.0, 6.0)
    found, chosen = greedy_soup(paths, [0.2, 0.9, 0.3], lambda t: -t["w"].item())
    assert (found["w"].item(), chosen) == (1.0, [2])


def test_an_equal_score_is_good_enough_and_the_earlier_comes_first(tmp_path):
    paths = numbers(tmp_path, 4.0, 1.0, 7.0)
    found, chosen = greedy_soup(paths, [0.5, 0.5, 0.5], lambda _: 0.5)
    assert chosen == [1, 2, 3]
    assert found["w"].item() == pytest.approx(4.0)


def test_the_soup_is_compared_with_the_soup_so_far(tmp_path):
    """Not with the best single epoch: the second mean scores higher than it and lower than the first."""
    paths = numbers(tmp_path, 0.0, 2.0, 9.0)
    scores = {1.0: 0.9, 11 / 3: 0.7}

    def score_of(tensors: dict[str, Tensor]) -> float:
        return next(s for w, s in scores.items() if abs(w - tensors["w"].item()) < 1e-5)

    found, chosen = greedy_soup(paths, [0.6, 0.5, 0.4], score_of)
    assert (found["w"].item(), chosen) == (1.0, [1, 2])


def test_what_no_epoch_changed_stays_to_the_bit(tmp_path):
    """Frozen weights; 0.1 + 0.1 + 0.1 over three is not 0.1. Whole numbers are not averaged."""
    tensors = {"frozen": torch.full((64,), 0.1).cumsum(0), "ids": torch.arange(4)}
    paths = epochs(tmp_path, [tensors] * 5)
    before = [p.read_bytes() for p in paths]
    found, chosen = greedy_soup(paths, [0.5] * 5, lambda _: 0.5)
    assert chosen == [1, 2, 3, 4, 5]
    assert torch.equal(found["frozen"], tensors["frozen"])
    assert torch.equal(found["ids"], tensors["ids"])
    assert [p.read_bytes() for p in paths] == before
