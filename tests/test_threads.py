"""Batches computed side by side: in order, under the caller's autocast, the same by any number."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from foldstack.learners.transformer import TransformerLearner
from foldstack.training import loop
from foldstack.training.threads import parallel_map
from makers import loop_learner, tiny_rows

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")
CPU = torch.device("cpu")


def test_results_come_in_order_from_threads_of_one_core_each():
    torch.set_num_threads(2)
    both = threading.Barrier(2, timeout=20)

    def work(item: int) -> tuple[int, int, bool, bool]:
        both.wait()  # the second batch is begun before the first has ended
        return item, torch.get_num_threads(), torch.is_inference_mode_enabled(), in_bf16()

    def in_bf16() -> bool:
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert list(parallel_map(work, range(4), CPU)) == [(i, 1, True, True) for i in range(4)]
    both = threading.Barrier(2, timeout=20)
    assert [in_lower for *_, in_lower in parallel_map(work, range(2), CPU)] == [False, False]
    assert torch.get_num_threads() == 2


def test_an_error_in_a_batch_is_the_callers():
    torch.set_num_threads(2)

    def work(item: int) -> float:
        return 1 / item

    with pytest.raises(ZeroDivisionError):
        list(parallel_map(work, [1, 0, 2], CPU))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_prediction_does_not_depend_on_the_number_of_threads(
    backbone, tmp_path, monkeypatch, precision
):
    """Batches of a few rows each, several at once; weights large enough for rounding to show."""
    monkeypatch.setattr(loop, "batch_tokens", lambda device: 40)
    learner: TransformerLearner = loop_learner(
        backbone, precision="fp32" if precision == "int8" else precision
    )
    rows = tiny_rows(n=64)
    learner.prepare(rows)
    for weight in learner.model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    if precision == "int8":
        learner = learner.in_int8()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(learner.predict(rows))
    assert np.ptp(found[0]) > 0.005
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_a_frozen_backbones_outputs_neither(backbone, tmp_path: Path, monkeypatch):
    """Written to their rows' places, whichever batch is ready first."""
    from foldstack.training import frozen

    monkeypatch.setattr(frozen, "batch_tokens", lambda device: 40)
    learner, rows = loop_learner(backbone), tiny_rows(n=40)
    tokens = learner.prepare(rows).tokens
    kept = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        kept.append(frozen.run_once(learner.model, tokens, tmp_path, 1.0).flat)
    assert np.array_equal(*kept)
