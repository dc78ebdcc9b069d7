"""Hierarchical softmax: the tree, its probabilities, and a network that learns with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from foldstack import config
from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.nets.huffman import HuffmanTree, huffman
from foldstack.techniques import NetworkSettings
from makers import make_rows
from test_networks import fitted, network

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")
SHARES = [5, 1, 1, 2, 9]


def tree(shares: list[float] = SHARES) -> HuffmanTree:
    made = HuffmanTree(len(shares))
    made.build(shares)
    return made


def turns_to(made: HuffmanTree, k: int) -> list[tuple[int, int]]:
    """Nodes on the way to class k, each with its turn, 0 or 1: from the leaf up."""
    pairs, way, at = made.turns_to.tolist(), [], len(made.turns_to) + k
    while at != 0:
        node = next(i for i, pair in enumerate(pairs) if at in pair)
        way.append((node, pairs[node].index(at)))
        at = node
    return way[::-1]


def test_the_tree_is_huffmans():
    """1 and 1 are joined, then 2 and they, 4 and 5, 9 and 9: class 4 is one turn from the root."""
    assert [len(turns_to(tree(), k)) for k in range(5)] == [2, 4, 4, 3, 1]
    assert huffman([1, 1]) == [[1, 2]]


@pytest.mark.parametrize(
    "shares", [SHARES, [1] * 8, [2.0**k for k in range(12)], [3, 3, 2, 2, 2, 1]]
)
def test_no_tree_has_a_shorter_mean_way(shares):
    """Its mean length is within a bit of the entropy, and the leaves are all classes once."""
    made = tree(shares)
    lengths = np.array([len(turns_to(made, k)) for k in range(len(shares))])
    p = np.array(shares) / sum(shares)
    entropy = -sum(q * math.log2(q) for q in p if q > 0)
    assert entropy <= p @ lengths < entropy + 1
    assert sum(2.0**-lengths) == 1  # Kraft: a full binary tree


def test_log_probabilities_are_products_of_turns_and_sum_to_one():
    made, z = tree(), torch.randn(6, 4, dtype=torch.double, requires_grad=True)
    found = made(z)
    for row in range(6):
        for k in range(5):
            signs = [(node, 1 - 2 * turn) for node, turn in turns_to(made, k)]
            p = math.prod(1 / (1 + math.exp(-s * z[row, node].item())) for node, s in signs)
            assert found[row, k].exp().item() == pytest.approx(p, rel=1e-12)
    torch.testing.assert_close(found.logsumexp(dim=1), torch.zeros(6, dtype=torch.double))
    torch.testing.assert_close(found.log_softmax(dim=1), found)
    assert torch.autograd.gradcheck(made, (z,))


def test_logits_of_any_size_are_finite():
    z = torch.tensor([[1e4, -1e4, 1e4, -1e4]], requires_grad=True)
    found = tree()(z)
    found.sum().backward()
    assert torch.isfinite(found).all() and torch.isfinite(z.grad).all()


def test_the_bias_of_nodes_gives_the_shares():
    logits = torch.randn(5, dtype=torch.double)
    made = tree()
    torch.testing.assert_close(made(made.node_logits(logits)[None])[0], logits.log_softmax(dim=0))


def test_a_network_learns_classes_as_leaves(tmp_path):
    """Its tree is of its training rows, and what is loaded predicts the same bytes."""
    texts = ["a good film", "a fine cake", "a bad plot", "a dull song"]
    rows = make_rows(texts * 8, np.eye(3)[[0, 0, 1, 2] * 8])
    training = {"epochs": 30, "lr": 2e-2}
    chosen = {"kind": "multiclass", "training": training, "softmax": "hierarchical"}
    learner = fitted(tmp_path / "run", rows, **chosen)
    logits = learner.predict(rows)
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, rtol=1e-5)
    assert (logits.argmax(axis=1) == rows.targets.argmax(axis=1)).all()
    assert [len(turns_to(learner.model.tree, k)) for k in range(3)] == [1, 2, 2]
    learner.save(tmp_path / "model")
    loaded = network(**chosen)
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == logits.tobytes()


def test_it_begins_from_the_shares_of_classes():
    rows = make_rows(["a", "b", "c", "d"] * 3, np.eye(3)[[0, 1, 2, 2] * 3])
    learner = network("multiclass", softmax="hierarchical", head_bias="prior")
    learner.prepare(rows)
    torch.nn.init.zeros_(learner.model.head.weight)
    np.testing.assert_allclose(np.exp(learner.predict(rows)[0]), [0.25, 0.25, 0.5], rtol=1e-5)


def test_where_there_are_no_classes_it_is_refused():
    with pytest.raises(ValueError) as refused:
        NetworkSettings(learner="network", softmax="hierarchical").check_kind(Kind.BINARY)
    assert str(refused.value) == (
        "softmax is of the classes of a multiclass competition, and this one is binary: leave it out"
    )


def test_a_vector_per_class_is_refused():
    given = {"learner": "network", "softmax": "hierarchical", "head": "labels"}
    with pytest.raises(InputError) as refused:
        config.validate(NetworkSettings, given, "mine.yaml")
    assert str(refused.value) == (
        "mine.yaml: head labels has a vector per class, and softmax hierarchical scores the nodes of a "
        "tree: take another head, or leave softmax out"
    )
