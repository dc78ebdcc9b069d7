"""Settings of rules for words: stop words, stems, parts of speech, a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator

from foldstack.settings import Listed, OptionalText, Settings, none_from_text

# Those of snowballstemmer.
Stemmer = Literal[
    "arabic", "armenian", "basque", "catalan", "czech", "danish", "dutch", "dutch_porter", "english",
    "esperanto", "estonian", "finnish", "french", "german", "greek", "hindi", "hungarian", "indonesian",
    "irish", "italian", "lithuanian", "nepali", "norwegian", "persian", "polish", "porter", "portuguese",
    "romanian", "russian", "serbian", "sesotho", "spanish", "swedish", "tamil", "turkish", "yiddish",
]  # fmt: skip
# Those of stopwordsiso, by ISO 639-1.
Language = Literal[
    "af", "ar", "bg", "bn", "br", "ca", "cs", "da", "de", "el", "en", "eo", "es", "et", "eu", "fa", "fi",
    "fr", "ga", "gl", "gu", "ha", "he", "hi", "hr", "hu", "hy", "id", "it", "ja", "ko", "ku", "la", "lt",
    "lv", "mr", "ms", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "so", "st", "sv", "sw", "th", "tl",
    "tr", "uk", "ur", "vi", "yo", "zh", "zu",
]  # fmt: skip
# Those of rjieba's dictionary.
TAGS = (
    "a", "ad", "ag", "an", "b", "c", "d", "df", "dg", "e", "eng", "f", "g", "h", "i", "j", "k",
    "l", "m", "mg", "mq", "n", "ng", "nr", "nrfg", "nrt", "ns", "nt", "nz", "o", "p", "q", "r",
    "rg", "rr", "rz", "s", "t", "tg", "u", "ud", "ug", "uj", "ul", "uv", "uz", "v", "vd", "vg",
    "vi", "vn", "vq", "x", "y", "z", "zg",
)  # fmt: skip


def _tag(value: str) -> str:
    if value not in TAGS:
        raise ValueError(f"rjieba has no such part of speech: name some of {', '.join(TAGS)}")
    return value


Tag = Annotated[str, AfterValidator(_tag)]


class StopWords(Settings):
    """Words that are left out, compared in small letters and before stemming.

    `stop_words: en` is short for `{language: en}`. A list of a language holds its negations (not, no,
    never; 不, 没), which turn the sense of a review: `keep` them where they matter.

    language: en is scikit-learn's list; others are those of the package stopwordsiso.
    file: in input/, or a full path: UTF-8, one word per line; empty lines and those that begin with #
        are skipped.
    add: further words.
    keep: words of the lists that are not left out.
    """

    language: Annotated[Language | None, BeforeValidator(none_from_text)] = None
    file: OptionalText = None
    add: Listed[str] = ()
    keep: Listed[str] = ()

    @model_validator(mode="after")
    def _has_some(self) -> StopWords:
        if not (self.language or self.file or self.add):
            raise ValueError("stop words are those of a `language`, a `file` or `add`: give one")
        return self


class PartsOfSpeech(Settings):
    """Words chosen by their part of speech, by rjieba's tags: n nouns, v verbs, a adjectives and so on.

    One letter stands for every tag that begins with it: n also for names of persons (nr) and places
    (ns). Words of other scripts are eng, numbers m, signs x.

    keep: leave out words of all other parts of speech.
    drop: leave out words of these.
    """

    keep: Listed[Tag] = ()
    drop: Listed[Tag] = ()

    @model_validator(mode="after")
    def _is_one(self) -> PartsOfSpeech:
        if bool(self.keep) == bool(self.drop):
            raise ValueError("parts of speech are either kept or dropped: give `keep` or `drop`")
        return self


def _of_language(value: Any) -> Any:
    value = none_from_text(value)
    return {"language": value} if isinstance(value, str) else value


class WordRules(Settings):
    """Rules for words, which drop, stem or join them.

    stop_words: words that are left out: a language, or `{language: en, add: […], keep: […]}`, or
        `{file: stop.txt}`.
    stem: replace words by their stems, by snowballstemmer's algorithm for this language.
    parts: parts of speech that are kept or dropped, for Chinese only.
    dictionary: file in input/, or a full path, of words that rjieba keeps whole, for Chinese only:
        UTF-8, one word per line, after it its frequency and its part of speech if you like, as in
        jieba's own dictionary.
    """

    stop_words: Annotated[StopWords | None, BeforeValidator(_of_language)] = None
    stem: Annotated[Stemmer | None, BeforeValidator(none_from_text)] = None
    parts: Annotated[PartsOfSpeech | None, BeforeValidator(none_from_text)] = None
    dictionary: OptionalText = None

    OF_RJIEBA: ClassVar[tuple[str, ...]] = ("parts", "dictionary")

    @property
    def word_rules(self) -> list[str]:
        """The names of the rules that are set."""
        return [name for name in WordRules.model_fields if getattr(self, name) is not None]

    @property
    def need_rjieba(self) -> bool:
        return any(name in self.OF_RJIEBA for name in self.word_rules)

    def check_cut(self, setting: str, cut: str) -> None:
        """Raise ValueError if words are not cut by rjieba, and a rule needs it.

        Args:
            setting: the name of the setting that says how words are cut.
            cut: its value.
        """
        needed = [name for name in self.word_rules if name in self.OF_RJIEBA]
        if cut == "unicode" and needed:
            raise ValueError(
                f"`{needed[0]}` is of rjieba, which cuts Chinese, and no tagger of another language is "
                f"at hand: set {setting} to rjieba, or leave {needed[0]} out"
            )

    def word_files(self, prefix: str = "") -> dict[str, str]:
        """Return the names of the files that the rules read, by setting; prefix: of the settings."""
        found = {"dictionary": self.dictionary}
        if self.stop_words:
            found["stop_words.file"] = self.stop_words.file
        return {prefix + setting: name for setting, name in found.items() if name is not None}

    def check_words(self, files: Mapping[str, Path], prefix: str = "") -> None:
        """Raise InputError if a file of words is wrong or a package is missing; see `word_files`."""
        from foldstack.text.word_reader import WordLists, WordReader  # which import these settings

        if self.word_rules:
            WordReader(self, self.need_rjieba, WordLists.read(self, files, prefix))

    @property
    def packages(self) -> tuple[str, ...]:
        return ("snowballstemmer",) if self.stem else ()
