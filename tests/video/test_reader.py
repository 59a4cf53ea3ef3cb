from __future__ import annotations

import base64
import mmap
import struct
import threading
import weakref
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Stream
from PIL import Image, ImageOps

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.frames import TensorSource
from comfyui_mytalk.video.reader import VideoReader, in_chunks

NTSC = [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25), Fraction(60000, 1001), Fraction(12)]
S16 = 1 << 16  # 1.0 in a display matrix


def read(reader: VideoReader, size: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    frames, times = zip(*reader.chunks(size), strict=True)
    return torch.cat(frames), torch.cat(times)


@pytest.mark.parametrize("rate", NTSC, ids=str)
def test_constant_rate_and_times_are_exact(clip, number, rate):
    reader = VideoReader(clip(rate=rate))
    frames, times = read(reader)
    assert reader.info.fps == rate
    assert [number(frame) for frame in frames] == list(range(40))
    torch.testing.assert_close(
        times, torch.arange(40, dtype=torch.float64) / float(rate), rtol=0, atol=1e-9, check_dtype=False
    )
    assert reader.info.duration == pytest.approx(40 / rate, abs=1e-6)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(60000, 1001), 240])
def test_matroska_rounds_times_to_milliseconds_and_we_do_not(clip, number, rate):
    """Written with rounded times, a constant rate would be a variable one to editing programs."""
    path = clip("clip.mkv", rate=rate)
    reader = VideoReader(path)
    assert reader.info.fps == rate
    frames, times = read(reader)
    assert [number(frame) for frame in frames] == list(range(40))
    torch.testing.assert_close(times, torch.arange(40, dtype=torch.float64) / float(rate), rtol=0, atol=1e-9)
    later, times = read(VideoReader(path, start=13 / rate))
    assert [number(frame) for frame in later] == list(range(13, 40))
    torch.testing.assert_close(times, torch.arange(27, dtype=torch.float64) / float(rate), rtol=0, atol=1e-9)


def test_variable_times_are_the_real_ones(clip, number):
    pts = np.cumsum([0] + [20, 55, 33, 33, 90] * 6).tolist()
    reader = VideoReader(clip(frames=len(pts), rate=30, pts=pts, time_base=Fraction(1, 1000)))
    frames, times = read(reader)
    assert [number(frame) for frame in frames] == list(range(len(pts)))
    torch.testing.assert_close(times, torch.tensor(pts) / 1000, rtol=0, atol=1e-4, check_dtype=False)
    torch.testing.assert_close(reader.times, times, rtol=0, atol=1e-9)
    assert float(reader.info.fps) == pytest.approx((len(pts) - 1) / (pts[-1] / 1000), rel=1e-3)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize("begin", [0, 1, 11, 12, 13, 25, 39])
def test_a_cut_begins_with_exactly_the_frame_asked_for(clip, number, begin, name):
    rate = Fraction(24000, 1001)
    reader = VideoReader(clip(name, rate=rate), start=float(begin / rate), duration=float(5 / rate))
    frames, times = read(reader)
    wanted = list(range(begin, min(begin + 5, 40)))
    assert [number(frame) for frame in frames] == wanted
    assert len(reader) == reader.info.frames == len(wanted)
    assert times[0] == 0
    assert reader.offset == pytest.approx(begin / rate, abs=1e-9 if name == "clip.mp4" else 6e-4)


def test_start_between_frames_takes_the_next(clip, number):
    reader = VideoReader(clip(), start=0.41)
    assert number(read(reader)[0][0]) == 11
    assert reader.offset == pytest.approx(0.44)


def test_reading_again_and_in_other_chunks_gives_the_same(clip):
    reader = VideoReader(clip())
    first, again, single = read(reader, 7), read(reader, 7), read(reader, 1)
    for other in (again, single):
        assert torch.equal(first[0], other[0])
        assert torch.equal(first[1], other[1])


def test_chunks_are_not_kept(clip):
    alive: list[weakref.ref] = []
    for frames, _ in VideoReader(clip()).chunks(4):
        assert sum(ref() is not None for ref in alive) == 0
        alive.append(weakref.ref(frames))
        del frames
    assert len(alive) == 10


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((0, S16, -S16, 0), lambda x: np.rot90(x, -1)),  # a phone held upright
        ((-S16, 0, 0, -S16), lambda x: np.rot90(x, 2)),
        ((0, -S16, S16, 0), lambda x: np.rot90(x, 1)),
        ((-S16, 0, 0, S16), np.fliplr),  # a front camera
    ],
    ids=["90", "180", "270", "mirror"],
)
def test_display_matrix_is_honoured(clip, matrix, shown):
    coded = np.zeros((48, 64, 3), np.uint8)
    coded[:24, :32], coded[:24, 32:], coded[24:, :32] = (250, 20, 20), (20, 250, 20), (20, 20, 250)
    path = clip(pictures=[coded] * 3)
    data = path.read_bytes()
    a, b, c, d = matrix
    identity, turned = ((x, y, 0, z, w, 0) for x, y, z, w in ((S16, 0, 0, S16), (a, b, c, d)))
    start = data.index(struct.pack(">6i", *identity), data.index(b"tkhd"))
    path.write_bytes(data[:start] + struct.pack(">6i", *turned) + data[start + 24 :])
    reader = VideoReader(path)
    frame = read(reader)[0][0].numpy()
    assert frame.shape == shown(coded).shape == (reader.info.height, reader.info.width, 3)
    assert np.abs(frame.astype(int) - shown(coded)).mean() < 6


def test_a_raw_stream_has_times_by_its_rate(clip, number):
    frames, times = read(VideoReader(clip("clip.h264")))
    assert [number(frame) for frame in frames] == list(range(40))
    torch.testing.assert_close(times, torch.arange(40) / 25, check_dtype=False)


def recording(clip, picture, first: int, count: int, start: int = 0) -> bytes:
    """Frames `first`, `first + 1`, ... of a camcorder, from picture `start` of its clock on."""
    pictures = [picture(first + i) for i in range(count)]
    return clip("part.ts", pictures=pictures, pts=range(start, start + count)).read_bytes()


@pytest.mark.parametrize(("one", "two", "start"), [(20, 20, 0), (10, 11, 0), (60, 40, 0), (20, 20, 8), (30, 30, 300)])
def test_recordings_that_were_joined_follow_each_other(tmp_path, clip, picture, number, caplog, one, two, start):
    """Without being re-muxed: the second begins with its own times, which are those of the first, or before it."""
    path = tmp_path / "joined.ts"
    path.write_bytes(recording(clip, picture, 0, one, start) + recording(clip, picture, one, two))
    reader = VideoReader(path)
    frames, times = read(reader)
    assert [number(frame) for frame in frames] == list(range(one + two))
    torch.testing.assert_close(times, torch.arange(one + two, dtype=torch.float64) / 25)
    assert "start over" in caplog.text and str(path) in caplog.text
    later, _ = read(VideoReader(path, start=one / 25))
    assert [number(frame) for frame in later] == list(range(one, one + two))


REORDERED = ["bframes=0", "bframes=16:b-adapt=0:keyint=30", "open-gop=1:bframes=8:b-pyramid=normal:keyint=20"]
REORDERED += ["intra-refresh=1:bframes=3:keyint=20"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("order", REORDERED)
def test_frames_that_wait_for_later_ones_are_no_second_recording(clip, number, caplog, suffix, order):
    reader = VideoReader(clip(f"clip{suffix}", frames=90, options={"x264-params": order}))
    assert caplog.text == ""
    assert reader._index.timed
    assert [number(frame) for frame in read(reader)[0]] == list(range(90))


@pytest.mark.parametrize("order", REORDERED[:3])
@pytest.mark.parametrize("begin", [0, 1, 37])
def test_avi_has_no_times_for_frames_that_wait_for_later_ones(clip, number, order, begin):
    """Players go by the order in which the decoder gives them, too."""
    reader = VideoReader(clip("clip.avi", frames=90, options={"x264-params": order}), start=begin / 25)
    frames, times = read(reader)
    assert [number(frame) for frame in frames] == list(range(begin, 90))
    torch.testing.assert_close(times, torch.arange(90 - begin, dtype=torch.float64) / 25, rtol=0, atol=1e-9)


def test_of_frames_with_one_time_the_last_is_shown_as_in_players(clip, number):
    times = [0, 40, 80, 80, 120, 160, 160, 160, 200]
    path = clip("clip.mkv", frames=9, pts=times, time_base=Fraction(1, 1000), options={"bf": "0"})
    frames, found = read(VideoReader(path))
    torch.testing.assert_close(found, torch.arange(6, dtype=torch.float64) / 25, rtol=0, atol=1e-9)
    assert [number(frame) for frame in frames] == [0, 1, 3, 4, 7, 8]


def test_gif_keeps_its_pauses(tmp_path, picture, number):
    stills = [Image.fromarray(picture(i)) for i in (1, 2, 4)]
    stills[0].save(tmp_path / "x.gif", save_all=True, append_images=stills[1:], duration=[100, 300, 200])
    frames, times = read(VideoReader(tmp_path / "x.gif"))
    assert [number(frame) for frame in frames] == [1, 2, 4]
    torch.testing.assert_close(times, torch.tensor([0, 0.1, 0.4]), check_dtype=False)


@pytest.mark.parametrize("name", ["x.gif", "x.ico"])
def test_a_picture_has_no_rate(tmp_path, name):
    """The formats state 100 and 90000 frames a second."""
    Image.new("RGB", (16, 16)).save(tmp_path / name)
    assert VideoReader(tmp_path / name).info.fps == 25


def test_a_film_of_one_frame_has_its_rate(clip):
    assert VideoReader(clip(frames=1, rate=Fraction(30000, 1001))).info.fps == Fraction(30000, 1001)


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.webp"])
def test_a_picture_is_a_video_of_one_frame(tmp_path, name):
    still = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    Image.fromarray(still).save(tmp_path / name, lossless=True)
    reader = VideoReader(tmp_path / name)
    frames, times = read(reader)
    assert reader.info.frames == len(frames) == 1
    assert times.tolist() == [0]
    assert np.array_equal(frames[0], still)


# An AVIF of two grey tiles of 64x64 beside each other, deflated: phones' HEIC is made like it.
TILES = (
    "eNpjYGCQSSupLMjNTDNkAAIQnViWmZabmZjGwMAYnJtaksgAAYoZKTlFUDZDQWZyCQMa4CvILMkFs5iB2CozJz8ZxHEB8RmBDCBmLAcZxMAE5c"
    "0A85ihvJ1AmgOIfTMz89Lg5ogCOakgDSA1iWUGYGciBJmwCQL1pRdlpoCYMplFqWlQBwqkZOamAyWZgEaB1JVmFhQVAGmfzILkfCDNk1hm6NzI"
    "wANSK5JZXJAK1ecAxchiDVAxgYLMikywnRwcIMcrZhbkwkIM6G3mRiYWBiYwyczEzAIUDMpNSSwRYuDilBCt/7uISYqXw0hIiP37t5UMTRx2QB"
    "PPn+EL+xJAUAE4PBoYHADfnkhb"
)


def test_a_picture_in_tiles_is_refused(tmp_path):
    """The first tile was taken for the picture. Old PyAV cannot open such files."""
    (tmp_path / "photo.avif").write_bytes(zlib.decompress(base64.b64decode(TILES)))
    with pytest.raises(InputError, match="photo.avif (is a picture in tiles, .*; save it as JPEG|as a video file)"):
        VideoReader(tmp_path / "photo.avif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_of_phones_are_upright(tmp_path, orientation):
    coded = np.zeros((48, 64, 3), np.uint8)
    coded[:24, :32], coded[:24, 32:], coded[24:, :32] = (250, 20, 20), (20, 250, 20), (20, 20, 250)
    photo = Image.fromarray(coded)
    exif = photo.getexif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "x.jpg", exif=exif, quality=98, subsampling=0)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "x.jpg")))
    found = read(VideoReader(tmp_path / "x.jpg"))[0][0].numpy()
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() < 2


@pytest.mark.parametrize(
    ("width", "height", "weights"),
    [(64, 32, (0.299, 0.114)), (1280, 32, (0.2126, 0.0722)), (64, 640, (0.2126, 0.0722))],
)
@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [("x.mp4", "libx264", "yuv444p"), ("x.mp4", "libx264", "yuvj444p"), ("x.mkv", "ffv1", "yuv444p")],
    ids=["limited", "full", "full by its tag alone"],
)
def test_untagged_colours_follow_the_size_as_in_players(tmp_path, width, height, weights, name, codec, kind):
    full = kind == "yuvj444p" or codec == "ffv1"
    rgb = np.array([200.0, 60.0, 90.0])
    red, blue = weights
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    chroma = np.array([(rgb[2] - luma) / (2 * (1 - blue)), (rgb[0] - luma) / (2 * (1 - red))])
    coded = [luma, *(chroma + 128)] if full else [16 + luma * 219 / 255, *(chroma * 224 / 255 + 128)]
    planes = np.stack([np.full((height, width), round(value), np.uint8) for value in coded])
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "1"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = width, height, kind
        stream.codec_context.color_range = 2 if full else 1
        frame = av.VideoFrame.from_ndarray(planes, format=stream.pix_fmt)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frame = read(VideoReader(tmp_path / name))[0][0].float().mean((0, 1)).numpy()
    assert np.abs(frame - rgb).max() < 2.5


def test_damage_in_the_middle_is_bridged_and_moves_nothing(clip, number):
    path = clip(frames=60)
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    data[middle : middle + 300] = bytes(300)
    path.write_bytes(data)
    frames, times = read(VideoReader(path))
    assert len(frames) == 60
    torch.testing.assert_close(times, torch.arange(60, dtype=torch.float64) / 25)
    numbers = [number(frame) for frame in frames]
    assert numbers[:5] == [0, 1, 2, 3, 4]
    assert numbers[-5:] == [55, 56, 57, 58, 59]


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    return path


@pytest.mark.skipif(not hasattr(Stream, "index_entries"), reason="this PyAV does not tell what a file lists")
def test_a_film_that_is_cut_off_says_so(tmp_path, clip, number, caplog):
    """A download that ended early: its index comes first."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 128, 3), dtype=np.uint8)
    whole = clip(pictures=list(noise))
    assert len(VideoReader(whole)) == 40
    assert caplog.text == ""
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    assert 10 < len(VideoReader(cut)) < 30
    assert "cut.mp4 is cut off or damaged: it lists 40 frames" in caplog.text


@pytest.mark.parametrize("interlaced", [0, 1])
def test_interlaced_films_are_told(clip, interlaced):
    path = clip(options={"x264-params": f"interlaced={interlaced}"})
    assert VideoReader(path).info.interlaced == bool(interlaced)


def test_every_bad_input_is_one_clear_line(tmp_path, clip):
    good = clip()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.txt").write_text("not a film " * 99)
    (tmp_path / "text.mp4").write_text("not a film " * 99)
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "codec.mp4").write_bytes(good.read_bytes().replace(b"avc1", b"zzzz"))
    cases = {
        tmp_path / "none.mp4": "there is no file",
        tmp_path / "codec.mp4": "video codec is not supported",
        tmp_path: "the folder",
        tmp_path / "empty.mp4": "is empty",
        tmp_path / "text.txt": "is a text",
        tmp_path / "text.mp4": "cannot read",
        tmp_path / "cut.mp4": "cannot read",
        sound_only(tmp_path / "sound.wav"): "no video",
    }
    for path, expected in cases.items():
        with pytest.raises(InputError, match=expected) as caught:
            VideoReader(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("start", "duration", "expected"), [(9, None, "ends at 1.60 s"), (-1, None, "0 or more"), (0, 0, "more")]
)
def test_a_cut_of_nothing_is_refused(clip, start, duration, expected):
    with pytest.raises(InputError, match=expected):
        VideoReader(clip(), start, duration)


def test_a_chunk_lies_on_pages_of_its_own() -> None:
    """On the heap the landmarks that are kept would settle between chunks, and it would grow by the whole film."""
    pictures = ((np.full((72, 128, 3), number, np.uint8), number / 25) for number in range(20))
    chunks = list(in_chunks(pictures, 8))
    assert [len(frames) for frames, _ in chunks] == [8, 8, 4]
    assert all(frames.data_ptr() % mmap.PAGESIZE == 0 for frames, _ in chunks)
    assert [int(frame[0, 0, 0]) for frames, _ in chunks for frame in frames] == list(range(20))


def test_the_next_chunk_is_read_while_one_is_worked_on() -> None:
    drawn = [threading.Event() for _ in range(9)]

    def pictures():
        for number, event in enumerate(drawn):
            event.set()
            yield np.full((4, 4, 3), number, np.uint8), number / 25

    chunks = in_chunks(pictures(), 3)
    assert next(chunks)[0][:, 0, 0, 0].tolist() == [0, 1, 2]
    assert drawn[5].wait(timeout=20) and not drawn[6].is_set()
    assert [len(frames) for frames, _ in chunks] == [3, 3]


def test_what_goes_wrong_ahead_is_told_where_it_belongs() -> None:
    def pictures():
        yield np.zeros((4, 4, 3), np.uint8), 0.0
        raise InputError("damaged")

    chunks = in_chunks(pictures(), 1)
    assert len(next(chunks)[0]) == 1
    with pytest.raises(InputError, match="damaged"):
        next(chunks)


def test_only_wanted_frames_are_made_pictures_of(clip, monkeypatch) -> None:
    """Conversion takes longer than decoding, and references are few frames of a long film."""
    reader, made = VideoReader(clip(), start=0.2), []
    whole, _ = read(reader, 8)
    picture = VideoReader._picture
    monkeypatch.setattr(VideoReader, "_picture", lambda *given: made.append(given) or picture(*given))
    wanted = torch.tensor([1, 2, 9, 17, 20])
    parts, _, numbers = zip(*reader.pick(wanted, 2), strict=True)
    assert [len(part) for part in parts] == [2, 2, 1] and len(made) == len(wanted)
    assert torch.equal(torch.cat(parts), whole[wanted]) and torch.equal(torch.cat(numbers), wanted)


def test_files_and_tensors_pick_the_same_frames(clip) -> None:
    reader = VideoReader(clip())
    whole, _ = read(reader, 8)
    for wanted in (torch.tensor([0, 3, 4, 5, 11]), torch.tensor([], dtype=torch.long)):
        film, memory = (
            [(pixels[index], at) for pixels, index, at in source.pick(wanted, 2)]
            for source in (reader, TensorSource(whole, 25))
        )
        assert len(film) == -(-len(wanted) // 2)
        for (picture, number), (other, same) in zip(film, memory, strict=True):
            assert torch.equal(picture, other) and torch.equal(number, same)
