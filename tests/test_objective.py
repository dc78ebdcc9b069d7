"""What an update minimises: the criterion over dropout masks, R-Drop and contrastive additions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel

from foldstack.nets.classifier import Classifier
from foldstack.nets.mixup import Mixup
from foldstack.techniques import TrainingSettings
from foldstack.training.criteria import supervised_contrastive
from foldstack.training.micro_batch import MicroBatch, TrainingObjective

TARGETS = torch.tensor([[1.0], [0.0], [1.0]])
WEIGHTS = torch.tensor([1.0, 2.0, 0.5])
POOLED = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


class Given(nn.Module):
    """A network whose passes give these raw outputs, one after the other."""

    def __init__(self, *raws: list[float]):
        super().__init__()
        self.raws = iter([torch.tensor(raw)[:, None] for raw in raws])

    def forward(self, pooled: bool) -> tuple[Tensor, Tensor]:
        return next(self.raws), POOLED


def part_of(net: nn.Module, rows: slice = slice(None), **training: object) -> MicroBatch:
    settings = TrainingSettings(**training)
    objective = TrainingObjective.of(settings, TARGETS, WEIGHTS, "sigmoid")
    return MicroBatch(objective, net, {}, TARGETS[rows], WEIGHTS[rows], WEIGHTS.sum())


def bce(raw: list[float]) -> float:
    """The weighted mean cross-entropy of the three rows."""
    losses = F.binary_cross_entropy_with_logits(torch.tensor(raw), TARGETS[:, 0], reduction="none")
    return float((losses * WEIGHTS).sum() / WEIGHTS.sum())


def kl(a: list[float], b: list[float]) -> np.ndarray:
    """KL(a || b) of each row's Bernoulli."""
    p, q = (1 / (1 + np.exp(-np.array(x))) for x in (a, b))
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def test_plain_is_the_criterion():
    assert float(part_of(Given([0.3, -1, 2])).loss()) == pytest.approx(bce([0.3, -1, 2]))


def test_rdrop_is_the_mean_of_two_losses_and_the_symmetric_divergence():
    """Wu et al. 2021: ½ (CE₁ + CE₂) + α ½ (KL(p₁‖p₂) + KL(p₂‖p₁)), the rows weighed in both."""
    one, two = [0.3, -1, 2], [0.1, -2, 1]
    weights = WEIGHTS.numpy() / WEIGHTS.sum().item()
    wanted = (bce(one) + bce(two)) / 2 + 0.7 * ((kl(one, two) + kl(two, one)) / 2 @ weights)
    assert float(part_of(Given(one, two), rdrop=0.7).loss()) == pytest.approx(wanted, rel=1e-5)
    same = part_of(Given(one, one), rdrop=0.7).loss()
    assert float(same) == pytest.approx(bce(one))


def test_the_parts_of_an_update_add_up_with_rdrop_too():
    """Trap 7: each part is divided by the whole update's weight."""
    one, two = [0.3, -1, 2], [0.1, -2, 1]
    whole = part_of(Given(one, two), rdrop=0.7).loss()
    parts = [
        part_of(Given(one[rows], two[rows]), rows, rdrop=0.7).loss()
        for rows in (slice(0, 2), slice(2, 3))
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_several_dropout_masks_count_as_their_mean_loss():
    """Inoue 2019: the losses are averaged, not the outputs."""
    masks = Given([0.3, -1, 2, 0.1, -2, 1])
    wanted = (bce([0.3, -1, 2]) + bce([0.1, -2, 1])) / 2
    assert float(part_of(masks).loss()) == pytest.approx(wanted)


def test_contrastive_is_added_with_its_weight():
    term = supervised_contrastive(POOLED, TARGETS, WEIGHTS, 0.2)
    assert abs(term) > 0.01
    loss = part_of(Given([0.3, -1, 2]), contrastive={"weight": 0.5, "temperature": 0.2}).loss()
    assert float(loss) == pytest.approx(bce([0.3, -1, 2]) + 0.5 * float(term))


def test_mixup_mixes_targets_and_weights_as_it_mixes_the_vectors():
    """The raw outputs are those of the mixed vectors: only what they are compared with changes."""
    mixup = Mixup(torch.tensor([1, 2, 0]), torch.tensor(0.7))

    class Mixing(Given):
        def forward(self, pooled: bool, mixup: Mixup) -> tuple[Tensor, Tensor]:
            return super().forward(pooled)

    raw = [0.3, -1, 2]
    part = replace(part_of(Mixing(raw)), mixup=mixup)
    one, other = (
        F.binary_cross_entropy_with_logits(torch.tensor(raw), TARGETS[order, 0], reduction="none")
        * WEIGHTS[order]
        for order in ([0, 1, 2], [1, 2, 0])
    )
    wanted = (0.7 * one + 0.3 * other).sum() / WEIGHTS.sum()
    torch.testing.assert_close(part.loss(), wanted)


# The head


def test_mixup_mixes_what_the_head_reads_and_not_what_is_handed_on(backbone):
    model, inputs = make_classifier(backbone)
    mixup = Mixup(torch.tensor([1, 0]), torch.tensor(0.7))
    raw, pooled = model.eval()(**inputs, pooled=True, mixup=mixup)
    torch.testing.assert_close(raw, model.head(0.7 * pooled + 0.3 * pooled[[1, 0]]))


def make_classifier(backbone: Path, **options: object) -> tuple[Classifier, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = Classifier(AutoModel.from_pretrained(backbone), 1, 0.5, **options)
    nn.init.normal_(model.head.weight)
    ids = torch.tensor([[2, 6, 9, 3], [2, 7, 3, 0]])
    return model, {"input_ids": ids, "attention_mask": (ids > 0).long()}


def test_each_dropout_mask_is_another_and_prediction_has_none(backbone):
    model, inputs = make_classifier(backbone, dropout_samples=3)
    for module in model.backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    raw, pooled = model.train()(**inputs, pooled=True)
    assert (raw.shape, pooled.shape) == ((6, 1), (2, 16))
    masks = raw.view(3, 2)
    assert len({tuple(mask.tolist()) for mask in masks}) == 3
    predicted = model.eval()(**inputs)
    assert predicted.shape == (2, 1)
    torch.testing.assert_close(predicted, model.head(pooled))


def test_the_difference_of_two_outputs_is_a_softmax_over_two_classes(backbone):
    model, inputs = make_classifier(backbone, as_difference=True)
    raw, pooled = model.eval()(**inputs, pooled=True)
    two = model.head(pooled)
    assert two.shape == (2, 2)
    torch.testing.assert_close(raw.sigmoid()[:, 0], two.softmax(dim=1)[:, 1])
