"""The store: its database, its artifacts, its refs."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kickwheel.core.errors import StoreError, UsageError
from kickwheel.core.store import open_store
from kickwheel.core.store.files import verify

WITHOUT_TENANTS = (
    "INSERT INTO trace (id, workload, source, start_ns, duration_ns, model, spans, input_tokens, "
    "output_tokens, question, body) VALUES ('old', '', '', 0, 0, '', 1, 0, 0, '', '')",
    "DROP INDEX trace_by_tenant",
    "DROP INDEX trace_of_tenant",
    "DROP INDEX trace_of_asker",
    "ALTER TABLE trace DROP COLUMN tenant",
    "ALTER TABLE trace DROP COLUMN asker",
    *(f"ALTER TABLE {t} DROP COLUMN {c}" for t in ("job", "file") for c in ("tenant", "asker")),
)
"""What makes a trace as it was before version 8, jobs and files as they were before version 10:
when they had no tenants."""


def test_a_store_of_an_older_version_is_left_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as old:
        old.execute("CREATE TABLE precious (a)")
        old.execute("PRAGMA user_version = -1")
    before = (tmp_path / "store.db").read_bytes()
    with pytest.raises(StoreError, match="an older kickwheel"), open_store(tmp_path):
        pass
    assert (tmp_path / "store.db").read_bytes() == before


def test_a_store_of_version_1_is_brought_to_this_one_with_all_that_is_in_it(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.refs.move("a/b", "adapter/1", expected=None, why="")
        first = {"trace", "feedback", "move", "journal", "job", "job_event", "file"}
        tables = store.database.read("SELECT name FROM sqlite_master WHERE type = 'table'")
        for table in {name for (name,) in tables} - first:
            store.database.write(lambda c, table=table: c.execute(f"DROP TABLE {table}"))
        for change in WITHOUT_TENANTS:
            store.database.write(lambda c, change=change: c.execute(change))
        store.database.write(lambda c: c.execute("PRAGMA user_version = 1"))
    with open_store(tmp_path) as store:
        assert store.refs.read("a/b") == "adapter/1"
        assert store.runs.open() == []
        assert store.database.read("SELECT id, tenant, asker FROM trace") == [("old", "", "")]


def test_a_damaged_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreError, match=r"store\.db: damaged"), open_store(tmp_path):
        pass


def test_many_processes_may_open_a_new_store_at_once(tmp_path: Path, database: str | None) -> None:
    code = (
        "import sys; from pathlib import Path\nfrom kickwheel.core.store import open_store\n"
        "with open_store(Path(sys.argv[1]), sys.argv[-1] or None) as s:\n"
        "    s.refs.move(sys.argv[2], 'adapter/1', expected=None, why='')"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"ref{i}", database or ""])
        for i in range(4)
    ]
    assert [process.wait() for process in running] == [0, 0, 0, 0]
    with open_store(tmp_path, database) as store:
        assert store.refs.names() == ["ref0", "ref1", "ref2", "ref3"]


def test_a_new_store_that_another_process_is_just_opening_is_waited_for(tmp_path: Path) -> None:
    with sqlite3.connect(
        tmp_path / "store.db", isolation_level=None, check_same_thread=False
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
        release.start()
        with open_store(tmp_path) as store:
            assert store.refs.names() == []
        release.join()
    other.close()


def test_writes_of_many_threads_all_arrive(tmp_path: Path, database: str | None) -> None:
    with open_store(tmp_path, database) as store:

        def move(number: int) -> None:
            store.refs.move(f"ref{number}", "adapter/1", expected=None, why="")

        threads = [threading.Thread(target=move, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.refs.names()) == 16


def test_a_ref_moves_only_from_where_it_was_seen(tmp_path: Path, database: str | None) -> None:
    with open_store(tmp_path, database) as store:
        store.refs.move("a/b", "adapter/1", expected=None, why="first")
        with pytest.raises(UsageError, match="now points at adapter/1"):
            store.refs.move("a/b", "adapter/2", expected=None, why="late")
        assert store.refs.read("a/b") == "adapter/1"
        store.refs.move("a/b", "adapter/2", expected="adapter/1", why="better")
        assert [m.target for m in store.refs.history("a/b")] == ["adapter/1", "adapter/2"]


def test_rollbacks_go_back_step_by_step_and_never_forth(
    tmp_path: Path, database: str | None
) -> None:
    with open_store(tmp_path, database) as store:
        for number, before in ((1, None), (2, 1), (3, 2)):
            expected = None if before is None else f"adapter/{before}"
            store.refs.move("r", f"adapter/{number}", expected=expected, why="better")
        assert store.refs.back("r", why="worse in practice") == "adapter/2"
        assert store.refs.back("r", why="still") == "adapter/1"
        store.refs.move("r", "adapter/4", expected="adapter/1", why="better")
        assert store.refs.back("r", why="no") == "adapter/1"
        assert store.refs.back("r", why="no") is None
        with pytest.raises(UsageError, match="nothing before"):
            store.refs.back("r", why="no")


def test_the_same_files_make_the_same_artifact(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        first = store.artifacts.add("thing", {"a.txt": b"1", "in/b.txt": b"2"})
        again = store.artifacts.add("thing", {"in/b.txt": b"2", "a.txt": b"1"})
        other = store.artifacts.add("thing", {"a.txt": b"1", "in/b.txt": b"3"})
        assert first == again != other
        assert store.artifacts.ids("thing") == [first, other]
        verify(store.artifacts.path("thing", first[:6]))


@pytest.mark.parametrize("harm", ["change", "remove", "add"])
def test_a_changed_byte_is_found_and_named(tmp_path: Path, harm: str) -> None:
    with open_store(tmp_path) as store:
        path = store.artifacts.path("thing", store.artifacts.add("thing", {"a.bin": b"abc"}))
    if harm == "change":
        (path / "a.bin").write_bytes(b"abd")
    elif harm == "remove":
        (path / "a.bin").unlink()
    else:
        (path / "b.bin").write_bytes(b"")
    with pytest.raises(StoreError, match=r"[ab]\.bin"):
        verify(path)


def test_an_unknown_artifact_is_a_usage_error(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, pytest.raises(UsageError, match='no adapter "12"'):
        store.artifacts.path("adapter", "12")


def test_a_step_that_was_finished_is_not_run_again_even_after_sigkill(
    tmp_path: Path, database: str | None
) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path\n"
        "from kickwheel.core.store import open_store\n"
        "def do(name):\n"
        "    with open(sys.argv[1] + '/log', 'a') as f: f.write(name)\n"
        "    return name\n"
        "with open_store(Path(sys.argv[1]), sys.argv[-1] or None) as s:\n"
        "    s.journal.step('run', 'one', [1], lambda: do('1'), str)\n"
        "    if not Path(sys.argv[1] + '/second').exists():\n"
        "        Path(sys.argv[1] + '/second').touch()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    s.journal.step('run', 'two', [1], lambda: do('2'), str)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), database or ""]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert subprocess.run(command, check=False).returncode == 0
    assert (tmp_path / "log").read_text() == "12"


def test_a_step_with_other_inputs_is_run_again(tmp_path: Path, database: str | None) -> None:
    with open_store(tmp_path, database) as store:
        results = [
            store.journal.step("run", "one", inputs, lambda: os.urandom(4).hex(), str)
            for inputs in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2, "b": 2})
        ]
    assert results[0] == results[1] != results[2]


def test_a_step_that_raises_leaves_nothing_behind(tmp_path: Path, database: str | None) -> None:
    with open_store(tmp_path, database) as store:
        with pytest.raises(ZeroDivisionError):
            store.journal.step("run", "one", 1, lambda: 1 // 0, int)
        assert store.journal.step("run", "one", 1, lambda: 7, int) == 7


def open_databases(folder: Path) -> int:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(1 for link in links if link.readlink() == folder / "store.db")


def test_threads_that_have_ended_leave_no_file_open(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for _ in range(50):
            thread = threading.Thread(target=store.refs.names)
            thread.start()
            thread.join()
        # One that writes and one that reads.
        assert open_databases(tmp_path) == 2

        together = threading.Barrier(12)

        def read_at_once() -> None:
            together.wait()
            for _ in range(20):
                store.refs.names()

        threads = [threading.Thread(target=read_at_once) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert open_databases(tmp_path) <= 13
    assert open_databases(tmp_path) == 0


def test_what_cannot_be_read_is_told_as_an_error_of_the_store(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.database.write(lambda c: c.execute("DROP TABLE move"))
        with pytest.raises(StoreError, match=r"store\.db: no such table: move"):
            store.refs.read("a/b")
        store.database.write(lambda c: c.execute("DROP TABLE journal"))
        with pytest.raises(StoreError, match=r"store\.db: no such table: journal"):
            store.journal.step("run", "one", 1, lambda: 7, int)
    with pytest.raises(StoreError, match="the store was closed"):
        store.refs.read("a/b")


def test_reading_cannot_write(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, pytest.raises(StoreError, match="readonly"):
        store.database.read("DELETE FROM move")
