"""The forms of known competitions, from three files to a checked submission by the linear model."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foldstack.competition import Competition
from foldstack.files import write_table
from tiny import foldstack, go_through

sys.path.insert(0, str(Path(__file__).parent / "bench"))
from competitions import MADE, Form, tables_of


def given(form: Form) -> list[str]:
    """The options that a careful reader of the competition's page adds, as of the command line."""
    pairs = re.findall(r"(?<!\S)([A-Z]+)=([^\s;]+)", form.overrule)
    return [f"--{name.lower()}={value}" for name, value in pairs]


@pytest.mark.parametrize("form", MADE, ids=lambda form: form.name)
def test_from_three_files_to_a_submission(tmp_path: Path, form: Form) -> None:
    names = ("train", "test", "sample_submission")
    tables = tables_of(form, Path())
    for name, table in zip(names, tables, strict=True):
        write_table(tmp_path / f"input/{name}.csv", table)
    assert foldstack(tmp_path, "init", *given(form)) == 0
    write_table(tmp_path / "input/train.csv", tables[0].iloc[::2])  # half suffices for the rest
    fewer = "folds.count=2 drift.check=false models=[tfidf]"
    assert foldstack(tmp_path, "set", "--set", fewer) == 0
    go_through(tmp_path, folds=2)
    sample = pd.read_csv(tmp_path / "input/sample_submission.csv", dtype=str, keep_default_na=False)
    out = pd.read_csv(tmp_path / "submissions/blend.csv", dtype=str, keep_default_na=False)
    assert list(out.columns) == list(sample.columns)
    submission = Competition.load(tmp_path).submission
    id_ = submission.settings.id
    assert out[id_].tolist() == sample[id_].tolist()
    assert (out[submission.columns] != "").any(axis=1).all()
    values = submission.read(tmp_path / "submissions/blend.csv", out)
    assert np.isfinite(values).all()
    if not submission.wants_labels and submission.settings.kind.has_labels:
        assert ((values >= 0) & (values <= 1)).all()
    if submission.settings.kind.is_one_hot and not submission.wants_labels:
        assert values.sum(axis=1) == pytest.approx(np.ones(len(values)), abs=1e-5)
