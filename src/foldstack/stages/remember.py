"""Stage: settings written into competition.yaml, so that every later command has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from foldstack import config
from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.files import write_text
from foldstack.folds import check_settings
from foldstack.labels import split_labels
from foldstack.records import RememberedSettings
from foldstack.settings import CompetitionSettings
from foldstack.yaml_edit import plain, with_value


def remember(root: Path, sets: list[str]) -> RememberedSettings:
    """Write the settings of `--set` into competition.yaml; its comments stay.

    Raises:
        InputError: nothing is given, a setting is a model's, or a value does not fit; nothing is
            written then.
    """
    if not sets:
        raise InputError('set takes settings: `make set SET="folds.count=10 metric=f1"`')
    path = root / "competition.yaml"
    config.load_competition(path, {})
    overrides = config.parse_overrides(sets)
    config.check_overrides(overrides)
    _, of_models = config.split_overrides(overrides)
    if of_models:
        raise InputError(
            f"set: '{next(iter(of_models))}' is a model's setting, which competition.yaml holds under "
            "`models:`, `- mine: {preset: …, …}`, or a preset in presets/: write it there"
        )
    text, changed = path.read_text(encoding="utf-8"), {}
    for setting in sets:
        (name, value), *_ = _leaves(config.parse_overrides([setting]))
        text = with_value(text, name.split("."), value)
        changed[name] = plain(value)
    data = yaml.load(text, yaml.BaseLoader)
    settings = config.validate(CompetitionSettings, data, f"{path} with these settings")
    _ = Competition(root, settings).metric  # whether it is known, and fits the kind
    check_settings(settings.folds)
    labels = None if "labels" in changed else _split_labels(root, settings)
    if labels is not None and "separator" in changed:
        text = with_value(text, ["labels"], labels)
        changed["labels"] = plain(labels)
    write_text(path, text)
    return RememberedSettings(file=str(path), settings=changed)


def _split_labels(root: Path, settings: CompetitionSettings) -> list[str] | None:
    """Return the labels of the training rows if `labels` has one that `separator` splits, else None."""
    by = settings.separator
    if not by or all(len(split_labels(label, by)) == 1 for label in settings.labels):
        return None
    return list(Competition(root, settings.model_copy(update={"labels": ()})).labels)


def _leaves(nested: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in nested.items():
        here = f"{above}{name}"
        found += _leaves(value, f"{here}.") if isinstance(value, dict) else [(here, value)]
    return found
