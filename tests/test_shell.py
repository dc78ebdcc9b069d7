"""What the shell gives and gets: settings kept, summaries, JSON, completion, commands to paste."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from foldstack import hints
from foldstack.competition import Competition
from foldstack.progress import _Bar, speed
from foldstack.yaml_edit import with_value
from tiny import foldstack, go_through, make_workspace, refuses, write_competition

# --- commands in sentences --------------------------------------------------------------------


@pytest.fixture(autouse=True)
def by_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")


@pytest.mark.parametrize(
    ("said", "command"),
    [
        (
            "`make blend submit MODEL=a,b`",
            "blend --model a,b && foldstack --workspace w submit --model a,b",
        ),
        ("`make folds FORCE=1`", "folds --force"),
        ("`make clean-oof`", "clean oof"),
        ("`make train NAME='a b'`", "train --name 'a b'"),
    ],
)
def test_without_make_a_sentence_names_the_command(
    monkeypatch: pytest.MonkeyPatch, said: str, command: str
) -> None:
    monkeypatch.delenv("MAKELEVEL")
    hints.remember(Path("w"), debug=False)
    assert hints.completed(said) == f"`foldstack --workspace w {command}`"
    settings = hints.completed('`make folds SET="folds.count=3"`')
    assert settings == "`foldstack --workspace w --set folds.count=3 folds`"
    assert hints.completed("`make test`") == "`make test`"


def test_a_command_in_a_sentence_can_be_pasted() -> None:
    hints.remember(Path("my toxic"), debug=True)
    try:
        said = hints.completed("run `make blend submit` first, or `make test`")
        assert said == "run `make blend submit WORKSPACE='my toxic' DEBUG=1` first, or `make test`"
        known = "`make folds WORKSPACE=other` too"
        assert hints.completed(known) == "`make folds WORKSPACE=other DEBUG=1` too"
    finally:
        hints.remember(Path("."), debug=False)
    assert hints.completed("run `make blend submit`") == "run `make blend submit`"


def test_an_error_names_the_workspace(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path / "toxic")
    assert foldstack(root, "scores") == 2
    assert capsys.readouterr().err == (
        f"foldstack: oof/ holds no runs: run `make train WORKSPACE={root}` first\n"
    )


# --- settings that stay -----------------------------------------------------------------------

YAML = """\
# Guessed.
metric: roc_auc       # what is optimised
# seeds: [0]          # every one
folds:
  count: 5            # how many
  seed: 0
blend: {power: 2}
models:  # presets
  - tfidf
#  - minilm-long

name: x
"""


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (["metric"], "f1", "metric: f1       # what is optimised\n"),
        (["seeds"], ["0", "1"], "seeds: [0, 1]\n"),
        (["models"], ["a", "b"], "models: [a, b]  # presets\n#  - minilm-long\n\nname: x\n"),
        (["folds", "count"], "10", "  count: 10            # how many\n"),
        (["folds", "near"], "0.8", "  near: 0.8\n  count: 5"),
        (["blend", "power"], "3", "blend: {power: 3}\n"),
        (["blend", "seed"], "1", "blend: {seed: 1, power: 2}\n"),
        (["drift", "check"], "no", "drift: {check: 'no'}\n"),
    ],
)
def test_one_setting_changes_and_comments_stay(path: list[str], value: object, line: str) -> None:
    before, after = YAML, with_value(YAML, path, value)
    assert line.replace("'", '"') in after.replace("'", '"')
    old, new = (yaml.load(text, yaml.BaseLoader) for text in (before, after))
    node = new
    for name in path[:-1]:
        node = node[name]
    assert node.pop(path[-1]) == value
    for name in path[:-1]:
        if name not in old:
            new.pop(name)
    expected = yaml.load(before, yaml.BaseLoader)
    inner = expected
    for name in path[:-1]:
        inner = inner.get(name, {})
    inner.pop(path[-1], None)
    assert new == expected
    comments = [line for line in before.splitlines() if line.startswith("# Guessed")]
    assert all(comment in after for comment in comments)


def test_a_setting_that_is_kept_counts_in_later_commands(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path)
    assert foldstack(root, "set", "--set", "folds.count=4 models=[tfidf]") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"set: folds.count: 4 is in {root}/competition.yaml",
        f"set: models: [tfidf] is in {root}/competition.yaml",
    ]
    assert Competition.load(root).settings.folds.count == 4
    assert Competition.load(root).settings.models == ("tfidf",)


def test_settings_that_do_not_fit_are_not_kept(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path)
    before = (root / "competition.yaml").read_bytes()
    refuses(
        root,
        ["set", "--set", "training.epochs=3"],
        "set: 'training' is a model's setting, which competition.yaml holds under `models:`, `- mine: "
        "{preset: …, …}`, or a preset in presets/: write it there",
        capsys,
    )
    assert foldstack(root, "set", "--set", "folds.count=few") == 2
    assert foldstack(root, "set", "--set", "metric=qwkk") == 2
    assert foldstack(root, "set", "--set", "folds.file=f.csv folds.repeats=2") == 2
    assert foldstack(root, "set") == 2
    assert (root / "competition.yaml").read_bytes() == before


# --- what is there ----------------------------------------------------------------------------


def test_show_says_what_the_competition_is_and_what_comes_next(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path)
    write_competition(root, models=["tfidf"])
    steps = []
    for stage in ("folds", "train", "blend", "submit"):
        capsys.readouterr()
        assert foldstack(root, "show") == 0
        steps.append(capsys.readouterr().out.splitlines()[-1])
        go_through(root, stage)
    assert steps == [
        f"next: `make {then} WORKSPACE={root}`"
        for then in ("folds", "train", "blend submit", "submit")
    ]
    capsys.readouterr()
    assert foldstack(root, "show") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "rows: 24 in train, 6 in test" in lines
    assert "model tfidf: 3 runs" in lines


@pytest.mark.parametrize("command", ["scores", "score", "show"])
def test_json_is_all_that_stands_on_standard_output(tmp_path: Path, capsys, command: str) -> None:
    root = go_through(make_workspace(tmp_path))
    capsys.readouterr()
    assert foldstack(root, command, "--json") == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_the_shell_completes_commands_and_their_options(tmp_path: Path, capsys) -> None:
    assert foldstack(tmp_path, "completion") == 0
    script = capsys.readouterr().out
    ask = 'COMP_WORDS=({words}); COMP_CWORD={at}; _foldstack; echo "${{COMPREPLY[@]}}"'

    def replies(*words: str) -> str:
        text = script + ask.format(words=" ".join(words), at=len(words) - 1)
        return subprocess.run(["bash", "-c", text], capture_output=True, text=True).stdout.strip()

    assert replies("foldstack", "comp") == "compare completion"
    assert replies("foldstack", "train", "--f") == "--fold --force"
    assert replies("foldstack", "clean", "o") == "oof"


# --- progress ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "said"), [(5.34, "5.3/s"), (0.034, "2.0/min"), (0, "0.0/s")])
def test_slow_work_has_a_rate_per_minute(rate: float, said: str) -> None:
    assert speed(rate) == said


def test_the_bar_has_no_seconds_per_step() -> None:
    bar = _Bar(total=10, file=io.StringIO(), bar_format="{speed}")
    bar.n, bar.start_t = 1, bar.start_t - 30
    assert str(bar).endswith("/min")
