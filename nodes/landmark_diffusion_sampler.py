"""Step 5: speech + face + identity -> a face track whose mouth speaks."""

from __future__ import annotations

import math
from dataclasses import replace

from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.motion.generate import MotionOptions, speak
from ..comfyui_mytalk.motion.model import check_needs, load_motion
from ..comfyui_mytalk.motion.params import FPS
from ..comfyui_mytalk.motion.reference import UNHEARD, StyleReference, remember, unheard_reference
from ..comfyui_mytalk.video.timing import last_shown
from .checks import checked_inputs, named, one_of
from .host import field, io, schema
from .inputs import CATEGORY, model_input, sampling_inputs, seed_input, style_strength_input
from .models import missing_models, network
from .progress import Progress, retrying
from .types import Identity, IdentityTokens, SpeechFeatures, SpokenFeatures, Track

SAMPLERS = ["ddim", "ddpm"]


class LandmarkDiffusionSampler(io.ComfyNode):
    """Generate the motion of the lower face."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkLandmarkDiffusionSampler",
            display_name="Landmark Diffusion Sampler (MyTalk)",
            category=CATEGORY,
            description="Generates how the lower face moves to say the speech. Eyes, brows and head stay as filmed.",
            search_aliases=["lip sync", "sampler", "talking", "audio driven motion"],
            inputs=[
                field(
                    SpeechFeatures,
                    "speech_features",
                    tooltip="What is said. Longer than the clip: cut. Shorter: the mouth is silent for the rest.",
                ),
                field(Track, "track", tooltip="The face to move, from Extract Dense Landmarks."),
                field(Identity, "identity", tooltip="Whose face it is, from Identity Embed."),
                seed_input(),
                *sampling_inputs(),
                field(
                    io.Combo,
                    "sampler",
                    options=SAMPLERS,
                    default=SAMPLERS[0],
                    tooltip="ddim: smooth, few steps. ddpm: adds noise in each step, livelier, wants 50 steps or more. "
                    "Default: ddim.",
                ),
                model_input("motion"),
                field(
                    io.Boolean,
                    "match_range",
                    optional=True,
                    default=MotionOptions.match_range,
                    tooltip="Open the mouth as far as the person does in the clip, and in the same shape. Off: as the "
                    "model finds likely for the voice. Default: on.",
                ),
                field(
                    Track,
                    "style",
                    optional=True,
                    tooltip="Another clip of the same person, smiling perhaps: the mouth rests as it does there and "
                    "opens as far. Take the identity from it too.",
                ),
                field(
                    SpeechFeatures,
                    "style_features",
                    optional=True,
                    tooltip="What is said in the clip itself, or in the style clip: the new words are shaped as this "
                    "person shapes such sounds. Ignored where the lips say something else.",
                ),
                style_strength_input(),
            ],
            outputs=[Track.Output(display_name="motion", tooltip="The same face with a mouth that speaks.")],
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        return missing_models(model=("motion", model))

    @classmethod
    @checked_inputs
    def execute(
        cls,
        speech_features: SpokenFeatures,
        track: FaceTrack,
        identity: IdentityTokens,
        seed: int,
        steps: int,
        strength: float,
        guidance: float,
        variation: float,
        sampler: str,
        model: str,
        match_range: bool | None = None,
        style: FaceTrack | None = None,
        style_features: SpokenFeatures | None = None,
        style_strength: float = MotionOptions.style_strength,
    ) -> io.NodeOutput:
        sampler = one_of("sampler", sampler, SAMPLERS)
        strengths = {"guidance": guidance, "strength": strength, "variation": variation}
        options = MotionOptions(steps, seed, sampler, **strengths, style_strength=style_strength)
        if match_range is not None:
            options = replace(options, match_range=match_range)
        motion, _ = sample_motion(model, track, speech_features, identity, options, Progress(), style, style_features)
        return io.NodeOutput(motion)


def sample_motion(
    model: str,
    track: FaceTrack,
    speech: SpokenFeatures,
    identity: IdentityTokens,
    options: MotionOptions,
    progress: Progress,
    style: FaceTrack | None = None,
    heard: SpokenFeatures | None = None,
) -> tuple[FaceTrack, StyleReference]:
    """The track with the mouth that the motion model of that name generates, and what became of its style reference.

    That is what is `heard` in the `style` clip, or in the track's own without one.
    """
    with named("model"):
        generator = network("motion", model, load_motion)
        check_needs(generator, speech, identity)
        reference = unheard_reference(generator, track, options.style_strength)
        if reference is UNHEARD and heard is not None:
            check_needs(generator, heard, identity)
            reference = remember(generator, track if style is None else style, heard.values, identity.tokens)
    features = speech.fit(motion_frames(track))

    def run(windows: int) -> FaceTrack:
        fewer = replace(options, window_batch=windows)
        return speak(generator, track, features, identity.tokens, fewer, progress, style, reference.memory)

    return retrying(run, options.window_batch), reference


def motion_frames(track: FaceTrack) -> int:
    """Motion frames at 25 fps that cover the track."""
    seconds = track.times[-1].item() - track.times[0].item() + last_shown(track.times, FPS)
    return math.ceil(seconds * FPS - 1e-6)
