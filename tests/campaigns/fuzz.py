"""Campaign: valid inputs with some bytes changed, under four commands, counted in a table. On Linux.

    python tests/campaigns/fuzz.py [--rounds N] [--seed S] [--keep DIR]

Each round changes one file of a small workspace: a table in one of six formats, competition.yaml, a
preset, rules, folds, or a --set list. Bytes are flipped, removed, inserted, repeated, replaced by a
piece of another file, or by a string that is known to be nasty; of packed files also those of the
table inside. Then the commands that read the file are given: `init` in a folder with the tables alone;
`folds`, `train --fold 0` and `predict` in the whole workspace, in which they have worked before. Each
may work, or end with one sentence and code 2, and then each file that was there has its bytes. Whatever
led to anything else is kept, with what was said.

A command is a fork of this process, so that neither a crash nor a hang ends the campaign.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

# What the commands import.
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import sklearn.linear_model  # noqa: F401

import foldstack.learners.tfidf
import foldstack.stages.init
import foldstack.stages.predict
import foldstack.stages.train  # noqa: F401
from campaigns.child import in_child
from foldstack.cli import main as command_line
from tiny import files, sentences, write, write_competition

SLOW_SECONDS, LIMIT_SECONDS = 10, 60
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".csv.zip")
ROLES = ("train", "test", "sample_submission")
NEW = "new"  # the file that `predict` is given
SETS = "sets"
SET_LIST = "folds.seed=1 blend.methods=[mean] models=[own, tfidf] word_ngrams=[1, 1]"
PRESET = "preset: tfidf\nword_ngrams: [1, 2]\nchar_ngrams: [2, 3]\n"
RULES = """\
mode: beside
overrule_below: 0.05
rules:
  - {pattern: '(?i)\\bfine\\b|gr\\w+', label: '1', confidence: 0.95}
  - {text: a dull film, label: '0'}
  - {texts: cached.csv}
nearest: {below: 0.6, similarity: 0.8, confidence: 0.95}
"""
NASTY = (
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\r", b"\r\n", b"\n\n", b'"'),
    *(b'""', b"'", b",", b"\t", b";", b"\\", b"NA", b"nan", b"null", b"-1", b"0", b"1e400", b"inf"),
    *(b"9" * 30, b"9" * 5000, b"0x1F", b"007", b"1_0", b"True", b"{}", b"[]", b"[" * 3000, b"{{}}"),
    *(
        b"&a [*a]",
        b"*a",
        b"<<: *a",
        b"!!python/name:os.system",
        b"!!binary x",
        b"? [",
        b"%",
        b"---",
    ),
    *(b": ", b"- ", b"#", b"|", b"\\ud800", b'"\\u0000"', b"../x", b"/", b"n" * 300, b"(a+)+$"),
    *(b"(", b"(?<x>", b"\xe2\x80\xae", b"\xc2\xa0", b"\xe2\x80\xa8", b"id", b"label", b"text"),
    *(b"2024-02-30", b"1.0", b"\x1a", b"\x1b[2J", b"=1+1", b"\xf0\x9f\x98\x80", b"e\xcc\x81"),
)


# Valid inputs


def table_bytes(table: pd.DataFrame, suffix: str) -> bytes:
    """The table in one of the formats; of Parquet plainly, so that a changed byte is one of a value."""
    if suffix == ".parquet":
        sink = io.BytesIO()
        plain = {"compression": "none", "use_dictionary": False}
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), sink, **plain)
        return sink.getvalue()
    if suffix == ".jsonl":
        return table.to_json(orient="records", lines=True).encode()
    sign = "\t" if suffix == ".tsv" else ","
    return packed(table.to_csv(index=False, sep=sign, lineterminator="\n").encode(), suffix)


def packed(data: bytes, suffix: str) -> bytes:
    if suffix.endswith(".gz"):
        return gzip.compress(data, mtime=0)
    if suffix.endswith(".zip"):
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.csv", data)
        return sink.getvalue()
    return data


def tables() -> dict[str, pd.DataFrame]:
    rows = [(f"r{i}", text, i % 5, label) for i, (text, label) in enumerate(sentences(30))]
    whole = pd.DataFrame(rows, columns=["id", "text", "size", "label"])
    train, test = whole[:24], whole[24:].drop(columns="label")
    sample = test[["id"]].assign(label=0)
    return {"train": train, "test": test, "sample_submission": sample, NEW: test.head(3)}


def make_inputs(root: Path, suffix: str) -> Path:
    """A workspace in one format, with `init`'s three tables, and what a user may write beside them."""
    for name, table in tables().items():
        path = root / (f"{NEW}{suffix}" if name == NEW else f"input/{name}{suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(table_bytes(table, suffix))
    folds = "id,fold\n" + "".join(f"r{i},{i // 2 % 3}\n" for i in range(24))
    write(root / "input/given.csv", folds)
    write(root / "input/cached.csv", "text,label\na great song,1\nan awful song,0\n")
    names = zip(("train", "test", "sample"), ROLES, strict=True)
    write_competition(
        root,
        files={role: f"{name}{suffix}" for role, name in names},
        text=["text"],
        numeric=["size"],
        models=["own", {"tfidf": {"char_ngrams": [0, 0]}}],
        folds={"file": "given.csv"} if suffix == ".tsv" else {"count": 3, "near": 0.8},
        patterns="patterns.yaml",
    )
    write(root / "presets/own.yaml", PRESET)
    write(root / "patterns.yaml", RULES)
    write(root / SETS, SET_LIST)
    return root


def prepare(folder: Path) -> None:
    """The workspaces, one per format, in which each command has worked."""
    for suffix in FORMATS:
        root = make_inputs(folder / f"whole{suffix}", suffix)
        init, folds, train, predict = commands(root, suffix).values()
        for args in (init, folds, train, [*train[:-1], "1"], [*train[:-1], "2"], predict):
            assert command_line(args) == 0, args


def targets(root: Path, suffix: str) -> list[str]:
    """The files that may be changed, those with more to read in them more often."""
    of_tables = [f"input/{name}{suffix}" for name in ROLES] + [f"{NEW}{suffix}"]
    own = ["competition.yaml", "presets/own.yaml", "patterns.yaml", "folds/folds.csv", SETS]
    return [
        *of_tables,
        *of_tables,
        *own,
        *own,
        "folds/folds.json",
        "input/given.csv",
        "input/cached.csv",
    ]


def commands(root: Path, suffix: str, sets: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """The four commands; `init` works on copies in `given`, where there is no competition.yaml."""
    given = root / "given"
    shutil.rmtree(given, ignore_errors=True)
    (given / "input").mkdir(parents=True)
    for name in ROLES:
        shutil.copy(root / f"input/{name}{suffix}", given / "input")
    work = ["--workspace", str(root), *sets]
    return {
        "init": ["--workspace", str(given), "init"],
        "folds": [*work, "folds", "--force"],
        "train": [*work, "train", "--force", "--model", "own", "--fold", "0"],
        "predict": [*work, "predict", "--model", "own", "--file", str(root / f"{NEW}{suffix}")],
    }


def reading(name: str) -> tuple[str, ...]:
    """The commands that read a file; `folds` would write over the changed folds."""
    if name.startswith(NEW):
        return ("predict",)
    if name.startswith("folds/"):
        return ("train", "predict")
    of_tables = name.removeprefix("input/").startswith(ROLES)
    return (*(("init",) if of_tables else ()), "folds", "train", "predict")


# Changes


def flipped(rng: random.Random, data: bytes, _: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def removed(rng: random.Random, data: bytes, _: bytes) -> bytes:
    begin, end = piece(rng, data)
    return data[:begin] + data[end:]


def cut_short(rng: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def inserted(rng: random.Random, data: bytes, _: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at:]


def repeated(rng: random.Random, data: bytes, _: bytes) -> bytes:
    begin, end = piece(rng, data)
    return data[:end] + data[begin:end] * rng.choice((1, 1, 3)) + data[end:]


def spliced(rng: random.Random, data: bytes, other: bytes) -> bytes:
    (begin, end), (first, last) = piece(rng, data), piece(rng, other)
    return data[:begin] + other[first:last] + data[end:]


def nasty(rng: random.Random, data: bytes, _: bytes) -> bytes:
    begin, end = piece(rng, data)
    if rng.random() < 0.5:  # between two characters, else instead of some
        end = begin
    return data[:begin] + rng.choice(NASTY) + data[end:]


def nasty_value(rng: random.Random, data: bytes, _: bytes) -> bytes:
    """A whole cell, or the value of a setting, is another."""
    ends = [at for at, byte in enumerate(data) if byte in b",\t\n:[]{} "]
    if len(ends) < 2:
        return nasty(rng, data, b"")
    at = rng.randrange(len(ends) - 1)
    return data[: ends[at] + 1] + rng.choice(NASTY) + data[ends[at + 1] :]


CHANGES = (
    *(flipped, removed, cut_short, inserted, repeated, spliced, nasty),
    *(nasty_value, nasty_value, nasty_value),
)


def piece(rng: random.Random, data: bytes) -> tuple[int, int]:
    """A few bytes, or some lines."""
    if rng.random() < 0.5:
        lines = [0, *(at + 1 for at, byte in enumerate(data) if byte == ord("\n")), len(data)]
        begin, end = sorted(rng.choices(lines, k=2))
        return begin, end
    begin = rng.randrange(len(data) + 1)
    return begin, min(begin + rng.randint(1, 12), len(data))


def change(rng: random.Random, data: bytes, other: bytes) -> tuple[bytes, list[str]]:
    """One to three changes, of which the result differs from the data; and their names."""
    changed, done = data, []
    while changed == data or rng.random() < 0.3:
        how = rng.choice(CHANGES)
        changed = how(rng, changed or data, other or data)
        done.append(how.__name__)
    return changed, done


def change_file(rng: random.Random, root: Path, suffix: str) -> tuple[str, list[str]]:
    """Change one file of the workspace; returns its name and how."""
    name = rng.choice(targets(root, suffix))
    other = (root / rng.choice(targets(root, suffix))).read_bytes()
    path = root / name
    packing = suffix in (".csv.gz", ".csv.zip") and name.endswith(suffix)
    if packing and rng.random() < 0.5:
        plain = table_bytes(tables()[Path(name).name.removesuffix(suffix)], ".csv")
        data, done = change(rng, plain, other)
        path.write_bytes(packed(data, suffix))
        return name, ["inside", *done]
    data, done = change(rng, path.read_bytes(), other)
    path.write_bytes(data)
    return name, done


# One round


def given_sets(root: Path, name: str) -> tuple[str, ...]:
    """--set with the changed list, if it is the one that was changed; arguments cannot hold NUL."""
    text = os.fsdecode((root / SETS).read_bytes().replace(b"\0", b""))
    return ("--set", text) if name == SETS else ()


def kept(root: Path) -> dict[str, bytes]:
    """What no refused command may change."""
    found = files(root)
    return {k: v for k, v in found.items() if not k.startswith("given/") and "/." not in k}


def outcome(code: int | None, error: str, seconds: float, lost: list[str]) -> str:
    if "Traceback" in error:
        return "traceback"
    if seconds > SLOW_SECONDS:
        return "slow"
    if code is None:
        return "crash"
    if lost:
        return "lost"
    if code == 0:
        return "worked"
    lines = error.splitlines()
    one = len(lines) == 1 and lines[0].startswith("foldstack: ")
    return "sentence" if code == 2 and one else "other"


def run(args: list[str]) -> tuple[int | None, str, float]:
    """The command in a fork: its exit code (None: a signal killed it), errors, seconds."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as error:
        pid = os.fork()
        if pid == 0:
            signal.alarm(LIMIT_SECONDS)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(error.fileno(), 2)
            try:
                code = command_line(args)
            except BaseException:
                os.write(2, traceback.format_exc().encode(errors="replace"))
                code = 1
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        error.seek(0)
        said = error.read().decode(errors="replace")
    seconds = time.monotonic() - begin
    return (code if code >= 0 else None), said + ("" if code >= 0 else f"signal {-code}"), seconds


def round_of(rng: random.Random, folder: Path, keep: Path, number: int, counts: dict) -> None:
    suffix = rng.choice(FORMATS)
    root = folder / "w"
    shutil.copytree(folder / f"whole{suffix}", root)
    name, done = change_file(rng, root, suffix)
    given = commands(root, suffix, given_sets(root, name))
    for command in reading(name):
        args = given[command]
        before = kept(root)
        code, error, seconds = run(args)
        after = kept(root)
        lost = [k for k in before if code and after.get(k) != before[k]]
        end = outcome(code, error, seconds, lost)
        counts[command][end] += 1
        if end not in ("worked", "sentence"):
            place = keep / f"{number}-{command}"
            place.mkdir(parents=True)
            shutil.copy(root / name, place)
            what = f"{name}, {' + '.join(done)}, {suffix}: {end}, code {code}, {seconds:.1f} s"
            write(place / "said.txt", f"{what}\n{args}\nlost: {lost}\n{error}")
            last = (error.strip().splitlines() or [""])[-1]
            print(f"round {number}, {command}: {what}: {last[:200]}", flush=True)
    shutil.rmtree(root)


ENDS = ("worked", "sentence", "traceback", "crash", "slow", "lost", "other")


def show(counts: dict[str, Counter[str]]) -> None:
    """slow: also what the limit has ended; crash: by a signal; lost: a refused command changed files."""
    print(f"\n{'':10}", *(f"{end:>9}" for end in ENDS))
    for name, row in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        print(f"{name:10}", *(f"{row[end]:9}" for end in ENDS))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", type=Path, help="a folder for what was found (default: a new one)"
    )
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path[:2])}
    keep = options.keep or Path(tempfile.mkdtemp(prefix="foldstack-fuzz-"))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory(prefix="foldstack-campaign-") as name:
        folder = Path(name).resolve()
        in_child(prepare, folder)
        for number in range(options.rounds):
            rng = random.Random(f"{options.seed} {number}")  # so that a round can be repeated alone
            round_of(rng, folder, keep, number, counts)
    show(counts)
    found = any(set(row) - {"worked", "sentence"} for row in counts.values())
    if found:
        print(f"what was found is in {keep}")
    elif not options.keep:
        keep.rmdir()
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
