"""What becomes of words: stop words, stems, parts of speech, a dictionary, characters beside words."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
import rjieba
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from foldstack import config
from foldstack.bundle.vendored import PURE, vendor
from foldstack.errors import InputError
from foldstack.learners import LearnerContext
from foldstack.learners.network import NetworkLearner
from foldstack.learners.tfidf import TfidfLearner
from foldstack.techniques import NetworkSettings, TfidfSettings, Words
from foldstack.techniques.word_rules import TAGS, Language, Stemmer
from foldstack.text.special import set_special
from foldstack.text.tokens import tokenise
from foldstack.text.word_reader import NONE, WordLists, WordReader
from foldstack.text.words import BORDER, SPECIAL, WordTokenizer, kind_of, words_of
from makers import make_rows, make_task
from tiny import foldstack, make_workspace, refuses, run_of, write

PACKAGES = ("snowballstemmer", "stopwordsiso")
extra = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, PACKAGES)),
    reason="packages are not installed: pip install 'foldstack[words]'",
)
PHONE = "我不喜欢这个手机，质量很差 iPhone 12"


def read(text: str, files: dict[str, Path] | None = None, **settings: object) -> list[str]:
    """The words of a text, and that the tokenizer finds the same."""
    words = Words(**{"cut": "unicode", "min_count": 1} | settings)
    lists = WordLists.read(words, files)
    (found,) = words_of([text], words, lists)
    assert tokens_of(text, kind_of(words).fit([text], words, lists)) == [*found, "[END]"]
    return found


def tokens_of(
    text: str | tuple[str, ...], tokenizer: WordTokenizer, as_text: bool = True
) -> list[str]:
    set_special(tokenizer, as_text)
    found = tokenise(make_rows([text]), tokenizer, max_length=100)
    return tokenizer.convert_ids_to_tokens(found.flat.tolist())


def linear(tmp_path: Path, texts: list[str], **settings: object) -> TfidfLearner:
    """A linear model of the single words of these texts; dictionary and so on are in tmp_path."""
    made = TfidfSettings(
        **{"learner": "tfidf", "min_count": 1, "word_ngrams": (1, 1), "char_ngrams": (0, 0)}
        | settings
    )
    paths = {setting: tmp_path / name for setting, name in made.input_files.items()}
    learner = TfidfLearner(made, LearnerContext(make_task(), files=paths))
    learner.fit(make_rows(texts), None, tmp_path)
    return learner


# Stop words


def test_stop_words_of_a_language_are_left_out():
    assert read("The film was not GOOD", stop_words="en") == ["film", "good"]
    assert {"not", "never", "no"} < ENGLISH_STOP_WORDS


def test_stop_words_are_adapted():
    rules = {"language": "en", "keep": ["Not"], "add": ["Film"]}
    assert read("The film was not GOOD", stop_words=rules) == ["not", "good"]
    assert read("The film was", stop_words={"add": ["the"]}) == ["film", "was"]


def test_stop_words_are_compared_in_small_letters():
    assert read("The FILM was the", lower=False, stop_words={"add": ["film", "The"]}) == ["was"]


def test_stop_words_of_a_file(tmp_path):
    path = write(tmp_path / "stop.txt", "\ufeff# mine\nfilm\n\n  was \n")
    given = {"file": "stop.txt", "keep": ["was"]}
    assert read("film was good", {"stop_words.file": path}, stop_words=given) == ["was", "good"]


@pytest.mark.parametrize("rule", ["add", "keep"])
def test_an_accent_may_be_composed_or_not(rule):
    apart = "cafe\u0301"
    rules = {"add": [apart]} if rule == "add" else {"add": ["caf\u00e9"], "keep": [apart]}
    found = read(f"{apart} caf\u00e9 film", stop_words=rules)
    assert found == (["film"] if rule == "add" else ["caf\u00e9", "caf\u00e9", "film"])


def test_an_empty_stop_word_is_none(capsys):
    assert read("film", stop_words={"add": ["", "was"]}) == ["film"]
    assert capsys.readouterr().out == ""


@extra
def test_stop_words_of_other_languages():
    assert read("das ist nicht gut", stop_words={"language": "de", "keep": ["nicht"]}) == ["nicht"]
    assert read("这个手机不错", cut="rjieba", stop_words="zh") == ["手机", "不错"]


def test_stop_words_of_several_words_are_named(capsys):
    """They would be left out by nobody."""
    assert read("do n't", stop_words={"add": ["don't", "do"]}) == ["n", "'", "t"]
    assert capsys.readouterr().out == (
        "stop words: 1 of 2 are several words here and match nothing, such as don't\n"
    )


# Stems


@extra
def test_words_become_stems():
    assert read("Running films, 2 lovely plots", stem="english") == [
        "run", "film", ",", "2", "love", "plot"
    ]  # fmt: skip


@extra
def test_stop_words_are_left_out_before_stemming():
    """`being` is a stop word of scikit-learn's, `be` its stem."""
    assert read("being films", stem="english", stop_words={"add": ["being", "film"]}) == ["film"]


@extra
def test_languages_are_those_of_the_packages():
    import snowballstemmer
    import stopwordsiso

    assert sorted(get_args(Stemmer)) == sorted(snowballstemmer.algorithms())
    assert set(get_args(Language)) == stopwordsiso.langs()


@pytest.mark.parametrize(
    "settings, sentence",
    [
        (
            {"stem": "german"},
            "stem german requires the package snowballstemmer, which is not installed: pip install "
            "'foldstack[words]'",
        ),
        (
            {"stop_words": "de"},
            "stop_words.language de requires the package stopwordsiso, which is not installed: pip "
            "install 'foldstack[words]', or name a `file` of words",
        ),
    ],
)
@pytest.mark.parametrize("learner", ["network", "tfidf"])
def test_a_missing_package_is_named_before_training(learner, settings, sentence, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    made = {"network": {"words": settings}, "tfidf": settings}[learner]
    made = config.validate({"network": NetworkSettings, "tfidf": TfidfSettings}[learner],
                           {"learner": learner} | made, "mine.yaml")  # fmt: skip
    with pytest.raises(InputError) as refused:
        made.check_inputs({})
    assert str(refused.value) == sentence


# Parts of speech and the dictionary


def test_parts_of_speech_are_kept_or_dropped():
    """n also names others than common nouns, but e (exclamations) is not the eng of Latin words."""
    assert read(PHONE, cut="rjieba", parts={"keep": ["n", "v"]}) == ["喜欢", "手机", "质量"]
    assert read(PHONE, cut="rjieba", parts={"drop": ["x", "e", "m", "r"]}) == [
        "不", "喜欢", "手机", "质量", "很差", "iphone"
    ]  # fmt: skip
    assert read("北京 天气", cut="rjieba", parts={"keep": ["n"]}) == ["北京", "天气"]
    assert read("北京 天气", cut="rjieba", parts={"keep": ["ns"]}) == ["北京"]


def test_a_tag_that_rjieba_gives_is_known():
    text = PHONE + "哎呀北京大学的张三和她在2020年三月一起跑得飞快，嘭！第一次" * 3
    assert {tag for _, tag in rjieba.tag(text)} <= set(TAGS)


def test_words_of_a_dictionary_stay_whole(tmp_path):
    path = write(tmp_path / "d.txt", "云计算平台\nGPT模型 100 nz\n")
    text = "云计算平台和GPT模型"
    files = {"dictionary": path}
    assert read(text, cut="rjieba") == ["云", "计算", "平台", "和", "gpt", "模型"]
    assert read(text, files, cut="rjieba", dictionary="d.txt") == ["云计算平台", "和", "gpt模型"]
    found = read(text, files, cut="rjieba", lower=False, dictionary="d.txt", parts={"keep": ["n"]})
    assert found == ["云计算平台", "GPT模型"]
    assert rjieba.cut(text)[0] == "云"  # the library's own words are as they were


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"\n# nothing\n", "{path} holds no words: write one word per line"),
        (b"a\n\xff\n", "{path} is not UTF-8 at byte 2: save it as UTF-8"),
        (
            "好的\nc++ 3 n\n".encode(),
            "{path}: line 2: 'c++ 3 n' is not a word of letters and digits, its frequency and its part "
            "of speech: correct the line",
        ),
        (
            "好的 9999999999\n".encode(),
            "{path}: line 1: '好的 9999999999' is not a word of letters and digits, its frequency and "
            "its part of speech: correct the line",
        ),
        (
            "好的 3 n n\n".encode(),
            "{path}: line 1: '好的 3 n n' is not a word of letters and digits, its frequency and its "
            "part of speech: correct the line",
        ),
    ],
)
def test_a_wrong_dictionary_is_refused(tmp_path, content, sentence):
    path = tmp_path / "d.txt"
    path.write_bytes(content)
    made = NetworkSettings(learner="network", words={"dictionary": "d.txt"})
    with pytest.raises(InputError) as refused:
        made.check_inputs({"words.dictionary": path})
    assert str(refused.value) == sentence.format(path=path)


@pytest.mark.parametrize("rule", [{"parts": {"keep": ["n"]}}, {"dictionary": "d.txt"}])
def test_what_is_for_chinese_is_refused_of_other_texts(tmp_path, rule):
    write(tmp_path / "d.txt", "好的\n")
    sentence = (
        f"`{next(iter(rule))}` is for Chinese texts, by rjieba, and most letters of the training texts "
        "are Latin: leave it out"
    )
    with pytest.raises(InputError) as refused:
        linear(tmp_path, ["a film", "a plot"], words="auto", **rule)
    assert str(refused.value) == sentence
    context = LearnerContext(make_task(), files={"words.dictionary": tmp_path / "d.txt"})
    learner = NetworkLearner(NetworkSettings(learner="network", words=rule), context)
    with pytest.raises(InputError) as refused:
        learner.prepare(make_rows(["a film", "a plot"]))
    assert str(refused.value) == sentence


# Words and characters


def test_rules_are_for_each_text_of_a_pair():
    """Bug guarded: the special tokens around texts were sought around an `a`, a stop word."""
    words = Words(cut="unicode", min_count=1, stop_words="en")
    tokenizer = kind_of(words).fit(["a film plot"], words, WordLists.read(words))
    assert tokens_of(("a film", "the plot"), tokenizer) == ["film", "[SEP]", "plot", "[END]"]
    assert tokens_of(("a", "the"), tokenizer) == ["[SEP]", "[END]"]


def test_characters_follow_the_words():
    assert read("今天 Film", cut="rjieba", unit="both") == ["今天", "film", BORDER, *"今天film"]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_token_between_words_and_characters_is_known_once(share):
    """It is in every text, and yet no word that is in too many."""
    words = Words(unit="both", cut="unicode", min_count=1, max_share=share)
    vocabulary = kind_of(words).fit(["ab", "c"], words).get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(SPECIAL) + 5))
    assert vocabulary[BORDER] == len(SPECIAL)


def test_rules_leave_characters_as_they_are():
    rules = {"stop_words": {"add": ["的"]}, "parts": {"drop": ["x"]}}
    assert read("我的！", cut="rjieba", unit="both", **rules) == ["我", BORDER, *"我的！"]


def test_an_unknown_word_is_spelled():
    words = Words(unit="both", cut="unicode", min_count=1, max_share=0.9)
    tokenizer = kind_of(words).fit(["ab", "ba"], words)
    assert tokens_of("bab", tokenizer) == ["[UNK]", BORDER, "[UNK]", "[UNK]", "[UNK]", "[END]"]
    words = words.model_copy(update={"max_share": 1.0})
    tokenizer = kind_of(words).fit(["ab", "ba"], words)
    assert tokens_of("bab", tokenizer) == ["[UNK]", BORDER, "b", "a", "b", "[END]"]


def test_special_tokens_stay_whole_where_they_are_tokens():
    words = Words(unit="both", cut="unicode", min_count=1, stop_words={"add": ["the"]})
    tokenizer = kind_of(words).fit(["the a [SEP]"], words, WordLists.read(words))
    assert tokens_of("the [SEP] a", tokenizer, as_text=False) == [
        "[SEP]", "a", BORDER, *"the", "[SEP]", "a", "[END]"
    ]  # fmt: skip
    assert tokens_of("the [SEP] a", tokenizer) == [
        "[", "sep", "]", "a", BORDER, *"the[sep]a", "[END]"
    ]  # fmt: skip


# The linear model


@extra
def test_the_linear_model_reads_words_as_networks_do(tmp_path):
    write(tmp_path / "d.txt", "云计算平台\n")
    rules = {"stop_words": {"language": "zh", "keep": ["不"]}, "parts": {"drop": ["x", "m"]},
             "dictionary": "d.txt", "stem": "english"}  # fmt: skip
    text = "我不喜欢云计算平台 running films 12"
    learner = linear(tmp_path, [text, text], words="rjieba", **rules)
    files = {"dictionary": tmp_path / "d.txt"}
    assert learner.vectorizers[0].vocabulary_ == sorted(read(text, files, cut="rjieba", **rules))


@pytest.mark.parametrize("text", ["लड़कियाँ और लड़के", "cafe\u0301 film"])
def test_marks_are_in_words_of_the_linear_model(text, tmp_path):
    """Bug guarded: words were cut at vowel signs, so that no list or stemmer knew them."""
    rules = {"stop_words": {"add": ["और", "caf\u00e9"]}}
    learner = linear(tmp_path, [text, text], **rules)
    assert learner.vectorizers[0].vocabulary_ == sorted(read(text, cut="unicode", **rules))


def test_bigrams_reach_over_stop_words(tmp_path):
    learner = linear(tmp_path, ["good the film"] * 2, word_ngrams=(2, 2), stop_words="en")
    assert learner.vectorizers[0].vocabulary_ == ["good film"]


def test_character_ngrams_are_of_the_whole_text(tmp_path):
    learner = linear(tmp_path, ["the a"] * 2, char_ngrams=(3, 3), stop_words={"add": ["the"]})
    assert [v.vocabulary_ for v in learner.vectorizers] == [["a"], [" a", "e a", "he ", "the"][1:]]


def test_a_loaded_model_requires_no_file(tmp_path):
    write(tmp_path / "d.txt", "云计算平台\n")
    write(tmp_path / "stop.txt", "平台\n")
    rules = {"words": "rjieba", "dictionary": "d.txt", "stop_words": {"file": "stop.txt"}}
    rows = make_rows(["云计算平台 平台", "云计算 好", "平台 云"])
    learner = linear(tmp_path, [text for (text,) in rows.texts], **rules)
    learner.save(tmp_path / "model")
    (tmp_path / "d.txt").unlink()
    (tmp_path / "stop.txt").unlink()
    loaded = TfidfLearner(learner.settings, LearnerContext(make_task()))
    loaded.load(tmp_path / "model")
    assert loaded.lists == WordLists(("平台",), (("云计算平台", None, "n"),))
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_a_model_without_rules_is_written_as_before(tmp_path):
    linear(tmp_path, ["a film"] * 2).save(tmp_path / "model")
    assert "lists" not in (tmp_path / "model/model.json").read_text()


# Settings

REFUSED = [
    (
        {"unit": "characters", "stop_words": "en"},
        "`stop_words` is of words: leave it out, or set unit to words or both",
    ),
    ({"lower": False, "stem": "english"}, "`stem` reads small letters: leave lower: false out"),
    (
        {"cut": "unicode", "parts": {"keep": ["n"]}},
        "`parts` is of rjieba, which cuts Chinese, and no tagger of another language is at hand: set "
        "cut to rjieba, or leave parts out",
    ),
    ({"parts": {}}, "parts of speech are either kept or dropped: give `keep` or `drop`"),
    (
        {"parts": {"keep": ["n"], "drop": ["v"]}},
        "parts of speech are either kept or dropped: give `keep` or `drop`",
    ),
    (
        {"parts": {"keep": ["noun"]}},
        f"rjieba has no such part of speech: name some of {', '.join(TAGS)}",
    ),
    (
        {"stop_words": {"keep": ["not"]}},
        "stop words are those of a `language`, a `file` or `add`: give one",
    ),
]


@pytest.mark.parametrize("words, sentence", REFUSED)
def test_settings_that_do_not_fit_are_refused(words, sentence):
    with pytest.raises(InputError) as refused:
        config.validate(NetworkSettings, {"learner": "network", "words": words}, "mine.yaml")
    assert str(refused.value).endswith(f": {sentence}")


@pytest.mark.parametrize(
    "given, sentence",
    [
        (
            {"word_ngrams": [0, 0], "stop_words": "en"},
            "`stop_words` is of words, and word_ngrams is [0, 0]: leave one of them out",
        ),
        (
            {"dictionary": "d.txt"},
            "`dictionary` is of rjieba, which cuts Chinese, and no tagger of another language is at "
            "hand: set words to rjieba, or leave dictionary out",
        ),
    ],
)
def test_settings_of_the_linear_model_that_do_not_fit_are_refused(given, sentence):
    with pytest.raises(InputError) as refused:
        config.validate(TfidfSettings, {"learner": "tfidf"} | given, "mine.yaml")
    assert str(refused.value) == f"mine.yaml: {sentence}"


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"stem": "klingon"}, "setting 'stem' is 'klingon': known: arabic, armenian, basque, "),
        ({"stem": "en"}, "setting 'stem' is 'en': did you mean 'english'?"),
        ({"stem": "englisch"}, "setting 'stem' is 'englisch': did you mean 'english'?"),
        (
            {"stop_words": "english"},
            "setting 'stop_words.language' is 'english': did you mean 'en'?",
        ),
    ],
)
def test_an_unknown_language_is_refused_with_the_nearest_or_all(given, sentence):
    with pytest.raises(InputError) as refused:
        config.validate(TfidfSettings, {"learner": "tfidf", **given}, "mine.yaml")
    assert str(refused.value).startswith(f"mine.yaml: {sentence}")


@pytest.mark.parametrize("stop_words", [None, "en", {"file": "s.txt", "add": ["a"]}])
def test_the_settings_of_a_stored_run_are_read(stop_words):
    rules = {"stop_words": stop_words, "stem": "english"}
    for settings in (
        NetworkSettings(learner="network", words=rules),
        TfidfSettings(learner="tfidf", **rules),
    ):
        assert config.stored_settings(config.identity(settings)) == settings


def test_a_reader_without_rules_returns_words_as_they_are():
    assert WordReader(Words(), False, NONE)("film") == ["film"]


# The length


def test_the_length_is_a_quantile_of_the_training_texts(tmp_path):
    """One of a hundred texts is longer than the others; [END] counts."""
    rows = make_rows(["a b c"] * 99 + ["a " * 500])
    training = {"epochs": 1, "max_length": "auto", "length_quantile": 0.99}
    settings = NetworkSettings(learner="network", size=4, training=training)
    learner = NetworkLearner(settings, LearnerContext(make_task()))
    facts = learner.fit(rows, None, tmp_path)
    assert facts["auto"]["training.max_length"] == {
        "value": 4,
        "why": "99% of the rows are not cut",
    }
    assert facts["max_length"] == 4 and facts["cut_share"] == 0.01


# In a workspace and beside it

NETWORK = """learner: network
size: 4
head: mean
words: {min_count: 1, unit: both, stop_words: {file: stop.txt}, stem: english}
training: {epochs: 1, batch_size: 8, max_length: auto, precision: fp32}
"""


TRAIN = ("train", "--model", "mine", "--fold", "0")


@extra
def test_a_run_knows_its_stop_words_and_needs_the_file_no_longer(tmp_path, capsys):
    """Another content of the file is another run."""
    root = make_workspace(tmp_path / "w", models=["mine"])
    write(root / "presets/mine.yaml", NETWORK)
    foldstack(root, "folds")
    stop = root / "input/stop.txt"
    sentence = f"words.stop_words.file: there is no file {stop}: put it there, or name another"
    capsys.readouterr()
    refuses(root, [*TRAIN], sentence, capsys)
    write(stop, "film\n")
    assert foldstack(root, *TRAIN) == 0
    ws, run = run_of(root, "mine")
    record = ws.store.read_run(run.key)
    assert list(record.identity.named_files) == ["words.stop_words.file"]
    assert record.facts["auto"]["training.max_length"]["value"] > 4
    assert record.versions["snowballstemmer"] == version("snowballstemmer")
    stop.unlink()
    assert foldstack(root, "predict", "--model", "mine", "--text", "a good film") == 0
    write(stop, "a\n")
    capsys.readouterr()
    assert foldstack(root, *TRAIN) == 2
    assert "named_files.words.stop_words.file" in capsys.readouterr().err


@extra
def test_a_bundle_has_the_stemmer_of_a_model_that_needs_it(tmp_path):
    assert TfidfSettings(learner="tfidf", stem="english").packages == ("snowballstemmer",)
    network = NetworkSettings(learner="network", words={"stem": "english"})
    assert "snowballstemmer" in vendor(tmp_path, network.packages)
    assert (tmp_path / PURE / "snowballstemmer/english_stemmer.py").exists()
    assert NetworkSettings(learner="network", words={"stop_words": "en"}).packages == ()
