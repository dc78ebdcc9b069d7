"""Settings of consistency training, see training/unlabelled.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from foldstack.settings import OneOrMore, Positive, Settings, Share
from foldstack.techniques.augmentation import Augmentation
from foldstack.techniques.common import Ratio, Temperature, each_named


class Consistency(Settings):
    """Learn to predict of a changed unlabelled text what is predicted of the text (Unsupervised Data
    Augmentation, Xie et al. 2020).

    The divergence KL(p of the text, sharpened, without gradient ‖ p of the changed text) is added to
    the loss. Each text is changed in another way in each epoch. No row that equals, nearly equals or
    shares a group with a held-out one is read.

    texts: rows of the test file, or of the files of `pool`, or of both.
    weight: of the divergence in the loss.
    ratio: unlabelled rows in an update per row of batch_size, beside which they are read.
    augment: changes of the texts, at least one of each; none: those of the preset's `augment`.
    temperature: of the predictions of the texts; 1: they are not sharpened.
    confidence: least probability of the predicted class for a text to count; of several labels, each
        counts for itself.
    """

    texts: OneOrMore[Literal["test", "pool"]] = ("test",)
    weight: Positive = 1.0
    ratio: Ratio = 3.0
    augment: Annotated[tuple[Augmentation, ...], BeforeValidator(each_named)] = ()
    temperature: Annotated[Temperature, Field(le=1)] = 0.4
    confidence: Share = 0.8

    def check(self, pool: Sequence[str]) -> None:
        """Raise ValueError if there is no pool, but texts of it are to be read.

        pool: names of the competition's pool files.
        """
        if "pool" in self.texts and not pool:
            raise ValueError(
                "consistency.texts names the pool, but competition.yaml has no `pool`: name a file "
                "there, or set texts to [test]"
            )
