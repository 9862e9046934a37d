import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.agents.tools.opening import open_folder, opened

from kickwheel.agents.caller import Caller, acting_for
from kickwheel.agents.tools import InvalidArguments, Tool, calling, sandbox
from kickwheel.agents.tools.program import Program
from kickwheel.agents.tools.shell import Shell
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import load
from kickwheel.core.store import open_store
from kickwheel.records import ToolCall
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


async def sh(tool: Tool, command: str) -> str:
    return await tool.call({"command": command})


async def test_a_command_tells_its_exit_code_and_what_it_printed(folder: Path) -> None:
    async with opened(Shell(), folder) as tools:
        assert list(tools) == ["desk", "desk_read"]
        assert await sh(tools["desk"], "echo out; echo err >&2; exit 2") == (
            "[exit code 2]\nout\n[standard error]\nerr"
        )
        assert await sh(tools["desk"], "true") == "[exit code 0]"


async def test_files_stay_for_the_next_command_and_end_with_the_request(folder: Path) -> None:
    async with opened(Shell(), folder) as tools:
        with open_store(folder / "traces") as store, Recorder(Traces(store)) as recorder:
            for _ in range(2):
                with recorder.trace("desk", "desk"):
                    assert "No such file" in await sh(tools["desk"], "cat note")
                    await sh(tools["desk"], "echo mine > note")
                    assert "mine" in await sh(tools["desk"], "cat note")


async def test_the_folder_of_a_request_that_ended_is_removed(folder: Path) -> None:
    async with opened(Shell(), folder) as tools:
        with open_store(folder / "traces") as store, Recorder(Traces(store)) as recorder:
            with recorder.trace("desk", "desk"):
                told = await sh(
                    tools["desk"], "grep -o '/[^ ]*kickwheel-[^ ]*' /proc/self/mountinfo"
                )
            place = Path(told.split()[-1])
            assert place.exists()  # noqa: ASYNC240
            async with asyncio.timeout(10):
                while place.exists():  # noqa: ASYNC110, ASYNC240  Nothing tells us.
                    await asyncio.sleep(0.05)


async def test_kept_workspaces_are_each_users_own_and_outlive_the_app(folder: Path) -> None:
    part = Shell(workspace="kept")
    ann, bob = Caller(user="ann"), Caller(user="bob")
    async with opened(part, folder) as tools:
        with acting_for(ann):
            await sh(tools["desk"], "echo hers > note")
    async with opened(part, folder) as tools:
        with acting_for(ann):
            assert "hers" in await sh(tools["desk"], "cat note")
        with acting_for(bob):
            assert "No such file" in await sh(tools["desk"], "cat note")


async def test_folders_of_the_app_can_be_read(folder: Path) -> None:
    (folder / "pdf").mkdir()
    (folder / "pdf" / "a.txt").write_text("how to")
    async with opened(Shell(folders={"manuals": Path("pdf")}), folder) as tools:
        assert "/mnt/manuals is a folder to read" in tools["desk"].spec.description
        assert "how to" in await sh(tools["desk"], "cat /mnt/manuals/a.txt")


@pytest.mark.parametrize(
    ("options", "command", "told"),
    [
        (
            {"timeout_s": 0.4},
            "echo so far; sleep 60",
            "[ended: it was not done after 0.4 s]\nso far",
        ),
        ({"cpu_s": 0.3}, "while :; do :; done", "[ended: it computed for more than 0.3 s]"),
        (
            {"memory_mb": 100},
            "for i in 1 2 3; do python3 -c 'x = bytearray(60_000_000)\nwhile 1: pass' & done; wait",
            "[ended: it used more than 100 MB of memory]",
        ),
        (
            {"disk_mb": 2},
            "for i in $(seq 99); do head -c 1M /dev/zero > $i; done; sleep 9",
            "[ended: its folder holds more than 2 MB or 20,000 files]",
        ),
    ],
)
async def test_limits_are_told_in_their_own_terms(
    folder: Path, options: dict[str, Any], command: str, told: str
) -> None:
    async with opened(Shell(**options), folder) as tools:
        assert await sh(tools["desk"], command) == told


async def test_the_time_of_a_command_is_up_before_that_of_its_call(folder: Path) -> None:
    async with opened(Shell(timeout_s=0.3), folder) as tools:
        asked = ToolCall(id="1", name="desk", arguments='{"command": "echo so far; sleep 60"}')
        result = await calling.call(tools, asked)
    assert "not done after 0.3 s" in result.text
    assert "so far" in result.text


async def test_what_a_command_left_is_read_without_running_anything(folder: Path) -> None:
    async with opened(Shell(), folder) as tools:
        await sh(tools["desk"], "mkdir a; printf 'caf\\303\\251' > a/note; printf '\\0' > binary")
        assert await tools["desk_read"].call({"path": "a/note"}) == "café"
        assert await tools["desk_read"].call({"path": "/home/sandbox/a/note"}) == "café"
        with pytest.raises(InvalidArguments, match="is no text"):
            await tools["desk_read"].call({"path": "binary"})


@pytest.mark.parametrize(
    ("made", "path", "told"),
    [
        ("ln -s /etc/shadow trick", "trick", "leads elsewhere"),
        ("ln -s /etc trick", "trick/shadow", "cannot be read"),
        ("ln -s ../../.. trick", "trick/etc/shadow", "cannot be read"),
        ("mkfifo trick", "trick", "is no file"),
        ("mkdir trick", "trick", "is no file"),
        ("true", "../../etc/shadow", "below the workspace"),
        ("true", "/etc/shadow", "below the workspace"),
        ("true", "", "below the workspace"),
        ("true", "a\0b", "below the workspace"),
        ("true", "none", "No such file"),
        ("true", "x" * 5000, "cannot be read"),
    ],
)
async def test_reading_back_leads_nowhere_else(
    folder: Path, made: str, path: str, told: str
) -> None:
    async with opened(Shell(), folder) as tools:
        await sh(tools["desk"], made)
        with pytest.raises(InvalidArguments, match=told):
            await tools["desk_read"].call({"path": path})


@pytest.mark.parametrize("command", ["a\0b", "x" * 200_000])
async def test_commands_that_no_kernel_takes_are_told(folder: Path, command: str) -> None:
    async with opened(Shell(), folder) as tools:
        with pytest.raises(InvalidArguments, match="write a file and run that"):
            await sh(tools["desk"], command)


@pytest.mark.parametrize("command", ["", "'", "\ud800", "$(", "\n" * 1000])
async def test_any_other_text_is_a_command(folder: Path, command: str) -> None:
    async with opened(Shell(), folder) as tools:
        assert (await sh(tools["desk"], command)).startswith("[exit code")


@pytest.mark.parametrize(
    "options",
    [
        {"memory_mb": 1},
        {"cpu_s": 0},
        {"workspace": "all"},
        {"folders": {"../x": "."}},
        {"folders": {"": "."}},
        {"root": "/"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Shell(**options)


async def test_a_folder_that_does_not_exist_is_told_when_the_app_opens(folder: Path) -> None:
    with pytest.raises(
        UsageError, match=r"tools\.desk\.folders\.manuals: there is no folder .*none"
    ):
        async with opened(Shell(folders={"manuals": Path("none")}), folder):
            pass


async def test_a_folder_that_programs_may_not_enter_is_told_when_the_app_opens(
    folder: Path,
) -> None:
    (folder / "closed" / "pdf").mkdir(parents=True)
    (folder / "closed").chmod(0o700 if os.geteuid() == 0 else 0o000)
    told = (
        r"run as user 65534, not as root.*chmod o\+x" if os.geteuid() == 0 else "Permission denied"
    )
    with pytest.raises(UsageError, match=told):
        async with opened(Shell(folders={"manuals": Path("closed/pdf")}), folder):
            pass


async def test_without_bubblewrap_the_tool_does_not_open(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "PLACES", str(folder))
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(UsageError, match="apt-get install bubblewrap"):
        async with opened(Shell(), folder):
            pass


async def test_a_program_prints_reads_files_and_fails_with_its_traceback(folder: Path) -> None:
    async with opened(Program(), folder) as tools:
        made = "open('note', 'w').write('6')\nprint('é', __name__)"
        assert await tools["desk"].call({"program": made}) == "[exit code 0]\né __main__"
        read = "n = int(open('note').read())\nprint(n * 7)\n1 / 0"
        told = await tools["desk"].call({"program": read})
    assert told.startswith("[exit code 1]\n42\n[standard error]\nTraceback")
    assert 'File "/program.py", line 3' in told
    assert told.endswith("ZeroDivisionError: division by zero")


async def test_packages_of_a_named_interpreter_are_there(folder: Path) -> None:
    made = await asyncio.create_subprocess_exec(
        *("/usr/bin/python3", "-m", "venv", "--without-pip", str(folder / "venv"))
    )
    assert await made.wait() == 0
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "greeting.py").write_text("word = 'hello from the package'\n")
    part = Program(python=Path("venv/bin/python"))
    async with opened(part, folder) as tools:
        assert await tools["desk"].call({"program": "import greeting\nprint(greeting.word)"}) == (
            "[exit code 0]\nhello from the package"
        )


@pytest.mark.parametrize("python", ["none/python", "/bin/true", "/bin/cat"])
async def test_an_interpreter_that_is_none_is_told(folder: Path, python: str) -> None:
    with pytest.raises(UsageError, match=r"tools\.desk\.python: .* is no Python that runs"):
        async with opened(Program(python=Path(python)), folder):
            pass


async def test_programs_of_any_length_run(folder: Path) -> None:
    async with opened(Program(), folder) as tools:
        program = "x = 1  # " + "x" * 1_000_000 + "\nprint(x)"
        assert await tools["desk"].call({"program": program}) == "[exit code 0]\n1"
        assert (await tools["desk"].call({"program": "\ud800"})).startswith("[exit code 1]")


def test_both_kinds_are_on_the_shelf() -> None:
    assert load("tools", "shell", Path()) is Shell
    assert load("tools", "program", Path()) is Program
