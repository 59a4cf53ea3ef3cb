"""Which matrix turns YCbCr into RGB when a file does not say, and how it is named when we write."""

from __future__ import annotations

from av.video.reformatter import ColorRange, Colorspace

UNSPECIFIED = 2  # ISO/IEC 23091-2 (H.273) code points, as in the stream
BT709 = 1
SMPTE170M = 6  # the matrix of BT.601
VIDEO_RANGE = ColorRange.MPEG


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
