"""Code that a checkpoint brings: never run, never asked about, unless the preset trusts it."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers.dynamic_module_utils
from safetensors.torch import load_file
from transformers import BertForMaskedLM, BertModel

import foldstack as package
from foldstack import config
from foldstack.errors import InputError
from foldstack.nets.backbone import load_backbone
from foldstack.nets.word_head import load_word_head
from foldstack.stages.fitted import load_learner
from foldstack.store import RunKey, Store
from foldstack.techniques import TransformerSettings
from foldstack.workspace import Workspace
from makers import make_learner, make_rows
from tiny import add_preset, foldstack, make_workspace, refuses, write

KEY = RunKey("tiny", 0, (0,))
CODE = {
    "configuration_odd.py": """
from transformers import BertConfig
class OddConfig(BertConfig):
    model_type = "odd"
""",
    "modeling_odd.py": """
from transformers import BertModel
from .configuration_odd import OddConfig
class OddModel(BertModel):
    config_class = OddConfig
    def forward(self, *inputs, **options):
        out = super().forward(*inputs, **options)
        out.last_hidden_state = out.last_hidden_state + self.config.shift
        return out
""",
    "tokenization_odd.py": """
from transformers import PreTrainedTokenizerFast
class OddTokenizer(PreTrainedTokenizerFast):
    def _encode_plus(self, text, *inputs, **options):
        return super()._encode_plus(text, *inputs, **options)
""",
}
OF_CONFIG = {"AutoConfig": "configuration_odd.OddConfig", "AutoModel": "modeling_odd.OddModel"}

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


@pytest.fixture(autouse=True)
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(autouse=True, scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The library's copies of checkpoints' code, which it imports, in a folder of the tests."""
    place = str(tmp_path_factory.mktemp("modules"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", place)
        patch.setenv("HF_MODULES_CACHE", place)
        yield


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def odd_checkpoint(backbone: Path, place: Path, kind: str = "odd") -> Path:
    """A copy of the tiny BERT whose classes are code beside it; all that runs is noted in `ran`."""
    shutil.copytree(backbone, place)
    for name, code in CODE.items():
        note = f"open({str(place.parent / 'ran')!r}, 'a').write({name!r} + '\\n')\n"
        write(place / name, note + code)
    change_json(place / "config.json", model_type=kind, auto_map=OF_CONFIG, shift=0.5)
    tokenizer = {"AutoTokenizer": [None, "tokenization_odd.OddTokenizer"]}
    change_json(place / "tokenizer_config.json", auto_map=tokenizer)
    return place


def ran(tmp_path: Path) -> set[str]:
    """The files whose code has run."""
    note = tmp_path / "ran"
    return set(note.read_text().split()) if note.exists() else set()


def refusal(place: Path) -> str:
    with pytest.raises(InputError) as e:
        load_backbone(str(place))
    return str(e.value)


# Not trusted


def test_training_refuses_a_checkpoints_code_without_asking(
    backbone, tmp_path, monkeypatch, capsys
):
    """The library asked "run the custom code? [y/N]" in the middle of training, and read the answer."""
    root = make_workspace(tmp_path / "w")
    place = odd_checkpoint(backbone, tmp_path / "b")
    add_preset(root, place)
    assert foldstack(root, "folds") == 0
    answers = io.StringIO("y\n" * 9)
    monkeypatch.setattr(sys, "stdin", answers)
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "tiny", "--fold", "0"],
        f"backbone '{place}' brings Python code of its own, configuration_odd.OddConfig in its "
        "config.json, and transformers has no class for it: read that code and set "
        "`trust_remote_code: true` in the preset to run it, or take another checkpoint",
        capsys,
    )
    assert answers.tell() == 0
    assert ran(tmp_path) == set()


def test_a_known_type_loads_by_the_librarys_class_in_silence(backbone, tmp_path, capfd):
    place = odd_checkpoint(backbone, tmp_path / "b", kind="bert")
    model, tokenizer = load_backbone(str(place))
    assert type(model) is BertModel
    assert type(tokenizer).__module__.startswith("transformers.")
    assert ran(tmp_path) == set() and capfd.readouterr() == ("", "")


def test_a_tokenizers_code_is_refused_by_its_own_name(backbone, tmp_path):
    """Of a type for which the library has a model and no tokenizer."""
    from transformers import TimesformerConfig  # any that has none
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING

    assert TimesformerConfig not in TOKENIZER_MAPPING
    place = odd_checkpoint(backbone, tmp_path / "b")
    TimesformerConfig().save_pretrained(place)
    change_json(place / "tokenizer_config.json", tokenizer_class="OddTokenizer")
    from foldstack.nets.backbone import load_tokenizer

    with pytest.raises(InputError) as e:
        load_tokenizer(str(place), trust_remote_code=False)
    assert str(e.value).startswith(
        f"backbone '{place}' brings Python code of its own, tokenization_odd.OddTokenizer in its "
        "tokenizer_config.json, and transformers has no class for it: "
    )
    assert ran(tmp_path) == set()


def test_a_word_heads_code_is_not_run(backbone, tmp_path):
    place = odd_checkpoint(backbone, tmp_path / "b", kind="bert")
    BertForMaskedLM(BertModel.from_pretrained(backbone).config).save_pretrained(place)
    auto_map = {"AutoModelForMaskedLM": "modeling_odd.OddModel"}
    change_json(place / "config.json", auto_map=auto_map)
    model, _ = load_backbone(str(place))
    assert load_word_head(str(place), model) is not None
    assert ran(tmp_path) == set()


class Attack:
    """What unpickling makes of it: a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_among_the_weights_is_not_run(backbone, tmp_path, zipped):
    """pytorch_model.bin is a pickle: tensors alone are read of it."""
    place = tmp_path / "b"
    shutil.copytree(backbone, place)
    weights = load_file(place / "model.safetensors")
    (place / "model.safetensors").unlink()
    options = {"_use_new_zipfile_serialization": zipped}
    torch.save(weights, place / "pytorch_model.bin", **options)
    load_backbone(str(place))
    attack = Attack(tmp_path / "ran")
    torch.save(weights | {"x": attack}, place / "pytorch_model.bin", **options)
    assert refusal(place) == (
        f"backbone '{place}' cannot be loaded: its weights are a pickle that is damaged or holds more "
        "than tensors: take a checkpoint with model.safetensors"
    )
    assert not (tmp_path / "ran").exists()
    torch.load(place / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "ran").exists()  # the attack is one


# Trusted by name


def test_a_trusted_checkpoint_trains_and_its_run_keeps_the_code(backbone, tmp_path, capsys):
    """A run predicts by the code that it was trained with, whatever becomes of the checkpoint."""
    root = make_workspace(tmp_path / "w", runtime={"threads": 1})
    place = odd_checkpoint(backbone, tmp_path / "b")
    add_preset(root, place, trust_remote_code=True)
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0
    said = "trust_remote_code: the backbone runs its checkpoint's own code, modeling_odd.OddModel\n"
    assert said in capsys.readouterr().out
    assert ran(tmp_path) == set(CODE)
    run = Store(root).run_dir(KEY)
    assert {p.name for p in (run / "model").glob("*.py")} == set(CODE)
    assert json.loads((run / "run.json").read_text())["identity"]["settings"]["trust_remote_code"]

    shutil.rmtree(place)
    ws = Workspace.open(root, [])
    stored = ws.store.read_predictions(KEY, "test", ws.competition.test)
    learner = load_learner(ws, KEY, 1)
    assert type(learner.model.backbone).__name__ == "OddModel"
    assert type(learner.encoder.tokenizer).__name__ == "OddTokenizer"
    assert learner.predict(ws.competition.test).tobytes() == stored.raw.tobytes()
    with pytest.raises(InputError, match="brings Python code of its own"):
        make_learner(tmp_path / "nowhere").load(run / "model")


def test_code_from_a_hub_is_refused_and_trusted_alike(backbone, tmp_path, monkeypatch):
    """Its name stands before the classes there, which a stored run must do without."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    stored = tmp_path / "hub/models--nobody--odd"
    shutil.copytree(odd_checkpoint(backbone, tmp_path / "b"), stored / f"snapshots/{'0' * 40}")
    write(stored / "refs/main", "0" * 40)
    with pytest.raises(InputError) as e:
        load_backbone("nobody/odd")
    assert str(e.value).startswith("backbone 'nobody/odd' brings Python code of its own, conf")
    assert ran(tmp_path) == set()
    learner = make_learner("nobody/odd", trust_remote_code=True)
    learner.prepare(make_rows(["good film", "bad plot"]))
    assert ran(tmp_path) == set(CODE)
    learner.save(tmp_path / "model")
    shutil.rmtree(stored)
    again = make_learner("nobody/odd", trust_remote_code=True)
    again.load(tmp_path / "model")
    rows = make_rows(["good film"])
    assert again.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_a_trusted_checkpoint_predicts_by_its_own_forward(backbone, tmp_path):
    """Not by the class that it is derived from, which knows no shift."""
    place = odd_checkpoint(backbone, tmp_path / "b")
    odd, tokenizer = load_backbone(str(place), trust_remote_code=True)
    plain, _ = load_backbone(str(backbone))
    batch = dict(tokenizer(["good film"], return_tensors="pt"))
    with torch.no_grad():
        shift = odd.eval()(**batch)[0] - plain.eval()(**batch)[0]
    torch.testing.assert_close(shift, torch.full_like(shift, 0.5))


def test_a_trusted_checkpoint_is_pretrained(backbone, tmp_path):
    """The folder that pretraining leaves is loaded by every run, with the code."""
    root = make_workspace(tmp_path / "w", runtime={"threads": 1})
    place = odd_checkpoint(backbone, tmp_path / "b")
    add_preset(root, place, trust_remote_code=True, pretrain={"epochs": 1})
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0
    (made,) = (p for p in Store(root).pretrained_dir.iterdir() if p.is_dir())
    assert {p.name for p in made.glob("*.py")} == set(CODE)
    model, _ = load_backbone(str(made), trust_remote_code=True)
    assert type(model).__name__ == "OddModel"


def test_a_trusted_checkpoint_in_int8(backbone, tmp_path):
    pytest.importorskip("openvino")
    learner = make_learner(odd_checkpoint(backbone, tmp_path / "b"), trust_remote_code=True)
    rows = make_rows(["good film", "bad plot"])
    (tmp_path / "run").mkdir()
    learner.fit(rows, None, tmp_path / "run")
    learner.save(tmp_path / "model")
    stored = make_learner(tmp_path / "nowhere", trust_remote_code=True)
    stored.load(tmp_path / "model")
    assert abs(stored.in_int8().predict(rows) - learner.predict(rows)).max() < 0.1


def test_trusted_code_that_lacks_a_package(backbone, tmp_path):
    place = odd_checkpoint(backbone, tmp_path / "b")
    write(place / "modeling_odd.py", "import no_such_package\n" + CODE["modeling_odd.py"])
    with pytest.raises(InputError) as e:
        load_backbone(str(place), trust_remote_code=True)
    assert str(e.value).startswith(f"backbone '{place}' cannot be loaded with trust_remote_code: ")
    assert "no_such_package" in str(e.value) and "\n" not in str(e.value)


def test_trust_is_part_of_a_runs_identity() -> None:
    """The same checkpoint is another model by its own code."""
    plain = {"learner": "transformer", "backbone": "b"}
    trusting = TransformerSettings(**plain, trust_remote_code=True)
    assert config.identity(TransformerSettings(**plain))["trust_remote_code"] is False
    assert config.differences({"settings": plain}, {"settings": config.identity(trusting)}) == [
        "settings.trust_remote_code False → True"
    ]


# Every call


def test_every_loading_call_says_whether_code_is_trusted() -> None:
    """Without the argument the library asks at the terminal; without weights_only torch unpickles."""
    wanted = {
        "from_pretrained": "trust_remote_code",
        "from_config": "trust_remote_code",
        "load": "weights_only",
    }
    found, without = set(), []
    for file in Path(package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            name = node.func.attr
            if name not in wanted or (name == "load" and ast.unparse(node.func) != "torch.load"):
                continue
            found.add(name)
            if wanted[name] not in {k.arg for k in node.keywords}:
                without.append(f"{file.name}: {ast.unparse(node)}")
    assert found >= {"from_pretrained", "from_config"}
    assert without == []
