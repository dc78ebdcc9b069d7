"""Writing of a bundle: its files, its record, and a trial of its script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import foldstack
from foldstack import config
from foldstack.bundle import script
from foldstack.bundle.infer import MODEL, SCALES, Bundle, Inference, file_of
from foldstack.bundle.manifest import FILE, BundledRun, BundleRecord
from foldstack.bundle.shipped import ShippedCompetition, sample_of, settings_of
from foldstack.bundle.vendored import vendor
from foldstack.bundle.weights import make_self_contained, shrink
from foldstack.ensemble import OF_RANKS
from foldstack.files import csv_text, write_text
from foldstack.records import BlendRecord, digests_of, write_record
from foldstack.stages.combination import Outcome
from foldstack.stages.fitted import model_folder, threads_to_predict
from foldstack.stages.means import RunScales
from foldstack.stages.patterned import fitted_patterns
from foldstack.store import RunKey, read_parquet
from foldstack.tables import read_table
from foldstack.workspace import Workspace

# Settings of the form of files; those of a trial are plain CSV, whatever the competition's are.
FORM = ("encoding", "delimiter", "quoting", "header", "columns", "files", "join")
SCRIPT, NOTEBOOK = "infer.py", "infer.ipynb"
# /usr/bin/time is not everywhere: a child's own record of its largest memory, in KB.
PEAK = (
    "import resource, runpy, sys, atexit; atexit.register(lambda: print('PEAK', "
    "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)); sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def bundled(ws: Workspace, key: RunKey) -> BundledRun:
    """Return a run as a bundle lists it, without its times."""
    return BundledRun(
        model=key.model,
        name=f"seed{key.seed}/{key.run}",
        folder=f"models/{key.model}-seed{key.seed}-{key.run}",
        settings=ws.store.read_run(key).identity.settings,
    )


class Making:
    """A bundle being written.

    Attributes:
        runs: in the order in which they predict, with their times.
        form: of the transformers' weights.
        minutes: the time limit; None for none.
        manifest: the record, when it is written.
        largest_difference: between its probabilities and those of `submit`, on the rows that it was
            tried on.
        other_decisions: how many of these rows it decides otherwise.
    """

    def __init__(
        self,
        ws: Workspace,
        name: str,
        blend: BlendRecord,
        runs: list[BundledRun],
        form: str,
        minutes: float | None,
    ):
        self.ws, self.name, self.blend, self.runs = ws, name, blend, runs
        self.form, self.minutes = form, minutes
        self.largest_difference, self.other_decisions = 0.0, 0
        self.patterns = None if ws.patterns is None else fitted_patterns(ws)
        self.manifest: BundleRecord

    def fill(self, folder: Path, at: np.ndarray) -> None:
        """Write all files of the bundle into a folder, and try it on the test rows at `at`."""
        source = Path(foldstack.__file__).parent
        ignored = shutil.ignore_patterns("__pycache__", "recipes", "presets")
        shutil.copytree(source, folder / "source" / "foldstack", ignore=ignored)
        settings = [config.stored_settings(run.settings) for run in self.runs]
        vendor(folder / "vendor", sorted({name for each in settings for name in each.packages}))
        shutil.copyfile(script.__file__, folder / SCRIPT)
        write_text(folder / NOTEBOOK, json.dumps(_notebook(), indent=1) + "\n")
        if self.ws.competition.settings.metric.startswith("metrics.py:"):
            shutil.copyfile(self.ws.root / "metrics.py", folder / "metrics.py")
        self._copy_models(folder)
        self.runs = [
            run.model_copy(update={"files": digests_of(folder / run.folder)}) for run in self.runs
        ]
        if self.patterns is not None:
            self.patterns.write(folder)
        self.manifest = self._described(folder)
        write_record(folder / FILE, self.manifest.to_json())
        self._try(folder, at)
        write_record(folder / FILE, self.manifest.to_json())

    def _copy_models(self, folder: Path) -> None:
        for run in self.runs:
            place = model_folder(self.ws, run.key, self.ws.store.read_run(run.key))
            shutil.copytree(place, folder / run.folder)
            make_self_contained(folder / run.folder)
            shrink(folder / run.folder, self.form)
        fitted = self.ws.store.blend_model(self.name, self.blend)
        (folder / MODEL).mkdir()
        if fitted.exists():
            shutil.copytree(fitted, folder / MODEL, dirs_exist_ok=True)
        if self.blend.winner in OF_RANKS:
            (folder / SCALES).mkdir()
            held = RunScales.read(self.ws, [run.key for run in self.runs]).held
            for run in self.runs:
                np.save(folder / SCALES / file_of(run), held[run.key])

    def _described(self, folder: Path) -> BundleRecord:
        competition = self.ws.competition
        names, values = competition.settings.categorical, competition.task.categories
        costs = competition.metric.costs
        return BundleRecord(
            name=self.name,
            blend=self.blend,
            competition=settings_of(competition),
            labels=list(competition.labels),
            categories={name: list(of) for name, of in zip(names, values, strict=True)},
            costs=costs and [list(row) for row in costs],
            sample=sample_of(competition),
            weights=self.form,
            threads=threads_to_predict(self.ws),
            minutes=self.minutes,
            runs=self.runs,
            files=digests_of(folder, ("models", "source", "vendor", SCRIPT, NOTEBOOK)),
            digest=config.digest(digests_of(folder)),
        )

    # The trial

    def _try(self, folder: Path, at: np.ndarray) -> None:
        """Run the bundle's script on some test rows in a process of its own; compare, and measure.

        For the trial the bundle expects the plain form in which they are written.
        """
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            test, plain = self._write_test(place / "input", at)
            others = {k: v for k, v in self.manifest.competition.items() if k not in FORM}
            tried = self.manifest.model_copy(update={"competition": others | plain})
            write_record(folder / FILE, tried.to_json())
            begin = time.monotonic()
            peak = _run(folder, place)
            seconds = time.monotonic() - begin
            self._compare(folder, tried, place, test, at)
        expected = sum(run.seconds(len(at)) for run in self.runs)
        measured = {"peak_mb": peak, "start_seconds": max(seconds - expected, 0.0)}
        self.manifest = self.manifest.model_copy(update=measured)

    def _write_test(self, folder: Path, at: np.ndarray) -> tuple[Path, dict[str, Any]]:
        """Write these rows of the test file, and what is joined to them, as plain CSV.

        Returns the file, and the settings that name the files.
        """
        competition = self.ws.competition
        settings = competition.settings
        folder.mkdir()

        def write(name: str, of: str, at: np.ndarray | slice) -> str:
            table = read_table(competition.input_path(of), settings.form_of(of)).iloc[at]
            write_text(folder / name, csv_text(table))
            return name

        joined = [
            {
                "on": join.on,
                "file": [
                    write(f"joined{i}-{k}.csv", each, slice(None))
                    for k, each in enumerate(join.file)
                ],
            }
            for i, join in enumerate(settings.join)
        ]
        files = {"test": write("test.csv", settings.files.test, at)}
        return folder / "test.csv", {"files": files, "join": joined}

    def _compare(
        self, folder: Path, manifest: BundleRecord, place: Path, test: Path, at: np.ndarray
    ) -> None:
        """Compare the script's predictions with the stored ones of the same rows.

        Args:
            folder: the bundle.
            manifest: its record in the trial.
            place: the folder of the trial.
            test: the test file of the trial.
            at: positions of its rows in the competition's.
        """
        stored = self.ws.store.blend_file(self.name, self.blend, "test.parquet")
        wanted, rows = read_parquet(stored)[1].raw[at], self.ws.competition.test.take(at)
        competition = ShippedCompetition.of(folder, manifest, test.parent)
        made = Inference(
            Bundle(folder, manifest),
            competition,
            test,
            place / "work",
            place / "submission.csv",
            manifest.threads,
        )
        found = [outcome for *_, outcome in made.outcomes(self.runs)]
        combination, decisions = made.bundle.combination, None
        if found[0].decisions is not None and not combination.of_ranks:
            decisions = combination.decided(wanted, wanted)
        expected = Outcome(wanted, decisions).patterned(self.patterns, rows)
        values = np.concatenate([outcome.values for outcome in found])
        self.largest_difference = float(np.abs(values - expected.values).max())
        if decisions is not None:
            decided = np.concatenate([outcome.decisions for outcome in found])
            self.other_decisions = int((expected.decisions != decided).any(axis=1).sum())


def _run(folder: Path, place: Path) -> int:
    """Run the script on the input of a folder; return the largest memory of its process in MB."""
    options = [
        "--input",
        place / "input",
        "--out",
        place / "submission.csv",
        "--work",
        place / "work",
    ]
    command = [sys.executable, "-c", PEAK, folder.resolve() / SCRIPT, *options]
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ""},
        cwd=place,
    )
    if done.returncode:
        raise RuntimeError(f"the bundle's script failed:\n{done.stdout}{done.stderr}")
    return int(done.stdout.rsplit("PEAK", 1)[1]) // 1024


def _notebook() -> dict:
    """Return a notebook that finds the script among the mounted data sets and runs it."""
    lines = [
        "import glob, subprocess, sys",
        "script = sorted(glob.glob('/kaggle/input/**/infer.py', recursive=True) or ['infer.py'])[0]",
        "subprocess.run([sys.executable, script, '--out', 'submission.csv'], check=True)",
    ]
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": [line + "\n" for line in lines],
    }
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
