"""The part of an /object_info entry that saved graphs depend on."""

from __future__ import annotations

from typing import Any

FILES = {"file", "model", "encoder", "speech_encoder", "identity_model", "motion_model", "appearance_model"}
STABLE = ("default", "min", "max", "step", "options", "control_after_generate")


def stable(info: dict[str, Any]) -> dict[str, Any]:
    """Ids, order, types and ranges; choices of files are the user's own."""

    def described(name: str, kind: str, options: dict[str, Any]) -> list[Any]:
        kept = {key: options[key] for key in STABLE if key in options and not (key == "options" and name in FILES)}
        return [name, kind, kept]

    return {
        **{
            group: [described(name, kind, options) for name, (kind, options) in info["input"].get(group, {}).items()]
            for group in ("required", "optional")
        },
        "output": info["output"],
        "output_name": info["output_name"],
    }
