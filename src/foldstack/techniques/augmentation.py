"""Augmentation of training texts and tokens, see text/augment and text/spans.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foldstack.settings import Settings
from foldstack.techniques.common import UnitShare


class OfWords(Settings):
    """probability: that a row is changed.
    share: of its words that are, rounded up.
    """

    probability: UnitShare = 0.5
    share: UnitShare = 0.1


class WordChange(OfWords):
    """Words respelled, replaced by synonyms, swapped, deleted, cropped, or replaced by TF-IDF."""

    name: Literal["spelling", "synonyms", "swap_words", "delete_words", "crop_words", "tfidf_words"]


class CharacterChange(OfWords):
    """Character errors of OCR, or neighbouring characters swapped.

    characters: share of the characters of a changed word, rounded up.
    """

    name: Literal["ocr", "swap_characters"]
    characters: UnitShare = 0.1


class KeyboardChange(OfWords):
    """Slips to neighbouring keys.

    characters: share of the characters of a changed word, rounded up.
    language: of the keyboard, by its two letters.
    """

    name: Literal["keyboard"]
    characters: UnitShare = 0.1
    language: Literal["de", "en", "es", "fr", "he", "it", "nl", "pl", "th", "tr", "uk"] = "en"


class PunctuationInsertion(OfWords):
    """Punctuation marks inserted between words.

    share: most marks, as a share of the words.
    """

    name: Literal["insert_punctuation"]
    share: UnitShare = 0.3


class StopWordInsertion(OfWords):
    """Stop words inserted between words.

    words: English stop words, or the most frequent words of the training texts.
    """

    name: Literal["insert_stop_words"]
    words: Literal["english", "frequent"] = "english"


Augmentation = (
    WordChange | CharacterChange | KeyboardChange | PunctuationInsertion | StopWordInsertion
)


class SpanMasking(Settings):
    """Spans of tokens masked in training, resampled in each epoch (after SpanBERT, Joshi et al.
    2020); spans have 10 tokens at most.

    probability: that a row is changed in an epoch.
    share: of its tokens.
    mean: length of a span on average.
    by: replace the tokens by the mask token, or drop them.
    """

    probability: UnitShare = 0.5
    share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    mean: Annotated[float, Field(ge=1)] = 3.0
    by: Literal["mask", "drop"] = "mask"
