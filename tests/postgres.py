"""A Postgres server of the tests' own: Debian's `postgresql`, below a temporary folder, as a user
other than root, on a socket that nobody else knows of.

`postgres_url` is a store's URL on it, with a schema of its own for each test; `database` is that
and `None` (SQLite), one after the other, for tests that hold on both.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

FAST = (
    "-c listen_addresses='' -c fsync=off -c full_page_writes=off -c shared_buffers=16MB "
    "-c max_wal_size=64MB -c autovacuum=off -c max_connections=60"
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """The folder of a running server: its socket lies there, and its database is `postgres`."""
    home = Path(tempfile.mkdtemp(prefix="kw-pg-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(home, user.pw_uid, user.pw_gid)
        _as_user("initdb", "-D", str(home / "data"), "-U", "kickwheel", "-A", "trust", "--no-sync")
        options = f"{FAST} -k {home}"
        log = str(home / "log")
        start = ("pg_ctl", "-D", str(home / "data"), "-w", "-l", log, "-o", options, "start")
        _as_user(*start)
        try:
            yield home
        finally:
            _as_user("pg_ctl", "-D", str(home / "data"), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: Path) -> str:
    """URL of a store on Postgres that nothing is in yet."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    return f"postgresql://kickwheel@/postgres?host={postgres}&schema={schema}"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str | None:
    """What `open_store` takes as its `url`: on SQLite `None`, on Postgres an empty store."""
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("postgres_url")
    return url


def _as_user(program: str, *arguments: str) -> None:
    """Runs a program of Postgres, which refuses to run as root."""
    root = os.geteuid() == 0
    done = subprocess.run(
        [_path(program), *arguments],
        user="postgres" if root else None,
        cwd="/tmp",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, f"{program}: {done.stderr}"


def _path(program: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    path = str(found[-1]) if found else shutil.which(program)
    assert path, f"{program} is missing: apt-get install postgresql (make setup does it)"
    return path
