"""A template around the texts of a row, read as one sequence that keeps its end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.backbone import load_backbone
from foldstack.techniques import Template, TransformerSettings
from foldstack.text.cache import TokenCache
from foldstack.text.cutting import Texts, cut_texts
from foldstack.text.laid import Laid
from foldstack.text.occlusion import occlude
from foldstack.text.special import set_special
from foldstack.text.tokens import to_tokens
from makers import make_learner, make_rows, make_task, unlabelled
from test_decoders import decoder, tokenizer_of
from test_presets import checkpoint
from tiny import add_preset, foldstack, go_through, make_workspace, refuses, train_folds, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

PAIR = ("question", "answer")
LONG = "good fine great lovely bad poor awful dull"


def laid(
    written: str, tokenizer: PreTrainedTokenizerBase, names: tuple[str, ...] = ("text",)
) -> Laid:
    return Laid.of(Template.parse(written, names), tokenizer)


def read(
    written: str, texts: list, long: object = "head", most: int = 64, **options: object
) -> list:
    """The decoded sequences of rows in a template."""
    tokenizer = options.pop("tokenizer", None) or tokenizer_of(**options)
    names = PAIR if isinstance(texts[0], tuple) else ("text",)
    settings = TransformerSettings(learner="transformer", backbone="b", long=long)
    given = Texts.read(make_rows(texts), tokenizer, laid=laid(written, tokenizer, names))
    tokens = to_tokens(given, cut_texts(given, most, settings.long), types=False)
    assert tokens.lengths.max() <= most
    return tokenizer.batch_decode(np.split(tokens.flat, tokens.offsets[1:-1]))


# What is written


@pytest.mark.parametrize(
    "written, literals, spaces",
    [
        ("Review: {text}\nAnswer: ", ("Review:", "\nAnswer: "), (" ",)),
        ("{text}", ("", ""), ("",)),
        ("{{x}}  {text} of {labels}", ("{x}", " of neg, pos"), ("  ",)),
    ],
)
def test_a_template_is_parsed_once(written, literals, spaces):
    """Spaces before a place belong to its text, labels are listed, two braces are one."""
    found = Template.parse(written, ("text",), ("neg", "pos"))
    assert (found.literals, found.places, found.spaces) == (literals, (0,), spaces)


def test_places_have_the_order_of_the_template():
    found = Template.parse("{answer} of {question}, {answer}", PAIR)
    assert found.places == (1, 0, 1)
    assert Template.parse("{review}", ("review",)) == Template.parse("{text}", ("review",))


@pytest.mark.parametrize(
    "written, sentence",
    [
        ("{texts}", "template names {texts}, which is no text of a row: did you mean 'text'?"),
        ("{}", "template is '{}': braces enclose the name of a text, as {text}, and two braces"),
        ("{text", "template is '{text': braces enclose"),
        ("{text:>3}", "template is '{text:>3}': braces enclose"),
        ("Answer:", "template has no place for the text 'text': add {text}"),
    ],
)
def test_what_is_no_template_is_refused(written, sentence):
    with pytest.raises(ValueError) as e:
        Template.parse(written, ("text",))
    assert str(e.value).startswith(sentence)


def test_every_text_of_a_row_has_a_place():
    with pytest.raises(
        ValueError, match=r"template has no place for the text 'answer': add \{answer\}"
    ):
        Template.parse("{question}", PAIR)


# What is read


def test_a_template_reads_as_its_whole_text():
    """Byte-level BPE, whose words begin with their space."""
    tokenizer = tokenizer_of()
    written = "Review: {text}\nAnswer:"
    tokens = Texts.read(make_rows(["a good film"]), tokenizer, laid=laid(written, tokenizer))
    found = to_tokens(tokens, cut_texts(tokens, 64, tokens_long()), types=False)
    assert found.flat.tolist() == tokenizer("Review: a good film\nAnswer:")["input_ids"]


def tokens_long() -> object:
    return TransformerSettings(learner="transformer", backbone="b").long


@pytest.mark.parametrize(
    "long, kept",
    [
        ("head", " good fine great lovely"),
        ("tail", " bad poor awful dull"),
        ({"name": "head_tail", "share": 0.5}, " good fine awful dull"),
    ],
)
def test_a_long_text_is_cut_inside_its_place(long, kept):
    """Nine tokens around it: the instruction and the end stay whole."""
    tokenizer = tokenizer_of()
    around = len(tokenizer("Review:")["input_ids"]) + len(tokenizer("\nAnswer:")["input_ids"])
    found = read("Review: {text}\nAnswer:", [LONG, "a film"], long, around + 4)
    assert found == [f"Review:{kept}\nAnswer:", "Review: a film\nAnswer:"]


def test_each_text_of_a_pair_is_cut_inside_its_place():
    tokenizer = tokenizer_of()
    pieces = ("Text:", "\nReview:", "\nAnswer:")
    around = sum(len(tokenizer(piece)["input_ids"]) for piece in pieces)
    written = "Text: {question}\nReview: {answer}\nAnswer:"
    long = {"name": "head_tail", "share": 0.5}
    found = read(written, [(LONG, LONG), ("a film", LONG)], long, around + 6)
    assert found == [
        "Text: good fine dull\nReview: good fine dull\nAnswer:",
        "Text: a film\nReview: good fine awful dull\nAnswer:",
    ]


def test_windows_have_the_template_each():
    tokenizer = tokenizer_of()
    around = len(tokenizer("Review:\nAnswer:")["input_ids"])
    windows = {"name": "windows", "overlap": 0}
    found = read("Review: {text}\nAnswer:", [LONG], windows, around + 4)
    assert found == [
        "Review: good fine great lovely\nAnswer:",
        "Review: bad poor awful dull\nAnswer:",
    ]


def test_random_windows_have_it_in_each_epoch(tmp_path):
    place = decoder(tmp_path / "qwen")
    around = len(tokenizer_of()("Review:\nAnswer:")["input_ids"])
    learner = make_learner(
        place, head="last", long="random", template="Review: {text}\nAnswer:",
        training={"max_length": around + 2},
    )  # fmt: skip
    rows = make_rows([LONG] * 4)
    examples = learner.prepare(rows)
    epochs = learner.encoder.epochs(rows, examples, learner.settings.training, seed=0)
    tokenizer, seen = learner.encoder.tokenizer, set()
    for epoch in range(3):
        tokens = epochs(epoch).tokens
        texts = tokenizer.batch_decode(np.split(tokens.flat, tokens.offsets[1:-1]))
        assert all(t.startswith("Review: ") and t.endswith("\nAnswer:") for t in texts)
        seen |= set(texts)
    assert len(seen) > 3


def test_special_tokens_around_a_sequence_stay():
    found = read("<sys>Review: {text}\nAnswer:", ["a film"], first="<bos>", last="<eos>")
    assert found == ["<bos><sys>Review: a film\nAnswer:<eos>"]


def test_special_tokens_of_the_template_are_tokens_and_those_of_texts_are_not():
    tokenizer = tokenizer_of()
    set_special(tokenizer, as_text=True)
    given = laid("<sys>{text}<sys>", tokenizer)
    system = tokenizer.convert_tokens_to_ids("<sys>")
    tokens = Texts.read(make_rows(["a <sys> film"]), tokenizer, laid=given)
    flat = to_tokens(tokens, cut_texts(tokens, 64, tokens_long()), types=False).flat
    assert flat.tolist().count(system) == 2 and flat[0] == flat[-1] == system
    assert tokenizer.split_special_tokens
    assert tokenizer.decode(flat) == "<sys>a <sys> film<sys>"


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "deberta-v3-base"])
def test_other_tokenizers_read_no_space_twice(family, tmp_path):
    """SentencePiece puts one before each text by itself."""
    checkpoint(family, tmp_path / family)
    tokenizer = load_backbone(str(tmp_path / family))[1]
    given = laid("film {text}", tokenizer)
    assert given.columns(make_rows(["good"])) == [[" good" if family == "bert" else "good"]]
    tokens = Texts.read(make_rows(["good plot"]), tokenizer, laid=given)
    flat = to_tokens(tokens, cut_texts(tokens, 64, tokens_long()), types=False).flat
    assert flat.tolist() == tokenizer("film good plot")["input_ids"]


def test_the_cache_holds_texts_as_they_stand_in_the_template(tmp_path):
    tokenizer = tokenizer_of()
    rows, more = make_rows([("a film", "good")]), make_rows([("bad", "a plot")])
    given = laid("Text: {question}\n{answer}", tokenizer, PAIR)
    cache = TokenCache(tmp_path, [rows, more])
    for some in (rows, more):
        plain = Texts.read(some, tokenizer, laid=given)
        found = Texts.read(some, tokenizer, cache=cache, laid=given)
        for a, b in zip(found.columns, plain.columns, strict=True):
            assert a.flat[a.starts[0] : a.ends[0]].tolist() == b.flat.tolist()
    assert len(list(tmp_path.rglob("ids.npy"))) == 1  # both were tokenised ahead


# In a run


def test_a_template_changes_predictions_and_is_stored(tmp_path):
    place, rows = decoder(tmp_path / "qwen"), make_rows(["a good film", "bad plot"] * 4)
    found = []
    for i, template in enumerate([None, "Review: {text}\nAnswer:", "Is it good or bad? {text}"]):
        learner = make_learner(place, head="last", template=template, training={"max_length": 40})
        (tmp_path / str(i)).mkdir()
        learner.fit(rows, None, tmp_path / str(i))
        found.append(learner.predict(rows))
        learner.save(tmp_path / str(i) / "model")
        loaded = TransformerLearner(learner.settings, LearnerContext(learner.task))
        loaded.load(tmp_path / str(i) / "model")
        assert loaded.predict(rows).tobytes() == found[-1].tobytes()
    assert abs(found[0] - found[1]).max() > 1e-3 and abs(found[1] - found[2]).max() > 1e-3


def test_labels_are_listed(tmp_path):
    place = decoder(tmp_path / "qwen")
    task = replace(make_task("binary"), labels=("bad", "good"))
    settings = make_learner(place, head="last", template="{labels}? {text}").settings
    learner = TransformerLearner(settings, LearnerContext(task))
    learner.prepare(make_rows(["a film", "plot"]))
    tokens = learner.encoder.tokens(make_rows(["a film"]))
    assert learner.encoder.tokenizer.decode(tokens.flat) == "bad, good? a film"


def test_the_words_of_the_text_are_explained_and_not_those_around_it(tmp_path):
    place = decoder(tmp_path / "qwen")
    learner = make_learner(place, head="last", template="Review: {text}\nAnswer:")
    learner.prepare(make_rows(["a good film", "plot"]))
    (found,) = occlude(unlabelled(["good film"]), lambda rows, _: learner.predict(rows)[:, 0])
    whole, without = learner.predict(unlabelled(["good film", "film"]))[:, 0]
    parts = dict(found.parts(0))
    assert list(parts) == ["good", " ", "film"]
    assert parts["good"] == pytest.approx(whole - without, abs=1e-5)


def test_a_template_that_leaves_no_room_is_refused(tmp_path):
    learner = make_learner(
        decoder(tmp_path / "qwen"), template="good film {text} plot end", training={"max_length": 4}
    )
    with pytest.raises(InputError) as e:
        learner.prepare(make_rows(["a"]))
    assert str(e.value) == (
        "training.max_length 4 leaves less than a token for each text beside the 4 of the template and "
        "the special ones: raise it"
    )


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"prefix": "a: "}, "template says what stands before the texts: put the prefix into it"),
        (
            {"long": "keywords"},
            "long keywords adds words after the text, where the template goes on: take one of head",
        ),
    ],
)
def test_what_does_not_go_with_a_template_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        TransformerSettings(learner="transformer", backbone="b", template="{text}", **settings)


def test_a_regression_has_no_labels_to_list():
    settings = TransformerSettings(learner="transformer", backbone="b", template="{text} {labels}")
    settings.check_kind(Kind.BINARY)
    with pytest.raises(ValueError) as e:
        settings.check_kind(Kind.REGRESSION)
    assert str(e.value) == (
        "template lists {labels}, of which a regression has none: leave the place out"
    )


def test_a_run_is_refused_before_it_begins(tmp_path, capsys):
    root = make_workspace(tmp_path, text=["text", "id"], template="{text} {id}", models=["tiny"])
    add_preset(root, tmp_path / "nowhere", template="{txt}")
    assert foldstack(root, "folds") == 0
    refuses(
        root,
        ["train", "--fold", "0"],
        "tiny.yaml: template names {txt}, which is no text of a row: did you mean 'text'?",
        capsys,
    )


def test_columns_are_places_by_their_names(tmp_path):
    """From files to a submission, explained too: a text column each, both in one template."""
    root = make_workspace(tmp_path / "w", n=12, text=["text", "kind"], pair=True, models=["tiny"])
    for name in ("train", "test"):
        path = root / f"input/{name}.csv"
        head, *lines = path.read_text().splitlines()
        write(path, "\n".join([f"{head},kind", *(f"{line},film" for line in lines)]) + "\n")
    add_preset(
        root, decoder(tmp_path / "qwen"), head="last", template="{kind}: {text}\nAnswer:",
        training={"epochs": 1, "max_length": 40, "precision": "fp32"},
    )  # fmt: skip
    go_through(root, "folds")
    train_folds(root)
    go_through(root, "blend", "submit")
    assert (root / "submissions/blend.csv").exists()
