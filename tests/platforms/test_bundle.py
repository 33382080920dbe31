"""Where a function's source comes from, and when it counts as another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentops.errors import NotFound, UsageError
from agentops.platforms import bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    """The `functions` folder of a project in `tmp_path`."""
    folder = tmp_path / "functions"
    folder.mkdir()
    return folder


def test_a_folder_a_file_and_the_package_are_looked_in_in_this_order(functions: Path, tmp_path: Path) -> None:
    packaged = bundle.read("ai-create-voucher", tmp_path)
    assert (packaged.packaged, list(packaged.files)) == (True, ["ai_create_voucher.py"])
    (functions / "ai_create_voucher.py").write_text("x = 1\n")
    single = bundle.read("ai-create-voucher", tmp_path)
    assert (single.packaged, single.folder, single.entrypoint) == (False, str(functions), "ai_create_voucher.py")
    (functions / "ai-create-voucher" / "parts").mkdir(parents=True)
    (functions / "ai-create-voucher" / "main.py").write_text("x = 2\n")
    (functions / "ai-create-voucher" / "parts" / "a.py").write_text("")
    folder = bundle.read("ai-create-voucher", tmp_path)
    assert (list(folder.files), folder.entrypoint) == (["main.py", "parts/a.py"], "main.py")
    assert folder.folder == str(functions / "ai-create-voucher")


def test_another_folder_is_looked_in_instead(functions: Path, tmp_path: Path) -> None:
    (functions / "ai_one.py").write_text("x = 1\n")
    other = tmp_path / "stack" / "python"
    other.mkdir(parents=True)
    (other / "ai_two.py").write_text("x = 2\n")
    assert bundle.project_slugs(tmp_path, other) == ["ai-two"]
    assert bundle.read("ai-two", tmp_path, other).folder == str(other)
    assert set(bundle.known(tmp_path, other)) == {"ai-two", *bundle.packaged_slugs()}
    with pytest.raises(NotFound):
        bundle.read("ai-one", tmp_path, other)


def test_the_hash_is_of_the_content_and_not_of_the_place(functions: Path, tmp_path: Path) -> None:
    (functions / "a.py").write_text("x = 1\n")
    before = bundle.read("a", tmp_path).sha256
    (functions / "__pycache__").mkdir()
    (functions / "a.py").touch()
    assert bundle.read("a", tmp_path).sha256 == before
    (functions / "a.py").write_text("x = 2\n")
    assert bundle.read("a", tmp_path).sha256 != before


def test_only_what_can_be_a_slug_is_one(functions: Path, tmp_path: Path) -> None:
    for name in ("good_one.py", "Bad.py", "_hidden.py", "1st.py", "with.dot.py"):
        (functions / name).write_text("")
    (functions / "empty").mkdir()
    assert bundle.project_slugs(tmp_path) == ["good-one"]
    for slug in ("../functions/good_one", "good_one/", "Bad", ""):
        with pytest.raises(NotFound, match="no function is named"):
            bundle.read(slug, tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\x00b"])
def test_what_is_no_text_is_refused(functions: Path, tmp_path: Path, content: bytes) -> None:
    (functions / "a.py").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.py"):
        bundle.read("a", tmp_path)


def test_a_folder_without_an_entrypoint_is_refused(functions: Path, tmp_path: Path) -> None:
    (functions / "a").mkdir()
    (functions / "a" / "other.py").write_text("")
    with pytest.raises(UsageError, match="no entrypoint"):
        bundle.read("a", tmp_path)
