"""Adversarial validation: how the test file differs from the training file."""

from foldstack.drift.adversary import (
    CLAIMED,
    FEWEST,
    Drift,
    TooFewGroups,
    compare,
    effective_rows,
)
from foldstack.drift.both_files import Files
from foldstack.drift.giveaways import Reason
from foldstack.drift.sharing import Sharing, sharing

__all__ = [
    "CLAIMED",
    "FEWEST",
    "Drift",
    "Files",
    "Reason",
    "Sharing",
    "TooFewGroups",
    "compare",
    "effective_rows",
    "sharing",
]
