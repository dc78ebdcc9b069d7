"""Augmentation: what each technique makes of a text, on what a text depends, what rows carry over."""

from __future__ import annotations

import copy
import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoTokenizer

from foldstack.errors import InputError
from foldstack.rows import Rows
from foldstack.techniques import SpanMasking, TransformerSettings
from foldstack.text.augment import Augmenter, augmented, wash
from foldstack.text.augment.split import split_words
from foldstack.text.spans import mask_spans
from foldstack.text.tokens import tokenise
from makers import make_rows

TEXTS = [
    "The film was surprisingly good, and I don't regret watching it 10 times!",
    "A dull plot;\n  the actors look bored throughout the whole evening.",
    "One of the best pictures about friendship, because of that worth seeing.",
]
CHINESE = ["这部电影很好看，我还想看。", "情节太无聊了！", "演员很好"]
NAMES = [
    "keyboard",
    "ocr",
    "swap_characters",
    "spelling",
    "swap_words",
    "delete_words",
    "crop_words",
    "tfidf_words",
    "insert_stop_words",
    "insert_punctuation",
]


def rows_of(texts: list[str] | list[tuple[str, ...]], targets: np.ndarray | None = None) -> Rows:
    """Rows that differ in every column, with targets one-hot by default."""
    number = np.arange(len(texts))
    return make_rows(
        texts,
        np.eye(len(texts)) if targets is None else targets,
        weights=np.linspace(0.5, 1, len(texts)),
        groups=number // 2,
        features=number[:, None].astype(float),
    )


def settings_of(*augment: object) -> tuple:
    given = {"learner": "transformer", "backbone": "x", "augment": augment}
    return TransformerSettings.model_validate(given).augment


def augmenter(*augment: object, train: list[str] = TEXTS) -> Augmenter:
    return Augmenter.of(settings_of(*augment), rows_of(train))


def changed(technique: object, texts: list[str] = TEXTS, seed: int = 0) -> list[str]:
    """The texts, each changed by this one technique, fitted on these texts too."""
    return [t for (t,) in augmenter(technique, train=texts).copies(rows_of(texts), 1, seed).texts]


# Words


def test_a_text_is_its_words_and_what_stands_between_them():
    """nlpaug's tokenizer makes three of "don't" and forgets line breaks."""
    text = "Don't  look,\nit's a good film!! 😀 "
    words = split_words(text)
    assert words.words == ["Don't", "look", "it's", "a", "good", "film"]
    assert words.gaps == ["", "  ", ",\n", " ", " ", " ", "!! 😀 "]
    assert str(words) == text


def test_a_character_is_a_word_where_no_spaces_are_written():
    assert split_words("好看，ラーメンは good").words == [*"好看ラーメンは", "good"]
    assert split_words("ดีร์").words == ["ดี", "ร์"]  # a letter keeps its marks
    assert split_words("हिन्दी में").words == ["हिन्दी", "में"]


def test_what_goes_takes_the_space_before_it_along():
    words = split_words("A good, long film.")
    assert words.kept([0, 2, 3]) == "A, long film."
    assert words.kept([1, 2, 3]) == "good, long film."
    assert words.kept([0, 1, 2]) == "A good, long."


def test_what_comes_is_spaced_as_the_word_is():
    assert split_words("a film").inserted({1: ","}) == "a , film"
    assert split_words("电影").inserted({1: "，"}) == "电，影"


# Techniques


@pytest.mark.parametrize(
    ("technique", "text"),
    [
        ("keyboard", "The fikm was surprisingly good, and I don't regret watching it 10 tikes!"),
        ("swap_words", "film The was surprisingly and, good I don't regret watching it 10 times!"),
        ("delete_words", "film was surprisingly good, I don't regret watching it 10 times!"),
        ("crop_words", "was surprisingly good, and I don't regret watching it 10 times!"),
    ],
)
def test_the_same_seed_gives_this_very_text(technique, text):
    assert changed(technique)[0] == text


@pytest.mark.parametrize("name", ["keyboard", "swap_characters", "swap_words", "tfidf_words"])
def test_what_stands_between_the_words_stays(name):
    """A line break and two spaces among it, which nlpaug drops."""
    after = changed({"name": name, "share": 0.5})
    for old, new in zip(TEXTS, after, strict=True):
        assert new != old
        assert re.findall(r"[\s.,;!]+", new) == re.findall(r"[\s.,;!]+", old)


@pytest.mark.parametrize("name", ["keyboard", "ocr", "swap_characters", "spelling"])
def test_the_share_of_words_that_is_touched(name):
    """12 words: 2 of them at 0.1, all that it knows at 1. nlpaug stops at 10 however long a text is."""
    words = (
        "watching friendship receive because separate definitely believe beginning government " * 2
    )
    before = split_words(words).words
    for share, least, most in ((0.1, 1, 2), (1.0, 12, 18)):
        after = split_words(changed({"name": name, "share": share}, [words])[0]).words
        assert len(after) == len(before)
        assert least <= sum(a != b for a, b in zip(before, after, strict=True)) <= most


@pytest.mark.parametrize("name", ["keyboard", "ocr", "swap_characters"])
def test_the_share_of_characters_in_a_touched_word(name):
    def differing(characters: float) -> int:
        technique = {"name": name, "share": 1.0, "characters": characters}
        after = changed(technique, ["Oocgrosl Zsbogluo"])[0]
        return sum(a != b for a, b in zip("Oocgrosl Zsbogluo", after, strict=True))

    assert differing(0.1) <= 4 < differing(0.9)


def test_keyboard_types_a_neighbouring_key_of_the_same_kind():
    """nlpaug's own makes capitals, digits and a space (beside `u`) of small letters."""
    technique = {"name": "keyboard", "share": 1.0, "characters": 1.0}
    after = changed(technique, ["uuuuuuuuuuuu UUUUUUUUUUUU 1111111111"])[0].split()
    assert set(after[0]) <= set("yihjkt") and set(after[1]) <= set("YIHJKT")
    assert set(after[2]) == {"2"}


def test_keyboard_of_another_language():
    technique = {"name": "keyboard", "language": "uk", "share": 1.0}
    assert changed(technique, ["фільм чудовий"]) != ["фільм чудовий"]


def test_keyboard_languages_are_those_that_the_library_ships():
    from nlpaug.util import LibraryUtil

    shipped = Path(LibraryUtil.get_res_dir(), "char", "keyboard").glob("*.json")
    for language in (path.stem for path in shipped):
        settings_of({"name": "keyboard", "language": language})


def test_spelling_goes_from_right_to_wrong():
    """`look` stands in the dictionary as a misspelt `luck`, which must not come of it."""
    look = rows_of(["look"])
    fitted = augmenter({"name": "spelling", "share": 1.0}, train=["look"])
    seen = {fitted.copies(look, 1, seed).texts[0][0] for seed in range(60)}
    assert "luck" not in seen and len(seen) > 1


def test_swap_keeps_the_words_and_moves_one_past_its_neighbour():
    before = split_words("one two three four five").words
    after = split_words(changed("swap_words", ["one two three four five"])[0]).words
    assert sorted(after) == sorted(before)
    moved = [i for i in range(5) if after[i] != before[i]]
    assert len(moved) == 2 and moved[1] == moved[0] + 1


def test_crop_leaves_out_one_run_of_words():
    """nlpaug's fails where one word is to go, and wraps from the first word to the last."""
    before = list("abcdefghij")
    for seed in range(20):
        after = changed({"name": "crop_words", "share": 0.3}, [" ".join(before)], seed)[0].split()
        start = next(i for i in range(10) if i == len(after) or after[i] != before[i])
        assert after == before[:start] + before[start + 3 :]


@pytest.mark.parametrize("name", ["delete_words", "crop_words"])
def test_a_word_is_left(name):
    for seed in range(10):
        (after,) = changed({"name": name, "share": 1.0}, ["one two three"], seed)
        assert after


def test_tfidf_replaces_words_that_say_little():
    """`the` stands in each text, `q1` … in one only; a name that says much goes last and never comes."""
    texts = [f"the a q{i}" for i in range(30)]
    after = [t.split() for s in range(5) for t in changed("tfidf_words", texts, s)]
    kept = np.mean([text[2].startswith("q") for text in after])
    assert kept > 0.95
    came = [w for text in after for w in text[:2] if w not in ("the", "a")]
    assert len(came) < 0.6 * len(after)  # 30 of 32 words of the vocabulary are names


def test_tfidf_words_come_from_the_training_rows_of_the_run_alone():
    """nlpaug keeps the first model of a process: a second run would use words of its held-out fold."""
    augmenter("tfidf_words", train=["secret words of another fold"])
    known = set(" ".join(["a b c d", "b c d e"]).split())
    fitted = augmenter({"name": "tfidf_words", "share": 1.0}, train=["a b c d", "b c d e"])
    for seed in range(10):
        for (text,) in fitted.copies(rows_of(["a b c d", "secret e"]), 1, seed).texts:
            assert set(text.split()) <= known


def test_punctuation_is_inserted_between_words_that_stay():
    """Karimi et al. 2021: from one mark to three for ten words, never inside a word."""
    counts = set()
    for seed in range(20):
        (after,) = changed("insert_punctuation", ["a b c d e f g h i j"], seed)
        marks = [w for w in after.split() if w in list(".;?:!,")]
        assert [w for w in after.split() if w not in marks] == list("abcdefghij")
        counts.add(len(marks))
    assert counts == {1, 2, 3}
    (chinese,) = changed("insert_punctuation", ["演员很好"])
    assert set(chinese) - set("演员很好") <= set("。；？：！，") and len(chinese) > 4


def test_stop_words_are_english_or_the_most_frequent_words_of_the_training_rows():
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    (after,) = changed({"name": "insert_stop_words", "share": 1.0}, ["the plot"])
    assert after.split()[1::2] == ["the", "plot"]
    assert set(after.split()[::2]) <= ENGLISH_STOP_WORDS
    (after, *_) = changed({"name": "insert_stop_words", "words": "frequent"}, CHINESE)
    assert len(after) > len(CHINESE[0]) and set(after) <= set("".join(CHINESE))


def test_synonyms_are_from_wordnet(monkeypatch):
    """A WordNet of one entry: what nlpaug asks of nltk, and that nothing is downloaded."""
    from nlpaug.model.word_dict import wordnet as module

    def synsets(word: str, pos: str | None = None, lang: str = "eng") -> list:
        names = ["film", "motion_picture"] if word == "film" else []
        lemmas = [SimpleNamespace(name=lambda n=n: n) for n in names]
        return [SimpleNamespace(lemmas=lambda lang: lemmas)]

    wordnet = SimpleNamespace(synsets=synsets)
    nltk = SimpleNamespace(pos_tag=lambda words: [(w, "NN") for w in words])
    nltk.corpus = SimpleNamespace(wordnet=wordnet)
    for name, value in (("nltk", nltk), ("nltk.corpus", nltk.corpus)):
        monkeypatch.setitem(sys.modules, name, value)
    monkeypatch.setattr(module, "nltk", nltk, raising=False)
    monkeypatch.setattr(module, "wordnet", wordnet, raising=False)
    assert changed({"name": "synonyms", "share": 1.0}, ["a  film!"]) == ["a  motion picture!"]


# What is refused


def refused(*augment: object, train: list[str] = TEXTS) -> str:
    with pytest.raises(InputError) as e:
        augmenter(*augment, train=train)
    return str(e.value)


def test_synonyms_without_wordnet_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    assert refused("synonyms") == (
        "augment: synonyms needs nltk, WordNet and a tagger: run `pip install nltk` and `python -m "
        "nltk.downloader wordnet averaged_perceptron_tagger_eng`, or leave synonyms out"
    )


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("keyboard", "words of four letters or more on its `language`'s keyboard"),
        ("ocr", "Latin letters and digits"),
        ("swap_characters", "words of four letters or more"),
        ("spelling", "English words"),
    ],
)
def test_a_technique_for_another_script_is_refused_instead_of_doing_nothing(name, what):
    assert refused(name, train=CHINESE) == (
        f"augment: {name} changes none of the 3 training texts tried: it is for {what}, so leave it "
        "out here"
    )


def test_a_technique_that_changes_few_texts_says_so(capsys):
    augmenter("keyboard", train=[*CHINESE, "电影 film"])
    assert (
        "augment: keyboard changes only 1 of the 4 training texts tried" in capsys.readouterr().out
    )


def test_english_stop_words_in_chinese_are_refused():
    assert refused("insert_stop_words", train=CHINESE) == (
        "augment: insert_stop_words inserts English words, but the texts have none of them: "
        "set `words: frequent`, which takes the texts' own most frequent ones"
    )


def test_texts_without_words_are_refused():
    assert refused("swap_words", train=["", "!!", "😀"]) == (
        "augment: no training text has a word: leave augment out"
    )


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n.endswith("_words") and n != "insert_stop_words"]
)
def test_chinese_words_are_its_characters(name):
    for before, after in zip(CHINESE, changed(name, CHINESE), strict=True):
        assert after != before and after


# Settings


def test_a_name_is_short_for_a_technique_with_its_defaults():
    (one,) = settings_of("keyboard")
    assert (one.name, one.probability, one.share, one.language) == ("keyboard", 0.5, 0.1, "en")
    both = settings_of("keyboard", {"name": "swap_words", "share": 0.2})
    assert [t.share for t in both] == [0.1, 0.2]
    given = {"learner": "transformer", "backbone": "x"}
    assert TransformerSettings.model_validate(given | {"augment": "ocr"}).augment[0].name == "ocr"
    assert TransformerSettings.model_validate(given | {"augment": "none"}).augment == ()


def test_copies_without_a_technique_are_refused():
    given = {"learner": "transformer", "backbone": "x", "augment_copies": 2}
    with pytest.raises(
        ValidationError, match="augment_copies is 2, but augment names no technique"
    ):
        TransformerSettings.model_validate(given)


def test_texts_are_new_each_epoch_unless_there_are_copies():
    given = {"learner": "transformer", "backbone": "x", "augment": ["ocr"]}
    assert TransformerSettings.model_validate(given).new_texts_each_epoch
    assert not TransformerSettings.model_validate(
        given | {"augment_copies": 1}
    ).new_texts_each_epoch
    assert not TransformerSettings(learner="transformer", backbone="x").new_texts_each_epoch


def test_probability_is_of_rows():
    texts = [f"one two three four five {i}" for i in range(300)]
    online = augmenter({"name": "swap_words", "probability": 0.2}, train=texts)
    after = online.texts(rows_of(texts), seed=0, epoch=0)
    assert 0.1 < np.mean([a != (b,) for a, b in zip(after, texts, strict=True)]) < 0.3


# What a text depends on


def test_a_text_depends_on_seed_epoch_and_id_alone():
    rows, online = rows_of(TEXTS), augmenter(*NAMES)
    texts = online.texts(rows, seed=0, epoch=0)
    assert texts == online.texts(rows, seed=0, epoch=0)
    assert texts[::-1] == online.texts(rows.take(np.array([2, 1, 0])), seed=0, epoch=0)
    assert texts[1:2] == online.texts(rows.take(np.array([1])), seed=0, epoch=0)
    assert texts != online.texts(rows, seed=1, epoch=0)
    assert texts != online.texts(rows, seed=0, epoch=1)


def test_the_random_generators_of_the_process_stay_as_they_are():
    """nlpaug draws from Python's and numpy's."""

    def draw(between: bool) -> tuple:
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)
        if between:
            augmenter(*NAMES).copies(rows_of(TEXTS), 2, seed=0)
        return random.random(), np.random.rand(), float(torch.rand(1))

    assert draw(between=True) == draw(between=False)


@pytest.mark.slow
def test_another_process_with_half_of_the_rows_gives_the_same_texts(tmp_path):
    """nlpaug's list of misspellings comes in the order of a set, another in each process."""
    names = [{"name": name, "share": 0.5, "probability": 1.0} for name in NAMES]
    here = {
        t["name"]: augmenter(t).texts(rows_of(TEXTS).take(np.array([2, 1])), 3, 4) for t in names
    }
    script = (
        "import json, numpy as np\n"
        "from test_augment import *\n"
        "half = rows_of(TEXTS).take(np.array([2, 1]))\n"
        f"print(json.dumps({{t['name']: augmenter(t).texts(half, 3, 4) for t in {names!r}}}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": f"{Path(__file__).parent}:src", "PATH": ""},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == json.loads(json.dumps(here))


# Rows


def test_copies_carry_everything_but_text_id_and_origin():
    """Groups above all: a copy that came out equal must stay in its row's fold."""
    soft = np.array([[0.7, 0.3], [0.2, 0.8], [1.0, 0.0]])
    rows = replace(rows_of(TEXTS, soft), difficulty=np.array([0.1, 0.2, 0.3]))
    both = augmented(rows, settings_of("swap_words"), 2, seed=0)
    assert both.ids.tolist() == ["r0", "r1", "r2"] + [f"r{i}#{k}" for k in (1, 2) for i in range(3)]
    assert both.origin.tolist() == ["gold"] * 3 + ["augmented"] * 6
    assert both.texts[:3] == rows.texts
    assert len(set(both.texts)) == 9
    np.testing.assert_array_equal(both.targets, np.tile(soft, (3, 1)))
    np.testing.assert_array_equal(both.features, np.tile(rows.features, (3, 1)))
    for name in ("weights", "groups", "difficulty"):
        np.testing.assert_array_equal(getattr(both, name), np.tile(getattr(rows, name), 3))


def test_none_leaves_the_rows_alone():
    rows = rows_of(TEXTS)
    assert augmented(rows, (), 0, seed=0) is rows
    assert augmented(rows, settings_of("ocr"), 0, seed=0) is rows


def test_each_copy_is_touched_by_one_technique_at_least():
    rare = [{"name": n, "probability": 0.001} for n in ("swap_words", "insert_punctuation")]
    copies = augmenter(*rare).copies(rows_of(TEXTS), 3, seed=0)
    assert not set(copies.texts) & {(t,) for t in TEXTS}


def test_labels_change_no_text():
    """What a run learns of the rows for their texts' sake, it learns of the texts."""
    one = augmented(rows_of(TEXTS), settings_of(*NAMES), 1, seed=0)
    other = augmented(rows_of(TEXTS, np.eye(3)[::-1]), settings_of(*NAMES), 1, seed=0)
    assert one.texts == other.texts


def test_empty_and_one_character_texts_survive():
    short = ["", " ", "a", "好", "😀", "!"]
    fitted = augmenter(*({"name": n, "share": 1.0, "probability": 1.0} for n in NAMES))
    for seed in range(5):
        after = [t for (t,) in fitted.copies(rows_of(short), 1, seed).texts]
        assert [t for t, before in zip(after, short, strict=True) if not split_words(before).words] == [
            "", " ", "😀", "!",
        ]  # fmt: skip
        assert after[2] and after[3]


def test_each_text_of_a_pair_is_changed():
    pairs = [("one two three four", "five six seven eight"), ("a b c d", "")]
    rows = rows_of(pairs)
    (first, second) = Augmenter.of(settings_of("swap_words"), rows).copies(rows, 1, 0).texts
    assert first[0] != pairs[0][0] and first[1] != pairs[0][1]
    assert second[0] != "a b c d" and second[1] == ""


# Washing


def fixed(probabilities: dict[str, list[float]]):
    return lambda rows: np.array([probabilities[id_] for id_ in rows.ids])


def test_washing_drops_copies_whose_label_collapses():
    """r0: from .9 to .5 and to .4; r1: the run is wrong about the row itself, so its copies stay."""
    originals = rows_of(["a", "b"], np.array([[1.0], [0.0]]))
    copies = augmented(rows_of(["a b", "b c"], originals.targets), settings_of("swap_words"), 2, 0)
    copies = copies.take(np.arange(2, 6))
    run = fixed(
        {"r0": [0.9], "r1": [0.8], "r0#1": [0.5], "r0#2": [0.4], "r1#1": [0.85], "r1#2": [0.95]}
    )
    assert wash(originals, copies, run, "sigmoid").ids.tolist() == ["r0#1", "r1#1"]
    assert wash(originals, copies, run, "sigmoid", share=0.2).ids.tolist() == [
        "r0#1", "r1#1", "r0#2", "r1#2",
    ]  # fmt: skip


def test_washing_looks_at_the_given_class_and_at_each_of_several_labels():
    originals = rows_of(["a b"], np.array([[0.0, 1.0, 0.0]]))
    copies = augmented(originals, settings_of("swap_words"), 1, 0).take(np.array([1]))
    run = fixed({"r0": [0.1, 0.8, 0.1], "r0#1": [0.1, 0.45, 0.45]})
    assert len(wash(originals, copies, run, "softmax")) == 1
    run = fixed({"r0": [0.1, 0.9, 0.1], "r0#1": [0.1, 0.9, 0.6]})
    assert len(wash(originals, copies, run, "sigmoid")) == 0
    assert len(wash(originals, copies, run, "sigmoid", share=0.4)) == 1
    assert len(wash(originals, copies.take(np.array([], dtype=int)), run, "sigmoid")) == 0


def test_washing_of_soft_labels_counts_agreement():
    originals = rows_of(["a b"], np.array([[0.5, 0.5]]))
    copies = augmented(originals, settings_of("swap_words"), 1, 0).take(np.array([1]))
    run = fixed({"r0": [0.9, 0.1], "r0#1": [0.1, 0.9]})
    assert len(wash(originals, copies, run, "softmax", share=0.99)) == 1


def test_washing_a_regression_is_refused():
    rows = rows_of(["a"])
    with pytest.raises(InputError, match="which regression does not have: leave it out"):
        wash(rows, rows, fixed({}), "identity")


# Spans of tokens


@pytest.fixture(scope="module")
def tokenizer(backbone):
    return AutoTokenizer.from_pretrained(backbone)


LONG = ["a good film plot cast song end start scene joke bad poor", "a bad film", ""]


def masked(
    tokenizer, rows: Rows, epoch: int = 0, seed: int = 0, **settings: object
) -> list[list[int]]:
    tokens = tokenise(rows, tokenizer, max_length=16)
    out = mask_spans(tokens, rows.ids, tokenizer, SpanMasking(**settings), seed, epoch)
    return [p.tolist() for p in np.split(out.flat, out.offsets[1:-1])]


def test_spans_are_masked_and_special_tokens_never(tokenizer):
    """12 tokens at 0.5: 6 masks (4), in spans; [CLS] 2 and [SEP] 3 stay."""
    plain = [p.tolist() for p in np.split(*_flat(tokenizer))]
    for seed in range(10):
        rows = masked(tokenizer, rows_of(LONG), seed=seed, share=0.5, probability=1.0)
        assert [len(r) for r in rows] == [14, 5, 2]
        for before, after in zip(plain, rows, strict=True):
            assert (after[0], after[-1]) == (2, 3)
            assert all(a in (b, 4) for a, b in zip(after, before, strict=True))
        assert rows[0].count(4) == 6 and rows[1].count(4) in (1, 2)


def _flat(tokenizer):
    tokens = tokenise(rows_of(LONG), tokenizer, max_length=16)
    return tokens.flat, tokens.offsets[1:-1]


def test_spans_are_dropped(tokenizer):
    rows = masked(tokenizer, rows_of(LONG), share=0.5, probability=1.0, by="drop")
    assert [len(r) for r in rows] in ([8, 4, 2], [8, 3, 2])
    hidden = masked(tokenizer, rows_of(LONG), share=0.5, probability=1.0)
    assert [[t for t in r if t != 4] for r in hidden] == rows


def test_spans_have_the_mean_length_that_is_set(tokenizer):
    def runs(mean: float) -> float:
        """Masks for each run of masks."""
        lengths = []
        for seed in range(60):
            row = masked(
                tokenizer, rows_of(LONG[:1]), seed=seed, mean=mean, probability=1.0, share=0.3
            )
            text = "".join("x" if t == 4 else " " for t in row[0])
            lengths += [len(r) for r in text.split()]
        return float(np.mean(lengths))

    assert runs(1.0) < 1.5 < 2.2 < runs(5.0)


def test_spans_depend_on_seed_epoch_and_id_alone(tokenizer):
    rows, options = rows_of([LONG[0]] * 3), {"share": 0.4, "probability": 1.0}
    one = masked(tokenizer, rows, **options)
    assert one == masked(tokenizer, rows, **options)
    assert one[::-1] == masked(tokenizer, rows.take(np.array([2, 1, 0])), **options)
    assert one != masked(tokenizer, rows, epoch=1, **options)
    assert one != masked(tokenizer, rows, seed=1, **options)


def test_each_window_of_a_long_text_has_spans_of_its_own(tokenizer):
    """Three windows of two rows, all of the same words."""
    tokens = replace(
        tokenise(rows_of([LONG[0]] * 3), tokenizer, max_length=16), rows=np.array([0, 0, 1])
    )
    settings = SpanMasking(share=0.4, probability=1.0)
    out = mask_spans(tokens, ["r0", "r1"], tokenizer, settings, 0, 0)
    windows = [tuple(w) for w in np.split(out.flat, out.offsets[1:-1])]
    assert len(set(windows)) == 3
    alone = tokenise(rows_of(LONG[:1]), tokenizer, max_length=16)
    assert tuple(mask_spans(alone, ["r0"], tokenizer, settings, 0, 0).flat) == windows[0]


def test_types_stay_beside_their_tokens(tokenizer):
    """Of a pair: what is dropped takes its type along."""
    tokens = tokenise(rows_of(LONG[:1]), tokenizer, max_length=16)
    typed = replace(tokens, types=np.arange(len(tokens.flat), dtype=np.int8))
    settings = SpanMasking(share=0.5, probability=1.0, by="drop")
    out = mask_spans(typed, ["r0"], tokenizer, settings, 0, 0)
    assert len(out.types) == len(out.flat) == out.offsets[-1] == 8
    np.testing.assert_array_equal(tokens.flat[out.types], out.flat)


def test_spans_touch_a_row_with_their_probability(tokenizer):
    rows = rows_of([LONG[0]] * 200)
    touched = [4 in r for r in masked(tokenizer, rows, probability=0.3)]
    assert 0.2 < np.mean(touched) < 0.4


def test_a_tokenizer_without_a_mask_can_only_drop(tokenizer):
    bare = copy.deepcopy(tokenizer)
    bare.mask_token = None
    with pytest.raises(InputError) as e:
        masked(bare, rows_of(LONG))
    assert str(e.value) == (
        "training.mask_spans masks tokens, but this backbone's tokenizer has no mask token: set "
        "training.mask_spans.by=drop"
    )
    assert masked(bare, rows_of(LONG), by="drop")
