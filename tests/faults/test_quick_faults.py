"""The quick part of the fault suite; all of it is `.venv/bin/python tests/faults/all.py`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from faults.ledger import Ledger
from faults.nursery import Nursery
from faults.trials import NEED_RIGHTS, TRIALS, Bench, play

QUICK = [name for name in TRIALS if name not in NEED_RIGHTS]
AT_ONCE = 4
"""Trials beside each other: they wait most of the time."""


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Ledger]]]:
    """All of them, under way."""
    base, seed = tmp_path_factory.mktemp("faults"), secrets.token_hex(4)
    with Nursery() as nursery, ThreadPoolExecutor(AT_ONCE) as pool:
        slowest_first = sorted(QUICK, key=lambda name: ("postgres" not in name, name))
        yield {name: pool.submit(play, name, _bench(nursery, base / name, seed)) for name in slowest_first}
        pool.shutdown(cancel_futures=True)


def _bench(nursery: Nursery, directory: Path, seed: str) -> Bench:
    return Bench(nursery, directory, quick=True, seed=seed)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_lost_or_done_twice(trials: dict[str, Future[Ledger]], name: str) -> None:
    """Whatever the fault, what was acknowledged is there, what was finished is not done again, and repeats are marked."""
    ledger = trials[name].result()
    assert ledger.wrong == []
    assert ledger.counts["steps"] > 0
