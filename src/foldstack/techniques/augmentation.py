"""Augmentation of training texts and tokens, see text/augment and text/spans.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from foldstack.settings import FileName, NonNegative, Positive, Settings
from foldstack.techniques.common import UnitShare
from foldstack.techniques.registry import Technique

_CHANGES = "foldstack.text.augment.changes"
PRETRAINED = "pretrained"  # as a model: the one that the preset's `pretrain` makes


class Augmentation(Technique):
    """A change of training texts.

    probability: that a row is changed.

    implementation: `(settings, training texts) -> text.augment.changes.Change`; if `of_rows`,
    `(settings, training texts, text.augment.resources.Resources) -> text.augment.changes.RowChange`.

    Traits:
        suits: the texts that it applies to, by its name, for the message if it changes none.
        of_rows: it changes many rows in one call, each as a whole.
        of_file: its texts are in a file, so that only copies can be made of them.
        tried: number of training texts of which it must change at least one; None for all.
        models: the settings that each name a model, by folder or hub name.
    """

    suits: ClassVar[dict[str, str]]
    of_rows: ClassVar[bool] = False
    of_file: ClassVar[bool] = False
    tried: ClassVar[int | None] = 200
    models: ClassVar[tuple[str, ...]] = ()
    probability: UnitShare = 0.5

    @property
    def by_pretrained(self) -> bool:
        """Whether it reads the model that the preset's `pretrain` makes."""
        return False


class ChangeOfWords(Augmentation):
    """A change of some words.

    share: of a text's words that are changed, rounded up.
    """

    share: UnitShare = 0.1


class WordChange(ChangeOfWords):
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


class CharacterChange(ChangeOfWords):
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


class KeyboardChange(ChangeOfWords):
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


class PunctuationInsertion(ChangeOfWords):
    """Punctuation marks inserted between words.

    share: most marks, as a share of the words.
    """

    implementation: ClassVar[str] = f"{_CHANGES}:insert_punctuation"
    suits: ClassVar[dict[str, str]] = {"insert_punctuation": "texts with words"}
    name: Literal["insert_punctuation"]
    share: UnitShare = 0.3


class StopWordInsertion(ChangeOfWords):
    """Stop words inserted between words.

    words: English stop words, or the most frequent words of the training texts.
    """

    implementation: ClassVar[str] = f"{_CHANGES}:insert_stop_words"
    suits: ClassVar[dict[str, str]] = {"insert_stop_words": "texts with words"}
    name: Literal["insert_stop_words"]
    words: Literal["english", "frequent"] = "english"


class ContextualWords(ChangeOfWords):
    """Words masked and replaced by what a masked language model predicts there (contextual
    augmentation, Kobayashi 2018, with a pre-trained model as Kumar et al. 2020).

    The words of a text are masked together. Only whole words come, never the word that was there
    if there is another.

    model: folder or hub name of a masked language model with its head; pretrained: the one that the
        preset's `pretrain` makes, of which only words of the run's own training texts come.
    top_k: number of the most probable words to sample from; 1: the most probable one.
    temperature: the logits are divided by it before sampling; above 1 less probable words come more
        often.
    """

    implementation: ClassVar[str] = "foldstack.text.augment.contextual:contextual_words"
    suits: ClassVar[dict[str, str]] = {"contextual_words": "words that its `model` reads"}
    of_rows: ClassVar[bool] = True
    tried: ClassVar[int | None] = 32
    models: ClassVar[tuple[str, ...]] = ("model",)
    name: Literal["contextual_words"]
    model: Annotated[str, Field(min_length=1)]
    top_k: Annotated[int, Field(ge=1)] = 100
    temperature: Positive = 1.0

    @property
    def by_pretrained(self) -> bool:
        return self.model == PRETRAINED


class BackTranslation(Augmentation):
    """Texts translated into another language and back (Sennrich et al. 2016; sampled as in Unsupervised
    Data Augmentation, Xie et al. 2020). Texts longer than the models read stay as they are.

    forward: folder or hub name of the model that translates the texts into another language.
    backward: that of the model that translates them back.
    temperature: of sampling each token, in both directions; 0: the most probable one.
    """

    implementation: ClassVar[str] = "foldstack.text.augment.translation:back_translation"
    suits: ClassVar[dict[str, str]] = {
        "back_translation": "texts of its `forward` model's language"
    }
    of_rows: ClassVar[bool] = True
    tried: ClassVar[int | None] = 32
    models: ClassVar[tuple[str, ...]] = ("forward", "backward")
    name: Literal["back_translation"]
    forward: Annotated[str, Field(min_length=1)]
    backward: Annotated[str, Field(min_length=1)]
    temperature: NonNegative = 0.9


class FromFile(Augmentation):
    """Texts that you made of training rows, such as paraphrases or back-translations.

    A row's copies take its texts in the file's order, from the first again after the last; a row of
    which the file has none has no copies, unless `augment` names another change.

    file: in input/, with the competition's id and text columns; several rows per id.
    """

    implementation: ClassVar[str] = "foldstack.text.augment.changes:from_file"
    suits: ClassVar[dict[str, str]] = {"from_file": "training rows that its `file` names"}
    of_rows: ClassVar[bool] = True
    of_file: ClassVar[bool] = True
    tried: ClassVar[int | None] = None
    name: Literal["from_file"]
    file: FileName


def files_named(augment: tuple[Augmentation, ...]) -> dict[str, str]:
    """Return the names of files in input/ that augmentations read, by setting."""
    return {f"augment.file ('{each.file}')": each.file for each in augment if each.of_file}


def models_named(augment: Iterable[Augmentation]) -> dict[str, str]:
    """Return the folders or hub names of models that augmentations read, by setting."""
    found = [(f"{each.name}.{s}", getattr(each, s)) for each in augment for s in each.models]
    return {f"augment: {setting} ('{model}')": model for setting, model in found}


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
