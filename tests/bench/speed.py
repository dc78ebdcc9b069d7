"""The benchmark: training, prediction and frozen stages beside transformers' own tools, in turns.

    python tests/bench/speed.py [--short] [--parts films,articles,f1,blend] [--rows N] [--long-rows N]
        [--rounds N] [--long-rounds N] [--backbone DIR] [--workspace DIR] [--out FILE]

Every fold is a round, in which ours and the rivals do the same work one after the other; rates are
medians over rounds. In full: whole film reviews, five folds, and the BBC's articles of 512 tokens;
--short takes some rows of two folds. The workspaces are made in DIR, a temporary folder unless it is
given. The tables go to FILE, docs/bench.md unless it is given, and to the screen.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import blending
import numpy as np
import rivals
import torch
from torch import nn

import foldstack
from foldstack.backbones import locate
from foldstack.cores import cpu_threads
from foldstack.files import write_text
from foldstack.learners import LearnerContext
from foldstack.learners.transformer import TransformerLearner
from foldstack.links import to_probabilities
from foldstack.nets.backbone import load_backbone
from foldstack.progress import duration, say, table
from foldstack.rows import Rows
from foldstack.stages.data import make_data
from foldstack.stages.folds import make_folds
from foldstack.techniques import TransformerSettings
from foldstack.training.precision import choose_precision, has_fast_bf16_cpu, machine
from foldstack.workspace import Workspace

SEED = 0
FILMS, ARTICLES = "film reviews", "BBC, 512 tokens"
# The preset leaves out the dropout inside the backbone; Trainer has it, so here both have.
BOTH = ["backbone_dropout=null", "models=[minilm-quick,minilm-f1]"]
BINARY = ["binary_link=softmax"]  # two outputs for two classes, as Trainer's model has
LONG = ["training.max_length=512"]
CACHED_EPOCHS = 50
PARTS = ("films", "articles", "f1", "blend")


@dataclass
class Results:
    """What was measured: for each line the work a second of ours and of its rival, a value a round.

    scores: for each contestant the targets and probabilities of each round's held-out rows.
    """

    rates: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    units: dict[str, str] = field(default_factory=dict)
    shares: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    differences: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    held: dict[str, dict[str, list]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, line: str, work: float, ours: float, rival: float, unit: str) -> None:
        """So much work in so many seconds each."""
        self.rates[line].append((work / ours, work / rival))
        self.units[line] = unit
        say(f"  {line} {rival / ours:.2f}x ({work / ours:.1f} and {work / rival:.1f} {unit})")

    def predicted(self, data: str, who: str, targets: np.ndarray, values: np.ndarray) -> None:
        self.held[data].setdefault(who, []).append((targets, values))

    def speed_table(self) -> str:
        lines = []
        for line, rates in self.rates.items():
            ours, rival = np.median(rates, axis=0)
            ratios = [a / b for a, b in rates]
            spread = f"{min(ratios):.2f}-{max(ratios):.2f}" if len(ratios) > 1 else ""
            shown = [f"{ours:,.1f}", f"{rival:,.1f}", self.units[line], f"{ours / rival:.2f}x"]
            lines.append([line, *shown, spread])
        return table(["", "foldstack", "rival", "", "ratio", "by round"], lines)

    def score_table(self, score: dict[str, tuple[str, Callable]]) -> str:
        """Means over rounds, and over the rounds' differences from the first contestant's scores.

        score: for each data set its metric's name, and what it is of targets and probabilities.
        """
        lines = []
        for data, contestants in self.held.items():
            (name, of), first = score[data], None
            for who, rounds in contestants.items():
                scores = np.array([of(targets, values) for targets, values in rounds])
                first = scores if first is None else first
                rows = sum(len(targets) for targets, _ in rounds)
                cells = [f"{rows:,}", f"{name} {scores.mean():.4f}"]
                lines.append([data, who, *cells, _difference(scores - first)])
        header = ["", "", "held-out rows", "score", "above the first by, ± its standard error"]
        return table(header, lines)


def _difference(by_round: np.ndarray) -> str:
    """Nothing for the first contestant itself, or where a single round knows no error."""
    if len(by_round) == 1 or not by_round.any():
        return ""
    return f"{by_round.mean():+.4f} ± {by_round.std(ddof=1) / np.sqrt(len(by_round)):.4f}"


# Arithmetic


def matrix_parameters(backbone: nn.Module) -> int:
    """Weights of the linear layers; embeddings are looked up, not multiplied."""
    return sum(m.weight.numel() for m in backbone.modules() if isinstance(m, nn.Linear))


def useful_flops(parameters: int, layers: int, hidden: int, lengths: np.ndarray) -> float:
    """Of training on texts of these lengths once, padding and recomputation not counted.

    6 · parameters · Σ length: each weight of a matrix is multiplied and added (2) once forward and
    twice backward (3) for each token. 12 · layers · hidden · Σ length²: so are, in attention, queries
    with keys and weights with values, 2 · hidden products a pair of tokens. (Kaplan et al. 2020, Scaling
    Laws for Neural Language Models, with attention added.)
    """
    lengths = lengths.astype(float)
    return 6 * parameters * lengths.sum() + 12 * layers * hidden * (lengths**2).sum()


def matrix_peak(precision: str, size: int = 0, repeats: int = 5) -> float:
    """Floating-point operations a second of one large matrix product, the median of some."""
    size = size or (8192 if torch.cuda.is_available() else 2048)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    seconds = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / float(np.median(seconds[1:]))


# Rounds


def contest(
    results: Results, data: str, ws: Workspace, fold: int, rows: int, held_rows: int
) -> None:
    """One fold: training by all, then prediction by the model that ours has become."""
    settings = ws.model_settings("minilm-quick")
    train, held = parts(ws, fold, rows, held_rows)
    say(f"{data}, fold {fold}: {len(train):,} rows to learn from, {len(held):,} held out")
    learner, ours, peak = _our_training(results, data, ws, settings, train)
    for who, options in trainers().items():
        seconds, p = rivals.train(settings, train, held, SEED, **options)
        results.predicted(data, who, held.targets, p)
        results.add(
            f"training vs {who}, {data}", len(train) * settings.training.epochs, ours, seconds,
            "rows/s",
        )  # fmt: skip
    _predictions(results, data, learner, held, peak)


def parts(ws: Workspace, fold: int, rows: int, held_rows: int) -> tuple[Rows, Rows]:
    """What the fold's run learns from and holds out, or so many rows of each (0: all)."""
    folds, every = ws.store.read_folds(ws.competition.train), ws.competition.train
    learned, held = folds.learned((fold,)), folds.held_out((fold,))
    return every.take(learned[: rows or None]), every.take(held[: held_rows or None])


def trainers() -> dict[str, dict]:
    """The rivals in training, with what they set beside Trainer's defaults."""
    fast = {"train_sampling_strategy": "group_by_length"}
    name = "Trainer by length"
    if has_fast_bf16_cpu() or choose_precision("auto") == "bf16":
        fast, name = fast | {"bf16": True}, "Trainer in bf16 by length"
    return {"Trainer": {}, name: fast}


def _our_training(
    results: Results, data: str, ws: Workspace, settings: TransformerSettings, train: Rows
) -> tuple[TransformerLearner, float, float]:
    """The learner, its seconds, and the matrix peak around them."""
    learner = TransformerLearner(
        settings, LearnerContext(ws.competition.task, SEED, cpu_threads(0))
    )
    before = matrix_peak(learner.precision)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        facts = learner.fit(train, None, Path(folder))
        seconds = time.monotonic() - begin
    peak = np.mean([before, matrix_peak(learner.precision)])
    flops = settings.training.epochs * _useful(learner, train)
    share = flops / facts["training_seconds"] / peak
    results.shares[f"training, {data}"].append(share)
    say(
        f"  useful tokens reach {share:.0%} of the matrix peak, {peak / 1e9:.0f} GFLOP/s in "
        f"{learner.precision}"
    )
    return learner, seconds, peak


def _useful(learner: TransformerLearner, rows: Rows) -> float:
    """Operations of training on these rows once."""
    backbone, lengths = learner.model.backbone, learner.encoder.tokens(rows).lengths
    layers, hidden = backbone.config.num_hidden_layers, backbone.config.hidden_size
    return useful_flops(matrix_parameters(backbone), layers, hidden, lengths)


def _predictions(
    results: Results, data: str, learner: TransformerLearner, held: Rows, peak: float
) -> None:
    pipe, rough = rivals.predictor(learner), None
    texts = [t[0] for t in held.texts]
    some = held.take(np.arange(min(len(held), 8)))
    learner.predict(some)
    pipe(texts[:8])
    theirs, p = _timed(lambda: pipe(texts))
    seconds, raw = _timed(lambda: learner.predict(held))
    ours = to_probabilities(raw, learner.link)
    results.predicted(data, "foldstack", held.targets, ours)
    results.add(f"prediction vs pipeline, {data}", len(held), seconds, theirs, "rows/s")
    forward = _useful(learner, held) / 3  # see `useful_flops`
    results.shares[f"prediction, {data}"].append(forward / seconds / peak)
    results.differences[f"{learner.precision}, {data}"].append(float(np.abs(ours - p).max()))
    if learner.accelerator.device.type == "cpu":
        rough = learner.in_int8()
        rough.predict(some)
        seconds, raw = _timed(lambda: rough.predict(held))
        values = to_probabilities(raw, rough.link)
        results.predicted(data, "foldstack in int8", held.targets, values)
        results.add(f"int8 prediction vs pipeline, {data}", len(held), seconds, theirs, "rows/s")
        results.differences[f"int8, {data}"].append(float(np.abs(values - p).max()))


def at_once(results: Results, place: Path, rows: int) -> None:
    """Two folds trained side by side, a process and a thread each, beside Trainer's two ways to do both.

    What one run leaves idle, the serial parts of an update, another one uses.
    """
    folds, many = (0, 1), f"training two folds at once, {FILMS}"
    with ProcessPoolExecutor(len(folds), mp_context=get_context("spawn")) as pool:
        seconds = {}
        for who in ("foldstack", "Trainer"):
            list(
                pool.map(_alone, [who] * 2, [place] * 2, folds, [64] * 2)
            )  # modules and files warm
            begin = time.monotonic()
            trained = list(pool.map(_alone, [who] * 2, [place] * 2, folds, [rows] * 2))
            seconds[who] = time.monotonic() - begin
    in_turn = sum(
        work / rate
        for work, (_, rate) in zip(
            trained, results.rates[f"training vs Trainer, {FILMS}"], strict=False
        )
    )
    work = sum(trained)
    results.add(f"{many}, vs Trainer's at once", work, *seconds.values(), "rows/s")
    results.add(f"{many}, vs Trainer in turn", work, seconds["foldstack"], in_turn, "rows/s")


def _alone(who: str, place: Path, fold: int, rows: int) -> int:
    """Train one fold with one thread; returns the rows that it has passed, over all epochs."""
    ws = Workspace.open(place, [*BOTH, *BINARY])
    settings = ws.model_settings("minilm-quick")
    train, held = parts(ws, fold, rows, 1)
    if who == "Trainer":
        torch.set_num_threads(1)
        rivals.train(settings, train, held, SEED)
    else:
        with tempfile.TemporaryDirectory() as folder:
            learner = TransformerLearner(settings, LearnerContext(ws.competition.task, SEED))
            learner.fit(train, None, Path(folder))
    return len(train) * settings.training.epochs


def frozen_epochs(results: Results, ws: Workspace, fold: int, rows: int) -> None:
    """The F1 stage of minilm-f1: an epoch on kept outputs, beside one that runs the frozen backbone
    and one that trains it too."""
    settings = ws.model_settings("minilm-f1")
    train, _ = parts(ws, fold, rows, 1)
    say(f"soft F1, fold {fold}: {len(train):,} rows to learn from")

    def epoch(epochs: int, cache_gb: float, **options: object) -> float:
        kept = settings.model_copy(update={"cache_gb": cache_gb})
        learner = TransformerLearner(
            kept, LearnerContext(ws.competition.task, SEED, cpu_threads(0))
        )
        examples = learner.prepare(train)
        stage = learner.settings.stages_for("f1")[-1]
        one = stage.model_copy(update={"epochs": epochs, **options})
        with tempfile.TemporaryDirectory() as folder:
            run = partial(learner._train_stage, 1, one, train, examples, None, None)
            return run(Path(folder))["training_seconds"] / epochs

    cached = epoch(CACHED_EPOCHS, settings.cache_gb)
    for what, seconds in (
        ("an epoch that runs the backbone", epoch(1, 0.0)),
        ("an epoch that trains it", epoch(1, 0.0, freeze_backbone=False)),
    ):
        results.add(f"F1 epoch on kept outputs vs {what}", len(train), cached, seconds, "rows/s")


def blends(results: Results) -> None:
    """One fit of the simplex blend beside hillclimbers, where that is installed."""
    seconds = blending.beside_hillclimbers(20_000, 8)
    if seconds is not None:
        results.add("blend of 8 models vs hillclimbers", 1, *seconds, "fits/s")


def _timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    begin = time.monotonic()
    out = work()
    return time.monotonic() - begin, out


# The report


def report(
    results: Results, command: str, size: str, score: dict[str, tuple[str, Callable]]
) -> str:
    """The page, in Markdown."""
    shares = "; ".join(f"{data} {np.median(s):.0%}" for data, s in results.shares.items())
    differences = "; ".join(f"{k} {max(v):.2g}" for k, v in results.differences.items())
    packages = ("torch", "transformers", "accelerate", "tokenizers", "numpy")
    here = ", ".join(f"{k} {v}" for k, v in machine(cpu_threads(0)).items())
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
    return f"""# Benchmark

Written by `{command}` ({size} to learn from), which overwrites it.
foldstack {foldstack.__version__}, Python {platform.python_version()}, {versions};
{os.cpu_count()} cores, {here}.

Work per second, medians over rounds; a round is one fold, in which all do the same work in turns.
Rivals: transformers' Trainer with its defaults, and with the settings that make it faster; its
text-classification pipeline in batches of 64, with our weights.

```text
{results.speed_table()}
```

Useful, unpadded tokens reach this share of the matrix peak, medians: {shares}.

The largest difference of a probability from the pipeline's: {differences}.

```text
{results.score_table(score)}
```
"""


def workspace(place: Path, dataset: str, sets: list[str]) -> Workspace:
    """A workspace with folds, made unless it is there."""
    if not (place / "competition.yaml").exists():
        make_data(Workspace(place), dataset, force=False)
    ws = Workspace.open(place, sets)
    if not (place / "folds" / "folds.csv").exists():
        make_folds(ws, force=False)
    return ws


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="within ten minutes")
    parser.add_argument("--parts", default=",".join(PARTS), help="which of them, a comma list")
    parser.add_argument("--rows", type=int, help="film reviews to learn from (0: all)")
    parser.add_argument("--long-rows", type=int, help="articles to learn from (0: all)")
    parser.add_argument("--rounds", type=int, help="folds (default: 5, --short 2)")
    parser.add_argument("--long-rounds", type=int, help="of them, folds of articles (default: all)")
    parser.add_argument("--backbone", type=Path, help="another than minilm's")
    parser.add_argument("--workspace", type=Path, help="a folder to keep the workspaces in")
    parser.add_argument("--out", type=Path, default=Path("docs/bench.md"))
    args = parser.parse_args(argv)
    rounds = args.rounds or (2 if args.short else 5)
    rows = args.rows if args.rows is not None else (500 if args.short else 0)
    long_rows = args.long_rows if args.long_rows is not None else (48 if args.short else 0)
    chosen = set(args.parts.split(",")) - ({"blend"} if args.short else set())
    if chosen - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(chosen - set(PARTS)))}")
    begin, results = time.monotonic(), Results()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.workspace or Path(temporary)
        both = list(BOTH)
        if args.backbone:
            both += [f"backbone={args.backbone.resolve()}", "sha256=null"]
        films = workspace(root / "movie-reviews", "movie-reviews", [*both, *BINARY])
        news = workspace(root / "bbc", "bbc", [*both, *LONG])
        settings = films.model_settings("minilm-quick")
        load_backbone(locate(settings.backbone, settings.sha256))  # the files warm for all
        for fold in range(rounds):
            if "films" in chosen:
                contest(results, FILMS, films, fold, rows, rows)
            if "articles" in chosen and fold < (args.long_rounds or rounds):
                contest(results, ARTICLES, news, fold, long_rows, long_rows)
            if "f1" in chosen:
                frozen_epochs(results, films, fold, rows)
            say(f"round {fold + 1} of {rounds}, {duration(time.monotonic() - begin)} so far")
        if "films" in chosen and rounds > 1 and not torch.cuda.is_available():
            at_once(results, root / "movie-reviews", rows)
        score = {
            data: (ws.competition.metric.name, ws.competition.task.score_probabilities)
            for data, ws in ((FILMS, films), (ARTICLES, news))
        }
        if "blend" in chosen:
            blends(results)
        command = f"make bench{' SHORT=1' if args.short else ''}"
        given_options = ("parts", "rows", "long_rows", "rounds", "long_rounds", "backbone")
        given = {o: getattr(args, o) for o in given_options}
        changed = {o: v for o, v in given.items() if v != parser.get_default(o)}
        if changed:
            written = " ".join(f"--{o.replace('_', '-')} {v}" for o, v in changed.items())
            command += f' ARGS="{written}"'
        size = f"{rounds} folds, {rows or 'all'} film reviews and {long_rows or 'all'} articles"
        page = report(results, command, size, score)
    write_text(args.out, page)
    say(page)
    say(f"bench: {args.out}, after {duration(time.monotonic() - begin)}")


if __name__ == "__main__":
    main()
