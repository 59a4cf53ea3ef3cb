"""Speech features: a Whisper, wav2vec 2.0, HuBERT or WavLM encoder over speech of any length, two for a 25 fps frame.

    n samples at 16 kHz   s features at 50 Hz, feature i is centred on (i + 0.5) * 20 ms   d channels

Implements the speech features of MyTalk (arXiv 2406.08096, section 3.3; wav2vec 2.0: arXiv 2006.11477). Encoders come
from files only: nothing here opens a connection.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints import FORMAT, Checkpoint, find_weights, fitting, load_checkpoint, of_this_version
from ..errors import InputError
from ..stages import Progress
from . import mel, whisper
from .wav2vec import build_encoder, is_foreign, read_encoder_file, read_encoder_folder, weight_files

HOP = 320  # the stride of every encoder of the family: 20 ms
MARGIN = 40  # half of (receptive field 400 - stride 320): centres each feature on its own 20 ms
FRAME = 2 * HOP  # one 25 fps frame
SILENCE_POWER = 1e-9  # -90 dB full scale: about the rounding of 16-bit samples
# Most clips that motion models learn from are shorter than four seconds, and features depend on all that is heard
# together: on 13 clips of 9 to 18 s the mouth followed at 0.62 with windows of eight seconds, 0.65 with four, 0.64 with
# two.
OWN_WINDOW = {"window": 200, "overlap": 100}
FOREIGN = "are of no speech encoder that is read here", "download them again, or choose another"


class SpeechFeatures(nn.Module):
    """A frozen encoder. `name`, `dim` and `sha256` say which; windows of `window` features overlap by `overlap`."""

    def __init__(self, encoder: nn.Module, name: str, sha256: str, window: int = 1600, overlap: int = 100) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.name = name
        self.sha256 = sha256
        self.dim = int(encoder.config.hidden_size)
        self.window = min(window, getattr(encoder.config, "positions", window))  # Whisper knows no others
        self.overlap = overlap

    @torch.inference_mode()
    def forward(self, speech: Tensor, progress: Progress = None) -> Tensor:
        """Speech `(n,)` -> `(s, d)` float32 on the CPU, s = 2 * ceil(n / 640); the last frame is filled with silence.

        Speech longer than a window is encoded in overlapping windows whose features are cross-faded, so that memory
        and the result in one place do not depend on the length. Raises InputError when there is no speech at all.
        """
        if speech.ndim != 1 or len(speech) == 0:
            raise InputError(f"got speech of shape {tuple(speech.shape)}, expected one channel (n,) with n > 0")
        count = 2 * -(-len(speech) // FRAME)
        padded = nn.functional.pad(
            normalise_loudness(speech.float().cpu()), (MARGIN, count * HOP - len(speech) + MARGIN)
        )
        total, weight = torch.zeros(count, self.dim), torch.zeros(count, 1)
        windows = self.windows(count)
        for done, (start, stop) in enumerate(windows):
            fade = self._fade(stop - start)
            total[start:stop] += fade * self.encode(padded[start * HOP : stop * HOP + 2 * MARGIN])
            weight[start:stop] += fade
            if progress is not None:
                progress(done + 1, len(windows))
        return total / weight

    def encode(self, padded: Tensor) -> Tensor:
        """One window with its margins, `(HOP * s + 2 * MARGIN,)` -> `(s, d)`."""
        device = next(self.encoder.parameters()).device
        return self.encoder(padded[None].to(device)).last_hidden_state[0].float().cpu()

    def windows(self, count: int) -> list[tuple[int, int]]:
        """Spans of features that cover `count`; all but the last are `window` long."""
        step = self.window - self.overlap
        starts = range(0, max(count - self.overlap, 1), step)
        return [(start, min(start + self.window, count)) for start in starts]

    def _fade(self, count: int) -> Tensor:
        """Rises over the overlap at both ends; where one window is alone its weight cancels."""
        ramp = (torch.arange(count) + 0.5) / max(self.overlap, 1)
        return torch.minimum(ramp, ramp.flip(0)).clamp(max=1.0)[:, None]


def normalise_loudness(speech: Tensor) -> Tensor:
    """Remove the mean and scale what sounds (frames within 10 dB of the mean loudness) to unit power.

    Pauses do not count, as in ITU-R BS.1770, so padding a clip with silence changes nothing; silence stays silent.
    Samples that are no finite number count as 0.
    """
    speech = torch.nan_to_num(speech, posinf=0.0, neginf=0.0)
    speech = speech - speech.mean()
    frames = nn.functional.pad(speech, (0, -len(speech) % FRAME)).view(-1, FRAME)
    power = frames.square().mean(1)
    loud = power[power >= 1e-4 * power.max()]
    return speech / (loud[loud >= 0.1 * loud.mean()].mean() + SILENCE_POWER).sqrt()


def load_speech_encoder(
    name_or_path: str | Path = "speech_small", device: str | torch.device = "cpu"
) -> SpeechFeatures:
    """Load an encoder by the name of a shipped checkpoint, a Hugging Face folder or a single `.safetensors` file.

    Raises InputError that names what was looked for when there is no such encoder or it is not one.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        with fitting(path, *FOREIGN):
            encoder = read_encoder_folder(path)
        return SpeechFeatures(encoder, path.resolve().name, _digest(weight_files(path))).to(device)
    path = find_weights(path, "speech")
    if is_foreign(path, FORMAT):
        with fitting(path, *FOREIGN):
            encoder = read_encoder_file(path)
        return SpeechFeatures(encoder, path.stem, _digest([path])).to(device)
    checkpoint = load_checkpoint(path, "speech")
    with of_this_version(path):
        features = _own_features(checkpoint)
    return features.to(device)


def _own_features(checkpoint: Checkpoint) -> SpeechFeatures:
    """Of an encoder in a file that this project wrote."""
    config = checkpoint.config["encoder"]
    build = {mel.FAMILY: mel.build_mel_encoder, whisper.FAMILY: whisper.build_whisper_encoder}
    family = config.get("model_type")
    if family in build:
        encoder = build[family](config, checkpoint.state)
    else:
        encoder = build_encoder(config, checkpoint.state, checkpoint.path)
    window, overlap = (checkpoint.config.get(name, default) for name, default in OWN_WINDOW.items())
    return SpeechFeatures(encoder, checkpoint.config["name"], checkpoint.sha256, window, overlap)


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
