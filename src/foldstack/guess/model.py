"""The models to begin with."""

from __future__ import annotations

from foldstack.guess.contents import LOOKED_AT, script_of
from foldstack.guess.given import GivenTables, Guess


def guess_models(tables: GivenTables, found: Guess) -> None:
    texts = (t for c in found.settings["text"] for t in tables.train[c].head(LOOKED_AT))
    script = script_of(texts)
    if script == "CJK":
        model, why = "macbert", "most letters are Chinese characters"
    elif script == "LATIN":
        model, why = "minilm", "most letters are Latin; minilm is for English and runs anywhere"
    else:
        model, why = "xlm-roberta", f"most letters are {script.capitalize()}"
    found.set("models", ("tfidf", model), why)
