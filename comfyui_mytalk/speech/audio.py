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
from av.error import FFmpegError
from torch import Tensor
from torch.nn import functional
from torchaudio.functional import resample

from ..errors import InputError
from ..output import check_output, write_aside
from ..video.media import check_decoder, check_span, decode, open_media, video_stream

SPEECH_RATE = 16_000
GAP = 0.05  # seconds: larger holes in the recording are filled with silence
AGAIN = 1.0  # seconds: times that fall back farther are of the next recording, joined to this one
PREROLL = 1.0  # seconds that are decoded before those asked for: the first blocks after a seek may be wrong
SEEKABLE = {"mp4", "matroska"}  # formats whose times are exact wherever reading begins
ROOM = 2**27  # samples, at most, for which room is made before it is needed
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
    Raises InputError when there is no such file, it has no sound, the part asked for is empty, or samples are no
    numbers.
    """
    path = Path(path)
    check_span(start, duration)
    audio = _read(path, start, duration, seek=True) if start > PREROLL else None
    audio = _read(path, start, duration) if audio is None else audio
    if not audio.waveform.shape[1]:
        raise InputError(f"{path} has no sound from {start:g} s on; it is empty, or start is too late")
    if not all(map(math.isfinite, torch.aminmax(audio.waveform))):
        raise InputError(f"{path}: the sound has samples that are no numbers (NaN or infinite); export it again")
    return audio


def _read(path: Path, start: float, duration: float | None, seek: bool = False) -> Audio | None:
    """See `read_audio`; with `seek`, None where the file cannot be sought that well."""
    with open_media(path, "an audio or video") as container:
        if not container.streams.audio:
            raise InputError(f"{path} has no sound, expected a file with speech")
        stream, origin = container.streams.audio[0], _origin(container)
        check_decoder(path, stream)
        first = round(start * stream.rate)
        stop = math.inf if duration is None else round((start + duration) * stream.rate)
        if seek and not _seek(container, stream, origin, start - PREROLL):
            return None
        tape = _place(container, stream, origin, Tape(first, stop, _length(container, stream)))
        if seek and not tape.whole:
            return None
        end = min(stop, _end(container, stream, origin, tape.position))
        return Audio(torch.from_numpy(tape.until(end)), stream.rate)


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


class Tape:
    """Sound `(c, n)` laid down block by block from sample `first` to `stop` of a recording; holes are silent.

    `length` is how many samples the recording has, so far as is known: room for them is made at once, and takes no
    memory until they come. `position` is where the recording has got to; `whole` whether nothing before it is missing.
    """

    def __init__(self, first: int, stop: float, length: int) -> None:
        self.first, self.stop, self.position, self.whole = first, stop, 0, False
        self._room = max(int(min(stop, length, first + ROOM)) - first, 0)
        self._sound = np.zeros((1, 0), np.float32)

    def lay(self, at: int, block: np.ndarray) -> None:
        """The next `block (c, m)` begins at sample `at`; what lies before `position` is cut away."""
        if not self.position:
            self.whole = at <= self.first
        begin = max(at, self.position)
        block = block[:, begin - at :]
        self.position = begin + block.shape[1]
        kept = block[:, max(self.first - begin, 0) :]
        if not kept.shape[1]:
            return
        stop = self.position - self.first
        if stop > self._sound.shape[1]:
            before, self._room = self._sound, max(stop, self._room, 2 * self._sound.shape[1])
            self._sound = np.zeros((len(block), self._room), np.float32)
            self._sound[:, : before.shape[1]] = before
        self._sound[:, stop - kept.shape[1] : stop] = kept

    def until(self, end: int) -> np.ndarray:
        """What lies between samples `first` and `end`."""
        return self._sound[:, : max(min(end, self.position) - self.first, 0)]


def _place(container: InputContainer, stream: AudioStream, origin: float | None, tape: Tape) -> Tape:
    """Lay decoded sound on `tape`, sample 0 at `origin`, by default where the sound begins, up to at least its stop."""
    layout = "mono" if stream.codec_context.channels == 1 else "stereo"
    resampler = AudioResampler("fltp", layout, stream.rate)
    for frame in decode(container, stream):
        seconds = None if frame.pts is None else float(frame.pts * frame.time_base)
        origin = seconds if origin is None else origin
        at = tape.position if seconds is None else round((seconds - origin) * stream.rate)
        ahead = at - tape.position
        if tape.position and (abs(ahead) < GAP * stream.rate or ahead < -AGAIN * stream.rate):
            at = tape.position
        tape.lay(at, np.concatenate([part.to_ndarray() for part in resampler.resample(frame)], axis=1))
        if tape.position >= tape.stop:
            break
    return tape


def _seek(container: InputContainer, stream: AudioStream, origin: float | None, start: float) -> bool:
    """Go to `start` seconds of a film; whether that was done."""
    if origin is None or not SEEKABLE.intersection(container.format.name.split(",")):
        return False
    try:
        container.seek(round((origin + start) / stream.time_base), stream=stream)
    except FFmpegError:
        return False
    return True


def _length(container: InputContainer, stream: AudioStream) -> int:
    """Samples that the file says it has, and a second for what it does not; 0 when it says nothing."""
    if stream.duration is not None:
        return round((float(stream.duration * stream.time_base) + 1) * stream.rate)
    return 0 if container.duration is None else round((container.duration / av.time_base + 1) * stream.rate)


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
