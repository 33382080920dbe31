"""Finds phone numbers of known customers in stored log lines, whatever form they are in.

    known phones → Numbers ─┐
    agentops.logs, in batches ─→ plain text → runs of digits, base64 tokens ─→ exactly a known number? → Leak
                              leaks ─→ not seen already (a closed incident names it) ─→ one `pii-leak` incident:
                                                                                        row, field, pseudonym

Only whole runs of digits are compared, and only with numbers that belong to somebody: timestamps, ids and amounts raise
no alarm. A leak is named by place and pseudonym, never by its value.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentops import pseudonyms
from agentops.agent import phones
from agentops.redact import scrub
from agentops.renderings import chains, hidden, plain, without_uuids
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from datetime import datetime

    from agentops.platforms import Queries

_SQL = statements(__file__)
BATCH = 5_000
# What an incident lists; the scan itself gives them all.
LISTED = 1_000
_SIMPLE_KEY = re.compile(r"[A-Za-z_][A-Za-z_-]{0,40}[0-9]{0,4}")
_URL = re.compile(r"(?:wa\.me|api\.whatsapp\.com|tel:|https?:)\S*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Leak:
    """A customer's number in a log line: which row and field, whose (pseudonym), and in which form."""

    log_id: int
    timestamp: datetime
    event: str
    field: str
    customer: str
    rendering: str


class Numbers:
    """Every form of digits that a known customer's number takes, with the number that it is.

    Args:
        known: numbers in +E.164; anything else is passed over.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._forms: dict[str, str] = {}
        for phone in known:
            digits = phone.removeprefix("+")
            if not (digits.isascii() and digits.isdigit()):
                continue
            for form in (digits, f"00{digits}", *phones.national_forms(phone)):
                self._forms.setdefault(form, phone)
        self._lengths = sorted({len(form) for form in self._forms})

    def __len__(self) -> int:
        return len(set(self._forms.values()))

    def within(self, text: str) -> Iterator[tuple[str, str, str]]:
        """Each known number in a text, with its rendering and the digits as they were found."""
        clean, forms = without_uuids(plain(text)), self._forms
        for start, end, groups in chains(clean):
            if len(groups) == 1:
                if groups[0] in forms:
                    yield forms[groups[0]], _rendering(text, clean, (start, end), groups), groups[0]
                continue
            for first, last, digits in self._joined(groups):
                yield forms[digits], _rendering(text, clean, (start, end), groups[first:last]), digits
        for _, held in hidden(clean):
            for _, _, groups in chains(held):
                for _, _, digits in self._joined(groups):
                    yield forms[digits], "base64", digits

    def _joined(self, groups: list[str]) -> Iterator[tuple[int, int, str]]:
        """Neighbouring groups that make up a known form, the longest first from each place on."""
        longest = self._lengths[-1] if self._lengths else 0
        first = 0
        while first < len(groups):
            digits, found = "", None
            for last in range(first, len(groups)):
                digits += groups[last]
                if len(digits) > longest:
                    break
                if digits in self._forms:
                    found = (last + 1, digits)
            if found:
                yield first, found[0], found[1]
                first = found[0]
            else:
                first += 1


async def scan(
    queries: Queries, numbers: Numbers, key: bytes, *, since: datetime, until: datetime | None = None
) -> AsyncIterator[list[Leak]]:
    """Look through the stored lines; gives the leaks of each batch of `BATCH` lines, in order of their rows."""
    after = 0
    while True:
        parameters = {"after": after, "since": since, "until": until, "limit": BATCH}
        rows = await queries.query(_SQL["lines"], parameters)
        yield [leak for row in rows for leak in of_row(row, numbers, key)]
        if len(rows) < BATCH:
            return
        after = rows[-1]["id"]


def of_row(row: dict[str, Any], numbers: Numbers, key: bytes) -> list[Leak]:
    """The leaks of one row, once per field and customer. `row["data"]` is the JSON text."""
    whole = f"{row['event']}\n{row['correlation_id']}\n{row['function']}\n{row['data']}"
    if next(numbers.within(whole), None) is None:
        return []
    found: dict[tuple[str, str], Leak] = {}
    event = str(scrub(row["event"]))
    for field, text, numeric in _fields(row):
        for phone, rendering, _ in numbers.within(text):
            customer = pseudonyms.customer(key, phone)
            form = "json_int" if numeric else rendering
            found.setdefault((field, phone), Leak(row["id"], row["at"], event, field, customer, form))
    if not found:
        # Seen only across the borders of fields, or in a JSON that hides it: the row is named all the same.
        phone, rendering, _ = next(numbers.within(whole))
        return [Leak(row["id"], row["at"], event, "data", pseudonyms.customer(key, phone), rendering)]
    return list(found.values())


async def unseen(queries: Queries, leaks: list[Leak]) -> list[Leak]:
    """Those that no closed incident names: whoever closed it has seen the others. In the same order."""
    if not leaks:
        return []
    rows = await queries.query(_SQL["seen"], {"rows": sorted({leak.log_id for leak in leaks})})
    seen = {(row["log_id"], row["field"], row["customer"]) for row in rows}
    return [leak for leak in leaks if (leak.log_id, leak.field, leak.customer) not in seen]


async def report(queries: Queries, leaks: list[Leak], actor: str) -> int:
    """Open the `pii-leak` incident, or add to the one that is open; its number. Known places change nothing."""
    places = [
        {"log_id": leak.log_id, "field": leak.field, "customer": leak.customer, "rendering": leak.rendering}
        for leak in leaks[:LISTED]
    ]
    parameters = {
        "places": json.dumps(places),
        "hits": len(leaks),
        "listed": LISTED,
        "reason": "phone numbers of customers stand in the logs",
        "actor": actor,
    }
    return int((await queries.query(_SQL["report"], parameters))[0]["id"])


def _fields(row: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Every text of a row by its path, keys included; and whether it is a number."""
    for name in ("event", "correlation_id", "function"):
        yield name, row[name], False
    yield from _leaves("data", json.loads(row["data"]))


def _leaves(path: str, value: object) -> Iterator[tuple[str, str, bool]]:
    if isinstance(value, dict):
        for place, (name, item) in enumerate(value.items()):
            # A key that could hold a number is named by its place.
            shown = name if _SIMPLE_KEY.fullmatch(name) else f"[{place}]"
            if shown != name:
                yield f"{path}.{shown}(key)", name, False
            yield from _leaves(f"{path}.{shown}", item)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _leaves(f"{path}[{place}]", item)
    elif isinstance(value, str):
        yield path, value, False
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, str(value), True


def _rendering(text: str, clean: str, span: tuple[int, int], groups: list[str]) -> str:
    """What the form of a number is called."""
    start, end = span
    run, before, after = clean[start:end], clean[max(start - 60, 0) : start], clean[end : end + 20]
    if clean != without_uuids(text):
        if "%" in text:
            return "percent_encoded"
        if not text.isascii():
            return "unicode_digits" if any(c.isdigit() and not c.isascii() for c in text) else "zero_width"
        return "escaped"
    if len(groups) > 1:
        marks = {mark: name for name, mark in (("parentheses", "("), ("dotted", "."), ("dashed", "-"))}
        return next((name for mark, name in marks.items() if mark in run), "spaced")
    if after.startswith("@"):
        return "jid"
    if _URL.search(before):
        return "url"
    digits = groups[0]
    if before.endswith("+"):
        return "e164"
    return "00_prefix" if digits.startswith("00") else "national" if digits.startswith("0") else "wa_id"
