"""Several fits of one learner from different seeds, which predict together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np

from foldstack import parallel
from foldstack.finished import FACTS, finished_facts
from foldstack.learners import Attended, Learner, LearnerContext, Measured
from foldstack.progress import say
from foldstack.records import digests_of, write_record
from foldstack.rows import Rows
from foldstack.techniques import AUTO, LearnerSettings, RunFacts, auto
from foldstack.tracking import under

TOTALS = ("updates", "training_seconds")


class RepeatedLearner:
    """The mean of the logits of `repeats` fits; on few rows a single fit depends much on its seed.

    The first fit has the run's seed and is what a run with one fit would be. A fit is stored in a
    folder of its own; a single one as its learner stores it.
    """

    def __init__(
        self,
        settings: LearnerSettings,
        context: LearnerContext,
        implementation: Callable[[LearnerSettings, LearnerContext], Learner],
    ):
        self.settings, self.context, self._implementation = settings, context, implementation
        self.members = [self._member(1)]
        self.link = self.members[0].link

    def _member(self, number: int) -> Learner:
        context, seed = self.context.of_fit(number), self.context.seed
        if number > 1:
            drawn = np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1)[0]
            context = replace(context, seed=int(drawn), log=under(f"fit{number}", context.log))
        return self._implementation(self.settings, context)

    def _chosen(self, rows: int) -> tuple[int, dict]:
        """Return the number of fits, and how it was chosen if it is `auto`."""
        if self.settings.repeated != AUTO:
            return self.settings.repeated, {}
        rule = auto.choose("repeats", RunFacts(rows=rows))
        return rule.value, {"repeats": {"value": rule.value, "why": rule.when}}

    @property
    def precision(self) -> str | None:
        return getattr(self.members[0], "precision", None)

    def fit(self, train: Rows, select: Rows | None, run_dir: Path) -> dict:
        count, choice = self._chosen(int((train.weights > 0).sum()))
        if count == 1:
            facts = self.members[0].fit(train, select, run_dir)
        else:
            self.members, each = [], []
            for number in range(1, count + 1):
                say(f"fit {number} of {count}, each from a seed of its own (`repeats`)")
                member, made = self._fit_one(
                    number, train, select, Path(run_dir, f"repeat{number}")
                )
                self.members.append(member)
                each.append(made)
            totals = {k: round(sum(f[k] for f in each), 2) for k in TOTALS if k in each[0]}
            facts = each[0] | totals | {"repeats": each}
        return facts | ({"auto": choice | facts.get("auto", {})} if choice else {})

    def _fit_one(
        self, number: int, train: Rows, select: Rows | None, folder: Path
    ) -> tuple[Learner, dict]:
        """Return a fitted learner and its facts; one that is finished is read after a kill."""
        member, done, work = self._member(number), folder / "done", folder / "work"
        found = finished_facts(done, folder.name, "fitting it again", ("model",))
        if found is not None:
            member.load(done / "model")
            return member, found
        parallel.main_first(lambda: work.mkdir(parents=True, exist_ok=True))
        facts = member.fit(train, select, work)
        if parallel.is_main():
            saving = folder / "saving"
            for old in (saving, done):  # of a kill, or damaged
                shutil.rmtree(old, ignore_errors=True)
            member.save(saving / "model")
            write_record(saving / FACTS, facts | {"files": digests_of(saving)})
            saving.rename(done)
            shutil.rmtree(work)
        return member, facts

    def predict(self, rows: Rows) -> np.ndarray:
        logits = [member.predict(rows) for member in self.members]
        return logits[0] if len(logits) == 1 else np.mean(logits, axis=0, dtype=np.float32)

    def attention(self, rows: Rows) -> list[Attended] | None:
        """Return the weights of the first fit: those of several have no common mean."""
        find = getattr(self.members[0], "attention", None)
        return None if find is None else find(rows)

    def measure(self, rows: Rows, learned: int, sized: bool = False) -> Measured:
        """Return the first steps' times, see `Measured`."""
        count, _ = self._chosen(learned)
        one = self.members[0].measure(rows, learned, sized)
        return replace(
            one,
            fit_seconds=count * one.fit_seconds,
            row_seconds=count * one.row_seconds,
            seed_row_seconds=one.seed_row_seconds * (1 if self.settings.copies else count),
            work=one.work if count == 1 else f"{one.work} in each of {count} fits",
            mb=one.mb and count * one.mb,
        )

    def in_int8(self) -> RepeatedLearner:
        other = copy(self)
        other.members = [member.in_int8() for member in self.members]
        return other

    def save(self, folder: Path) -> None:
        if len(self.members) == 1:
            self.members[0].save(folder)
            return
        for number, member in enumerate(self.members, 1):
            member.save(folder / f"repeat{number}")

    def load(self, folder: Path) -> None:
        places = [folder]
        if (folder / "repeat1").exists():
            count = sum(1 for _ in folder.glob("repeat*"))
            places = [folder / f"repeat{number}" for number in range(1, count + 1)]
        self.members = [self._member(number) for number in range(1, len(places) + 1)]
        for member, place in zip(self.members, places, strict=True):
            member.load(place)
