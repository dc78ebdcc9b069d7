"""Which separator joins the labels of a cell, told from names that merely hold such a sign.

`Drama|Comedy` is two labels, `New York` and `Sci/Tech` are one. A sign that names seldom hold is
believed where parts recur; one that names do hold only where every part is a label by itself, or
where the cells are combinations by their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from foldstack.errors import InputError

SELDOM_IN_NAMES = ("|", ";", "\t", "、", "；")
IN_NAMES = (",", "，", "/", "#", "+", "&", " ")


def find_separator(cells: Iterable[str]) -> str | None:
    """The separator of a column of joined labels, None where its cells are single labels."""
    values = {value for value in cells if value.strip()}
    if any(v.startswith("[") and v.endswith("]") and "'" in v for v in values):
        raise InputError(
            "the target's cells are written as Python lists, ['a', 'b']: join their labels by a bar, a|b"
        )
    for sign in SELDOM_IN_NAMES:
        if _recurs(values, sign):
            return _as_written(values, sign)
    for sign in IN_NAMES:
        if (
            _labels_by_themselves(values, sign)
            or _combinations(values, sign)
            or (sign == " " and _numbers(values, sign) and _recurs(values, sign))
        ):
            return _as_written(values, sign)
    return None


def join_of(values: set[str], labels: set[str]) -> str | None:
    """The separator by which these cells fall into exactly these labels, None without one."""
    for sign in (*SELDOM_IN_NAMES, *IN_NAMES):
        if any(sign in v for v in values) and parts_of(values, sign) == labels:
            return _as_written(values, sign)
    return None


def parts_of(values: Iterable[str], separator: str) -> set[str]:
    """All labels that the cells join."""
    return {part for value in values for part in _split(value, separator)}


def _split(value: str, sign: str) -> list[str]:
    return [part for part in map(str.strip, value.split(sign)) if part]


def _parts(values: set[str], sign: str) -> tuple[set[str], list[list[str]]]:
    """(labels that stand alone, the parts of each different joined cell)."""
    split = [_split(value, sign) for value in values]
    alone = {parts[0] for parts in split if len(parts) == 1}
    return alone, [parts for parts in split if len(parts) > 1]


def _recurs(values: set[str], sign: str) -> bool:
    """At least half of the joined parts stand alone as well, or in another cell."""
    alone, joined = _parts(values, sign)
    cells = Counter(part for parts in joined for part in set(parts))
    recurring = sum(part in alone or count > 1 for part, count in cells.items())
    return 2 * recurring >= len(cells) > 0


def _labels_by_themselves(values: set[str], sign: str) -> bool:
    alone, joined = _parts(values, sign)
    return bool(joined) and all(part in alone for parts in joined for part in parts)


def _combinations(values: set[str], sign: str) -> bool:
    """Far more different cells than parts, of one, two and more parts: no list of names is so."""
    alone, joined = _parts(values, sign)
    parts = alone.union(*joined)
    sizes = {len(parts) for parts in joined} | ({1} if alone else set())
    return len(values) >= 2 * len(parts) and len(sizes) > 2 and 2 * len(alone) >= len(parts)


def _numbers(values: set[str], sign: str) -> bool:
    """`16 0`: whole numbers between spaces are no name (`1,5` may be a number itself)."""
    return all(part.isdecimal() for part in parts_of(values, sign))


def _as_written(values: set[str], sign: str) -> str:
    """With the space after it, where every one has that."""
    followed = [rest[:1] for value in values for rest in value.split(sign)[1:]]
    return sign + " " if sign != " " and all(after == " " for after in followed) else sign
