"""Files and models that augmentation reads beside the training texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Resources:
    """Files and models that techniques read beside the training texts.

    Attributes:
        made: texts by id of training row, by the file that a technique names.
        pretrained: folder of the backbone that the run has pretrained, with its MLM head.
        filled: folder of the cache of texts that language models have changed.
    """

    made: Mapping[str, Mapping[str, list[tuple[str, ...]]]] = field(default_factory=dict)
    pretrained: Path | None = None
    filled: Path | None = None


NOTHING = Resources()
