# SPDX-License-Identifier: Apache-2.0
"""What `--help` and the shell's completion say: groups, examples that work, options that mean the same everywhere."""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer

from bench.cli import COMMANDS, app
from bench.cli.grouping import GroupedHelp, with_options
from bench.cli.options import Cells, Devices, How, Limits
from bench.cli.selecting import selection
from bench.paths import ROOT
from bench.plan.selection import Selection

NAMES = [command.__name__ for command in COMMANDS]
GROUP = typer.main.get_command(app)


def options(name):
    """The options of a command by the name that is typed, and `NAME` for an argument."""
    return {option.opts[0]: option for option in GROUP.commands[name].params}


def told(capsys, *arguments):
    """What a command prints about itself."""
    with pytest.raises(SystemExit) as stop:
        app([*arguments, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_an_example_that_can_be_typed(name, capsys):
    """It stands in the help, unbroken, and its options exist."""
    (line,) = (line for line in told(capsys, name).splitlines() if "Example: " in line)
    words = shlex.split(line.partition("Example: ")[2])
    assert words[:2] == ["bench", name]
    with GROUP.commands[name].make_context(name, words[2:]) as context:
        assert context.args == []


def test_the_help_of_plan_and_run_is_in_groups(capsys):
    """What to measure, how, limits, output, in that order."""
    for name in ("plan", "run"):
        titles = [line for line in told(capsys, name).splitlines() if line.endswith(":") and not line.startswith(" ")]
        assert titles == ["What to measure:", "How to measure:", "Limits:", "Output:", "Options:"]


def test_plan_and_run_ask_in_the_same_words():
    """What `plan` is asked, `run` is asked too; the format of a plan and what only running needs are the difference."""
    planned, ran = options("plan"), options("run")
    assert planned.keys() - ran.keys() == {"--format"}
    assert ran.keys() - planned.keys() == {
        "--fresh", "--timeout", "--cache-limit", "--threads", "--ray", "--no-wait", "--max-cost", "--quiet",
        "--publish",
    }  # fmt: skip
    for name in planned.keys() & ran.keys():
        assert (planned[name].help, planned[name].default) == (ran[name].help, ran[name].default)


def test_no_options_ask_for_the_default_selection():
    """An option that was left out adds nothing of its own to what is asked."""
    assert selection(Cells(device=Devices("cpu")), How(), Limits(), fetch=False) == Selection(device="cpu")


def test_a_dataclass_gives_way_to_its_fields(capsys):
    """Each field is an option under the dataclass's title, and the command gets the dataclass back."""
    seen = []

    @dataclass(frozen=True, kw_only=True)
    class Things:
        """Which things."""

        names: Annotated[list[str], typer.Option("--thing", help="Name.")] = field(default_factory=list)
        large: Annotated[bool, typer.Option("--large", help="Large ones.")] = False

    def find(things, deep=False):
        """Find things."""
        seen.append((things, deep))

    find.__annotations__ = {"things": Things, "deep": Annotated[bool, typer.Option("--deep")]}
    own = typer.Typer(rich_markup_mode=None, add_completion=False)
    own.command(cls=GroupedHelp)(with_options(find))
    own(["--thing", "a", "--thing", "b", "--deep"], standalone_mode=False)
    own([], standalone_mode=False)
    assert seen == [(Things(names=["a", "b"]), True), (Things(), False)]
    own(["--help"], standalone_mode=False)
    text = capsys.readouterr().out
    assert text.index("Which things:") < text.index("--thing") < text.index("--large") < text.index("Options:")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("bench do", ["doctor"]),
        ("bench run --fr", ["--fresh"]),
        ("bench plan --precision fp16,i", ["fp16,int8", "fp16,int4"]),
        ("bench show --columns ro", ["roof"]),
        ("bench run --model smollm2-135m-", ["smollm2-135m-instruct"]),
    ],
)
def test_the_shell_completes_commands_options_and_names(typed, offered):
    """As the script that `bench --show-completion` prints asks for them; after a comma the next name."""
    asked = {"_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'bench'; from bench.cli import main; main()"],
        cwd=ROOT, env={**os.environ, **asked}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == offered, done.stderr
