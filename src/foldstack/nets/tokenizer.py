"""Fixes for two tokenizers that transformers 5.23 loads incorrectly, and a check of all."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, normalizers
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file

from foldstack.errors import InputError


def fix_tokenizer(tokenizer: PreTrainedTokenizerBase, place: str) -> PreTrainedTokenizerBase:
    """Fix the tokenizer in place if it is one of the two; place: where it was loaded from.

    Raises InputError if it has special tokens alone, as what the library makes if there is none.
    """
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise InputError(
            f"backbone '{place}' has no tokenizer: save one beside its weights, or take another"
        )
    kind = type(tokenizer).__name__
    if kind == "RoFormerTokenizer":
        _fix_roformer(tokenizer)
    if kind == "DebertaV2Tokenizer":
        _fix_deberta(tokenizer, place)
    return tokenizer


def _fix_roformer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Pass the vocabulary to jieba; loaded from vocab.txt, it looks words up in the file's name."""
    from transformers.models.roformer.tokenization_utils import JiebaPreTokenizer

    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = PreTokenizer.custom(JiebaPreTokenizer(backend.get_vocab()))


def _fix_deberta(tokenizer: PreTrainedTokenizerBase, place: str) -> None:
    """Restore SentencePiece's normalisation, without which `…` and full-width letters are unknown."""
    options = {"local_files_only": True, "_raise_exceptions_for_missing_entries": False}
    stored = cached_file(place, "tokenizer.json", **options)
    if stored is not None:
        tokenizer.backend_tokenizer.normalizer = Tokenizer.from_file(stored).normalizer
        return
    from transformers.convert_slow_tokenizer import SentencePieceExtractor

    steps = [normalizers.Lowercase()] if tokenizer.do_lower_case else []
    steps.append(normalizers.Strip())
    specification = SentencePieceExtractor(tokenizer.vocab_file).proto.normalizer_spec
    if specification.precompiled_charsmap:
        steps.append(normalizers.Precompiled(specification.precompiled_charsmap))
    steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(steps)
