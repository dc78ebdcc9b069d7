"""How a backbone is pretrained on the competition's texts before a model learns the target."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from foldstack.settings import Settings
from foldstack.techniques.common import Positive


class Pretraining(Settings):
    """Masked words of all texts, training, external and test ones, without a label.

    Task-adaptive pretraining (Gururangan et al. 2020, Don't Stop Pretraining). share: of the tokens,
    which are predicted from the rest; they are resampled in each epoch. A text that is longer than
    training.max_length is read in several windows. Words are predicted by the checkpoint's own head,
    if it has kept that, else by a new one. batch_size is texts or windows per update. It is done once
    for a workspace, whatever runs begin from it, so `seed` is its own.
    """

    epochs: PositiveInt = 8
    lr: Positive = 2e-4
    batch_size: PositiveInt = 32
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0)] = 0
