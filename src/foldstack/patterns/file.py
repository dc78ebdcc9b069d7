"""patterns.yaml: rules of patterns and cached texts, typed and checked against the competition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import regex

from foldstack import config
from foldstack.competition import Competition
from foldstack.errors import InputError, nearest
from foldstack.patterns.rule_settings import PatternSettings, RuleSettings
from foldstack.patterns.rules import CompiledRule, Patterns, labels_of
from foldstack.rows import normalise
from foldstack.tables import read_table

SHOWN = 40  # characters of a pattern or text in a table


def read_settings(path: Path) -> PatternSettings:
    """Read the file; raise InputError naming the file, the rule's number from 1, and the error."""
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
    """Load the competition's patterns; check every regular expression, label and cached text."""
    path = competition.root / competition.settings.patterns
    settings = read_settings(path)
    of_unit = len(competition.labels) if competition.kind.is_one_hot else 2
    if settings.nearest and settings.nearest.below <= 1 / of_unit:
        raise InputError(
            f"{path}: nearest.below is {settings.nearest.below:g}, but the most probable of {of_unit} "
            f"has {1 / of_unit:.3g} or more, so it selects no row: raise it"
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
        hash=config.digest(_identity(competition, settings, cached)),
        kind=competition.kind,
        mode=settings.mode,
        overrule_below=settings.overrule_below,
        rules=compiled,
        nearest=settings.nearest,
    )


def _identity(competition: Competition, settings: PatternSettings, cached: list) -> list:
    """Return what the hash of patterns is of; InputError if a package that they need is missing."""
    dumped = settings.model_dump(mode="json")
    if settings.nearest is None or not settings.nearest.by_meaning:
        if settings.nearest is not None:
            dumped["nearest"].pop("by")  # as before the setting
        return [dumped, cached]
    return [dumped, cached, competition.meaning.key]


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
    """Return (1, units) the rule's values; -1 for labels that it does not decide."""
    labels = competition.labels
    if rule.label not in labels:
        raise InputError(
            f"{source}: label '{rule.label}' is not known: {nearest(rule.label, labels)}"
        )
    index = labels.index(rule.label)
    if competition.kind.several_labels_per_row:
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
    count = competition.settings.segment_count
    if count > 1:
        several = "pairs" if count == 2 else f"{count} segments"
        raise InputError(
            f"{source}: `text` is one text, but this competition is of {several}: use `texts` with a "
            "file"
        )
    form = normalise((text,))
    if not form:
        raise InputError(f"{source}: `text` is empty: write the cached text")
    return form


def _cached(competition: Competition, name: str) -> tuple[dict[str, int], np.ndarray]:
    """Return (normalised text → index of its answer, (k, units) answers) of a file in `input/`."""
    from foldstack.competition import require

    path = competition.input_path(name)
    table = read_table(path, competition.settings.form_of(name))
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
