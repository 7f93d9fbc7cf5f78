"""The command line: run chapters, build the site, make a course of it, judge the claims, rank with any model,
list models.
"""

from __future__ import annotations

import argparse
import errno
import gc
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from prefbook import rank_command
from prefdyn import __version__
from prefdyn.errors import PrefdynError, extra

INTERRUPTED, TERMINATED = 130, 143
"""Exit statuses after Ctrl-C and after SIGTERM, as shells have them."""
REFUSALS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
)
"""What the system says of a file that whoever gave the command can mend."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which stops a command as Ctrl-C does."""


def script() -> NoReturn:
    """Entry point of the console script: `main`, after which a stopped process does not wait for its
    threads. A letter that the output's encoding lacks is escaped.
    """
    signal.signal(signal.SIGTERM, _terminate)
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main()
    finally:
        _end_output()
    if status in (INTERRUPTED, TERMINATED):
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _end_output() -> None:
    """Write what was printed; what cannot be written is left, or Python would complain of it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminate(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what it stops tidies up
    raise Terminated


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; returns the exit status (1 after a PrefdynError or where the system refuses
    a file, 130 after an interrupt, 143 after SIGTERM).
    """
    options = _parser().parse_args(arguments)
    try:
        with extra("book"):  # what a command needs of the others is asked for where it is used
            options.command(options)
        sys.stdout.flush()
    except PrefdynError as error:
        print(f"prefdyn: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads what is printed has enough, as `head` has
        return 0
    except OSError as error:
        said = _refusal(error)
        if said is None:
            raise
        print(f"prefdyn: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(
            "prefdyn: stopped; what was finished is kept, the same command goes on from there",
            file=sys.stderr,
        )
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    return 0


def _refusal(error: OSError) -> str | None:
    """One sentence for what the system refuses and the user can mend; None for anything else."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f"the disk of {error.filename}" if error.filename else "the disk"
        return (
            f"{place} is full: make room, or set PREFDYN_CACHE or --output to another disk; what was "
            "finished is kept"
        )
    if isinstance(error, shutil.Error):
        source, target, reason = error.args[0][0]
        return f"{source} cannot be copied to {target} ({reason})"
    if error.errno in REFUSALS and error.filename:
        return f"{error.filename} cannot be read or written ({error.strerror})"
    return None


def _parser() -> argparse.ArgumentParser:
    about = "Run and publish the chapters of What Preference Learning Learns."
    parser = argparse.ArgumentParser(prog="prefdyn", description=about)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, act: Callable[[argparse.Namespace], None], about: str) -> Callable[..., Any]:
        """Add a command; returns what adds an option to it."""
        made = commands.add_parser(name, help=about, description=about)
        made.set_defaults(command=act)
        return made.add_argument

    def add_running(add: Callable[..., Any]) -> None:
        add("chapters", nargs="*", metavar="CHAPTER", help="names of pages in book/ (default: all chapters)")
        add("--profile", default="laptop", help="a file of book/profiles (default: laptop)")
        add("--data", metavar="sample|hub|PATH", help="the embedded sample, the hub, or a folder")
        add("--model", metavar="NAME", help=rank_command.A_MODEL)
        pair: dict[str, Any] = {
            "nargs": 2,
            "metavar": ("NAME", "VALUE"),
            "help": "a parameter of the chapter",
        }
        add("-p", dest="parameters", action="append", default=[], **pair)
        add("--output", type=Path, metavar="DIR", help="where results go (default: _build/runs)")
        a_ray = "send independent trainings to Ray, on this machine or a cluster (default: run them here)"
        add("--on", default="", metavar="ray|ray://HOST:PORT", help=a_ray)
        a_model_of_many = "spread the model over N devices of this machine, where one cannot train it"
        add("--shard", type=int, default=0, metavar="N", help=a_model_of_many)
        add("--quiet", action="store_true", help="no progress bars")

    add = command("run", _run, "run chapters")
    add_running(add)
    add("--dry-run", action="store_true", help="print the plan (steps, memory, time) and run nothing")
    a_card = "with --dry-run: plan for GPUs that are not here, by their published speed"
    add("--card", default="", metavar="h100|h200", help=a_card)
    command("build", _build, "build the site from the shipped tables and what was run")
    command("pdf", _pdf, "print the site as one PDF file (needs Chromium)")
    add_running(command("book", _book, "run chapters, then build the site"))
    add = command("course", _course, "notebooks for students and instructors, checks, autograders, slides")
    add("--output", type=Path, metavar="DIR", help="where they go (default: _build/course)")
    add = command("claims", _claims, "judge the claims from tables")
    edition = "an edition, such as results/reference (default: _build/runs, what this machine measured)"
    add("--from", dest="folder", type=Path, metavar="FOLDER", help=edition)
    add("--json", action="store_true", help="as a list of objects")
    command("crate", _crate, "the shipped tables and the ledger as a data set to publish, an RO-Crate")
    rank_command.add_options(command("rank", rank_command.rank, rank_command.ABOUT))
    command("models", _models, "models that can be loaded by name")
    return parser


def _run(options: argparse.Namespace) -> None:
    from prefbook.project import find_root
    from prefbook.running import planning, runs, schedule

    chosen = {name: value for name in ("data", "model") if (value := getattr(options, name)) is not None}
    given = {name: _value(name, text) for name, text in options.parameters}
    chapters = runs.prepare(find_root(), options.chapters, options.profile, chosen, given, options.output)
    if options.card and not options.dry_run:
        raise PrefdynError("--card is for a plan: give --dry-run as well")
    with schedule.spread(chapters, options.on, options.shard, here=not options.card):
        if options.dry_run:
            for run in chapters:
                print(planning.describe(run, options.card))
            return
        for run, ran in schedule.run_all(chapters, progress=not options.quiet):
            print(f"prefdyn: {run.chapter} is {'' if ran else 'up to date '}in {run.folder}")


def _value(name: str, text: str) -> Any:
    """A parameter's value as YAML reads it."""
    from prefbook.running.parameters import shown

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of thousands of digits, or of brackets
        raise PrefdynError(
            f"the parameter {name} is given as {shown(text)}, not a value: quote text, and write a list as "
            "[1, 2]"
        ) from error


def _build(options: argparse.Namespace) -> None:
    from prefbook.publishing import site

    print(f"prefdyn: the site is at {site.build(*_pages())}")


def _pdf(options: argparse.Namespace) -> None:
    from prefbook.project import find_root
    from prefbook.publishing import pdf, site

    find_root()
    pdf.find_browser()  # before anything is made
    root, notebooks = _pages()
    print(f"prefdyn: the book is at {pdf.build(root, site.build(root, notebooks))}")


def _pages() -> tuple[Path, dict[str, Path]]:
    """The book's folder, and the executed page of each chapter: this machine's run where it is up to date,
    else what the reference edition alone shows, made now.
    """
    from prefbook.project import chapters, find_root
    from prefbook.running import runs, schedule

    root = find_root()
    own = {name: runs.kept(root, name) for name in chapters(root)}
    for name, run in own.items():
        if run is None:
            there = (root / "_build" / "runs" / name).is_dir()
            state = "was run here, and is not up to date" if there else "was not run here"
            print(
                f"prefdyn: {name} {state}: its page shows the reference edition alone (`prefdyn run {name}` "
                "measures it)"
            )
    shown = runs.to_show(root, [name for name, run in own.items() if run is None])
    made = [run for run, _ in schedule.run_all(shown, progress=False)]
    return root, {run.chapter: run.notebook for run in (*own.values(), *made) if run is not None}


def _book(options: argparse.Namespace) -> None:
    options.dry_run, options.card = False, ""
    _run(options)
    _build(options)


def _course(options: argparse.Namespace) -> None:
    from importlib.util import find_spec

    from prefbook.project import find_root
    from prefbook.publishing import course

    root = find_root()
    output = options.output or root / "_build" / "course"
    for edition, folder in course.write_notebooks(root, output).items():
        print(f"prefdyn: the {edition}s' notebooks and the checks are in {folder}")
    if find_spec("otter"):
        from prefbook.publishing import grading

        made = grading.write_autograders(root, output / "autograders")
        print(f"prefdyn: the autograders, for Gradescope and `otter run`, are in {made}")
    else:
        print("prefdyn: no autograders: they need otter-grader, which `make course` installs")
    built = root / "_build" / "html" / "slides"
    if built.is_dir():
        shutil.copytree(built, output / "slides", dirs_exist_ok=True)
        print(f"prefdyn: the slides are in {output / 'slides'}")
    else:
        print("prefdyn: no slides: they are cut from the built site, so call `prefdyn build` first")


def _claims(options: argparse.Namespace) -> None:
    gc.disable()  # it would walk through all modules and tables again and again, for a tenth of the time
    try:
        _judge(options)
    finally:
        gc.enable()


def _judge(options: argparse.Namespace) -> None:
    from prefbook.ledger import editions, judging
    from prefbook.project import find_root

    edition = editions.named(find_root(), options.folder)
    entries = list(edition.entries.values())
    if options.json:
        print(json.dumps(entries, indent=1, ensure_ascii=False))
    elif entries:
        print(judging.table(entries).to_string(index=False))
    else:
        raise PrefdynError(
            f"{edition.folder} holds no tables: run `prefdyn run` first, or name an edition, as in "
            "`prefdyn claims --from results/reference`"
        )


def _crate(options: argparse.Namespace) -> None:
    from prefbook.project import find_root
    from prefbook.publishing import crate

    root = find_root()
    print(f"prefdyn: the data set is in {crate.write(root, root / '_build' / 'crate')}")


def _models(options: argparse.Namespace) -> None:
    from prefdyn.models import loading

    print(f"{'name':14} {'model':42} {'parameters':>10} {'fetch':>8}  {'cached':6} licence")
    for name, known in loading.KNOWN.items():
        size = f"{known.parameters / 1e6:.2f}M"
        fetch = f"{known.download:.0f} MiB" if known.download else "none"
        cached = "yes" if loading.is_cached(name) else "no"
        default = " (default)" if name == loading.DEFAULT else ""
        print(f"{name:14} {known.title + default:42} {size:>10} {fetch:>8}  {cached:6} {known.licence}")
    print("or any other causal model: a hub id such as gpt2, a folder in transformers' layout, a .gguf file")


if __name__ == "__main__":
    script()
