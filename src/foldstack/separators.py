"""Detection of the separator that joins several labels in a cell.

`Drama|Comedy` is two labels; `New York` and `Sci/Tech` are one. A sign that is rare in names is
accepted if parts recur. A sign that is common in names is accepted only if every part also occurs
alone, or if the number of distinct cells shows that they are combinations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from foldstack.errors import InputError

SELDOM_IN_NAMES = ("|", ";", "\t", "、", "；")
IN_NAMES = (",", "，", "/", "#", "+", "&", " ")


def find_separator(cells: Iterable[str]) -> str | None:
    """Return the separator of a column of joined labels; None if its cells are single labels."""
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


def splitting_sign(cells: Iterable[str]) -> str | None:
    """Return the sign that splits most cells, for cells that are known to join labels; None if none.

    A sign that is rare in names comes first; a space, which stands in most names, splits none.
    """
    values = {value for value in cells if value.strip()}
    for signs in (SELDOM_IN_NAMES, IN_NAMES[:-1]):
        counts = {sign: len(_parts(values, sign)[1]) for sign in signs}
        if any(counts.values()):
            return _as_written(values, max(counts, key=counts.__getitem__))
    return None


def join_of(values: set[str], labels: set[str]) -> str | None:
    """Return the separator that splits these cells into exactly these labels; None if there is none."""
    for sign in (*SELDOM_IN_NAMES, *IN_NAMES):
        if any(sign in v for v in values) and parts_of(values, sign) == labels:
            return _as_written(values, sign)
    return None


def parts_of(values: Iterable[str], separator: str) -> set[str]:
    """Return the set of all parts of the cells."""
    return {part for value in values for part in _split(value, separator)}


def _split(value: str, sign: str) -> list[str]:
    return [part for part in map(str.strip, value.split(sign)) if part]


def _parts(values: set[str], sign: str) -> tuple[set[str], list[list[str]]]:
    """Return (labels that occur alone, parts of each distinct joined cell)."""
    split = [_split(value, sign) for value in values]
    alone = {parts[0] for parts in split if len(parts) == 1}
    return alone, [parts for parts in split if len(parts) > 1]


def _recurs(values: set[str], sign: str) -> bool:
    """Return whether at least half of the joined parts also occur alone or in another cell."""
    alone, joined = _parts(values, sign)
    cells = Counter(part for parts in joined for part in set(parts))
    recurring = sum(part in alone or count > 1 for part, count in cells.items())
    return 2 * recurring >= len(cells) > 0


def _labels_by_themselves(values: set[str], sign: str) -> bool:
    alone, joined = _parts(values, sign)
    return bool(joined) and all(part in alone for parts in joined for part in parts)


def _combinations(values: set[str], sign: str) -> bool:
    """Return whether there are far more distinct cells than parts, with one, two and more parts each."""
    alone, joined = _parts(values, sign)
    parts = alone.union(*joined)
    sizes = {len(parts) for parts in joined} | ({1} if alone else set())
    return len(values) >= 2 * len(parts) and len(sizes) > 2 and 2 * len(alone) >= len(parts)


def _numbers(values: set[str], sign: str) -> bool:
    """Return whether all parts are whole numbers: `16 0` is not a name (`1,5` may be one number)."""
    return all(part.isdecimal() for part in parts_of(values, sign))


def _as_written(values: set[str], sign: str) -> str:
    """Return the sign, with the space after it if every occurrence has one."""
    followed = [rest[:1] for value in values for rest in value.split(sign)[1:]]
    return sign + " " if sign != " " and all(after == " " for after in followed) else sign
