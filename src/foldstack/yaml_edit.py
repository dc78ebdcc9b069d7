"""Changes of single settings in a YAML file; comments and everything else stay as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from foldstack.competition_file import flow


def with_value(text: str, path: Sequence[str], value: Any) -> str:
    """Return YAML text whose setting at this path, such as `folds.count`, has another value.

    Args:
        text: a block mapping.
        path: names of keys, outermost first.
        value: text, or lists and mappings of text.

    Returns:
        The text with the value replaced, its commented-out line replaced, or the setting added.
    """
    node = yaml.compose(text, Loader=yaml.BaseLoader)
    for depth, name in enumerate(path):
        found = _value_of(node, name)
        if found is None:
            rest = _nested(path[depth + 1 :], value)
            return _added(text, None if depth == 0 else node, name, rest)
        node = found
    begin, end = node.start_mark.index, node.end_mark.index
    old = text[begin:end]
    kept = old[len(old.rstrip()) :] if isinstance(node, yaml.CollectionNode) else ""
    lead = " " if not old else ""  # an empty value begins at the colon
    if (begin and text[begin - 1] == "\n") or "\n" in old.rstrip():  # a block on lines of its own
        begin = len(text[:begin].rstrip())
        lead = " "
    return text[:begin] + lead + flow(value) + kept + text[end:]


def _value_of(node: yaml.Node, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)


def _nested(path: Sequence[str], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


def _added(text: str, within: yaml.Node | None, name: str, value: Any) -> str:
    """Return the text with a new key in a mapping, or at the top level (None)."""
    line = f"{flow(name)}: {flow(value)}"
    if within is None:
        commented = re.compile(rf"^# {re.escape(name)}: .*$", re.MULTILINE)
        if commented.search(text):
            return commented.sub(lambda _: line, text, count=1)
        return text.rstrip("\n") + f"\n{line}\n"
    at = within.start_mark
    if isinstance(within, yaml.MappingNode) and not within.flow_style:
        return text[: at.index] + f"{line}\n{' ' * at.column}" + text[at.index :]
    if isinstance(within, yaml.MappingNode):
        comma = ", " if within.value else ""
        return text[: at.index + 1] + line + comma + text[at.index + 1 :]
    end = within.end_mark.index  # a plain or empty value makes place for the mapping
    return text[: at.index] + " {" + line + "}" + text[end:]
