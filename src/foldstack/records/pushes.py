"""Records of submissions that were pushed to a site."""

from __future__ import annotations

from foldstack.records.base import Record, Table, Undefined, Value


class Push(Value):
    """A submission that was pushed.

    Attributes:
        name: of the submission.
        sha256: the digest of its file, a copy of which is kept.
        ref: the site's number of it.
        nested, low, high, standard_error: its honest estimate when it was pushed.
        optimistic, stale: the marks that it had.
        date, status, public, private, error: as the site says; None before `log` has asked.
    """

    name: str
    sha256: str
    message: str
    competition: str
    ref: int
    metric: str
    nested: Undefined
    low: Undefined
    high: Undefined
    standard_error: float | None
    optimistic: list[str]
    stale: list[str]
    date: str | None = None
    status: str | None = None
    public: float | None = None
    private: float | None = None
    error: str | None = None


class PushLog(Record):
    """submissions/log.json: every push, the first one first."""

    pushes: list[Push]


class PushedFile(Record):
    """The result of the push stage: of a submission, or of a bundle as a data set.

    Attributes:
        what: the pushed file or folder, relative to the workspace.
        where: the competition, or the data set.
        push: the record of a submission; None for a bundle.
        new: whether the data set is new, and not another version.
    """

    what: str
    where: str
    push: Push | None = None
    new: bool = False


class RankCorrelation(Value):
    """Spearman's correlation of nested and site scores; None under three submissions with both."""

    correlation: float | None
    submissions: int


class SelectedPush(Value):
    """One of the two submissions to select: its number in the log from 0, and why."""

    row: int
    why: str


class PushScores(Table):
    """The submissions pushed, with nested CV beside public and private score.

    Attributes:
        metric: the competition's.
        rows: `Push`, the first one first.
        public, private: how the nested scores rank them, compared with the site's.
        select: at most two; the first is the best by the nested score.
        undecided: why there are not two.
    """

    metric: str
    rows: list[Push]
    public: RankCorrelation
    private: RankCorrelation
    select: list[SelectedPush]
    undecided: str | None = None
