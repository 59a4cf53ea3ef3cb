"""Sizes of the appearance networks (MyTalk, Table 9)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AppearanceParams:
    """One appearance generator. The defaults are the paper's; what `small` adds is marked and off here."""

    size: int = 256  # side of the aligned crop, pixels
    channels: int = 256
    multipliers: tuple[int, ...] = (1, 2, 4)  # channels per resolution level
    encoder_blocks: int = 8
    decoder_blocks: int = 9
    latent: int = 3
    attention: bool = True  # self-attention in the middle block
    references: int = 3
    masked_references: bool = True  # show only the lip region of the references
    fusion_channels: int = 256
    fusion_blocks: int = 4
    # Beyond the paper, for few training identities and small machines:
    normalise: bool = True  # group normalisation; without it residual branches start at zero instead
    patch: int = 1  # pixel-unshuffle before the first convolution: full-resolution layers are what costs
    aligned: bool = False  # references warped onto the target landmarks before they are encoded
    relight: bool = False  # with `aligned`: references in the light of the frame's visible face
    regression: bool = False  # the first reference is all of the clip's pictures, combined by regression on landmarks
    skips: bool = False  # encoder features to the decoder at every level
    blend: bool = False  # output = predicted blend of visible frame, aligned references and new colour
    detail: float = 0.0  # with `regression`: what is finer than so many pixels (sigma) is the nearest mouth's, as it is
    detail_choice: bool = False  # with `detail`: of which of the mouths shown, is chosen for every pixel
    sharpen: float = 0.0  # with `detail`: how much stronger it is laid on, since blends of pictures are soft
    teeth: float = 0.0  # with `regression`: the same between the lips, where it is the nearest mouth's; 0: as elsewhere
    bound: float = 0.0  # how far, 0..1, pictures may go beyond what the references show at the same place; 0: anywhere
    hold: float = 0.0  # with `regression`: how far, 0..1, what is not fine detail may stray from it; 0: anywhere
    refine: bool = False  # references moved a little further by the network, and colour added on top of the blend
    reach: float = 0.0  # with `refine`: pixels, along x and y, that references may be moved; 0: any distance
    window: tuple[int, int, int, int] | None = None  # rows and columns of the crop that the network sees

    @property
    def factor(self) -> int:
        """Pixels per latent cell along one side."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


PRESETS: dict[str, AppearanceParams] = {
    "paper": AppearanceParams(),
    "small": AppearanceParams(
        channels=64,
        multipliers=(1, 2, 3),
        encoder_blocks=1,
        decoder_blocks=2,
        latent=16,
        attention=False,
        references=4,
        fusion_channels=96,
        fusion_blocks=1,
        normalise=False,
        patch=4,
        aligned=True,
        relight=True,
        regression=True,
        skips=True,
        blend=True,
        detail=1.0,
        detail_choice=True,
        sharpen=0.75,
        bound=0.02,
        hold=0.05,
        refine=True,
        reach=0.75,
        teeth=3.0,
        window=(96, 256, 32, 224),
    ),
}
