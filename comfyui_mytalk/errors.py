"""The one error a user is meant to read."""


class InputError(ValueError):
    """Bad input: the text names the input, what is wrong with it and what to do about it."""

    __module__ = "comfyui_mytalk.errors"  # so short in the logs of a host, which imports the pack by its whole path
