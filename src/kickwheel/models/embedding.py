"""Texts as vectors, by the tables of `wordllama` (MIT), where that package is installed.

Its files are read as they lie in the package: importing it would set up the process's logging and
look for downloads. A text is the mean of its tokens' vectors, as `WordLlama.embed` makes it.
"""

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

_WEIGHTS = Path("weights") / "l2_supercat_256.safetensors"
_TOKENIZER = Path("tokenizers") / "l2_supercat_tokenizer_config.json"
_ROWS = 4096


def embed(texts: Sequence[str]) -> "NDArray[numpy.float32] | None":
    """Unit vectors [len(texts), 256]; `None` where no embedding model is installed."""
    embedded = embed_counted(texts)
    return None if embedded is None else embedded[0]


def embed_counted(texts: Sequence[str]) -> "tuple[NDArray[numpy.float32], int] | None":
    """As `embed`, with the number of tokens that all texts have together."""
    model = _model()
    if model is None:
        return None
    import numpy

    table, tokenizer = model
    counted = 0
    vectors = numpy.zeros((len(texts), table.shape[1]), dtype=numpy.float32)
    for start in range(0, len(texts), _ROWS):
        # Half a surrogate pair is text to Python, but to no tokenizer.
        batch = [t.encode(errors="replace").decode() for t in texts[start : start + _ROWS]]
        for i, encoded in enumerate(tokenizer.encode_batch(batch, add_special_tokens=False), start):
            counted += len(encoded.ids)
            if encoded.ids:
                vectors[i] = table[numpy.minimum(encoded.ids, len(table) - 1)].mean(axis=0)
    norms = numpy.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= numpy.maximum(norms, 1e-12)
    return vectors, counted


def nearest(texts: Sequence[str], others: Sequence[str]) -> list[float] | None:
    """For each text the cosine to the most alike of `others`, -1 to 1.

    `None` where no embedding model is installed, or there are no others.
    """
    if not texts or not others:
        return None
    vectors = embed([*texts, *others])
    if vectors is None:
        return None
    asked, known = vectors[: len(texts)], vectors[len(texts) :]
    found: list[float] = []
    for start in range(0, len(asked), 256):
        block = asked[start : start + 256] @ known.T
        found.extend(round(float(value), 6) for value in block.max(axis=1))
    return found


@cache
def _model() -> "tuple[NDArray[numpy.float32], Tokenizer] | None":
    found = importlib.util.find_spec("wordllama")
    places = found.submodule_search_locations if found is not None else None
    if not places:
        return None
    folder = Path(places[0])
    if not (folder / _WEIGHTS).exists() or not (folder / _TOKENIZER).exists():
        return None
    import numpy
    from safetensors import safe_open
    from tokenizers import Tokenizer

    with safe_open(folder / _WEIGHTS, framework="np") as file:
        table = file.get_tensor("embedding.weight").astype(numpy.float32)
    tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return table, tokenizer
