import random
from pathlib import Path

import pytest
from tests.flywheel.tune.tiny_llama import dataset_of, event, make_base

from kickwheel.records import Dataset


@pytest.fixture(scope="session")
def events() -> Dataset:
    chance = random.Random(0)
    train = [event(i, "train", chance) for i in range(24)]
    return dataset_of([*train, *(event(100 + i, "validation", chance) for i in range(6))])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("tiny"))
