"""Names of metrics: those of the table, patterns with a number, and what others call them."""

from __future__ import annotations

import re
import textwrap

from foldstack.kinds import Kind
from foldstack.metrics.confusion import AVERAGED
from foldstack.metrics.table import METRICS, OF_TOP, Definition

# What others call a metric, in lower case without punctuation. If one name means several metrics, the
# first that fits the kind is taken.
ALIASES: dict[str, tuple[str, ...]] = {
    "auc": ("roc_auc", "roc_auc_ovr"),
    "auroc": ("roc_auc", "roc_auc_ovr"),
    "aucroc": ("roc_auc", "roc_auc_ovr"),
    "rocauc": ("roc_auc", "roc_auc_ovr"),
    "rocaucscore": ("roc_auc", "roc_auc_ovr"),
    "ap": ("average_precision",),
    "aucpr": ("average_precision",),
    "prauc": ("average_precision",),
    "averageprecisionscore": ("average_precision",),
    "crossentropy": ("log_loss",),
    "binarycrossentropy": ("log_loss",),
    "categoricalcrossentropy": ("log_loss",),
    "multiclasslogloss": ("log_loss",),
    "neglogloss": ("log_loss",),
    "acc": ("accuracy",),
    "accuracyscore": ("accuracy",),
    "categorizationaccuracy": ("accuracy",),
    "subsetaccuracy": ("exact_match",),
    "bacc": ("balanced_accuracy",),
    "balancedacc": ("balanced_accuracy",),
    "balancedaccuracyscore": ("balanced_accuracy",),
    "f1score": ("f1",),
    "fscore": ("f1",),
    "macrof1": ("f1_macro",),
    "macrof1score": ("f1_macro",),
    "microf1": ("f1_micro",),
    "weightedf1": ("f1_weighted",),
    "samplesf1": ("f1_samples",),
    "meanfscore": ("f1_samples",),
    "precisionscore": ("precision",),
    "recallscore": ("recall",),
    "jaccardscore": ("jaccard",),
    "mcc": ("matthews",),
    "matthewscorrcoef": ("matthews",),
    "kappa": ("quadratic_kappa",),
    "qwk": ("quadratic_kappa",),
    "quadraticweightedkappa": ("quadratic_kappa",),
    "rootmeansquarederror": ("rmse",),
    "rootmeansquaredlogerror": ("rmsle",),
    "rootmeansquaredlogarithmicerror": ("rmsle",),
    "meansquarederror": ("mse",),
    "meanabsoluteerror": ("mae",),
    "meancolumnwisermse": ("mcrmse",),
    "r2score": ("r2",),
    "pearsonr": ("pearson",),
    "pearsoncorrelation": ("pearson",),
    "meanpearson": ("pearson",),
    "spearmanr": ("spearman",),
    "spearmanrho": ("spearman",),
    "spearmancorrelation": ("spearman",),
    "meanspearman": ("spearman",),
    "meancolumnwisespearman": ("spearman",),
}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_BY_PLAIN = {_plain(name): (name,) for name in METRICS} | ALIASES
_NUMBERED = {
    r"map(?:at)?([1-9]\d*)": "map_at_{}",
    r"top([1-9]\d*)(?:accuracy|acc)?": "top_{}_accuracy",
}


def canonical(name: str, kind: Kind) -> str:
    """Return the name that a metric has here: `auc` is roc_auc, `MAP@3` map_at_3.

    A name that is unknown, or of the user's own function, is returned as it is.
    """
    if name in METRICS or ".py" in name or ":" in name:
        return name
    plain = _plain(name)
    for pattern, named in _NUMBERED.items():
        if found := re.fullmatch(pattern, plain):
            return named.format(found[1])
    meant = _BY_PLAIN.get(plain)
    if meant is None:
        return name
    return next((each for each in meant if kind in METRICS[each].scorers), meant[0])


def definition(name: str) -> Definition | None:
    """Return the definition of a canonical name; None if it is unknown."""
    if name in METRICS:
        return METRICS[name]
    for pattern, of_top in OF_TOP.items():
        if found := re.fullmatch(pattern, name):
            return of_top(int(found[1]))
    return None


def names_for(kind: Kind) -> list[str]:
    """Return the names of the metrics that fit a kind, with 3 for any number."""
    names = [name for name, of in METRICS.items() if kind in of.scorers]
    return [*names, *(["map_at_3", "top_3_accuracy"] if kind.is_one_hot else [])]


def listed(kind: Kind, width: int) -> list[str]:
    """Return lines of at most this width that list the metrics of a kind, averages shortened."""
    like_f1 = [name for name in AVERAGED if name != "f1"]
    names = [name for name in names_for(kind) if name.partition("_")[0] not in like_f1]
    of_f1 = [name for name in names if name.partition("_")[0] == "f1"]
    if of_f1:
        names[names.index(of_f1[-1])] += f" (likewise {', '.join(like_f1)})"
    return textwrap.wrap(f"metrics of kind {kind}: {', '.join(names)}", width)
