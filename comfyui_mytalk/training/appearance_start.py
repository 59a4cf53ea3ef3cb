"""Weights that a training of the appearance model starts from, also such that are shown fewer references."""

from __future__ import annotations

import torch
from torch import Tensor

from ..appearance.model import AppearanceModel
from ..appearance.params import AppearanceParams
from ..checkpoints import find_weights, load_checkpoint, params_from
from ..errors import InputError

DOUBT = 1.0  # logit by which a reference that is new is the less likely source than the last of those known


def start_from(model: AppearanceModel, name: str) -> None:
    """Load weights by name or path; what their refinement lacks, or has in another shape, stays as it is.

    Where they are shown fewer references than `model`, the new ones begin as doubtful copies of the last. Raises
    InputError when the weights are missing or of another shape.
    """
    path = find_weights(name, "appearance")
    checkpoint = load_checkpoint(path, "appearance")
    state = {key: tensor.float() for key, tensor in checkpoint.state.items()}
    shown, own = params_from(AppearanceParams, checkpoint.config).references, model.state_dict()
    if shown < model.params.references:
        state = with_more_references(state, own, model.params)
    refine = {key: tensor for key, tensor in own.items() if key.startswith("refine.")}
    state |= {key: tensor for key, tensor in refine.items() if key not in state or state[key].shape != tensor.shape}
    if {key: tensor.shape for key, tensor in state.items()} != {key: tensor.shape for key, tensor in own.items()}:
        raise InputError(
            f"the weights {path} are of another network; choose the --preset and the --references that they are of"
        )
    model.load_state_dict(state)


def with_more_references(state: dict[str, Tensor], own: dict[str, Tensor], p: AppearanceParams) -> dict[str, Tensor]:
    """Weights `state` for the network of `p`, which is shown more references; `own` has the size of its weights.

    References come last wherever channels are counted. What reads the new ones begins at zero; where references are
    chosen from, the last one's share is shared with them, less `DOUBT`.
    """
    grown = dict(state)
    copied = {"decoder.conv_out": p.patch**2, "refine.detail": 1}  # layers that choose, and their channels for each
    for name, wanted in own.items():
        known = state.get(name)
        if known is None or known.shape == wanted.shape or not fits(known, wanted):
            continue
        layer, kind = name.rsplit(".", 1)
        tensor = wanted.new_zeros(wanted.shape)
        tensor[tuple(slice(side) for side in known.shape)] = known
        if each := copied.get(layer):
            last = known[-each:]
            copies = (len(wanted) - len(known)) // each
            tensor[len(known) :] = torch.cat([last - DOUBT if kind == "bias" else last] * copies)
        grown[name] = tensor
    return grown


def fits(part: Tensor, whole: Tensor) -> bool:
    """Whether a tensor is a part of another, in size."""
    return part.dim() == whole.dim() and all(a <= b for a, b in zip(part.shape, whole.shape, strict=True))
