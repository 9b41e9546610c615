"""How commands are declared: with an example in their help, and with parameters that are made from several flags."""

import functools
from collections.abc import Callable
from inspect import Parameter, cleandoc, signature
from typing import Any, TypeVar, get_args

import typer
from typing_extensions import override

Function = TypeVar("Function", bound=Callable[..., None])


class From:
    """In `Annotated[Api, From(Api, at=At)]`: the command has the flags, and the parameter gets what `make(at=…)` returns.

    A flag that is not given is `None`, or false.
    """

    def __init__(self, make: Callable[..., Any], **flags: Any) -> None:
        self.make = make
        self.flags: list[Parameter] = []
        for name, annotation in flags.items():
            default = False if get_args(annotation)[0] is bool else None
            self.flags.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation))


def flag(help_text: str, *names: str, **how: Any) -> Any:
    """A flag with its help. Without names it has that of the parameter, and a bool also its opposite, as in `--no-edge`."""
    return typer.Option(*names, help=help_text, **how)


def argument(help_text: str, **how: Any) -> Any:
    """An argument with its help."""
    return typer.Argument(help=help_text, **how)


def command(*, example: str) -> Callable[[Function], Callable[..., None]]:
    """Make a function a command: the example ends its help, and parameters that are made `From` flags become the flags."""

    def command_of(function: Function) -> Callable[..., None]:
        parameters: list[Parameter] = []
        made: dict[str, From] = {}
        for name, parameter in signature(function).parameters.items():
            source = (get_args(parameter.annotation) or (None,))[-1]
            if isinstance(source, From):
                made[name] = source
                parameters += source.flags
            else:
                parameters.append(parameter)

        @functools.wraps(function)
        def run(**values: Any) -> None:
            for name, source in made.items():
                values[name] = source.make(**{parameter.name: values.pop(parameter.name) for parameter in source.flags})
            function(**values)

        run.__doc__ = f"{cleandoc(function.__doc__ or '')}\n\nExample: twinfold {example}"
        # typer reads both.
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        vars(run)["__signature__"] = signature(function).replace(parameters=parameters)
        return run

    return command_of


class CommandGroup(typer.Typer):
    """Commands with the same first word."""

    @override
    def command(self, name: str | None = None, *, example: str = "", **how: Any) -> Callable[[Function], Function]:
        """Add a command with an example; without a name, it has the function's."""

        def add(function: Function) -> Function:
            typer.Typer.command(self, name, **how)(command(example=example)(function))
            return function

        return add
