"""`agentops.toml`: which target is meant, what the file may say, and what choosing one leaves as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentops import configuration
from agentops.errors import UsageError
from agentops.settings import process

if TYPE_CHECKING:
    from pathlib import Path

PROD = '[targets.prod]\nurl = "supabase://abcdefghijklmnopqrst"\nproduction = true\n'
URL = "supabase://abcdefghijklmnopqrst"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A project folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def write(folder: Path, text: str) -> Path:
    file = folder / configuration.NAME
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def mine(text: str) -> Path:
    """The user's own file."""
    return write(configuration.user_file().parent, text)


def test_without_any_file_the_target_is_local(here: Path) -> None:
    assert configuration.read(here) == configuration.Configuration({}, None, None, None)
    assert (process(folder=here).target, process(folder=here).origin) == ("local", "default")


def test_flag_goes_before_environment_before_project_before_user_before_default(here: Path) -> None:
    own = mine('target = "sandbox"\n')
    assert (process(folder=here).target, process(folder=here).origin) == ("sandbox", str(own))
    file = write(here, f'target = "prod"\n{PROD}')
    found = process(folder=here)
    assert (found.target, found.origin, found.name, found.production) == (URL, str(file), "prod", True)
    env = {"AGENTOPS_TARGET": "local"}
    assert (process(None, env, here).target, process(None, env, here).origin) == ("local", "AGENTOPS_TARGET")
    assert (process("sandbox", env, here).target, process("sandbox", env, here).origin) == ("sandbox", "--target")
    assert process("prod", env, here).production is True


def test_the_nearest_file_upward_counts_and_its_folder_is_the_project(here: Path) -> None:
    write(here, f'target = "prod"\n{PROD}')
    below = here / "a" / "b"
    below.mkdir(parents=True)
    assert process(folder=below).project == here
    write(here / "a", 'target = "sandbox"\n')
    assert (process(folder=below).target, process(folder=below).project) == ("sandbox", here / "a")


def test_a_name_of_the_user_is_known_everywhere_and_the_projects_goes_before_it(here: Path) -> None:
    mine('[targets.prod]\nurl = "local"\n[targets.mine]\nurl = "sandbox"\n')
    write(here, PROD)
    found = configuration.read(here).targets
    assert (found["prod"].url, found["mine"].url) == (URL, "sandbox")


def test_an_address_that_is_marked_as_production_is_so_by_whatever_way_it_is_given(here: Path) -> None:
    write(here, PROD)
    for given in ("prod", URL):
        found = process(given, {}, here)
        assert (found.name, found.production) == ("prod", True)
    assert process("supabase://" + "z" * 20, {}, here).production is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("target = ", "cannot be read"),
        ("target = 5", "target is no text"),
        ('[target.prod]\nurl = "local"', "target is no text"),
        ("targets = 3", "targets is no table"),
        ('[targets.prod]\nurls = "x"', "target prod has no url"),
        ("[targets]\nprod = 'local'", "target prod has no url"),
        ('[targets.prod]\nurl = "local"\nproduction = "yes"', "target prod has production = 'yes'"),
        ('[targets.prod]\nurl = "local"\nprodution = true', "target prod has prodution = True"),
        ('[targets.local]\nurl = "sandbox"', "'local' is no name for a target"),
        ('[targets."a b"]\nurl = "sandbox"', "'a b' is no name for a target"),
    ],
)
def test_what_it_may_not_say_is_refused_rather_than_passed_over(here: Path, text: str, words: str) -> None:
    write(here, text)
    with pytest.raises(UsageError) as found:
        configuration.read(here)
    assert words in found.value.message
    assert str(here) in found.value.message


@pytest.mark.parametrize("target", ["nobody", "supabase://short", "http://x", "supabase://ABCDEFGHIJKLMNOPQRST"])
def test_a_target_that_is_none_is_refused_with_the_names_that_could_be_meant(here: Path, target: str) -> None:
    write(here, f'target = "{target}"\n{PROD}')
    with pytest.raises(UsageError) as found:
        process(folder=here)
    assert "or by name: prod" in str(found.value.hint)


def test_choosing_keeps_comments_order_and_everything_else(here: Path) -> None:
    text = f"""# The stack of the shop.
owner = "me"

# Which one:
target = 'local'  # for now
{PROD}# The server behind it.
[targets.other]
url = "sandbox"
target_note = 1
"""
    file = write(here, text.replace("target_note = 1\n", ""))
    assert configuration.choose(file, "prod") is True
    assert file.read_text() == text.replace("target_note = 1\n", "").replace("target = 'local'", 'target = "prod"')
    assert configuration.choose(file, "prod") is False


@pytest.mark.parametrize("text", ["", "# only words\n", PROD, "\ufeff# x\n"[1:], "[targets]\n"])
def test_choosing_adds_the_line_where_there_is_none(here: Path, text: str) -> None:
    file = write(here, text)
    assert configuration.choose(file, "sandbox") is True
    assert configuration.read(here).chosen == "sandbox"
    assert file.read_text().endswith(text)


def test_choosing_makes_the_file_and_keeps_line_ends_links_and_permissions(here: Path) -> None:
    assert configuration.choose(here / "deep" / configuration.NAME, "local") is True
    assert (here / "deep" / configuration.NAME).read_text() == 'target = "local"\n'
    real = here / "dotfiles.toml"
    real.write_bytes(b'# x\r\ntarget = "local"\r\n')
    real.chmod(0o640)
    link = here / configuration.NAME
    link.symlink_to(real)
    assert configuration.choose(link, "sandbox") is True
    assert link.is_symlink()
    assert real.read_bytes() == b'# x\r\ntarget = "sandbox"\r\n'
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_file_in_another_style_is_left_alone(here: Path) -> None:
    for text in ('"target" = "local"\n', 'target = """local"""\n', "x = [\n[1],\n]\ntarget = 'local'\n"):
        file = write(here, text)
        with pytest.raises(UsageError, match="cannot be changed here"):
            configuration.choose(file, "sandbox")
        assert file.read_text() == text


def test_a_file_that_cannot_be_written_is_said(here: Path) -> None:
    (here / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        configuration.choose(here / "file" / configuration.NAME, "local")
