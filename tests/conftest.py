"""Fixtures that every room's tests may use."""

from tests.postgres import database, postgres, postgres_url

__all__ = ["database", "postgres", "postgres_url"]
