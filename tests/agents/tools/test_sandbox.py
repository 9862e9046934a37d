"""What a program tries to get out of its sandbox, and what comes of it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kickwheel.agents.tools import sandbox, seccomp
from kickwheel.agents.tools.consumption import Bounds
from kickwheel.agents.tools.running import KEPT_BYTES, Ran
from kickwheel.agents.tools.sandbox import Sandbox, probe
from kickwheel.agents.tools.workspace import kept, remove, scratch
from kickwheel.core.errors import ToolError, UsageError

BOUNDS = Bounds(time_s=20, cpu_s=10, memory_bytes=200_000_000, disk_bytes=20_000_000, processes=32)

FORK = """
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(100)
        made += 1
except OSError:
    print(made, flush=True)
    os._exit(0)
"""


@pytest.fixture
def workspace() -> Iterator[Path]:
    with scratch() as folder:
        yield folder


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that every user may enter, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


async def sh(workspace: Path, script: str, **changed: Any) -> Ran:
    bounds = Bounds(**{**_fields(BOUNDS), **changed})
    return await Sandbox(bounds=bounds).run(["/bin/bash", "-c", script], workspace)


async def python(workspace: Path, program: str, **changed: Any) -> Ran:
    bounds = Bounds(**{**_fields(BOUNDS), **changed})
    files = {"/program.py": program.encode()}
    command = ["/usr/bin/python3", "/program.py"]
    return await Sandbox(bounds=bounds).run(command, workspace, files=files)


async def _there(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110, ASYNC240  Nothing tells us.
        await asyncio.sleep(0.02)


def _running() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def _held() -> tuple[int, int]:
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def _fields(bounds: Bounds) -> dict[str, Any]:
    return {name: getattr(bounds, name) for name in bounds.__slots__}


async def test_this_machine_isolates() -> None:
    await probe()


async def test_a_program_works_in_its_workspace_and_tells_how_it_ended(workspace: Path) -> None:
    ran = await sh(workspace, "pwd; echo made > file; echo oh >&2; exit 3")
    assert (ran.code, ran.out, ran.err, ran.excess) == (3, "/home/sandbox\n", "oh\n", "")
    assert (workspace / "file").read_text() == "made\n"


async def test_a_killed_program_is_told_by_its_signal(workspace: Path) -> None:
    assert (await sh(workspace, "kill -SEGV $$")).code == 128 + signal.SIGSEGV


async def test_folders_that_the_app_names_are_read_and_not_written(
    workspace: Path, outside: Path
) -> None:
    (outside / "manual").write_text("how to")
    box = Sandbox(bounds=BOUNDS, folders={"/mnt/manuals": outside})
    script = "cat /mnt/manuals/manual; echo x > /mnt/manuals/manual"
    ran = await box.run(["/bin/sh", "-c", script], workspace)
    assert ran.out == "how to"
    assert "Read-only file system" in ran.err
    assert (outside / "manual").read_text() == "how to"


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/passwd", "/root", str(Path.home()), "/var"])
async def test_passwords_and_homes_are_not_there(workspace: Path, path: str) -> None:
    ran = await sh(workspace, f"cat {path} || ls {path}")
    assert (ran.code != 0, ran.out) == (True, "")
    assert "No such file" in ran.err


async def test_our_environment_is_not_theirs(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    ran = await sh(workspace, "env; cat /proc/*/environ")
    assert "PATH=" in ran.out
    assert "secret" not in ran.out + ran.err


async def test_programs_are_not_root_and_cannot_become_it(workspace: Path) -> None:
    script = "id -u; grep -E 'CapEff|NoNewPrivs' /proc/self/status; stat -c %A /usr/bin/su"
    ran = await sh(workspace, f"{script}; su -c id")
    uid, caps, no_new, su = ran.out.splitlines()
    assert "s" in su
    assert uid != "0"
    assert (caps.split()[1], no_new.split()[1]) == ("0" * 16, "1")


async def test_a_copied_setuid_program_gives_nothing(workspace: Path) -> None:
    ran = await sh(workspace, "cp /usr/bin/id mine && chmod u+s mine && ./mine -u")
    assert ran.out.strip() == (await sh(workspace, "id -u")).out.strip()


async def test_there_is_no_network_not_even_our_own(workspace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"""
import socket
for place in (("127.0.0.1", {port}), ("192.0.2.1", 80)):
    try:
        socket.create_connection(place, timeout=3)
        print("connected")
    except OSError as error:
        print("refused")
try:
    socket.getaddrinfo("example.com", 80)
except OSError:
    print("refused")
"""
        ran = await python(workspace, program)
    assert ran.out.split() == ["refused"] * 3, ran.err


async def test_the_network_is_there_when_the_app_says_so(workspace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        box = Sandbox(bounds=BOUNDS, network=True)
        ran = await box.run(["/bin/bash", "-c", f"echo > /dev/tcp/127.0.0.1/{port}"], workspace)
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("family", [40, 38, 17])
async def test_sockets_past_the_network_namespace_are_refused(workspace: Path, family: int) -> None:
    """vsock leads to a virtual machine's host, alg to the kernel's ciphers, packet to the wire."""
    ran = await python(workspace, f"import socket\nsocket.socket({family}, socket.SOCK_STREAM)")
    assert "PermissionError" in ran.err


async def test_processes_outside_can_be_neither_seen_nor_killed(workspace: Path) -> None:
    bystander = await asyncio.create_subprocess_exec("sleep", "600")
    try:
        script = f"ls /proc; kill -9 {bystander.pid} {os.getpid()}; kill -9 -1; echo still"
        ran = await sh(workspace, script)
        assert bystander.returncode is None
        assert len([line for line in ran.out.split() if line.isdigit()]) <= 4
    finally:
        bystander.kill()
        await bystander.wait()


@pytest.mark.parametrize(
    "attempt",
    [
        "libc.ptrace(16, 1, 0, 0)",
        "libc.unshare(0x10000000)",
        "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
        "libc.syscall(248, b'user', b'x', b'x', 1, -3)"
        if os.uname().machine == "x86_64"
        else "libc.syscall(217, b'user', b'x', b'x', 1, -3)",
        "libc.memfd_create(b'x', 0)",
        "libc.shmget(0, 4096, 0o1600)",
        "libc.klogctl(3, libc.malloc(100), 100)",
        "libc.setns(0, 0)",
        "libc.process_vm_readv(1, None, 0, None, 0, 0)",
    ],
)
async def test_calls_that_lead_out_of_the_sandbox_are_refused(
    workspace: Path, attempt: str
) -> None:
    program = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print({attempt}, os.strerror(ctypes.get_errno()))
"""
    ran = await python(workspace, program)
    assert ran.out.strip() in ("-1 Operation not permitted", "-1 Function not implemented"), ran


async def test_a_call_with_another_machines_numbers_ends_the_program(workspace: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.fail("written for x86_64: say what the other numbers of this machine are")
    ran = await python(workspace, "import ctypes\nctypes.CDLL(None).syscall(0x40000000 + 39)")
    assert ran.code == 128 + signal.SIGSYS


def test_the_filter_is_told_to_be_missing_for_other_machines() -> None:
    with pytest.raises(UsageError, match=r"x86_64 and aarch64 only, and this machine is riscv64"):
        seccomp.program("riscv64")


async def test_nothing_outside_the_workspace_can_be_written(workspace: Path) -> None:
    places = "/ /usr /usr/bin /etc /proc/sys/kernel /dev /sys /mnt /run"
    ran = await sh(workspace, f"for p in {places}; do touch $p/mine && echo wrote $p; done")
    assert "wrote" not in ran.out


async def test_other_runs_cannot_be_seen(workspace: Path) -> None:
    with scratch() as other:
        (other / "secret").write_text("theirs")
        ran = await sh(
            workspace, f"cat {other}/secret; ls /tmp; find / -xdev -name secret 2>/dev/null"
        )
    assert ran.out == ""


async def test_a_fork_bomb_stops_at_its_limit(workspace: Path) -> None:
    ran = await python(workspace, FORK, processes=20)
    assert 10 <= int(ran.out) < 20


async def test_a_process_that_wants_too_much_memory_does_not_get_it(workspace: Path) -> None:
    ran = await python(workspace, "x = bytearray(500_000_000)")
    assert "MemoryError" in ran.err


async def test_many_processes_share_one_limit_of_memory(workspace: Path) -> None:
    program = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        x = bytearray(60_000_000)
        time.sleep(100)
time.sleep(100)
"""
    ran = await python(workspace, program)
    assert (ran.excess, ran.code) == ("memory", 137)


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
async def test_memory_cannot_be_taken_as_files(workspace: Path, place: str) -> None:
    ran = await sh(
        workspace, f"for i in 1 2 3 4 5 6 7 8; do head -c 15M /dev/zero > {place}/$i; done"
    )
    assert "No space left" in ran.err


@pytest.mark.parametrize(
    "script",
    [
        "for i in $(seq 1000); do head -c 5M /dev/zero > $i; done",
        "python3 -c 'for i in range(10 ** 9): open(str(i), \"w\").close()'",
        "head -c 100M /dev/zero > one",
        'python3 -c \'import os\nos.posix_fallocate(os.open("x", 66), 0, 19_000_000)\n'
        'os.posix_fallocate(os.open("y", 66), 0, 19_000_000)\nwhile True: pass\'',
    ],
)
async def test_a_full_workspace_ends_the_program(workspace: Path, script: str) -> None:
    assert (await sh(workspace, script, time_s=60)).excess == "disk"


async def test_files_without_content_take_no_disk(workspace: Path) -> None:
    ran = await sh(workspace, "truncate -s 15M a b c d; sleep 0.3")
    assert (ran.excess, ran.code) == ("", 0)


@pytest.mark.parametrize(
    "spin", ["while :; do :; done", "for i in 1 2 3; do yes > /dev/null & done; wait"]
)
async def test_computing_without_end_ends(workspace: Path, spin: str) -> None:
    assert (await sh(workspace, spin, cpu_s=0.5, time_s=60)).excess == "cpu"


async def test_waiting_without_end_ends(workspace: Path) -> None:
    ran = await sh(workspace, "echo begun; sleep 600", time_s=0.5)
    assert (ran.excess, ran.out) == ("time", "begun\n")


async def test_a_flood_of_output_is_kept_at_its_ends_and_stopped(workspace: Path) -> None:
    ran = await sh(workspace, "echo first; yes 'all work and no play'")
    assert ran.excess == "output"
    assert len(ran.out) < KEPT_BYTES + 100
    assert ran.out.startswith("first\nall work")
    assert "bytes left out]" in ran.out


async def test_long_output_keeps_its_beginning_and_its_end(workspace: Path) -> None:
    ran = await sh(workspace, "echo first; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last")
    assert (ran.excess, ran.code) == ("", 0)
    assert ran.out.startswith("first\nxxx")
    assert ran.out.endswith("xxx\nlast\n")


async def test_output_that_is_no_text_is_told_all_the_same(workspace: Path) -> None:
    assert (await sh(workspace, "printf 'a\\377b'")).out == "a\N{REPLACEMENT CHARACTER}b"


async def test_a_daemon_ends_with_the_program_that_started_it(workspace: Path) -> None:
    script = "(setsid sh -c 'while :; do date +%s%N > alive; sleep 0.02; done' > /dev/null 2>&1 &)"
    await sh(workspace, f"{script}; while [ ! -s alive ]; do sleep 0.02; done")
    seen = (workspace / "alive").read_text()
    await asyncio.sleep(0.2)
    assert (workspace / "alive").read_text() == seen


async def test_a_daemon_that_holds_the_output_keeps_nobody_waiting(workspace: Path) -> None:
    ran = await sh(workspace, "setsid sleep 600 & echo done")
    assert (ran.out, ran.excess) == ("done\n", "")


@pytest.mark.parametrize("script", ["sleep 600", "trap '' TERM INT HUP; while :; do sleep 1; done"])
async def test_cancelling_ends_the_program_at_once(workspace: Path, script: str) -> None:
    beat = "(while :; do date +%s%N > alive; sleep 0.02; done) & "
    task = asyncio.create_task(sh(workspace, beat + script))
    await asyncio.wait_for(_there(workspace / "alive"), 20)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done
    seen = (workspace / "alive").read_text()
    await asyncio.sleep(0.2)
    assert (workspace / "alive").read_text() == seen


async def test_cancelling_before_the_program_runs_leaves_nothing(workspace: Path) -> None:
    for pause in (0, 0.001, 0.01, 0.03):
        task = asyncio.create_task(sh(workspace, "sleep 77.77"))
        await asyncio.sleep(pause)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert "sleep 77.77" not in _running()


def test_a_program_ends_when_kickwheel_itself_is_killed(workspace: Path) -> None:
    script = f"""
import asyncio
from pathlib import Path
from kickwheel.agents.tools.consumption import Bounds
from kickwheel.agents.tools.sandbox import Sandbox
bounds = Bounds(time_s=60, cpu_s=60, memory_bytes=10 ** 8, disk_bytes=10 ** 6, processes=9)
beat = "while :; do date +%s%N > alive; sleep 0.02; done"
asyncio.run(Sandbox(bounds=bounds).run(["/bin/bash", "-c", beat], Path({str(workspace)!r})))
"""
    with subprocess.Popen([sys.executable, "-c", script]) as kickwheel:
        asyncio.run(asyncio.wait_for(_there(workspace / "alive"), 30))
        kickwheel.kill()
    time.sleep(0.1)
    seen = (workspace / "alive").read_text()
    time.sleep(0.3)
    assert (workspace / "alive").read_text() == seen


async def test_no_descriptor_or_thread_is_left_over(workspace: Path) -> None:
    await sh(workspace, "true")
    before = _held()
    for _ in range(3):
        await sh(workspace, "true")
        await sh(workspace, "sleep 9", time_s=0.1)
    # Fewer is well, too: threads that other tests left may have ended meanwhile.
    assert all(now <= then for now, then in zip(_held(), before, strict=True))


async def test_runs_at_once_do_not_disturb_each_other() -> None:
    async def one(n: int) -> str:
        with scratch() as workspace:
            return (await sh(workspace, f"echo {n} > x; sleep 0.1; cat x")).out

    assert await asyncio.gather(*(one(n) for n in range(5))) == [f"{n}\n" for n in range(5)]


async def test_a_workspace_that_locks_itself_is_removed_all_the_same() -> None:
    with scratch() as workspace:
        await sh(workspace, "mkdir -p a/b; touch a/b/c; ln -s / root; chmod 0 a/b a .")
    assert not workspace.exists()


async def test_files_of_kept_workspaces_are_there_the_next_time(outside: Path) -> None:
    folder = kept(outside / "desk")
    await sh(folder, "echo 1 > note")
    assert (await sh(kept(outside / "desk"), "cat note")).out == "1\n"
    remove(folder)


async def test_a_folder_that_cannot_be_reached_is_told(workspace: Path, outside: Path) -> None:
    box = Sandbox(bounds=BOUNDS, folders={"/mnt/x": outside / "none"})
    with pytest.raises(ToolError, match=r"could not be set up: .*none"):
        await box.run(["/bin/true"], workspace)


async def test_a_program_that_is_not_there_is_told_as_a_shell_would(workspace: Path) -> None:
    ran = await Sandbox(bounds=BOUNDS).run(["no-such-program"], workspace)
    assert (ran.code, "no-such-program" in ran.err) == (127, True)


async def test_without_bubblewrap_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workspace: Path
) -> None:
    monkeypatch.setattr(sandbox, "PLACES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"bwrap is missing \(Debian: apt-get install bubblewrap"):
        await probe()
    with pytest.raises(UsageError, match="is missing"):
        await Sandbox(bounds=BOUNDS).run(["/bin/true"], workspace)


@pytest.mark.parametrize(
    ("fake", "told"),
    [
        ("echo 'bwrap: No permissions to create new namespace' >&2; exit 1", "No permissions"),
        # One that runs the program as it is, as a wrapper that «emulates» bwrap would.
        (
            'for a; do [ "$b" = --json-status-fd ] && fd=$a; b=$a; done\n'
            'while [ "$1" != -- ]; do shift; done; shift\n'
            'printf \'{"child-pid": %s}\\n\' $$ >&$fd; "$@"; r=$?\n'
            "printf '{\"exit-code\": %s}\\n' $r >&$fd; exit $r",
            "shares our namespaces net, pid, user, mnt, ipc",
        ),
    ],
)
async def test_a_bubblewrap_that_does_not_isolate_is_refused(
    monkeypatch: pytest.MonkeyPatch, outside: Path, fake: str, told: str
) -> None:
    (outside / "bwrap").write_text(f"#!/bin/bash\n{fake}\n")
    (outside / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{outside}:/usr/bin:/bin")
    with pytest.raises(UsageError, match=told):
        await probe()


def test_a_user_without_rights_has_the_same_sandbox() -> None:
    """In a process that gives up root for good, where the tests run as root."""

    async def work() -> dict[str, Any]:
        await probe()
        with scratch() as workspace:
            ran = await sh(workspace, "id -u; echo x > made; cat /etc/shadow; ls /proc | head -3")
            forked = await python(workspace, FORK, processes=20)
            daemon = await sh(workspace, "setsid sleep 600 & echo done", time_s=5)
            spin = await sh(workspace, "while :; do :; done", cpu_s=0.3, time_s=60)
            return {
                "uid": ran.out.split()[0],
                "shadow": "No such file" in ran.err,
                "made": (workspace / "made").read_text(),
                "forked": forked.out,
                "daemon": daemon.out,
                "spin": spin.excess,
            }

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65533, 65533, 65533)
                os.setresuid(65533, 65533, 65533)
            told = json.dumps(asyncio.run(work()))
        except BaseException as error:
            told = json.dumps({"error": repr(error)})
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        told = json.loads(file.read())
    os.waitpid(child, 0)
    uid = str(os.geteuid() or 65533)
    forked = told.pop("forked", told)
    assert told == {
        "uid": uid,
        "shadow": True,
        "made": "x\n",
        "daemon": "done\n",
        "spin": "cpu",
    }
    assert 10 <= int(forked) < 20
