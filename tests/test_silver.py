"""Pairs recombined from the sentences of training pairs, and labelled by teachers."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import gaussian_kde, wasserstein_distance

from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.links import to_probabilities
from foldstack.rows import Rows
from foldstack.stages.dependencies import why_stale
from foldstack.stages.fitted import load_learner
from foldstack.stages.learned import rows_of
from foldstack.stages.run import TEACHING, unlabelled_hash
from foldstack.store import RunKey, Store
from foldstack.techniques import PseudoLabels
from foldstack.techniques.teaching import Recombination
from foldstack.text.ngrams import words_of_text
from foldstack.text.recombination import drawn, near_gold, recombined
from test_biencoder import WORDS
from tiny import add_preset, foldstack, make_workspace, refuses, run_of, turn_labels, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

bm25 = pytest.mark.skipif(
    importlib.util.find_spec("bm25s") is None,
    reason="bm25s is not installed: pip install 'foldstack[pairs]'",
)

PAIRS = [
    ("a man plays a guitar", "a man plays music"),
    ("a dog runs", "a dog runs fast"),
    ("the cat sleeps", "a cat is asleep"),
    ("a man plays a guitar", "the cat sleeps"),
]


def made(by: str, pairs: Sequence = PAIRS, hidden: Sequence = (), seed: int = 0, **settings):
    s = Recombination(by=by, **settings)
    return recombined(pairs, set(hidden), s, seed, letters)


def letters(texts: Sequence[str]) -> np.ndarray:
    """A vector of the counts of letters."""
    return np.array(
        [[text.count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float
    )


# New pairs


def slow_bm25(query: str, texts: list[str]) -> list[float]:
    """BM25 as Lucene has it: k1 1.5, b 0.75."""
    docs = [Counter(words_of_text(text)) for text in texts]
    mean = sum(sum(doc.values()) for doc in docs) / len(docs)
    scores = []
    for doc in docs:
        score = 0.0
        for word in words_of_text(query):
            df = sum(word in other for other in docs)
            idf = np.log(1 + (len(docs) - df + 0.5) / (df + 0.5))
            score += idf * doc[word] / (doc[word] + 1.5 * (0.25 + 0.75 * sum(doc.values()) / mean))
        scores.append(score)
    return scores


def slow_cosine(query: str, texts: list[str]) -> list[float]:
    u = letters([query])[0]
    return [float(u @ v / np.sqrt((u @ u) * (v @ v))) for v in letters(texts)]


def slowly(score, top: int, pairs: Sequence = PAIRS) -> set[tuple[str, str]]:
    """Each first sentence with its `top` best second ones above 0, in loops."""
    second = list(dict.fromkeys(b for _, b in pairs))
    found = set()
    for a in dict.fromkeys(a for a, _ in pairs):
        scores = dict(zip(second, score(a, second), strict=True))
        free = [b for b in second if a != b and (a, b) not in pairs and (b, a) not in pairs]
        free = [b for b in free if scores[b] > 0]
        found |= {(a, b) for b in sorted(free, key=lambda b: -scores[b])[:top]}
    return found


@pytest.mark.parametrize("top", [1, 2, 9])
def test_semantic_partners_are_those_of_a_loop(top):
    assert set(made("semantic", top=top)) == slowly(slow_cosine, top)


def test_a_long_vector_is_not_everybodys_partner():
    pairs = [("ab", "x"), ("y", "abba ab"), ("z", "abcdefgh" * 9)]
    assert made("semantic", pairs, top=1)[0] == ("ab", "abba ab")


@bm25
@pytest.mark.parametrize("top", [1, 2, 9])
def test_partners_by_words_are_those_of_a_loop(top):
    """A sentence without a word in common is none."""
    found = made("bm25", top=top)
    assert set(found) == slowly(slow_bm25, top)
    assert ("the cat sleeps", "a dog runs fast") not in found


@bm25
def test_both_are_the_pairs_of_either():
    both = set(made("bm25_semantic", top=1))
    assert both == slowly(slow_bm25, 1) | slowly(slow_cosine, 1)
    assert both != slowly(slow_bm25, 1) and both != slowly(slow_cosine, 1)


def test_random_partners_are_all_pairs_in_the_end():
    """And others by another seed."""
    few = [made("random", top=1, seed=seed) for seed in range(20)]
    assert set().union(*few) == set(made("random", top=9)) == slowly(lambda a, t: [1] * len(t), 9)
    assert few[0] == made("random", top=1, seed=0) and len({tuple(f) for f in few}) > 1
    assert [len(f) for f in few] == [3] * 20


def test_a_pair_of_the_training_rows_is_not_made_again():
    """In neither order, by whatever spelling, nor with itself; of two orders one is made."""
    pairs = [("a", "b"), ("B", "c"), ("c", "a"), ("d", "B ")]
    assert made("random", pairs, top=9) == [("d", "c"), ("d", "a")]
    assert made("random", [("a", "b"), ("c", "d"), ("b", "x"), ("x", "c")], top=9) == [
        ("a", "d"),
        ("a", "x"),
        ("a", "c"),
        ("c", "b"),
        ("b", "d"),
        ("x", "d"),
    ]


def test_sentences_that_a_held_out_row_has_are_in_no_pair():
    """On neither side, and empty ones neither."""
    pairs = [("a", "b"), ("c", "d"), ("Held  Out", "e"), ("f", "held out"), ("", " ")]
    found = made("random", pairs, ["held out"], top=9)
    assert {s for pair in found for s in pair} == {"a", "b", "c", "d", "e", "f"}
    assert made("random", pairs, "abcdef", top=9) == []  # but a sentence with itself


# Which of them are kept


def test_most_is_per_training_row():
    assert len(drawn(100, 3, 10, 0)) == 30 and len(drawn(20, 3, 10, 0)) == 20
    assert drawn(100, 0.5, 10, 0).tolist() == sorted(set(drawn(100, 0.5, 10, 0)))
    assert drawn(100, 3, 10, 0).tolist() != drawn(100, 3, 10, 1).tolist()


def test_density_brings_labels_near_the_targets():
    """By the distance between distributions; rows are kept as often as the ratio says."""
    rng = np.random.default_rng(0)
    gold, new = rng.normal(3, 1, (400, 1)), rng.gamma(1, 1, (2000, 1))
    kept = near_gold(gold, new, 0)
    far, near = (wasserstein_distance(gold[:, 0], x[:, 0]) for x in (new, new[kept]))
    assert near < far / 2
    ratio = np.minimum(1, gaussian_kde(gold[:, 0])(new[:, 0]) / gaussian_kde(new[:, 0])(new[:, 0]))
    counts = np.zeros(2000)
    for seed in range(200):
        counts[near_gold(gold, new, seed)] += 1
    np.testing.assert_allclose(counts / 200, ratio, atol=0.15)
    assert (counts[ratio == 1] == 200).all()
    assert near_gold(gold, new, 0).tolist() == kept.tolist()


@pytest.mark.parametrize(
    "gold, new, whose",
    [
        ([[1.0], [1.0]], [[0.5], [0.2]], "the training rows' targets"),
        ([[1.0], [0.0]], [[0.5], [0.5]], "the new rows' labels"),
        ([[1.0], [0.0]], [[0.5]], "the new rows' labels"),
    ],
)
def test_equal_labels_have_no_density(gold, new, whose):
    with pytest.raises(InputError) as refused:
        near_gold(np.array(gold), np.array(new), 0)
    assert str(refused.value) == (
        f"pseudo_labels.recombine.density compares distributions, but {whose} are all equal: leave it "
        "out"
    )


# In a workspace

LINEAR = "preset: tfidf\nmin_count: 1\nchar_ngrams: [0, 0]\nword_ngrams: [1, 1]\nC: 10\n"
SILVER = "pseudo_labels: {teachers: linear, texts: [recombined], recombine: {by: random%s}}\n"


def lines(n: int) -> list[str]:
    """n pairs; two in a row share their first sentence."""
    words = [(WORDS[i // 2 % 8], WORDS[i * 5 % 8]) for i in range(n)]
    return [
        f"r{i},a {a} film {i // 2},so {b} {i},{int((a in WORDS[:4]) == (b in WORDS[:4]))}"
        for i, (a, b) in enumerate(words)
    ]


@pytest.fixture
def root(tmp_path) -> Path:
    """30 pairs in three folds by sentences; a linear model, and a pupil of silver of its sentences."""
    root = make_workspace(
        tmp_path / "w",
        n=30,
        text=["one", "two"],
        pair=True,
        models=["linear"],
        folds={"count": 3, "connected": True},
        runtime={"threads": 1},
    )
    write(root / "input/train.csv", "\n".join(["id,one,two,label", *lines(30)]) + "\n")
    test = [line.rpartition(",")[0].replace("r", "t", 1) for line in lines(6)]
    write(root / "input/test.csv", "\n".join(["id,one,two", *test]) + "\n")
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "presets/pupil.yaml", LINEAR + SILVER % "")
    assert foldstack(root, "folds") == 0
    return root


def trained(root: Path, model: str) -> None:
    """Train the run of fold 0 after those that teach it, in this process."""
    _, run = run_of(root, model)
    for dependency in run.teachers(*TEACHING):
        name = dependency.run.run.removeprefix("fold")
        if Store(root).read_run(dependency.run) is None:
            options = ("--model", dependency.run.model, "--fold", name)
            assert foldstack(root, "train", *options) == 0
    assert foldstack(root, "train", "--model", model, "--fold", "0") == 0


def learned(root: Path, model: str = "pupil") -> tuple[Rows, Rows]:
    """The training rows of the run of fold 0, and its silver."""
    train, _, _, optimistic = rows_of(*run_of(root, model))
    assert optimistic == []
    is_silver = train.origin == "pseudo"
    return train.take(np.flatnonzero(~is_silver)), train.take(np.flatnonzero(is_silver))


def bytes_of(rows: Rows) -> list[bytes]:
    return [rows.targets.tobytes(), rows.weights.tobytes(), repr([*rows.texts, *rows.ids]).encode()]


def test_silver_is_of_learned_sentences_and_labelled_by_the_run_of_the_same_folds(root):
    trained(root, "pupil")
    gold, silver = learned(root)
    assert silver.ids.tolist() == [f"recombined:{i + 1}" for i in range(len(silver))]
    assert {p[0] for p in silver.texts} <= {p[0] for p in gold.texts}
    assert {p[1] for p in silver.texts} <= {p[1] for p in gold.texts}
    assert not {*silver.texts} & {*gold.texts} and len(gold) == 20
    ws, _ = run_of(root, "pupil")
    teacher = load_learner(ws, RunKey("linear", 0, (0,)), 1)
    np.testing.assert_allclose(
        silver.targets, to_probabilities(teacher.predict(silver), teacher.link)
    )
    record = Store(root).read_run(RunKey("pupil", 0, (0,)))
    assert set(record.identity.pseudo) == {"linear/fold0"} and record.rows == 20 + len(silver)
    assert why_stale(ws, record) == [] and unlabelled_hash(ws, ws.model_settings("pupil")) is None


def trained_again(root: Path) -> None:
    assert foldstack(root, "folds", "--force") == 0
    options = ("--model", "linear", "--fold", "0", "--force")
    assert foldstack(root, "train", *options) == 0


@pytest.mark.parametrize("settings", ["", ", density: true", ", top: 1, most: 0.5"])
def test_turned_labels_and_other_texts_of_the_held_out_fold_change_nothing(root, settings):
    write(root / "presets/pupil.yaml", LINEAR + SILVER % settings)
    trained(root, "pupil")
    before = bytes_of(rows_of(*run_of(root, "pupil"))[0])
    ws, run = run_of(root, "pupil")
    held = set(ws.competition.train.ids[run.folds.held_out((0,))])
    fold = run.folds.fold.tolist()
    turn_labels(root, held)
    assert foldstack(root, "train", "--model", "linear", "--fold", "0", "--force") == 0
    assert bytes_of(rows_of(*run_of(root, "pupil"))[0]) == before
    train = root / "input/train.csv"
    others = [
        line.replace("film", "song") if line.split(",")[0] in held else line
        for line in train.read_text().splitlines()
    ]
    write(train, "\n".join(others) + "\n")
    trained_again(root)
    ws, run = run_of(root, "pupil")
    assert run.folds.fold.tolist() == fold
    assert bytes_of(rows_of(ws, run)[0]) == before


def test_without_folds_by_sentences_none_of_a_held_out_row_is_used(root):
    """Bug guarded: a sentence that stands on both sides of the fold is in the silver."""
    settings = yaml.safe_load((root / "competition.yaml").read_text())
    write(root / "competition.yaml", yaml.safe_dump(settings | {"folds": {"count": 3}}))
    assert foldstack(root, "folds", "--force") == 0
    trained(root, "pupil")
    gold, silver = learned(root)
    ws, run = run_of(root, "pupil")
    held = ws.competition.train.take(run.folds.held_out((0,)))
    of_held, of_gold, of_silver = (
        {sentence for pair in rows.texts for sentence in pair} for rows in (held, gold, silver)
    )
    assert of_held & of_gold and not of_held & of_silver and of_silver


def test_rows_that_select_the_epoch_give_no_sentence(root, backbone):
    inner = {"pseudo_labels": yaml.safe_load(SILVER % "")["pseudo_labels"]}
    add_preset(root, backbone, "pupil", {"select": "inner"}, learner="biencoder", **inner)
    trained(root, "pupil")
    train, _, select, _ = rows_of(*run_of(root, "pupil"))
    silver = train.take(np.flatnonzero(train.origin == "pseudo"))
    chosen = {s for pair in select.texts for s in pair}
    assert len(select) and not chosen & {s for pair in silver.texts for s in pair}


def test_settings_of_the_silver(root):
    trained(root, "pupil")
    sizes = {}
    for settings in (", most: 1", ", most: 0.5", ", top: 1", ", top: 2", ", density: true"):
        write(root / "presets/pupil.yaml", LINEAR + SILVER % settings)
        _, silver = learned(root)
        sizes[settings] = len(silver)
    assert sizes[", most: 1"] == 20 and sizes[", most: 0.5"] == 10
    assert sizes[", top: 1"] == 10 and sizes[", top: 2"] == 20  # of ten first sentences
    assert 0 < sizes[", density: true"] < 30


def test_most_applies_after_density(root):
    write(root / "presets/pupil.yaml", LINEAR + SILVER % ", density: true, top: 5, most: 0.25")
    trained(root, "pupil")
    assert len(learned(root)[1]) == 5


def test_silver_stands_beside_other_unlabelled_rows(root):
    both = SILVER.replace("[recombined]", "[test, recombined]") % ", most: 0.5"
    write(root / "presets/pupil.yaml", LINEAR + both)
    trained(root, "pupil")
    ids = learned(root)[1].ids.tolist()
    assert ids[-10:] == [f"recombined:{i + 1}" for i in range(10)]
    assert ids[:-10] and all(i.startswith("test:") for i in ids[:-10])


def test_a_cross_encoder_teaches_a_bi_encoder(root, backbone):
    """It learns gold and silver: other weights than without."""
    silver = {"teachers": "cross", "texts": ["recombined"], "recombine": {"by": "semantic"}}
    add_preset(root, backbone, "cross")
    add_preset(root, backbone, "pupil", learner="biencoder", pseudo_labels=silver)
    add_preset(root, backbone, "alone", learner="biencoder")
    trained(root, "pupil")
    trained(root, "alone")
    gold, silver = learned(root)
    ws, _ = run_of(root, "pupil")
    record = ws.store.read_run(RunKey("pupil", 0, (0,)))
    assert record.rows == len(gold) + len(silver) == 20 + 30
    assert record.identity.pseudo.keys() == {"cross/fold0"}
    test = ws.competition.test
    a, b = (load_learner(ws, RunKey(m, 0, (0,)), 1).predict(test) for m in ("pupil", "alone"))
    assert np.abs(a - b).max() > 1e-3
    assert bytes_of(silver) == bytes_of(learned(root)[1])


def test_vectors_are_those_of_the_backbone_before_training(root, backbone):
    """A linear model on its vectors has it too."""
    by = SILVER.replace("random%s", "semantic, top: 1")
    place = f"learner: vectors\nbackbone: {backbone}\nmax_length: 16\nprecision: fp32\n"
    write(root / "presets/pupil.yaml", place + by)
    trained(root, "pupil")
    gold, silver = learned(root)
    from foldstack.stages.silver import _vectors

    ws, run = run_of(root, "pupil")
    wanted = recombined(
        gold.texts, set(), Recombination(by="semantic", top=1), 0, lambda t: _vectors(ws, run, t)
    )
    assert silver.texts == wanted


# Refusals


def test_one_text_per_row_is_refused(tmp_path, capsys):
    root = make_workspace(tmp_path / "w", models=["linear"])
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "presets/pupil.yaml", LINEAR + SILVER % "")
    assert foldstack(root, "folds") == 0
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "pupil", "--fold", "0"],
        "pupil.yaml: pseudo_labels.texts recombined makes new pairs of sentences, but rows of this "
        "competition have 1 text: set `pair: true` with two text columns, or leave recombined out",
        capsys,
    )


def test_no_new_pair_is_refused(root, capsys):
    """If every sentence is one of a held-out row, too."""
    same = [f"r{i},all,the same {i % 2},{i % 2}" for i in range(30)]
    write(root / "input/train.csv", "\n".join(["id,one,two,label", *same]) + "\n")
    settings = yaml.safe_load((root / "competition.yaml").read_text())
    folds = {"count": 3, "dedupe": False, "near": 0}
    write(root / "competition.yaml", yaml.safe_dump(settings | {"folds": folds}))
    assert foldstack(root, "folds", "--force") == 0
    assert foldstack(root, "train", "--model", "linear", "--fold", "0") == 0
    capsys.readouterr()
    assert foldstack(root, "train", "--model", "pupil", "--fold", "0") == 2
    assert capsys.readouterr().err == (
        "foldstack: pupil seed 0 fold0: pseudo_labels.texts recombined can make no new pair of the "
        "sentences that no held-out row has: set folds.connected to true, or leave recombined out\n"
    )


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_density_that_keeps_no_pair_is_refused(root, capsys, kind):
    """Bug guarded: a traceback (regression), or advice to lower the confidence (binary).

    The teacher is so weak that its labels are all near the mean of the targets, 0 and 1.
    """
    settings = yaml.safe_load((root / "competition.yaml").read_text())
    metric = {"regression": "rmse", "binary": "roc_auc"}[kind]
    write(root / "competition.yaml", yaml.safe_dump(settings | {"kind": kind, "metric": metric}))
    rows = [f"{line.rpartition(',')[0]},{i % 2}" for i, line in enumerate(lines(30))]
    write(root / "input/train.csv", "\n".join(["id,one,two,label", *rows]) + "\n")
    write(root / "presets/linear.yaml", LINEAR.replace("C: 10", "C: 0.0001"))
    write(root / "presets/pupil.yaml", LINEAR + SILVER % ", top: 1, density: true")
    assert foldstack(root, "folds", "--force") == 0
    assert foldstack(root, "train", "--model", "linear", "--fold", "0") == 0
    capsys.readouterr()
    assert foldstack(root, "train", "--model", "pupil", "--fold", "0") == 2
    assert capsys.readouterr().err == (
        "foldstack: pupil seed 0 fold0: pseudo_labels.recombine.density keeps none of the 10 pairs, "
        "since the teachers' labels are unlike the training rows' targets: leave density out, or take "
        "other teachers\n"
    )


def test_a_bound_that_allows_no_pair_is_refused_before_the_teacher_is_trained(root, capsys):
    """Bug guarded: it said that no text was left to the run, once linear had been trained."""
    write(root / "presets/pupil.yaml", LINEAR + SILVER % ", most: 0.04")
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "pupil", "--fold", "0"],
        "pupil seed 0 fold0: pseudo_labels.recombine.most 0.04 allows no new pair beside 20 training "
        "rows: raise it, or leave recombined out",
        capsys,
    )
    assert Store(root).read_run(RunKey("linear", 0, (0,))) is None
    write(root / "presets/pupil.yaml", LINEAR + SILVER % ", most: 0.05")
    trained(root, "pupil")
    assert len(learned(root)[1]) == 1


def test_a_bound_that_allows_none_beside_the_rows_of_inner_is_said(root, backbone, capsys):
    """Of 20 rows two or so select the epoch."""
    inner = {"pseudo_labels": yaml.safe_load(SILVER % ", most: 0.05")["pseudo_labels"]}
    add_preset(root, backbone, "pupil", {"select": "inner"}, learner="biencoder", **inner)
    assert foldstack(root, "train", "--model", "linear", "--fold", "0") == 0
    assert foldstack(root, "train", "--model", "pupil", "--fold", "0") == 2
    assert "recombine.most 0.05 allows no new pair beside 1" in capsys.readouterr().err


def test_words_without_bm25s_are_refused_before_any_run(root, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bm25s" else find(name, *a)
    )
    write(root / "presets/pupil.yaml", LINEAR + SILVER.replace("random%s", "bm25"))
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "pupil", "--fold", "0"],
        "pseudo_labels.recombine.by bm25 requires the package bm25s, which is not installed: pip "
        "install 'foldstack[pairs]'",
        capsys,
    )
    assert Store(root).read_run(RunKey("linear", 0, (0,))) is None


def test_a_model_without_a_backbone_has_no_vectors_to_compare(root, capsys):
    write(root / "presets/pupil.yaml", LINEAR + SILVER.replace("random%s", "semantic"))
    refuses(
        root,
        ["train", "--model", "pupil", "--fold", "0"],
        "pupil.yaml: learner tfidf has no backbone, whose vectors pseudo_labels.recombine.by semantic "
        "compares: leave the setting for it out",
        capsys,
    )


@pytest.mark.parametrize(
    "given, kind, sentence",
    [
        (
            {"texts": ["recombined"], "recombine": {"density": True}},
            "multiclass",
            "pseudo_labels.recombine.density compares distributions of one score, but this "
            "competition is multiclass: leave it out",
        ),
        (
            {"recombine": {"top": 2}},
            "binary",
            "`recombine` says how pairs are recombined, but `texts` does not name recombined: add it, "
            "or leave `recombine` out",
        ),
    ],
)
def test_settings_that_do_not_apply(given, kind, sentence):
    with pytest.raises(ValueError, match=sentence):
        PseudoLabels(teachers=["a"], **given).check(Kind(kind), [], 2)
