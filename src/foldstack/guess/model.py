"""The models to begin with: by script and language of the texts."""

from __future__ import annotations

import re
from collections import Counter

from foldstack.guess.contents import LOOKED_AT, script_of
from foldstack.guess.given import GivenTables, Guess

LANGUAGE = re.compile(r"(.*[_\W])?(lang|language|locale)([_\W].*)?", re.IGNORECASE)
SEVERAL = 0.05  # the share of rows in other languages than the most frequent one
SEVERAL_SCRIPTS = 0.1  # … in another script


def guess_models(tables: GivenTables, found: Guess) -> None:
    """Set the linear model, and a transformer of the texts' language."""
    several = _languages(tables) or _scripts(tables, found.settings["text"])
    texts = (t for c in found.settings["text"] for t in tables.train[c].head(LOOKED_AT))
    script = script_of(texts)
    if several is not None:
        model, why = "xlm-roberta", f"{several}: a model of many languages"
    elif script == "CJK":
        model, why = "macbert", "most letters are Chinese characters"
    elif script == "LATIN":
        model, why = "minilm", "most letters are Latin; minilm is for English and runs anywhere"
    else:
        model, why = "xlm-roberta", f"most letters are {script.capitalize()}"
    found.set("models", ("tfidf", model), why)


def _languages(tables: GivenTables) -> str | None:
    """Return what a column of languages says, if it names several."""
    for column in tables.train.columns:
        if not LANGUAGE.fullmatch(column):
            continue
        counts = tables.train[column].replace("", None).value_counts()
        if len(counts) > 1 and counts.iloc[1:].sum() >= SEVERAL * counts.sum():
            return f"column '{column}' names {len(counts)} languages"
    return None


def _scripts(tables: GivenTables, text: tuple[str, ...]) -> str | None:
    """Return which scripts the texts are in, if in several."""
    rows = tables.train[list(text)].head(LOOKED_AT).itertuples(index=False)
    scripts = Counter(script_of(row) for row in rows)
    (_, most), *others = scripts.most_common()
    frequent = [script for script, count in others if count >= SEVERAL_SCRIPTS * scripts.total()]
    if {script for script, _ in scripts.most_common(2)} <= {"CJK", "JAPANESE", "HIRAGANA"}:
        return None
    if not frequent or most == 0:
        return None
    return f"the texts are in several scripts, {_listed(scripts)}"


def _listed(scripts: Counter[str]) -> str:
    return ", ".join(script.capitalize() for script, _ in scripts.most_common(3))
