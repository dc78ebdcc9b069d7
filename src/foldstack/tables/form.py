"""How a table is written in its file: encoding, delimiter, quotes, header, names of columns."""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST_SPACE = (
    "first_space"  # delimiter of lines `labels text`, which are split at their first space
)
DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


@dataclass(frozen=True)
class TableForm:
    """How a table is written in its file.

    Attributes:
        encoding: of the file.
        delimiter: of CSV, TSV and text files; None: by the suffix.
        quoting: csv, none, or auto, see `delimited.quoting_of`.
        header: whether the first line names the columns; otherwise they are c1, c2, …
        columns: names for columns, by their names in the file.
    """

    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: str = "auto"
    header: bool = True
    columns: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, form: TableForm | str) -> TableForm:
        """Return the form itself, or the usual one in this encoding."""
        return cls(form) if isinstance(form, str) else form
