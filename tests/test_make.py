"""What is given to make reaches Python byte for byte, by a stub in Python's place that prints it."""

from __future__ import annotations

import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from foldstack import config
from foldstack.cli import parser
from foldstack.commands import COMMANDS, GENERAL, JSON, Command
from foldstack.workspace import Workspace
from tiny import foldstack, make_kind, refuses, write, write_competition

ROOT = Path(__file__).parents[1]
STUB = f"""#!{sys.executable} -IS
import json, os, shutil, sys
print(json.dumps(sys.argv[1:]))
if sys.argv[1:3] == ["-m", "venv"]:
    os.makedirs(sys.argv[3] + "/bin")
    shutil.copy(__file__, sys.argv[3] + "/bin/python")
"""
# What make or a shell would expand, end at, or split.
VALUES = [
    "$5",
    "$(shell touch x)",
    "x $(",
    'a"b',
    "a'b",
    "`touch x`",
    "$$HOME",
    "${HOME}",
    "a b",
    "a#b",
    "a\\b",
    "50%",
    "a,b) *",
    "-j5",
    "a\nb",
]
# What the table of commands says: the variables that a target takes, and those only on or off.
TABLE = {name: command for name, command in COMMANDS.items() if not command.choice}
OPTIONS = {
    name: [option.variable for option in command.options if not option.switch]
    for name, command in TABLE.items()
}
SWITCHES = {
    name: [o.variable for o in (*command.options, *[JSON] * command.as_json) if o.switch]
    for name, command in TABLE.items()
}
EVERYWHERE = [option.variable for option in GENERAL]

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or not (ROOT / "Makefile").exists(), reason="make is not here"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the Makefile and the stub, `py`."""
    for file in [ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("*.txt")]:
        shutil.copy(file, tmp_path / file.name)
    write(tmp_path / "py", STUB).chmod(0o755)
    return tmp_path


def make(place: Path, *args: str, **environment: str) -> list[list[str]]:
    """The arguments of each call of the stub. A make that runs the tests gives this one nothing."""
    env = {k: v for k, v in os.environ.items() if not re.match("MAKE|MFLAGS|FOLDSTACK_", k)}
    done = subprocess.run(
        ["make", *args], cwd=place, env=env | environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def wanted(target: str, value: str) -> list[str]:
    general = [f"--workspace={value}", f"--set={value}", "--debug", target]
    options = [f"--{name.lower().replace('_', '-')}={value}" for name in OPTIONS[target]]
    return general + options + [f"--{name.lower()}" for name in SWITCHES[target]]


def names() -> list[str]:
    """All that targets take, PY and PYTHON apart."""
    of_targets = [
        name for listed in (OPTIONS, SWITCHES) for names in listed.values() for name in names
    ]
    return sorted({*of_targets, *EVERYWHERE})


@pytest.mark.parametrize("by", ["argument", "environment"])
@pytest.mark.parametrize("value", VALUES)
def test_values_reach_python_as_they_are(place: Path, value: str, by: str) -> None:
    """`TEXT='I paid $5'` predicted "I paid ", and TARGET='a`id`b' ran id."""
    before = sorted(place.iterdir())
    given = dict.fromkeys(names(), value) | {"PY": "./py"}
    if by == "argument":
        calls = make(place, *OPTIONS, *(f"{k}={v}" for k, v in given.items()))
    else:
        calls = make(place, *OPTIONS, **given)
    assert [call[:2] for call in calls] == [["-m", "foldstack"]] * len(OPTIONS)
    for target, call in zip(OPTIONS, calls, strict=True):
        assert call[2:6] == wanted(target, value)[:4]
        assert sorted(call[6:]) == sorted(wanted(target, value)[4:])
    assert sorted(place.iterdir()) == before


def test_a_switch_of_0_is_off(place: Path) -> None:
    """`DEBUG=0` switched the 200 rows on."""
    general = {"PY": "./py", "DEBUG": "0", "FORCE": "0"}
    assert make(place, "folds", **general) == [["-m", "foldstack", "folds"]]
    (call,) = make(place, "folds", "PY=./py", "DEBUG=1", "FORCE=0")
    assert call == ["-m", "foldstack", "--debug", "folds"]


@pytest.mark.parametrize("value", VALUES)
def test_python_may_be_anywhere(place: Path, value: str) -> None:
    """PY= runs the commands, PYTHON= makes the environment."""
    shutil.copy(place / "py", place / value)
    before = sorted(place.iterdir())
    assert make(place, "scores", f"PY=./{value}") == [["-m", "foldstack", "scores"]]
    assert make(place, "scores", PY=f"./{value}") == [["-m", "foldstack", "scores"]]
    _, venv, *installs = make(place, "venv", f"PYTHON=./{value}")
    assert venv == ["-m", "venv", ".venv"]
    assert [call[:3] for call in installs] == [["-m", "pip", "install"]]
    assert sorted(place.iterdir()) == sorted([*before, place / ".venv"])


@pytest.mark.parametrize("value", VALUES)
def test_arguments_of_the_benchmark_are_split_at_blanks_only(place: Path, value: str) -> None:
    (call,) = make(place, "bench", "PY=./py", f"ARGS=--rows {value}", f"SHORT={value}")
    assert call == ["tests/bench/speed.py", "--short", "--rows", *value.split()]
    assert not (place / "x").exists()


def test_a_locked_environment_is_a_new_one(place: Path) -> None:
    """An installed package is not checked against a hash. Torch has none; nothing else is resolved."""
    make(place, "venv", "PYTHON=./py")
    _, venv, *installs = make(place, "venv", "PYTHON=./py", "LOCKED=$(x")
    assert venv == ["-m", "venv", "--clear", ".venv"]
    quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    unisolated = "--no-build-isolation"
    assert installs == [
        [*quiet, "--no-deps", "--require-hashes", "--requirement", "lock-build.txt"],
        [*quiet, "--no-deps", unisolated, "--require-hashes", "--requirement", "lock.txt"],
        [*quiet, "--requirement", "lock-torch.txt"],
        [*quiet, "--no-deps", unisolated, "--editable", "."],
    ]
    assert make(place, "venv", "PYTHON=./py", "LOCKED=1") == []
    assert make(place, "venv", "PYTHON=./py") == []


def test_every_variable_is_one_of_these(place: Path) -> None:
    """One that is read in another way than by `opt` and `flag` would be expanded."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    given = re.search(r"^GIVEN := ((?:.*\\\n)*.*)", makefile, re.M).group(1).split()
    given = {name for name in given if name != "\\"}
    assert given == {*names(), "SHORT", "ARGS", "PY", "PYTHON", "LOCKED"}
    help_lines = re.findall(r"^#   .*|## .*", makefile, re.M)
    documented = {name for line in help_lines for name in re.findall(r"\b([A-Z][A-Z0-9_]*)=", line)}
    assert documented == given - {"PYTHON", "JSON"}
    assert [name for name in given if re.search(rf"\$[({{]{name}[)}}]", makefile)] == []


def test_an_unknown_variable_is_refused(place: Path) -> None:
    """`MODELS=tfidf` would otherwise train every model."""
    done = subprocess.run(
        ["make", "train", "PY=./py", "MODELS=tfidf"], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no target takes MODELS=: the settings are A ARGS ATTENTION B BACKBONE" in done.stderr


def test_distil_takes_no_model(place: Path) -> None:
    """Unless another target of the call does."""
    asked = ["make", "-C", place, "distil", "MODEL=x", "PY=./py"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        "distil takes no MODEL=: NAME= names the student, and the members of BLEND= teach it, which "
        "`make blend MODEL=` chooses." in done.stderr
    )
    assert "distil" in make(place, "blend", "distil", "MODEL=x", "PY=./py")[-1]


def test_every_command_has_its_target(place: Path) -> None:
    """And no target calls a command that the table does not have."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    called = re.findall(r"^(\S+):.*\n\t@\$\(RUN\) (\S+)", makefile, re.M)
    assert [target for target, command in called] == [command for _, command in called]
    of_choices = re.findall(r"^((?:clean-\S+ ?)+):.*\n\t@\$\(RUN\) clean ", makefile, re.M)
    chosen = [name.removeprefix("clean-") for name in " ".join(of_choices).split()]
    assert sorted(chosen) == sorted(COMMANDS["clean"].choice.choices)
    for what in chosen:
        assert make(place, f"clean-{what}", "PY=./py") == [["-m", "foldstack", "clean", what]]
    assert {command for _, command in called} == set(TABLE)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_stage_takes_what_its_command_gives(command: Command) -> None:
    stage = pkgutil.resolve_name(f"foldstack.stages.{command.stage}")
    given = parser().parse_args(
        [command.name, *(command.choice.choices[:1] if command.choice else [])]
    )
    first = [None] * (2 if command.choice or command.place == "folder and settings" else 1)
    if command.place == "nowhere":
        first = []
    inspect.signature(stage).bind(*first, **command.arguments(given))


def test_nothing_is_passed_where_nothing_is_given(place: Path) -> None:
    targets = list(OPTIONS)
    assert make(place, *targets, "PY=./py") == [["-m", "foldstack", t] for t in targets]


def test_jobs_are_those_of_make_or_as_given(place: Path) -> None:
    """`-j5` in another variable, which MAKEFLAGS would hold too, changes nothing."""
    for target in ("train", "compare"):
        ((*_, jobs),) = make(place, "-j4", target, "PY=./py")
        assert jobs == "--jobs=4"
        assert "--jobs=3" in make(place, "-j4", target, "PY=./py", "JOBS=3", "SET=-j5")[0]
    assert make(place, "train", "PY=./py", "DEBUG=-j5 x")[0][-1] == "train"


# SET


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("training.epochs=3 folds.count=10", ["training.epochs=3", "folds.count=10"]),
        ("blend.methods=[mean,greedy,stack]", ["blend.methods=[mean,greedy,stack]"]),
        ("blend.methods=[mean, greedy] a=1", ["blend.methods=[mean, greedy]", "a=1"]),
        ('a.b="x y" c=2', ['a.b="x y"', "c=2"]),
        ('prefix="query: " c=2', ['prefix="query: "', "c=2"]),
        ('prefix="x y=3 z" c=2', ['prefix="x y=3 z"', "c=2"]),
        ("prefix='it''s c=1' d=2", ["prefix='it''s c=1'", "d=2"]),
        ("loss={name: focal, b: 2} c=1", ["loss={name: focal, b: 2}", "c=1"]),
        ("prefix=costs $5 or $( more c=1", ["prefix=costs $5 or $( more", "c=1"]),
        ("a= b=2", ["a=", "b=2"]),
        (" a=1\n b=2 ", ["a=1", "b=2"]),
        ("3 a=1", ["3", "a=1"]),
    ],
)
def test_settings_are_split_once(text: str, settings: list[str]) -> None:
    """What a run's process is given again, one setting at a time, is not split further."""
    assert config.split_settings(text) == settings
    assert [part for one in settings for part in config.split_settings(one)] == settings


def test_quotes_keep_blanks_together() -> None:
    parts = config.split_settings('prefix="x y=3" dropout=0.1 text=[a, b c]')
    assert config.parse_overrides(parts) == {
        "prefix": "x y=3",
        "dropout": "0.1",
        "text": ["a", "b c"],
    }


def test_one_set_gives_several_settings(workspace: Path, capsys) -> None:
    assert foldstack(workspace, "--set", "folds.count=4 folds.seed=3", "folds") == 0
    assert "folds: 4 stratified, seed 3," in capsys.readouterr().out
    refuses(
        workspace,
        ["--set", "folds.count=[4 folds.seed=3", "folds"],
        "--set 'folds.count=[4 folds.seed=3': '[4 folds.seed=3' is not a YAML value",
        capsys,
    )
    refuses(
        workspace,
        ["folds", "--set", "folds.count 4"],
        "--set 'folds.count 4' is not of the form name.name=value",
        capsys,
    )


def test_a_separator_that_is_set_splits_the_labels(tmp_path: Path, capsys) -> None:
    """Else a label `a|b` would stay, which no row can have."""
    root = make_kind(tmp_path / "w", "multiclass", "f1_micro", ["label"])
    train = root / "input/train.csv"
    train.write_text(train.read_text().replace("other\n", "bad|new\n"))
    write_competition(
        root,
        kind="multiclass",
        metric="f1_micro",
        target=["label"],
        labels=["bad", "bad|new", "good"],
    )
    capsys.readouterr()
    given = ["--set", "kind=multilabel separator=|"]
    assert foldstack(root, *given, "set") == 0
    assert "labels: [bad, good, new]" in capsys.readouterr().out
    assert list(Workspace(root).competition.labels) == ["bad", "good", "new"]
    assert (
        foldstack(root, "set", "--set", "separator=|", "--set", "labels=[bad, good, new, x]") == 0
    )
    assert list(Workspace(root).competition.labels) == ["bad", "good", "new", "x"]


def test_a_runs_process_is_given_each_setting(workspace: Path) -> None:
    sets = config.split_settings('folds.count=4 name="a b"')
    ws = Workspace.open(workspace, sets)
    again = ["--set=folds.count=4", '--set=name="a b"']
    assert ws.command == [f"--workspace={workspace}", *again]
