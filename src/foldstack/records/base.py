"""The base of all records: JSON files with a digest of themselves and of the files they describe.

A record is validated whenever it is read, and a file is compared with its record before it is used, so
that a damaged file is reported instead of changing the numbers. Records without a digest, from older
versions, are only validated.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

import pandas as pd
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic_core import ErrorDetails

from foldstack.config import digest
from foldstack.errors import InputError
from foldstack.files import file_sha256, write_json


class Value(BaseModel):
    """A frozen, typed part of a record.

    Attributes:
        ABSENT: fields that the JSON omits if they are None.
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

    @classmethod
    def from_dataclass(cls, made: Any) -> Self:
        """Return the record of a dataclass that has the same fields."""
        return cls(**dataclasses.asdict(made))

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)


class Record(Value):
    """A frozen, typed result of a stage that the store reads and writes as JSON.

    Attributes:
        VERSION: the version that this code writes, and the newest one that it reads. Renaming a key on
            disk or changing its meaning requires a new version and a reader of the old one.
        version: the version of this record; 1 if the JSON has none.
    """

    VERSION: ClassVar[int] = 1

    version: int = 1

    @field_validator("version")
    @classmethod
    def _is_known(cls, version: int) -> int:
        if not 1 <= version <= cls.VERSION:
            raise ValueError(f"{version} is not a version from 1 to {cls.VERSION}")
        return version


STORED = "stored"  # the context in which a record is validated that is read from disk

R = TypeVar("R", bound=Record)

# A number that may be undefined: nan in memory, null in JSON.
Undefined = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: None if math.isnan(value) else value, when_used="json"),
]


def is_finite(value: float, info: ValidationInfo) -> float:
    """Return a number; raise ValueError if it is read from disk and is nan or infinite."""
    if info.context == STORED and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value


# A number that a stored record always has, unless somebody has changed it.
Finite = Annotated[float, AfterValidator(is_finite)]


class Table(Record):
    """A record of similar rows, available as a data frame and displayed as one in a notebook."""

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


Again = str | Callable[[], str]  # advice on how to make a damaged record again


def read_record(path: Path, form: type[R], name: str, again: Again) -> R:
    """Return a typed record; see `read_mapping` for arguments and errors."""
    return _read(path, form, name, again)[0]


def read_mapping(path: Path, form: type[Record], name: str, again: Again) -> dict[str, Any]:
    """Return a record as it was written, without its digest.

    Args:
        path: the JSON file.
        form: the record class that validates it.
        name: the path as messages show it.
        again: advice on how to make the record again, for messages.

    Returns:
        The JSON object.

    Raises:
        InputError: it is damaged, of a newer version, or not a record of this form.
    """
    return _read(path, form, name, again)[1]


def _read(path: Path, form: type[R], name: str, again: Again) -> tuple[R, dict[str, Any]]:
    """Return a record and its JSON object."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("it is not a JSON object")
        _refuse_newer(record, form, name, again)
        typed = form.model_validate(record, context=STORED)
        found = record.pop("digest", None)
        if found is not None and found != digest(record):
            raise ValueError("its digest does not match")
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise damaged(name, f"{where}: {_reason(first)}", again) from None
    except (ValueError, RecursionError) as e:
        raise damaged(name, str(e).splitlines()[0], again) from None
    return typed, record


def _reason(error: ErrorDetails) -> str:
    """Return what is wrong with a field, as a part of a sentence."""
    text = error["msg"].removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _refuse_newer(record: dict[str, Any], form: type[Record], name: str, again: Again) -> None:
    """Raise InputError if a record has a newer version than this code reads."""
    version = record.get("version")
    if type(version) is int and version > form.VERSION:
        other = _advice(again)
        raise InputError(
            f"{name} was written by a newer foldstack (record version {version}; this one reads up to "
            f"{form.VERSION}): install that version" + (f", or {other}" if other else "")
        )


def damaged(name: str, reason: str, again: Again) -> InputError:
    """Return the error for a damaged record or file."""
    return InputError(f"{name} is damaged ({reason}): {_advice(again)}")


def _advice(again: Again) -> str:
    return again() if callable(again) else again


def digests_of(folder: Path, leave_out: Iterable[str] = ()) -> dict[str, str]:
    """Return the sha256 of each file below a folder, by relative path, without hidden files.

    leave_out: top-level names to skip.
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
    """Compare files with the digests in their record.

    Args:
        folder: the folder that the record describes.
        files: the sha256 of each file, by relative path; None if the record has no digests.
        what: the relative path of a file, or of a folder with all its recorded files.
        name, again: see `read_mapping`.

    Raises:
        InputError: a file is missing, differs from its digest, or is not in the record.
    """
    if files is None:
        return
    known = {k: v for k, v in files.items() if k == what or k.startswith(f"{what}/")}
    if not known and any(path.is_file() for path in (folder / what, *(folder / what).rglob("*"))):
        raise damaged(f"{name}/{what}", "its record does not list it", again)
    for path, sha256 in known.items():
        place = folder / path
        if not place.is_file():
            raise damaged(f"{name}/{path}", "it is missing", again)
        if file_sha256(place) != sha256:
            raise damaged(f"{name}/{path}", "its digest does not match", again)
