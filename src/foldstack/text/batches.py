"""Batches bucketed by length: shuffled, little padding, determined by seed and epoch."""

from __future__ import annotations

import numpy as np

CHUNK_BATCHES = 50


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
    return np.array_split(rows, parts * processes)[process::processes]
