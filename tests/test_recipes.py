"""Recipes: raw files of a published system become a workspace; the ordinary stages do the rest."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import f1_score

from foldstack import config
from foldstack.competition import Competition
from foldstack.config import listed_models
from foldstack.recipes import RECIPES
from foldstack.store import RunKey, Store
from foldstack.techniques import LearnerSettings
from tiny import foldstack, refuses, sentences, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

COMMENTS = ("recommended-comments", "recommended-comments-published")
TITLES = ("duee", "duee-published")


ONE_THREAD = "runtime: {threads: 1}\n"
LINEAR = ("characters", "naive-bayes")


def raw_files(folder: Path, name: str, n: int = 240, m: int = 60) -> Path:
    """n + m sentences as the recipe's data set holds them; titles have one label or two of four."""
    rows = sentences(n + m)
    if name in COMMENTS:
        train = "\n\n".join(f"{label}\t{text}" for text, label in rows[:n])
        test = "\n\n".join(text for text, _ in rows[n:])
    else:
        titles = [
            f"{'good' if label else 'bad'}{'|long' if len(text) > 30 else ''} {text}"
            for text, label in rows
        ]
        train, test = "\n".join(titles[:n]), "\n".join(titles[n:])
    write(folder / "train.txt", train + "\n")
    write(folder / "test.txt", test + "\n")
    return folder


def make(root: Path, name: str, backbone: Path) -> Path:
    source = raw_files(root / "raw", name)
    options = ["--name", name, "--source", str(source), "--backbone", str(backbone)]
    assert foldstack(root / "w", "recipe", *options) == 0
    return root / "w"


@pytest.mark.parametrize(
    "name", ["recommended-comments", pytest.param("duee", marks=pytest.mark.slow)]
)
def test_a_recipe_goes_the_whole_way(name, backbone, tmp_path, capsys):
    root = make(tmp_path, name, backbone)
    path = root / "competition.yaml"
    path.write_text(path.read_text().replace("count: 5", "count: 2") + ONE_THREAD)
    assert foldstack(root, "folds") == 0
    models = [model for model, _ in listed_models(Competition.load(root).settings)]
    for model in models:
        quick = [] if model in LINEAR else ["--set", "training.epochs=1"]
        for fold in "01":
            assert foldstack(root, "train", "--model", model, "--fold", fold, *quick) == 0
    assert foldstack(root, "blend") == 0
    assert foldstack(root, "submit") == 0
    assert all(not run.optimistic for run in Store(root).runs().values())
    capsys.readouterr()
    has_solution = name == "duee"
    assert foldstack(root, "score") == (0 if has_solution else 2)
    out = capsys.readouterr().out
    if not has_solution:
        return
    given = pd.read_csv(root / "input/private/solution.csv")["label"].str.get_dummies("|")
    submitted = pd.read_csv(root / "submissions/blend.csv")["label"].fillna("").str.get_dummies("|")
    submitted = submitted.reindex(columns=given.columns, fill_value=0)
    scores = [
        f1_score(given, submitted, average=average, zero_division=0)
        for average in ("micro", "macro", "weighted", "samples")
    ]
    exact = (given == submitted).all(axis=1).mean()
    line = next(line for line in out.splitlines() if line.startswith("blend "))
    assert line.split()[-5:] == [f"{score:.4f}" for score in (*scores, exact)]
    place = root / "submissions/private"
    assert f"score: scores per label are in {place}/NAME.txt, and .csv beside it\n" in out
    report = pd.read_csv(place / "blend.csv", index_col="label")
    assert report.loc["micro avg", "f1"] == pytest.approx(scores[0])


def test_a_metric_that_labels_cannot_tell_is_refused(backbone, tmp_path, capsys):
    root = make(tmp_path, "duee", backbone)
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "characters", "--set", "report_metrics=[f1_macro, roc_auc]"],
        "competition.yaml: report_metrics names roc_auc, which requires a ranking, but labels are "
        "submitted: leave it out",
        capsys,
    )


@pytest.mark.parametrize("name", ["recommended-comments-published", "duee-published"])
def test_what_repeats_a_published_choice_is_marked(name, backbone, tmp_path):
    """Whatever the held-out fold has chosen is optimistic; other models of the recipe choose nothing."""
    root = make(tmp_path, name, backbone)
    assert foldstack(root, "folds") == 0
    models = [model for model, _ in listed_models(Competition.load(root).settings)]
    for model in models:
        quick = [] if model in LINEAR else ["--set", "training.epochs=2"]
        sets = [*quick, "--set", "runtime.threads=1"]
        assert foldstack(root, "train", "--model", model, "--fold", "1", *sets) == 0
        marked = Store(root).read_run(RunKey(model, 0, (1,))).optimistic
        chosen = "the epoch was chosen on the held-out fold" in marked
        assert chosen == (model in ("best-epoch", "f1-stage", "full", "pretrained"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_preset_of_a_recipe_is_sound(name, backbone, tmp_path):
    root = make(tmp_path, name, backbone)
    settings = Competition.load(root).settings
    own = {path.stem for path in (root / "presets").glob("*.yaml")}
    assert own >= {model for model, _ in listed_models(settings)}
    for model in own:
        assert config.load_model(model, root, settings, {}).learner in LearnerSettings.registered


@pytest.mark.parametrize("name", ["recommended-comments", "duee"])
def test_an_ablation_changes_one_technique(name, tmp_path):
    """`with…-…` differs from `full` in what it is named after, and in nothing else."""
    root = make(tmp_path, name, Path("some/e5"))
    settings = Competition.load(root).settings
    full = config.flatten(config.load_model("full", root, settings, {}).model_dump())
    changes = {
        "without-adversary": {"adversary"},
        "without-ema": {"averaging"},
        "without-rates": {"layer_decay", "head_lr"},
        "without-head": {"head"},
        "without-prefix": {"prefix"},
        "with-augmentation": {"augment"},
    }
    for model, wanted in changes.items():
        other = config.flatten(config.load_model(model, root, settings, {}).model_dump())
        changed = {
            k.removeprefix("training.").split(".")[0]
            for k in full | other
            if full.get(k) != other.get(k)
        }
        assert changed == wanted


def test_the_published_choice_of_the_epoch_is_all_that_sets_it_apart(tmp_path):
    source = raw_files(tmp_path / "raw", "duee")
    settings = []
    for name, model in (("duee", "full"), ("duee-published", "best-epoch")):
        options = ["--name", name, "--source", str(source), "--backbone", "some/e5"]
        assert foldstack(tmp_path / name, "recipe", *options) == 0
        competition = Competition.load(tmp_path / name).settings
        settings.append(config.load_model(model, tmp_path / name, competition, {}).model_dump())
    assert settings[1].pop("training") == settings[0].pop("training") | {"select": "fold"}
    assert settings[1] == settings[0]


def test_the_test_titles_are_fold_1(backbone, tmp_path):
    root = make(tmp_path, "duee-published", backbone)
    assert foldstack(root, "folds") == 0
    rows = Competition.load(root).train
    folds = Store(root).read_folds(rows)
    assert len(rows) == 300
    assert {id_[:4] for id_ in rows.ids[folds.held_out((1,))]} == {"test"}
    assert len(folds.learned((1,))) == 240


def test_the_backbone_is_one_setting(backbone, tmp_path):
    """A folder, a hub name, which of E5 has its prefix, or a shipped preset."""
    source = raw_files(tmp_path / "raw", "duee")
    for given, wanted in (
        (None, "backbone: intfloat/multilingual-e5-small\nprefix: 'query: '\n"),
        ("hfl/chinese-macbert-base", "backbone: hfl/chinese-macbert-base\n"),
        ("macbert", "preset: macbert\n"),
        (str(backbone), f"backbone: {backbone.resolve()}\n"),
    ):
        options = ["--name", "duee", "--source", str(source), "--force"]
        more = ["--backbone", given] if given else []
        assert foldstack(tmp_path / "w", "recipe", *options, *more) == 0
        assert (tmp_path / "w/presets/backbone.yaml").read_text().endswith(wanted)


REFUSED = {
    "": "recipe requires a NAME=, one of " + ", ".join(RECIPES),
    "--name due --source raw": "recipe 'due' is not known: did you mean 'duee'?",
    "--name duee": "recipe requires SOURCE=, the folder with train.txt and test.txt",
    "--name duee --source nowhere": (
        "nowhere/train.txt does not exist: SOURCE= is the folder with train.txt and test.txt"
    ),
}


def test_a_backbone_in_no_folder_is_refused_before_anything_is_written(tmp_path, capsys):
    source = raw_files(tmp_path / "raw", "duee")
    place = tmp_path / "nowhere"
    refuses(
        tmp_path / "w",
        ["recipe", "--name", "duee", "--source", str(source), "--backbone", str(place)],
        f"backbone '{place}': there is no folder {place}",
        capsys,
    )
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("options", REFUSED)
def test_a_wrong_call_is_refused(tmp_path, capsys, options):
    refuses(tmp_path, ["recipe", *options.split()], REFUSED[options], capsys)
    assert not (tmp_path / "competition.yaml").exists()


def test_an_existing_competition_stays(backbone, tmp_path, capsys):
    root = make(tmp_path, "duee", backbone)
    before = (root / "competition.yaml").read_bytes()
    options = ["--name", "recommended-comments", "--source", str(tmp_path / "raw")]
    capsys.readouterr()
    refuses(
        root,
        ["recipe", *options],
        f"{root / 'competition.yaml'} is there already: take another WORKSPACE, or add --force "
        "(FORCE=1) to write over it, input/ and presets/",
        capsys,
    )
    assert (root / "competition.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "name, text, sentence",
    [
        ("duee", "good a film\nbad\n", "line 2 is not a label, a space and a text: fix the file"),
        (
            "recommended-comments",
            "1\ta film\n\n0 a plot\n",
            "line 3 is not a label, a tab and a text: fix the file",
        ),
    ],
)
def test_a_broken_raw_file(tmp_path, capsys, name, text, sentence):
    source = raw_files(tmp_path / "raw", name)
    path = write(source / "train.txt", text)
    options = ["--name", name, "--source", str(source)]
    refuses(tmp_path / "w", ["recipe", *options], f"{path}, {sentence}", capsys)


def test_raw_files_of_other_kinds(tmp_path, capsys):
    source = raw_files(tmp_path / "raw", "duee")
    options = ["recipe", "--name", "duee", "--source", str(source)]
    (source / "test.txt").write_bytes("好".encode("gbk"))
    sentence = f"{source / 'test.txt'} is not UTF-8 at byte 0: save it as UTF-8"
    refuses(tmp_path / "w", options, sentence, capsys)
    (source / "test.txt").write_text("\n")
    sentence = f"{source / 'test.txt'} is empty: fetch it again"
    refuses(tmp_path / "w", options, sentence, capsys)
