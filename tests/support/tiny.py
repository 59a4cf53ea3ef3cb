"""Untrained weights so small that a whole graph runs in seconds, and a real face that moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from skimage import data
from torch import Tensor

from comfyui_mytalk.appearance.model import AppearanceModel, model_config
from comfyui_mytalk.appearance.params import AppearanceParams
from comfyui_mytalk.checkpoints import save_checkpoint
from comfyui_mytalk.evaluation.sync_judge import PRESETS as JUDGES
from comfyui_mytalk.evaluation.sync_judge import SyncJudge, judge_config
from comfyui_mytalk.motion.identity import IdentityExtractor, identity_config
from comfyui_mytalk.motion.model import MotionModel, Needs
from comfyui_mytalk.motion.params import IdentityParams, MotionParams

SPEECH_WIDTH = 32
NAMES = {"speech": "speech_tiny", "identity": "identity_tiny", "motion": "motion_tiny", "appearance": "appearance_tiny"}
NAMES["sync_judge"] = "sync_judge_tiny"


def save_tiny_weights(folder: Path) -> None:
    """One checkpoint of every kind but the face landmarks, which ship."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_speech(folder)
        identity = IdentityExtractor(IdentityParams(width=32, layers=1, dim=16))
        save(folder, "identity", identity, identity_config(identity))
        motion = MotionModel(
            MotionParams(
                frames=50,
                overlap=10,
                speech_in=SPEECH_WIDTH,
                speech_dim=32,
                speech_layers=1,
                speech_heads=2,
                speech_ffn=32,
                dim=32,
                layers=1,
                heads=2,
                ffn=32,
                identity_dim=16,
                relative=True,
                components=8,
                rotary=True,
            ),
            Needs(speech=NAMES["speech"]),
        )
        save(folder, "motion", motion, motion.config())
        appearance = AppearanceModel(
            AppearanceParams(
                channels=32,
                multipliers=(1, 1),
                encoder_blocks=1,
                decoder_blocks=1,
                latent=4,
                attention=False,
                fusion_channels=32,
                fusion_blocks=1,
                patch=8,
                aligned=True,
                skips=True,
                blend=True,
                window=(96, 256, 32, 224),
            )
        )
        save(folder, "appearance", appearance, model_config(appearance.params))
        judge = SyncJudge(JUDGES["tiny"])
        save(folder, "sync_judge", judge, judge_config(judge.params))


def save(folder: Path, kind: str, model: torch.nn.Module, config: dict) -> None:
    save_checkpoint(folder / f"{NAMES[kind]}.safetensors", model.state_dict(), kind, config)


def save_speech(folder: Path) -> None:
    """A wav2vec 2.0 with the real one's strides and hardly any width."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=SPEECH_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    described = {"encoder": config.to_dict(), "name": NAMES["speech"]}
    save(folder, "speech", Wav2Vec2Model(config), described)


def moving_face(frames: int = 10, size: int = 256) -> Tensor:
    """NASA's portrait of Eileen Collins, which scikit-image carries, drifting: `(f, size, size, 3)` float 0..1.

    The values are not multiples of 1/255, as those of a picture that a network made.
    """
    picture = torch.from_numpy(np.ascontiguousarray(data.astronaut())).float() / 255
    cuts = [picture[10 + i : 10 + i + size, 90 + 2 * i : 90 + 2 * i + size] for i in range(frames)]
    return torch.stack(cuts) * 0.987 + 0.003


class LazyAudio(Mapping):
    """AUDIO as a video helper pack gives it: a mapping that decodes when it is read."""

    def __init__(self, waveform: Tensor, rate: int) -> None:
        self.values_ = {"waveform": waveform, "sample_rate": rate}

    def __getitem__(self, key: str) -> object:
        return self.values_[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


class Film:
    """A VIDEO as the nodes see it."""

    def __init__(self, images: Tensor, rate: Fraction) -> None:
        self.parts = SimpleNamespace(images=images, frame_rate=rate, audio=None)

    def get_components(self) -> SimpleNamespace:
        return self.parts


def tones(seconds: float, rate: int = 16_000) -> Tensor:
    """Syllable-like bursts of sound `(1, n)`."""
    time = torch.arange(round(seconds * rate)) / rate
    return (0.3 * torch.sin(2 * torch.pi * 180 * time) * torch.sin(2 * torch.pi * 4 * time).clamp(min=0))[None]
