"""An update with this project's dropout and attention beside torch's, alternated on the same batches.

    python tests/bench/step.py --workspace DIR [--backbone DIR] [--max-length 512] [--batch 32]
        [--updates 12] [--threads 1] [--backbone-dropout 0]

DIR is a workspace with folds, as `make data folds` leaves it. Both have the backbone's own dropout
rates, unless another is given. Processor time counts, which other work on the
machine disturbs least. The last column is the median of the updates' ratios.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
from torch import nn

from foldstack.learners import LearnerContext
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets import dropout
from foldstack.progress import table
from foldstack.text.batches import epoch_batches
from foldstack.training import loop
from foldstack.workspace import Workspace

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("."))
    parser.add_argument("--backbone", type=Path, help="another than minilm's")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone-dropout", default="null", help="instead of the backbone's own")
    args = parser.parse_args()

    options = [f"backbone_dropout={args.backbone_dropout}"]
    options.append(f"training.max_length={args.max_length}")
    options.append(f"training.batch_size={args.batch}")
    if args.backbone:
        options += [f"backbone={args.backbone.resolve()}", "sha256=null"]
    ws = Workspace.open(args.workspace, options)
    settings, rows = ws.model_settings("minilm-quick"), ws.competition.train
    train = rows.take(ws.store.read_folds(rows).learned((0,)))
    train = train.take(np.arange(min(len(train), args.batch * (args.updates + 1))))

    learner = TransformerLearner(settings, LearnerContext(ws.competition.task, SEED, args.threads))
    examples = learner.prepare(train)
    backbone = learner.model.backbone
    modules = [m for m in backbone.modules() if isinstance(m, dropout.Dropout)]
    implementation = backbone.config._attn_implementation

    def use(kind: type[nn.Dropout], attention: str) -> None:
        for module in modules:
            module.__class__ = kind
        backbone.set_attn_implementation(attention)

    sides = {"torch": (nn.Dropout, "sdpa"), "foldstack": (dropout.Dropout, implementation)}
    batches = epoch_batches(examples.tokens.lengths, args.batch, SEED, 0)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with learner._trimmed_to([examples.tokens]):
        training = loop.prepare(learner.model, examples, settings.training, learner.accelerator)
        training.net.train()
        for i, batch in enumerate([batches[0], *batches[: args.updates]]):
            for name, side in sides.items():
                use(*side)
                begin = time.process_time()
                loop.update(training, examples, batch, epoch=0)
                if i:  # the first pays for set-up
                    seconds[name].append(time.process_time() - begin)
    ratio = np.median(np.divide(seconds["torch"], seconds["foldstack"]))
    medians = [f"{np.median(times):.3f}" for times in seconds.values()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{args.batch} rows, {examples.tokens.lengths.mean():.1f} tokens on average, "
          f"{args.threads} threads, {learner.precision}, {peak:.1f} GiB at most")  # fmt: skip
    print(table(["seconds an update: torch", "foldstack", "ratio"], [[*medians, f"{ratio:.2f}x"]]))


if __name__ == "__main__":
    main()
