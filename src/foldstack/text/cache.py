"""Cache of token ids on disk, so that each tokenizer encodes each text once.

    <folder>/<tokenizer>/<part>/    digests.npy  (n,) 16 bytes each, of distinct texts, ascending
                                    ends.npy     (n,) int64, end of each text's ids in ids.npy
                                    ids.npy      uint16 if the vocabulary fits, else int32
                                    part.json    checksums of the three

Texts are cached whole and without special tokens, independent of maximum length and strategy for
long texts. The key of a text is a digest of its content, independent of order, fold and run. Each
tokenizer, and each version of one, has its own folder. Shards (the parts on disk) are immutable.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from foldstack.files import locked
from foldstack.progress import duration, say
from foldstack.rows import Rows
from foldstack.text.sequences import (
    Stretches,
    backend_of,
    columns_of,
    copy_to,
    encode,
    encode_each,
)
from foldstack.text.shards import Shard, ShardedCache, digests_of, known_in, places_in, reason
from foldstack.text.special import kept_tokens


class TokenCache(ShardedCache):
    """Cache of token ids in a folder, memory-mapped.

    ahead: rows to tokenise together with the first missing text, so that all runs, whatever rows
    they train on and predict, find them in one shard. vectors: the folder of the same texts' vectors,
    see `text.vector_cache`.
    """

    arrays = ("ends.npy", "ids.npy")
    redoing = "tokenising its texts again"

    def __init__(self, folder: Path, ahead: Sequence[Rows] = (), vectors: Path | None = None):
        super().__init__(folder)
        self.ahead, self.vectors = ahead, vectors

    def content(self, arrays: Sequence[np.ndarray]) -> Stretches:
        ends = np.asarray(arrays[0])
        return Stretches(arrays[1], np.concatenate([[0], ends[:-1]]), ends)

    def read(
        self,
        rows: Rows,
        tokenizer: PreTrainedTokenizerBase,
        columns_of: Callable[[Rows], list[list[str]]] = columns_of,
    ) -> tuple[Stretches, ...]:
        """Return the result of `encode` per column of texts, read from the cache if present."""
        key, texts = tokenizer_key(tokenizer), columns_of(rows)
        if key is None:
            return tuple(encode(column, tokenizer) for column in texts)
        place, columns = self.folder / key, [digests_of(column) for column in texts]
        try:
            parts = self._open(place)
            if not known_in(np.concatenate(columns), parts).all():
                with locked(place / ".lock"):  # another run may tokenise the same texts
                    parts = self._fill(place, rows, tokenizer, columns_of)
        except OSError as e:  # disk full or read-only
            say(f"tokenising without the cache in {self.folder}: {reason(e)}")
            return tuple(encode(column, tokenizer) for column in texts)
        return tuple(_take(digests, parts) for digests in columns)

    def _fill(
        self,
        place: Path,
        rows: Rows,
        tokenizer: PreTrainedTokenizerBase,
        columns_of: Callable[[Rows], list[list[str]]],
    ) -> list[Shard]:
        """Write a shard of the missing texts of these rows and those ahead; return all shards."""
        begin, parts = time.monotonic(), self._open(place)
        texts = [t for r in (rows, *self.ahead) for c in columns_of(r) for t in c]
        digests, first = np.unique(digests_of(texts), return_index=True)
        known = known_in(digests, parts)
        if known.all():
            return parts
        new, first = digests[~known], first[~known]
        self._write(place, new, [texts[i] for i in first], tokenizer)
        parts = self._open(place)
        if not known_in(digests, parts).all():
            raise OSError("another process is emptying it")
        seconds = time.monotonic() - begin
        there = f"; {known.sum():,} were there" if known.any() else ""
        say(
            f"{len(new):,} texts tokenised in {duration(seconds)} ({len(new) / seconds:,.0f}/s), kept "
            f"for other runs{there}"
        )
        return parts

    def _write(
        self,
        place: Path,
        digests: np.ndarray,
        texts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """Write a new shard of these texts."""
        largest = max(tokenizer.get_vocab().values(), default=0)
        dtype = np.dtype(np.uint16 if largest < 2**16 else np.int32)

        def fill(folder: Path) -> None:
            lengths = _write_ids(folder / "ids.npy", dtype, encode_each(texts, tokenizer))
            np.save(folder / "ends.npy", np.cumsum(lengths))

        self._put(place, digests, fill)


def tokenizer_key(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a digest of everything that determines a tokenizer's ids: its backend, library versions.

    None if Python code contributes, whose inputs cannot be hashed (RoFormer's calls rjieba).
    """
    backend = backend_of(tokenizer)
    if backend is None:
        return None
    try:
        content = backend.to_str()
    except Exception as e:  # the library raises no specific type
        if "Custom" not in str(e):
            raise
        return None
    versions = [importlib.metadata.version(name) for name in ("tokenizers", "transformers")]
    whole = f"{versions} {tokenizer.split_special_tokens} {content}"
    if tokenizer.split_special_tokens:
        whole += f" spelled but for {sorted(kept_tokens(tokenizer))}"
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _take(digests: np.ndarray, parts: Sequence[Shard]) -> Stretches:
    """Return the ids per text: a view of one shard, or a copy from several."""
    n = len(digests)
    missing, held = np.ones(n, dtype=bool), []
    for part in parts:
        rest = np.flatnonzero(missing)
        places = places_in(digests[rest], part)
        rows = rest[places >= 0]
        if len(rows):
            held.append((rows, part.content.take(places[places >= 0])))
            missing[rows] = False
    if len(held) == 1:
        return held[0][1]
    lengths = np.zeros(n, dtype=np.int64)
    for rows, texts in held:
        lengths[rows] = texts.lengths
    ends = np.cumsum(lengths)
    flat = np.empty(lengths.sum(), np.int32)
    for rows, texts in held:
        copy_to(flat, (ends - lengths)[rows], texts)
    return Stretches(flat, ends - lengths, ends)


# Files


def _write_ids(
    path: Path, dtype: np.dtype, chunks: Iterator[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Write the ids of all chunks as one array, incrementally; return (n,) lengths."""
    total, lengths = 0, [np.zeros(0, dtype=np.int64)]

    def header() -> None:
        fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(f, fields | {"shape": (total,)})

    with path.open("wb") as f:
        header()  # padded, since the length is only known at the end
        begin = f.tell()
        for ids, some_lengths in chunks:
            f.write(ids.astype(dtype))
            total += len(ids)
            lengths.append(some_lengths)
        f.seek(0)
        header()
        assert f.tell() == begin
    return np.concatenate(lengths)
