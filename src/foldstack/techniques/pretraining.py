"""Settings of pretraining a backbone on the competition's texts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from foldstack.settings import Positive, Settings

# In a stored model's config: it has its MLM head; true: that has learned among words of the texts only.
OF_TEXTS = "words_of_texts"


class Pretraining(Settings):
    """Masked-token pretraining on all texts of the workspace, without labels (Gururangan et al.
    2020, Don't Stop Pretraining). Texts longer than training.max_length are read in several
    windows. The checkpoint's own MLM head is used if it has one, else a newly initialised one. Done
    once per workspace.

    epochs: passes over the texts.
    lr: learning rate.
    batch_size: texts or windows per update.
    share: of the tokens that are predicted; resampled in each epoch.
    seed: of the pretraining, whichever runs start from it.
    """

    epochs: PositiveInt = 8
    lr: Positive = 2e-4
    batch_size: PositiveInt = 32
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0)] = 0
