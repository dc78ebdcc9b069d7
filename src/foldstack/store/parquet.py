"""Predictions as Parquet files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldstack.errors import InputError
from foldstack.files import publish
from foldstack.rows import Rows
from foldstack.store.advice import make_again
from foldstack.system import is_fault


@dataclass(frozen=True)
class Predictions:
    """Logits (n, outputs), float32, and their link to probabilities; values for link 'identity'."""

    raw: np.ndarray
    link: str


def write_parquet(
    path: Path, rows: Rows, raw: np.ndarray, link: str, outputs: Iterable[str]
) -> str:
    """Write predictions as Parquet with ids, link and the hash of their rows.

    Args:
        path: the file, written atomically.
        rows: the n rows.
        raw: (n, outputs) logits, values or probabilities, stored as float32.
        link: from `raw` to probabilities, see `links`.
        outputs: the names of the outputs.

    Returns:
        A digest of `raw`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = np.ascontiguousarray(raw, dtype=np.float32)
    columns = {"id": pa.array(list(rows.ids), pa.string())}
    columns |= {f"output:{name}": pa.array(raw[:, i]) for i, name in enumerate(outputs)}
    content = _digest_of(raw)
    meta = {"link": link, "rows": rows.hash(), "content": content}
    table = pa.table(columns).replace_schema_metadata(meta)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    publish(path, sink.getvalue().to_pybytes())
    return content


def _digest_of(raw: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(raw).tobytes()).hexdigest()[:16]


def parquet_meta(path: Path) -> dict[str, str]:
    """Return the link, the hash of the rows and the digest of a file without reading its columns.

    Raises InputError if the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _meta_of(pq.read_schema(path))
    except (pa.ArrowException, OSError, ValueError) as e:
        raise _damaged(path, e) from None


def _meta_of(schema: Any) -> dict[str, str]:
    """Return the metadata of a schema; raise ValueError if `write_parquet` did not write it."""
    meta = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    outputs = [name for name in schema.names if name != "id"]
    floats = all(str(schema.field(name).type) == "float" for name in outputs)
    if not {"link", "rows", "content"} <= meta.keys() or "id" not in schema.names or not floats:
        raise ValueError("it is not a file of predictions")
    return meta


def _damaged(path: Path, reason: object) -> InputError:
    if isinstance(reason, OSError) and is_fault(reason):
        raise reason  # a fault of the machine: the file may be intact
    first = (str(reason).splitlines() or [type(reason).__name__])[0]
    return InputError(f"{path} cannot be read ({first}): {make_again(path.parent)}")


def read_parquet(path: Path) -> tuple[pd.Index, Predictions, dict[str, str]]:
    """Return ids, predictions and metadata; raise InputError if the file is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        meta = _meta_of(table.schema)
    except (pa.ArrowException, OSError, ValueError) as e:
        raise _damaged(path, e) from None
    raw = np.column_stack([table[c].to_numpy() for c in table.column_names if c != "id"])
    if _digest_of(raw) != meta["content"]:
        raise _damaged(path, "its checksum does not match")
    return pd.Index(table["id"].to_pylist(), dtype=object), Predictions(raw, meta["link"]), meta
