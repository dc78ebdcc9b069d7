"""Augmentation techniques: nlpaug's augmenters, and small ones of our own.

A technique maps the words of a text and a random generator to a text. nlpaug samples from Python's
global generator; here its augmenters sample from the given one, so that a text depends on that
generator only and the global state is unchanged.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

from foldstack.errors import InputError
from foldstack.techniques import Augmentation
from foldstack.text.augment.resources import NOTHING, Resources
from foldstack.text.augment.split import SplitText, is_unspaced, split_words

Change = Callable[[SplitText, Random], str]


@dataclass(frozen=True)
class Item:
    """A row to change.

    Attributes:
        id: of the row; None if it is no row of the training file.
        text: its texts.
        rng: the row's own random generator.
        number: of the copy from 0, or of the epoch.
    """

    id: str | None
    text: tuple[str, ...]
    rng: Random
    number: int


RowChange = Callable[[Sequence[Item]], list[tuple[str, ...]]]
SEPARATOR = "\n"  # never part of a word
PUNCTUATION, FULL_WIDTH = ".;?:!,", "。；？：！，"  # those of AEDA, and their Chinese forms
FREQUENT = 50  # stop words taken from the training rows


def make_change(
    settings: Augmentation, texts: list[str], beside: Resources = NOTHING
) -> Change | RowChange:
    """Return the technique that the settings name; texts: of the run's training rows, to fit it on.

    Raises InputError if it lacks a package or data that it requires.
    """
    given = (texts, beside) if settings.of_rows else (texts,)
    return settings.load()(settings, *given)


def _count(share: float, n: int) -> int:
    """Return the number of changed items among n: the share, rounded up, as in nlpaug."""
    return min(n, math.ceil(share * n))


# Through nlpaug


def _tokens(text: str) -> list[str]:
    return text.split(SEPARATOR)


# None removes nlpaug's limit of 10 words per text.
_OF_WORDS = {
    "aug_min": None,
    "aug_max": None,
    "tokenizer": _tokens,
    "reverse_tokenizer": SEPARATOR.join,
}
_OF_CHARACTERS = {
    "aug_char_min": 1,
    "aug_char_max": None,
    "aug_word_min": None,
    "aug_word_max": None,
    "tokenizer": _tokens,
    "reverse_tokenizer": SEPARATOR.join,
}


def _act(augmenter: Any, tokens: list[str], rng: Random) -> list[str]:
    """Apply an nlpaug augmenter to the tokens, sampling from `rng`."""
    augmenter.sample = rng.sample
    return _tokens(getattr(augmenter, augmenter.action)(SEPARATOR.join(tokens)))


def _word_by_word(augmenter: Any) -> Change:
    return lambda text, rng: text.replaced(_act(augmenter, text.words, rng))


def _shares(settings: Augmentation) -> dict[str, float]:
    return {"aug_word_p": settings.share, "aug_char_p": settings.characters}


def keyboard(settings: Augmentation, texts: list[str]) -> Change:
    """Replace letters by neighbouring keys of the same character category."""
    from nlpaug.augmenter.char import KeyboardAug

    augmenter = KeyboardAug(lang=settings.language, **_shares(settings), **_OF_CHARACTERS)
    augmenter.model.model = {
        key: alike
        for key, near in augmenter.model.model.items()
        if len(key) == 1 and (alike := [k for k in near if len(k) == 1 and _kind(k) == _kind(key)])
    }
    return _word_by_word(augmenter)


def _kind(character: str) -> str:
    return unicodedata.category(character)


def ocr(settings: Augmentation, texts: list[str]) -> Change:
    from nlpaug.augmenter.char import OcrAug

    return _word_by_word(OcrAug(**_shares(settings), **_OF_CHARACTERS))


def swap_characters(settings: Augmentation, texts: list[str]) -> Change:
    from nlpaug.augmenter.char import RandomCharAug

    return _word_by_word(RandomCharAug(action="swap", **_shares(settings), **_OF_CHARACTERS))


def spelling(settings: Augmentation, texts: list[str]) -> Change:
    """Misspell words; the reversed dictionary would turn `look` into `luck`."""
    from nlpaug.augmenter.word import SpellingAug
    from nlpaug.model.word_dict import Spelling

    augmenter = SpellingAug(aug_p=settings.share, **_OF_WORDS)
    known = Spelling(augmenter.dict_path, include_reverse=False)
    # nlpaug keeps them in a set, whose order differs between processes.
    known.dict = {word: sorted(set(wrong) - {"", word}) for word, wrong in known.dict.items()}
    augmenter.model = known
    return _word_by_word(augmenter)


def swap_words(settings: Augmentation, texts: list[str]) -> Change:
    order = _order("swap", settings.share)
    return lambda text, rng: text.replaced([text.words[i] for i in order(len(text), rng)])


def delete_words(settings: Augmentation, texts: list[str]) -> Change:
    order = _order("delete", settings.share)
    return lambda text, rng: text.kept(order(len(text), rng))


def _order(action: str, share: float) -> Callable[[int, Random], list[int]]:
    """Return a sampler of word positions after nlpaug's action; positions keep the words' case."""
    from nlpaug.augmenter.word import RandomWordAug

    augmenter = RandomWordAug(action=action, aug_p=share, **_OF_WORDS)
    return lambda n, rng: [int(i) for i in _act(augmenter, [str(i) for i in range(n)], rng)]


def synonyms(settings: Augmentation, texts: list[str]) -> Change:
    """Replace words by WordNet synonyms. Raises InputError if WordNet or the tagger is missing."""
    try:
        import nltk
        from nltk.corpus import wordnet

        wordnet.synsets("word")
        nltk.pos_tag(["word"])
    except (ImportError, LookupError, OSError):
        raise InputError(
            "augment: synonyms needs nltk, WordNet and a tagger: run `pip install nltk` and `python -m "
            "nltk.downloader wordnet averaged_perceptron_tagger_eng`, or leave synonyms out"
        ) from None
    from nlpaug.augmenter.word import SynonymAug

    return _word_by_word(SynonymAug(aug_src="wordnet", aug_p=settings.share, **_OF_WORDS))


# Our own


def crop_words(settings: Augmentation, texts: list[str]) -> Change:
    """Delete consecutive words. nlpaug's crop fails on short texts and wraps around."""

    def change(text: SplitText, rng: Random) -> str:
        n = len(text)
        count = min(_count(settings.share, n), n - 1)
        start = rng.randrange(n - count + 1)
        return text.kept([i for i in range(n) if not start <= i < start + count])

    return change


def insert_punctuation(settings: Augmentation, texts: list[str]) -> Change:
    """Insert punctuation before random words (AEDA): one mark up to the share of the words."""

    def change(text: SplitText, rng: Random) -> str:
        count = rng.randint(1, _count(settings.share, len(text)))
        at = rng.sample(range(len(text)), count)
        marks = (FULL_WIDTH if is_unspaced(text.words[i]) else PUNCTUATION for i in at)
        return text.inserted({i: rng.choice(m) for i, m in zip(at, marks, strict=True)})

    return change


def insert_stop_words(settings: Augmentation, texts: list[str]) -> Change:
    """Insert stop words. Raises InputError if they are English and the texts have none of them."""
    if settings.words == "english":
        words = sorted(ENGLISH_STOP_WORDS)
        if not any(w.lower() in ENGLISH_STOP_WORDS for t in texts for w in split_words(t).words):
            raise InputError(
                "augment: insert_stop_words inserts English words, but the texts have none of "
                "them: set `words: frequent`, which takes the texts' own most frequent ones"
            )
    else:
        counts, vocabulary = _word_counts(texts)
        documents = np.bincount(counts.indices, minlength=len(vocabulary))
        words = [vocabulary[i] for i in np.argsort(-documents, kind="stable")[:FREQUENT]]

    def change(text: SplitText, rng: Random) -> str:
        at = rng.sample(range(len(text)), _count(settings.share, len(text)))
        return text.inserted({i: rng.choice(words) for i in at})

    return change


def tfidf_words(settings: Augmentation, texts: list[str]) -> Change:
    """Replace words of low TF-IDF by others of low TF-IDF (Xie et al. 2020, UDA, appendix A.2).

    The probability of replacing a word falls with its TF-IDF in the text; that of a replacement
    falls with its TF-IDF summed over the training texts. nlpaug's version reuses the first model
    fitted in a process, counts repetitions as documents, and samples by a scan of the whole
    vocabulary.
    """
    counts, vocabulary = _word_counts(texts)
    idf = np.log(len(texts) / np.bincount(counts.indices, minlength=len(vocabulary)).clip(min=1))
    scores = (counts.T @ (1 / np.asarray(counts.sum(axis=1)).ravel().clip(min=1))) * idf
    idf_of = dict(zip(vocabulary, idf.tolist(), strict=True))
    chances = list(accumulate(_inverted(scores).tolist()))

    def draw(rng: Random) -> str:
        return vocabulary[min(bisect(chances, rng.random() * chances[-1]), len(vocabulary) - 1)]

    def change(text: SplitText, rng: Random) -> str:
        often = Counter(text.words)
        own = np.array([often[w] / len(text) * idf_of.get(w, 0.0) for w in text.words])
        # Weighted sampling without replacement: largest keys u^(1/w) (Efraimidis & Spirakis 2006).
        keys = [math.log(1 - rng.random()) / max(w, 1e-12) for w in _inverted(own)]
        out = list(text.words)
        for i in sorted(range(len(out)), key=keys.__getitem__)[-_count(settings.share, len(out)) :]:
            out[i] = draw(rng)
        return text.replaced(out)

    return change


def _word_counts(texts: list[str]) -> tuple[csr_matrix, list[str]]:
    """Return (texts, words) counts and the sorted vocabulary."""
    vectorizer = CountVectorizer(analyzer=lambda text: split_words(text).words)
    return vectorizer.fit_transform(texts), vectorizer.get_feature_names_out().tolist()


def _inverted(scores: np.ndarray) -> np.ndarray:
    """Return the maximum minus each score; ones if all are equal."""
    below = scores.max() - scores
    return below if below.any() else np.ones(len(scores))


def from_file(settings: Augmentation, texts: list[str], beside: Resources) -> RowChange:
    """Replace rows by their texts in the file."""
    given = beside.made[settings.file]

    def change(items: Sequence[Item]) -> list[tuple[str, ...]]:
        known = [given.get(item.id, [item.text]) for item in items]
        return [own[item.number % len(own)] for item, own in zip(items, known, strict=True)]

    return change
