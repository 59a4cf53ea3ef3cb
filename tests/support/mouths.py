"""Landmarks of a mouth as far open as wanted."""

import torch
import torch.nn.functional as F

from comfyui_mytalk.landmarks.canonical import canonical_face

LOWER_INNER = [95, 88, 178, 87, 14, 317, 402, 318, 324]
UPPER_INNER = [191, 80, 81, 82, 13, 312, 311, 310, 415]


def face(opening: float = 0.5, size: int = 256) -> torch.Tensor:
    """Crop landmarks `(478, 2)` of the canonical face seen from the front, its jaw lowered to this opening, in cm."""
    points = F.pad(canonical_face(), (0, 0, 0, 10))[:, :2].clone()
    middle = (points[UPPER_INNER] + points[LOWER_INNER]) / 2
    points[UPPER_INNER] = points[LOWER_INNER] = middle
    lower = points[:, 1] < -4.4
    lower[LOWER_INNER] = True
    points[:, 1] -= opening * lower * torch.exp(-((points[:, 0] / 4) ** 2))
    return (points * torch.tensor([1.0, -1.0]) + torch.tensor([9.5, 5.8])) * size / 19
