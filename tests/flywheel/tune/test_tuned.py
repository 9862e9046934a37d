"""What is refused before an hour is spent on it."""

from pathlib import Path
from typing import Any

import gguf
import pytest
from tests.flywheel.tune.tiny_llama import CHAT_TEMPLATE

from kickwheel.core.errors import DataError
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
