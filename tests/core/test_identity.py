import multiprocessing
from concurrent.futures import ThreadPoolExecutor

from kickwheel.core.identity import fresh


def test_ids_have_two_digits_a_byte_and_differ() -> None:
    found = [fresh(8) for _ in range(1000)]
    assert {len(one) for one in found} == {16}
    assert len(set(found)) == 1000


def test_threads_and_forks_make_others() -> None:
    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(fresh, [16] * 1000))) == 1000
    with multiprocessing.get_context("fork").Pool(2) as processes:
        theirs = processes.map(fresh, [16] * 50, chunksize=25)
    assert len({*theirs, *(fresh(16) for _ in range(50))}) == 100
