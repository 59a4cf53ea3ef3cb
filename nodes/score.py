"""Is it any good? A result measured against its source and the speech, inside the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..comfyui_mytalk.evaluation.live import as_text, score_result
from ..comfyui_mytalk.evaluation.score import Judges
from ..comfyui_mytalk.evaluation.sync_judge import load_sync_judge
from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.motion.identity import load_identity
from .checks import checked_inputs, named
from .extract_dense_landmarks import WEIGHTS, load_landmarker
from .host import field, io, schema, to_host
from .inputs import CATEGORY, fps_input, model_input
from .media import check_fps, read_audio, read_images, read_keep
from .models import missing_models, network
from .tracks import track_in
from .types import Track


class Score(io.ComfyNode):
    """Result + source + speech -> figures and a plot."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkScore",
            display_name="Score Lip Sync (MyTalk)",
            category=CATEGORY,
            description="Finds the face again in the finished frames, also those of another lip-sync node, and "
            "measures the mouth against the source and the speech: what is left of the old mouth, movement in silence, "
            "sharpness, flicker, seams, likeness. The plot shows the mouth's opening over time.",
            search_aliases=["evaluate", "metrics", "quality", "lip sync score"],
            inputs=[
                field(io.Image, "frames", tooltip="The finished frames, before they are encoded."),
                field(io.Image, "source", tooltip="The frames that they were made from."),
                field(Track, "track", tooltip="The face in the source, from Extract Dense Landmarks."),
                field(io.Audio, "audio", tooltip="The speech that the frames should say."),
                fps_input(),
                field(
                    io.Boolean,
                    "same_words",
                    default=False,
                    tooltip="On when the source already says this speech: then its mouth is the right answer, and the "
                    "figures say how near the result is. Default: off.",
                ),
                model_input("identity", "identity_model"),
                model_input("sync_judge", "sync_judge"),
                field(
                    io.Mask,
                    "mask",
                    optional=True,
                    tooltip="Which pixels of the frames are new, from Lip Sync or Paste Back: all others are compared "
                    "with the source's. Default: what the face in the frames suggests.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="plot", tooltip="Mouth opening over time, result red, source black."),
                io.String.Output(display_name="report", tooltip="The figures, one a line."),
                io.String.Output(display_name="json", tooltip="The same figures for programs."),
            ],
        )

    @classmethod
    def validate_inputs(cls, identity_model: str | None = None) -> bool | str:
        return missing_models(("face", WEIGHTS), identity_model=("identity", identity_model))

    @classmethod
    @checked_inputs
    def execute(
        cls,
        frames: Tensor,
        source: Tensor,
        track: FaceTrack,
        audio: Mapping[str, Any],
        fps: float,
        same_words: bool,
        identity_model: str,
        sync_judge: str,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        made, original = read_images(frames, "frames"), read_images(source, "source")
        track, speech = track_in(original, track, "source"), read_audio(audio)
        new = read_keep(mask, original, "mask")
        fps = check_fps(fps)
        with named("identity_model"):
            identity = network("identity", identity_model, load_identity)
        with named("sync_judge"):
            judge = network("sync_judge", sync_judge, load_sync_judge)
        judges = Judges(load_landmarker(), identity, judge)
        with named("frames"):
            scored = score_result(made[..., :3], original[..., :3], track, speech, fps, judges, same_words, new)
        figures, plot = scored
        picture = torch.from_numpy(np.asarray(plot).copy()).float()[None] / 255
        return io.NodeOutput(to_host(picture), as_text(figures), json.dumps(figures))
