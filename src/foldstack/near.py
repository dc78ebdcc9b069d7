"""Near-duplicate detection: MinHash with LSH banding over character n-grams, every pair verified.

Broder 1997, "On the resemblance and containment of documents"; Indyk & Motwani 1998 for the
banding. rensa computes the signatures.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from foldstack.files import publish_with
from foldstack.rows import normalise

COLUMNS = 5  # width of a shingle; a full-width character counts two columns
PERMUTATIONS = 128
MISSED = 0.01  # highest probability that a pair exactly at the threshold shares no band
BUCKET = 64  # texts in a larger bucket are compared with a few neighbours, not with each other
NEIGHBOURS = 4
CHARACTERS = 4_000_000  # per chunk, which bounds memory


class NearDuplicates(NamedTuple):
    """Groups of near-duplicates among n texts.

    groups: (n,) int, numbered by first appearance. report: counts. refused: (pairs, 2) positions of
    near-duplicates that were not joined because their group would have exceeded the cap.
    """

    groups: np.ndarray
    report: dict
    refused: np.ndarray


class FoundPairs(NamedTuple):
    """Near-duplicates among different texts.

    pairs: (pairs, 2) int positions. similarity: (pairs,). report: counts.
    """

    pairs: np.ndarray
    similarity: np.ndarray
    report: dict


@dataclass(frozen=True)
class Distinct:
    """The different texts of n rows.

    Attributes:
        of_row: (n,) the text of each row.
        forms: m normalised texts. texts: as the first row of each has them.
        rows: (m,) number of rows per text. first: (m,) first row of each.
    """

    of_row: np.ndarray
    forms: list[str]
    texts: list[tuple[str, ...]]
    rows: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, texts: list[tuple[str, ...]]) -> Distinct:
        number: dict[str, int] = {}
        found = [number.setdefault(normalise(text), len(number)) for text in texts]
        of_row = np.array(found, dtype=np.int64)
        first = np.unique(of_row, return_index=True)[1]
        rows = np.bincount(of_row, minlength=len(number))
        return cls(of_row, list(number), [texts[i] for i in first], rows, first)

    @property
    def filled(self) -> np.ndarray:
        """(m,) whether each text holds more than white space; empty texts have no duplicates."""
        return np.array([bool(form.strip("\x1f")) for form in self.forms], dtype=bool)


# Returns the near-duplicates among different texts; those that the second argument, (m,) bool, has
# chosen need only be compared with all, if it is given.
Find = Callable[[Distinct, np.ndarray | None], FoundPairs]


def near_duplicates(
    texts: list[tuple[str, ...]], threshold: float, cap: int, seed: int
) -> NearDuplicates:
    """Return groups of texts that are near-duplicates.

    Two texts are near-duplicates if the Jaccard similarity of their shingles is at least
    `threshold`; this is verified for every joined pair, on 64-bit hashes of the shingles. Pairs are
    joined in order of decreasing similarity. MinHash misses a pair at the threshold with a
    probability of at most 1 %, a more similar pair far less often. Equal texts count once. Empty
    texts have no duplicates.

    Args:
        texts: n texts or sentence pairs.
        threshold: lowest Jaccard similarity, in (0, 1].
        cap: most rows per group; a pair that would exceed it is refused.
        seed: of the MinHash permutations and the order within buckets.

    Returns:
        The groups of the n rows, counts for the report, and the refused pairs.
    """
    return grouped(texts, cap, by_characters(threshold, seed))


def grouped(texts: list[tuple[str, ...]], cap: int, find: Find) -> NearDuplicates:
    """Return the same of the near-duplicates that `find` returns."""
    distinct = Distinct.of(texts)
    pairs, similarity, report = find(distinct, None)
    group, refused = _join(pairs, similarity, distinct.rows, cap)
    row_group = group[distinct.of_row]
    for row in np.flatnonzero(~distinct.filled[distinct.of_row]):
        row_group[row] = len(distinct.forms) + row  # an empty text is a group of its own
    joined = np.bincount(group) > 1
    sizes = np.bincount(group, weights=distinct.rows)[joined]
    counts = report | {
        "texts": len(distinct.forms),
        "pairs": len(pairs),
        "groups": int(joined.sum()),
        "rows": int(sizes.sum()),
        "largest": int(sizes.max(initial=0)),
        "refused": len(refused),
    }
    return NearDuplicates(_by_appearance(row_group), counts, distinct.first[refused])


def cached(
    folder: Path, key: str, make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the arrays of `make`, cached in a file that the processes of all runs share.

    The folder may be removed at any time. A file that fails its checksums is recomputed. If the
    file cannot be written, nothing is cached.
    """
    path = folder / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, BadZipFile):
        made = make()
    with suppress(OSError):
        publish_with(path, lambda f: np.savez(f, **made))
    return made


def near_pairs(
    texts: list[tuple[str, ...]], others: list[tuple[str, ...]], threshold: float, seed: int
) -> np.ndarray:
    """Return the near-duplicates between two lists of texts, equal texts included.

    Args:
        texts: n texts or sentence pairs.
        others: m texts or sentence pairs; if one repeats, its first position stands for all.
        threshold: lowest Jaccard similarity, in (0, 1].
        seed: of the MinHash permutations and the order within buckets.

    Returns:
        (pairs, 2) int: a position in `texts` and a position in `others`.
    """
    return across(texts, others, by_characters(threshold, seed))


def across(texts: list[tuple[str, ...]], others: list[tuple[str, ...]], find: Find) -> np.ndarray:
    """Return the same of the near-duplicates that `find` returns."""
    distinct = Distinct.of([*texts, *others])
    n, m = len(texts), len(distinct.forms)
    own, theirs = distinct.of_row[:n], distinct.of_row[n:]
    in_others = np.zeros(m, dtype=bool)
    in_others[theirs] = True
    place = np.zeros(m, dtype=np.int64)
    place[theirs[::-1]] = np.arange(len(others))[::-1]
    pairs = find(distinct, in_others).pairs
    same = np.flatnonzero(distinct.filled & in_others)
    edges = np.concatenate([pairs, pairs[:, ::-1], np.column_stack([same, same])])
    edges = edges[in_others[edges[:, 1]]]
    order = np.argsort(own, kind="stable")  # positions in `texts`, sorted by distinct text
    begin, end = (np.searchsorted(own[order], edges[:, 0], side) for side in ("left", "right"))
    counts = end - begin
    shift = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    at = order[np.repeat(begin, counts) + shift]
    return np.column_stack([at, np.repeat(place[edges[:, 1]], counts)])


def by_characters(threshold: float, seed: int) -> Find:
    """Return the search for texts whose shingles have this Jaccard similarity or more."""

    def find(distinct: Distinct, among: np.ndarray | None) -> FoundPairs:
        return FoundPairs(*_near_pairs(distinct.forms, threshold, seed))

    return find


def _near_pairs(
    distinct: list[str], threshold: float, seed: int
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Return ((pairs, 2) near-duplicates, (pairs,) Jaccard similarity, counts)."""
    filled = np.flatnonzero([bool(t.strip("\x1f")) for t in distinct])
    signatures = _signatures([distinct[i] for i in filled], seed)
    candidates, report = _candidates(signatures, threshold, seed)
    pairs = filled[_promising(signatures, candidates, threshold)]
    similarity = _jaccard(distinct, pairs)
    near = similarity >= threshold
    return pairs[near], similarity[near], report


def merge_groups(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (n,) groups of rows that share a group in a or in b, transitively.

    Groups are numbered by first appearance.
    """
    (_, a), (_, b) = (np.unique(x, return_inverse=True) for x in (a, b))
    size = a.max(initial=-1) + 1
    total = size + b.max(initial=-1) + 1
    graph = coo_matrix((np.ones(len(a), dtype=np.int8), (a, size + b)), shape=(total, total))
    return _by_appearance(connected_components(graph, directed=False)[1][a])


def _by_appearance(groups: np.ndarray) -> np.ndarray:
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]


# Shingles


def _widths(codes: np.ndarray) -> np.ndarray:
    """Return (c,) columns per character: 2 if its East Asian width is wide or full, else 1."""
    used = np.flatnonzero(np.bincount(codes))
    table = np.ones(used.max(initial=0) + 1, dtype=np.int64)
    wide = [unicodedata.east_asian_width(chr(c)) in "WF" for c in used]
    table[used] += np.array(wide, dtype=np.int64)  # an empty list would become float
    return table[codes]


def mix(h: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of h and value, by the finaliser of splitmix64 (Steele et al. 2014)."""
    h = h * np.uint64(0x9E3779B97F4A7C15) + value + np.uint64(0x632BE59BD9B4E019)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def shingles(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (hashes, offsets): text i has hashes[offsets[i]:offsets[i + 1]], repeats included.

    A shingle is the shortest character n-gram at least five columns wide: five Latin letters, three
    Chinese characters. Long English texts share most trigrams, so they need five letters. Three
    Chinese characters are as selective, and five would leave a short text too few shingles to
    survive the change of one character. A narrower text is one shingle.
    """
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    length = np.array([len(t) for t in texts], dtype=np.int64)
    end = np.cumsum(length)
    begin = end - length
    left = np.repeat(end, length) - np.arange(len(codes))  # characters to the text's end
    width = np.cumsum(np.pad(_widths(codes), (1, COLUMNS)))  # total width before each character
    at = np.arange(len(codes))
    size = np.full(len(codes), (COLUMNS + 1) // 2)
    for longer in range((COLUMNS + 1) // 2, COLUMNS):
        size += width[at + longer] - width[at] < COLUMNS
    kept = size <= left
    kept[begin[length > 0]] = True
    at, size = at[kept], np.minimum(size, left)[kept]
    padded = np.pad(codes.astype(np.uint64), (0, COLUMNS))
    hashes = np.zeros(len(at), dtype=np.uint64)
    for k in range(COLUMNS):
        hashes = np.where(k < size, mix(hashes, padded[at + k]), hashes)
    return hashes, np.searchsorted(at, np.r_[begin, len(codes)])


def chunks(sizes: np.ndarray, most: int) -> Iterator[slice]:
    """Yield slices of consecutive items whose sizes sum to about `most`."""
    borders = np.flatnonzero(np.diff(np.cumsum(sizes) // most)) + 1
    for part in np.split(np.arange(len(sizes)), borders):
        if len(part):
            yield slice(int(part[0]), int(part[-1]) + 1)


# Candidates


def bands_for(threshold: float) -> tuple[int, int]:
    """Return (bands, rows per band): the longest bands whose miss rate at the threshold is <= 1 %."""
    for length in range(PERMUTATIONS, 1, -1):
        bands = PERMUTATIONS // length
        if (1 - threshold**length) ** bands <= MISSED:
            return bands, length
    return PERMUTATIONS, 1


def _candidates(signatures: np.ndarray, threshold: float, seed: int) -> tuple[np.ndarray, dict]:
    """Return ((pairs, 2) positions of texts that share a band, first < second; counts)."""
    bands, length = bands_for(threshold)
    keys = [_band(signatures[:, b * length : (b + 1) * length]) for b in range(bands)]
    rng, n = np.random.default_rng(seed), len(signatures)
    found, large, largest = np.zeros(0, dtype=np.int64), 0, 0
    for band in range(bands):
        # A bucket too large for all pairs is sorted by the next band: neighbours share that too.
        shuffled = rng.permutation(n)
        after, key = keys[(band + 1) % bands][shuffled], keys[band][shuffled]
        order = np.lexsort((after, key))
        key, text = key[order], shuffled[order]
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if n else np.zeros(0, int)
        sizes = np.diff(np.r_[starts, n])
        reach = np.repeat(np.where(sizes > BUCKET, NEIGHBOURS, BUCKET), sizes)
        large += int((sizes > BUCKET).sum())
        largest = max(largest, int(sizes.max(initial=0)))
        parts = [found]
        for step in range(1, min(BUCKET, largest)):
            same = np.flatnonzero((key[step:] == key[:-step]) & (step <= reach[:-step]))
            if not len(same):
                break
            a, b = text[same], text[same + step]
            parts.append(np.minimum(a, b) * n + np.maximum(a, b))
        found = np.unique(np.concatenate(parts))
    report = {"candidates": len(found), "large_buckets": large, "largest_bucket": largest}
    return np.column_stack([found // max(n, 1), found % max(n, 1)]), report


def _signatures(texts: list[str], seed: int) -> np.ndarray:
    """Return (n, permutations) uint32 MinHash signatures."""
    from rensa import RMinHash  # here: prediction needs nothing of it

    out = np.zeros((len(texts), PERMUTATIONS), dtype=np.uint32)
    for chunk in chunks(np.array([len(t) for t in texts], dtype=np.int64), CHARACTERS):
        hashes, offsets = shingles(texts[chunk])
        out[chunk] = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, offsets.astype(np.uint64), PERMUTATIONS, seed
        ).to_rows()
    return out


def _band(signatures: np.ndarray) -> np.ndarray:
    """Return (n,) uint64 hashes of one band of the signatures, (n, length)."""
    key = np.zeros(len(signatures), dtype=np.uint64)
    for column in signatures.T:
        key = mix(key, column.astype(np.uint64))
    return key


def _promising(signatures: np.ndarray, pairs: np.ndarray, threshold: float) -> np.ndarray:
    """Return the pairs whose estimated similarity is within four standard errors of the threshold."""
    least = threshold - 4 * np.sqrt(threshold * (1 - threshold) / PERMUTATIONS)
    parts = np.array_split(pairs, len(pairs) // 100_000 + 1)
    return np.concatenate(
        [p[(signatures[p[:, 0]] == signatures[p[:, 1]]).mean(axis=1) >= least] for p in parts]
    )


# Verification and linkage


def _jaccard(texts: list[str], pairs: np.ndarray) -> np.ndarray:
    """Return (pairs,) exact Jaccard similarities of the sets of shingles."""
    length = np.array([len(t) for t in texts], dtype=np.int64)
    out = np.zeros(len(pairs))
    for chunk in chunks(length[pairs].sum(axis=1), CHARACTERS):
        involved, which = np.unique(pairs[chunk], return_inverse=True)
        hashes, offsets = shingles([texts[i] for i in involved])
        _, column = np.unique(hashes, return_inverse=True)
        sets = csr_matrix((np.ones(len(column), dtype=np.int32), column, offsets))
        sets.sum_duplicates()
        sets.data[:] = 1
        size, which = np.diff(sets.indptr), which.reshape(-1, 2)
        a, b = which.T
        common = np.asarray(sets[a].multiply(sets[b]).sum(axis=1)).ravel()
        out[chunk] = common / (size[a] + size[b] - common)
    return out


def _join(
    pairs: np.ndarray, similarity: np.ndarray, rows: np.ndarray, cap: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return ((texts,) groups, (r, 2) refused pairs) of single linkage, most similar pairs first."""
    parent, size = list(range(len(rows))), rows.tolist()
    refused: list[tuple[int, int]] = []

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for i, j in pairs[np.argsort(-similarity, kind="stable")].tolist():
        a, b = root(i), root(j)
        if a == b:
            continue
        if size[a] + size[b] > cap:
            refused.append((i, j))
            continue
        a, b = min(a, b), max(a, b)
        parent[b] = a
        size[a] += size[b]
    groups = np.array([root(i) for i in range(len(rows))], dtype=np.int64)
    return groups, np.array(refused, dtype=np.int64).reshape(-1, 2)
