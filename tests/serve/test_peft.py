"""NIM_PEFT_SOURCE: real adapters in PEFT's layout beside a real engine with a tiny base."""

import json
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from safetensors.numpy import save_file

from kickwheel.models import gguf, peft
from kickwheel.models.checkpoint import halved
from tests.models import tiny
from tests.serve.a2a.served import KEY, Server, serving

NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def as_peft(source: Path, folder: Path, **about: Any) -> Path:
    """The tiny adapter of `source` as PEFT writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, values in gguf.weights(source / "adapter.gguf").items():
        _, layer, part, _, matrix = name.split(".")
        if matrix == "lora_b" and part in ("attn_q", "attn_k"):
            values = halved(values, tiny.HEADS if part == "attn_q" else tiny.KV_HEADS)
        side = f"lora_{matrix[-1].upper()}"
        key = f"base_model.model.model.layers.{layer}.{NAMES[part]}.{side}.weight"
        tensors[key] = values.copy()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "base_model_name_or_path": "tiny"}
    (folder / peft.CONFIG).write_text(json.dumps({**config, **about}))
    save_file(tensors, str(folder / peft.WEIGHTS))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with one adapter, for the base of the app beside it."""
    app = tmp_path / "app"
    tiny.write_base(app / "tiny.gguf")
    tiny.write_adapter(app / "direct")
    as_peft(app / "direct", tmp_path / "adapters" / "mine")
    return tmp_path / "adapters"


@contextmanager
def served(source: Path, monkeypatch: pytest.MonkeyPatch, every: str = "") -> Iterator[Server]:
    app = source.parent / "app"
    text = "models:\n  plain: {kind: local, base: ./tiny.gguf}\n"
    monkeypatch.setenv("NIM_PEFT_SOURCE", str(source))
    if every:
        monkeypatch.setenv("NIM_PEFT_REFRESH_INTERVAL", every)
    with serving(app, text) as server:
        yield server


def names(server: Server) -> dict[str, Any]:
    _, listed = server.call("/v1/models")
    return {card["id"]: card["parent"] for card in listed["data"]}


def say(server: Server, model: str) -> str:
    key = server.headers()["authorization"].removeprefix("Bearer ")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
    said = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "hello"}],
        temperature=0,
        max_tokens=8,
    )
    return said.choices[0].message.content or ""


def test_what_is_written_is_what_was_read(source: Path, tmp_path: Path) -> None:
    direct = source.parent / "app" / "direct" / "adapter.gguf"
    shape = peft.shape_of(gguf.read_header(source.parent / "app" / "tiny.gguf"))
    assert shape == peft.Shape("llama", tiny.LAYERS, tiny.HEADS, tiny.KV_HEADS)
    peft.write_gguf(source / "mine", shape, tmp_path / "again.gguf")
    before, after = gguf.weights(direct), gguf.weights(tmp_path / "again.gguf")
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
    as_peft(source.parent / "app" / "direct", source / "rs", use_rslora=True)
    peft.write_gguf(source / "rs", shape, tmp_path / "rs.gguf")
    assert gguf.read_header(tmp_path / "rs.gguf").metadata["adapter.lora.alpha"] == 8.0


def test_an_adapter_answers_beside_its_base_under_the_name_of_its_folder(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_base(source.parent / "wide.gguf", width=128)
    tiny.write_adapter(source.parent / "other", width=128)
    as_peft(source.parent / "other", source / "for-another-base")
    (source / "half").mkdir()
    shutil.copy(source / "mine" / peft.CONFIG, source / "half")
    as_peft(source.parent / "app" / "direct", source / "dora", use_dora=True)
    shutil.copytree(source / "mine", source / "cut")
    (source / "cut" / peft.WEIGHTS).write_bytes((source / "mine" / peft.WEIGHTS).read_bytes()[:999])
    (source / "a-file").write_text("nothing")
    for name, odd in (("negative", '"r": -1, "use_rslora": true'), ("endless", '"r": 1e999')):
        shutil.copytree(source / "mine", source / name)
        (source / name / peft.CONFIG).write_text(f'{{"lora_alpha": 8, {odd}}}')
    shutil.copytree(source / "mine", source / "deep")
    (source / "deep" / peft.CONFIG).write_text("[" * 100_000)
    with served(source, monkeypatch) as server:
        found = names(server)
        there = {folder.name for folder in source.iterdir()}
        assert found.keys() & there == {"mine"}
        assert found["mine"] is not None
        assert say(server, "mine") != say(server, "plain")
    page = (Path(__file__).parents[2] / "docs" / "nim.md").read_text("utf-8")
    shown, *_ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with served(source, monkeypatch) as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        exec(shown.replace("http://127.0.0.1:8000", server.url), {})
        assert capsys.readouterr().out == "['mine']\n"
        first = sorted((source.parent / "app" / ".kickwheel" / "peft").iterdir())
        assert say(server, "mine")
        assert sorted((source.parent / "app" / ".kickwheel" / "peft").iterdir()) == first


def test_the_folder_is_looked_at_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(source, monkeypatch, every="0.2") as server:
        before = say(server, "mine")
        tiny.write_adapter(source.parent / "newer", seed=9)
        as_peft(source.parent / "newer", source / "later")
        _until(lambda: "later" in names(server))
        assert say(server, "later") != before
        # Written anew while it is served, in two steps, as a copy over a network does it.
        newer = (source / "later" / peft.WEIGHTS).read_bytes()
        (source / "mine" / peft.WEIGHTS).write_bytes(newer[: len(newer) // 2])
        _until(lambda: "mine" not in names(server))
        (source / "mine" / peft.WEIGHTS).write_bytes(newer)
        _until(lambda: "mine" in names(server))
        assert say(server, "mine") == say(server, "later")
        shutil.rmtree(source / "mine")
        _until(lambda: "mine" not in names(server))
        with pytest.raises(openai.NotFoundError):
            say(server, "mine")


def test_a_folder_that_is_not_there_stops_nothing_and_is_told_with_what_to_do(
    source: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    app = source.parent / "app"
    shutil.rmtree(source)
    with served(source, monkeypatch) as server:
        assert say(server, "plain")
        with urllib.request.urlopen(f"{server.url}/v1/health/ready") as response:
            assert response.status == 200
    assert (app / "tiny.gguf").exists()
    told = capfd.readouterr().err
    assert f"NIM_PEFT_SOURCE names {source}: there is no such folder" in told
    assert "set NIM_PEFT_REFRESH_INTERVAL" in told
    assert "Errno" not in told


def test_a_folder_that_comes_later_is_missed_once_and_then_found(
    source: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source.rename(source.parent / "later")
    with served(source, monkeypatch, every="0.05") as server:
        assert "mine" not in names(server)
        time.sleep(0.3)
        (source.parent / "later").rename(source)
        _until(lambda: "mine" in names(server))
    told = capfd.readouterr().err
    assert told.count("there is no such folder") == 1
    assert "It is looked for again." in told


def _until(true: Any) -> None:
    for _ in range(200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it never became true")
