"""The README.md of an exported model: what it is, how it was trained, and its honest numbers."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

import yaml

from foldstack.records import EstimateRecord, ExportRecord, RunIdentity, RunRecord
from foldstack.stages.dependencies import WHAT
from foldstack.workspace import Workspace

USE_TRANSFORMERS = """\
```python
from transformers import pipeline

model = pipeline("text-classification", model="FOLDER")
model({example}, truncation=True, top_k=None)
```"""
USE_OPENVINO = """\
```python
import openvino
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = openvino.Core().compile_model("FOLDER/openvino_model.xml", "CPU")
inputs = tokenizer({example}, truncation=True, return_tensors="np")
logits = model({{port.any_name: inputs[port.any_name] for port in model.inputs}})["logits"]
```"""
FUNCTIONS = {
    "single_label_classification": "softmax over the logits gives the probabilities",
    "multi_label_classification": "a sigmoid of each logit gives the probability of its label",
    "regression": "the logits are the values, in the units of the targets",
}


def model_card(ws: Workspace, record: ExportRecord, run: RunRecord) -> str:
    """Return the card of an exported run, with a YAML head as the hub reads it.

    No private score is read.

    Args:
        ws: the workspace.
        record: of the export.
        run: of the exported run.
    """
    name = ws.competition.settings.name
    parts = [
        f"---\n{_head(ws, record)}\n---",
        f"# {record.model}, for {name}",
        f"A `{record.backbone}` backbone with a `{record.head}` head, fine-tuned by foldstack "
        f"{run.versions.get('foldstack', '')}: {record.problem_type}, {len(record.labels)} "
        f"output{'s' * (len(record.labels) != 1)}.",
        "## Score\n\n" + "\n".join(_scores(record, run)),
        "## Use\n\n" + _use(ws, record),
        "## Training\n\n" + "\n".join(_training(record, run)),
    ]
    return "\n\n".join(parts) + "\n"


def _head(ws: Workspace, record: ExportRecord) -> str:
    """Return the card's metadata as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    name, estimate = ws.competition.settings.name, record.estimate
    results = None
    if estimate is not None and not math.isnan(estimate.score):
        doubt = " (OPTIMISTIC)" if record.optimistic else ""
        results = [
            EvalResult(
                task_type="text-classification",
                dataset_type=name,
                dataset_name=f"{name}, out-of-fold rows",
                metric_type=record.metric,
                metric_value=round(estimate.score, 6),
                metric_name=f"{record.metric}, nested{doubt}",
            )
        ]
    data = ModelCardData(
        library_name=record.form,
        pipeline_tag="text-classification",
        tags=["foldstack", record.backbone],
        model_name=record.model if results else None,
        eval_results=results,
    )
    return data.to_yaml()


def _scores(record: ExportRecord, run: RunRecord) -> list[str]:
    lines = []
    if record.estimate is not None:
        lines.append(
            f"- **{record.metric} {_interval(record.estimate)}** on out-of-fold rows, nested: whatever "
            "was fitted on them is scored on folds on which it was not fitted; 95 % interval"
        )
    if record.held_out is not None and not math.isnan(record.held_out):
        lines.append(f"- {run.metric} {record.held_out:.4f} on the rows that this run held out")
    lines += [f"- OPTIMISTIC: {reason}" for reason in record.optimistic]
    lines += [f"- STALE: {reason}" for reason in record.stale]
    lines += [f"- {note[:1].upper()}{note[1:]}" for note in record.notes]
    lines.append("- No score on hidden test labels is stated")
    return lines


def _interval(estimate: EstimateRecord) -> str:
    if math.isnan(estimate.score):
        return "undefined"
    if math.isnan(estimate.low):
        return f"{estimate.score:.4f}"
    return f"{estimate.score:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def _use(ws: Workspace, record: ExportRecord) -> str:
    s = ws.competition.settings
    pair = s.segment_count == 2
    if record.form == "transformers":
        text = '{"text": "…", "text_pair": "…"}' if pair else '"…"'
        code = USE_TRANSFORMERS.format(example=text)
        kept = (
            "Weights are float32. Keep them so, or in bfloat16: the head is expressed through very "
            "small and large numbers, which float16 does not hold."
        )
    else:
        code = USE_OPENVINO.format(example='"…", "…"' if pair else '"…"')
        kept = f"Of the logits: {FUNCTIONS[record.problem_type]}."
    made = _text_of(s.text, s.template, s.segments)
    return (
        f"{code}\n\n{kept} A text is {made}, cut at {record.max_length} tokens. `thresholds.json` has "
        "the decision rule that was fitted on out-of-fold rows, or the default one. On "
        f"{record.checked_rows} training rows the folder's predictions differ from the trained "
        f"network's in float32 by at most {record.largest_difference:.1e}."
    )


def _text_of(columns: tuple[str, ...], template: str | None, segments: tuple[str, ...]) -> str:
    """Return how the text is made of a row's columns."""
    if segments:
        return "made of the segments " + ", ".join(f"`{each}`" for each in segments)
    if template:
        return f"made as `{template}`"
    return "the column " + " and ".join(f"`{column}`" for column in columns)


def _training(record: ExportRecord, run: RunRecord) -> list[str]:
    identity = run.identity
    settings = dict(identity.settings)
    settings["backbone"] = PurePath(settings["backbone"]).name  # no path of this machine
    shown = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100).rstrip()
    fold = run.run or record.run.split("/")[1]
    preset = run.preset or record.model
    variant = f" NAME={record.model}" if preset != record.model else ""
    command = f"make train MODEL={preset}{variant} FOLD={fold.removeprefix('fold')} SEED={run.seed}"
    rows = "" if run.rows is None else f"{run.rows:,} rows, "
    facts = run.facts.get("precision")
    how = f" in {facts}" if facts else ""
    return [
        f"`{command}`: {rows}{run.seconds:,.0f} seconds{how} on {run.machine.get('device', 'cpu')}.",
        "",
        *_table({"folds": identity.folds, "training rows": identity.train} | _overlays(identity)),
        "",
        *_table(run.versions, "package", "version"),
        "",
        f"```yaml\n{shown}\n```",
        *_chosen(run.facts.get("auto") or {}),
    ]


def _overlays(identity: RunIdentity) -> dict[str, str]:
    found = {WHAT[what]: getattr(identity, what) for what in WHAT}
    return {what: value for what, value in found.items() if value is not None}


def _table(values: dict[str, Any], what: str = "data", value: str = "hash") -> list[str]:
    return [f"| {what} | {value} |", "|---|---|", *(f"| {k} | `{v}` |" for k, v in values.items())]


def _chosen(auto: dict[str, dict[str, Any]]) -> list[str]:
    """Return what the run chose for the settings that are `auto`."""
    if not auto:
        return []
    chosen = ", ".join(f"`{name}` {each['value']}" for name, each in auto.items())
    return ["", f"For `auto` the run chose {chosen}."]
