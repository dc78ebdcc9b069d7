"""The second level by a small network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.special import expit, softmax
from sklearn import config_context
from sklearn.neural_network import MLPClassifier, MLPRegressor

from foldstack.ensemble.linear import loss
from foldstack.ensemble.members import Inputs
from foldstack.ensemble.tables import LevelReader, Sample, Scaling, joined
from foldstack.files import placing
from foldstack.kinds import Kind

HIDDEN = 32
SETTINGS = {"hidden_layer_sizes": (HIDDEN,), "alpha": 1e-2, "learning_rate_init": 1e-2}
SMALLEST_BATCH, LARGEST_BATCH, BATCHES = 16, 1024, 50  # rows; batches per epoch between these sizes
MOST_EPOCHS = 100
PATIENCE, TOLERANCE = 5, 5e-4  # epochs without this decrease of the loss on held-back rows


@dataclass(frozen=True)
class Network:
    """scikit-learn's perceptron with one hidden layer, over all predictions and the features.

    Trained by Adam on standardised inputs; the weights are those of the best epoch on a held-back fifth
    of the groups. A regression's targets are standardised for training.

    Attributes:
        weights: `first` (width, hidden) and `second` (hidden, outputs), with their biases.
        epochs: number of the best epoch.
    """

    reader: LevelReader
    scaling: Scaling
    weights: dict[str, np.ndarray]
    epochs: int

    @classmethod
    def train(cls, sample: Sample) -> Network:
        table = joined(sample.values, sample.features)
        learned, judged = sample.hold_back()
        codes = sample.reader.codes(table.shape[1], sample.features)
        scaling = Scaling.of(table[learned], codes)
        kind, targets = sample.reader.kind, sample.targets
        mean, unit = np.zeros(targets.shape[1]), np.ones(targets.shape[1])
        if kind.is_values:
            mean = targets[learned].mean(axis=0)
            deviation = targets[learned].std(axis=0)
            unit = np.where(deviation > 0, deviation, 1.0)
        targets = (targets - mean) / unit
        x, held = scaling.apply(table[learned]), scaling.apply(table[judged])
        weights, epochs = _train(kind, (x, targets[learned]), (held, targets[judged]), sample.seed)
        weights["second"] = weights["second"] * unit
        weights["second_bias"] = weights["second_bias"] * unit + mean
        return cls(sample.reader, scaling, weights, epochs)

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Return predictions (n, outputs)."""
        x = self.scaling.apply(joined(self.reader.values(inputs), inputs.features))
        scores = _forward(self.weights, x)
        if self.reader.kind.is_values:
            return scores
        return softmax(scores, axis=1) if self.reader.kind.is_one_hot else expit(scores)

    @property
    def parameters(self) -> dict:
        return {"scaling": asdict(self.scaling), "epochs": self.epochs}

    def save(self, directory: Path, stem: str) -> list[Path]:
        """Write `<stem>.safetensors`."""
        path = Path(directory) / f"{stem}.safetensors"
        with placing(path) as beside:
            save_file(self.weights, beside)
        return [path]

    @classmethod
    def load(
        cls, parameters: dict, reader: LevelReader, outputs: int, directory: Path, stem: str
    ) -> Network:
        weights = load_file(Path(directory) / f"{stem}.safetensors")
        return cls(reader, Scaling(**parameters["scaling"]), weights, parameters["epochs"])


def _train(
    kind: Kind,
    learned: tuple[np.ndarray, np.ndarray],
    judged: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> tuple[dict[str, np.ndarray], int]:
    """Return the weights of the best epoch, and its number."""
    (x, y), (held, wanted) = learned, judged
    batch = int(np.clip(len(x) // BATCHES, min(SMALLEST_BATCH, len(x)), LARGEST_BATCH))
    # An integer would give every epoch the same shuffle.
    settings = SETTINGS | {"random_state": np.random.RandomState(seed), "batch_size": batch}
    one, classes = y.shape[1] == 1, {}
    if kind.has_labels:
        classes = {"classes": np.arange(2 if one else y.shape[1])}
    model = MLPClassifier(**settings) if classes else MLPRegressor(**settings)
    y = y[:, 0] if one else y.argmax(axis=1) if kind.is_one_hot else y
    best, weights, epochs = np.inf, {}, 0
    for epoch in range(1, MOST_EPOCHS + 1):
        # Validation of arguments would take most of the time.
        with config_context(assume_finite=True, skip_parameter_validation=True):
            model.partial_fit(x, y, **classes)
        found = loss(kind, _forward(_weights(model), held), wanted)
        if found < best - TOLERANCE:
            best, weights, epochs = found, _weights(model), epoch
        elif epoch - epochs >= PATIENCE:
            break
    return weights, epochs


def _weights(model: MLPClassifier | MLPRegressor) -> dict[str, np.ndarray]:
    (first, second), (first_bias, second_bias) = model.coefs_, model.intercepts_
    arrays = {
        "first": first, "first_bias": first_bias, "second": second, "second_bias": second_bias
    }  # fmt: skip
    return {name: array.copy() for name, array in arrays.items()}


def _forward(weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    hidden = np.maximum(x @ weights["first"] + weights["first_bias"], 0)
    return hidden @ weights["second"] + weights["second_bias"]
