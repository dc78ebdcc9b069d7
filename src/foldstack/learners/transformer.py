"""A fine-tuned transformer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from scipy.special import expit

from foldstack.errors import InputError
from foldstack.files import read_json, write_json
from foldstack.learners import Task
from foldstack.nets.backbone import empty_backbone, load_backbone, locate
from foldstack.nets.classifier import Classifier, positions, takes_types
from foldstack.nets.layers import prepare_layers
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.techniques import TransformerSettings
from foldstack.text.batches import epoch_batches
from foldstack.text.tokens import Tokens, tokenise
from foldstack.training import loop
from foldstack.training.precision import choose_precision, prepare_cpu


@dataclass(frozen=True)
class Scale:
    """Regression targets as they are learned: (target - shift) / unit, both of shape (outputs,).

    bounded: the raw outputs pass through a sigmoid before they are targets again.
    """

    shift: np.ndarray
    unit: np.ndarray
    bounded: bool

    @classmethod
    def of(cls, rows: Rows, bounded: bool) -> Scale:
        """Of these rows: 0 … 1 between the least and the greatest, else (weighted) standardised.

        A column that never changes has a unit of 1.
        """
        counted = rows.targets[rows.weights > 0]
        least, width = counted.min(axis=0), np.ptp(counted, axis=0)
        if bounded:
            return cls(least, np.where(width > 0, width, 1.0), bounded)
        mean = np.average(rows.targets, axis=0, weights=rows.weights)
        std = np.sqrt(np.average((rows.targets - mean) ** 2, axis=0, weights=rows.weights))
        return cls(mean, np.where(width > 0, std, 1.0), bounded)

    def apply(self, targets: np.ndarray) -> np.ndarray:
        """(n, outputs) targets as the network learns them; rows without weight may leave 0 … 1."""
        scaled = (targets - self.shift) / self.unit
        return np.clip(scaled, 0, 1) if self.bounded else scaled

    def restore(self, raw: np.ndarray) -> np.ndarray:
        """(n, outputs) raw outputs as float32 values in the targets' units."""
        values = expit(raw) if self.bounded else raw
        return (values * self.unit + self.shift).astype(np.float32)


class TransformerLearner:
    """AutoModel, mean pooling and a linear head, trained by `training.loop`."""

    def __init__(self, settings: TransformerSettings, task: Task, seed: int, threads: int):
        self.settings, self.task, self.seed = settings, task, seed
        self.link = task.link
        prepare_cpu(threads)
        self.precision = choose_precision(settings.training.precision)
        # A second run in one process may ask for another precision.
        AcceleratorState._reset_state()
        mixed = "no" if self.precision == "fp32" else self.precision
        self.accelerator = Accelerator(mixed_precision=mixed, cpu=not torch.cuda.is_available())
        self.model = self.tokenizer = None
        self.max_length = settings.training.max_length
        self.scale: Scale | None = None

    def prepare(self) -> None:
        """Load the pre-trained backbone and put a new head, drawn from the seed, on it."""
        s = self.settings
        backbone, self.tokenizer = load_backbone(
            locate(s.backbone, s.sha256), s.ignore_weights, s.backbone_dropout
        )
        torch.manual_seed(self.seed)
        self.model = self._classifier(backbone)
        prepare_layers(self.model, s.training, self.seed)
        limit = positions(backbone, self.tokenizer)
        if self.max_length > limit:
            say(
                f"training.max_length {self.max_length} is more than the backbone's {limit} "
                f"positions: taking {limit}"
            )
            self.max_length = limit

    def _classifier(self, backbone: torch.nn.Module) -> Classifier:
        s = self.settings
        return Classifier(
            backbone,
            len(self.task.outputs),
            s.dropout,
            dropout_samples=s.dropout_samples,
            as_difference=self.task.kind == "binary" and s.binary_link == "softmax",
        )

    def examples(self, rows: Rows) -> loop.Examples:
        """The rows as the loop wants them."""
        if self.task.kind == "regression":
            loss = self.settings.training.loss
            self.scale = Scale.of(rows, bounded=loss is not None and loss.name == "scaled_bce")
        targets = self.scale.apply(rows.targets) if self.scale else rows.targets
        return loop.Examples(
            self._tokens(rows),
            torch.tensor(targets, dtype=torch.float32),
            torch.tensor(rows.weights, dtype=torch.float32),
            self.link,
        )

    def _tokens(self, rows: Rows) -> Tokens:
        return tokenise(
            rows,
            self.tokenizer,
            max_length=self.max_length,
            prefix=self.settings.prefix,
            types=takes_types(self.model.backbone),
        )

    def _predict(self, net: torch.nn.Module, tokens: Tokens, what: str = "") -> np.ndarray:
        raw = loop.predict(net, tokens, self.accelerator.device, what)
        return self.scale.restore(raw) if self.scale else raw

    def fit(self, train: Rows, select: Rows | None, run_dir: Path) -> dict:
        self.prepare()
        examples = self.examples(train)
        n, cut = len(train), examples.tokens.cut
        say(
            f"{n:,} rows, {examples.tokens.lengths.mean():.1f} tokens on average, {cut / n:.1%} cut at "
            f"{self.max_length}; computing in {self.precision} on {self.accelerator.device.type}"
        )
        evaluate = None
        if select is not None:
            held = self._tokens(select)

            def evaluate(net: torch.nn.Module) -> float:
                raw = self._predict(net, held, "rows to select by")
                score = self.task.score(select.targets, raw)
                if np.isnan(score):
                    raise InputError(
                        f"{self.task.metric.name} is undefined on the {len(select):,} rows that "
                        f"training.select={self.settings.training.select} chooses the epoch by: "
                        "use select=last, or a metric that is defined there"
                    )
                return self.task.metric.sign * score

        facts = loop.train(
            self.model,
            examples,
            self.settings.training,
            self.accelerator,
            seed=self.seed,
            folder=run_dir,
            checkpoint_seconds=self.settings.checkpoint_seconds,
            evaluate=evaluate,
        )
        return facts | {
            "precision": self.precision,
            "cut_share": cut / n,
            "max_length": self.max_length,
        }

    def measure(self, rows: Rows, updates: int = 8) -> tuple[float, float]:
        """(seconds a row in training, seconds a row in prediction) on this machine, roughly.

        A few real updates and predictions on a copy that is thrown away; the first update, which
        pays for set-up, is left out.
        """
        self.prepare()
        s = self.settings.training
        examples = self.examples(rows)
        batches = epoch_batches(examples.tokens.lengths, s.batch_size, self.seed, 0)[: updates + 1]
        training = loop.prepare(self.model, examples, s, self.accelerator)
        training.net.train()
        loop.update(training, batches[0], epoch=0)
        begin = time.monotonic()
        for batch in batches[1:]:
            loop.update(training, batch, epoch=0)
        train_row = (time.monotonic() - begin) / sum(map(len, batches[1:]))
        some = rows.take(np.concatenate(batches))
        begin = time.monotonic()
        self.predict(some)
        predict_row = (time.monotonic() - begin) / len(some)
        self.model = None
        return train_row, predict_row

    def predict(self, rows: Rows) -> np.ndarray:
        net = self.accelerator.prepare_model(self.model, evaluation_mode=True)
        return self._predict(net, self._tokens(rows))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.model.backbone.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        save_file(
            {k: v.contiguous().cpu() for k, v in self.model.state_dict().items()},
            folder / "classifier.safetensors",
        )
        facts = {"max_length": self.max_length}
        if self.scale:
            facts |= {"shift": self.scale.shift.tolist(), "unit": self.scale.unit.tolist()}
            facts["bounded"] = self.scale.bounded
        write_json(folder / "classifier.json", facts)

    def load(self, folder: Path) -> None:
        backbone, self.tokenizer = empty_backbone(folder)
        facts = read_json(folder / "classifier.json")
        self.model = self._classifier(backbone)
        self.model.load_state_dict(load_file(folder / "classifier.safetensors"))
        self.max_length = facts["max_length"]
        if self.task.kind == "regression":
            self.scale = Scale(np.array(facts["shift"]), np.array(facts["unit"]), facts["bounded"])
