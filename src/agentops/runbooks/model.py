"""A runbook as data: one YAML file, checked when it is read.

title: Deploy one function
why: …
inputs:
  slug: {description: Which function, example: ai-create-voucher}
steps:
  - run: deploy {slug}              an agentops command line, without the word agentops
    verify: health functions        a command line that must exit 0
    stop: false                     what fails here does not keep the next steps from being done
  - title: Tell the team
    manual: Post in #incidents …    words for a person, who does this step by hand
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentops.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGED = Path(__file__).parent.parent / "_runbooks"
_CHECKOUT = Path(__file__).parents[3] / "runbooks"
_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_RUNBOOK_KEYS = {"title", "why", "inputs", "steps"}
_STEP_KEYS = {"title", "run", "manual", "verify", "stop"}
_INPUT_KEYS = {"description", "default", "example"}


@dataclass(frozen=True, slots=True)
class Input:
    """Something that a runbook asks for: `--set name=value`, else its default."""

    name: str
    description: str
    default: str | None = None
    example: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `run`, a command line without the word agentops, or `manual`, words; `verify` must exit 0 after it.

    `stop`: whether the runbook ends where this step fails.
    """

    number: int
    title: str | None
    run: str | None
    manual: str | None
    verify: str | None
    stop: bool = True

    @property
    def heading(self) -> str | None:
        """What it is called, and whether a person does it by hand; None where its command alone says what it is."""
        if self.manual is None:
            return self.title
        return f"{self.title} (by hand)" if self.title else "by hand"

    def argv(self, line: str, values: Mapping[str, str]) -> list[str]:
        """A command line of this step in words; a value stays one word, whatever is in it."""
        return [fill(word, values) for word in shlex.split(line)]


@dataclass(frozen=True, slots=True)
class Runbook:
    """One section of the page."""

    name: str
    title: str
    why: str
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]

    def known(self, defaults: Mapping[str, str | None]) -> Runbook:
        """The same runbook with what is known already as the defaults of its inputs; None is not known."""
        inputs = tuple(replace(entry, default=defaults.get(entry.name) or entry.default) for entry in self.inputs)
        return replace(self, inputs=inputs)

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """The inputs' values: what was given, else the defaults.

        Raises:
            UsageError: an unknown name, or a missing value.
        """
        known = {entry.name: entry for entry in self.inputs}
        for name in given:
            if name not in known:
                raise UsageError(
                    f"runbook {self.name} has no input {name!r}", f"its inputs: {', '.join(known) or 'none'}"
                )
        values = {name: given.get(name, entry.default) for name, entry in known.items()}
        missing = [known[name] for name, value in values.items() if value is None]
        if missing:
            first = missing[0]
            hint = f"--set {shlex.quote(first.name + '=' + (first.example or 'VALUE'))}   ({first.description})"
            raise UsageError(
                f"runbook {self.name} needs a value for: {', '.join(entry.name for entry in missing)}", hint
            )
        return {name: value for name, value in values.items() if value is not None}


def folder() -> Path:
    """Where the runbooks are: in an installed package beside its code, in a checkout in `runbooks/`."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def names() -> list[str]:
    """The names of all runbooks, from their file names."""
    return sorted(file.stem for file in folder().glob("*.yaml"))


def load(name: str) -> Runbook:
    """Read the runbook of that name.

    Raises:
        NotFound: there is none.
        UsageError: its file is not a runbook; the message says file and step.
    """
    if name not in names():
        raise NotFound(f"no runbook is named {name!r}", f"the runbooks are: {', '.join(names())}")
    return read(folder() / f"{name}.yaml")


def read(file: Path) -> Runbook:
    """Read and check one runbook file.

    Raises:
        UsageError: it is none; the message says file and step.
    """
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _wrong(file.name, " ".join(str(error).split())) from error
    book = _mapping(content, file.name, _RUNBOOK_KEYS)
    inputs = _inputs(book.get("inputs") or {}, file.name)
    steps = book.get("steps")
    if not isinstance(steps, list) or not steps:
        raise _wrong(file.name, "`steps` must be a list with at least one step")
    return Runbook(
        name=file.stem,
        title=_words(book, "title", file.name),
        why=_words(book, "why", file.name),
        inputs=inputs,
        steps=tuple(_step(entry, number, file.name, inputs) for number, entry in enumerate(steps, 1)),
    )


def fill(text: str, values: Mapping[str, str]) -> str:
    """`{name}` replaced by the value of that input; a text without places stays as it is."""
    return _PLACE.sub(lambda place: values.get(place[1], place[0]), text)


def _step(entry: object, number: int, file: str, inputs: tuple[Input, ...]) -> Step:
    where = f"{file}: step {number}"
    content = _mapping(entry, where, _STEP_KEYS)
    if ("run" in content) == ("manual" in content):
        raise _wrong(where, "has either `run` or `manual`, exactly one of them")
    known = {item.name for item in inputs}
    texts: dict[str, str | None] = {}
    for key in ("title", "run", "manual", "verify"):
        text = _words(content, key, where) if key in content else None
        unknown = [name for name in _PLACE.findall(text or "") if name not in known]
        if unknown:
            raise _wrong(where, f"`{key}` uses {{{unknown[0]}}}, which is no input")
        if text and key in {"run", "verify"}:
            _check_line(text, where, key)
        texts[key] = text
    stop = content.get("stop", True)
    if not isinstance(stop, bool):
        raise _wrong(where, "`stop` is true or false")
    return Step(number, **texts, stop=stop)


def _check_line(line: str, where: str, key: str) -> None:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise _wrong(where, f"`{key}` is no command line: {error}") from error
    if words[:1] == ["agentops"]:
        raise _wrong(where, f"`{key}` begins with the command, without the word agentops")


def _inputs(content: object, file: str) -> tuple[Input, ...]:
    found = []
    for name, entry in _mapping(content, f"{file}: inputs", None).items():
        where = f"{file}: input {name}"
        fields = _mapping(entry, where, _INPUT_KEYS)
        texts = {key: str(value) for key, value in fields.items() if value is not None}
        found.append(Input(name, _words(fields, "description", where), texts.get("default"), texts.get("example")))
    return tuple(found)


def _mapping(content: object, where: str, keys: set[str] | None) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise _wrong(where, "must be a mapping of names")
    unknown = sorted(content.keys() - keys) if keys is not None else []
    if unknown:
        raise _wrong(where, f"unknown key {unknown[0]!r} (known: {', '.join(sorted(keys or ()))})")
    return content


def _words(content: Mapping[str, Any], key: str, where: str) -> str:
    text = content.get(key)
    if not isinstance(text, str) or not text.strip():
        raise _wrong(where, f"`{key}` must be a text")
    return text.strip()


def _wrong(where: str, why: str) -> UsageError:
    return UsageError(f"{where}: {why}", "agentops runbook show deploy-all is an example that works")
