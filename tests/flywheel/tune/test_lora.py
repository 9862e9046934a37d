import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.flywheel.tune.tiny_llama import dataset_of, make_base

from kickwheel.core.errors import DataError
from kickwheel.flywheel.tune import Options, Progress, lora
from kickwheel.records import Adapter, Dataset, Message, PromptForm, wire

QUICK = Options(
    threads=1, minutes=None, epochs=3, prompt="none", keep_system=False, rank=4, evaluations=3
)


def bytes_of(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def test_a_run_lowers_the_loss_and_leaves_an_adapter_that_peft_loads(
    events: Dataset, tiny: Path, tmp_path: Path
) -> None:
    told: list[Progress] = []
    options = replace(QUICK, epochs=8, learning_rate=1e-2)
    adapter = lora(events, tiny, tmp_path / "a", options, base_name="tiny", on_step=told.append)

    losses = [p.validation_loss for p in adapter.curve]
    assert losses[-1] < losses[0]
    assert told[-1].step == told[-1].steps == adapter.config["steps"] == 48
    assert told[-1].tokens_per_s > 0
    assert 0 < told[0].tokens < told[-1].tokens
    assert adapter.form == PromptForm(tools="none", system=False)
    assert wire.from_bytes((tmp_path / "a/adapter.json").read_bytes(), Adapter) == adapter
    assert {f.name for f in (tmp_path / "a").iterdir()} == {
        "adapter.gguf",
        "adapter.json",
        "adapter_config.json",
        "adapter_model.safetensors",
    }

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), tmp_path / "a")
    assert any("lora_B" in n and p.abs().sum() > 0 for n, p in model.named_parameters())


def test_the_loss_is_that_of_transformers_and_peft_themselves(
    events: Dataset, tiny: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = lora(events, tiny, tmp_path, replace(QUICK, precision="float32"))
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), tmp_path).eval()
    total, count = 0.0, 0
    for example in events.part("validation"):
        question = example.messages[-1].content
        arguments = json.loads(example.answer.tool_calls[0].arguments)
        month, day, year = arguments["date"].split("/")
        prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        answer = (
            f"find_events\nkind: {arguments['kind']}\ncity: {arguments['city']}\n"
            f"date: {year}-{month}-{day}<|im_end|>"
        )
        ids = tokenizer(prompt + answer, return_tensors="pt")["input_ids"]
        labels = ids.clone()
        labels[:, : len(tokenizer(prompt)["input_ids"])] = -100
        with torch.no_grad():
            loss = model(input_ids=ids, labels=labels).loss
        learned = int((labels != -100).sum())
        total, count = total + float(loss) * learned, count + learned
    best = min(p.validation_loss for p in adapter.curve)
    assert total / count == pytest.approx(best, abs=1e-4)


def run(events: Dataset, base: Path, out: Path) -> None:
    def slowly(_: Progress) -> None:
        time.sleep(0.05)  # Long enough to be killed in the middle.

    lora(events, base, out, replace(QUICK, checkpoint_s=0.0), on_step=slowly)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_bits(
    events: Dataset, tiny: Path, tmp_path: Path
) -> None:
    whole = lora(events, tiny, tmp_path / "whole", QUICK, base_name="tiny")
    context = multiprocessing.get_context("spawn")
    kills = 0
    for _ in range(2):
        process = context.Process(target=run, args=(events, tiny, tmp_path / "killed"))
        process.start()
        checkpoint = tmp_path / "killed/checkpoint.pt"
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        deadline = time.monotonic() + 120
        while process.is_alive() and time.monotonic() < deadline:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != seen:
                break
            time.sleep(0.005)
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
            kills += 1
        process.join()
    assert kills == 2
    assert not (tmp_path / "killed/adapter.json").exists()
    told: list[Progress] = []
    killed = lora(events, tiny, tmp_path / "killed", QUICK, base_name="tiny", on_step=told.append)
    assert killed == whole
    assert len(told) < told[-1].step, "else it did not go on where it was killed"
    assert told[-1].tokens == round(3 * 24 * whole.config["tokens_per_example"])
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert not (tmp_path / "killed/checkpoint.pt").exists()


def test_a_finished_run_is_not_run_again_and_another_is(
    events: Dataset, tiny: Path, tmp_path: Path
) -> None:
    first = lora(events, tiny, tmp_path, QUICK)
    told: list[Progress] = []
    assert lora(events, tiny, tmp_path, QUICK, on_step=told.append) == first
    assert told == []
    other = lora(events, tiny, tmp_path, replace(QUICK, seed=1), on_step=told.append)
    assert told
    assert other.config["run"] != first.config["run"]


def test_validation_decides_what_the_prompt_holds(
    events: Dataset, tiny: Path, tmp_path: Path
) -> None:
    options = replace(QUICK, epochs=1, prompt="auto", keep_system=None)
    phases: list[str] = []
    adapter = lora(events, tiny, tmp_path, options, on_step=lambda p: phases.append(p.phase))
    assert phases[0] == "choosing the prompt"
    assert phases[-1] == "tuning"
    assert adapter.form.tools in ("none", "signatures")


def test_the_time_bounds_the_run(events: Dataset, tiny: Path, tmp_path: Path) -> None:
    options = replace(QUICK, epochs=1000, minutes=0.05, prompt="none")
    began = time.monotonic()
    adapter = lora(events, tiny, tmp_path, options)
    assert time.monotonic() - began < 30
    assert 8 <= adapter.config["steps"] < 6000


def test_labels_and_text_are_learned_like_calls(
    events: Dataset, tiny: Path, tmp_path: Path
) -> None:
    labelled = [
        replace(e, tools=(), kind="label", answer=Message(role="assistant", content="music"))
        for e in events.examples
    ]
    adapter = lora(dataset_of(labelled), tiny, tmp_path, replace(QUICK, keep_system=True))
    assert adapter.form.system


def test_one_example_is_too_few(events: Dataset, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 training and 0 validation"):
        lora(dataset_of(list(events.examples[:1])), tiny, tmp_path, QUICK)


def test_an_answer_longer_than_the_context_is_named(events: Dataset, tmp_path: Path) -> None:
    base = make_base(tmp_path / "short", context=128)
    long = replace(
        events.examples[0],
        id="long-one",
        kind="text",
        answer=Message(role="assistant", content="word " * 100),
    )
    with pytest.raises(DataError, match=r"long-one: its answer has 501 tokens.*128"):
        lora(dataset_of([*events.examples, long]), base, tmp_path / "out", QUICK)


def test_a_folder_without_a_model_is_said(events: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a GGUF file nor a folder"):
        lora(events, tmp_path, tmp_path / "out", QUICK)
