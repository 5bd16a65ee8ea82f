# SPDX-License-Identifier: Apache-2.0
"""Commands that take dataclasses of options: typer wants one parameter for each option, and gets it here."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, get_args, get_type_hints

from typer.core import TyperCommand

if TYPE_CHECKING:  # typer carries its own click, and these have a name only there
    from _typeshed import DataclassInstance
    from typer._click import Context, HelpFormatter


class GroupedHelp(TyperCommand):
    """A command whose `--help` lists its options in their groups, as plain text."""

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """One section for each group, in the order of the options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            line = option.get_help_record(ctx)
            if line is not None:
                groups.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(line)
        for title, lines in groups.items():
            with formatter.section(title):
                formatter.write_dl(lines)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The same command for typer: a parameter that is a dataclass is replaced by the dataclass's fields.

    Each field is an option of its own, declared as `Annotated[type, typer.Option(...)]`. The first line of the
    dataclass's docstring is the title of these options in `--help`.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)}

    def call(**given: object) -> None:
        taken = {
            name: kind(**{option.name: given.pop(option.name) for option in fields(kind)})
            for name, kind in groups.items()
        }
        command(**taken, **given)

    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if name in groups:
            parameters += _options(groups[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY))
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # every function may have one
    return call


def _options(group: type[DataclassInstance]) -> list[Parameter]:
    """The fields of a dataclass as keyword parameters under its title."""
    title = (group.__doc__ or "").splitlines()[0].rstrip(".")
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            field.name, Parameter.KEYWORD_ONLY, default=_default(field), annotation=_titled(hints[field.name], title)
        )
        for field in fields(group)
    ]


def _default(field: Field[object]) -> object:
    """A field's default; without one the option would be required, and no option of ours is."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _titled(hint: object, title: str) -> object:
    """A declaration under a title. Groups share declarations, so the title is written on a copy."""
    kind, declared = get_args(hint)
    declared = copy(declared)
    declared.rich_help_panel = title
    return Annotated[kind, declared]
