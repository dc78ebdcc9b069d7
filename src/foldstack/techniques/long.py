"""Techniques for long texts, see text/cutting.py."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt, field_validator

from foldstack.settings import OneOrMore, Share, one_in_a_list
from foldstack.techniques.registry import Technique


class Long(Technique):
    """How a text that is longer than the network's input is read.

    implementation: `(settings, text.cutting.ToCut) -> text.cutting.Cut`.

    Traits:
        for_pairs: it cuts each text of a sentence pair separately.
        several_windows: a text may become several sequences, depending on its length.
        redraws: each epoch reads another part of a text.
        fits_keywords: it fits word weights on the training rows.
        may_be_empty: an input with room for special tokens only is allowed.
        for_templates: it reads nothing but parts of the text, so that a template can go on after it.
        cuts_end: the beginning is read, as a tokenizer cuts a text by itself.
    """

    for_pairs: ClassVar[bool] = False
    several_windows: ClassVar[bool] = False
    redraws: ClassVar[bool] = False
    fits_keywords: ClassVar[bool] = False
    may_be_empty: ClassVar[bool] = False
    for_templates: ClassVar[bool] = True
    cuts_end: ClassVar[bool] = False

    @property
    def head_share(self) -> float:
        """The beginning's share of the tokens that are kept."""
        return 1.0


class _Ends(Long):
    """Each text of a row that has several is cut by itself.

    parts: how texts of one row share the length, a number for each, as [1, 2, 2]; equal by default. What
        one does not need the others have.
    """

    implementation: ClassVar[str] = "foldstack.text.cutting:cut_ends"
    for_pairs: ClassVar[bool] = True
    parts: Annotated[tuple[PositiveInt, ...], BeforeValidator(one_in_a_list)] = ()


class Beginning(_Ends):
    """The beginning of the text."""

    may_be_empty: ClassVar[bool] = True
    cuts_end: ClassVar[bool] = True
    name: Literal["head"] = "head"


class End(_Ends):
    """The end of the text."""

    name: Literal["tail"]

    @property
    def head_share(self) -> float:
        return 0.0


class HeadTail(_Ends):
    """Beginning and end (Sun et al. 2019).

    share: of the length that the beginning takes.
    """

    name: Literal["head_tail"]
    share: Annotated[float, Field(gt=0, lt=1)] = 0.25

    @property
    def head_share(self) -> float:
        return self.share


class RandomWindow(Long):
    """In training one random window, another in each epoch (random crops, Krizhevsky et al. 2012);
    in prediction the mean over several.

    most: windows that a prediction is the mean of, evenly spaced.
    """

    implementation: ClassVar[str] = "foldstack.text.cutting:cut_random_window"
    redraws: ClassVar[bool] = True
    name: Literal["random"]
    most: PositiveInt = 4


class Windows(Long):
    """Sliding windows (Pappagari et al. 2019): each is learned from, their logits are averaged. In
    training a window has its row's weight divided by their number.

    overlap: share of a window that the next one repeats.
    most: windows per text; a longer text has gaps between them.
    """

    implementation: ClassVar[str] = "foldstack.text.cutting:cut_windows"
    several_windows: ClassVar[bool] = True
    name: Literal["windows"]
    overlap: Share = 0.25
    most: PositiveInt = 8


class Keywords(Long):
    """The beginning, then the text's keywords, for texts that are cut (Park et al. 2022:
    sentences). They take half of the length at most.

    count: words of the highest TF-IDF (Spärck Jones 1972) among the training rows of the run.
    segment: as a second text, with a separator after each, rather than at the end of the first.
    """

    implementation: ClassVar[str] = "foldstack.text.cutting:cut_with_keywords"
    for_templates: ClassVar[bool] = False
    fits_keywords: ClassVar[bool] = True
    name: Literal["keywords"]
    count: PositiveInt = 10
    segment: bool = False


class Terms(Long):
    """The beginning, then the listed terms that the text has, as a second text (Sun, Huang, Qiu
    2019). They take half of the length at most, with a separator after each.

    terms: words or phrases.
    """

    implementation: ClassVar[str] = "foldstack.text.cutting:cut_with_terms"
    for_templates: ClassVar[bool] = False
    name: Literal["terms"]
    terms: OneOrMore[str]

    @field_validator("terms")
    @classmethod
    def _have_text(cls, terms: tuple[str, ...]) -> tuple[str, ...]:
        if not all(term.strip() for term in terms):
            raise ValueError("a term is empty: remove it")
        return terms
