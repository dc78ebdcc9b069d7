"""Several segments of a row: what the competition makes of its columns, and how a model reads them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import PreTrainedTokenizerBase
from yaml import safe_dump, safe_load

from foldstack.competition import Competition
from foldstack.drift.both_files import Files
from foldstack.drift.sharing import sharing
from foldstack.errors import InputError
from foldstack.learners import LearnerContext
from foldstack.learners.tfidf import TfidfLearner
from foldstack.nets.backbone import load_backbone
from foldstack.rows import Rows, connected_groups, duplicate_groups
from foldstack.techniques import TfidfSettings, TransformerSettings
from foldstack.text.augment import Augmenter
from foldstack.text.cutting import Texts, cut_texts, fair_rooms
from foldstack.text.features import feature_names, text_features
from foldstack.text.tokens import HEAD, Tokens, to_tokens, tokenise
from makers import make_learner, make_rows, make_task, unlabelled
from test_long import FAMILIES, SPECIAL
from test_presets import checkpoint
from tiny import add_preset, foldstack, go_through, make_workspace, refuses, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

LONG = "good fine great lovely bad poor awful dull"
PHRASES = pd.DataFrame(
    [["a", "act of abating", "abatement", "A47"], ["b", "wood", "", "B27"]],
    columns=["id", "anchor", "target", "context"],
)
THREE = ["anchor", "target", "context"]


def segments_of(root: Path, **settings: object) -> list[tuple[str, ...]]:
    make_workspace(root, target=["score"], **settings)
    return Competition.load(root).texts_of(PHRASES)


# The setting


def test_a_segment_is_a_template_over_the_text_columns(tmp_path: Path) -> None:
    """A column may stand in several, and an empty cell leaves its segment's own words."""
    segments = ["{anchor}", "{context}: {target}"]
    found = segments_of(tmp_path, text=THREE, segments=segments)
    assert found == [("act of abating", "A47: abatement"), ("wood", "B27: ")]
    segments = ["{context}", "{anchor}", "{target} ({context})"]
    found = segments_of(tmp_path, text=THREE, segments=segments)
    assert found == [("A47", "act of abating", "abatement (A47)"), ("B27", "wood", " (B27)")]


def test_a_pair_is_the_short_form_of_two_columns_as_two_segments(tmp_path: Path) -> None:
    """Rows have the same hash, so that runs of one form are those of the other."""
    columns = ["target", "anchor"]
    short = segments_of(tmp_path / "a", text=columns, pair=True)
    assert short == segments_of(tmp_path / "b", text=columns, segments=["{target}", "{anchor}"])
    assert short == [("abatement", "act of abating"), ("", "wood")]


def test_one_column_may_be_several_segments(tmp_path: Path) -> None:
    found = segments_of(tmp_path, text=["anchor"], segments=["{anchor}", "of what: {anchor}"])
    assert found[1] == ("wood", "of what: wood")


REFUSED = {
    "one": (
        ["{a} {b}"],
        "`segments` has 1 template: write two or three, or `template` for one text",
    ),
    "four": (
        ["{a}", "{b}", "{a} {b}", "{b} {a}"],
        "`segments` has 4 templates: write two or three, or `template` for one text",
    ),
    "no column": (
        ["{a} {b}", "nothing"],
        "setting 'segments' has 'nothing' as number 2: it must name at least one of the text columns in "
        "braces, {a} {b}, and nothing else in braces",
    ),
    "an unknown column": (
        ["{a}", "{c}"],
        "setting 'segments' has '{c}' as number 2: it must name at least one of the text columns in "
        "braces, {a} {b}, and nothing else in braces",
    ),
    "an open brace": (
        ["{a", "{b}"],
        "setting 'segments' has '{a' as number 1: it must name at least one of the text columns in "
        "braces, {a} {b}, and nothing else in braces",
    ),
    "a column in none": (
        ["{a}", "x{a}"],
        "no segment names the text column 'b': add {b} to one, or take the column out of `text`",
    ),
}


@pytest.mark.parametrize(("segments", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_segments_are_refused(tmp_path: Path, segments, sentence, capsys) -> None:
    root = make_workspace(tmp_path, text=["a", "b"], segments=segments)
    refuses(root, ["folds"], f"{root}/competition.yaml: {sentence}", capsys)


def test_segments_and_a_template_exclude_each_other(tmp_path: Path, capsys) -> None:
    settings = {"text": ["a", "b"], "template": "{a}{b}", "segments": ["{a}", "{b}"]}
    root = make_workspace(tmp_path, **settings)
    sentence = (
        "`template` joins the text columns to one text, `segments` makes several: set one of them"
    )
    refuses(root, ["folds"], f"{root}/competition.yaml: {sentence}", capsys)


# As tokens


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> PreTrainedTokenizerBase:
    checkpoint("bert", place := tmp_path_factory.mktemp("bert") / "bert")
    return load_backbone(str(place))[1]


def lines_of(tokens: Tokens, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    pieces = np.split(tokens.flat, tokens.offsets[1:-1])
    return [" ".join(tokenizer.convert_ids_to_tokens(piece.tolist())) for piece in pieces]


def removed_one_by_one(lengths: list[int], room: int) -> list[int]:
    """Lengths after tokens are removed from the longest, of equal ones from the once shortest."""
    kept = list(lengths)
    while sum(kept) > room:
        longest = [i for i, n in enumerate(kept) if n == max(kept)]
        kept[min(longest, key=lambda i: (lengths[i], i))] -= 1
    return kept


def test_tokens_are_removed_from_the_longest_segment() -> None:
    for count in (2, 3):
        lengths = list(product(range(6), repeat=count))
        for room in range(12):
            found = fair_rooms(np.array(lengths).T, room).T.tolist()
            assert found == [removed_one_by_one(list(row), room) for row in lengths]


@pytest.mark.parametrize("parts", [(1, 2), (3, 1), (1, 2, 2), (2, 1, 5)], ids=str)
def test_parts_weigh_what_each_segment_keeps(parts: tuple[int, ...]) -> None:
    """Against a level λ at which segment i keeps min(length, λ part) and all of the room is used."""
    lengths = np.array(list(product((0, 1, 3, 8, 20), repeat=len(parts)))).T
    shares = np.array(parts)[:, None]
    for room in range(13):
        found = fair_rooms(lengths, room, parts)
        assert (found.sum(axis=0) == np.minimum(lengths.sum(axis=0), room)).all()
        low, high = np.zeros(lengths.shape[1]), np.full(lengths.shape[1], 100.0)
        for _ in range(60):
            level = (low + high) / 2
            over = np.minimum(lengths, level * shares).sum(axis=0) > room
            low, high = np.where(over, low, level), np.where(over, level, high)
        assert (abs(found - np.minimum(lengths, low * shares)) < len(parts)).all()


def test_a_prompt_has_less_of_the_room_than_the_answers(tmp_path: Path) -> None:
    """Ten tokens of [1, 2, 2], each text cut out of its middle; a short one leaves the others more."""
    bert = load_backbone(str(checkpoint("bert", tmp_path / "b") or tmp_path / "b"))[1]
    long = {"name": "head_tail", "share": 0.5, "parts": [1, 2, 2]}
    settings = TransformerSettings(learner="transformer", backbone="b", long=long)
    rows = make_rows([(LONG, LONG, LONG), ("film", LONG, "plot")])
    given = Texts.read(rows, bert)
    tokens = to_tokens(given, cut_texts(given, 14, settings.long), types=False)
    texts = bert.batch_decode(np.split(tokens.flat, tokens.offsets[1:-1]))
    assert texts == [
        "[CLS] good dull [SEP] good fine awful dull [SEP] good fine awful dull [SEP]",
        f"[CLS] film [SEP] {LONG} [SEP] plot [SEP]",
    ]


def test_there_is_a_part_for_each_segment(tmp_path: Path) -> None:
    bert = load_backbone(str(checkpoint("bert", tmp_path / "b") or tmp_path / "b"))[1]
    long = {"name": "tail", "parts": [1, 2]}
    settings = TransformerSettings(learner="transformer", backbone="b", long=long)
    for row, count in ((("a", "b", "c"), 3), (("a",), 1)):
        given = Texts.read(make_rows([row]), bert)
        with pytest.raises(InputError) as e:
            cut_texts(given, 14, settings.long)
        assert str(e.value) == (
            f"long.parts shares the length among 2 texts, but a row has {count}: write a number for "
            "each, or leave it out"
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_third_segment_stands_behind_the_separators_of_two(family, tmp_path: Path) -> None:
    """Ids and types as put together by hand from the tokenizer's own pair of the first two."""
    place = tmp_path / family
    tokenizer = load_backbone(str(checkpoint(family, place) or place))[1]
    rows = [("a film", "good", "bad plot"), (LONG, "a", LONG), ("", "", ""), ("dull", LONG, LONG)]
    before, between, after = (tokenizer.convert_tokens_to_ids(part) for part in SPECIAL[family])
    pair = tokenizer(["a"], ["a"], return_token_type_ids=True)["token_type_ids"][0]
    letter = len(tokenizer("a", add_special_tokens=False)["input_ids"])
    first, last = pair[len(before)], pair[len(pair) - len(after) :]
    second = pair[len(before) + letter + len(between)]
    beside = pair[len(before) + letter : len(before) + letter + len(between)]

    def reference(row: tuple[str, ...], length: int) -> tuple[list[int], list[int]]:
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in row]
        room = length - len([*before, *between, *between, *after])
        kept = removed_one_by_one([len(i) for i in ids], room)
        a, b, c = (i[:n] for i, n in zip(ids, kept, strict=True))
        begin, rest = [*before, *a], [*b, *between, *c]
        types = [first] * len(begin) + beside + [second] * len(rest) + last
        return [*begin, *between, *rest, *after], types

    for length in (10, 13, 60):
        tokens = tokenise(make_rows(rows), tokenizer, max_length=length, types=True)
        expected = [reference(row, length) for row in rows]
        assert tokens.flat.tolist() == [i for ids, _ in expected for i in ids]
        assert tokens.lengths.max() <= length
        kinds = [t for _, types in expected for t in types]
        assert (tokens.types.tolist() if tokens.types is not None else [0] * len(kinds)) == kinds


def test_three_segments_of_a_bert(bert) -> None:
    tokens = tokenise(make_rows([("a film", "good", "bad")]), bert, max_length=16, types=True)
    assert lines_of(tokens, bert) == ["[CLS] a film [SEP] good [SEP] bad [SEP]"]


def test_a_prefix_stands_before_the_first_segment_and_is_never_cut(bert) -> None:
    texts = Texts.read(make_rows([(LONG, LONG, "a")]), bert, "film cast ")
    tokens = to_tokens(texts, cut_texts(texts, 9, HEAD), types=False)
    assert lines_of(tokens, bert) == ["[CLS] film cast [SEP] good fine [SEP] a [SEP]"]
    assert tokens.cut == 1


def test_how_segments_are_joined_is_said(tmp_path: Path, capsys) -> None:
    backbone, roberta = tmp_path / "bert", tmp_path / "roberta"
    checkpoint("bert", backbone)
    checkpoint("roberta", roberta)
    three = make_rows([("a", "good", "film"), ("a", "bad", "film")])
    pairs = make_rows([("a", "good"), ("a", "bad")])
    for place, rows, line in (
        (backbone, three, "3 segments, joined by [SEP]; token types 0, 1, 1"),
        (backbone, pairs, "2 segments, joined by [SEP]; token types 0, 1"),
        (roberta, three, "3 segments, joined by </s></s>; no token types"),
    ):
        make_learner(place).prepare(rows)
        assert capsys.readouterr().out.splitlines()[0] == line


def test_a_transformer_learns_and_predicts_three_segments(tmp_path: Path) -> None:
    """And what is loaded predicts the same; another order of the segments is another input."""
    checkpoint("bert", tmp_path / "bert")
    rows = make_rows([("a film", word, "plot") for word in LONG.split()])
    learner = make_learner(tmp_path / "bert", training={"epochs": 1})
    learner.fit(rows, None, tmp_path)
    learner.save(tmp_path / "model")
    loaded = make_learner(tmp_path / "bert")
    loaded.load(tmp_path / "model")
    found = learner.predict(rows)
    assert loaded.predict(rows).tobytes() == found.tobytes()
    turned = make_rows([(a, c, b) for a, b, c in rows.texts])
    assert not np.array_equal(learner.predict(turned), found)


@pytest.mark.parametrize("per_epoch", [True, False])
def test_each_segment_is_augmented(per_epoch: bool) -> None:
    rows = make_rows([("one two three four",) * 3] * 2)
    settings = TransformerSettings(
        learner="transformer", backbone="b", augment=[{"name": "delete_words", "probability": 1}]
    )
    augmenter = Augmenter.of(settings.augment, rows)
    texts = augmenter.texts(rows, 0, 0) if per_epoch else augmenter.copies(rows, 1, 0).texts
    assert all(len(text) == 3 and "one two three four" not in text for text in texts)


# The linear model


def linear(rows: Rows, **settings: object) -> TfidfLearner:
    made = TfidfSettings(learner="tfidf", min_count=1, **settings)
    learner = TfidfLearner(made, LearnerContext(make_task()))
    learner.fit(rows, None, Path("unused"))
    return learner


# The label says whether `good` comes first or second.
PLACED = [
    ("good", "film", end) if label else ("film", "good", end) for end in "abcd" for label in (0, 1)
]


def test_the_linear_model_knows_which_segment_a_word_stands_in() -> None:
    """As one bag of words the two labels would be one text."""
    rows, words = make_rows(PLACED), {"word_ngrams": (1, 1), "char_ngrams": (0, 0)}
    assert np.abs(linear(rows, segments="joined", **words).predict(rows)).max() < 1e-6
    found = linear(rows, **words).predict(rows)[:, 0]
    assert (found[1::2] > 0).all() and (found[::2] < 0).all()


def test_the_linear_model_sees_how_many_words_segments_share() -> None:
    """No n-gram of a segment tells a paraphrase of new words from two unlike sentences."""
    words = [f"w{i}" for i in range(40)]
    alike = [(f"{a} {b}", f"{b} {a}") for a, b in zip(words[::2], words[1::2], strict=True)]
    unlike = [(a, b) for (a, _), (_, b) in zip(alike, alike[1:] + alike[:1], strict=True)]
    rows = make_rows([*alike, *unlike], [1] * 20 + [0] * 20)
    apart = linear(rows, segments="apart")
    new = make_rows([("x y", "y x"), ("x y", "u v")])
    yes, no = apart.predict(new)[:, 0]
    assert yes > 0.5 > no and apart.shared == 1


def test_a_pair_is_one_bag_of_words_unless_the_preset_says_apart() -> None:
    """Runs of before there were segments are what they were."""
    rows = make_rows([(a, b) for a, b, _ in PLACED])
    joined = make_rows([f"{a} {b}" for a, b, _ in PLACED])
    assert linear(rows).predict(rows).tobytes() == linear(joined).predict(joined).tobytes()
    assert linear(joined, segments="apart").shared == 0


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_a_loaded_linear_model_of_segments_predicts_the_same_bits(tmp_path: Path, kind) -> None:
    rows, task = make_rows(PLACED), make_task(kind, 1)
    settings = TfidfSettings(learner="tfidf", word_ngrams=(2, 2))
    learner, loaded = (TfidfLearner(settings, LearnerContext(task)) for _ in range(2))
    learner.fit(rows, None, tmp_path)
    learner.save(tmp_path / "model")
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_a_segment_without_frequent_ngrams_is_named(capsys) -> None:
    linear(make_rows([("good film", "a b", "b")] * 4), word_ngrams=(2, 2))
    assert "no word n-gram of segment 3 occurs in 1 texts: left out" in capsys.readouterr().out


# Everything else that reads several texts


def test_surface_features_are_of_each_segment_and_of_every_two() -> None:
    texts = [("a good film", "a good book", "x"), ("", "", "")]
    names, found = feature_names(3), text_features(unlabelled(texts))
    assert found.shape == (2, len(names))
    assert names[-3:] == (
        "first+second:shared_words",
        "first+third:shared_words",
        "second+third:shared_words",
    )
    np.testing.assert_allclose(found[:, -3:], [[2 / 4, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(
        found[:, :-3], np.hstack([text_features(unlabelled(c)) for c in zip(*texts, strict=True)])
    )


def test_rows_are_duplicates_if_all_segments_are_and_connected_by_one() -> None:
    texts = [("a", "b", "c"), ("A", "b", "c"), ("a", "x", "y"), ("u", "v", "w"), ("", "", "v")]
    assert duplicate_groups(texts).tolist() == [0, 0, 1, 2, 3]
    assert connected_groups(texts).tolist() == [0, 0, 0, 1, 1]


def test_segments_shared_between_folds_and_files_are_counted() -> None:
    train = make_rows([("a", "b", "c"), ("d", "e", "f"), ("c", "g", "h")])
    test = unlabelled([("i", "j", "e"), ("k", "l", "m")])
    (found,) = sharing(Files.of(train, test), np.array([0, 0, 1]))
    assert (found.what, found.held_out, found.test) == ("segment", pytest.approx(2 / 3), 0.5)


def three_columns(root: Path, **settings: object) -> Path:
    """24 rows of three text columns, of which the second holds the label's word."""
    make_workspace(root, text=["a", "b", "c"], **settings)
    lines = [f"r{i},film {i},{'good' if i % 2 else 'bad'} {i},cast {i % 3}" for i in range(30)]
    train = [f"{line},{i % 2}\n" for i, line in enumerate(lines[:24])]
    test = [f"t{i}{line[line.index(',') :]}\n" for i, line in enumerate(lines[24:])]
    write(root / "input/train.csv", "id,a,b,c,label\n" + "".join(train))
    write(root / "input/test.csv", "id,a,b,c\n" + "".join(test))
    return root


def test_three_segments_go_from_the_files_to_a_submission(tmp_path: Path, capsys) -> None:
    root = three_columns(tmp_path, segments=["{a}", "{b}", "{c}: {a}"])
    go_through(root)
    assert (root / "submissions/blend.csv").exists()
    new = write(tmp_path / "new.csv", "id,a,b,c\nn1,film,good,cast\n")
    assert foldstack(root, "predict", "--file", str(new)) == 0
    assert (root / "predictions/new.csv").read_text().startswith("id,predicted,0,1\nn1,")
    capsys.readouterr()
    refuses(
        root,
        ["predict", "--text", "a film"],
        "the given texts: row 1 has 1 texts, but this competition has 3 text columns (a, b, c): give "
        "each row as a tuple of 3",
        capsys,
    )


def test_a_run_of_a_pair_is_the_run_of_its_segments(tmp_path: Path, capsys) -> None:
    root = three_columns(tmp_path)
    yaml = (root / "competition.yaml").read_text().replace("- a\n- b\n- c\n", "- a\n- b\n")
    write(root / "competition.yaml", yaml + "pair: true\n")
    go_through(root, "folds", "train")
    write(root / "competition.yaml", yaml + "segments: ['{a}', '{b}']\n")
    capsys.readouterr()
    go_through(root, "folds", "train")
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("folds: nothing to do")
    assert said[1:] == [
        f"train: nothing to do, 1 finished: tfidf seed 0 fold{fold}" for fold in range(3)
    ]


def comparisons(folder: Path) -> dict[str, Path]:
    """The files of a competition: which of two responses says what was asked for?"""
    words, rows = LONG.split(), []
    for i in range(40):
        asked, other = words[i % 8], words[i % 8 - 3]
        said = (other, asked) if i % 2 else (asked, other)
        rows.append(f"say {asked} to film {i},it is {said[0]} as {i},so {said[1]} in {i}")
    train = "".join(f"r{i},{row},{i % 2}\n" for i, row in enumerate(rows[:30]))
    test = "".join(f"t{i},{row}\n" for i, row in enumerate(rows[30:]))
    columns = "id,prompt,response_a,response_b"
    texts = {"train": f"{columns},label\n{train}", "test": f"{columns}\n{test}"}
    texts["sample"] = "id,label\n" + "".join(f"t{i},0.5\n" for i in range(10))
    return {name: write(folder / f"{name}.csv", text) for name, text in texts.items()}


def test_a_prompt_with_two_responses_goes_from_init_to_a_submission(
    tmp_path: Path, backbone: Path, capsys
) -> None:
    """By a linear model that compares every two, a transformer that reads three, and a stack."""
    root, options = tmp_path / "w", ["--quick"]
    for name, path in comparisons(tmp_path / "given").items():
        options += [f"--{name}", str(path)]
    assert foldstack(root, "init", *options) == 0
    yaml = (root / "competition.yaml").read_text()
    made = safe_load(yaml)
    assert made["text"] == ["prompt", "response_a", "response_b"]
    assert made["segments"] == ["{prompt}", "{response_a}", "{response_b}"]
    add_preset(root, backbone, augment=["swap_words"], augment_copies=1)
    compared = {"compared": {"preset": "tfidf", "pair_features": "overlap", "min_count": 1}}
    settings = made | {"models": ["tiny", compared]}
    settings["folds"] = settings["folds"] | {"count": 3}
    settings["blend"] = {"text_features": True}
    write(root / "competition.yaml", safe_dump(settings))
    go_through(root)
    assert len((root / "submissions/blend.csv").read_text().splitlines()) == 11
    new = write(tmp_path / "new.csv", "id,prompt,response_a,response_b\nn1,say good,good,bad\n")
    for command in (["predict", "--file", str(new)], ["views"], ["report"], ["scores"]):
        assert foldstack(root, *command) == 0, command
