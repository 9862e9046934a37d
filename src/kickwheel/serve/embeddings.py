"""/v1/embeddings: texts as vectors, by the models that make them (`models.vectors`).

Nothing of it becomes a trace: there is no answer to learn from.
"""

import base64
import sys
from array import array
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kickwheel.models.vectors import Embeds
from kickwheel.serve.answering import Answering
from kickwheel.serve.errors import Refused
from kickwheel.serve.request import fields, mistake, texts

TEXTS = 2048
"""Texts in one request at most; as OpenAI has it."""


class EmbeddingBody(msgspec.Struct):
    """The fields of a request."""

    model: str
    input: Any
    encoding_format: str | None = None
    dimensions: int | None = None

    def texts(self) -> list[str]:
        """The texts to be embedded.

        Raises:
            Refused: there are none, one is empty, or they are tokens (400).
        """
        found = texts("input", self.input, TEXTS)
        if "" in found:
            raise Refused(400, f"input[{found.index('')}] is empty", param="input")
        return found


def embedding_routes(answering: Answering) -> list[Route]:
    """The route of /v1/embeddings."""

    async def create(request: Request) -> Response:
        asked = _read(await request.body())
        wanted = asked.texts()
        model = await answering.model(asked.model)
        if not hasattr(model, "embedded"):
            what = (
                f"{asked.model} makes no vectors. Name a model that does; the app file declares "
                "one by `models: {words: {kind: embedding}}`."
            )
            raise Refused(400, what, param="model")
        made = await cast(Embeds, model).embedded(wanted, asked.dimensions)
        written = _as_text if asked.encoding_format == "base64" else list
        answer = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": place, "embedding": written(vector)}
                for place, vector in enumerate(made.vectors)
            ],
            "model": asked.model,
            "usage": {"prompt_tokens": made.tokens, "total_tokens": made.tokens},
        }
        return Response(msgspec.json.encode(answer), media_type="application/json")

    return [Route("/v1/embeddings", create, methods=["POST"])]


def _as_text(vector: "array[float]") -> str:
    """The vector as little-endian float32 in base64."""
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode()


def _read(body: bytes) -> EmbeddingBody:
    plain, _ = fields(body)
    try:
        asked = msgspec.convert(plain, EmbeddingBody)
    except msgspec.ValidationError as error:
        raise mistake(error) from error
    if asked.encoding_format not in (None, "float", "base64"):
        what = f'no encoding_format "{asked.encoding_format}"; there are float and base64'
        raise Refused(400, what, param="encoding_format")
    if asked.dimensions is not None and asked.dimensions < 1:
        what = f"dimensions must be at least 1, not {asked.dimensions}"
        raise Refused(400, what, param="dimensions")
    return asked
