"""Successive training stages of one run, each starting from the weights of the one before."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from foldstack import parallel
from foldstack.files import file_sha256
from foldstack.finished import FACTS, finished_facts
from foldstack.nets.backbone import dropout_rates, set_dropout
from foldstack.nets.classifier import Classifier
from foldstack.progress import say
from foldstack.records import write_record
from foldstack.techniques import TrainingSettings
from foldstack.training.checkpoint import save_weights


def run_stages(
    model: Classifier,
    stages: Sequence[TrainingSettings],
    folder: Path,
    train_stage: Callable[[int, TrainingSettings, Path], dict],
) -> dict:
    """Train each stage in a folder of its own; a finished stage is not trained again after a kill.

    Args:
        model: trained in place.
        stages: settings of each.
        folder: of the run; a single stage uses `folder` itself.
        train_stage: called with number (from 1), settings and folder; trains `model` in place and
            returns its facts.

    Returns:
        Facts of the last stage and, if there are several, of all stages.
    """
    if len(stages) == 1:
        return train_stage(1, stages[0], folder)
    trained = [(p, p.requires_grad) for p in model.parameters()]
    facts = []
    for number, stage in enumerate(stages, 1):
        place = folder / f"stage{number}"
        place.mkdir(exist_ok=True)
        finished = finished_facts(place, place.name, "training it again", ("weights.safetensors",))
        if finished is not None:
            model.load_learned(load_file(place / "weights.safetensors"))
            facts.append(finished)
            say(f"stage {number} of {len(stages)} is finished")
            continue
        say(f"stage {number} of {len(stages)}: {describe(stage)}")
        for p, learns in trained:  # each stage freezes for itself
            p.requires_grad_(learns)
        facts.append(train_stage(number, stage, place))
        _finish(model, facts[-1], place)
    totals = {k: round(sum(f[k] for f in facts), 2) for k in ("updates", "training_seconds")}
    return facts[-1] | totals | {"stages": facts}


def describe(stage: TrainingSettings) -> str:
    """Return a line about a stage."""
    loss = stage.loss.name if stage.loss else "the default loss"
    if stage.auxiliary:
        loss = "auxiliary targets" if stage.auxiliary == 1 else f"{loss} and auxiliary targets"
    learned = "the head, the backbone frozen" if stage.freeze_backbone else "all"
    if not stage.freeze_backbone and stage.freeze_layers:
        learned = f"all above layer {stage.freeze_layers}"
    rate = stage.head_lr if stage.freeze_backbone and stage.head_lr else stage.lr
    return f"{stage.epochs} epochs of {loss}, learning {learned}, rate {rate:g}"


def stage_seed(seed: int, number: int) -> int:
    """Return the run's seed for the first stage, and a seed derived from it for each later one."""
    if number == 1:
        return seed
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


@contextmanager
def dropout(model: Classifier, head: float | None, backbone: float | None) -> Iterator[None]:
    """Set a stage's dropout rates (None: unchanged) inside the context; restore them afterwards."""
    rates = dropout_rates(model.backbone)
    before = [(module, name, getattr(module, name)) for module, name in rates]
    before.append((model.dropout, "p", model.dropout.p))
    try:
        if head is not None:
            model.dropout.p = head
        if backbone is not None:
            set_dropout(model.backbone, backbone)
        yield
    finally:
        for module, name, rate in before:
            setattr(module, name, rate)


def _finish(model: Classifier, facts: dict, place: Path) -> None:
    """Write the stage's weights, then the record that it is finished, then delete its checkpoints."""
    if not parallel.is_main():
        return
    save_weights(model.learned(), place / "weights.safetensors")
    files = {"weights.safetensors": file_sha256(place / "weights.safetensors")}
    write_record(place / FACTS, facts | {"files": files})
    for old in [*place.glob("step-*"), *place.glob("epoch*"), *place.glob("outputs-*")]:
        shutil.rmtree(old) if old.is_dir() else old.unlink()
