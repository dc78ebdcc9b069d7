"""The page as one HTML file: a template, charts as inline SVG, one style sheet and one script.

Everything of the data passes through jinja2's autoescape or `Markup.format`, and the page's own policy
allows no script but this one and no request at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from functools import cache
from importlib.resources import files

from jinja2 import Environment
from markupsafe import Markup

from foldstack.records import PageRecord
from foldstack.views.page import figures
from foldstack.views.templates import environment


def render(page: PageRecord) -> str:
    """Return the page without its first lines, which the store writes."""
    script = _read("page.js")
    policy = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            figures=figures,
            style=Markup(_read("page.css")),
            script=Markup(script),
            policy=f"'sha256-{policy}'",
        )
    )


def _read(name: str) -> str:
    return files("foldstack.views.page").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    made = environment(_read)
    made.filters |= {"score": score, "percent": percent, "number": number}
    made.filters["tojson_text"] = lambda value: json.dumps(value, indent=1, ensure_ascii=False)
    made.globals["legend"] = figures.legend
    made.tests["known"] = lambda value: value is not None and not math.isnan(value)
    return made


def score(value: float) -> str:
    """Return a score with four decimals; a dash if it is undefined."""
    return "–" if math.isnan(value) else f"{value:.4f}"


def percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1%}"


def number(value: float) -> str:
    """Return a number with separators of thousands, without decimals if it is whole."""
    if isinstance(value, float) and math.isnan(value):
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
