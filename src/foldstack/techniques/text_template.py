"""Templates of a preset: an instruction around the texts of a row."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from foldstack.errors import cut, nearest

LABELS = "labels"  # a place that holds the names of the labels
ENDS_A_WORD = ":;,.?!)"  # after these and letters a word that follows has a space before it


class Slot(NamedTuple):
    """A place for a text of a row; name: as it is written in braces."""

    name: str


@dataclass(frozen=True)
class Template:
    """Literals around the texts of a row, parsed once.

    literals: k + 1 texts, before, between and after the k places. places: (k,) the number of the text
    in each. spaces: (k,) spaces before each place; they belong to the first token of its text.
    """

    literals: tuple[str, ...]
    places: tuple[int, ...]
    spaces: tuple[str, ...]

    @classmethod
    def parse(cls, written: str, names: Sequence[str], labels: Sequence[str] = ()) -> Template:
        """Return the template.

        Args:
            written: with places in braces: `{text}` if a row has one text, the names of several,
                `{labels}`. Two braces stand for one.
            names: of the texts of a row.
            labels: names of the labels.

        Raises:
            ValueError: a place is unknown, or a text has none.
        """
        number = {name: i for i, name in enumerate(names)}
        if len(names) == 1:
            number.setdefault("text", 0)
        literals, places = [""], []
        for part in parts_of(written):
            if isinstance(part, str):
                literals[-1] += part
            elif part.name in number:
                places.append(number[part.name])
                literals.append("")
            elif part.name == LABELS:
                literals[-1] += ", ".join(labels)
            else:
                raise ValueError(
                    f"template names {{{cut(part.name)}}}, which is no text of a row: "
                    f"{nearest(part.name, [*number, LABELS])}"
                )
        unread = [name for i, name in enumerate(names) if i not in places]
        if unread:
            raise ValueError(
                f"template has no place for the text '{cut(unread[0])}': add {{{cut(unread[0])}}}"
            )
        before = [text.rstrip(" ") for text in literals[:-1]]
        spaces = [text[len(kept) :] for text, kept in zip(literals[:-1], before, strict=True)]
        return cls((*before, literals[-1]), tuple(places), tuple(spaces))

    def continued(self) -> tuple[Template, str]:
        """Return the template without spaces at its end, and those that a word after it begins with.

        A space, unless the template ends with a line, a bracket, a quote or a special token.
        """
        end = self.literals[-1]
        kept = end.rstrip(" ")
        follows = kept != end or not kept or kept[-1].isalnum() or kept[-1] in ENDS_A_WORD
        return replace(self, literals=(*self.literals[:-1], kept)), " " * follows


def parts_of(written: str) -> list[str | Slot]:
    """Return the literals and places of a template, in order; raise ValueError if it has none."""
    try:
        parsed = list(string.Formatter().parse(written))
    except ValueError:
        parsed = [("", "", "", None)]
    if any(name == "" or spec or conversion for _, name, spec, conversion in parsed):
        raise ValueError(
            f"template is {cut(written)!r}: braces enclose the name of a text, as {{text}}, and two "
            "braces stand for one"
        )
    pairs = [(literal, Slot(name)) if name else (literal,) for literal, name, _, _ in parsed]
    return [part for pair in pairs for part in pair]
