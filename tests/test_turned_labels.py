"""Byte by byte: a run learns no label of the fold that it leaves out, and a kill changes nothing.

Of what compares, changes or exchanges texts, and of what learns from few rows or from none.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from foldstack.ensemble.stacks import Stack
from foldstack.stages import one_run
from foldstack.stages.features import stack_features
from foldstack.store import RunKey
from foldstack.text.pair_features import overlap_names
from foldstack.training import loop
from makers import make_members, unlabelled
from test_language_models import contextual, make_masked, make_translator
from tiny import files, foldstack, go_through, make_workspace, run_of, turn_labels, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

KEY = RunKey("m", 0, (0,))
TRAIN = ("train", "--model", "m", "--fold", "0")
TRAINING = {"epochs": 2, "batch_size": 8, "max_length": 24, "precision": "fp32"}
WORDS = {"preset": "tfidf", "min_count": 1, "char_ngrams": [0, 0], "C": 4}

Preset = Callable[[Path, Path], dict]  # of the backbone and a folder for other models


def of_backbone(learner: str, backbone: Path, folder: Path, **settings: object) -> dict:
    plain = {"learner": learner, "backbone": str(backbone), "training": TRAINING}
    return plain | {"checkpoint_seconds": 0} | settings


def changed(change: Callable[[Path], dict], backbone: Path, folder: Path, copies: int = 1) -> dict:
    options = {"augment": [change(folder)], "augment_copies": copies}
    return of_backbone("transformer", backbone, folder, **options)


def filled(folder: Path) -> dict:
    return contextual(make_masked(folder / "masked"), share=0.5)


def translated(folder: Path) -> dict:
    models = {n: make_translator(folder / n, i) for i, n in enumerate(("forward", "backward"))}
    return {"name": "back_translation", "temperature": 5} | models


def from_file(folder: Path) -> dict:
    return {"name": "from_file", "file": "made.csv"}


def compared(pair_features: str, backbone: Path, folder: Path) -> dict:
    return WORDS | {"pair_features": pair_features}


def label_texts(backbone: Path, folder: Path) -> dict:
    labels = {"name": "label_texts", "labels": {"0": "a bad film", "1": "a good film"}}
    return {
        "learner": "vectors",
        "backbone": str(backbone),
        "precision": "fp32",
        "classifier": labels,
    }


SINGLE: dict[str, Preset] = {
    "contextual_words, copies": partial(changed, filled),
    "contextual_words, each epoch": partial(changed, filled, copies=0),
    "back_translation, copies": partial(changed, translated),
    "from_file": partial(changed, from_file),
    "setfit": partial(of_backbone, "setfit", iterations=2),
    "label_texts": label_texts,
}
PAIRS: dict[str, Preset] = {
    "pair_features overlap": partial(compared, "overlap"),
    "pair_features edits": partial(compared, "edits"),
    "bi-encoder": partial(of_backbone, "biencoder"),
    "both_orders predict": partial(of_backbone, "transformer", both_orders="predict"),
    "both_orders train": partial(of_backbone, "transformer", both_orders="train"),
    "both_orders of a bi-encoder": partial(
        of_backbone, "biencoder", both_orders="train", pair_loss="softmax"
    ),
}


def as_pairs(root: Path) -> None:
    """Give each row a second text: its own, or another row's if its label is 0."""
    for name in ("train.csv", "test.csv"):
        header, *lines = (root / "input" / name).read_text().splitlines()
        cells = [line.split(",") for line in lines]
        made = [
            ",".join([id_, text, (cells[(i + i % 2) % len(cells)][1]), *label])
            for i, (id_, text, *label) in enumerate(cells)
        ]
        header = header.replace("text", "text,other")
        write(root / "input" / name, "\n".join([header, *made]) + "\n")
    config = yaml.safe_load((root / "competition.yaml").read_text())
    config |= {"text": ["text", "other"], "pair": True}
    write(root / "competition.yaml", yaml.safe_dump(config))


@pytest.fixture(params=[*SINGLE, *PAIRS])
def root(request, backbone, tmp_path) -> Path:
    """30 rows in three folds, and a model `m` with what is tested."""
    if "edits" in request.param and importlib.util.find_spec("rapidfuzz") is None:
        pytest.skip("rapidfuzz is not installed: pip install 'foldstack[pairs]'")
    root = make_workspace(tmp_path / "w", n=30, models=["m"], runtime={"threads": 1})
    if request.param in PAIRS:
        as_pairs(root)
    write(
        root / "input/made.csv", "id,text\n" + "".join(f"r{i},a film of r{i}\n" for i in range(30))
    )
    preset = (SINGLE | PAIRS)[request.param](backbone, tmp_path)
    write(root / "presets/m.yaml", yaml.safe_dump(preset))
    assert foldstack(root, "folds") == 0
    return root


def kept(root: Path) -> dict[str, bytes]:
    """The fitted model and the logits of held-out and test rows."""
    ws, run = run_of(root, "m")
    train, test = ws.competition.train, ws.competition.test
    found = files(ws.store.run_dir(KEY) / "model")
    for name, rows in (("heldout", train.take(run.folds.held_out((0,)))), ("test", test)):
        found[name] = ws.store.read_predictions(KEY, name, rows).raw.tobytes()
    return found


def test_labels_of_the_held_out_fold_change_nothing(root):
    assert foldstack(root, *TRAIN) == 0
    before = kept(root)
    ws, run = run_of(root, "m")
    turn_labels(root, set(ws.competition.train.ids[run.folds.held_out((0,))]))
    assert foldstack(root, *TRAIN, "--force") == 0
    assert kept(root) == before


@pytest.mark.parametrize("where", ["between two updates", "after the fit"])
def test_a_killed_run_ends_with_the_same_bytes(root, monkeypatch, where):
    if where == "between two updates" and not run_of(root, "m")[1].settings.traits.processes:
        pytest.skip("nothing is trained by the loop")
    assert foldstack(root, *TRAIN) == 0
    whole = kept(root)
    module, name, after = {
        "between two updates": (loop, "update", 3),
        "after the fit": (one_run, "_predict", 0),
    }[where]
    calls, call = [], getattr(module, name)

    def stopping(*given: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        return call(*given, **options)

    monkeypatch.setattr(module, name, stopping)
    assert foldstack(root, *TRAIN, "--force") == 130
    assert foldstack(root, *TRAIN, "--force") == 0
    assert len(calls) > after + 1 and kept(root) == whole


@pytest.mark.parametrize(
    "models, blend",
    [
        (("setfit", "label_texts"), {"methods": ["mean"]}),
        (
            ("bi-encoder", "pair_features overlap", "both_orders predict"),
            {"methods": ["stack_linear"], "text_features": True},
        ),
    ],
)
def test_a_bundle_and_a_rerun_predict_what_submit_writes(backbone, tmp_path, capsys, models, blend):
    """The test rows under other ids, as a code competition swaps a file in."""
    root = make_workspace(tmp_path / "w", n=30, runtime={"threads": 1}, blend=blend)
    if models[0] not in SINGLE:
        as_pairs(root)
    names = [f"m{i}" for i in range(len(models))]
    for name, model in zip(names, models, strict=True):
        preset = (SINGLE | PAIRS)[model](backbone, tmp_path)
        write(root / f"presets/{name}.yaml", yaml.safe_dump(preset))
    settings = yaml.safe_load((root / "competition.yaml").read_text())
    write(root / "competition.yaml", yaml.safe_dump(settings | {"models": names}))
    go_through(root)
    capsys.readouterr()
    assert foldstack(root, "bundle") == 0
    assert ", 0 are decided otherwise" in capsys.readouterr().out
    lines = (root / "input/test.csv").read_text().splitlines()
    new = write(tmp_path / "new.csv", "\n".join([lines[0], *(f"n{line}" for line in lines[1:])]))
    assert foldstack(root, "rerun", "--test", str(new)) == 0
    submitted, again = (
        pd.read_csv(root / f"submissions/{name}.csv") for name in ("blend", "blend-new")
    )
    assert again["id"].tolist() == [f"n{id_}" for id_ in submitted["id"]]
    np.testing.assert_allclose(again["label"], submitted["label"], atol=1e-6)


@pytest.mark.parametrize("name", ["stack", "stack_linear"])
def test_a_stack_on_overlaps_of_pairs_knows_no_label_of_the_fold_that_it_predicts(name):
    """The models that leave the fold out; that of another fold learns its labels."""
    words = ["good film", "bad plot", "a good song", "dull", "a bad film"]
    pairs = [(words[i % 5], words[i * 3 % 4]) for i in range(60)]
    features = stack_features(unlabelled(pairs), text=True)
    assert features.shape[1] > len(overlap_names(2))
    members = make_members([1.0, 0.5], n=60, folds=3, features=features)
    fold, targets = members.folds == 1, members.targets.copy()
    targets[fold] = 1 - targets[fold]
    everything = np.arange(60)
    both = [
        Stack(name).fit(each, everything, None, seed=0)
        for each in (members, replace(members, targets=targets))
    ]
    for k, changes in ((1, False), (2, True)):
        by = [fitted.models[k].predict(members.inputs) for fitted in both]
        assert np.array_equal(*by) != changes
