"""Records of runs: as they stand on disk, in memory and in the advice that rests on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.records import PartialRecord, RunRecord, write_record
from foldstack.store import RunKey, Store
from tiny import foldstack, go_through, make_workspace, refuses

OLD = Path(__file__).parent / "fixtures" / "workspace"
KEY = RunKey("later", 0, (0,))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "w"))


@pytest.mark.parametrize("key", Store(OLD).run_keys(), ids=str)
def test_a_run_of_before_is_the_same_when_it_is_written_again(key: RunKey, tmp_path: Path) -> None:
    """Every key with its value and in its order: readers of the file see no difference."""
    path = Store(OLD).run_dir(key) / "run.json"
    then, record = read_json(path), Store(OLD).read_run(key)
    assert record.model == key.model and record.preset is None
    write_record(tmp_path / "run.json", record.to_json())
    now = read_json(tmp_path / "run.json")
    own = ("version", "digest")
    assert [k for k in now if k not in own] == [k for k in then if k not in own]
    assert {k: v for k, v in now.items() if k not in own} == {
        k: v for k, v in then.items() if k not in own
    }
    assert RunRecord.model_validate(record.to_json()) == record


def test_what_a_learner_says_is_no_field_of_the_record() -> None:
    facts = Store(OLD).read_run(KEY).facts
    assert list(facts) == ["updates", "training_seconds", "precision", "cut_share", "max_length"]
    assert facts["updates"] == 4 and facts["precision"] == "bf16"


def test_a_fact_may_not_replace_a_field() -> None:
    known = Store(OLD).read_run(KEY)
    values = {name: getattr(known, name) for name in RunRecord.model_fields}
    assert RunRecord(**values) == known
    with pytest.raises(
        ValidationError, match=r"'score' is a field of run\.json and cannot be a learner's fact"
    ):
        RunRecord(**values | {"facts": {"score": 1.0}})


def test_a_record_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Store(OLD).read_run(KEY).score = 1.0


def test_a_newer_version_is_refused_with_a_sentence(old: Path, capsys) -> None:
    path = Store(old).run_dir(KEY) / "run.json"
    write_record(path, read_json(path) | {"version": 2})
    with pytest.raises(InputError) as e:
        Store(old).read_run(KEY)
    sentence = (
        f"{Store(old).name(path)} was written by a newer foldstack (record version 2; this one reads up "
        "to 1): install that version, or run `"
    )
    assert str(e.value).startswith(sentence)
    assert foldstack(old, "blend") == 2
    assert sentence in capsys.readouterr().err


def test_an_identity_with_an_unknown_key_is_another_one() -> None:
    """Of a version that knows one more thing that decides what a run learns."""
    known = Store(OLD).read_run(KEY)
    flat = known.to_json()
    more = RunRecord.model_validate(flat | {"identity": flat["identity"] | {"teacher": "abc"}})
    assert more.identity != known.identity
    assert more.identity.to_json()["teacher"] == "abc"


def test_an_unfinished_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    store, run = Store(tmp_path), Store(OLD).read_run(KEY)
    wanted = PartialRecord(
        run=[0, 0], identity=run.identity, machine=run.machine, versions=run.versions
    )
    assert store.read_partial(KEY) is None
    store.open_partial(KEY, wanted)
    assert store.read_partial(KEY) == wanted
    assert store.checkpoints_dir(KEY).is_dir()
    identity = store.partial_dir(KEY) / "identity.json"
    identity.write_text(identity.read_text().replace('"folds": "', '"folds": "x'))
    assert store.read_partial(KEY) is None


# Advice for a variant names its preset


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = go_through(make_workspace(tmp_path_factory.mktemp("variant") / "w"), "folds")
    for fold in "01":
        args = ("--model", "tfidf", "--name", "weak", "--set", "C=0.01", "--fold", fold)
        assert foldstack(root, "train", *args) == 0
    return root


@pytest.fixture
def variant(trained: Path, tmp_path: Path) -> Path:
    """A variant's runs of folds 0 and 1 of three."""
    return Path(shutil.copytree(trained, tmp_path / "w"))


COMMAND = "make train MODEL=tfidf NAME=weak"


def test_a_run_keeps_the_name_of_its_preset(variant: Path) -> None:
    run = Store(variant).read_run(RunKey("weak", 0, (0,)))
    assert (run.model, run.preset) == ("weak", "tfidf")
    assert Store(variant).train_command("weak") == COMMAND
    assert Store(variant).train_command("other") == "make train MODEL=other"


def test_a_missing_run_of_a_variant_is_trained_by_its_preset(variant: Path, capsys) -> None:
    assert foldstack(variant, "blend", "--model", "weak") == 0
    shutil.rmtree(Store(variant).run_dir(RunKey("weak", 0, (1,))))
    capsys.readouterr()
    sentence = (
        "model 'weak' has no run for fold1 of seed 0 (1 missing in all): run "
        f"`{COMMAND} FOLD=1 SEED=0`, or leave this model out"
    )
    refuses(variant, ["submit"], sentence, capsys)


@pytest.mark.parametrize("damage", ["half", "digest"])
def test_a_damaged_run_of_a_variant_is_trained_by_its_preset(
    variant: Path, damage: str, capsys
) -> None:
    """The preset is in the damaged file, or in the other run's."""
    path = Store(variant).run_dir(RunKey("weak", 0, (1,))) / "run.json"
    text = path.read_text()
    path.write_text(
        text[: len(text) // 2] if damage == "half" else text.replace('"rows": ', '"rows": 1')
    )
    assert foldstack(variant, "scores") == 2
    assert f"run `{COMMAND} FOLD=1 SEED=0 FORCE=1`" in capsys.readouterr().err


def test_a_run_from_before_presets_were_kept_is_advised_by_its_model(variant: Path) -> None:
    for path in variant.glob("oof/weak/*/*/run.json"):
        record = {k: v for k, v in json.loads(path.read_text()).items() if k != "preset"}
        write_record(path, record)
    assert Store(variant).train_command("weak") == "make train MODEL=weak"
