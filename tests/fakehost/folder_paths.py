"""Model and media folders of a host whose base folder is the environment variable FAKEHOST_BASE."""

import os

base_path = os.environ.get("FAKEHOST_BASE", os.path.join(os.path.dirname(__file__), "base"))
models_dir = os.path.join(base_path, "models")
supported_pt_extensions = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
folder_names_and_paths = {"audio_encoders": ([os.path.join(models_dir, "audio_encoders")], supported_pt_extensions)}


def add_model_folder_path(folder_name, full_folder_path, is_default=False):
    paths, _ = folder_names_and_paths.setdefault(folder_name, ([], set()))
    if full_folder_path not in paths:
        paths.append(full_folder_path)


def get_folder_paths(folder_name):
    return folder_names_and_paths[folder_name][0][:]


def get_filename_list(folder_name):
    folders, extensions = folder_names_and_paths[folder_name]
    names = {name for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)}
    return sorted(name for name in names if not extensions or os.path.splitext(name)[1] in extensions)


def get_full_path(folder_name, filename):
    paths = [os.path.join(folder, filename) for folder in get_folder_paths(folder_name)]
    return next((path for path in paths if os.path.isfile(path)), None)


def get_output_directory():
    return os.path.join(base_path, "output")


def get_input_directory():
    return os.path.join(base_path, "input")


def get_annotated_filepath(name, default_dir=None):
    return os.path.join(get_input_directory(), name)


def exists_annotated_filepath(name):
    return os.path.exists(get_annotated_filepath(name))


def filter_files_content_types(files, content_types):
    suffixes = {"audio": (".wav", ".mp3", ".flac"), "video": (".mp4", ".mkv", ".webm")}
    return [name for name in files if name.endswith(tuple(s for kind in content_types for s in suffixes[kind]))]
