"""Decoders, and encoders with windows of attention: what is computed, and what of a file is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foldstack.errors import InputError
from foldstack.files import read_json, write_json
from foldstack.nets.backbone import load_backbone
from foldstack.nets.layers import depths, thin
from makers import make_rows
from test_presets import LONG, SHORT, TEXTS, checkpoint, preset_learner

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

DECODERS = ("qwen3-0.6b", "gemma-2-2b", "gemma-3-1b", "gemma-3-4b")
ENCODERS = ("embeddinggemma-300m", "eurobert-210m", "mmbert-small")


def loaded(preset: str, folder: Path, **config: object) -> nn.Module:
    return load_backbone(str(checkpoint(preset, folder / "b", **config)))[0].eval()


@torch.no_grad()
def read(backbone: nn.Module, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """(b, t, h) states of (b, t) ids."""
    mask = torch.ones_like(ids) if mask is None else mask
    return backbone(input_ids=ids, attention_mask=mask)[0]


@pytest.mark.parametrize("preset", [*DECODERS, *ENCODERS])
def test_states_are_those_of_the_librarys_plain_attention(preset, tmp_path):
    """Each row alone by the library, in a padded batch by ours; the windows see less than a row."""
    backbone = loaded(preset, tmp_path)
    ids = torch.randint(10, 40, (3, 24), generator=torch.manual_seed(1))
    lengths = (24, 9, 2)
    mask = (torch.arange(24) < torch.tensor(lengths)[:, None]).long()
    ours = read(backbone, ids, mask)
    assert ours.isfinite().all()
    backbone.set_attn_implementation("eager")
    for i, n in enumerate(lengths):
        expected = read(backbone, ids[i : i + 1, :n])[0]
        torch.testing.assert_close(ours[i, :n], expected, rtol=1e-4, atol=1e-5)


def seen_by(backbone: nn.Module, token: int) -> list[int]:
    """The tokens of 16 that this one's state depends on."""
    ids = torch.full((17, 16), 20)
    ids[torch.arange(16), torch.arange(16)] = 30
    states = read(backbone, ids)[:, token]
    return [i for i in range(16) if not torch.allclose(states[i], states[16], atol=1e-6)]


def test_which_tokens_a_token_sees(tmp_path):
    """Gemma's window has four tokens, the token itself included; EmbeddingGemma's two on each side."""

    def seen(preset: str, *kinds: str) -> list[int]:
        folder = tmp_path / "-".join([preset, *kinds])
        folder.mkdir()
        config = {"num_hidden_layers": len(kinds), "layer_types": [*kinds]} if kinds else {}
        return seen_by(loaded(preset, folder, **config), 9)

    for preset in ("gemma-2-2b", "gemma-3-1b"):
        assert seen(preset, "sliding_attention") == [6, 7, 8, 9]
        assert seen(preset, "sliding_attention", "sliding_attention") == [3, 4, 5, 6, 7, 8, 9]
    assert seen("embeddinggemma-300m", "sliding_attention") == [7, 8, 9, 10, 11]
    for preset in DECODERS:
        assert seen(preset) == list(range(10))
    for preset in ENCODERS:
        assert seen(preset) == list(range(16))


def test_the_window_of_embeddinggemma_stays_when_a_run_is_stored(tmp_path):
    """The library halves it when it reads a config, and would halve it once more."""
    learner = preset_learner(
        "embeddinggemma-300m", checkpoint("embeddinggemma-300m", tmp_path / "b")
    )
    learner.prepare(make_rows(TEXTS))
    backbone = learner.model.backbone
    for _ in range(2):
        (tmp_path / "model").mkdir(exist_ok=True)
        learner.save(tmp_path / "model")
        learner.load(tmp_path / "model")
    assert learner.model.backbone.config.sliding_window == backbone.config.sliding_window == 3


@pytest.mark.parametrize("preset", ["modernbert-base", "gemma-3-1b"])
def test_padding_beyond_the_window_trains_in_bf16(preset, tmp_path):
    """It attends to nothing; in bf16 its states were NaN, and so was the loss."""
    learner = preset_learner(preset, checkpoint(preset, tmp_path / "b"), precision="bf16")
    (tmp_path / "run").mkdir()
    learner.fit(make_rows(TEXTS), None, tmp_path / "run")
    (short, _), (alone,) = (learner.predict(make_rows(t)) for t in ([SHORT, LONG], [SHORT]))
    assert abs(short - alone) < 0.01


@pytest.mark.parametrize("preset", [*DECODERS, *ENCODERS])
def test_the_layers_are_counted(preset, tmp_path):
    """Rates by layer, freezing: embeddings are below the first, the last norm is above."""
    learner = preset_learner(preset, checkpoint(preset, tmp_path / "b"))
    learner.prepare(make_rows(TEXTS))
    found = depths(learner.model)
    assert set(found.values()) == {0, 1, 2, 3}
    below = {name.split(".")[1] for name, depth in found.items() if depth == 0}
    above = {name for name, depth in found.items() if depth == 3}
    assert below <= {"embed_tokens", "embeddings"}
    assert {"head.weight", "head.bias"} < above and "norm.weight" in max(above, key=len)


def test_a_thinned_decoder_keeps_the_kinds_of_its_layers(tmp_path):
    kinds = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    backbone = loaded("gemma-3-1b", tmp_path, num_hidden_layers=4, layer_types=kinds)
    thin(backbone, 2)
    assert backbone.config.layer_types == ["full_attention", "sliding_attention"]
    assert seen_by(backbone, 9) == list(range(10))


# Special tokens


@pytest.mark.parametrize(
    ("preset", "before", "after"),
    [
        ("qwen3-0.6b", [], []),
        ("qwen3-embedding-0.6b", [], ["<|endoftext|>"]),
        ("gemma-3-1b", ["<bos>"], []),
        ("embeddinggemma-300m", ["<bos>"], ["<eos>"]),
        ("eurobert-210m", ["<|begin_of_text|>"], ["<|end_of_text|>"]),
    ],
)
def test_what_stands_around_a_text(preset, before, after, tmp_path):
    """The library builds these tokenizers from a vocabulary, without what a file says of it."""
    learner = preset_learner(preset, checkpoint(preset, tmp_path / "b"))
    learner.prepare(make_rows(TEXTS))
    (tmp_path / "model").mkdir()
    learner.save(tmp_path / "model")
    learner.load(tmp_path / "model")
    tokenizer = learner.encoder.tokenizer
    around = [tokenizer.convert_ids_to_tokens(i) for i in tokenizer("")["input_ids"]]
    assert around == [*before, *after]
    words = tokenizer.convert_ids_to_tokens(learner.encoder.tokens(make_rows(["good film"])).flat)
    assert words[: len(before)] == before and words[len(words) - len(after) :] == after


# What of a file is read


def renamed(place: Path, old: str, new: str) -> None:
    weights = load_file(place / "model.safetensors")
    weights = {k.replace(old, new): v for k, v in weights.items()}
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})


def test_gemma_3_4b_is_read_without_its_pictures(tmp_path):
    """By the names of the hub and by those that the library gives inside."""
    place = checkpoint("gemma-3-4b", tmp_path / "b")
    whole = transformers.AutoModel.from_pretrained(place)
    expected = whole.language_model.state_dict()
    assert {"vision_tower", "multi_modal_projector"} < set(dict(whole.named_children()))
    for old, new in (("", ""), ("language_model.model.", "model.language_model.")):
        renamed(place, old, new)
        backbone, _ = load_backbone(str(place))
        assert type(backbone) is transformers.Gemma3TextModel
        found = backbone.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[k], v) for k, v in expected.items())


def test_a_layer_of_gemma_3_4b_too_many_or_too_few_is_refused(tmp_path):
    place = checkpoint("gemma-3-4b", tmp_path / "b")
    renamed(place, "layers.1.mlp.up_proj", "layers.2.mlp.up_proj")
    with pytest.raises(InputError) as e:
        load_backbone(str(place))
    assert str(e.value) == (
        f"backbone '{place}': weight 'layers.1.mlp.up_proj.weight' is missing in its checkpoint (1 in "
        "all): take another checkpoint"
    )
    weights = load_file(place / "model.safetensors")
    extra = "language_model.model.layers.2.mlp.up_proj.weight"
    weights[extra.replace("2", "1")] = weights[extra].clone()
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError) as e:
        load_backbone(str(place))
    assert "its checkpoint holds 'layers.2.mlp.up_proj.weight', which this" in str(e.value)


def test_another_model_that_reads_pictures_is_refused(tmp_path):
    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", "hidden_size": 16, "num_attention_heads": 2}
    )
    config.save_pretrained(tmp_path)
    with pytest.raises(InputError) as e:
        load_backbone(str(tmp_path))
    assert str(e.value) == (
        f"backbone '{tmp_path}' is of type 'llava', which reads more than text: take a checkpoint for "
        "text, or one of type gemma3, whose part for text is known"
    )


def test_code_that_a_checkpoint_brings_is_left_if_the_library_has_its_own(tmp_path):
    """EuroBERT's repositories are older than the library's classes, and name their own files."""
    place = checkpoint("eurobert-210m", tmp_path / "b")
    names = {"AutoConfig": "configuration_eurobert.C", "AutoModel": "modeling_eurobert.M"}
    write_json(place / "config.json", read_json(place / "config.json") | {"auto_map": names})
    assert type(load_backbone(str(place))[0]) is transformers.EuroBertModel
