"""A snapshot holds all but the base, says what it is made of, and never changes."""

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.flywheel import made

from kickwheel import check_app, snapshot
from kickwheel.core.errors import StoreError
from kickwheel.core.store import open_store


def packed(folder: Path) -> Path:
    app = made.app(folder)
    (app / "tools.py").write_text("def add(a: int, b: int) -> int: return a + b\n")
    (app / "app.yml").write_text(made.APP.rstrip()[:-1] + ", traffic: [chats.jsonl]}\n")
    (app / "chats.jsonl").write_text("what somebody asked")
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
        made.report(store, dataset, made.adapter(store, dataset, 1), promoted=True)
    identity = snapshot(app)
    assert snapshot(app) == identity
    return app / ".kickwheel" / "artifacts" / "snapshot" / identity


def test_it_opens_as_an_app_with_its_own_adapter_and_keeps_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path / "home"))
    folder = packed(tmp_path)
    plan = check_app(folder)
    adapter = plan.parts["models", "specialist"].model_dump()["adapter"]
    assert (plan.folder / adapter / "adapter.gguf").read_bytes() == b"weights"
    assert (plan.folder / "tools.py").exists()
    assert not (plan.folder / "chats.jsonl").exists()
    assert plan.loop.traffic == ()
    assert not plan.store.is_relative_to(folder)
    check_app(folder)


@pytest.mark.parametrize("name", ["adapter/adapter.gguf", "app/tools.py", "report/report.json"])
def test_a_changed_byte_is_refused(tmp_path: Path, name: str) -> None:
    folder = packed(tmp_path)
    data = bytearray((folder / name).read_bytes())
    data[0] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(StoreError, match=f"{Path(name).name}: changed since it was made"):
        check_app(folder)


def test_its_bill_of_materials_is_valid_and_names_model_and_packages(tmp_path: Path) -> None:
    text = (packed(tmp_path) / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {c["name"]: c for c in json.loads(text)["components"]}
    assert components["smollm2-135m"]["type"] == "machine-learning-model"
    assert components["smollm2-135m"]["hashes"][0]["content"] == "0" * 64
    assert {"kickwheel", "aiohttp", "xllamacpp"} <= components.keys()
    assert "pytest" not in components
