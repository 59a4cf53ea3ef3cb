"""How YCbCr becomes RGB and back: the matrix of files that do not say theirs, and swscale's accurate ways.

RGB holds the code values of the film, whatever light they mean: `ColourTags` goes from reader to writer.
"""

from __future__ import annotations

from dataclasses import dataclass

from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace, Interpolation

# Code points of ITU-T H.273, as in the stream.
RGB = 0
BT709 = 1
UNSPECIFIED = 2
UNSAID = {0, UNSPECIFIED, 3}  # two are reserved
SMPTE170M = 6  # the matrix of BT.601
BT2020 = 9  # primaries, and the matrix with non-constant luminance
HDR = {16: "PQ", 18: "HLG"}  # transfers
WIDE_MATRIX = getattr(Colorspace, "BT2020", None)  # PyAV 12 to 15 lack it
VIDEO_RANGE = ColorRange.MPEG
FULL_RANGE = ColorRange.JPEG
# swscale's default is 1.3 levels too dark on average (37 dB on a smooth picture there and back; so: 51 dB).
# Older PyAV (16, for one) can ask for the filter only.
ACCURATE = Interpolation.BICUBIC
if hasattr(Interpolation, "FULL_CHR_H_INT"):
    ACCURATE = ACCURATE | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class ColourTags:
    """What light the code values of a film's RGB mean: H.273 codes of its `primaries` and `transfer`."""

    primaries: int = BT709
    transfer: int = BT709

    @classmethod
    def of(cls, context: VideoCodecContext) -> ColourTags:
        """Those that a stream states; what it leaves open is BT.709, and BT.2020 where it is HDR."""
        primaries, transfer = int(context.color_primaries), int(context.color_trc)
        unsaid = BT2020 if transfer in HDR else BT709
        primaries, transfer = (unsaid if code in UNSAID else code for code in (primaries, transfer))
        return cls(primaries, transfer)

    @property
    def hdr(self) -> str:
        """The name of the transfer when it is an HDR one, else nothing."""
        return HDR.get(self.transfer, "")

    def matrix(self, width: int, height: int) -> int:
        """H.273 code of the matrix that a file with these tags is written with."""
        if self.primaries == BT2020 and WIDE_MATRIX is not None:
            return BT2020
        return assumed_matrix(width, height)


def assumed_matrix(width: int, height: int) -> int:
    """H.273 code that players assume for an untagged picture: BT.709 for HD, BT.601 below."""
    return BT709 if width >= 1280 or height > 576 else SMPTE170M


def swscale_matrix(code: int, width: int, height: int) -> Colorspace:
    """The conversion matrix of a stream tagged `code`."""
    code = assumed_matrix(width, height) if code == UNSPECIFIED else code
    known = {BT709: Colorspace.ITU709, 4: Colorspace.FCC, 7: Colorspace.SMPTE240M}
    if code in (BT2020, 10) and WIDE_MATRIX is not None:
        return WIDE_MATRIX
    return known.get(code, Colorspace.ITU601)
