"""Counts of what makes the code hard to change: `python tests/structure.py [SRC]`.

SRC is a package's folder (default: src/foldstack), so that an older clone can be counted the same way.
`tests/test_structure.py` holds the counts to their limits. Every count is by syntax, not by text.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

STORED = {"store", "store.py", "base.py", "predictions.py"}  # which make paths and read records
# The keys of blend.json and of a submission's record, but for those that other mappings have too.
BLEND_KEYS = {
    "calibration", "candidates", "features", "hashes", "in_sample", "members", "metric", "models",
    "nested", "note", "optimistic", "parameters", "positives", "repeated_texts", "rule", "rules",
    "scores_are", "seed_variance", "sharpness", "test_mean", "winner", "winners_by_fold",
}  # fmt: skip
RECORDS = {"info", "blend", "record", "stored"}  # what a record is called where it is a mapping
FOLDERS = {"folds", "oof", "submissions", "_blends", "_patterns", "private"}
OF_STORE = {"run_dir", "partial_dir", "blend_dir", "_beside", "submission_path"}
KINDS = {"binary", "multiclass", "multilabel", "regression"}


def modules(src: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(src.rglob("*.py")):
        yield path.relative_to(src), ast.parse(path.read_text(encoding="utf-8"))


def _last_name(node: ast.expr) -> str:
    """`info` of `info`, `made.info` and `made.info["nested"]`."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def blend_key_reads(tree: ast.Module) -> Iterator[int]:
    """Lines that read a blend's record by key: `info["nested"]`, `info.get("sharpness")`."""
    for node in ast.walk(tree):
        key = of = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            key, of = _text(node.slice), node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get" and node.args:
            key, of = _text(node.args[0]), node.func.value
        if key in BLEND_KEYS and _last_name(of) in RECORDS:
            yield node.lineno


def paths_built(tree: ast.Module) -> Iterator[int]:
    """Lines that join a path below folds/, oof/ or submissions/."""
    inner: set[ast.AST] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Div) or node in inner:
            continue
        parts, left = [], node
        while isinstance(left, ast.BinOp) and isinstance(left.op, ast.Div):
            inner.add(left)
            parts.append(_text(left.right))
            left = left.left
        if FOLDERS & set(parts) or _last_name(left) in OF_STORE:
            yield node.lineno


def _technique_classes(src: Path) -> set[str]:
    folder = src / "techniques"
    trees = [ast.parse(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.py"))]
    return {c.name for tree in trees for c in tree.body if isinstance(c, ast.ClassDef)}


def _technique_names(src: Path) -> set[str]:
    """`fgm`, `tfidf` …: the values of `name: Literal[…]` and `learner: Literal[…]` in settings."""
    found = set()
    for _, tree in modules(src):
        for c in (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)):
            for field in c.body:
                if isinstance(field, ast.AnnAssign) and getattr(field.target, "id", "") in (
                    "name",
                    "learner",
                ):
                    found |= {t for n in ast.walk(field.annotation) if (t := _text(n))}
    return found


def name_checks(tree: ast.Module, names: set[str], classes: set[str]) -> Iterator[int]:
    """Lines that compare with a technique's or learner's name, or ask for its class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            attributes = {_last_name(s) for s in sides}
            texts = {t for s in sides for n in ast.walk(s) if (t := _text(n))}
            if attributes & {"name", "learner", "optimizer", "_name"} and texts & names:
                yield node.lineno
        elif isinstance(node, ast.Call) and _last_name(node.func) == "isinstance":
            asked = {_last_name(n) for n in ast.walk(node.args[1]) if isinstance(n, ast.expr)}
            if asked & classes:
                yield node.lineno


def kind_checks(tree: ast.Module) -> Iterator[int]:
    """Lines that compare with the name of a kind of competition."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if KINDS & {t for s in sides for n in ast.walk(s) if (t := _text(n))}:
                yield node.lineno


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def indirect_docstrings(tree: ast.Module) -> Iterator[int]:
    """Lines of docstrings that begin with "Of" or "What"."""
    for line, text in docstrings(tree):
        if text.split()[0].rstrip(",:") in ("Of", "What"):
            yield line


def prints(tree: ast.Module) -> Iterator[int]:
    """Lines that print: calls of `say` and `print`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _last_name(node.func) in ("say", "print"):
            yield node.lineno


def repeated_files(src: Path) -> list[str]:
    """File names that occur more than once, but for __init__.py."""
    counts = Counter(p.name for p, _ in modules(src) if p.name != "__init__.py")
    return sorted(name for name, count in counts.items() if count > 1)


def repeated_classes(src: Path) -> list[str]:
    """Names of public classes and type aliases that stand for several things."""
    names: Counter[str] = Counter()
    for _, tree in modules(src):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names[node.name] += 1
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp | ast.Subscript):
                names.update(
                    t.id for t in node.targets if isinstance(t, ast.Name) and not t.id.isupper()
                )
    return sorted(name for name, count in names.items() if count > 1 and not name.startswith("_"))


def places(src: Path) -> dict[str, list[str]]:
    """Return `file:line` of everything that is counted, by what it is."""
    names, classes = _technique_names(src), _technique_classes(src)
    found: dict[str, list[str]] = {
        "key reads of blend.json outside the store": [],
        "paths under folds/, oof/, submissions/ built outside the store": [],
        "checks by a technique's or learner's name": [],
        "checks by a kind's name": [],
        "calls that print in stages/": [],
        "docstrings that begin with Of or What": [],
    }
    of_blend, paths, checks, kinds, said, indirect = found.values()
    for path, tree in modules(src):

        def add(to: list[str], lines: Iterator[int], path: Path = path) -> None:
            to += [f"{path}:{line}" for line in lines]

        if not STORED & set(path.parts):
            add(of_blend, blend_key_reads(tree))
            add(paths, paths_built(tree))
        add(checks, name_checks(tree, names, classes))
        add(kinds, kind_checks(tree))
        if path.parts[0] == "stages":
            add(said, prints(tree))
        add(indirect, indirect_docstrings(tree))
    found["file names that occur twice"] = repeated_files(src)
    found["class names that occur twice"] = repeated_classes(src)
    return found


def main(arguments: list[str]) -> None:
    shown = "--places" in arguments
    given = [a for a in arguments if not a.startswith("--")]
    src = Path(given[0]) if given else ROOT / "src" / "foldstack"
    for what, where in places(src).items():
        print(f"{len(where):5}  {what}")
        if shown:
            print(*(f"         {each}" for each in where), sep="\n")
    readme = src.parents[1] / "README.md"
    print(f"{readme.stat().st_size:5}  bytes of README.md")


if __name__ == "__main__":
    main(sys.argv[1:])
