"""YAML parser that reads every scalar as text and bounds the expansion of aliases."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from foldstack.errors import cut

# Settings nest six deep. PyYAML recurses per level and overflows the stack at about 200.
DEEPEST = 32
# A list of a million labels fits. Thirty lines of aliases can expand to 10**10 values.
MOST_NODES = 1_000_000


class YamlError(ValueError):
    """Error in a YAML text, with a one-line message.

    Attributes:
        line: its line number, from 1.
    """

    def __init__(self, problem: str, line: int):
        super().__init__(problem)
        self.line = line


def parse_yaml(text: str) -> Any:
    """Return text, lists and mappings; None for an empty document.

    Raises YamlError if the text is not YAML, nests deeper than DEEPEST, expands to more than
    MOST_NODES values, gives a name twice in a mapping, or contains a lone surrogate, which cannot be
    encoded.
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
    """PyYAML's BaseLoader with a limit on nesting, below that of the stack."""

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
            problem = "a value contains a lone surrogate"
            raise ConstructorError(None, None, problem, node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in known:
                    problem = f"'{cut(key.value)}' is given twice in a mapping: keep one"
                    raise ConstructorError(None, None, problem, key.start_mark)
                known.add(key.value)
        return super().construct_mapping(node, deep)


def encodable(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8: it contains no lone surrogate."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return (values, depth) of a node with aliases expanded. Raises ComposerError beyond the limits.

    Recursion is bounded: anchors precede their aliases and are measured first.
    """
    found = known.get(id(node))
    if found is not None:
        return found
    known[id(node)] = (0, 0)  # an alias inside its own anchor, which the constructor rejects
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
