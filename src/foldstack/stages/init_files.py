"""The files that `init` looks at: found, unpacked, and the form in which each is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from foldstack import metrics
from foldstack.errors import InputError, cut, some
from foldstack.files import csv_text
from foldstack.guess import Guess, guess
from foldstack.input_tables import FileFacts, folded, in_spelling_of, joined_columns, spelled
from foldstack.kinds import Kind
from foldstack.settings import CompetitionSettings, FileSettings, JoinSettings
from foldstack.tables import read, read_table, stem
from foldstack.tables.form import FIRST_SPACE, TableForm
from foldstack.tables.packed import data_files, extract
from foldstack.tables.sniff import Sniffed, has_header, has_long_cell, shares_names, sniff

ROLES = ("train", "test", "sample")
Said = tuple[str, Any, str]  # setting, value, reason


@contextmanager
def unpacked_archive(path: Path) -> Iterator[Path]:
    """Yield a temporary folder with the data files of a zip; messages name the zip instead of it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        try:
            extract(path, folder, wanted=_is_table)
            yield folder
        except InputError as e:
            named = InputError(str(e).replace(str(folder), str(path)))
            named.result = e.result
            raise named from None


def _is_table(name: str) -> bool:
    """Return whether a member of a zip may be one of the files: any table, or a text file of a role."""
    found = stem(name)
    is_text = name.lower().endswith(".txt")
    return found is not None and (not is_text or found.lower() in ("train", "test"))


def archive_of(folder: Path, train: str | Path | None) -> Path | None:
    """Return the zip that holds all files: the one given as train, or the only one in the folder."""
    if train:
        paths = [path for path in (Path(train), folder / train) if path.is_file()][:1]
    else:
        paths = sorted(folder.glob("*.[zZ][iI][pP]"))
        if any((stem(path.name) or "").lower() == "train" for path in folder.glob("*")):
            paths = []
    zips = [path for path in paths if path.suffix.lower() == ".zip" and len(data_files(path)) > 1]
    return zips[0] if len(zips) == 1 else None


@dataclass
class InputFiles:
    """The files of a competition before anything is written.

    Attributes:
        sources: by role.
        encoding: of all.
        join: second files, joined by a key.
        settings: of competition.yaml that say how they are written.
        said: these settings with reasons.
        notes: sentences on what else was found.
        facts: on each file as it was read.
        tables: by role.
    """

    sources: dict[str, Path]
    encoding: str
    join: list[Path] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    said: list[Said] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: list[FileFacts] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    @classmethod
    def of(cls, sources: dict[str, Path], encoding: str, join: list[Path]) -> InputFiles:
        """Find out how files are written and read them. Raises InputError as `tables.read` does."""
        found = cls(sources, encoding, join)
        sniffed = {path: sniff(path, encoding) for path in (*sources.values(), *join)}
        found._delimiters(sniffed)
        found._quoting(sniffed)
        found._headers({role: sniffed[path] for role, path in sources.items()})
        for role, path in sources.items():
            one = read(path, found.form(path), decides=role == "train")
            found.facts.append(FileFacts(path, len(one.table), one.lines, one.embedded))
            found.tables[role] = one.table
        found._name_ids()
        found._match_names()
        found._join()
        return found

    def set(self, setting: str, value: Any, reason: str) -> None:
        self.settings[setting] = value
        self.said.append((setting, value, reason))

    def form(self, path: Path) -> TableForm:
        """Return the form of a file, as `CompetitionSettings.form_of` will."""
        delimiter, header = self.settings.get("delimiter"), self.settings.get("header", {})
        return TableForm(
            self.encoding,
            delimiter.get(path.name) if isinstance(delimiter, dict) else delimiter,
            self.settings.get("quoting", "auto"),
            header.get(path.name, True),
            self.settings.get("columns", {}).get(path.name, {}),
        )

    def _delimiters(self, sniffed: dict[Path, Sniffed]) -> None:
        delimited = {path.name: each for path, each in sniffed.items() if each.delimiter}
        odd = {name: each for name, each in delimited.items() if each.delimiter != each.usual}
        if not odd:
            return
        signs = {each.delimiter for each in delimited.values()}
        why = f"each line of {some(list(odd))} has equally many"
        if any(each.delimiter == FIRST_SPACE for each in odd.values()):
            why = f"each line of {some(list(odd))} is labels, a space, the text"
        if len(signs) == 1 and len(delimited) == len(sniffed) and FIRST_SPACE not in signs:
            self.set("delimiter", signs.pop(), why)
        else:
            self.set("delimiter", {name: each.delimiter for name, each in odd.items()}, why)

    def _quoting(self, sniffed: dict[Path, Sniffed]) -> None:
        open_ = [path.name for path, each in sniffed.items() if each.quoting == "none"]
        others = [each for each in sniffed.values() if each.delimiter and each.quoting != "none"]
        if not open_:
            return
        why = f"{some(open_)} has a field that opens with a quote and does not close it on its line"
        if any(each.delimiter != "\t" and each.quoted for each in others):
            self.said.append(("quoting", "auto", f"{why}: there, quotes are text"))
        else:
            self.set("quoting", "none", f"{why}: quotes are text")

    def _headers(self, sniffed: dict[str, Sniffed]) -> None:
        """Find files without a header; the sample has one."""
        rows = {role: each.rows for role, each in sniffed.items() if each.rows}
        headless = [role for role in ("train", "test") if role in rows and _is_headless(role, rows)]
        for one, other in (("train", "test"), ("test", "train")):
            # The files of a competition are alike; a long text names no column.
            alike = other in rows and has_long_cell(rows[other]) and not shares_names(other, rows)
            if one in headless and other not in headless and alike:
                headless.append(other)
        if headless:
            names = [self.sources[role].name for role in headless]
            self.set(
                "header",
                dict.fromkeys(names, False),
                f"the first line of {some(names)} looks like data: its columns are c1, c2, …, unless "
                "`columns` names them",
            )

    # Names of columns

    def rename(self, role: str, old: str, new: str) -> None:
        """Give a column another name, also in the settings."""
        columns = self.settings.setdefault("columns", {})
        columns.setdefault(self.sources[role].name, {})[old] = new
        self.tables[role] = self.tables[role].rename(columns={old: new})

    def _name_ids(self) -> None:
        """Find the sample's ids in a column of the test file that has another name."""
        train, test, sample = (self.tables.get(role) for role in ROLES)
        if sample is None or _common(sample, test):
            return
        for wanted in sample.columns:
            for column in test.columns:
                ids = in_spelling_of(sample[wanted], test[column])
                if test[column].is_unique and set(ids) == set(sample[wanted]):
                    self.rename("test", column, wanted)
                    if column in train.columns and train[column].is_unique:
                        self.rename("train", column, wanted)
                    self._name_target(column, wanted)
                    why = f"column '{cut(column)}' of test holds the sample's '{cut(wanted)}'"
                    self.said.append(("columns", self.settings["columns"], why))
                    return

    def _name_target(self, of_ids: str, id_: str) -> None:
        """Name the only further column of a file without header as the sample does."""
        train, test, sample = (self.tables[role] for role in ROLES)
        left = [c for c in train.columns if c not in test.columns]
        wanted = [c for c in sample.columns if c != id_]
        headless = self.sources["train"].name in self.settings.get("header", {})
        if headless and len(left) == 1 and len(wanted) == 1:
            self.rename("train", left[0], wanted[0])

    def _match_names(self) -> None:
        """Spell columns as the sample and the test file do, where only case or spaces differ."""
        sample = self.tables.get("sample", pd.DataFrame())
        for role, known in (("test", sample.columns), ("train", [*sample.columns])):
            names = [*known, *(self.tables["test"].columns if role == "train" else [])]
            table = spelled(self.tables[role], names)
            for old, new in zip(self.tables[role].columns, table.columns, strict=True):
                if old != new:
                    name = self.sources[role].name
                    self.notes.append(f"column '{cut(old)}' of {name} is read as '{cut(new)}'")
            self.tables[role] = table

    # Second files

    def _join(self) -> None:
        if not self.join:
            return
        second = {path: read_table(path, self.form(path)) for path in self.join}
        on = self._key(list(second.values()))
        if on is None:
            named = ",".join(path.name for path in self.join)
            raise InputError(
                f"JOIN={named}: no column of it has other values in each row and stands in train and "
                "test, too: give the file with the key, or name its column alike"
            )
        for path, table in second.items():
            for column in table.columns:
                if column != on and column in self.tables["train"].columns:
                    columns = self.settings.setdefault("columns", {})
                    columns.setdefault(path.name, {})[column] = f"{stem(path.name)}_{column}"
        names = tuple(path.name for path in self.join)
        joined = [read_table(path, self.form(path)) for path in self.join]
        rows = pd.concat(joined).fillna("").drop_duplicates()
        for role in ("train", "test"):
            settings, table = JoinSettings(file=names, on=on), self.tables[role]
            self.tables[role] = joined_columns(
                self.sources[role], table, settings, rows.set_index(on)
            )
        value = {"file": list(names) if len(names) > 1 else names[0], "on": on}
        self.set(
            "join", [value], f"'{on}' stands in train and test and differs in each of its rows"
        )

    def _key(self, second: list[pd.DataFrame]) -> str | None:
        """Return the column by which these tables can be joined to train and test."""
        train, test = self.tables["train"], self.tables["test"]
        rows = pd.concat(second).fillna("").drop_duplicates()
        for column in rows.columns:
            if column in train and column in test and rows[column].is_unique:
                keys = set(rows[column])
                if keys.issuperset(train[column]) and keys.issuperset(test[column]):
                    return column
        return None

    def propose_joins(self, folder: Path) -> None:
        """Note further tables of the folder that share a key with train and test."""
        taken = {path.name for path in (*self.sources.values(), *self.join)}
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in paths:
            if path.is_file() and path.name not in taken and stem(path.name):
                try:
                    on = self._key(
                        [read_table(path, sniff(path, self.encoding).form(self.encoding))]
                    )
                except InputError:  # it is not for init to check
                    continue
                if on is not None and len(self.tables["train"].columns) > 1:
                    self.notes.append(
                        f"{path.name} has a row for each '{cut(on)}' of train and test: "
                        f"JOIN={path.name} joins its columns"
                    )

    def where_found(self, settings: CompetitionSettings) -> CompetitionSettings:
        """Return the settings with the files named where they are, before they are copied."""
        files = {role: str(path.resolve()) for role, path in self.sources.items()}
        names = tuple(str(path.resolve()) for path in self.join)
        joins = tuple(each.model_copy(update={"file": names}) for each in settings.join)
        return settings.model_copy(update={"files": FileSettings(**files), "join": joins})

    def make_sample(self, overrides: Mapping[str, str | None], folder: Path) -> None:
        """Make a sample in a folder: the ids of test, and probabilities of each class or label."""
        train, test = self.tables["train"], self.tables["test"]
        id_ = id_of(test, overrides.get("id"))
        target = targets_of(train, test, id_, overrides.get("target"))
        plain = plain_sample(test, id_, {name: train[name].iloc[0] for name in target})
        found = guess(train, test, plain, overrides)
        sample = plain if _of_labels(overrides, found) else plain_sample(test, id_, _values(found))
        self.tables["sample"] = sample
        delimiter = self.settings.get("delimiter")
        self.sources["sample"] = folder / MADE_SAMPLE  # not found as a sample by a later init
        text = csv_text(sample, sep=delimiter if isinstance(delimiter, str) else ",")
        self.sources["sample"].write_bytes(text.encode(self.encoding))
        self.notes.append(
            f"there is no sample submission: one is made from the ids of test, columns "
            f"{some(list(sample.columns))}"
        )

    def without_repeated(self, given: str | None) -> pd.DataFrame:
        """Return the sample without the columns that it repeats from the test file, but for its id."""
        test, sample = self.tables["test"], self.tables["sample"]
        both = [c for c in sample.columns if c in test.columns]
        ids = [given] if given in both else [c for c in both if test[c].is_unique][:1]
        repeated = [c for c in both if c not in ids]
        if not repeated or len(both) == len(sample.columns):
            return sample
        self.notes.append(
            f"the sample repeats {some(repeated)} of the test file: copied as they are"
        )
        return sample.drop(columns=repeated)


def _is_headless(role: str, rows: dict[str, list[list[str]]]) -> bool:
    """Return whether the first row of a file is data: an id of the sample, or as the rows below."""
    ids = {row[0] for row in rows.get("sample", [])[1:]}
    if shares_names(role, rows):
        return False
    return bool(ids & set(rows[role][0])) or not has_header(rows[role])


def _common(sample: pd.DataFrame, test: pd.DataFrame) -> bool:
    """Return whether a column of the sample, in any case, tells the rows of test apart."""
    names = {folded(c) for c in sample.columns}
    return any(test[c].is_unique for c in test.columns if folded(c) in names)


# A sample that is not there

MADE_SAMPLE = "made_sample.csv"
ID = re.compile(r".*(^|[_ .-]|(?<=[a-z]))(id|idx|key)", re.IGNORECASE)
NO_TARGET = re.compile(r"(sample|row)?_?weights?|group|fold|index|unnamed: \d+|", re.IGNORECASE)


def id_of(test: pd.DataFrame, given: str | None) -> str:
    """Return the column of ids, which a sample would name."""
    unique = [c for c in test.columns if test[c].is_unique and (test[c] != "").all()]
    named = [c for c in unique if ID.fullmatch(c)]
    short = [c for c in unique if not test[c].str.contains(" ").any()]
    if given in test.columns:
        return given
    if not named and not short:
        raise InputError(
            "there is no sample submission, and test has no column of ids to make one from: name it "
            "with ID=, or give SAMPLE="
        )
    return (named or short)[0]


def targets_of(train: pd.DataFrame, test: pd.DataFrame, id_: str, given: str | None) -> list[str]:
    """Return the columns of labels, which a sample would name."""
    if given:
        return [given] if given in train.columns else [c.strip() for c in given.split(",")]
    left = [
        c
        for c in train.columns
        if c not in test.columns and c != id_ and not NO_TARGET.fullmatch(c)
    ]
    flags = [c for c in left if set(train[c].unique()) <= {"0", "1"}]
    if len(left) == 1 or (left and len(flags) == len(left)):
        return left
    found = (
        f"several columns of train could be the target, {some(left)}" if left else "test has all"
    )
    raise InputError(
        f"there is no sample submission, and {found}: name the target with TARGET=, or give SAMPLE="
    )


def plain_sample(test: pd.DataFrame, id_: str, values: dict[str, str]) -> pd.DataFrame:
    """Return a sample with these columns, each of one value."""
    cells = {name: np.full(len(test), value, dtype=object) for name, value in values.items()}
    return pd.DataFrame({id_: test[id_].to_numpy(dtype=object)} | cells)


def _of_labels(overrides: Mapping[str, str | None], found: Guess) -> bool:
    """Return whether the metric given scores labels, which are then submitted."""
    name = overrides.get("metric")
    return bool(name) and ".py" not in name and metrics.get(name, found.kind).wants == "labels"


def _values(found: Guess) -> dict[str, str]:
    """Return the sample's columns: a probability for each class or label, or values."""
    kind, target = found.kind, found.settings["target"]
    if kind is Kind.REGRESSION:
        return dict.fromkeys(target, "0")
    names = target if len(target) > 1 or kind.has_positive_class else found.settings["labels"]
    equal = f"{1 / len(names):.8g}" if kind.one_class_per_row and len(names) > 1 else "0.5"
    return dict.fromkeys(names, equal)
