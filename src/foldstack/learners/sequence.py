"""Learners of a network over token sequences: what the transformer and networks from scratch share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

from foldstack import parallel
from foldstack.errors import InputError
from foldstack.learners import Attended, LearnerContext, Measured, stored_mb
from foldstack.learners.encoder import Encoder
from foldstack.learners.judging import epoch_score
from foldstack.nets.backbone import recomputing
from foldstack.nets.classifier import Classifier, positions, takes_types
from foldstack.nets.device import to_device
from foldstack.nets.huffman import HuffmanTree
from foldstack.nets.layers import prepare_layers
from foldstack.nets.vocabulary import trimmed
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.system import naming
from foldstack.techniques import (
    Sampling,
    SequenceSettings,
    StageSettings,
)
from foldstack.text.augment import Augmenter
from foldstack.text.augment.resources import Resources
from foldstack.text.batches import epoch_batches
from foldstack.text.laid import Laid
from foldstack.text.tokens import Tokens
from foldstack.tracking import under
from foldstack.training import frozen, loop
from foldstack.training.checkpoint import save_weights
from foldstack.training.criteria import Criterion, log_priors
from foldstack.training.precision import cast_once, prepare_machine
from foldstack.training.stagewise import dropout, run_stages, stage_seed
from foldstack.training.unlabelled import Unlabelled

WEIGHTS = "classifier.safetensors"
TIMED = 128  # training rows that are changed to forecast the time of it


class SequenceLearner:
    """A body that gives each token a vector, with a head over them, trained by `training.loop`.

    A subclass makes the body (`_body`), and stores and restores it without its weights
    (`_save_body`, `_empty_body`).

    criterion: used instead of the loss that the settings name.
    """

    criterion: Criterion | None = None

    def __init__(self, settings: SequenceSettings, context: LearnerContext):
        self.settings, self.task, self.seed = settings, context.task, context.seed
        self.cache = context.cache and context.cache()
        self.unlabelled = context.unlabelled
        self.beside = Resources(pretrained=context.pretrained, filled=context.filled)
        self.log, self.files, self.start = context.log, context.files, context.start
        self.link = self.task.link
        self.precision, self.accelerator = prepare_machine(
            settings.training.precision, context.threads
        )
        self.chosen: dict[str, dict] = {}  # by `fit`, of what is `auto`, with reasons
        self.model: Classifier | None = None
        self.encoder: Encoder | None = None

    def prepare(self, train: Rows, learned: int | None = None) -> loop.Examples:
        """Make the body and add a head that is initialised from the seed.

        Args:
            train: the training rows.
            learned: the number of rows that `auto` goes by, if `train` is a part of them.

        Returns:
            The training rows as examples.
        """
        backbone, tokenizer = self._body(train, learned)
        s = self.settings
        self.encoder = self._encoder(backbone, tokenizer)
        examples = self.encoder.fit(train)
        torch.manual_seed(self.seed)
        further = examples.auxiliary
        self.model = self._classifier(backbone, 0 if further is None else further.shape[1])
        self._set_head(examples)
        if self.start:
            if not (self.start / WEIGHTS).exists():
                raise InputError(
                    f"start_from {s.start_from}: it has no weights of a network: name a model with the "
                    "same backbone"
                )
            self._load_start(self._start_weights(self.start))
        return examples

    def _start_weights(self, folder: Path) -> dict[str, torch.Tensor]:
        """Return the weights of the model that this one starts from."""
        return load_file(folder / WEIGHTS)

    def _set_head(self, examples: loop.Examples) -> None:
        """Give the new head what it begins with beside random weights."""
        if self.model.tree is not None:
            self.model.tree.build((examples.targets.T @ examples.weights).tolist())
        if self.settings.head_bias == "prior":
            self.model.set_bias(log_priors(examples.targets, examples.weights, examples.link))

    def _load_start(self, weights: dict[str, torch.Tensor]) -> None:
        """Load another model's weights, its head only if all shapes match."""
        own = self.model.learned()
        backbone = {k for k in own if k.startswith("backbone.")}
        fits = {k for k in weights if k in own and own[k].shape == weights[k].shape}
        other = sorted(backbone - fits)
        if other:
            raise InputError(
                f"start_from {self.settings.start_from}: its weights lack '{other[0]}' in the shape of "
                "this preset's backbone: name a model with the same backbone"
            )
        if set(weights) != fits:
            say(
                f"start_from {self.settings.start_from}: its head differs; this one is newly "
                "initialised"
            )
            fits = backbone
        self.model.load_state_dict({k: weights[k] for k in fits}, strict=False)

    def _body(
        self, train: Rows, learned: int | None
    ) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
        """Return the body and the tokenizer of its input; see `prepare`."""
        raise NotImplementedError

    def _empty_body(self, folder: Path) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
        """Return the same for a saved run, without weights."""
        raise NotImplementedError

    def _save_body(self, folder: Path) -> None:
        """Write what `_empty_body` reads, beside the tokenizer."""
        raise NotImplementedError

    @property
    def _longest(self) -> int | None:
        """The most tokens that `max_length: auto` chooses; None for no bound."""
        return None

    def _check_memory(self, stages: tuple[StageSettings, ...], length: int) -> None:
        """Raise InputError if an update of a stage, on rows of up to this length, does not fit."""

    @property
    def _dense(self) -> tuple[int, ...]:
        """Widths of dense layers between the pooled vector and the head."""
        return ()

    @property
    def _tree(self) -> HuffmanTree | None:
        """The tree whose nodes the outputs are computed from, if any; not built yet."""
        return None

    def _laid(self, tokenizer: PreTrainedTokenizerBase) -> Laid | None:
        """Return the template around the texts, if there is one."""
        return None

    def _encoder(self, backbone: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        return Encoder(
            self.settings,
            self.task,
            tokenizer,
            types=takes_types(backbone),
            limit=positions(backbone, tokenizer),
            longest=self._longest,
            cache=self.cache,
            listed=self.files.get("keywords.file"),
            laid=self._laid(tokenizer),
            beside=self.beside,
        )

    def _classifier(self, backbone: torch.nn.Module, auxiliary: int = 0) -> Classifier:
        s = self.settings
        return Classifier(
            backbone,
            len(self.task.outputs),
            s.dropout,
            head=s.head,
            features=self.encoder.feature_width,
            embedded=self.encoder.embedded_width,
            embedding=s.keywords.size if s.keywords else 0,
            dropout_samples=s.dropout_samples,
            as_difference=self.task.kind.has_positive_class and s.binary_link == "softmax",
            auxiliary=auxiliary,
            dense=self._dense,
            tree=self._tree,
        )

    def fit(self, train: Rows, select: Rows | None, run_dir: Path) -> dict:
        examples = self.prepare(train)
        n, cut, sequences = len(train), examples.tokens.cut, len(examples.targets)
        windows = f" in {sequences:,} windows" if sequences > n else ""
        max_length = self.encoder.max_length
        say(
            f"{n:,} rows{windows}, {examples.tokens.lengths.mean():.1f} tokens on average, "
            f"{cut / n:.1%} cut at {max_length}; "
            f"computing in {self.precision} on {self.accelerator.device.type}"
        )
        if self.chosen:
            say(f"auto: {_listed(self.chosen)}")
        held = None if select is None else self.encoder.tokens(select)
        if self.settings.consistency and self.unlabelled is None:
            raise ValueError("consistency reads unlabelled rows: give LearnerContext.unlabelled")
        unlabelled = self.encoder.unlabelled(self.unlabelled) if self.unlabelled else None

        def train_stage(number: int, stage: StageSettings, folder: Path) -> dict:
            prepare_layers(self.model, stage, self.seed)
            beside = unlabelled and unlabelled(stage_seed(self.seed, number))
            return self._train_stage(number, stage, train, examples, beside, select, held, folder)

        stages = self.settings.stages_for(self.task.metric.name)
        if stages[0].epochs == 0:
            facts = {"updates": 0, "training_seconds": 0.0, "losses": []}
        else:
            self._check_memory(stages, int(examples.tokens.lengths.max()))
            with self._trimmed_to(self._tokens_read(train, examples, stages, held, unlabelled)):
                facts = run_stages(self.model, stages, run_dir, train_stage)
        # Not needed for prediction.
        self.model.auxiliary = self.model.matched = self.model.teacher = None
        return (
            facts
            | {
                "precision": self.precision,
                "cut_share": cut / n,
                "max_length": max_length,
            }
            | ({"auto": self.chosen} if self.chosen else {})
        )

    def _tokens_read(
        self,
        train: Rows,
        examples: loop.Examples,
        stages: tuple[StageSettings, ...],
        held: Tokens | None,
        unlabelled: Callable[[int], Unlabelled] | None = None,
    ) -> Iterator[Tokens] | None:
        """Yield all tokens that the backbone reads; None if collecting them costs more than it saves.

        If texts are resampled in each epoch, they are sampled once more here. On a CPU that is
        cheap compared with what AdamW, a weight average and an adversary spend on the word
        embeddings per epoch; on a GPU it is not.
        """
        s = self.settings
        redrawn = s.new_texts_each_epoch or s.learns_both_orders
        redrawn = redrawn or examples.tokens.redraw is not None
        if (redrawn or unlabelled) and self.accelerator.device.type != "cpu":
            return None
        if unlabelled and any(stage.sampling for stage in stages):
            return None  # another number of updates, by which unlabelled rows are drawn

        def all_of_it() -> Iterator[Tokens]:
            yield from [examples.tokens] if held is None else [examples.tokens, held]
            for number, stage in enumerate(stages if redrawn else (), 1):
                seed = stage_seed(self.seed, number)
                tokens = self.encoder.tokens_by_epoch(train, examples, stage, seed)
                yield from map(tokens, range(stage.epochs))
            for number, stage in enumerate(stages if unlabelled else (), 1):
                yield from self._unlabelled_tokens(examples, stage, unlabelled, number)

        return all_of_it()

    def _unlabelled_tokens(
        self,
        examples: loop.Examples,
        stage: StageSettings,
        unlabelled: Callable[[int], Unlabelled],
        number: int,
    ) -> Iterator[Tokens]:
        """Yield the tokens of unlabelled texts, and those of the texts as each epoch changes them."""
        seed = stage_seed(self.seed, number)
        beside, ratio = unlabelled(seed), self.settings.mixed_ratio
        updates = len(loop.batches_of(examples, stage, ratio, seed, 0))
        yield beside.texts
        for epoch in range(stage.epochs):
            yield beside.changed(epoch, beside.drawn(epoch, updates, stage.batch_size))

    def _trimmed_to(self, read: Iterable[Tokens] | None) -> AbstractContextManager[None]:
        """Trim the word embeddings to these tokens inside the context, if results stay the same.

        They change if a step depends on the whole matrix: AWP's on its norm, Adafactor's on its
        columns.
        """
        by_matrix = any(stage.by_matrix for stage in self.settings.all_stages)
        if read is None or by_matrix:
            return nullcontext()
        return trimmed(self.model.backbone, ids_of(read, self.encoder.tokenizer))

    def _train_stage(
        self,
        number: int,
        stage: StageSettings,
        train: Rows,
        examples: loop.Examples,
        unlabelled: Unlabelled | None,
        select: Rows | None,
        held: Tokens | None,
        folder: Path,
    ) -> dict:
        """Train the model in place, or only its head if the backbone is frozen."""
        net: torch.nn.Module = self.model
        if stage.freeze_backbone:
            net, stage = frozen.HeadOnly(self.model), frozen.head_settings(stage)
            self.model.to(self.accelerator.device)
            outputs = self._run_once(examples.tokens, folder)
            if outputs is not None:
                examples = replace(examples, tokens=outputs)
                held = held if held is None else self._run_once(held, folder) or held
        if stage.makes_vectors:
            examples = self._with_synthetic(examples, stage.sampling)
            stage = stage.model_copy(update={"sampling": None})
        seed = stage_seed(self.seed, number)
        judged = (
            select is not None and stage.auxiliary < 1
        )  # else the scored outputs are not trained
        several = len(self.settings.stages_for(self.task.metric.name)) > 1
        with (
            dropout(self.model, stage.dropout, stage.backbone_dropout),
            recomputing(net, stage.recomputes),
        ):
            return loop.train(
                net,
                examples,
                stage,
                self.accelerator,
                seed=seed,
                folder=folder,
                checkpoint_seconds=self.settings.checkpoint_seconds,
                evaluate=partial(self._judge, select, held) if judged else None,
                of_epoch=self.encoder.epochs(train, examples, stage, seed),
                criterion=self.criterion,
                ratio=self.settings.mixed_ratio,
                unlabelled=unlabelled,
                log=under(f"stage{number}", self.log) if several else self.log,
                # A head alone is small, and each process runs the frozen backbone whole.
                sharded=self._is_sharded and not stage.freeze_backbone,
            )

    @property
    def _is_sharded(self) -> bool:
        return self.settings.is_sharded and parallel.world_size() > 1

    def _with_synthetic(self, examples: loop.Examples, sampling: Sampling) -> loop.Examples:
        outputs = examples.tokens
        if not isinstance(outputs, frozen.Outputs):
            raise InputError(
                f"sampling {sampling.name} requires stored outputs of the frozen backbone, which are "
                "larger than cache_gb: raise it, or take another sampling"
            )
        arrays = (outputs.flat, examples.targets.numpy(), examples.weights.numpy())
        vectors, targets, weights = sampling.load()(sampling, *arrays, self.seed)
        return replace(
            examples,
            tokens=frozen.Vectors(vectors),
            targets=torch.tensor(targets, dtype=torch.float32),
            weights=torch.tensor(weights, dtype=torch.float32),
            taught=_filled_up(examples.taught, len(weights)),
        )

    def _run_once(self, tokens: Tokens, folder: Path) -> frozen.Outputs | None:
        limit, autocast = self.settings.cache_gb, self.accelerator.autocast
        with cast_once(self.model.backbone, self.precision):
            return frozen.run_once(self.model, tokens, folder, limit, autocast)

    def _judge(self, select: Rows, held: Tokens, net: torch.nn.Module) -> loop.EpochScore:
        """Return the score of the rows to select by."""
        logits = self._predict(net, held, "rows to select by")
        return epoch_score(self.task, self.settings.training, select, logits)

    def _change_seconds(self, rows: Rows) -> tuple[float, float]:
        """Return the seconds to change a training row: by language models, and by other techniques.

        What language models make of a row is kept for all runs of a seed. Texts from files take no
        time; those by a model that is not pretrained yet are not counted, nor is its pretraining.
        """
        kept = changed = 0.0
        for s in self.settings.augment:
            if s.of_file or s.by_pretrained:
                continue
            changes, some = Augmenter.of([s], rows), rows.take(np.arange(min(len(rows), TIMED)))
            begin = time.monotonic()
            changes.texts(some, self.seed, 0)
            seconds = (time.monotonic() - begin) / len(some)
            kept, changed = (kept + seconds, changed) if s.models else (kept, changed + seconds)
        return kept, changed

    def measure(self, rows: Rows, learned: int, sized: bool = False, updates: int = 8) -> Measured:
        """Return rough times on this machine, from a few updates and predictions, see `Measured`.

        The first update, which includes set-up, is not measured. Stages that train the head alone on
        a frozen backbone's outputs are not counted.
        """
        kept, changed = self._change_seconds(rows)
        examples = self.prepare(rows, learned)
        stages = self.settings.stages_for(self.task.metric.name)
        s = next((stage for stage in stages if not stage.freeze_backbone), stages[0])
        batches = epoch_batches(examples.tokens.lengths, s.batch_size, self.seed, 0)[: updates + 1]
        beside = [None] * len(batches)
        if self.settings.consistency:  # the rows stand in for unlabelled ones
            longest = [int(examples.tokens.lengths[batch].max()) for batch in batches]
            unlabelled = self.encoder.unlabelled(rows)(self.seed)
            beside = unlabelled.of_epoch(longest, s.batch_size, 0)
        training = loop.prepare(self.model, examples, s, self.accelerator, self.criterion)
        training.net.train()
        steps = batches[1:] or batches
        with recomputing(self.model, s.recomputes):
            loop.update(training, examples, batches[0], 0, beside[0])
            begin = time.monotonic()
            for batch, pairs in zip(steps, beside[-len(steps) :], strict=True):
                loop.update(training, examples, batch, 0, pairs)
        train_row = (time.monotonic() - begin) / sum(map(len, steps))
        train_row *= len(examples.targets) / len(rows)  # some rows have several windows
        of, read = examples.tokens.rows, np.concatenate(batches)
        some = rows.take(read if of is None else np.unique(of[read]))
        predicting = time.monotonic()
        self.predict(some)
        end = time.monotonic()
        self.model.auxiliary = None  # as after `fit`
        mb = stored_mb(self) if sized else None
        self.model = None
        epochs, copies = (
            sum(s.epochs for s in stages if not s.freeze_backbone),
            self.settings.copies,
        )
        fit = epochs * (1 + copies) * train_row * (1 + (self.settings.mixed_ratio or 0))
        return Measured(
            seconds=end - begin,
            fit_seconds=learned * (fit + (copies or epochs) * changed),
            seed_row_seconds=(copies or epochs) * kept,
            learned_per_second=1 / train_row,
            row_seconds=(end - predicting) / len(some),
            work=f"{epochs} epoch{'s' * (epochs != 1)}",
            mb=mb,
        )

    def _predict(self, net: torch.nn.Module, tokens: Tokens, what: str = "") -> np.ndarray:
        """Return logits; identical inputs run through the network once."""
        read, which = tokens, np.arange(len(tokens.lengths))
        if isinstance(tokens, Tokens):  # not the outputs of a frozen backbone
            first, which = tokens.distinct()
            read = loop.Taken(tokens, first)
        with cast_once(self.model.backbone, self.precision), self.accelerator.autocast():
            logits = loop.predict(net, read, self.accelerator.device, what)
        return self.encoder.restore(logits[which], tokens)

    def predict(self, rows: Rows) -> np.ndarray:
        return self._predict(self.model.to(self.accelerator.device), self.encoder.tokens(rows))

    @torch.no_grad()
    def attention(self, rows: Rows) -> list[Attended] | None:
        """Return the weights of each token sequence of these rows; None if the head learns none."""
        net, device = self.model.to(self.accelerator.device).eval(), self.accelerator.device
        read, found = self.encoder.tokens(rows), []
        for i in range(len(read.lengths)):
            given = to_device(read.batch(np.array([i])), device)
            given.pop("features", None)
            weights = net.attention(**given)
            if weights is None:
                return None
            ids, sentences = given["input_ids"], None
            if net.reads_sentences:
                sentences = net.mask(ids, given["attention_mask"])[0].cpu().numpy()
            tokens = self.encoder.tokenizer.convert_ids_to_tokens(ids[0].tolist())
            weights = weights.reshape(-1, len(tokens)).float().cpu().numpy()
            found.append(Attended(tokens, weights, sentences))
        return found

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with naming(folder):
            self._save_body(folder)
            self.encoder.save(folder)
        save_weights(self._stored(), folder / WEIGHTS)

    def _stored(self) -> dict[str, torch.Tensor]:
        """Return the weights that `save` writes."""
        return self.model.state_dict()

    def load(self, folder: Path) -> None:
        backbone, tokenizer = self._empty_body(folder)
        self.encoder = self._encoder(backbone, tokenizer)
        self.encoder.load(folder)
        self.model = self._classifier(backbone)
        self._load_weights(folder)

    def _load_weights(self, folder: Path) -> None:
        """Load what `_stored` returned."""
        self.model.load_state_dict(load_file(folder / WEIGHTS))


def _filled_up(taught: torch.Tensor | None, rows: int) -> torch.Tensor | None:
    """Return (rows, outputs) probabilities of teachers: NaN for synthetic rows, which have none."""
    if taught is None:
        return None
    return torch.cat([taught, taught.new_full((rows - len(taught), taught.shape[1]), torch.nan)])


def _listed(chosen: dict[str, dict]) -> str:
    """Return `epochs 5, lr 0.0001, …` with the settings of `training` under their own names."""
    return ", ".join(
        f"{name.removeprefix('training.')} {choice['value']}" for name, choice in chosen.items()
    )


def ids_of(read: Iterable[Tokens], tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Return (m,) unique token ids of all that is read, and of the special tokens."""
    ids = [tokenizer.all_special_ids]
    for tokens in read:
        ids += [[tokens.pad_id], np.unique(tokens.flat)]
    return np.unique(np.concatenate(ids))
