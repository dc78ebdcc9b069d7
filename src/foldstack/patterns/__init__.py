"""Rules beside models: patterns, cached texts and nearest training texts, and their audit."""

from foldstack.patterns.audit import Line, audit
from foldstack.patterns.file import load, read_settings
from foldstack.patterns.nearest import ByCharacters, Index, Neighbours, index_by
from foldstack.patterns.on_new_rows import FittedPatterns
from foldstack.patterns.rule_settings import PatternSettings
from foldstack.patterns.rules import Applied, Claims, Patterns, labels_of

__all__ = [
    "Applied",
    "ByCharacters",
    "Claims",
    "FittedPatterns",
    "Index",
    "Line",
    "Neighbours",
    "PatternSettings",
    "Patterns",
    "audit",
    "index_by",
    "labels_of",
    "load",
    "read_settings",
]
