"""Special tokens typed in a text, such as [SEP]: read as text, or as the tokens that they name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# What is read as tokens all the same, since the user wrote it, and the backends that spell.
_written: WeakKeyDictionary[PreTrainedTokenizerBase, frozenset[str]] = WeakKeyDictionary()
_spelling: WeakKeyDictionary[PreTrainedTokenizerBase, Tokenizer | None] = WeakKeyDictionary()


def set_special(
    tokenizer: PreTrainedTokenizerBase, as_text: bool, written: Sequence[str] = ()
) -> None:
    """Set how the tokenizer reads special tokens that are typed in a text.

    Args:
        tokenizer: changed in place.
        as_text: split them into ordinary tokens.
        written: texts that the user wrote around those of the files (prefix, templates); special
            tokens in them stay tokens, wherever they stand.
    """
    tokenizer.split_special_tokens = as_text
    kept = {token for token in special_ids(tokenizer) if any(token in text for text in written)}
    _written[tokenizer] = frozenset(kept if as_text else ())
    _spelling.pop(tokenizer, None)


def kept_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """Return the special tokens that are tokens although others are split."""
    return _written.get(tokenizer, frozenset())


def special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the special tokens and their ids."""
    tokens = set(tokenizer.all_special_tokens)
    tokens |= {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
    return {token: tokenizer.convert_tokens_to_ids(token) for token in sorted(tokens)}


class Speller:
    """Finds texts of a chunk that still hold special tokens, and tokenises them without.

    A backend that is told to split special tokens does not look for them in the text, but the
    vocabulary of a Unigram model holds them as pieces like any other, which it finds.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer, kept = tokenizer, kept_tokens(tokenizer)
        found = {t: i for t, i in special_ids(tokenizer).items() if t not in kept}
        self.unknown = tokenizer.unk_token if tokenizer.unk_token in found else None
        self.unknown_id = found.pop(self.unknown, None)
        self.ids = np.array(sorted(found.values()), dtype=np.int64)

    def typed_in(self, texts: Sequence[str], flat: np.ndarray, lengths: np.ndarray) -> list[int]:
        """Return the numbers of the texts whose ids, concatenated in `flat`, have special tokens."""
        row = np.repeat(np.arange(len(texts)), lengths)
        rows = set(row[np.isin(flat, self.ids)].tolist())
        if self.unknown:  # of a character, or typed
            unknown = np.unique(row[flat == self.unknown_id]).tolist()
            rows |= {i for i in unknown if self.unknown in texts[i]}
        return sorted(rows)

    def spell(self, texts: Sequence[str], ids: list[list[int]], rows: list[int]) -> list[list[int]]:
        """Return the ids of all texts, those of these rows without special tokens."""
        backend = spelling_backend(self.tokenizer)
        if backend is None:
            return ids
        out = list(ids)
        encoded = backend.encode_batch_fast([texts[i] for i in rows], add_special_tokens=False)
        for i, encoding in zip(rows, encoded, strict=True):
            out[i] = encoding.ids
        return out


def spelling_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer | None:
    """Return the tokenizer's backend without special tokens but those kept; None if it has Python code.

    All other ids stay: a special token is renamed to what no text holds.
    """
    if tokenizer not in _spelling:
        _spelling[tokenizer] = _without_special(tokenizer)
    return _spelling[tokenizer]


def _without_special(tokenizer: PreTrainedTokenizerBase) -> Tokenizer | None:
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or (
        type(tokenizer)._encode_plus is not PreTrainedTokenizerFast._encode_plus
    ):
        return None
    try:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
    except Exception as e:  # the library raises no specific type
        if "Custom" not in str(e):
            raise
        return None
    model, kept = state["model"], kept_tokens(tokenizer)
    names = {t: f"\ufdd0{i}" for t, i in special_ids(tokenizer).items() if t not in kept}
    by_name = isinstance(model["vocab"], dict)
    pieces = set(model["vocab"] if by_name else (piece for piece, _ in model["vocab"]))
    added = state["added_tokens"]
    state["added_tokens"] = [
        token | {"content": names[token["content"]], "normalized": False}
        if token["content"] in names
        else token
        for token in added
        if token["content"] not in names or token["content"] not in pieces
    ]
    if by_name:
        names.pop(model.get("unk_token"), None)  # the model looks it up
        model["vocab"] = {names.get(piece, piece): i for piece, i in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    state["post_processor"] = None
    return Tokenizer.from_str(json.dumps(state))
