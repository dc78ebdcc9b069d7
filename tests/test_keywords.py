"""The user's list of keywords: columns of the linear models, and wide and deep inputs of networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from foldstack.errors import InputError
from foldstack.learners import LearnerContext, make_learner
from foldstack.learners.keyword_columns import KeywordColumns
from foldstack.nets.classifier import Classifier
from foldstack.nets.word_vectors import WordVectors, WordVectorsConfig
from foldstack.rows import Rows
from foldstack.stages.run import identity_of
from foldstack.techniques import LearnerSettings
from foldstack.text.terms import read_keywords
from makers import make_rows, make_task, unlabelled
from tiny import foldstack, make_workspace, refuses, run_of, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

LIST = "Good,praise\nbad plot,blame\nbad,blame\n天气\nnever,praise\n"
TEXTS = ["a GOOD film", "a bad  plot", "goodness", "今天天气很好", "bad, good"]


def columns(folder: Path, text: str = LIST) -> KeywordColumns:
    return KeywordColumns.of(write(folder / "list.csv", text), TEXTS)


# Matching


def test_a_column_says_whether_a_text_holds_the_keyword(tmp_path, capsys):
    """Whole words, but any characters in Chinese; a keyword inside another one counts too."""
    made = columns(tmp_path)
    assert made.keywords == ("Good", "bad plot", "bad", "天气")
    assert made.apply(TEXTS).toarray().tolist() == [
        [1, 0, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [1, 0, 1, 0],
    ]
    assert capsys.readouterr().out == "4 of 5 keywords occur in the training texts\n"


def test_shares_of_categories_stand_behind_the_keywords(tmp_path):
    made = columns(tmp_path)
    assert made.groups == ("praise", "blame", "天气")
    deep = made.wide_and_deep(TEXTS)[:, 4:]
    assert deep.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1], [0.5, 0.5, 0]]


def test_none_of_them_occurs(tmp_path, capsys):
    made = columns(tmp_path, "never\n")
    assert made.apply(TEXTS).shape == (5, 0) and made.wide_and_deep(TEXTS).shape == (5, 0)
    assert capsys.readouterr().out == "0 of 1 keywords occur in the training texts\n"


# Models. The texts say nothing of the label but for a keyword that min_count drops.

LEARNERS = {
    "tfidf": {"learner": "tfidf", "min_count": 9},
    "vectors": {"learner": "vectors", "source": {"name": "tfidf_svd", "min_count": 20}},
    "network": {
        "learner": "network",
        "words": {"min_count": 20},
        "size": 4,
        "dropout": 0.0,
        "training": {"epochs": 10, "batch_size": 10, "lr": 0.05, "precision": "fp32"},
    },
}
ROWS = make_rows([f"a film {'xyz' if i % 8 == 0 else 'uvw' if i % 8 == 4 else ''}" for i in range(40)],
                 [i % 8 == 0 for i in range(40)])  # fmt: skip


def fitted(name: str, folder: Path, listed: str | None, rows: Rows = ROWS, **settings: object):
    given = LEARNERS[name] | settings
    if listed is not None:
        write(folder / "list.csv", listed)
        given |= {"keywords": "list.csv"}
    checked = LearnerSettings.registered[given["learner"]].model_validate(given)
    files = {setting: folder / file for setting, file in checked.input_files.items()}
    learner = make_learner(checked, LearnerContext(make_task(), 0, 1, files=files))
    learner.fit(rows, None, folder / "run")
    return learner


@pytest.mark.parametrize("name", LEARNERS)
def test_a_keyword_is_learned_that_the_words_do_not_tell(name, tmp_path):
    new = unlabelled(["a film uvw", "a film XYZ"])
    without = fitted(name, tmp_path / "a", None).predict(new)[:, 0]
    assert abs(without[0] - without[1]) < 1e-6
    low, high = fitted(name, tmp_path / "b", "xyz\n").predict(new)[:, 0]
    assert high > low + 1


@pytest.mark.parametrize("name", LEARNERS)
def test_a_fitted_model_comes_back_without_its_file(name, tmp_path):
    made = fitted(name, tmp_path, LIST + "xyz,z\nfilm\n")
    made.save(tmp_path / "model")
    (tmp_path / "list.csv").unlink()
    loaded = make_learner(made.settings, LearnerContext(make_task(), 0, 1))
    loaded.load(tmp_path / "model")
    assert loaded.predict(ROWS).tobytes() == made.predict(ROWS).tobytes()


def test_all_segments_are_read(tmp_path):
    rows = replace(ROWS, texts=[("a film", text) for (text,) in ROWS.texts])
    low, high = fitted("tfidf", tmp_path, "xyz\n", rows).predict(
        unlabelled([("a film", "a"), ("a film", "xyz")])
    )[:, 0]
    assert high > low + 1


def test_a_network_reads_the_mean_of_its_categories_embeddings():
    """Wide: a weight per keyword. Deep: (e_praise + e_blame) / 2 beside the pooled vector."""
    torch.manual_seed(0)
    body = WordVectors(WordVectorsConfig(9, 2))
    net = Classifier(body, 1, 0.0, features=5, embedded=2, embedding=3).eval()
    pooled, wide = torch.randn(1, 2), torch.tensor([[1.0, 0.0, 1.0]])
    logits = net.score(pooled, torch.cat([wide, torch.tensor([[0.5, 0.5]])], dim=1))
    embeddings = net.embedding.weight.T  # one row per category
    joined = torch.cat([pooled, wide, embeddings.mean(dim=0, keepdim=True)], dim=1)
    torch.testing.assert_close(logits, net.head(joined))


def test_keywords_of_a_category_share_what_is_learned(tmp_path):
    """`uvw` is learned by few rows, `xyz` by others of its category."""
    together, apart = (
        fitted("network", tmp_path / c, f"xyz,{c}\nuvw,b\n").predict(unlabelled(["a uvw"]))
        for c in ("b", "c")
    )
    assert together[0, 0] > apart[0, 0]


def test_the_size_of_the_embedding(tmp_path):
    made = fitted("network", tmp_path, "xyz\nuvw\n")
    assert made.model.embedding.weight.shape == (8, 2)
    files = {"file": "list.csv", "size": 3}
    given = LEARNERS["network"] | {"keywords": files}
    checked = LearnerSettings.registered["network"].model_validate(given)
    paths = {"keywords.file": tmp_path / "list.csv"}
    other = make_learner(checked, LearnerContext(make_task(), 0, 1, files=paths))
    other.prepare(ROWS)
    assert other.model.embedding.weight.shape == (3, 2)


def test_a_transformer_reads_them_beside_its_features(backbone, tmp_path):
    from makers import make_learner as transformer

    listed = write(tmp_path / "list.csv", "xyz\nuvw\n")
    settings = {"keywords": "list.csv", "join_features": True, "dropout": 0.0}
    made = transformer(backbone, training={"epochs": 20, "lr": 1e-2}, **settings)
    made.files = {"keywords.file": listed}
    rows = replace(ROWS, features=np.zeros((40, 1)))
    made.fit(rows, None, tmp_path / "run")
    assert made.model.head.in_features == made.model.pooling.size + 1 + 2 + 8
    low, high = made.predict(rows.take(np.array([4, 0])))[:, 0]
    assert high > low + 1


# Files


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", " lists no keywords: write one on each line"),
        ("keyword,category\n\n", " lists no keywords: write one on each line"),
        (
            "good\nBad\nＢＡＤ\n",
            ", line 3: keyword 'ＢＡＤ' is 'Bad' of line 2 again, since width and case are ignored: "
            "remove one",
        ),
        (
            "a,b,c\n",
            ", line 1 has 3 fields, but `keyword` or `keyword,category` is expected: put quotes around "
            "a keyword that has a comma",
        ),
        (
            "good\n ,praise\n",
            ", line 2 has a category without a keyword: write the keyword before it",
        ),
        ('good\n"bad\n', ", line 2: unexpected end of data: correct its quotes"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, sentence):
    path = write(tmp_path / "list.csv", text)
    with pytest.raises(InputError) as error:
        read_keywords(path)
    assert str(error.value) == f"{path}{sentence}"


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes("good\nschön\n".encode("cp1252"))
    with pytest.raises(InputError) as error:
        read_keywords(path)
    assert str(error.value) == f"{path}, line 2, is not UTF-8: save the file as UTF-8"


def test_forms_of_a_file(tmp_path):
    text = '\ufeffkeyword,category\r\n\r\n good , praise\r\n"a, b",c\r\nkeyword\r\n'
    found = read_keywords(write(tmp_path / "list.csv", text))
    assert found == {"good": "praise", "a, b": "c", "keyword": ""}


# Runs in a workspace


def test_the_file_is_part_of_a_run_s_identity(tmp_path, capsys):
    root = make_workspace(tmp_path, models=["m"], folds={"count": 3, "kind": "kfold"})
    preset = {"learner": "tfidf", "keywords": "list.csv"}
    write(root / "presets/m.yaml", yaml.safe_dump(preset))
    train, path = ["train", "--fold", "0"], root / "input/list.csv"
    assert foldstack(root, "folds") == 0
    capsys.readouterr()
    missing = f"keywords.file: there is no file {path}: put it there, or name another"
    refuses(root, train, missing, capsys)
    write(path, "good\ngood\n")
    again = (
        f"{path}, line 2: keyword 'good' is 'good' of line 1 again, since width and case are ignored: "
        "remove one"
    )
    refuses(root, train, again, capsys)
    assert not (root / "oof/m").exists()
    write(path, "good\n")
    assert foldstack(root, *train) == 0
    old = identity_of(*run_of(root, "m")).named_files["keywords.file"]
    write(path, "bad\n")
    new = identity_of(*run_of(root, "m")).named_files["keywords.file"]
    sentence = (
        f"m seed 0 fold0 is finished with other settings or data (named_files.keywords.file {old} → "
        f"{new}): add --force (FORCE=1) to train it again, or NAME= to keep a variant beside it"
    )
    capsys.readouterr()
    refuses(root, train, sentence, capsys)
