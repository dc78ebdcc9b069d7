"""Length-aware batches: little padding, yet shuffled, and the same for the same seed and epoch."""

from __future__ import annotations

import numpy as np

CHUNK_BATCHES = 50


def epoch_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Row numbers of each update of an epoch, every row once.

    Rows are shuffled, sorted by length inside chunks of 50 batches, cut into batches, and the
    batches shuffled. All have `batch_size` rows, but for one that takes what is left over.
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
    """Batches for prediction of at most `budget` tokens, padding counted, but of one row at least.

    The longest come first, so that memory peaks at once. A batch that has a quarter of the budget ends
    where the length changes: next to nothing is padded.
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
    """The rows of an update in parts of nearly equal size, `size` at most (0: one part).

    Of several processes, the parts of one: all have as many, of nearly equal size, and together each row
    once; where there are fewer rows than parts, some are empty.
    """
    most = -(-len(rows) // processes)
    parts = -(-most // size) if size else 1
    return np.array_split(rows, parts * processes)[process::processes]
