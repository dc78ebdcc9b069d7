"""patterns.yaml: rules of patterns and cached texts, typed and checked against the competition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import regex
from pydantic import Field, model_validator

from foldstack import config
from foldstack.errors import InputError, nearest
from foldstack.files import read_table
from foldstack.patterns.rules import CompiledRule, Patterns, labels_of
from foldstack.rows import normalise
from foldstack.settings import Settings, Share

if TYPE_CHECKING:
    from foldstack.competition import Competition

SHOWN = 40  # characters of a pattern or text in a table

# Above .5, so that the probability of what a rule decides agrees with the decision; below 1, since a
# wrong certainty costs a log loss everything.
Confidence = Annotated[float, Field(gt=0.5, lt=1)]


class RuleSettings(Settings):
    """One rule: a pattern to search, one cached text, or a file of them, and the label that follows.

    pattern: of the `regex` package, searched in the text as it is given (a sentence pair is joined by a
    space). text: compared after normalising, as equal texts are told for folds. texts: a file in
    `input/` with the training file's text and target columns. absent: of several labels, says that this
    one does not hold. confidence: the probability of the label where the rule decides.
    """

    pattern: str | None = None
    text: str | None = None
    texts: str | None = None
    label: str | None = None
    absent: bool = False
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def _one_of_three(self) -> RuleSettings:
        if sum(each is not None for each in (self.pattern, self.text, self.texts)) != 1:
            raise ValueError("it wants exactly one of `pattern`, `text` and `texts`")
        if self.texts is None and self.label is None:
            raise ValueError("setting 'label' is missing: add `label: …`")
        if self.texts is not None and (self.label is not None or self.absent):
            raise ValueError(
                "the labels stand in the file that `texts` names: leave out the others"
            )
        return self


class NearestSettings(Settings):
    """Where the model's confidence is under `below`, the label of the nearest training text counts.

    similarity: Jaccard similarity of character n-grams (`near.shingles`) that the text must have at
    least. confidence: the probability of that label afterwards.
    """

    below: Annotated[float, Field(gt=0, le=1)] = 0.6
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8
    confidence: Confidence = 0.95

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

    mode: `before` lets a rule decide alone; `beside` only where it is at least as confident as the
    model and the model does not find its label less probable than `overrule_below`.
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
            raise ValueError("`overrule_below` changes nothing where mode is before: leave it out")
        return self


def read_settings(path: Path) -> PatternSettings:
    """Raises InputError naming the file, the rule's number from 1, and what is wrong with it."""
    data = config.read_yaml(path)
    rules = data.get("rules", [])
    if not isinstance(rules, list):
        raise InputError(f"{path}: `rules` is a list: write `- pattern: …` lines below it")
    for number, rule in enumerate(rules, 1):
        if not isinstance(rule, dict):
            raise InputError(f"{path}: rule {number} is no mapping: write `pattern: …`, `label: …`")
        config.validate(RuleSettings, rule, f"{path}: rule {number}")
    return config.validate(PatternSettings, data, str(path))


def load(competition: Competition) -> Patterns:
    """The competition's patterns, every regular expression, label and cached text checked."""
    path = competition.root / competition.settings.patterns
    settings = read_settings(path)
    of_unit = len(competition.labels) if competition.kind == "multiclass" else 2
    if settings.nearest and settings.nearest.below <= 1 / of_unit:
        raise InputError(
            f"{path}: nearest.below is {settings.nearest.below:g}, but the most probable of {of_unit} "
            f"has {1 / of_unit:.3g} or more, so that nothing would be asked: raise it"
        )
    compiled = tuple(
        _compiled(competition, rule, number, f"{path}: rule {number}")
        for number, rule in enumerate(settings.rules, 1)
    )
    cached = [
        [sorted(r.texts.items()), r.answers.tolist()] for r in compiled if r.texts is not None
    ]
    return Patterns(
        file=competition.settings.patterns,
        hash=config.digest([settings.model_dump(mode="json"), cached]),
        kind=competition.kind,
        mode=settings.mode,
        overrule_below=settings.overrule_below,
        rules=compiled,
        nearest=settings.nearest,
    )


def _compiled(
    competition: Competition, rule: RuleSettings, number: int, source: str
) -> CompiledRule:
    pattern = texts = None
    if rule.texts is not None:
        texts, answers = _cached(competition, rule.texts)
        name = f"rule {number}: {len(texts):,} texts of {rule.texts}"
    else:
        answers = _answer(competition, rule, source)
        outcome = f"not {rule.label}" if rule.absent else rule.label
        if rule.pattern is not None:
            pattern = _regex(rule.pattern, source)
            name = f"rule {number}: /{_short(rule.pattern)}/ → {outcome}"
        else:
            texts = {_form(competition, rule.text, source): 0}
            name = f"rule {number}: '{_short(rule.text)}' → {outcome}"
    return CompiledRule(name, source, rule.confidence, answers, pattern, texts)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _answer(competition: Competition, rule: RuleSettings, source: str) -> np.ndarray:
    """(1, units) of what the rule says; -1 of the labels that it does not speak of."""
    labels = competition.labels
    if rule.label not in labels:
        raise InputError(
            f"{source}: label '{rule.label}' is not known: {nearest(rule.label, labels)}"
        )
    index = labels.index(rule.label)
    if competition.kind == "multilabel":
        answer = np.full((1, len(labels)), -1)
        answer[0, index] = 0 if rule.absent else 1
        return answer
    if rule.absent:
        raise InputError(
            f"{source}: `absent` is for kind multilabel: name the label that holds instead"
        )
    return np.array([[index]])


def _regex(pattern: str, source: str) -> regex.Pattern:
    try:
        compiled = regex.compile(pattern)
    except regex.error as e:
        raise InputError(f"{source}: pattern /{pattern}/ does not compile: {e}") from None
    if compiled.search("") is not None:
        raise InputError(
            f"{source}: pattern /{pattern}/ matches the empty text, and so every row: make it longer"
        )
    return compiled


def _form(competition: Competition, text: str, source: str) -> str:
    if competition.settings.pair:
        raise InputError(
            f"{source}: `text` is one text, but this competition is of pairs: use `texts` with a file"
        )
    form = normalise((text,))
    if not form:
        raise InputError(f"{source}: `text` is empty: nothing would be known of the row")
    return form


def _cached(competition: Competition, name: str) -> tuple[dict[str, int], np.ndarray]:
    """(text after normalising → row of answers, (k, units) answers) of a file in `input/`."""
    from foldstack.competition import require

    path = competition.root / "input" / name
    table = read_table(path, competition.settings.encoding)
    for column in competition.settings.text:
        require(path, table, column)
    answers = labels_of(competition.targets_of(table, path), competition.kind)
    texts: dict[str, int] = {}
    for row, text in enumerate(competition.texts_of(table)):
        form = normalise(text)
        if not form.strip("\x1f"):
            raise InputError(f"{path}: row {row + 1} has no text: remove the row")
        first = texts.setdefault(form, row)
        if (answers[first] != answers[row]).any():
            raise InputError(
                f"{path}: row {row + 1} repeats the text of row {first + 1} with another label: "
                "remove one of them"
            )
    return texts, answers


def files_of(root: Path, name: str) -> list[str]:
    """Paths, from the workspace on, of all that these patterns are read from."""
    rules = read_settings(root / name).rules
    return [name, *(f"input/{rule.texts}" for rule in rules if rule.texts is not None)]
