"""The networks of the pipeline, loaded and made for each other."""

from __future__ import annotations

from dataclasses import dataclass

from .appearance.model import AppearanceModel, load_appearance
from .appearance.occlusion import OcclusionNet, load_occlusion
from .appearance.tuning import load_tuning, tuned_copy
from .checkpoints import find_weights
from .devices import pick_device, pick_dtype
from .landmarks.track import load_face_landmarker
from .landmarks.tracker import FaceLandmarker
from .motion.identity import IdentityExtractor, load_identity
from .motion.model import MotionModel, check_needs, load_motion
from .options import SyncOptions
from .speech.features import SpeechFeatures, load_speech_encoder


@dataclass
class Models:
    """The networks of the pipeline, on their device."""

    landmarker: FaceLandmarker
    speech: SpeechFeatures
    identity: IdentityExtractor
    motion: MotionModel
    appearance: AppearanceModel
    occlusion: OcclusionNet | None


def load_models(options: SyncOptions) -> Models:
    """Load and check all weights; raises InputError, before any long work, when one is missing or does not fit."""
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    for name, kind in ((options.identity, "identity"), (options.motion, "motion"), (options.appearance, "appearance")):
        find_weights(name, kind)
    occlusion = load_occlusion(options.occlusion, device) if options.keep_occlusions else None
    speech, identity = load_speech_encoder(options.speech_encoder, device), load_identity(options.identity, device)
    motion = load_motion(options.motion, device)
    check_needs(motion, speech, identity)
    appearance = load_appearance(options.appearance, device)
    if options.tuned is not None:
        appearance = tuned_copy(appearance, load_tuning(options.tuned))
    if not options.tune:  # tuning starts from the weights as published, and is rounded afterwards
        appearance = appearance.to(dtype)
    return Models(load_face_landmarker(device), speech, identity, motion, appearance, occlusion)
