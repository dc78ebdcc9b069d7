"""docs/settings.md, written from the settings classes by `python -m foldstack.reference FILE`.

The meaning of a setting is read from the docstring of its class, from sentences of the form
`name: meaning` or `first, second: meaning`; otherwise from the comments of a new competition.yaml.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from foldstack.competition_file import PARTS, flow
from foldstack.patterns.rule_settings import PatternSettings
from foldstack.settings import CompetitionSettings, Settings
from foldstack.techniques import LearnerSettings

INTRODUCTION = """\
# Settings

Written by `make reference` from the settings classes; a test compares the two. A setting is given in
the file that its section names, or on the command line: `SET="training.epochs=3 folds.count=10"`.
Unknown names, wrong types and impossible values are rejected with the file, the key and the nearest
valid name. A technique is given by its name, `adversary: fgm`, or with settings of its own,
`adversary: {name: fgm, epsilon: 0.5}`.
"""
HEADER = "| setting | type | default | meaning |\n|---|---|---|---|"
FAMILY_HEADER = "| name | setting | type | default | meaning |\n|---|---|---|---|---|"
TAGS = ("name", "learner")  # the fields that select a class of a union
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
WORDS = {"string": "text", "boolean": "true or false", "object": "mapping"}


def reference() -> str:
    """Return the contents of docs/settings.md."""
    seen: list[type[Settings]] = []
    lines = [INTRODUCTION]
    lines += _section("competition.yaml", "", CompetitionSettings, 2, seen)
    lines += _section("The file that `patterns` names", "", PatternSettings, 2, seen)
    for name, settings in LearnerSettings.registered.items():
        lines += _section(f"Presets with `learner: {name}`", "", settings, 2, seen)
    return "\n".join(lines).rstrip() + "\n"


def undescribed() -> list[str]:
    """Return the fields, as `Class.name`, that no docstring describes."""
    tops = [CompetitionSettings, PatternSettings, *LearnerSettings.registered.values()]
    found = [
        f"{_origin(settings, name).__name__}.{name}"
        for top in tops
        for settings in _with_those_inside(top)
        for name in _fields(settings)
        if not meanings(settings).get(name)
    ]
    return list(dict.fromkeys(found))


def _origin(settings: type[Settings], name: str) -> type:
    """Return the class, this one or a base, that declares a field."""
    return next(c for c in settings.__mro__ if name in inspect.get_annotations(c))


def _with_those_inside(settings: type[Settings]) -> list[type[Settings]]:
    inner = [c for field in settings.model_fields.values() for c in _classes(field.annotation)]
    return [settings, *(each for c in inner for each in _with_those_inside(c))]


def _section(
    title: str, path: str, settings: type[Settings], depth: int, seen: list[type[Settings]]
) -> Iterator[str]:
    """Yield a heading, a summary and a table, then the sections of settings inside these.

    Args:
        path: prefix of the names of settings in headings, `training.`.
        depth: of the heading.
        seen: classes that have a section, whose fields are not listed again for classes derived from
            them; this one is added.
    """
    yield f"{'#' * depth} {title}\n"
    if summary := _summary(settings):
        yield summary + "\n"
    inherited = {name for c in seen if issubclass(settings, c) for name in c.model_fields}
    seen.append(settings)
    fields = {k: v for k, v in _fields(settings).items() if k not in inherited}
    yield "\n".join([HEADER, *_rows(settings, fields)]) + "\n"
    for name, field in fields.items():
        inner = _classes(field.annotation)
        if any(_names(c) for c in inner):
            yield f"{'#' * (depth + 1)} `{path}{name}`\n"
            yield (
                "\n".join([FAMILY_HEADER, *(row for c in inner for row in _family_rows(c))]) + "\n"
            )
        elif inner and inner[0] not in seen:
            yield from _section(
                f"`{path}{name}`", f"{path}{name}.", inner[0], min(depth + 1, 4), seen
            )


def _rows(settings: type[Settings], fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    means = meanings(settings)
    for name, field in fields.items():
        none = _word_for_none(field)
        cells = (f"`{name}`", _type(field, none), _default(field, none), means.get(name, ""))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _family_rows(settings: type[Settings]) -> Iterator[str]:
    """Yield a technique's row, and one for each of its settings."""
    yield f"| {_quoted(_names(settings))} | | | | {_summary(settings)} |"
    for row in _rows(settings, _fields(settings)):
        yield "| " + row.replace("settings, below", "settings")  # of another section


def _fields(settings: type[Settings]) -> dict[str, FieldInfo]:
    """Return the fields without those that select a class of a union."""
    return {k: v for k, v in settings.model_fields.items() if not _names(settings, k)}


def _names(settings: type[Settings], tag: str = "name") -> tuple[str, ...]:
    """Return the names that select a class among others; none if it is the only one."""
    field = settings.model_fields.get(tag)
    literal = tag in TAGS and field is not None and get_origin(field.annotation) is Literal
    return get_args(field.annotation) if literal else ()


def _classes(annotation: Any) -> list[type[Settings]]:
    """Return the settings classes that an annotation, optional, a list or a union, may mean."""
    if get_args(annotation):
        return [c for part in get_args(annotation) for c in _classes(part)]
    if not inspect.isclass(annotation) or not issubclass(annotation, Settings):
        return []
    family = {} if _names(annotation) else getattr(annotation, "registered", {})
    return list(dict.fromkeys(family.values())) or [annotation]


def meanings(settings: type[Settings]) -> dict[str, str]:
    """Return the meaning of each field; a class's own docstring overrides those of its bases."""
    found = _comments(settings)
    for base in reversed(settings.__mro__):
        if issubclass(base, Settings) and base.__doc__:
            found |= _described(base.__doc__, list(settings.model_fields))
    return found


def _described(docstring: str, names: list[str]) -> dict[str, str]:
    """Return the meanings that a docstring gives, each up to the next one or the paragraph's end."""
    found = {}
    for paragraph in inspect.cleandoc(docstring).split("\n\n"):
        text = " ".join(paragraph.split())
        places = list(_beginning(names).finditer(text))
        ends = [place.start() for place in places[1:]] + [len(text)]
        for place, end in zip(places, ends, strict=False):
            meaning = text[place.end() : end].strip().rstrip(".;")
            found |= dict.fromkeys(place[1].split(", "), meaning)
    return found


def _beginning(names: list[str]) -> re.Pattern[str]:
    """Match `name: ` or `first, second: ` at the beginning of a sentence or a clause."""
    name = "(?:" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + ")"
    return re.compile(rf"(?:^|(?<=[.;)] ))({name}(?:, {name})*): ")


def _summary(settings: type[Settings]) -> str:
    """Return a class's docstring up to the first meaning of a field."""
    text = " ".join(inspect.cleandoc(settings.__dict__.get("__doc__") or "").split())
    first = _beginning(list(settings.model_fields)).search(text)
    return text[: first.start() if first else None].strip(" ;")


def _comments(settings: type[Settings]) -> dict[str, str]:
    """Return the comments of a new competition.yaml on the settings of a class, if it has any."""
    entries = {entry.name: entry for part in PARTS for entry in part}
    if settings is not CompetitionSettings:
        within = [
            entry.within
            for name, entry in entries.items()
            if settings in _classes(CompetitionSettings.model_fields[name].annotation)
        ]
        entries = {entry.name: entry for each in within for entry in each}
    return {name: entry.comment for name, entry in entries.items()}


def _type(field: FieldInfo, none: str) -> str:
    """Return a field's type in a few words; none: the word for None."""
    family = next((m.family for m in field.metadata if hasattr(m, "family")), None)
    if family:
        return _quoted(family.registered)
    classes = _classes(field.annotation)
    if not classes:
        adapter = TypeAdapter(Annotated[field.annotation, field])
        return _in_words(adapter.json_schema(), none)
    names = [name for c in classes for name in _names(c)]
    listed = "list: " if get_origin(field.annotation) is tuple else ""
    optional = f", or {none}" if type(None) in get_args(field.annotation) else ""
    return listed + (_quoted(names) or "settings, below") + optional


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _in_words(schema: Mapping[str, Any], none: str) -> str:
    """Return a JSON schema in a few words."""
    if "anyOf" in schema:
        return ", or ".join(dict.fromkeys(_in_words(part, none) for part in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return _quoted(schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        first, *others = schema["prefixItems"]
        return f"list of {1 + len(others)}: {_in_words(first, none)}"
    if schema.get("type") == "array":
        return f"list: {_in_words(schema['items'], none)}"
    if schema.get("type") == "null":
        return none
    bounds = [f"{sign} {schema[key]:,}" for key, sign in BOUNDS.items() if key in schema]
    word = WORDS.get(schema.get("type", "any"), schema.get("type", "any"))
    return " ".join([word, ", ".join(bounds)]).strip()


def _word_for_none(field: FieldInfo) -> str:
    """Return the word for a setting that is not given: `auto` if that is read as None."""
    reader = TypeAdapter(Annotated[field.annotation, field])
    try:
        return "`auto`" if reader.validate_python("auto") is None else "none"
    except ValidationError:
        return "none"


def _default(field: FieldInfo, none: str) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return none
    if isinstance(value, Settings):
        return f"`{value.name}`" if hasattr(value, "name") else ""
    return f"`{flow(value)}`"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
    else:
        sys.stdout.write(reference())
