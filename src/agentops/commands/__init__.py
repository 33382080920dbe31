"""One file per noun; a verb is a public `async def` in it. This finds them by name and imports a file when it is named.

The first line of a file's docstring is its help in the list of commands, read as text: the list imports nothing.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from agentops.errors import AgentOpsError, UsageError
from agentops.session import Call

if TYPE_CHECKING:
    from collections.abc import Callable

# Options that mean the same wherever they stand.
Check = Annotated[bool, typer.Option("--check", help="Only say what would change; exit 3 if something would.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show phones, texts and codes in full; that is audited.")]
# What is said where something was left out.
MASKED = "note: --reveal shows phones, texts and codes in full, and is audited"

FOLDER = Path(__file__).parent
# How many suggestions a mistyped word gets.
_MEANT_AT_MOST = 2
# Help uses a wide terminal, up to where lines stay readable.
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


def nouns() -> dict[str, str]:
    """Every command by name, with the first line of its file's docstring."""
    files = sorted(file for file in FOLDER.glob("*.py") if not file.name.startswith("_"))
    return {file.stem.replace("_", "-"): _summary(file) for file in files}


def slugs() -> list[str]:
    """Functions by slug, for completion and hints: the package's and the project folder's, without a database."""
    from agentops.platforms.bundle import known
    from agentops.platforms.supabase import sources
    from agentops.settings import process

    try:
        here = process()
        hosted = sources.known(here.project, here.functions) if here.hosted else ()
        return sorted({*known(here.project, here.functions), *hosted})
    except AgentOpsError:  # a configuration that cannot be read: the command that is typed will say so
        return known(Path.cwd())


class LazyGroup(TyperGroup):
    """The root group: knows its commands by file name, reads a file only when its command is named."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - click's own signature
        """All command names, in order."""
        return list(nouns())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - click's own signature
        """The command of that name, its module imported; None where there is none."""
        return command(cmd_name) if cmd_name in nouns() else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - click's own signature
        """The command that the first word names; an unknown one gets a suggestion."""
        if not ctx.resilient_parsing:
            _refuse_unknown(args[0], "command", list(nouns()), "agentops --help", _with_verb)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - click's own signature
        """The list of commands for `--help`, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(nouns().items()))


class VerbCommand(TyperCommand):
    """A verb. Its usage line writes arguments as their help does: SLUG…, not {SLUG…}."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401 - click's own signature
        """Options and arguments in the order of the line."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class NounGroup(TyperGroup):
    """A noun with several verbs, one of which may be its own: `deploy SLUG…` beside `deploy list`."""

    own: str | None = None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - click's own signature
        """A first word that names no verb belongs to the noun's own verb, where it has one."""
        if self.own and args and self.get_command(ctx, args[0]) is None:
            return self.own, self.commands[self.own], args
        if not ctx.resilient_parsing:
            _refuse_unknown(args[0], f"verb of {self.name}", list(self.commands), f"agentops {self.name} --help")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's own signature
        """Options before any word belong to the noun's own verb too."""
        if self.own and args and args[0].startswith("-") and args[0] not in {"--help", "-h"}:
            args = [self.own, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - click's own signature
        """The verbs in the order of the file; the noun's own one goes by the noun's name."""
        return [name for name in self.commands if name != self.own]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401 - click's own signature
        """What may follow the noun: its own verb's arguments, or another verb."""
        if self.own is None:
            return ["VERB …"]
        return [*self.commands[self.own].collect_usage_pieces(ctx), "| VERB …"]

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - click's own signature
        """The own verb's arguments and options, then the verbs."""
        if self.own is None:
            super().format_options(ctx, formatter)
        else:
            self.commands[self.own].format_options(ctx, formatter)
            self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - click's own signature
        """Every verb with the first line of its docstring, whole."""
        rows = [(name, (self.commands[name].help or "").partition("\n")[0]) for name in self.list_commands(ctx)]
        with formatter.section("Verbs"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:  # noqa: ANN401 - click's own signature
        """Verbs, and what the own verb takes."""
        found = list(super().shell_complete(ctx, incomplete))
        if self.own:
            for parameter in self.commands[self.own].params:
                if parameter.param_type_name == "argument":
                    found += parameter.shell_complete(ctx, incomplete)
        return found


def command(noun: str) -> Any:  # noqa: ANN401 - a click command, which Typer does not export
    """Import the noun's module and make its command: a group, or a single command where its only verb is its own."""
    name = noun.replace("-", "_")
    module = importlib.import_module(f"agentops.commands.{name}")
    verbs = _verbs(module)
    summary = (module.__doc__ or "").strip()
    own = next((verb for verb in verbs if verb.__name__.rstrip("_") == name), None)
    if own is not None and len(verbs) == 1:
        app = _app(noun)
        app.command(noun, cls=VerbCommand, help=summary)(_parsed(own))
        return typer.main.get_command(app)
    group = type("Noun", (NounGroup,), {"own": _verb_name(own) if own else None})
    app = _app(noun, cls=group, help=summary, no_args_is_help=True)
    app.callback()(lambda: None)
    for verb in verbs:
        app.command(_verb_name(verb), cls=VerbCommand)(_parsed(verb))
    return typer.main.get_command(app)


def _with_verb(word: str) -> list[str]:
    """What a verb without its noun may have meant, unless it is many nouns': `kill-switch` → `incident kill-switch`."""
    found = [f"{noun} {word}" for noun in nouns() if word in getattr(command(noun), "commands", {})]
    return found if len(found) <= _MEANT_AT_MOST else []


def _refuse_unknown(
    word: str, kind: str, known: list[str], help_line: str, otherwise: Callable[[str], list[str]] = lambda _word: []
) -> None:
    if word in known or word.startswith("-"):
        return
    import difflib

    near = difflib.get_close_matches(word, known, n=_MEANT_AT_MOST) or otherwise(word)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(f"there is no {kind} {word!r}", f"{meant}{help_line}")


def _app(noun: str, **settings: Any) -> typer.Typer:  # noqa: ANN401 - Typer's own settings
    return typer.Typer(
        name=noun,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
        **settings,
    )


def _verbs(module: Any) -> list[Callable[..., Any]]:  # noqa: ANN401 - any module
    found = [
        function
        for name, function in vars(module).items()
        if not name.startswith("_")
        and (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function))
        and function.__module__ == module.__name__
    ]
    return sorted(found, key=lambda function: function.__code__.co_firstlineno)


def _verb_name(verb: Callable[..., Any]) -> str:
    return verb.__name__.rstrip("_").replace("_", "-")


def _parsed(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the verb's own parameters, less the session, which answers what was parsed."""

    def call(**arguments: Any) -> Call:  # noqa: ANN401 - whatever the verb declares
        return Call(verb, arguments)

    hints = get_type_hints(verb, include_extras=True)
    parameters = list(inspect.signature(verb).parameters.values())[1:]
    resolved = [parameter.replace(annotation=hints[parameter.name]) for parameter in parameters]
    call.__signature__ = inspect.Signature(resolved)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in resolved}
    call.__doc__ = verb.__doc__
    call.__name__ = verb.__name__
    return call


def _summary(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        return lines.readline().strip().removeprefix('"""').removesuffix('"""').strip()
