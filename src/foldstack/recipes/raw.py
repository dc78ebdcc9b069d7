"""Readers of the recipes' raw files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from foldstack.errors import InputError


@dataclass(frozen=True)
class Tables:
    """Tables of a workspace.

    Attributes:
        train: id, text, label.
        test: id, text.
        sample: id, label.
        solution: id, label; None if unknown.
        folds: id, fold; None if not given.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    sample: pd.DataFrame
    solution: pd.DataFrame | None = None
    folds: pd.DataFrame | None = None


def comments(source: Path) -> Tables:
    """Read `label<tab>text` lines of train.txt and text lines of test.txt, separated by blank lines."""
    train = _labelled(source / "train.txt", "\t", "comment")
    texts = [line for _, line in _lines(source / "test.txt")]
    test = pd.DataFrame({"id": _numbered("test", len(texts)), "text": texts})
    return Tables(train, test, test[["id"]].assign(label="0.5"))


def titles(source: Path) -> Tables:
    """Read `label|label text` lines of train.txt and test.txt."""
    train, test = (_labelled(source / f"{name}.txt", " ", name) for name in ("train", "test"))
    first = train["label"].iloc[0].split("|")[0]
    return Tables(
        train, test[["id", "text"]], test[["id"]].assign(label=first), test[["id", "label"]]
    )


def titles_chosen_on_test(source: Path) -> Tables:
    """Return all titles as training rows; those of test.txt are fold 1, the others fold 0."""
    given = titles(source)
    test = given.test.merge(given.solution, on="id")
    train = pd.concat([given.train, test], ignore_index=True)
    fold = [0] * len(given.train) + [1] * len(test)
    folds = pd.DataFrame({"id": train["id"], "fold": fold})
    # A competition requires test rows; here they are the same titles.
    again = given.test.assign(id=_numbered("again", len(test)))
    sample = again[["id"]].assign(label=given.sample["label"])
    return Tables(train, again, sample, folds=folds)


def _labelled(path: Path, separator: str, name: str) -> pd.DataFrame:
    labels, texts = [], []
    for number, line in _lines(path):
        label, found, text = line.partition(separator)
        if not found or not label or not text.strip():
            what = "a tab" if separator == "\t" else "a space"
            raise InputError(
                f"{path}, line {number} is not a label, {what} and a text: fix the file"
            )
        labels.append(label)
        texts.append(text)
    return pd.DataFrame({"id": _numbered(name, len(texts)), "text": texts, "label": labels})


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines that are not blank, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(f"{path} is not UTF-8 at byte {e.start}: save it as UTF-8") from None
    found = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not found:
        raise InputError(f"{path} is empty: fetch it again")
    return found


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}-{i:05}" for i in range(count)]
