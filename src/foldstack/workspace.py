"""A workspace: the competition, its store, and the overrides of this call."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from foldstack import config
from foldstack.competition import Competition
from foldstack.debug import make_debug_workspace
from foldstack.errors import InputError, nearest
from foldstack.patterns import Patterns, load
from foldstack.settings import Settings
from foldstack.store import Folds, RunKey, Store


@dataclass
class Workspace:
    """A competition, its store and the settings of this call.

    Attributes:
        root: the folder.
        overrides: the settings of this call.
        given: those of them that the user gave by --set.
        command: the call's general options, for child processes.
        solution: the file of test labels, which only the score stage reads.
    """

    root: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    solution: Path = Path()

    @classmethod
    def open(cls, root: Path, sets: list[str], debug: bool = False) -> Workspace:
        """Return the workspace in a folder; raise InputError if a `--set` names an unknown setting."""
        overrides = given = config.parse_overrides(sets)
        config.check_overrides(given)
        command = [f"--workspace={root}", *(f"--set={s}" for s in sets)]
        solution = Store(root).solution
        if debug:
            command.append("--debug")
            root, overrides = make_debug_workspace(root, given)
        return cls(root, overrides, given, command, solution)

    @cached_property
    def store(self) -> Store:
        return Store(self.root)

    @cached_property
    def competition(self) -> Competition:
        of_competition, _ = config.split_overrides(self.overrides)
        return Competition.load(self.root, of_competition)

    @cached_property
    def patterns(self) -> Patterns | None:
        """The rules that decide before or beside the blend; None if there are none."""
        return load(self.competition) if self.competition.settings.patterns else None

    def check(self) -> None:
        """Read and check all files, so that errors are raised before hours of training."""
        self.competition.check()
        _ = self.patterns

    def refuse_named(self, place: Path) -> None:
        """Raise InputError if writing this file would overwrite an input that the settings name."""
        for setting, path in self.competition.named_files.items():
            if place.exists() and path.exists() and place.samefile(path):
                raise InputError(
                    f"{self.store.name(place)} is the file that `{setting}` of competition.yaml names "
                    "and would be written over: copy it into input/, or write to another file"
                )

    def check_folds_given(self) -> None:
        """Raise InputError if `--set` gives settings of folds that the stored folds do not have."""
        for key, (made_with, today) in self.other_folds.items():
            if key in self.given.get("folds", {}):
                setting = f"folds.{key}={today}"
                raise InputError(
                    f"--set: {setting} has no effect on folds that exist, and "
                    f"{self.store.name(self.store.folds_path)} has folds.{key}={made_with}: run `make "
                    f"folds SET={setting}` first, or leave it out"
                )

    @property
    def other_folds(self) -> dict[str, tuple[Any, Any]]:
        """The settings of folds that differ: that of the stored folds, and today's."""
        record = self.store.read_folds_record()
        if record is None:
            return {}
        today = self.competition.settings.folds.model_dump(mode="json")
        both = {key: (then, today[key]) for key, then in record.settings.items() if key in today}
        return {key: (then, now) for key, (then, now) in both.items() if then != now}

    @property
    def folds_remark(self) -> str | None:
        """A sentence if the stored folds were made with other settings than today's."""
        if not self.other_folds:
            return None
        key, (then, now) = next(iter(self.other_folds.items()))
        return (
            f"{self.store.name(self.store.folds_path)} has folds.{key}={then}, which is used, and "
            f"competition.yaml says {now}: `make folds` makes others (FORCE=1 if runs exist)"
        )

    def model_settings(self, name: str, *, earlier: bool = False) -> Settings:
        """Return a model's settings with those overrides that its learner has.

        earlier: with the shipped presets of an earlier version, as far as they differ.
        """
        _, of_models = config.split_overrides(self.overrides)
        shipped = (config.EARLIER, config.SHIPPED) if earlier else (config.SHIPPED,)
        settings = config.load_model(name, self.root, self.competition.settings, {}, shipped)
        of_models = config.relevant(of_models, settings.learner)
        return config.load_model(name, self.root, self.competition.settings, of_models, shipped)

    @property
    def listed(self) -> list[str]:
        return [name for name, _ in config.listed_models(self.competition.settings)]

    def choose_models(self, text: str | None) -> list[str]:
        """Return the models of a comma list; for `all` or None those of the competition."""
        if text in (None, "", "all"):
            if not self.listed:
                raise InputError(
                    "competition.yaml lists no models: add `models: [tfidf, minilm]` or "
                    f"name one of {', '.join(config.preset_names(self.root))}"
                )
            return self.listed
        names = _comma_list(text)
        known = set(config.preset_names(self.root)) | set(self.listed) | self.store.models()
        for name in names:
            if name not in known:
                raise InputError(
                    f"model '{name}' is not known: {nearest(name, known)} "
                    "(your own goes into presets/NAME.yaml)"
                )
        return names

    def choose_model(self, text: str, stage: str) -> str:
        """Return the only model of a list; raise InputError if it has several."""
        names = self.choose_models(text)
        if len(names) != 1:
            raise InputError(
                f"{stage} takes one MODEL, not {len(names)}: blend them with `make blend "
                f"MODEL={text}` first"
            )
        return names[0]

    def has_preset(self, name: str) -> bool:
        """Return whether the model can be trained by name; a variant (NAME=) cannot."""
        return name in self.listed or name in config.preset_names(self.root)

    def choose_seeds(self, text: str | None) -> list[int]:
        """Return the seeds of a comma list; for `all` or None those of the competition."""
        if text in (None, "", "all"):
            return list(dict.fromkeys(self.competition.settings.seeds))
        for part in _comma_list(text):
            if not part.isdecimal() or len(part) > 10 or int(part) >= 2**32:
                raise InputError(f"seed '{part}' is not a whole number from 0 to 4294967295")
        return [int(part) for part in _comma_list(text)]

    def choose_runs(self, text: str | None, folds: Folds) -> list[tuple[int, ...]]:
        """Return the held-out folds of each run: `0,2-4,full` as named, `all` or None each fold."""
        if text in (None, "", "all"):
            return [(fold,) for fold in range(folds.count)]
        runs = []
        for part in _comma_list(text):
            try:
                left_out = RunKey.left_out_of(part if part == "full" else f"fold{part}")
            except ValueError:
                raise InputError(
                    f"fold '{part}' is not a fold: name one of 0 to {folds.count - 1}, several "
                    "left out together as 2-4, full, or all"
                ) from None
            for fold in left_out:
                if fold >= folds.count:
                    raise InputError(
                        f"fold {fold} does not exist: folds/folds.csv has folds 0 to {folds.count - 1}"
                    )
            if folds.in_time_order and len(left_out) > 1:
                raise InputError(
                    f"fold '{part}' leaves several folds out, which time order cannot: name one fold"
                )
            if not len(folds.learned(left_out)):
                raise InputError(
                    f"fold '{part}' leaves every fold out: nothing is left to learn from"
                )
            runs.append(left_out)
        return runs


def _comma_list(text: str) -> list[str]:
    parts = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise InputError(f"'{text}' names nothing: give one name, a comma list, or all")
    return parts
