"""Records of blends, submissions and patterns: to JSON and back, frozen, of older and newer versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.records import (
    AuditLine,
    BlendRecord,
    DifferenceRecord,
    EstimateRecord,
    LineRecord,
    PatternsAudit,
    PatternsEffect,
    Record,
    SubmissionRecord,
    read_record,
    write_record,
)
from foldstack.store import Store

OLD = Path(__file__).parent / "fixtures" / "workspace"
BLEND = "oof/_blends/blend/blend.json"
STORED = [
    (BLEND, BlendRecord),
    ("submissions/blend.json", SubmissionRecord),
    ("submissions/tiny.json", SubmissionRecord),
]
ESTIMATE = EstimateRecord(score=0.8, low=0.7, high=0.9, standard_error=0.05)
BETTER = DifferenceRecord(difference=0.01, low=-0.01, high=0.03)
LINE = {
    "name": "rule 1",
    "cached": False,
    "rows": 3,
    "share": 0.25,
    "precision": 1.0,
    "model_precision": None,
    "acts": 3,
    "wrong_to_right": 1,
    "right_to_wrong": 0,
}
EFFECT = {
    "file": "patterns.yaml",
    "hash": "abc",
    "mode": "override",
    "cached": [],
    "nested_without": ESTIMATE,
    "better_by": BETTER,
    "test": {"rule 1": 2},
}


def record_of(name: str, form: type[Record]) -> Record:
    return read_record(OLD / name, form, name, "")


@pytest.mark.parametrize(("name", "form"), STORED)
def test_a_stored_record_is_read_and_written_as_it_was(name: str, form: type[Record]) -> None:
    """Every key and value, in their order; only the version is new."""
    stored = {k: v for k, v in read_json(OLD / name).items() if k != "digest"}
    plain = record_of(name, form).to_json()
    assert plain.pop("version") == 1
    assert json.dumps(plain) == json.dumps(stored)


@pytest.mark.parametrize(("name", "form"), STORED)
def test_a_record_comes_back_from_its_file(name: str, form: type[Record], tmp_path: Path) -> None:
    record = record_of(name, form)
    write_record(tmp_path / "record.json", record.to_json())
    assert read_record(tmp_path / "record.json", form, "record.json", "") == record


@pytest.mark.parametrize("form", [BlendRecord, SubmissionRecord])
def test_undefined_scores_come_back(form: type[Record], tmp_path: Path) -> None:
    """A metric that is undefined for a resample or a candidate."""
    record = record_of("submissions/blend.json", form)
    nested = record.nested.model_copy(update={"low": float("nan"), "high": float("inf")})
    record = record.model_copy(update={"nested": nested, "in_sample": float("nan")})
    write_record(tmp_path / "record.json", record.to_json())
    found = read_record(tmp_path / "record.json", form, "record.json", "")
    assert json.dumps(found.to_json()) == json.dumps(record.to_json())
    assert found.in_sample != found.in_sample and found.nested.high == float("inf")


@pytest.mark.parametrize(("name", "form"), STORED)
def test_a_newer_version_is_refused(name: str, form: type[Record], tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, read_json(OLD / name) | {"version": 2})
    with pytest.raises(InputError) as error:
        read_record(path, form, "record.json", "make it again")
    assert str(error.value) == (
        "record.json was written by a newer foldstack (record version 2; this one reads up to 1): "
        "install that version, or make it again"
    )


@pytest.mark.parametrize("version", [0, -1, "2", 1.5, True, None])
def test_a_version_that_never_was_is_damage(version: object, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, {"version": version})
    with pytest.raises(
        InputError, match=r"^record.json is damaged \(version: .*\): make it again$"
    ):
        read_record(path, Record, "record.json", "make it again")


def test_a_newer_record_that_no_command_makes_again_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, {"version": 3})
    with pytest.raises(InputError, match=r"reads up to 1\): install that version$"):
        read_record(path, Record, "record.json", "")


@pytest.mark.parametrize(("name", "form"), STORED)
def test_records_are_frozen(name: str, form: type[Record]) -> None:
    record = record_of(name, form)
    for value, field in ((record, "winner"), (record.nested, "score"), (record.hashes, "folds")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, field, "other")


@pytest.mark.parametrize(
    "key", ["costs", "sharpness", "features", "calibration", "rules", "models", "files", "name"]
)
def test_a_blend_of_before_a_key_was_kept_is_read(key: str, tmp_path: Path) -> None:
    old = {k: v for k, v in read_json(OLD / BLEND).items() if k not in (key, "digest")}
    (tmp_path / "blend.json").write_text(json.dumps(old))
    assert read_record(tmp_path / "blend.json", BlendRecord, "", "").winner == "single:tfidf"


@pytest.mark.parametrize("key", ["winners_by_fold", "seed_variance", "candidates", "nested"])
def test_a_blend_without_what_it_chose_is_damaged(key: str, tmp_path: Path) -> None:
    old = {k: v for k, v in read_json(OLD / BLEND).items() if k not in (key, "digest")}
    (tmp_path / "blend.json").write_text(json.dumps(old))
    with pytest.raises(InputError, match=f"it is damaged \\({key}: field required\\): again"):
        read_record(tmp_path / "blend.json", BlendRecord, "it", "again")


def test_a_submission_has_what_its_blend_has() -> None:
    """But the digests of the files, which are in the blend's folder."""
    blend = record_of(BLEND, BlendRecord)
    record = SubmissionRecord.of(blend, "labels", 6)
    assert (record.holds, record.rows, record.sha256) == ("labels", 6, None)
    plain = {k: v for k, v in blend.to_json().items() if k != "files"}
    assert plain.items() <= record.to_json().items()
    assert record.to_json().keys() - plain.keys() == {"holds", "rows", "sha256", "replaces"}


def test_a_submission_with_patterns_comes_back(tmp_path: Path) -> None:
    blend = record_of(BLEND, BlendRecord)
    effect = PatternsEffect(**EFFECT, lines=[LineRecord(**LINE)])
    record = SubmissionRecord.of(blend, "labels", 6).model_copy(
        update={"patterns": effect, "note": "of the fold runs"}
    )
    write_record(tmp_path / "record.json", record.to_json())
    assert read_record(tmp_path / "record.json", SubmissionRecord, "", "") == record


def test_the_audit_of_patterns_is_kept(tmp_path: Path) -> None:
    """A line that decides nothing has no effect, which its JSON says."""
    lines = [
        AuditLine(**LINE, better_by=BETTER, test_rows=2),
        AuditLine(**LINE, better_by=None, test_rows=0),
    ]
    audit = PatternsAudit(
        **EFFECT,
        lines=lines,
        all_of_test=2,
        of="tfidf",
        metric="f1",
        nested=ESTIMATE,
        optimistic=[],
    )
    Store(tmp_path).write_audit(audit, "a table\n")
    stored = read_json(tmp_path / "oof/_patterns/tfidf.json")
    assert PatternsAudit.model_validate(stored) == audit
    assert [line["better_by"] for line in stored["lines"]] == [BETTER.to_json(), None]
    assert (tmp_path / "oof/_patterns/tfidf.txt").read_text() == "a table\n"


def test_a_stored_blend_is_one_value_with_its_files(tmp_path: Path) -> None:
    store, made = Store(tmp_path), record_of(BLEND, BlendRecord)
    made = made.model_copy(update={"name": None, "files": None})
    stored = store.write_blend("other", made, lambda place: (place / "a.txt").write_text("a"))
    assert stored == store.read_blend("other") == store.blends()["other"]
    assert stored.name == "other" and list(stored.files) == ["a.txt"]
    assert store.blend_file("other", stored, "a.txt") == store.blend_dir("other") / "a.txt"
    assert store.blend_file("other", stored, "b.txt") is None


def test_a_blend_that_cannot_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    store, made = Store(tmp_path), record_of(BLEND, BlendRecord)
    old = store.write_blend("blend", made, lambda place: (place / "a.txt").write_text("a"))

    def fail(place: Path) -> None:
        (place / "b.txt").write_text("b")
        raise OSError(28, "No space left on device", str(place / "b.txt"))

    with pytest.raises(OSError, match="No space left"):
        store.write_blend("blend", made, fail)
    assert store.read_blend("blend") == old
    assert sorted(p.name for p in store.blends_dir.iterdir()) == [".blend.lock", "blend"]
