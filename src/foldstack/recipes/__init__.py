"""Recipes: published systems as workspaces, built from raw files by `stages.recipe`.

A recipe is one entry here and a folder of presets beside this file. It is self-contained: its
presets extend only each other and `backbone`, which the stage writes.
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
    """Definition of a recipe.

    Attributes:
        about: first line of competition.yaml.
        files: names of the raw files required in SOURCE=.
        read: converts these files to tables.
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
