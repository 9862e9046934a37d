"""How alike texts are, against the plain definition."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.flywheel.curate import likeness as subject
from kickwheel.flywheel.curate import pairs
from kickwheel.flywheel.curate.likeness import likeness, nearest
from kickwheel.flywheel.curate.pairs import Pairs
from kickwheel.models import embedding

short = st.lists(
    st.sampled_from(["find", "me", "a", "taxi", "in", "oslo", "please", "now", "it's", "7"]),
    max_size=9,
).map(" ".join)
long = st.lists(
    st.sampled_from([f"{a}{b}" for a in ("run", "sea", "map") for b in ("ner", "son", "ing")]),
    min_size=60,
    max_size=90,
).map(" ".join)


def test_the_likeness_is_jaccard_of_character_5_grams() -> None:
    # " abcdef " → " abcd" "abcde" "bcdef" "cdef "; " abcdeg " → " abcd" "abcde" "bcdeg" "cdeg "
    assert likeness("abcdef", "abcdeg") == pytest.approx(2 / 6)
    assert likeness("abcdef", "abcdef") == 1.0
    assert likeness("", "") == 1.0
    assert likeness("abcdef", "uvwxyz") == 0.0


@settings(max_examples=150, deadline=None)
@given(
    st.lists(short | long, min_size=2, max_size=25),
    st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0]),
    st.sampled_from([0, 1000]),
)
def test_every_pair_is_found_and_no_other(texts: list[str], threshold: float, many: int) -> None:
    with pytest.MonkeyPatch().context() as patch:
        patch.setattr(pairs, "MANY", many)
        among = Pairs(texts, threshold)
    found = {}
    for i in range(len(texts)):
        found.update({(j, i): value for j, value in among.like(i).items()})
        among.add(i)
    expected = {
        (j, i): likeness(texts[j], texts[i])
        for j, i in itertools.combinations(range(len(texts)), 2)
        if likeness(texts[j], texts[i]) >= threshold
    }
    assert found == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(short | long, min_size=1, max_size=12), st.lists(short | long, max_size=12))
def test_the_nearest_is_the_most_alike(texts: list[str], others: list[str]) -> None:
    found = nearest(texts, others)
    for text, (j, value) in zip(texts, found, strict=True):
        best = max((likeness(text, other) for other in others), default=0.0)
        assert value == pytest.approx(best)
        assert value == pytest.approx(likeness(text, others[j]) if j >= 0 else 0.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(short, min_size=1, max_size=12), st.lists(short, min_size=1, max_size=12))
def test_numpy_finds_what_counting_finds(texts: list[str], others: list[str]) -> None:
    plain = nearest(texts, others)
    with pytest.MonkeyPatch().context() as patch:
        patch.setattr(subject, "MANY", 0)
        assert nearest(texts, others) == plain


def test_embeddings_are_those_of_the_package(tmp_path: Path) -> None:
    texts = ["find me a taxi in oslo", "where is the nearest dentist?", "", "日本語のテキスト"]
    script = (
        "import shutil, json, sys\n"
        "from pathlib import Path\n"
        "import wordllama\n"
        "root = Path(wordllama.__file__).parent\n"
        "folder = Path(sys.argv[2])\n"
        "for name in ('weights', 'tokenizers'): shutil.copytree(root / name, folder / name)\n"
        "model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)\n"
        "print(json.dumps(model.embed(json.loads(sys.argv[1]), norm=True).tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps([t for t in texts if t]), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = json.loads(done.stdout.splitlines()[-1])
    vectors = embedding.embed([t for t in texts if t])
    assert vectors is not None
    for row, wanted in zip(vectors.tolist(), expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-5)


def test_without_the_package_there_are_no_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding._model.cache_clear()
    monkeypatch.setattr(embedding.importlib.util, "find_spec", lambda name: None)
    assert embedding.nearest(["a"], ["b"]) is None
    embedding._model.cache_clear()
