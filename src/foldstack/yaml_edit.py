"""Changes of single settings in a YAML file; comments and everything else stay as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from foldstack.competition_file import flow

PLAIN = re.compile(r"-?\d+(\.\d+)?|true|false|null")


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
        found = _entry_of(node, name)
        if found is None:
            rest = _nested(path[depth + 1 :], value)
            return _added(text, None if depth == 0 else node, name, rest)
        key, node = found
    colon = text.index(":", key.end_mark.index) + 1
    end = _end(node)
    if node.start_mark.line == key.start_mark.line and node.start_mark.index < end:
        return text[: node.start_mark.index] + plain(value) + text[end:]
    line_end = text.find("\n", colon)  # a block on lines of its own, or nothing
    comment = text[colon : line_end if line_end >= 0 else len(text)].strip()
    after = f" {plain(value)}" + (f"  {comment}" if comment else "")
    rest = text[max(end, line_end) :] if line_end >= 0 else ""
    return text[:colon] + after + rest


def _entry_of(node: yaml.Node, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next(((key, value) for key, value in node.value if key.value == name), None)


def _end(node: yaml.Node) -> int:
    """Return where a value ends; the mark of a block is behind the comments that follow it."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return node.end_mark.index


def plain(value: Any) -> str:
    """Return a value as YAML on one line; numbers and booleans without quotes, since all is text."""
    if isinstance(value, str) and PLAIN.fullmatch(value):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(plain, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(k)}: {plain(v)}" for k, v in value.items()) + "}"
    return flow(value)


def _nested(path: Sequence[str], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


def _added(text: str, within: yaml.Node | None, name: str, value: Any) -> str:
    """Return the text with a new key in a mapping, or at the top level (None)."""
    line = f"{flow(name)}: {plain(value)}"
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
