"""Blends of ridge members on made-up documents: the nested estimate, and that of the submission."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from scipy.special import expit, logit

from foldstack.ensemble import BlendOptions, Members
from foldstack.ensemble.members import RunTests
from foldstack.ensemble.nested import blend, submission_estimate
from foldstack.kinds import Kind
from foldstack.metrics import get
from foldstack.stages.means import RunScales, is_aligned
from foldstack.store import RunKey
from simulated import Draw

TEST = 3_000  # rows, whose labels are the truth
METHODS = ("mean", "rank_mean", "greedy")


@dataclass(frozen=True)
class Competition:
    """A made-up competition and its members.

    Attributes:
        kind, metric: of the targets.
        rows: of the training file.
        labels: number of outputs.
        rate: of positives per label.
        signal: standard deviation of the words' effects; 0 for labels that are noise.
        words: length of the dictionary.
        members: number of models.
        seen: share of the words that a model reads.
        penalties: of the models' ridges, in turn.
        copies: rows per near-duplicate group, which share their words and labels.
        seed_noise: standard deviation of noise that each run adds to its log odds.
        confidence: standard deviation of the logarithm of a factor on each run's log odds.
        methods: of the blend; () for single models.
    """

    kind: str = "binary"
    metric: str = "roc_auc"
    rows: int = 400
    labels: int = 1
    rate: float = 0.4
    signal: float = 0.5
    words: int = 40
    members: int = 5
    seen: float = 0.6
    penalties: tuple[float, ...] = (3.0, 30.0, 300.0)
    folds: int = 5
    copies: int = 1
    seed_noise: float = 0.0
    confidence: float = 0.0
    methods: tuple[str, ...] = METHODS


@dataclass
class World:
    """The documents of a competition: effects of words, and rows drawn from them."""

    of: Competition
    rng: np.random.Generator
    effects: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.effects = self.rng.normal(0, self.of.signal, (self.of.words, self.of.labels))

    def draw(self, rows: int, copies: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows, words) standardised counts, (rows, outputs) targets, (rows,) groups."""
        texts = -(-rows // copies)
        counts = self.rng.poisson(1.0, (texts, self.of.words)) - 1.0
        logits = counts @ self.effects * 3 / np.sqrt(self.of.words)
        base = np.log(self.of.rate / (1 - self.of.rate))
        if self.of.kind == "multiclass":
            odds = np.exp(logits)
            edges = (odds / odds.sum(axis=1, keepdims=True)).cumsum(axis=1)
            targets = np.eye(self.of.labels)[(self.rng.random((texts, 1)) > edges[:, :-1]).sum(1)]
        else:
            targets = (self.rng.random(logits.shape) < expit(base + logits)).astype(float)
        group = np.repeat(np.arange(texts), copies)[:rows]
        x = counts[group]
        if copies > 1:
            x = x + self.rng.normal(0, 0.05, x.shape)
        return x, targets[group], group


def fit_predict(x, y, penalty: float, kind: str, *of: np.ndarray) -> list[np.ndarray]:
    """Ridge regression on the targets, as probabilities."""
    mean, base = x.mean(axis=0), np.clip(y.mean(axis=0), 0.005, 0.995)
    inverse = np.linalg.solve(
        (x - mean).T @ (x - mean) + penalty * np.eye(x.shape[1]), (x - mean).T
    )
    weights = inverse @ (y - base)
    scale = base * (1 - base) + 0.01
    logits = [np.log(base / (1 - base)) + (each - mean) @ weights / scale for each in of]
    if kind == "multiclass":
        return [np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in logits]
    return [expit(z) for z in logits]


def fold_of(targets: np.ndarray, groups: np.ndarray, folds: int, rng) -> np.ndarray:
    """Stratified folds of whole groups."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    strata = targets[first] @ 2 ** np.arange(targets.shape[1])
    _, place, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    strata = np.where(sizes[place] < folds, -1, strata)
    order = rng.permutation(len(first))
    order = order[np.argsort(strata[order], kind="stable")]
    fold = np.empty(len(first), int)
    fold[order] = np.arange(len(first)) % folds
    return fold[group]


def train(of: Competition, seed: int) -> tuple[Members, np.ndarray]:
    """The members of a competition, and the (TEST, outputs) targets of their test rows."""
    rng = np.random.default_rng(seed)
    world = World(of, rng)
    x, y, groups = world.draw(of.rows, of.copies)
    test, truth, _ = world.draw(TEST)
    fold = fold_of(y, groups, of.folds, rng)
    oof = np.zeros((of.rows, of.members, of.labels))
    tests = np.zeros((of.folds, TEST, of.members, of.labels))
    ranks, test_ranks, of_mean = map(np.zeros_like, (oof, tests, tests[0]))
    for m in range(of.members):
        words = rng.permutation(of.words)[: max(1, round(of.seen * of.words))]
        penalty = of.penalties[m % len(of.penalties)]
        made = []
        for k in range(of.folds):
            held = fold == k
            parts = (x[held][:, words], test[:, words])
            out = fit_predict(x[~held][:, words], y[~held], penalty, of.kind, *parts)
            if of.seed_noise:
                out = shaken(out, parts, of.seed_noise, rng)
            if of.confidence:
                factor = np.exp(rng.normal(0, of.confidence))
                out = [expit(factor * logit(p)) for p in out]
            made.append(out)
        scales = RunScales({RunKey("m", 0, (k,)): own for k, (own, _) in enumerate(made)})
        maps = scales.maps(Kind(of.kind), wanted=is_aligned(get(of.metric, of.kind), wanted=True))
        for k, ((own, new), key) in enumerate(zip(made, maps, strict=True)):
            held = fold == k
            oof[held, m], tests[k, :, m] = maps[key](own), maps[key](new)
            ranks[held, m], test_ranks[k, :, m] = (scales.ranks(key, v) for v in (own, new))
            of_mean[:, m] += new / of.folds
    members = Members(
        [f"m{m}" for m in range(of.members)],
        oof,
        ranks,
        of_mean,
        test_ranks.mean(axis=0),
        y,
        fold,
        groups,
        of.kind,
        runs=RunTests(np.arange(TEST), tests, test_ranks),
    )
    return members, truth


def shaken(predictions: list, rows: tuple, size: float, rng) -> list[np.ndarray]:
    """Probabilities with noise along a random direction of the words, one per run."""
    direction = rng.normal(0, size / np.sqrt(rows[0].shape[1]), rows[0].shape[1])
    return [
        expit(logit(p) + (x @ direction)[:, None]) for p, x in zip(predictions, rows, strict=True)
    ]


def estimates(of: Competition, seed: int) -> dict[str, Draw]:
    """The nested estimate against single runs, and the submission's against the mean over runs."""
    members, truth = train(of, seed)
    metric = get(of.metric, of.kind)
    labels = metric.wants == "labels"
    options = BlendOptions(methods=of.methods, calibration="none")
    result = blend(members, metric, wants_labels=labels, options=options)
    submitted = submission_estimate(members, metric, result, wants_labels=labels, seed=0)
    sent = result.test if result.test_decisions is None else result.test_decisions
    single = float(np.mean([metric.signed(truth, run) for run in result.of_runs.decided]))
    return {
        "single": _draw(metric.sign, result.nested, single),
        "submitted": _draw(metric.sign, submitted, metric.signed(truth, sent)),
    }


def _draw(sign: float, estimate, truth: float) -> Draw:
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    return Draw(sign * estimate.score, truth, low, high, estimate.standard_error)


def chosen_by_hand(of: Competition, seed: int) -> dict[str, Draw]:
    """Of five named blends, of other models each, the one with the best nested score is submitted."""
    members, truth = train(of, seed)
    metric, found = get(of.metric, of.kind), []
    for start in range(5):
        some = _of_models(members, [(start + k) % of.members for k in range(4)])
        options = BlendOptions(methods=("mean",), calibration="none")
        result = blend(some, metric, wants_labels=False, options=options)
        single = float(np.mean([metric.signed(truth, run) for run in result.of_runs.decided]))
        found.append(_draw(metric.sign, result.nested, single))
    return {"the best of five blends": max(found, key=lambda draw: draw.estimate)}


def _of_models(members: Members, models: list[int]) -> Members:
    runs = members.runs
    return replace(
        members,
        names=[members.names[m] for m in models],
        probabilities=members.probabilities[:, models],
        ranks=members.ranks[:, models],
        test_probabilities=members.test_probabilities[:, models],
        test_ranks=members.test_ranks[:, models],
        runs=replace(
            runs, probabilities=runs.probabilities[:, :, models], ranks=runs.ranks[:, :, models]
        ),
    )


PLAIN = Competition()
NEAR_EQUAL = Competition(rows=300, members=20, penalties=(30.0,))
RARE = Competition("multilabel", "f1_macro", 800, 10, 0.03, members=3, methods=("mean",))
COMPETITIONS = {
    "binary roc_auc": PLAIN,
    "binary log_loss": replace(PLAIN, metric="log_loss"),
    "binary f1": replace(PLAIN, metric="f1"),
    "multiclass f1_macro": replace(PLAIN, kind="multiclass", metric="f1_macro", labels=3),
    "coin flips": replace(PLAIN, signal=0.0),
    "coin flips, 20 near-equal models": replace(NEAR_EQUAL, signal=0.0),
    "20 near-equal models": replace(NEAR_EQUAL, signal=0.3),
    "near-duplicates": replace(PLAIN, rows=480, copies=6),
    "rare labels f1_macro": RARE,
    "unstable learners": replace(PLAIN, seed_noise=0.7),
    "runs of unequal confidence": replace(PLAIN, confidence=0.5),
}
KINDS = {name: partial(estimates, of) for name, of in COMPETITIONS.items()} | {
    "several named blends": partial(chosen_by_hand, replace(PLAIN, members=8, penalties=(30.0,)))
}
