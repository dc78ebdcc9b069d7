"""Peak memory of fine-tuning each preset at batch 16 x 256 tokens in fp32, with random weights.

    python tests/bench/memory.py [preset ...]

Every preset has a process of its own: its architecture at the published size, AdamW with both
moments in place, then one update on 16 rows of 256 tokens each; the process's largest resident
memory counts (on a GPU: torch's largest allocated). Updates on 2 and on 4 rows come first: what a row
adds is nearly constant, and where 16 would not fit into this machine the number is extrapolated from
them and marked with ~ (for bert that gives 7.0 GB, where 7.5 are measured).
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

ROWS, TOKENS = 16, 256
BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
# As the config.json of each checkpoint has them, where its architecture's defaults are others.
ROBERTA = {
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}
XLM_ROBERTA = ROBERTA | {"vocab_size": 250002}
DEBERTA = {
    "vocab_size": 128100,
    "type_vocab_size": 0,
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}
SIZES: dict[str, tuple[str, str, dict]] = {
    "minilm": (
        "English",
        "bert",
        {
            "vocab_size": 30522,
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        },
    ),
    "bert": ("English", "bert", BASE | {"vocab_size": 30522}),
    "electra": ("English", "electra", BASE | {"vocab_size": 30522, "embedding_size": 768}),
    "mpnet": ("English", "mpnet", BASE | {"vocab_size": 30527, "max_position_embeddings": 514}),
    "albert": ("English", "albert", BASE | {"vocab_size": 30000, "embedding_size": 128}),
    "xlnet": (
        "English",
        "xlnet",
        {"vocab_size": 32000, "d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072},
    ),
    "roberta": ("English", "roberta", BASE | ROBERTA),
    "roberta-large": ("English", "roberta", LARGE | ROBERTA),
    "longformer": (
        "English",
        "longformer",
        BASE | ROBERTA | {"max_position_embeddings": 4098, "attention_window": [512] * 12},
    ),
    "deberta-v3-small": ("English", "deberta-v2", BASE | DEBERTA | {"num_hidden_layers": 6}),
    "deberta-v3-base": ("English", "deberta-v2", BASE | DEBERTA),
    "deberta-v3-large": ("English", "deberta-v2", LARGE | DEBERTA),
    "modernbert-base": (
        "English, code",
        "modernbert",
        BASE | {"vocab_size": 50368, "num_hidden_layers": 22, "intermediate_size": 1152},
    ),
    "modernbert-large": (
        "English, code",
        "modernbert",
        LARGE | {"vocab_size": 50368, "num_hidden_layers": 28, "intermediate_size": 2624},
    ),
    "xlm-roberta": ("100 languages", "xlm-roberta", BASE | XLM_ROBERTA),
    "multilingual-e5": ("100 languages", "xlm-roberta", BASE | XLM_ROBERTA),
    "macbert": ("Chinese", "bert", BASE | {"vocab_size": 21128}),
    "roberta-wwm-zh": ("Chinese", "bert", BASE | {"vocab_size": 21128}),
    "ernie-zh": (
        "Chinese",
        "ernie",
        BASE
        | {
            "vocab_size": 40000,
            "type_vocab_size": 4,
            "max_position_embeddings": 2048,
            "use_task_id": True,
            "task_type_vocab_size": 3,
        },
    ),
    "roformer-zh": (
        "Chinese",
        "roformer",
        BASE | {"vocab_size": 50000, "embedding_size": 768, "max_position_embeddings": 1536},
    ),
}


def peak() -> float:
    """The largest memory of this process so far, in GB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure(preset: str) -> None:
    """Print parameters (millions), peaks in GB after 2, 4 and 16 rows (null: would not fit)."""
    from accelerate import Accelerator
    from transformers import AutoConfig, AutoModel

    from foldstack.nets.classifier import Classifier
    from foldstack.techniques import TrainingSettings
    from foldstack.text.tokens import Tokens
    from foldstack.training import loop

    _, kind, sizes = SIZES[preset]
    backbone = AutoModel.from_config(AutoConfig.for_model(kind, **sizes), dtype=torch.float32)
    if hasattr(backbone, "pooler"):
        backbone.pooler = None
    model = Classifier(backbone, 1, 0.1)
    settings, accelerator = TrainingSettings(precision="fp32"), Accelerator(mixed_precision="no")

    def examples(rows: int, tokens: int) -> loop.Examples:
        ids = np.random.default_rng(0).integers(5, sizes["vocab_size"], rows * tokens)
        return loop.Examples(
            Tokens(ids.astype(np.int32), np.arange(rows + 1) * tokens, 0, 0),
            torch.zeros(rows, 1),
            torch.ones(rows),
            "sigmoid",
        )

    training = loop.prepare(model, examples(1, 8), settings, accelerator)
    training.net.train()

    def update(rows: int, tokens: int) -> float:
        loop.update(training, examples(rows, tokens), np.arange(rows), epoch=0)
        return peak()

    update(1, 8)  # the optimiser's moments come with the first update
    two, four = update(2, TOKENS), update(4, TOKENS)
    guess = four + (four - two) / 2 * (ROWS - 4)
    fits = torch.cuda.is_available() or guess - four < 0.8 * psutil.virtual_memory().available / 1e9
    found = update(ROWS, TOKENS) if fits else None
    parameters = sum(p.numel() for p in backbone.parameters()) / 1e6
    print(json.dumps({"parameters": parameters, "guess": guess, "peak": found}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", metavar="preset", help="all of them by default")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return measure(args.inside)
    unknown = set(args.presets) - set(SIZES)
    if unknown:
        parser.error(f"no such preset: {', '.join(sorted(unknown))}; there are {', '.join(SIZES)}")
    print(f"{'preset':<17}  {'parameters':>10}  {'languages':<13}  {'peak':>8}")
    for preset in args.presets or SIZES:
        done = subprocess.run(
            [sys.executable, __file__, "--inside", preset], capture_output=True, text=True
        )
        if done.returncode:
            print(f"{preset:<17}  failed: {re.sub(chr(10), ' ', done.stderr)[-300:]}", flush=True)
            continue
        facts = json.loads(done.stdout.splitlines()[-1])
        size = f"{facts['peak']:.1f} GB" if facts["peak"] else f"~{facts['guess']:.1f} GB"
        print(
            f"{preset:<17}  {facts['parameters']:>8.0f} M  {SIZES[preset][0]:<13}  {size:>8}",
            flush=True,
        )
    return None


if __name__ == "__main__":
    main()
