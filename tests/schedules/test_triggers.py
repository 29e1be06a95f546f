"""Rule A11: run ids that follow from what starts a run, and from all of it."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from weft.triggers import trigger_run_id

_FACTS = st.tuples(*[st.text(alphabet="ab/:\0é", max_size=4)] * 3)


@given(_FACTS, _FACTS)
def test_other_facts_give_another_id(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """A11: two starts have one id exactly if everything about them is the same, wherever the texts are divided."""
    ids = [trigger_run_id("schedule", *facts) for facts in (one, other)]

    assert (ids[0] == ids[1]) == (one == other)


def test_kinds_do_not_collide() -> None:
    """A11: a child run never has the id of a scheduled one."""
    assert trigger_run_id("schedule", "a", "b", "c") != trigger_run_id("child", "a", "b", "c")


def test_the_id_is_the_same_everywhere_and_for_ever() -> None:
    """The id is the beginning of SHA-256 over four facts, each behind its length in eight bytes."""
    whole = b"".join(len(fact).to_bytes(8, "big") + fact for fact in (b"schedule", "größe".encode(), b"s", b"k"))

    assert trigger_run_id("schedule", "größe", "s", "k") == hashlib.sha256(whole).hexdigest()[:40]
