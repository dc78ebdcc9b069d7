"""What other models teach a run: pseudo-labels of unlabelled rows, and soft targets of training rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax

from foldstack import config
from foldstack.ensemble.calibration import calibrate
from foldstack.ensemble.nested import single_estimate
from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.links import to_probabilities
from foldstack.records import TextsOf, UnlabelledRecord
from foldstack.rows import Rows
from foldstack.stages.blend import members_of
from foldstack.stages.dependencies import why_stale
from foldstack.stages.fitted import load_learner
from foldstack.stages.learned import rows_of
from foldstack.stages.oof import read_model
from foldstack.stages.run import TEACHING, unlabelled_hash
from foldstack.stages.taught import FittedTeachers, labelled, lines_of, mixture_weights
from foldstack.store import RunKey, Store
from foldstack.techniques import Distillation, LearnerSettings, PseudoLabels, TfidfSettings
from makers import unlabelled
from tiny import BAD, GOOD, foldstack, make_workspace, refuses, run_of, turn_labels, write

LINEAR = "preset: tfidf\nmin_count: 1\nchar_ngrams: [0, 0]\nword_ngrams: [1, 1]\nC: 10\n"
HARD = "pseudo_labels: {teachers: linear, labels: hard}\n"
PSEUDO = "pseudo_labels: {teachers: [linear, other], texts: [test, pool]}\n"
NETWORK = "preset: fasttext\nsize: 4\nbuckets: 1000\ntraining: {epochs: 1, precision: fp32}\n"
TEMPERED = "distil: {teachers: [linear], share: 0.25, temperature: 2}\n"
POOL = [f"{word} unheard thing of {i}" for i, word in enumerate([*GOOD, *BAD] * 2)][:12]


@pytest.fixture
def root(tmp_path) -> Path:
    """30 rows in three folds, 12 texts in a pool; two linear models, and presets that they teach."""
    root = make_workspace(tmp_path / "w", n=30, models=["linear"], pool=["more.csv"])
    write(root / "input/more.csv", "text\n" + "".join(f"{text}\n" for text in POOL))
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "presets/other.yaml", LINEAR + "sublinear: false\nnaive_bayes: true\n")
    write(root / "presets/pupil.yaml", LINEAR + PSEUDO)
    write(root / "presets/fitted.yaml", LINEAR + FITTED)
    write(root / "presets/distilled.yaml", LINEAR + "distil: {teachers: [linear], share: 0.25}\n")
    write(
        root / "presets/public.yaml",
        LINEAR + "distil: {teachers: [linear], by: out_of_fold}\n",
    )
    write(root / "presets/tempered.yaml", NETWORK + TEMPERED + PSEUDO)
    assert foldstack(root, "folds") == 0
    return root


def trained(root: Path, model: str, fold: int = 0) -> None:
    """Train a run after those that teach it, in this process."""
    _, run = run_of(root, model, fold)
    for dependency in run.teachers(*TEACHING):
        key = dependency.run
        options = ("--model", key.model, "--fold", key.run.removeprefix("fold"))
        if Store(root).read_run(key) is None:
            assert foldstack(root, "train", *options) == 0
    assert foldstack(root, "train", "--model", model, "--fold", str(fold)) == 0


def learned(root: Path, model: str, fold: int = 0) -> tuple[Rows, list[str]]:
    """The rows that the run learns from, and why it is optimistic."""
    train, _, _, optimistic = rows_of(*run_of(root, model, fold))
    return train, optimistic


def probabilities(root: Path, key: RunKey, rows: Rows) -> np.ndarray:
    ws, _ = run_of(root, "linear")
    learner = load_learner(ws, key, 1)
    return to_probabilities(learner.predict(rows), learner.link)


# Pseudo-labels


def test_unlabelled_rows_have_the_mean_of_teachers_that_left_the_same_fold_out(root):
    trained(root, "pupil")
    train, optimistic = learned(root, "pupil")
    ws, run = run_of(root, "pupil")
    more = train.take(np.flatnonzero(train.origin == "pseudo"))
    assert more.ids.tolist() == [
        *(f"test:t{i}" for i in range(6)),
        *(f"more.csv:{i + 1}" for i in range(12)),
    ]
    assert more.texts == ws.competition.test.texts + [(text,) for text in POOL]
    each = [probabilities(root, RunKey(m, 0, (0,)), more) for m in ("linear", "other")]
    np.testing.assert_allclose(more.targets, np.mean(each, axis=0), rtol=1e-6)
    assert (more.weights == 1).all() and optimistic == []
    gold = train.take(np.flatnonzero(train.origin == "gold"))
    assert gold.hash() == ws.competition.train.take(run.folds.learned((0,))).hash()
    record = Store(root).read_run(RunKey("pupil", 0, (0,)))
    assert record.rows == 20 + 18
    assert set(record.identity.pseudo) == {"linear/fold0", "other/fold0"}


def test_weights_of_teachers(root):
    write(
        root / "presets/pupil.yaml",
        LINEAR + "pseudo_labels: {teachers: {linear: 3, other: 1}, weight: 0.5}\n",
    )
    trained(root, "pupil")
    train, _ = learned(root, "pupil")
    more = train.take(np.flatnonzero(train.origin == "pseudo"))
    a, b = (probabilities(root, RunKey(m, 0, (0,)), more) for m in ("linear", "other"))
    np.testing.assert_allclose(more.targets, (3 * a + b) / 4, rtol=1e-6)
    assert (more.weights == 0.5).all() and len(more) == 6


def test_what_is_learned_changes_what_is_predicted(root):
    trained(root, "pupil")
    ws, _ = run_of(root, "pupil")
    test = ws.competition.test
    with_them, without = (
        probabilities(root, RunKey(m, 0, (0,)), test) for m in ("pupil", "linear")
    )
    assert np.abs(with_them - without).max() > 1e-3


def test_a_copy_of_a_held_out_text_is_not_learned(root):
    """Nor one that is nearly equal; other runs learn it."""
    ws, run = run_of(root, "linear")
    (text,) = ws.competition.train.texts[int(run.folds.held_out((0,))[0])]
    write(root / "input/more.csv", f"text\n{text.upper()}\n{text} !\nan unheard thing\n")
    trained(root, "pupil")
    trained(root, "pupil", fold=1)
    of_pool = [
        [i for i in learned(root, "pupil", fold)[0].ids if i.startswith("more")] for fold in (0, 1)
    ]
    assert of_pool == [["more.csv:3"], ["more.csv:1", "more.csv:2", "more.csv:3"]]


def test_a_row_without_text_is_not_learned(root):
    write(root / "input/more.csv", "text\n \nan unheard thing\n")
    trained(root, "pupil")
    train, _ = learned(root, "pupil")
    assert [i for i in train.ids if i.startswith("more")] == ["more.csv:2"]


def by_author(root: Path, text: str) -> Path:
    """30 rows of ten authors, folds by author, and a pool of this text of another one."""
    make_workspace(root, n=30, group="author", pool=["more.csv"])
    lines = (root / "input/train.csv").read_text().splitlines()
    named = [f"{line},author{i // 3}" for i, line in enumerate(lines[1:])]
    write(root / "input/train.csv", "\n".join(["id,text,label,author", *named]) + "\n")
    write(root / "input/more.csv", f"text,author\n{text},x\n")
    write(root / "presets/linear.yaml", LINEAR)
    write(
        root / "presets/pupil.yaml", LINEAR + "pseudo_labels: {teachers: linear, texts: [pool]}\n"
    )
    assert foldstack(root, "folds") == 0
    return root


def test_a_row_of_a_held_out_group_is_not_learned(tmp_path):
    root = by_author(tmp_path / "w", "another")
    _, run = run_of(root, "linear")
    held = int(run.folds.held_out((0,))[0])
    write(root / "input/more.csv", f"text,author\nan unheard thing,author{held // 3}\nanother,x\n")
    trained(root, "pupil")
    train, _ = learned(root, "pupil")
    assert [i for i in train.ids if i.startswith("more")] == ["more.csv:2"]


def chosen(targets: dict[str, list], one_hot: bool = False, **settings: object) -> Rows:
    """What of some rows is learned with these probabilities by teacher."""
    p = {name: np.array(values, dtype=float) for name, values in targets.items()}
    n = len(next(iter(p.values())))
    return labelled(
        unlabelled([str(i) for i in range(n)]),
        p,
        PseudoLabels(teachers=list(p), **settings),
        one_hot,
    )


def test_hard_labels_are_what_is_decided():
    binary = chosen({"a": [[0.9], [0.2]], "b": [[0.3], [0.3]]}, labels="hard")
    assert binary.targets.tolist() == [[1.0], [0.0]]
    classes = chosen({"a": [[0.2, 0.5, 0.3]]}, one_hot=True, labels="hard")
    assert classes.targets.tolist() == [[0.0, 1.0, 0.0]]


def test_confidence_is_of_the_decided_outcome():
    """Of several labels each must be sure."""
    texts = chosen({"a": [[0.9], [0.05], [0.6]]}, confidence=0.9).texts
    assert texts == [("0",), ("1",)]
    assert chosen({"a": [[0.95, 0.6], [0.95, 0.01]]}, confidence=0.9).texts == [("1",)]
    classes = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]
    assert chosen({"a": classes}, one_hot=True, confidence=0.7).texts == [("1",)]


def test_agreement_is_of_what_each_teacher_decides():
    given = {"a": [[0.9], [0.6], [0.4]], "b": [[0.8], [0.4], [0.1]]}
    assert chosen(given, agreement=True).texts == [("0",), ("2",)]


def test_top_is_the_surest_of_each_class():
    given = {"a": [[0.9], [0.6], [0.8], [0.1], [0.3], [0.9]]}
    assert chosen(given, top=2).texts == [("0",), ("3",), ("4",), ("5",)]
    assert chosen(given, top=1).texts == [("0",), ("3",)]
    assert chosen(given, top=2, confidence=0.85).texts == [("0",), ("3",), ("5",)]


def told(root: Path, capsys: pytest.CaptureFixture, model: str) -> list[str]:
    """The lines about pseudo-labels of the model's run of fold 0."""
    capsys.readouterr()
    trained(root, model)
    start = f"{model} seed 0 fold0: pseudo_labels"
    lines = capsys.readouterr().out.splitlines()
    return [
        line.removeprefix(f"{model} seed 0 fold0: ") for line in lines if line.startswith(start)
    ]


def test_a_run_says_what_each_source_gave_per_class_and_records_it(root, capsys):
    (line,) = told(root, capsys, "pupil")
    record = Store(root).read_run(RunKey("pupil", 0, (0,))).unlabelled
    train, _ = learned(root, "pupil")
    found = []
    for source, rows in zip(record.pseudo_labels, (slice(20, 26), slice(26, 38)), strict=True):
        positive = int((train.targets[rows] > 0.5).sum())
        n = len(train.targets[rows])
        surest = float(np.abs(train.targets[rows] - 0.5).max() + 0.5)
        assert source.classes == {"0": n - positive, "1": positive}
        assert (source.rows, source.free, source.learned) == (n, n, n)
        assert source.surest == pytest.approx(surest, rel=1e-5)
        counts = sorted(source.classes.items(), key=lambda pair: -pair[1])
        shown = ", ".join(f"{name}: {count}" for name, count in counts)
        found.append(f"{n} of {n} texts of {source.source} ({shown})")
    assert line == f"pseudo_labels: {'; '.join(found)}"
    assert record.weights == record.temperatures == {} and record.consistency == []


def test_a_run_that_learns_none_says_why_and_what_to_do(root, capsys):
    """Bug guarded: `confidence: .999` chose no row, and training went on without a word."""
    write(root / "presets/pupil.yaml", LINEAR + PSEUDO.replace("}", ", confidence: 0.999}"))
    first, of_test, of_pool = told(root, capsys, "pupil")
    assert first == "pseudo_labels: 0 of 6 texts of test; 0 of 12 texts of pool"
    of = Store(root).read_run(RunKey("pupil", 0, (0,))).unlabelled.pseudo_labels
    for line, source, name in ((of_test, of[0], "test"), (of_pool, of[1], "pool")):
        assert source.learned == 0 and 0.5 < source.surest < 0.999
        assert line == (
            f"pseudo_labels: nothing is learned of {name}: its surest label has confidence "
            f"{source.surest:.3f}, and pseudo_labels.confidence is 0.999: lower it"
        )


def test_classes_beyond_the_first_are_counted_together():
    """The most frequent ones are named."""
    of = TextsOf(
        source="pool",
        rows=4000,
        free=3000,
        learned=812,
        classes={"a": 1, "b": 400, "c": 2, "d": 300, "e": 100, "f": 9, "g": 0},
    )
    found = UnlabelledRecord(pseudo_labels=[of])
    assert lines_of(found, TfidfSettings(learner="tfidf", pseudo_labels={"teachers": "x"})) == [
        "pseudo_labels: 812 of 4,000 texts of pool (b: 400, d: 300, e: 100, f: 9, c: 2, and 2 more)"
    ]


def test_nothing_is_said_of_a_run_without_unlabelled_texts(root, capsys):
    assert told(root, capsys, "linear") == []
    assert Store(root).read_run(RunKey("linear", 0, (0,))).unlabelled is None


def test_labels_that_no_teachers_agree_on_are_said(root):
    settings = TfidfSettings(
        learner="tfidf", pseudo_labels={"teachers": "a, b", "agreement": True, "confidence": 0.6}
    )
    of = TextsOf(source="pool", rows=3, free=3, learned=0, classes={"0": 0, "1": 0}, surest=0.7)
    assert lines_of(UnlabelledRecord(pseudo_labels=[of]), settings)[1] == (
        "pseudo_labels: nothing is learned of pool: no label meets confidence and agreement together: "
        "lower pseudo_labels.confidence, or set agreement to false"
    )


# Teachers that are fitted

FITTED = (
    "pseudo_labels: {teachers: [linear, other], texts: [test, pool], "
    "fitted: [calibration, weights]}"
)


def drawn(seed: int, outputs: int = 1) -> tuple[list[np.ndarray], np.ndarray]:
    """Probabilities by three models of which the second is the best, and 60 rows' targets."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (60, 1)).astype(float)
    if outputs > 1:
        y = np.eye(outputs)[rng.integers(0, outputs, 60)]
    each = []
    for skill in (0.5, 2.0, 0.1):
        p = 1 / (1 + np.exp(-(skill * (2 * y - 1) + rng.normal(size=y.shape))))
        each.append(p / p.sum(axis=1, keepdims=True) if outputs > 1 else p)
    return each, y


@pytest.mark.parametrize("kind, outputs", [("binary", 1), ("multiclass", 3)])
def test_weights_of_the_mixture_are_those_of_an_optimiser(kind, outputs):
    each, y = drawn(0, outputs)

    def loss(free: np.ndarray) -> float:
        p = np.average(each, axis=0, weights=softmax([0, *free]))
        return -np.log(np.where(y > 0.5, p, 1 if outputs > 1 else 1 - p)).sum()

    wanted = softmax([0, *minimize(loss, [0, 0], method="Nelder-Mead", tol=1e-10).x])
    np.testing.assert_allclose(mixture_weights(each, y, Kind(kind)), wanted, atol=2e-3)
    assert wanted.argmax() == 1


def test_teachers_are_fitted_on_rows_that_none_of_their_runs_knows(root):
    write(root / "presets/pupil.yaml", LINEAR + FITTED)
    trained(root, "pupil")
    ws, run = run_of(root, "pupil")
    rows = ws.competition.train.take(run.folds.learned((0,)))
    fold = run.folds.fold[run.folds.learned((0,))]
    maps, of_train = {}, []
    for name in ("linear", "other"):
        p = np.zeros((20, 1))
        for k in (1, 2):
            own = np.flatnonzero(fold == k)
            p[own] = probabilities(root, RunKey(name, 0, (0, k)), rows.take(own))
        maps[name] = calibrate("temperature", Kind.BINARY, p, rows.targets)
        of_train.append(maps[name].apply(p))
    weights = mixture_weights(of_train, rows.targets, Kind.BINARY)
    train, _ = learned(root, "pupil")
    more = train.take(np.flatnonzero(train.origin == "pseudo"))
    each = [maps[n].apply(probabilities(root, RunKey(n, 0, (0,)), more)) for n in maps]
    np.testing.assert_allclose(more.targets, np.average(each, axis=0, weights=weights), rtol=1e-5)
    record = Store(root).read_run(RunKey("pupil", 0, (0,)))
    assert set(record.identity.pseudo) == {"linear/fold0", "other/fold0"}
    assert set(record.identity.fitted) == {
        f"{name}/fold0-{k}" for name in ("linear", "other") for k in (1, 2)
    }


def test_a_run_says_what_it_has_fitted_of_its_teachers(root, capsys):
    _, line = told(root, capsys, "fitted")
    record = Store(root).read_run(RunKey("fitted", 0, (0,))).unlabelled
    parts = [
        f"{name} weight {record.weights[name]:.2f}, temperature {record.temperatures[name][0]:.2f}"
        for name in ("linear", "other")
    ]
    assert line == f"pseudo_labels.fitted: {'; '.join(parts)}"
    assert sum(record.weights.values()) == pytest.approx(1)


def test_a_temperature_of_too_few_rows_is_said_to_be_none():
    given = PseudoLabels(teachers="a", fitted="calibration")
    few = FittedTeachers.of(given, Kind.BINARY, {"a": np.full((3, 1), 0.5)}, np.ones((3, 1)))
    found = UnlabelledRecord(
        pseudo_labels=[TextsOf(source="test", rows=1, free=1, learned=1)],
        temperatures=few.temperatures,
    )
    assert few.temperatures == {"a": [None]}
    settings = TfidfSettings(learner="tfidf", pseudo_labels=given)
    assert lines_of(found, settings)[1] == (
        "pseudo_labels.fitted: a temperature unchanged, too few rows"
    )


def test_a_calibration_is_of_each_teacher_and_weights_are_of_both():
    """Logits three times as long have a temperature three times as high."""
    each, y = drawn(1)
    plain = dict(zip("ab", each, strict=False))
    given = PseudoLabels(teachers=["a", "b"], fitted=["calibration"])
    fitted = FittedTeachers.of(given, Kind.BINARY, plain, y)
    assert fitted.weights == {"a": 1, "b": 1}
    longer = {name: expit(3 * logit(p)) for name, p in plain.items()}
    again = FittedTeachers.of(given, Kind.BINARY, longer, y)
    for name, p in longer.items():
        (temperature,) = again.calibrations[name].maps[0]
        assert temperature == pytest.approx(3 * fitted.calibrations[name].maps[0][0], rel=1e-3)
        np.testing.assert_allclose(again.calibrated(name, p), expit(logit(p) / temperature))
    weighed = FittedTeachers.of(
        PseudoLabels(teachers=["a", "b"], fitted=["weights"]), Kind.BINARY, plain, y
    )
    assert weighed.calibrations == {} and weighed.weights["b"] > weighed.weights["a"]


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"teachers": "a"}, "`fitted` weights are of several teachers: name another one"),
        (
            {"teachers": {"a": 1, "b": 2}},
            "`fitted` names weights, but the teachers have given ones",
        ),
    ],
)
def test_weights_that_cannot_be_fitted(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        PseudoLabels(**given, fitted=["weights"])


# Distillation


def test_a_training_row_is_taught_by_a_run_that_knows_neither_fold(root):
    trained(root, "distilled")
    train, optimistic = learned(root, "distilled")
    ws, run = run_of(root, "distilled")
    fold = dict(zip(ws.competition.train.ids, run.folds.fold.tolist(), strict=True))
    for i in range(len(train)):
        row = train.take(np.array([i]))
        key = RunKey("linear", 0, (0, fold[row.ids[0]]))
        own = ws.competition.train.targets[ws.competition.train.ids == row.ids[0]][0, 0]
        wanted = 0.75 * own + 0.25 * probabilities(root, key, row)[0, 0]
        assert row.targets[0, 0] == pytest.approx(wanted, rel=1e-5)
    assert optimistic == [] and len(train) == 20
    record = Store(root).read_run(RunKey("distilled", 0, (0,)))
    assert set(record.identity.distil) == {"linear/fold0-1", "linear/fold0-2"}


def test_hard_labels_of_teachers_are_mixed_by_the_same_share(root):
    trained(root, "distilled")
    soft, _ = learned(root, "distilled")
    write(
        root / "presets/distilled.yaml",
        LINEAR + "distil: {teachers: [linear], share: 0.25, labels: hard}\n",
    )
    hard, _ = learned(root, "distilled")
    gold = run_of(root, "distilled")[0].competition.train.targets
    own = gold[[int(id_.removeprefix("r")) for id_ in hard.ids]]
    np.testing.assert_allclose(
        hard.targets, 0.75 * own + 0.25 * (soft.targets - 0.75 * own > 0.125)
    )
    assert set(hard.targets.ravel().tolist()) <= {0, 0.25, 0.75, 1}


def test_with_a_temperature_teachers_stand_beside_the_labels(root):
    """The same probabilities as are mixed in without; of unlabelled rows the pseudo-labels."""
    for model in ("distilled", "tempered"):
        trained(root, model)
    mixed, _ = learned(root, "distilled")
    train, optimistic = learned(root, "tempered")
    gold, more = train.take(np.arange(20)), train.take(np.arange(20, 38))
    assert set(gold.targets.ravel().tolist()) == {0, 1} and optimistic == []
    np.testing.assert_allclose(0.75 * gold.targets + 0.25 * gold.taught, mixed.targets)
    assert more.taught.tolist() == more.targets.tolist()
    assert (more.origin == "pseudo").all()


def test_hard_pseudo_labels_have_no_temperature(root):
    """Such rows learn their labels alone."""
    write(root / "presets/tempered.yaml", NETWORK + TEMPERED + HARD)
    trained(root, "tempered")
    train, _ = learned(root, "tempered")
    assert np.isnan(train.taught[:, 0]).tolist() == [False] * 20 + [True] * 6


def test_a_temperature_is_part_of_what_a_run_is(root, capsys):
    trained(root, "tempered")
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "tempered", "--fold", "0", "--set", "distil.temperature=3"],
        "tempered seed 0 fold0 is finished with other settings or data (distil.temperature 2.0 → 3.0): "
        "add --force (FORCE=1) to train it again, or NAME= to keep a variant beside it",
        capsys,
    )


def test_linear_models_have_no_temperature(root, capsys):
    write(root / "presets/distilled.yaml", LINEAR + TEMPERED)
    refuses(
        root,
        ["train", "--model", "distilled", "--fold", "0"],
        "distilled.yaml: learner tfidf learns from teachers at distil.temperature 1 only: leave the "
        "setting for it out",
        capsys,
    )


def test_a_full_run_is_distilled_from_out_of_fold_predictions(root):
    """It leaves nothing out, so that nothing leaks."""
    for fold in ("0", "1", "2"):
        assert foldstack(root, "train", "--model", "linear", "--fold", fold) == 0
    assert foldstack(root, "train", "--model", "distilled", "--fold", "full") == 0
    record = Store(root).read_run(RunKey("distilled", 0, ()))
    assert set(record.identity.distil) == {f"linear/fold{k}" for k in range(3)}
    assert record.optimistic == []


def test_the_bare_variant_is_marked(root):
    trained(root, "public")
    record = Store(root).read_run(RunKey("public", 0, (0,)))
    assert set(record.identity.distil) == {"linear/fold1", "linear/fold2"}
    assert record.optimistic == [
        "its targets hold predictions of runs that have learned the held-out fold"
    ]


# No label of the held-out fold teaches


def bytes_of(rows: Rows) -> list[bytes]:
    taught = b"" if rows.taught is None else rows.taught.tobytes()
    return [rows.targets.tobytes(), taught, rows.weights.tobytes(), repr(rows.texts).encode()]


@pytest.mark.parametrize(
    "model, leaks",
    [
        ("pupil", False),
        ("fitted", False),
        ("distilled", False),
        ("tempered", False),
        ("public", True),
    ],
)
def test_turned_labels_of_the_held_out_fold_change_nothing(root, model, leaks):
    trained(root, model)
    before, _ = learned(root, model)
    ws, run = run_of(root, model)
    turn_labels(root, set(ws.competition.train.ids[run.folds.held_out((0,))]))
    for name in ("linear", "other"):
        for key in ws.store.runs(name):
            options = ("--model", name, "--fold", key.run.removeprefix("fold"), "--force")
            assert foldstack(root, "train", *options) == 0
    after, _ = learned(root, model)
    assert (bytes_of(before) != bytes_of(after)) == leaks


# Runs that are there, stale or wrong


def test_missing_teachers_are_trained_first(root, capsys):
    assert foldstack(root, "train", "--model", "distilled", "--fold", "0") == 0
    assert "train: first 2 runs of linear, which others depend on" in capsys.readouterr().out
    assert Store(root).read_run(RunKey("linear", 0, (0, 1))) is not None


def test_settings_that_are_given_are_not_for_teachers(root, capsys):
    refuses(
        root,
        ["train", "--model", "pupil", "--fold", "0", "--set", "C=1"],
        "pupil seed 0 fold0: its unlabelled rows are labelled by runs of linear that are missing: run "
        "`make train MODEL=linear FOLD=0 SEED=0`",
        capsys,
    )


def test_teachers_of_teachers(root):
    """And what is taught is blended as anything else."""
    write(root / "presets/second.yaml", LINEAR + "pseudo_labels: {teachers: pupil}\n")
    assert foldstack(root, "train", "--model", "second") == 0
    for model in ("linear", "other", "pupil", "second"):
        assert all(Store(root).read_run(RunKey(model, 0, (k,))) for k in range(3))
    assert foldstack(root, "blend", "--model", "second,linear") == 0
    assert foldstack(root, "submit") == 0


def reasons(root: Path, change: Callable[[], object]) -> list[str]:
    trained(root, "pupil")
    change()
    ws, _ = run_of(root, "pupil")
    found = why_stale(ws, ws.store.read_run(RunKey("pupil", 0, (0,))))
    return [why.split(" (hash")[0] for why in found]


def test_a_run_is_stale_whose_teacher_was_trained_again(root):
    options = ("--model", "linear", "--fold", "0", "--force", "--set", "C=1")
    found = reasons(root, lambda: foldstack(root, "train", *options))
    assert found == [
        "depends on linear seed 0 fold0 (pseudo_labels.teachers), which was trained again since"
    ]


def test_a_run_is_stale_whose_unlabelled_rows_are_others(root):
    found = reasons(root, lambda: write(root / "input/more.csv", "text\nanother\n"))
    assert found == ["was made with other unlabelled rows"]


def test_a_run_is_stale_whose_unlabelled_rows_are_of_other_groups(tmp_path):
    """A pool row of a held-out row's group is not learned, so that the group is part of what is."""
    root = by_author(tmp_path / "w", "an unheard thing")
    found = reasons(
        root, lambda: write(root / "input/more.csv", "text,author\nan unheard thing,author0\n")
    )
    assert found == ["was made with other unlabelled rows"]


def test_a_run_is_stale_whose_test_rows_have_other_features(tmp_path):
    """A teacher may read them."""
    root = make_workspace(tmp_path / "w", n=30, numeric=["size"])
    for name in ("train", "test"):
        lines = (root / f"input/{name}.csv").read_text().splitlines()
        sized = [f"{line},{i * i}" for i, line in enumerate(lines[1:])]
        write(root / f"input/{name}.csv", "\n".join([f"{lines[0]},size", *sized]) + "\n")
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "presets/pupil.yaml", LINEAR + "pseudo_labels: {teachers: linear}\n")
    assert foldstack(root, "folds") == 0
    test = root / "input/test.csv"
    found = reasons(root, lambda: write(test, test.read_text().replace(",25\n", ",26\n")))
    assert found == ["was made with other unlabelled rows"]


OF_ALL_TEXTS = {"train": "skipgram", "texts": "workspace"}


@pytest.mark.parametrize(
    "data, reads",
    [
        ({"learner": "network", "vectors": OF_ALL_TEXTS}, True),
        ({"learner": "network", "vectors": {"train": "skipgram"}}, False),
        ({"learner": "network"}, False),
        ({"learner": "vectors", "source": {"name": "word_mean", "vectors": OF_ALL_TEXTS}}, True),
        ({"learner": "vectors", "source": "lda"}, False),
    ],
    ids=str,
)
def test_what_learns_from_all_texts_depends_on_the_pool(root, data, reads):
    """Bug guarded: word vectors of all texts, and no run was stale after another pool."""
    ws, _ = run_of(root, "linear")
    settings = config.validate(LearnerSettings.registered[data["learner"]], data, "mine.yaml")
    before = unlabelled_hash(ws, settings)
    write(root / "input/more.csv", "text\nanother\n")
    after = unlabelled_hash(run_of(root, "linear")[0], settings)
    assert (before != after) == reads and (before is None) != reads


def test_another_pool_leaves_other_runs_as_they_are(root):
    trained(root, "linear")
    write(root / "input/more.csv", "text\nanother\n")
    ws, _ = run_of(root, "linear")
    assert why_stale(ws, ws.store.read_run(RunKey("linear", 0, (0,)))) == []


def test_a_stale_teacher_is_refused(root, capsys):
    trained(root, "linear")
    trained(root, "other")
    turn_labels(root, {"r0", "r1"})
    capsys.readouterr()
    assert foldstack(root, "train", "--model", "pupil", "--fold", "0") == 2
    assert (
        "pupil seed 0 fold0: pseudo_labels.teachers needs linear seed 0 fold0, which was made with"
        in (capsys.readouterr().err)
    )


def test_teachers_that_would_not_be_kept_are_refused_before_they_are_trained(root, capsys):
    settings = yaml.safe_load((root / "competition.yaml").read_text())
    write(root / "competition.yaml", yaml.safe_dump(settings | {"store": {"keep_models": False}}))
    refuses(
        root,
        ["train", "--model", "pupil", "--fold", "0"],
        "pupil seed 0 fold0: pseudo_labels.teachers requires the fitted model of linear seed 0 fold0, "
        "which store.keep_models: false would not keep: set it to true",
        capsys,
    )
    assert foldstack(root, "train", "--model", "distilled", "--fold", "0") == 0


def test_a_model_does_not_teach_itself(root, capsys):
    write(root / "presets/pupil.yaml", LINEAR + "pseudo_labels: {teachers: pupil}\n")
    refuses(
        root,
        ["train", "--model", "pupil", "--fold", "0"],
        "pupil seed 0 fold0: pseudo_labels.teachers names the model itself: name another one",
        capsys,
    )


@pytest.mark.parametrize("way", ["pseudo_labels", "distil"])
@pytest.mark.parametrize("models", ["a", "a,b"])
def test_two_models_do_not_teach_each_other(root, capsys, way, models):
    for model, teacher in (("a", "b"), ("b", "a")):
        write(root / f"presets/{model}.yaml", LINEAR + f"{way}: {{teachers: {teacher}}}\n")
    assert foldstack(root, "train", "--model", models, "--fold", "0") == 2
    assert capsys.readouterr().err == (
        "foldstack: a and b depend on each other, so that none can be the first: name another "
        "model in one of them\n"
    )


def test_distillation_with_too_few_folds_is_refused_before_any_run(tmp_path, capsys):
    """Each teacher leaves one fold more out: of three models in a chain the last one three."""
    root = make_workspace(tmp_path / "w", n=30, models=["linear"])
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "presets/first.yaml", LINEAR + "distil: {teachers: linear}\n")
    write(root / "presets/second.yaml", LINEAR + "distil: {teachers: first}\n")
    assert foldstack(root, "folds") == 0
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "second", "--fold", "0"],
        "first seed 0 fold0-1: distil is by runs that leave 3 folds out, which are all: set folds.count "
        "to more (with DEBUG=1 by SET=folds.count=), or leave distil out",
        capsys,
    )
    assert not (root / "oof/linear").exists()


def test_distillation_in_time_order_is_refused_before_any_run(tmp_path, capsys):
    root = make_workspace(
        tmp_path / "w", n=30, models=["linear"], time="day", folds={"count": 3, "kind": "time"}
    )
    lines = (root / "input/train.csv").read_text().splitlines()
    dated = [f"{line},{i}" for i, line in enumerate(lines[1:])]
    write(root / "input/train.csv", "\n".join(["id,text,label,day", *dated]) + "\n")
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "presets/distilled.yaml", LINEAR + "distil: {teachers: linear}\n")
    assert foldstack(root, "folds") == 0
    capsys.readouterr()
    for fold, name in (("1", "fold1"), ("full", "full")):
        refuses(
            root,
            ["train", "--model", "distilled", "--fold", fold],
            f"distilled seed 0 {name}: distil requires runs that leave two folds out, which time order "
            "cannot: remove it",
            capsys,
        )
    assert not (root / "oof/linear").exists()


def test_a_pool_must_be_named(root, capsys):
    settings = (root / "competition.yaml").read_text()
    lines = [x for x in settings.splitlines() if "more.csv" not in x and not x.startswith("pool")]
    write(root / "competition.yaml", "\n".join(lines) + "\n")
    refuses(
        root,
        ["train", "--model", "pupil", "--fold", "0"],
        "pupil.yaml: pseudo_labels.texts names the pool, but competition.yaml has no `pool`: name a "
        "file there, or set texts to [test]",
        capsys,
    )


REFUSED: list[tuple[dict, str, str]] = [
    ({"labels": "hard"}, "regression", "pseudo_labels.labels hard is for labels"),
    ({"confidence": 0.5}, "regression", "pseudo_labels.confidence is for labels"),
    ({"top": 5}, "regression", "pseudo_labels.top is for labels"),
    ({"fitted": ["calibration"]}, "regression", "pseudo_labels.fitted calibration is for labels"),
    ({"top": 5}, "multilabel", "pseudo_labels.top counts rows per class"),
]


@pytest.mark.parametrize("given, kind, sentence", REFUSED)
def test_settings_that_do_not_apply(given, kind, sentence):
    with pytest.raises(ValueError, match=sentence):
        PseudoLabels(teachers=["a"], **given).check(Kind(kind), [])


def test_teachers_are_a_name_a_list_or_weights():
    forms = ["a, b", ["a", "b"], {"a": 1, "b": 1}]
    assert len({str(PseudoLabels(teachers=form).teachers) for form in forms}) == 1
    assert Distillation(teachers="a").teachers == {"a": 1.0}
    for given, sentence in (
        ({"teachers": []}, "pseudo_labels.teachers"),
        ({"teachers": ["a"], "agreement": True}, "`agreement` is of several teachers"),
        ({"teachers": {"a": 0}}, "pseudo_labels.teachers.a"),
    ):
        with pytest.raises(InputError) as refused:
            data = {"learner": "tfidf", "pseudo_labels": given}
            config.validate(TfidfSettings, data, "mine.yaml")
        assert sentence in str(refused.value)


# Other stages


def test_a_pupil_is_blended_and_predicts_other_test_files(root):
    """What it has learned of the old test file stays its own."""
    assert foldstack(root, "train", "--model", "pupil,linear") == 0
    assert foldstack(root, "blend", "--model", "pupil") == 0
    assert foldstack(root, "submit") == 0
    new = write(root / "input/new.csv", "id,text\nn1,a good film\nn2,a bad plot\n")
    assert foldstack(root, "rerun", "--test", str(new)) == 0


def test_debug_has_the_pool(root):
    assert foldstack(root, "folds", "--debug") == 0
    assert foldstack(root, "train", "--model", "pupil", "--fold", "0", "--debug") == 0
    record = Store(root / "debug").read_run(RunKey("pupil", 0, (0,)))
    assert set(record.identity.pseudo) == {"linear/fold0", "other/fold0"}


# Coin flips

WORDS = [f"w{i}" for i in range(60)]


def coin_flips(root: Path, seed: int) -> Path:
    """400 texts whose labels are coin flips, 100 test texts and 100 of a pool."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 8)) for _ in range(600)]
    train = "".join(f"r{i},{t},{rng.integers(2)}\n" for i, t in enumerate(texts[:400]))
    write(root / "input/train.csv", "id,text,label\n" + train)
    test = "".join(f"t{i},{t}\n" for i, t in enumerate(texts[400:500]))
    write(root / "input/test.csv", "id,text\n" + test)
    sample = "".join(f"t{i},0\n" for i in range(100))
    write(root / "input/sample_submission.csv", "id,label\n" + sample)
    write(root / "input/more.csv", "text\n" + "\n".join(texts[500:]) + "\n")
    assert foldstack(root, "folds", "--force") == 0
    shutil.rmtree(root / "oof", ignore_errors=True)
    return root


@pytest.mark.slow
def test_coin_flips_teach_nothing(root):
    """Bug guarded: a model that is taught what a row's label is by a model that has learned it.

    The interval is the one that `blend` shows. By luck a few of 40 draws are above chance beyond it, for
    a model without teachers, too; a leak lifts them all.
    """
    above = {"linear": 0, "pupil": 0, "distilled": 0, "public": 0}
    for seed in range(40):
        coin_flips(root, seed)
        for model in above:
            for fold in range(3):
                trained(root, model, fold)
            ws, run = run_of(root, model)
            members = members_of(ws, [read_model(ws, model, run.folds)], run.folds)
            found, _ = single_estimate(members, 0, ws.competition.metric, False, seed=0)
            above[model] += found.low > 0.5
    print(f"of 40 draws above chance: {above}")
    assert above["linear"] <= 3 and above["pupil"] <= 3 and above["distilled"] <= 5
    assert above["public"] > 30


# Runs that serve together

UNLIKE = (
    "would have other settings than linear seed 0 fold0 (C 10.0 → 1.0), so that they could not serve "
    "together: give the same SET=, another NAME=, or --force (FORCE=1)"
)


def test_a_run_of_two_folds_with_other_settings_is_not_trained(root, capsys):
    """Nor one on all rows: they serve with those of one fold."""
    trained(root, "linear")
    for fold in ("0-1", "full"):
        name = "full" if fold == "full" else f"fold{fold}"
        refuses(
            root,
            ["train", "--model", "linear", "--fold", fold, "--set", "C=1"],
            f"linear seed 0 {name} {UNLIKE}",
            capsys,
        )


def test_missing_teachers_have_the_settings_of_those_that_are_there(root, capsys):
    trained(root, "linear")
    write(root / "presets/linear.yaml", LINEAR.replace("C: 10", "C: 1"))
    refuses(
        root,
        ["train", "--model", "distilled", "--fold", "0"],
        f"linear seed 0 fold0-1 {UNLIKE}",
        capsys,
    )


def test_teachers_with_different_settings_are_refused(root, capsys):
    """Also those of a pupil's other folds, whose predictions are pooled with this one's."""
    trained(root, "pupil")
    options = ["train", "--model", "linear", "--fold", "1", "--force", "--set", "C=1"]
    assert foldstack(root, *options) == 0
    trained(root, "other", fold=1)
    refuses(
        root,
        ["train", "--model", "pupil", "--fold", "1"],
        "pupil seed 0 fold1 depends on runs that were made with different settings, linear seed 0 fold1 "
        "and linear seed 0 fold0 (C 1.0 → 10.0): train those of one kind again with --force (FORCE=1)",
        capsys,
    )


def test_a_model_that_is_not_listed_and_lacks_folds_is_no_member(root, capsys):
    """It does not stop the blend of the others, and is named; with all folds it is a member."""
    assert foldstack(root, "train", "--model", "linear,other") == 0
    trained(root, "pupil")
    capsys.readouterr()
    assert foldstack(root, "blend") == 0
    assert set(Store(root).read_blend("blend").members) == {"linear", "other"}
    assert (
        "blend: without pupil, which is not listed in competition.yaml and has runs of 1 of the folds: "
        "MODEL= names members"
    ) in capsys.readouterr().out.splitlines()
    assert foldstack(root, "train", "--model", "pupil") == 0
    assert foldstack(root, "blend") == 0
    assert set(Store(root).read_blend("blend").members) == {"linear", "other", "pupil"}
    assert foldstack(root, "train", "--model", "linear", "--force") == 0
    write(root / "presets/linear.yaml", LINEAR.replace("C: 10", "C: 1"))
    assert foldstack(root, "train", "--model", "linear", "--force") == 0
    capsys.readouterr()
    assert foldstack(root, "blend") == 0
    assert set(Store(root).read_blend("blend").members) == {"linear", "other"}
    assert (
        "blend: without pupil, which is not listed in competition.yaml and has a run that depends on "
        "linear seed 0 fold0 (pseudo_labels.teachers), which was trained again since: MODEL= names "
        "members"
    ) in capsys.readouterr().out.splitlines()


def test_runs_of_earlier_folds_stop_nothing(root):
    """Also those of folds that are no more, with other settings: they serve nothing today."""
    for fold in range(3):
        trained(root, "linear", fold)
    assert foldstack(root, "--set", "folds.count=2", "folds", "--force") == 0
    assert foldstack(root, "set", "--set", "folds.count=2") == 0
    write(root / "presets/linear.yaml", LINEAR.replace("C: 10", "C: 1"))
    assert foldstack(root, "train", "--model", "linear", "--force") == 0
    assert foldstack(root, "train", "--model", "linear", "--fold", "full") == 0
    assert foldstack(root, "train", "--model", "other", "--force") == 0
    assert foldstack(root, "train", "--model", "pupil") == 0


def test_the_first_of_a_stale_chain_is_named(root, capsys):
    write(root / "presets/second.yaml", LINEAR + "pseudo_labels: {teachers: pupil}\n")
    trained(root, "pupil")
    assert foldstack(root, "train", "--model", "linear", "--fold", "0", "--force") == 0
    write(root / "presets/linear.yaml", LINEAR.replace("C: 10", "C: 1"))
    assert foldstack(root, "train", "--model", "linear", "--fold", "0", "--force") == 0
    write(root / "presets/third.yaml", LINEAR + "pseudo_labels: {teachers: second}\n")
    turn_labels(root, {"r0"})
    capsys.readouterr()
    assert foldstack(root, "train", "--model", "second", "--fold", "0") == 2
    said = capsys.readouterr().err
    assert (
        "needs pupil seed 0 fold0, which depends on linear seed 0 fold0, which was made with"
        in said
    )
    assert said.endswith("run `make train MODEL=linear FOLD=0 SEED=0 FORCE=1` first\n")


def test_a_removed_model_is_missed_before_any_run(root, capsys):
    trained(root, "linear")
    shutil.rmtree(next((root / "oof/linear").rglob("model*")))
    refuses(
        root,
        ["train", "--model", "pupil", "--fold", "0"],
        "pupil seed 0 fold0: pseudo_labels.teachers requires the fitted model of linear seed 0 fold0, "
        "which was removed: run `make train MODEL=linear FOLD=0 SEED=0 FORCE=1` first",
        capsys,
    )
    assert Store(root).read_run(RunKey("other", 0, (0,))) is None


def test_judges_of_copies_require_a_fold_more_too(tmp_path, capsys):
    root = make_workspace(tmp_path / "w", n=30, models=["linear"], folds={"count": 3})
    write(root / "presets/linear.yaml", LINEAR)
    washed = "augment: [swap_words]\naugment_copies: 1\naugment_washed_by: linear\n"
    write(root / "presets/washed.yaml", NETWORK + washed)
    write(root / "presets/pupil.yaml", LINEAR + "distil: {teachers: washed}\n")
    assert foldstack(root, "folds") == 0
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "pupil", "--fold", "0"],
        "washed seed 0 fold0-1: augment_washed_by is by runs that leave 3 folds out, which are all: set "
        "folds.count to more (with DEBUG=1 by SET=folds.count=), or leave augment_washed_by out",
        capsys,
    )
