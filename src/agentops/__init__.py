"""The runbook of an AI agent stack as scripted, idempotent commands, and the server that runs its functions."""

__version__ = "0.1.0"
