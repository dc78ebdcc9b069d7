"""What is read of long texts, see text/long.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from foldstack.settings import Settings, Share


class Ends(Settings):
    """The beginning of the text, or its end."""

    name: Literal["head", "tail"] = "head"


class HeadTail(Settings):
    """Beginning and end (Sun et al. 2019).

    share: of the length that the beginning takes.
    """

    name: Literal["head_tail"]
    share: Annotated[float, Field(gt=0, lt=1)] = 0.25


class RandomWindow(Settings):
    """In training one random window, another in each epoch (random crops, Krizhevsky et al. 2012);
    in prediction the mean over several.

    most: windows that a prediction is the mean of, evenly spaced.
    """

    name: Literal["random"]
    most: PositiveInt = 4


class Windows(Settings):
    """Sliding windows (Pappagari et al. 2019): each is learned from, their logits are averaged. In
    training a window has its row's weight divided by their number.

    overlap: share of a window that the next one repeats.
    most: windows per text; a longer text has gaps between them.
    """

    name: Literal["windows"]
    overlap: Share = 0.25
    most: PositiveInt = 8


class Keywords(Settings):
    """The beginning, then the text's keywords, for texts that are cut (Park et al. 2022:
    sentences). They take half of the length at most.

    count: words of the highest TF-IDF (Spärck Jones 1972) among the training rows of the run.
    segment: as a second text, with a separator after each, rather than at the end of the first.
    """

    name: Literal["keywords"]
    count: PositiveInt = 10
    segment: bool = False


class Terms(Settings):
    """The beginning, then the listed terms that the text has, as a second text (Sun, Huang, Qiu
    2019). They take half of the length at most, with a separator after each.

    terms: words or phrases.
    """

    name: Literal["terms"]
    terms: Annotated[tuple[str, ...], Field(min_length=1)]

    @field_validator("terms")
    @classmethod
    def _have_text(cls, terms: tuple[str, ...]) -> tuple[str, ...]:
        if not all(term.strip() for term in terms):
            raise ValueError("a term is empty: remove it")
        return terms


Long = Ends | HeadTail | RandomWindow | Windows | Keywords | Terms
