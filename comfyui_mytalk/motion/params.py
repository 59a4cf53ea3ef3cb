"""Sizes of the motion networks. `paper` is MyTalk's Table 9 (arXiv 2406.08096); `small` ships."""

from __future__ import annotations

from dataclasses import dataclass

CONDITIONS = ("embedding", "concat", "add", "cross")
FPS = 25  # motion frames per second: half the rate of the speech features


@dataclass(frozen=True)
class IdentityParams:
    """The identity extractor: an MLP from pose-free landmarks to a unit vector.

    points: landmarks read. coordinates: 2 for (x, y), 3 to add z. width, layers: hidden layers. dim: of the embedding.
    """

    points: int = 478
    coordinates: int = 2
    width: int = 768
    layers: int = 4
    dim: int = 768
    dropout: float = 0.0


@dataclass(frozen=True)
class MotionParams:
    """The speech encoder and the denoiser.

    lower, upper: landmarks generated and given. frames, overlap: the window that is trained and how windows overlap.
    speech_*: the speech encoder. dim, layers, heads, kernel, ffn: the denoiser. identity_dim: of one identity token.
    condition: how the person enters (Table 5): `embedding` attends to identity embeddings, as the paper does;
    `concat`, `add` and `cross` take the landmarks of key frames instead, beside the input, as a feature added to it,
    or attended to.

    Options, all off in the paper. relative: generate the displacement from the person's own resting lower face.
    components: generate in a linear basis of that many whitened components, 0 for every coordinate by itself.
    rotary: relative positions in place of absolute ones. zero_init: the first estimate is the mean face.
    style_heads: of the attention to a style reference, what the person's lips do at like sounds (`style.py`); 0: none.
    erase_mouth: take out of the upper face what is linearly related to the mouth. Mesh landmarks of nose and cheeks
    follow the mouth so closely that a model which sees them copies the old words.
    """

    lower: int = 180
    upper: int = 103
    frames: int = 250
    overlap: int = 50
    speech_in: int = 768
    speech_dim: int = 512
    speech_layers: int = 4
    speech_heads: int = 8
    speech_kernel: int = 13
    speech_ffn: int = 2048
    dim: int = 768
    layers: int = 12
    heads: int = 12
    kernel: int = 5
    ffn: int = 2048
    dropout: float = 0.1
    identity_dim: int = 768
    condition: str = "embedding"
    relative: bool = False
    components: int = 0
    rotary: bool = False
    zero_init: bool = False
    erase_mouth: bool = False
    style_heads: int = 0

    @property
    def channels(self) -> int:
        """Width of one generated frame as the diffusion sees it."""
        return self.components or 2 * self.lower


IDENTITY_PRESETS = {
    "paper": IdentityParams(),
    "small": IdentityParams(width=256, layers=3, dim=128, dropout=0.1),
}

PRESETS = {
    "paper": MotionParams(),
    "small": MotionParams(
        speech_in=384,
        speech_dim=128,
        speech_layers=1,
        speech_heads=4,
        speech_ffn=256,
        dim=128,
        layers=4,
        heads=4,
        kernel=9,
        ffn=384,
        dropout=0.1,
        identity_dim=128,
        relative=True,
        components=16,
        rotary=True,
        zero_init=True,
        erase_mouth=True,
    ),
}
