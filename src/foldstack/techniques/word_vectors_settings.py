"""Settings of the word vectors that a network from scratch begins from."""

from __future__ import annotations

import importlib.util
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import BeforeValidator, PositiveInt, model_validator

from foldstack.errors import InputError
from foldstack.settings import OptionalText, Settings, none_from_text

OF_TRAINING = ("window", "epochs", "min_n", "max_n", "texts")


class WordVectorsSettings(Settings):
    """Word vectors that are known before the network is trained: from a file, or trained without labels.

    Other words are drawn uniformly with the variance of the vectors that are known (Kim 2014).

    file: in input/, or a full path: vectors as text (word2vec, fastText's .vec, GloVe; also .gz or
        .bz2), word2vec's .bin, or .npy with the words beside it in a .txt of the same name. A word
        that it lacks is looked up in small letters.
    train: train them on texts, by gensim: skipgram, cbow (Mikolov et al. 2013), or fasttext, which
        is skipgram with character n-grams (Bojanowski et al. 2017).
    mode: tuned: trained with the network; static: kept; both: the sum of a tuned and a static vector,
        which both begin alike (Kim 2014: two channels under the same filters).
    window: words before and after a word that it predicts; none: 5 words, or 10 if there are
        characters.
    epochs: passes over the texts.
    min_n, max_n: length of character n-grams; 1 and 2 for Chinese.
    texts: run: the run's own training rows; workspace: also held-out, test, external and pooled
        texts, whose labels are not read.
    """

    file: OptionalText = None
    train: Annotated[
        Literal["skipgram", "cbow", "fasttext"] | None, BeforeValidator(none_from_text)
    ] = None
    mode: Literal["tuned", "static", "both"] = "tuned"
    window: Annotated[PositiveInt | None, BeforeValidator(none_from_text)] = None
    epochs: PositiveInt = 5
    min_n: PositiveInt = 3
    max_n: PositiveInt = 6
    texts: Literal["run", "workspace"] = "run"

    @property
    def reads_pool(self) -> bool:
        """Whether the texts of the competition's `pool` files train them."""
        return self.texts == "workspace"

    @model_validator(mode="after")
    def _come_from_somewhere(self) -> WordVectorsSettings:
        if (self.file is None) == (self.train is None):
            raise ValueError("word vectors come from a `file` or are trained (`train`): give one")
        given = [name for name in OF_TRAINING if self._differs(name)]
        if self.file is not None and given:
            raise ValueError(f"`{given[0]}` changes nothing in vectors of a file: leave it out")
        if self.train != "fasttext" and (self._differs("min_n") or self._differs("max_n")):
            raise ValueError(
                f"min_n and max_n are of train: fasttext, but this is {self.train}: leave them out"
            )
        if self.min_n > self.max_n:
            raise ValueError(f"min_n {self.min_n} is above max_n {self.max_n}: lower it")
        return self

    def _differs(self, name: str) -> bool:
        return getattr(self, name) != type(self).model_fields[name].default

    @property
    def files(self) -> dict[str, str]:
        """The names of files that are read, by setting."""
        if self.file is None:
            return {}
        place = PurePath(self.file)
        words = {"vectors.file's words": str(place.with_suffix(".txt"))}
        return {"vectors.file": self.file} | (words if place.suffix == ".npy" else {})

    def check_package(self) -> None:
        """Raise InputError if vectors are to be trained and gensim is not installed."""
        if self.train and importlib.util.find_spec("gensim") is None:
            raise InputError(
                "vectors.train requires the package gensim, which is not installed: pip install "
                "'foldstack[vectors]'"
            )
