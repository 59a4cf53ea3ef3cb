"""Last steps on trained appearance weights: average them with earlier ones, and limit what they invent.

    python -m scripts.finish_appearance NEW.safetensors --average OLD.safetensors 0.25 --hold 0.05 -o out.safetensors

Averages of weights along a training run are nearer than either end, and steadier on faces unlike those trained on.
Choose the share on the train split, and look.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import torch
from torch import Tensor

from comfyui_mytalk.appearance.model import load_appearance, model_config
from comfyui_mytalk.checkpoints import find_weights, load_checkpoint, save_checkpoint
from comfyui_mytalk.errors import InputError

LIMITS = {
    "sharpen": "how much stronger fine detail is laid on",
    "bound": "how far pictures may go beyond what their references show",
    "hold": "how far their broad look may stray from the regression",
    "reach": "by how many pixels references may be moved",
    "teeth": "what is finer than so many pixels is the nearest mouth's, between the lips",
}


def averaged(state: dict[str, Tensor], other: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """`share` of `other` and the rest of `state`, where both have the parameter; raises InputError if shapes differ."""
    if not 0 <= share <= 1 or any(other[name].shape != state[name].shape for name in other.keys() & state.keys()):
        raise InputError(f"got a share of {share:g}, expected 0 to 1 of weights of the same preset and references")
    mixed = {name: torch.lerp(value.float(), other.get(name, value).float(), share) for name, value in state.items()}
    return {name: value.half() for name, value in mixed.items()}


def finish(weights: str, out: str, other: str | None = None, share: float = 0.0, **limits: float) -> None:
    """Write `weights` (name or path), averaged with `share` of `other`; raises InputError if they do not fit.

    `limits` replace those of the configuration: the names of `LIMITS`, as in `AppearanceParams`.
    """
    params = load_appearance(weights).params
    checkpoint = load_checkpoint(find_weights(weights, "appearance"), "appearance")
    state, info = checkpoint.state, dict(checkpoint.info)
    if other is not None:
        earlier = load_checkpoint(find_weights(other, "appearance"), "appearance")
        state = averaged(state, earlier.state, share)
        info["averaged"] = f"{share:g} of sha256 {earlier.sha256[:8]}"
    params = replace(params, **limits)
    info = {name: value for name, value in info.items() if not name.startswith("val_")}  # of other weights now
    save_checkpoint(out, state, "appearance", model_config(params), info)


def read_share(text: str) -> float:
    """The number; raises InputError when it is none."""
    try:
        return float(text)
    except ValueError:
        raise InputError(f"got a share of {text!r}, expected a number from 0 to 1") from None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="name or path")
    parser.add_argument("--average", nargs=2, metavar=("WEIGHTS", "SHARE"), help="earlier weights and their share")
    for name, text in LIMITS.items():
        parser.add_argument(f"--{name}", type=float, help=f"{text} (default: as is)")
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args()
    other, share = options.average or (None, "0")
    limits = {name: value for name in LIMITS if (value := getattr(options, name)) is not None}
    try:
        finish(options.weights, options.output, other, read_share(share), **limits)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
