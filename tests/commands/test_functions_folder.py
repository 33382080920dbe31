"""`functions = …` of agentops.toml: every command that looks for functions looks there, on both kinds of target."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agentops import edge
from agentops.commands import slugs
from tests.commands.line import typed
from tests.fakes import cli
from tests.fakes.management_api import REF

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StackKeys
    from tests.fakes.management_api import ManagementApi

URL = f"supabase://{REF}"
ONE = """from agentops.web import json_response

async def handle(request, stack):
    return json_response(200, {})
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder; functions lie in folders of every name, so that the wrong one would be found out."""
    folder = tmp_path / "project"
    for name in ("functions", "stack"):
        (folder / name).mkdir(parents=True)
        (folder / name / f"ai_of_{name}.py").write_text(ONE)
    for name in ("supabase/functions", "apps/supabase/functions"):
        slug = folder / name / f"ai-of-{name.partition('/')[0]}"
        slug.mkdir(parents=True)
        (slug / "index.ts").write_text("Deno.serve(() => new Response('one'));\n")
    monkeypatch.chdir(folder)
    return folder


def configured(here: Path, url: str, *, beside: str = "", own: str = "") -> None:
    """An agentops.toml whose target has this address."""
    lines = [f'functions = "{beside}"' if beside else "", 'target = "it"', "[targets.it]", f'url = "{url}"']
    (here / "agentops.toml").write_text("\n".join([*lines, f'functions = "{own}"' if own else ""]))


def test_a_stack_deploys_and_compares_what_the_named_folder_holds(here: Path, database_url: str) -> None:
    def known() -> set[str]:
        return {each["slug"] for each in typed("deploy", "all", "--check", "--json").json}

    configured(here, database_url)
    assert {slug for slug in known() if "-of-" in slug} == {"ai-of-functions"}
    configured(here, database_url, beside="stack")
    assert {slug for slug in known() if "-of-" in slug} == {"ai-of-stack"}
    configured(here, database_url, beside="stack", own="functions")
    assert {slug for slug in known() if "-of-" in slug} == {"ai-of-functions"}
    configured(here, database_url, own="stack")
    assert typed("deploy", "ai-of-stack").code == 0
    assert typed("deploy", "ai-of-functions").code == 5
    assert typed("deploy", "diff", "ai-of-stack").code == 0
    (here / "stack" / "ai_of_stack.py").write_text(ONE + "# new\n")
    assert typed("deploy", "diff", "ai-of-stack").code == 3
    (here / "stack" / "ai_late.py").write_text(ONE)
    health = {row["name"]: row["finding"] for row in typed("health", "functions", "--json").json}
    assert health["ai-late"] == "is not deployed"
    assert "ai-of-functions" not in health


def test_a_stack_that_comes_up_deploys_what_the_named_folder_holds(
    here: Path, database_url: str, stack_keys: StackKeys
) -> None:
    configured(here, database_url, own="stack")
    key = {"AGENTOPS_STACK_KEY": stack_keys.private}
    cli.answer("up", "--detach", "--port", str(cli.free_port()), **key)
    try:
        deployed = {each["slug"] for each in cli.answer("deploy", "list")}
    finally:
        cli.run("down")
    assert {slug for slug in deployed if "-of-" in slug} == {"ai-of-stack"}


def test_a_hosted_project_deploys_and_compares_what_the_named_folder_holds(
    here: Path, project_api: ManagementApi
) -> None:
    configured(here, URL)
    assert [each["slug"] for each in typed("deploy", "all", "--check", "--json").json] == ["ai-of-supabase"]
    configured(here, URL, beside="apps/supabase/functions")
    done = typed("deploy", "all", "--json")
    assert [each["slug"] for each in done.json] == ["ai-of-apps"]
    assert list(project_api.functions["ai-of-apps"].files) == ["apps/supabase/functions/ai-of-apps/index.ts"]
    assert typed("deploy", "diff", "ai-of-apps").code == 0
    (here / "apps/supabase/functions/ai-of-apps/index.ts").write_text("// new\n")
    assert typed("deploy", "diff", "ai-of-apps").code == 3
    health = {row["name"] for row in typed("health", "functions", "--json").json}
    assert {"ai-of-apps"} <= health
    assert "ai-of-supabase" not in health
    configured(here, URL, beside="apps/supabase/functions", own="supabase/functions")
    assert typed("deploy", "ai-of-supabase", "--check").code == 3
    assert typed("deploy", "ai-of-apps", "--check").code == 5


@pytest.mark.parametrize("line", [("deploy", "all"), ("deploy", "all", "--check"), ("deploy", "ai-create-voucher")])
def test_a_folder_that_is_not_there_deploys_nothing(here: Path, database_url: str, line: tuple[str, ...]) -> None:
    configured(here, database_url, beside="gone")
    done = typed(*line)
    assert (done.code, f"functions names {here}/gone, which is no folder" in done.err) == (2, True)
    assert typed("deploy", "list", "--json").json == []


def test_forwarders_are_written_where_the_hosted_target_has_its_functions(here: Path) -> None:
    configured(here, URL, beside="stack", own="apps/supabase/functions")
    done = typed("init", "--edge", "--json")
    written = {each["file"] for each in done.json if each["status"] == "written"}
    assert written == {
        "apps/supabase/config.toml",
        "apps/supabase/functions/_shared/agentops.ts",
        *(f"apps/supabase/functions/{each.slug}/index.ts" for each in edge.FORWARDERS),
    }
    # Health tells forwarders from other functions by what stands there.
    assert (here / "apps/supabase/functions/_shared/agentops.ts").is_file()


def test_completion_offers_what_the_named_folder_holds(here: Path) -> None:
    configured(here, "local", own="stack")
    assert [slug for slug in slugs() if "-of-" in slug] == ["ai-of-stack"]
    configured(here, URL, own="apps/supabase/functions")
    assert [slug for slug in slugs() if "-of-" in slug] == ["ai-of-apps"]
    (here / "agentops.toml").write_text("nonsense")
    assert [slug for slug in slugs() if "-of-" in slug] == ["ai-of-functions"]
    assert "AGENTOPS_TARGET" not in os.environ
