"""Augmentation of training texts and tokens, see text/augment and text/spans.py."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from foldstack.settings import Settings
from foldstack.techniques.common import UnitShare
from foldstack.techniques.registry import Technique

_CHANGES = "foldstack.text.augment.changes"


class Augmentation(Technique):
    """A change of training texts.

    probability: that a row is changed.
    share: of its words that are changed, rounded up.

    implementation: `(settings, training texts) -> text.augment.changes.Change`.

    Traits:
        suits: the texts that it applies to, by its name, for the message if it changes none.
    """

    suits: ClassVar[dict[str, str]]
    probability: UnitShare = 0.5
    share: UnitShare = 0.1


class WordChange(Augmentation):
    """Words respelled, replaced by synonyms, swapped, deleted, cropped, or replaced by TF-IDF."""

    implementation: ClassVar[dict[str, str]] = {
        "spelling": f"{_CHANGES}:spelling",
        "synonyms": f"{_CHANGES}:synonyms",
        "swap_words": f"{_CHANGES}:swap_words",
        "delete_words": f"{_CHANGES}:delete_words",
        "crop_words": f"{_CHANGES}:crop_words",
        "tfidf_words": f"{_CHANGES}:tfidf_words",
    }
    suits: ClassVar[dict[str, str]] = {
        "spelling": "English words",
        "synonyms": "English words",
        "swap_words": "texts of two different words or more",
        "delete_words": "texts of two words or more",
        "crop_words": "texts of two words or more",
        "tfidf_words": "texts of different words",
    }
    name: Literal["spelling", "synonyms", "swap_words", "delete_words", "crop_words", "tfidf_words"]


class CharacterChange(Augmentation):
    """Character errors of OCR, or neighbouring characters swapped.

    characters: share of the characters of a changed word, rounded up.
    """

    implementation: ClassVar[dict[str, str]] = {
        "ocr": f"{_CHANGES}:ocr",
        "swap_characters": f"{_CHANGES}:swap_characters",
    }
    suits: ClassVar[dict[str, str]] = {
        "ocr": "Latin letters and digits",
        "swap_characters": "words of four letters or more",
    }
    name: Literal["ocr", "swap_characters"]
    characters: UnitShare = 0.1


class KeyboardChange(Augmentation):
    """Slips to neighbouring keys.

    characters: share of the characters of a changed word, rounded up.
    language: of the keyboard, by its two letters.
    """

    implementation: ClassVar[str] = f"{_CHANGES}:keyboard"
    suits: ClassVar[dict[str, str]] = {
        "keyboard": "words of four letters or more on its `language`'s keyboard"
    }
    name: Literal["keyboard"]
    characters: UnitShare = 0.1
    language: Literal["de", "en", "es", "fr", "he", "it", "nl", "pl", "th", "tr", "uk"] = "en"


class PunctuationInsertion(Augmentation):
    """Punctuation marks inserted between words.

    share: most marks, as a share of the words.
    """

    implementation: ClassVar[str] = f"{_CHANGES}:insert_punctuation"
    suits: ClassVar[dict[str, str]] = {"insert_punctuation": "texts with words"}
    name: Literal["insert_punctuation"]
    share: UnitShare = 0.3


class StopWordInsertion(Augmentation):
    """Stop words inserted between words.

    words: English stop words, or the most frequent words of the training texts.
    """

    implementation: ClassVar[str] = f"{_CHANGES}:insert_stop_words"
    suits: ClassVar[dict[str, str]] = {"insert_stop_words": "texts with words"}
    name: Literal["insert_stop_words"]
    words: Literal["english", "frequent"] = "english"


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
    mean: Annotated[float, Field(ge=1, le=1000)] = 3.0
    by: Literal["mask", "drop"] = "mask"
