"""Complete pyproject.toml for the ComfyUI registry: addresses that depend on where the repository lies.

python scripts/registry_pyproject.py pyproject.toml --repository OWNER/NAME --tag v1.2.3
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path


def complete(text: str, repository: str, tag: str) -> str:
    """pyproject.toml with `[project.urls]` and the address of the icon; SystemExit when the tag is not its version."""
    version = re.search(r'^version = "(.*?)"', text, re.MULTILINE)[1]
    if tag != f"v{version}":
        raise SystemExit(f"the tag is {tag}, but pyproject.toml says {version}; make them agree")
    home = f"https://github.com/{repository}"
    icon = f"https://raw.githubusercontent.com/{repository}/{tag}/docs/icon.svg"
    urls = f'[project.urls]\nRepository = "{home}"\nDocumentation = "{home}#readme"\n"Bug Tracker" = "{home}/issues"\n'
    return text.replace("[tool.comfy]\n", f'{urls}\n[tool.comfy]\nIcon = "{icon}"\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--repository", required=True, help="OWNER/NAME on GitHub")
    parser.add_argument("--tag", required=True, help="v and the version, such as v1.2.3")
    options = parser.parse_args()
    text = complete(options.file.read_text(encoding="utf-8"), options.repository, options.tag)
    options.file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
