"""Stage: competition.yaml guessed from the three files of a competition, with reasons."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from foldstack.competition import Competition
from foldstack.competition_file import SHOWN, competition_yaml
from foldstack.config import validate
from foldstack.encoding import decodes, likely_encoding
from foldstack.errors import InputError, some
from foldstack.files import placing, read_table, stem, text_bytes, together, write_text
from foldstack.guess import guess
from foldstack.records import CopiedFile, GuessReason, InitResult
from foldstack.settings import CompetitionSettings, FileSettings

ROLES = ("train", "test", "sample")


def init(
    root: Path,
    *,
    train: str | Path | None = None,
    test: str | Path | None = None,
    sample: str | Path | None = None,
    overrides: Mapping[str, str | None] | None = None,
    reasons: bool = False,
    force: bool = False,
) -> InitResult:
    """Write competition.yaml for these files, or for those in input/.

    Args:
        root: the workspace's folder.
        train, test, sample: files, which are copied into input/ if they are elsewhere.
        overrides: see `guess.guess`.
        reasons: whether the result is shown with every reason, those of further settings and unused
            columns included.
        force: overwrite competition.yaml, and files of these names in input/.

    Returns:
        The settings with a reason for each.

    Raises:
        InputError: nothing was written. If it has a `result`, these guesses or the files fail the
            checks of later stages.
    """
    path = root / "competition.yaml"
    if path.exists() and not force:
        raise InputError(
            f"{path} is there already: take another WORKSPACE, or add --force (FORCE=1) to write "
            "over it"
        )
    given = dict(zip(ROLES, (train, test, sample), strict=True))
    sources = {role: _source(root, role, given[role]) for role in ROLES}
    places = _places(root, sources, force)
    encoding = _encoding(list(sources.values()))
    tables = (read_table(source, encoding) for source in sources.values())
    found = guess(*tables, overrides)
    name = root.resolve().name or "competition"
    settings = {"name": name} | SHOWN | found.settings | _file_settings(places, encoding)
    text = competition_yaml(settings, _about(sources), found.examples)
    checked = validate(CompetitionSettings, yaml.load(text, yaml.BaseLoader), str(path))
    made = InitResult(
        file=str(path),
        encoding=encoding,
        copied=[],
        rows=[_reason(*each) for each in found.reasons],
        proposals=[_reason(*each) for each in found.proposals],
        all_reasons=reasons,
        checked=False,
    )
    _check(root, sources, checked, made)
    with together():
        copied = [role for role in ROLES if _copy(sources[role], places[role])]
        write_text(path, text)
    pairs = [CopiedFile(source=str(sources[r]), place=str(places[r])) for r in copied]
    return made.model_copy(update={"copied": pairs, "checked": True})


def _check(
    root: Path, sources: dict[str, Path], settings: CompetitionSettings, made: InitResult
) -> None:
    """Run the checks of later stages on the files where they are; an InputError carries the guesses."""
    files = FileSettings(**{role: str(source.resolve()) for role, source in sources.items()})
    try:
        Competition(root, settings.model_copy(update={"files": files})).check()
    except InputError as e:
        e.result = made
        raise


def _reason(setting: str, value: Any, reason: str) -> GuessReason:
    plain = list(value) if isinstance(value, tuple) else value
    return GuessReason(setting=setting, value=plain, reason=reason)


# The files


def _source(root: Path, role: str, given: str | Path | None) -> Path:
    """Return the given file, or the only one of its name in input/."""
    folder = root / "input"
    if given:
        for path in (Path(given), folder / given):
            if path.is_file():
                return path
        raise InputError(f"{role.upper()}={given} is not a file: give the path of one")
    names = sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
    for wanted in _stems(role):
        found = [name for name in names if wanted(stem(name) or "")]
        if len(found) > 1:
            raise InputError(
                f"{folder} holds {some(found)}: name the one that is meant with {role.upper()}="
            )
        if found:
            return folder / found[0]
    default = getattr(FileSettings(), role)
    raise InputError(f"{folder} holds no {default}: put it there, or name it with {role.upper()}=")


def _stems(role: str) -> list:
    if role == "sample":
        return [
            lambda s: s.lower() == "sample_submission",
            lambda s: s.lower().startswith("sample"),
        ]
    return [lambda s: s.lower() == role]


def _places(root: Path, sources: dict[str, Path], force: bool) -> dict[str, Path]:
    """Return the path of each file in input/; raise InputError if it would overwrite another."""
    places = {role: root / "input" / source.name for role, source in sources.items()}
    for one, other in (("train", "test"), ("train", "sample"), ("test", "sample")):
        if places[one] == places[other]:
            raise InputError(
                f"{one.upper()}={sources[one]} and {other.upper()}={sources[other]} would both be "
                f"{places[one]}: rename one"
            )
    for role, place in places.items():
        source = sources[role]
        if place.exists() and not force and not filecmp.cmp(source, place, shallow=False):
            raise InputError(
                f"{place} is there already and differs from {source}: rename one, or add --force "
                "(FORCE=1) to write over it"
            )
    return places


def _copy(source: Path, place: Path) -> bool:
    """Copy a file by one rename, unless it is there; return whether it was copied."""
    if place.exists() and (place.samefile(source) or filecmp.cmp(source, place, shallow=False)):
        return False
    with placing(place) as beside:
        shutil.copyfile(source, beside)
    return True


def _encoding(paths: list[Path]) -> str:
    """Return UTF-8 if all files are; otherwise the likely encoding, if it decodes all files."""
    data = {path: text_bytes(path) for path in paths}
    others = [path for path in paths if not decodes(data[path], "utf-8")]
    likely = likely_encoding(data[others[0]]) if others else "utf-8"
    if likely is None or not others:  # reading refuses a file that is not text
        return "utf-8"
    for path in paths:
        is_utf8 = path not in others and not decodes(data[path], "ascii")
        if is_utf8 or not decodes(data[path], likely):
            raise InputError(
                f"{others[0]} looks like {likely}, but {path} like {likely_encoding(data[path])}: save "
                "both as UTF-8"
            )
    return likely


# competition.yaml


def _file_settings(places: dict[str, Path], encoding: str) -> dict[str, Any]:
    names = {role: place.name for role, place in places.items()}
    settings: dict[str, Any] = {}
    if names != FileSettings().model_dump():
        settings["files"] = names
    if encoding != "utf-8":
        settings["encoding"] = encoding
    return settings


def _about(sources: dict[str, Path]) -> str:
    train, test, sample = (source.name for source in sources.values())
    return f"Guessed by `make init` from {train}, {test} and {sample}."
