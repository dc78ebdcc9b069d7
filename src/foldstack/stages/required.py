"""The runs that a student's teachers need, known before the first of them is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from foldstack import config
from foldstack.errors import InputError
from foldstack.records import RunRecord
from foldstack.settings import Settings
from foldstack.stages.dependencies import refuse_in_time_order, refuse_unkept, unlike
from foldstack.stages.run import BY_FOLD, PURPOSES, Dependency, Run
from foldstack.stages.silver import refuse_none_allowed
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

    @classmethod
    def by(
        cls, ws: Workspace, dependencies: Iterable[Dependency], folds: Folds, of: Iterable[str] = ()
    ) -> Required:
        """Return what the dependencies need.

        of: the models whose runs have these dependencies.

        Raises InputError if one of them cannot be trained, or models depend on each other.
        """
        found = cls(ws, folds)
        for each in dependencies:
            found._add(each, tuple(of))
        return found

    def _add(self, dependency: Dependency, after: tuple[str, ...]) -> None:
        """Add a run and what it depends on. after: the models whose runs depend on it."""
        key = dependency.run
        if key.model in after:
            raise InputError(in_a_circle(after[after.index(key.model) :]))
        record = self.ws.store.read_run(key)
        if record is not None:
            self.finished[key] = record
            if dependency.of_model and self.ws.store.model_dir(key, record) is None:
                self.without_model.add(key)
            return
        if key in self.missing:
            return
        self.ws.choose_model(key.model, PURPOSES[dependency.purpose])
        if not self.ws.has_preset(key.model):
            raise InputError(f"{key} cannot be trained, since '{key.model}' has no preset")
        settings = settings_of(self.ws, key.model, key.model, force=False)
        run = Run(key, settings, self.folds, key.model)
        for each in run.dependencies():
            self._add(each, (*after, key.model))
        check_run(self.ws, run)
        self.missing[key] = run


def in_a_circle(models: Iterable[str]) -> str:
    """Return the sentence about models that depend on each other."""
    return (
        f"{' and '.join(sorted(set(models)))} depend on each other, so that none can be the first: "
        "name another model in one of them"
    )


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
    own = {key: record.identity.settings for key, record in required.finished.items()}
    own |= {key: config.identity(run.settings) for key, run in required.missing.items()}
    for model in dict.fromkeys(key.model for key in own):
        of_model = {key: each for key, each in own.items() if key.model == model}
        runs = ws.store.runs(model, required.folds)
        like = reference.get(model) or next(iter(runs), None)
        first = None if like is None else ws.store.read_run(like)
        if first is None:
            continue
        for key, changed in unlike(of_model, first.identity.settings).items():
            made = "was made" if key in required.finished else "would be made"
            raise InputError(
                f"{key} {made} with other settings than {like} ({'; '.join(changed)}), so that they "
                f"could not teach together: set presets/{model}.yaml back, or run "
                f"`{' && '.join(train_again(runs))}{again}`"
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


def settings_of(ws: Workspace, model: str, stored_as: str, *, force: bool) -> Settings:
    """Return a model's settings; those of the earlier shipped preset if a stored run has them."""
    today, earlier = ws.model_settings(model), ws.model_settings(model, earlier=True)
    if force or earlier == today:
        return today
    ours = config.identity(earlier)
    stored = (run.identity.settings for run in ws.store.runs(stored_as).values())
    return earlier if any(not config.settings_differences(s, ours) for s in stored) else today


def check_run(ws: Workspace, run: Run) -> None:
    refuse_in_time_order(run)
    refuse_unkept(ws, run)
    own = next((d for d in run.dependencies() if d.run.model == run.key.model), None)
    if own:
        setting = PURPOSES[own.purpose]
        raise InputError(f"{run.key}: {setting} names the model itself: name another one")
    start = run.start
    if start and ws.has_preset(start.model):
        every = getattr(ws.model_settings(start.model), "keep_every", 1)
        if every > 1:
            raise InputError(
                f"{run.key}: start_from names {start.model}, which keeps one of {every} layers "
                "(keep_every): no other network has its layers, so name one that keeps all"
            )
    refuse_none_allowed(run, len(run.folds.learned(run.key.left_out)))
    for teacher in run.dependencies():
        if teacher.purpose not in BY_FOLD:
            continue
        left_out, setting = (
            teacher.run.left_out,
            PURPOSES[teacher.purpose].removesuffix(".teachers"),
        )
        if not len(run.folds.learned(left_out)):
            raise InputError(
                f"{run.key}: {setting} is by runs that leave {len(left_out)} folds out, which are all: "
                f"set folds.count to more (with DEBUG=1 by SET=folds.count=), or leave {setting} out"
            )
    if run.select == "fold" and not run.key.left_out:
        raise InputError(
            f"{run.key}: training.select=fold chooses the epoch on the held-out fold, "
            "but a full run holds none out: use select=last or inner"
        )
