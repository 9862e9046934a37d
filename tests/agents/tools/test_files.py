import asyncio
import os
import shutil
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agents.tools.desk import mistakes, opened

from kickwheel.agents.tools import InvalidArguments, Tool
from kickwheel.agents.tools.edit import write
from kickwheel.agents.tools.files import Files
from kickwheel.agents.tools.root import Root
from kickwheel.agents.tools.tree import Pattern
from kickwheel.core.errors import ToolError, UsageError

SECRET = "nobody may read this"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a little of everything, and a secret beside it."""
    root = tmp_path / "root"
    (root / "2024" / "11").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text(SECRET)
    (root / "orders.csv").write_text("number;customer\n10;Ann\n11;Bob\n")
    (root / "2024" / "11" / "notes.txt").write_bytes("Grüße\r\nTotal: 5\r\n".encode("cp1252"))
    (root / "2024" / "scan.bin").write_bytes(b"\0\1\2 Ann")
    (root / "latest").symlink_to("2024/11")
    (root / "out").symlink_to("../secret.txt")
    (root / "abs").symlink_to(tmp_path / "secret.txt")
    (root / "up").symlink_to("..")
    (root / "circle").symlink_to("circle")
    os.mkfifo(root / "pipe")
    return root


@asynccontextmanager
async def files(root: Path, **options: Any) -> AsyncGenerator[dict[str, Tool]]:
    async with opened(Files, root.parent, root=root.name, **options) as tools:
        yield tools


async def read(tools: dict[str, Tool], path: str, **more: Any) -> str:
    return await tools["desk_read"].call({"path": path, **more})


async def test_a_folder_is_listed(root: Path) -> None:
    for path in (root / "orders.csv", root / "2024" / "11" / "notes.txt"):
        os.utime(path, (0, 0))
    async with files(root) as tools:
        assert await tools["desk_list"].call({"pattern": "o*"}) == (
            "orders.csv (30 bytes, 1970-01-01 00:00 UTC)\nout (link)"
        )
        assert await tools["desk_list"].call({"folder": "2024"}) == (
            "2024/11/\n2024/scan.bin (7 bytes, "
            + (await tools["desk_list"].call({"folder": "2024"})).rpartition("bytes, ")[2]
        )
        assert await tools["desk_list"].call({"pattern": "**/*.txt"}) == (
            "2024/11/notes.txt (17 bytes, 1970-01-01 00:00 UTC)"
        )
        assert await tools["desk_list"].call({"folder": "latest", "pattern": "x"}) == (
            "nothing there"
        )
        with pytest.raises(InvalidArguments, match="leads through something that is no"):
            await tools["desk_list"].call({"folder": "orders.csv"})


async def test_a_big_folder_is_listed_in_pages(root: Path) -> None:
    for number in range(700):
        (root / "2024" / "11" / f"{number:03}").touch()
    async with files(root) as tools:
        first = await tools["desk_list"].call({"folder": "2024/11"})
        assert first.endswith("(500 entries from 0 on; ask again with start=500)")
        rest = await tools["desk_list"].call({"folder": "2024/11", "start": 500})
        assert rest.count("\n") == 200


@pytest.mark.parametrize(
    ("pattern", "meant", "other"),
    [
        ("*.csv", ["a.csv"], ["a/b.csv", "a.txt"]),
        ("**", ["a", "a/b"], []),
        ("**/*.csv", ["a.csv", "a/b/c.csv"], ["a.txt"]),
        ("a/**", ["a", "a/b/c"], ["b/a"]),
        ("a/*/c?", ["a/b/cd"], ["a/cd", "a/b/c"]),
        ("[ab]", ["a", "b"], ["c"]),
        ("**/**/x/**/**", ["x", "a/x", "a/x/b"], ["a"]),
        ("./a", ["a"], ["b"]),
    ],
)
def test_patterns(pattern: str, meant: list[str], other: list[str]) -> None:
    found = Pattern(pattern)
    assert [found.matches(path) for path in (*meant, *other)] == [True] * len(meant) + [
        False
    ] * len(other)


async def test_text_is_read_whatever_wrote_it(root: Path) -> None:
    (root / "utf16.txt").write_text("Grüße", encoding="utf-16")
    (root / "marked.txt").write_text("Grüße", encoding="utf-8-sig")
    (root / "mixed.txt").write_bytes("Grüße ".encode() + "Grüße\x81".encode("latin-1"))
    (root / "dos.txt").write_bytes("Grüße".encode("cp850"))
    (root / "empty.txt").touch()
    async with files(root) as tools:
        assert await read(tools, "2024/11/notes.txt") == "Grüße\nTotal: 5\n"
        assert await read(tools, "latest/../11/./notes.txt") == "Grüße\nTotal: 5\n"
        assert await read(tools, "utf16.txt") == "Grüße"
        assert await read(tools, "marked.txt") == "Grüße"
        assert await read(tools, "mixed.txt") == "Grüße Grüße\x81"
        assert await read(tools, "empty.txt") == "(the file is empty)"
    async with files(root, encoding="cp850") as tools:
        assert await read(tools, "dos.txt") == "Grüße"


async def test_what_is_no_text_is_refused(root: Path) -> None:
    async with files(root) as tools:
        with pytest.raises(ToolError, match=r"2024/scan.bin is no text \(7 bytes\)"):
            await read(tools, "2024/scan.bin")


async def test_a_long_file_is_read_in_pages_that_join_to_the_whole(root: Path) -> None:
    content = "".join(f"{'ä' * (n % 90)}{n}\n" for n in range(80)) + "x" * 1000 + "\nend"
    (root / "long.txt").write_text(content)
    (root / "wide.txt").write_text("ü" * 5000)
    async with files(root, result_chars=500) as tools:
        for path, whole in (("long.txt", content), ("wide.txt", "ü" * 5000)):
            parts, more = [], {"line": 1}
            for _ in range(100):
                page = await read(tools, path, **more)
                assert len(page) <= 500
                text, _, where = page.rpartition("(there is more: read on from ")
                if not where or not text:
                    parts.append(page)
                    break
                more = {k: int(v) for k, v in (w.split("=") for w in where[:-1].split(", "))}
                parts.append(text if more.get("column", 1) == 1 else text[:-1])
            assert "".join(parts) == whole


async def test_a_huge_file_costs_only_its_page(root: Path) -> None:
    with (root / "huge.txt").open("wb") as huge:
        huge.write(b"first\n" * 20_000)
        huge.truncate(10**12)  # A hole: the file takes no room.
    async with files(root, result_chars=100) as tools:
        found = await read(tools, "huge.txt")
    assert found.startswith("first\n")
    assert len(found) < 150


@pytest.mark.parametrize(
    ("line", "column", "told"),
    [(9, 1, "orders.csv has only 3 lines"), (2, 50, "line 2 of orders.csv has only 6 characters")],
)
async def test_a_place_behind_the_end_is_told(
    root: Path, line: int, column: int, told: str
) -> None:
    async with files(root) as tools:
        with pytest.raises(InvalidArguments, match=told):
            await read(tools, "orders.csv", line=line, column=column)


async def test_words_are_found_whatever_their_case_and_encoding(root: Path) -> None:
    async with files(root) as tools:
        find = tools["desk_search"].call
        assert await find({"text": "GRÜSSE"}) == "2024/11/notes.txt:1: Grüße"
        assert await find({"text": "ann"}) == "orders.csv:2: 10;Ann"
        assert await find({"text": "ann", "files": "*.txt"}) == "nothing found"
        assert await find({"text": "total", "files": "2024/**/*.txt"}) == (
            "2024/11/notes.txt:2: Total: 5"
        )
        assert await find({"text": r"^\d+;[AB]", "regex": True}) == (
            "orders.csv:2: 10;Ann\norders.csv:3: 11;Bob"
        )
        assert await find({"text": "(10", "regex": False}) == "nothing found"
        with pytest.raises(InvalidArguments, match="the regular expression cannot be read: "):
            await find({"text": "(10", "regex": True})


async def test_many_hits_come_in_pages(root: Path) -> None:
    (root / "many.txt").write_text("hit\n" * 250)
    async with files(root) as tools:
        find = tools["desk_search"].call
        first = await find({"text": "hit"})
        assert first.endswith("(100 lines from hit 0 on; ask again with start=100)")
        assert (await find({"text": "hit", "start": 200})).count("\n") == 49


async def test_an_expression_that_never_ends_is_stopped_and_holds_up_nobody(root: Path) -> None:
    (root / "a.txt").write_text("a" * 40 + "!")
    before = set(threading.enumerate())
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.02)
            ticks += 1

    async with files(root, timeout_s=1) as tools:
        ticking = asyncio.create_task(tick())
        with pytest.raises(ToolError, match="took too long"):
            await tools["desk_search"].call({"text": "(a+)+$", "regex": True})
        ticking.cancel()
        assert ticks > 5
        searching = asyncio.create_task(
            tools["desk_search"].call({"text": "(a+)+$", "regex": True})
        )
        await asyncio.sleep(0.2)
        searching.cancel()
        with suppress(asyncio.CancelledError):
            await searching
        for _ in range(100):
            mine = set(threading.enumerate()) - before
            if not [thread for thread in mine if thread.name == "kickwheel-tool"]:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("the search goes on")


async def test_without_leave_nothing_can_be_written(root: Path) -> None:
    async with files(root) as tools:
        assert list(tools) == ["desk_list", "desk_read", "desk_search"]


async def test_files_are_written_whole(root: Path) -> None:
    async with files(root, write=True) as tools:
        effects = [tool.limits.effects for tool in tools.values()]  # type: ignore[attr-defined]
        assert effects == ["none", "none", "none", "repeatable", "once"]
        put = tools["desk_write"].call
        assert await put({"path": "new/deep/a.txt", "text": "ä\n"}) == (
            "new/deep/a.txt: written, 3 bytes"
        )
        assert (root / "new" / "deep" / "a.txt").read_bytes() == "ä\n".encode()
        (root / "orders.csv").chmod(0o640)
        assert (await put({"path": "orders.csv", "text": ""})).startswith("orders.csv: written an")
        assert (root / "orders.csv").stat().st_mode & 0o777 == 0o640
        assert [path.name for path in (root / "new" / "deep").iterdir()] == ["a.txt"]
        for path, told in (("2024", "is no plain file"), ("", "is a folder"), ("pipe", "no plain")):
            with pytest.raises(InvalidArguments, match=told):
                await put({"path": path, "text": "x"})


async def test_a_file_stays_in_its_encoding_with_its_line_ends(root: Path) -> None:
    notes = root / "2024" / "11" / "notes.txt"
    async with files(root, write=True) as tools:
        change = tools["desk_edit"].call
        changed = await change(
            {"path": "latest/notes.txt", "old": "Grüße\nTotal: 5", "new": "Größe\nTotal: 6"}
        )
        assert changed == "latest/notes.txt: line 1 changed"
        assert notes.read_bytes() == "Größe\r\nTotal: 6\r\n".encode("cp1252")
        with pytest.raises(InvalidArguments, match=r'"Ł" cannot be written into .* in cp1252'):
            await change({"path": "latest/notes.txt", "old": "Total", "new": "Łódź"})
        await tools["desk_write"].call({"path": "latest/notes.txt", "text": "Fuß\n"})
        assert notes.read_bytes() == b"Fu\xdf\r\n"


@pytest.mark.parametrize(("old", "told"), [("1", "stands 3 times"), ("Eve", "does not stand")])
async def test_an_edit_means_one_place(root: Path, old: str, told: str) -> None:
    async with files(root, write=True) as tools:
        with pytest.raises(InvalidArguments, match=f"the old text {told} in orders.csv"):
            await tools["desk_edit"].call({"path": "orders.csv", "old": old, "new": "x"})


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("../secret.txt", "leads out of the root"),
        ("2024/../../secret.txt", "leads out of the root"),
        ("out", "leads out of the root"),
        ("abs", "the link abs leads out of the root"),
        ("up/secret.txt", "leads out of the root"),
        ("latest/../../out", "leads out of the root"),
        ("/etc/passwd", "paths start at the root"),
        ("circle", "links in a circle"),
        ("gone.txt", "gone.txt is not there"),
        ("gone/a", "is not there"),
        ("orders.csv/a", "leads through something that is no folder"),
        ("2024", "is a folder"),
        ("pipe", "is no plain file"),
        ("a\0b", "zero byte"),
        ("x" * 5000, "cannot be used: File name too long"),
        ("\ud800", "a path that no file can have"),
    ],
)
async def test_no_path_leads_out(root: Path, path: str, told: str) -> None:
    async with files(root, write=True) as tools:
        with pytest.raises(InvalidArguments, match=told):
            await read(tools, path)
    assert (root.parent / "secret.txt").read_text() == SECRET


STEPS = st.sampled_from(
    ["..", ".", "", "2024", "11", "latest", "out", "abs", "up", "orders.csv", "secret.txt", "root"]
)


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEPS, max_size=9))
def test_whatever_is_read_lies_below_the_root(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.getbasetemp() / "below"
    if not place.exists():
        (place / "root" / "2024" / "11").mkdir(parents=True)
        (place / "secret.txt").write_text(SECRET)
        (place / "root" / "orders.csv").write_text("fine")
        (place / "root" / "2024" / "11" / "orders.csv").write_text("fine")
        (place / "root" / "latest").symlink_to("2024/11")
        (place / "root" / "2024" / "up").symlink_to("../..")
        (place / "root" / "up").symlink_to("2024/11/../..")
        (place / "root" / "out").symlink_to("../secret.txt")
        (place / "root" / "abs").symlink_to(place)
    root = Root(place / "root")
    path = "/".join(steps)
    try:
        with root.file(path) as handle:
            assert os.read(handle, 100) == b"fine"
            # What the system itself makes of the path is the same file.
            there = Path(place / "root" / path).stat()
            assert (os.fstat(handle).st_ino, os.fstat(handle).st_dev) == (
                there.st_ino,
                there.st_dev,
            )
    except InvalidArguments:
        pass
    finally:
        root.close()


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(STEPS | st.just("new"), max_size=7))
def test_whatever_is_written_lies_below_the_root(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("written")
    (place / "root" / "2024" / "11").mkdir(parents=True)
    (place / "secret.txt").write_text(SECRET)
    (place / "root" / "latest").symlink_to("2024/11")
    (place / "root" / "up").symlink_to("..")
    (place / "root" / "out").symlink_to("../secret.txt")
    root = Root(place / "root")
    with suppress(InvalidArguments):
        write(root, {"path": "/".join(steps), "text": "written"}, None)
    root.close()
    assert sorted(path.name for path in place.iterdir()) == ["root", "secret.txt"]
    assert (place / "secret.txt").read_text() == SECRET


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "f").write_text("fine")
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "f").write_text(SECRET)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (tmp_path / "root" / "a").rename(tmp_path / "root" / "b")
            (tmp_path / "root" / "a").symlink_to(tmp_path / "else")
            (tmp_path / "root" / "a").unlink()
            (tmp_path / "root" / "b").rename(tmp_path / "root" / "a")

    swapping = threading.Thread(target=swap)
    swapping.start()
    root = Root(tmp_path / "root")
    try:
        for _ in range(2000):
            with suppress(InvalidArguments), root.file("a/f") as handle:
                assert os.read(handle, 100) == b"fine"
        # The other thread may have been in the middle of swapping each time.
        stop.set()
        swapping.join()
        with root.file("a/f") as handle:
            assert os.read(handle, 100) == b"fine"
    finally:
        stop.set()
        swapping.join()
        root.close()


async def test_a_root_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("gone", "file"):
        with pytest.raises(UsageError, match=f"{name}: is no folder that can be opened"):
            async with opened(Files, tmp_path, root=name):
                pass


async def test_a_folder_that_is_moved_away_stays_the_root(root: Path) -> None:
    async with files(root) as tools:
        await asyncio.to_thread(root.rename, root.parent / "elsewhere")
        assert (await read(tools, "orders.csv")).startswith("number")
    shutil.rmtree(root.parent / "elsewhere")


def test_options_that_do_not_fit_are_told_with_their_line(tmp_path: Path) -> None:
    assert mistakes(Files, "kind: files\nroot: x\nencoding: klingon", tmp_path) == [
        '3: encoding: there is no encoding "klingon"; examples are cp1252, cp850, utf-16'
    ]
