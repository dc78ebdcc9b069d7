"""Tokenizers of words or characters, whose vocabulary is fitted inside the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import regex
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import NFC, Lowercase
from tokenizers.normalizers import Sequence as Normalisers
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from foldstack.techniques import Words
from foldstack.text.ngrams import CHINESE
from foldstack.text.word_reader import NONE, WordLists, WordReader

PAD, UNKNOWN, MASK, BETWEEN, END = SPECIAL = ("[PAD]", "[UNK]", "[MASK]", "[SEP]", "[END]")
# Of sentences; of several in a row, the last one ends it.
END_MARKS = (".", "!", "?", "…", "。", "！", "？", "।", "؟")
# Letters, digits and marks in a row, or one sign. Written so that both engines read it alike: Python's
# \w knows no marks, which Hindi and Thai words hold.
WORD = r"[\p{L}\p{M}\p{N}_]+|[^\s\p{L}\p{M}\p{N}_]"
RUN = regex.compile(r"[\p{L}\p{M}\p{N}_]+")
CHARACTER = r"\S"
BORDER = "\ue000"  # of private use: between the words of a text and its characters
_UNITS = {"words": WORD, "characters": CHARACTER, "both": WORD}


class WordTokenizer(PreTrainedTokenizerFast):
    """Splits texts into words or characters. Each text ends in [END], so that none is empty."""

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        words: Words,
        lists: WordLists = NONE,
        always: tuple[str, ...] = (),
    ) -> WordTokenizer:
        """Return the tokenizer of the words that occur in enough of these texts.

        Args:
            texts: of the training rows.
            words: what a word is, and which are kept.
            lists: the words that the rules of `words` name.
            always: words that are kept in any case.
        """
        between = (BORDER,) if words.unit == "both" else ()
        kept = frequent(words_of(texts, words, lists), words, always)
        known = (*SPECIAL, *between, *always, *kept)
        vocabulary = {word: i for i, word in enumerate(known)}
        return cls.of(_backend(vocabulary, words), words, lists)

    @classmethod
    def of(cls, backend: Tokenizer, words: Words, lists: WordLists = NONE) -> WordTokenizer:
        made = cls(
            tokenizer_object=backend,
            pad_token=PAD,
            unk_token=UNKNOWN,
            mask_token=MASK,
            sep_token=BETWEEN,
            eos_token=END,
        )
        made.words, made.lists = words, lists
        return made

    @classmethod
    def read(cls, folder: Path, words: Words, lists: WordLists = NONE) -> WordTokenizer:
        """Read what `save_pretrained` wrote."""
        return cls.of(Tokenizer.from_file(str(folder / "tokenizer.json")), words, lists)


class PreparedTokenizer(WordTokenizer):
    """The same over texts whose tokens Python has put spaces between, which the backend cannot."""

    letter = BORDER  # for `Frame.of`: no rule drops it

    def _encode_plus(self, text, text_pair=None, **options):
        kept = () if self.split_special_tokens else self.all_special_tokens
        prepared = _preparer(self.words, self.lists, kept)

        def each(given):
            return (
                [prepared(t) for t in given] if isinstance(given, list | tuple) else prepared(given)
            )

        pair = None if text_pair is None else each(text_pair)
        return super()._encode_plus(each(text), pair, **options)


def kind_of(words: Words) -> type[WordTokenizer]:
    """Return the tokenizer's class."""
    plain = words.as_they_are and words.cut != "rjieba"
    return WordTokenizer if plain else PreparedTokenizer


def words_of(texts: Iterable[str], words: Words, lists: WordLists = NONE) -> Iterator[list[str]]:
    """Yield each text's words, before a vocabulary knows some of them only."""
    prepared, unit = _preparer(words, lists), regex.compile(_UNITS[words.unit])
    normal = _normaliser(words.lower).normalize_str
    for text in texts:
        yield unit.findall(normal(prepared(text)))


def frequent(
    texts: Iterable[Sequence[str]], words: Words, others: Iterable[str] = ()
) -> dict[str, int]:
    """Return the kept words with the number of texts that hold each, those of most texts first.

    texts: each one's words. others: words that are not among them.
    """
    frequency: Counter[str] = Counter()
    count = 0
    for found in texts:
        frequency.update(set(found))
        count += 1
    for word in (BORDER, *others):
        frequency.pop(word, None)
    most = words.max_share * count
    kept = [(word, n) for word, n in frequency.items() if words.min_count <= n <= most]
    kept.sort(key=lambda pair: (-pair[1], pair[0]))
    return dict(kept[: words.most])


def _preparer(words: Words, lists: WordLists, kept: Collection[str] = ()) -> Callable[[str], str]:
    """Return a function from a text to its tokens with spaces between; kept: tokens that stay whole."""
    if words.as_they_are:
        return _cutter(words)
    tokens, unit = WordReader(words, words.cut == "rjieba", lists), regex.compile(WORD)
    whole = regex.compile("|".join(map(regex.escape, kept)) or r"(?!)")
    normal = _normaliser(words.lower).normalize_str

    def apart(text: str, split: Callable[[str], Iterable[str]]) -> list[str]:
        found, end = [], 0
        for token in whole.finditer(text):
            found += [*split(normal(text[end : token.start()])), token[0]]
            end = token.end()
        return [*found, *split(normal(text[end:]))]

    def prepared(text: str) -> str:
        if text == BORDER:
            return text
        found = apart(text, lambda part: [t for run in unit.findall(part) for t in tokens(run)])
        if words.unit == "both":
            found += [BORDER, *apart(text, regex.compile(CHARACTER).findall)]
        return " ".join(found)

    return prepared


def _cutter(words: Words) -> Callable[[str], str]:
    """Return a function that puts spaces between the words of a text that has none."""
    if words.cut != "rjieba":
        return lambda text: text
    import rjieba  # here, since it loads its dictionary

    def spaced(found: regex.Match) -> str:
        # rjieba would take words of other scripts apart
        return " ".join(rjieba.cut(found[0])) if CHINESE.search(found[0]) else found[0]

    return lambda text: RUN.sub(spaced, text) if CHINESE.search(text) else text


def _normaliser(lower: bool) -> Normalisers:
    return Normalisers([NFC(), *([Lowercase()] if lower else [])])


def _backend(vocabulary: dict[str, int], words: Words) -> Tokenizer:
    made = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    made.normalizer = _normaliser(words.lower)
    made.pre_tokenizer = Split(Regex(_UNITS[words.unit]), behavior="removed", invert=True)
    made.add_special_tokens(list(SPECIAL))
    made.post_processor = TemplateProcessing(
        single=f"$A {END}",
        pair=f"$A {BETWEEN} $B:1 {END}:1",
        special_tokens=[(token, vocabulary[token]) for token in (BETWEEN, END)],
    )
    return made
