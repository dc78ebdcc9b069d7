"""What people use otherwise: transformers' Trainer and its text-classification pipeline."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.special import softmax
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging

from foldstack.backbones import locate
from foldstack.learners.transformer import TransformerLearner
from foldstack.rows import Rows
from foldstack.techniques import TransformerSettings

PIPELINE_ROWS = 64


def train(
    settings: TransformerSettings, train: Rows, held: Rows, seed: int, **options: object
) -> tuple[float, np.ndarray]:
    """(seconds of training, (n, outputs) probabilities of the held-out rows), by Trainer.

    The same rows, epochs, rows an update, rate, warm-up and weight decay; padded to the longest of a
    batch. options: of TrainingArguments, whose defaults the rest has. The seconds hold tokenising and
    the loading of the model, as a run of ours does.
    """
    begin = time.monotonic()
    place, s = locate(settings.backbone, settings.sha256), settings.training
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    classes = max(2, train.targets.shape[1])

    def tokens(rows: Rows) -> list[dict]:
        encoded = tokenizer([t[0] for t in rows.texts], truncation=True, max_length=s.max_length)
        labels = rows.targets.argmax(axis=1) if classes > 2 else rows.targets[:, 0].astype(int)
        return [
            {"input_ids": i, "attention_mask": m, "labels": y}
            for i, m, y in zip(
                encoded["input_ids"], encoded["attention_mask"], labels.tolist(), strict=True
            )
        ]

    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        place, num_labels=classes, trust_remote_code=False
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=s.epochs, learning_rate=s.lr, seed=seed,
            per_device_train_batch_size=s.batch_size, per_device_eval_batch_size=64,
            warmup_steps=s.warmup, weight_decay=s.weight_decay, save_strategy="no",
            report_to=[], disable_tqdm=True, logging_strategy="no",
            use_cpu=not torch.cuda.is_available(), **options,
        )  # fmt: skip
        trainer = Trainer(model, arguments, DataCollatorWithPadding(tokenizer), tokens(train))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        seconds = time.monotonic() - begin
        trainer.args.train_sampling_strategy = (
            "random"  # by length it would shuffle predictions too
        )
        p = softmax(trainer.predict(tokens(held)).predictions.astype(float), axis=1)
    return seconds, p if classes > 2 else p[:, 1:]


class Plain(PreTrainedModel):
    """A fitted model of ours as transformers would have it: backbone, mean over tokens, linear layer."""

    _supports_sdpa = True  # as the backbone inside does

    def __init__(self, learner: TransformerLearner):
        ours = learner.model
        config = ours.backbone.config
        outputs = ours.head.out_features
        config.id2label = {i: str(i) for i in range(outputs)}
        config.label2id = {str(i): i for i in range(outputs)}
        super().__init__(config)
        self.backbone, self.head = ours.backbone, ours.head

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **types: torch.Tensor
    ) -> SequenceClassifierOutput:
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **types)[0]
        mask = attention_mask.unsqueeze(2).to(states.dtype)
        return SequenceClassifierOutput(logits=self.head((states * mask).sum(1) / mask.sum(1)))


def predictor(learner: TransformerLearner) -> Callable[[list[str]], np.ndarray]:
    """The pipeline with the learner's own weights: texts to (n, outputs) probabilities.

    Its defaults but for batches of 64 and texts cut as ours are.
    """
    tokenizer = learner.encoder.tokenizer
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # it would list all the classes that `Plain` is not
    pipe = pipeline("text-classification", model=Plain(learner).eval(), tokenizer=tokenizer)
    logging.set_verbosity(verbosity)

    def predict(texts: list[str]) -> np.ndarray:
        length = learner.encoder.max_length
        found = pipe(
            texts, batch_size=PIPELINE_ROWS, top_k=None, truncation=True, max_length=length
        )
        by_label = [{f["label"]: f["score"] for f in row} for row in found]
        values = np.array([[row[str(i)] for i in range(len(row))] for row in by_label])
        return values[:, 1:] if learner.model.as_difference else values

    return predict
