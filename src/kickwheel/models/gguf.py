"""GGUF files, llama.cpp's form of a model: what their header says, and their weights in another
type.

The header is read here without any package; weights need `gguf` and numpy.
Source: github.com/ggml-org/ggml, docs/gguf.md, version 3 (and 2, which is laid out the same).
"""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, get_args

from kickwheel.core.errors import DataError, MissingExtra
from kickwheel.core.files import storage_error

Quantisation = Literal["Q8_0", "Q4_0", "Q4_1", "F16", "BF16"]

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_LONGEST_STRING = 1 << 28


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the weights."""

    metadata: dict[str, Any]
    tensors: dict[str, tuple[tuple[int, ...], int]]
    """By name: shape, fastest dimension first, and type as ggml numbers it."""

    @property
    def architecture(self) -> str:
        """`llama`, `qwen2`, …; for adapters that of their base."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that the model was tuned with, where the file has one."""
        template = self.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained to see; 0 where the file does not say."""
        return int(self.metadata.get(f"{self.architecture}.context_length", 0))

    def token(self, which: Literal["bos", "eos"]) -> str | None:
        """The text of a special token."""
        number = self.metadata.get(f"tokenizer.ggml.{which}_token_id")
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(number, int) and isinstance(tokens, list) and 0 <= number < len(tokens):
            return str(tokens[number])
        return None


def read_header(path: Path) -> Header:
    """The header of a GGUF file.

    Raises:
        DataError: there is no such file, or it is no GGUF, or it ends too early.
    """
    try:
        with path.open("rb") as file:
            return _header(file, path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (struct.error, KeyError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: the GGUF header is damaged. Fetch the file again.") from error


def requantise(
    source: Path,
    target: Path,
    to: Quantisation,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes `target` with the matrices of `source` in another type; the rest is copied.

    Embeddings stay as they are: they are read a row at a time, and the output uses them.

    Args:
        on_progress: called with bytes of weights read, and of all of them.
    Raises:
        DataError: `source` is no GGUF, or has weights that the gguf package cannot read.
        StoreError: the disk is full; `target` is as it was.
    """
    gguf = _package()
    read_header(source)
    kind = gguf.GGMLQuantizationType[to]
    reader = gguf.GGUFReader(source)
    architecture = reader.get_field("general.architecture").contents()
    with writing_gguf(target, architecture) as writer:
        for field in reader.fields.values():
            name = field.name
            if name == "general.architecture" or name.startswith("GGUF."):
                continue
            value = field.contents()
            if name == "general.file_type":
                value = file_type(to)
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, value, field.types[0], sub_type=inner)
        total, done = sum(int(t.n_bytes) for t in reader.tensors), 0
        for tensor in reader.tensors:
            data, form = tensor.data, tensor.tensor_type
            if _is_matrix(tensor) and form != kind:
                data, form = _in_type(gguf, tensor, kind), kind
            writer.add_tensor(tensor.name, data, raw_dtype=form)
            done += int(tensor.n_bytes)
            if on_progress is not None:
                on_progress(done, total)


@contextmanager
def writing_gguf(target: Path, architecture: str) -> Iterator[Any]:
    """A `gguf.GGUFWriter`, whose settings and tensors take the place of `target` when the block
    ends well.

    Raises:
        StoreError: the disk is full; `target` is as it was.
    """
    gguf = _package()
    # `files.writing` hands out an open file; the writer of gguf wants to open one itself.
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        writer = gguf.GGUFWriter(beside, architecture)
        yield writer
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        beside.unlink(missing_ok=True)


def add_tensor(writer: Any, name: str, values: Any, to: Quantisation) -> None:
    """Adds float32 values: matrices in the type `to` where its blocks fit, others as they are."""
    gguf = _package()
    kind = gguf.GGMLQuantizationType[to]
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    if values.ndim == 2 and values.shape[1] % block == 0:
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, values)


def tensor_names(architecture: str, layers: int) -> Callable[[str], str | None]:
    """The name in GGUF of a weight that transformers names; `None` where there is none."""
    gguf = _package()
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(numbers[architecture], layers)

    def name_of(name: str) -> str | None:
        found: str | None = names.get_name(name, try_suffixes=(".weight", ".bias"))
        return found

    return name_of


def file_type(to: Quantisation) -> int:
    """The number that `general.file_type` has for a file that is mostly of this type."""
    return int(_package().LlamaFileType[f"MOSTLY_{to}"])


def weights(path: Path) -> dict[str, Any]:
    """Every tensor as a float32 array, by its name in the file; rows are outputs.

    Raises:
        DataError: as `requantise`.
    """
    gguf = _package()
    read_header(path)
    return {t.name: _floats(gguf, t) for t in gguf.GGUFReader(path).tensors}


def write_empty_adapter(header: Header, target: Path) -> None:
    """Writes an adapter for the base that changes nothing: one weight, of rank 1, zero.

    Raises:
        DataError: the base has no layers as llama.cpp names them.
        StoreError: the disk is full.
    """
    _package()
    import numpy as np

    name = next(
        (n for n in header.tensors if n.startswith("blk.0.attn") and _is_wide(header, n)), ""
    )
    if not name:
        raise DataError("a base without attention, to which no adapter fits")
    columns, rows = header.tensors[name][0]
    with writing_gguf(target, header.architecture) as writer:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", 1.0)
        writer.add_tensor(f"{name}.lora_a", np.zeros((1, columns), np.float32))
        writer.add_tensor(f"{name}.lora_b", np.zeros((rows, 1), np.float32))


def _is_wide(header: Header, name: str) -> bool:
    return name.endswith(".weight") and len(header.tensors[name][0]) == 2


def _is_matrix(tensor: Any) -> bool:
    return len(tensor.shape) == 2 and not tensor.name.startswith(("token_embd", "output."))


def _in_type(gguf: Any, tensor: Any, kind: Any) -> Any:
    floats = _floats(gguf, tensor)
    if kind == gguf.GGMLQuantizationType.F16:
        return floats.astype("float16")
    return gguf.quants.quantize(floats, kind)


def _floats(gguf: Any, tensor: Any) -> Any:
    try:
        return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype("float32", copy=False)
    except NotImplementedError as error:
        raise DataError(
            f"{tensor.name} is {tensor.tensor_type.name}, which the gguf package cannot read. "
            f"Take a file in one of {', '.join(get_args(Quantisation))}."
        ) from error


def _package() -> Any:
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise MissingExtra("reading a model's weights", "local") from error
    return gguf


def _header(file: IO[bytes], path: Path) -> Header:
    if file.read(4) != b"GGUF":
        raise DataError(f"{path}: not a GGUF file")
    version, tensors, keys = _unpack(file, "IQQ")
    if version not in (2, 3):
        raise DataError(f"{path}: GGUF version {version}; only 2 and 3, little-endian, are read")
    metadata = {}
    for _ in range(keys):
        key = _string(file)
        metadata[key] = _value(file, *_unpack(file, "I"))
    found = {}
    for _ in range(tensors):
        name = _string(file)
        (dimensions,) = _unpack(file, "I")
        shape = _unpack(file, f"{dimensions}Q")
        kind, _offset = _unpack(file, "IQ")
        found[name] = (shape, kind)
    return Header(metadata, found)


def _value(file: IO[bytes], kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner, count = _unpack(file, "IQ")
        if inner in (_STRING, _ARRAY):
            return [_value(file, inner) for _ in range(count)]
        return list(_unpack(file, f"{count}{_SCALARS[inner]}"))
    return _unpack(file, _SCALARS[kind])[0]


def _string(file: IO[bytes]) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _LONGEST_STRING:
        raise ValueError("a string without end")
    data = file.read(length)
    if len(data) < length:
        raise ValueError("cut")
    # Byte-level tokens of some models are no valid UTF-8 on their own.
    return data.decode("utf-8", "replace")


def _unpack(file: IO[bytes], form: str) -> tuple[Any, ...]:
    form = "<" + form
    size = struct.calcsize(form)
    if size > _LONGEST_STRING:
        raise ValueError("an array without end")
    return struct.unpack(form, file.read(size))
