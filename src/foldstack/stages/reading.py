"""Records of the input files as they were read."""

from __future__ import annotations

from foldstack.input_tables import FileFacts
from foldstack.records import CellOfRows, ReadFile


def read_file(facts: FileFacts) -> ReadFile:
    """Return the record of a file that was read."""
    cells = [CellOfRows(**each._asdict()) for each in facts.embedded]
    return ReadFile(file=str(facts.path), rows=facts.rows, lines=facts.lines, cells=cells)
