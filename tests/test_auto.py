"""Settings that are `auto`: each run chooses them by the rows that it learns from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from foldstack import config
from foldstack.files import read_json
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext, make_learner
from foldstack.learners.repeated import RepeatedLearner
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.backbone import dropout_rates
from foldstack.records import write_record
from foldstack.settings import CompetitionSettings
from foldstack.techniques import RunFacts, TransformerSettings, auto
from makers import make_rows, make_task
from tiny import (
    add_preset,
    files,
    foldstack,
    make_workspace,
    run_of,
    sentences,
    turn_labels,
    write,
    write_competition,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

ALL = {name: "auto" for name in auto.OF_PRESET} | {
    "training": {name: "auto" for name in (*auto.OF_TRAINING, "max_length")}
}
SOME = RunFacts(rows=2_000, kind=Kind.BINARY, rarest=0.5, parameters=10_000_000)
TEXTS = [text for text, _ in sentences(12)]


def settings_with(**given: object) -> TransformerSettings:
    base = {"learner": "transformer", "backbone": "x"}
    return TransformerSettings.model_validate(config.merge(base | ALL, given))


def chosen(settings: TransformerSettings, facts: RunFacts = SOME) -> dict[str, object]:
    return {name: choice["value"] for name, choice in settings.resolved(facts)[1].items()}


# The rules


def test_every_setting_has_a_rule_that_always_holds():
    """Its last one; and each rule decides for some run, or it would be a dead line."""
    for setting in (*auto.OF_PRESET, *auto.OF_TRAINING, "max_length", "repeats"):
        rules = [rule for rule in auto.RULES if rule.setting == setting]
        assert rules[-1].holds(replace(SOME, rows=10**9, parameters=10**12))
        grid = [
            RunFacts(rows, kind, rarest, size, adds_log_priors, causal=causal)
            for rows in (1, 251, 501, 1_001, 20_001, 100_001)
            for kind in (Kind.BINARY, Kind.REGRESSION)
            for rarest in (0.01, 0.5)
            for size in (10**7, 10**8, 10**9)
            for adds_log_priors in (False, True)
            for causal in (False, True)
        ]
        assert {id(auto.choose(setting, facts)) for facts in grid} == set(map(id, rules))


@pytest.mark.parametrize("at", [250, 1_000, 20_000, 100_000])
def test_more_rows_have_fewer_epochs(at):
    fewer, more = (auto.choose("epochs", replace(SOME, rows=n)).value for n in (at, at + 1))
    assert fewer > more


@pytest.mark.parametrize(
    "kind, targets, weights, rows, rarest",
    [
        ("binary", [[1], [0], [0], [0]], [1, 1, 1, 1], 4, 0.25),
        ("binary", [[1], [1], [1], [0]], [1, 1, 1, 1], 4, 0.25),
        ("binary", [[1], [0], [0], [0]], [2, 1, 1, 0], 3, 0.5),
        ("multiclass", [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]], [1, 1, 1, 1], 4, 0),
        ("multilabel", [[1, 0], [1, 0], [1, 1], [1, 0]], [1, 1, 1, 1], 4, 0.25),
        ("regression", [[1], [2], [3], [4]], [1, 1, 1, 1], 4, 1),
    ],
)
def test_the_facts_of_a_run(kind, targets, weights, rows, rarest):
    """Weighted shares; rows of weight zero are not learned from."""
    facts = RunFacts.of(Kind(kind), np.array(targets, float), np.array(weights, float), 7)
    assert (facts.rows, facts.rarest, facts.parameters) == (rows, rarest, 7)


def test_few_rows_or_a_rare_class_begin_from_the_shares_of_classes():
    few, rare = replace(SOME, rows=1_000), replace(SOME, rows=1_001, rarest=0.049)
    for facts, bias in ((few, "prior"), (rare, "prior"), (replace(few, rows=1_001), "zero")):
        assert chosen(settings_with(), facts)["head_bias"] == bias
    values = replace(few, kind=Kind.REGRESSION, rarest=1.0)
    assert chosen(settings_with(), values)["head_bias"] == "zero"
    adjusted = settings_with(training={"loss": "logit_adjusted"})
    assert chosen(adjusted, few)["head_bias"] == "zero"


def test_a_rare_class_among_few_rows_has_more_updates():
    for rows, usual, more in ((500, 5, 10), (2_000, 3, 5)):
        facts = replace(SOME, rows=rows)
        assert chosen(settings_with(), facts)["training.epochs"] == usual
        assert chosen(settings_with(), replace(facts, rarest=0.049))["training.epochs"] == more


# What a preset says


def test_explicit_values_overrule():
    given = settings_with(head="max", training={"epochs": 7, "lr": 3e-3})
    made, choices = given.resolved(SOME)
    assert (made.head.name, made.training.epochs, made.training.lr) == ("max", 7, 3e-3)
    assert not {"head", "training.epochs", "training.lr"} & choices.keys()
    assert made.rules is None


def test_each_stage_chooses_for_itself():
    stages = [{}, {"epochs": 2}, {"freeze_backbone": True, "loss": "soft_f1"}]
    made, choices = settings_with(stages=stages).resolved(SOME)
    assert [stage.epochs for stage in made.stages] == [3, 2, 3]
    assert {"stages.1.epochs", "stages.3.epochs"} <= choices.keys()
    assert not {"stages.2.epochs", "training.epochs"} & choices.keys()
    assert made.stages[2].batch_size == 1024  # as without auto


def test_auto_is_kept_in_the_identity():
    """Runs of all folds have the same settings, whatever each has chosen."""
    settings = settings_with()
    assert config.identity(settings)["training"]["epochs"] == "auto"
    assert config.stored_settings(config.identity(settings)) == settings
    assert config.identity(settings)["training"]["max_length"] == "auto"
    assert settings_with(repeats=1).resolved(SOME)[0].rules is None


def test_a_caller_of_one_setting_gives_what_its_rules_read():
    """`max_length` is chosen by the backbone alone, and `repeats` by the rows."""
    others = (replace(SOME, kind=Kind.REGRESSION), replace(SOME, rarest=0.01, adds_log_priors=True))
    for facts in (SOME, *others):
        for rows, size in ((100, 10**7), (100, 10**9), (10**6, 10**7)):
            facts = replace(facts, rows=rows, parameters=size)
            assert auto.longest(size) == auto.choose("max_length", facts).value
            alone = auto.choose("repeats", RunFacts(rows=rows))
            assert alone is auto.choose("repeats", facts)


def test_a_rule_counts_for_the_settings_that_are_auto(monkeypatch):
    """An edit of a rule that a run does not use leaves the run as it is."""
    some = settings_with(head="mean")
    before, of_all = some.rules, settings_with().rules
    first = auto.RULES[0]
    rules = {rule.setting: rule for rule in auto.RULES}
    monkeypatch.setattr(auto, "RULES", (*auto.RULES, replace(rules["head"], value="max")))
    assert some.rules == before and settings_with().rules != of_all
    monkeypatch.setattr(auto, "RULES", (replace(first, value=11), *auto.RULES[1:]))
    assert some.rules != before


@pytest.mark.parametrize("preset", sorted(p.stem for p in config.SHIPPED.glob("*.yaml")))
def test_shipped_transformers_choose_by_the_data(preset):
    data = config.read_preset(config.SHIPPED / f"{preset}.yaml", Path("nowhere"))
    if data["learner"] != "transformer" or preset == "minilm-quick":
        return
    own = {
        "minilm-steps": ("dropout", "backbone_dropout"),
        "modernbert-base": ("lr",),
        "bge-base": ("head",),
        "gte-base": ("head",),
    }
    of_decoders = ("head", "backbone_dropout", "repeats", "epochs", "lr", "head_lr")
    for name in (*auto.OF_PRESET, *auto.OF_TRAINING, "repeats"):
        value = data.get(name, data["training"].get(name))
        assert value == "auto" or name in (of_decoders if "lora" in data else own.get(preset, ()))


# Runs


def learner_with(backbone: Path, **given: object) -> TransformerLearner:
    given = {"backbone": str(backbone), "training": {"precision": "fp32"}} | given
    return TransformerLearner(settings_with(**given), LearnerContext(make_task()))


def test_a_run_chooses_and_comes_back(backbone, tmp_path, capsys):
    learner = learner_with(backbone)
    rows = make_rows(TEXTS)
    facts = learner.fit(rows, None, tmp_path)
    assert facts["auto"]["training.epochs"] == {"value": 10, "why": "up to 250 rows"}
    assert facts["updates"] == 10  # of one batch each
    assert "auto: head mean, head_bias prior, dropout 0.1, " in capsys.readouterr().out

    learner.save(tmp_path / "model")
    loaded = learner_with(tmp_path / "nowhere")
    loaded.load(tmp_path / "model")
    assert loaded.settings == learner.settings
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_what_is_chosen_is_what_is_trained(backbone, tmp_path):
    """Equal to the bit to a preset that names the chosen values."""
    rows = make_rows(TEXTS)
    first = learner_with(backbone)
    first.fit(rows, None, tmp_path)
    named = first.settings.model_copy(update={"backbone": str(backbone)})
    second = TransformerLearner(named, LearnerContext(make_task()))
    (tmp_path / "named").mkdir()
    second.fit(rows, None, tmp_path / "named")
    assert second.chosen == {}
    assert first.predict(rows).tobytes() == second.predict(rows).tobytes()


def test_the_backbone_has_the_chosen_dropout(backbone):
    learner = learner_with(backbone)
    learner.prepare(make_rows(TEXTS))
    rates = {getattr(m, name) for m, name in dropout_rates(learner.model.backbone)}
    assert rates == {learner.settings.backbone_dropout}


def test_a_part_of_the_rows_stands_for_all(backbone):
    """For a forecast, which measures some rows: the number learned from decides."""
    learner = learner_with(backbone)
    learner.prepare(make_rows(TEXTS), learned=30_000)
    assert learner.settings.training.epochs == 2


def test_long_texts_are_read_up_to_a_bound(backbone, capsys):
    """`max_length: auto` on articles would take the square of the time for little."""
    learner = learner_with(backbone)
    learner.prepare(make_rows(["good " * 400] * 4))
    assert learner.encoder.longest == 256
    said = capsys.readouterr().out
    assert "95% of the rows have up to 402 tokens: `max_length: auto` reads the first 256; " in said
    assert learner.encoder.max_length == 32  # the backbone's positions


def test_pooled_vectors_require_a_head_that_is_named():
    stages = [{}, {"freeze_backbone": True, "sampling": "smote"}]
    with pytest.raises(
        ValueError, match="sampling smote makes pooled vectors of a frozen backbone"
    ):
        settings_with(stages=stages)
    assert settings_with(stages=stages, head="mean").head.name == "mean"


# Several fits in one run


def repeated(backbone: Path, repeats: int | str, **training: object) -> RepeatedLearner:
    given = {"epochs": 2, "batch_size": 8, "lr": 1e-3, "precision": "fp32"} | training
    data = {"learner": "transformer", "backbone": str(backbone), "training": given}
    settings = TransformerSettings.model_validate(data | {"repeats": repeats})
    return make_learner(settings, LearnerContext(make_task()))


def test_the_mean_of_fits_from_different_seeds(backbone, tmp_path):
    rows, single = make_rows(TEXTS), repeated(backbone, 1)
    (tmp_path / "single").mkdir()
    first = single.fit(rows, None, tmp_path / "single")
    learner = repeated(backbone, 3)
    facts = learner.fit(rows, None, tmp_path)
    each = [member.predict(rows) for member in learner.members]
    assert each[0].tobytes() == single.predict(rows).tobytes()  # the run's own seed
    assert len({e.tobytes() for e in each}) == 3
    np.testing.assert_allclose(learner.predict(rows), np.mean(each, axis=0), rtol=1e-6)
    assert facts["updates"] == 3 * first["updates"] and len(facts["repeats"]) == 3

    learner.save(tmp_path / "model")
    loaded = repeated(tmp_path / "nowhere", 3)
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()


@pytest.mark.parametrize("rows, fits", [(12, 3), (501, 1)])
def test_few_rows_have_several_fits(backbone, tmp_path, rows, fits):
    learner = repeated(backbone, "auto", epochs=1, batch_size=64)
    texts = [text for text, _ in sentences(rows)]
    facts = learner.fit(make_rows(texts), None, tmp_path)
    assert len(learner.members) == fits
    assert facts["auto"]["repeats"]["value"] == fits
    learner.save(tmp_path / "model")
    assert (tmp_path / "model/classifier.safetensors").exists() == (fits == 1)


def test_a_finished_fit_is_not_repeated_after_a_kill(backbone, tmp_path, monkeypatch):
    """The bytes are those of an uninterrupted run."""
    rows, whole = make_rows(TEXTS), repeated(backbone, 3)
    (tmp_path / "whole").mkdir()
    whole.fit(rows, None, tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    fit, fits = TransformerLearner.fit, []

    def fit_or_fail(self: TransformerLearner, *given: object) -> dict:
        fits.append(self.seed)
        if len(fits) == 2:
            raise KeyboardInterrupt
        return fit(self, *given)

    monkeypatch.setattr(TransformerLearner, "fit", fit_or_fail)
    with pytest.raises(KeyboardInterrupt):
        repeated(backbone, 3).fit(rows, None, tmp_path / "killed")
    again = repeated(backbone, 3)
    again.fit(rows, None, tmp_path / "killed")
    assert len(fits) == 4 and fits[1] == fits[2]
    assert again.predict(rows).tobytes() == whole.predict(rows).tobytes()


@pytest.mark.parametrize("file", ["facts.json", "model/settings.json", "model/config.json"])
def test_a_damaged_fit_is_fitted_again(backbone, tmp_path, capsys, file):
    rows, learner = make_rows(TEXTS), repeated(backbone, 2, warmup="auto")
    learner.fit(rows, None, tmp_path)
    before = learner.predict(rows).tobytes()
    (tmp_path / "repeat1/done" / file).write_text("{")
    capsys.readouterr()
    again = repeated(backbone, 2, warmup="auto")
    again.fit(rows, None, tmp_path)
    said = capsys.readouterr().out
    assert said.count("is damaged (") == said.count("): fitting it again\n") == 1
    assert again.predict(rows).tobytes() == before


def test_a_fit_read_after_a_kill_keeps_its_choices(backbone, tmp_path):
    """Without them the stored model could not be read."""
    rows = make_rows(TEXTS)
    for name in ("whole", "resumed"):  # the second time every fit is read
        learner = repeated(backbone, 2, warmup="auto")
        learner.fit(rows, None, tmp_path)
        learner.save(tmp_path / name)
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")
    assert (tmp_path / "resumed/repeat1/settings.json").exists()


def test_a_start_of_several_fits(backbone, tmp_path):
    """Each fit starts from the one of its number; a single one from the first."""
    rows, first = make_rows(TEXTS), repeated(backbone, 2)
    first.fit(rows, None, tmp_path)
    first.save(tmp_path / "model")
    context = LearnerContext(make_task(), start=tmp_path / "model")
    settings = first.settings.model_copy(update={"start_from": "first"})
    both = make_learner(settings, context)
    assert [both._member(n).start for n in (1, 2, 3)] == [
        tmp_path / "model" / f"repeat{n}" for n in (1, 2, 1)
    ]
    alone = make_learner(settings.model_copy(update={"repeats": 1}), context)
    alone.prepare(rows)  # which had looked for the weights beside the folders of the fits
    assert alone.start == tmp_path / "model/repeat1"


# Runs in a workspace


@pytest.fixture
def root(tmp_path: Path, backbone: Path) -> Path:
    workspace = make_workspace(tmp_path / "w", models=["tiny"], folds={"count": 3, "kind": "kfold"})
    training = dict.fromkeys(auto.OF_TRAINING, "auto") | {"epochs": "auto"}
    add_preset(workspace, backbone, training=training, **dict.fromkeys(auto.OF_PRESET, "auto"))
    assert foldstack(workspace, "folds") == 0
    return workspace


def model_of(root: Path) -> tuple[dict, dict[str, bytes]]:
    """The choices of the run that leaves fold 0 out, and its weights."""
    run = root / "oof/tiny/seed0/fold0"
    weights = load_file(run / "model/classifier.safetensors")
    return read_json(run / "run.json")["auto"], {k: v.tobytes() for k, v in weights.items()}


def test_turned_labels_of_the_fold_change_nothing(root):
    """Neither the choices of a run that leaves the fold out, nor what it learns."""
    assert foldstack(root, "train", "--fold", "0") == 0
    before = model_of(root)
    ws, run = run_of(root)
    held = run.folds.held_out((0,))
    turn_labels(root, set(ws.competition.train.ids[held][:6]))
    assert foldstack(root, "folds", "--force") == 0
    assert run_of(root)[1].folds.held_out((0,)).tolist() == held.tolist()
    assert foldstack(root, "train", "--fold", "0", "--force") == 0
    assert model_of(root) == before


def test_other_rules_make_other_runs(root, monkeypatch, capsys):
    """Else one fold would be trained by old rules and the next by new ones, and both be blended."""
    assert foldstack(root, "train", "--fold", "0") == 0
    capsys.readouterr()
    monkeypatch.setattr(auto, "RULES", (replace(auto.RULES[0], value=11), *auto.RULES[1:]))
    assert foldstack(root, "train", "--fold", "0") == 2
    assert (
        "tiny seed 0 fold0 is finished with other settings or data (auto_rules "
        in capsys.readouterr().err
    )


def test_runs_that_recorded_all_rules_are_finished(root, capsys):
    """As the first version with `auto` did, and it wrote `max_length: auto` as null."""
    add = "presets/tiny.yaml"
    preset = (root / add).read_text().replace("max_length: 16", "max_length: auto")
    write(root / add, preset)
    assert foldstack(root, "train", "--fold", "0") == 0
    path = root / "oof/tiny/seed0/fold0/run.json"
    record = read_json(path)
    record["identity"]["auto_rules"] = auto.digest()
    assert record["identity"]["settings"]["training"]["max_length"] == "auto"
    record["identity"]["settings"]["training"]["max_length"] = None
    write_record(path, record)
    capsys.readouterr()
    assert foldstack(root, "train", "--fold", "0") == 0
    assert foldstack(root, "train", "--fold", "1") == 0
    assert foldstack(root, "train", "--fold", "2") == 0
    assert foldstack(root, "blend") == 0
    record["identity"]["auto_rules"] = "0" * 16
    write_record(path, record)
    assert foldstack(root, "train", "--fold", "0") == 2


def test_a_preset_without_backbone_is_refused_in_a_sentence(tmp_path, capsys):
    root = make_workspace(tmp_path / "w")
    write_competition(root, models=["transformer"])
    assert foldstack(root, "folds") == 0
    capsys.readouterr()
    assert foldstack(root, "train", "--fold", "0") == 2
    assert capsys.readouterr().err == (
        "foldstack: transformer.yaml: setting 'backbone' is missing: add `backbone: …`\n"
    )


def test_a_competition_loads_every_auto_preset(tmp_path):
    competition = CompetitionSettings(name="t", kind="multiclass", metric="accuracy", target=("y",))
    assert config.load_model("minilm", tmp_path, competition, {}).training.epochs == "auto"
    over = {"training": {"epochs": "2"}}
    assert config.load_model("minilm", tmp_path, competition, over).training.epochs == 2
