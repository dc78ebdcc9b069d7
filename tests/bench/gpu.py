"""Training and prediction at real sizes beside transformers' Trainer, in turns, for one GPU.

    python tests/bench/gpu.py [--cases deberta-v3-base-256,…] [--batches 8,32] [--updates 16]
        [--rounds 2] [--minutes 8] [--tiny]

A backbone of a real architecture and size has random weights, and texts are random words: rates depend
on neither. Lengths are log-normal around half of the case's, as in most competitions. Both sides have
the same rows per update, bf16 where the GPU multiplies it, and batches of texts of similar length.
Trainer is measured in two forms, plain and with torch.compile, padded to multiples of 8, with fused
AdamW and PyTorch's own attention; the ratio is that to the faster of them. The first half of a round's
updates, in which kernels are chosen, compiled or captured, is not counted. Tokens are those of the
texts, without padding.

Cases are begun in the order of the table until the minutes are over; those left are named. --tiny
takes small networks of the same architectures, on any machine, to try this script.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.metadata
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpora import Corpus, corpus_of
from speed import matrix_parameters, matrix_peak, useful_flops
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from foldstack.cores import cpu_threads
from foldstack.learners import LearnerContext
from foldstack.learners.transformer import TransformerLearner
from foldstack.progress import say, table
from foldstack.techniques import TransformerSettings
from foldstack.text.batches import epoch_batches
from foldstack.training import loop
from foldstack.training.precision import choose_precision, machine

SEED = 0
LORA = {"r": 16, "alpha": 32, "dropout": 0.0}
SPECIAL = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "<mask>",
]  # RoBERTa counts positions from its padding's id
IDS = {
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 0,
    "sep_token_id": 2,
}
FORMS = {"Trainer": {}, "Trainer compiled": {"torch_compile": True}}
SIDES = ("foldstack", *FORMS)


@dataclass(frozen=True)
class Case:
    """An architecture of a real size, at a length.

    architecture: `model_type` of the library. sizes: values of its config. tiny: those for --tiny.
    lora: train adapters alone.
    """

    architecture: str
    length: int
    sizes: dict[str, Any]
    tiny: dict[str, Any]
    lora: bool = False

    def config(self, tiny: bool) -> Any:
        return AutoConfig.for_model(
            self.architecture, **(self.sizes | self.tiny if tiny else self.sizes), **IDS
        )


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
SMALL["vocab_size"] = 300
BASE = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
}  # fmt: skip
DEBERTA = BASE | {
    "vocab_size": 128_100, "relative_attention": True, "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
    "max_position_embeddings": 512, "type_vocab_size": 0, "max_relative_positions": -1,
}  # fmt: skip
ROBERTA = BASE | {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1}
MODERNBERT = BASE | {"vocab_size": 50_368, "num_hidden_layers": 22, "intermediate_size": 1152}
QWEN3 = {
    "vocab_size": 151_936, "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "tie_word_embeddings": True,
}  # fmt: skip
GROUPED = SMALL | {"num_key_value_heads": 2, "head_dim": 8}
CASES = {
    "deberta-v3-base-256": Case("deberta-v2", 256, DEBERTA, SMALL),
    "roberta-base-256": Case("roberta", 256, ROBERTA, SMALL),
    "qwen3-0.6b-lora-256": Case("qwen3", 256, QWEN3, GROUPED, lora=True),
    "roberta-base-512": Case("roberta", 512, ROBERTA, SMALL),
    "deberta-v3-base-512": Case("deberta-v2", 512, DEBERTA, SMALL),
    "modernbert-base-1024": Case("modernbert", 1024, MODERNBERT, SMALL),
}


# What both sides read


def make_checkpoint(case: Case, tiny: bool, folder: Path) -> None:
    """Write a backbone with random weights, and a tokenizer of as many words as it embeds."""
    config = case.config(tiny)
    torch.manual_seed(SEED)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        AutoModel.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    names = [*SPECIAL, *(f"w{i}" for i in range(config.vocab_size - len(SPECIAL)))]
    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if not case.lora:
        words.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", pad_token="<pad>", eos_token="</s>",
        unk_token="<unk>", mask_token="<mask>", cls_token="<s>", sep_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip


def make_corpus(length: int, words: int, rows: int) -> Corpus:
    """Return rows of random words, half of them to learn from, with labels by a coin."""
    rng = np.random.default_rng(SEED)
    lengths = np.clip(rng.lognormal(np.log(length / 2), 0.6, rows), 4, length - 2).astype(int)
    drawn = (rng.integers(words - len(SPECIAL), size=n) for n in lengths)
    texts = [(" ".join(f"w{i}" for i in some),) for some in drawn]
    labels = [str(label) for label in rng.integers(2, size=rows)]
    half = rows // 2
    parts = ((texts[:half], labels[:half]), (texts[half:], labels[half:]))
    return corpus_of("words", "binary", "roc_auc", *parts)


@contextlib.contextmanager
def watched(found: dict[str, Any], key: str) -> Iterator[None]:
    """Note the most memory that the GPU's tensors take inside the context, in GB."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield
    if torch.cuda.is_available():
        found[key] = torch.cuda.max_memory_allocated() / 1e9


def now() -> float:
    """Return the time when the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


# The two sides


class Ours:
    """The learner, prepared once; each call trains for some updates, or predicts."""

    def __init__(self, case: Case, folder: Path, corpus: Corpus, rows: int):
        data = {
            "learner": "transformer",
            "backbone": str(folder),
            "head": "last" if case.lora else "mean",
            "training": {"batch_size": rows, "max_length": case.length, "epochs": 1},
        }
        settings = TransformerSettings.model_validate(data | ({"lora": LORA} if case.lora else {}))
        context = LearnerContext(corpus.task, SEED, cpu_threads(0))
        self.learner = TransformerLearner(settings, context)
        self.rows, self.corpus = rows, corpus
        self.examples = self.learner.prepare(corpus.train)
        self.lengths = self.examples.tokens.lengths
        self.training = loop.prepare(
            self.learner.model, self.examples, settings.training, self.learner.accelerator
        )

    def train(self, updates: int, epoch: int) -> float:
        """Return text tokens per second of the second half of these updates."""
        self.training.net.train()
        batches = epoch_batches(self.lengths, self.rows, SEED, epoch)[:updates]
        tokens = begin = 0.0
        for i, batch in enumerate(batches):
            if i == updates // 2:
                begin = now()
            if i >= updates // 2:
                tokens += self.lengths[batch].sum()
            loop.update(self.training, self.examples, batch, epoch=epoch)
        return tokens / (now() - begin)

    def predict(self) -> float:
        tokens = self.learner.encoder.tokens(self.corpus.test)
        begin = now()
        loop.predict(self.learner.model, tokens, self.learner.accelerator.device)
        return tokens.lengths.sum() / (now() - begin)


class Watch(TrainerCallback):
    """The times at which Trainer has taken a number of updates."""

    def __init__(self, at: int):
        self.at, self.times = at, []

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step in (self.at, args.max_steps):
            self.times.append(now())


class Theirs:
    """transformers' Trainer with one of `FORMS`."""

    def __init__(self, case: Case, folder: Path, corpus: Corpus, rows: int, form: str):
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.case, self.rows, self.form = case, rows, form
        self.train_rows, self.test_rows = (self._tokens(r) for r in (corpus.train, corpus.test))
        torch.manual_seed(SEED)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=2, dtype=torch.float32
        )
        if case.lora:
            import peft

            config = peft.LoraConfig(
                task_type="SEQ_CLS", r=LORA["r"], lora_alpha=LORA["alpha"],
                lora_dropout=LORA["dropout"], target_modules="all-linear",
            )  # fmt: skip
            model = peft.get_peft_model(model, config)
        self.model = model

    def _tokens(self, rows: Any) -> list[dict]:
        texts = [text for (text,) in rows.texts]
        found = self.tokenizer(texts, truncation=True, max_length=self.case.length)["input_ids"]
        labels = rows.targets[:, 0].astype(int).tolist()
        return [{"input_ids": i, "labels": y} for i, y in zip(found, labels, strict=True)]

    def _trainer(self, updates: int, read: list[int], sampling: str) -> Trainer:
        pad = DataCollatorWithPadding(self.tokenizer, pad_to_multiple_of=8)

        def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
            read.append(sum(len(row["input_ids"]) for row in rows))
            return pad(rows)

        arguments = TrainingArguments(
            output_dir=self.folder, max_steps=updates, per_device_train_batch_size=self.rows,
            per_device_eval_batch_size=4 * self.rows, train_sampling_strategy=sampling, seed=SEED,
            optim="adamw_torch_fused", bf16=choose_precision("auto") == "bf16",
            save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(), **FORMS[self.form],
        )  # fmt: skip
        trainer = Trainer(self.model, arguments, collate, self.train_rows)
        trainer.remove_callback(PrinterCallback)
        return trainer

    def train(self, updates: int, epoch: int) -> float:
        """Return text tokens per second of the second half of these updates."""
        read: list[int] = []
        with tempfile.TemporaryDirectory() as self.folder:
            trainer = self._trainer(updates, read, "group_by_length")
            watch = Watch(updates // 2)
            trainer.add_callback(watch)
            trainer.train()
        return sum(read[updates // 2 : updates]) / (watch.times[1] - watch.times[0])

    def predict(self) -> float:
        read: list[int] = []
        ordered = sorted(self.test_rows, key=lambda row: -len(row["input_ids"]))
        with tempfile.TemporaryDirectory() as self.folder:
            trainer = self._trainer(1, read, "random")
            begin = now()
            trainer.predict(ordered)
        return sum(read) / (now() - begin)


# Rounds


@dataclass
class Measured:
    """Medians of one case and batch size: text tokens per second by side, and memory in GB."""

    training: dict[str, float]
    prediction: dict[str, float]
    memory: dict[str, float]
    share: float  # of the matrix peak, by ours in training

    def ratio(self, rates: dict[str, float]) -> float:
        return rates["foldstack"] / max(rate for who, rate in rates.items() if who in FORMS)


def measure(case: Case, rows: int, updates: int, rounds: int, tiny: bool) -> Measured:
    """Return what a case yields with this number of rows per update."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_checkpoint(case, tiny, folder)
        words = case.config(tiny).vocab_size
        corpus = make_corpus(case.length, words, rows * updates * 2)
        memory: dict[str, float] = {}
        trained: dict[str, list[float]] = {}
        predicted: dict[str, list[float]] = {}
        makers: dict[str, Callable[[], Ours | Theirs]] = {
            "foldstack": lambda: Ours(case, folder, corpus, rows)
        }
        makers |= {
            form: lambda form=form: Theirs(case, folder, corpus, rows, form) for form in FORMS
        }
        peak, share = 0.0, 0.0
        for number in range(rounds):
            for who, maker in makers.items():
                with watched(memory, who):
                    side = maker()
                    trained.setdefault(who, []).append(side.train(updates, number))
                    predicted.setdefault(who, []).append(side.predict())
                if isinstance(side, Ours):
                    peak = matrix_peak(_of_products(side.learner.precision))
                    share = _flops_per_token(side, case.lora) * trained[who][-1] / peak
                say(f"  {who}: {trained[who][-1]:,.0f} tokens/s in training, round {number + 1}")
                del side
    medians = (
        {who: float(np.median(r)) for who, r in each.items()} for each in (trained, predicted)
    )
    return Measured(*medians, memory, share)


def _of_products(precision: str) -> str:
    return "fp32" if precision == "tf32" else precision


def _flops_per_token(side: Ours, lora: bool) -> float:
    """Return the operations that a text token requires; frozen weights have no gradient of their own."""
    backbone = side.learner.model.backbone
    config, lengths = backbone.config, side.lengths
    weights = matrix_parameters(backbone)
    flops = useful_flops(weights, config.num_hidden_layers, config.hidden_size, lengths)
    frozen = 2 * weights * lengths.sum() if lora else 0
    return (flops - frozen) / lengths.sum()


def lines(name: str, rows: int, found: Measured) -> list[list[str]]:
    """Return the table's lines of training and prediction."""
    made = []
    for what, rates in (("training", found.training), ("prediction", found.prediction)):
        cells = [f"{rates[who]:,.0f}" for who in SIDES]
        of_training = [f"{found.share:.0%}", *(f"{found.memory.get(who, 0):.1f}" for who in SIDES)]
        rest = of_training if what == "training" else [""] * len(of_training)
        made.append([name, str(rows), what, *cells, f"{found.ratio(rates):.2f}x", *rest])
    return made


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--batches", default="8,32")
    parser.add_argument("--updates", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args(argv)
    begin, body, left = time.monotonic(), [], []
    facts = machine(cpu_threads(0))
    versions = {p: importlib.metadata.version(p) for p in ("torch", "transformers", "accelerate")}
    say(f"{time.strftime('%Y-%m-%d')}, {facts['device']}, {versions}, {choose_precision('auto')}")
    for name in args.cases.split(","):
        for rows in map(int, args.batches.split(",")):
            if time.monotonic() - begin > 60 * args.minutes:
                left.append(f"{name} with {rows} rows")
                continue
            case = CASES[name]
            case = replace(case, length=24) if args.tiny else case
            say(f"{name}, {rows} rows per update")
            found = measure(case, rows, args.updates, args.rounds, args.tiny)
            body += lines(name, rows, found)
    rates, memory = [f"{who} tokens/s" for who in SIDES], [f"{who} GB" for who in SIDES]
    print(table(["case", "rows", "", *rates, "ratio", "of the peak", *memory], body))
    if left:
        print(f"not run, for want of time: {'; '.join(left)}")


if __name__ == "__main__":
    main()
