"""Augmentation of training texts and tokens, see text/augment and text/spans.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foldstack.settings import Settings
from foldstack.techniques.common import UnitShare


class OfWords(Settings):
    """probability: that a row is touched. share: of its words that are, rounded up."""

    probability: UnitShare = 0.5
    share: UnitShare = 0.1


class WordChange(OfWords):
    name: Literal["spelling", "synonyms", "swap_words", "delete_words", "crop_words", "tfidf_words"]


class CharacterChange(OfWords):
    """characters: share of the characters of a touched word, rounded up."""

    name: Literal["ocr", "swap_characters"]
    characters: UnitShare = 0.1


class KeyboardChange(OfWords):
    """characters: as above; language: whose keyboard, by its two letters."""

    name: Literal["keyboard"]
    characters: UnitShare = 0.1
    language: Literal["de", "en", "es", "fr", "he", "it", "nl", "pl", "th", "tr", "uk"] = "en"


class PunctuationInsertion(OfWords):
    """share: the most marks, as a share of the words."""

    name: Literal["insert_punctuation"]
    share: UnitShare = 0.3


class StopWordInsertion(OfWords):
    """words: English stop words, or the training texts' most frequent words."""

    name: Literal["insert_stop_words"]
    words: Literal["english", "frequent"] = "english"


Augmentation = (
    WordChange | CharacterChange | KeyboardChange | PunctuationInsertion | StopWordInsertion
)


class SpanMasking(Settings):
    """probability: that a row is touched in an epoch. share: of its tokens that are masked or dropped,
    in spans of `mean` tokens on average and 10 at most.
    """

    probability: UnitShare = 0.5
    share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    mean: Annotated[float, Field(ge=1)] = 3.0
    by: Literal["mask", "drop"] = "mask"
