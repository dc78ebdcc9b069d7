"""Decision rules and fitted parameters as parts of the records of blends and submissions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from foldstack.kinds import Kind
from foldstack.records.base import Finite, Value

Numbers = Annotated[list[Finite], Field(min_length=1)]


class RuleRecord(Value):
    """A decision rule, see `ensemble.Rule`."""

    model_config = ConfigDict(extra="forbid")
    ABSENT: ClassVar[frozenset[str]] = frozenset(
        ("class_weights", "cut_points", "costs", "top_k", "at_least_one", "levels")
    )

    kind: Annotated[Kind, Field(strict=False)]
    thresholds: Numbers | None
    class_weights: Numbers | None = None
    cut_points: list[Finite] | None = None
    costs: list[list[int | Finite]] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    at_least_one: bool | None = None
    levels: Numbers | None = None

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if self.kind.is_values:
            if self.levels is None or len(self.levels) != len(self.cut_points or ()) + 1:
                raise ValueError("a rule of kind regression requires levels and cut points")
        elif self.thresholds is None and self.top_k is None and not self.kind.is_one_hot:
            raise ValueError(f"a rule of kind {self.kind} requires thresholds")
        return self

    def fits(self, outputs: int) -> bool:
        """Return whether the rule is of this number of outputs."""
        by_output = (self.thresholds, self.class_weights, self.costs)
        return all(each is None or len(each) == outputs for each in by_output)


def weights_of(parameters: Mapping[str, Any]) -> Any:
    """Return the weights of a mean, which may be calibrated; None for anything else."""
    base = parameters.get("base")
    return weights_of(base) if isinstance(base, dict) else parameters.get("weights")


def _check(parameters: dict[str, Any]) -> dict[str, Any]:
    """Raise ValueError if a mean's weights or power are not numbers.

    Those of stacks are checked when they are loaded, see `ensemble.load_fitted`.
    """
    weights = weights_of(parameters)
    if not isinstance(weights, dict | None):
        raise ValueError("weights: not numbers by model")
    for model, weight in (weights or {}).items():
        numbers = weight if isinstance(weight, list) else [weight]
        if not numbers or not all(type(number) in (int, float) for number in numbers):
            raise ValueError(f"weights.{model}: neither a number nor numbers by output")
    if type(parameters.get("power", 0.0)) not in (int, float):
        raise ValueError("power: not a number")
    return parameters


Parameters = Annotated[dict[str, Any], AfterValidator(_check)]
RunName = Annotated[str, Field(pattern=r"^seed\d+/(full|fold\d+(-\d+)*)$")]
MemberRuns = Annotated[
    dict[str, Annotated[dict[RunName, str], Field(min_length=1)]], Field(min_length=1)
]
