"""Batches bucketed by length: shuffled, little padding, determined by seed and epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from foldstack.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_BATCHES = 50
STREAM = 6  # separates this random stream from those of batches, samplers and windows


class Sequences(Protocol):
    """Input of a network: tokens, or a frozen backbone's outputs for them."""

    @property
    def lengths(self) -> np.ndarray: ...

    def batch(self, rows: np.ndarray, multiple: int = 1) -> dict[str, Tensor]:
        """Return the inputs of these rows, padded to a multiple of this number of tokens."""


def epoch_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the batches of an epoch; each row is in one batch.

    Rows are shuffled, sorted by length within chunks of 50 batches, and cut into batches, whose
    order is shuffled too.

    Args:
        lengths: (n,) tokens per row.
        batch_size: rows per batch; one batch may be smaller.
        seed: of the run.
        epoch: from 0.

    Returns:
        Arrays of row positions, one per update.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), CHUNK_BATCHES * batch_size):
        chunk = order[start : start + CHUNK_BATCHES * batch_size]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def mixed_batches(
    lengths: np.ndarray, pseudo: np.ndarray, ratio: float, batch_size: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Return the batches of an epoch with `ratio` pseudo-labelled rows per other row in each.

    Each other row is in one batch. Rounded numbers of pseudo-labelled rows add up to the ratio over
    batches and epochs.

    Args:
        lengths: (n,) tokens per row.
        pseudo: (n,) whether a row is pseudo-labelled; some are, and some are not.
        ratio: pseudo-labelled rows per other row.
        batch_size: most rows per batch, of both kinds.
        seed: of the run.
        epoch: from 0.

    Returns:
        Arrays of row positions, one per update.

    Raises:
        InputError: a batch has no room for a row that is not pseudo-labelled.
    """
    own = int(batch_size / (1 + ratio))
    if own == 0:
        raise InputError(
            f"pseudo_labels.ratio {ratio:g} leaves no training row in an update of {batch_size} rows: "
            "lower it, or raise training.batch_size"
        )
    gold, others = np.flatnonzero(~pseudo), np.flatnonzero(pseudo)
    batches = [gold[rows] for rows in epoch_batches(lengths[gold], own, seed, epoch)]
    taken = epoch * len(gold) + np.cumsum([0, *map(len, batches)])
    beside = rows_beside(
        [lengths[rows].max() for rows in batches],
        lengths[others],
        np.floor(ratio * taken + 0.5).astype(np.int64),
        seed,
    )
    pairs = zip(batches, beside, strict=True)
    return [np.concatenate([rows, others[more]]) for rows, more in pairs]


def rows_beside(
    longest: Sequence[int], lengths: np.ndarray, bounds: np.ndarray, seed: int
) -> list[np.ndarray]:
    """Return rows of another set that are taken beside each of the batches of an epoch.

    No row is taken again before all have been, see `rows_drawn`. Of at most 50 successive batches, which
    take each row once, those with longer rows get the longer ones.

    Args:
        longest: (b,) tokens of the longest row of each batch.
        lengths: (m,) tokens per row of the set.
        bounds: (b + 1,) ascending: how many rows have been taken before each batch since the first
            epoch, and after the last one.
        seed: of the run.

    Returns:
        (b,) arrays of row positions in the set.
    """
    drawn = rows_drawn(len(lengths), bounds[0], bounds[-1], seed)
    counts, found = np.diff(bounds), [drawn[:0]] * len(longest)
    step = max(1, min(CHUNK_BATCHES, len(lengths) // max(counts.max(), 1)))
    for start in range(0, len(longest), step):
        some = np.arange(start, min(start + step, len(longest)))
        rows = drawn[bounds[start] - bounds[0] : bounds[some[-1] + 1] - bounds[0]]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        some = some[np.argsort(np.asarray(longest)[some], kind="stable")]
        for batch, own in zip(some, np.split(rows, np.cumsum(counts[some])[:-1]), strict=True):
            found[batch] = own
    return found


def rows_drawn(rows: int, start: int, end: int, seed: int) -> np.ndarray:
    """Return draws number `start` to `end` - 1 of all rows in random order, then in another one, …

    They depend on the seed only, so that a resumed run continues with the same ones.
    """
    passes = range(start // rows, -(-end // rows))
    orders = [np.random.default_rng([seed, p, STREAM]).permutation(rows) for p in passes]
    first = start // rows * rows
    return np.concatenate([np.arange(0), *orders])[start - first : end - first]


def token_batches(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Return batches for prediction of at most `budget` tokens, padding included, at least one row each.

    The longest rows come first, so that memory peaks at once. A batch that has a quarter of the
    budget ends when the length changes, so that there is hardly any padding.
    """
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    ends_of_length = np.flatnonzero(np.diff(ordered, append=-1)) + 1
    batches, start = [], 0
    while start < len(order):
        longest = max(int(ordered[start]), 1)
        most = start + max(1, budget // longest)
        enough = start + -(-budget // (4 * longest))
        end = int(ends_of_length[np.searchsorted(ends_of_length, min(enough, len(order)))])
        batches.append(order[start : min(end, most)])
        start += len(batches[-1])
    return batches


def micro_batches(
    rows: np.ndarray, size: int, processes: int = 1, process: int = 0
) -> list[np.ndarray]:
    """Split the rows of an update into micro-batches of nearly equal size.

    All processes get the same number of micro-batches, and each row is in one of them. If there are
    fewer rows than micro-batches, some are empty.

    Args:
        rows: (b,) row positions of the update, of all processes.
        size: most rows per micro-batch; 0 for one micro-batch.
        processes: number of processes.
        process: rank of this process.

    Returns:
        Arrays of row positions, the micro-batches of this process.
    """
    most = -(-len(rows) // processes)
    parts = -(-most // size) if size else 1
    return shared_out(rows, parts, processes, process)


def shared_out(rows: np.ndarray, parts: int, processes: int, process: int) -> list[np.ndarray]:
    """Split rows of an update into this number of parts per process; return those of one process."""
    return np.array_split(rows, parts * processes)[process::processes]
