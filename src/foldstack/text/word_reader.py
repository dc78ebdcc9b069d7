"""Words as the settings read them: cut by rjieba, without stop words, stemmed."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import regex
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from foldstack.errors import InputError, cut
from foldstack.progress import say
from foldstack.techniques import StopWords, WordRules
from foldstack.text.ngrams import CHINESE, LETTERS

ONE_WORD = regex.compile(rf"{LETTERS.pattern}|\S")
ENTRY = regex.compile(rf"({LETTERS.pattern})(?:\s+([0-9]{{1,9}}))?(?:\s+([a-z]+))?")
STEMS = 2**20  # words whose stems are remembered
DictionaryWord = tuple[str, int | None, str]


@dataclass(frozen=True)
class WordLists:
    """The words that the rules name, as a fitted model keeps them: it requires no file of them.

    Attributes:
        stop: stop words in small letters, sorted.
        dictionary: words that rjieba keeps whole, their frequencies and parts of speech.
    """

    stop: tuple[str, ...] = ()
    dictionary: tuple[DictionaryWord, ...] = ()

    @classmethod
    def read(
        cls, rules: WordRules, files: Mapping[str, Path] | None = None, prefix: str = ""
    ) -> WordLists:
        """Return the words of these rules.

        Args:
            rules: the settings.
            files: the paths of `rules.word_files`.
            prefix: of the names of settings in it.

        Raises:
            InputError: a file cannot be read, or a package is missing.
        """
        stop, dictionary, files = (), (), files or {}
        if rules.stop_words:
            stop = _stop_words(rules.stop_words, files.get(f"{prefix}stop_words.file"))
        if rules.dictionary:
            dictionary = _entries(files[f"{prefix}dictionary"])
        return cls(stop, dictionary)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> WordLists:
        return cls(tuple(found["stop"]), tuple((w, n, tag) for w, n, tag in found["dictionary"]))


NONE = WordLists()


class WordReader:
    """Function from letters in a row, or one sign, to the words that remain of them.

    Args:
        rules: the settings.
        rjieba: Chinese is cut into words.
        lists: the words that the rules name.
    """

    def __init__(self, rules: WordRules, rjieba: bool, lists: WordLists):
        self.parts, self.cuts = rules.parts, rjieba
        self._stop = frozenset(lists.stop)
        self._rjieba = _cutter_with(lists.dictionary) if rjieba else None
        self._stem = stemmer(rules.stem) if rules.stem else str

    def __call__(self, run: str) -> list[str]:
        return [self._stem(word) for word in self._cut(run) if word.lower() not in self._stop]

    def _cut(self, run: str) -> Iterable[str]:
        chinese = self.cuts and CHINESE.search(run)
        if self.parts is None:
            return self._rjieba.cut(run) if chinese else (run,)
        tagged = self._rjieba.tag(run) if chinese else ((run, _tag_of(run)),)
        return [word for word, tag in tagged if self._keeps(tag)]

    def _keeps(self, tag: str) -> bool:
        listed = self.parts.keep or self.parts.drop
        found = tag in listed or (tag != "eng" and tag[:1] in listed)
        return found == bool(self.parts.keep)


def stemmer(language: str) -> Callable[[str], str]:
    """Return a function from a word to its stem; raise InputError without the package."""
    if importlib.util.find_spec("snowballstemmer") is None:
        raise InputError(
            f"stem {language} requires the package snowballstemmer, which is not installed: pip install "
            "'foldstack[words]'"
        )
    return _remembering(language)


@lru_cache(maxsize=4)
def _remembering(language: str) -> Callable[[str], str]:
    import snowballstemmer  # here, since it is optional

    stem = snowballstemmer.stemmer(language).stemWord
    return lru_cache(maxsize=STEMS)(lambda word: stem(word) or word)


@lru_cache(maxsize=4)
def _cutter_with(dictionary: tuple[DictionaryWord, ...]) -> Any:
    """Return rjieba with these words; without any, the module itself."""
    import rjieba  # here, since it loads its dictionary

    if not dictionary:
        return rjieba
    made = rjieba.Jieba()
    for word, count, tag in dictionary:
        for written in dict.fromkeys((word, word.lower())):
            made.add_word(written, count, tag)
    return made


def _tag_of(run: str) -> str:
    """Return rjieba's tag of letters or a sign without Chinese."""
    if not LETTERS.fullmatch(run):
        return "x"
    return "m" if run.isnumeric() else "eng"


# The lists


def _stop_words(settings: StopWords, file: Path | None) -> tuple[str, ...]:
    found = {*settings.add, *_of_language(settings.language)}
    if file is not None:
        found |= {word for _, word in _lines(file)}
    found = {_compared(word) for word in found} - {_compared(word) for word in settings.keep}
    found.discard("")
    several = sorted(word for word in found if not ONE_WORD.fullmatch(word))
    if several:
        say(
            f"stop words: {len(several):,} of {len(found):,} are several words here and match nothing, "
            f"such as {cut(several[0])}"
        )
    return tuple(sorted(found - set(several)))


def _compared(word: str) -> str:
    """Return a stop word as it is compared with those of texts, whose accents are composed."""
    return unicodedata.normalize("NFC", word).strip().lower()


def _of_language(language: str | None) -> Iterable[str]:
    if language is None:
        return ()
    if language == "en":
        return ENGLISH_STOP_WORDS
    if importlib.util.find_spec("stopwordsiso") is None:
        raise InputError(
            f"stop_words.language {language} requires the package stopwordsiso, which is not installed: "
            "pip install 'foldstack[words]', or name a `file` of words"
        )
    import stopwordsiso  # here, since it is optional

    return stopwordsiso.stopwords(language)


def _entries(path: Path) -> tuple[DictionaryWord, ...]:
    """Return the words of a dictionary as jieba has it: word, frequency, part of speech."""
    return tuple(_entry(where, line) for where, line in _lines(path))


def _entry(where: str, line: str) -> DictionaryWord:
    found = ENTRY.fullmatch(line)
    if found is None:
        raise InputError(
            f"{where}: '{cut(line)}' is not a word of letters and digits, its frequency and its part of "
            "speech: correct the line"
        )
    word, count, tag = found.groups()
    return word, count and int(count), tag or "n"


def _lines(path: Path) -> list[tuple[str, str]]:
    """Return (place, line) of the lines that hold words."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as e:
        raise InputError(f"{path} is not UTF-8 at byte {e.start}: save it as UTF-8") from None
    lines = [unicodedata.normalize("NFC", line).strip() for line in lines]
    found = [(f"{path}: line {i}", line) for i, line in enumerate(lines, 1)]
    found = [(where, line) for where, line in found if line and not line.startswith("#")]
    if not found:
        raise InputError(f"{path} holds no words: write one word per line")
    return found
