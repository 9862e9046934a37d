"""The dataset as files, and back.

`dataset.json` is the record. `train.jsonl`, `validation.jsonl` and `test.jsonl` hold the same
examples in OpenAI's fine-tuning form, for any other tool; `dataset.md` says to people what is in
them and what was dropped.
"""

import json
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.flywheel.curate.split import SIDES
from kickwheel.records import Dataset, Example, wire
from kickwheel.records.openai import message_to_openai, tool_to_openai

FILE = "dataset.json"


def save(dataset: Dataset) -> dict[str, bytes]:
    """The files of the dataset's artifact, by name."""
    files = {FILE: wire.to_bytes(dataset)}
    for side in SIDES:
        lines = [json.dumps(_line(e), ensure_ascii=False) for e in dataset.part(side)]
        files[f"{side}.jsonl"] = "".join(f"{line}\n" for line in lines).encode()
    files["dataset.md"] = _manifest(dataset).encode()
    return files


def load(folder: Path) -> Dataset:
    """The dataset in an artifact's folder.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    file = folder / FILE
    try:
        return wire.from_bytes(file.read_bytes(), Dataset)
    except OSError as error:
        raise DataError(f"{folder}: no dataset here, {FILE} cannot be read") from error
    except ValueError as error:
        raise DataError(f"{file}: {error}. Curate again.") from error


def _line(example: Example) -> dict[str, Any]:
    messages = [message_to_openai(message) for message in (*example.messages, example.answer)]
    line: dict[str, Any] = {"messages": messages}
    if example.tools:
        line["tools"] = [tool_to_openai(tool) for tool in example.tools]
    return line


def _manifest(dataset: Dataset) -> str:
    sizes = {side: len(dataset.part(side)) for side in SIDES}
    clusters = {side: len({e.cluster for e in dataset.part(side)}) for side in SIDES}
    clean = dataset.cleanliness
    highest = max((overlap.ngram for overlap in clean.overlaps), default=0.0)
    cosines = [o.embedding for o in clean.overlaps if o.embedding is not None]
    text = [
        f"# Dataset {dataset.name}",
        "",
        f"Examples: SHA-256 {wire.digest(dataset.examples)}",
        "",
        "| part | examples | clusters |",
        "|---|---|---|",
        *(f"| {side} | {sizes[side]} | {clusters[side]} |" for side in SIDES),
        "",
        "| step | kept | changed | dropped |",
        "|---|---|---|---|",
    ]
    for step in dataset.steps:
        reasons = ", ".join(f"{count} {reason}" for reason, count in step.dropped.items())
        text.append(f"| {step.name} | {step.kept} | {step.changed or '–'} | {reasons or '–'} |")
    seen = "There are no test questions, so nothing can be compared on this dataset."
    if clean.tested:
        seen = (
            f"Unseen: {'yes' if clean.clean else 'NO'}. Of {clean.tested} test questions "
            f"{clean.exact} stand word for word among training, validation, prompts or few-shot, "
            f"and {clean.near} reach an n-gram likeness of {clean.threshold} (the highest is "
            f"{highest:.3f}"
            + (f", the highest cosine of embeddings {max(cosines):.3f})." if cosines else ").")
        )
    text += [
        "",
        seen,
        "",
        f"`{FILE}` names the trace of each example (`source`) and of each that was dropped.",
        "",
    ]
    return "\n".join(text)
