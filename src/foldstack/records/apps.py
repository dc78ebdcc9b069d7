"""Records of the app: what the local page shows of a blend, a typed text and a file."""

from __future__ import annotations

from pydantic import Field

from foldstack.records.base import Record, Undefined, Value
from foldstack.records.estimates import EstimateRecord
from foldstack.records.pages import Attribution


class InputField(Value):
    """A column that is typed in.

    Attributes:
        what: `text`, or for a column that a model reads beside the texts `number` or `category`.
    """

    name: str
    what: str


class AppDescription(Record):
    """The predictor behind the page.

    Attributes:
        values: whether values are predicted instead of probabilities.
        source: what predicts, for instance `blend 'blend'`.
        nested: its estimate; None for a single model.
        winner: the blend's method.
        runs: the number of runs per model.
        ranks: whether the blend's values are ranks instead of probabilities.
        rules: the number of rules beside the models.
    """

    competition: str
    kind: str
    metric: str
    values: bool
    source: str
    nested: EstimateRecord | None
    winner: str
    runs: dict[str, int]
    ranks: bool
    rules: int
    fields: list[InputField]
    stale: list[str]
    optimistic: list[str]


class NamedValues(Value):
    """The output of one model or the blend: a probability per label, or a value per target."""

    name: str
    values: dict[str, float]


class RuleHit(Value):
    """A rule that matches a text.

    Attributes:
        rule: its name, as a decision names its source.
        matches: its pattern, or that the text is in its list.
        says: the label that it claims.
        decides: whether the decision follows it.
    """

    rule: str
    matches: str
    says: str
    confidence: float
    decides: bool


class Neighbour(Value):
    """A training row like a text.

    Attributes:
        label: the row's own.
        similarity: the cosine of their TF-IDF vectors.
        same: whether the texts are equal after normalising.
    """

    id: str
    label: str
    similarity: float
    same: bool
    text: str


class ExplainedText(Record):
    """The prediction of a typed text.

    Attributes:
        label: the decision, several labels joined, none as ""; None for regression without levels.
        by: the source of the decision: `model`, a rule or nearest texts; None without patterns.
        says: of the blend, then of its models if there are several.
        attributions: of the same; [] before they are computed.
    """

    label: str | None
    by: str | None
    says: list[NamedValues]
    hits: list[RuleHit]
    neighbours: list[Neighbour]
    attributions: list[Attribution] = Field(default_factory=list)


class PreviewRow(Value):
    """A row of a predicted file; confidence: the probability of the label, nan if it has none."""

    id: str
    text: str
    says: str
    confidence: Undefined


class PredictedUpload(Record):
    """An uploaded file's predictions.

    Attributes:
        file: where they are, in the form of the sample submission.
        labels: rows by decision, the most frequent first; {} for regression.
        preview: the first rows.
        unrecorded: see `PredictedFile`.
    """

    file: str
    rows: int
    labels: dict[str, int]
    preview: list[PreviewRow]
    unrecorded: str | None


class ServedApp(Record):
    """The result of the app stage, after it was stopped: how much it predicted."""

    texts: int
    files: int
