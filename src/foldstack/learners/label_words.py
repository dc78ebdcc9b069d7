"""Words that stand for labels after a template, and the tokens by which a language model scores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from transformers import PreTrainedTokenizerBase

from foldstack.errors import InputError, cut, nearest
from foldstack.text.laid import as_written, spaces_read


def words_of(given: Mapping[str, str], labels: Sequence[str]) -> tuple[str, ...]:
    """Return the word of each label: the given one, or its name.

    Raises InputError if a word is given for what is no label.
    """
    unknown = [label for label in given if label not in labels]
    if unknown:
        raise InputError(
            f"label_words names '{cut(unknown[0])}', which is no label of the competition: "
            f"{nearest(unknown[0], labels)}"
        )
    return tuple(given.get(label, label) for label in labels)


def first_tokens(
    words: Sequence[str], spaces: str, tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Return the id of each word's first token.

    Args:
        words: one per label.
        spaces: between the template and a word.
        tokenizer: of the backbone.

    Raises:
        InputError: a word has no token, or two begin with the same one.
    """
    before = spaces_read(spaces, tokenizer)
    read = as_written([before + word for word in words], tokenizer)
    for word, length in zip(words, read.lengths, strict=True):
        if length == 0:
            raise InputError(f"label_words: the word {word!r} has no token: take another")
    ids = [int(read.flat[start]) for start in read.starts]
    for (a, one), (b, other) in combinations(zip(words, ids, strict=True), 2):
        if one == other:
            raise InputError(
                f"label_words: {a!r} and {b!r} begin with the same token, "
                f"{tokenizer.decode([one])!r}, by which they are scored: take other words"
            )
    return ids
