"""Deploy functions: all or by name, list, history, roll back, delete, diff.

Equal content is left alone. A bundle that does not import is refused before anything is switched; what a live server
refuses is switched back. One that fails stops no other; at a hosted project several functions switch together or not
at all.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from agentops.commands import Check, Yes
from agentops.commands import slugs as known_slugs
from agentops.errors import AgentOpsError, Kind, NotFound, UsageError
from agentops.platforms import Deployment, Function
from agentops.session import Answer, Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentops.platforms import Bundle, Platform

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="One function.", autocompletion=known_slugs)]
Slugs = Annotated[
    list[str],
    typer.Argument(metavar="SLUG…", help="Which functions.", autocompletion=known_slugs),
]
Force = Annotated[bool, typer.Option("--force", help="Load it again even if nothing changed: clears its caches.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        metavar="N",
        help="How many bundles to try or upload at once; default: one a core, 8 to a hosted project.",
    ),
]
To = Annotated[
    int | None,
    typer.Option(
        "--to", metavar="N", help="Which version, by its number in `deploy history`; default: the one before."
    ),
]
_FAILED = {"failed", "replaced", "restored", "unverified"}
_ALIKE = {"replaced": Kind.CONFLICT, "restored": Kind.UNVERIFIED, "unverified": Kind.UNVERIFIED}


@dataclass(frozen=True, slots=True)
class Difference:
    """What a deploy would change: `diff` is a unified diff from the active version to the bundle here."""

    slug: str
    changed: bool
    diff: str
    # Source is shown as it is, however long its lines are.
    verbatim: ClassVar[bool] = True

    def text(self) -> str:
        """The diff itself; whoever prints it ends its last line."""
        return self.diff.removesuffix("\n") or (
            "only the version of the package differs" if self.changed else "no difference"
        )


async def all_(session: Session, check: Check = False, force: Force = False, jobs: Jobs = None) -> Answer:
    """Deploy every function: the project folder's and the package's; to a hosted project, its functions folder's."""
    return await _deploy(session, _known(session), "all", check=check, force=force, jobs=jobs)


async def deploy(
    session: Session, slugs: Slugs, check: Check = False, force: Force = False, jobs: Jobs = None
) -> Answer:
    """Deploy the named functions."""
    wanted = list(dict.fromkeys(slugs))
    return await _deploy(session, wanted, " ".join(wanted), check=check, force=force, jobs=jobs)


async def list_(session: Session) -> list[Function]:
    """Show what is deployed, and whether every live server runs it; hosted: whether agentops deployed it."""
    return await (await session.platform()).functions()


async def history(session: Session, slug: Slug) -> list[Function]:
    """Show all versions of a function, newest first."""
    platform = await session.platform()
    versions = await platform.history(slug)
    if not versions:
        raise await _unknown(session, platform, slug)
    return versions


async def rollback(session: Session, slug: Slug, to: To = None, check: Check = False) -> Answer:
    """Make an older version of a function active again."""
    platform = await session.platform()
    if not await platform.history(slug):
        raise await _unknown(session, platform, slug)
    if not check:
        await session.warn_unserved()
    result = await platform.rollback(slug, to, check=check)
    return _answer([result], check=check, again=f"rollback {slug} --to {to}" if to else f"rollback {slug}")


async def delete(session: Session, slug: Slug, check: Check = False, yes: Yes = False) -> Answer:
    """Take a function off; its versions stay and can be rolled back to."""
    platform = await session.platform()
    if check:
        return _answer([await platform.delete(slug, check=True)], check=True, again=f"delete {slug}")
    plan = await platform.delete(slug, check=True)
    if not plan.changed:
        return _answer([plan], check=False, again=f"delete {slug}")
    session.confirm(f"delete {slug} (version {plan.version}) on target {platform.target}?", yes=yes)
    await session.warn_unserved()
    return _answer([await platform.delete(slug, check=False)], check=False, again=f"delete {slug}")


async def diff(session: Session, slug: Slug) -> Answer:
    """Show what deploying a function would change, as a diff. Exit 3 if it would change anything."""
    here = _bundle(session, slug)
    platform = await session.platform()
    active = next((function for function in await platform.functions() if function.slug == slug), None)
    there = dict(await platform.source(slug)) if active else {}
    parts = [
        line
        for name in sorted({*there, *here.files})
        for line in _differing(name, there.get(name), here.files.get(name))
    ]
    text = "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in parts)
    found = Difference(slug, active is None or active.sha256 != here.sha256, text)
    return Answer(found, Kind.DIFFERS if found.changed else Kind.DONE)


def _differing(name: str, there: str | None, here: str | None) -> Iterator[str]:
    """The lines of a unified diff of one file; None: there is none."""
    before = "/dev/null" if there is None else f"active/{name}"
    after = "/dev/null" if here is None else f"here/{name}"
    texts = (there or "", here or "")
    if any("\0" in text or re.search(r"[\ud800-\udfff]", text) for text in texts):
        return iter([f"Binary files {before} and {after} differ\n"] if there != here else [])
    old, new = (text.splitlines(keepends=True) for text in texts)
    return difflib.unified_diff(old, new, before, after)


async def _deploy(
    session: Session, slugs: list[str], typed: str, *, check: bool, force: bool, jobs: int | None
) -> Answer:
    """Deploy `slugs`, which were `typed` so."""
    bundles, refused = _read(session, slugs)
    platform = await session.platform()
    if not check:
        await session.warn_unserved()
    if session.process.hosted:
        # All of them: what is not sent, because it runs already, may have to be called.
        if not check:
            _progress(session, bundles, "comparing and deploying")
        results = _by_slug(await platform.deploy(bundles, force=force, check=check, jobs=jobs))
    else:
        from agentops.server import checking

        results = _by_slug(await platform.deploy(bundles, force=force, check=True))
        changing = [bundle for bundle in bundles if results[bundle.slug].changed]
        _progress(session, changing, "trying")
        refused |= await checking.findings(changing, jobs or os.cpu_count() or 2)
        good = [bundle for bundle in changing if bundle.slug not in refused]
        if good and not check:
            _progress(session, good, "deploying")
            results |= _by_slug(await platform.deploy(good, force=force, check=False, jobs=jobs))
    if refused:
        live = {function.slug: function for function in await platform.functions()}
        results |= {slug: _refused(slug, finding, live.get(slug)) for slug, finding in refused.items()}
    ordered = [results[slug] for slug in slugs]
    failed = [result.slug for result in ordered if result.status in _FAILED]
    again = typed if len(failed) == len(ordered) else " ".join(failed)
    return _answer(ordered, check=check, refused=set(refused), again=f"{again} --force" if force else again)


def _by_slug(results: Sequence[Deployment]) -> dict[str, Deployment]:
    return {result.slug: result for result in results}


def _known(session: Session) -> list[str]:
    """Every slug that can be deployed from here: Python for a stack of one's own, TypeScript for a hosted project."""
    from agentops.platforms import bundle

    project, folder = session.process.project, session.process.functions_there()
    if not session.process.hosted:
        return bundle.known(project, folder)
    from agentops.platforms.supabase import sources

    found = sources.known(project, folder)
    if not found:
        raise UsageError(f"there is nothing to deploy in {folder}", "agentops init --edge")
    return found


def _bundle(session: Session, slug: str) -> Bundle:
    """Read a function's source. Raises as `read` of the module that knows its kind."""
    from agentops.platforms import bundle

    project, folder = session.process.project, session.process.functions_there()
    if not session.process.hosted:
        return bundle.read(slug, project, folder)
    from agentops.platforms.supabase import sources

    return sources.read(slug, project, folder)


def _read(session: Session, slugs: Sequence[str]) -> tuple[list[Bundle], dict[str, str]]:
    """The bundles, and what is wrong with those that cannot be read. An unknown slug ends the command."""
    bundles: list[Bundle] = []
    wrong: dict[str, str] = {}
    for slug in slugs:
        try:
            bundles.append(_bundle(session, slug))
        except UsageError as error:
            wrong[slug] = error.message
    return bundles, wrong


def _refused(slug: str, finding: str, live: Function | None) -> Deployment:
    version, sha256 = (live.version, live.sha256) if live else (None, None)
    return Deployment(slug, version, changed=False, status="failed", sha256=sha256, finding=finding)


def _answer(results: list[Deployment], *, check: bool, again: str, refused: set[str] | None = None) -> Answer:
    """What became of each; `again` is what to type after `agentops deploy` where some failed and are mended."""
    failed = [result for result in results if result.status in _FAILED]
    if failed:
        return Answer(results, failure=_failure(results, failed, refused or set(), again))
    if check:
        would = any(result.changed for result in results)
        return Answer(results, Kind.DIFFERS if would else Kind.DONE)
    if results and all(result.status == "unchanged" for result in results):
        return Answer(results, note="nothing changed; to load it again and clear its caches: --force")
    return Answer(results)


def _failure(
    results: Sequence[Deployment], failed: Sequence[Deployment], refused: set[str], again: str
) -> AgentOpsError:
    """What failed and why, function by function: the table has no room for a traceback's line."""
    lines = [f"{len(failed)} of {len(results)} failed", *(f"{entry.slug}: {entry.finding}" for entry in failed)]
    overtaken = all(entry.status == "replaced" for entry in failed)
    hint = f"agentops deploy history {failed[0].slug}" if overtaken else f"mend, then: agentops deploy {again}"
    failure = AgentOpsError("\n  ".join(lines), hint)
    failure.kind = _kind(results, failed, refused)
    return failure


def _kind(results: Sequence[Deployment], failed: Sequence[Deployment], refused: set[str]) -> Kind:
    """One code where all failed for one reason, `partial` where something went well."""
    if len(failed) < len(results):
        return Kind.PARTIAL
    if all(result.slug in refused for result in failed):
        return Kind.USAGE
    statuses = {result.status for result in failed}
    return _ALIKE.get(statuses.pop(), Kind.FAILED) if len(statuses) == 1 else Kind.FAILED


def _progress(session: Session, bundles: Sequence[Bundle], word: str) -> None:
    if bundles and session.interactive:
        session.note(f"{word} {bundles[0].slug if len(bundles) == 1 else f'{len(bundles)} functions'} …")


async def _unknown(session: Session, platform: Platform, slug: str) -> AgentOpsError:
    from agentops.platforms import bundle

    known = {function.slug for function in await platform.functions()} | set(
        bundle.known(session.process.project, session.process.functions)
    )
    return NotFound(f"no function is named {slug!r}", f"the functions are: {', '.join(sorted(known)) or 'none'}")
