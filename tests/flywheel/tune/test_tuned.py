"""What is refused before an hour is spent on it, and how the hour is broken off."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from tests.flywheel.tune.tiny_llama import CHAT_TEMPLATE

from kickwheel.core.errors import DataError
from kickwheel.flywheel import tuned as module
from kickwheel.flywheel.tune import Options, Progress
from kickwheel.flywheel.tune.base import open_base
from kickwheel.flywheel.tune.export import check_names
from kickwheel.flywheel.tuned import tuned
from kickwheel.models.catalog import pull
from kickwheel.records import Dataset


def test_a_base_whose_adapters_the_engine_does_not_take_is_not_tuned(
    events: Dataset, tmp_path: Path
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "base.gguf", "gpt2")
    writer.add_type("model")
    writer.add_chat_template(CHAT_TEMPLATE)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    told: list[Progress] = []

    def run(base: Any) -> None:
        tuned(
            events,
            "events",
            base,
            tmp_path / "work",
            Options(),
            on_step=told.append,
            on_check=lambda: None,
        )

    with pytest.raises(DataError, match=r"is a gpt2, .* llama.cpp takes those for llama, qwen2"):
        run(pull(str(tmp_path / "base.gguf")))
    assert told == []
    assert not (tmp_path / "work").exists()


def test_a_layer_without_a_name_in_llama_cpp_is_found_before_the_training(tiny: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from torch import nn

    base = open_base(tiny)
    base.model.model.layers[0].mlp.detour = nn.Linear(8, 8)
    adapted = get_peft_model(base.model, LoraConfig(r=2, target_modules=["q_proj", "detour"]))
    with pytest.raises(DataError, match=r"no name for model\.layers\.0\.mlp\.detour of a llama"):
        check_names(adapted, base)


def test_a_ctrl_c_while_the_export_is_checked_ends_the_checking(
    events: Dataset, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def endless(*_: Any, on_token: Callable[[], None], **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            while True:
                on_token()
        finally:
            ended.set()

    monkeypatch.setattr(module, "check_export", endless)
    with pytest.raises(KeyboardInterrupt):
        tuned(
            events,
            "events",
            pull(str(tiny)),
            tmp_path,
            Options(epochs=1, prompt="none", keep_system=False, threads=1),
            on_step=lambda now: None,
            on_check=lambda: None,
        )
    assert ended.is_set()
