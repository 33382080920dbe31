"""Modules of bundles are forgotten, whatever else imports at that moment."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

from agentops import modules

ROUNDS = 300


def test_a_bundle_is_forgotten_while_another_thread_imports() -> None:
    stop, interval = threading.Event(), sys.getswitchinterval()
    names = [f"imported_meanwhile_{number}" for number in range(20)]

    def import_and_forget() -> None:
        while not stop.is_set():
            for name in names:
                sys.modules[name] = ModuleType(name)
            for name in names:
                sys.modules.pop(name, None)

    thread = threading.Thread(target=import_and_forget)
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(ROUNDS):
            modules.unload("agentops_bundles.of_nobody")
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
