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
        ('[targets.prod]\nurl = "local"\nproduction = "yes"', "targets.prod.production is a text"),
        ('[targets.prod]\nurl = "local"\nprodution = true', "no field is called targets.prod.prodution"),
        ('[targets.prod]\nurl = "local"\nserver = 5', "targets.prod.server is a number"),
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
        ('functions = "~nobody-here-of-that-name/x"', "functions names the home folder of a user who has none"),
        ("whatsapp.phone_number_id = 0x" + "f" * 4000, "whatsapp.phone_number_id is not what it has to be"),
        ("x = " + "1" * 5000, "cannot be read: a number in it is too long"),
        ("x = " + "[" * 3000, "cannot be read: it is nested too deeply"),
        ("x" + ".x" * 3000 + " = 1", "cannot be read: it is nested too deeply"),
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
        ('slack.channel = "T0AAAAAAA/B0BBBBBBB/hunter2hunter2"', "secrets set SLACK_WEBHOOK_URL"),
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


@pytest.mark.parametrize(
    "text",
    [
        '[targets.prod]\nurl = "local"\nserver = ["postgresql://ops:hunter2@db/x"]',
        '[targets.prod]\nurl = "local"\nproduction = "hunter2"',
        '[targets.prod]\nurl = "local"\nserver = "mysql://ops:hunter2@db/x"\n',
        'target = "postgres:ops:hunter2/x"',
        '[targets."ops:hunter2"]\nurl = "local"',
        '"ops:hunter2" = 1',
        'slack.channel = "ops:hunter2"',
    ],
)
def test_a_value_where_it_does_not_belong_is_never_repeated(here: Path, text: str) -> None:
    write(here, text)
    with pytest.raises(UsageError) as found:
        process("prod" if "mysql" in text else None, {}, here)
    assert "hunter2" not in f"{found.value.message} {found.value.hint}"


def test_a_file_that_may_not_be_read_is_said_in_one_sentence(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "loop").symlink_to("loop")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(here / "loop"))
    with pytest.raises(UsageError, match=r"agentops\.toml cannot be read: Too many levels"):
        configuration.read(here)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where the user is in no list
    with pytest.raises(UsageError, match="this user has no home folder"):
        configuration.read(here)


def test_one_who_goes_on_hears_of_each_thing_and_has_all_the_rest(here: Path) -> None:
    write(
        here,
        f"""target = "prod"
functions = "~nobody-here-of-that-name/x"
owner = "me"
slack = "#x"
[whatsapp]
phone_number_id = "abc"
token = "hunter2"
[targets."a b"]
url = "local"
[targets.other]
url = 5
[targets.prod]
url = "{URL}"
server = "postgresql://me:eyJhunter2hunter2.@db/stack"
production = "hunter2"
prodution = true
slack.channel = "#prod"
""",
    )
    heard: list[UsageError] = []
    found = process(None, {"AGENTOPS_HOME": "/h"}, here, heard.append)
    assert (found.name, found.target, found.channel) == ("prod", URL, "#prod")
    assert found.server == "postgresql://me:eyJhunter2hunter2.@db/stack"
    said = "\n".join(each.message for each in heard)
    for word in (
        "functions names", "called owner", "slack is no table", "whatsapp.phone_number_id is", "whatsapp.token looks",
        "'a b' is no name", "other has no url", "targets.prod.server looks", "targets.prod.production is a text",
        "called targets.prod.prodution",
    ):  # fmt: skip
        assert word in said
    assert "hunter2" not in said


def test_where_what_names_the_target_cannot_be_read_nobody_goes_on(here: Path) -> None:
    own = mine('target = "sandbox"\n')
    file = write(here, "target = = 1\n")
    heard: list[UsageError] = []

    def told(target: str | None = None, env: str | None = None, folder: Path = here) -> str:
        heard.clear()
        return process(target, {"AGENTOPS_TARGET": env} if env else {}, folder, heard.append).target

    for text in ("target = = 1\n", "target = 5\n"):
        file.write_text(text)
        with pytest.raises(UsageError, match="which target is meant cannot be known") as found:
            told()
        assert "--target supabase://<ref>" in str(found.value.hint)
        assert (told(URL), told(None, URL), told("local")) == (URL, URL, "local")
        assert str(file) in heard[0].message
    # What goes before it counts, whatever it says; and what of it can be read.
    own.write_text("target = = 1\n")
    file.write_text('target = "sandbox"\n')
    assert told() == "sandbox"
    file.write_text(f'target = 5\n[targets.prod]\nurl = "{URL}"\n')
    assert told("prod") == URL
    # A name that stands in the project's file is never taken for the user's.
    file.write_text("[targets.prod]\nurl = 5\n")
    own.write_text(PROD)
    with pytest.raises(UsageError, match="names no target: 'prod'"):
        told("prod")


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


@pytest.mark.parametrize(
    ("given", "name", "asked"),
    [
        ("postgres://me@db.example/big", "big", "big"),
        ("postgresql://db.example/big?application_name=x", "big", "big"),
        ("postgresql://me:s3cret@db.example/stack", None, "prod"),
        ("postgres://db.example:5432/stack?sslmode=require", None, "prod"),
        ("postgresql://db.example/small", "small", None),
        ("postgresql://db.example/other", None, None),
    ],
)
def test_production_is_known_by_any_address_of_its_database_and_so_is_the_server_behind_it(
    here: Path, given: str, name: str | None, asked: str | None
) -> None:
    write(
        here,
        f"""[targets.big]
url = "postgresql://db.example:5432/big"
production = true
[targets.small]
url = "postgresql://db.example/small"
{PROD}server = "postgresql://me@db.example/stack"
""",
    )
    found = process(given, {}, here)
    assert (found.name, found.confirmation, found.production) == (name, asked, asked is not None)
    # The address that was given is the way there, not the one of the file.
    assert found.target == given


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
