"""Step 2: speech features at 50 Hz."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..comfyui_mytalk.speech.audio import Audio, speech_16k
from ..comfyui_mytalk.speech.features import load_speech_encoder
from .checks import checked_inputs, named
from .host import field, io, schema
from .inputs import CATEGORY, model_input
from .media import read_audio
from .models import missing_models, network
from .progress import Progress
from .types import SpeechFeatures, SpokenFeatures


class Wav2VecFeatures(io.ComfyNode):
    """AUDIO -> speech features."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkWav2VecFeatures",
            display_name="Wav2Vec Speech Features (MyTalk)",
            category=CATEGORY,
            description="Turns speech into the features that drive the mouth, 50 per second.",
            search_aliases=["wav2vec", "hubert", "audio encoder", "speech features"],
            inputs=[
                field(io.Audio, "audio", tooltip="The speech. Any sample rate; several channels are mixed into one."),
                model_input("speech", "encoder"),
            ],
            outputs=[SpeechFeatures.Output(display_name="speech_features", tooltip="For the diffusion sampler.")],
        )

    @classmethod
    def validate_inputs(cls, encoder: str | None = None) -> bool | str:
        return missing_models(encoder=("speech", encoder))

    @classmethod
    @checked_inputs
    def execute(cls, audio: Mapping[str, Any], encoder: str) -> io.NodeOutput:
        return io.NodeOutput(speech_features(read_audio(audio), encoder, Progress()))


def speech_features(speech: Audio, encoder: str, progress: Progress) -> SpokenFeatures:
    """Features of the speech, and of silence, by the encoder of that name."""
    with named("encoder"):
        features = network("speech", encoder, load_speech_encoder)
    values = features(speech_16k(speech), progress)
    silence = features(torch.zeros(16_000)).mean(0)
    return SpokenFeatures(values, silence, features.name, features.dim, features.sha256)
