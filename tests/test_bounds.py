"""Settings as kinds: every number has its bounds, and every list of names takes one name, each once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from foldstack import config
from foldstack.errors import InputError
from foldstack.reference import _classes
from foldstack.settings import CompetitionSettings, Settings
from foldstack.techniques import (
    Consistency,
    Distillation,
    LearnerSettings,
    Loss,
    PseudoLabels,
    TfidfSettings,
)
from foldstack.training.criteria import make_criterion

UNBOUNDED = {"threshold", "checkpoint_seconds"}  # in a target's unit, and a time


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting that there is, as `Class.name`."""
    seen: set[type[Settings]] = set()
    waiting = [CompetitionSettings, *LearnerSettings.registered.values()]
    while waiting:
        kind = waiting.pop()
        if kind not in seen:
            seen.add(kind)
            for name, field in kind.model_fields.items():
                yield f"{kind.__name__}.{name}", field
                waiting += _classes(field.annotation)


def words_in(annotation: Any) -> bool:
    """Whether this is `tuple[WORD, ...]`, optional or one of a union."""
    if get_origin(annotation) is tuple:
        item, *others = get_args(annotation)
        return others == [...] and not _classes(item)
    return any(words_in(part) for part in get_args(annotation))


def takes(field: FieldInfo, value: Any) -> Any:
    """What the setting makes of this value; None if it refuses it."""
    try:
        return TypeAdapter(field.rebuild_annotation()).validate_python(value)
    except ValidationError:
        return None


def numbers() -> list[tuple[str, FieldInfo]]:
    return [
        (name, field)
        for name, field in fields()
        if float in (field.annotation, *get_args(field.annotation))
    ]


def test_every_number_has_its_bounds():
    """Bug guarded: `weight: 1e300` trained for an epoch, then "the loss is nan"."""
    names = [name for name, _ in numbers() if name.split(".")[1] not in UNBOUNDED]
    taken = {
        name: given
        for name, field in numbers()
        if name in names
        for given in ("1e300", "inf", "nan", "-1e300")
        if takes(field, given) is not None
    }
    assert len(names) > 100 and taken == {}


LISTS = [(name, field) for name, field in fields() if words_in(field.annotation)]
OF_WORDS = {"texts": "pool", "fitted": "calibration", "rules": "rate", "calibration": "beta"}
OF_WORDS |= {"methods": "mean", "trackers": "wandb", "keep": "n", "drop": "v", "models": "tfidf"}
REPEATED = {
    "models",
    "widths",
    "dense",
    "parts",
}  # presets' names are compared with their own; layers repeat


@pytest.mark.parametrize("name, field", LISTS, ids=lambda x: x if isinstance(x, str) else "")
def test_one_name_needs_no_list_and_none_is_repeated(name, field):
    """Bug guarded: `texts: pool` was "valid tuple", and [test, test] counted each row twice."""
    word = OF_WORDS.get(name.split(".")[1], "3")
    assert takes(field, word) == takes(field, [word]) != None  # noqa: E711
    twice = takes(field, [word, word])
    assert twice is None or name.split(".")[1] in REPEATED


def refused(data: dict[str, Any]) -> str:
    with pytest.raises(InputError) as found:
        config.validate(TfidfSettings, {"learner": "tfidf"} | data, "mine.yaml")
    return str(found.value)


NAMED = [
    (
        {"texts": ["test", "test"]},
        "setting 'pseudo_labels.texts' is ['test', 'test']: it names 'test' twice: leave one out",
    ),
    ({"texts": []}, "setting 'pseudo_labels.texts' is []: name at least one"),
    ({"texts": "poll"}, "setting 'pseudo_labels.texts.0' is 'poll': input should be"),
    (
        {"fitted": ["weights", "weights"]},
        "setting 'pseudo_labels.fitted' is ['weights', 'weights']: it names 'weights' twice: leave",
    ),
    ({"teachers": None}, "setting 'pseudo_labels.teachers' is None: name at least one"),
    ({"teachers": ""}, "setting 'pseudo_labels.teachers' is '': name at least one"),
    ({"teachers": []}, "setting 'pseudo_labels.teachers' is []: name at least one"),
    ({"teachers": {}}, "setting 'pseudo_labels.teachers' is {}: name at least one"),
    ({"teachers": "a, a"}, "setting 'pseudo_labels.teachers' is 'a, a': it names 'a' twice: leave"),
    (
        {"teachers": [{"a": "1"}]},
        "setting 'pseudo_labels.teachers' is [{'a': '1'}]: write models' names, or `{model: weight}`",
    ),
]


@pytest.mark.parametrize("given, sentence", NAMED, ids=str)
def test_names_are_asked_for_in_a_sentence(given, sentence):
    found = refused({"pseudo_labels": {"teachers": "a"} | given})
    assert found.startswith(f"mine.yaml: {sentence}")


def test_a_single_word_is_a_list():
    assert PseudoLabels(teachers="a", texts="pool", fitted="calibration") == PseudoLabels(
        teachers=["a"], texts=["pool"], fitted=["calibration"]
    )
    assert Consistency(texts="pool").texts == ("pool",)


def test_a_number_beyond_its_bounds_is_refused_in_a_sentence():
    found = refused({"distil": {"teachers": "a", "temperature": "1e300"}})
    assert found == (
        "mine.yaml: setting 'distil.temperature' is '1e300': input should be less than or equal to 1000"
    )


def ends() -> Iterator[tuple[str, str, float]]:
    """Each number of each loss at both of its ends; > 0 is 1e-6."""
    for name, kind in Loss.registered.items():
        for setting, field in kind.model_fields.items():
            for bound in field.metadata if field.annotation is float else ():
                for of, inside in (("ge", 0), ("gt", 1e-6), ("le", 0), ("lt", -1e-6)):
                    if getattr(bound, of, None) is not None:
                        yield name, setting, getattr(bound, of) + inside


@pytest.mark.parametrize("name, setting, value", list(ends()))
def test_losses_are_finite_at_the_bounds_of_their_settings(name, setting, value):
    """Also of logits that are certain, and wrong."""
    kind, targets = Loss.registered[name], (torch.arange(8.0) % 2)[:, None]
    link = "identity" if set(kind.kinds) == {"regression"} else "sigmoid"
    logits = torch.linspace(-40, 40, 8)[:, None].requires_grad_()
    criterion = make_criterion(kind(name=name, **{setting: value}), link, targets, torch.ones(8))
    loss = criterion(logits, targets, torch.ones(8), torch.tensor(8.0))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("alpha, sentence", [(1e-30, "write 0, or 0.01 at least"), (101, "100")])
def test_what_no_beta_distribution_draws_is_refused(alpha, sentence):
    """Bug guarded: with alpha 1e-30 torch mixed each pair half and half, with 1e-300 it failed."""
    from foldstack.techniques import LoopSettings

    with pytest.raises(ValidationError, match=sentence):
        LoopSettings(mixup=alpha)


def test_temperatures_have_bounds_on_both_sides():
    for given in (0.0, 1e-300, 1e300):
        with pytest.raises(ValidationError, match="or equal to"):
            Distillation(teachers="a", temperature=given)
        with pytest.raises(ValidationError, match="or equal to"):
            Consistency(temperature=given)
