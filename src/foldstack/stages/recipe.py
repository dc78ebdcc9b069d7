"""Stage: a workspace made from a recipe and the raw files of its data set."""

from __future__ import annotations

from pathlib import Path

import yaml

from foldstack.backbones import locate
from foldstack.competition import Competition
from foldstack.competition_file import SHOWN, competition_yaml
from foldstack.config import SHIPPED
from foldstack.errors import InputError, nearest
from foldstack.files import csv_text, publish_new
from foldstack.recipes import BACKBONE, RECIPES, Recipe, Tables
from foldstack.records import CompetitionMade

PRESETS = Path(__file__).parents[1] / "recipes"


def make_recipe(
    root: Path,
    *,
    name: str | None,
    source: Path | None,
    backbone: str | None = None,
    force: bool = False,
) -> CompetitionMade:
    """Write input/, competition.yaml and presets/ of a recipe.

    Args:
        root: the workspace's folder.
        name: the recipe.
        source: the folder with its raw files.
        backbone: a shipped preset, a hub name or a folder; None for the recipe's own.
        force: overwrite an existing competition.

    Returns:
        The paths and the numbers of rows.

    Raises:
        InputError: the recipe, a file or the backbone is missing or invalid; nothing was written.
    """
    if not name:
        raise InputError(f"recipe requires a NAME=, one of {', '.join(RECIPES)}")
    if name not in RECIPES:
        raise InputError(f"recipe '{name}' is not known: {nearest(name, RECIPES)}")
    recipe, path = RECIPES[name], root / "competition.yaml"
    if path.exists() and not force:
        raise InputError(
            f"{path} is there already: take another WORKSPACE, or add --force (FORCE=1) to write "
            "over it, input/ and presets/"
        )
    tables, shared = recipe.read(_checked(source, recipe)), _backbone(backbone or BACKBONE)
    contents = _input(root / "input", tables) | _presets(root / "presets", name, shared)
    settings = {"name": name, "id": "id", "text": ["text"], "target": ["label"]}
    settings |= {"seeds": SHOWN["seeds"]} | recipe.settings
    contents[path] = competition_yaml(settings, recipe.about).encode()
    publish_new(contents, force)
    Competition.load(root).check()
    return CompetitionMade(
        name=name,
        train_rows=len(tables.train),
        test_rows=len(tables.test),
        settings=str(path),
        input=str(root / "input"),
        presets=str(root / "presets"),
    )


def _checked(source: Path | None, recipe: Recipe) -> Path:
    files = " and ".join(recipe.files)
    if source is None:
        raise InputError(f"recipe requires SOURCE=, the folder with {files}")
    for file in recipe.files:
        if not (source / file).is_file():
            raise InputError(f"{source / file} does not exist: SOURCE= is the folder with {files}")
    return source


def _input(folder: Path, tables: Tables) -> dict[Path, bytes]:
    named = {
        "train.csv": tables.train,
        "test.csv": tables.test,
        "sample_submission.csv": tables.sample,
        "private/solution.csv": tables.solution,
        "folds.csv": tables.folds,
    }
    return {folder / k: csv_text(v).encode() for k, v in named.items() if v is not None}


def _presets(folder: Path, name: str, shared: str) -> dict[Path, bytes]:
    """Return the recipe's presets and backbone.yaml, which they are based on."""
    own = {folder / p.name: p.read_bytes() for p in sorted((PRESETS / name).glob("*.yaml"))}
    return own | {folder / "backbone.yaml": shared.encode()}


def _backbone(given: str) -> str:
    """Return backbone.yaml for a shipped preset, a hub name or a folder.

    Raises InputError if the folder does not exist.
    """
    if (SHIPPED / f"{given}.yaml").exists():
        return f"# What the other presets lie over.\npreset: {given}\n"
    found = Path(locate(given))
    place = str(found.resolve()) if found.is_dir() and not given.startswith("package:") else given
    settings = {"learner": "transformer", "backbone": place}
    if "e5" in Path(given).name.lower():
        settings["prefix"] = "query: "  # which E5 models are trained with
    about = "# What the other presets lie over: a hub name or a folder, and what stands before a text.\n"
    return about + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
