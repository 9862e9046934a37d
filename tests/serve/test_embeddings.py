"""/v1/embeddings with the real openai client and the real model."""

import math
import re
from pathlib import Path
from typing import Any, cast

import openai
import pytest

from kickwheel.app import check_app, open_app
from kickwheel.core.errors import ModelError
from kickwheel.models.client import open_remote
from kickwheel.models.embedding import embed
from kickwheel.models.vectors import Embedder, Embeds
from tests.serve.conftest import Rooms, Served

TEXTS = ["the parcel is late", "my order has not arrived", "how to boil an egg"]


@pytest.fixture(autouse=True)
def words(rooms: Rooms) -> None:
    rooms.live["words"] = Embedder("words")  # type: ignore[assignment]


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_texts_come_back_as_vectors_of_length_one(served: Served) -> None:
    answer = served.client().embeddings.create(model="words", input=TEXTS)
    late, order, egg = (entry.embedding for entry in answer.data)
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert len(late) == 256
    assert math.isclose(cosine(late, late), 1, abs_tol=1e-5)
    assert cosine(late, order) > cosine(late, egg)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 10


def test_floats_and_the_clients_own_base64_say_the_same(served: Served) -> None:
    client = served.client()
    usual = client.embeddings.create(model="words", input=TEXTS[0]).data[0].embedding
    floats = client.embeddings.create(model="words", input=TEXTS[0], encoding_format="float")
    raw = client.embeddings.create(model="words", input=TEXTS[0], encoding_format="base64")
    assert list(usual) == floats.data[0].embedding
    assert isinstance(raw.data[0].embedding, str)
    vectors = embed([TEXTS[0]])
    assert vectors is not None
    assert list(usual) == vectors[0].tolist()


def test_fewer_dimensions_are_the_first_ones_at_length_one(served: Served) -> None:
    client = served.client()
    whole = client.embeddings.create(model="words", input="hello").data[0].embedding
    short = client.embeddings.create(model="words", input="hello", dimensions=64).data[0].embedding
    assert len(short) == 64
    length = math.sqrt(cosine(whole[:64], whole[:64]))
    assert short == pytest.approx([value / length for value in whole[:64]], abs=1e-6)


WRONG: list[tuple[dict[str, Any], str | None, str]] = [
    ({"input": [1, 2]}, "input", "tokens"),
    ({"input": [[1, 2]]}, "input", "tokens"),
    ({"input": []}, "input", "list of texts"),
    ({"input": ["a", ""]}, "input", r"input\[1\] is empty"),
    ({"input": ["a"] * 2049}, "input", "2048"),
    ({"dimensions": 100}, None, "256, 128, 64"),
    ({"encoding_format": "int8"}, "encoding_format", "base64"),
    ({"model": "echo"}, "model", "kind: embedding"),
]


@pytest.mark.parametrize(("body", "param", "says"), WRONG)
def test_what_is_not_understood_is_refused(
    served: Served, body: dict[str, Any], param: str | None, says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        served.client().post(
            "/embeddings", body={"model": "words", "input": "x", **body}, cast_to=object
        )
    assert caught.value.param == param


def test_a_model_of_vectors_answers_no_questions(served: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="/v1/embeddings"):
        served.client().chat.completions.create(
            model="words", messages=[{"role": "user", "content": "hi"}]
        )


async def test_a_model_elsewhere_makes_the_same_vectors(served: Served) -> None:
    async with open_remote("far", "words", f"{served.url}/v1") as model:
        made = await model.embedded(TEXTS, 128)
        with pytest.raises(ModelError, match="256, 128, 64"):
            await model.embedded(TEXTS, 100)
    here = await Embedder("words").embedded(TEXTS, 128)
    assert made == here


async def test_an_app_declares_a_model_of_vectors(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text("models: {words: {kind: embedding}}\n")
    async with open_app(tmp_path) as app:
        made = await cast(Embeds, app.model("words")).embedded(["hi"])
    assert len(made.vectors[0]) == 256


def test_what_the_page_shows_runs(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "models" / "embedding.md").read_text("utf-8")
    yaml, python = re.findall(r"```(?:yaml|python)\n(.*?)```", page, re.DOTALL)
    (tmp_path / "app.yml").write_text(yaml)
    assert ("models", "words") in check_app(tmp_path).parts
    exec(python.replace("http://127.0.0.1:8000", served.url), {})
    assert capsys.readouterr().out.startswith("256 ")
