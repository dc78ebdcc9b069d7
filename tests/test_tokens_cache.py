"""Texts tokenised once by each tokenizer, and found by every later run."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Semaphore

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from foldstack import files as files_module
from foldstack.learners import encoder
from foldstack.stages.fitted import token_cache
from foldstack.text import cache as cache_module
from foldstack.text import sequences
from foldstack.text.cache import TokenCache, digests_of, tokenizer_key
from foldstack.text.cutting import Texts, cut_texts
from foldstack.text.sequences import Stretches, backend_of, copy_to, encode, join
from foldstack.text.tokens import HEAD, to_tokens
from foldstack.workspace import Workspace
from makers import make_rows
from test_presets import ODD, checkpoint
from tiny import add_preset, files, foldstack, make_workspace

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

TEXTS = ["a good film", "a bad plot", "", "a good film", "dull"]
FAMILIES = ["bert", "roberta", "xlnet", "deberta-v3-base", "roformer-zh"]


@pytest.fixture(scope="module")
def bert(backbone: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(backbone)


@pytest.fixture
def tokenised(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The texts of each call that asks a tokenizer on behalf of the cache, in order of the alphabet."""
    calls = []

    def watched(texts, tokenizer):
        calls.append(sorted(texts))
        return sequences.encode_each(texts, tokenizer)

    monkeypatch.setattr(cache_module, "encode_each", watched)
    return calls


def lists(texts: Stretches) -> list[list[int]]:
    return [texts.flat[a:b].tolist() for a, b in zip(texts.starts, texts.ends, strict=True)]


def parts_of(folder: Path) -> list[Path]:
    return sorted(p.parent for p in folder.glob("*/*/part.json"))


# What is found is what the tokenizer gives


@pytest.mark.parametrize("name", FAMILIES)
def test_the_backend_gives_the_ids_of_the_tokenizer(name, tmp_path):
    """It is asked directly, without what a BatchEncoding holds beside the ids."""
    checkpoint(name, tmp_path / "b")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "b")
    tokenizer(
        "good " * 50, truncation=True, padding="max_length", max_length=8
    )  # leaves its settings
    assert backend_of(tokenizer) is not None
    texts = [*ODD, *TEXTS, "good film " * 300, "[SEP] <s> a<mask>b"]
    plain = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert lists(encode(texts, tokenizer)) == plain
    cache = TokenCache(tmp_path / "tokens")
    for _ in range(2):
        assert lists(cache.read(make_rows(texts), tokenizer)[0]) == plain


def test_a_tokenizer_with_python_code_of_its_own_is_called(bert):
    class Spaced(type(bert)):
        def _encode_plus(self, text, **options):
            return super()._encode_plus(["film", *text], **options)[1:]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bert, "__class__", Spaced)
        assert backend_of(bert) is None


def test_pairs_and_prefixes(bert, tmp_path):
    rows = make_rows([("a good film", "dull"), ("a bad plot", "a good film")])
    cache = TokenCache(tmp_path)
    for prefix in ("", "good "):
        for _ in range(2):
            with_cache = Texts.read(rows, bert, prefix, cache)
            without = Texts.read(rows, bert, prefix)
            assert [*map(lists, with_cache.columns)] == [*map(lists, without.columns)]
            assert with_cache.fixed == without.fixed
            a, b = (to_tokens(t, cut_texts(t, 6, HEAD), True) for t in (with_cache, without))
            assert (a.flat.dtype, a.flat.tolist()) == (b.flat.dtype, b.flat.tolist())
            assert a.offsets.tolist() == b.offsets.tolist()


def test_no_rows_and_no_tokens(bert, tmp_path):
    cache = TokenCache(tmp_path)
    assert lists(cache.read(make_rows([]), bert)[0]) == []
    for _ in range(2):
        assert lists(cache.read(make_rows(["", " "]), bert)[0]) == [[], []]


@pytest.mark.parametrize("size, dtype", [(2**16, "uint16"), (2**16 + 1, "int32")])
def test_ids_take_two_bytes_where_the_vocabulary_fits(tmp_path, size, dtype):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"[UNK]": 0, "last": size - 1}
    backend = Tokenizer(models.WordLevel(words, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    cache = TokenCache(tmp_path)
    assert lists(cache.read(make_rows(["last one last"]), tokenizer)[0]) == [
        [size - 1, 0, size - 1]
    ]
    (part,) = parts_of(tmp_path)
    assert np.load(part / "ids.npy").dtype == dtype


def test_ids_are_mapped_and_not_read(bert, tmp_path):
    TokenCache(tmp_path).read(make_rows(TEXTS), bert)
    (texts,) = TokenCache(tmp_path).read(make_rows(TEXTS[::-1]), bert)
    assert isinstance(texts.flat, np.memmap)


# What is tokenised, and when


def test_equal_texts_are_tokenised_once(bert, tmp_path, tokenised, capsys):
    cache = TokenCache(tmp_path)
    cache.read(make_rows(TEXTS), bert)
    assert tokenised == [["", "a bad plot", "a good film", "dull"]]
    said = capsys.readouterr().out
    assert said.startswith("4 texts tokenised in 0:00 (") and said.endswith("for other runs\n")
    cache.read(make_rows(TEXTS[::-1]), bert)
    TokenCache(tmp_path).read(make_rows(["dull"]), bert)
    assert len(tokenised) == 1
    assert capsys.readouterr().out == ""
    both = cache.read(make_rows(["a great song", "dull"]), bert)
    assert tokenised[1:] == [["a great song"]]
    assert capsys.readouterr().out.endswith("kept for other runs; 1 were there\n")
    assert lists(both[0]) == lists(encode(["a great song", "dull"], bert))  # from two parts


def test_texts_of_several_parts_come_in_the_order_of_the_rows(bert, tmp_path):
    """Of unlike lengths, so that neither a text nor where it is cut can be another's."""
    parts = [["dull", "a good film"], ["a bad plot and a song", ""], ["great start film end"]]
    for texts in parts:
        TokenCache(tmp_path).read(make_rows(texts), bert)
    assert len(parts_of(tmp_path)) == 3
    (first, second), (third, fourth), (fifth,) = parts
    mixed = [fifth, first, third, second, third, fourth, second]
    (found,) = TokenCache(tmp_path).read(make_rows(mixed), bert)
    assert lists(found) == lists(encode(mixed, bert))


def test_the_first_lack_brings_the_rows_ahead(bert, tmp_path, tokenised):
    train, test = make_rows(["a good film", "dull"]), make_rows(["a bad plot"])
    cache = TokenCache(tmp_path, [train, test])
    cache.read(train.take(np.array([1])), bert)
    assert tokenised == [["a bad plot", "a good film", "dull"]]
    cache.read(test, bert)
    assert len(tokenised) == 1 == len(parts_of(tmp_path))


def test_another_tokenizer_has_its_own_ids(backbone, tmp_path):
    """Words, added tokens and how special ones are read: all that changes ids changes the key."""

    def variant(change) -> PreTrainedTokenizerBase:
        tokenizer = AutoTokenizer.from_pretrained(backbone)
        change(tokenizer)
        return tokenizer

    same = variant(lambda t: t("a", truncation=True, padding="max_length", max_length=3))
    added = variant(lambda t: t.add_tokens(["good film"]))
    split = variant(lambda t: setattr(t, "split_special_tokens", True))
    cased = variant(lambda t: setattr(t.backend_tokenizer, "normalizer", None))
    plain = variant(lambda t: None)
    assert tokenizer_key(same) == tokenizer_key(plain)
    assert len({tokenizer_key(t) for t in (plain, added, split, cased)}) == 4
    cache, rows = TokenCache(tmp_path), make_rows(["A good film [SEP]"])
    for tokenizer in (plain, added, split, cased, plain):
        expected = tokenizer(["A good film [SEP]"], add_special_tokens=False)["input_ids"]
        assert lists(cache.read(rows, tokenizer)[0]) == expected


def test_another_version_of_the_library_has_its_own_ids(bert, monkeypatch):
    before = tokenizer_key(bert)
    monkeypatch.setattr(cache_module.importlib.metadata, "version", lambda name: "0.0")
    assert tokenizer_key(bert) != before


def test_a_tokenizer_that_asks_a_package_is_not_kept(tmp_path):
    """RoFormer's asks rjieba: neither its content nor its version is in the tokenizer's file."""
    checkpoint("roformer-zh", tmp_path / "b")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "b")
    assert tokenizer_key(tokenizer) is None
    (texts,) = TokenCache(tmp_path / "tokens").read(make_rows(["今天天气非常好"]), tokenizer)
    assert lists(texts) == tokenizer(["今天天气非常好"], add_special_tokens=False)["input_ids"]
    assert not (tmp_path / "tokens").exists()


# Files


def spoil(path: Path) -> None:
    """Another last byte, the size as it was."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["ids.npy", "ends.npy", "digests.npy", "part.json"])
@pytest.mark.parametrize("harm", [spoil, Path.unlink, lambda path: os.truncate(path, 3)])
def test_a_damaged_part_is_made_anew(name, harm, bert, tmp_path, tokenised, capsys):
    TokenCache(tmp_path).read(make_rows(TEXTS), bert)
    before = files(tmp_path)
    (part,) = parts_of(tmp_path)
    capsys.readouterr()
    harm(part / name)
    assert lists(TokenCache(tmp_path).read(make_rows(TEXTS), bert)[0]) == lists(encode(TEXTS, bert))
    assert capsys.readouterr().out.startswith(f"{part} is damaged: tokenising its texts again\n4 ")
    assert len(tokenised) == 2
    assert files(tmp_path) == before


def test_a_killed_run_leaves_nothing_that_is_trusted(bert, tmp_path, monkeypatch):
    def killed(texts, tokenizer):
        yield next(sequences.encode_each(texts, tokenizer))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache_module, "encode_each", killed)
        TokenCache(tmp_path).read(make_rows(TEXTS), bert)
    assert [path for path in files(tmp_path) if not path.endswith(".lock")] == []
    assert lists(TokenCache(tmp_path).read(make_rows(TEXTS), bert)[0]) == lists(encode(TEXTS, bert))


def test_a_folder_that_cannot_be_written_is_gone_without(bert, tmp_path, capsys):
    (tmp_path / "tokens").write_text("no folder")
    (texts,) = TokenCache(tmp_path / "tokens").read(make_rows(TEXTS), bert)
    assert lists(texts) == lists(encode(TEXTS, bert))
    sentence = f"tokenising without the cache in {tmp_path / 'tokens'}: Not a directory\n"
    assert capsys.readouterr().out == sentence


def test_a_folder_that_is_emptied_meanwhile_is_gone_without(bert, tmp_path, monkeypatch, capsys):
    """Else the texts that are not found would count as empty."""
    monkeypatch.setattr(TokenCache, "_write", lambda *args: None)
    (texts,) = TokenCache(tmp_path).read(make_rows(TEXTS), bert)
    assert lists(texts) == lists(encode(TEXTS, bert))
    sentence = f"tokenising without the cache in {tmp_path}: another process is emptying it\n"
    assert capsys.readouterr().out == sentence


def test_of_two_at_once_one_waits_for_the_other(bert, tmp_path, tokenised, monkeypatch):
    """A lock on a file holds between threads as between processes."""
    at_the_lock, lock, watched = Semaphore(0), files_module.fcntl.flock, cache_module.encode_each

    def counted(*args):
        at_the_lock.release()
        lock(*args)

    def slow(texts, tokenizer):
        assert all(at_the_lock.acquire(timeout=60) for _ in range(2))  # both are there
        return watched(texts, tokenizer)

    monkeypatch.setattr(files_module.fcntl, "flock", counted)
    monkeypatch.setattr(cache_module, "encode_each", slow)
    with ThreadPoolExecutor(2) as pool:
        caches = [TokenCache(tmp_path) for _ in range(2)]
        both = [pool.submit(cache.read, make_rows(TEXTS), bert) for cache in caches]
        for found in both:
            assert lists(found.result()[0]) == lists(encode(TEXTS, bert))
    assert len(tokenised) == 1


def test_somebody_else_was_quicker_where_locks_do_not_reach(bert, tmp_path, monkeypatch):
    def meanwhile(texts, tokenizer):
        with monkeypatch.context() as patch:
            patch.setattr(cache_module, "encode_each", sequences.encode_each)
            other = TokenCache(tmp_path)
            place = tmp_path / tokenizer_key(tokenizer)
            other._write(place, np.unique(digests_of(TEXTS)), texts, tokenizer)
        return sequences.encode_each(texts, tokenizer)

    monkeypatch.setattr(cache_module, "encode_each", meanwhile)
    (texts,) = TokenCache(tmp_path).read(make_rows(TEXTS), bert)
    assert lists(texts) == lists(encode(TEXTS, bert))
    assert len(parts_of(tmp_path)) == 1


# Runs


def make_runs(root: Path, backbone: Path, **settings: object) -> Path:
    """Folds of a workspace with this transformer."""
    make_workspace(root, models=["tiny"])
    add_preset(root, backbone, training={"epochs": 1}, **settings)
    assert foldstack(root, "folds") == 0
    return root


def train(root: Path, fold: int, *options: str) -> None:
    assert foldstack(root, "train", "--fold", str(fold), *options) == 0


def test_the_second_fold_starts_without_tokenising(backbone, tmp_path, tokenised, capsys):
    """So does another setting; a new test file costs its new texts."""
    root = make_runs(tmp_path, backbone)
    train(root, 0)
    assert [*map(len, tokenised)] == [30]  # all of train and test
    assert "30 texts tokenised in " in capsys.readouterr().out
    train(root, 1, "--seed", "1", "--name", "tail", "--set", "long=tail")
    assert len(tokenised) == 1
    assert "tokenised" not in capsys.readouterr().out
    path = root / "input/test.csv"
    path.write_text(path.read_text().replace("n25", "n99"))
    train(root, 0)
    assert [*map(len, tokenised)] == [30, 1]


def test_runs_have_the_same_bytes_with_and_without(backbone, tmp_path, monkeypatch):
    make_runs(tmp_path / "with", backbone)
    make_runs(tmp_path / "without", backbone)
    ws = Workspace.open(tmp_path / "with", [])
    token_cache(ws)().read(ws.competition.test, AutoTokenizer.from_pretrained(backbone))
    train(tmp_path / "with", 0)
    monkeypatch.setattr("foldstack.stages.one_run.token_cache", lambda ws: None)
    train(tmp_path / "without", 0)
    assert not (tmp_path / "without/oof/.tokens").exists()
    a, b = (files(tmp_path / name / "oof/tiny/seed0/fold0") for name in ("with", "without"))
    assert a.keys() == b.keys()
    assert [name for name in a if name != "run.json" and a[name] != b[name]] == []


def test_texts_drawn_anew_in_each_epoch_are_not_kept(backbone, tmp_path, tokenised, monkeypatch):
    change = {"name": "delete_words", "probability": 1.0}
    root, drawn = make_runs(tmp_path, backbone, augment=[change]), []
    read = encoder.Texts.read

    def watched(rows, tokenizer, prefix, cache=None, laid=None):
        drawn.extend(rows.texts if cache is None else [])
        return read(rows, tokenizer, prefix, cache, laid)

    monkeypatch.setattr(encoder.Texts, "read", watched)
    train(root, 0)
    assert len(drawn) == 32 and drawn[:16] == drawn[16:]  # for their pieces, and to learn from
    assert [len(texts) for texts in tokenised] == [30]


def test_a_linear_model_does_without(tmp_path, monkeypatch):
    """To make a cache is to import transformers, which takes seconds."""
    root = make_workspace(tmp_path, folds={"count": 2})
    assert foldstack(root, "folds") == 0

    def forbidden() -> None:
        raise AssertionError

    monkeypatch.setattr("foldstack.stages.one_run.token_cache", lambda ws: forbidden)
    train(root, 0)


def test_clean_oof_removes_the_tokens(bert, tmp_path):
    root = make_workspace(tmp_path)
    token_cache(Workspace.open(root, []))().read(make_rows(["a good film"]), bert)
    assert parts_of(root / "oof/.tokens")
    assert foldstack(root, "clean", "oof") == 0
    assert list((root / "oof").iterdir()) == []


# Flat arrays


def test_join_copies_what_slices_would(monkeypatch):
    """Also where a row is longer than what is copied at once, and where rows are empty."""
    monkeypatch.setattr(sequences, "BLOCK", 4)
    rng = np.random.default_rng(0)
    a = Stretches.of(np.arange(100, dtype=np.uint16), rng.multinomial(100, [0.05] * 20))
    b = Stretches(np.arange(9, dtype=np.int32), np.arange(20) % 9, np.full(20, 9))
    none = Stretches.repeat(np.zeros(0, dtype=np.int32), 20)
    flat, offsets = join([none, a.kept(np.arange(20) % 3 > 0), b, none])
    rows = [x + y for x, y in zip(lists(a.kept(np.arange(20) % 3 > 0)), lists(b), strict=True)]
    assert flat.dtype == np.int32
    assert [flat[s:e].tolist() for s, e in pairwise(offsets)] == rows
    out = np.zeros(10, dtype=np.int64)
    copy_to(out, np.array([7, 1]), Stretches.of(np.array([1, 2, 3, 4, 5]), [3, 2]))
    assert out.tolist() == [0, 4, 5, 0, 0, 0, 0, 1, 2, 3]


# Threads


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_tokenising_takes_the_threads_of_the_run(backbone):
    """Rayon makes its pool with the first batch, so this wants a process of its own."""
    program = (
        "import os, sys\n"
        "from tokenizers import Tokenizer\n"
        "from foldstack.training.precision import prepare_cpu\n"
        "prepare_cpu(3)\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "Tokenizer.from_file(sys.argv[1]).encode_batch_fast(['a good film'] * 99)\n"
        "print(len(os.listdir('/proc/self/task')) - before)\n"
    )
    command = [sys.executable, "-c", program, str(backbone / "tokenizer.json")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert out.stdout == "3\n"
