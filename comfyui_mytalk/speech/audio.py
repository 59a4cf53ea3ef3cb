"""Sound in and out: files, the sound of videos, and what the networks hear.

c channels (1 or 2)   n samples
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from torch import Tensor
from torch.nn import functional
from torchaudio.functional import resample

from ..errors import InputError
from ..output import check_output, write_aside
from ..video.media import check_span, decode, open_media, video_stream

SPEECH_RATE = 16_000
GAP = 0.05  # seconds: larger holes in the recording are filled with silence
AUDIO_BLOCK = 1024
TAIL = 4096  # samples: more than any codec pads its last block with
AAC_RATE = 96_000  # bits per second and channel: transparent for speech
COMMON_RATE = 25  # Hz: every usual rate is a multiple
CODECS = {".wav": "pcm_s16le", ".flac": "flac", ".m4a": "aac"}


@dataclass(frozen=True)
class Audio:
    """Sound `waveform (c, n)` float32, full scale +-1, at `sample_rate` Hz."""

    waveform: Tensor
    sample_rate: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.waveform.shape[-1] / self.sample_rate


def read_audio(path: str | Path, start: float = 0.0, duration: float | None = None) -> Audio:
    """The sound of an audio or video file, mono or stereo at its own rate, from `start` for `duration` seconds.

    Time 0 is the first frame of a video, else the first sample: sound that begins late is preceded by silence.
    Raises InputError when there is no such file, it has no sound, or the part asked for is empty.
    """
    path = Path(path)
    check_span(start, duration)
    with open_media(path, "an audio or video") as container:
        if not container.streams.audio:
            raise InputError(f"{path} has no sound, expected a file with speech")
        stream = container.streams.audio[0]
        rate = stream.rate
        stop = math.inf if duration is None else round((start + duration) * rate)
        waveform = _place(container, stream, stop)
    waveform = waveform[:, round(start * rate) : None if duration is None else stop]
    if not waveform.shape[1]:
        raise InputError(f"{path} has no sound from {start:g} s on; it is empty, or start is too late")
    return Audio(torch.from_numpy(np.ascontiguousarray(waveform)), rate)


def write_audio(path: str | Path, audio: Audio) -> None:
    """Write `.wav` (16 bit), `.flac` or `.m4a`, whole or not at all."""
    path = check_output(path, tuple(CODECS))
    if not audio.waveform.shape[1]:
        raise InputError(f"there is no sound to write to {path}: got 0 samples")
    codec = CODECS[path.suffix.lower()]
    with write_aside(path) as aside, av.open(f"file:{aside}", "w") as container:
        stream = add_audio_stream(container, codec, audio)
        for frame in audio_frames(audio, 0, audio.waveform.shape[1]):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def speech_16k(audio: Audio) -> Tensor:
    """Mono speech `(n,)` at 16 kHz, as the networks take it."""
    return resampled(audio.waveform.float().mean(0), audio.sample_rate, SPEECH_RATE)


def resampled(waveform: Tensor, rate: int, wanted: int) -> Tensor:
    """`(..., n)` at `rate` Hz -> `(..., ceil(n * wanted / rate))`."""
    if math.gcd(rate, wanted) < COMMON_RATE:  # exactly 16000/44099 would take gigabytes of filter
        rate = COMMON_RATE * round(rate / COMMON_RATE)
    return resample(waveform, rate, wanted, lowpass_filter_width=16)


def fit_audio(audio: Audio, seconds: float) -> Audio:
    """Cut to `seconds`, or filled with silence up to them."""
    n = round(seconds * audio.sample_rate)
    waveform = audio.waveform[:, :n]
    return Audio(functional.pad(waveform, (0, n - waveform.shape[1])), audio.sample_rate)


def _place(container: InputContainer, stream: AudioStream, stop: float) -> np.ndarray:
    """Decoded sound `(c, n)`, sample 0 at the first frame of the video, up to at least sample `stop`."""
    layout = "mono" if stream.codec_context.channels == 1 else "stereo"
    resampler = AudioResampler("fltp", layout, stream.rate)
    origin, position, pieces = _origin(container), 0, []
    for frame in decode(container, stream):
        seconds = None if frame.pts is None else float(frame.pts * frame.time_base)
        origin = seconds if origin is None else origin
        at = position if seconds is None else round((seconds - origin) * stream.rate)
        block = np.concatenate([part.to_ndarray() for part in resampler.resample(frame)], axis=1)
        if pieces and abs(at - position) < GAP * stream.rate:
            at = position
        block = block[:, max(position - at, 0) :]
        pieces += [np.zeros((len(block), max(at - position, 0)), np.float32), block]
        position += pieces[-2].shape[1] + block.shape[1]
        if position >= stop:
            break
    if not pieces:
        return np.zeros((1, 0), np.float32)
    return np.concatenate(pieces, axis=1)[:, : _end(container, stream, origin, position)]


def _origin(container: InputContainer) -> float | None:
    """When the first frame of a video is shown, on the file's own clock."""
    video = video_stream(container)
    return None if video is None or video.start_time is None else float(video.start_time * video.time_base)


def _end(container: InputContainer, stream: AudioStream, origin: float | None, position: int) -> int:
    """Where the sound ends; only MP4 tells how much of the codec's last block is padding."""
    if "mp4" not in container.format.name or stream.duration is None:
        return position
    end = round((((stream.start_time or 0) + stream.duration) * float(stream.time_base) - (origin or 0)) * stream.rate)
    return end if 0 <= position - end <= TAIL else position


def add_audio_stream(container: OutputContainer, codec: str, audio: Audio) -> AudioStream:
    """A stream of `codec` for mono or stereo sound."""
    layout = "mono" if len(audio.waveform) == 1 else "stereo"
    options = {"b": str(AAC_RATE * len(audio.waveform))} if codec == "aac" else {}
    return container.add_stream(codec, rate=audio.sample_rate, layout=layout, options=options)


def audio_frames(audio: Audio, start: int, stop: int) -> Iterator[AudioFrame]:
    """Samples `start` to `stop` - 1 in blocks for an encoder."""
    layout = "mono" if len(audio.waveform) == 1 else "stereo"
    for first in range(start, stop, AUDIO_BLOCK):
        samples = audio.waveform[:, first : min(first + AUDIO_BLOCK, stop)].float().clamp(-1, 1)
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples.numpy()), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = audio.sample_rate, first, Fraction(1, audio.sample_rate)
        yield frame
