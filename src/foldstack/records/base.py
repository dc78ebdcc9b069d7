"""Records: the JSON beside what a stage has made, with a digest of itself and of the files it is for.

A record is checked whenever it is read, and a file against its record before it is used, so that a
damaged one is named instead of giving other numbers. Records of versions before digests were kept are
checked for their form alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import pandas as pd
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
)

from foldstack.config import digest
from foldstack.errors import InputError
from foldstack.files import file_sha256, write_json


class Value(BaseModel):
    """A part of a record: frozen and typed.

    Attributes:
        ABSENT: fields that the JSON leaves out while they are None.
    """

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        frozen=True,
        populate_by_name=True,
        ser_json_inf_nan="constants",  # NaN, as `json` writes it
    )
    ABSENT: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_absent(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found = plain(self)
        return {k: v for k, v in found.items() if v is not None or k not in self.ABSENT}

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)


class Record(Value):
    """A value that a stage returns and the store keeps: frozen, typed, to and from JSON.

    Attributes:
        VERSION: the newest version that this code reads and the one it writes. A key on disk changes
            its name or meaning only with a new version and a reader of the old one.
        version: of this record; records written before there were versions have none, which reads as 1.
    """

    VERSION: ClassVar[int] = 1

    version: int = 1

    @field_validator("version")
    @classmethod
    def _is_known(cls, version: int) -> int:
        if not 1 <= version <= cls.VERSION:
            raise ValueError(
                f"a record of version {version}, and this foldstack reads up to {cls.VERSION}"
            )
        return version


R = TypeVar("R", bound=Record)

# A number that may be undefined: nan in memory, null in JSON.
Undefined = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: None if math.isnan(value) else value, when_used="json"),
]


class Table(Record):
    """A record of rows of one form, which reads as a data frame and shows as one in a notebook."""

    rows: list[Any]

    @property
    def frame(self) -> pd.DataFrame:
        """Return one line per row and one column per field."""
        return pd.DataFrame([self._cells(row) for row in self.rows])

    def _cells(self, row: Any) -> dict[str, Any]:
        return row if isinstance(row, dict) else row.model_dump()

    def _repr_html_(self) -> str:
        return self.frame.to_html(index=False)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record with its own digest."""
    plain = json.loads(json.dumps(record))  # as it will be read
    plain.pop("digest", None)
    write_json(path, plain | {"digest": digest(plain)})


Again = str | Callable[[], str]  # what makes a damaged record again, or finds that out


def read_record(path: Path, form: type[R], name: str, again: Again) -> R:
    """Return a typed record; arguments and errors are those of `read_mapping`."""
    return form.model_validate(read_mapping(path, form, name, again))


def read_mapping(path: Path, form: type[Record], name: str, again: Again) -> dict[str, Any]:
    """Return a record as it was written, without its digest.

    Args:
        form: the fields that must be there.
        name: the path, for the message.
        again: what makes the record again, for the message.

    Raises:
        InputError: it is damaged, or another file than a stage has written.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        form.model_validate(record)
        found = record.pop("digest", None)
        if found is not None and found != digest(record):
            raise ValueError("its digest does not match")
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise damaged(name, f"{where}: {first['msg'].lower()}", again) from None
    except (ValueError, RecursionError) as e:
        raise damaged(name, str(e).splitlines()[0], again) from None
    return record


def damaged(name: str, reason: str, again: Again) -> InputError:
    return InputError(f"{name} is damaged ({reason}): {again() if callable(again) else again}")


def digests_of(folder: Path, leave_out: Iterable[str] = ()) -> dict[str, str]:
    """Return the sha256 of each file below a folder, by its path there; hidden ones do not count.

    leave_out: names in the folder itself.
    """
    skipped = set(leave_out)
    paths = (p for p in sorted(folder.rglob("*")) if p.is_file())
    parts = ((path, path.relative_to(folder).parts) for path in paths)
    return {
        "/".join(names): file_sha256(path)
        for path, names in parts
        if names[0] not in skipped and not any(n.startswith(".") for n in names)
    }


def verify(folder: Path, files: dict[str, str] | None, what: str, name: str, again: Again) -> None:
    """Raise InputError unless files are as their record says.

    Args:
        files: the sha256 of each file by its path below the folder; None if the record is of a
            version before digests were kept.
        what: a file's path below the folder, or a folder's with all that the record has of it.
        name, again: see `read_mapping`.
    """
    if files is None:
        return
    known = {k: v for k, v in files.items() if k == what or k.startswith(f"{what}/")}
    if not known and any(path.is_file() for path in (folder / what, *(folder / what).rglob("*"))):
        raise damaged(f"{name}/{what}", "its record does not know it", again)
    for path, sha256 in known.items():
        place = folder / path
        if not place.is_file():
            raise damaged(f"{name}/{path}", "it is missing", again)
        if file_sha256(place) != sha256:
            raise damaged(f"{name}/{path}", "its digest does not match", again)
