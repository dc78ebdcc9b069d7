"""Augmentation by language models: masked words filled, texts translated there and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from foldstack.errors import InputError
from foldstack.text.augment import Augmenter, filled
from foldstack.text.augment.contextual import Filling
from foldstack.text.augment.filled import FilledCache
from foldstack.text.augment.language_models import load_language_model, padded_batches
from foldstack.text.augment.resources import Resources
from foldstack.text.augment.translation import GumbelNoise, Translator
from test_augment import rows_of, settings_of

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["a", "good", "bad", "fine", "film", "plot", "and", "the", "##s", "##ly", "!", "好", "坏"]
TEXTS = [
    "a good film and a bad plot",
    "the plot!  A fine film",
    "good films",
    "the Bad and the GOOD",
]


def save_tokenizer(folder: Path, **special: str) -> None:
    """WordPiece over WORDS."""
    made = Tokenizer(
        models.WordPiece({w: i for i, w in enumerate([*SPECIAL, *WORDS])}, unk_token="[UNK]")
    )
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=16,
        **{"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"} | special,
    ).save_pretrained(folder)


CONFIG = BertConfig(
    vocab_size=len(SPECIAL) + len(WORDS),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=16,
    initializer_range=1.0,
)


def make_masked(folder: Path, **logits: float) -> str:
    """A random masked language model; with these words' biases it predicts them whatever it reads."""
    save_tokenizer(folder)
    torch.manual_seed(0)
    model = BertForMaskedLM(CONFIG)
    if logits:
        model.get_output_embeddings().weight.data.zero_()
        bias = torch.zeros(CONFIG.vocab_size)
        for word, value in logits.items():
            bias[[*SPECIAL, *WORDS].index(word)] = value
        model.cls.predictions.bias.data.copy_(bias)
        model.get_output_embeddings().bias.data.copy_(bias)
    model.save_pretrained(folder)
    return str(folder)


def make_translator(folder: Path, seed: int) -> str:
    save_tokenizer(folder, eos_token="[SEP]")
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(SPECIAL) + len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=3, initializer_factor=5.0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def masked(tmp_path_factory) -> str:
    return make_masked(tmp_path_factory.mktemp("masked"))


@pytest.fixture(scope="module")
def translators(tmp_path_factory) -> dict[str, str]:
    names = ("forward", "backward")
    return {n: make_translator(tmp_path_factory.mktemp(n), i) for i, n in enumerate(names)}


def changed(technique: dict, texts: list, seed: int = 0) -> list:
    rows = rows_of(texts)
    return Augmenter.of(settings_of(technique), rows).copies(rows, 1, seed).texts


def contextual(model: str, **settings: object) -> dict:
    return {"name": "contextual_words", "model": model} | settings


# Masked words


def test_the_most_probable_word_comes_but_never_the_one_that_was_there(tmp_path):
    """`good` is predicted everywhere, and `fine` where `good` stands; pieces and marks never come."""
    model = make_masked(
        tmp_path / "m", **{"##s": 9.0, "[SEP]": 8.0, "!": 7.0, "good": 5.0, "fine": 4.0}
    )
    (after,), *_ = changed(contextual(model, share=1, top_k=1), TEXTS)
    assert after == "good fine good good good good good"
    after = [text for (text,) in changed(contextual(model, share=1, top_k=1), TEXTS)]
    assert after[1:] == ["good good!  Good good good", "fine good", "good Good good good FINE"]


def test_top_1_is_the_argmax_of_each_mask(masked):
    """Slow reference: each text alone, every word masked, the whole words of the vocabulary."""
    model = AutoModelForMaskedLM.from_pretrained(masked).eval()
    tokenizer = AutoTokenizer.from_pretrained(masked)
    for text in ("a good film", "the plot and the film", "bad"):
        words = text.split()
        ids = [2, *[tokenizer.mask_token_id] * len(words), 3]
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, 1:-1]
        whole = [w for w in WORDS if w[0].isascii() and w[0].isalpha()]
        of = tokenizer.convert_tokens_to_ids(whole)
        expected = [
            max((float(scores[i]), w) for i, w in zip(of, whole, strict=True) if w != word)[1]
            for word, scores in zip(words, logits, strict=True)
        ]
        settings = contextual(masked, share=1, top_k=1)
        assert changed(settings, [text, *TEXTS])[0] == (" ".join(expected),)


def test_only_masked_words_are_hidden_from_the_model(masked):
    """With one word of three masked, the others are read."""
    model = AutoModelForMaskedLM.from_pretrained(masked).eval()
    tokenizer = AutoTokenizer.from_pretrained(masked)
    before = ["a", "good", "film"]
    (after,) = changed(contextual(masked, share=0.1, top_k=1), [" ".join(before)])[0]
    (at,) = [i for i, w in enumerate(after.split()) if w != before[i]]
    ids = tokenizer(" ".join(before))["input_ids"]
    ids[at + 1] = tokenizer.mask_token_id
    with torch.inference_mode():
        scores = model(torch.tensor([ids])).logits[0, at + 1]
    whole = [w for w in WORDS if w.isalpha() and w.isascii() and w != before[at]]
    best = max(whole, key=lambda w: float(scores[tokenizer.convert_tokens_to_ids(w)]))
    assert after.split()[at] == best


def test_the_share_of_words_that_are_masked(masked):
    text = "a good film and a bad plot the fine"
    for share, count in ((0.1, 1), (0.3, 3), (1.0, 9)):
        (after,) = changed(contextual(masked, share=share), [text])[0]
        assert sum(a != b for a, b in zip(after.split(), text.split(), strict=True)) == count


def test_words_come_in_proportion_to_their_probability(tmp_path):
    """Logits ln 3 and 0 of `fine` and `film`, the two most probable: 3 to 1; at temperature 2, √3."""
    logits = {"fine": 9 + np.log(3), "film": 9.0}
    model = make_masked(tmp_path / "m", **logits)

    def share(**settings: object) -> float:
        texts = ["bad"] * 2000
        came = [t for (t,) in changed(contextual(model, share=1, **settings), texts)]
        assert set(came) == {"fine", "film"}
        return came.count("fine") / len(came)

    assert share(top_k=2) == pytest.approx(0.75, abs=0.03)
    assert share(top_k=2, temperature=2.0) == pytest.approx(3**0.5 / (1 + 3**0.5), abs=0.03)
    assert changed(contextual(model, share=1, top_k=1), ["bad"]) == [("fine",)]


def test_of_a_model_that_knows_some_texts_words_only_those_of_the_training_texts_come(tmp_path):
    """It has not learned how improbable the others are."""
    model = make_masked(tmp_path / "m", plot=9.0, film=5.0)
    assert changed(contextual(model, share=1, top_k=1), ["bad film"]) == [("plot plot",)]
    config = tmp_path / "m/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"words_of_texts": True}))
    assert changed(contextual(model, share=1, top_k=1), ["bad film"]) == [("film bad",)]


def test_a_word_of_pieces_is_masked_as_one(masked):
    """`films` is film and ##s: one word comes, and what stands around it stays."""
    (after,) = changed(contextual(masked, share=1), ["  films!\n"])[0]
    assert after.startswith("  ") and after.endswith("!\n")
    assert after.strip(" !\n") in WORDS and after != "  films!\n"


def test_a_word_of_a_script_without_spaces_is_replaced_by_one(masked):
    (after,) = changed(contextual(masked, share=1), ["好坏"])[0]
    assert after == "坏好"


def test_words_beyond_what_the_model_reads_stay(masked):
    """It reads 14 words and two special tokens."""
    text = " ".join(["good"] * 20)
    (after,) = changed(contextual(masked, share=1), [text])[0]
    assert after.split()[14:] == ["good"] * 6 and "good" not in after.split()[:14]


def test_a_filled_text_depends_on_seed_epoch_and_id_alone(masked):
    rows = rows_of([*TEXTS, *[f"the good film {'and bad ' * (i % 4)}" for i in range(60)]])
    online = Augmenter.of(settings_of(contextual(masked, probability=0.7)), rows)
    texts = online.texts(rows, seed=0, epoch=0)
    assert texts == online.texts(rows, seed=0, epoch=0)
    assert texts[::-1] == online.texts(rows.take(np.arange(len(rows))[::-1]), seed=0, epoch=0)
    assert texts[1:2] == online.texts(rows.take(np.array([1])), seed=0, epoch=0)
    assert texts != online.texts(rows, seed=1, epoch=0)
    assert texts != online.texts(rows, seed=0, epoch=1)
    assert 0.5 < np.mean([a != b for a, b in zip(texts, rows.texts, strict=True)]) < 0.9


def test_both_texts_of_a_pair_are_filled(masked):
    pairs = [("good film", "bad plot"), ("the film", "")]
    first, second = changed(contextual(masked, share=1), pairs)
    assert all(a != b for a, b in zip(first, pairs[0], strict=True))
    assert second[0] != "the film" and second[1] == ""


def test_the_random_state_of_the_process_stays(masked, translators):
    for technique in (contextual(masked), {"name": "back_translation"} | translators):
        torch.manual_seed(5)
        expected = float(torch.rand(1))
        torch.manual_seed(5)
        changed(technique, TEXTS)
        assert float(torch.rand(1)) == expected


def refused(technique: dict) -> str:
    with pytest.raises(InputError) as e:
        changed(technique, TEXTS)
    return str(e.value)


def test_a_backbone_without_a_head_is_refused(tmp_path):
    save_tokenizer(tmp_path)
    BertModel(CONFIG).save_pretrained(tmp_path)
    assert refused(contextual(str(tmp_path))) == (
        f"augment: contextual_words.model: '{tmp_path}' lacks the weight 'cls.predictions.bias' (6 in "
        "all): name a checkpoint that was trained for this task"
    )


def test_a_folder_that_is_not_there_is_refused():
    assert refused(contextual("/no/model")) == (
        "augment: contextual_words.model: '/no/model': there is no folder /no/model"
    )


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path):
    model = make_masked(tmp_path)
    save_tokenizer(tmp_path, mask_token=None)
    assert refused(contextual(model)) == (
        f"augment: contextual_words.model: the tokenizer of '{model}' has no mask token: name another "
        "model"
    )


def test_a_model_is_required():
    with pytest.raises(ValidationError, match="Field required"):
        settings_of("contextual_words")


# Translation


def test_without_sampling_it_is_the_greedy_translation_there_and_back(translators):
    """Slow reference: text by text through the library."""
    expected = []
    for text in TEXTS:
        found = text
        for place in translators.values():
            tokenizer = AutoTokenizer.from_pretrained(place)
            model = AutoModelForSeq2SeqLM.from_pretrained(place).eval()
            ids = tokenizer(found)["input_ids"]
            made = model.generate(torch.tensor([ids]), max_new_tokens=15, do_sample=False)
            found = tokenizer.decode(made[0], skip_special_tokens=True).strip()
            if len(ids) > 16 or not found:
                found = text
                break
        expected.append((found,))
    assert sum(a != (b,) for a, b in zip(expected, TEXTS, strict=True)) > 1
    technique = {"name": "back_translation", "temperature": 0} | translators
    assert changed(technique, TEXTS) == expected
    assert changed(technique, TEXTS, seed=1) == expected


def test_noise_makes_the_argmax_a_sample():
    """Gumbel-max: the shares are the softmax at the temperature."""
    logits = torch.tensor([[2.0, 1.0, 0.0]]).repeat(4000, 1)
    noisy = GumbelNoise([[i] for i in range(4000)], 2.0)(None, logits)
    shares = torch.bincount(noisy.argmax(dim=1), minlength=3) / 4000
    torch.testing.assert_close(shares, (logits[0] / 2).softmax(0), atol=0.03, rtol=0)


def test_a_translation_depends_on_seed_and_id_alone(translators):
    technique = {"name": "back_translation"} | translators
    texts = changed(technique, TEXTS)
    assert texts == changed(technique, TEXTS) != changed(technique, TEXTS, seed=1)
    rows = rows_of(TEXTS)
    fitted = Augmenter.of(settings_of(technique), rows)
    assert fitted.copies(rows.take(np.array([2])), 1, 0).texts == texts[2:3]


def test_a_text_that_is_too_long_or_empty_is_not_translated(translators):
    texts = [" ".join(["good"] * 20), "", TEXTS[0]]
    after = changed({"name": "back_translation", "temperature": 0} | translators, texts)
    assert after[:2] == [(texts[0],), ("",)] and after[2] != (texts[2],)


# Each is computed once


def counting(monkeypatch) -> list[int]:
    """The numbers of texts that the masked language model is given from now on."""
    counts, fill = [], Filling.fill

    def counted(self: Filling, texts: list, seeds: list) -> list:
        counts.append(len(texts))
        return fill(self, texts, seeds)

    monkeypatch.setattr(Filling, "fill", counted)
    return counts


def kept(folder: Path, model: str, texts: list, *, seed: int = 0, **settings: object) -> list:
    """Copies of these texts, filled with a cache."""
    rows = rows_of(texts)
    technique = settings_of(contextual(model, **settings))
    return Augmenter.of(technique, rows, Resources(filled=folder)).copies(rows, 1, seed).texts


def test_what_a_model_computes_of_a_text_does_not_depend_on_the_others(masked):
    """To the last bit, since what is kept was computed beside others."""
    model, tokenizer = load_language_model(AutoModelForMaskedLM, "contextual_words.model", masked)
    texts = [f"the {'good film and ' * (i % 5)}plot" for i in range(40)]

    def logits(some: list[str]) -> list[bytes]:
        found, ids = {}, tokenizer(some)["input_ids"]
        for at, rows, padded in padded_batches(ids, tokenizer, 16):
            assert len(rows) == 16 == len(padded["input_ids"]) and padded["input_ids"].shape[1] in (
                8,
                16,
            )
            with torch.inference_mode():
                made = model(**{k: padded[k] for k in ("input_ids", "attention_mask")}).logits
            found |= {i: made[k].numpy().tobytes() for k, i in enumerate(at)}
        return [found[i] for i in range(len(some))]

    whole = logits(texts)
    assert [logits([text])[0] for text in texts] == whole == logits(texts[::-1])[::-1]


def test_texts_are_the_same_with_a_cache_and_without_and_filled_once(masked, tmp_path, monkeypatch):
    plain = changed(contextual(masked), TEXTS)
    counts = counting(monkeypatch)
    assert kept(tmp_path, masked, TEXTS) == plain
    assert sum(counts) == 2 * len(TEXTS)  # tried, and changed
    counts.clear()
    assert kept(tmp_path, masked, TEXTS) == plain and counts == []
    longer = kept(tmp_path, masked, [*TEXTS, "a bad film"])
    assert longer[:-1] == plain and sum(counts) == 2  # another row of the same file


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"share": 1.0}, {"top_k": 2}, {"temperature": 2.0}], ids=str
)
def test_other_seeds_and_settings_are_filled_again(masked, tmp_path, monkeypatch, other):
    kept(tmp_path, masked, TEXTS)
    seed = {"seed": other.pop("seed", 0)}
    expected, counts = changed(contextual(masked, **other), TEXTS, **seed), counting(monkeypatch)
    assert kept(tmp_path, masked, TEXTS, **seed, **other) == expected and counts


def test_another_model_in_the_same_folder_fills_again_and_a_moved_one_does_not(
    tmp_path, monkeypatch
):
    make_masked(tmp_path / "m", fine=9.0)
    kept(tmp_path / "cache", str(tmp_path / "m"), TEXTS)
    (tmp_path / "m").rename(tmp_path / "moved")
    counts = counting(monkeypatch)
    kept(tmp_path / "cache", str(tmp_path / "moved"), TEXTS, probability=0.2)
    assert counts == []
    make_masked(tmp_path / "moved", plot=9.0)
    kept(tmp_path / "cache", str(tmp_path / "moved"), TEXTS)
    assert sum(counts) == 2 * len(TEXTS)


def test_translations_are_kept_too(translators, tmp_path, monkeypatch):
    technique = {"name": "back_translation"} | translators
    rows = rows_of(TEXTS)

    def copies() -> list:
        made = Augmenter.of(settings_of(technique), rows, Resources(filled=tmp_path))
        return made.copies(rows, 1, 0).texts

    plain = changed(technique, TEXTS)
    assert copies() == plain
    monkeypatch.setattr(Translator, "translated", None)
    assert copies() == plain


def test_a_damaged_part_is_said_and_made_again(masked, tmp_path, capsys):
    plain = kept(tmp_path, masked, TEXTS)
    for place in tmp_path.glob("*/*/texts.npy"):
        place.write_bytes(place.read_bytes()[:-1])
    assert kept(tmp_path, masked, TEXTS) == plain
    assert "is damaged: making its texts again" in capsys.readouterr().out


def test_a_killed_run_finds_the_parts_that_were_kept(tmp_path, monkeypatch):
    texts = [f"the good film {'and bad ' * (i % 4)}" for i in range(6)]
    calls = []

    def fill(some: list, seeds: list) -> list:
        calls.append(len(some))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return [f"{text} {seed}" for text, seed in zip(some, seeds, strict=True)]

    monkeypatch.setattr(filled, "PART", 2)
    with pytest.raises(KeyboardInterrupt):
        FilledCache(tmp_path, fill, "key").read(texts, range(6))
    expected = [f"{text} {seed}" for seed, text in enumerate(texts)]
    assert FilledCache(tmp_path, fill, "key").read(texts, range(6)) == expected
    assert calls == [2, 2, 2, 2] and list(tmp_path.glob(".part-*")) == []


def test_a_cache_that_cannot_be_written_is_done_without(masked, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert kept(tmp_path / "file", masked, TEXTS) == changed(contextual(masked), TEXTS)
    said = f"changing texts without the cache in {tmp_path / 'file'}: Not a directory\n"
    assert said in capsys.readouterr().out
