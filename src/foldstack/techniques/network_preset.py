"""Settings of networks from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.settings import Share, none_from_text, one_in_a_list
from foldstack.techniques import auto
from foldstack.techniques.common import AUTO, UnitShare
from foldstack.techniques.learner import Traits
from foldstack.techniques.sequence_preset import SequenceSettings
from foldstack.techniques.training import StageSettings
from foldstack.techniques.word_rules import WordRules
from foldstack.techniques.word_vectors_settings import WordVectorsSettings
from foldstack.text.vector_files import vector_file

OF_WORDS = "words."  # before the names of settings of words
OF_LAYERS = ("layer_decay", "freeze_layers", "reinit_layers", "backbone_dropout")


class Words(WordRules):
    """Form tokens and their vocabulary, which is fitted on the run's own training rows.

    unit: words, each punctuation mark one of its own; characters; or both: a text's words, a
        token between, then its characters, as Chinese is read twice in competitions, but as one
        sequence: a window or n-gram holds words or characters, an unknown word is spelled, and
        max_length cuts characters first, so set it to auto.
    cut: unicode: letters and digits in a row are a word; rjieba: Chinese is cut into words by rjieba
        first; auto: rjieba if most letters are Chinese characters.
    lower: read capital letters as small ones.
    min_count: least number of training texts that a word occurs in; others are one unknown word.
    max_share: largest share of training texts that a word occurs in.
    most: most words, those of most texts.
    """

    unit: Literal["words", "characters", "both"] = "words"
    cut: Literal["auto", "unicode", "rjieba"] = "auto"
    lower: bool = True
    min_count: PositiveInt = 2
    max_share: UnitShare = 1.0
    most: PositiveInt = 100_000

    @model_validator(mode="after")
    def _cuts_words(self) -> Words:
        if self.unit == "characters" and self.cut == "rjieba":
            raise ValueError("`cut` changes nothing if unit is characters: leave it out")
        if self.unit == "characters" and self.word_rules:
            raise ValueError(
                f"`{self.word_rules[0]}` is of words: leave it out, or set unit to words or both"
            )
        if self.stem and not self.lower:
            raise ValueError("`stem` reads small letters: leave lower: false out")
        self.check_cut("cut", self.cut)
        return self

    @property
    def units(self) -> str:
        """The name of the tokens, for the user."""
        return "words and characters" if self.unit == "both" else self.unit

    @property
    def as_they_are(self) -> bool:
        """Whether tokens are what a regular expression finds, after rjieba if it cuts."""
        return self.unit != "both" and not self.word_rules


class NetworkSettings(SequenceSettings):
    """A network from scratch over word vectors that it learns with it: its `head` says which.

    words: tokens and vocabulary.
    size: of the word vectors; those of a file have their own.
    vectors: what word vectors begin from; none: a uniform distribution.
    ngrams: highest n of the n-grams of words that have vectors of their own, as fastText's; 1: none.
        Those of fewer training texts than words.min_count have none.
    buckets: hashes of n-grams are below this number; equal ones share a vector.
    word_dropout: share of a text's words that are left out in training (Iyyer et al. 2015, Deep
        Unordered Composition).
    spatial_dropout: share of the features of word vectors that are zero in a whole text in training
        (Tompson et al. 2015).
    dense: widths of dense layers with ReLU between the head and the outputs, each with `dropout`
        before it.
    softmax: of classes: flat; or hierarchical, over a Huffman tree of them (fastText's `hs`).
    """

    implementation: ClassVar[str] = "foldstack.learners.network:NetworkLearner"
    traits: ClassVar[Traits] = Traits(
        torch=True,
        processes=True,
        epochs=True,
        features=True,
        auxiliary=True,
        start=True,
        difficulty=True,
        weights=True,
        mixes=True,
        tempered=True,
    )
    learner: Literal["network"]
    words: Words = Words()
    size: PositiveInt = 300
    vectors: Annotated[WordVectorsSettings | None, BeforeValidator(none_from_text)] = None
    ngrams: PositiveInt = 1
    buckets: Annotated[int, Field(ge=1_000)] = 2_000_000
    word_dropout: Annotated[Share, Field(lt=1)] = 0.0
    spatial_dropout: Annotated[Share, Field(lt=1)] = 0.0
    dense: Annotated[tuple[PositiveInt, ...], BeforeValidator(one_in_a_list)] = ()
    softmax: Literal["flat", "hierarchical"] = "flat"

    @model_validator(mode="after")
    def _nothing_is_auto(self) -> NetworkSettings:
        own = set(type(self).model_fields).intersection(["repeats", *auto.OF_PRESET]) - {
            "head_bias"
        }
        found = [name for name in sorted(own) if getattr(self, name) == AUTO]
        parts = (self.training, *self.stages)
        of_rules = (n for n in auto.OF_TRAINING if any(getattr(p, n) == AUTO for p in parts))
        found += [f"training.{name}" for name in of_rules]
        if found:
            raise ValueError(
                f"{found[0]} is auto, whose rules are for pre-trained backbones: give it a value"
            )
        return self

    @model_validator(mode="after")
    def _counts_no_layers(self) -> NetworkSettings:
        fields = StageSettings.model_fields
        for name in OF_LAYERS:
            parts = (self.training, *self.stages)
            if any(getattr(p, name, fields[name].default) != fields[name].default for p in parts):
                raise ValueError(
                    f"{name} is for the layers of a pre-trained backbone, and word vectors have none: "
                    "leave it out"
                )
        return self

    @model_validator(mode="after")
    def _begins_once(self) -> NetworkSettings:
        if self.start_from and self.vectors is not None:
            raise ValueError(
                f"vectors are what words begin from, and start_from begins from those of "
                f"{self.start_from}: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _scores_nodes(self) -> NetworkSettings:
        if self.softmax == "hierarchical" and self.head.per_output:
            raise ValueError(
                f"head {self.head.name} has a vector per class, and softmax hierarchical scores the "
                "nodes of a tree: take another head, or leave softmax out"
            )
        return self

    def check_kind(self, kind: Kind) -> None:
        super().check_kind(kind)
        if self.softmax == "hierarchical" and not kind.is_one_hot:
            raise ValueError(
                f"softmax is of the classes of a multiclass competition, and this one is {kind}: leave "
                "it out"
            )

    @property
    def averages(self) -> bool:
        """Whether the mean over tokens is all that is used of their vectors."""
        perturbed = any(stage.adversary is not None for stage in self.all_stages)
        return self.head.averages and not perturbed

    @property
    def rules(self) -> str | None:
        return auto.digest({"head_bias"}) if self.head_bias == AUTO else None

    @model_validator(mode="after")
    def _hashes_ngrams(self) -> NetworkSettings:
        # By value: the settings of a stored run name every field.
        if self.ngrams == 1 and self.buckets != type(self).model_fields["buckets"].default:
            raise ValueError("`buckets` changes nothing without `ngrams`: leave it out")
        return self

    @model_validator(mode="after")
    def _reads_no_first_token(self) -> NetworkSettings:
        if self.head.reads_cls:
            raise ValueError(
                f"head {self.head.name} reads [CLS], which words do not have: take another, such as "
                "mean or attention"
            )
        return self

    @property
    def reads_pool(self) -> bool:
        return super().reads_pool or (self.vectors is not None and self.vectors.reads_pool)

    @property
    def input_files(self) -> dict[str, str]:
        of_vectors = self.vectors.files if self.vectors else {}
        return super().input_files | of_vectors | self.words.word_files(OF_WORDS)

    @property
    def packages(self) -> tuple[str, ...]:
        return self.words.packages

    def check_inputs(self, files: dict[str, Path]) -> None:
        super().check_inputs(files)
        self.words.check_words(files, OF_WORDS)
        if self.vectors is None:
            return
        self.vectors.check_package()
        if self.vectors.file is None:
            return
        found = vector_file(files["vectors.file"])
        found.check()
        if "size" in self.model_fields_set and self.size != found.size:
            raise InputError(
                f"size is {self.size}, but the vectors of {found.path} have {found.size} numbers: set "
                f"size to {found.size}"
            )
