"""The page in headless Chromium: nothing on the console, tables sort, filters filter, marks answer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import CHROMIUM, Browser
from tiny import foldstack

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]
NAMES = "[...document.querySelectorAll('#label-table tbody th')].map((cell) => cell.textContent)"
SHOWN = "[...document.querySelectorAll('#row-list .row')].filter((row) => !row.hidden).length"


@pytest.fixture(scope="module")
def page(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(shutil.copytree(finished, tmp_path_factory.mktemp("page") / "w"))
    assert foldstack(root, "page") == 0
    return root / "submissions/blend.html"


@pytest.fixture
def browser(page: Path) -> Iterator[Browser]:
    with Browser() as opened:
        opened.open(page)
        yield opened


def search(browser: Browser, text: str) -> None:
    browser.run(
        f"(({{form}}) => {{ form.elements.q.value = {text!r};"
        "form.dispatchEvent(new Event('input')); })"
        "({form: document.querySelector('form[data-filters=row-list]')})"
    )


def test_the_console_is_silent_and_nothing_is_asked_for(browser: Browser, page: Path) -> None:
    browser.run("scrollTo(0, document.body.scrollHeight)")
    assert browser.errors == []
    assert browser.requests == [page.resolve().as_uri()]


def test_a_click_on_a_heading_sorts_and_another_turns_the_order(browser: Browser) -> None:
    heading = "document.querySelectorAll('#label-table th button')[{}]"
    browser.run(heading.format(4) + ".click()")  # support
    values = (
        "[...document.querySelectorAll('#label-table tbody tr')].map((r) => +r.cells[4].dataset.v)"
    )
    assert browser.run(values) == sorted(browser.run(values), reverse=True)
    browser.run(heading.format(4) + ".click()")
    assert browser.run(values) == sorted(browser.run(values))
    assert browser.run(heading.format(4) + ".closest('th').ariaSort") == "ascending"
    browser.run(heading.format(0) + ".click()")
    browser.run(heading.format(0) + ".click()")
    assert browser.run(NAMES) == sorted(browser.run(NAMES))


def test_undefined_cells_stay_last(browser: Browser) -> None:
    """`accuracy` has no precision."""
    heading = "document.querySelectorAll('#label-table th button')[1]"
    for _ in range(2):
        browser.run(heading + ".click()")
        assert browser.run(NAMES)[-1] == "accuracy"


def test_a_filter_filters_rows_by_every_word(browser: Browser) -> None:
    assert browser.run(SHOWN) == 24
    search(browser, "N7")
    assert browser.run(SHOWN) == 1
    search(browser, "n7 nothing-like-it")
    assert browser.run(SHOWN) == 0
    assert (
        browser.run("document.querySelector('form[data-filters=row-list] output').value")
        == "0 of 24"
    )
    search(browser, "")
    browser.run(
        "((s) => { s.value = '1'; s.dispatchEvent(new Event('input', {bubbles: true})); })"
        "(document.querySelector('select[name=true]'))"
    )
    assert browser.run(SHOWN) == 12


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ("#leaderboard circle.dot", "blend: nested "),
        ("#leaderboard rect.optimistic", "OPTIMISTIC"),
        ("#confidence circle.hit", " rows"),
        ("#files rect.fill", "of training rows"),
        ("#mistakes table.heat td[data-tip]", "true 0, predicted 0: "),
        ("#rows .meter", "probability of the truth"),
        ("#rows mark", "without it: "),
    ],
)
def test_marks_answer_to_the_pointer(browser: Browser, mark: str, says: str) -> None:
    browser.point(mark)
    assert browser.run("document.getElementById('tip').hidden") is False
    assert says in browser.run("document.getElementById('tip').textContent")


def test_a_phone_scrolls_tables_and_not_the_page(browser: Browser) -> None:
    browser.resize(390, 844, 2)
    assert browser.run("document.documentElement.scrollWidth") == 390
    texts = "[...document.querySelectorAll('p, li, td')]"
    sizes = f"{texts}.map((each) => parseFloat(getComputedStyle(each).fontSize))"
    assert min(browser.run(sizes)) >= 13


def test_without_a_script_everything_is_there(page: Path) -> None:
    with Browser() as opened:
        opened.call("Emulation.setScriptExecutionDisabled", value=True)
        opened.open(page)
        assert opened.errors == []
        text = opened.call("Runtime.evaluate", expression="document.body.innerText")
        assert "Hardest and most confidently wrong rows" in text["result"]["value"]


def test_every_chart_and_table_has_a_name(browser: Browser) -> None:
    unnamed = (
        "[...document.querySelectorAll('svg')].filter((e) => !e.getAttribute('aria-label')).length"
    )
    assert browser.run(unnamed) == 0
    headless = (
        "[...document.querySelectorAll('table')].filter((t) => !t.caption && !t.closest('.card')"
        " && !t.closest('[aria-label]')).length"
    )
    assert browser.run(headless) == 0
