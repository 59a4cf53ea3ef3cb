"""Last steps on trained appearance weights: average them with earlier ones, and balance nearness against sharpness.

    python -m scripts.finish_appearance NEW.safetensors --average OLD.safetensors 0.25 --shift -8 0 0 -o out.safetensors

Averages of weights along a training run are nearer than either end, and steadier on faces unlike those trained on.
The shift has one number for each reference, added to the logits of how much of the film's finest detail comes from
it; the network's own picture stays at 0. L1 and PSNR prefer detail from the regression, which is blurred and so has
none: less of it gives the sharpness back for less than a tenth of a decibel. Choose both on the train split, and look.
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


def averaged(state: dict[str, Tensor], other: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """`share` of `other` and the rest of `state`, where both have the parameter; raises InputError if shapes differ."""
    if not 0 <= share <= 1 or any(other[name].shape != state[name].shape for name in other.keys() & state.keys()):
        raise InputError(f"got a share of {share:g}, expected 0 to 1 of weights of the same preset")
    mixed = {name: torch.lerp(value.float(), other.get(name, value).float(), share) for name, value in state.items()}
    return {name: value.half() for name, value in mixed.items()}


def finish(
    weights: str, out: str, shift: list[float], other: str | None = None, share: float = 0.0, bound: float | None = None
) -> None:
    """Write `weights` (name or path) averaged with `other` and with shifted logits; InputError if they do not fit.

    `bound` replaces that of the configuration (`AppearanceParams.bound`).
    """
    model = load_appearance(weights)
    if not model.params.detail_choice or len(shift) != model.params.references:
        raise InputError(
            f"got {len(shift)} shifts for {weights}, expected weights that choose the source of detail and "
            f"{model.params.references} shifts, one for each reference"
        )
    checkpoint = load_checkpoint(find_weights(weights, "appearance"), "appearance")
    state, info = checkpoint.state, checkpoint.info | {"detail_shift": " ".join(f"{value:g}" for value in shift)}
    if other is not None:
        earlier = load_checkpoint(find_weights(other, "appearance"), "appearance")
        state = averaged(state, earlier.state, share)
        info["averaged"] = f"{share:g} of sha256 {earlier.sha256[:8]}"
    bias = state["refine.detail.bias"]
    state["refine.detail.bias"] = (bias.float() + torch.tensor(shift)).to(bias.dtype)
    params = model.params if bound is None else replace(model.params, bound=bound)
    info = {name: value for name, value in info.items() if not name.startswith("val_")}  # of other weights now
    save_checkpoint(out, state, "appearance", model_config(params), info)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="name or path")
    parser.add_argument("--average", nargs=2, metavar=("WEIGHTS", "SHARE"), help="earlier weights and their share")
    parser.add_argument("--shift", type=float, nargs="+", required=True, metavar="LOGIT")
    parser.add_argument("--bound", type=float, help="how far pictures may go beyond their references (default: as is)")
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args()
    other, share = options.average or (None, 0.0)
    try:
        finish(options.weights, options.output, options.shift, other, float(share), options.bound)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
