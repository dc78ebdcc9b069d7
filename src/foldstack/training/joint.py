"""Joint distillation: a shallow network and the whole one are trained together."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from foldstack.nets.classifier import Classifier
from foldstack.nets.layers import depths
from foldstack.techniques import JointDistillation
from foldstack.training.criteria import cross_entropy, probabilities


class JointTeacher(nn.Module):
    """The whole network, which learns the targets beside its shallow student and teaches it.

    Its logits stand beside the student's as those of further dropout masks, so that the loss is the
    mean of both and each gets the gradient of half its own. The student's term is that of Hinton et
    al. 2015 with a teacher that is still learning, as in online distillation (Anil et al. 2018, Large
    scale distributed neural network training through online distillation); none of it reaches the
    teacher.

    whole: the classifier, with a head of its own. every: each n-th of its layers is in the student.
    outputs: number of outputs without auxiliary ones. link: from logits to probabilities.
    """

    def __init__(
        self, whole: Classifier, every: int, settings: JointDistillation, outputs: int, link: str
    ):
        super().__init__()
        self.whole, self.every, self.settings = whole, every, settings
        self.outputs, self.link = outputs, link

    def forward(self, logits: Tensor, **read: object) -> tuple[Tensor, Tensor]:
        """Return (2 k b, outputs) logits, the student's first, and (b,) what is added to its losses.

        Args:
            logits: (k b, outputs and auxiliary ones) of the student.
            read: what the student has read, as `Classifier.forward` takes it.
        """
        s = self.settings
        own, _ = self.whole(**read, pooled=True)
        student, teacher = (x[:, : self.outputs].float() / s.temperature for x in (logits, own))
        wanted = probabilities(teacher.detach(), self.link)
        losses = s.temperature**2 * cross_entropy(self.link, student, wanted)
        by_row = losses.view(-1, len(read["input_ids"])).mean(dim=0)
        return torch.cat([logits, own]), s.weight / 2 * by_row

    def depths(self, count: int) -> dict[str, int]:
        """Return the depth of each parameter: that of the student's layer that it becomes part of.

        count: number of the student's layers.
        """
        found = depths(self.whole)
        last = max(found.values())
        return {
            f"whole.{name}": count + 1
            if depth == last
            else min(math.ceil(depth / self.every), count)
            for name, depth in found.items()
        }
