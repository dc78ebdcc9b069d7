"""What `init` guesses of known competitions, against what is right: docs/competitions.md.

    python tests/bench/competitions.py [--cases DIR]

DIR (default: ../shared/cases/competitions, if it is there) holds the file forms of 14 competitions; the
others are made here: columns, values and sizes of their form, in words of our own. A guess is right if
it is what the competition asked for; a group also counts if it is proposed.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from foldstack.errors import InputError
from foldstack.files import read_table
from foldstack.guess import Guess, guess

CASES = Path(__file__).parents[3] / "shared" / "cases" / "competitions"
ASKED = ("id", "target", "text", "kind", "metric", "group", "pair")
Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]

WORDS = [
    "river",
    "stone",
    "market",
    "winter",
    "engine",
    "garden",
    "letter",
    "window",
    "doctor",
    "bridge",
    "silver",
    "captain",
    "morning",
    "paper",
    "island",
    "forest",
    "signal",
    "butter",
    "candle",
    "pocket",
    "travel",
    "mirror",
    "orange",
    "shadow",
    "ticket",
    "carpet",
]
RUSSIAN = [
    "продам",
    "диван",
    "новый",
    "детский",
    "почти",
    "стол",
    "город",
    "шкаф",
    "велосипед",
    "зимний",
    "куртка",
]


@dataclass(frozen=True)
class Form:
    """A competition's file form and its right settings.

    Attributes:
        right: of `ASKED`; `pair` is 'pair', 'segments' or None.
        overrule: the arguments of `make init` that a careful reader of the competition's page adds.
        files: the names of its three files in DIR; None if `make` makes its tables.
    """

    name: str
    right: dict[str, object]
    overrule: str = ""
    files: tuple[str, str, str] | None = None
    make: Callable[[random.Random], Tables] | None = None
    pair: str | None = field(default=None)


def kaggle(
    name: str, files: str, overrule: str = "", pair: str | None = None, **right: object
) -> Form:
    """Return a form of the folder DIR: files are the names of train and test."""
    train, test = files.split()
    sample = "sampleSubmission.csv" if name == "movie-sentiment" else "sample_submission.csv"
    return Form(name, {"group": None} | right, overrule, (train, test, sample), None, pair)


CSV = "train.csv test.csv"
SCALES = ("cohesion", "syntax", "vocabulary", "phraseology", "grammar", "conventions")
TOXIC = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")

STORED = (
    kaggle(
        "aes2",
        CSV,
        id="essay_id",
        target=("score",),
        text=("full_text",),
        kind="multiclass",
        metric="quadratic_kappa",
    ),
    kaggle(
        "feedback-effectiveness",
        CSV,
        "GROUP=essay_id",
        id="discourse_id",
        target=("discourse_effectiveness",),
        text=("discourse_text",),
        kind="multiclass",
        metric="log_loss",
        group="essay_id",
    ),
    kaggle(
        "feedback-ell",
        CSV,
        id="text_id",
        target=SCALES,
        text=("full_text",),
        kind="regression",
        metric="mcrmse",
    ),
    kaggle(
        "google-quest",
        CSV,
        pair="segments",
        id="qa_id",
        target=30,
        text=("question_title", "question_body", "answer"),
        kind="regression",
        metric="spearman",
        group="url",
    ),
    kaggle(
        "jigsaw-bias",
        CSV,
        "METRIC=auc",
        id="id",
        target=("target",),
        text=("comment_text",),
        kind="regression",
        metric="roc_auc",
    ),
    kaggle(
        "jigsaw-toxic",
        CSV,
        id="id",
        target=TOXIC,
        text=("comment_text",),
        kind="multilabel",
        metric="roc_auc",
    ),
    kaggle(
        "llm-detect",
        "train_essays.csv test_essays.csv",
        "GROUP=prompt_id, once more prompts are added",
        id="id",
        target=("generated",),
        text=("text",),
        kind="binary",
        metric="roc_auc",
        group="prompt_id",
    ),
    kaggle(
        "lmsys",
        CSV,
        pair="segments",
        id="id",
        target=("winner_model_a", "winner_model_b", "winner_tie"),
        text=("prompt", "response_a", "response_b"),
        kind="multiclass",
        metric="log_loss",
    ),
    kaggle(
        "movie-sentiment",
        "train.tsv test.tsv",
        id="PhraseId",
        target=("Sentiment",),
        text=("Phrase",),
        kind="multiclass",
        metric="accuracy",
        group="SentenceId",
    ),
    kaggle(
        "quora-insincere",
        CSV,
        id="qid",
        target=("target",),
        text=("question_text",),
        kind="binary",
        metric="f1",
    ),
    kaggle(
        "quora-pairs",
        CSV,
        pair="pair",
        id="test_id",
        target=("is_duplicate",),
        text=("question1", "question2"),
        kind="binary",
        metric="log_loss",
    ),
    kaggle(
        "us-patent",
        CSV,
        pair="segments",
        id="id",
        target=("score",),
        text=("anchor", "target", "context"),
        kind="regression",
        metric="pearson",
    ),
    kaggle(
        "watson",
        CSV,
        pair="pair",
        id="id",
        target=("label",),
        text=("premise", "hypothesis"),
        kind="multiclass",
        metric="accuracy",
    ),
    kaggle(
        "wsdm",
        "train.parquet test.parquet",
        pair="segments",
        id="id",
        target=("winner",),
        text=("prompt", "response_a", "response_b"),
        kind="binary",
        metric="accuracy",
    ),
)


# Forms made here


def sentence(rng: random.Random, least: int = 6, most: int = 18) -> str:
    words = rng.choices(WORDS, k=rng.randint(least, most))
    return f"{' '.join(words)} {rng.randrange(10_000)}".capitalize() + "."


def hashed(rng: random.Random) -> str:
    return f"{rng.getrandbits(48):012x}"


def tables(train: list[dict], test: list[dict], sample: dict[str, str], id: str = "id") -> Tables:
    """Return three tables of text; the sample has test's ids and these placeholders."""
    filled = [{id: row[id]} | sample for row in test]
    return tuple(pd.DataFrame(rows).astype(str) for rows in (train, test, filled))


def rows(n: int, row: Callable[[int], dict]) -> list[dict]:
    return [row(i) for i in range(n)]


def weighted(rng: random.Random, **shares: float) -> str:
    return rng.choices(list(shares), list(shares.values()))[0].lstrip("_")


def disaster_tweets(rng: random.Random) -> Tables:
    keywords = ["", "fire", "flood", "crash", "storm", "panic"]

    def row(i: int) -> dict:
        place = rng.choice(["", "", f"{rng.choice(WORDS)} city", "London", "New York"])
        return {"id": i, "keyword": rng.choice(keywords), "location": place, "text": sentence(rng)}

    train = rows(400, lambda i: row(i) | {"target": int(i % 100 < 43)})
    return tables(train, rows(150, lambda i: row(1000 + i)), {"target": "0"})


def readability(rng: random.Random) -> Tables:
    def row(i: int) -> dict:
        legal = rng.random() < 0.3
        url = f"https://example.org/wiki/{hashed(rng)}" if legal else ""
        licence = rng.choice(["CC BY 4.0", "CC BY-SA 3.0"]) if legal else ""
        text = " ".join(sentence(rng) for _ in range(6))
        return {"id": hashed(rng)[:9], "url_legal": url, "license": licence, "excerpt": text}

    def scored(i: int) -> dict:
        target = {"target": f"{rng.gauss(-1, 1):.6f}", "standard_error": f"{rng.random():.6f}"}
        return row(i) | target

    return tables(rows(300, scored), rows(7, row), {"target": "0.0"})


def summaries(rng: random.Random) -> Tables:
    prompts = ["39c16e", "814d6b", "ebad26", "3b9047"]

    def row(i: int, of: list[str]) -> dict:
        text = " ".join(sentence(rng) for _ in range(3))
        return {"student_id": hashed(rng), "prompt_id": rng.choice(of), "text": text}

    def scored(i: int) -> dict:
        marks = {k: f"{rng.gauss(0, 1):.9f}" for k in ("content", "wording")}
        return row(i, prompts) | marks

    test = rows(4, lambda i: row(i, [["abc123"], ["def789"]][i % 2]))
    return tables(rows(400, scored), test, {"content": "0.0", "wording": "0.0"}, "student_id")


def sst2(rng: random.Random) -> Tables:
    train = rows(
        400,
        lambda i: {"sentence": sentence(rng, 2, 20), "label": int(i % 100 < 56)},
    )
    test = rows(100, lambda i: {"index": i, "sentence": sentence(rng)})
    return tables(train, test, {"prediction": "0"}, "index")


def news_topics(rng: random.Random) -> Tables:
    def row(i: int) -> dict:
        return {"id": i, "title": sentence(rng, 5, 9), "description": sentence(rng, 15, 40)}

    train = rows(400, lambda i: {"class": 1 + i % 4} | row(i))
    return tables(train, rows(120, lambda i: row(5000 + i)), {"class": "1"})


def tweet_moods(rng: random.Random) -> Tables:
    def row(i: int) -> dict:
        return {"textID": hashed(rng)[:10], "text": sentence(rng, 4, 20)}

    moods = {"neutral": 0.4, "positive": 0.31, "negative": 0.29}
    train = rows(400, lambda i: row(i) | {"sentiment": weighted(rng, **moods)})
    return tables(train, rows(150, row), {"sentiment": "neutral"}, "textID")


def lasting_pages(rng: random.Random) -> Tables:
    def row(i: int) -> dict:
        measured = {k: f"{rng.random() * 5:.6f}" for k in ("avglinksize", "compression_ratio")}
        return {
            "url": f"http://www.{rng.choice(WORDS)}{i}.com/{hashed(rng)}",
            "urlid": 4000 + i,
            "boilerplate": f'{{"title":"{sentence(rng)}","body":"{sentence(rng, 30, 60)}"}}',
            "alchemy_category": rng.choice(["business", "recreation", "?", "health", "sports"]),
            **measured,
            "numberOfLinks": rng.randrange(300),
        }

    train = rows(400, lambda i: row(i) | {"label": int(i % 100 < 51)})
    return tables(train, rows(150, lambda i: row(5000 + i)), {"label": "0"}, "urlid")


def authors(rng: random.Random) -> Tables:
    def row(i: int) -> dict:
        return {"id": f"id{rng.randrange(10**5):05}{i}", "text": sentence(rng, 10, 30)}

    train = rows(300, lambda i: row(i) | {"author": weighted(rng, EAP=0.4, MWS=0.31, HPL=0.29)})
    sample = {"EAP": "0.403493538995863", "HPL": "0.287808366106543", "MWS": "0.308698094897594"}
    return tables(train, rows(100, row), sample)


def cuisines(rng: random.Random) -> Tables:
    def row(i: int) -> dict:
        return {"id": 10_000 + i, "ingredients": ", ".join(rng.sample(WORDS, rng.randint(4, 12)))}

    shares = {"italian": 0.2, "mexican": 0.16, "indian": 0.08, "greek": 0.05, "brazilian": 0.02}
    train = rows(500, lambda i: row(i) | {"cuisine": weighted(rng, **shares)})
    return tables(train, rows(150, lambda i: row(5000 + i)), {"cuisine": "italian"})


def search_relevance(rng: random.Random) -> Tables:
    queries = [f"{rng.choice(WORDS)} {rng.choice(WORDS)} {i}" for i in range(60)]

    def row(i: int) -> dict:
        query = rng.choice(queries)
        text = sentence(rng, 15, 40) if rng.random() < 0.75 else ""
        title = f"{sentence(rng, 3, 8)} {query}"
        return {"id": i, "query": query, "product_title": title, "product_description": text}

    def rated(i: int) -> dict:
        median = weighted(rng, _1=0.07, _2=0.14, _3=0.17, _4=0.62)
        variance = rng.choice(["0.0", "0.471", "0.433", "0.829"])
        return row(i) | {"median_relevance": median, "relevance_variance": variance}

    return tables(rows(400, rated), rows(150, lambda i: row(3000 + i)), {"prediction": "1"})


def hardware_store(rng: random.Random) -> Tables:
    def row(i: int) -> dict:
        term = f"{rng.choice(WORDS)} {rng.choice(WORDS)} {rng.randrange(200)}"
        title = f"{sentence(rng, 4, 9)} {term if rng.random() < 0.5 else ''}"
        uid = 100_000 + rng.randrange(120)
        return {"id": i, "product_uid": uid, "product_title": title, "search_term": term}

    marks = ["1", "1.33", "1.67", "2", "2.33", "2.67", "3"]
    train = rows(400, lambda i: row(i) | {"relevance": rng.choice(marks)})
    return tables(train, rows(150, lambda i: row(3000 + i)), {"relevance": "1"})


def adverts(rng: random.Random) -> Tables:
    users = [hashed(rng) for _ in range(200)]

    def row(i: int) -> dict:
        return {
            "item_id": hashed(rng),
            "user_id": rng.choice(users),
            "region": rng.choice(["Пермский край", "Самарская область", "Татарстан"]),
            "title": " ".join(rng.choices(RUSSIAN, k=3)) + f" {rng.randrange(900)}",
            "description": " ".join(rng.choices(RUSSIAN, k=25)) + f" {i}",
            "price": rng.choice(["", "500.0", "1200.0", "40000.0"]),
            "activation_date": f"2017-03-{1 + i % 28:02}",
        }

    train = rows(400, lambda i: row(i) | {"deal_probability": rng.choice([0, 0.12789, 0.7])})
    return tables(train, rows(150, row), {"deal_probability": "0"}, "item_id")


def doubtful_news(rng: random.Random) -> Tables:
    names = [
        f"{rng.choice(WORDS).capitalize()} {rng.choice(WORDS).capitalize()}" for _ in range(90)
    ]

    def row(i: int) -> dict:
        text = " ".join(sentence(rng) for _ in range(8))
        author = rng.choice(names)
        return {"id": i, "title": sentence(rng, 5, 10), "author": author, "text": text}

    train = rows(300, lambda i: row(i) | {"label": i % 2})
    made = tables(train, rows(100, lambda i: row(20_800 + i)), {"label": "0"})
    made[2]["label"] = [str(rng.randrange(2)) for _ in range(100)]
    return made


def bag_of_words(rng: random.Random) -> Tables:
    def row(i: int) -> dict:
        return {"id": f"{5000 + i}_{rng.randrange(10)}", "review": sentence(rng, 40, 80)}

    train = rows(300, lambda i: row(i) | {"sentiment": i % 2})
    return tables(train, rows(100, lambda i: row(9000 + i)), {"sentiment": "0"})


def essay_sets(rng: random.Random) -> Tables:
    def row(i: int) -> dict:
        essay = " ".join(sentence(rng) for _ in range(10))
        return {"essay_id": i, "essay_set": 1 + i % 8, "essay": essay}

    shares = {"_1": 0.1, "_2": 0.2, "_3": 0.4, "_4": 0.2, "_5": 0.1}
    train = rows(400, lambda i: row(i) | {"domain1_score": weighted(rng, **shares)})
    return tables(train, rows(120, lambda i: row(9000 + i)), {"domain1_score": "3"}, "essay_id")


def paraphrases(rng: random.Random) -> Tables:
    def row(i: int) -> dict:
        first = sentence(rng)
        return {"index": i, "#1 String": first, "#2 String": f"{first} {rng.choice(WORDS)}"}

    train = rows(300, lambda i: row(i) | {"Quality": weighted(rng, _0=0.33, _1=0.67)})
    return tables(train, rows(120, lambda i: row(4000 + i)), {"Quality": "0"}, "index")


def likeness(rng: random.Random) -> Tables:
    def row(i: int) -> dict:
        first = sentence(rng)
        return {"index": i, "sentence1": first, "sentence2": f"{first} {sentence(rng)}"}

    train = rows(300, lambda i: row(i) | {"score": f"{rng.random() * 5:.2f}"})
    return tables(train, rows(120, lambda i: row(4000 + i)), {"score": "0.0"}, "index")


def tagged_questions(rng: random.Random) -> Tables:
    tags = ["c#", "java", "php", "javascript", "android", "jquery", "python", "html"]

    def row(i: int) -> dict:
        return {"Id": i, "Title": sentence(rng, 5, 10), "Body": sentence(rng, 30, 60)}

    def tagged(i: int) -> dict:
        return row(i) | {"Tags": " ".join(rng.sample(tags, rng.randint(1, 4)))}

    test = rows(120, lambda i: row(9000 + i))
    return tables(rows(400, tagged), test, {"Tags": "javascript c# python php java"}, "Id")


def lyrics(rng: random.Random) -> Tables:
    def row(i: int, artists: list[str]) -> dict:
        text = "\n".join(sentence(rng, 3, 8) for _ in range(8))
        return {"track": i, "artist": rng.choice(artists), "lyrics": text}

    known, new = ([f"the {rng.choice(WORDS)} {i}s" for i in range(k, k + 60)] for k in (0, 60))
    shares = {"Rock": 0.4, "Pop": 0.3, "Folk": 0.2, "Metal": 0.1}
    train = rows(400, lambda i: row(i, known) | {"genre": weighted(rng, **shares)})
    return tables(train, rows(200, lambda i: row(900 + i, new)), {"genre": "Rock"}, "track")


def made(
    name: str, make: Callable, overrule: str = "", pair: str | None = None, **right: object
) -> Form:
    return Form(name, {"group": None} | right, overrule, None, make, pair)


MADE = (
    made(
        "nlp-getting-started",
        disaster_tweets,
        id="id",
        target=("target",),
        text=("text",),
        kind="binary",
        metric="f1",
    ),
    made(
        "commonlit-readability",
        readability,
        id="id",
        target=("target",),
        text=("excerpt",),
        kind="regression",
        metric="rmse",
    ),
    made(
        "commonlit-summaries",
        summaries,
        "GROUP=prompt_id; then `join: {file: prompts_train.csv, on: prompt_id}`",
        id="student_id",
        target=("content", "wording"),
        text=("text",),
        kind="regression",
        metric="mcrmse",
        group="prompt_id",
    ),
    made(
        "sst2",
        sst2,
        id="index",
        target=("label",),
        text=("sentence",),
        kind="binary",
        metric="accuracy",
    ),
    made(
        "ag-news",
        news_topics,
        id="id",
        target=("class",),
        text=("title", "description"),
        kind="multiclass",
        metric="accuracy",
    ),
    made(
        "tweet-sentiment",
        tweet_moods,
        id="textID",
        target=("sentiment",),
        text=("text",),
        kind="multiclass",
        metric="accuracy",
    ),
    made(
        "stumbleupon",
        lasting_pages,
        "METRIC=auc",
        id="urlid",
        target=("label",),
        text=("boilerplate",),
        kind="binary",
        metric="roc_auc",
    ),
    made(
        "spooky-author",
        authors,
        id="id",
        target=("author",),
        text=("text",),
        kind="multiclass",
        metric="log_loss",
    ),
    made(
        "whats-cooking",
        cuisines,
        id="id",
        target=("cuisine",),
        text=("ingredients",),
        kind="multiclass",
        metric="accuracy",
    ),
    made(
        "crowdflower-search",
        search_relevance,
        pair="segments",
        id="id",
        target=("median_relevance",),
        text=("query", "product_title", "product_description"),
        kind="multiclass",
        metric="quadratic_kappa",
    ),
    made(
        "home-depot",
        hardware_store,
        "`join: {file: product_descriptions.csv, on: product_uid}`",
        pair="pair",
        id="id",
        target=("relevance",),
        text=("search_term", "product_title"),
        kind="regression",
        metric="rmse",
    ),
    made(
        "avito-demand",
        adverts,
        id="item_id",
        target=("deal_probability",),
        text=("title", "description"),
        kind="regression",
        metric="rmse",
    ),
    made(
        "fake-news",
        doubtful_news,
        id="id",
        target=("label",),
        text=("title", "text"),
        kind="binary",
        metric="accuracy",
    ),
    made(
        "bag-of-words-reviews",
        bag_of_words,
        "METRIC=auc",
        id="id",
        target=("sentiment",),
        text=("review",),
        kind="binary",
        metric="roc_auc",
    ),
    made(
        "asap-essays",
        essay_sets,
        id="essay_id",
        target=("domain1_score",),
        text=("essay",),
        kind="multiclass",
        metric="quadratic_kappa",
    ),
    made(
        "mrpc",
        paraphrases,
        pair="pair",
        id="index",
        target=("Quality",),
        text=("#1 String", "#2 String"),
        kind="binary",
        metric="f1",
    ),
    made(
        "sts-b",
        likeness,
        pair="pair",
        id="index",
        target=("score",),
        text=("sentence1", "sentence2"),
        kind="regression",
        metric="pearson",
    ),
    made(
        "facebook-keywords",
        tagged_questions,
        "METRIC=f1_samples",
        id="Id",
        target=("Tags",),
        text=("Title", "Body"),
        kind="multilabel",
        metric="f1_samples",
    ),
    made(
        "lyrics-genres",
        lyrics,
        id="track",
        target=("genre",),
        text=("lyrics",),
        kind="multiclass",
        metric="accuracy",
        group="artist",
    ),
)


# What is guessed


def tables_of(form: Form, cases: Path) -> Tables | None:
    """Return the three tables of text; None if they lie in a folder that is not there."""
    if form.make is not None:
        return form.make(random.Random(form.name))
    folder = cases / form.name
    if not folder.is_dir():
        return None
    return tuple(read_table(folder / name, "utf-8") for name in form.files)


def answers(found: Guess) -> dict[str, str]:
    """Return the guesses that are compared, as text; a proposed group has a question mark."""
    settings = found.settings
    proposed = [str(value) for name, value, _ in found.proposals if name == "group"]
    group = settings.get("group") or (f"{proposed[0]}?" if proposed else None)
    pair = next((name for name in ("pair", "segments") if name in settings), None)
    return {name: settings.get(name) for name in ASKED} | {"group": group, "pair": pair}


def is_right(name: str, guessed: object, right: object) -> bool:
    if name == "target" and isinstance(right, int):
        return len(guessed) == right
    if name == "group" and right is not None:
        return guessed in (right, f"{right}?")
    if name in ("text", "target"):
        return set(guessed) == set(right)
    return guessed == right


def compared(form: Form, tables: Tables) -> dict[str, tuple[str, bool]]:
    """Return each guess as shown, and whether it is right."""
    try:
        guessed = answers(guess(*tables))
    except InputError as e:
        return dict.fromkeys(ASKED, (f"refused: {e}", False))
    right = form.right | {"pair": form.pair}
    return {
        name: (shown(guessed[name]), is_right(name, guessed[name], right[name])) for name in ASKED
    }


def shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) if len(value) < 4 else f"{value[0]}, … {len(value) - 1} more"
    return "" if value is None else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=Path, default=CASES)
    arguments = parser.parse_args()
    hits, total = dict.fromkeys(ASKED, 0), 0
    print(f"| competition | {' | '.join(ASKED)} | add to `make init` |")
    print(f"|{'---|' * (len(ASKED) + 2)}")
    for form in (*STORED, *MADE):
        tables = tables_of(form, arguments.cases)
        if tables is None:
            print(f"| {form.name} |{' |' * len(ASKED)} its files are not there |")
            continue
        guesses, total = compared(form, tables), total + 1
        cells = [text if good else f"{text or 'none'} ✗" for text, good in guesses.values()]
        print(f"| {form.name} | {' | '.join(cells)} | {form.overrule} |")
        for name, (_, good) in guesses.items():
            hits[name] += good
    print(f"| **right** | {' | '.join(f'{n} of {total}' for n in hits.values())} | |")


if __name__ == "__main__":
    main()
