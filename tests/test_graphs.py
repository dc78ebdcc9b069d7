"""What stands before a CUDA graph and behind it; the graphs themselves: `pytest -m gpu`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from foldstack.nets.mixup import Mixup
from foldstack.training import loop
from foldstack.training.graphs import Graphs, each, tensors
from foldstack.training.micro_batch import MicroBatch
from makers import loop_learner, tiny_rows

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


def part(rows: int, value: float) -> MicroBatch:
    vector = torch.full((rows,), value)
    inputs = {"input_ids": vector.repeat(2, 1).T.long(), "attention_mask": torch.ones(rows, 2)}
    return MicroBatch(None, None, inputs, vector[:, None], vector, torch.tensor(1.0))


def total(given: MicroBatch) -> torch.Tensor:
    return given.targets.sum()


class Noted:
    """A pass that notes what it was given, and a capture that notes what it was made of."""

    def __init__(self) -> None:
        self.run_as_is: list[float] = []
        self.captured: list[int] = []
        self.replayed: list[float] = []

    def run(self, given: MicroBatch) -> torch.Tensor:
        self.run_as_is.append(float(total(given)))
        return total(given)

    def capture(self, run, given: MicroBatch):
        self.captured.append(len(given.weights))

        def replay(other: MicroBatch) -> torch.Tensor:
            self.replayed.append(float(total(other)))
            return total(other)

        return replay


def test_the_second_of_a_shape_is_captured_and_the_first_runs_as_it_is():
    noted = Noted()
    graphs = Graphs(noted.run, noted.capture)
    losses = [float(graphs(part(rows, value))) for rows, value in [(2, 1), (3, 1), (2, 5), (2, 7)]]
    assert losses == [2, 3, 10, 14]
    assert (noted.run_as_is, noted.captured, noted.replayed) == ([2, 3], [2], [10, 14])


def test_where_a_capture_fails_everything_runs_as_it_is(capsys):
    noted = Noted()

    def refuse(run, given):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    graphs = Graphs(noted.run, refuse)
    for rows in (2, 2, 2, 3):
        graphs(part(rows, 1))
    assert noted.run_as_is == [2, 2, 2, 3]
    assert capsys.readouterr().out == (
        "without CUDA graphs, which this model does not allow: operation not permitted when stream is "
        "capturing\n"
    )


def test_all_that_differs_between_two_micro_batches_is_copied():
    given = replace(
        part(2, 1),
        mixup=Mixup(torch.tensor([1, 0]), torch.tensor(0.3)),
        auxiliary=torch.tensor([[1.0], [0.0]]),
        taught=torch.tensor([[0.2], [0.3]]),
    )
    assert len(tensors(given)) == 9
    doubled = each(lambda t: t * 2, given)
    for one, two in zip(tensors(given), tensors(doubled), strict=True):
        assert two.equal(one * 2)
    assert doubled.mixup.own == 0.6 and doubled.auxiliary.sum() == 2 and doubled.taught.sum() == 1


def test_padding_to_a_multiple_changes_no_output(backbone):
    """It ends at the longest sequence there is, for which the backbone has positions."""
    learner = loop_learner(backbone)
    tokens = learner.prepare(tiny_rows(n=21)).tokens
    shortest = np.flatnonzero(tokens.lengths == tokens.lengths.min())
    width, longest = int(tokens.lengths.min()), int(tokens.lengths.max())
    assert width % 4 and width + 4 - width % 4 < longest
    batches = [tokens.batch(shortest, multiple) for multiple in (1, 4, 1000)]
    widths = [batch["input_ids"].shape[1] for batch in batches]
    assert widths == [width, width + 4 - width % 4, longest]
    plain, *padded = [learner.model.eval()(**batch) for batch in batches]
    for outputs in padded:
        torch.testing.assert_close(outputs, plain)


def test_a_processor_has_no_graphs(backbone):
    learner = loop_learner(backbone)
    examples = learner.prepare(tiny_rows(n=21))
    training = loop.prepare(learner.model, examples, learner.settings.training, learner.accelerator)
    assert training.graphs is None


@pytest.mark.parametrize("adversary", [None, {"name": "fgm"}, {"name": "awp", "start": 1}], ids=str)
def test_gradients_stay_where_a_graph_has_them(backbone, monkeypatch, adversary):
    """Whatever an adversary does with them; with a graph for each of its phases."""
    monkeypatch.setattr(loop, "_allows_graphs", lambda *_: True)
    seen: list[list[MicroBatch]] = []  # by each graph

    def make_graphs(run):
        noted: list[MicroBatch] = []
        seen.append(noted)

        def passed(given: MicroBatch) -> torch.Tensor:
            noted.append(given)
            return run(given)

        return passed

    monkeypatch.setattr(loop, "Graphs", make_graphs)
    learner = loop_learner(backbone, adversary=adversary)
    examples = learner.prepare(tiny_rows(n=21))
    training = loop.prepare(learner.model, examples, learner.settings.training, learner.accelerator)
    places = []
    for step in range(4):
        loop.update(training, examples, np.arange(9), epoch=step / 2)
        gradients = [p.grad for p in learner.model.parameters()]
        assert not any(g.any() for g in gradients)
        places.append([g.data_ptr() for g in gradients])
    assert places[0] == places[1] == places[2] == places[3]
    late = adversary is not None and adversary["name"] == "awp"
    assert [len(parts) for parts in seen] == ([2, 2] if late else [4])
