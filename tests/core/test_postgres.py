"""A store on Postgres: what is different from a file."""

import io
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from tests.core.test_store import WITHOUT_TENANTS

from kickwheel.app import check_app, open_app
from kickwheel.core.errors import ConfigError, MissingExtra, StoreError
from kickwheel.core.store import Connection, open_store
from kickwheel.core.store.postgres import Postgres
from kickwheel.models.caller import NOBODY
from kickwheel.serve.files import Files
from kickwheel.serve.job import Job, JobEvent, Jobs, JobSpec

HIDDEN = "s3cret-pass"


def app(folder: Path, store: str) -> Path:
    (folder / "app.yml").write_text(f"models: {{m: {{kind: openai, model: x}}}}\nstore: {store}\n")
    return folder / "app.yml"


async def test_an_app_says_where_its_store_is(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINIC_STORE", postgres_url)
    async with open_app(app(tmp_path, "${CLINIC_STORE}"), only=[]) as opened:
        opened.store.refs.move("a/b", "adapter/1", expected=None, why="")
        opened.store.artifacts.add("thing", {"a": b"1"})
    assert (tmp_path / ".kickwheel/artifacts/thing").is_dir()
    assert not (tmp_path / ".kickwheel/store.db").exists()
    with open_store(tmp_path / "elsewhere", postgres_url) as store:
        assert store.refs.read("a/b") == "adapter/1"


def test_a_folder_is_still_a_folder(tmp_path: Path) -> None:
    plan = check_app(app(tmp_path, "kept/here"))
    assert (plan.store, plan.database) == (tmp_path.resolve() / "kept/here", None)


def test_another_kind_of_database_is_a_mistake_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"app\.yml:2:1: store: no store on mysql"):
        check_app(app(tmp_path, "mysql://root@host/db"))


def test_apps_share_a_database_by_schemas_of_their_own(tmp_path: Path, postgres: Path) -> None:
    url = f"postgresql://kickwheel@/postgres?host={postgres}&schema="
    one, other = (f"{url}app_{uuid.uuid4().hex[:8]}" for _ in range(2))
    with open_store(tmp_path, one) as first, open_store(tmp_path, other) as second:
        first.refs.move("a/b", "adapter/1", expected=None, why="")
        assert second.refs.read("a/b") is None
    with pytest.raises(StoreError, match='schema "My App" is none'):
        Postgres(f"{url}My App")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"postgresql://ann:{HIDDEN}@127.0.0.1:1/clinic", "Is the server up"),
        (f"postgresql://kickwheel:{HIDDEN}@/nobody?host={{folder}}", "Create the database"),
        (f"postgresql://nobody:{HIDDEN}@/postgres?host={{folder}}", "Check user and password"),
        (f"postgresql://ann:{HIDDEN}@host/db?wrong=1", "not a URL that Postgres understands"),
        (f"postgresql://ann:{HIDDEN}@host:port/db", "Is the server up"),
    ],
)
def test_what_does_not_open_is_told_without_its_password(
    tmp_path: Path, postgres: Path, url: str, told: str
) -> None:
    with (
        pytest.raises(StoreError) as raised,
        open_store(tmp_path, url.format(folder=postgres)),
    ):
        pass
    assert told in str(raised.value)
    whole = str(raised.value) + str(raised.value.__cause__)
    assert HIDDEN not in whole
    assert HIDDEN not in repr(check_app(app(tmp_path, f"'{url}'")))


def test_a_newer_store_is_left_as_it_is(tmp_path: Path, postgres_url: str) -> None:
    with open_store(tmp_path, postgres_url) as store:
        store.database.write(lambda c: c.execute("UPDATE version SET number = 99"))
    with (
        pytest.raises(StoreError, match="written by a newer kickwheel"),
        open_store(tmp_path, postgres_url),
    ):
        pass


def test_a_store_of_version_1_is_brought_to_this_one(tmp_path: Path, postgres_url: str) -> None:
    with open_store(tmp_path, postgres_url) as store:
        store.refs.move("a/b", "adapter/1", expected=None, why="")
        tables = store.database.read(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        )
        first = {"trace", "feedback", "move", "journal", "job", "job_event", "file", "version"}
        for (table,) in tables:
            if table not in first:
                store.database.write(lambda c, table=table: c.execute(f"DROP TABLE {table}"))
        for change in WITHOUT_TENANTS:
            store.database.write(lambda c, change=change: c.execute(change))
        store.database.write(lambda c: c.execute("UPDATE version SET number = 1"))
    with open_store(tmp_path, postgres_url) as store:
        assert store.refs.read("a/b") == "adapter/1"
        assert store.runs.open() == []
        assert store.database.read("SELECT id, tenant, asker FROM trace") == [("old", "", "")]


def test_a_connection_that_broke_is_opened_again(tmp_path: Path, postgres_url: str) -> None:
    with open_store(tmp_path, postgres_url) as store, open_store(tmp_path, postgres_url) as other:
        store.refs.move("a/b", "adapter/1", expected=None, why="")
        assert store.refs.read("a/b") == "adapter/1"
        other.database.write(
            lambda c: c.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'kickwheel' AND pid <> pg_backend_pid()"
            ).fetchall()
        )
        assert store.refs.read("a/b") == "adapter/1"
        store.refs.move("a/b", "adapter/2", expected="adapter/1", why="")
        assert store.refs.read("a/b") == "adapter/2"


def test_a_store_that_another_program_holds_is_told(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kickwheel.core.store.postgres.BUSY_S", 0.05)
    with open_store(tmp_path, postgres_url) as store, open_store(tmp_path, postgres_url) as other:

        def hold(connection: Connection) -> None:
            with pytest.raises(StoreError, match="kept the store busy"):
                store.refs.move("a/b", "adapter/1", expected=None, why="")

        other.database.write(hold)
        store.refs.move("a/b", "adapter/1", expected=None, why="")


def test_jobs_and_files_are_listed_newest_first(tmp_path: Path, postgres_url: str) -> None:
    with open_store(tmp_path, postgres_url) as store:
        files = Files(store)
        ids = [files.add(io.BytesIO(b"x"), f"{n}.jsonl", "fine-tune", NOBODY).id for n in range(3)]
        assert [file.id for file in files.all()] == ids[::-1]
        jobs = Jobs(store)
        training = tmp_path / "chats.jsonl"
        training.write_bytes(b"x")
        for number in range(3):
            folder = tmp_path / f"job{number}"
            spec = JobSpec(
                id=f"job{number}",
                model="base",
                output="ft:base:x",
                training_file=str(folder / "train.jsonl"),
                folder=str(folder),
            )
            job = Job(spec=spec, status="queued", training_file=ids[0], created_at=1)
            jobs.add(job, training, None, NOBODY)
        assert [job.spec.id for job in jobs.all()] == ["job2", "job1", "job0"]
        oldest = jobs.next()
        assert oldest is not None
        assert oldest.spec.id == "job0"
        assert jobs.change("job0", ["queued"], status="running") is not None
        assert jobs.change("job0", ["queued"], status="running") is None
        jobs.say("job0", JobEvent(message="started"))
        assert [event.message for _, _, event in jobs.events("job0")] == ["started"]


def test_reading_cannot_write(tmp_path: Path, postgres_url: str) -> None:
    with open_store(tmp_path, postgres_url) as store:
        with pytest.raises(StoreError, match="read-only"):
            store.database.read("DELETE FROM move RETURNING seq")
        assert store.refs.names() == []


def test_text_with_a_nul_is_kept_without_it(tmp_path: Path, postgres_url: str) -> None:
    with open_store(tmp_path, postgres_url) as store:
        store.refs.move("a/b", "adapter/1", expected=None, why="a\0b")
        assert store.refs.history("a/b")[0].why == "a\N{REPLACEMENT CHARACTER}b"


def test_the_missing_package_is_named_with_the_extra_that_brings_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from kickwheel.core.store.postgres import Postgres\n"
        "try: Postgres('postgresql://a@b/c')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith(f"{MissingExtra.__name__} a store on Postgres needs")
    assert "kickwheel[postgres]" in done.stdout
