"""Files: CSV read without guessing, and writing that a reader never sees half done."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldstack.errors import InputError


def read_table(path: Path, encoding: str) -> pd.DataFrame:
    """A CSV as text, nothing guessed (`NA`, `007` and blanks stay as they are).

    Raises InputError naming the line for a wrong encoding, an open quote, or a row with more or
    fewer fields than the header.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist: put the competition's file there")
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding=codec, newline="") as f:
            reader = csv.reader(f, strict=True)
            lines, begin = [], 1  # a row with line breaks is named by its first line
            for line in reader:
                if line:
                    lines.append((begin, line))
                begin = reader.line_num + 1
    except LookupError:
        raise InputError(
            f"encoding '{encoding}' is not known: write `encoding: utf-8` or another "
            "of Python's codecs into competition.yaml"
        ) from None
    except UnicodeDecodeError:
        raise InputError(_encoding_sentence(path, encoding, codec)) from None
    except csv.Error as e:
        raise InputError(
            f"{path}: the row that begins in line {begin} is not CSV ({e}): mend its quotes"
        ) from None
    if not lines:
        raise InputError(f"{path} is empty: a header line and rows are wanted")
    (_, header), rows = lines[0], lines[1:]
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise InputError(f"{path}: column '{twice[0]}' stands twice in the header: rename one")
    if not rows:
        raise InputError(f"{path} has a header but no rows")
    for number, row in rows:
        if len(row) != len(header):
            raise InputError(
                f"{path}, line {number} has {len(row)} fields, the header "
                f"{len(header)}: mend the commas or quotes there"
            )
    columns = zip(*(row for _, row in rows), strict=True)
    return pd.DataFrame(
        {name: np.array(column, dtype=object) for name, column in zip(header, columns, strict=True)}
    )


def _encoding_sentence(path: Path, encoding: str, codec: str) -> str:
    def decodes(line: bytes) -> bool:
        try:
            return line.decode(codec) is not None
        except UnicodeDecodeError:
            return False

    lines = enumerate(path.read_bytes().split(b"\n"), start=1)
    number = next((number for number, line in lines if not decodes(line)), 1)
    return (
        f"{path}, line {number} is not {encoding}: name the file's encoding in competition.yaml, "
        "for instance `encoding: cp1252` or `encoding: gb18030`"
    )


def publish(path: Path, data: bytes) -> None:
    """Write beside the place, flush to the disk, rename into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with beside.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    beside.replace(path)


def write_json(path: Path, value: Any) -> None:
    publish(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_text(path: Path, text: str) -> None:
    publish(path, text.encode())


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_table(path: Path, table: pd.DataFrame, encoding: str = "utf-8") -> None:
    """A CSV by one rename; line ends are \\n."""
    text = table.to_csv(index=False, lineterminator="\n")
    if "\r" in text:  # which Python 3.11 may leave bare, and a reader takes for a line's end
        text = table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL)
    publish(path, text.encode(encoding))
