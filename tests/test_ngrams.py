"""N-grams counted by hash are scikit-learn's TF-IDF, bit for bit."""

import numpy as np
import pytest
import rjieba
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from foldstack.text import ngrams
from foldstack.text.ngrams import WORD, NgramTfidf, stack_rows
from tiny import sentences

TEXTS = [
    *(text for text, _ in sentences(40)),
    "",
    "a",
    "A \t B\n\nc  d",
    "ÉTUDE İstanbul ß Straße",
    "质量很好 质量差",
    "one 𝒳 \ud83d two",
    "same same same",
]


def rival(texts: list[str], analyzer: str, sizes: tuple[int, int], **options) -> TfidfVectorizer:
    pattern = r"(?u)\b\w+\b" if analyzer == "word" else None
    return TfidfVectorizer(
        analyzer=analyzer,
        ngram_range=sizes,
        dtype=np.float64,
        token_pattern=pattern,
        **{"sublinear_tf": True, **options},
    ).fit(texts)


@pytest.mark.parametrize(
    ("analyzer", "sizes"),
    [("word", (1, 1)), ("word", (2, 3)), ("char", (1, 3)), ("char", (2, 5)), ("char", (4, 4))],
)
@pytest.mark.parametrize("options", [{"min_df": 1}, {"min_df": 2}, {"max_features": 30}])
@pytest.mark.parametrize("piece", [50, 500_000])
def test_the_numbers_are_scikit_learns(
    monkeypatch: pytest.MonkeyPatch, analyzer: str, sizes: tuple, options: dict, piece: int
) -> None:
    """Vocabulary, which of equally frequent n-grams it keeps, idf, and every bit of the matrix."""
    monkeypatch.setattr(ngrams, "PIECE", piece)
    ours = NgramTfidf(analyzer, sizes, **options).fit(TEXTS)
    theirs = rival(TEXTS, analyzer, sizes, **options)
    assert ours.vocabulary_ == sorted(theirs.vocabulary_, key=theirs.vocabulary_.get)
    assert ours.idf_.tobytes() == theirs.idf_.tobytes()
    new = ["a new lovely film n1", *TEXTS[::-1]]
    again = NgramTfidf(analyzer, sizes, vocabulary=ours.vocabulary_, idf=ours.idf_)
    wanted = theirs.transform(new)
    for found in (ours.transform(new), again.transform(new)):
        assert found.shape == wanted.shape
        for part in ("data", "indices", "indptr"):
            assert getattr(found, part).tobytes() == getattr(wanted, part).tobytes()


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"sublinear": False}, {"sublinear_tf": False}),
        ({"max_df": 0.5}, {"max_df": 0.5}),
        ({"max_df": 0.25, "max_features": 9}, {"max_df": 0.25, "max_features": 9}),
    ],
)
def test_counts_and_shares_are_scikit_learns(options: dict, theirs: dict) -> None:
    """The words of `sentences` occur in half, a fifth and a fortieth of its texts."""
    ours, reference = NgramTfidf("word", (1, 2), **options), rival(TEXTS, "word", (1, 2), **theirs)
    matrix, wanted = ours.fit(TEXTS).transform(TEXTS), reference.transform(TEXTS)
    assert ours.vocabulary_ == sorted(reference.vocabulary_)
    assert matrix.toarray().tobytes() == wanted.toarray().tobytes()
    without = NgramTfidf("word", (1, 2)).fit(TEXTS)
    assert not np.array_equal(without.transform(TEXTS).toarray(), matrix.toarray())


CHINESE = [
    "今天天气很好，我们去公园。",
    "今天天气不好 5G手机 wi_fi ÉTUDE",
    "我们喜欢这个手机；手机很好",
    "",
    "no Chinese here",
    "𠀀𠀁天气\ud83d很好",
]


def chinese_words(text: str) -> list[str]:
    """Slow reference; rjieba alone would cut ÉTUDE in two."""
    found = []
    for word in WORD.findall(text):
        chinese = any("一" <= character <= "鿿" for character in word)
        found += rjieba.cut(word) if chinese else [word]
    return found


@pytest.mark.parametrize("piece", [10, 500_000])
def test_chinese_words_are_those_of_rjieba(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """Texts have no spaces between words; n-grams of words are the same whatever the chunks."""
    monkeypatch.setattr(ngrams, "PIECE", piece)
    ours = NgramTfidf("word", (1, 2), words="rjieba").fit(CHINESE)
    assert {"今天天气", "很 好", "5g 手机", "étude"} <= set(ours.vocabulary_)
    theirs = TfidfVectorizer(
        tokenizer=chinese_words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True
    ).fit(CHINESE)
    assert ours.vocabulary_ == sorted(theirs.vocabulary_)
    again = NgramTfidf("word", (1, 2), words="rjieba", vocabulary=ours.vocabulary_, idf=ours.idf_)
    wanted = theirs.transform(CHINESE[::-1]).toarray()
    for found in (ours.transform(CHINESE[::-1]), again.transform(CHINESE[::-1])):
        assert found.toarray().tobytes() == wanted.tobytes()


def test_other_words_are_cut_as_ever() -> None:
    texts = ["Straße wi_fi 5g", "un été п'ять"]
    cut = [NgramTfidf("word", (1, 1), words=words).fit(texts) for words in ("rjieba", "unicode")]
    assert cut[0].vocabulary_ == cut[1].vocabulary_


def test_without_a_frequent_ngram_there_is_nothing_to_fit() -> None:
    with pytest.raises(ValueError, match="no n-gram"):
        NgramTfidf("word", (1, 2), min_df=2).fit(["one two", "three"])
    with pytest.raises(ValueError, match="no n-gram"):
        NgramTfidf("char", (1, 2)).fit(["", ""])


def test_no_texts_have_no_rows() -> None:
    assert NgramTfidf("word", (1, 1)).fit(["a b"]).transform([]).shape == (0, 2)


def test_rows_are_stacked_in_order() -> None:
    dense = np.array([[0, 1.5, 0], [0, 0, 0], [2, 0, 3], [0, 4, 0]])
    parts = (csr_matrix(dense[rows]) for rows in (slice(0, 2), slice(2, 2), slice(2, 4)))
    stacked = stack_rows(parts, 3)
    assert stacked.toarray().tolist() == dense.tolist()
    assert stacked.indices.dtype == np.int32
