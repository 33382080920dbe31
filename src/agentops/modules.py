"""Modules from memory: runs a bundle's files as a package of its own, so that several versions live in one process.

    load(name, files, entrypoint) → sys.modules["agentops_deployed.<name>"] → the entrypoint's module
    unload(package)               → gone again; whoever still holds its functions keeps them

Relative imports between the files work, tracebacks show their lines, `pkgutil.get_data(__package__, …)` reads the
files that are no Python. A bundle is the operator's own code: running it is the point, catching its errors is ours.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import inspect
import sys
import traceback
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from agentops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import CodeType, ModuleType

    from agentops.web import Request, Response

    Handle = Callable[[Request, object], Awaitable[Response]]

ROOT = "agentops_deployed"
# What running someone's module may raise. Ctrl-C and cancellation stay what they are.
FAILURES = (Exception, SystemExit)


@dataclass(frozen=True, slots=True)
class _Files:
    """One package's files by relative path; `label` stands before them in tracebacks."""

    label: str
    texts: Mapping[str, str]

    def find(self, dotted: str) -> tuple[str, bool] | None:
        """The path of a module named relative to the package, and whether it is a package; "" for a bare folder."""
        stem = dotted.replace(".", "/")
        package = f"{stem}/__init__.py" if stem else "__init__.py"
        if package in self.texts:
            return package, True
        if not stem:
            return "", True
        if f"{stem}.py" in self.texts:
            return f"{stem}.py", False
        return ("", True) if any(path.startswith(stem + "/") for path in self.texts) else None


class _Memory(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads `agentops_deployed.<name>` and what is below it."""

    def __init__(self) -> None:
        self.packages: dict[str, _Files] = {}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - importlib's own signature
        target: ModuleType | None = None,  # noqa: ARG002 - importlib's own signature
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == ROOT:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        files, dotted = self._files(fullname)
        found = files.find(dotted) if files else None
        if files is None or found is None:
            return None
        spec = importlib.machinery.ModuleSpec(
            fullname, self, origin=f"{files.label}/{found[0] or '__init__.py'}", is_package=found[1]
        )
        spec.has_location = True
        return spec

    def is_package(self, fullname: str) -> bool:
        return fullname == ROOT or self._path(fullname)[1]

    def get_source(self, fullname: str) -> str:
        files, _ = self._files(fullname)
        path = self._path(fullname)[0] if files else ""
        return files.texts[path] if files and path else ""

    def get_code(self, fullname: str) -> CodeType:
        files, _ = self._files(fullname)
        label = files.label if files else ROOT
        path = self._path(fullname)[0] if files else ""
        return compile(self.get_source(fullname), f"{label}/{path or '__init__.py'}", "exec", dont_inherit=True)

    def get_data(self, path: str) -> bytes:
        for files in self.packages.values():
            text = files.texts.get(path.removeprefix(files.label + "/"))
            if path.startswith(files.label + "/") and text is not None:
                return text.encode()
        raise FileNotFoundError(path)

    def _files(self, fullname: str) -> tuple[_Files | None, str]:
        root, _, rest = fullname.partition(".")
        name, _, dotted = rest.partition(".")
        return (self.packages.get(f"{ROOT}.{name}") if root == ROOT else None), dotted

    def _path(self, fullname: str) -> tuple[str, bool]:
        files, dotted = self._files(fullname)
        found = files.find(dotted) if files else None
        if found is None:
            raise ImportError(f"no module named {fullname!r}", name=fullname)
        return found


_memory = _Memory()


def load(name: str, files: Mapping[str, str], entrypoint: str, label: str) -> ModuleType:
    """Import a bundle as `agentops_deployed.<name>` (a number is added where that name is taken).

    Args:
        name: letters, digits, underscores.
        files: texts by relative path.
        entrypoint: the path of the file that is imported and returned.
        label: what stands before a file's path in tracebacks.

    Raises:
        Exception, SystemExit: whatever the code raises; nothing of it stays behind.
    """
    if _memory not in sys.meta_path:
        sys.meta_path.append(_memory)
    package = free = f"{ROOT}.{name}"
    number = 1
    while package in _memory.packages:
        number += 1
        package = f"{free}_{number}"
    _memory.packages[package] = _Files(label, files)
    stem = ".".join(PurePosixPath(entrypoint).with_suffix("").parts)
    try:
        return importlib.import_module(package if entrypoint == "__init__.py" else f"{package}.{stem}")
    except BaseException:
        unload(package)
        raise


def package_of(module: ModuleType) -> str:
    """The package, for `unload`, of a module that `load` gave."""
    return ".".join(module.__name__.split(".")[:2])


def unload(package: str) -> None:
    """Forget a package and its modules. Code that still runs in it keeps running, but imports no more of it."""
    _memory.packages.pop(package, None)
    # Another thread may be importing: the names are taken in one step, and one of them may be gone.
    for name in [name for name in list(sys.modules) if name == package or name.startswith(package + ".")]:
        sys.modules.pop(name, None)
    parent = sys.modules.get(ROOT)
    if parent is not None:
        vars(parent).pop(package.rpartition(".")[2], None)


def handle_of(module: ModuleType) -> Handle:
    """The module's `handle`.

    Raises:
        UsageError: it has none, or it is no `async def`.
    """
    handle: Handle | None = getattr(module, "handle", None)
    where = getattr(module, "__file__", None) or module.__name__
    if handle is None:
        raise UsageError(f"{where}:1: has no handle", "define: async def handle(request, stack)")
    if not (inspect.iscoroutinefunction(handle) or inspect.iscoroutinefunction(getattr(handle, "__call__", None))):  # noqa: B004 - it may be an object with an async __call__
        line = getattr(getattr(handle, "__code__", None), "co_firstlineno", 1)
        raise UsageError(f"{where}:{line}: handle is no coroutine function", "define: async def handle(request, stack)")
    return handle


def finding(error: BaseException, label: str) -> str:
    """`file:line: Type: message` of an error: the line where the bundle's own files were left, else the last one."""
    if isinstance(error, UsageError):
        return error.message
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(label + "/")]
    shown = own or list(frames)
    return f"{shown[-1].filename}:{shown[-1].lineno}: {words}" if shown else words
