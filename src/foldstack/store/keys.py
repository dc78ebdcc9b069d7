"""The keys of runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

RUN_NAME = re.compile(r"full|fold(\d+(?:-\d+)*)")


@dataclass(frozen=True, order=True)
class RunKey:
    """The key of a run: a model, a seed, and the folds that it leaves out (none: `full`)."""

    model: str
    seed: int
    left_out: tuple[int, ...]

    @property
    def run(self) -> str:
        return "fold" + "-".join(map(str, self.left_out)) if self.left_out else "full"

    def __str__(self) -> str:
        return f"{self.model} seed {self.seed} {self.run}"

    @classmethod
    def of_name(cls, model: str, name: str) -> RunKey:
        """Return the key of `seed0/fold2`, as blends name their runs."""
        seed, _, run = name.partition("/")
        return cls(model, int(seed.removeprefix("seed")), cls.left_out_of(run))

    @staticmethod
    def left_out_of(run: str) -> tuple[int, ...]:
        """Return the held-out folds in a run's name; raise ValueError if it is not such a name."""
        match = RUN_NAME.fullmatch(run)
        if not match:
            raise ValueError(f"'{run}' is not the name of a run")
        return tuple(sorted({int(f) for f in (match[1] or "").split("-") if f}))
