"""Pretraining of a backbone on the workspace's texts, once for all runs."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from foldstack import config, parallel
from foldstack.backbones import model_digest
from foldstack.errors import InputError
from foldstack.files import locked, remove
from foldstack.learners import LearnerContext, make_learner
from foldstack.progress import duration, say
from foldstack.records import Record, digests_of, read_mapping, verify, write_record
from foldstack.rows import Rows
from foldstack.stages.fitted import token_cache
from foldstack.techniques import AUTO, TransformerSettings
from foldstack.techniques.pretraining import OF_TEXTS
from foldstack.workspace import Workspace

# The settings that determine the pretrained backbone, the last of them from `training`.
PARTS = ("backbone", "sha256", "prefix", "backbone_dropout", "pretrain")
RECORD = "record.json"  # the digests of a kept backbone's files
CONFIG = "config.json"
OF_TRAINING = ("max_length", "length_quantile", "precision")


def pretrained(ws: Workspace, settings: TransformerSettings, threads: int) -> Path:
    """Return the folder of the pretrained backbone; pretrain it if it does not exist.

    It has seen the texts of held-out and test rows, but no label. Runs that need the same backbone wait
    for the one that trains it; several processes of one run train it together.
    """
    texts = _texts(ws)
    key = _name(ws, settings, texts)
    place = ws.store.pretrained_dir / key
    with ExitStack() as stack:
        parallel.main_first(lambda: parallel.is_main() and _prepare(place, settings, stack))
        if place.exists():
            return place
        say(f"pretraining on {len(texts):,} texts without labels, kept for other runs")
        context = LearnerContext(ws.competition.task, 0, threads, cache=token_cache(ws))
        learner = make_learner(settings.model_copy(update={"repeats": 1}), context)
        partial = place.with_name(f".{key}.partial")
        checkpoints, new = partial / "checkpoints", partial / "backbone"
        checkpoints.mkdir(parents=True, exist_ok=True)
        facts = learner.pretrain(texts, checkpoints, new)
        if parallel.is_main():
            known = {"key": key, "without_content": _key(settings, texts, content=False)}
            write_record(new / RECORD, known | {"files": digests_of(new)})
            new.rename(place)
            shutil.rmtree(partial)
        parallel.barrier()
        say(f"pretrained in {facts['updates']:,} updates, {duration(facts['training_seconds'])}")
    return place


def pretrained_name(ws: Workspace, settings: TransformerSettings) -> str:
    """Return the name of the folder of the pretrained backbone, which its texts and settings give.

    A backbone's folder that was removed since cannot be compared, and counts as the same.
    """
    return _name(ws, settings, _texts(ws))


def _name(ws: Workspace, settings: TransformerSettings, texts: Rows) -> str:
    key = _key(settings, texts)
    if model_digest(settings.backbone) is not None or (ws.store.pretrained_dir / key).exists():
        return key
    for path in sorted(ws.store.pretrained_dir.glob(f"*/{RECORD}")):
        if _is_of(path, key):
            return path.parent.name
    return key


def _is_of(path: Path, key: str) -> bool:
    """Return whether this record of a kept backbone says that it has this key but for its content."""
    try:
        return read_mapping(path, Record, RECORD, "").get("without_content") == key
    except InputError:  # a damaged one
        return False


def is_pretrained(ws: Workspace, settings: TransformerSettings) -> bool:
    """Return whether the pretrained backbone of these settings exists."""
    place = ws.store.pretrained_dir / pretrained_name(ws, settings)
    return place.exists() and _why_useless(place, settings) is None


def _prepare(place: Path, settings: TransformerSettings, stack: ExitStack) -> None:
    """Lock the place of a backbone for this run to pretrain it, unless a useful one is there.

    That one came there whole, by one rename, and may be read-only. A useless one is removed.
    """
    if place.exists() and _why_useless(place, settings) is None:
        return
    waiting = "waiting for another run, which is pretraining the backbone"
    stack.enter_context(locked(place.with_name(f".{place.name}.lock"), waiting))
    if place.exists() and (why := _why_useless(place, settings)):
        say(f"the kept backbone {place} {why}: pretraining again")
        remove(place)


def _why_useless(place: Path, settings: TransformerSettings) -> str | None:
    """Return in what way a stored backbone is damaged, or that it lacks a head; None if it is of use.

    An earlier version kept it without its MLM head, which fills words.
    """
    try:
        if (place / RECORD).exists():  # there is none by a version without records
            _verify(place)
        if not (place / CONFIG).is_file():
            raise InputError(f"{CONFIG} is missing")
        about = read_mapping(place / CONFIG, Record, CONFIG, "")
    except (InputError, KeyError) as e:
        return f"is damaged ({str(e).removesuffix(': ')})"
    if settings.fills_by_pretrained and OF_TEXTS not in about:
        return "has no head to fill words with"
    return None


def _verify(place: Path) -> None:
    record = read_mapping(place / RECORD, Record, RECORD, "")
    if record.get("key", place.name) != place.name:
        raise InputError(f"it is that of {record['key']}")
    for name in record["files"]:
        verify(place, record["files"], name, place.name, "")


def _texts(ws: Workspace) -> Rows:
    """Return one row per different text."""
    texts = ws.competition.all_texts
    n = len(texts)
    ids, origin = np.arange(n).astype(str).astype(object), np.full(n, "gold", dtype=object)
    return Rows(ids, texts, None, np.ones(n), np.arange(n), origin)


def _key(settings: TransformerSettings, texts: Rows, content: bool = True) -> str:
    """Return a digest of what pretraining depends on; content: of the backbone's folder too."""
    identity = config.identity(settings)
    parts = {name: identity[name] for name in PARTS}
    if settings.trust_remote_code:  # backbones from before this setting keep their key
        parts["trust_remote_code"] = True
    if content and (found := model_digest(settings.backbone)):
        parts["content"] = found
    if settings.special_tokens != "text":
        parts["special_tokens"] = settings.special_tokens
    length, *others = (identity["training"][name] for name in OF_TRAINING)
    parts["training"] = [None if length == AUTO else length, *others]  # null in earlier versions
    whole = json.dumps([parts, texts.texts], ensure_ascii=False)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:16]
