"""`agentops init` writes what is not there, and never touches what is."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from agentops import configuration, edge
from tests.commands.line import typed
from tests.fakes.management_api import REF

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.management_api import ManagementApi


OTHER = REF[::-1]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "fresh"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def found(folder: Path) -> dict[str, bytes]:
    """Every file below the folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_fresh_folder_gets_a_file_that_names_local(here: Path) -> None:
    done = typed("init", "--json")
    assert (done.code, done.json) == (0, [{"file": "agentops.toml", "status": "written", "changed": True}])
    assert configuration.read(here).chosen == "local"


def test_with_a_ref_it_names_the_project(here: Path) -> None:
    assert typed("init", "--ref", REF).code == 0
    assert typed("target", "show").out.strip() == f"hosted (supabase://{REF})"
    assert configuration.read(here).targets["hosted"].production is False
    assert typed("init", "--ref", "short").code == 2


def test_with_edge_it_writes_a_forwarder_for_each_of_the_six(here: Path) -> None:
    assert typed("init", "--edge").code == 0
    slugs = {each.slug for each in edge.FORWARDERS}
    assert len(slugs) == 6
    assert {path.parent.name for path in here.glob("supabase/functions/*/index.ts")} == slugs
    settings = tomllib.loads((here / "supabase/config.toml").read_text())["functions"]
    assert {slug: entry["verify_jwt"] for slug, entry in settings.items()} == dict.fromkeys(slugs, False)


def test_check_writes_nothing(here: Path) -> None:
    assert typed("init", "--edge", "--check").code == 3
    assert found(here) == {}


def test_a_second_time_changes_nothing(here: Path) -> None:
    typed("init", "--edge")
    before = found(here)
    done = typed("init", "--edge", "--json")
    assert (done.code, {each["status"] for each in done.json}) == (0, {"unchanged"})
    assert found(here) == before
    assert typed("init", "--edge", "--check").code == 0


def test_what_is_there_is_never_overwritten(here: Path) -> None:
    own = {
        "agentops.toml": f'# mine\n[targets.shop]\nurl = "supabase://{REF}"\n'.encode(),
        "supabase/config.toml": b"# mine\n",
        "supabase/functions/ai-whatsapp-webhook/index.ts": b"// mine\n",
        "supabase/functions/_shared/agentops.ts": b"",
        "supabase/functions/ai-one/index.ts": b"// mine\n",
    }
    for name, content in own.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(content)
    done = typed("init", "--edge", "--ref", REF, "--json")
    assert done.code == 0
    statuses = {each["file"]: each["status"] for each in done.json}
    assert {name for name, status in statuses.items() if status == "kept"} == own.keys() - {
        "supabase/functions/ai-one/index.ts"
    }
    assert {name: content for name, content in found(here).items() if name in own} == own
    assert "supabase/config.toml stays as it is; the forwarders need verify_jwt = false" in done.err
    assert "that project is not the target here; to make it so: agentops target use shop" in done.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'target = "hosted"\n[targets.hosted]\nurl = "supabase://{OTHER}"\n', f"names supabase://{OTHER} (hosted)"),
        (f'target = "supabase://{OTHER}"\n', f"names supabase://{OTHER}"),
        ("# mine\n", f"does not name supabase://{REF}"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--edge",), ("--edge", "--check")])
def test_a_file_that_names_another_project_is_a_conflict_and_nothing_is_written(
    here: Path, text: str, words: str, more: tuple[str, ...]
) -> None:
    (here / "agentops.toml").write_text(text)
    before = found(here)
    done = typed("init", "--ref", REF, *more, "--json")
    error = json.loads(done.err.strip().splitlines()[-1])
    assert (done.code, error["error"]) == (7, "conflict")
    assert error["message"].startswith(f"{here}/agentops.toml {words}")
    assert f'url = "supabase://{REF}"' in error["hint"]
    statuses = {each["file"]: (each["status"], each["changed"]) for each in done.json}
    assert statuses.pop("agentops.toml") == ("kept", False)
    assert set(statuses.values()) == ({("not_written", False)} if more else set())
    assert found(here) == before
    # What the hint says mends it.
    (here / "agentops.toml").write_text(f'[targets.mine]\nurl = "supabase://{REF}"\n')
    assert typed("init", "--ref", REF, *more).code == (3 if "--check" in more else 0)


def test_a_file_of_a_folder_above_is_no_conflict(here: Path) -> None:
    (here.parent / "agentops.toml").write_text(f'target = "supabase://{OTHER}"\nfunctions = "elsewhere"\n')
    assert typed("init", "--edge", "--ref", REF).code == 0
    assert typed("target", "show").out.strip() == f"hosted (supabase://{REF})"
    assert (here / "supabase/functions/_shared/agentops.ts").is_file()


def test_what_it_says_in_comments_can_be_switched_on(here: Path) -> None:
    for more in ((), ("--ref", REF)):
        typed("init", *more)
        file = here / "agentops.toml"
        lines = [
            line.removeprefix("# ") if "=" in line or "[" in line else line for line in file.read_text().split("\n")
        ]
        file.write_text("\n".join(line for line in lines if not line.startswith("#")))
        assert len(configuration.read(here).said) >= 3, file.read_text()
        file.unlink()


def test_a_check_says_what_would_change_and_the_run_what_did(here: Path) -> None:
    assert typed("init", "--edge", "--check").err.splitlines()[0] == f"folder {here}: 9 would change, 0 unchanged"
    assert typed("init", "--edge").err.splitlines()[0] == f"folder {here}: 9 changed, 0 unchanged"
    assert found(here)


def test_a_link_that_leads_nowhere_is_not_written_through(here: Path) -> None:
    (here / "agentops.toml").symlink_to(here / "elsewhere.toml")
    assert typed("init").code in {0, 1}
    assert not (here / "elsewhere.toml").exists()


def test_a_folder_that_cannot_be_written_is_said(here: Path) -> None:
    (here / "supabase").write_text("a file where the folder should be")
    done = typed("init", "--edge")
    assert (done.code, "cannot be written" in done.err) == (1, True)


def test_what_it_wrote_deploys_as_it_is(project_api: ManagementApi) -> None:
    typed("init", "--edge", "--ref", REF)
    project_api.forwarders = {each.slug: each.flag for each in edge.FORWARDERS}
    done = typed("deploy", "all", "--json")
    assert (done.code, {each["status"] for each in done.json}) == (0, {"active"})
    assert {each.row["verify_jwt"] for each in project_api.functions.values()} == {False}
    shared = "supabase/functions/_shared/agentops.ts"
    assert all(shared in each.files for each in project_api.functions.values())
