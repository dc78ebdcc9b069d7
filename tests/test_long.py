"""Long texts: what is read of a text that has more tokens than the model's input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from foldstack import techniques
from foldstack.config import identity, stored_settings, validate
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.learners import LearnerContext
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.backbone import load_backbone
from foldstack.techniques import TransformerSettings
from foldstack.text.cutting import Texts, auto_length, cut_texts
from foldstack.text.keywords import KeywordTable, words_of
from foldstack.text.terms import find_terms
from foldstack.text.tokens import Tokens, mean_by_row, to_tokens, tokenise
from makers import make_learner, make_rows
from test_presets import checkpoint

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

FAMILIES = [
    "bert",
    "roberta",
    "xlnet",
    "deberta-v3-base",
    "modernbert-base",
    "mpnet",
    "albert",
    "xlm-roberta",
    "roformer-zh",
]
# Before the first text, between two, after the last.
SPECIAL = {
    "bert": (["[CLS]"], ["[SEP]"], ["[SEP]"]),
    "roberta": (["<s>"], ["</s>", "</s>"], ["</s>"]),
    "xlnet": ([], ["<sep>"], ["<sep>", "<cls>"]),
    "deberta-v3-base": (["[CLS]"], ["[SEP]"], ["[SEP]"]),
    "modernbert-base": (["[CLS]"], ["[SEP]"], ["[SEP]"]),
    "mpnet": (["<s>"], ["</s>", "</s>"], ["</s>"]),
    "albert": (["[CLS]"], ["[SEP]"], ["[SEP]"]),
    "xlm-roberta": (["<s>"], ["</s>", "</s>"], ["</s>"]),
    "roformer-zh": (["[CLS]"], ["[SEP]"], ["[SEP]"]),
}
LONG = "good fine great lovely bad poor awful dull"
SHORT = "a film"
LISTED = {"name": "terms", "terms": ["film", "dull"]}
STRATEGIES = {
    "head": {"name": "head"},
    "tail": {"name": "tail"},
    "head_tail": {"name": "head_tail", "share": 0.5},
    "random": {"name": "random"},
    "windows": {"name": "windows", "overlap": 0.5},
    "keywords": {"name": "keywords"},
    "keywords beside": {"name": "keywords", "segment": True},
    "terms": {"name": "terms", "terms": ["nowhere"]},
}


def long_of(long: object) -> techniques.Long:
    return TransformerSettings(learner="transformer", backbone="b", long=long).long


@pytest.fixture(scope="module")
def place_of(tmp_path_factory) -> Callable[[str], Path]:
    """A preset's tiny checkpoint, made once."""
    made: dict[str, Path] = {}

    def place(preset: str) -> Path:
        if preset not in made:
            made[preset] = checkpoint(preset, tmp_path_factory.mktemp("long") / preset)
        return made[preset]

    return place


@pytest.fixture(scope="module")
def tokenizer_of(place_of) -> Callable[[str], PreTrainedTokenizerBase]:
    made: dict[str, PreTrainedTokenizerBase] = {}

    def tokenizer(preset: str) -> PreTrainedTokenizerBase:
        if preset not in made:
            made[preset] = load_backbone(str(place_of(preset)))[1]
        return made[preset]

    return tokenizer


@pytest.fixture
def bert(tokenizer_of) -> PreTrainedTokenizerBase:
    return tokenizer_of("bert")


def cut(
    tokenizer: PreTrainedTokenizerBase,
    texts: list,
    long: object,
    max_length: int = 6,
    *,
    prefix: str = "",
    training: bool = False,
    table: KeywordTable | None = None,
    types: bool = False,
) -> Tokens:
    texts = Texts.read(make_rows(texts), tokenizer, prefix)
    some = cut_texts(texts, max_length, long_of(long), keywords=table, training=training)
    return to_tokens(texts, some, types)


def words(tokens: Tokens, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Each sequence as its tokens."""
    pieces = np.split(tokens.flat, tokens.offsets[1:-1])
    return [" ".join(tokenizer.convert_ids_to_tokens(piece.tolist())) for piece in pieces]


# What is kept


@pytest.mark.parametrize(
    "long, kept",
    [
        ("head", "good fine great lovely"),
        ("tail", "bad poor awful dull"),
        ("head_tail", "good poor awful dull"),  # a quarter and three, after Sun et al.
        ({"name": "head_tail", "share": 0.5}, "good fine awful dull"),
    ],
)
def test_beginning_and_end(bert, long, kept):
    tokens = cut(bert, [LONG, SHORT, ""], long)
    assert words(tokens, bert) == [f"[CLS] {kept} [SEP]", "[CLS] a film [SEP]", "[CLS] [SEP]"]
    assert tokens.cut == 1 and tokens.rows is None


def test_a_text_that_just_fits_is_whole(bert):
    for long in ("head", "tail", "head_tail"):
        tokens = cut(bert, ["good fine great lovely", "good fine great"], long)
        assert words(tokens, bert)[0] == "[CLS] good fine great lovely [SEP]"
        assert tokens.cut == 0


def test_windows_go_from_the_beginning_to_the_end_in_equal_steps(bert):
    """Of four tokens, half of them the next one's too; a short text has one."""
    tokens = cut(bert, [SHORT, LONG, "bad"], {"name": "windows", "overlap": 0.5})
    assert words(tokens, bert) == [
        "[CLS] a film [SEP]",
        "[CLS] good fine great lovely [SEP]",
        "[CLS] great lovely bad poor [SEP]",
        "[CLS] bad poor awful dull [SEP]",
        "[CLS] bad [SEP]",
    ]
    assert tokens.rows.tolist() == [0, 1, 1, 1, 2]
    assert tokens.cut == 0


def test_more_windows_than_wanted_leave_gaps(bert):
    tokens = cut(bert, [LONG, SHORT], {"name": "windows", "overlap": 0.0, "most": 2}, max_length=5)
    assert words(tokens, bert)[:2] == ["[CLS] good fine great [SEP]", "[CLS] poor awful dull [SEP]"]
    assert tokens.cut == 1
    once = cut(bert, [LONG, SHORT], {"name": "windows", "most": 1})
    assert words(once, bert) == words(cut(bert, [LONG, SHORT], "head"), bert)
    assert once.cut == 1


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_windows_cover_every_token(bert, overlap):
    """Texts of 0 to 60 tokens, read by windows of 7."""
    texts = Texts.read(make_rows(["a " * n for n in range(61)]), bert)
    long = long_of({"name": "windows", "overlap": overlap, "most": 100})
    some = cut_texts(texts, 9, long)
    whole, (first,) = texts.columns[0], [p for p in some.first if p.lengths.any()]
    shared = round(7 * overlap)
    for row in range(61):
        mine = some.rows == row
        starts, ends = first.starts[mine], first.ends[mine]
        assert starts[0] == whole.starts[row] and ends[-1] == whole.ends[row]
        assert (ends[:-1] - starts[1:] >= shared).all()
        assert (ends - starts == min(row, 7)).all()
    assert some.cut == 0


# A random window


def drawn(tokens: Tokens, tokenizer: PreTrainedTokenizerBase, seed: int, epoch: int) -> list[str]:
    return words(tokens.for_epoch(seed, epoch), tokenizer)


def test_a_random_window_is_another_in_each_epoch(bert):
    """It hangs on seed, epoch and row alone: whatever rows follow, and in whatever order it is asked."""
    tokens = cut(bert, [LONG, SHORT, LONG], "random", training=True)
    epochs = [drawn(tokens, bert, 0, epoch) for epoch in range(8)]
    assert len({row[0] for row in epochs}) > 2 and any(row[0] != row[2] for row in epochs)
    assert {row[1] for row in epochs} == {"[CLS] a film [SEP]"}
    assert drawn(tokens, bert, 0, 3) == epochs[3]
    assert [drawn(tokens, bert, 1, epoch) for epoch in range(8)] != epochs
    more = cut(bert, [LONG, SHORT, LONG, LONG], "random", training=True)
    assert drawn(more.for_epoch(7, 7), bert, 0, 3)[:3] == epochs[3]


def test_random_windows_come_from_everywhere(bert):
    """Guards the last place: a draw that is never rounded up would miss it."""
    tokens = cut(bert, [LONG], "random", training=True)
    split = LONG.split()
    places = [f"[CLS] {' '.join(split[i : i + 4])} [SEP]" for i in range(5)]
    seen = [drawn(tokens, bert, 0, epoch)[0] for epoch in range(200)]
    counts = [seen.count(place) for place in places]
    assert sum(counts) == 200 and min(counts) > 20


def test_an_epoch_changes_nothing_else(bert):
    """Lengths (which make the batches), types and what lies beside the tokens stay."""
    tokens = cut(bert, [LONG, SHORT], "random", training=True)
    other = tokens.for_epoch(0, 1)
    assert other.lengths.tolist() == tokens.lengths.tolist() == [6, 4]
    assert (other.cut, other.pad_id, other.types) == (1, 0, None)
    for long in ("head", "tail", "windows"):
        tokens = cut(bert, [LONG, SHORT], long, training=True)
        assert tokens.for_epoch(0, 1) is tokens


def test_random_windows_are_predicted_by_several_fixed_ones(bert):
    """As few as cover the text, four at most."""
    tokens = cut(bert, [LONG, SHORT, f"{LONG} {LONG} {LONG}"], "random")
    assert words(tokens, bert)[:3] == [
        "[CLS] good fine great lovely [SEP]",
        "[CLS] bad poor awful dull [SEP]",
        "[CLS] a film [SEP]",
    ]
    assert tokens.rows.tolist() == [0, 0, 1, 2, 2, 2, 2]
    assert tokens.redraw is None


# Keywords and terms


def test_words_of_spaced_and_unspaced_scripts():
    assert words_of("Das Gute-Buch, e 42") == ["das", "gute", "buch", "42"]
    assert words_of("质量很差 iPhone手机") == ["质量", "量很", "很差", "iphone", "手机"]
    assert words_of("好 a") == []


def table_of(*texts: str) -> KeywordTable:
    return KeywordTable.fit(texts)


TABLE_TEXTS = ["film plot cast", "film plot song", "film cast", "film song", "film dull", "a dull"]


def test_a_table_is_the_inverse_document_frequency():
    """Smoothed as scikit-learn does; a word of one text, or of one letter, is none."""
    table = table_of(*TABLE_TEXTS, "once")
    assert table.words == ["cast", "dull", "film", "plot", "song"]
    np.testing.assert_allclose(table.idf, np.log(8 / np.array([3, 3, 6, 3, 3])) + 1)


def test_keywords_are_ranked_by_tf_idf():
    """`film` is everywhere, so it comes last; what comes twice is first; equals go by the alphabet."""
    table = table_of(*TABLE_TEXTS)
    found = table.top(["film song plot", "nothing", "plot song Song"], 2)
    assert found.counts.tolist() == [2, 0, 2]
    assert found.words == ["plot", "song", "song", "plot"]
    assert table_of("one", "two").top(["one two"], 3).words == []


def test_what_is_everywhere_is_no_keyword_by_its_number_alone():
    """`the` stands in every text, ten times in a long one; counted so, it would be the first keyword."""
    table = table_of(*["the film"] * 18, *["the song"] * 2)
    assert table.top(["the the the the song"], 1).words == ["song"]


def test_keywords_are_appended_to_texts_that_are_cut(bert):
    text = "a a a a a a a plot film song"
    table = table_of(*TABLE_TEXTS)
    tokens = cut(
        bert, [text, "a song"], {"name": "keywords", "count": 2}, max_length=8, table=table
    )
    assert words(tokens, bert) == ["[CLS] a a a a plot song [SEP]", "[CLS] a song [SEP]"]
    assert tokens.cut == 1


def test_keywords_as_a_segment(bert):
    """A separator after each, and the token type of a second text."""
    text = "a a a a a a a plot film song"
    long = {"name": "keywords", "count": 2, "segment": True}
    tokens = cut(
        bert, [text, "a song"], long, max_length=10, table=table_of(*TABLE_TEXTS), types=True
    )
    assert words(tokens, bert)[0] == "[CLS] a a a a [SEP] plot [SEP] song [SEP]"
    assert tokens.types.tolist() == [0] * 6 + [1] * 4 + [0] * 4


def test_terms_are_a_segment_of_every_text_that_has_them(bert):
    long = {"name": "terms", "terms": ["Film", "bad plot", "plot"]}
    texts = ["a bad  plot film", "a song", f"film {LONG} film plot"]
    tokens = cut(bert, texts, long, max_length=12, types=True)
    assert words(tokens, bert) == [
        "[CLS] a bad plot film [SEP] bad plot [SEP] plot [SEP]",
        "[CLS] a song [SEP]",
        "[CLS] film good fine great lovely bad [SEP] film [SEP] plot [SEP]",
    ]
    assert tokens.types.tolist() == [0] * 6 + [1] * 5 + [0] * 4 + [0] * 8 + [1] * 4
    assert tokens.cut == 1


def test_terms_are_whole_words_but_in_unspaced_scripts():
    texts = ["refunds refund REFUND", "质量很差iphone坏了", "x c++", "ﬁne", "refunds, overfund"]
    found = find_terms(texts, ["refund", "iPhone", "很差", "C++", "fine", "fund"])
    assert found.counts.tolist() == [1, 2, 1, 1, 0]
    assert found.words == ["refund", "很差", "iPhone", "C++", "fine"]


def test_words_take_half_of_the_length_at_most(bert):
    """A word that has no room is left out whole, with its separator."""
    long = {"name": "terms", "terms": ["film", "plot", "cast", "song"]}
    tokens = cut(bert, [f"{LONG} film plot cast song", "film plot"], long, max_length=10)
    assert words(tokens, bert) == [
        "[CLS] good fine great lovely [SEP] film [SEP] plot [SEP]",
        "[CLS] film plot [SEP] film [SEP] plot [SEP]",
    ]
    assert words(cut(bert, ["film plot cast song"], long, max_length=4), bert) == [
        "[CLS] film plot [SEP]"
    ]


# Every tokenizer


ODD = [
    "",
    " ",
    "a",
    "good film",
    LONG,
    f"{LONG} {LONG}",
    "x [SEP] y </s> z <sep>",
    "今天天气非常好",
]


@pytest.mark.parametrize("preset", FAMILIES)
def test_the_head_is_what_the_tokenizer_itself_makes_of_a_text(preset, tokenizer_of):
    """Guards the default path: the same ids and types as the tokenizer's own truncation gives."""
    tokenizer = tokenizer_of(preset)
    pairs = [(a, b) for a in ODD for b in ODD]
    for texts in (ODD, pairs):
        columns = list(zip(*texts, strict=True)) if texts is pairs else [texts]
        for length in (5, 6, 7, 12, 13, 200):
            options = {"truncation": "longest_first", "max_length": length}
            given = tokenizer(*map(list, columns), return_token_type_ids=True, **options)
            tokens = tokenise(make_rows(texts), tokenizer, max_length=length, types=True)
            expected = given["input_ids"]
            assert tokens.flat.tolist() == [i for ids in expected for i in ids]
            assert tokens.lengths.tolist() == [len(ids) for ids in expected]
            kinds = [t for types in given["token_type_ids"] for t in types]
            assert tokens.types is None if not any(kinds) else tokens.types.tolist() == kinds


@pytest.mark.parametrize("preset", FAMILIES)
def test_special_tokens_are_in_their_places(preset, tokenizer_of):
    """Whatever is cut: the tokenizer's own before, between and after, and never more than the limit."""
    tokenizer = tokenizer_of(preset)
    before, between, after = SPECIAL[preset]
    special = {*before, *between, *after}
    table = table_of(LONG, LONG)
    for long in (*STRATEGIES.values(), {"name": "terms", "terms": ["fine", "dull"]}):
        for training in (False, True):
            tokens = cut(tokenizer, [LONG, SHORT], long, 24, table=table, training=training)
            for line in words(tokens.for_epoch(0, 1), tokenizer):
                row = line.split()
                assert len(row) <= 24
                assert row[: len(before)] == before and row[-len(after) :] == after
                inner = row[len(before) : -len(after)]
                parted = "\n".join("|" if t in special else "x" for t in inner)
                seps = parted.replace("\n", "").split("x")
                assert {s for s in seps if s} <= {"|" * len(between)}
        assert tokens.lengths.max() <= 24


@pytest.mark.parametrize("preset", FAMILIES)
def test_a_segment_stands_as_the_tokenizers_second_text(preset, tokenizer_of):
    """Ids and types of text and term are those of a pair; RoBERTa has two separators, XLNet ends in
    its class token."""
    tokenizer = tokenizer_of(preset)
    long = {"name": "terms", "terms": ["film"]}
    tokens = cut(tokenizer, ["a film"], long, 60, types=True)
    pair = tokenizer(["a film"], [" film"], return_token_type_ids=True)
    assert tokens.flat.tolist() == pair["input_ids"][0]
    kinds = pair["token_type_ids"][0]
    assert (tokens.types.tolist() if tokens.types is not None else [0] * len(kinds)) == kinds


def test_types_go_only_to_backbones_that_have_them(bert, tokenizer_of):
    for preset, long in (("bert", LISTED), ("roberta", LISTED)):
        assert cut(tokenizer_of(preset), ["a film"], long, 30, types=False).types is None


# Prefixes and pairs


def test_a_prefix_stands_before_every_window(bert):
    """`query: ` is how the backbone was trained; a cut that loses it would be another input."""
    options = {"prefix": "film a ", "max_length": 8}
    for long, lines in {
        "head": ["good fine great lovely"],
        "tail": ["bad poor awful dull"],
        "head_tail": ["good poor awful dull"],
        "windows": ["good fine great lovely", "great lovely bad poor", "bad poor awful dull"],
    }.items():
        setting = {"name": "windows", "overlap": 0.5} if long == "windows" else long
        expected = [f"[CLS] film a {line} [SEP]" for line in lines]
        assert words(cut(bert, [LONG], setting, **options), bert) == expected
    tokens = cut(bert, [LONG], "random", training=True, **options)
    assert all(drawn(tokens, bert, 0, e)[0].startswith("[CLS] film a ") for e in range(5))


def test_a_prefix_is_no_keyword_and_no_term(bert):
    tokens = cut(bert, ["a good plot"], {"name": "terms", "terms": ["film"]}, 12, prefix="film ")
    assert words(tokens, bert) == ["[CLS] film a good plot [SEP]"]


@pytest.mark.parametrize(
    "long, first, second",
    [
        ("head", "good fine great", "bad poor awful"),
        ("tail", "fine great lovely", "poor awful dull"),
        ({"name": "head_tail", "share": 0.34}, "good great lovely", "bad awful dull"),
    ],
)
def test_each_text_of_a_pair_is_cut_in_the_same_way(bert, long, first, second):
    pair = ("good fine great lovely", "bad poor awful dull")
    tokens = cut(bert, [pair, ("good", "bad"), ("film", LONG)], long, 9, types=True)
    lines = words(tokens, bert)
    assert lines[0] == f"[CLS] {first} [SEP] {second} [SEP]"
    assert lines[1] == "[CLS] good [SEP] bad [SEP]"
    assert lines[2].startswith("[CLS] film [SEP] ") and len(lines[2].split()) == 9
    assert tokens.types[:9].tolist() == [0] * 5 + [1] * 4
    assert tokens.cut == 2


@pytest.mark.parametrize("long", ["random", "windows", "keywords", LISTED], ids=str)
def test_other_strategies_are_for_single_texts(bert, long):
    with pytest.raises(InputError) as e:
        cut(bert, [("good", "bad")], long)
    assert str(e.value) == (
        f"long {long_of(long).name} is for single texts, but this competition has sentence pairs: "
        "take one of head, tail, head_tail"
    )


def test_a_length_without_room_is_refused(bert):
    with pytest.raises(InputError) as e:
        cut(bert, [LONG], "windows", 5, prefix="a bad film ")
    assert str(e.value) == (
        "training.max_length 5 leaves no token for the text beside the special ones and the prefix: "
        "raise it"
    )


# The length


def test_auto_is_the_least_length_with_room_for_the_share_of_rows(bert):
    """Texts of 1 to 20 tokens and two special ones: 19 of 20 fit in 21."""
    texts = Texts.read(make_rows([" ".join("a" * n) for n in range(1, 21)]), bert)
    for quantile, length in {0.95: 21, 0.951: 22, 0.5: 12, 1.0: 22, 0.01: 4}.items():
        assert auto_length(texts, quantile) == length
    pair = Texts.read(make_rows([("a a", "a"), ("a", "")]), bert)
    assert auto_length(pair, 1.0) == 6


def test_a_run_reports_the_length_and_what_is_cut(place_of, tmp_path, capsys):
    rows = make_rows([" ".join("a" * n) for n in range(1, 21)])
    training = {"max_length": "auto", "length_quantile": 0.8, "epochs": 1}
    learner = make_learner(place_of("bert"), training=training)
    facts = learner.fit(rows, None, tmp_path)
    assert (facts["max_length"], facts["cut_share"]) == (18, 0.2)
    assert "20 rows, 12.0 tokens on average, 20.0% cut at 18; computing" in capsys.readouterr().out
    learner.save(tmp_path / "model")
    assert read_json(tmp_path / "model/classifier.json")["max_length"] == 18
    loaded = make_learner(place_of("bert"), training=training)
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_auto_goes_no_further_than_the_backbone(place_of, tmp_path, capsys):
    learner = make_learner(place_of("bert"), training={"max_length": "auto", "length_quantile": 1})
    learner.prepare(make_rows(["a " * 70, "a"]))
    assert learner.encoder.max_length == 64
    assert capsys.readouterr().out == (
        "the length 72, enough for 100% of the rows, is more than the backbone's 64 positions: "
        "using 64\n"
    )


def test_auto_looks_at_the_rows_to_learn_from_alone(place_of, tmp_path):
    """The rows that choose the epoch, and those predicted, are longer: it does not matter."""
    training = {"max_length": "auto", "length_quantile": 1, "epochs": 1, "select": "inner"}
    learner = make_learner(place_of("bert"), training=training)
    longer = make_rows(["good " * 30, "bad " * 30])
    assert learner.fit(make_rows(["a good film", "bad"]), longer, tmp_path)["max_length"] == 5


# In a run


ROWS = [f"{w} {LONG if i % 2 else 'cast ' * 9} {w} film" for i, w in enumerate(LONG.split() * 2)]


def fitted(
    place: Path, folder: Path, texts: list, *, select: list | None = None, **settings: object
) -> TransformerLearner:
    folder.mkdir(exist_ok=True)
    training = {"max_length": 8} | settings.pop("training", {})
    learner = make_learner(place, training=training, **settings)
    learner.fit(make_rows(texts), make_rows(select) if select else None, folder)
    return learner


@pytest.fixture(scope="module")
def plain(place_of, tmp_path_factory) -> np.ndarray:
    learner = fitted(place_of("bert"), tmp_path_factory.mktemp("plain"), ROWS)
    return learner.predict(make_rows(ROWS))


@pytest.mark.parametrize(
    "settings",
    [
        {"long": "tail"},
        {"long": "head_tail"},
        {"long": {"name": "head_tail", "share": 0.6}},
        {"long": "random"},
        {"long": {"name": "random", "most": 1}},
        {"long": "windows"},
        {"long": {"name": "windows", "overlap": 0.5}},
        {"long": {"name": "windows", "most": 2}},
        {"long": "keywords"},
        {"long": {"name": "keywords", "count": 1}},
        {"long": {"name": "keywords", "segment": True}},
        {"long": LISTED},
        {"training": {"max_length": "auto"}},
        {"training": {"max_length": "auto", "length_quantile": 0.5}},
    ],
    ids=str,
)
def test_each_setting_changes_the_predictions(place_of, plain, tmp_path, settings):
    """And what is stored predicts the very same."""
    learner = fitted(place_of("bert"), tmp_path / "run", ROWS, **settings)
    rows = make_rows(ROWS)
    predicted = learner.predict(rows)
    assert predicted.shape == plain.shape and np.abs(predicted - plain).max() > 1e-5
    learner.save(tmp_path / "model")
    loaded = TransformerLearner(learner.settings, LearnerContext(learner.task))
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == predicted.tobytes()


@pytest.mark.parametrize("long", STRATEGIES.values(), ids=list(STRATEGIES))
def test_short_texts_are_the_same_under_every_strategy(place_of, tmp_path, long):
    texts = ["good film", "a bad plot", "fine", "dull song end"] * 4
    predictions = [
        fitted(place_of("bert"), tmp_path / str(i), texts, long=some).predict(make_rows(texts))
        for i, some in enumerate(("head", long))
    ]
    assert predictions[0].tobytes() == predictions[1].tobytes()


def test_a_row_is_the_mean_of_its_windows(place_of, tmp_path):
    """Against one window after the other, each predicted as a text of its own."""
    learner = fitted(place_of("bert"), tmp_path / "run", ROWS, long=STRATEGIES["windows"])
    texts = [LONG, SHORT, " ".join([LONG] * 3)]
    predicted = learner.predict(make_rows(texts))
    for text, row in zip(texts, predicted, strict=True):
        split = text.split()
        beyond = max(len(split) - 6, 0)
        steps = math.ceil(beyond / 3)
        starts = [beyond * i // steps for i in range(steps + 1)] if steps else [0]
        pieces = [" ".join(split[i : i + 6]) for i in starts]
        alone = np.concatenate([learner.predict(make_rows([piece])) for piece in pieces])
        np.testing.assert_allclose(row, alone.mean(axis=0), atol=1e-6)


def test_means_by_row():
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0], [7.0, 7.0]], dtype=np.float32)
    means = mean_by_row(values, np.array([0, 0, 0, 1]))
    assert means.tolist() == [[3.0, 2.0], [7.0, 7.0]] and means.dtype == np.float32
    assert mean_by_row(values, None) is values


def test_a_rows_windows_share_its_weight(place_of):
    """Else a text would count the more the longer it is."""
    learner = make_learner(place_of("bert"), training={"max_length": 6}, long=STRATEGIES["windows"])
    rows = make_rows([LONG, SHORT, LONG, "bad"])
    rows.weights[:] = [1, 2, 0.5, 1]
    examples = learner.prepare(rows)
    of = examples.tokens.rows
    assert of.tolist() == [0, 0, 0, 1, 2, 2, 2, 3]
    assert examples.targets[:, 0].tolist() == rows.targets[of, 0].tolist()
    np.testing.assert_allclose(np.bincount(of, examples.weights), rows.weights, rtol=1e-6)
    np.testing.assert_allclose(examples.weights[:3], 1 / 3)


def test_a_window_is_as_difficult_as_its_row(place_of):
    """Guards `sampling: hard`, which picks sequences: row numbers would be other rows' windows."""
    texts = [LONG, SHORT, LONG, "bad"]
    rows = replace(make_rows(texts), difficulty=np.array([0.0, 1.0, 0.0, 3.0]))
    training = {"max_length": 6, "sampling": {"name": "hard", "model": "m"}}
    learner = make_learner(place_of("bert"), training=training, long=STRATEGIES["windows"])
    examples = learner.prepare(rows)
    given = learner.encoder.epochs(rows, examples, learner.settings.training, seed=0)(0)
    assert given.difficulty.tolist() == [0, 0, 0, 1, 0, 0, 0, 3]


def test_the_time_of_a_row_is_that_of_its_windows(place_of):
    """Guards the estimate before a demo: a window's number is no row's."""
    learner = make_learner(place_of("bert"), training={"max_length": 6}, long="windows")
    measured = learner.measure(make_rows(ROWS), learned=160, updates=2)
    assert 0 < measured.row_seconds < 10
    assert measured.fit_seconds == pytest.approx(160 * 2 / measured.learned_per_second)


def test_rows_that_choose_the_epoch_are_judged_whole(place_of, tmp_path, capsys):
    """They have several windows each, and one prediction."""
    options = {"long": "windows", "training": {"select": "inner", "max_length": 6}}
    learner = fitted(place_of("bert"), tmp_path / "run", ROWS, select=ROWS[:4], **options)
    assert " rows in " in capsys.readouterr().out
    assert learner.predict(make_rows(ROWS)).shape == (16, 1)


def test_keywords_know_the_rows_to_learn_from_alone(place_of, tmp_path):
    """Another text to choose the epoch by, and other texts predicted, change no byte of the table."""
    options = {"long": "keywords", "training": {"select": "inner"}}
    tables = []
    for name, select in {"a": ROWS[:4], "b": ["song joke scene end " * 5, "joke song"]}.items():
        learner = fitted(place_of("bert"), tmp_path / name, ROWS, select=select, **options)
        learner.predict(make_rows(["start joke " * 9, "joke"]))
        learner.save(tmp_path / name / "model")
        tables.append((tmp_path / name / "model/keywords.json").read_bytes())
    assert tables[0] == tables[1]
    assert read_json(tmp_path / "a/model/keywords.json")["words"] == sorted(
        {*LONG.split(), "cast", "film"}
    )


def test_keywords_are_stored_and_restored_to_the_byte(place_of, tmp_path):
    learner = fitted(place_of("bert"), tmp_path / "run", ROWS, long="keywords")
    learner.save(tmp_path / "first")
    loaded = TransformerLearner(learner.settings, LearnerContext(learner.task))
    loaded.load(tmp_path / "first")
    loaded.save(tmp_path / "second")
    first, second = ((tmp_path / n / "keywords.json").read_bytes() for n in ("first", "second"))
    assert first == second


def test_texts_without_common_words_have_no_keywords(place_of, tmp_path):
    texts = ["good " * 9, "bad " * 9]
    learner = fitted(place_of("bert"), tmp_path / "run", texts, long="keywords")
    assert learner.encoder.keywords.words == []
    learner.predict(make_rows(["good " * 20, ""]))


# Settings


@pytest.mark.parametrize("long", [*STRATEGIES.values(), LISTED, "tail"], ids=str)
def test_a_stored_run_has_its_settings_again(long):
    """As run.json keeps them, `auto` too: the model that is loaded cuts as the one that was trained."""
    training = {"max_length": "auto", "length_quantile": "0.5"}
    given = {"learner": "transformer", "backbone": "b", "long": long, "training": training}
    settings = validate(TransformerSettings, given, "p.yaml")
    stored = json.loads(json.dumps(identity(settings)))
    assert stored_settings(stored) == settings
    assert settings.training.max_length == "auto"


@pytest.mark.parametrize(
    "settings, sentence",
    [
        (
            {"long": "heads"},
            "setting 'long' is 'heads': did you mean 'head'?",
        ),
        (
            {"long": {"name": "windows", "overlap": "1"}},
            "setting 'long.overlap' is '1': input should be less than 1",
        ),
        (
            {"long": {"name": "windows", "stride": "1"}},
            "unknown setting 'long.stride': known: most, name, overlap",
        ),
        ({"long": "terms"}, "setting 'long.terms' is missing: add `long.terms: …`"),
        (
            {"long": {"name": "terms", "terms": ["a", " "]}},
            "setting 'long.terms' is ['a', ' ']: a term is empty: remove it",
        ),
        (
            {"training": {"max_length": "long"}},
            "setting 'training.max_length' is 'long': input should be a valid integer, unable to parse "
            "string as an integer",
        ),
        (
            {"training": {"max_length": "3"}},
            "setting 'training.max_length' is '3': input should be greater than or equal to 4",
        ),
        (
            {"long": "random", "training": {"freeze_backbone": "true"}},
            "long random reads another window in each epoch, but freeze_backbone runs the backbone "
            "once: set one of them only",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_are_refused_in_a_sentence(settings, sentence):
    with pytest.raises(InputError) as e:
        validate(
            TransformerSettings, {"learner": "transformer", "backbone": "b"} | settings, "p.yaml"
        )
    assert str(e.value) == f"p.yaml: {sentence}"
