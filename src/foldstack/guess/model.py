"""The models to begin with: by script and language of the texts."""

from __future__ import annotations

import re
from collections import Counter

from foldstack.cores import has_gpu
from foldstack.guess.contents import LOOKED_AT, script_of
from foldstack.guess.given import GivenTables, Guess

LANGUAGE = re.compile(r"(.*[_\W])?(lang|language|locale)([_\W].*)?", re.IGNORECASE)
SEVERAL = 0.05  # the share of rows in other languages than the most frequent one
SEVERAL_SCRIPTS = 0.1  # … in another script


LINEAR = ("tfidf", "naive-bayes")
# By language: the transformers that are worth their time on a GPU, and on a CPU.
TRANSFORMERS = {
    "several": (("xlm-roberta",), ("multilingual-e5-small",)),
    "Chinese": (("macbert", "roberta-wwm-zh"), ("multilingual-e5-small",)),
    "Latin": (("deberta-v3-base", "roberta"), ("minilm",)),
    "other": (("xlm-roberta",), ("multilingual-e5-small",)),
}


def guess_models(tables: GivenTables, found: Guess) -> None:
    """Set two linear models, and transformers of the texts' language for this machine."""
    several = _languages(tables) or _scripts(tables, found.settings["text"])
    texts = (t for c in found.settings["text"] for t in tables.train[c].head(LOOKED_AT))
    script = script_of(texts)
    if several is not None:
        language, why = "several", f"{several}: a model of many languages"
    elif script == "CJK":
        language, why = "Chinese", "most letters are Chinese characters"
    elif script == "LATIN":
        language, why = "Latin", "most letters are Latin, taken for English"
    else:
        language, why = "other", f"most letters are {script.capitalize()}"
    on_gpu, on_cpu = TRANSFORMERS[language]
    gpu = has_gpu()
    linear = LINEAR if found.settings["kind"] != "regression" else LINEAR[:1]
    machine = "this machine has a GPU" if gpu else "this machine has no GPU"
    found.set("models", (*linear, *(on_gpu if gpu else on_cpu)), f"{why}; {machine}")


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
