"""Files written whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kickwheel.core.errors import StoreError
from kickwheel.core.files import only_one, sha256, write_whole, writing


def test_a_failed_write_leaves_the_old_bytes_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def break_off() -> None:
        with writing(path) as file:
            file.write(b"half of the ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_and_the_old_bytes_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from kickwheel.core.files import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_whole(Path(sys.argv[1]), b'x' * 100_000)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert "StoreError" in ended.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_one_process_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    lock = tmp_path / "turn.lock"
    code = (
        "import sys; from pathlib import Path\nfrom kickwheel.core.files import only_one\n"
        "with only_one(Path(sys.argv[1]), 'a turn'): print('held')"
    )
    command = [sys.executable, "-c", code, str(lock)]
    with only_one(lock, "a turn"):
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    third = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"a turn is already running here (process {os.getpid()})" in second.stderr
    assert third.stdout == "held\n"


def test_a_lock_is_refused_within_one_process_too(tmp_path: Path) -> None:
    with (
        only_one(tmp_path / "lock", "a turn"),
        pytest.raises(StoreError, match="already running"),
        only_one(tmp_path / "lock", "a turn"),
    ):
        pass


def test_the_digest_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
