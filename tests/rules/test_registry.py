"""What the ComfyUI registry and the public CI read: pyproject.toml, the icon, the workflows of GitHub."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.registry_pyproject import complete

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it there

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
HOSTS = ("Operating System :: OS Independent",)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """pyproject.toml as it is published."""
    version = tomllib.loads(TEXT)["project"]["version"]
    return tomllib.loads(complete(TEXT, "somebody/comfyui-mytalk", f"v{version}"))


@pytest.fixture(scope="module")
def workflows() -> dict[str, dict[str, Any]]:
    files = (ROOT / ".github" / "workflows").glob("*.yml")
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in files}


def test_registry_gets_all_that_it_asks_for(project) -> None:
    about, comfy = project["project"], project["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*", about["name"]) and "comfy" not in about["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", about["version"]) and about["license"] == {"file": "LICENSE"}
    assert about["urls"]["Repository"] == "https://github.com/somebody/comfyui-mytalk"
    assert set(HOSTS) <= set(about["classifiers"]) and about["description"]
    assert comfy["PublisherId"] and comfy["DisplayName"] and comfy["requires-comfyui"] == ">=0.3.64"
    assert comfy["Icon"].startswith("https://raw.githubusercontent.com/somebody/comfyui-mytalk/v")
    assert "web" not in comfy, "help pages would be served where the frontend does not look"


def test_icon_is_where_its_address_says_and_square(project) -> None:
    picture = (ROOT / project["tool"]["comfy"]["Icon"].split("/", 6)[-1]).read_text(encoding="utf-8")
    width, height = re.search(r'width="(\d+)" height="(\d+)"', picture).groups()
    assert width == height and int(width) <= 400


def test_a_tag_that_is_not_the_version_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"v9\.9\.9"):
        complete(TEXT, "a/b", "v9.9.9")


def test_manager_installs_only_what_a_host_may_lack() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["torchaudio"]


def test_ci_runs_on_three_systems_and_on_the_floor_and_the_latest_host(project, workflows) -> None:
    jobs = workflows["test"]["jobs"]
    systems = {"ubuntu-latest", "windows-latest", "macos-latest"}
    assert set(jobs["library"]["strategy"]["matrix"]["os"]) == systems
    hosts = jobs["host"]["strategy"]["matrix"]["include"]
    floor = "v" + project["tool"]["comfy"]["requires-comfyui"].removeprefix(">=")
    assert {run["host"] for run in hosts} == {floor, "latest"} and {run["os"] for run in hosts} == systems
    assert jobs["host"]["env"]["REQUIRE_HOST"] == "1", (
        "a host test that is skipped there would look like one that passed"
    )


def test_nothing_is_published_untested_or_by_a_key_in_the_file(workflows) -> None:
    publish = workflows["publish"]["jobs"]["publish"]
    assert publish["needs"] == "tests" and workflows["publish"]["jobs"]["tests"]["uses"].endswith("/test.yml")
    keys = [
        step["with"]["personal_access_token"] for step in publish["steps"] if "publish-node" in step.get("uses", "")
    ]
    assert keys == ["${{ secrets.REGISTRY_ACCESS_TOKEN }}"]
