"""The typed settings of a competition; `config` reads them, `techniques` has those of the learners."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from foldstack.costs import cost_of, example
from foldstack.errors import cut, nearest
from foldstack.kinds import Kind
from foldstack.tables.form import FIRST_SPACE, TableForm


def none_from_text(value: Any) -> Any:
    return None if value in ("", "null", "~", "none") else value


LONGEST_FILE_NAME = 255  # bytes: the limit of file systems


def _file_name(value: str | None) -> str | None:
    """Reject impossible file names. A path may be anywhere: such a file is read, never written."""
    if value is None:
        return None
    if "\0" in value:
        raise ValueError("a file's name holds no NUL: write its right name")
    if any(len(part.encode()) > LONGEST_FILE_NAME for part in PurePath(value).parts):
        raise ValueError(f"a file's name has no more than {LONGEST_FILE_NAME} bytes: rename it")
    return value


FileName = Annotated[str, AfterValidator(_file_name)]
OptionalFileName = Annotated[
    str | None, BeforeValidator(none_from_text), AfterValidator(_file_name)
]


def _costs(value: Any) -> Any:
    if isinstance(value, str) or value is None:
        return _file_name(none_from_text(value))
    if not isinstance(value, dict) or not value:
        raise ValueError("write `TRUTH: {DECISION: cost}`, or the name of a file in input/")
    return {
        name: {k: cost_of(v) for k, v in row.items()} if isinstance(row, dict) else cost_of(row)
        for name, row in value.items()
    }


def _model_entry(value: Any) -> Any:
    if isinstance(value, dict):
        good = all(isinstance(settings, dict) for settings in value.values())
    else:
        good = isinstance(value, str)
    if not good:
        raise ValueError("write a model's name, or `name: {setting: value}`")
    return value


ModelEntry = Annotated[str | dict[str, dict[str, Any]], BeforeValidator(_model_entry)]
OptionalText = Annotated[str | None, BeforeValidator(none_from_text)]
WrittenCosts = Annotated[str | dict[str, float | dict[str, float]] | None, BeforeValidator(_costs)]
Share = Annotated[float, Field(ge=0, lt=1)]
# Most of a weight or another factor: a loss times 1e300 is no number any more, and trains nothing.
LARGEST = 1_000_000
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]


def one_in_a_list(value: Any) -> Any:
    """Read `pool` as `[pool]`, one mapping as a list of it, and nothing as an empty list."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, dict)) else value


def once_each(names: Iterable[Any]) -> Any:
    """Return these names; raise ValueError if one is repeated."""
    twice = [name for name, count in Counter(list(names)).items() if count > 1]
    if twice:
        raise ValueError(f"it names {cut(str(twice[0]))!r} twice: leave one out")
    return names


def at_least_one(names: Any) -> Any:
    if not names:
        raise ValueError("name at least one")
    return names


Item = TypeVar("Item")
# A list of names: one of them needs no brackets, and none is repeated.
Listed = Annotated[tuple[Item, ...], BeforeValidator(one_in_a_list), AfterValidator(once_each)]
OneOrMore = Annotated[Listed[Item], AfterValidator(at_least_one)]


def _delimiter(value: Any) -> Any:
    """Reject what separates no columns; one for all files, or by file."""
    for each in value.values() if isinstance(value, dict) else [value]:
        if each != FIRST_SPACE and (
            not isinstance(each, str) or len(each) != 1 or each in '"\r\n\0'
        ):
            raise ValueError(
                f'write one character, as `delimiter: ";"`, {FIRST_SPACE} for lines of labels, a space '
                "and the text, or `{FILE: …}`"
            )
    return value


def _by_file(value: Any) -> Any:
    if value in ("", "null", "~"):
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise ValueError("write `{FILE: {NAME IN THE FILE: NAME}}`")
    return value


Delimiter = Annotated[
    str | dict[str, str] | None,
    BeforeValidator(lambda value: None if value in ("", "null", "~") else _delimiter(value)),
]


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


T = TypeVar("T", bound=Settings)


class FileSettings(Settings):
    """Names of the competition's files in `input/`: CSV, TSV, JSON or Parquet, also .gz or .zip.

    train: the training rows.
    test: the rows to predict.
    sample: the sample submission, whose columns and order a submission has.
    """

    train: FileName = "train.csv"
    test: FileName = "test.csv"
    sample: FileName = "sample_submission.csv"


class JoinSettings(Settings):
    """A second file whose columns are joined to the rows of train and test.

    file: its name in `input/`; several, if the rows of train and test stand in files of their own.
    on: the key column, which the files share; one row for each key.
    """

    file: OneOrMore[FileName]
    on: str

    @property
    def named(self) -> str:
        """The files, as named in a message."""
        return ", ".join(self.file)


# Each fold of each repeat trains every model: more is a typing error, and would fill memory with
# columns of folds before any training.
MOST_FOLDS = 10_000
MOST_REPEATS = 1_000
MOST_BAGS = 10_000  # one greedy selection for each


class FoldSettings(Settings):
    """How the training rows are split.

    kind: stratified by label, by labels, or by quantile bins of a regression target; kfold is plain
        KFold(shuffle); time learns only from earlier rows, see `time`; test_like has the rows most
        like the test file in fold 0 (`make drift`), the others are stratified.
    count: number of folds.
    repeats: number of splits; the folds of the second one are numbered from `count` on.
    seed: of the split.
    dedupe: rows of equal text (after NFKC, case and white space) share a fold.
    near: similarity from which texts share a fold, see `near_by`; 0: equal texts only.
    near_by: characters: Jaccard similarity of character n-grams; meaning: cosine of the vectors of
        preset minilm-vectors, which read no labels; of several segments the mean.
    near_cap: most rows that near-duplicates may chain together.
    connected: pairs that share a sentence on either side share a fold, transitively.
    file: given folds, in `input/`, with columns id and fold, instead of the settings above.
    """

    kind: Literal["stratified", "kfold", "time", "test_like"] = "stratified"
    count: Annotated[int, Field(ge=2, le=MOST_FOLDS)] = 5
    repeats: Annotated[int, Field(ge=1, le=MOST_REPEATS)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    dedupe: bool = True
    near: Share = 0.0
    near_by: Literal["characters", "meaning"] = "characters"
    near_cap: Annotated[int, Field(ge=2)] = 100
    connected: bool = False
    file: OptionalFileName = None

    @model_validator(mode="after")
    def _nearness_is_used(self) -> FoldSettings:
        if self.near_by == "meaning" and not self.near:
            raise ValueError(
                "near_by: meaning is for texts from the similarity `near` on, which is 0: set `near: "
                "0.9`, or leave near_by out"
            )
        return self


def _source(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


class ExternalSource(Settings):
    """A file with more training rows, which are never scored; a name alone is `{file: NAME}`.

    file: its name in `input/`.
    name: what `external_files` of a preset calls it, by default as `file` says.
    labels: hard: as in train. soft: probabilities, in a column per class or label under its name, or
        of a binary competition in the target column: that of the positive class.
    weight: of each row beside 1 for a training row; a weight column's values are multiplied by it.
    """

    file: FileName
    name: OptionalText = None
    labels: Literal["hard", "soft"] = "hard"
    weight: Positive = 1.0

    @property
    def called(self) -> str:
        return self.name or self.file

    @property
    def is_soft(self) -> bool:
        return self.labels == "soft"


def _sources_once(sources: Sequence[ExternalSource]) -> Sequence[ExternalSource]:
    """Raise ValueError if a file, or what presets call it, is repeated."""
    for names in ([source.file for source in sources], [source.called for source in sources]):
        once_each(names)
    return sources


BlendMethod = Literal[
    "mean",
    "rank_mean",
    "geometric_mean",
    "power_mean",
    "greedy",
    "rank_greedy",
    "simplex",
    "weights_per_label",
    "stack_linear",
    "stack",
    "stack_mlp",
]


RuleFamily = Literal["default", "rate", "top_k", "least_cost", "fitted", "at_least_one"]
CalibrationMethod = Literal["auto", "none", "temperature", "vector", "platt", "beta", "isotonic"]


def _one_of(names: Any) -> BeforeValidator:
    """Reject an unknown name with the nearest one of a Literal's."""

    def check(value: Any) -> Any:
        if value not in get_args(names):
            raise ValueError(nearest(str(value), get_args(names)))
        return value

    return BeforeValidator(check)


class BlendSettings(Settings):
    """Which blends are tried beside the single models, and how.

    methods: candidates besides single models, see docs/ensembles.md.
    bags: random halves of the models (if there are 8 or more) that greedy selection is averaged
        over; 1: all models, once.
    negative: how far below 0 weights of simplex and weights_per_label may go.
    power: exponent of power_mean: the higher, the more the confident models count.
    stack_inputs: the form of the models' predictions that stacks read.
    stack_monotone: the LightGBM stack may only rise with the models' predictions of the same
        output.
    text_features: stacks also read length, digits, case, punctuation, script, readability, repeated
        words and links of the texts.
    rules: families of decision rules to choose among if labels are submitted; those that the kind
        does not have are ignored.
    calibration: methods tried on blends of probabilities, or on the only model; auto: all of the
        kind if the metric is one of probabilities, and for every metric the mean of models
        calibrated one by one if their confidence differs.
    align_runs: before out-of-fold predictions are pooled, give each run's the distribution that the
        runs have on average on the rows that they hold out (100 or more per fold); not for metrics of
        probabilities, nor if folds are in time order, given, or of whole groups.
    match_sharpness: give test means over runs the confidence of single runs by a temperature, if a
        decision rule or a calibration was fitted on single runs.
    seed: of all resampling in the blend.
    """

    methods: Listed[BlendMethod] = ("mean", "rank_mean", "greedy", "rank_greedy", "stack")
    bags: Annotated[int, Field(ge=1, le=MOST_BAGS)] = 5
    negative: Annotated[float, Field(ge=0, le=1)] = 0.0
    power: Annotated[float, Field(gt=0, le=100)] = 2.0
    stack_inputs: Literal["logits", "probabilities"] = "logits"
    stack_monotone: bool = False
    text_features: bool = False
    rules: Listed[Annotated[RuleFamily, _one_of(RuleFamily)]] = get_args(RuleFamily)
    calibration: Listed[Annotated[CalibrationMethod, _one_of(CalibrationMethod)]] = ("auto",)
    align_runs: bool = True
    match_sharpness: bool = True
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _stacks_are_there(self) -> BlendSettings:
        stacks = [method for method in self.methods if method.startswith("stack")]
        if self.text_features and not stacks:
            raise ValueError(
                "`text_features` is what stacks read, but `methods` lists none: add stack_linear, stack "
                "or stack_mlp, or leave it out"
            )
        if self.stack_monotone and "stack" not in stacks:
            raise ValueError(
                "`stack_monotone` is of the LightGBM stack, but `methods` lists no stack: add it, or "
                "leave this out"
            )
        return self

    @model_validator(mode="after")
    def _auto_stands_alone(self) -> BlendSettings:
        for word in ("auto", "none"):
            if word in self.calibration and len(self.calibration) > 1:
                raise ValueError(f"`calibration: {word}` stands alone: leave out the rest or it")
        return self


class DriftSettings(Settings):
    """How the test file is compared with the training file; see `make drift`.

    check: `folds`, `blend` and `submit` say how the files differ, if each has 100 rows or more.
    rows: most rows that the model of drift is fitted on; of more it is a random part, and only
        `make drift` compares them.
    clip: quantile of the importance weights above which they are clipped.
    seed: of the model's folds and of that part.
    """

    check: bool = True
    rows: Annotated[int, Field(ge=200)] = 50_000
    clip: Annotated[float, Field(gt=0.5, le=1)] = 0.99
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class StoreSettings(Settings):
    """The contents of `oof/`.

    keep_models: false drops fitted models once their predictions are stored.
    """

    keep_models: bool = True


TrackerName = Literal["tensorboard", "wandb", "trackio"]


def _trackers(value: Any) -> Any:
    return () if none_from_text(value) is None else value


class RuntimeSettings(Settings):
    """How a run uses the machine.

    threads: threads of each process of a run, on which its bits depend; 0: those that `make folds`
        chose for throughput and keeps in `folds/folds.json`; predictions of new texts, which do not
        depend on it, take all cores.
    trackers: experiment trackers to which a run's loss, learning rate and scores are sent; they
        change nothing of the run.
    """

    threads: Annotated[int, Field(ge=0)] = 0
    trackers: Annotated[
        Listed[Annotated[TrackerName, _one_of(TrackerName)]], BeforeValidator(_trackers)
    ] = ()


class KaggleSettings(Settings):
    """Where `make push` pushes to.

    competition: the last part of the competition's address.
    dataset: ACCOUNT/NAME of the data set that the bundle becomes.
    """

    competition: OptionalText = None
    dataset: OptionalText = None


class CompetitionSettings(Settings):
    """The contents of `competition.yaml`: what is predicted, and how it is scored.

    name: of the competition.
    kind: what a row's target is.
    metric: what is optimised and reported; `metrics.py:NAME` is your own function.
    metric_confirmed: false if `init` guessed a metric beside which others would fit; `submit` repeats
        it until it is confirmed.
    report_metrics: further metrics that `score` shows; they decide nothing.
    costs: for metric `cost`: `{truth: {decision: cost}}`, or a table in `input/`.
    files: names of the files in `input/`.
    id: column of ids in train, test and sample.
    train_has_id: false: training rows are numbered.
    text: text column(s); several are joined by a space.
    template: joins several text columns, as `"{title}: {body}"`.
    pair: the two text columns are a sentence pair, each a segment of its own.
    segments: two or three templates, each of which makes one segment, as `["{anchor}", "{context}:
        {target}"]`; what the model reads apart.
    target: column of the label; several: one 0/1 column per label, or numbers.
    separator: between the labels in the cells of a multilabel competition's single target column.
    labels: classes in order; the last of a binary competition is the positive one.
    threshold: of binary or multilabel target columns of numbers: positive from this value on.
    unlabelled: what is done about training rows without a label (empty, nan, None, inf, or -1 beside
        labels from 0 on): refuse them, drop them, pool their texts for pretraining, or take what is
        written there for a class.
    numeric: columns of numbers, for stacks and for heads that join them.
    categorical: columns of categories, for stacks and for heads that join them.
    auxiliary: columns of numbers that only train has, learned beside the target if a preset sets
        `training.auxiliary`.
    group: column; rows of one group share a fold.
    weight: column of row weights, used in training only.
    time: column that `folds.kind: time` sorts by.
    external: files with more training rows, which are never scored: names, or `{file: more.csv, labels:
        soft, weight: 0.5}`.
    pool: files of rows without labels: pretraining, word vectors and pseudo-labels read them.
    edits: file of training rows that are dropped, relabelled or weighted; each is still predicted, and
        scored on its given label.
    patterns: file in the workspace with rules that decide before or beside the blend.
    submission: what is submitted; auto follows the metric and the sample's columns.
    join: second files whose columns are joined by a key: `{file: prompts.csv, on: prompt_id}`.
    encoding: of the files.
    delimiter: between the columns of CSV and text files, or `{FILE: …}`; by default a comma, in TSV
        and .txt a tab. `first_space`: each line is labels, a space, the text.
    quoting: whether quotes enclose cells (csv) or are part of the text (none); auto: csv, but in TSV
        only if each field that opens with a quote closes on its line.
    header: whether the first line names the columns, or `{FILE: …}`; without, they are c1, c2, …
    columns: other names for columns: `{FILE: {c1: id}}`.
    models: presets, each with settings of its own if needed: `{name: {preset: …, setting: value}}`.
    seeds: `train` trains every model with each.
    folds: how the training rows are split.
    drift: how the test file is compared with the training file.
    blend: which blends are tried.
    store: what is kept in `oof/`.
    runtime: how a run uses the machine.
    kaggle: where submissions are pushed.
    """

    name: str
    kind: Kind
    metric: str
    metric_confirmed: bool = True
    report_metrics: Listed[str] = ()
    costs: WrittenCosts = None
    files: FileSettings = FileSettings()
    id: str = "id"
    train_has_id: bool = True
    text: OneOrMore[str] = ("text",)
    template: OptionalText = None
    pair: bool = False
    segments: Listed[str] = ()
    target: OneOrMore[str]
    separator: OptionalText = None
    labels: Listed[str] = ()
    threshold: float | None = None
    unlabelled: Literal["refuse", "drop", "pool", "class"] = "refuse"
    numeric: Listed[str] = ()
    categorical: Listed[str] = ()
    auxiliary: Listed[str] = ()
    group: OptionalText = None
    weight: OptionalText = None
    time: OptionalText = None
    external: Annotated[
        tuple[Annotated[ExternalSource, BeforeValidator(_source)], ...],
        BeforeValidator(one_in_a_list),
        AfterValidator(_sources_once),
    ] = ()
    pool: Listed[FileName] = ()
    edits: OptionalFileName = None
    patterns: OptionalFileName = None
    submission: Literal["auto", "labels", "probabilities"] = "auto"
    join: Annotated[tuple[JoinSettings, ...], BeforeValidator(one_in_a_list)] = ()
    encoding: str = "utf-8"
    delimiter: Delimiter = None
    quoting: Literal["auto", "csv", "none"] = "auto"
    header: bool | dict[str, bool] = True
    columns: Annotated[dict[str, dict[str, str]], BeforeValidator(_by_file)] = {}
    models: Annotated[tuple[ModelEntry, ...], BeforeValidator(one_in_a_list)] = ()
    seeds: OneOrMore[Annotated[int, Field(ge=0, lt=2**32)]] = (0,)
    folds: FoldSettings = FoldSettings()
    drift: DriftSettings = DriftSettings()
    blend: BlendSettings = BlendSettings()
    store: StoreSettings = StoreSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    kaggle: KaggleSettings = KaggleSettings()

    @model_validator(mode="after")
    def _soft_labels(self) -> CompetitionSettings:
        soft = next((source.file for source in self.external if source.is_soft), None)
        if soft is not None and self.kind.is_values:
            raise ValueError(
                f"`external` marks the labels of '{soft}' as soft, but targets of kind regression are "
                "numbers in any case: leave `labels` out"
            )
        return self

    @model_validator(mode="after")
    def _text_columns(self) -> CompetitionSettings:
        if self.segments:
            self._check_segments()
        if self.pair and (len(self.text) != 2 or self.template):
            raise ValueError("`pair: true` requires exactly two text columns and no template")
        if self.template:
            parsed = _template_fields(self.template)
            if parsed is None or set(parsed) != set(self.text):
                raise ValueError(
                    f"setting 'template' is {self.template!r}: it must name each text column once in "
                    f"braces, {_in_braces(self.text)}, and nothing else in braces"
                )
        return self

    def _check_segments(self) -> None:
        if self.pair:
            raise ValueError(
                "`pair: true` makes two segments of two text columns, and `segments` says what they "
                "are: leave `pair` out"
            )
        if self.template:
            raise ValueError(
                "`template` joins the text columns to one text, `segments` makes several: set one of "
                "them"
            )
        if len(self.segments) not in (2, 3):
            count = f"{len(self.segments)} template{'s'[: len(self.segments) > 1]}"
            raise ValueError(
                f"`segments` has {count}: write two or three, or `template` for one text"
            )
        named: set[str] = set()
        for number, template in enumerate(self.segments, 1):
            fields = _template_fields(template)
            if not fields or not set(fields) <= set(self.text):
                raise ValueError(
                    f"setting 'segments' has {template!r} as number {number}: it must name at least "
                    f"one of the text columns in braces, {_in_braces(self.text)}, and nothing else "
                    "in braces"
                )
            named |= set(fields)
        unread = [column for column in self.text if column not in named]
        if unread:
            raise ValueError(
                f"no segment names the text column '{cut(unread[0])}': add {_in_braces(unread[:1])} "
                "to one, or take the column out of `text`"
            )

    @property
    def segment_count(self) -> int:
        """The number of texts of a row that a model reads apart: 1, 2 or 3."""
        return 2 if self.pair else len(self.segments) or 1

    @property
    def segment_names(self) -> tuple[str, ...]:
        """Names of the texts of a row that a model reads apart: of a column that is one, its own."""
        if self.pair:
            return self.text
        if not self.segments:
            alone = len(self.text) == 1 and not self.template
            return self.text if alone else ("text",)
        columns = {"{" + column + "}": column for column in self.text}
        found = [columns.get(each, f"segment{i}") for i, each in enumerate(self.segments, 1)]
        return tuple(found) if len(set(found)) == len(found) else numbered(len(found))

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates that the user wrote, of the text or of each segment."""
        return self.segments or ((self.template,) if self.template else ())

    @model_validator(mode="after")
    def _costs_with_their_metric(self) -> CompetitionSettings:
        used = "cost" in (self.metric, *self.report_metrics)
        if used and self.costs is None:
            raise ValueError(
                "metric cost requires `costs`, what each decision costs for each truth: write "
                f"`costs: {example(self.kind)}`"
            )
        if self.costs is not None and not used:
            raise ValueError(
                "`costs` change nothing unless they are scored: set `metric: cost`, or remove them"
            )
        return self

    @model_validator(mode="after")
    def _fitting_settings(self) -> CompetitionSettings:
        if self.separator and (not self.kind.several_labels_per_row or len(self.target) != 1):
            raise ValueError("`separator` is for kind multilabel with one target column")
        by_number = self.threshold is not None
        if by_number and (self.kind.is_values or self.kind.is_one_hot or self.separator):
            raise ValueError(
                "`threshold` is for kind binary, or multilabel with a column per label"
            )
        if by_number and self.labels:
            raise ValueError("with a `threshold` the labels are 0 and 1: remove `labels`")
        if self.kind.is_one_hot and len(self.target) > 1 and self.labels:
            raise ValueError("with a target column per class `labels` are the columns: remove it")
        if self.kind.several_labels_per_row and len(self.target) == 1 and not self.separator:
            raise ValueError(
                "kind multilabel has a 0/1 column for each label, but `target` names one, "
                f"'{cut(self.target[0])}': set `kind: binary`, or `separator` if its cells join labels"
            )
        if self.kind.is_values and self.labels:
            raise ValueError("kind regression has no `labels`: remove the setting")
        if self.kind.is_values and self.patterns:
            raise ValueError(
                "`patterns` say labels, which kind regression lacks: remove the setting"
            )
        if (self.folds.kind == "time") != (self.time is not None):
            raise ValueError("`time` names a column for `folds.kind: time`: set both or neither")
        if self.folds.connected and self.segment_count == 1:
            raise ValueError(
                "`folds.connected` joins pairs that share a sentence: set `pair: true` or leave it out"
            )
        inputs = (*self.text, *self.numeric, *self.categorical)
        for what, columns in (("target", self.target), ("auxiliary target", self.auxiliary)):
            for column in columns:
                if column in inputs:
                    raise ValueError(
                        f"column '{column}' cannot be both {what} and input: leave one out"
                    )
        named = (*inputs, *self.target, *self.auxiliary)
        twice = [c for c, n in Counter(named).items() if n > 1]
        if twice:
            raise ValueError(f"column '{twice[0]}' is named twice: leave one out")
        return self

    def form_of(self, name: str, *, like: str | None = None) -> TableForm:
        """Return how a file is written.

        Args:
            name: the file, by the name that a setting gives it.
            like: the file that a new one resembles, if no setting names the new one.
        """
        name = next((each for each in (name, PurePath(name).name) if self._names(each)), name)
        if like is not None and not self._names(name):
            name = like
        delimiter, header = self.delimiter, self.header
        return TableForm(
            self.encoding,
            delimiter.get(name) if isinstance(delimiter, dict) else delimiter,
            self.quoting,
            header.get(name, True) if isinstance(header, dict) else header,
            self.columns.get(name, {}),
        )

    def _names(self, name: str) -> bool:
        by_file = (self.delimiter, self.header, self.columns)
        return any(isinstance(each, dict) and name in each for each in by_file)


def numbered(count: int) -> tuple[str, ...]:
    """Return the names of this number of segments that have no names of columns."""
    return tuple(f"segment{i}" for i in range(1, count + 1))


def _in_braces(columns: Sequence[str]) -> str:
    return " ".join("{" + column + "}" for column in columns)


def _template_fields(template: str) -> list[str] | None:
    """Return the names in braces, None if the template is invalid."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return None
    if any(spec or conversion for _, _, spec, conversion in parts):
        return None
    return [name for _, name, _, _ in parts if name is not None]
