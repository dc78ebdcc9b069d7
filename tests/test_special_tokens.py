"""Special tokens that are typed in a text: they are text, unless a setting says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from foldstack.competition import Competition
from foldstack.files import read_json, write_json
from foldstack.learners import LearnerContext
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.backbone import load_backbone
from foldstack.text.cache import TokenCache, tokenizer_key
from foldstack.text.sequences import Stretches, encode
from foldstack.text.special import set_special, special_ids
from foldstack.text.tokens import tokenise
from makers import make_learner, make_rows
from test_long import FAMILIES
from test_presets import ODD, checkpoint
from tiny import make_workspace

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

TYPED = "good [SEP] x </s> z<mask> [MASK] <s>y <sep> <cls>[CLS][PAD] <pad> [UNK] <unk> film"


@pytest.fixture
def tokenizer_of(tmp_path: Path) -> Callable[[str], PreTrainedTokenizerBase]:
    def tokenizer(family: str) -> PreTrainedTokenizerBase:
        checkpoint(family, tmp_path / family)
        return load_backbone(str(tmp_path / family))[1]

    return tokenizer


def lists(texts: Stretches) -> list[list[int]]:
    return [texts.flat[a:b].tolist() for a, b in zip(texts.starts, texts.ends, strict=True)]


def tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(encode([text], tokenizer).flat.tolist()))


# What the tokenizer reads


@pytest.mark.parametrize("family", FAMILIES)
def test_no_text_makes_a_special_token_and_other_texts_keep_their_ids(family, tokenizer_of) -> None:
    """A Unigram vocabulary holds </s> as a piece, which it finds even if told to split it."""
    tokenizer = tokenizer_of(family)
    plain = [text for text in ODD if not any(t in text for t in special_ids(tokenizer))]
    before = lists(encode(plain, tokenizer))
    typed = set(encode([TYPED], tokenizer).flat.tolist())
    special = set(special_ids(tokenizer).values()) - {tokenizer.unk_token_id}
    assert typed & special
    set_special(tokenizer, as_text=True)
    assert lists(encode(plain, tokenizer)) == before
    assert not special & set(encode([TYPED], tokenizer).flat.tolist())
    set_special(tokenizer, as_text=False)
    assert set(encode([TYPED], tokenizer).flat.tolist()) == typed


SPELLED = {
    # what is typed, and its tokens; the tiny vocabularies lack most punctuation
    "bert": ("a [SEP]s", "a [UNK] s ##e ##p [UNK] s"),
    "roberta": ("a</s>", "a < / s >"),
    "xlm-roberta": ("a</s>", "▁a <unk> s <unk>"),
    "xlnet": ("a</s><unk>", "▁a <unk> s <unk> u n k <unk>"),
    "deberta-v3-base": ("a <s>", "▁ a ▁ [UNK] s [UNK]"),
}


@pytest.mark.parametrize("family", SPELLED)
def test_a_special_token_is_spelled(family, tokenizer_of) -> None:
    typed, expected = SPELLED[family]
    tokenizer = tokenizer_of(family)
    set_special(tokenizer, as_text=True)
    assert tokens(typed, tokenizer) == expected


@pytest.mark.parametrize(
    "family, separator, other",
    [("bert", "[SEP]", "[MASK]"), ("roberta", "</s>", "<mask>"), ("xlm-roberta", "</s>", "<mask>")],
)
def test_what_the_user_wrote_stays_a_token(family, separator, other, tokenizer_of) -> None:
    tokenizer = tokenizer_of(family)
    text = f"good {separator} film"
    as_before = tokens(text, tokenizer)
    assert separator in as_before.split()
    set_special(tokenizer, as_text=True, written=["", f"{{title}} {separator} {{body}}"])
    assert tokens(text, tokenizer) == as_before
    found = tokens(f"good {separator} {other} film", tokenizer).split()
    assert separator in found and other not in found


def test_special_tokens_around_a_text_are_the_only_ones(tokenizer_of) -> None:
    bert = tokenizer_of("bert")
    set_special(bert, as_text=True)
    found = tokenise(make_rows([("good [SEP]", "[CLS] film")]), bert, max_length=30, types=True)
    ids = found.flat.tolist()
    assert [ids.count(i) for i in (bert.cls_token_id, bert.sep_token_id)] == [1, 2]
    assert found.types.tolist() == sorted(found.types.tolist())


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "roformer-zh"])
def test_the_cache_holds_texts_and_tokens_apart(family, tokenizer_of, tmp_path: Path) -> None:
    """Ids that an older version stored are not taken for these."""
    tokenizer, rows = tokenizer_of(family), make_rows([TYPED, "a film"])
    cache = TokenCache(tmp_path / "tokens")
    keys, found = set(), []
    for as_text, written in ((False, ""), (True, ""), (True, "[MASK]"), (True, "<mask>")):
        set_special(tokenizer, as_text, [written])
        keys.add(tokenizer_key(tokenizer))
        for _ in range(2):
            (read,) = cache.read(rows, tokenizer)
            assert lists(read) == lists(encode([TYPED, "a film"], tokenizer))
        found.append(lists(read))
    assert found[0] != found[1]
    assert len(keys) == (1 if family == "roformer-zh" else 3)  # one of the two is not special


# In a run


def ids_of(learner: TransformerLearner, text: str) -> list[int]:
    return learner.encoder.tokens(make_rows([text])).flat.tolist()


def test_a_run_reads_text_unless_its_preset_says_tokens(tmp_path: Path) -> None:
    checkpoint("bert", tmp_path / "bert")
    rows = make_rows(["a [SEP] film", "good"])
    found = {}
    for setting in ("text", "tokens"):
        learner = make_learner(tmp_path / "bert", special_tokens=setting)
        learner.prepare(rows)
        found[setting] = ids_of(learner, "a [SEP] film")
    separator = learner.encoder.tokenizer.sep_token_id
    assert found["text"].count(separator) == 1 and found["tokens"].count(separator) == 2


def test_a_stored_model_reads_as_it_learned(tmp_path: Path) -> None:
    """Models of before there was the setting read tokens."""
    checkpoint("bert", tmp_path / "bert")
    learner = make_learner(tmp_path / "bert")
    learner.prepare(make_rows(["a [SEP] film", "good"]))
    learner.save(tmp_path / "model")
    loaded = make_learner(tmp_path / "bert")
    loaded.load(tmp_path / "model")
    assert ids_of(loaded, "a [SEP] film") == ids_of(learner, "a [SEP] film")
    path = tmp_path / "model/classifier.json"
    facts = read_json(path)
    assert facts.pop("special_tokens") == "text"
    write_json(path, facts)
    old = make_learner(tmp_path / "bert")
    old.load(tmp_path / "model")
    assert ids_of(old, "a [SEP] film").count(old.encoder.tokenizer.sep_token_id) == 2


def test_a_template_and_a_prefix_may_hold_special_tokens(tmp_path: Path) -> None:
    checkpoint("bert", tmp_path / "bert")
    root = make_workspace(tmp_path, text=["text", "id"], template="{text} [SEP] {id}")
    task = Competition.load(root).task
    assert task.templates == ("{text} [SEP] {id}",)
    settings = make_learner(tmp_path / "bert", prefix="[MASK] ").settings
    for own, expected in ((task, [2, 1, 0]), (replace(task, templates=()), [1, 1, 0])):
        learner = TransformerLearner(settings, LearnerContext(own))
        learner.prepare(make_rows(["good [SEP] [CLS]", "bad"]))
        ids = ids_of(learner, "good [SEP] [CLS]")
        bert = learner.encoder.tokenizer
        special = (bert.sep_token_id, bert.mask_token_id, bert.cls_token_id)
        assert [ids[1:].count(i) for i in special] == expected
