"""Settings of the user's list of keywords."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PositiveInt

from foldstack.settings import FileName, Settings, none_from_text
from foldstack.techniques.learner import LearnerSettings
from foldstack.text.terms import read_keywords


def _named_file(value: Any) -> Any:
    """Read `list.csv` as `{file: list.csv}`."""
    value = none_from_text(value)
    return {"file": value} if isinstance(value, str) else value


class KeywordList(Settings):
    """The user's keywords; those that no training text holds are left out.

    file: in input/, or a full path: UTF-8, a keyword per line, or `keyword,category` as CSV. A keyword
        matches whole words, but any characters in scripts without spaces, such as Chinese; width and
        case are ignored.
    """

    file: FileName


class EmbeddedKeywords(KeywordList):
    """Keywords for a network; each has an input of the outputs, and its category an embedding.

    size: of the embedding of a category, which is learned; a keyword without one is its own category.
    """

    size: PositiveInt = 8


class KeywordSettings(LearnerSettings):
    """Settings of a learner that reads a list of keywords.

    keywords: a file of keywords that are matched in the texts, or none.
    """

    learner: str
    keywords: Annotated[KeywordList | None, BeforeValidator(_named_file)] = None

    @property
    def input_files(self) -> dict[str, str]:
        return {"keywords.file": self.keywords.file} if self.keywords else {}

    def check_inputs(self, files: dict[str, Path]) -> None:
        super().check_inputs(files)
        if self.keywords:
            read_keywords(files["keywords.file"])


class EmbeddedKeywordSettings(KeywordSettings):
    """The same of a network.

    keywords: a file of keywords that are matched in the texts and joined to the pooled vector, or none:
        a 0 or 1 per keyword, and the mean of the embeddings of the matched ones' categories (Cheng et
        al. 2016, Wide & Deep Learning).
    """

    keywords: Annotated[EmbeddedKeywords | None, BeforeValidator(_named_file)] = None
