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
        ('[targets.prod]\nurl = "local"\nprodution = true', "no field is called targets.prod.prodution"),
        ('[targets.prod]\nurl = "local"\nserver = 5', "target prod has server = 5"),
        ('owner = "me"', "no field is called owner"),
        ('[slak]\nchannel = "#x"', "no field is called slak"),
        ('[slack]\nchanel = "#x"', "no field is called slack.chanel"),
        ('slack = "#x"', "slack is no table"),
        ('[slack]\nchannel = ["#x"]', "slack.channel is not what it has to be"),
        ('[slack]\nchannel = "two words"', "slack.channel is not what it has to be"),
        ('[whatsapp]\nphone_number_id = "+250 788"', "whatsapp.phone_number_id is not what it has to be"),
        ("[whatsapp]\nbusiness_account_id = true", "whatsapp.business_account_id is not what it has to be"),
        ('functions = ""', "functions is not what it has to be"),
        ('[targets.prod]\nurl = "local"\nwhatsapp.phone = 1', "no field is called targets.prod.whatsapp.phone"),
        ('[targets.prod]\nurl = "local"\nslack = 1', "targets.prod.slack is no table"),
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


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('[slak]\nchannel = "#x"', "did you mean slack?"),
        ('function = "x"', "did you mean functions?"),
        ('[targets.prod]\nurl = "local"\nprodution = true', "did you mean targets.prod.production?"),
    ],
)
def test_a_misspelt_field_gets_the_one_that_was_meant(here: Path, text: str, meant: str) -> None:
    write(here, text)
    with pytest.raises(UsageError) as found:
        configuration.read(here)
    assert meant in str(found.value.hint)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('slack.channel = "https://hooks.slack.com/services/T0/B0/hunter2hunter2"', "secrets set SLACK_WEBHOOK_URL"),
        ('slack.webhook = "https://chat.example/hunter2"', "secrets set SLACK_WEBHOOK_URL"),
        ('[targets.prod]\nurl = "local"\n[targets.prod.slack]\nwebhook_url = "hunter2"', "set SLACK_WEBHOOK_URL"),
        ('[whatsapp]\ntoken = "EAAhunter2hunter2hunter2"', "secrets set WA_TOKEN"),
        ('[whatsapp]\napp_secret = "hunter2"', "secrets set WA_APP_SECRET"),
        ('[whatsapp]\nphone_number_id = "hunter2hunter2hunter2hunter2"', "secrets set NAME"),
        ('OPENAI_API_KEY = "hunter2"', "secrets set OPENAI_API_KEY"),
        ('key = "sk-proj-hunter2hunter2hunter2"', "secrets set OPENAI_API_KEY"),
        ('target = "sbp_hunter2hunter2hunter2"', "agentops login"),
        ('[targets.prod]\nurl = "local"\npassword = "hunter2"', "secrets set NAME"),
        ('[targets.prod]\nurl = "local"\nservice_key = "eyJhbGciOiJIUzI1NiJ9.hunter2"', "secrets set NAME"),
        ('list = [{inner = "xoxb-hunter2hunter2"}]', "secrets set NAME"),
    ],
)
def test_a_secret_is_refused_with_the_command_that_keeps_it_and_never_repeated(
    here: Path, text: str, command: str
) -> None:
    write(here, text)
    with pytest.raises(UsageError) as found:
        process(folder=here)
    said = f"{found.value.message} {found.value.hint}"
    assert "looks like a secret" in said
    assert command in said
    assert "hunter2" not in said


def test_ids_channels_folders_and_addresses_are_no_secrets(here: Path) -> None:
    write(
        here,
        f"""target = "prod"
functions = "apps/backend-2026/supabase/functions"
[slack]
channel = "C0123456789"
[whatsapp]
phone_number_id = 106540352242922
business_account_id = "102290129340398"
[targets.prod]
url = "{URL}"
server = "postgresql://me:s3cret@db.example:5432/stack_2026"
""",
    )
    found = process(folder=here)
    assert found.functions == here / "apps/backend-2026/supabase/functions"
    assert (found.channel, found.told(configuration.PHONE_NUMBER_ID)) == ("C0123456789", "106540352242922")


# One field of agentops.toml: what it says in the project's file and in the user's, for all targets and for one.
LEVELS = {
    "functions": ("functions = '{}'", "functions = '{}'"),
    "slack.channel": ("slack.channel = '#{}'", "slack.channel = '#{}'"),
    "whatsapp.phone_number_id": ("[whatsapp]\nphone_number_id = '{}'", "whatsapp.phone_number_id = '{}'"),
    "whatsapp.business_account_id": ("[whatsapp]\nbusiness_account_id = '{}'", "whatsapp.business_account_id = '{}'"),
}


@pytest.mark.parametrize("path", LEVELS)
def test_a_field_of_the_target_goes_before_the_projects_before_the_users_before_the_default(
    here: Path, path: str
) -> None:
    beside, own = LEVELS[path]

    def told() -> tuple[str | None, Path | None]:
        found = process("prod", {}, here).said.get(path)
        return (found.text.rpartition("/")[2].lstrip("#"), found.origin) if found else (None, None)

    write(here, PROD)
    assert told() == (None, None)
    user = mine(beside.format("1"))
    assert told() == ("1", user)
    file = write(here, f"{beside.format('2')}\n{PROD}")
    assert told() == ("2", file)
    write(here, f"{beside.format('2')}\n{PROD}{own.format('3')}\n")
    assert told() == ("3", file)
    # A target's own field in the user's file is about that target: it goes before what is said of all.
    write(here, beside.format("2"))
    mine(f"{beside.format('1')}\n{PROD}{own.format('4')}\n")
    assert told() == ("4", user)
    # Another target has what is said of all.
    found = process("local", {}, here).said[path]
    assert found.text.endswith("2")


def test_production_and_server_are_those_of_the_target_that_flag_environment_or_file_choose(here: Path) -> None:
    server = "postgresql://db/stack"
    mine(f'[targets.prod]\nurl = "sandbox"\n[targets.own]\nurl = "{URL[:-1]}z"\nproduction = true\n')
    write(here, f'target = "open"\n{PROD}server = "{server}"\n[targets.open]\nurl = "postgresql://db/open"\n')

    def told(flag: str | None, env: str | None) -> tuple[str | None, bool, str | None]:
        found = process(flag, {"AGENTOPS_TARGET": env} if env else {}, here)
        return found.name, found.production, found.server

    assert told(None, None) == ("open", False, None)
    assert told(None, "prod") == ("prod", True, server)
    assert told("open", "prod") == ("open", False, None)
    assert told("own", "prod") == ("own", True, None)
    assert told("local", "prod") == (None, False, None)


def test_an_address_with_several_names_is_production_where_any_of_them_says_so(here: Path) -> None:
    user = mine(PROD)
    write(here, f'[targets.live]\nurl = "{URL}"\n')
    assert process("live", {}, here).production is True
    assert process("live", {}, here).said["production"].origin == user
    assert process(URL, {}, here).name == "prod"


def test_a_functions_folder_is_seen_from_the_file_that_names_it(here: Path) -> None:
    below = here / "a" / "b"
    below.mkdir(parents=True)
    write(here, 'functions = "stack/../other"\n')
    assert process(None, {}, below).functions == here / "other"
    write(here, 'functions = "/srv/functions"\n')
    assert str(process(None, {}, below).functions) == "/srv/functions"
    (here / configuration.NAME).unlink()
    user = mine('functions = "mine"\n')
    assert process(None, {}, below).functions == user.parent / "mine"


def test_without_a_word_functions_are_where_each_kind_of_target_has_them(here: Path) -> None:
    write(here, PROD)
    assert process("local", {}, here).functions == here / "functions"
    assert process("prod", {}, here).functions == here / "supabase" / "functions"


def test_a_folder_that_is_named_and_not_there_is_refused_where_it_is_needed(here: Path) -> None:
    write(here, 'functions = "gone"\n')
    found = process(None, {}, here)
    with pytest.raises(UsageError, match=r"functions names .*gone, which is no folder"):
        found.functions_there()
    (here / "gone").mkdir()
    assert found.functions_there() == here / "gone"


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
