"""The runs that a student's teachers need, known before the first of them is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from foldstack import config
from foldstack.errors import InputError
from foldstack.records import RunRecord
from foldstack.stages.run import Dependency, Run
from foldstack.stages.train import check_run, settings_of
from foldstack.store import Folds, RunKey
from foldstack.workspace import Workspace


@dataclass
class Required:
    """Every run that some dependencies need, directly or not.

    Attributes:
        finished: those that are there, with their records.
        missing: those to be trained, each after the runs that it depends on.
        without_model: finished ones whose fitted model is needed and was removed.
    """

    ws: Workspace
    folds: Folds
    finished: dict[RunKey, RunRecord] = field(default_factory=dict)
    missing: dict[RunKey, Run] = field(default_factory=dict)
    without_model: set[RunKey] = field(default_factory=set)
    _waiting: set[RunKey] = field(default_factory=set)

    @classmethod
    def by(cls, ws: Workspace, dependencies: Iterable[Dependency], folds: Folds) -> Required:
        """Return what the dependencies need; raise InputError if one of them cannot be trained."""
        found = cls(ws, folds)
        for each in dependencies:
            found._add(each)
        return found

    def _add(self, dependency: Dependency) -> None:
        key = dependency.run
        record = self.ws.store.read_run(key)
        if record is not None:
            self.finished[key] = record
            if dependency.of_model and self.ws.store.model_dir(key, record) is None:
                self.without_model.add(key)
            return
        if key in self.missing:
            return
        if key in self._waiting:
            raise InputError(f"{key} depends on itself, by way of another model")
        if not len(self.folds.learned(key.left_out)):
            raise InputError(f"{key} would leave every fold out")
        if not self.ws.has_preset(key.model):
            raise InputError(f"{key} cannot be trained, since '{key.model}' has no preset")
        settings = settings_of(self.ws, key.model, key.model, force=False)
        run = Run(key, settings, self.folds, key.model)
        self._waiting.add(key)
        for each in run.dependencies():
            self._add(each)
        self._waiting.remove(key)
        check_run(self.ws, run)
        self.missing[key] = run


def refuse_unlike(
    ws: Workspace, required: Required, reference: Mapping[str, RunKey], again: str
) -> None:
    """Raise InputError if a required run has, or would have, other settings than its model's others.

    Args:
        ws: the workspace.
        required: the runs.
        reference: per model a finished run that has the right settings; without one, the first of it.
        again: the commands after those that train a model again, each after ` && `.
    """
    settings = {key: record.identity.settings for key, record in required.finished.items()}
    for key, run in required.missing.items():
        settings[key] = config.identity(run.settings)
    for key, own in settings.items():
        like = reference.get(key.model) or next(iter(ws.store.runs(key.model, required.folds)), key)
        first = ws.store.read_run(like)
        if first is None:
            continue
        changed = config.settings_differences(first.identity.settings, own)
        if changed:
            made = "was made" if key in required.finished else "would be made"
            command = " && ".join(train_again(ws.store.runs(key.model, required.folds)))
            raise InputError(
                f"{key} {made} with other settings than {like} ({'; '.join(changed)}), so that they "
                f"could not teach together: set presets/{key.model}.yaml back, or run `{command}"
                f"{again}`"
            )


def train_again(keys: Iterable[RunKey]) -> list[str]:
    """Return the commands that train these runs again, one for all models with the same runs."""
    runs: dict[str, list[RunKey]] = {}
    for key in keys:
        runs.setdefault(key.model, []).append(key)
    groups: dict[tuple[tuple[str, ...], tuple[int, ...]], list[str]] = {}
    for model, each in runs.items():
        names = sorted({(len(k.left_out) or 99, k.left_out): k.run for k in each}.items())
        seeds = tuple(sorted({key.seed for key in each}))
        groups.setdefault((tuple(run for _, run in names), seeds), []).append(model)
    return [
        f"make train MODEL={','.join(models)} "
        f"FOLD={','.join(run.removeprefix('fold') for run in names)} "
        f"SEED={','.join(map(str, seeds))} FORCE=1"
        for (names, seeds), models in groups.items()
    ]


def shown(keys: Iterable[RunKey]) -> str:
    """Return runs by model and seed, as `linear seed 0 fold0-1, full; bayes seed 0 full`."""
    return "; ".join(f"{of} {', '.join(names)}" for of, names in _by_model(keys))


def _by_model(keys: Iterable[RunKey]) -> Iterator[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(f"{key.model} seed {key.seed}", []).append(key.run)
    yield from found.items()
