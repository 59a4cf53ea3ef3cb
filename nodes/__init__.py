"""ComfyUI nodes: thin adapters over the library, one file per step."""

from __future__ import annotations

from .appearance_vae import AppearanceVAE
from .edit_motion import EditMotion
from .extract_dense_landmarks import ExtractDenseLandmarks
from .find_occlusions import FindOcclusions
from .fit_video_to_speech import FitVideoToSpeech
from .host import ComfyExtension, io
from .identity_embed import IdentityEmbed
from .landmark_diffusion_sampler import LandmarkDiffusionSampler
from .landmark_overlay import LandmarkOverlay
from .lip_sync import LipSync
from .load_speech import LoadSpeech
from .masked_reference_select import MaskedReferenceSelect
from .models import register_folders
from .paste_back import PasteBack
from .render_landmark_image import RenderLandmarkImage
from .score import Score
from .tune_actor import TuneActor
from .wav2vec_features import Wav2VecFeatures

NODES: list[type[io.ComfyNode]] = [
    LipSync,
    LoadSpeech,
    Wav2VecFeatures,
    ExtractDenseLandmarks,
    IdentityEmbed,
    LandmarkDiffusionSampler,
    RenderLandmarkImage,
    MaskedReferenceSelect,
    AppearanceVAE,
    PasteBack,
    FitVideoToSpeech,
    LandmarkOverlay,
    FindOcclusions,
    EditMotion,
    Score,
    TuneActor,
]

register_folders()


class MyTalkExtension(ComfyExtension):
    """What the host asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> MyTalkExtension:
    """The host's way in."""
    return MyTalkExtension()
