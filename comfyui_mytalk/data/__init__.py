"""Small constants that the library reads: landmark sets and the canonical face (see `NOTICE`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_data(name: str) -> dict[str, Any]:
    """The JSON file `name` of this folder."""
    return json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
