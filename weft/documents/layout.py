"""How a workflow is drawn, as the text of its sidecar: `digest.layout.yaml`.

One line for each thing that is placed, so that a move is one line of a diff. Values are JSON, which YAML contains.
"""

from __future__ import annotations

import json
import re
from typing import Final

from weft import source
from weft.errors import InvalidInputs, InvalidSource, TooLarge
from weft.types import Json, JsonObject

SUFFIX: Final = ".layout.yaml"
MOST_BYTES: Final = 200_000
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_/-]*")
_FOREIGN: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON may hold as it is, and YAML may not."""
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def write(layout: JsonObject) -> bytes:
    """Return the text of a layout: the same for the same layout.

    Raises:
        InvalidInputs: It cannot be written as YAML that is read back as it is.
        TooLarge: It is larger than any picture needs.
    """
    lines = []
    for key in sorted(layout):
        value = layout[key]
        if isinstance(value, dict) and value:
            lines.append(f"{_key(key)}:")
            lines += [f"  {_key(name)}: {_flow(value[name])}" for name in sorted(value)]
        else:
            lines.append(f"{_key(key)}: {_flow(value)}")
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
    if len(text) > MOST_BYTES:
        raise TooLarge(f"The layout has {len(text):,} bytes; it may have {MOST_BYTES:,}.")
    if read(text) != layout:
        raise InvalidInputs("The layout cannot be kept as it is.", code="bad_layout", remedy="Send a JSON object.")
    return text


def read(content: bytes) -> JsonObject:
    """Return what a sidecar says; nothing where it is no layout: a picture must not keep a workflow from its work."""
    try:
        value = source.read(content, "layout").value
    except InvalidSource:
        return {}
    return value if isinstance(value, dict) else {}


def _key(key: str) -> str:
    return key if _PLAIN.fullmatch(key) and key.lower() not in _WORDS else _flow(key)


def _flow(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
    return _FOREIGN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
