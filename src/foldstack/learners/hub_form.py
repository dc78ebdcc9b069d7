"""Fitted transformers in the forms of the hub: a standard architecture, or an OpenVINO graph.

Both have a tokenizer and a config with the labels beside them, and are compared with the learner on
training rows before they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import normalizers
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    pipeline,
)

from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.learners import Learner
from foldstack.learners.repeated import RepeatedLearner
from foldstack.learners.transformer import TransformerLearner
from foldstack.links import to_probabilities
from foldstack.nets.backbone import own_code
from foldstack.nets.quantized import load_openvino
from foldstack.nets.standard import standard_model
from foldstack.nets.whole import INPUTS, HubLogits, Units, openvino_graph
from foldstack.rows import Rows
from foldstack.text.sequences import columns_of
from foldstack.training import loop

GRAPH = "openvino_model.xml"  # the name that optimum reads
LARGEST = 1e-5  # difference from the learner's probabilities
PROBLEMS = {
    Kind.BINARY: "single_label_classification",
    Kind.MULTICLASS: "single_label_classification",
    Kind.MULTILABEL: "multi_label_classification",
    Kind.REGRESSION: "regression",
}


@dataclass(frozen=True)
class HubForm:
    """The networks of a fitted run, and what a hub model's config says of them.

    learners: the fits of the run, whose logits are averaged. labels: names of the outputs.
    """

    learners: tuple[TransformerLearner, ...]
    kind: Kind
    labels: tuple[str, ...]

    @classmethod
    def of(cls, learner: Learner, kind: Kind, labels: tuple[str, ...]) -> HubForm:
        """Return the form of a loaded learner, with its networks on the CPU.

        Raises InputError if it is no transformer, or reads more than text.
        """
        members = learner.members if isinstance(learner, RepeatedLearner) else [learner]
        if not all(isinstance(each, TransformerLearner) for each in members):
            raise InputError(
                f"export takes a transformer, and this model is a {learner.settings.learner}: its runs "
                "are predicted by `make predict`"
            )
        if members[0].settings.text_vectors:
            raise InputError(
                "this model compares vectors of texts that it reads apart, which a pipeline does not: "
                "its runs are predicted by `make predict`"
            )
        if members[0].encoder.columns is not None:
            raise InputError(
                "this model joins feature columns (join_features), which a pipeline for texts does not "
                "have: export a model without them"
            )
        if members[0].encoder.listed is not None:
            raise InputError(
                "this model joins keywords (keywords), which a pipeline for texts does not have: export "
                "a model without them"
            )
        if members[0].settings.predicts_both_orders:
            raise InputError(
                "this model reads both orders of a pair (both_orders), which a pipeline does not: "
                "export a model without it"
            )
        members = [each.merged() for each in members]
        if members[0].encoder.laid is not None:
            raise InputError(
                "this model puts texts into a template, which a pipeline does not: export a model "
                "without `template`"
            )
        for each in members:
            each.model.to("cpu").eval()
        return cls(tuple(members), kind, labels)

    @property
    def first(self) -> TransformerLearner:
        return self.learners[0]

    @property
    def problem(self) -> str:
        return PROBLEMS[self.kind]

    @property
    def logits(self) -> HubLogits:
        """How the classifiers' logits become those of a hub model."""
        scale = self.first.encoder.scale
        units = None
        if scale is not None:
            shift, unit = (torch.tensor(a, dtype=torch.float32) for a in (scale.shift, scale.unit))
            units = Units(shift, unit, scale.bounded)
        return HubLogits(self.kind.has_positive_class, units)

    def write(self, folder: Path, form: str) -> None:
        """Write the network, its config and its tokenizer into a folder.

        Raises InputError if the form cannot hold the network.
        """
        if form == "openvino":
            self._write_graph(folder)
        else:
            self._write_standard(folder)
        tokenizer = self.first.encoder.tokenizer
        tokenizer.save_pretrained(folder)
        _adapt_tokenizer(self.first, folder)

    def _write_graph(self, folder: Path) -> None:
        models = [each.model for each in self.learners]
        graph = openvino_graph(models, self.logits, self.first.encoder.types)
        load_openvino().save_model(graph, folder / GRAPH, compress_to_fp16=False)
        config = self.first.model.backbone.config
        config = type(config).from_dict(config.to_dict() | self._labels())
        config.save_pretrained(folder)

    def _write_standard(self, folder: Path) -> None:
        instead = "FORM=openvino holds it"
        if len(self.learners) > 1:
            raise InputError(
                f"this run averages {len(self.learners)} fits (`repeats`), and a standard architecture "
                f"is one: {instead}"
            )
        if code := own_code(self.first.model.backbone):
            raise InputError(
                f"the backbone is {code}, which its checkpoint's own code defines: transformers has no "
                f"standard form of it; {instead}"
            )
        if self.logits.units is not None and self.logits.units.bounded:
            raise InputError(
                "the values of this model are bounded by a sigmoid, which a standard architecture for "
                f"regression does not have: {instead}"
            )
        if len(self.first.task.templates) > 2:
            raise InputError(
                f"this model reads three segments, and a pipeline's tokenizer joins two: {instead}"
            )
        model = standard_model(self.first.model, self.logits.layer(self.first.model))
        for name, value in self._labels().items():
            setattr(model.config, name, value)
        model.save_pretrained(folder)

    def _labels(self) -> dict:
        names = dict(enumerate(self.labels))
        return {
            "id2label": names,
            "label2id": {name: number for number, name in names.items()},
            "problem_type": self.problem,
        }

    def expected(self, rows: Rows) -> np.ndarray:
        """Return (n, labels) probabilities or values of these rows by the learner in float32."""
        cpu = torch.device("cpu")
        logits = []
        for each in self.learners:
            tokens = each.encoder.tokens(rows)
            logits.append(each.encoder.restore(loop.predict(each.model, tokens, cpu), tokens))
        values = to_probabilities(np.mean(logits, axis=0), self.kind.link)
        return np.hstack([1 - values, values]) if self.kind.has_positive_class else values

    def read_whole(self, rows: Rows) -> Rows:
        """Return those of the rows that the folder reads as the learner does."""
        encoder = self.first.encoder
        long = self.first.settings.long
        if long.cuts_end and not long.parts:
            return rows
        return rows.take(np.flatnonzero(encoder.whole(rows)))

    def found(self, rows: Rows, folder: Path, form: str) -> np.ndarray:
        """Return (n, labels) probabilities or values of these rows by what was written."""
        return (
            self._by_graph(rows, folder) if form == "openvino" else self._by_pipeline(rows, folder)
        )

    def _by_pipeline(self, rows: Rows, folder: Path) -> np.ndarray:
        """Return what `transformers.pipeline` says, row by row."""
        model = pipeline("text-classification", model=str(folder), device="cpu")
        texts = columns_of(rows)
        names = ("text", "text_pair")[: len(texts)]
        inputs = [dict(zip(names, row, strict=True)) for row in zip(*texts, strict=True)]
        by_label = model(inputs, top_k=None, truncation=True)
        said = [{each["label"]: each["score"] for each in row} for row in by_label]
        return np.array([[row[label] for label in self.labels] for row in said])

    def _by_graph(self, rows: Rows, folder: Path) -> np.ndarray:
        core = load_openvino().Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
            "ENABLE_CPU_PINNING": False,  # two processes would share one core
        }
        model = core.compile_model(folder / GRAPH, "CPU", settings)
        tokens, logits = self.first.encoder.tokens(rows), []
        for row in range(len(rows)):
            batch = tokens.batch(np.array([row]))
            ids = batch["input_ids"].numpy()
            batch = {name: batch[name].numpy() for name in INPUTS if name in batch}
            if self.first.encoder.types:
                batch.setdefault("token_type_ids", np.zeros_like(ids))
            logits.append(model(batch)["logits"][0])
        link = "softmax" if self.kind.one_class_per_row else self.kind.link
        return to_probabilities(np.array(logits), link)


def _adapt_tokenizer(learner: TransformerLearner, folder: Path) -> None:
    """Let the saved tokenizer cut texts, begin them and read special tokens as the learner does.

    Raises InputError if it cannot put the model's prefix before a text.
    """
    encoder, prefix = learner.encoder, learner.settings.prefix
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.model_max_length = encoder.max_length
    tokenizer.model_input_names = [
        name for name in INPUTS if encoder.types or name != "token_type_ids"
    ]
    tokenizer.split_special_tokens = encoder.tokenizer.split_special_tokens
    for name in ("model_input_names", "split_special_tokens"):  # else they are not saved
        tokenizer.init_kwargs[name] = getattr(tokenizer, name)
    for name in ("is_local", "local_files_only"):  # how it was loaded here
        tokenizer.init_kwargs.pop(name, None)
    if prefix:
        _put_before(tokenizer, prefix)
    tokenizer.save_pretrained(folder)


def _put_before(tokenizer: PreTrainedTokenizerBase, prefix: str) -> None:
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(
            f"this model puts {prefix!r} before each text, which its tokenizer, without a fast form, "
            "cannot do by itself: export a model without `prefix`"
        )
    backend = tokenizer.backend_tokenizer
    steps = [normalizers.Prepend(prefix)]
    backend.normalizer = normalizers.Sequence(
        steps + [backend.normalizer] * bool(backend.normalizer)
    )


def largest_difference(a: np.ndarray, b: np.ndarray, kind: Kind) -> float:
    """Return the largest difference of probabilities, or of values relative to their spread."""
    size = max(float(np.ptp(a)), 1.0) if kind.is_values else 1.0
    return float(np.abs(a - b).max()) / size
