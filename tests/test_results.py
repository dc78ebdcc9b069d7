"""Records of folds and comparisons: to and from JSON, kept by the store, refused if they are newer."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.records import (
    Comparison,
    FoldsRecord,
    Marks,
    Record,
    SliceRow,
    ViewsRecord,
    write_record,
)
from foldstack.stages.init import init
from foldstack.store import Store
from foldstack.views.console import show
from tiny import foldstack, make_workspace, write

OLD = Path(__file__).parent / "fixtures" / "workspace"

COMPARISON = {
    "baseline": "a",
    "metric": "f1",
    "score": 0.5,
    "seeds": [0],
    "folds": [0, 1],
    "folds_in_all": 3,
    "scored_rows": 16,
    "interval_over": ["rows"],
    "rows": [
        {
            "model": "b",
            "score": 0.75,
            "better_by": 0.25,
            "low": 0.0,
            "high": 0.5,
            "standard_error": 0.125,
            "row_error": 0.125,
            "seed_error": None,
            "degrees_of_freedom": None,
            "seeds_paired": False,
            "by_seed": [0.25],
            "time": None,
        }
    ],
    "hashes": {"folds": "1", "train": "2", "overlay": None},
    "runs": {"a": {"seed0/fold0": "3"}, "b": {"seed0/fold0": "4"}},
    "optimistic": {"a": [], "b": ["the epoch was chosen on the held-out fold"]},
}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "w"))


# To JSON and back


def test_what_is_undefined_is_null_on_disk_and_nan_in_memory(tmp_path: Path) -> None:
    """JSON has no NaN: other readers than Python's refuse the whole file."""
    found = Comparison.model_validate(COMPARISON)
    assert math.isnan(found.rows[0].time) and math.isnan(found.rows[0].seed_error)
    assert found.to_json() == COMPARISON | {"version": 1}
    path = Store(tmp_path).write_comparison(found)
    assert "NaN" not in path.read_text()
    assert Store(tmp_path).read_comparison(path).to_json() == found.to_json()


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "b-vs-c"), ("a-vs-b", "c")), (("a", "vs-b"), ("a-vs", "b"))],
    ids=str,
)
def test_each_comparison_has_a_file_of_its_own(one: tuple, other: tuple, tmp_path: Path) -> None:
    """A variant may have -vs- in its name."""
    paths = {Store(tmp_path).comparison_path(base, [model]) for base, model in (one, other)}
    assert len(paths) == 2


def test_views_come_back_from_json_as_they_were() -> None:
    row = {"view": "all rows", "rows": 3, "score": 0.5, "low": 0.4, "high": 0.6}
    row |= {"better_by": math.nan, "standard_error": math.nan, "differs": False, "why": ""}
    marks = Marks(name="blend", stale=[], optimistic=["leaks"])
    views = ViewsRecord(metric="f1", file="views.csv", rows=[SliceRow(**row)], marks=marks)
    text = json.dumps(views.to_json(), allow_nan=False)
    again = ViewsRecord.model_validate(json.loads(text))
    assert again.to_json() == views.to_json()
    assert again.frame.to_csv() == views.frame.to_csv()


def test_folds_of_the_old_code_are_read_and_written_with_the_same_keys(old: Path) -> None:
    before = read_json(old / "folds/folds.json")
    record = Store(old).read_folds_record()
    assert record.balance[0].labels == 0 and record.near is None
    without = {k: v for k, v in before.items() if k != "digest"}
    assert record.to_json() == {"version": 1} | without
    assert list(record.to_json()) == ["version", *without]
    assert foldstack(old, "folds", "--force") == 0
    after = read_json(old / "folds/folds.json")
    of_newer = {"connected": False, "near_by": "characters"}  # their defaults
    without["settings"] |= of_newer
    assert {k: after[k] for k in without} == without
    assert set(after) == {*before, "version", "threads"}


def test_folds_before_there_was_a_report_are_read(old: Path) -> None:
    path = old / "folds/folds.json"
    kept = {k: v for k, v in read_json(path).items() if k in ("settings", "hash", "train")}
    path.write_text(json.dumps(kept))
    assert Store(old).read_folds_record() == FoldsRecord(**kept)


def test_a_record_is_frozen() -> None:
    found = Comparison.model_validate(COMPARISON)
    with pytest.raises(ValueError, match="frozen"):
        found.score = 1.0
    with pytest.raises(ValueError, match="frozen"):
        found.rows[0].score = 1.0


# A version of tomorrow


def test_a_newer_comparison_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.comparison_path("a", ["b"])
    write_record(path, COMPARISON | {"version": 2})
    with pytest.raises(InputError) as refused:
        store.comparisons()
    assert str(refused.value) == (
        "oof/_comparisons/a-vs-b.json was written by a newer foldstack (record version 2; this one "
        "reads up to 1): install that version, or remove it and run "
        "`make compare` again"
    )


def test_newer_folds_are_refused(old: Path, capsys: pytest.CaptureFixture) -> None:
    path = old / "folds/folds.json"
    write_record(path, read_json(path) | {"version": 2})
    assert foldstack(old, "views") == 2
    assert capsys.readouterr().err == (
        "foldstack: folds/folds.json was written by a newer foldstack (record version 2; this one reads "
        "up to 1): install that version, or run `make folds FORCE=1`\n"
    )


def test_no_view_shows_an_unknown_result() -> None:
    with pytest.raises(TypeError, match="no console view shows a Record"):
        show(Record())


# Comparisons among the other files


def test_a_comparison_is_no_model_and_clean_removes_it(old: Path) -> None:
    """Its folder lies among those of the models."""
    before = Store(old).models()
    assert foldstack(old, "compare", "--a", "tfidf", "--b", "tiny") == 0
    path = old / "oof/_comparisons/tfidf-vs-tiny.json"
    first = path.read_bytes()
    assert foldstack(old, "compare", "--a", "tfidf", "--b", "tiny") == 0
    assert path.read_bytes() == first
    assert Store(old).models() == before
    assert foldstack(old, "scores") == 0
    assert foldstack(old, "clean", "oof") == 0
    assert list((old / "oof").iterdir()) == []


def test_a_comparison_keeps_what_it_rests_on(old: Path) -> None:
    assert foldstack(old, "compare", "--a", "tfidf", "--b", "tiny") == 0
    (found,) = Store(old).comparisons()
    blend = read_json(old / "oof/_blends/blend/blend.json")
    assert found.hashes == {k: blend["hashes"][k] for k in found.hashes}
    for model, runs in found.runs.items():
        members = blend["members"][model]
        assert {name: members[name].startswith(of) for name, of in runs.items()} == dict.fromkeys(
            members, True
        )


def test_a_comparison_of_many_models_has_a_short_name(tmp_path: Path) -> None:
    store, many = Store(tmp_path), [f"{'x' * 60}-{i}" for i in range(6)]
    name = store.comparison_path("a", many).name
    assert len(name) < 60 and name != store.comparison_path("a", many[:5]).name
    assert store.comparison_path("a", ["b", "c"]) != store.comparison_path("a", ["b-c"])


# A stage that fails after it has written something


def test_init_shows_its_guesses_before_the_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The guesses say how the file came about that the error is of."""
    root = make_workspace(tmp_path / "w")
    (root / "competition.yaml").unlink()
    write(root / "input/sample_submission.csv", "id,label\n" + "t0,0.5\n" * 6)
    with pytest.raises(InputError) as refused:
        init(root)
    assert not refused.value.result.checked
    assert foldstack(root, "init", "--force") == 2
    said = capsys.readouterr()
    assert "init: kind: binary" in said.out
    assert "init: nothing is written; METRIC= KIND=" in said.out
    assert "init: next" not in said.out
    assert not (root / "competition.yaml").exists()
    assert said.err == f"foldstack: {refused.value}\n"
