"""PostgreSQL addresses, read as libpq reads them: how one is shown, and which database it leads to.

    postgresql://me:secret@db.example:5432/stack?sslmode=require
                 │         │               │
                 without_password: ***     places: {(db.example, 5432, stack)}

Nothing here connects, and an address that libpq would refuse is shown without its password all the same.
"""

from __future__ import annotations

import re

SCHEMES = ("postgresql://", "postgres://")
_PARAMETER = re.compile(
    r"(?P<before>[?&]|(?:^|(?<=\s)))(?P<name>[^=?&\s]+)(?P<equals>\s*=\s*)(?P<value>'[^']*'|[^&\s]*)"
)
_QUERY = re.compile(r"\?[\w%]+=")
_HIDDEN = re.compile(r"(?:.*(?:password|secret)|passfile|sslkey)", re.IGNORECASE)
_PORT = re.compile(r"[0-9]{0,5}(?:,.*)?")
_LOOPBACK = {"127.0.0.1": "localhost", "::1": "localhost"}


def without_password(address: str) -> str:
    """An address for eyes: `***` for a password, also where it holds @, / or ?, or stands in a parameter.

    Where libpq would take a part for something else than it was meant as, rather too much is hidden than too little.
    """
    scheme, found, rest = address.partition("://")
    if found:
        address = f"{scheme}://{_masked(rest)}"
    return _PARAMETER.sub(_hidden, address)


def places(address: str) -> frozenset[tuple[str, str, str]]:
    """Every host, port and database that an address may lead to; none for what is no PostgreSQL address.

    Two addresses of the same database may differ in scheme, user, password, parameters and the way a host is written.
    """
    if not address.startswith(SCHEMES):
        return frozenset()
    from urllib.parse import unquote

    rest = address.partition("://")[2]
    user, rest = _user_and_rest(rest)
    authority, _, query = rest.partition("?")
    authority, _, database = authority.partition("/")
    told = {unquote(name): unquote(value) for name, _, value in (each.partition("=") for each in query.split("&"))}
    pairs = [_host_and_port(each) for each in authority.split(",")]
    hosts = (told.get("host") or told.get("hostaddr") or ",".join(host for host, _ in pairs)).split(",")
    ports = (told.get("port") or ",".join(port for _, port in pairs)).split(",")
    database = told.get("dbname") or unquote(database) or told.get("user") or unquote(user)
    found = set()
    for number, host in enumerate(hosts):
        port = ports[number] if number < len(ports) else ports[0]
        name = unquote(host).strip("[]").lower().rstrip(".")
        found.add((_LOOPBACK.get(name, name), port or "5432", database))
    return frozenset(found)


def _user_and_rest(rest: str) -> tuple[str, str]:
    """As libpq: what stands before an @ that comes before any / is who; the password is left out."""
    before, found, after = rest.partition("@")
    return (before.partition(":")[0], after) if found and "/" not in before else ("", rest)


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, port = text.partition("]")
        return host.lstrip("["), port.lstrip(":")
    host, _, port = text.partition(":")
    return host, port


def _masked(rest: str) -> str:
    """What follows `://`, its password masked: from the first : after the user to the last @ before the parameters."""
    user = re.match(r"[^:@/?]*:", rest)
    if user is None or rest.startswith("["):
        return rest
    after = rest[user.end() :]
    at, slash = after.find("@"), after.find("/")
    port = re.split(r"[/?]", after, maxsplit=1)[0]
    if at >= 0 and (slash < 0 or at < slash):
        # For libpq it ends a password, whatever stands before it.
        query = _QUERY.search(after, at)
    elif _PORT.fullmatch(port):
        query = _QUERY.search(after)
    else:
        # No port: somebody forgot to write the password's / or the whole @ otherwise.
        return f"{user[0]}***{after[after.rfind('@') if at >= 0 else len(port) :]}"
    last = after.rfind("@", 0, query.start() if query else len(after))
    return f"{user[0]}***{after[last:]}" if last >= 0 else rest


def _hidden(found: re.Match[str]) -> str:
    name = found["name"]
    if "%" in name:  # libpq decodes names too
        from urllib.parse import unquote

        name = unquote(name)
    shown = "***" if _HIDDEN.fullmatch(name) else found["value"]
    return f"{found['before']}{found['name']}{found['equals']}{shown}"
