"""The typed settings of patterns.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from foldstack.settings import FileName, Settings, Share

# Above .5, so that the probability agrees with the rule's decision; below 1, since a certain mistake
# has an infinite log loss.
Confidence = Annotated[float, Field(gt=0.5, lt=1)]


class RuleSettings(Settings):
    """One rule: a pattern to search, one cached text, or a file of them, and the label that
    follows.

    pattern: regular expression of the `regex` package, searched in the text as given (a sentence
        pair is joined by a space).
    text: a cached text, compared after the normalisation that folds use.
    texts: a file in `input/` with the training file's text and target columns.
    label: what the rule decides.
    absent: in a multilabel competition, the rule decides that the label does not hold.
    confidence: probability of the label where the rule decides.
    """

    pattern: str | None = None
    text: str | None = None
    texts: FileName | None = None
    label: str | None = None
    absent: bool = False
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def _one_of_three(self) -> RuleSettings:
        if sum(each is not None for each in (self.pattern, self.text, self.texts)) != 1:
            raise ValueError("it requires exactly one of `pattern`, `text` and `texts`")
        if self.texts is None and self.label is None:
            raise ValueError("setting 'label' is missing: add `label: …`")
        if self.texts is not None and (self.label is not None or self.absent):
            raise ValueError(
                "the labels stand in the file that `texts` names: leave out the others"
            )
        return self


class NearestSettings(Settings):
    """The label of the nearest training text, for rows of which the model is unsure.

    below: rows in which the model's confidence is lower than this.
    by: characters: Jaccard similarity of character n-grams; meaning: cosine of the vectors of preset
        minilm-vectors, of several segments the mean.
    similarity: least similarity to the training text.
    confidence: probability of its label afterwards.
    """

    below: Annotated[float, Field(gt=0, le=1)] = 0.6
    by: Literal["characters", "meaning"] = "characters"
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8
    confidence: Confidence = 0.95

    @property
    def by_meaning(self) -> bool:
        return self.by == "meaning"

    @model_validator(mode="after")
    def _surer_than_the_model(self) -> NearestSettings:
        if self.confidence < self.below:
            raise ValueError(
                f"the nearest text's confidence {self.confidence} is less than below, {self.below}, "
                "and would make surer rows less sure: raise it"
            )
        return self


class PatternSettings(Settings):
    """The contents of the file that `patterns` in competition.yaml names.

    mode: before: a rule decides alone; beside: only if it is at least as confident as the model,
        and the model does not find its label less probable than `overrule_below`.
    overrule_below: see `mode`.
    rules: the first that matches decides.
    nearest: rows that no rule decides and of which the model is unsure take the nearest training
        text's label.
    """

    mode: Literal["before", "beside"] = "beside"
    overrule_below: Share = 0.05
    rules: tuple[RuleSettings, ...] = ()
    nearest: NearestSettings | None = None

    @model_validator(mode="after")
    def _used(self) -> PatternSettings:
        if not self.rules and self.nearest is None:
            raise ValueError(
                "it holds neither `rules` nor `nearest`: write some, or remove `patterns` from "
                "competition.yaml"
            )
        for name in ("mode", "overrule_below"):
            if not self.rules and name in self.model_fields_set:
                raise ValueError(f"`{name}` changes nothing without `rules`: leave it out")
        if self.mode == "before" and "overrule_below" in self.model_fields_set:
            raise ValueError("`overrule_below` changes nothing if mode is before: leave it out")
        return self
