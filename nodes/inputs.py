"""Inputs that several nodes share, with one wording each."""

from __future__ import annotations

from ..comfyui_mytalk.appearance.references import BANK, FIXED
from ..comfyui_mytalk.landmarks.track import Choice
from ..comfyui_mytalk.motion.generate import MotionOptions
from .checks import one_of
from .host import field, io
from .models import model_names, speech_encoder_names
from .types import Track

CATEGORY = "MyTalk"
DEFAULTS = MotionOptions()
FACES = ("largest", "index", "nearest to point")
REFERENCES = ("nearest mouth", "fixed")
MODELS = {
    "speech": "Speech encoder: the small one that ships, a wav2vec 2.0, HuBERT, WavLM or Whisper folder in "
    "models/mytalk, or a safetensors file in models/audio_encoders. Must be the one that the motion model was "
    "trained with. Default: speech_small.",
    "identity": "Identity extractor in models/mytalk or shipped. Must be the one that the motion model was trained "
    "with. Default: identity_small.",
    "motion": "Motion model in models/mytalk or shipped. It decides how the mouth moves. Default: motion_small.",
    "sync_judge": "Network that judges lip sync, in models/mytalk or shipped; it made nothing that it judges. "
    "Default: sync_judge_small.",
    "occlusion": "Network that sees what is in front of a face, in models/mytalk or shipped. Default: occlusion_small.",
    "appearance": "Appearance model in models/mytalk or shipped. It decides how lips and teeth look. "
    "Default: appearance_small.",
}


def clip_input(tooltip: str) -> io.Input:
    """Frames, or a video."""
    return field(io.MultiType, "images", types=[io.Image, io.Video], tooltip=tooltip)


def fps_input() -> io.Input:
    """Frames per second of the frames."""
    return field(
        io.Float,
        "fps",
        default=25.0,
        min=1.0,
        max=240.0,
        step=0.001,
        round=False,
        tooltip="Frames per second of the images: connect the fps of Get Video Components. Any rate works and is kept; "
        "a wrong one makes the mouth run ahead of the speech or behind it. A connected video brings its own. "
        "Default: 25.",
    )


def track_input() -> io.Input:
    """The face in the frames beside it."""
    return field(Track, "track", tooltip="The face in these images, from Extract Dense Landmarks.")


def motion_input() -> io.Input:
    """The same face, speaking."""
    return field(Track, "motion", tooltip="The face with the new mouth, from the Landmark Diffusion Sampler.")


def model_input(kind: str, name: str = "model") -> io.Input:
    """Choice among the model files of `kind`."""
    names = speech_encoder_names() if kind == "speech" else model_names(kind)
    return field(io.Combo, name, options=names, default=names[0], tooltip=MODELS[kind])


def face_inputs() -> list[io.Input]:
    """Which face, when there are several."""
    return [
        field(
            io.Combo,
            "face",
            options=list(FACES),
            default=FACES[0],
            tooltip="Which face, when there are several. largest: the one with most picture area over "
            "the whole clip. index: count with face_index. nearest to point: use point_x, point_y. Default: largest.",
        ),
        field(
            io.Int,
            "face_index",
            default=0,
            min=0,
            max=31,
            tooltip="For face = index: 0 is the face that appears first, the left one of several. Default: 0.",
        ),
        *(
            field(
                io.Float,
                f"point_{axis}",
                default=0.5,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip=f"For face = nearest to point: where the face is when it first appears, 0 is the {ends} edge. "
                "Default: 0.5.",
            )
            for axis, ends in (("x", "left, 1 the right"), ("y", "top, 1 the bottom"))
        ),
    ]


def face_choice(face: str, index: int, x: float, y: float, size: tuple[int, int]) -> Choice:
    """The library's choice of a face for the widgets' values; `size (h, w)` pixels."""
    ways = {FACES[0]: "largest", FACES[1]: index, FACES[2]: (x * size[1], y * size[0])}
    return ways[one_of("face", face, FACES)]


def seed_input() -> io.Input:
    return field(
        io.Int,
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="Which of the possible ways to say it. The same seed gives the same motion. Default: 0.",
    )


def sampling_inputs() -> list[io.Input]:
    """Everything about the sampler that is not the seed, with the library's own defaults."""
    return [
        field(
            io.Int,
            "steps",
            default=DEFAULTS.steps,
            min=1,
            max=1000,
            tooltip=f"Steps of the sampler. More take longer. Default: {DEFAULTS.steps}.",
        ),
        field(
            io.Float,
            "strength",
            default=DEFAULTS.strength,
            min=0.0,
            max=2.0,
            step=0.05,
            tooltip="How far the mouth moves away from rest: 0 not at all, 1 as generated, above 1 exaggerates. "
            f"Default: {DEFAULTS.strength:g}.",
        ),
        field(
            io.Float,
            "guidance",
            default=DEFAULTS.guidance,
            min=1.0,
            max=5.0,
            step=0.1,
            tooltip="How strongly the speech steers against no speech: more articulates more clearly, 1 is off and "
            f"takes half the time. Default: {DEFAULTS.guidance:g}.",
        ),
        field(
            io.Float,
            "variation",
            default=DEFAULTS.variation,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How far the motion may be from the likeliest one: 0 is the same for every seed, 1 is the full "
            f"range. Default: {DEFAULTS.variation:g}.",
        ),
    ]


def style_strength_input() -> io.Input:
    """How much a style reference counts."""
    return field(
        io.Float,
        "style_strength",
        default=DEFAULTS.style_strength,
        min=0.0,
        max=2.0,
        step=0.05,
        optional=True,
        tooltip="How much of how this person shapes sounds is taken over: 0 is nothing, 1 as trained. "
        f"Default: {DEFAULTS.style_strength:g}.",
    )


def reference_inputs(mode: str, count: str) -> list[io.Input]:
    """Which pictures of the mouth the appearance model may look at."""
    return [
        field(
            io.Combo,
            mode,
            options=list(REFERENCES),
            default=REFERENCES[0],
            tooltip="nearest mouth: each frame is painted from many frames of the clip, above all from those whose "
            "mouth is most alike. "
            "fixed: all frames from the same three, those that tell most about the others. Default: nearest mouth.",
        ),
        field(
            io.Int,
            count,
            default=BANK,
            min=3,
            max=256,
            tooltip="For nearest mouth: how many frames of the clip to paint from. More gives a better picture and "
            f"takes longer. Default: {BANK}.",
        ),
    ]


def reference_choice(mode: str, count: int, name: str) -> tuple[int, bool]:
    """How many references to keep, and whether they are the same for all frames, for the values of both widgets.

    `name` is what the mode is called.
    """
    return (FIXED, True) if one_of(name, mode, REFERENCES) == REFERENCES[1] else (count, False)


def keep_input() -> io.Input:
    """What stays as filmed although it lies over the mouth."""
    return field(
        io.Mask,
        "keep_mask",
        optional=True,
        tooltip="White stays as filmed: a hand or a microphone in front of the mouth, from Find Occlusions or from a "
        "segmentation. One mask, or one for each frame, as large as the frames. Default: nothing lies over the mouth.",
    )


def occlusions_input() -> io.Input:
    """Whether to look for what lies over the mouth."""
    return field(
        io.Boolean,
        "keep_occlusions",
        default=True,
        optional=True,
        tooltip="On: a hand, a microphone or writing that is seen in front of the mouth stays as filmed. Off: it is "
        "painted over, unless keep_mask says otherwise. Default: on.",
    )
