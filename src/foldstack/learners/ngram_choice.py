"""Rules behind `auto` of n-grams and words: by the script and the length of the texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from foldstack.errors import InputError
from foldstack.guess.contents import script_of
from foldstack.techniques import AUTO, TfidfSettings, WordRules, Words

CHINESE = "CJK"  # as script_of names it
LONG = (
    1_000  # characters of a mean text, from where on shorter n-grams are as good in half the time
)


@dataclass(frozen=True)
class AutoChoice:
    """A value chosen for a setting that is `auto`, and the reason, for run.json."""

    value: object
    why: str


def cut_of(rules: WordRules, script: str) -> str:
    """Return how words of this script are cut; raise InputError if a rule is not for it."""
    if script != CHINESE and rules.need_rjieba:
        name = next(name for name in rules.word_rules if name in rules.OF_RJIEBA)
        raise InputError(
            f"`{name}` is for Chinese texts, by rjieba, and most letters of the training texts are "
            f"{script.capitalize()}: leave it out"
        )
    return "rjieba" if script == CHINESE else "unicode"


def choose_ngrams(settings: TfidfSettings, texts: Sequence[str]) -> dict[str, AutoChoice]:
    """Return the choice for each setting of n-grams that is `auto`; texts: the first of the run's."""
    asked = {
        name: getattr(settings, name) == AUTO for name in ("words", "word_ngrams", "char_ngrams")
    }
    if not any(asked.values()):
        return {}
    script = script_of(texts)
    length = sum(map(len, texts)) / max(len(texts), 1)
    is_chinese = script == CHINESE
    why = f"most letters are {'Chinese' if is_chinese else script.capitalize()}"
    chosen = {
        "words": AutoChoice(cut_of(settings, script) if asked["words"] else settings.words, why),
        "word_ngrams": AutoChoice((1, 2), "for every script"),
        "char_ngrams": AutoChoice(
            (1, 4) if is_chinese or length >= LONG else (2, 5),
            f"{why}, {length:,.0f} characters per text",
        ),
    }
    return {name: choice for name, choice in chosen.items() if asked[name]}


def choose_cut(words: Words, texts: Iterable[str]) -> Words:
    """Return the settings with `cut: auto` chosen; texts: the first of the run's."""
    if words.cut != AUTO:
        return words
    cut = "unicode" if words.unit == "characters" else cut_of(words, script_of(texts))
    return words.model_copy(update={"cut": cut})
