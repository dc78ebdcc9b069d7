"""Stage: competition.yaml guessed from the three files of a competition, with reasons."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from foldstack.competition import Competition
from foldstack.competition_file import SHOWN, competition_yaml
from foldstack.config import validate
from foldstack.encoding import decodes, likely_encoding
from foldstack.errors import InputError, some
from foldstack.files import placing, together, write_text
from foldstack.guess import Guess, guess
from foldstack.records import CopiedFile, GuessReason, InitResult
from foldstack.settings import CompetitionSettings, FileSettings
from foldstack.stages.forecast import forecast_note, forecasts
from foldstack.stages.init_files import ROLES, InputFiles, archive_of, unpacked_archive
from foldstack.stages.reading import read_file
from foldstack.tables import stem, text_bytes


def init(
    root: Path,
    *,
    train: str | Path | None = None,
    test: str | Path | None = None,
    sample: str | Path | None = None,
    join: str | None = None,
    overrides: Mapping[str, str | None] | None = None,
    reasons: bool = False,
    quick: bool = False,
    force: bool = False,
) -> InitResult:
    """Write competition.yaml for these files, or for those in input/.

    Args:
        root: the workspace's folder.
        train, test, sample: files, which are copied into input/ if they are elsewhere; train may be
            a zip with all of them. Without a sample, one is made.
        join: a second file by a key that train and test share, or a comma list of its parts.
        overrides: see `guess.guess`.
        reasons: whether the result is shown with every reason, those of further settings and unused
            columns included.
        quick: without a forecast of the models' training time.
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
    with ExitStack() as stack:
        folder = root / "input"
        archive = archive_of(folder, train)
        if archive is not None:
            given["train"], folder = None, stack.enter_context(unpacked_archive(archive))
        return _init(root, folder, given, join, overrides or {}, reasons, quick, force, archive)


def _init(
    root: Path,
    folder: Path,
    given: dict[str, str | Path | None],
    join: str | None,
    overrides: Mapping[str, str | None],
    reasons: bool,
    quick: bool,
    force: bool,
    archive: Path | None,
) -> InitResult:
    """Guess from the files given, or else those in this folder, and write.

    Args:
        root: the workspace's folder.
        folder: where files are that are not given.
        given: the files by role.
        join: as of `init`.
        overrides: as of `init`.
        reasons: as of `init`.
        quick: as of `init`.
        force: as of `init`.
        archive: the zip that the folder was unpacked from.

    Returns:
        The result of `init`.

    Raises:
        InputError: as `init`.
    """
    path = root / "competition.yaml"
    found_at = {role: _source(folder, role, given[role]) for role in ROLES}
    sources = {role: source for role, source in found_at.items() if source is not None}
    second = [_named(folder, "join", each.strip()) for each in (join or "").split(",") if each]
    joined = {f"join{i}": source for i, source in enumerate(second, start=1)}
    places = _places(root, sources | joined, force)
    encoding = _encoding([*sources.values(), *second])
    files = InputFiles.of(sources, encoding, second)
    with TemporaryDirectory() as made_in:
        named = _named_again(sources, second)
        found = _guessed(files, overrides, named, Path(made_in))
        files.propose_joins(folder)
        places |= _places(root, files.sources, force)
        name = root.resolve().name or "competition"
        settings = {"name": name} | SHOWN | found.settings | files.settings
        settings |= _file_settings({r: p for r, p in places.items() if r in ROLES}, encoding)
        text = competition_yaml(settings, _about(sources), found.examples)
        checked = validate(CompetitionSettings, yaml.load(text, yaml.BaseLoader), str(path))
        made = InitResult(
            file=str(path),
            encoding=encoding,
            copied=[],
            rows=[_reason(*each) for each in (*files.said, *found.reasons)],
            proposals=[_reason(*each) for each in found.proposals],
            all_reasons=reasons,
            notes=files.notes,
            files=[read_file(each) for each in files.facts],
            checked=False,
        )
        competition = _checked(root, files.where_found(checked), made)
        expected = [] if quick else list(forecasts(competition, root))
        made = made.model_copy(update={"forecasts": expected})
        notes = {each.model: forecast_note(each) for each in expected}
        text = competition_yaml(settings, _about(sources), found.examples, notes)
        sources = files.sources | joined
        old = path.read_text(encoding="utf-8") if path.exists() else text
        with together():
            copied = [role for role, place in places.items() if _copy(sources[role], place)]
            write_text(path, text)
            if old != text:
                write_text(path.with_suffix(".yaml.old"), old)
                files.notes.append(
                    f"the settings before are in {path.name}.old, those of `make set` included"
                )
    shown = {
        role: f"{archive}/{source.name}" if archive and source.parent == folder else str(source)
        for role, source in sources.items()
    }
    given_ones = [role for role in copied if found_at.get(role, True)]  # a sample may be made
    pairs = [CopiedFile(source=shown[r], place=str(places[r])) for r in given_ones]
    return made.model_copy(update={"copied": pairs, "notes": files.notes, "checked": True})


def _named_again(sources: Mapping[str, Path], second: list[Path]) -> dict[str, str]:
    """Return the arguments that another `init` needs to find these files in input/."""
    named = {
        role: path.name
        for role, path in sources.items()
        if not any(wanted(stem(path.name) or "") for wanted in _stems(role))
    }
    return named | ({"join": ",".join(path.name for path in second)} if second else {})


def _guessed(
    files: InputFiles,
    overrides: Mapping[str, str | None],
    named: Mapping[str, str],
    made_in: Path,
) -> Guess:
    """Return the guess from the tables; make a sample in this folder if there is none.

    named: the files that were named.
    """
    made = "sample" not in files.tables
    if not made:
        files.tables["sample"] = files.without_repeated(overrides.get("id"))
    else:
        files.make_sample(overrides, made_in)
    tables = (files.tables[role] for role in ROLES)
    return guess(*tables, overrides, of_files=named, made_sample=made)


def _checked(root: Path, settings: CompetitionSettings, made: InitResult) -> Competition:
    """Return the competition of the files where they are, with the checks of later stages done.

    An InputError carries the guesses.
    """
    competition = Competition(root, settings)
    try:
        competition.check()
    except InputError as e:
        e.result = made
        raise
    return competition


def _reason(setting: str, value: Any, reason: str) -> GuessReason:
    plain = list(value) if isinstance(value, tuple) else value
    return GuessReason(setting=setting, value=plain, reason=reason)


# The files


def _named(folder: Path, role: str, given: str | Path) -> Path:
    for path in (Path(given), folder / given):
        if path.is_file():
            return path
    raise InputError(f"{role.upper()}={given} is not a file: give the path of one")


def _source(folder: Path, role: str, given: str | Path | None) -> Path | None:
    """Return the given file, or the only one of its name in the folder; None for no sample."""
    if given:
        return _named(folder, role, given)
    names = sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
    for wanted in _stems(role):
        found = [name for name in names if wanted(stem(name) or "")]
        if len(found) > 1:
            raise InputError(
                f"{folder} holds {some(found)}: name the one that is meant with {role.upper()}="
            )
        if found:
            return folder / found[0]
    if role == "sample":
        return None
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
    for one, other in combinations(places, 2):
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
    names = FileSettings().model_dump() | {role: place.name for role, place in places.items()}
    settings: dict[str, Any] = {}
    if names != FileSettings().model_dump():
        settings["files"] = names
    if encoding != "utf-8":
        settings["encoding"] = encoding
    return settings


def _about(sources: dict[str, Path]) -> str:
    *names, last = (source.name for source in sources.values())
    return f"Guessed by `make init` from {', '.join(names)} and {last}."
