"""Settings of the linear model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import PositiveInt, model_validator

from foldstack.kinds import Kind
from foldstack.settings import Positive
from foldstack.techniques.common import AUTO, OrAuto, UnitShare
from foldstack.techniques.compared import check_compared, check_edits, packages_of
from foldstack.techniques.keyword_settings import KeywordSettings
from foldstack.techniques.learner import Traits
from foldstack.techniques.word_rules import WordRules

NgramRange = Annotated[tuple[int, int], OrAuto()]


class TfidfSettings(WordRules, KeywordSettings):
    """A linear model on TF-IDF of word and character n-grams.

    word_ngrams: range of word n-grams; `[0, 0]`: none; auto: `[1, 2]`.
    char_ngrams: range of character n-grams; `[0, 0]`: none; auto: `[1, 4]` if most letters are
        Chinese characters or texts have 1,000 characters on average, else `[2, 5]`.
    words: what a word is; unicode: letters and digits in a row; rjieba: Chinese ones are also cut
        into words by rjieba; auto: rjieba if most letters are Chinese characters. Their
        rules, `stop_words` and so on, apply to word n-grams alone.
    min_count: least number of training texts that an n-gram occurs in.
    max_share: largest share of training texts that an n-gram occurs in.
    sublinear: count an n-gram that occurs c times in a text as 1 + ln(c), not as c.
    max_features: most n-grams of each of the two kinds, the most frequent ones.
    C: inverse strength of the L2 penalty; the ridge penalty of a regression is 1 / (2C); auto:
        chosen by an inner cross-validation on the run's own rows, the same for all labels.
    segments: how several segments of a row are read; joined: as one text; apart: beside that each
        with n-grams of its own, and the share of words that every two have in common; auto: pairs
        joined, three apart.
    pair_features: columns beside n-grams that say how alike every two segments of a row are; overlap:
        words and strings of three characters that they share, lengths, cosine of TF-IDF and BM25 by
        the run's own rows; edits: also edit distances, by rapidfuzz; auto: overlap of pairs, none of
        other texts and with naive_bayes.
    naive_bayes: multiply each n-gram by its log-count ratio between the labels in the run's own
        rows (NB-SVM; Wang and Manning 2012, Baselines and Bigrams); of several classes each is
        compared with all others.
    row_weights: drift multiplies the rows' weights by those of `make drift`, which are large for
        rows like the test file's.
    """

    implementation: ClassVar[str] = "foldstack.learners.tfidf:TfidfLearner"
    traits: ClassVar[Traits] = Traits(weights=True)
    learner: Literal["tfidf"]
    word_ngrams: NgramRange = (1, 2)
    char_ngrams: NgramRange = (2, 5)
    words: Literal["auto", "unicode", "rjieba"] = "unicode"
    min_count: PositiveInt = 2
    max_share: UnitShare = 1.0
    sublinear: bool = True
    max_features: PositiveInt = 200_000
    C: Annotated[Positive, OrAuto()] = 4.0
    segments: Literal["auto", "joined", "apart"] = "auto"
    pair_features: Literal["auto", "none", "overlap", "edits"] = "none"
    naive_bayes: bool = False
    row_weights: Literal["file", "drift"] = "file"

    @property
    def weighs_by_drift(self) -> bool:
        return self.row_weights == "drift"

    @model_validator(mode="after")
    def _ranges(self) -> TfidfSettings:
        for low, high in (r for r in (self.word_ngrams, self.char_ngrams) if r != AUTO):
            if not (low == high == 0 or 1 <= low <= high):
                raise ValueError(
                    f"an n-gram range is [low, high] with 1 <= low <= high, "
                    f"or [0, 0] for none, got [{low}, {high}]"
                )
        if self.word_ngrams == self.char_ngrams == (0, 0):
            raise ValueError(
                "word_ngrams and char_ngrams are both [0, 0]: nothing is left to learn"
            )
        return self

    @model_validator(mode="after")
    def _rules_have_words(self) -> TfidfSettings:
        if self.word_rules and self.word_ngrams == (0, 0):
            raise ValueError(
                f"`{self.word_rules[0]}` is of words, and word_ngrams is [0, 0]: leave one of them out"
            )
        self.check_cut("words", self.words)
        return self

    @model_validator(mode="after")
    def _features_are_no_counts(self) -> TfidfSettings:
        if self.naive_bayes and self.pair_features in ("overlap", "edits"):
            raise ValueError(
                "naive_bayes compares how often each column is not 0, which says nothing of "
                "pair_features: leave one of them out"
            )
        return self

    def of_segments(self, count: int) -> TfidfSettings:
        if self.pair_features == AUTO:
            chosen = "overlap" if count == 2 and not self.naive_bayes else "none"
            return self.model_copy(update={"pair_features": chosen})
        if self.pair_features != "none":
            check_compared(count)
        return self

    @property
    def packages(self) -> tuple[str, ...]:
        return (*super().packages, *packages_of(self.pair_features))

    @property
    def input_files(self) -> dict[str, str]:
        return super().input_files | self.word_files()

    def check_inputs(self, files: dict[str, Path]) -> None:
        super().check_inputs(files)
        check_edits(self.pair_features)
        self.check_words(files)

    def check_kind(self, kind: Kind) -> None:
        if self.naive_bayes and not kind.has_labels:
            raise ValueError(
                "naive_bayes compares rows with a label and those without, but this competition is a "
                f"{kind}: leave it out"
            )
