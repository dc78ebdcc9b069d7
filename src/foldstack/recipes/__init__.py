"""Recipes: published systems as workspaces, from their raw files; `stages.recipe` writes them.

A recipe is one entry here and a folder of presets beside this file. Each is complete by itself: presets
may lie over one another inside the folder, and over `backbone`, which the stage writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foldstack.recipes import raw
from foldstack.recipes.raw import Tables

# Multilingual E5 small (118 M parameters, 96 M of them word embeddings; Wang et al. 2024).
BACKBONE = "intfloat/multilingual-e5-small"

COMMENTS = {"kind": "binary", "metric": "roc_auc", "labels": ["0", "1"]}
TITLES = {
    "kind": "multilabel",
    "metric": "f1_micro",
    "report_metrics": ["f1_macro", "f1_weighted", "f1_samples", "exact_match"],
    "separator": "|",
}
FIVE = {"count": 5, "seed": 2020}


@dataclass(frozen=True)
class Recipe:
    """files: what SOURCE= must hold; `read` makes tables of them. about: competition.yaml's first line.

    settings: of competition.yaml; its models are presets in the recipe's folder, or shipped ones.
    """

    about: str
    files: tuple[str, ...]
    read: Callable[[Path], Tables]
    settings: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "recommended-comments": Recipe(
        "16,000 short Chinese comments on restaurants; label 1 is a recommendation.",
        ("train.txt", "test.txt"),
        raw.comments,
        {
            **COMMENTS,
            "folds": {"kind": "stratified", "dedupe": True} | FIVE,
            "models": ["plain", "full", "pretrained", "full-f1", "characters", "naive-bayes"],
        },
    ),
    "recommended-comments-published": Recipe(
        "As it was published: duplicates cross folds, and the held-out fold chooses the epoch.",
        ("train.txt", "test.txt"),
        raw.comments,
        {
            **COMMENTS,
            "folds": {"kind": "kfold", "dedupe": False} | FIVE,
            "models": [
                "best-epoch",
                "f1-stage",
                "full",
                "pretrained",
                "plain",
                "characters",
                "naive-bayes",
            ],
        },
    ),
    "duee": Recipe(
        "Chinese news titles with the events that they report, 65 labels, some titles several.",
        ("train.txt", "test.txt"),
        raw.titles,
        {
            **TITLES,
            "folds": {"kind": "stratified", "dedupe": True} | FIVE,
            "models": ["plain", "full", "full-f1", "without-head", "characters"],
        },
    ),
    "duee-published": Recipe(
        "As it was published: the test titles, which are fold 1, choose the epoch. Train FOLD=1 alone.",
        ("train.txt", "test.txt"),
        raw.titles_chosen_on_test,
        {
            **TITLES,
            "folds": {"file": "folds.csv"},
            "models": ["best-epoch"],
        },
    ),
}
