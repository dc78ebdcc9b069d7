"""From what a page was made: digests, versions, commands and settings."""

from __future__ import annotations

from collections import defaultdict

from foldstack import __version__
from foldstack.records import BlendRecord, Provenance
from foldstack.stages.blend import blend_command
from foldstack.workspace import Workspace


def provenance(ws: Workspace, name: str, blend: BlendRecord) -> Provenance:
    """Return what the page of a blend rests on."""
    runs = {key: run for key, run in ws.store.runs().items() if key.model in blend.members}
    versions: dict[str, set[str]] = defaultdict(set)
    for run in runs.values():
        for package, version in run.versions.items():
            versions[package].add(version)
    versions["foldstack (this page)"].add(__version__)
    return Provenance(
        hashes=_hashes(ws, name, blend),
        versions={package: sorted(found) for package, found in sorted(versions.items())},
        commands=_commands(ws, name, blend),
        settings={key.model: run.identity.settings for key, run in runs.items()},
    )


def _hashes(ws: Workspace, name: str, blend: BlendRecord) -> dict[str, str]:
    hashes = {
        "training rows": blend.hashes.train,
        "test rows": blend.hashes.test,
        "folds": blend.hashes.folds,
        "external rows or weights": blend.hashes.overlay or "",
        "edits of training rows": blend.hashes.edits or "",
        f"submissions/{name}.csv (sha256)": _submitted(ws, name),
    }
    return {what: value for what, value in hashes.items() if value}


def _submitted(ws: Workspace, name: str) -> str:
    submission = ws.store.submissions().get(name)
    return "" if submission is None else submission.sha256 or ""


def _commands(ws: Workspace, name: str, blend: BlendRecord) -> list[str]:
    named = "" if name == "blend" else f" NAME={name}"
    seeds = sorted({run.partition("/")[0][4:] for runs in blend.members.values() for run in runs})
    training = [
        f"{ws.store.train_command(model)}" + ("" if seeds == ["0"] else f" SEED={','.join(seeds)}")
        for model in blend.members
    ]
    members = f" MODEL={','.join(blend.members)}"
    blending = blend_command(name).strip("`") + members
    return ["make folds", *training, blending, f"make submit{named}", f"make page{named}"]
