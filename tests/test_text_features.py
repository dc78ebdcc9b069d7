"""Features of a text: each by hand on a text that shows it, words as the augmentation parts them."""

import numpy as np
import pytest

from foldstack.text import features as module
from foldstack.text.augment.split import split_words
from foldstack.text.features import NAMES, feature_names, text_features
from makers import unlabelled

TEXTS = [
    "",
    "  \n ",
    "Don't stop! It costs 3.14 euros... OK?",
    "今天天气很好。你呢？ABC 12",
    "กี่ ที่นี่ café nai\u0308ve 'quoted' rock'n'roll ’",
    "SHOUTING AT @you and #them: https://a.b/c www.x.org mail@b.c 😀😀 sooooo",
    "Привет, МИР! one two Two TWO",
    "lone \ud800 surrogate\x00 and ١٢٣ digits؟",
]


def features_of(text):
    return dict(zip(NAMES, text_features(unlabelled([text]))[0], strict=True))


def test_words_are_those_that_augmentation_parts():
    """The slow reference: a regular expression; marks, apostrophes and scripts without spaces."""
    words = [split_words(text).words for text in TEXTS]
    found = text_features(unlabelled(TEXTS))
    counts = np.expm1(found[:, NAMES.index("log_words")])
    np.testing.assert_allclose(counts, [len(each) for each in words])
    distinct = [len({word.lower() for word in each}) / max(len(each), 1) for each in words]
    np.testing.assert_allclose(found[:, NAMES.index("distinct_words")], distinct)


def test_a_text_by_hand():
    """Guards a decimal point that ends a sentence, and shares of the wrong whole."""
    found = features_of("Hi THERE, you: pay 3.14!\nOr not?")
    letters, size, words = 3 - 1 + 5 + 3 + 3 + 2 + 3, 32, 8
    assert found["log_characters"] == pytest.approx(np.log(1 + size))
    assert found["log_words"] == pytest.approx(np.log(1 + words))  # 3 and 14 are two
    assert found["log_sentences"] == pytest.approx(np.log(1 + 2))
    assert found["log_lines"] == pytest.approx(np.log(2))
    assert found["digits"] == pytest.approx(3 / size)
    assert found["upper_case"] == pytest.approx(7 / letters)
    assert found["upper_words"] == pytest.approx(1 / words)
    assert found["punctuation"] == pytest.approx(5 / size)
    assert found["spaces"] == pytest.approx(6 / size)
    assert found["mean_word_length"] == pytest.approx((letters + 3) / words)
    assert (found["exclamations"], found["questions"]) == (1, 1)


def test_readability_is_the_automated_readability_index():
    """Smith & Senter 1967; a worked example of two sentences, 12 words, 50 letters."""
    text = "The river rose quickly overnight again. Nobody expected such heavy summer storms."
    letters = sum(c.isalpha() for c in text)
    expected = 4.71 * letters / 12 + 0.5 * 12 / 2 - 21.43
    assert features_of(text)["readability"] == pytest.approx(expected)


@pytest.mark.parametrize(
    "text,name,value",
    [
        ("см. film", "not_latin", 2 / 6),
        ("电影 film", "unspaced_script", 2 / 6),
        ("电影 film", "not_latin", 2 / 6),
        ("so gooood", "repeated", 2 / 9),
        ("a   b", "repeated", 0),
        ("wow！ really!", "exclamations", 2),
        ("什么？ what?", "questions", 2),
        ("fine 😀👍 ©", "emoji", 3),
        ("see https://www.a.b and www.c.d, HTTP://E.F", "urls", 3),
        ("ask @ann, not me@work.com or a lone @ sign", "mentions", 1),
        ("#one a#two # three #four", "hashtags", 2),
        ("NATO is OK A", "upper_words", 2 / 4),
    ],
)
def test_what_each_counts(text, name, value):
    assert features_of(text)[name] == pytest.approx(value)


def test_rows_do_not_depend_on_their_neighbours(monkeypatch):
    """Guards words and runs that go on in the next text, and the borders between chunks."""
    together = text_features(unlabelled(TEXTS))
    apart = np.vstack([text_features(unlabelled([text])) for text in TEXTS])
    np.testing.assert_array_equal(together, apart)
    assert np.isfinite(together).all()
    monkeypatch.setattr(module, "CHUNK", 40)
    np.testing.assert_array_equal(text_features(unlabelled(TEXTS)), together)
    assert text_features(unlabelled(["aa", "a"]))[:, NAMES.index("repeated")].tolist() == [0, 0]


def test_of_sentence_pairs_both_are_told_and_what_they_share():
    found = text_features(unlabelled([("A good film", "a GOOD book, good"), ("", ""), ("x", "y")]))
    assert found.shape == (3, len(feature_names(2)))
    np.testing.assert_array_equal(
        found[:, : len(NAMES)], text_features(unlabelled(["A good film", "", "x"]))
    )
    np.testing.assert_allclose(found[:, -1], [2 / 4, 0, 0])
    assert text_features(unlabelled(["a"])).shape == (1, len(feature_names(1)))


def test_no_rows_have_no_features():
    assert text_features(unlabelled([])).shape == (0, len(NAMES))
