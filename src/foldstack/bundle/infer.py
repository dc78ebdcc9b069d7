"""Prediction by a bundle: run by run, resumable, with a submission from the first run on."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack.bundle.manifest import FILE, BundledRun, BundleRecord
from foldstack.bundle.shipped import ShippedCompetition, find_test, input_folder
from foldstack.bundle.weights import unpacked
from foldstack.config import stored_settings
from foldstack.cores import cpu_threads
from foldstack.ensemble import STACKS, Rule, load_fitted
from foldstack.ensemble.blends import Weighted
from foldstack.errors import InputError
from foldstack.files import csv_text, file_sha256, locked, read_json, write_json, writing
from foldstack.kinds import Kind
from foldstack.learners import Learner, LearnerContext, make_learner
from foldstack.links import to_probabilities
from foldstack.patterns import FittedPatterns
from foldstack.patterns.on_new_rows import FILE as PATTERNS
from foldstack.progress import duration, say
from foldstack.records import read_record
from foldstack.rows import Rows
from foldstack.stages.combination import Combination, Outcome
from foldstack.stages.means import OfRuns, RunScales
from foldstack.stages.new_rows import NewFile
from foldstack.store import RunKey
from foldstack.system import is_fault, sentence

CHUNK = 5_000  # rows that are held in memory at once
MODEL, SCALES = "blend", "scales"  # folders within a bundle
PLACES = ("/kaggle/input", "input", ".")  # where competitions mount their files
ABOUT = "about.json"  # of the work folder: which partial predictions it holds
OURS = re.compile(r"\d+-.+\.(npy|part)|about\.json|\..*")  # files of the work folder
HURRY = 0.97  # of the time limit, after which no run begins that would end later


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder with its record."""

    root: Path
    record: BundleRecord

    @classmethod
    def open(cls, root: Path) -> Bundle:
        """Raises InputError if a file of the bundle is missing or damaged."""
        if not (root / FILE).is_file():
            raise InputError(f"{FILE} of the bundle is missing: copy it again")
        made = cls(root, read_record(root / FILE, BundleRecord, FILE, "make the bundle again"))
        made._check(made.record.files)
        for run in made.record.runs:
            made._check(run.files, f"{run.folder}/")
        return made

    @cached_property
    def patterns(self) -> FittedPatterns | None:
        """The competition's patterns; None if it has none."""
        return FittedPatterns.read(self.root) if PATTERNS in self.record.files else None

    @cached_property
    def combination(self) -> Combination:
        """The blend of all of its models."""
        blend, root = self.record.blend, self.root
        names, outputs = list(blend.members), len(self.outputs)
        fitted = load_fitted(
            blend.winner, blend.parameters, names, self._kind, outputs, root / MODEL
        )
        return self._combining(blend.winner, fitted)

    def combination_of(self, names: Sequence[str]) -> Combination:
        """Return the blend of some of its models: its weights among them, or their mean."""
        blend = self.record.blend
        if list(names) == list(blend.members):
            return self.combination
        weights = np.array([self._weight(name) for name in names])
        weights = (
            weights / weights.sum() if weights.sum() > 0 else np.full(len(names), 1 / len(names))
        )
        nothing = np.empty((0, len(self.outputs)))
        fitted = Weighted(list(names), weights, self._kind, "probability", crossfit=nothing)
        return self._combining("mean", fitted)

    def _combining(self, winner: str, fitted: object) -> Combination:
        blend = self.record.blend
        rule = None if blend.rule is None else Rule.from_json(blend.rule.to_json())
        text = blend.features is not None and bool(blend.features.text)
        return Combination(self._kind, winner, fitted, rule, blend.temperatures, text)

    def _weight(self, model: str) -> float:
        """Return a model's weight in the blend; 1 if it has no weights of models."""
        weight = (self.record.blend.parameters.get("weights") or {}).get(model, 1.0)
        return max(float(np.mean(weight)), 0.0)

    @property
    def _kind(self) -> Kind:
        return Kind(self.record.blend.kind)

    @property
    def outputs(self) -> tuple[str, ...]:
        return self._kind.outputs_of(tuple(self.record.labels))

    @property
    def needs_features(self) -> bool:
        """Whether the feature columns are read."""
        joined = any(run.settings.get("join_features") for run in self.record.runs)
        stacked = self.record.blend.features is not None and self.record.blend.features.columns
        return joined or (self.record.blend.winner in STACKS and bool(stacked))

    def scales(self, model: str) -> RunScales:
        """Return the held-out predictions of a model's runs, among which ranks are taken."""
        runs = [run for run in self.record.runs if run.model == model]
        return RunScales({run.key: np.load(self.root / SCALES / file_of(run)) for run in runs})

    def load(self, run: BundledRun, competition: ShippedCompetition, threads: int) -> Learner:
        """Return a run's fitted learner."""
        context = LearnerContext(competition.task, run.key.seed, threads)
        learner = make_learner(stored_settings(run.settings), context)
        with unpacked(self.root / run.folder) as folder:
            learner.load(folder)
        return learner

    def _check(self, files: dict[str, str], folder: str = "") -> None:
        """Raise InputError if one of these files is missing, or is not as it was written."""
        for name, sha256 in files.items():
            path = self.root / folder / name
            if not path.is_file() or file_sha256(path) != sha256:
                what = "damaged" if path.exists() else "missing"
                raise InputError(f"{folder}{name} of the bundle is {what}: copy it again")

    def predict(self, learner: Learner, rows: Rows) -> np.ndarray:
        """Return (n, outputs) probabilities, or values."""
        return to_probabilities(learner.predict(rows), learner.link)


def file_of(run: BundledRun) -> str:
    """Return the name of the file of a run's predictions."""
    return f"{run.model}-{run.name.replace('/', '-')}.npy"


@dataclass
class Inference:
    """The prediction of one test file by a bundle.

    Attributes:
        work: folder of partial predictions, which a repeated command resumes from.
        out: the submission.
        deadline: in seconds of the monotonic clock; None for no limit.
        took: the seconds of each run that has predicted, by which the others are forecast.
    """

    bundle: Bundle
    competition: ShippedCompetition
    test: Path
    work: Path
    out: Path
    threads: int
    deadline: float | None = None
    took: dict[RunKey, float] = field(default_factory=dict)

    @cached_property
    def file(self) -> NewFile:
        return NewFile(self.competition, self.test, self.bundle.needs_features, ids=True)

    def run(self) -> list[BundledRun]:
        """Predict by each run, as far as the time allows; return those that are finished.

        The first one predicts whatever the forecast: without it there would be no submission at all.

        Raises InputError if the work folder holds other files, or the test file is not as expected.
        """
        self._refuse_foreign()
        self.file.check()
        with locked(self.work / ".lock", f"infer: waiting for another one in {self.work}"):
            self._resume()
            return self._run()

    def _run(self) -> list[BundledRun]:
        runs, done = self.bundle.record.runs, []
        for run in runs:
            if done and not self._is_done(run) and (late := self._too_late(run)):
                say(f"infer: {late}")
                continue
            self._predict(run)
            done.append(run)
            used = self.write(done)
            left = sum(self._forecast(each) for each in runs[runs.index(run) + 1 :])
            say(
                f"infer: {len(done)} of {len(runs)} runs, {self.out.name} holds {used}"
                + (f"; about {duration(left)} left" if left else "")
            )
        return done

    def _refuse_foreign(self) -> None:
        """Raise InputError if the work folder holds other files than partial predictions."""
        for path in self.work.iterdir() if self.work.exists() else ():
            if not (OURS.fullmatch(path.name) and path.is_file()):
                raise InputError(
                    f"{path} is no partial prediction: name a new or an empty folder with --work"
                )

    def _resume(self) -> None:
        """Remove partial predictions of another test file, joined file or bundle."""
        joined = [name for join in self.competition.settings.join for name in join.file]
        now = {
            "test": file_sha256(self.test),
            "joined": [file_sha256(self.competition.input_path(name)) for name in joined],
            "bundle": self.bundle.record.digest,
        }
        about = self.work / ABOUT
        if _holds(about, now):
            self._remove_damaged()
            return
        for path in self.work.iterdir():
            if path.suffix in (".npy", ".part"):
                path.unlink()
        write_json(about, now)

    def _remove_damaged(self) -> None:
        """Remove partial predictions that cannot be read, so that they are made again."""
        rows, outputs = self.file.stream.rows, len(self.bundle.outputs)
        for run, start in product(self.bundle.record.runs, range(0, rows, CHUNK)):
            place = self._place(run, start)
            if place.exists() and not _is_whole(place, (min(CHUNK, rows - start), outputs)):
                say(f"infer: {place} is damaged: predicting its rows again")
                place.unlink()

    def _place(self, run: BundledRun, start: int) -> Path:
        return self.work / f"{start}-{file_of(run)}"

    def _is_done(self, run: BundledRun) -> bool:
        return all(self._place(run, s).exists() for s in range(0, self.file.stream.rows, CHUNK))

    def _too_late(self, run: BundledRun) -> str | None:
        """Return why a run is left out; None if it will end in time."""
        if self.deadline is None:
            return None
        left, needed = self.deadline - time.monotonic(), self._forecast(run)
        if needed <= left * HURRY:
            return None
        return (
            f"{run.key} is left out: it takes about {duration(needed)}, and {duration(max(left, 0))} "
            "are left"
        )

    def _forecast(self, run: BundledRun) -> float:
        """Return the seconds that a run will take, by this machine's pace so far."""
        if self._is_done(run):
            return 0.0
        rows = self.file.stream.rows
        expected = sum(r.seconds(rows) for r in self.bundle.record.runs if r.key in self.took)
        pace = sum(self.took.values()) / expected if expected > 0 else 1.0
        return run.seconds(rows) * pace

    def _predict(self, run: BundledRun) -> None:
        """Store a run's predictions; those of finished chunks are kept."""
        if self._is_done(run):
            return
        begin = time.monotonic()
        learner = self.bundle.load(run, self.competition, self.threads)
        for start, _, rows in self.file.parts(CHUNK):
            place = self._place(run, start)
            if not place.exists():
                values = self.bundle.predict(learner, rows)
                with place.with_suffix(".part").open("wb") as f:
                    np.save(f, values)
                place.with_suffix(".part").rename(place)
        self.took[run.key] = time.monotonic() - begin

    def write(self, done: Sequence[BundledRun]) -> str:
        """Write the submission by the finished runs; return what it holds."""
        form = self.competition.submission_form
        with writing(self.out, form.encoding) as f:
            for start, part, rows, found in self.outcomes(done):
                table = found.form(self.competition.submission, rows, part)
                f.write(csv_text(table, header=start == 0, sep=form.delimiter or ","))
        count = {name: sum(run.model == name for run in done) for name in self._models(done)}
        return ", ".join(f"{name} ({n} run{'s' * (n != 1)})" for name, n in count.items())

    def _models(self, done: Sequence[BundledRun]) -> list[str]:
        return [n for n in self.bundle.record.blend.members if any(r.model == n for r in done)]

    def outcomes(
        self, done: Sequence[BundledRun]
    ) -> Iterator[tuple[int, pd.DataFrame, Rows, Outcome]]:
        """Yield the parts of the test file with the blend of finished runs."""
        names = self._models(done)
        combination = self.bundle.combination_of(names)
        for start, part, rows in self.file.parts(CHUNK):
            values: dict[str, OfRuns] = {
                name: {r.key: np.load(self._place(r, start)) for r in done if r.model == name}
                for name in names
            }
            found = combination.outcome(values, self.bundle.scales, rows)
            yield start, part, rows, found.patterned(self.bundle.patterns, rows)


def _holds(path: Path, value: dict) -> bool:
    """Return whether a JSON file has this content."""
    try:
        return read_json(path) == value
    except (FileNotFoundError, ValueError):
        return False


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    """Return whether a file has finite predictions of this shape."""
    try:
        values = np.load(path)
        return values.shape == shape and bool(np.isfinite(values).all())
    except Exception as e:  # numpy's are of many types
        if is_fault(e):
            raise
        return False


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description="Predict a test file by this bundle.")
    made.add_argument(
        "--input", help="the folder with the competition's test file (default: found)"
    )
    made.add_argument("--out", default="submission.csv", help="default: submission.csv")
    made.add_argument("--work", default=".partial", help="partial predictions (default: .partial)")
    made.add_argument("--minutes", type=_minutes, help="stop in time for this limit")
    made.add_argument("--threads", type=_threads, default=0, help="default: all cores")
    return made


def _threads(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not 0, for all cores, or a number of threads")


def _minutes(text: str) -> float:
    try:
        if (minutes := float(text)) > 0:
            return minutes
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")


def infer(root: Path, argv: Sequence[str], started: float) -> Inference:
    """Predict the test file of a competition by the bundle in a folder.

    Args:
        root: the bundle.
        argv: see `parser`.
        started: when the process began, in seconds of the monotonic clock.

    Returns:
        The finished inference.

    Raises:
        InputError: there is no test file, a column is missing, or a file of the bundle is damaged.
    """
    given = parser().parse_args(argv)
    bundle = Bundle.open(root)
    places = [Path(given.input)] if given.input else [Path(p) for p in PLACES if Path(p).is_dir()]
    test = find_test(bundle.record, places)
    competition = ShippedCompetition.of(root, bundle.record, input_folder(bundle.record, test))
    minutes = bundle.record.minutes if given.minutes is None else given.minutes
    made = Inference(
        bundle,
        competition,
        test,
        Path(given.work),
        Path(given.out),
        cpu_threads(given.threads),
        None if minutes is None else started + 60 * minutes,
    )
    rows, forecast = made.file.stream.rows, bundle.record.seconds(made.file.stream.rows)
    say(f"infer: {rows:,} rows of {test}, about {duration(forecast)} where it was made")
    made.run()
    return made


def main(root: Path, argv: Sequence[str], started: float) -> int:
    """Run `infer`; return the exit code, 2 for a sentence on standard error."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        infer(root, argv, started)
    except Exception as e:
        said = str(e) if isinstance(e, InputError) else sentence(e)
        if said is None:
            raise
        print(f"infer: {said}", file=sys.stderr)
        return 2
    return 0


def order(runs: Sequence[BundledRun], value: dict[str, float]) -> list[BundledRun]:
    """Return the runs in the order in which they predict.

    The quickest comes first, so that a submission exists soon; then one of each model in turn, by its
    value, so that what time cuts off is further runs of the same models.
    """
    turn: dict[str, int] = {}
    places = []
    for run in runs:
        turn[run.model] = turn.get(run.model, -1) + 1
        places.append((turn[run.model], -value[run.model], run.row_seconds))
    ordered = [run for _, run in sorted(zip(places, runs, strict=True), key=lambda pair: pair[0])]
    quickest = min(ordered, key=lambda run: run.load_seconds + 1000 * run.row_seconds)
    return [quickest, *(run for run in ordered if run is not quickest)]
