"""Who is it, by a face recogniser of the user's own: an ArcFace network as ONNX (Deng et al. 2019, arXiv 1801.07698).

    f frames   n points   h w picture

Needs the package onnxruntime (`pip install -e ".[eval]"` in the pack's folder), which is imported only here. No model
is shipped: most that are published allow research only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..landmarks.align import sample_affine

if TYPE_CHECKING:
    from ..landmarks.track import FaceTrack

SIZE = 112
# Where eyes, nose and corners of the mouth are in the 112 x 112 pictures that recognisers are trained on.
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
# Landmarks whose mean is each of them; eyes from their corners, since pupils wander.
FIVE = ((33, 133), (362, 263), (1,), (61,), (291,))
BATCH = 16


class ArcFace:
    """A recogniser session; made by `load_arcface`."""

    def __init__(self, session: Any, name: str) -> None:
        self.session, self.name = session, name
        self.input = session.get_inputs()[0].name
        first = session.get_inputs()[0].shape[0]
        self.batch = first if isinstance(first, int) else BATCH  # a name stands for any number

    def embed(self, frames: Tensor, track: FaceTrack) -> Tensor:
        """Unit vectors `(f, 512)` of the faces in `frames (f, h, w, 3)` uint8, where `track` sees them."""
        if len(frames) != len(track):
            raise InputError(f"got {len(frames)} frames and landmarks of {len(track)}, expected as many of both")
        rows = []
        for start in range(0, len(frames), self.batch):
            part = slice(start, start + self.batch)
            faces = aligned_faces(frames[part], track.points[part, :, :2])
            count = len(faces)
            faces = F.pad(faces, (0, 0, 0, 0, 0, 0, 0, self.batch - count))
            rows.append(torch.from_numpy(self.session.run(None, {self.input: faces.numpy()})[0])[:count])
        return F.normalize(torch.cat(rows).float(), dim=1) if rows else torch.zeros(0, 512)


def aligned_faces(frames: Tensor, points: Tensor) -> Tensor:
    """RGB `(f, 3, 112, 112)` from -1 to 1 of `frames (f, h, w, 3)` uint8 and landmarks `(f, 478, 2)`, pixels."""
    five = torch.stack([points[:, list(group)].mean(1) for group in FIVE], 1)
    # Pixel centres are whole numbers in the template and + 0.5 here.
    transform = similarity(torch.tensor(TEMPLATE) + 0.5, five)
    faces = sample_affine(frames.permute(0, 3, 1, 2).float(), transform, (SIZE, SIZE))
    return (faces - 127.5) / 127.5


def similarity(source: Tensor, target: Tensor) -> Tensor:
    """The turn, scale and shift `(f, 2, 3)` that brings points `source (n, 2)` nearest to `target (f, n, 2)`.

    Least squares in the complex plane: w = a z + b, which has no reflections.
    """
    z = torch.view_as_complex((source - source.mean(0)).contiguous())
    w = torch.view_as_complex((target - target.mean(1, keepdim=True)).contiguous())
    a = (w * z.conj()).sum(1) / z.abs().square().sum()
    linear = torch.stack([torch.stack([a.real, -a.imag], 1), torch.stack([a.imag, a.real], 1)], 1)
    shift = target.mean(1) - (linear @ source.mean(0))
    return torch.cat([linear, shift[:, :, None]], 2)


def load_arcface(path: str | Path) -> ArcFace:
    """The recogniser in an ONNX file that takes RGB `(b, 3, 112, 112)` from -1 to 1 and gives `(b, 512)`.

    Raises InputError when onnxruntime is not installed, or the file is not such a network.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no ArcFace model at {path}; give the path of an ONNX file such as w600k_r50.onnx")
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "reading an ArcFace model needs the package onnxruntime: pip install onnxruntime, or "
            'pip install -e ".[eval]" in the pack\'s folder'
        ) from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception of its own for every kind of bad file
        raise InputError(f"cannot read the ArcFace model {path}: {' '.join(str(error).split())[:200]}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shapes = list(inputs[0].shape[1:]), list(outputs[0].shape[1:])
    if len(inputs) != 1 or shapes != ([3, SIZE, SIZE], [512]):
        raise InputError(f"{path} takes {shapes[0]} and gives {shapes[1]}, expected [3, 112, 112] and [512]")
    return ArcFace(session, path.stem)
