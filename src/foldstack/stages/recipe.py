"""Stage: a recipe as a workspace, made from the raw files of its data set."""

from __future__ import annotations

from pathlib import Path

import yaml

from foldstack.competition import Competition
from foldstack.competition_file import SHOWN, competition_yaml
from foldstack.config import SHIPPED
from foldstack.errors import InputError, nearest
from foldstack.files import publish, together, write_table, write_text
from foldstack.progress import say
from foldstack.recipes import BACKBONE, RECIPES, Recipe, Tables

PRESETS = Path(__file__).parents[1] / "recipes"


def make_recipe(
    root: Path,
    *,
    name: str | None,
    source: Path | None,
    backbone: str | None = None,
    force: bool = False,
) -> None:
    """Write input/, competition.yaml and presets/ of a recipe; an existing competition wants `force`.

    source: the folder with its raw files. backbone: a shipped preset, a hub name or a folder, instead
    of the recipe's own.

    Raises InputError, before anything is written, where one of them is not there or cannot be read.
    """
    if name not in RECIPES:
        known = nearest(name, RECIPES) if name else f"NAME= is one of {', '.join(RECIPES)}"
        raise InputError(f"recipe '{name or ''}' is not known: {known}")
    recipe, path = RECIPES[name], root / "competition.yaml"
    if path.exists() and not force:
        raise InputError(
            f"{path} is there already: take another WORKSPACE, or add --force (FORCE=1) to write "
            "over it, input/ and presets/"
        )
    tables, shared = recipe.read(_checked(source, recipe)), _backbone(backbone or BACKBONE)
    settings = {"name": name, "id": "id", "text": ["text"], "target": ["label"]}
    settings |= {"seeds": SHOWN["seeds"]} | recipe.settings
    with together():
        _write_input(root / "input", tables)
        _write_presets(root / "presets", name, shared)
        write_text(path, competition_yaml(settings, recipe.about))
    Competition.load(root).check()
    say(
        f"recipe: {name}, {len(tables.train):,} training and {len(tables.test):,} test rows in "
        f"{root / 'input'}; {path} says what is predicted, {root / 'presets'} by what"
    )


def _checked(source: Path | None, recipe: Recipe) -> Path:
    wanted = " and ".join(recipe.files)
    if source is None:
        raise InputError(f"recipe wants SOURCE=, the folder with {wanted}")
    for file in recipe.files:
        if not (source / file).is_file():
            raise InputError(f"{source / file} does not exist: SOURCE= is the folder with {wanted}")
    return source


def _write_input(folder: Path, tables: Tables) -> None:
    write_table(folder / "train.csv", tables.train)
    write_table(folder / "test.csv", tables.test)
    write_table(folder / "sample_submission.csv", tables.sample)
    if tables.solution is not None:
        write_table(folder / "private" / "solution.csv", tables.solution)
    if tables.folds is not None:
        write_table(folder / "folds.csv", tables.folds)


def _write_presets(folder: Path, name: str, shared: str) -> None:
    """The recipe's own, and what they lie over."""
    for preset in sorted((PRESETS / name).glob("*.yaml")):
        publish(folder / preset.name, preset.read_bytes())
    write_text(folder / "backbone.yaml", shared)


def _backbone(given: str) -> str:
    """The preset of a shipped preset's, a hub's or a folder's backbone.

    Raises InputError where there is no such folder.
    """
    if (SHIPPED / f"{given}.yaml").exists():
        return f"# What the other presets lie over.\npreset: {given}\n"
    from foldstack.nets.backbone import locate  # torch takes seconds to import

    found = Path(locate(given))
    place = str(found.resolve()) if found.is_dir() and not given.startswith("package:") else given
    settings = {"learner": "transformer", "backbone": place}
    if "e5" in Path(given).name.lower():
        settings["prefix"] = "query: "  # which E5 models are trained with
    about = "# What the other presets lie over: a hub name or a folder, and what stands before a text.\n"
    return about + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
