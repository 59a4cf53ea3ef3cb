"""Nothing of the host's `ui` module is used by the pack."""
