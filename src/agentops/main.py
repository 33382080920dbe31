"""The root command. Finds commands by file name, awaits them, lets results and errors leave by one door.

    argv → hoist global options → LazyGroup (commands/<noun>.py, imported when named) → Call(verb, arguments)
         → Session → await verb(session, …) → render → exit code

A verb is a public `async def` in `commands/<noun>.py` whose first parameter is the session. The one that bears the
file's own name is what the bare noun does; a trailing underscore (`list_`) is not part of the name.
"""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from agentops.errors import AgentOpsError, Kind, UsageError
from agentops.session import Answer, Call, Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer import Typer

_SWITCHES = {"--json": "json", "--debug": "debug"}
_VALUES = {
    "--target": "local, sandbox, postgresql://…, supabase://<ref> or a name of agentops.toml",
    "--confirm": "the name of the target, where it is marked as production",
}
# What never asks: an incident does not wait for a word to be typed, files of this machine are no target's, and the
# steps of a runbook ask for themselves.
_UNASKED = {"incident kill-switch", "flags disable", "target use", "init", "runbook run"}
# What nothing that stands in a file keeps from switching off: it goes on with what can be read.
_UNHINDERED = {"incident kill-switch", "flags disable"}


@dataclass(frozen=True, slots=True)
class Options:
    """The global options, which may stand anywhere on the line."""

    target: str | None = None
    confirm: str | None = None
    json: bool = False
    debug: bool = False


def main() -> None:
    """Run one command line and exit."""
    argv = sys.argv[1:]
    if "--version" in argv and {*argv} <= {"--version", *_SWITCHES}:
        # The most frequent probe of all needs no parser.
        from agentops import __version__

        sys.stdout.write(f'{{"version": "{__version__}"}}\n' if "--json" in argv else f"agentops {__version__}\n")
        return
    # A command lives for a moment: collecting cycles while modules load costs a tenth of it.
    gc.set_threshold(100_000, 20, 20)
    code = run(argv)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass  # the reader (head, less) has seen enough, that is no error
    # Everything is closed and flushed by now. Taking apart hundreds of modules would cost as much as a quarter of
    # the whole command, and do nothing for anybody.
    os._exit(code)


def run(argv: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    options = Options(json="--json" in argv)
    try:
        rest, options = hoist(argv)
        call = parse(rest)
        return _execute(call, options) if isinstance(call, Call) else int(call or 0)
    except AgentOpsError as failure:
        return leave(failure, options)
    except KeyboardInterrupt:
        return Kind.INTERRUPTED.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Kind.DONE.exit_code
    except Exception as defect:  # a defect of ours: one sentence, the traceback on demand
        if options.debug:
            raise
        words = f"internal error: {type(defect).__name__}: {defect}"
        return leave(AgentOpsError(words, "repeat with --debug for the traceback"), options)


def leave(failure: AgentOpsError, options: Options) -> int:
    """Print an error and answer its exit code."""
    from agentops import render

    if options.debug:
        import traceback

        render.note(_without_token("".join(traceback.format_exception(failure))))
    failure.message = _without_token(failure.message)
    failure.hint = failure.hint and _addressed(failure.hint, options)
    render.error(failure, as_json=options.json)
    return failure.kind.exit_code


def _without_token(words: str) -> str:
    """A sentence without an access token: somebody may have typed one where none belongs."""
    if "sbp_" not in words:
        return words
    import re

    return re.sub(r"sbp_\w+", "sbp_***", words)


def _addressed(words: str, options: Options) -> str:
    """The next step as it has to be typed: `--target` on this line has to stand on that one too."""
    if options.target is None or "--sandbox" in words:
        return words
    import re
    import shlex

    from agentops.commands import nouns
    from agentops.settings import without_password

    target = shlex.quote(without_password(options.target))
    return re.sub(rf"\bagentops (?=(?:{'|'.join(nouns())})\b)", lambda _: f"agentops --target {target} ", words)


def hoist(argv: Sequence[str]) -> tuple[list[str], Options]:
    """Take the global options from anywhere before `--`; the rest and what they said."""
    rest: list[str] = []
    found: dict[str, Any] = {}
    words = iter(argv)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in _SWITCHES:
            found[_SWITCHES[word]] = True
        elif (name := word.partition("=")[0]) in _VALUES:
            value = word.partition("=")[2] if "=" in word else next(words, None)
            if not value:
                raise UsageError(f"{name} needs a value", _VALUES[name])
            found[name.removeprefix("--")] = value
        else:
            rest.append(word)
    return rest, Options(**found)


def parse(argv: Sequence[str]) -> Call | int:
    """The command line as a `Call`; a number where it is already done (help, completion).

    Raises:
        UsageError: it is not one of ours.
    """
    import typer
    from typer import _click as click  # vendored there; its errors have no other public name

    command = typer.main.get_command(tree())
    try:
        result = command.main(args=list(argv), prog_name="agentops", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as shown:
        shown.show()
        return Kind.USAGE.exit_code
    except click.exceptions.UsageError as wrong:
        words = wrong.format_message().rstrip(".")
        # click names the type, in its own words
        words = words.replace("a valid int range", "a whole number").replace("a valid int", "a whole number")
        raise UsageError(words, f"{_path(argv)} --help") from wrong
    except typer.Exit as done:
        return int(done.exit_code)
    except click.exceptions.ClickException as wrong:
        raise UsageError(wrong.format_message()) from wrong
    return result if isinstance(result, Call) else int(result or 0)


def _path(argv: Sequence[str]) -> str:
    """The command that a line means, as far as it can be told: `agentops logs show`."""
    from agentops.commands import command, nouns

    words = [word for word in argv[:2] if not word.startswith("-")]
    if not words or words[0] not in nouns():
        return "agentops"
    verbs = getattr(command(words[0]), "commands", {})
    return " ".join(["agentops", *words[: 2 if words[-1] in verbs else 1]])


def tree() -> Typer:
    """The whole command tree, its commands still unread."""
    import typer

    from agentops.commands import CONTEXT, LazyGroup

    app = typer.Typer(
        name="agentops",
        cls=LazyGroup,
        help="Operate an AI agent stack: deploy, secrets, flags, logs, health, incidents.",
        epilog="Anywhere on the line: --target local|sandbox|postgresql://…|supabase://<ref>, --json, --debug, "
        "--version. agentops COMMAND --help says more.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings=CONTEXT,
    )

    @app.callback()
    def root() -> None:
        """Operate an AI agent stack: deploy, secrets, flags, logs, health, incidents."""

    return app


def _execute(call: Call, options: Options) -> int:
    import asyncio

    async def bounded() -> int:
        from agentops.configuration import refuse
        from agentops.settings import process

        wrong = _noted if call.words in _UNHINDERED else refuse
        return await _perform(call, options, process(options.target, wrong=wrong))

    return asyncio.run(bounded())


def _noted(wrong: UsageError) -> None:
    from agentops import render

    render.note(f"note: {_without_token(' '.join(wrong.message.split()))}; going on without it")


async def _perform(call: Call, options: Options, process: Any) -> int:  # noqa: ANN401 - settings stay unimported here
    """Await one verb inside a session, SIGTERM counted as a wish to end in order."""
    import asyncio
    import signal

    from agentops import render

    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    terminated = False

    def end() -> None:
        nonlocal terminated
        terminated = True
        if task:
            task.cancel()

    async def dispatch(argv: Sequence[str]) -> int:
        try:
            rest, inner = hoist(argv)
            if inner.target:
                raise UsageError("a step runs on the target of the whole run", "leave out its --target")
            nested = parse(rest)
            return await _finish(nested, session, options) if isinstance(nested, Call) else nested
        except AgentOpsError as failure:
            return leave(failure, options)

    session = Session(process, lambda line: render.note(_addressed(line, options)), dispatch, options.confirm)
    loop.add_signal_handler(signal.SIGTERM, end)
    try:
        _remarks(session, call)
        return await _finish(call, session, options)
    except asyncio.CancelledError:
        if terminated:
            return Kind.TERMINATED.exit_code
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        await session.close()


async def _finish(call: Call, session: Session, options: Options) -> int:
    outer, session.command = session.command, call.words
    try:
        return await _awaited(call, session, options)
    finally:
        session.command = outer


async def _awaited(call: Call, session: Session, options: Options) -> int:
    import inspect

    from agentops import render

    # A verb that changes things takes `--check`.
    check = call.arguments.get("check")
    if session.process.production and check is False and call.words not in _UNASKED:
        session.confirm_production()
    outcome = call.verb(session, **call.arguments)
    if inspect.isasyncgen(outcome):
        async for entry in outcome:
            render.item(entry, as_json=options.json)
        return Kind.DONE.exit_code
    value = await outcome
    answer = value if isinstance(value, Answer) else Answer(value)
    # A plain list is something looked at; a command that changes things answers with an Answer.
    changes = ("would change" if check else "changed") if isinstance(value, Answer) else None
    value = _with_addressed_hints(answer.value, options)
    place = answer.place or f"target {session.process.label}"
    render.result(value, as_json=options.json, place=place, summary=changes)
    if answer.note:
        render.note(_addressed(answer.note, options))
    return leave(answer.failure, options) if answer.failure else answer.kind.exit_code


def _with_addressed_hints(value: object, options: Options) -> object:
    if isinstance(value, list):
        return [_with_addressed_hints(entry, options) for entry in value]
    if options.target and getattr(value, "hint", None):
        return replace(cast("Any", value), hint=_addressed(cast("Any", value).hint, options))
    return value


def _remarks(session: Session, call: Call) -> None:
    """One line each about environment variables that look as if they should count, and do not."""
    from agentops.settings import ignored_names

    names = ignored_names()
    if "DATABASE_URL" in names:
        names.remove("DATABASE_URL")
        taken = call.verb.__name__ == "serve" and session.process.origin == "default"  # a container's way to name it
        # A hosted project's database is read through it.
        if not taken and not session.process.target.startswith(("postgres", "supabase")):
            session.note('note: DATABASE_URL is set and not used; to operate that database: --target "$DATABASE_URL"')
    if names:
        session.note(
            f"note: {', '.join(names)} in the environment {'is' if len(names) == 1 else 'are'} ignored; "
            f"to take over: agentops secrets set --from-env {' '.join(names)}"
        )


if __name__ == "__main__":
    main()
