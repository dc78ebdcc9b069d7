"""The commands that make a damaged run or blend again, for messages."""

from __future__ import annotations

from pathlib import Path

from foldstack import config
from foldstack.files import read_json


def make_again(folder: Path) -> str:
    """Return the advice to train a run, or to make a blend, again."""
    if folder.parent.name == "_blends":
        return f"run `make blend NAME={folder.name}` again"
    _, seed, run = folder.parts[-3:]
    fold, number = run.removeprefix("fold"), seed.removeprefix("seed")
    return f"run `{train_command(folder.parents[1])} FOLD={fold} SEED={number} FORCE=1`"


def train_command(model_dir: Path) -> str:
    """Return the command that trains a model; for a variant (NAME=), with its preset."""
    model = model_dir.name
    presets = map(_preset_in, sorted(model_dir.glob("seed*/*/run.json")))
    preset = next(filter(None, presets), model)
    return f"make train MODEL={preset}" + (f" NAME={model}" if model != preset else "")


def _preset_in(path: Path) -> str | None:
    """Return the preset in a run.json, even if its digest is wrong; None if it has none."""
    try:
        found = read_json(path).get("preset")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    known = isinstance(found, str) and config.MODEL_NAME.fullmatch(found)
    return found if known else None
