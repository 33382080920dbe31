"""What a process is told from outside (target, state folder, actor), and the names of flags and secrets.

    --target > AGENTOPS_TARGET > agentops.toml (nearest folder upward, then the user's) > local

What agentops.toml says of the target found (production, server, functions, slack, whatsapp) comes with it; there the
target's own fields go before those beside the targets, the project's before the user's. A database that the file names
is the same by any address of it, and the server behind a production project is production too.

Secrets and flags never come from the environment; `ignored_names` finds the ones somebody put there.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agentops import addresses, configuration
from agentops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

FLAG_PREFIX = "FEATURE_AGENT_"
CHAT, VOICE = "FEATURE_AGENT_CHAT", "FEATURE_AGENT_VOICE"
VOUCHERS, CUSTOMER_LOOKUP = "FEATURE_AGENT_VOUCHERS", "FEATURE_AGENT_CUSTOMER_LOOKUP"
KNOWN_FLAGS = {"chat": CHAT, "voice": VOICE, "vouchers": VOUCHERS, "customer-lookup": CUSTOMER_LOOKUP}
TRUTHY = frozenset({"1", "true", "yes", "on"})
FALSY = frozenset({"0", "false", "no", "off", ""})

# The number that WhatsApp messages are sent from, by the id that Meta gave it.
PHONE_ID = "WA_PHONE_ID"
# What servers and this machine's `invoke` show each other; the first start makes it.
SERVICE_KEY = "SUPABASE_SERVICE_ROLE_KEY"

KNOWN_SECRETS = (
    "OPENAI_API_KEY",
    "OPENAI_RESPONSES_MODEL",
    "OPENAI_REALTIME_MODEL",
    "OPENAI_WEBHOOK_SECRET",
    PHONE_ID,
    "WA_TOKEN",
    "WA_VERIFY_TOKEN",
    "WA_APP_SECRET",
    SERVICE_KEY,
    "SUPABASE_ANON_KEY",
    "AGENT_STAFF_MSISDNS",
    "AGENT_COUNTRY",
    "AGENT_CURRENCY",
    "AGENT_HISTORY_ITEMS",
    "AGENT_REPLY_SECONDS",
    "AGENT_UNCERTAIN_SECONDS",
)
# Addresses of the outside. They may be secrets of the stack; a process setting of the same name wins (the sandbox's
# peers, a proxy), so these alone are read from the environment of a server.
ADDRESSES = ("OPENAI_BASE_URL", "WHATSAPP_API_URL", "SLACK_WEBHOOK_URL")
# Names that `status --env` printed for the shell, which set them on purpose.
EXPORTED = "AGENTOPS_EXPORTED"
DEFAULT_MODEL = "gpt-6-luna"
DEFAULT_PORT = 54321
# Where the functions are in the project folder, where agentops.toml says nothing: a hosted project's, ours.
HOSTED_FUNCTIONS, FUNCTIONS = "supabase/functions", "functions"

_HOSTED = "supabase://"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REF = re.compile(r"[a-z]{20}")
_SCHEME = re.compile(r"[a-z]{1,20}:(?://)?")
# Nothing is ever there, and nobody can make it, the system's administrator neither.
_NO_HOME = Path("/proc/none/agentops")


@dataclass(frozen=True, slots=True)
class Process:
    """What this process was told: its target and where that came from, its state folder, who acts."""

    target: str
    origin: str
    home: Path
    actor: str
    project: Path
    # As AGENTOPS_PORT gives it: `port` reads it.
    given_port: str | None = None
    # What agentops.toml says of a target by name: asks before it changes anything; the stack behind its forwarders.
    name: str | None = None
    production: bool = False
    server: str | None = None
    # The name of the target that is marked as production, where that is why this one is: it may have no name itself.
    guard: str | None = None
    # Every field of it that is in force here, by its path (`slack.channel`), with the file that says so.
    said: Mapping[str, configuration.Said] = field(default_factory=dict)

    @property
    def confirmation(self) -> str | None:
        """The name that has to be typed before anything is changed here; None where nothing has to be."""
        return (self.name or self.guard) if self.production else None

    @property
    def port(self) -> int | None:
        """The port of the server on this machine, where one was given.

        Raises:
            UsageError: AGENTOPS_PORT is none.
        """
        if not self.given_port:
            return None
        digits = self.given_port.isascii() and self.given_port.isdigit() and len(self.given_port) <= 5  # noqa: PLR2004
        if not digits or not 0 < int(self.given_port) < 65536:  # noqa: PLR2004 - the range of a TCP port
            words = f"AGENTOPS_PORT={self.given_port[:20]!r} is no port number"
            raise UsageError(words, "give a number from 1 to 65535")
        return int(self.given_port)

    @property
    def functions(self) -> Path:
        """The folder of the functions, whether it is there or not."""
        configured = self.told(configuration.FUNCTIONS)
        return Path(configured) if configured else self.project / (HOSTED_FUNCTIONS if self.hosted else FUNCTIONS)

    @property
    def channel(self) -> str | None:
        """The Slack channel where the team is told of incidents."""
        return self.told(configuration.CHANNEL)

    def told(self, path: str) -> str | None:
        """What agentops.toml says under a path; None where it says nothing."""
        found = self.said.get(path)
        return found.text if found else None

    def functions_there(self) -> Path:
        """The folder of the functions, to be deployed.

        Raises:
            UsageError: agentops.toml names one that is not there: the package's own functions would go out instead.
        """
        found = self.said.get(configuration.FUNCTIONS)
        if found and not self.functions.is_dir():
            raise UsageError(f"{found.origin}: functions names {found.text}, which is no folder", "correct it there")
        return self.functions

    @property
    def embedded(self) -> str | None:
        """`local` or `sandbox` where the target has an embedded PostgreSQL, else None."""
        return self.target if self.target in {"local", "sandbox"} else None

    @property
    def hosted(self) -> bool:
        """Whether the target is a Supabase project."""
        return self.target.startswith(_HOSTED)

    @property
    def state(self) -> Path:
        """The target's own folder in the state folder (embedded database, keys, what is known of a hosted project)."""
        if self.hosted:
            return self.home / "supabase" / self.target.removeprefix(_HOSTED)
        return self.home / (self.embedded or "remote")

    @property
    def label(self) -> str:
        """The target for eyes: a database address without its password."""
        return without_password(self.target)


def without_password(target: str) -> str:
    """A target for eyes: `***` for a password, wherever it stands."""
    return addresses.without_password(target)


def process(
    option: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    wrong: Callable[[UsageError], None] = configuration.refuse,
) -> Process:
    """Read the process settings.

    Args:
        option: the value of `--target`, if given.
        environment: defaults to `os.environ`.
        folder: where the search for `agentops.toml` begins; defaults to the working folder.
        wrong: what to do about a file, a field or a folder that is not as it has to be; where it returns, that one is
            passed over.

    Raises:
        UsageError: what `wrong` raises; a target of an unknown form, or none that can be known.
    """
    env = os.environ if environment is None else environment
    here = folder or _working_folder(wrong)
    home = _state(env, wrong)
    found = configuration.read(here, wrong)
    if option:
        target, origin = option, "--target"
    elif env.get("AGENTOPS_TARGET"):
        target, origin = env["AGENTOPS_TARGET"], "AGENTOPS_TARGET"
    elif found.unread:
        words = "which target is meant cannot be known: what may name it cannot be read"
        raise UsageError(words, "say which: --target supabase://<ref>, or any other address")
    elif found.chosen is not None:
        target, origin = found.chosen, str(found.chosen_in)
    else:
        target, origin = "local", "default"
    # An address that has a name is that target, also when it is marked as production.
    named = found.find(target)
    by_name = found.targets.get(target)
    url = checked_target(by_name.url if by_name else target, str(by_name.origin) if by_name else origin, found.targets)
    said, guard = found.about(named, url), found.guard(url)
    server = _checked_server(named, wrong) if named else None
    if found.lost and server is None and url.startswith(_HOSTED):
        unknown = "whether a server stands behind the project cannot be known"
        wrong(UsageError(unknown, "switch that one by its own address: --target postgresql://…"))
    return Process(
        target=url,
        origin=origin,
        home=home,
        actor=env.get("AGENTOPS_ACTOR") or _user_at_host(env),
        project=found.project.parent if found.project else here or home,
        given_port=env.get("AGENTOPS_PORT"),
        name=named.name if named else None,
        production=guard is not None,
        server=server,
        guard=guard.name if guard else None,
        said=said,
    )


def elsewhere(now: Process, target: str, origin: str) -> Process:
    """The settings of another target than the one found, with all that agentops.toml says of that one."""
    return replace(process(target, folder=now.project), origin=origin)


def flag_name(name: str) -> str:
    """`chat` or `FEATURE_AGENT_CHAT` → `FEATURE_AGENT_CHAT`; other `FEATURE_AGENT_*` names are taken as they are.

    Raises:
        UsageError: a name that is none of these.
    """
    if name.lower() in KNOWN_FLAGS:
        return KNOWN_FLAGS[name.lower()]
    upper = name.upper()
    if upper.startswith(FLAG_PREFIX) and _NAME.fullmatch(upper) and len(upper) > len(FLAG_PREFIX):
        return upper
    raise UsageError(
        f"no flag is named {name!r}",
        f"the flags are {', '.join(KNOWN_FLAGS)} (or any {FLAG_PREFIX}… name)",
    )


def flag_alias(name: str) -> str:
    """`FEATURE_AGENT_CHAT` → `chat`; a name without a short form stays as it is."""
    return next((alias for alias, full in KNOWN_FLAGS.items() if full == name), name)


def is_flag(name: str) -> bool:
    """Whether a setting of this name is a flag (stored in clear) rather than a secret."""
    return name.startswith(FLAG_PREFIX)


def ignored_names(environment: Mapping[str, str] | None = None) -> list[str]:
    """Names in the environment that look as if they should count, and do not: flags, secrets, `DATABASE_URL`."""
    env = os.environ if environment is None else environment
    exported = env.get(EXPORTED, "").split()
    names = {name for name in env if is_flag(name) or name in KNOWN_SECRETS or (name == "DATABASE_URL" and env[name])}
    return sorted(names.difference(exported))


def checked_target(target: str, origin: str, names: Iterable[str] = ()) -> str:
    """The target itself, if it has the form of one; `names` are those that could have been meant.

    Raises:
        UsageError: it has not.
    """
    if target in {"local", "sandbox"} or target.startswith(addresses.SCHEMES):
        return target
    scheme, _, ref = target.partition("://")
    if f"{scheme}://" == _HOSTED and _REF.fullmatch(ref):
        return target
    hint = "targets are: local, sandbox, postgresql://user@host/database, supabase://<project-ref> (20 small letters)"
    by_name = ", ".join(sorted(names))
    words = f"{origin} names no target: {_harmless(target)!r}"
    raise UsageError(words, f"{hint}{f', or by name: {by_name}' if by_name else ''}")


def _harmless(target: str) -> str:
    """What was given for a target, as it may be repeated: behind a scheme that is none of ours may stand anything."""
    from agentops import secret_looks

    scheme = _SCHEME.match(target)
    after = secret_looks.shown(target[scheme.end() if scheme else 0 :])
    return f"{scheme[0] if scheme else ''}{after if not scheme or scheme[0] == _HOSTED else '…'}"


def _checked_server(named: configuration.Named, wrong: Callable[[UsageError], None]) -> str | None:
    if named.server is None or named.server.startswith(addresses.SCHEMES):
        return named.server
    words = f"{named.origin}: server of {named.name} is no PostgreSQL address"
    wrong(UsageError(words, "postgresql://user@host/db"))
    return None


def _working_folder(wrong: Callable[[UsageError], None]) -> Path | None:
    try:
        return Path.cwd()
    except OSError as error:
        gone = UsageError("the working folder cannot be found any more", "go to one that is there: cd")
        gone.__cause__ = error
        wrong(gone)
        return None


def _state(env: Mapping[str, str], wrong: Callable[[UsageError], None]) -> Path:
    try:
        return Path(env.get("AGENTOPS_HOME") or _user_state()).expanduser().absolute()
    except (OSError, RuntimeError) as error:  # no such user, or a relative path and no working folder
        nowhere = UsageError("the state folder cannot be found", "set HOME, or AGENTOPS_HOME to a whole path")
        nowhere.__cause__ = error
        wrong(nowhere)
        return _NO_HOME


def _user_state() -> Path:
    import platformdirs

    return platformdirs.user_state_path("agentops")


def _user_at_host(env: Mapping[str, str]) -> str:
    user = env.get("SUDO_USER") or env.get("USER") or _login_name()
    return f"{user}@{socket.gethostname()}"


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid{os.getuid()}"
