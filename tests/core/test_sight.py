"""Who sees what: the rule as SQL and as Python, and that it is the one that the page tells."""

import sqlite3
from itertools import product

import pytest

from kickwheel.core.store import EVERYTHING, Sight

ROWS = list(product(("", "clinic", "bank"), ("", "ann", "bob")))
"""Tenants and users that a row may bear."""


@pytest.mark.parametrize(
    ("sight", "shown"),
    [
        (EVERYTHING, ROWS),
        (Sight("clinic", "ann"), [("clinic", ""), ("clinic", "ann"), ("clinic", "bob")]),
        (Sight("bank"), [("bank", ""), ("bank", "ann"), ("bank", "bob")]),
        (Sight("", "ann"), [("", "ann")]),
        (Sight("", ""), []),
    ],
)
def test_a_database_and_a_program_see_the_same_rows(
    sight: Sight, shown: list[tuple[str, str]]
) -> None:
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE thing (tenant TEXT, asker TEXT)")
        database.executemany("INSERT INTO thing VALUES (?, ?)", ROWS)
        condition, values = sight.where("t.")
        found = database.execute(f"SELECT tenant, asker FROM thing AS t WHERE {condition}", values)
        assert sorted(found.fetchall()) == sorted(shown)
    assert [row for row in ROWS if sight.sees(*row)] == shown
