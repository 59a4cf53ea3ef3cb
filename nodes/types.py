"""The pack's own socket types. Their names are in saved graphs and never change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..comfyui_mytalk.motion.params import IdentityParams
from .host import io

Track = io.Custom("MYTALK_TRACK")  # comfyui_mytalk.landmarks.track.FaceTrack
SpeechFeatures = io.Custom("MYTALK_SPEECH_FEATURES")
Identity = io.Custom("MYTALK_IDENTITY")
Tuned = io.Custom("MYTALK_TUNED")  # comfyui_mytalk.appearance.tuning.Tuning
References = io.Custom("MYTALK_REFERENCES")  # comfyui_mytalk.appearance.bank.ReferenceBank


@dataclass(frozen=True)
class SpokenFeatures:
    """Features `(s, d)` at 50 Hz, one feature of silence `(d,)`, and which encoder made them."""

    values: Tensor
    silence: Tensor
    name: str
    dim: int
    sha256: str

    def fit(self, frames: int) -> Tensor:
        """Cut, or lengthened with silence, to two features for each of `frames` motion frames."""
        silence = self.silence.expand(max(0, 2 * frames - len(self.values)), -1)
        return torch.cat([self.values, silence])[: 2 * frames]


@dataclass(frozen=True)
class IdentityTokens:
    """Tokens `(r, d)`, and which extractor made them."""

    tokens: Tensor
    params: IdentityParams
    sha256: str
