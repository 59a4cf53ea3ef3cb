"""Step 4: who is it, from the landmarks."""

from __future__ import annotations

from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.motion.identity import identity_tokens, load_identity
from .checks import checked_inputs, named
from .host import field, io, schema
from .inputs import CATEGORY, model_input
from .models import missing_models, network
from .types import Identity, IdentityTokens, Track


class IdentityEmbed(io.ComfyNode):
    """Face track -> identity tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkIdentityEmbed",
            display_name="Identity Embed (MyTalk)",
            category=CATEGORY,
            description="Describes whose face it is, from the frames in which the mouth is most at rest.",
            search_aliases=["identity", "face shape", "speaker"],
            inputs=[
                field(
                    Track,
                    "track",
                    tooltip="Whose face: usually the clip's own track. Another clip of the same person works too.",
                ),
                model_input("identity"),
            ],
            outputs=[Identity.Output(display_name="identity", tooltip="For the Landmark Diffusion Sampler.")],
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        return missing_models(model=("identity", model))

    @classmethod
    @checked_inputs
    def execute(cls, track: FaceTrack, model: str) -> io.NodeOutput:
        with named("track"):
            return io.NodeOutput(embed_identity(track, model))


def embed_identity(track: FaceTrack, model: str) -> IdentityTokens:
    """Tokens of the face by the extractor of that name."""
    with named("model"):
        extractor = network("identity", model, load_identity)
    return IdentityTokens(identity_tokens(extractor, track).cpu(), extractor.params, extractor.sha256)
