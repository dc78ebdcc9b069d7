"""The parts of the local page as HTML, by jinja2 with autoescape."""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files

from jinja2 import Environment

from foldstack.records import AppDescription, ExplainedText, PredictedUpload
from foldstack.views.templates import environment

MOST_LABELS = 15  # of a text; those that are most probable
MOST_COUNTS = 30  # labels of a file


def read(name: str) -> str:
    """Return one of the page's files."""
    return files("foldstack.views.app").joinpath(name).read_text(encoding="utf-8")


def head(description: AppDescription) -> str:
    return _render("head", it=description)


def text_shown(description: AppDescription, found: ExplainedText, waiting: bool = False) -> str:
    """Return the prediction of a text; waiting: attributions are being computed."""
    own = found.says[0].values
    labels = sorted(own, key=lambda label: -own[label])
    if description.values or len(labels) == 2:
        labels = list(own)
    return _render(
        "text",
        it=description,
        found=found,
        waiting=waiting,
        labels=labels[:MOST_LABELS],
        more=max(len(labels) - MOST_LABELS, 0),
    )


def file_shown(found: PredictedUpload, name: str) -> str:
    """Return the summary of a predicted file."""
    counts = list(found.labels.items())
    more = max(len(counts) - MOST_COUNTS, 0)
    return _render("file", found=found, name=name, counts=counts[:MOST_COUNTS], more=more)


def sentence_shown(sentence: str) -> str:
    return _render("sentence", sentence=sentence)


def _render(part: str, **values: object) -> str:
    made = _environment().get_template("app.html").module
    return str(getattr(made, part)(**values))


@cache
def _environment() -> Environment:
    made = environment(read)
    made.tests["known"] = lambda value: not math.isnan(value)
    return made
