"""`python -m comfyui_mytalk`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
