"""Which members of a blend teach a student, and what: by the runs that are there or can be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from foldstack.errors import InputError
from foldstack.records import BlendRecord
from foldstack.stages.dependencies import ChosenFiles, files_of_members
from foldstack.stages.required import Required
from foldstack.stages.run import Dependency, Run
from foldstack.store import Folds, RunKey
from foldstack.techniques import LearnerSettings
from foldstack.workspace import Workspace

SHARE = 0.5  # of the teachers in the targets of training rows


@dataclass(frozen=True)
class Plan:
    """The teachers, texts and external files of a student; no label decides them.

    Attributes:
        teachers: members that label unlabelled rows, with equal weights.
        of_training_rows: those of them that teach training rows too, by runs that leave two folds out.
        texts: names of `Competition.rows_to_label` that are learned.
        files: the external files that the members' runs have learned; None if the competition has none.
        why_not_distilled: why no training row is taught; None if they are.
        notes: a sentence per member that does not teach, or no training rows.
    """

    teachers: list[str]
    of_training_rows: list[str]
    texts: list[str]
    files: ChosenFiles | None
    why_not_distilled: str | None
    notes: list[str] = field(default_factory=list)

    @property
    def data(self) -> dict[str, Any]:
        """The settings of the preset that follow from the plan."""
        found: dict[str, Any] = {"pseudo_labels": {"teachers": self.teachers, "texts": self.texts}}
        if self.of_training_rows:
            found["distil"] = {"teachers": self.of_training_rows, "share": str(SHARE)}
        if self.files is not None:
            found["external_files"] = self.files if self.files == "all" else list(self.files)
        return found

    @property
    def settings(self) -> LearnerSettings:
        """The same as settings of any learner."""
        return LearnerSettings(**{k: v for k, v in self.data.items() if k != "external_files"})


def plan(ws: Workspace, name: str, record: BlendRecord, seeds: Sequence[int]) -> Plan:
    """Return what a student of a blend learns; raise InputError if no member can teach it.

    A member teaches if its runs are finished or can be trained.

    Args:
        ws: the workspace.
        name: of the blend.
        record: of the blend.
        seeds: of the student, the first of which has a run on all rows.
    """
    folds, notes = ws.store.read_folds(ws.competition.train), []
    teachers, of_training_rows = [], []
    why_not = why_no_pairs(folds)
    for member in record.members:
        why = _why_not(ws, member, _alone(seeds, folds), folds)
        if why is not None:
            notes.append(f"{member} does not teach: {why}")
            continue
        teachers.append(member)
        why = _why_not(ws, member, _pairs(seeds, folds), folds) if why_not is None else why_not
        if why is None:
            of_training_rows.append(member)
        elif why_not is None:
            notes.append(f"{member} teaches no training rows: {why}")
    if not teachers:
        raise InputError(f"no member of blend '{name}' can teach: {'; '.join(notes)}")
    if why_not is None and not of_training_rows:
        why_not = "no member has the runs that leave two folds out"
    files = files_of_members(ws, record.members) if ws.competition.settings.external else None
    texts = list(ws.competition.rows_to_label)
    return Plan(teachers, of_training_rows, texts, files, why_not, notes)


def why_no_pairs(folds: Folds) -> str | None:
    """Return why no run can leave two folds out; None if one can."""
    if folds.in_time_order:
        return "folds in time order have no runs that leave two of them out"
    if any(len(split) < 3 for split in folds.by_split):
        return "no run can leave out both of two folds"
    return None


Keys = list[tuple[int, tuple[int, ...]]]  # seeds, and the folds that are left out


def _alone(seeds: Sequence[int], folds: Folds) -> Keys:
    """Return the runs that leave one fold out, and that on all rows."""
    return [*((seed, (fold,)) for seed in seeds for fold in folds.numbers), (seeds[0], ())]


def _pairs(seeds: Sequence[int], folds: Folds) -> Keys:
    """Return the runs that leave two folds of a split out."""
    return [
        (seed, (a, b))
        for seed in seeds
        for split in folds.by_split
        for a in split
        for b in split
        if a < b
    ]


def _why_not(ws: Workspace, member: str, keys: Keys, folds: Folds) -> str | None:
    """Return why a member has not all of these runs and they cannot be trained; None if they can."""
    try:
        Required.by(ws, [Dependency("pseudo", RunKey(member, *key)) for key in keys], folds)
    except InputError as e:
        return str(e)
    return None


def student_runs(
    student: str, settings: LearnerSettings, seeds: Sequence[int], folds: Folds
) -> list[Run]:
    """Return the runs of a student: of each seed and fold, and that on all rows of the first seed."""
    return [
        Run(RunKey(student, seed, left_out), settings, folds)
        for seed, left_out in _alone(seeds, folds)
    ]
