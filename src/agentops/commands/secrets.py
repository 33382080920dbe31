"""Set, unset, list and compare secrets; a value is never shown.

Secrets take effect at once on every server. FEATURE_AGENT_… names are flags: true or false.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from agentops import dotenv, retired_models, seal
from agentops.commands import Check, Yes
from agentops.errors import AgentOpsError, Kind, UsageError
from agentops.platforms import SecretChange, SecretInfo
from agentops.secret_values import SHOWN_DIGITS, digest, is_name, stored
from agentops.session import Answer, Session
from agentops.settings import ADDRESSES, KNOWN_SECRETS, PHONE_ID, is_flag

OPENAI_SECONDS = 4.0


def _known() -> list[str]:
    return [*KNOWN_SECRETS, *ADDRESSES]


Items = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME=VALUE… | NAME…",
        help="A NAME alone is asked for without echo, or read from stdin.",
        autocompletion=_known,
    ),
]
Names = Annotated[list[str], typer.Argument(metavar="NAME…", help="Which secrets.", autocompletion=_known)]
EnvFile = Annotated[Path | None, typer.Option("--env-file", metavar="FILE", help="A .env file; - is stdin.")]
Compared = Annotated[Path, typer.Option("--env-file", metavar="FILE", help="A .env file; - is stdin.")]
FromEnv = Annotated[bool, typer.Option("--from-env", help="Take the named ones from this shell's environment.")]
Redeploy = Annotated[
    bool, typer.Option("--redeploy", help="A hosted project: deploy what runs anew, so that it reads them now.")
]
Force = Annotated[bool, typer.Option("--force", help="Set it even where it names a model that is retired.")]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One name in the file and on the target; `status`: same, differs, only_file, only_target."""

    name: str
    status: str
    file_digest: str | None
    target_digest: str | None


async def list_(session: Session) -> list[SecretInfo]:
    """Show every secret and flag: digest, version, who, when; never a value."""
    return await (await session.platform()).secrets()


async def set_(
    session: Session,
    items: Items = None,
    *,
    env_file: EnvFile = None,
    from_env: FromEnv = False,
    redeploy: Redeploy = False,
    check: Check = False,
    force: Force = False,
) -> Answer:
    """Set secrets; equal values are left alone. All or none.

    At a hosted project warm isolates may keep an old value for minutes; --redeploy ends that, each time it is given.
    """
    values: dict[str, str | None] = {}
    values.update(_file(env_file) if env_file else {})
    values.update(_environment(items or []) if from_env else _given(session, items or [], check=check))
    if not values:
        raise UsageError(
            "nothing to set", "agentops secrets set NAME=VALUE…, NAME, --env-file FILE or --from-env NAME…"
        )
    _warn_of_retired_models(session, values, force=force)
    platform = await session.platform()
    if not force:
        await _ask_openai(session, values)
    if not check:
        await session.warn_unserved()
    changes = await platform.set_secrets(values, check=check)
    if not session.process.hosted:
        # Servers hear of a change: what --redeploy is for has happened already.
        note = "--redeploy is not needed here: every server works with the new values at once" if redeploy else None
        return _answer(changes, check=check, note=note)
    if not redeploy:
        changed = any(change.changed for change in changes) and not check
        note = "warm isolates may keep the old values for minutes; to end that: --redeploy" if changed else None
        return _answer(changes, check=check, note=note)
    if check:
        return Answer(changes, Kind.DIFFERS, note="would deploy anew what runs on the project")
    return await _redeployed(session, changes)


async def _redeployed(session: Session, changes: list[SecretChange]) -> Answer:
    """Deploy what runs once more; the secrets are set, whatever becomes of that."""
    try:
        results = await session.supabase().redeploy()
    except AgentOpsError as failure:
        failure.message = f"the secrets are set, but nothing was deployed anew: {failure.message}"
        return Answer(changes, failure=failure)
    failed = [result for result in results if result.status != "active"]
    done = [f"{result.slug} version {result.version}" for result in results if result.status == "active"]
    note = f"deployed anew: {', '.join(done) or 'nothing runs there'}"
    if not failed:
        return Answer(changes, note=note)
    lines = [f"{each.slug}: {each.finding}" for each in failed]
    words = ["the secrets are set, but these may keep the old values for minutes", *lines]
    missed = AgentOpsError("\n  ".join(words), f"agentops deploy {' '.join(each.slug for each in failed)} --force")
    missed.kind = Kind.PARTIAL if done else Kind.UNVERIFIED
    return Answer(changes, note=note, failure=missed)


async def unset(session: Session, names: Names, check: Check = False, yes: Yes = False) -> Answer:
    """Remove secrets; one that is not there is nothing to do."""
    platform = await session.platform()
    values: dict[str, str | None] = dict.fromkeys(names)
    plan = await platform.set_secrets(values, check=True)
    present = [change.name for change in plan if change.changed]
    if check or not present:
        return _answer(plan, check=check)
    session.confirm(f"unset {', '.join(present)} on target {platform.target}?", yes=yes)
    await session.warn_unserved()
    return _answer(await platform.set_secrets(values, check=False), check=False)


async def diff(session: Session, env_file: Compared) -> Answer:
    """Compare a .env file with the target, by digests. Exit 3 if setting the file would change anything."""
    here = {name: digest(stored(name, value))[:SHOWN_DIGITS] for name, value in _file(env_file).items()}
    there = {secret.name: secret.digest[:SHOWN_DIGITS] for secret in await (await session.platform()).secrets()}
    found = [
        Comparison(name, _status(here.get(name), there.get(name)), here.get(name), there.get(name))
        for name in sorted({*here, *there})
    ]
    would = any(entry.status in {"differs", "only_file"} for entry in found)
    return Answer(found, Kind.DIFFERS if would else Kind.DONE)


def _status(here: str | None, there: str | None) -> str:
    if there is None:
        return "only_file"
    if here is None:
        return "only_target"
    return "same" if here == there else "differs"


def _answer(changes: list[SecretChange], *, check: bool, note: str | None = None) -> Answer:
    failed = [change for change in changes if change.status == "failed"]
    if failed:
        lines = [f"{len(failed)} of {len(changes)} failed", *(f"{each.name}: {each.finding}" for each in failed)]
        missed = AgentOpsError("\n  ".join(lines), "agentops secrets list, then repeat: what is done is left alone")
        missed.kind = Kind.PARTIAL
        return Answer(changes, note=note, failure=missed)
    would = check and any(change.changed for change in changes)
    return Answer(changes, Kind.DIFFERS if would else Kind.DONE, note=note)


def _file(path: Path) -> dict[str, str]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(f"{path} cannot be read: {words}", "give a file of NAME=VALUE lines") from error
    return dotenv.parse(text, str(path))


def _environment(names: list[str]) -> dict[str, str]:
    missing = [name for name in names if name not in os.environ]
    if missing or not names:
        words = f"{', '.join(missing)} not in the environment" if missing else "--from-env needs names"
        raise UsageError(words, "export it first; nothing was set")
    return {name: os.environ[name] for name in names}


def _given(session: Session, items: list[str], *, check: bool) -> dict[str, str]:
    """Values from `NAME=VALUE`, from a hidden prompt, or from stdin."""
    values: dict[str, str] = {}
    asked = [item for item in items if "=" not in item]
    for position, item in enumerate(items, 1):
        name, equals, value = item.partition("=")
        if not is_name(name):
            # Not repeated here: it may be a value that was pasted alone.
            raise UsageError(f"argument {position} is neither NAME nor NAME=VALUE", "names: letters, digits and _")
        values[name] = value if equals else _asked(session, name, alone=len(asked) == 1, check=check)
    open_ones = [name for name in values if f"{name}={values[name]}" in items and not _harmless(name)]
    if open_ones:
        session.note(
            f"note: the value of {', '.join(open_ones)} now stands in your shell's history; "
            f"next time: agentops secrets set {open_ones[0]} (asks without echo, or reads stdin)"
        )
    return values


def _asked(session: Session, name: str, *, alone: bool, check: bool) -> str:
    if not session.interactive:
        if not alone:
            raise UsageError("only one NAME can be read from stdin", "use --env-file - for several")
        given = sys.stdin.read().removesuffix("\n").removesuffix("\r")
        if not given:
            # A pipe whose source failed gives nothing.
            raise UsageError(f"stdin holds no value for {name}", f"to take it away: agentops secrets unset {name}")
        return given
    if check:
        raise UsageError("--check asks nothing", f"give {name}=VALUE or --env-file FILE")
    return session.hidden(name)


def _harmless(name: str) -> bool:
    return is_flag(name) or name.endswith("_MODEL") or name == PHONE_ID


def _warn_of_retired_models(session: Session, values: Mapping[str, str | None], *, force: bool) -> None:
    """Refuse models that are gone, name the day of those that are going."""
    for name, model in values.items():
        ends = retired_models.retirement(model) if model and name.endswith("_MODEL") else None
        if ends is None:
            continue
        instead = f"agentops secrets set {name}={ends.replacement}" if ends.replacement else "choose another model"
        past = ends.past(datetime.now(UTC).date())
        if past and not force:
            hint = f"{instead} (or --force to set it all the same)"
            raise UsageError(f"{name}: OpenAI shut down {model} on {ends.day}", hint)
        session.note(f"note: OpenAI {'shut' if past else 'shuts'} down {model} on {ends.day}: {instead}")


async def _ask_openai(session: Session, values: Mapping[str, str | None]) -> None:
    """Where this machine can read the account's key and OpenAI answers, its own list has the last word on models.

    Raises:
        UsageError: the account's list says that a model is shut down, or does not have it.
    """
    models = {name: model for name, model in values.items() if model and name.endswith("_MODEL")}
    key = seal.private_key(session.process.home)
    # A sandbox's account is made up, and nobody outside has to hear of it; a hosted project's key cannot be read here.
    if not models or key is None or session.process.target == "sandbox" or session.process.hosted:
        return
    from agentops.platforms.local import secrets

    given = {name: text for name, text in values.items() if text}
    known = {**await secrets.values(await session.local(), key), **given}
    if "OPENAI_API_KEY" not in known:
        return
    from agentops.clients import Clients

    clients = Clients(os.environ)
    try:
        listed = {model.id: model for model in await clients.openai(known).models(deadline_seconds=OPENAI_SECONDS)}
    except AgentOpsError as failure:
        session.note(f"note: OpenAI's list of models was not asked ({failure.message}); the shipped table was")
        return
    finally:
        await clients.aclose()
    today = datetime.now(UTC).date().isoformat()
    for name, model in models.items():
        if model not in listed:
            raise UsageError(f"{name}: this account has no model {model}", "choose another (or --force to set it)")
        ends = listed[model].shutdown_date
        if ends and ends <= today:
            raise UsageError(f"{name}: OpenAI shut down {model} on {ends}", "choose another (or --force to set it)")
