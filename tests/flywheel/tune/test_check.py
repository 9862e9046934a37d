"""The exported adapter against llama.cpp itself, on a tiny model with random weights."""

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.flywheel.tune.tiny_llama import make_base, make_gguf

from kickwheel.core.errors import DataError
from kickwheel.flywheel.tune import ExportMismatch, Options, check, check_export, lora
from kickwheel.flywheel.tune.base import open_base
from kickwheel.records import Adapter, Dataset, Example

OPTIONS = Options(
    minutes=None,
    epochs=4,
    learning_rate=2e-2,
    prompt="none",
    keep_system=False,
    patience=99,
    precision="float32",
    threads=1,
)


@pytest.fixture(scope="module")
def tuned(
    events: Dataset, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Adapter]:
    folder = tmp_path_factory.mktemp("tuned")
    base = make_gguf(tiny, folder / "tiny.gguf")
    return base, folder / "adapter", lora(events, base, folder / "adapter", OPTIONS)


@contextmanager
def engine(base: Path, adapter: Path | None) -> Iterator[Callable[[str, int], Any]]:
    llama = pytest.importorskip("xllamacpp")
    params = llama.CommonParams()
    params.model.path = str(base)
    params.n_ctx, params.n_parallel, params.warmup = 512, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    if adapter is not None:
        params.lora_adapters = [llama.CommonAdapterLoraInfo(str(adapter), 1.0)]
    server = llama.Server(params)

    async def door(prompt: str, max_tokens: int) -> str:
        asked = {"prompt": prompt, "temperature": 0, "n_predict": max_tokens}
        found = await asyncio.to_thread(server.handle_completions, asked)
        text: str = found["choices"][0]["text"]
        return text

    yield door


def test_a_gguf_holds_the_very_weights_of_the_folder(
    tuned: tuple[Path, Path, Adapter], tiny: Path
) -> None:
    ours, theirs = open_base(tuned[0]), open_base(tiny)
    state = theirs.model.state_dict()
    assert all((tensor == state[name]).all() for name, tensor in ours.model.state_dict().items())
    text = "<|im_start|>user\nFind Ünal 12, 3!<|im_end|>"
    assert ours.tokenizer(text)["input_ids"] == theirs.tokenizer(text)["input_ids"]
    assert ours.template.source == theirs.template.source


def test_llama_cpp_with_the_adapter_answers_as_transformers_does(
    events: Dataset, tuned: tuple[Path, Path, Adapter]
) -> None:
    base, folder, adapter = tuned
    with engine(base, folder / "adapter.gguf") as door:
        found = check_export(
            folder,
            adapter,
            base,
            events.part("validation"),
            right=lambda example, text: len(text) > 0,
            unquantised=door,
            served=door,
            max_tokens=80,
        )
    assert found["unquantised"]["equal"] >= 0.95
    assert found["served"]["right_tuned"] == found["served"]["right_served"] == 6
    assert found["served"]["p"] == 1.0


def test_an_engine_without_the_adapter_is_found_out(
    events: Dataset, tuned: tuple[Path, Path, Adapter]
) -> None:
    base, folder, adapter = tuned
    with engine(base, None) as door, pytest.raises(ExportMismatch, match="not what was tuned: 0%"):
        check_export(
            folder,
            adapter,
            base,
            events.part("validation"),
            right=lambda example, text: True,
            unquantised=door,
            max_tokens=40,
        )


@pytest.mark.parametrize(("others", "passes"), [(2, True), (3, False)])
def test_of_forty_answers_no_more_than_two_may_differ_however_near_the_ties(
    events: Dataset,
    tuned: tuple[Path, Path, Adapter],
    others: int,
    passes: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, folder, adapter = tuned
    monkeypatch.setattr(check, "NEAR_TIE", math.inf)
    forty = [replace(e, id=f"{i}-{e.id}") for i in range(7) for e in events.part("validation")][:40]
    with engine(base, folder / "adapter.gguf") as door:
        asked = 0

        async def sometimes_other(prompt: str, max_tokens: int) -> str:
            nonlocal asked
            asked += 1
            return "other" if asked <= others else str(await door(prompt, max_tokens))

        def found(examples: Sequence[Example]) -> Any:
            return check_export(
                folder,
                adapter,
                base,
                examples,
                right=lambda example, text: True,
                unquantised=sometimes_other,
                max_tokens=8,
            )

        if passes:
            assert found(forty)["unquantised"]["equal"] == 0.95
            return
        with pytest.raises(ExportMismatch, match=r"9[23]% of 40 answers equal"):
            found(forty)
        asked = 0
        assert found(forty[:39])["unquantised"]["equal"] < 0.95


def test_a_quantisation_that_costs_right_answers_is_found_out(
    events: Dataset, tuned: tuple[Path, Path, Adapter]
) -> None:
    base, folder, adapter = tuned

    async def worse(prompt: str, max_tokens: int) -> str:
        return "something else"

    with pytest.raises(ExportMismatch, match="as served the adapter is right on 0 of 6"):
        check_export(
            folder,
            adapter,
            base,
            events.part("validation"),
            right=lambda example, text: text != "something else",
            served=worse,
            max_tokens=40,
        )


def test_an_adapter_for_another_base_is_refused(
    events: Dataset, tuned: tuple[Path, Path, Adapter], tmp_path: Path
) -> None:
    _, folder, adapter = tuned
    other = make_base(tmp_path / "other", seed=1)
    with pytest.raises(DataError, match=r"made for .*tiny\.gguf"):
        check_export(folder, adapter, other, events.part("validation"), right=lambda e, t: True)
    assert replace(adapter, base="x").base_sha256 == adapter.base_sha256
