"""Adversarial validation: how the test file differs from the training file."""

from foldstack.drift.files import Files
from foldstack.drift.model import (
    CLAIMED,
    FEWEST,
    Drift,
    compare,
    effective_rows,
)
from foldstack.drift.reasons import Reason
from foldstack.drift.sharing import Sharing, sharing

__all__ = [
    "CLAIMED",
    "FEWEST",
    "Drift",
    "Files",
    "Reason",
    "Sharing",
    "compare",
    "effective_rows",
    "sharing",
]
