"""A headless Chromium with the real frontend of a real ComfyUI.

CHROMIUM_PATH names the browser where it is not on the PATH. BROWSER_SHOTS keeps the pictures, otherwise they lie in
pytest's temporary folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 600_000  # milliseconds for anything the frontend does; only a hang takes that long


@pytest.fixture(scope="session")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The frontend in a page that has loaded all nodes."""
    from comfy_server import checkout, skip_or_fail, start
    from frontend import Frontend

    checkout()
    found = os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, NAMES)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        skip_or_fail("no Chromium, or playwright is not installed (pip install -e .[browser])")
    server = start(tmp_path_factory.mktemp("browser"))
    shots = Path(os.environ.get("BROWSER_SHOTS") or tmp_path_factory.mktemp("shots"))
    shots.mkdir(parents=True, exist_ok=True)
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"], timeout=PATIENCE)
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.set_default_timeout(PATIENCE)
            yield Frontend(page, server, shots)
            browser.close()
    finally:
        server.stop()
