"""All steps in one node: the nine of the paper, what lies in front of the face, and rest in pauses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..comfyui_mytalk.appearance.bank import ReferenceBank
from ..comfyui_mytalk.appearance.model import AppearanceModel
from ..comfyui_mytalk.appearance.occlusion import Occlusion
from ..comfyui_mytalk.appearance.tuning import Tuning
from ..comfyui_mytalk.geometry import geometry
from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.motion.edit import MotionEdit, edit_motion
from ..comfyui_mytalk.motion.generate import MotionOptions
from ..comfyui_mytalk.motion.identity import load_identity
from ..comfyui_mytalk.motion.model import check_needs, load_motion
from ..comfyui_mytalk.motion.params import FPS
from ..comfyui_mytalk.motion.reference import LONGEST, StyleReference
from ..comfyui_mytalk.pipeline import ClipRenderer
from ..comfyui_mytalk.speech.audio import Audio, fit_audio, speech_16k
from ..comfyui_mytalk.speech.features import load_speech_encoder
from .appearance_vae import held_model, load_model, tuned_input
from .checks import checked_inputs, named
from .extract_dense_landmarks import WEIGHTS, describe, extract
from .find_occlusions import WEIGHTS as OCCLUSION
from .find_occlusions import describe_occlusion, see_occlusions
from .host import field, io, schema, to_host
from .identity_embed import embed_identity
from .inputs import (
    CATEGORY,
    clip_input,
    face_choice,
    face_inputs,
    fps_input,
    keep_input,
    model_input,
    occlusions_input,
    reference_choice,
    reference_inputs,
    sampling_inputs,
    seed_input,
    style_strength_input,
)
from .landmark_diffusion_sampler import sample_motion
from .listening import listening
from .masked_reference_select import select
from .media import Clip, Video, compact, read_audio, read_clip, read_keep, write_audio
from .models import held, missing_models, model_path
from .progress import Progress, halving
from .types import Track
from .wav2vec_features import speech_features

GATE = 1.0  # as the command line's --silence-gate
LOST = 0.05  # seconds of speech: less is what rounding to whole frames leaves


class LipSync(io.ComfyNode):
    """Frames + speech -> frames that speak."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkLipSync",
            display_name="Lip Sync (MyTalk)",
            category=CATEGORY,
            description="Makes the face in the frames say the speech. As many frames come out as go in, at the same "
            "fps; every pixel away from the mouth stays exactly as it was.",
            search_aliases=["lipsync", "lip sync", "talking head", "dubbing", "wav2lip", "mytalk"],
            inputs=[
                clip_input("The frames of the clip in order, or a video. Decoded video takes less memory than frames."),
                field(
                    io.Audio,
                    "audio",
                    tooltip="The speech. Longer than the clip: cut. Shorter: silence follows, with a resting mouth.",
                ),
                fps_input(),
                seed_input(),
                *sampling_inputs(),
                *face_inputs(),
                *reference_inputs("references", "reference_count"),
                model_input("speech", "speech_encoder"),
                model_input("identity", "identity_model"),
                model_input("motion", "motion_model"),
                model_input("appearance", "appearance_model"),
                tuned_input(),
                keep_input(),
                occlusions_input(),
                field(
                    io.Float,
                    "silence_gate",
                    default=GATE,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="How far the mouth goes to rest where the speech is silent: 0 is off, 1 completely. "
                    f"Default: {GATE:g}.",
                ),
                field(
                    Track,
                    "style",
                    optional=True,
                    tooltip="Another clip of the same person, smiling perhaps, from Extract Dense Landmarks: the mouth "
                    "rests as it does there and opens as far. Default: as in the clip itself.",
                ),
                field(
                    io.Audio,
                    "source_audio",
                    optional=True,
                    tooltip="What the clip itself says, or the style clip: the new words are shaped as this person "
                    "shapes such sounds. Ignored where the lips say something else. Default: the sound of a video.",
                ),
                style_strength_input(),
            ],
            outputs=[
                io.Image.Output(display_name="frames", tooltip="The finished frames."),
                io.Audio.Output(display_name="speech", tooltip="The speech, exactly as long as the frames."),
                io.Mask.Output(display_name="mask", tooltip="Which pixels of the frames are new."),
                io.String.Output(display_name="report", tooltip="What was found and done."),
                io.Float.Output(display_name="fps", tooltip="Frames per second: the video's own, or the input's."),
            ],
        )

    @classmethod
    def validate_inputs(cls, motion_model: str | None = None) -> bool | str:
        """Of the model that people change most; the host would repeat one text for each. `execute` begins with all."""
        return missing_models(("face", WEIGHTS), motion_model=("motion", motion_model))

    @classmethod
    @checked_inputs
    def execute(
        cls,
        images: Tensor | Video,
        audio: Mapping[str, Any],
        fps: float,
        seed: int,
        steps: int,
        strength: float,
        guidance: float,
        variation: float,
        face: str,
        face_index: int,
        point_x: float,
        point_y: float,
        references: str,
        reference_count: int,
        speech_encoder: str,
        identity_model: str,
        motion_model: str,
        appearance_model: str,
        tuned: Tuning | None = None,
        keep_mask: Tensor | None = None,
        keep_occlusions: bool = True,
        silence_gate: float = GATE,
        style: FaceTrack | None = None,
        source_audio: Mapping[str, Any] | None = None,
        style_strength: float = MotionOptions.style_strength,
    ) -> io.NodeOutput:
        wanted, fixed = reference_choice(references, reference_count, "references")
        check_models(speech_encoder, identity_model, motion_model, appearance_model, tuned, keep_occlusions)
        edit = MotionEdit(gate=silence_gate)
        strengths = {"guidance": guidance, "strength": strength, "variation": variation}
        options = MotionOptions(steps, seed, **strengths, style_strength=style_strength)
        given, progress = read_audio(audio), Progress()
        images, fps, sound = read_frames(images, fps)
        if source_audio is None and style is None:
            source_audio = sound
        said = None if source_audio is None or not style_strength else read_audio(source_audio, "source_audio")
        keep = read_keep(keep_mask, images)
        speech = fit_audio(given, len(images) / fps)
        choice = face_choice(face, face_index, point_x, point_y, images.shape[1:3])
        features = speech_features(speech, speech_encoder, progress.part(0.0, 0.05))
        track = extract(images, fps, choice, progress.part(0.05, 0.25))
        occlusion = see_occlusions(images, track, OCCLUSION, progress.part(0.25, 0.3)) if keep_occlusions else None
        with named("images" if style is None else "style"):
            identity = embed_identity(track if style is None else style, identity_model)
        heard = None if said is None else speech_features(a_minute(said), speech_encoder, progress.part(0.3, 0.32))
        sampling = progress.part(0.32, 0.4)
        motion, reference = sample_motion(motion_model, track, features, identity, options, sampling, style, heard)
        motion = edit_motion(track, motion, edit, speech_16k(speech), style)
        bank = select(images, track, wanted, fixed, progress.part(0.4, 0.45), keep, occlusion)
        painter = load_model(appearance_model, tuned)
        frames, mask = render(images, track, motion, bank, painter, progress.part(0.45, 1.0), keep, occlusion)
        seen = "" if occlusion is None else f"{describe_occlusion(occlusion)}; "
        shown = describe_reference(reference, sound is source_audio)
        report = f"{describe(track)}; {seen}{shown}; {describe_length(given.duration, speech.duration)}"
        return io.NodeOutput(to_host(frames), write_audio(speech), to_host(mask), report, fps)


def check_models(
    speech: str, identity: str, motion: str, appearance: str, tuned: Tuning | None, occlusions: bool = False
) -> None:
    """Raise InputError, before any long work, unless these models and the tuning are there and made for each other."""
    chosen = {
        "speech_encoder": ("speech", speech, load_speech_encoder),
        "identity_model": ("identity", identity, load_identity),
        "motion_model": ("motion", motion, load_motion),
    }
    read = {}
    for role, (kind, name, load) in chosen.items():
        with named(role):
            read[kind] = held(kind, name, load).model
    with named("motion_model"):
        check_needs(read["motion"], read["speech"], read["identity"])
    held_model(appearance, tuned, "appearance_model")
    if occlusions:
        with named("keep_occlusions"):
            model_path("occlusion", OCCLUSION)


def describe_reference(reference: StyleReference, own: bool) -> str:
    """One line for people; `own`: the sound was the video's own, no `source_audio`."""
    if reference.memory is None:
        return f"no style reference: {reference.why}"
    return f"style reference from {'the sound of the video' if own else 'source_audio'}: {reference.why}"


def describe_length(given: float, used: float) -> str:
    """One line for people: seconds of speech that were given, and that the video has room for."""
    lost = given - used
    cut = f", {lost:.2f} s were cut: Fit Video to Speech makes the video as long" if lost >= LOST else ""
    return f"{given:.2f} s of speech for {used:.2f} s of video{cut}"


def read_frames(images: Tensor | Video, fps: float) -> Clip:
    """The clip; a video's decoded frames are held in the least memory that loses nothing."""
    clip = read_clip(images, fps)
    return clip if clip.images is images else clip._replace(images=compact(clip.images))


def a_minute(sound: Audio) -> Audio:
    """The first minute of a clip's own sound: more of it is not listened to."""
    return Audio(sound.waveform[:, : round(LONGEST / FPS * sound.sample_rate)], sound.sample_rate)


def render(
    images: Tensor,
    track: FaceTrack,
    motion: FaceTrack,
    bank: ReferenceBank,
    painter: tuple[AppearanceModel, int],
    progress: Progress,
    keep: Tensor | None = None,
    occlusion: Occlusion | None = None,
) -> tuple[Tensor, Tensor]:
    """Frames like `images (f, h, w, c)`, always float, with the mouths of `motion`, and masks `(f, h, w)`.

    Where `keep (f, h, w)` is 1 the frames stay as they are, and so does what was found in front of the face. Crops go
    straight into the frames: only the last two nodes of the single steps hold them for a whole clip.
    """
    model, batch = painter
    renderer = ClipRenderer(model, motion, geometry(track, motion), bank, occlusion)
    kind = images.dtype if images.is_floating_point() else torch.float32
    frames, masks = torch.empty_like(images, dtype=kind), torch.empty(images.shape[:3])

    def run(part: slice) -> None:
        given = images[part] if images.is_floating_point() else images[part] / 255.0
        masks[part] = 0
        frames[part], _ = renderer(given, part, masks[part], None if keep is None else keep[part])

    with listening(model):
        halving(run, len(images), batch, progress.showing(frames.__getitem__))
    return frames, masks
