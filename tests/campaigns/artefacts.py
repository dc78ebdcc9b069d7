"""Damage to what stages have made: every file of a workspace, in every way, under every command.

    python tests/campaigns/artefacts.py [--all]

It counts how commands end: five of them for each damaged file, with --all every one that reads any.
The fast test (test_artefacts.py) takes a part of it.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from tiny import files, foldstack, go_through, sentences, write, write_competition

FEW = ("train --fold 1", "blend", "submit", "scores", "predict --file FILE")
COMMANDS = (
    "folds",
    "train --fold 1",
    "blend",
    "compare --a tfidf --b other",
    "submit",
    "submit --model tfidf",
    "submit --model tfidf --fold full",
    "report",
    "views",
    "scores",
    "score",
    "predict --file FILE",
    "predict --text good --model tfidf",
)


def middle(data: bytes) -> bytes:
    """One byte in the middle is another."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "removed": lambda data: None,
    "emptied": lambda data: b"",
    "cut short": lambda data: data[: len(data) * 2 // 3],
    "a bit turned": middle,
    "zeros": lambda data: bytes(len(data)),
    "JSON []": lambda data: b"[]",
    "JSON {}": lambda data: b"{}",
    "JSON null": lambda data: b"null",
    "JSON of another form": lambda data: b'{"identity": 3, "nested": [], "members": {"a": 1}}',
    "CSV": lambda data: b"id,text\n1,a\n",
}


def make_finished(root: Path) -> Path:
    """A workspace of a linear model, all that commands make of it, and a stack as the blend's winner."""
    # A feature predicts the labels and no text does, so that the stack wins.
    rows = [
        (f"r{i}", text, i % 7 + 10 * (i // 3 % 2), i // 3 % 2)
        for i, (text, _) in enumerate(sentences(126))
    ]
    train = "".join(f"{i},{t},{size},{label}\n" for i, t, size, label in rows[:120])
    test = "".join(f"{i},{t},{size}\n" for i, t, size, _ in rows[120:])
    write(root / "input/train.csv", "id,text,size,label\n" + train)
    write(root / "input/test.csv", "id,text,size\n" + test)
    sample = "".join(f"{i},0\n" for i, *_ in rows[120:])
    solution = "".join(f"{i},{label}\n" for i, _, _, label in rows[120:])
    write(root / "input/sample_submission.csv", "id,label\n" + sample)
    write(root / "input/private/solution.csv", "id,label\n" + solution)
    settings = {"blend": {"methods": ["stack"]}, "models": ["tfidf", "other"], "numeric": ["size"]}
    write_competition(root, **settings)
    write(root / "presets/other.yaml", "preset: tfidf\nchar_ngrams: [0, 0]\n")
    go_through(root, "folds", "train", "blend", "submit")
    for command in ("train --model tfidf --fold full", "submit --model tfidf", "views"):
        assert foldstack(root, *command.split()) == 0
    new = write(root / "new.csv", "text,size\n" + "".join(f"{t},1\n" for t, _ in sentences(3)))
    assert foldstack(root, "predict", "--file", str(new)) == 0
    return root


def made(root: Path) -> list[str]:
    """The files that stages have made, and read again."""
    shown_only = ("report.csv", "views.csv", "labels.csv", "reliability.csv")
    return [
        name
        for name in files(root)
        if name.split("/")[0] in ("folds", "oof", "submissions", "predictions")
        and not name.endswith(shown_only)
    ]


def arguments(root: Path, command: str) -> list[str]:
    return command.replace("FILE", str(root / "new.csv")).split()


def end_of(root: Path, command: str) -> str:
    """How a command ends: 'ok', 'sentence', or what was wrong."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = foldstack(root, *arguments(root, command))
    except BaseException:
        return "traceback: " + traceback.format_exc().splitlines()[-1]
    last = out.getvalue().splitlines()[-1:]
    if code == 0:
        return "ok"
    one = code == 2 and last and last[0].startswith("foldstack: ")
    return "sentence" if one else f"code {code}: {last}"


def damage(root: Path, name: str, kind: str) -> bool:
    """Damage a file; whether that changed anything."""
    path = root / name
    before = path.read_bytes()
    after = DAMAGES[kind](before)
    if after is None:
        path.unlink()
    else:
        path.write_bytes(after)
    return after != before


def campaign(commands: tuple[str, ...]) -> int:
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = make_finished(Path(folder) / "w")
        names = made(root)
        for name in names:
            for kind in DAMAGES:
                copy = shutil.copytree(root, Path(folder) / "copy")
                if damage(copy, name, kind):
                    for command in commands:
                        end = end_of(copy, command)
                        counts[end.partition(":")[0]] += 1
                        if end not in ("ok", "sentence"):
                            print(f"{name}, {kind}, {command}: {end}")
                shutil.rmtree(copy)
    shown = ", ".join(f"{end} {n}" for end, n in sorted(counts.items()))
    print(f"{len(names)} files in {len(DAMAGES)} ways, {len(commands)} commands each: {shown}")
    return int(set(counts) - {"ok", "sentence"} != set())


if __name__ == "__main__":
    sys.exit(campaign(COMMANDS if "--all" in sys.argv else FEW))
