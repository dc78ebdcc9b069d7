"""Attention weights of a text."""

from __future__ import annotations

import numpy as np

from foldstack.errors import InputError
from foldstack.learners import Attended, Learner
from foldstack.records import AttendedText, AttendedToken
from foldstack.rows import Rows
from foldstack.stages.predictor import Predictor
from foldstack.workspace import Workspace

HEADS = "attention, cls_attention, labels, han, or lstm or gru with `read: attention`"


def attention_of(predictor: Predictor, row: Rows) -> AttendedText:
    """Return the weights of the first run of the first model whose head learns attention.

    Runs have vocabularies of their own, so that their weights have no common mean. If each label has
    weights of its own, they are those of the most probable label, or of the first value.

    Args:
        predictor: of a model or a blend.
        row: one row.

    Raises:
        InputError: no model has such a head.
    """
    for keys in predictor.members.values():
        learner = predictor.learner(keys[0])
        find = getattr(learner, "attention", None)
        found = None if find is None else find(row)
        if found is not None:
            which, label = _shown(predictor.ws, learner, row, len(found[0].weights))
            return AttendedText(
                run=str(keys[0]),
                runs=len(keys),
                fits=len(getattr(learner, "members", [learner])),
                label=label,
                windows=[_tokens(window, which) for window in found],
            )
    raise InputError(
        f"ATTENTION=1: no attention weights are learned by {', '.join(predictor.members)}: name a "
        f"MODEL whose head is {HEADS}"
    )


def _shown(ws: Workspace, learner: Learner, row: Rows, count: int) -> tuple[int, str | None]:
    """Return which of `count` rows of weights is shown, and the label that it is for, if any."""
    kind, outputs = ws.competition.kind, ws.competition.outputs
    if count == 1:
        return 0, None
    if kind.is_values:
        return 0, outputs[0]
    logits = learner.predict(row)[0]
    if kind.has_positive_class:  # one output for each class, whose difference is the logit
        which = int(logits[0] > 0)
        return which, ws.competition.labels[which]
    which = int(np.argmax(logits))
    return which, outputs[which]


def _tokens(window: Attended, which: int) -> list[AttendedToken]:
    sentences = [None] * len(window.tokens)
    if window.sentences is not None:
        sentences = window.sentences.tolist()
    return [
        AttendedToken(token=token, weight=float(weight), sentence=sentence)
        for token, weight, sentence in zip(
            window.tokens, window.weights[which], sentences, strict=True
        )
    ]
