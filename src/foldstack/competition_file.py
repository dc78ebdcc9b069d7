"""competition.yaml as written: every setting with a comment, defaults commented out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from foldstack import metrics
from foldstack.kinds import Kind
from foldstack.settings import CompetitionSettings, FoldSettings, Settings

COMMENT_AT = 22  # the column at which comments begin
WIDTH = 90  # of a list in a comment
LONG = 60  # longer lines have their comment above


@dataclass(frozen=True)
class Entry:
    """A setting's comment, an example if its default shows nothing, and the settings within it."""

    name: str
    comment: str
    example: Any = None
    within: tuple[Entry, ...] = ()


PARTS = (
    (
        Entry("name", "of the competition"),
        Entry("kind", "binary, multiclass (one label per row), multilabel, or regression"),
        Entry("metric", "what is optimised and reported; metrics.py:NAME is your own function"),
        Entry(
            "metric_confirmed", "false: guessed, as `submit` repeats; true, once you have looked"
        ),
        Entry("report_metrics", "further ones for `make score` to show", ("accuracy",)),
        Entry(
            "costs",
            "for metric cost: {TRUTH: {DECISION: cost}}, or a table in input/; else 1 per mistake",
            {"no": {"yes": 1}, "yes": {"no": 5}},
        ),
        Entry(
            "files",
            "in input/: CSV, TSV, JSON or Parquet, also .gz or .zip",
            within=(Entry("train", ""), Entry("test", ""), Entry("sample", "")),
        ),
        Entry("encoding", "of the files"),
        Entry("delimiter", "of CSV and text files, or {FILE: …}; else by the suffix", ";"),
        Entry("quoting", "csv, none: quotes are part of the text, or auto"),
        Entry("header", "false: columns are c1, c2, …; or {FILE: false}"),
        Entry("columns", "other names for columns, by file", {"train.csv": {"c1": "id"}}),
        Entry(
            "join",
            "second files, whose columns are joined by a key",
            ({"file": "prompts.csv", "on": "prompt_id"},),
        ),
    ),
    (
        Entry("id", "column of ids in train, test and sample"),
        Entry("train_has_id", "false: the training rows are numbered"),
        Entry("text", "text column(s); several are joined by a space"),
        Entry("template", "joins several text columns otherwise", "{title}: {body}"),
        Entry("pair", "true: the two text columns are a sentence pair"),
        Entry("segments", "two or three templates, each read apart", ("{title}", "{body}")),
        Entry("numeric", "columns of numbers, offered to stacks", ("stars",)),
        Entry("categorical", "columns of few words, offered to stacks", ("source",)),
    ),
    (
        Entry("target", "the label's column; several: a 0/1 column per label, or numbers"),
        Entry(
            "auxiliary", "columns of numbers in train alone, to be learned beside it", ("stars",)
        ),
        Entry("separator", "between the labels of a multilabel target's cells", "|"),
        Entry("labels", "classes; in a binary competition the last is the positive", ("no", "yes")),
        Entry("threshold", "of targets that are numbers: positive from this value on", 0.5),
        Entry("unlabelled", "rows without a label: refuse, drop, pool (for pretraining), class"),
        Entry("submission", "labels or probabilities; auto follows the metric and the sample"),
    ),
    (
        Entry("group", "rows of one group share a fold, as rows of equal text do", "author"),
        Entry("weight", "row weights, used in training only", "weight"),
        Entry("time", "the column that `folds.kind: time` sorts by", "date"),
        Entry("external", "files in input/ with more training rows, never scored", ("more.csv",)),
        Entry("pool", "files in input/ of texts without labels", ("unlabelled.csv",)),
        Entry("edits", "training rows dropped, relabelled or weighted, in input/", "edits.csv"),
    ),
    (
        Entry("models", "presets, each with settings of its own if you like"),
        Entry("seeds", "`make train` trains every model with each"),
        Entry("patterns", "a file of rules and cached texts beside the blend", "patterns.yaml"),
    ),
    (
        Entry(
            "folds",
            "",
            within=(
                Entry(
                    "kind",
                    "or kfold: plain KFold(shuffle); time: see `time`; test_like: see `make drift`",
                ),
                Entry("count", ""),
                Entry("repeats", "that many splits"),
                Entry("seed", ""),
                Entry("dedupe", "equal texts share a fold"),
                Entry(
                    "near", "so do texts of this Jaccard similarity, 0.8 say; 0: equal ones only"
                ),
                Entry("near_by", "or meaning: cosine of vectors instead of Jaccard similarity"),
                Entry("near_cap", "the most rows that near-duplicates chain together"),
                Entry("connected", "true: pairs that share a sentence share a fold, in chains"),
                Entry("file", "given folds, in input/, instead of these", "folds.csv"),
            ),
        ),
        Entry(
            "blend",
            "",
            within=(
                Entry(
                    "methods",
                    "or geometric_mean, power_mean, simplex, weights_per_label, stack_linear, stack_mlp",
                ),
                Entry("bags", "random halves of the models (8 or more) for greedy; 1: all, once"),
                Entry("negative", "how far below 0 weights of simplex and per label may go"),
                Entry("power", "of power_mean"),
                Entry("stack_inputs", "or probabilities"),
                Entry("stack_monotone", "true: stack may only rise with the models' predictions"),
                Entry("text_features", "true: stacks read length, digits, case … of the texts too"),
                Entry("rules", "families of decision rules to choose among"),
                Entry("calibration", "none, auto, or temperature, vector, platt, beta, isotonic"),
                Entry("align_runs", "out-of-fold predictions of runs made comparable"),
                Entry("match_sharpness", "test means get the confidence of single runs"),
                Entry("seed", ""),
            ),
        ),
        Entry(
            "drift",
            "",
            within=(
                Entry("check", "how test and training file differ is said by folds, blend, submit"),
                Entry("rows", "most rows that the comparison reads"),
                Entry("clip", "quantile of the weights above which they are clipped"),
                Entry("seed", ""),
            ),
        ),
        Entry(
            "store",
            "",
            within=(Entry("keep_models", "false drops models once their predictions are stored"),),
        ),
        Entry(
            "runtime",
            "",
            within=(
                Entry("threads", "per run; 0: as `make folds` chose them"),
                Entry("trackers", "that follow training: tensorboard, wandb, trackio"),
            ),
        ),
        Entry(
            "kaggle",
            "",
            within=(
                Entry("competition", "last part of its address, for `make push`", "my-competition"),
                Entry("dataset", "what the bundle becomes", "account/my-bundle"),
            ),
        ),
    ),
)
MODEL_EXAMPLE = "#  - minilm-long: {preset: minilm, training: {max_length: 256, epochs: 3}}"

# Settings shown in every new file although they have their default.
SHOWN = {
    "seeds": [0],
    "folds": FoldSettings().model_dump(include={"kind", "count", "seed", "dedupe"}),
}


def competition_yaml(
    settings: Mapping[str, Any],
    about: str,
    examples: Mapping[str, Any] | None = None,
    notes: Mapping[str, str] | None = None,
) -> str:
    """Return the commented file, with the default of each setting that is not given commented out.

    Args:
        settings: of `CompetitionSettings`, nested ones as mappings.
        about: the text of the first line.
        examples: shown instead of a default, for settings that are not given.
        notes: comments on models.
    """
    lines = [
        f"# {about}",
        "# Every value is read as text first: `no` is the word no, `007` stays 007.",
    ]
    for part in PARTS:
        for entry in part:
            example = (examples or {}).get(entry.name, entry.example)
            lines += _entry(entry, CompetitionSettings, settings, example)
            if entry.name == "models":
                lines = [_noted(line, notes or {}) for line in lines]
            if entry.name == "metric":
                lines += [f"#   {line}" for line in metrics.listed(Kind(settings["kind"]), WIDTH)]
        lines.append("")
    return "\n".join(lines)


def _entry(entry: Entry, of: type[Settings], given: Mapping[str, Any], example: Any) -> list[str]:
    on, field = entry.name in given, of.model_fields[entry.name]
    if entry.within:
        values = given.get(entry.name, {})
        inner = [
            line
            for part in entry.within
            for line in _entry(part, field.annotation, values, part.example)
        ]
        inner = ["  " + line if on else line.replace("# ", "#   ", 1) for line in inner]
        return [*_line(f"{entry.name}:", entry.comment, on), *inner]
    value = given[entry.name] if on else field.default if example is None else example
    if entry.name == "models":
        names = [
            f"  - {flow(model) if isinstance(model, str) else flow(model)[1:-1]}" for model in value
        ]
        return [*_line("models:", entry.comment, on), *names, MODEL_EXAMPLE]
    return _line(f"{entry.name}: {flow(value)}", entry.comment, on)


def _noted(line: str, notes: Mapping[str, str]) -> str:
    """Return the line of a model with its note as a comment; other lines unchanged."""
    name = line.removeprefix("  - ").split(":")[0]
    if not line.startswith("  - ") or name not in notes:
        return line
    return f"{line:{COMMENT_AT - 1}} # {notes[name]}"


def _line(text: str, comment: str, on: bool) -> list[str]:
    text = text if on else f"# {text}"
    if not comment:
        return [text]
    if len(text) >= LONG:
        return [f"# {comment}:", text]
    return [f"{text:{COMMENT_AT - 1}} # {comment}"]


def flow(value: Any) -> str:
    """Return a value as YAML on one line, read back as the same by every YAML loader."""
    if isinstance(value, str):
        return _scalar(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    return json.dumps(value)


def _scalar(text: str) -> str:
    """Return plain text if YAML reads it as this text, also between brackets; otherwise quoted."""
    style = {"allow_unicode": True, "width": float("inf"), "default_flow_style": True}
    if yaml.safe_dump([text], **style) == f"[{text}]\n":
        return text
    return yaml.safe_dump(text, default_style='"', **style).removesuffix("\n")
