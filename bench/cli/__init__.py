# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a command, named as it is typed.

`options` declares what the commands take, `console` writes what they say. Besides the display of `bench run`, nothing
else prints, and nothing else ends the process.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from traceback import format_exception
from types import TracebackType

import typer

from bench import __doc__ as summary
from bench.cli import (
    cache,
    catalog,
    check,
    claims,
    compare,
    doctor,
    export,
    inspect,
    plan,
    publish,
    push,
    recommend,
    run,
    show,
    status,
)
from bench.cli.console import err, warn
from bench.cli.grouping import GroupedHelp, with_options
from bench.cli.streams import check_names, clipped, mend, of_the_disk, unshown
from bench.errors import UserError
from bench.processes import leave_terminals, terminals

COMMANDS = (
    catalog.catalog, inspect.inspect, plan.plan, run.run, status.status, show.show, compare.compare,
    recommend.recommend, claims.claims, publish.publish, export.export, push.push, check.check, cache.cache,
    doctor.doctor,
)  # fmt: skip
"""In the order in which `bench --help` lists them."""

ALLOCATED = 50_000
"""Objects that come into being before unreachable ones are looked for: at Python's 700 that is a tenth of a command's
time, most of it while modules are imported."""
INTERRUPTED = 130
"""Exit code of a command that Ctrl-C stopped, or what does the same: 128 and the number of SIGINT."""
LIKE_CTRL_C = ("SIGTERM", "SIGHUP")
"""A request to end, and a terminal that was closed: only what measures outlives that (`bench.run.stopping`)."""

app = typer.Typer(help=summary, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
for command in COMMANDS:
    app.command(cls=GroupedHelp)(with_options(command))


def guarded(call: Callable[[], None]) -> int:
    """Run a command; a user's mistake is one line and 2, Ctrl-C one line and 130, anything else keeps its traceback."""
    try:
        call()
    except UserError as error:
        warn([f"bench: {clipped(str(error))}"], "red")
        return 2
    except OSError as error:
        said = of_the_disk(error)
        if said is None:
            raise
        warn([f"bench: {said}"], "red")
        return 2
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # typer has turned Ctrl-C into this
            with contextlib.suppress(OSError):  # nobody may be left to read it
                err.print("\nstopped; every finished record is kept, and the same command goes on from here")
        raise
    return 0


def heed_requests_to_end() -> None:
    """Let them stop a command as Ctrl-C does, which ends what it started and cleans up.

    What whoever started us lets us ignore stays ignored, as `nohup` does with a closed terminal.
    """
    open_now = terminals()
    numbers = [getattr(signal, name) for name in LIKE_CTRL_C if hasattr(signal, name)]
    heeded = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, frame: object) -> None:
        for other in heeded:  # the kernel and the shell may both tell of a closed terminal
            signal.signal(other, lambda number, frame: None)
        if number != signal.SIGTERM:
            leave_terminals(open_now)
        raise KeyboardInterrupt

    for number in heeded:
        signal.signal(number, stop)


def traced(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The traceback of an error of ours, whose message may be what a record or a server says."""
    err.print("".join(format_exception(kind, error, trace)), markup=False, end="")


def main() -> None:
    """Entry point of the command `bench`."""
    gc.set_threshold(ALLOCATED)
    heed_requests_to_end()
    sys.excepthook = traced
    mend()
    try:
        code = guarded(_checked)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    sys.exit(code or unshown())


def _checked() -> None:
    """The command, once its arguments can be written down."""
    check_names(sys.argv[1:], Path.cwd())
    app()
