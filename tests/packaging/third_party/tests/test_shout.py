import asyncio
from pathlib import Path

from weft.testing import check_pack, run_action

PACK = Path(__file__).parent.parent


def test_documents_and_code_agree():
    assert check_pack(PACK) == []


def test_shouts_twice():
    output = asyncio.run(run_action(PACK, "shout", {"text": "hear me", "times": 2}))

    assert output == {"text": "HEAR ME HEAR ME"}
