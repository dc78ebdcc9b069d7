"""Two tokenizers that the library (transformers 5.23) reads from their files with a slip."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, normalizers
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file


def fix_tokenizer(tokenizer: PreTrainedTokenizerBase, place: str) -> PreTrainedTokenizerBase:
    """The tokenizer, changed in place where it is one of the two; place: where it was loaded from."""
    kind = type(tokenizer).__name__
    if kind == "RoFormerTokenizer":
        _mend_roformer(tokenizer)
    if kind == "DebertaV2Tokenizer":
        _mend_deberta(tokenizer, place)
    return tokenizer


def _mend_roformer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Loaded from a vocab.txt, it looks words up in that file's name, and finds none."""
    from transformers.models.roformer.tokenization_utils import JiebaPreTokenizer

    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = PreTokenizer.custom(JiebaPreTokenizer(backend.get_vocab()))


def _mend_deberta(tokenizer: PreTrainedTokenizerBase, place: str) -> None:
    """It drops SentencePiece's normalisation: `…` and full-width letters would be unknown."""
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
