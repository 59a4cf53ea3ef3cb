"""How YCbCr becomes RGB and back: the matrix of files that do not say theirs, and swscale's accurate ways."""

from __future__ import annotations

from av.video.reformatter import ColorRange, Colorspace, Interpolation

# Code points of ITU-T H.273, as in the stream.
RGB = 0
BT709 = 1
UNSPECIFIED = 2
SMPTE170M = 6  # the matrix of BT.601
VIDEO_RANGE = ColorRange.MPEG
FULL_RANGE = ColorRange.JPEG
# swscale's default is 1.3 levels too dark on average (37 dB on a smooth picture there and back; so: 51 dB).
# Older PyAV (16, for one) can ask for the filter only.
ACCURATE = Interpolation.BICUBIC
if hasattr(Interpolation, "FULL_CHR_H_INT"):
    ACCURATE = ACCURATE | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def assumed_matrix(width: int, height: int) -> int:
    """H.273 code that players assume for an untagged picture: BT.709 for HD, BT.601 below."""
    return BT709 if width >= 1280 or height > 576 else SMPTE170M


def swscale_matrix(code: int, width: int, height: int) -> Colorspace:
    """The conversion matrix of a stream tagged `code`."""
    code = assumed_matrix(width, height) if code == UNSPECIFIED else code
    known = {BT709: Colorspace.ITU709, 4: Colorspace.FCC, 7: Colorspace.SMPTE240M}
    wide = getattr(Colorspace, "BT2020", None)
    if code in (9, 10) and wide is not None:
        return wide
    return known.get(code, Colorspace.ITU601)
