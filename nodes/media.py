"""The host's frames and sound as they arrive: checked, and read whatever form they come in.

f frames   c channels   h w picture   n samples
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..comfyui_mytalk.errors import InputError
from ..comfyui_mytalk.speech.audio import Audio
from .checks import shown
from .host import to_host

BLOCK = 8  # frames looked at together
PARITY = 1.25  # by how much the power of even and odd samples of one channel may differ by chance
ENOUGH = 4000  # samples to tell by
LEAST_FPS, MOST_FPS = 0.1, 1000.0
BROKEN_SOUND = "the model that made them overflowed: let it run in float32, or connect another sound"
ANOTHER_SOUND = "the video or node that it comes from may be silent: connect another sound"


class Video(Protocol):
    """What is used of the host's VIDEO."""

    def get_components(self) -> Any:
        """An object with `images (f, h, w, c)`, `frame_rate` and, with sound, `audio`."""
        ...


class Clip(NamedTuple):
    """Frames `(f, h, w, c)` at a constant rate: float 0..1, or uint8 where that holds the same values; and the host's
    AUDIO of them, where they came with one."""

    images: Tensor
    fps: float
    sound: Mapping[str, Any] | None = None


def read_clip(images: Tensor | Video, fps: float, name: str = "images") -> Clip:
    """IMAGE at `fps`, or VIDEO at its own rate; raises InputError for anything else."""
    if hasattr(images, "get_components"):
        components = images.get_components()
        rate, sound = check_fps(float(components.frame_rate), name), getattr(components, "audio", None)
        return Clip(read_images(components.images, name), rate, sound)
    return Clip(read_images(images, name), check_fps(fps))


def check_fps(fps: float, name: str = "fps") -> float:
    """The same number of frames per second; raises InputError for what no clip has. A link brings any number."""
    if not (isinstance(fps, Real) and LEAST_FPS <= fps <= MOST_FPS):  # also false for nan
        raise InputError(
            f"{name}: got {shown(fps)} frames per second, expected {LEAST_FPS:g} to {MOST_FPS:g}; connect the fps of "
            "Get Video Components, or type what the frames have"
        )
    return float(fps)


def compact(images: Tensor) -> Tensor:
    """The same frames as uint8, a quarter of the memory, when that loses nothing; else as they are.

    The host decodes a whole VIDEO to float32; decoded frames are 8-bit, so only their first form is that large.
    """
    if images.dtype != torch.float32:
        return images
    small = torch.empty(images.shape, dtype=torch.uint8)
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK].cpu()
        small[start : start + BLOCK] = (block.clamp(0, 1) * 255).round().byte()
        if not torch.equal(small[start : start + BLOCK] / 255.0, block):
            return images
    return small


def read_images(images: Tensor, name: str = "images") -> Tensor:
    """Check an IMAGE: `(f, h, w, 3 or 4)`, any float type."""
    if not isinstance(images, Tensor) or images.ndim != 4 or len(images) == 0 or images.shape[-1] not in (3, 4):
        found = "nothing" if images is None else described(images)
        raise InputError(f"{name}: got {found}, expected frames (count, height, width, 3); connect a video's frames")
    return images


def read_keep(mask: Tensor | None, images: Tensor, name: str = "keep_mask") -> Tensor | None:
    """Check a MASK of what stays as filmed -> `(f, h, w)` 0..1 for `images (f, h, w, c)`; None stays None."""
    if mask is None:
        return None
    mask = read_mask(mask, name)
    masks = mask[None] if mask.ndim == 2 else mask
    frames, height, width = images.shape[:3]
    if tuple(masks.shape[1:]) != (height, width) or len(masks) not in (1, frames):
        raise InputError(
            f"{name}: got {described(mask)}, expected one mask or {frames}, each {width}x{height} pixels "
            "as the frames are; segment the same frames, or scale the mask"
        )
    return masks.expand(frames, -1, -1)


def read_mask(mask: Tensor, name: str) -> Tensor:
    """Check a MASK: `(h, w)` or `(f, h, w)`."""
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 3):
        raise InputError(f"{name}: got {described(mask)}, expected masks (count, height, width); connect a MASK")
    return mask


def described(value: Any) -> str:
    """What came instead of frames or sound."""
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a value of type {type(value).__name__}"


def read_audio(audio: Mapping[str, Any] | None, name: str = "audio", remedy: str = ANOTHER_SOUND) -> Audio:
    """The host's AUDIO (any mapping, also a lazy one; integer samples too) -> Audio.

    Raises InputError for None, which is what a silent video gives, with its `remedy`, for what is no sound, for no
    samples, for samples that are no numbers, and for several sounds at once.
    """
    if audio is None:
        raise InputError(f"{name}: got no audio, expected speech; {remedy}")
    try:
        if isinstance(audio, Tensor):  # torch would take the letters of "waveform" for an index
            raise TypeError
        waveform, rate = audio["waveform"], int(audio["sample_rate"])
        found = None if isinstance(waveform, Tensor) and waveform.ndim else described(waveform)
    except (TypeError, KeyError, IndexError, ValueError):
        found = described(audio)
    if found is not None:
        raise InputError(f"{name}: got {found}, expected sound; connect the AUDIO of Load Audio or Load Speech")
    if waveform.ndim == 3 and len(waveform) != 1:
        raise InputError(
            f"{name}: got {len(waveform)} sounds at once, expected one; make one at a time (batch_size 1), or take one "
            "out of the batch"
        )
    waveform = waveform[0] if waveform.ndim == 3 else waveform.reshape(-1, waveform.shape[-1])
    if waveform.shape[-1] == 0 or rate <= 0:
        raise InputError(f"{name}: got {waveform.shape[-1]} samples at {rate} Hz, expected speech; {ANOTHER_SOUND}")
    if waveform.is_floating_point():
        waveform = waveform.float().cpu()
        if not waveform.isfinite().all():
            raise InputError(f"{name}: got samples that are no numbers (nan or inf); {BROKEN_SOUND}")
        return Audio(waveform, rate)
    waveform = separate(waveform.cpu())
    return Audio(waveform.float() / (torch.iinfo(waveform.dtype).max + 1), rate)


def separate(waveform: Tensor) -> Tensor:
    """Integer samples `(c, n)`; one channel that holds two taking turns becomes `(2, n / 2)`.

    Hosts before 0.13 give the PCM sound of a video so, with nothing to tell it by; it would play at half speed. In
    one channel even and odd samples are equally loud, and so are the steps from one to the other and back. Left and
    right of a voice differ in loudness, or are more alike than either is to its own next sample.
    """
    if len(waveform) != 1 or waveform.shape[1] % 2 or waveform.shape[1] < ENOUGH:
        return waveform
    samples = waveform.double()
    return waveform.view(-1, 2).T if uneven(samples) or uneven(samples.diff()) else waveform


def uneven(values: Tensor) -> bool:
    """Whether the even and the odd ones of `values (1, n)` differ in power."""
    even, odd = (values[:, first::2].square().mean().item() for first in (0, 1))
    return max(even, odd) > PARITY * min(even, odd)


def write_audio(audio: Audio) -> dict[str, Any]:
    """Audio -> the host's AUDIO."""
    return {"waveform": to_host(audio.waveform[None]), "sample_rate": audio.sample_rate}
