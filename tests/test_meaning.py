"""Texts compared by meaning: near-duplicates for folds, ties of other rows, and the nearest text."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from foldstack.config import digest
from foldstack.errors import InputError
from foldstack.meaning import Meaning, by_meaning
from foldstack.near import near_duplicates, near_pairs
from foldstack.patterns import FittedPatterns, Neighbours, index_by
from foldstack.patterns.rule_settings import NearestSettings
from foldstack.stages.patterned import fitted_patterns
from foldstack.text import cosine
from foldstack.workspace import Workspace
from test_patterns import nearest_of_all
from test_search import with_backbone
from tiny import files, foldstack, go_through, make_workspace, refuses, turn_labels, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

# A text and another one whose words the tiny backbone does not know apart: [UNK].
TEXTS = [
    "a good film n1",
    "a good film other",
    "a dull joke",
    "",
    "A good  film n1",
    "a bad plot cast",
]


@pytest.fixture
def meaning(backbone, tmp_path) -> Meaning:
    root = with_backbone(make_workspace(tmp_path / "w"), backbone)
    return Workspace.open(root, []).competition.meaning


def slowly(meaning: Meaning, texts: list[tuple[str, ...]]) -> np.ndarray:
    """(n, n) mean cosines of the segments, each text read by itself."""
    total = 0
    for segment in range(len(texts[0])):
        alone = [meaning.vectors([(text[segment],)])[0].astype(float) for text in texts]
        total += np.array(alone) @ np.array(alone).T
    return total / len(texts[0])


def test_groups_are_those_of_all_cosines(meaning):
    texts = [(text,) for text in TEXTS]
    found = near_duplicates(texts, 100, by_meaning(meaning, 0.999))
    assert found.groups.tolist() == [0, 0, 1, 2, 0, 3]
    cosines = slowly(meaning, texts)
    assert cosines[0, 1] == pytest.approx(1) and cosines[0, 2] < 0.999
    report = {
        k: found.report[k] for k in ("texts", "pairs", "groups", "rows", "largest", "refused")
    }
    assert report == {"texts": 5, "pairs": 1, "groups": 1, "rows": 3, "largest": 3, "refused": 0}
    at = float(cosines[0, 5])
    below, above = (near_duplicates(texts, 100, by_meaning(meaning, at + d)) for d in (-1e-4, 1e-4))
    assert below.groups[5] == below.groups[0] and above.groups[5] != above.groups[0]


def test_the_cap_refuses_pairs(meaning):
    found = near_duplicates([(text,) for text in TEXTS], 2, by_meaning(meaning, 0.999))
    assert found.refused.tolist() == [[0, 1]] and len(set(found.groups)) == 5


def test_pairs_across_are_those_of_all_cosines(meaning, monkeypatch):
    monkeypatch.setattr(cosine, "BLOCK", 2)
    texts, others = [(text,) for text in TEXTS], [("a good film n2",), ("a dull joke",), ("",)]
    found = near_pairs(texts, others, by_meaning(meaning, 0.999))
    assert sorted(map(tuple, found)) == [(0, 0), (1, 0), (2, 1), (4, 0)]


def test_the_cosine_of_pairs_is_the_mean_of_their_sentences(meaning):
    pairs = [("a good film", "a dull joke"), ("a good film", "a bad plot"), ("a dull joke", "")]
    vectors = meaning.vectors(pairs).astype(float)
    assert (vectors @ vectors.T)[:2, :2] == pytest.approx(slowly(meaning, pairs[:2]), abs=1e-5)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)


# In a workspace

TAILS = ("of yesterday", "by nobody")


def near_workspace(root: Path, backbone: Path, **settings: object) -> Path:
    """Rows 2i and 2i + 1 differ in words that the backbone does not know."""
    folds = {"count": 3, "near": 0.999, "near_by": "meaning"}
    make_workspace(root, folds=folds | settings.pop("folds", {}), **settings)
    moods = [
        "good",
        "bad",
        "fine",
        "poor",
        "great",
        "awful",
        "lovely",
        "dull",
        "a",
        "film",
        "plot",
        "joke",
    ]
    lines = [f"r{i},a {moods[i // 2]} scene {TAILS[i % 2]},{i // 2 % 2}" for i in range(24)]
    write(root / "input/train.csv", "\n".join(["id,text,label", *lines]) + "\n")
    return with_backbone(root, backbone)


def folds_of(root: Path) -> np.ndarray:
    ws = Workspace.open(root, [])
    return ws.store.read_folds(ws.competition.train).fold


def test_near_rows_share_a_fold(backbone, tmp_path, capsys):
    root = near_workspace(tmp_path / "w", backbone)
    assert foldstack(root, "folds") == 0
    assert "24 rows are near-duplicates (cosine of 0.999 or more) in 12 groups of up to 2" in (
        capsys.readouterr().out
    )
    fold = folds_of(root)
    assert (fold[::2] == fold[1::2]).all()
    plain = near_workspace(tmp_path / "plain", backbone, folds={"near": 0, "near_by": "characters"})
    assert foldstack(plain, "folds") == 0
    apart = folds_of(plain)
    assert (apart[::2] != apart[1::2]).any()


def test_the_same_folds_again_and_whatever_the_labels(backbone, tmp_path):
    """No label is read: of turned labels the groups are the same."""
    root = near_workspace(tmp_path / "w", backbone)
    assert foldstack(root, "folds") == 0
    before, groups = files(root / "folds"), Workspace.open(root, []).competition.near.groups
    for name in (".near", ".vectors"):
        for path in sorted((root / "oof" / name).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    assert foldstack(root, "folds", "--force") == 0
    assert files(root / "folds") == before
    turn_labels(root, {"r0", "r1"})
    again = Workspace.open(root, []).competition.near.groups
    assert again.tolist() == groups.tolist()


@pytest.mark.parametrize("source", ["external", "pool"])
def test_rows_from_elsewhere_are_tied_by_meaning(backbone, tmp_path, source):
    root = near_workspace(tmp_path / "w", backbone, **{source: ["more.csv"]})
    label = ",label" if source == "external" else ""
    rows = [("a good scene for everyone", 1), ("a song of the start", 0)]
    lines = [f"{text},{y}" if label else text for text, y in rows]
    write(root / "input/more.csv", "\n".join([f"text{label}", *lines]) + "\n")
    competition = Workspace.open(root, []).competition
    ties = competition.external_ties if source == "external" else competition.ties_of("pool")
    assert ties.tolist() == [[0, competition.tied[0]]]
    by_characters = Workspace.open(root, ["folds.near=0", "folds.near_by=characters"]).competition
    found = by_characters.external_ties if source == "external" else by_characters.ties_of("pool")
    assert len(found) == 0


def test_another_backbone_is_another_search(backbone, tmp_path):
    root = near_workspace(tmp_path / "w", backbone)
    assert foldstack(root, "folds") == 0
    kept = len(list((root / "oof/.near").iterdir()))
    with_backbone(root, backbone, head="max")
    assert Workspace.open(root, []).competition.near is not None
    assert len(list((root / "oof/.near").iterdir())) == kept + 1


def test_other_weights_in_the_same_folder_are_another_search(backbone, tmp_path):
    """Bug guarded: the former backbone's near-duplicates stayed, and so did patterns by meaning."""
    place = Path(shutil.copytree(backbone, tmp_path / "own"))
    root = near_workspace(tmp_path / "w", place, patterns="patterns.yaml")
    write(root / "patterns.yaml", "nearest: {below: 0.99, by: meaning, confidence: 0.99}")
    first = Workspace.open(root, [])
    assert first.competition.near is not None
    before, kept = first.patterns.hash, len(list((root / "oof/.near").iterdir()))
    weights = load_file(place / "model.safetensors")
    more = {k: w + torch.randn(w.shape) for k, w in weights.items()}
    save_file(more, place / "model.safetensors", {"format": "pt"})
    after = Workspace.open(root, [])
    assert after.patterns.hash != before and after.competition.near is not None
    assert len(list((root / "oof/.near").iterdir())) == kept + 1


# The nearest text of patterns.yaml


def test_the_nearest_text_by_meaning(meaning):
    """Its values, from the similarity on; an empty text has none, and equal texts must agree."""
    known = [("a good film",), ("a dull joke",), ("",), ("A  dull joke",)]
    values = np.array([[1], [0], [1], [1]])

    def said(similarity: float, *texts: str) -> list[int]:
        settings = NearestSettings(by="meaning", similarity=similarity)
        found = Neighbours(known, values, index_by(settings, lambda: meaning))
        return found.look_up([(text,) for text in texts], np.ones((len(texts), 1), bool))[
            :, 0
        ].tolist()

    assert said(1, "a good film", "a good plot", "", "a dull joke") == [1, -1, -1, -1]
    cosines = slowly(meaning, [("a good plot",), ("a good film",), ("a dull joke",)])[0]
    assert cosines[1] > cosines[2]
    assert said(cosines[1] - 1e-4, "a good plot") == [1]
    assert said(cosines[1] + 1e-4, "a good plot") == [-1]
    by_characters = index_by(NearestSettings(similarity=0.3), lambda: meaning)
    assert Neighbours(known, values, by_characters).look_up(
        [("a good fil",)], np.ones((1, 1), bool)
    ).tolist() == [[1]]


def patterns_workspace(root: Path, backbone: Path, nearest: str) -> Path:
    near_workspace(
        root, backbone, folds={"near": 0, "near_by": "characters"}, patterns="patterns.yaml"
    )
    write(root / "patterns.yaml", f"nearest: {{below: 0.99, {nearest}}}")
    return root


def test_no_label_of_its_own_fold_decides_by_meaning(backbone, tmp_path):
    root = patterns_workspace(
        tmp_path / "w", backbone, "by: meaning, similarity: 0.9, confidence: 0.99"
    )
    assert foldstack(root, "folds") == 0
    before, here = nearest_of_all(root), folds_of(root) == 1
    turn_labels(root, {f"r{i}" for i in np.flatnonzero(here)})
    after = nearest_of_all(root)
    assert (before >= 0).sum() > 12
    assert (before[here] == after[here]).all() and (before[~here] != after[~here]).any()


def test_the_hash_of_patterns_without_it_is_that_of_before(backbone, tmp_path):
    """Submissions and bundles made before the setting are not stale."""
    root = patterns_workspace(tmp_path / "w", backbone, "similarity: 0.7")
    before = digest(
        [
            {
                "mode": "beside",
                "overrule_below": 0.05,
                "rules": [],
                "nearest": {"below": 0.99, "similarity": 0.7, "confidence": 0.99},
            },
            [],
        ]
    )
    write(root / "patterns.yaml", "nearest: {below: 0.99, similarity: 0.7, confidence: 0.99}")
    assert Workspace.open(root, []).patterns.hash == before
    write(root / "patterns.yaml", "nearest: {below: 0.99, by: meaning, confidence: 0.99}")
    by_one = Workspace.open(root, []).patterns.hash
    with_backbone(root, backbone, head="max")
    assert Workspace.open(root, []).patterns.hash not in (before, by_one)


def test_a_bundle_holds_the_backbone_and_decides_as_submit_does(backbone, tmp_path, capsys):
    root = patterns_workspace(
        tmp_path / "w", backbone, "by: meaning, similarity: 0.999, confidence: 0.99"
    )
    go_through(root)
    assert foldstack(root, "bundle") == 0
    assert ", 0 are decided otherwise" in capsys.readouterr().out
    place = root / "bundle/blend"
    there = FittedPatterns.read(place)
    for path in backbone.iterdir():
        assert str(path) not in (place / "patterns.json").read_text()
    here = fitted_patterns(Workspace.open(root, []))
    new, asked = [("a fine scene of nobody",), ("the end",)], np.ones((2, 1), bool)
    found = there.known.look_up(new, asked)
    assert found.tolist() == here.known.look_up(new, asked).tolist() == [[0], [-1]]
    assert there.known.index.vectors == pytest.approx(here.known.index.vectors)


# Refusals


def test_meaning_without_a_similarity(tmp_path, capsys):
    root = make_workspace(tmp_path / "w", folds={"count": 3, "near_by": "meaning"})
    assert foldstack(root, "folds") == 2
    assert (
        "near_by: meaning is for texts from the similarity `near` on, which is 0: set `near: 0.9`, or "
        "leave near_by out"
    ) in capsys.readouterr().err


def test_without_the_package(backbone, tmp_path, capsys):
    root = near_workspace(tmp_path / "w", Path("package:no_such_package/model"))
    sentence = (
        "backbone 'package:no_such_package/model': the package no_such_package is not installed: "
        "pip install no-such-package"
    )
    refuses(root, ["folds"], sentence, capsys)


def test_a_preset_without_a_backbone(backbone, tmp_path, capsys):
    root = near_workspace(tmp_path / "w", backbone)
    write(root / "presets/minilm-vectors.yaml", "preset: tfidf\n")
    sentence = (
        "presets/minilm-vectors.yaml gives texts no vectors of a frozen backbone, by which they are "
        "compared by meaning: write one with learner vectors and source backbone"
    )
    refuses(root, ["folds"], sentence, capsys)


def test_too_many_near_pairs(meaning, monkeypatch):
    monkeypatch.setattr(cosine, "MOST_PAIRS", 2)
    with pytest.raises(InputError) as e:
        near_duplicates([(text,) for text in TEXTS], 100, by_meaning(meaning, 0.01))
    assert str(e.value) == (
        "folds.near 0.01 by meaning joins more than 2 pairs of texts: raise it, 0.9 say"
    )
