"""What `init` guesses from what columns hold: groups, pairs, one-hot targets, metrics, languages."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from foldstack.errors import InputError
from foldstack.guess import Guess, guess
from tiny import sentences

TEXTS = [text for text, _ in sentences(120)]


def cells(values, n: int) -> list[str]:
    """The values as text, repeated to n rows."""
    return [str(values[i % len(values)]) for i in range(n)]


def guessed(
    train: dict, test: dict, sample: dict | None = None, rows: int = 120, **overrides: str
) -> Guess:
    """Guess from 120 training rows and as many test rows as its first column has.

    Train has ids, texts and labels of 0 and 1 beside the given columns, test ids and other texts.
    """
    n = len(next(iter(test.values()))) if test else 3
    beside = {"id": cells(range(1000, 1000 + rows), rows), "text": cells(TEXTS, rows)}
    labels = {} if sample else {"label": cells("01", rows)}
    ids = cells(range(9000, 9000 + n), n)
    tables = (
        beside | labels | train,
        {"id": ids, "text": [f"{TEXTS[i % 120]} again" for i in range(n)]} | test,
        {"id": ids} | {k: cells(v, n) for k, v in (sample or {"label": ["0.5"]}).items()},
    )
    return guess(*(pd.DataFrame(t).astype(str) for t in tables), overrides)


def why(found: Guess, setting: str) -> str:
    return next(reason for name, _, reason in found.reasons if name == setting)


def proposed(found: Guess, setting: str) -> dict[str, str]:
    """The proposed values of a setting with their sentences."""
    return {value: sentence for name, value, sentence in found.proposals if name == setting}


# Groups


def numbers(n: int, start: int = 0) -> list[int]:
    return list(range(start, start + n))


GROUPS = {
    # name: (a column of train with values that repeat, the same of test, is it taken)
    "numbers by the name of an id": ("essay_id", numbers(40), numbers(30, 40), True),
    "numbers among train's": ("essay", numbers(80)[::2], numbers(60)[1::2], True),
    "numbers with decimals": ("essay", numbers(40), [i + 0.5 for i in range(30)], False),
    "authors": ("author", [f"ann{i}" for i in range(40)], [f"bob{i}" for i in range(30)], True),
    "links": (
        "url",
        [f"https://x.org/{i}" for i in range(40)],
        [f"https://x.org/new/{i}" for i in range(30)],
        True,
    ),
    "hashes": (
        "source",
        [f"{i:04x}a7f3b1" for i in range(40)],
        [f"{i:04x}c0d9e2" for i in range(30)],
        True,
    ),
    "whole texts": (
        "prompt",
        [f"write about {i} cats and dogs" for i in range(40)],
        [f"tell me about {i} birds" for i in range(30)],
        True,
    ),
    "a category": ("discourse_type", ["lead", "claim", "rebuttal"], ["claim", "lead"], False),
    "authors that test has too": (
        "author",
        [f"ann{i}" for i in range(40)],
        ["ann1", "ann2"],
        False,
    ),
    "ids that differ in each row": ("essay_id", numbers(120), numbers(30, 120), False),
    "later times": ("seconds", numbers(40, 100), numbers(30, 5000), False),
    "a measure": ("price", [i / 4 for i in range(40)], [i / 4 + 0.1 for i in range(30)], False),
}


@pytest.mark.parametrize(("name", "train", "test", "taken"), GROUPS.values(), ids=GROUPS.keys())
def test_a_group_is_what_repeats_and_never_stands_in_both_files(
    name: str, train: list, test: list, taken: bool
) -> None:
    found = guessed({name: cells(train, 120)}, {name: cells(test, 60)})
    assert found.settings.get("group") == (name if taken else None)
    assert not (taken and proposed(found, "group"))
    assert name not in found.settings.get("numeric", ()) or name in ("seconds", "price", "essay")


def test_the_reason_of_a_group_says_what_was_found() -> None:
    found = guessed({"essay_id": cells(numbers(40), 120)}, {"essay_id": cells(numbers(30, 40), 60)})
    assert why(found, "group") == (
        "its 40 values repeat over 120 rows, and of the test file's 30 none stands in train: rows of "
        "one share a fold, or the score would be too good; GROUP=none overrides"
    )


def test_a_test_file_too_small_to_tell_has_its_group_proposed() -> None:
    found = guessed({"prompt_id": cells([7, 8], 120)}, {"prompt_id": ["9", "10", "11"]})
    assert "group" not in found.settings and "numeric" not in found.settings
    assert proposed(found, "group") == {
        "prompt_id": "prompt_id repeats over rows (2 values in 120 rows), and of the test file's 3 none "
        "stands in train; if the hidden test file has others, rows of one must share a fold, or the "
        "score is too good: give GROUP=prompt_id FORCE=1 (of 2 values: set `folds.count` to 2 at most)"
    }


def test_a_few_groups_in_both_files_are_proposed_and_many_are_none() -> None:
    train = {"user_id": cells(numbers(40), 120)}
    few = guessed(train, {"user_id": cells([0, *numbers(39, 40)], 40)})
    assert "group" not in few.settings and list(proposed(few, "group")) == ["user_id"]
    many = guessed(train, {"user_id": cells(numbers(40), 40)})
    assert "group" not in many.settings and not proposed(many, "group")


def test_of_nested_groups_the_largest_is_taken() -> None:
    train = {"sentence_id": cells(sorted(numbers(60) * 2), 120)}
    train |= {"document_id": cells(sorted(numbers(20) * 6), 120)}
    test = {"sentence_id": cells(numbers(40, 60), 40), "document_id": cells(numbers(40, 20), 40)}
    assert guessed(train, test).settings["group"] == "document_id"


def test_a_group_is_overruled() -> None:
    train, test = {"author": cells("abcdef", 120)}, {"author": ["a", "b"]}
    assert guessed(train, test, group="author").settings["group"] == "author"
    assert guessed(train, test, group="author").settings.get("categorical") is None
    train, test = {"essay_id": cells(numbers(40), 120)}, {"essay_id": cells(numbers(30, 40), 60)}
    refused = guessed(train, test, group="none")
    assert "group" not in refused.settings and not proposed(refused, "group")
    assert why(refused, "essay_id") == "not used: its values are ids, no features"
    with pytest.raises(InputError) as reason:
        guessed(train, test, group="essay")
    assert str(reason.value) == (
        "GROUP=essay: train has no column 'essay' (did you mean 'essay_id'?)"
    )
    with pytest.raises(InputError) as reason:
        guessed(train, test, group="label")
    assert str(reason.value) == "GROUP: column 'label' cannot be both target and group"


def test_ids_that_train_alone_has_are_mentioned() -> None:
    found = guessed({"article_id": cells(numbers(40), 120), "qid1": cells(numbers(120), 120)}, {})
    assert "group" not in found.settings and not proposed(found, "group")
    assert why(found, "article_id") == (
        "not used: test does not have it; GROUP=article_id if the rows of test have other ones"
    )
    assert why(found, "qid1") == "not used: test does not have it"


def test_a_column_called_group_whose_values_test_repeats_is_a_category() -> None:
    found = guessed({"group": cells("abc", 120)}, {"group": ["a", "b", "c"]})
    assert found.settings.get("group") is None
    assert found.settings["categorical"] == ("group",)


@pytest.mark.parametrize(("values", "group"), [(80, None), (24, "explanation")])
def test_a_text_that_is_read_is_a_group_if_it_repeats_a_lot(values: int, group: str | None) -> None:
    """Explanations repeat by chance; three rows of test show nothing."""
    texts = [f"since there are {i} of them in all" for i in range(values)]
    test = {"explanation": [f"it looks like {i} and right" for i in range(3)]}
    found = guessed({"explanation": cells(texts, 240)}, test, rows=240)
    assert "explanation" in found.settings["text"]
    assert list(proposed(found, "group")) == ([group] if group else [])


@pytest.mark.parametrize(
    ("name", "values", "test", "feature"),
    [
        ("item_condition_id", [1, 2, 3], ["1", "2", "3"], True),
        ("item_condition_id", [1, 2, 3], ["1", "2", "2"], False),  # 3 is missing in test
        ("item_id", range(40), cells(range(40), 40), False),
    ],
)
def test_grades_that_are_called_ids_are_a_feature(name, values, test, feature) -> None:
    found = guessed({name: cells(values, 120)}, {name: test})
    assert found.settings.get("categorical") == ((name,) if feature else None)
    assert "numeric" not in found.settings


# Pairs and triples

OTHERS = [text.replace("a ", "one ") for text in reversed(TEXTS)]
PAIRS = {
    # name: (columns of texts, the text columns, the settings of pairs)
    "questions": (("question1", "question2"), {"pair": True}),
    "sentences": (("sentence_a", "sentence_b"), {"pair": True}),
    "texts in camel case": (("textA", "textB"), {"pair": True}),
    "premise and hypothesis": (("premise", "hypothesis"), {"pair": True}),
    "query and title": (("query", "product_title"), {"pair": True}),
    "title and body": (("title", "body"), {}),
    "two responses to a prompt": (
        ("prompt", "response_a", "response_b"),
        {"segments": ("{prompt}", "{response_a}", "{response_b}")},
    ),
    "title, body, answer": (
        ("question_title", "question_body", "answer"),
        {"segments": ("{question_title}", "{question_body}", "{answer}")},
    ),
    "four columns": (
        ("question_title", "question_body", "answer_title", "answer_body"),
        {"segments": ("{question_title} {question_body}", "{answer_title} {answer_body}")},
    ),
    "four columns of three beginnings": (
        ("topic", "prompt", "response_a", "response_b"),
        {"segments": ("{topic} {prompt}", "{response_a}", "{response_b}")},
    ),
}


@pytest.mark.parametrize(("columns", "wanted"), PAIRS.values(), ids=PAIRS.keys())
def test_pairs_and_segments(columns: tuple[str, ...], wanted: dict) -> None:
    texts = [TEXTS, OTHERS, TEXTS[5:] + TEXTS[:5], OTHERS[9:] + OTHERS[:9]]
    train = {c: [f"{c[0]} {t}" for t in texts[i]] for i, c in enumerate(columns)}
    test = {c: [f"{c[-1]} {t}" for t in texts[i][:40]] for i, c in enumerate(columns)}
    found = guess(*without_text(train, test))
    assert found.settings["text"] == columns
    assert {k: found.settings[k] for k in ("pair", "segments") if k in found.settings} == wanted


def without_text(train: dict, test: dict) -> tuple[pd.DataFrame, ...]:
    """The three tables with these columns as the only inputs."""
    n, m = (len(next(iter(t.values()))) for t in (train, test))
    ids = cells(numbers(m, 9000), m)
    tables = (
        {"id": cells(numbers(n), n)} | train | {"label": cells("01", n)},
        {"id": ids} | test,
        {"id": ids, "label": cells(["0.5"], m)},
    )
    return tuple(pd.DataFrame(t).astype(str) for t in tables)


def test_a_symmetric_pair_is_said_to_be_one() -> None:
    train = {"s1": TEXTS, "s2": OTHERS}
    found = guess(*without_text(train, {k: v[:9] for k, v in train.items()}))
    assert why(found, "text") == (
        "'s1' and 's2' are a pair: their names differ by a number or letter alone"
    )
    assert why(found, "pair") == (
        "two segments with the separator of the backbone; symmetric, it seems: neither of the two "
        "comes first; TEXT=s1,s2 joins them instead"
    )


def test_pairs_that_share_sentences_are_asked_to_share_a_fold() -> None:
    """Unless test pairs share them, too, or one sentence connects all."""
    train = {"s1": [TEXTS[i // 2] for i in range(120)], "s2": OTHERS}
    new = {k: [f"new {i} {text}" for i, text in enumerate(v[:9])] for k, v in train.items()}
    assert proposed(guess(*without_text(train, new)), "folds.connected") == {
        "true": "100% of the training pairs share a sentence with another one, 0% of the test pairs "
        "with train: `folds: {connected: true}` in competition.yaml keeps pairs that share one in one "
        "fold, or the CV score is too good"
    }
    known = {k: v[:9] for k, v in train.items()}
    hub = {"s1": [TEXTS[i // 2 if i < 60 else 0] for i in range(120)], "s2": OTHERS}
    for tables in (without_text(train, known), without_text(hub, new)):
        assert proposed(guess(*tables), "folds.connected") == {}


def test_premise_and_hypothesis_are_not_symmetric() -> None:
    """Called sentence1 and sentence2, they are known by the labels or by a column beside."""
    train = {"sentence1": TEXTS, "sentence2": OTHERS}
    by_label = without_text(train, {k: v[:9] for k, v in train.items()})
    by_label[0]["label"] = cells(["entailment", "neutral"], 120)
    beside = {"prem_id": cells("abc", 120)}
    by_name = without_text(train | beside, {k: v[:9] for k, v in (train | beside).items()})
    for tables in (by_label, by_name):
        found = guess(*tables)
        assert found.settings["pair"] is True and found.symmetric == ()
        assert "symmetric" not in why(found, "pair")


@pytest.mark.parametrize("names", [("prem", "hypo"), ("anchor", "positive"), ("query", "doc")])
def test_roles_are_a_pair(names: tuple[str, str]) -> None:
    train = dict(zip(names, (TEXTS, OTHERS), strict=True))
    found = guess(*without_text(train, {k: v[:9] for k, v in train.items()}))
    assert found.settings["pair"] is True and found.symmetric == ()


def test_short_phrases_with_their_context() -> None:
    """Phrases of a word or two are no sentences, yet they are the texts."""
    anchors = [f"{t.split()[1]} {t.split()[2]}" for t in TEXTS]
    train = {
        "anchor": [f"{a} {i // 4}" for i, a in enumerate(anchors)],
        "target": [f"{a} wheel{i}" for i, a in enumerate(anchors)],
        "context": cells(["G06", "A47", "H04"], 120),
    }
    found = guess(*without_text(train, {k: v[:40] for k, v in train.items()}))
    assert found.settings["text"] == ("anchor", "target", "context")
    assert found.settings["segments"] == ("{anchor}", "{context}: {target}")
    assert "categorical" not in found.settings


def test_texts_that_share_words_are_a_pair() -> None:
    train = {"original": TEXTS, "edited": [f"{t} indeed" for t in TEXTS]}
    found = guess(*without_text(train, {k: v[:40] for k, v in train.items()}))
    assert found.settings["pair"] is True
    assert why(found, "text").endswith("they share more words than texts of other rows")


FORMS = {
    "the same words": ("text", "comment", str.upper),
    "a name that says so": ("text", "text_clean", lambda text: text.removesuffix("m")),
    "other texts of similar length": ("text", "comment", lambda text: f"is {text[::-1]}"),
}


@pytest.mark.parametrize(("one", "other", "form"), FORMS.values(), ids=FORMS.keys())
def test_two_forms_of_a_text_and_unlike_texts_are_no_pair(one: str, other: str, form) -> None:
    train = {one: TEXTS, other: [form(t) for t in TEXTS]}
    found = guess(*without_text(train, {k: v[:40] for k, v in train.items()}))
    assert found.settings["text"] == (one, other)
    assert "pair" not in found.settings


def test_parses_of_a_pair_are_no_further_texts() -> None:
    train = {"sentence1_parse": TEXTS, "sentence2_parse": OTHERS, "sentence1": TEXTS}
    train |= {"sentence2": OTHERS}
    found = guess(*without_text(train, {k: v[:40] for k, v in train.items()}))
    assert found.settings["text"] == ("sentence1", "sentence2")
    assert found.settings["pair"] is True
    assert why(found, "sentence1_parse") == "not used: by its name another form of 'sentence1'"


def test_three_numbered_texts_are_no_pair() -> None:
    train = {"option_a": TEXTS, "option_b": OTHERS, "option_c": TEXTS[7:] + TEXTS[:7]}
    found = guess(*without_text(train, {k: v[:40] for k, v in train.items()}))
    assert found.settings["text"] == ("option_a", "option_b", "option_c")
    assert "pair" not in found.settings and "segments" not in found.settings


def test_overrides_join_a_pair() -> None:
    train = {"premise": TEXTS, "hypothesis": OTHERS}
    tables = without_text(train, {k: v[:40] for k, v in train.items()})
    found = guess(*tables, {"text": "premise,hypothesis"})
    assert found.settings["text"] == ("premise", "hypothesis")
    assert "pair" not in found.settings


# Targets


def test_one_hot_columns_are_classes() -> None:
    train = {"a": cells([1, 0, 0], 120), "b": cells([0, 1, 0], 120), "c": cells([0, 0, 1], 120)}
    third = dict.fromkeys("abc", ("0.333333",))
    found = guessed(train, {}, third)
    assert {k: found.settings.get(k) for k in ("kind", "target", "metric", "labels")} == {
        "kind": "multiclass",
        "target": ("a", "b", "c"),
        "metric": "log_loss",
        "labels": None,
    }
    assert why(found, "kind") == (
        "3 target columns of 0 and 1, one 1 in each row, and the sample's rows sum to 1"
    )
    assert guessed(train, {}, third, kind="multilabel").settings["kind"] == "multilabel"
    assert guessed(train, {}, third, metric="roc_auc").settings["kind"] == "multilabel"


@pytest.mark.parametrize(
    "joined, separator, labels",
    [
        ("a|b", "|", ["a", "b", "c", "d"]),
        ("a/b", "/", ["a", "b", "c", "d"]),
        ("a, b", ", ", ["a", "b", "c", "d"]),
    ],
)
def test_a_kind_that_is_given_is_believed(joined: str, separator: str, labels: list[str]) -> None:
    """A sorted file may begin with few joined cells, whose parts do not recur."""
    train = {"label": cells([joined, "c", "d"], 120)}
    asked = {"label": ["c"]}
    assert guessed(train, {}, asked).settings["kind"] == "multiclass"
    found = guessed(train, {}, asked, kind="multilabel").settings
    assert (found["separator"], list(found["labels"])) == (separator, labels)


def test_a_space_joins_no_labels_by_itself() -> None:
    train = {"label": cells(["New York", "Paris", "Rome"], 120)}
    with pytest.raises(InputError) as e:
        guessed(train, {}, {"label": ["Rome"]}, kind="multilabel")
    assert str(e.value) == (
        "KIND=multilabel: no separator was found in train's column 'label': set `separator` in "
        "competition.yaml, or name a 0/1 column per label with TARGET="
    )


def test_columns_of_which_some_rows_have_no_1_are_labels() -> None:
    train = {"a": cells([1, 0, 0], 120), "b": cells([0, 1, 0], 120)}
    found = guessed(train, {}, dict.fromkeys("ab", ("0.5",)))
    assert found.settings["kind"] == "multilabel"
    assert why(found, "kind") == "2 target columns of 0 and 1"


def test_one_hot_columns_of_a_sample_that_does_not_sum_to_1() -> None:
    train = {"a": cells([1, 0], 120), "b": cells([0, 1], 120)}
    half = dict.fromkeys("ab", ("0",))
    found = guessed(train, {}, half)
    assert found.settings["kind"] == "multilabel"
    assert why(found, "kind") == (
        "2 target columns of 0 and 1, one 1 in each row: KIND=multiclass makes them classes"
    )
    assert guessed(train, {}, half, kind="multiclass").settings["kind"] == "multiclass"
    with pytest.raises(InputError) as reason:
        guessed(train | {"b": cells([1, 1], 120)}, {}, half, kind="multiclass")
    assert str(reason.value) == (
        "kind multiclass requires one target column, or several with one 1 in each row, or shares, got "
        "'a', 'b': name one with TARGET="
    )


def test_soft_targets_are_said() -> None:
    train = {"a": cells(["0.25", "1.0"], 120), "b": cells(["0.75", "0.0"], 120)}
    found = guessed(train, {}, dict.fromkeys("ab", ("0.5",)))
    assert (found.settings["kind"], found.settings["metric"]) == ("multiclass", "log_loss")
    assert why(found, "kind") == (
        "2 target columns of numbers that sum to 1 in each row: soft targets, shares of classes, and so "
        "do the sample's; KIND=regression makes them values"
    )
    values = guessed(train, {}, dict.fromkeys("ab", ("0.0",)))
    assert values.settings["kind"] == "regression"
    assert why(values, "kind").endswith("; KIND=multiclass makes predicted rows sum to 1, too")


UNLABELLED = {
    "an empty cell": (["a", "", "b"], "row 2 has no label: column 'y' holds nothing there"),
    "nan": (["0", "1", "nan"], "row 3 has no label: column 'y' holds 'nan' there"),
    "-1 beside 0 and 1": (["-1", "0", "1"], "row 1 has no label: column 'y' holds '-1' there"),
}


@pytest.mark.parametrize(("values", "sentence"), UNLABELLED.values(), ids=UNLABELLED.keys())
def test_rows_without_a_label_are_refused_or_left_out(values: list[str], sentence: str) -> None:
    train = {"y": [*values, *cells(["a", "b"] if "a" in values else ["0", "1"], 117)]}
    with pytest.raises(InputError, match=re.escape(f"train: {sentence}: set `unlabelled: drop`")):
        guessed(train, {}, {"y": values})
    for way in ("drop", "pool"):
        settings = guessed(train, {}, {"y": values}, unlabelled=way).settings
        assert (settings["kind"], settings["unlabelled"]) == ("binary", way)
    assert guessed(train, {}, {"y": values}, unlabelled="class").settings["kind"] == "multiclass"
    with pytest.raises(InputError) as reason:
        guessed(train, {}, {"y": values}, unlabelled="skip")
    assert str(reason.value) == "UNLABELLED=skip: choose one of refuse, drop, pool, class"


@pytest.mark.parametrize("mark", ["-", "?", "no label", "-1"])
def test_a_rare_mark_among_names_is_asked(mark: str) -> None:
    train = {"y": [*[mark] * 3, *cells(["yes", "no", "maybe"], 117)]}
    found = guessed(train, {}, {"y": ["no"]})
    assert mark in found.settings["labels"]
    assert proposed(found, "unlabelled") == {
        "drop": f"'y' holds '{mark}' in 3 of 120 rows: if these rows have no label, give "
        "UNLABELLED=drop FORCE=1; UNLABELLED=class confirms a class"
    }
    assert not proposed(guessed(train, {}, {"y": ["no"]}, unlabelled="class"), "unlabelled")
    dropped = guessed(train, {}, {"y": ["no"]}, unlabelled="drop")
    assert dropped.settings["labels"] == ("maybe", "no", "yes")


@pytest.mark.parametrize("values", [["-", "+", "neutral"], ["-", "good", "bad"]])
def test_a_frequent_mark_and_minus_beside_plus_are_classes(values: list[str]) -> None:
    found = guessed({"y": cells(values, 120)}, {}, {"y": [values[2]]})
    assert not proposed(found, "unlabelled")


def test_minus_one_and_one_are_labels() -> None:
    assert guessed({"y": cells(["-1", "1"], 120)}, {}, {"y": ["1"]}).settings["labels"] == (
        "-1",
        "1",
    )


def test_one_number_is_one_label_however_it_is_spelled() -> None:
    found = guessed({"y": cells(["1", "1.0", "0.0"], 120)}, {}, {"y": ["0"]})
    assert (found.settings["kind"], found.settings["labels"]) == ("binary", ("0.0", "1"))
    assert found.settings["metric"] == "f1"


def test_shares_may_be_labels_by_a_threshold() -> None:
    train = {"target": cells(["0.0", "0.3", "0.9"], 120)}
    found = guessed(train, {}, {"prediction": ["0.0"]})
    assert found.settings["kind"] == "regression"
    assert why(found, "kind") == (
        "'target' holds numbers with decimals of 0 to 1, and so does the sample: if the metric takes "
        "them as labels, KIND=binary sets `threshold: 0.5`"
    )
    assert "roc_auc, log_loss or mae would fit as well" in proposed(found, "metric")["rmse"]
    given = guessed(train, {}, {"prediction": ["0.0"]}, kind="binary").settings
    assert (given["threshold"], given["metric"]) == (0.5, "roc_auc")
    assert "labels" not in given
    by_metric = guessed(train, {}, {"prediction": ["0.0"]}, metric="roc_auc").settings
    assert (by_metric["kind"], by_metric["threshold"]) == ("binary", 0.5)
    assert "threshold" not in guessed(train, {}, {"prediction": ["0.0"]}, metric="mae").settings


def test_of_many_columns_the_target_is_the_one_that_is_called_so() -> None:
    train = {"insult": cells([0.1, 0.5], 120), "target": cells([0.2, 0.4], 120)}
    found = guessed(train, {}, {"prediction": ["0.0"]})
    assert found.settings["target"] == ("target",)
    assert why(found, "target") == (
        "by its name, among 2 columns that test lacks and that can be a target; the sample calls it "
        "'prediction'"
    )


def test_of_several_columns_the_target_is_the_one_that_holds_the_samples_values() -> None:
    train = {"relevance": cells([1, 2, 3], 120), "variance": cells([0.0, 0.471], 120)}
    found = guessed(train, {}, {"prediction": ["1"]})
    assert found.settings["target"] == ("relevance",)
    assert why(found, "target") == (
        "the only one of 2 columns that test lacks that holds the sample's values; the sample calls it "
        "'prediction'"
    )


@pytest.mark.parametrize("placeholder", ["-1.0", "", "0"])
def test_a_placeholder_of_the_test_file_shows_the_target(placeholder: str) -> None:
    train, test = {"score": cells([0.2, 1.5, 4.0], 120)}, {"score": [placeholder] * 12}
    found = guessed(train, test, {"prediction": ["2.5"]})
    assert (found.settings["target"], found.settings["kind"]) == (("score",), "regression")
    shown = f"'{placeholder}'" if placeholder else "empty cells"
    assert why(found, "target") == (
        f"test holds nothing but {shown} there, and train other values; the sample calls it 'prediction'"
    )
    named = guessed(train, test, {"score": ["2.5"]})
    assert why(named, "target") == (
        f"the sample asks for it, train has it and test holds nothing but {shown} there"
    )


def test_a_feature_that_is_0_in_a_few_test_rows_is_no_target() -> None:
    train = {"votes": cells("012", 120), "rating": cells("123", 120)}
    found = guessed(train, {"votes": ["0", "0"]}, {"prediction": ["2"]})
    assert found.settings["target"] == ("rating",)


def test_classes_match_the_samples_columns_but_for_case() -> None:
    train = {"category": cells(["Sport", "Politics ", "culture"], 120)}
    columns = dict.fromkeys(("sport", "politics", "culture"), ("0",))
    found = guessed(train, {}, columns)
    assert found.settings["labels"] == ("Politics ", "Sport", "culture")
    assert (found.settings["kind"], found.settings["metric"]) == ("multiclass", "log_loss")
    assert why(found, "target") == (
        "its classes are the sample's columns, but for case or white space"
    )


def test_a_joined_column_is_asked_for() -> None:
    train = {
        "Category": cells(["True", "False"], 120),
        "Reason": cells(["NA", "Luck", "Sign"], 120),
    }
    with pytest.raises(InputError) as reason:
        guessed(train, {}, {"Category:Reason": ["True:NA False:Luck False:Sign"]})
    assert str(reason.value) == (
        "the sample's column 'Category:Reason' joins train's columns 'Category', 'Reason' by ':', and "
        "one target column is required: add a column 'Category:Reason' to train, with cells such as "
        "'True:NA'; METRIC=map_at_3 fits its cells of 3 labels"
    )
    with pytest.raises(InputError, match="a class that several columns make up must be one column"):
        guessed(train, {}, {"Category:Reason": ["True:NA"]}, target="Category,Reason")


# Metrics

METRICS = {
    # name: (the target's values, the sample's, the metric)
    "grades": ({"score": [1, 2, 2, 3, 3, 3, 4, 4, 5]}, {"score": ["3"]}, "quadratic_kappa"),
    "grades of equal frequency": ({"score": [1, 2, 3, 4, 5]}, {"score": ["3"]}, "accuracy"),
    "codes of classes": ({"score": [0, 1, 1, 2, 2, 2, 3]}, {"score": ["2"]}, "accuracy"),
    "three classes": ({"score": [1, 2, 2, 2, 3]}, {"score": ["2"]}, "accuracy"),
    "grades with a gap": ({"score": [1, 2, 2, 2, 4, 5]}, {"score": ["2"]}, "accuracy"),
    "two targets": (
        {"content": [0.2, 1.5], "wording": [-0.3, 0.7]},
        {"content": ["0.0"], "wording": ["0.0"]},
        "mcrmse",
    ),
    "six ratings of 0 to 1": (
        {c: [0, 0.5, 1] for c in "abcdef"},
        dict.fromkeys("abcdef", ("0.00165",)),
        "spearman",
    ),
    "one quantity": ({"ease": [0.2, -1.5, 3]}, {"ease": ["0.0"]}, "rmse"),
    "three labels in a cell": ({"y": ["a", "b", "c", "d"]}, {"y": ["a b c", "b a d"]}, "map_at_3"),
}


@pytest.mark.parametrize(("target", "sample", "metric"), METRICS.values(), ids=METRICS.keys())
def test_metrics(target: dict, sample: dict, metric: str) -> None:
    found = guessed({name: cells(values, 120) for name, values in target.items()}, {}, sample)
    assert found.settings["metric"] == metric
    assert found.settings["metric_confirmed"] is False
    assert list(proposed(found, "metric")) == [metric]


def test_likeness_of_two_texts_is_correlated() -> None:
    train = {"sentence1": TEXTS, "sentence2": OTHERS}
    tables = without_text(train, {k: v[:40] for k, v in train.items()})
    tables[0]["label"] = cells([0, 0.25, 1], 120)
    found = guess(*tables)
    assert (found.settings["kind"], found.settings["metric"]) == ("regression", "pearson")


def test_a_given_metric_is_confirmed() -> None:
    found = guessed({}, {}, metric="f1")
    assert "metric_confirmed" not in found.settings
    assert not proposed(found, "metric")


def test_a_placeholder_of_zeros_asks_for_the_metric() -> None:
    found = guessed({"label": cells("01", 120)}, {}, {"label": ["0"]})
    assert proposed(found, "metric") == {
        "accuracy": "accuracy is a guess, f1, roc_auc or log_loss would fit as well; the competition's "
        "page says which: give METRIC=NAME FORCE=1; METRIC=accuracy confirms it"
    }
    assert why(found, "metric") == (
        "the sample holds '0' throughout, and '1' has 50.0% of the rows; METRIC= overrides"
    )


@pytest.mark.parametrize(
    ("labels", "placeholder"), [("01", "0"), ("01", "0.0"), (["False", "True"], "0")]
)
def test_zeros_may_stand_for_any_metric_of_two_classes(labels, placeholder: str) -> None:
    found = guessed({"label": cells(labels, 120)}, {}, {"label": [placeholder]})
    (sentence,) = proposed(found, "metric").values()
    assert all(each in sentence for each in ("f1", "accuracy", "roc_auc", "log_loss"))


@pytest.mark.parametrize(
    ("values", "offered"),
    [([1, 2, 3, 250.5], True), ([1.5, 2, 3, 4], False), ([-1, 2, 3, 250.5], False)],
)
def test_prices_may_be_scored_by_their_logarithms(values: list, offered: bool) -> None:
    found = guessed({"price": cells(values, 120)}, {}, {"price": ["0.0"]})
    assert ("rmsle" in proposed(found, "metric")["rmse"]) == offered


def test_a_proposal_repeats_the_overrides_that_were_given() -> None:
    found = guessed({}, {}, kind="binary", text="text")
    assert proposed(found, "metric")["roc_auc"].endswith(
        "give KIND=binary TEXT=text METRIC=NAME FORCE=1; METRIC=roc_auc confirms it"
    )


# Languages


def test_texts_of_many_languages_get_a_model_of_many() -> None:
    found = guessed({"lang_abv": cells(["en", "fr", "th"], 120)}, {"lang_abv": ["en", "fr", "th"]})
    assert found.settings["models"][-1] == "multilingual-e5-small"
    assert why(found, "models") == (
        "column 'lang_abv' names 3 languages: a model of many languages; this machine has no GPU"
    )
    english = guessed({"language": cells(["en"] * 39 + ["fr"], 120)}, {"language": ["en"]})
    assert english.settings["models"] == ("tfidf", "naive-bayes", "minilm")


def test_texts_of_many_scripts_get_a_model_of_many() -> None:
    texts = [text if i % 4 else f"этот фильм очень хороший, {i}" for i, text in enumerate(TEXTS)]
    found = guessed({"text": texts}, {})
    assert why(found, "models") == (
        "the texts are in several scripts, Latin, Cyrillic: a model of many languages; this "
        "machine has no GPU"
    )


# Known competitions


@pytest.fixture(scope="module")
def bench():
    """tests/bench/competitions.py, without the files of known competitions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent / "bench")
        import competitions

        yield competitions


def test_known_competitions_are_understood(bench) -> None:
    """All but the metrics that the files of four do not show; see docs/competitions.md."""
    wrong = {
        (form.name, name): guessed
        for form in bench.MADE
        for name, (guessed, right) in bench.compared(form, bench.tables_of(form, Path())).items()
        if not right
    }
    assert wrong == {
        ("stumbleupon", "metric"): "accuracy",
        ("bag-of-words-reviews", "metric"): "accuracy",
        ("facebook-keywords", "metric"): "f1_micro",
    }


def test_three_test_rows_show_no_groups() -> None:
    """In a code competition the hidden test file may have other prompts than the published one."""
    n = 60
    train = {
        "id": [f"r{i}" for i in range(n)],
        "prompt_id": [str(i % 5) for i in range(n)],
        "text": [f"some words of an essay {i} about a town" for i in range(n)],
        "score": [str(1 + i % 6) for i in range(n)],
    }
    test = {name: values[:3] for name, values in train.items() if name != "score"}
    found = guess(*(pd.DataFrame(t) for t in (train, test, {"id": test["id"], "score": ["1"] * 3})))
    assert "group" not in found.settings
    assert ("group", "prompt_id") in [each[:2] for each in found.proposals]
