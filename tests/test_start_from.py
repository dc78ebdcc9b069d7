"""Runs that begin from another model's run of the same folds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from foldstack.errors import InputError
from foldstack.nets.layers import thin
from foldstack.stages.fitted import load_learner
from foldstack.store import RunKey, Store
from tiny import (
    TINY,
    add_preset,
    foldstack,
    make_backbone,
    make_workspace,
    refuses,
    run_of,
    write,
    write_competition,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

FROZEN = {"freeze_backbone": True, "epochs": 1}


@pytest.fixture
def root(backbone, tmp_path) -> Path:
    """`tiny` is trained on fold 0; `second` begins from it."""
    root = make_workspace(tmp_path / "w", n=30, runtime={"threads": 1})
    add_preset(root, backbone, head="attention")
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0
    return root


def second(root: Path, backbone: Path, **settings: object) -> dict[str, Tensor]:
    add_preset(root, backbone, "second", start_from="tiny", **settings)
    assert foldstack(root, "train", "--model", "second", "--fold", "0") == 0
    return weights(root, "second")


def weights(root: Path, model: str, seed: int = 0, fold: int = 0) -> dict[str, Tensor]:
    run = Store(root).run_dir(RunKey(model, seed, (fold,)))
    return load_file(run / "model/classifier.safetensors")


def test_training_begins_at_the_other_runs_weights(root, backbone):
    """With a rate next to nothing it ends there, too."""
    after = second(root, backbone, head="attention", training={"lr": 1e-12})
    for key, value in weights(root, "tiny").items():
        torch.testing.assert_close(after[key], value, rtol=0, atol=1e-6)


def test_a_frozen_backbone_is_the_other_runs(root, backbone):
    after, before = second(root, backbone, head="attention", training=FROZEN), weights(root, "tiny")
    for key, value in before.items():
        assert torch.equal(value, after[key]) == key.startswith("backbone."), key


def test_each_run_begins_from_the_run_of_its_own_seed_and_fold(root, backbone):
    """Another fold's has learned the held-out labels; another seed's makes the seeds alike."""
    add_preset(root, backbone, "second", start_from="tiny", head="attention", training=FROZEN)
    runs = [(0, 0), (1, 0), (0, 1)]
    for seed, fold in runs:
        for model in ("tiny", "second"):
            run = ["--model", model, "--seed", str(seed), "--fold", str(fold)]
            assert foldstack(root, "train", *run) == 0
    for run in runs:
        after = weights(root, "second", *run)
        backbone_of = {k for k in after if k.startswith("backbone.")}
        for other in runs:
            before = weights(root, "tiny", *other)
            assert all(torch.equal(before[k], after[k]) for k in backbone_of) == (run == other)


def test_another_head_is_drawn_anew(root, backbone, capsys):
    after, before = second(root, backbone, training=FROZEN), weights(root, "tiny")
    assert (
        "start_from tiny: its head differs; this one is newly initialised"
        in capsys.readouterr().out
    )
    shared = {k for k in before if k.startswith("backbone.")}
    assert all(torch.equal(before[k], after[k]) for k in shared)
    assert {k for k in after if k not in shared} == {"head.weight", "head.bias"}


def test_another_backbone_is_refused(root, tmp_path, capsys):
    add_preset(
        root, make_backbone(tmp_path / "b", num_hidden_layers=3), "second", start_from="tiny"
    )
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "second", "--fold", "0"],
        "start_from tiny: its weights lack 'backbone.encoder.layer.2.attention.output.LayerNorm.bias' "
        "in the shape of this preset's backbone: name a model with the same backbone",
        capsys,
    )


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        (
            "tinny",
            "model 'tinny' is not known: did you mean 'tiny'? (your own goes into presets/NAME.yaml)",
        ),
        ("second", "second seed 0 fold1: start_from names the model itself: name another one"),
    ],
)
def test_what_cannot_be_begun_from(root, backbone, capsys, start, sentence):
    add_preset(root, backbone, "second", start_from=start)
    capsys.readouterr()
    refuses(root, ["train", "--model", "second", "--fold", "1"], sentence, capsys)


def test_a_start_that_is_not_there_is_trained_first(root, backbone, capsys):
    """With --set, which is not for the start, it is asked for."""
    add_preset(root, backbone, "second", start_from="tiny")
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "second", "--fold", "1", "--set", "training.lr=0.01"],
        "second seed 0 fold1: start_from needs tiny seed 0 fold1, which is missing: run `make train "
        "MODEL=tiny FOLD=1 SEED=0`",
        capsys,
    )
    assert foldstack(root, "train", "--model", "second", "--fold", "1") == 0
    assert Store(root).read_run(RunKey("tiny", 0, (1,))) is not None


def test_models_do_not_start_from_each_other(root, backbone, capsys):
    add_preset(root, backbone, "second", start_from="third")
    add_preset(root, backbone, "third", start_from="second")
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "second", "--fold", "1"],
        "second and third depend on each other, so that none can be the first: name another model in "
        "one of them",
        capsys,
    )


def test_a_run_inherits_why_its_start_is_optimistic(root, backbone, capsys):
    add_preset(root, backbone, "chosen", training={"select": "fold"})
    add_preset(root, backbone, "second", start_from="chosen")
    for model in ("chosen", "second"):
        assert foldstack(root, "train", "--model", model, "--fold", "0") == 0
    run = Store(root).read_run(RunKey("second", 0, (0,)))
    assert run.optimistic == ["chosen: the epoch was chosen on the held-out fold"]


def test_a_start_that_was_trained_again_asks_for_training_again(root, backbone, capsys):
    second(root, backbone, head="attention")
    again = ["--model", "tiny", "--fold", "0", "--force", "--set", "training.lr=0.002"]
    assert foldstack(root, "train", *again) == 0
    capsys.readouterr()
    assert foldstack(root, "train", "--model", "second", "--fold", "0") == 2
    assert "is finished with other settings or data (start " in capsys.readouterr().err


def test_a_shallow_model_begins_from_every_second_layer(tmp_path, capsys):
    """Its other weights are the start's own; what is loaded predicts the same."""
    backbone = make_backbone(tmp_path / "deep", num_hidden_layers=4)
    root = make_workspace(tmp_path / "w", n=30, runtime={"threads": 1})
    add_preset(root, backbone)
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0
    after = second(root, backbone, keep_every=2, training={"lr": 1e-12})
    for key, value in after.items():
        for new, old in (("layer.0.", "layer.1."), ("layer.1.", "layer.3.")):
            if new in key:
                key = key.replace(new, old)
                break
        torch.testing.assert_close(value, weights(root, "tiny")[key], rtol=0, atol=1e-6)
    assert not any("layer.2." in key for key in after)
    ws, _ = run_of(root, "second")
    key = RunKey("second", 0, (0,))
    stored = ws.store.read_predictions(key, "test", ws.competition.test)
    loaded = load_learner(ws, key, 1)
    assert loaded.predict(ws.competition.test).tobytes() == stored.raw.tobytes()
    add_preset(root, backbone, "third", keep_every=5)
    refuses(
        root,
        ["train", "--model", "third", "--fold", "0"],
        "keep_every is 5, but the backbone has 4 layers: set a smaller number",
        capsys,
    )


def test_a_head_of_more_layers_than_are_kept_is_refused(tmp_path, capsys):
    """Bug guarded: such a run was trained, and its model could not be loaded."""
    root = make_workspace(tmp_path / "w", n=30)
    deep = make_backbone(tmp_path / "deep", num_hidden_layers=4)
    add_preset(root, deep, keep_every=2, head={"name": "layers", "layers": 3})
    assert foldstack(root, "folds") == 0
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "tiny", "--fold", "0"],
        "head.layers is 3, but the backbone has 2 layers: set it to 2 or less",
        capsys,
    )


def test_what_is_kept_computes_as_these_layers_alone(backbone):
    """Against a loop over the layers."""
    from foldstack.nets.backbone import load_backbone

    whole, _ = load_backbone(str(backbone))
    part, _ = load_backbone(str(backbone))
    thin(part, 2)
    assert part.config.num_hidden_layers == 1
    ids = torch.arange(6).reshape(1, 6)
    hidden = whole.embeddings(ids)
    hidden = whole.encoder.layer[1](hidden)
    hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    torch.testing.assert_close(part(input_ids=ids)[0], hidden)


KEPT = {
    "GPT2Config": {"n_embd": 16, "n_layer": 4, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2},
    "XLNetConfig": {"d_model": 16, "n_layer": 4, "n_head": 2, "d_inner": 32},
    "Qwen2Config": TINY | {"num_hidden_layers": 4, "num_key_value_heads": 2},
}


@pytest.mark.parametrize("name", KEPT)
def test_other_types_compute_with_what_is_kept(name):
    """A decoder's layers know their place in the cache."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, name)(**{"vocab_size": 40} | KEPT[name])
    part = transformers.AutoModel.from_config(config).eval()
    thin(part, 2)
    ids = torch.arange(6).reshape(1, 6)
    again = type(part)(part.config).eval()
    again.load_state_dict(part.state_dict())
    torch.testing.assert_close(part(input_ids=ids)[0], again(input_ids=ids)[0])


def test_layers_that_differ_by_their_place_are_not_thinned():
    """T5's first layer holds the relative positions of all; ModernBERT's first one has no norm."""
    import transformers

    t5 = transformers.T5Config(
        d_model=16, d_kv=8, d_ff=32, num_layers=4, num_heads=2, vocab_size=40
    )
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    modern = transformers.ModernBertConfig(
        **TINY | {"num_hidden_layers": 4}, **ids, cls_token_id=1, sep_token_id=2
    )
    for part in (transformers.T5EncoderModel(t5), transformers.AutoModel.from_config(modern)):
        with pytest.raises(InputError, match="keep_every does not fit a backbone of type"):
            thin(part, 2)


def test_layers_in_several_blocks_are_not_thinned():
    import transformers

    config = transformers.FunnelConfig(
        vocab_size=40, d_model=16, n_head=2, d_head=8, d_inner=32, block_sizes=[2, 2]
    )
    with pytest.raises(InputError, match="type 'funnel', whose layers stand in several blocks"):
        thin(transformers.FunnelBaseModel(config), 2)


@pytest.mark.parametrize("settings", [{}, {"learner": "network"}])
def test_a_linear_model_is_no_start(root, backbone, capsys, settings):
    """Bug guarded: a traceback about words.json."""
    add_preset(root, backbone, "second", start_from="tfidf")
    sentence = "it has no weights of a network: name a model with the same backbone"
    if settings:
        add_network(root, "second", start_from="tfidf")
        sentence = "it is no network from scratch: name a model of learner network"
    assert foldstack(root, "train", "--model", "tfidf", "--fold", "0") == 0
    capsys.readouterr()
    assert foldstack(root, "train", "--model", "second", "--fold", "0") == 2
    assert capsys.readouterr().err == f"foldstack: start_from tfidf: {sentence}\n"


# Networks from scratch

CNN = {"head": {"name": "cnn", "filters": 4, "widths": [2]}, "size": 6}


def add_network(root: Path, name: str, **settings: object) -> None:
    training = {"epochs": 2, "batch_size": 8, "max_length": 16} | settings.pop("training", {})
    preset = {"learner": "network", "words": {"min_count": 1}} | CNN | settings
    write(root / f"presets/{name}.yaml", yaml.safe_dump(preset | {"training": training}))


@pytest.fixture
def networks(tmp_path) -> Path:
    """`first` is trained on fold 0."""
    root = make_workspace(tmp_path / "w", n=30, runtime={"threads": 1})
    add_network(root, "first", ngrams=2, buckets=1000)
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "first", "--fold", "0") == 0
    return root


def test_a_network_begins_with_the_words_vectors_and_head_of_another(networks):
    """With a rate next to nothing it ends there; so it is with external rows of further words."""
    write(networks / "input/more.csv", "id,text,label\nx0,words that none of them has seen,1\n")
    write_competition(networks, runtime={"threads": 1}, external=["more.csv"])
    assert foldstack(networks, "train", "--model", "first", "--fold", "0", "--force") == 0
    training = {"lr": 1e-12, "weight_decay": 0}
    add_network(
        networks, "second", ngrams=2, buckets=1000, start_from="first", training=training,
        external_files="none",
    )  # fmt: skip
    assert foldstack(networks, "train", "--model", "second", "--fold", "0") == 0
    after = weights(networks, "second")
    for key, value in weights(networks, "first").items():
        torch.testing.assert_close(after[key], value, rtol=0, atol=1e-6)


def test_a_network_with_another_head_begins_with_the_vectors_alone(networks, capsys):
    training = {"lr": 1e-12, "weight_decay": 0}
    add_network(
        networks, "second", ngrams=2, buckets=1000, start_from="first", training=training,
        head="mean",
    )  # fmt: skip
    assert foldstack(networks, "train", "--model", "second", "--fold", "0") == 0
    assert "start_from first: its head differs" in capsys.readouterr().out
    after, before = weights(networks, "second"), weights(networks, "first")
    name = "backbone.words.weight"
    torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    assert after["head.weight"].shape == (1, 6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"words": {"min_count": 2}}, "it has other words than this preset: give both the same"),
        ({"size": 5}, "it has other size than this preset: give both the same"),
        ({"ngrams": 1}, "it has other ngrams than this preset: give both the same"),
        ({"ngrams": 2, "buckets": 2000}, "it has other buckets than this preset: give both the"),
        (
            {"head": "han"},
            "it has other ends of sentences than this preset: give both the same, or name another",
        ),
        (
            {"vectors": {"train": "skipgram"}},
            "vectors are what words begin from, and start_from begins from those of first: leave one",
        ),
    ],
)
def test_a_network_that_reads_otherwise_is_refused(networks, capsys, settings, sentence):
    given = {"ngrams": 2, "buckets": 1000, "start_from": "first"} | settings
    if given["ngrams"] == 1:
        del given["buckets"]
    add_network(networks, "second", **given)
    capsys.readouterr()
    assert foldstack(networks, "train", "--model", "second", "--fold", "0") == 2
    assert sentence in capsys.readouterr().err
