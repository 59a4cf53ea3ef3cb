"""Files of the user: the host's input and output folders."""

from __future__ import annotations

import os
from pathlib import Path

from ..comfyui_mytalk.errors import InputError
from .host import folder_paths

FOLDER = "mytalk"  # in the output folder


def output_folder() -> Path:
    """Our folder in the host's output folder, which need not be there yet."""
    return Path(folder_paths.get_output_directory()) / FOLDER


def input_files(*kinds: str) -> list[str]:
    """Names of the audio or video files in the host's input folder."""
    folder = folder_paths.get_input_directory()
    names = [entry.name for entry in os.scandir(folder) if entry.is_file()] if os.path.isdir(folder) else []
    return sorted(folder_paths.filter_files_content_types(names, list(kinds)))


def input_path(name: str) -> Path:
    """Path of a file in the input folder (or `name [output]`, `name [temp]`); raises InputError when it is missing."""
    if not folder_paths.exists_annotated_filepath(name):
        raise InputError(f"file: {name} is not in {folder_paths.get_input_directory()}; put it there or choose another")
    return Path(folder_paths.get_annotated_filepath(name))
