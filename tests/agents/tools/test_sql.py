import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agents.tools.desk import call, mistakes, opened

from kickwheel.agents.tools import InvalidArguments, Tool
from kickwheel.agents.tools.sql import Sql
from kickwheel.agents.tools.statement import reading
from kickwheel.agents.tools.tables import Column, Table, summary
from kickwheel.core.errors import ToolError, UsageError

SCHEMA = (
    "CREATE TABLE customers (id INTEGER PRIMARY KEY, name VARCHAR(40) NOT NULL)",
    "CREATE TABLE orders (number INTEGER PRIMARY KEY, customer INTEGER NOT NULL "
    "REFERENCES customers(id), total NUMERIC(8,2), placed DATE)",
    "INSERT INTO customers VALUES (1, 'Ann'), (2, 'O''Hara'), (3, NULLIF('Bob', ''))",
    "INSERT INTO orders VALUES (10, 1, 12.50, '2026-11-24'), (11, 2, 7, '2026-11-25'), "
    "(12, 1, NULL, NULL)",
)
HOURS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of the little order database, on each kind of server."""
    if request.param == "sqlite":
        url = "sqlite:///orders.db"
        with closing(sqlite3.connect(tmp_path / "orders.db")) as made, made:
            for statement in SCHEMA:
                made.execute(statement)
        yield url
        return
    socket: Path = request.getfixturevalue("postgres")
    url = f"postgresql+psycopg://kickwheel@/postgres?host={socket}"
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as made_there:
        for statement in ("DROP TABLE IF EXISTS orders, customers", *SCHEMA):
            made_there.exec_driver_sql(statement)
    engine.dispose()
    yield url


async def ask(tools: dict[str, Tool], statement: str, **more: Any) -> str:
    return await tools["desk_query"].call({"statement": statement, **more})


async def test_rows_come_as_lines_of_json(tmp_path: Path, url: str) -> None:
    async with opened(Sql, tmp_path, url=url) as tools:
        assert await ask(tools, "SELECT number, total, placed FROM orders ORDER BY number") == (
            '["number","total","placed"]\n'
            '[10,12.50,"2026-11-24"]\n[11,7.00,"2026-11-25"]\n[12,null,null]'
        ).replace(".50", ".5" if "sqlite" in url else ".50").replace(
            "7.00", "7" if "sqlite" in url else "7.00"
        )
        assert await ask(tools, "SELECT name FROM customers WHERE id = 9") == '["name"]\n(no rows)'


async def test_values_are_no_part_of_the_statement(tmp_path: Path, url: str) -> None:
    async with opened(Sql, tmp_path, url=url) as tools:
        asked = "SELECT id FROM customers WHERE name = :name AND ':x' <> '12:30'"
        for name, found in (("O'Hara", "\n[2]"), ("' OR 1=1 --", "\n(no rows)")):
            assert await ask(tools, asked, parameters={"name": name}) == f'["id"]{found}'
        with pytest.raises(InvalidArguments, match='no value for ":name"'):
            await ask(tools, asked)
        with pytest.raises(InvalidArguments, match='the value "nmae" stands nowhere'):
            await ask(tools, asked, parameters={"name": "a", "nmae": "b"})


async def test_a_long_answer_has_pages(tmp_path: Path, url: str) -> None:
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 4) "
        "SELECT i FROM n ORDER BY i"
    )
    async with opened(Sql, tmp_path, url=url, rows=2) as tools:
        assert await ask(tools, numbers) == (
            '["i"]\n[0]\n[1]\n(rows 1 to 2; there are more: ask again with start=2)'
        )
        assert await ask(tools, numbers, start=4) == '["i"]\n[4]'
        assert await ask(tools, numbers, start=9) == '["i"]\n(no rows after row 9)'
    async with opened(Sql, tmp_path, url=url, result_chars=100) as tools:
        wide = "SELECT 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' AS x, number FROM orders ORDER BY number"
        assert (await ask(tools, wide)).endswith(
            "(rows 1 to 2; there are more: ask again with start=2)"
        )


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM orders",
        "INSERT INTO customers VALUES (9, 'x')",
        "UPDATE orders SET total = 0",
        "DROP TABLE orders",
        "CREATE TABLE x (a INTEGER)",
        "CREATE TEMP TABLE x (a INTEGER)",
        "SELECT 1; DELETE FROM orders",
        "SELECT 1 -- ;\n; DELETE FROM orders",
        "SELECT * INTO x FROM orders",
        "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone",
        "SELECT * FROM orders FOR UPDATE",
        "EXPLAIN ANALYZE DELETE FROM orders",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = 1",
        "ATTACH DATABASE '/etc/passwd' AS p",
        "VACUUM INTO '/tmp/copy.db'",
        "COPY orders TO PROGRAM 'cat'",
        "SET TRANSACTION READ WRITE",
        "BEGIN",
        "COMMIT",
        "DO $$ BEGIN DELETE FROM orders; END $$",
        "CALL gone()",
        "SELECT load_extension('x')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT query_to_xml('DELETE FROM orders', true, true, '')",
        "",
        ";",
        "SELEC 1",
        "not sql at all (",
    ],
)
async def test_what_is_no_single_reading_statement_is_refused(
    tmp_path: Path, url: str, statement: str
) -> None:
    async with opened(Sql, tmp_path, url=url) as tools:
        with pytest.raises(InvalidArguments):
            await ask(tools, statement)
        assert await ask(tools, "SELECT count(*) AS n FROM orders") == '["n"]\n[3]'


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM orders",
        "CREATE TABLE x (a INTEGER)",
        "PRAGMA query_only = OFF",
        "ATTACH DATABASE 'other.db' AS p",
        "SET TRANSACTION READ WRITE",
        "SELECT set_config('transaction_read_only', 'off', false)",
    ],
)
async def test_the_database_refuses_what_the_reading_of_statements_would_let_through(
    tmp_path: Path, url: str, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kickwheel.agents.tools import sql
    from kickwheel.agents.tools.statement import Statement

    monkeypatch.setattr(sql, "reading", lambda text, values, dialect: Statement(text, values))
    async with opened(Sql, tmp_path, url=url) as tools:
        with pytest.raises((InvalidArguments, ToolError)):
            await ask(tools, statement)
        with pytest.raises((InvalidArguments, ToolError)):
            await ask(tools, "DELETE FROM orders")
        assert await ask(tools, "SELECT count(*) AS n FROM orders") == '["n"]\n[3]'
    assert not (tmp_path / "other.db").exists()


async def test_a_query_that_takes_too_long_is_stopped_in_the_database(
    tmp_path: Path, url: str
) -> None:
    before = set(threading.enumerate())
    async with opened(Sql, tmp_path, url=url, timeout_s=0.3) as tools:
        with pytest.raises(ToolError, match=r"stopped after 0\.3 s") as raised:
            await ask(tools, HOURS)
        assert raised.value.lasting
        assert await idle(url, before)


async def test_a_query_that_nobody_waits_for_is_stopped_in_the_database(
    tmp_path: Path, url: str
) -> None:
    before = set(threading.enumerate())
    async with opened(Sql, tmp_path, url=url, timeout_s=600) as tools:
        asking = asyncio.create_task(ask(tools, HOURS))
        await asyncio.sleep(0.3)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await idle(url, before)


async def idle(url: str, before: set[threading.Thread]) -> bool:
    """Whether nothing runs in the database, or soon no longer.

    Args:
        before: threads that others left, and that nobody can end.
    """
    for _ in range(200):
        busy = [t for t in threading.enumerate() if t.name == "kickwheel-tool" and t not in before]
        if url.startswith("postgres"):
            engine = sqlalchemy.create_engine(url)
            with engine.connect() as looking:
                running = looking.exec_driver_sql(
                    "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' "
                    "AND query LIKE 'WITH RECURSIVE%%'"
                ).scalar()
            engine.dispose()
            busy += [running] if running else []  # type: ignore[list-item]
        if not busy:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_an_endless_answer_fills_no_memory(tmp_path: Path, url: str) -> None:
    endless = HOURS.replace("count(*)", "i")
    if url.startswith("postgres"):  # It finishes a recursive query first.
        endless = "SELECT generate_series(1, 1000000000) AS i"
    async with opened(Sql, tmp_path, url=url, rows=3) as tools:
        assert (await ask(tools, endless)).startswith('["i"]\n[1]\n[2]\n[3]\n(rows 1 to 3;')


async def test_one_value_cannot_be_too_big(tmp_path: Path, url: str) -> None:
    async with opened(Sql, tmp_path, url=url) as tools:
        if url.startswith("sqlite"):
            with pytest.raises(InvalidArguments, match="too big"):
                await ask(tools, "SELECT zeroblob(2000000000)")
        else:
            found = await ask(tools, "SELECT repeat('x', 2100) AS x")
            assert found.endswith('x… (100 more characters)"]')


async def test_writing_is_a_tool_of_its_own(tmp_path: Path, url: str) -> None:
    async with opened(Sql, tmp_path, url=url) as tools:
        assert list(tools) == ["desk_query", "desk_tables"]
    async with opened(Sql, tmp_path, url=url, write=True) as tools:
        assert list(tools) == ["desk_query", "desk_tables", "desk_change"]
        effects = [tool.limits.effects for tool in tools.values()]  # type: ignore[attr-defined]
        assert effects == ["none", "none", "once"]
        change = tools["desk_change"]
        made = await change.call(
            {"statement": "UPDATE orders SET total = :t", "parameters": {"t": 3}}
        )
        assert made == "3 rows changed"
        made = await change.call(
            {"statement": "INSERT INTO customers VALUES (7, 'Eve') RETURNING id"}
        )
        assert made == '1 row changed\n["id"]\n[7]'
        assert await ask(tools, "SELECT sum(total) AS s FROM orders") in (
            '["s"]\n[9]',
            '["s"]\n[9.00]',
        )
        for refused in ("DROP TABLE orders", "SELECT 1", "DELETE FROM orders; SELECT 1"):
            with pytest.raises(InvalidArguments):
                await change.call({"statement": refused})
        with pytest.raises(InvalidArguments):
            await ask(tools, "DELETE FROM orders")
        with pytest.raises(InvalidArguments, match="the database says"):
            await change.call({"statement": "INSERT INTO customers VALUES (7, 'Eve')"})


async def test_a_change_that_is_stopped_changes_nothing(tmp_path: Path, url: str) -> None:
    slow = f"UPDATE orders SET total = ({HOURS})"
    async with opened(Sql, tmp_path, url=url, write=True, timeout_s=0.3) as tools:
        with pytest.raises(ToolError, match="stopped after"):
            await tools["desk_change"].call({"statement": slow})
        assert await ask(tools, "SELECT count(total) AS n FROM orders") == '["n"]\n[2]'


async def test_the_tables_are_told(tmp_path: Path, url: str) -> None:
    async with opened(Sql, tmp_path, url=url) as tools:
        told = tools["desk_query"].spec.description
        assert "\ncustomers(id integer pk, name varchar(40))\n" in told
        assert "customer integer → customers.id" in told
        assert "name VARCHAR(40) not null" in await tools["desk_tables"].call(
            {"names": ["customers"]}
        )
        assert "orders(number" in await tools["desk_tables"].call({})
        with pytest.raises(InvalidArguments, match=r'no table "order"\. Did you mean "orders"\?'):
            await tools["desk_tables"].call({"names": ["order"]})


def test_tables_are_told_as_far_as_the_room_goes() -> None:
    known = [
        Table(f"t{n}", (Column("a", "INTEGER", "pk"), Column("b", "TEXT", ""))) for n in (1, 2)
    ]
    assert summary(known, 100) == "Tables:\nt1(a integer pk, b text)\nt2(a integer pk, b text)"
    assert summary(known, 40) == "Tables:\nt1(a, b)\nt2(a, b)"
    assert summary(known, 20) == "Tables: t1, t2"
    many = [Table(f"table{n}", ()) for n in range(1000)]
    told = summary(many, 60)
    assert len(told) <= 60
    assert told.endswith(" more")
    assert summary([], 60) == "There are no tables yet."


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT nmae FROM customers", "the database says: .*nmae"),
        ("SELECT * FROM nowhere", "the database says: .*nowhere"),
    ],
)
async def test_what_the_database_faults_the_model_may_mend(
    tmp_path: Path, url: str, statement: str, told: str
) -> None:
    async with opened(Sql, tmp_path, url=url) as tools:
        with pytest.raises(InvalidArguments, match=told):
            await ask(tools, statement)


async def test_many_may_ask_at_once(tmp_path: Path, url: str) -> None:
    async with opened(Sql, tmp_path, url=url) as tools:
        found = await asyncio.gather(
            *(ask(tools, "SELECT :n + 0 AS n", parameters={"n": n}) for n in range(20))
        )
    assert found == [f'["n"]\n[{n}]' for n in range(20)]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:///gone.db", "there is no SQLite file .*gone.db"),
        ("nonsense", "the database's URL cannot be read"),
        ("nosuch://x/y", 'SQLAlchemy knows no database "nosuch"'),
        ("oracle://x/y", "oracle needs its driver, the module (oracledb|cx_Oracle)"),
        ("postgresql://a:${KICKWHEEL_TEST_UNSET}@x/y", "KICKWHEEL_TEST_UNSET} in the database's"),
        ("postgresql+psycopg://a:s3cret@127.0.0.1:9/y", "the database cannot be asked: "),
    ],
)
async def test_a_url_that_leads_nowhere_is_told_without_its_password(
    tmp_path: Path, url: str, told: str
) -> None:
    with pytest.raises(UsageError, match=told.replace("$", r"\$")) as raised:
        async with opened(Sql, tmp_path, url=url):
            pass
    assert "s3cret" not in str(raised.value)


def test_options_that_do_not_fit_are_told_with_their_line(tmp_path: Path) -> None:
    assert mistakes(Sql, "kind: sql\nurl: x\nrows: 0", tmp_path) == [
        "3: rows: input should be greater than or equal to 1"
    ]


async def test_a_model_is_told_of_its_mistakes_as_of_any_tools(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "orders.db").close()
    async with opened(Sql, tmp_path, url="sqlite:///orders.db") as tools:
        result = await call(tools, "desk_query", '{"statement": "DROP TABLE x"}')
        assert (result.state, result.text) == (
            "invalid",
            "error: only reading statements can be asked: SELECT, WITH, VALUES",
        )
        assert "There are no tables yet." in tools["desk_query"].spec.description


async def test_full_text_search_and_views_are_asked_like_tables(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "notes.db")) as made, made:
        made.execute("CREATE VIRTUAL TABLE notes USING fts5(text)")
        made.execute("INSERT INTO notes VALUES ('the tea is late')")
        made.execute("CREATE VIEW late AS SELECT text FROM notes WHERE notes MATCH 'late'")
    async with opened(Sql, tmp_path, url="sqlite:///notes.db", write=True) as tools:
        asked = "SELECT text FROM notes WHERE notes MATCH :word"
        assert (
            await ask(tools, asked, parameters={"word": "tea"}) == '["text"]\n["the tea is late"]'
        )
        assert await ask(tools, "SELECT count(*) AS n FROM late") == '["n"]\n[1]'
        changed = {"statement": "INSERT INTO notes VALUES ('late again')"}
        assert await tools["desk_change"].call(changed) == "1 row changed"
        with pytest.raises(InvalidArguments):
            await tools["desk_change"].call({"statement": "UPDATE sqlite_master SET sql = ''"})


@pytest.mark.parametrize(
    ("dialect", "statement"),
    [
        ("mysql", "SELECT 1 INTO OUTFILE '/tmp/x'"),
        ("mysql", "SELECT 1 /*! INTO OUTFILE '/tmp/x' */"),
        ("mariadb", "SELECT 1 /*M! INTO OUTFILE '/tmp/x' */"),
        ("mysql", "SELECT LOAD_FILE('/etc/passwd')"),
        ("mssql", "SELECT * INTO x FROM orders"),
        ("mssql", "EXEC xp_cmdshell 'dir'"),
        ("mssql", "SELECT * FROM OPENROWSET('a', 'b', 'c')"),
        ("oracle", "SELECT * FROM orders FOR UPDATE"),
        ("postgresql", "SELECT pg_catalog.pg_read_file('x')"),
        ("postgresql", "SELECT \"pg_read_file\"('x')"),
        ("postgresql", "SELECT U&\"\\0070g_read_file\"('x')"),
        ("postgresql", "SELECT * FROM dblink('x', 'DELETE FROM orders') AS t(a int)"),
    ],
)
def test_other_databases_have_other_ways_out(dialect: str, statement: str) -> None:
    with pytest.raises(InvalidArguments):
        reading(statement, {}, dialect)


@pytest.mark.parametrize(
    ("dialect", "statement"),
    [
        ("mssql", "SELECT TOP 3 * FROM orders"),
        ("oracle", "SELECT * FROM orders WHERE ROWNUM < 3"),
        ("postgresql", "(SELECT 1) UNION ALL SELECT 2 ORDER BY 1"),
        ("postgresql", "VALUES (1), (2)"),
        ("nobody_knows", "SELECT 1"),
    ],
)
def test_reading_in_other_dialects_is_reading(dialect: str, statement: str) -> None:
    assert reading(statement, {}, dialect).text == statement


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(
        st.one_of(
            st.text(st.sampled_from("ab :?%\\-/*;"), max_size=8).map(lambda t: f"'{t}'"),
            st.sampled_from([":x", ":y_1"]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_only_what_stands_outside_of_texts_is_a_place(parts: list[str]) -> None:
    values = {part[1:]: f"<{part}>" for part in parts if part.startswith(":")}
    statement = reading(f"SELECT {', '.join(parts)}", values, "sqlite")
    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        (row,) = connection.execute(sqlalchemy.text(statement.text), values)
    assert list(row) == [f"<{p}>" if p.startswith(":") else p[1:-1] for p in parts]
