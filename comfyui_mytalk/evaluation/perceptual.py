"""LPIPS and FID through torchmetrics, where the networks they stand on are on disk. Nothing is ever downloaded.

    b pictures   c h w picture

LPIPS (Zhang et al. 2018) needs AlexNet's ImageNet weights, FID (Heusel et al. 2017) an InceptionV3's; both are looked
for in torch's own cache (`torch.hub.get_dir()/checkpoints`), where any program that used them left them, or at a path.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .foreign import read_state

ALEXNET = "alexnet-owt-7be5be79.pth"
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
INSTALL = 'pip install -e ".[perceptual]" in the pack\'s folder'
BATCH = 32
FID_FEATURES = 2048


def cached(file: str) -> Path:
    """Where torch keeps a downloaded file of that name."""
    return Path(torch.hub.get_dir()) / "checkpoints" / file


def available_lpips(weights: str | Path | None = None) -> str | None:
    """Why LPIPS cannot be had, in one line; None when it can."""
    return _reason("LPIPS", ("torchmetrics", "torchvision"), Path(weights) if weights else cached(ALEXNET))


def available_fid(weights: str | Path | None = None) -> str | None:
    """Why FID cannot be had, in one line; None when it can."""
    return _reason("FID", ("torchmetrics", "torch_fidelity"), Path(weights) if weights else cached(INCEPTION))


def _reason(metric: str, packages: tuple[str, ...], weights: Path) -> str | None:
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        return f"no {metric}: {' and '.join(missing)} not installed ({INSTALL})"
    if not weights.is_file():
        return f"no {metric}: its network is not at {weights}, and nothing is downloaded"
    return None


@torch.inference_mode()
def lpips(pictures: Tensor, originals: Tensor, weights: str | Path | None = None) -> Tensor:
    """Perceptual distance `(b,)` of pairs `(b, 3, h, w)` float 0..1; 0 is equal. AlexNet's, as is usual for scoring.

    Raises InputError with the line of `available_lpips` when it cannot be had.
    """
    _require(available_lpips(weights))
    net = _lpips_network(Path(weights) if weights else cached(ALEXNET)).to(pictures.device)
    pairs = zip(pictures.split(BATCH), originals.split(BATCH), strict=True)
    return torch.cat([net(a.float(), b.float(), normalize=True).flatten() for a, b in pairs])


@torch.inference_mode()
def fid(
    pictures: Iterable[Tensor],
    originals: Iterable[Tensor],
    weights: str | Path | None = None,
    features: int = FID_FEATURES,
) -> float:
    """Fréchet distance between two sets of pictures, each given in batches `(b, 3, h, w)` float 0..1.

    With fewer pictures than `features` the covariance is not of full rank: compare only figures of equal counts.
    Raises InputError with the line of `available_fid` when it cannot be had.
    """
    _require(available_fid(weights))
    from torchmetrics.image.fid import FrechetInceptionDistance

    path = Path(weights) if weights else cached(INCEPTION)
    read_state(path, "Inception weights")  # torchmetrics would run code that a bad file holds
    metric = FrechetInceptionDistance(features, normalize=True, feature_extractor_weights_path=str(path))
    metric.set_dtype(torch.float64)
    for batches, real in ((originals, True), (pictures, False)):
        for batch in batches:
            metric.update(batch, real=real)
    return metric.compute().item()


@lru_cache(maxsize=1)
def _lpips_network(weights: Path) -> Any:
    """AlexNet from `weights` under the calibration that torchmetrics carries.

    torchmetrics' public classes would go by torch's cache and download what it lacks.
    """
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    net = _NoTrainLpips(net="alex", pnet_rand=True)
    state = read_state(weights, "AlexNet weights")
    for name, parameter in net.net.named_parameters():
        key = "features." + name.split(".", 1)[1]  # slice2.3.weight there is features.3.weight here
        if key not in state or state[key].shape != parameter.shape:
            raise InputError(f"{weights} holds no AlexNet: {key} is missing, or of another shape")
        parameter.data.copy_(state[key])
    return net


def _require(reason: str | None) -> None:
    if reason is not None:
        raise InputError(reason)
