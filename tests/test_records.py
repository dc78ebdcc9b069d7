"""Records of blends, submissions and patterns: to JSON and back, frozen, of older and newer versions."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from foldstack import config
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
from tiny import refuses, write

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


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("members", {}, "members: dictionary should have at least 1 item after validation, not 0"),
        (
            "members.tiny",
            {},
            "members.tiny: dictionary should have at least 1 item after validation, not 0",
        ),
        (
            "members.tiny",
            {"fold0": "abc"},
            "members.tiny.fold0.[key]: string should match pattern "
            r"'^seed\d+/(full|fold\d+(-\d+)*)$'",
        ),
        ("rule.thresholds", [{}], "rule.thresholds.0: input should be a valid number"),
        ("rule.thresholds", [None], "rule.thresholds.0: input should be a valid number"),
        (
            "rule.thresholds",
            [],
            "rule.thresholds: list should have at least 1 item after validation, not 0",
        ),
        ("rule.thresholds", None, "rule: a rule of kind binary requires thresholds"),
        ("rule.thresholds", [float("nan")], "rule.thresholds.0: nan is not a finite number"),
        (
            "rule.kind",
            [],
            "rule.kind: input should be 'binary', 'multiclass', 'multilabel' or 'regression'",
        ),
        ("rule.more", 1, "rule.more: extra inputs are not permitted"),
        (
            "parameters.weights.tiny",
            [],
            "parameters: weights.tiny: neither a number nor numbers by output",
        ),
        (
            "parameters.weights",
            {},
            "it: the weights of parameters are of other models than members",
        ),
        ("parameters.weights", [], "parameters: weights: not numbers by model"),
        ("nested.score", float("nan"), "nested: score: nan is not a finite number"),
        ("sharpness.tiny", float("inf"), "sharpness.tiny: inf is not a finite number"),
        ("version", 0, "version: 0 is not a version from 1 to 1"),
    ],
)
def test_a_blend_changed_by_hand_is_refused(tmp_path, capsys, field, value, why) -> None:
    """Also with the digest of its new content."""
    root = Path(shutil.copytree(OLD, tmp_path / "w"))
    changed(root / BLEND, field, value)
    capsys.readouterr()
    for command in ("predict --text film", "submit", "scores", "views", "report"):
        sentence = f"{BLEND} is damaged ({why}): run `make blend NAME=blend` again"
        refuses(root, command.split(), sentence, capsys)


def changed(path: Path, field: str, value: object) -> None:
    """Change one field of a record, and give it the digest of its new content."""
    record = read_json(path)
    *parts, last = field.split(".")
    functools.reduce(dict.__getitem__, parts, record)[last] = value
    write_record(path, record)


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({}, "KeyError('weights')"),
        ({"base": {}, "calibration": {}}, "KeyError('maps')"),
    ],
)
def test_parameters_of_another_form_do_not_predict(tmp_path, capsys, parameters, why) -> None:
    root = Path(shutil.copytree(OLD, tmp_path / "w"))
    changed(root / BLEND, "parameters", parameters)
    capsys.readouterr()
    refuses(
        root,
        ["predict", "--text", "film"],
        f"{BLEND} is damaged (parameters: not those of single:tfidf: {why}): run `make blend` again",
        capsys,
    )


def test_a_rule_for_more_labels_is_refused(tmp_path, capsys) -> None:
    root = Path(shutil.copytree(OLD, tmp_path / "w"))
    changed(root / BLEND, "rule.thresholds", [0.5, 0.5])
    capsys.readouterr()
    sentence = "blend 'blend' was made for another number of labels: run `make blend` again"
    refuses(root, ["predict", "--text", "film"], sentence, capsys)


def test_settings_of_no_learner_are_refused(tmp_path, capsys) -> None:
    root = Path(shutil.copytree(OLD, tmp_path / "w"))
    changed(root / "oof/tfidf/seed0/fold1/run.json", "identity.settings", {})
    capsys.readouterr()
    refuses(
        root,
        ["predict", "--text", "film", "--model", "tfidf"],
        "oof/tfidf/seed0/fold1/run.json is damaged (identity.settings: they name no learner): run "
        "`make train MODEL=tfidf FOLD=1 SEED=0 FORCE=1`",
        capsys,
    )
    with pytest.raises(InputError, match=r"^run\.json: learner 'tfdif' is not known: did you mean"):
        config.stored_settings({"learner": "tfdif"})


def test_a_comparison_that_is_no_object_is_refused(tmp_path) -> None:
    write(tmp_path / "oof/_comparisons/a-vs-b.json", "[]")
    with pytest.raises(InputError) as error:
        Store(tmp_path).comparisons()
    assert str(error.value) == (
        "oof/_comparisons/a-vs-b.json is damaged (it is not a JSON object): remove it and run "
        "`make compare` again"
    )
