"""The astronaut (NASA, public domain) as still and as a moving clip."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from comfyui_mytalk.landmarks.track import load_face_landmarker

SIZE = 288


def moving_frame(number: int) -> np.ndarray:
    """The face of the astronaut under a smooth shift, turn and growth, `(288, 288, 3)` uint8.

    `astronaut_mediapipe.npz` was made from frames 0 to 15 of exactly this function.
    """
    angle, scale = 0.25 * math.sin(number / 5), 0.95 + 0.2 * math.cos(number / 4)
    x, y = 224 + 12 * math.sin(number / 3), 130 + 10 * math.cos(number / 6)
    c, s = math.cos(angle) * scale, math.sin(angle) * scale
    half = SIZE / 2
    matrix = (c, -s, x - half * (c - s), s, c, y - half * (s + c))
    picture = Image.fromarray(skimage.data.astronaut())
    return np.array(picture.transform((SIZE, SIZE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))


@pytest.fixture(scope="session")
def landmarker():
    return load_face_landmarker("cpu")


@pytest.fixture(scope="session")
def astronaut() -> torch.Tensor:
    return torch.from_numpy(skimage.data.astronaut())


@pytest.fixture(scope="session")
def moving() -> torch.Tensor:
    return torch.from_numpy(np.stack([moving_frame(i) for i in range(16)]))


@pytest.fixture(scope="session")
def stored() -> dict[str, np.ndarray]:
    """What mediapipe 0.10.21 answered: see README.md beside the file."""
    return dict(np.load(Path(__file__).parent / "astronaut_mediapipe.npz"))
