"""What a function's source is: its folder, what it imports, its settings; and what is refused before it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentops.errors import NotFound, UsageError
from agentops.platforms.supabase import sources
from tests.commands.line import typed

if TYPE_CHECKING:
    from tests.fakes.edge import Folder
    from tests.fakes.management_api import ManagementApi

INDEX = "functions/ai-one/index.ts"


def files(folder: Folder, slug: str = "ai-one") -> list[str]:
    """The paths of a function's source, below `supabase/functions/`."""
    return sorted(path.removeprefix("supabase/functions/") for path in sources.read(slug, folder.path).files)


def refused(folder: Folder, slug: str = "ai-one") -> str:
    """The sentence with which a source is refused."""
    with pytest.raises(UsageError) as found:
        sources.read(slug, folder.path)
    assert found.value.hint
    return found.value.message


def test_the_folder_comes_whole_with_what_it_reaches_outside(folder: Folder) -> None:
    folder.function("ai-one", imports='import { a } from "../_shared/a.ts";\nexport * from "./own.ts";\n')
    folder.write("functions/ai-one/own.ts", "import('../_shared/late.ts');\n")
    folder.write("functions/_shared/a.ts", "import './b.mjs';\nimport data from './c.json' with { type: 'json' };\n")
    for name in ("b.mjs", "c.json", "late.ts", "not_reached.ts"):
        folder.write(f"functions/_shared/{name}", "")
    assert files(folder) == [
        "_shared/a.ts",
        "_shared/b.mjs",
        "_shared/c.json",
        "_shared/late.ts",
        "ai-one/index.ts",
        "ai-one/own.ts",
    ]


def test_hidden_files_and_node_modules_stay_at_home(folder: Folder) -> None:
    folder.function("ai-one")
    for name in (".env", ".git/config", "node_modules/x/index.ts"):
        folder.write(f"functions/ai-one/{name}", "SECRET=1")
    assert files(folder) == ["ai-one/index.ts"]


@pytest.mark.parametrize("name", ["deno.json", "deno.jsonc", "import_map.json"])
def test_names_of_an_import_map_lead_to_files(folder: Folder, name: str) -> None:
    imports = (
        '{"imports": {"@/": "../_shared/", "one": "./lib/one.ts", "std/": "https://deno.land/std/", "x": "npm:x"}}'
    )
    folder.write(f"functions/ai-one/{name}", imports)
    folder.write("functions/ai-one/lib/one.ts", "")
    folder.write("functions/_shared/deep/a.ts", "")
    folder.function("ai-one", imports='import "@/deep/a.ts"; import "one"; import "std/x.ts"; import "x";\n')
    source = sources.read("ai-one", folder.path)
    assert source.import_map == f"supabase/functions/ai-one/{name}"
    assert files(folder) == ["_shared/deep/a.ts", f"ai-one/{name}", "ai-one/index.ts", "ai-one/lib/one.ts"]


def test_a_longer_name_that_is_a_package_goes_before_a_shorter_one_that_is_a_folder(folder: Folder) -> None:
    folder.write("functions/ai-one/deno.json", '{"imports": {"@/": "./", "@/std/": "jsr:@std/"}}')
    folder.function("ai-one", imports='import "@/std/path";\n')
    assert files(folder) == ["ai-one/deno.json", "ai-one/index.ts"]


def test_comments_and_commas_in_a_deno_json_are_understood(folder: Folder) -> None:
    text = '{ // one\n /* two */ "imports": { "a": "./a.ts", "u": "https://x/y//z", }, }\n'
    folder.write("functions/ai-one/deno.json", text)
    folder.write("functions/ai-one/a.ts", "")
    folder.function("ai-one", imports='import "a";\n')
    assert "ai-one/a.ts" in files(folder)


def test_a_deno_json_may_name_its_import_map(folder: Folder) -> None:
    folder.write("functions/ai-one/deno.json", '{"importMap": "../map.json"}')
    folder.write("functions/map.json", '{"imports": {"a": "./_shared/a.ts"}}')
    folder.write("functions/_shared/a.ts", "")
    folder.function("ai-one", imports='import "a";\n')
    assert files(folder) == ["_shared/a.ts", "ai-one/deno.json", "ai-one/index.ts", "map.json"]


def test_a_common_import_map_serves_functions_without_one(folder: Folder) -> None:
    folder.write("functions/import_map.json", '{"imports": {"a": "./_shared/a.ts"}}')
    folder.write("functions/_shared/a.ts", "")
    folder.function("ai-one", imports='import "a";\n')
    assert sources.read("ai-one", folder.path).import_map == "supabase/functions/import_map.json"


def test_what_only_looks_like_an_import_is_none(folder: Folder) -> None:
    folder.function(
        "ai-one",
        imports=(
            "// import './old.ts';\n/* from './older.ts' */\n"
            "const words = \"import './text.ts'\";\nconst usage = `\n  import './usage.ts'\n`;\n"
            "const web = 'https://example.org'; import './real.ts';\n"
            "Array.from('./x');\n"
        ),
    )
    folder.write("functions/ai-one/real.ts", "")
    assert files(folder) == ["ai-one/index.ts", "ai-one/real.ts"]


def test_static_files_and_settings_come_from_config_toml(folder: Folder) -> None:
    folder.write("functions/ai-one/main.ts", "")
    folder.write("templates/a.html", "a")
    folder.write("templates/b.txt", "b")
    folder.write("maps/one.json", "{}")
    folder.config(
        "[functions.ai-one]\nverify_jwt = false\nentrypoint = './functions/ai-one/main.ts'\n"
        "import_map = './maps/one.json'\nstatic_files = ['./templates/*.html']\n"
    )
    source = sources.read("ai-one", folder.path)
    assert (source.verify_jwt, source.entrypoint) == (False, "supabase/functions/ai-one/main.ts")
    assert (source.import_map, source.static_patterns) == ("supabase/maps/one.json", ("supabase/templates/*.html",))
    assert sorted(source.files) == [
        "supabase/functions/ai-one/main.ts",
        "supabase/maps/one.json",
        "supabase/templates/a.html",
    ]


def test_the_hash_covers_files_entrypoint_and_every_setting(folder: Folder) -> None:
    folder.function("ai-one")
    folder.write("functions/ai-one/other.ts", "")
    folder.write("functions/map.json", "{}")
    hashes = [sources.read("ai-one", folder.path).sha256] * 2
    for setting in (
        "verify_jwt = true",
        "verify_jwt = false",
        "entrypoint = './functions/ai-one/other.ts'",
        "import_map = './functions/map.json'",
        "static_files = ['./functions/ai-one/*']",
    ):
        folder.config(f"[functions.ai-one]\n{setting}\n")
        hashes.append(sources.read("ai-one", folder.path).sha256)
    folder.config("")
    folder.write("functions/ai-one/other.ts", "//")
    hashes.append(sources.read("ai-one", folder.path).sha256)
    assert len(set(hashes)) == len(hashes) - 1


def test_a_folder_without_an_entrypoint_is_refused(folder: Folder) -> None:
    folder.write("functions/ai-one/helper.ts", "")
    assert refused(folder).endswith("ai-one has no entrypoint")
    folder.config("[functions.ai-one]\nentrypoint = './functions/ai-one/gone.ts'\n")
    assert refused(folder) == "the entrypoint of ai-one is not there: supabase/functions/ai-one/gone.ts"


def test_more_than_five_megabytes_are_refused(folder: Folder) -> None:
    folder.function("ai-one")
    folder.write("functions/ai-one/big.bin", b"\xff" * 5_000_000)
    assert "bytes of source, the limit is 5,000,000" in refused(folder)


def test_a_name_that_is_no_slug_is_refused_and_not_passed_over(folder: Folder) -> None:
    folder.function("my.function")
    assert refused(folder, "my.function") == "'my.function' is no name for a function"
    assert sources.known(folder.path) == ["my.function"]
    with pytest.raises(NotFound, match="no function 'ai-none'"):
        sources.read("ai-none", folder.path)


def test_folders_of_tests_and_those_that_are_switched_off_are_no_functions(folder: Folder) -> None:
    for slug in ("ai-one", "ai-off"):
        folder.function(slug)
    folder.write("functions/tests/ai-one-test.ts", "")
    folder.write("functions/_shared/a.ts", "")
    folder.write("functions/docs/README.md", "")
    folder.write("functions/ai-broken/helper.ts", "")
    folder.config("[functions.ai-off]\nenabled = false\n")
    assert sources.known(folder.path) == ["ai-broken", "ai-one"]


def test_an_import_that_is_not_there_is_named_with_file_and_line(folder: Folder) -> None:
    folder.function("ai-one", imports="\n\nimport { a } from\n  './gone.ts';\n")
    assert refused(folder) == "supabase/functions/ai-one/index.ts:4 imports ./gone.ts, which is not there"


def test_an_import_outside_the_project_is_named_with_file_and_line(folder: Folder) -> None:
    folder.function("ai-one", imports="import '../../../../outside.ts';\n")
    (folder.path.parent / "outside.ts").write_text("")
    said = refused(folder)
    assert said.startswith("supabase/functions/ai-one/index.ts:1 imports ../../../../outside.ts, which lies outside")


def test_a_link_that_leads_outside_the_project_is_refused(folder: Folder) -> None:
    folder.function("ai-one")
    (folder.path.parent / "secret.txt").write_text("secret")
    (folder.path / "supabase/functions/ai-one/link.txt").symlink_to(folder.path.parent / "secret.txt")
    assert "link.txt lies outside the project folder" in refused(folder)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[functions.ai-one", "cannot be read"),
        ("functions = 3", "functions is no table"),
        ("[functions.ai-one]\nverify_jwt = 'no'", "verify_jwt of ai-one is 'no'"),
        ("[functions.ai-one]\nstatic_files = './x'", "static_files of ai-one is './x'"),
        ("[functions.ai-one]\nentrypoint = 1", "entrypoint of ai-one is 1"),
        ("[functions.ai-one]\nstatic_files = ['/etc/*']", "static files outside the project: /etc/*"),
        ("[functions.ai-one]\nstatic_files = ['../../*']", "static files outside the project: ../*"),
        ("[functions.ai-one]\nimport_map = './gone.json'", "gone.json cannot be read: No such file or directory"),
        ("[functions.ai-one]\nentrypoint = '../../outside.ts'", "outside.ts"),
    ],
)
def test_broken_settings_are_refused(folder: Folder, config: str, words: str) -> None:
    folder.function("ai-one")
    folder.config(config)
    assert words in refused(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"imports": []}', "\x00"])
def test_a_broken_deno_json_is_refused(folder: Folder, text: str) -> None:
    folder.function("ai-one")
    folder.write("functions/ai-one/deno.json", text)
    assert "supabase/functions/ai-one/deno.json is no" in refused(folder)


@pytest.mark.parametrize(
    ("functions", "config"),
    [
        ("supabase/functions", "supabase/config.toml"),
        ("apps/shop/supabase/functions", "apps/shop/supabase/config.toml"),
        ("edge", "supabase/config.toml"),
        ("apps/edge", "supabase/config.toml"),
    ],
)
def test_another_folder_is_read_with_the_config_toml_of_its_supabase_folder(
    folder: Folder, functions: str, config: str
) -> None:
    own = folder.path / functions
    (own / "ai-one").mkdir(parents=True)
    (own / "_shared").mkdir()
    (own / "ai-one" / "index.ts").write_text("import '../_shared/a.ts';\nimport 'b';\n")
    (own / "_shared" / "a.ts").write_text("")
    (own / "b.ts").write_text("")
    (own / "import_map.json").write_text('{"imports": {"b": "./b.ts"}}')
    (folder.path / config).parent.mkdir(parents=True, exist_ok=True)
    (folder.path / config).write_text("[functions.ai-one]\nverify_jwt = false\n[functions.ai-off]\nenabled = false\n")
    (own / "ai-off").mkdir()
    (own / "ai-off" / "index.ts").write_text("")
    assert sources.known(folder.path, own) == ["ai-one"]
    source = sources.read("ai-one", folder.path, own)
    assert source.verify_jwt is False
    assert (source.entrypoint, source.import_map) == (
        f"{functions}/ai-one/index.ts",
        f"{functions}/import_map.json",
    )
    assert sorted(source.files) == [
        f"{functions}/_shared/a.ts",
        f"{functions}/ai-one/index.ts",
        f"{functions}/b.ts",
        f"{functions}/import_map.json",
    ]


@pytest.mark.parametrize("away", ["other/supabase/functions", "other/functions"])
def test_a_folder_outside_the_project_has_a_root_of_its_own(folder: Folder, away: str) -> None:
    own = folder.path.parent / away
    (own / "ai-one").mkdir(parents=True)
    (own / "ai-one" / "index.ts").write_text("import '../../../../outside.ts';\n")
    with pytest.raises(UsageError, match="lies outside"):
        sources.read("ai-one", folder.path, own)
    (own / "ai-one" / "index.ts").write_text("")
    (found,) = sources.read("ai-one", folder.path, own).files
    assert found == away.removeprefix("other/") + "/ai-one/index.ts"


def test_nothing_is_sent_of_what_is_refused_and_the_exit_code_is_2(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one", imports="import './gone.ts';\n")
    folder.function("bad.slug")
    done = typed("deploy", "all", "--json")
    assert (done.code, [each["status"] for each in done.json]) == (2, ["failed", "failed"])
    assert "index.ts:1 imports ./gone.ts" in done.err
    assert project_api.writes == []
    folder.config("nonsense")
    broken = typed("deploy", "all")
    assert (broken.code, "config.toml cannot be read" in broken.err) == (2, True)
    assert project_api.writes == []
