"""A new learner and a new loss, each added in one place here: trained, blended, predicted, refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from foldstack import config, techniques
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext
from foldstack.learners.judging import epoch_score
from foldstack.nets.trainable import Trainable
from foldstack.rows import Rows
from foldstack.settings import Positive
from foldstack.store import RunKey, Store
from foldstack.techniques import (
    LearnerSettings,
    LoopLearnerSettings,
    LoopSettings,
    Loss,
    Technique,
    TrainingSettings,
    Traits,
    TransformerSettings,
)
from foldstack.techniques.registry import load
from foldstack.training import loop
from foldstack.training.criteria import Criterion, RowWise
from foldstack.training.precision import prepare_machine
from makers import make_task, tiny_rows
from tiny import (
    add_preset,
    foldstack,
    make_workspace,
    refuses,
    train_folds,
    write,
    write_competition,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

WIDTH = 8


# A learner: its settings, its network, what it does with them


@pytest.fixture
def textcnn() -> Iterator[type[LearnerSettings]]:
    """The settings of the toy learner, which registers with them for the time of a test."""

    class TextCnnSettings(LoopLearnerSettings):
        """embed: read words by embeddings; false: by one-hot vectors, so that there are none."""

        implementation: ClassVar[str] = f"{__name__}:TextCnnLearner"
        traits: ClassVar[Traits] = Traits(torch=True, epochs=True)
        learner: Literal["textcnn"]
        embed: bool = True
        training: LoopSettings = LoopSettings(epochs=6, lr=0.02, batch_size=8)

    yield TextCnnSettings
    del LearnerSettings.registered["textcnn"]


class WordCnn(Trainable):
    """Words, one convolution over three of them, ReLU, the maximum over time, a linear layer."""

    def __init__(self, vocabulary: int, outputs: int, embed: bool):
        super().__init__()
        self.vocabulary = vocabulary
        self.words = nn.Embedding(vocabulary, WIDTH) if embed else None
        self.convolution = nn.Conv1d(WIDTH if embed else vocabulary, 12, 3, padding=1)
        self.head = nn.Linear(12, outputs)

    def word_embeddings(self) -> nn.Module | None:
        return self.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *, pooled: bool = False):
        one_hot = self.words is None
        read = F.one_hot(input_ids, self.vocabulary).float() if one_hot else self.words(input_ids)
        read = (read * attention_mask.unsqueeze(-1)).transpose(1, 2)
        vectors = self.convolution(read).relu().amax(dim=2)
        raw = self.head(vectors)
        return (raw, vectors) if pooled else raw


class Words:
    """Texts as numbers of words, 0 for padding and 1 for unknown ones."""

    def __init__(self, rows: Rows, vocabulary: dict[str, int]):
        self.ids = [[vocabulary.get(w, 1) for w in text.split()] for text in rows.joined_texts()]
        self.lengths = np.array([len(ids) for ids in self.ids])

    def batch(self, rows: np.ndarray, multiple: int = 1) -> dict[str, Tensor]:
        ids = [torch.tensor(self.ids[r]) for r in rows]
        padded = nn.utils.rnn.pad_sequence(ids, batch_first=True)
        return {"input_ids": padded, "attention_mask": (padded > 0).long()}


class TextCnnLearner:
    def __init__(self, settings: LearnerSettings, context: LearnerContext):
        self.settings, self.task, self.seed = settings, context.task, context.seed
        self.link = self.task.link
        _, self.accelerator = prepare_machine(settings.training.precision, context.threads)

    def fit(self, train: Rows, select: Rows | None, run_dir: Path) -> dict:
        words = sorted({w for text in train.joined_texts() for w in text.split()})
        self.vocabulary = {w: i for i, w in enumerate(words, 2)}
        torch.manual_seed(self.seed)
        self.model = self._network()
        examples = loop.Examples(
            Words(train, self.vocabulary),
            torch.tensor(train.targets, dtype=torch.float32),
            torch.tensor(train.weights, dtype=torch.float32),
            self.link,
            difficulty=train.difficulty,
        )

        def evaluate(net: nn.Module) -> loop.EpochScore:
            return epoch_score(self.task, self.settings.training, select, self.predict(select))

        return loop.train(
            self.model,
            examples,
            self.settings.training,
            self.accelerator,
            seed=self.seed,
            folder=run_dir,
            checkpoint_seconds=60,
            evaluate=None if select is None else evaluate,
        )

    def _network(self) -> WordCnn:
        outputs = len(self.task.outputs)
        return WordCnn(len(self.vocabulary) + 2, outputs, self.settings.embed)

    def predict(self, rows: Rows) -> np.ndarray:
        device = self.accelerator.device
        return loop.predict(self.model.to(device), Words(rows, self.vocabulary), device)

    def save(self, folder: Path) -> None:
        save_file(self.model.state_dict(), folder / "model.safetensors")
        (folder / "words.json").write_text(json.dumps(self.vocabulary))

    def load(self, folder: Path) -> None:
        self.vocabulary = read_json(folder / "words.json")
        self.model = self._network()
        self.model.load_state_dict(load_file(folder / "model.safetensors"))


@pytest.fixture
def root(textcnn, tmp_path) -> Path:
    """A workspace with the linear model and the toy learner."""
    root = make_workspace(tmp_path / "w", n=60, models=["tfidf", "cnn"])
    write(root / "presets/cnn.yaml", "learner: textcnn\n")
    assert foldstack(root, "folds") == 0
    return root


def scores(root: Path, model: str) -> list[float]:
    return [Store(root).read_run(RunKey(model, 0, (fold,))).score for fold in range(3)]


def test_a_new_learner_is_trained_blended_submitted_and_predicts(root, tmp_path):
    """It is known to every stage by its settings class alone."""
    for model in ("tfidf", "cnn"):
        train_folds(root, "--model", model)
    assert min(scores(root, "cnn")) > 0.8
    for stage in ("blend", "submit", "score"):
        assert foldstack(root, stage) == 0
    new = write(tmp_path / "new.csv", "id,text\nn1,a good film\nn2,a bad film\n")
    out = tmp_path / "out.csv"
    args = ("predict", "--model", "cnn", "--file", str(new), "--out", str(out))
    assert foldstack(root, *args) == 0
    good, bad = (float(line.split(",")[-1]) for line in out.read_text().splitlines()[1:])
    assert good > bad


@pytest.mark.parametrize("path", ["", "nowhere", ":Cnn", "a b:Cnn", None])
def test_a_learner_without_an_implementation_does_not_register(path) -> None:
    wrong = f"^Nowhere: implementation {path!r} is not of the form 'package.module:name'$"
    with pytest.raises(TypeError, match=wrong):

        class Nowhere(LearnerSettings):
            implementation: ClassVar[str] = path
            learner: Literal["nowhere"]

    assert "nowhere" not in LearnerSettings.registered


def test_a_technique_without_an_implementation_does_not_register() -> None:
    with pytest.raises(TypeError, match=r"^Nothing: implementation None is not of the form"):

        class Nothing(Loss):
            implementation: ClassVar[dict[str, str]] = {"one": "a:b"}
            name: Literal["two"]

    assert "two" not in Loss.registered


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (
            "nowhere.cnn:Cnn",
            "cannot be loaded (No module named 'nowhere'): correct the class variable",
        ),
        (
            f"{__name__}:Cnn",
            f"cannot be loaded (module '{__name__}' has no attribute 'Cnn'): correct the class variable",
        ),
        (f"{__name__}:WIDTH", "cannot be called"),
    ],
)
def test_an_implementation_that_is_not_there_is_refused_before_rows_are_read(
    root, textcnn, monkeypatch, capsys, path, why
):
    monkeypatch.setattr(textcnn, "implementation", path)
    (root / "input/train.csv").unlink()
    more = ", or install what that module imports" if "loaded" in why else ""
    capsys.readouterr()
    args = ["train", "--model", "cnn", "--fold", "0"]
    refuses(root, args, f"TextCnnSettings: its implementation '{path}' {why}{more}", capsys)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"score": 1.0}, "'score' is a field of run.json and cannot be a learner's fact"),
        ({"digest": 1.0}, "'digest' is a field of run.json and cannot be a learner's fact"),
        (None, "None is not a dict of facts by name"),
        ({"mean": {1, 2}}, "the fact 'mean' is {1, 2}, not JSON"),
    ],
)
def test_facts_that_do_not_fit_into_the_record_are_refused(root, monkeypatch, capsys, facts, why):
    monkeypatch.setattr(TextCnnLearner, "fit", lambda *_: facts)
    capsys.readouterr()
    sentence = f"cnn seed 0 fold0: TextCnnLearner.fit: {why}: return other facts, then train again"
    refuses(root, ["train", "--model", "cnn", "--fold", "0"], sentence, capsys)


def test_its_runs_are_finished_and_the_same_again(root):
    assert foldstack(root, "train", "--model", "cnn", "--fold", "0") == 0
    place = Store(root).run_dir(RunKey("cnn", 0, (0,)))
    before = (place / "test.parquet").read_bytes()
    assert foldstack(root, "train", "--model", "cnn", "--fold", "0", "--force") == 0
    assert (place / "test.parquet").read_bytes() == before


CHANGES = [
    {"loss": "focal"},
    {"sampling": "oversample"},
    {"rdrop": 1.0},
    {"contrastive": {}},
    {"adversary": "fgm"},
    {"adversary": "pgd"},
    {"adversary": "freelb"},
    {"adversary": {"name": "awp", "start": 0}},
    {"adversary": "vat"},
    {"optimizer": "adafactor"},
    {"optimizer": "adagrad"},
    {"schedule": "constant"},
    {"averaging": "ema"},
    {"select": "inner"},
]


def fitted(settings: LearnerSettings, folder: Path) -> np.ndarray:
    """What a learner of these settings predicts for the rows that it has learned from."""
    folder.mkdir()
    rows = tiny_rows()
    weights = np.where(rows.targets[:, 0], 1.0, np.arange(len(rows)) % 3)  # so classes weigh unlike
    rows = rows.take(np.flatnonzero(weights > 0))
    learner = settings.load()(settings, LearnerContext(make_task()))
    learner.fit(rows, rows if settings.epoch_chosen_by == "inner" else None, folder)
    return learner.predict(rows)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_setting_of_the_loop_is_honoured(textcnn, tmp_path, change):
    """Guards a setting that another network than the transformer ignores: it trained the baseline."""
    base = {"epochs": 3, "lr": 0.02, "batch_size": 8, "patience": 0}
    if change == {"select": "inner"}:  # the first epochs of a falling score
        base |= {"lr": 0.3}
    plain = fitted(textcnn(learner="textcnn", training=base), tmp_path / "a")
    changed = fitted(textcnn(learner="textcnn", training=base | change), tmp_path / "b")
    assert np.isfinite(changed).all()
    if change != {"rdrop": 1.0} and change != {
        "select": "inner"
    }:  # without dropout R-Drop is nothing
        assert np.abs(plain - changed).max() > 1e-5


REFUSED = {
    "training.layer_decay=0.9": "unknown setting 'training.layer_decay'",
    "training.freeze_layers=1": "unknown setting 'training.freeze_layers'",
    "training.mask_spans={}": "unknown setting 'training.mask_spans'",
    "training.max_length=10": "unknown setting 'training.max_length'",
    "training.loss=mse": (
        "training.loss mse is for regression competitions, but this one is binary: take one of "
        "cross_entropy, soft_f1, pairwise_auc, focal, dice, ghm, logit_adjusted, asymmetric"
    ),
    "training.select_by=accurcy training.select=inner": "training.select_by: ",
    "training.mixup=0.5": (
        "training.mixup requires pooled vectors that can be mixed, and WordCnn has none: leave it out"
    ),
    "training.auxiliary=0.5": "learner textcnn learns no auxiliary columns: leave",
    "training.sampling=smote": (
        "training.sampling smote requires the vectors of a frozen backbone, and WordCnn has none"
    ),
    "embed=false training.adversary=fgm": (
        "adversary fgm perturbs the word embeddings, but WordCnn has none: name other weights with "
        "training.adversary.parameters"
    ),
    "embed=false training.adversary=vat": (
        "adversary vat perturbs the word embeddings, but WordCnn has none: take fgm, pgd or awp"
    ),
}


@pytest.mark.parametrize("settings", REFUSED, ids=str)
def test_what_it_lacks_is_refused(root, capsys, settings):
    """Guards the silence and the AttributeErrors of a network without the transformer's parts."""
    capsys.readouterr()
    args = ["train", "--model", "cnn", "--fold", "0", "--set", settings]
    assert foldstack(root, *args) == 2
    assert REFUSED[settings] in capsys.readouterr().err


def test_options_without_their_trait_are_refused(root, tmp_path, capsys):
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "cnn", "--fold", "0", "--processes", "2"],
        "cnn seed 0 fold0: learner textcnn computes in one process: leave --processes (PROCESSES=) "
        "out, or name a transformer with --model (MODEL=)",
        capsys,
    )
    refuses(
        root,
        ["train", "--model", "cnn", "--fold", "0", "--set", "pretrain={}"],
        "--set: setting 'pretrain' changes nothing in cnn: leave it out or name another MODEL",
        capsys,
    )
    train_folds(root, "--model", "cnn")
    capsys.readouterr()
    refuses(
        root,
        ["predict", "--model", "cnn", "--text", "fine", "--int8"],
        "INT8=1 changes nothing: only a transformer is predicted in int8",
        capsys,
    )


def test_settings_beyond_the_traits_are_refused(root, textcnn, monkeypatch, capsys):
    """A class may have inherited settings that its implementation does not honour."""
    monkeypatch.setattr(textcnn, "traits", Traits(torch=True))
    capsys.readouterr()
    args = ["train", "--model", "cnn", "--fold", "0", "--set", "training.select=inner"]
    sentence = "learner textcnn has no epochs to choose among: leave the setting for it out"
    refuses(root, args, f"cnn.yaml with --set: {sentence}", capsys)


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ({"layer_decay": 0.9}, "named layers"),
        ({"head_lr": 1e-3}, "named layers"),
        ({"freeze_layers": 1}, "named layers"),
        ({"freeze_embeddings": True}, "named layers"),
        ({"reinit_layers": 1}, "named layers"),
        ({"mask_spans": {}}, "a backbone"),
        ({"freeze_backbone": True}, "a backbone"),
    ],
    ids=str,
)
def test_settings_of_fine_tuning_require_a_backbones_parts(setting, part):
    """Also if a learner takes all of TrainingSettings for a network that has no layers."""
    with pytest.raises(InputError) as refused:
        loop.check_network(WordCnn(4, 1, True), TrainingSettings(**setting))
    assert str(refused.value) == (
        f"training.{next(iter(setting))} requires {part}, and WordCnn has none: leave it out"
    )


def test_the_names_of_learners_are_their_settings(textcnn):
    assert {"tfidf", "transformer", "textcnn"} <= LearnerSettings.registered.keys()
    with pytest.raises(TypeError, match="the learner 'tfidf' is registered already"):

        class Other(LearnerSettings):
            learner: Literal["tfidf"]


# A loss: its settings and its criterion


@pytest.fixture
def hinge() -> Iterator[type[Loss]]:
    """The toy loss, registered for the time of a test."""

    class ToyHinge(Loss):
        """margin: how far outputs go on being pushed apart."""

        implementation: ClassVar[str] = f"{__name__}:hinge_criterion"
        kinds: ClassVar[tuple[str, ...]] = ("binary",)
        name: Literal["toy_hinge"]
        margin: Positive = 1.0

    yield ToyHinge
    del Loss.registered["toy_hinge"]


def hinge_criterion(loss: Loss, link: str, targets: Tensor, weights: Tensor) -> Criterion:
    return RowWise(lambda raw, y: (loss.margin - (2 * y - 1) * raw).relu().mean(dim=1))


@pytest.mark.parametrize(
    ("loss", "margin"), [("toy_hinge", 1.0), ({"name": "toy_hinge", "margin": 0.5}, 0.5)], ids=str
)
def test_a_new_loss_trains_the_toy_learner_and_a_transformer(root, hinge, backbone, loss, margin):
    add_preset(root, backbone, training={"loss": loss, "precision": "fp32"})
    write(
        root / "presets/cnn.yaml",
        yaml.safe_dump({"learner": "textcnn", "training": {"loss": loss}}),
    )
    write_competition(root, models=["cnn", "tiny"])
    for model in ("cnn", "tiny"):
        train_folds(root, "--model", model)
        stored = Store(root).read_run(RunKey(model, 0, (0,))).identity.settings["training"]
        assert stored["loss"] == {
            "name": "toy_hinge",
            "margin": margin,
        }
    for stage in ("blend", "submit"):
        assert foldstack(root, stage) == 0
    assert foldstack(root, "predict", "--model", "tiny", "--text", "a good film") == 0


def test_a_new_loss_is_refused_as_those_that_are_shipped(hinge):
    def sentence(training: dict, kind: str = "binary") -> str:
        with pytest.raises((InputError, ValueError)) as refused:
            data = {"learner": "transformer", "backbone": "b", "training": training}
            config.validate(TransformerSettings, data, "tiny.yaml").check_kind(Kind(kind))
        return str(refused.value)

    assert sentence({"loss": "toy_hing"}) == (
        "tiny.yaml: setting 'training.loss' is 'toy_hing': did you mean 'toy_hinge'?"
    )
    assert sentence({"loss": {"name": "toy_hinge", "margn": 1}}) == (
        "tiny.yaml: unknown setting 'training.loss.margn': did you mean 'margin'?"
    )
    assert sentence({"loss": {"name": "toy_hinge", "margin": 0}}) == (
        "tiny.yaml: setting 'training.loss.margin' is 0: input should be greater than 0"
    )
    assert sentence({"loss": "toy_hinge"}, "regression") == (
        "training.loss toy_hinge is for binary competitions, but this one is regression: take one of "
        "mse, huber, scaled_bce, correlation"
    )
    assert "toy_hinge" in sentence({"loss": "mse"})


# What is shipped


def families() -> list[type[Technique]]:
    return Technique.__subclasses__()


def test_every_shipped_technique_has_an_implementation():
    for family in families():
        for name, kind in family.registered.items():
            path = kind.implementation
            assert callable(load(path if isinstance(path, str) else path[name], kind)), name


def test_every_shipped_learner_has_an_implementation():
    for kind in LearnerSettings.registered.values():
        for method in ("fit", "predict", "save", "load"):
            assert hasattr(kind.load(), method)
        assert kind.traits.int8 == hasattr(kind.load(), "in_int8")
        assert kind.traits.pretraining == hasattr(kind.load(), "pretrain")


def test_a_name_is_registered_once():
    with pytest.raises(TypeError, match="the name 'focal' is registered already"):

        class Other(Loss):
            name: Literal["focal"]


def test_a_setting_takes_a_technique_in_every_form():
    """A name, a mapping, a technique; stored settings give the same again."""
    forms = ["focal", {"name": "focal"}, techniques.Focal(name="focal")]
    settings = [LoopSettings(loss=form) for form in forms]
    assert settings[0] == settings[1] == settings[2]
    assert LoopSettings(**settings[0].model_dump(mode="json")) == settings[0]
    with pytest.raises(ValidationError, match="'adamw', 'adafactor' or 'adagrad'"):
        LoopSettings(optimizer="adamx")


# The loss curve


def test_the_loss_curve_is_kept(root):
    """60 rows, 40 of them learned from: 5 updates in each of 6 epochs, every one of them a point."""
    assert foldstack(root, "train", "--model", "cnn", "--fold", "0") == 0
    losses = Store(root).read_run(RunKey("cnn", 0, (0,))).facts["losses"]
    assert [step for step, _ in losses] == list(range(1, 31))
    assert losses[-1][1] < losses[0][1]


@pytest.mark.parametrize(
    ("total", "points"), [(1, 1), (199, 199), (200, 200), (201, 101), (1999, 200)]
)
def test_a_curve_has_200_points_at_most_and_ends_with_the_last_update(total, points):
    curve = loop.LossCurve(total)
    for step in range(1, total + 1):
        curve.add(step, torch.tensor(1.0))
    steps = [step for step, _ in curve.points()]
    assert (len(steps), steps[-1]) == (points, total)
    assert len(set(np.diff(steps[:-1]))) <= 1


def test_a_curve_is_the_running_mean_and_goes_through_a_checkpoint():
    values = torch.tensor([3.0, 1.0, 2.0, 0.7, 0.1])
    whole, cut = loop.LossCurve(5), loop.LossCurve(5)
    for step, value in enumerate(values, 1):
        whole.add(step, value)
    for step, value in enumerate(values[:2], 1):
        cut.add(step, value)
    resumed = loop.LossCurve(5)
    resumed.load(json.loads(json.dumps(cut.state())), torch.device("cpu"))
    for step, value in enumerate(values[2:], 3):
        resumed.add(step, value)
    assert resumed.points() == whole.points()
    assert whole.points()[1] == [2, pytest.approx(0.98 * 3 + 0.02 * 1)]
