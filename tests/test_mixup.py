"""Mix-up: vectors and targets by the same λ, and losses that add up."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from foldstack.nets.mixup import Mixup

VECTORS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, 4.0]])
TARGETS = torch.tensor([[1.0], [0.0], [1.0]])
ROUND = Mixup(partner=torch.tensor([1, 2, 0]), own=torch.tensor(0.75))


def test_each_row_is_mixed_with_its_partner():
    wanted = torch.tensor([[0.75, 0.5], [1.0, 2.5], [3.25, 3.0]])
    torch.testing.assert_close(ROUND.vectors(VECTORS), wanted)
    targets, weights = ROUND.targets(TARGETS, torch.ones(3))
    torch.testing.assert_close(targets, torch.tensor([[0.75], [0.25], [1.0]]))
    torch.testing.assert_close(weights, torch.ones(3))


def test_the_loss_is_that_of_both_labels_each_with_its_row_s_weight():
    """λ w CE(t) + (1 - λ) w' CE(t') on the mixed row's output, of cross-entropy exactly."""
    raw, weights = torch.tensor([[0.3], [-1.0], [2.0]]), torch.tensor([1.0, 2.0, 0.5])

    def losses(targets: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(raw, targets, reduction="none")[:, 0]

    mixed, mixed_weights = ROUND.targets(TARGETS, weights)
    wanted = 0.75 * weights * losses(TARGETS)
    wanted += 0.25 * weights[ROUND.partner] * losses(TARGETS[ROUND.partner])
    torch.testing.assert_close(losses(mixed) * mixed_weights, wanted)
    torch.testing.assert_close(mixed_weights.sum(), weights.sum())


def test_a_row_without_weight_teaches_no_label():
    targets, weights = ROUND.targets(TARGETS, torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(targets[[0, 2]], torch.ones(2, 1))
    torch.testing.assert_close(weights, torch.tensor([0.75, 0.0, 0.25]))
    assert targets.isfinite().all()


def test_lambda_and_partners_are_drawn_from_torchs_generator():
    def draw(alpha: float = 0.2) -> Mixup:
        return Mixup.draw(50, alpha, torch.device("cpu"))

    torch.manual_seed(0)
    one, two = draw(), draw()
    torch.manual_seed(0)
    again = draw()
    assert torch.equal(one.partner, again.partner) and one.own == again.own
    assert one.own != two.own
    assert sorted(one.partner.tolist()) == list(range(50))


def test_alpha_says_how_much_is_mixed():
    """Beta(a, a) has a variance of 1 / (4 (2a + 1)) around a half."""
    torch.manual_seed(0)
    for alpha in (0.2, 4.0):
        own = torch.stack([Mixup.draw(1, alpha, torch.device("cpu")).own for _ in range(2000)])
        assert abs(float(own.mean()) - 0.5) < 0.03
        assert abs(float(own.var()) * 4 * (2 * alpha + 1) - 1) < 0.1
