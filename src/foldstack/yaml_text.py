"""YAML without guessing: every scalar is text, and what a small file may expand to is bounded."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

# Settings nest six deep. PyYAML recurses for each level and would run out of stack at about 200.
DEEPEST = 32
# A list of a million labels fits. Aliases repeat a part: thirty lines can stand for 10**10 values.
MOST_NODES = 1_000_000


class YamlError(ValueError):
    """What is wrong with a YAML text, on one line.

    Attributes:
        line: where, from 1.
    """

    def __init__(self, problem: str, line: int):
        super().__init__(problem)
        self.line = line


def parse_yaml(text: str) -> Any:
    """Text, lists and mappings; None for an empty document.

    Raises YamlError where it is no YAML, nests deeper than DEEPEST, expands to more than MOST_NODES
    values, or holds half of a surrogate pair, which no file can hold.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise YamlError(f"character #x{e.character:04x} is not allowed", line) from None
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        problem = " ".join(str(e.problem or e.context).split())
        raise YamlError(problem, mark.line + 1 if mark else 1) from None
    except (ValueError, OverflowError):  # "\U00110000", a version of 5,000 digits
        line = loader.line + 1 if loader else 1
        raise YamlError(
            "the number of a character, or of the version, is out of range", line
        ) from None


class _Loader(yaml.BaseLoader):
    """PyYAML's loader of plain text, which refuses what nests too deep before its stack ends."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        self.depth += 1
        if self.depth > DEEPEST:
            problem = f"nested more than {DEEPEST} deep"
            raise ComposerError(None, None, problem, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: yaml.Node) -> str:
        value = super().construct_scalar(node)
        if not encodable(value):
            problem = "a value holds half of a surrogate pair"
            raise ConstructorError(None, None, problem, node.start_mark)
        return value


def encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8: not with half of a surrogate pair."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """(values, depth) of a node with its aliases expanded; ComposerError where they are too many.

    The stack is safe: a chain of aliases is measured from its first anchor on, as it is written.
    """
    found = known.get(id(node))
    if found is not None:
        return found
    known[id(node)] = (0, 0)  # an alias within its own anchor, which constructing refuses
    below = [] if isinstance(node, yaml.ScalarNode) else node.value
    if isinstance(node, yaml.MappingNode):
        below = [part for pair in below for part in pair]
    sizes = [_measure(part, known) for part in below]
    values = 1 + sum(size for size, _ in sizes)
    depth = 1 + max((depth for _, depth in sizes), default=0)
    if values > MOST_NODES:
        problem = f"its aliases expand to more than {MOST_NODES:,} values"
        raise ComposerError(None, None, problem, node.start_mark)
    if depth > DEEPEST:
        raise ComposerError(None, None, f"nested more than {DEEPEST} deep", node.start_mark)
    known[id(node)] = (values, depth)
    return values, depth
