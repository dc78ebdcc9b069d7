"""The folds on which models can be blended: those that all of them have runs for."""

from __future__ import annotations

from collections.abc import Sequence

from foldstack.errors import InputError
from foldstack.records import BlendRecord, FoldsUsed, SubmissionRecord, name_folds
from foldstack.stages.oof import fold_runs
from foldstack.store import Folds
from foldstack.workspace import Workspace


def choose_shared(
    ws: Workspace, names: Sequence[str], folds: Folds, command: str = "make blend"
) -> Folds:
    """Return the folds that all models have runs for; several models require two.

    Args:
        ws: the workspace.
        names: the models.
        folds: all folds.
        command: the command that takes MODEL=, for messages.

    Returns:
        The folds, reduced to the shared ones.

    Raises:
        InputError: a model has no runs, or several models share fewer than two folds.
    """
    trained = {name: trained_folds(ws, name, folds) for name in names}
    _require_any(ws, trained, command)
    shared = _reduce(folds, trained)
    if len(names) > 1 and len(shared.numbers) < 2:
        most = max(trained, key=lambda name: len(trained[name]))
        raise InputError(
            f"{_share(trained)}, but a blend is chosen on two folds or more: run "
            f"{_missing(ws, trained, folds)}, or take one model: `{command} MODEL={most}`"
        )
    return shared


def choose_compared(ws: Workspace, names: Sequence[str], folds: Folds) -> Folds:
    """Return the folds that all models have runs for; raise InputError if there are fewer than two."""
    trained = {name: trained_folds(ws, name, folds) for name in names}
    shared = _reduce(folds, trained)
    if len(shared.numbers) < 2:
        raise InputError(
            f"{_share(trained)}, but models are compared on two folds or more: run "
            f"{_missing(ws, trained, folds)}"
        )
    return shared


def shared_folds(ws: Workspace, names: Sequence[str], folds: Folds) -> Folds:
    """Return the folds reduced to those that all models have runs for, whatever their number."""
    return _reduce(folds, {name: trained_folds(ws, name, folds) for name in names})


def _reduce(folds: Folds, trained: dict[str, list[int]]) -> Folds:
    """Return the folds reduced to those in every list.

    With repeated splits a row is predicted once in each: the splits that all models have completely
    are taken or, if there are none, the shared folds of the split that has the most.
    """
    shared = set.intersection(*map(set, trained.values()))
    if len(shared) == folds.count:
        return folds
    splits = list(map(set, folds.by_split))
    whole = [split for split in splits if split <= shared]
    chosen = set().union(*whole) or max((split & shared for split in splits), key=len)
    return folds.only(sorted(chosen))


def trained_folds(ws: Workspace, name: str, folds: Folds) -> list[int]:
    """Return the folds for which the model has a run of any seed."""
    found = {fold for key in fold_runs(ws, name) for fold in key.left_out}
    return sorted(found & set(folds.numbers))


def folds_of(ws: Workspace, record: BlendRecord | SubmissionRecord) -> Folds:
    """Return the folds that a blend was made of."""
    folds = ws.store.read_folds(ws.competition.train)
    return folds if record.folds is None else folds.only(record.folds.numbers)


def folds_used(folds: Folds) -> FoldsUsed | None:
    """Return the record of the folds that a blend is made of; None for all."""
    if folds.chosen is None:
        return None
    return FoldsUsed(numbers=folds.numbers, of=folds.count, rows=len(folds.scored))


def _require_any(ws: Workspace, trained: dict[str, list[int]], command: str) -> None:
    """Raise InputError if a model has no runs that leave out one fold."""
    lacking = [name for name, folds in trained.items() if not folds]
    if not lacking:
        return
    what, them = f"models {', '.join(lacking)} have", "them"
    if len(lacking) == 1:
        what, them = f"model '{lacking[0]}' has", "it"
    there = ",".join(name for name, folds in trained.items() if folds)
    without = f", or leave {them} out: `{command} MODEL={there}`" if there else ""
    raise InputError(
        f"{what} no runs: run {_train_commands(ws, {name: [] for name in lacking})}{without}"
    )


def _share(trained: dict[str, list[int]]) -> str:
    """Return which folds the models share, for a message that there are too few."""
    common = sorted(set.intersection(*map(set, trained.values())))
    each = "; ".join(
        f"{name}: {name_folds(folds) if folds else 'no fold'}" for name, folds in trained.items()
    )
    who = "the models share" if len(trained) > 1 else "there is"
    return f"{who} {f'only {name_folds(common)}' if common else 'no fold'} ({each})"


def _missing(ws: Workspace, trained: dict[str, list[int]], folds: Folds) -> str:
    """Return the commands that train what other models have, or all folds if that is one fold."""
    wanted = set().union(*trained.values())
    if len(wanted) < 2:
        wanted = set(folds.numbers)
    missing = {name: sorted(wanted - set(known)) for name, known in trained.items()}
    return _train_commands(ws, {name: lacking for name, lacking in missing.items() if lacking})


def _train_commands(ws: Workspace, missing: dict[str, list[int]]) -> str:
    """Return the commands that train the missing folds of each model; [] names all folds.

    Models that lack the same folds share a command, except for variants (NAME=).
    """
    together: dict[tuple[str, str], list[str]] = {}
    for name, folds in missing.items():
        command = ws.store.train_command(name)
        own = "" if command == f"make train MODEL={name}" else command
        option = f" FOLD={','.join(map(str, folds))}" if folds else ""
        together.setdefault((own, option), []).append(name)
    commands = (
        f"`{own or 'make train MODEL=' + ','.join(names)}{option}`"
        for (own, option), names in together.items()
    )
    return " and ".join(commands)
