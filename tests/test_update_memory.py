"""The memory of an update: what it depends on, and what is refused before training begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foldstack.backbones import BackboneSize, UpdateForm
from foldstack.errors import InputError
from foldstack.learners import transformer
from foldstack.learners.memory_check import MemoryCheck
from foldstack.techniques import StageSettings, TransformerSettings
from makers import make_learner, tiny_rows
from test_jobs import BERT
from tiny import write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

# Of Qwen3-0.6B: 16 heads of 128, of which two each share keys and values.
QWEN = {
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
}
LORA = {"r": 16, "alpha": 32, "dropout": 0}


def size_of(folder: Path, config: dict = QWEN) -> BackboneSize:
    write(folder / "config.json", json.dumps(config))
    return BackboneSize.of(str(folder))


def test_weights_of_a_decoder_are_counted_as_its_layers_have_them(tmp_path):
    """Three matrices in the MLP; queries and outputs of 2,048, keys and values of 1,024."""
    size = size_of(tmp_path)
    assert size.parameters == 28 * (2 * 1024 * 2048 + 2 * 1024 * 1024 + 3 * 1024 * 3072)
    ends = 2 * (1024 + 2048) + 2 * (1024 + 1024) + 3 * (1024 + 3072)
    assert size.adapters(16) == 28 * 16 * ends
    assert size_of(tmp_path / "bert", BERT).parameters == 12 * (4 * 768**2 + 2 * 768 * 3072)


@pytest.mark.parametrize(
    ("form", "mb"),
    [
        # 440,401,920 weights of 16 bytes and 155,582,464 of 8; 8 · 128 tokens, each 28 · (40 · 1024 +
        # 16 · (3072 + 3072)) bytes
        (UpdateForm(), 11_715),
        # 4 bytes of each, 16 of 10,092,544 weights of adapters
        (UpdateForm("fp32", 16), 6_235),
        (UpdateForm("half", 16, half=True), 4_253),
        (UpdateForm("nf4", 16, half=True), 3_631),
        (UpdateForm("nf4", 16, half=True, dropped=True), 4_807),
        # 4 · 1024 bytes per layer, and one layer in full
        (UpdateForm("nf4", 16, half=True, recomputed=True), 1_173),
    ],
)
def test_what_an_update_of_a_decoder_takes(tmp_path, form, mb):
    on_gpu = UpdateForm(**vars(form) | {"on_gpu": True})
    assert size_of(tmp_path).training_mb(8, 128, on_gpu) == pytest.approx(mb, abs=1)


def test_on_a_cpu_it_is_at_least_what_loading_takes(tmp_path):
    least = 4 * (440_401_920 + 155_582_464) // 2**20
    form = UpdateForm("nf4", 16, half=True, recomputed=True)
    assert size_of(tmp_path).training_mb(1, 8, form) == least


def test_attention_keeps_its_weights_on_a_cpu_only(tmp_path):
    bert = size_of(tmp_path, BERT)
    more = bert.training_mb(8, 512, UpdateForm()) - bert.training_mb(
        8, 512, UpdateForm(on_gpu=True)
    )
    assert more == pytest.approx(8 * 512 * 12 * 14 * 12 * 512 / 2**20, abs=1)
    relative = BERT | {"pos_att_type": ["p2c"], "position_buckets": 256}
    deberta = size_of(tmp_path / "deberta", relative)
    both = [deberta.training_mb(8, 512, UpdateForm(on_gpu=on)) for on in (False, True)]
    assert both[0] == both[1]


def checked(folder: Path, memory: int, training: dict, **settings: object) -> None:
    """Check a run on Qwen3-0.6B in bf16 on a GPU of this many MB, with rows of 512 tokens."""
    made = TransformerSettings(
        learner="transformer", backbone="x", training={"batch_size": 32} | training, **settings
    )
    stages = made.stages_for("roc_auc")
    MemoryCheck(size_of(folder), made, "bf16", 512, 1, True, memory).refuse_too_large(stages)


@pytest.mark.parametrize(
    ("memory", "training", "lora", "sentence"),
    [
        (
            24_000,
            {},
            LORA,
            "an update on 32 rows of 512 tokens takes about 44,237 MB, and this GPU has 24,000 MB: "
            "training.micro_batch_size=16 takes 22,912, training.gradient_checkpointing=true takes "
            "4,902",
        ),
        (
            4_000,
            {"loss": "soft_f1"},
            LORA,
            "an update on 32 rows of 512 tokens takes about 44,237 MB, and this GPU has 4,000 MB: "
            "training.batch_size=1 takes 2,920",
        ),
        (
            1_800,
            {},
            LORA,
            "an update on 32 rows of 512 tokens takes about 44,237 MB, and this GPU has 1,800 MB: "
            "training.micro_batch_size=1, training.gradient_checkpointing=true, quantize=nf4 together "
            "take 1,069",
        ),
        (
            1_800,
            {"micro_batch_size": 1},
            None,
            "an update on 1 row of 512 tokens takes about 10,079 MB, and this GPU has 1,800 MB: take a "
            "smaller backbone or a lower training.max_length",
        ),
    ],
)
def test_an_update_that_cannot_fit_is_refused_with_what_would(
    tmp_path, memory, training, lora, sentence
):
    with pytest.raises(InputError) as e:
        checked(tmp_path, memory, training, lora=lora)
    assert str(e.value) == sentence


def test_what_may_fit_is_tried(tmp_path):
    """The forecast is rough: a fifth more than the memory is not refused, nor is a frozen backbone."""
    checked(tmp_path, 37_000, {}, lora=LORA)
    checked(tmp_path, 1, {"freeze_backbone": True})


def test_the_check_comes_before_training(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(transformer, "memory_of", lambda device: -1)
    learner = make_learner(backbone)
    with pytest.raises(
        InputError, match="takes about 0 MB, and this machine has -1 MB: take a smaller"
    ):
        learner.fit(tiny_rows(), None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_settings_say_what_is_kept():
    made = TransformerSettings(
        learner="transformer", backbone="x", lora={"r": 4}, quantize="int8"
    ).update_form(StageSettings(gradient_checkpointing=True), "fp16", True)
    assert made == UpdateForm("int8", 4, True, True, True, True)
    plain = TransformerSettings(learner="transformer", backbone="x", lora={"kind": "dora"})
    assert plain.update_form(StageSettings(), "bf16").frozen == "fp32"
    lora = TransformerSettings(learner="transformer", backbone="x", lora={})
    assert lora.update_form(StageSettings(), "bf16").frozen == "half"
