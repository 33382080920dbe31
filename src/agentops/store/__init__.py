"""Rows in, frozen dataclasses out: one module and one .sql file per table."""
