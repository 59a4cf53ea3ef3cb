from __future__ import annotations

import os
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace, Interpolation
from PIL import Image
from skimage import data

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.output import check_output
from comfyui_mytalk.speech.audio import Audio, read_audio
from comfyui_mytalk.video.colour import ColourTags
from comfyui_mytalk.video.reader import VideoReader
from comfyui_mytalk.video.writer import VideoWriter


def noise(n: int, width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def read(path) -> tuple[torch.Tensor, torch.Tensor]:
    frames, times = zip(*VideoReader(path).chunks(16), strict=True)
    return torch.cat(frames), torch.cat(times)


def write(path, frames, times=None, fps=25, **options):
    with VideoWriter(path, frames.shape[2], frames.shape[1], fps, **options) as writer:
        writer.write(frames, times)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47)])
def test_crf_0_is_bit_exact(tmp_path, suffix, width, height):
    frames = noise(5, width, height)
    assert np.array_equal(read(write(tmp_path / f"x{suffix}", frames, crf=0))[0], frames)


@pytest.mark.parametrize("size", [(320, 176), (400, 224)])
def test_the_same_frames_give_the_same_file(tmp_path, size):
    """A shaking camera, for x264's look-ahead, in sizes at which it read what nobody wrote."""
    noise, portrait, frames = np.random.default_rng(0), Image.fromarray(data.astronaut()), []
    for i in range(24):
        x, y = int(60 + 20 * np.sin(i)), int(60 + 12 * np.cos(1.7 * i))
        picture = np.asarray(portrait.crop((x, y, x + 300, y + 180)).resize(size))
        frames.append((picture + noise.normal(0, 2, picture.shape)).clip(0, 255).astype(np.uint8))
    assert len({write(tmp_path / f"{turn}.mp4", np.stack(frames)).read_bytes() for turn in range(8)}) == 1


@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 48), (64, 47), (1280, 32)])
def test_flat_colours_and_size_survive(tmp_path, width, height):
    colours = np.random.default_rng(1).integers(0, 256, (12, 1, 1, 3), dtype=np.uint8)
    frames = np.broadcast_to(colours, (12, height, width, 3))
    found = read(write(tmp_path / "x.mp4", frames, crf=1))[0]
    assert found.shape == frames.shape
    # Older PyAV cannot ask swscale for accurate rounding.
    assert np.abs(found.numpy().astype(int) - frames).max() <= (2 if hasattr(Interpolation, "FULL_CHR_H_INT") else 3)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_what_stays_true_of_a_film_is_carried_over(tmp_path, suffix):
    true = {"title": "Tänze", "artist": "Ann", "comment": "take 3", "timecode": "10:00:00:00"}
    write(tmp_path / f"film{suffix}", noise(5, 64, 48), tags={**true, "lyrics": "old words", "encoder": "x264"})
    film = tmp_path / f"film{suffix}"
    assert VideoReader(film).info.tags == true
    assert "timecode" not in VideoReader(film, start=0.04).info.tags, "it is of another frame"
    again = write(tmp_path / "again.mp4", noise(5, 64, 48), tags=VideoReader(film).info.tags)
    assert VideoReader(again).info.tags == true


@pytest.mark.parametrize(("width", "matrix"), [(64, 6), (1280, 1)])
def test_colours_are_tagged_as_players_assume(tmp_path, width, matrix):
    path = write(tmp_path / "x.mp4", noise(1, width, 32))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (int(context.colorspace), int(context.color_range), context.pix_fmt) == (matrix, 1, "yuv420p")


def coloured(path, tags, pix_fmt, planes):
    """Six flat pictures with these (primaries, transfer, matrix) and values of Y, Cb and Cr."""
    kind = np.uint16 if "10" in pix_fmt else np.uint8
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, pix_fmt
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = tags
        context.color_range = 1
        frame = av.VideoFrame(128, 96, pix_fmt)
        for plane, value in zip(frame.planes, planes, strict=True):
            plane.update(np.full(plane.buffer_size // kind().itemsize, value, kind).tobytes())
        for i in range(6):
            frame.pts, frame.time_base, frame.colorspace = i, Fraction(1, 25), tags[2]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def tags_and_planes(path) -> tuple[tuple[int, ...], list[int]]:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        tags = tuple(map(int, (context.color_primaries, context.color_trc, context.colorspace)))
        frame = next(container.decode(video=0))
        return tags, [int(np.frombuffer(plane, np.uint8)[0]) for plane in frame.planes]


def rewrite(source, target) -> VideoReader:
    reader = VideoReader(source)
    info = reader.info
    with VideoWriter(target, info.width, info.height, info.fps, crf=1, colour=info.colour) as writer:
        for frames, times in reader.chunks(8):
            writer.write(frames, times)
    return reader


@pytest.mark.skipif(not hasattr(Colorspace, "BT2020"), reason="this PyAV cannot convert BT.2020")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("transfer", "name"), [(18, "HLG"), (16, "PQ"), (1, "")])
def test_hdr_and_wide_gamut_stay_what_they_are(tmp_path, suffix, transfer, name):
    film = coloured(tmp_path / "film.mp4", (9, transfer, 9), "yuv420p10le", (600, 400, 650))
    reader = rewrite(film, tmp_path / f"x{suffix}")
    assert reader.info.colour.hdr == name
    tags, planes = tags_and_planes(tmp_path / f"x{suffix}")
    assert tags == (9, transfer, 9)
    assert planes == pytest.approx([600 / 4, 400 / 4, 650 / 4], abs=1)


def test_hdr_that_does_not_name_its_primaries_has_those_of_bt2020(tmp_path):
    film = coloured(tmp_path / "film.mp4", (2, 18, 9), "yuv420p10le", (600, 400, 650))
    assert VideoReader(film).info.colour == ColourTags(9, 18)


def test_display_p3_stays_display_p3(tmp_path):
    film = coloured(tmp_path / "film.mp4", (12, 1, 6), "yuv420p", (120, 100, 150))
    rewrite(film, tmp_path / "x.mp4")
    tags, planes = tags_and_planes(tmp_path / "x.mp4")
    assert tags == (12, 1, 6)
    assert planes == pytest.approx([120, 100, 150], abs=1)


@pytest.mark.parametrize(
    ("tags", "kept"),
    [((1, 1, 1), (1, 1)), ((6, 6, 6), (6, 6)), ((5, 4, 5), (5, 4)), ((2, 2, 2), (1, 1)), ((1, 13, 6), (1, 13))],
)
def test_plain_films_keep_their_tags(tmp_path, tags, kept):
    """Players that manage colours would show the sRGB of a screen recording darker as BT.709."""
    film = coloured(tmp_path / "film.mp4", tags, "yuv420p", (120, 100, 150))
    reader = rewrite(film, tmp_path / "x.mp4")
    assert reader.info.colour == ColourTags(*kept)
    found, planes = tags_and_planes(tmp_path / "x.mp4")
    assert found == (*kept, 6)
    assert tags[2] == 1 or planes == pytest.approx([120, 100, 150], abs=1)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25), 29.97])
def test_constant_rates_stay_constant(tmp_path, rate):
    path = write(tmp_path / "x.mp4", noise(30, 32, 32), np.arange(30) / float(rate), rate)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        steps = np.diff(sorted(p.pts for p in container.demux(stream) if p.size))
        assert len(set(steps)) == 1
        assert stream.average_rate == Fraction(rate).limit_denominator(1001)
        assert stream.duration * stream.time_base == pytest.approx(30 / float(rate), abs=1e-4)


def test_variable_times_survive(tmp_path):
    times = np.cumsum([0, 0.02, 0.1, 0.033, 0.0417, 0.5, 0.04])
    path = write(tmp_path / "x.mp4", noise(7, 32, 32), times, Fraction(7, 1))
    assert np.abs(read(path)[1].numpy() - times).max() < 2e-5


def tone(seconds: float, rate: int, channels: int = 1, hertz: float = 440.0) -> Audio:
    wave = 0.3 * torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * rate)) / rate)
    return Audio(wave.expand(channels, -1), rate)


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_keeps_rate_and_channels_and_ends_with_the_video(tmp_path, rate, channels):
    path = write(tmp_path / "x.mp4", noise(25, 32, 32), audio=tone(3, rate, channels))
    found = read_audio(path)
    assert found.sample_rate == rate
    assert found.waveform.shape == (channels, rate)


def test_short_sound_stays_short(tmp_path):
    path = write(tmp_path / "x.mp4", noise(50, 32, 32), audio=tone(0.5, 48000))
    assert read_audio(path).duration == pytest.approx(0.5, abs=1e-3)
    assert VideoReader(path).info.duration == pytest.approx(2)


def test_sound_goes_on_while_the_last_frame_stands(tmp_path):
    path = write(tmp_path / "x.mp4", noise(25, 32, 32), audio=tone(3, 48000), end=2.5)
    assert read_audio(path).duration == pytest.approx(2.5, abs=1e-3)


def test_a_rate_aac_does_not_know_becomes_48_khz(tmp_path):
    found = read_audio(write(tmp_path / "x.mp4", noise(25, 32, 32), audio=tone(1, 37000)))
    assert found.sample_rate == 48000
    assert peak(found) == pytest.approx(440, abs=2)


def peak(audio: Audio) -> float:
    spectrum = np.abs(np.fft.rfft(audio.waveform[0].numpy()))
    return float(spectrum.argmax() / audio.duration)


def test_sound_does_not_move(tmp_path):
    click = torch.zeros(1, 48000)
    click[0, 24000:24020] = 0.9
    found = read_audio(write(tmp_path / "x.mp4", noise(25, 32, 32), audio=Audio(click, 48000))).waveform[0]
    assert abs(int(found.abs().argmax()) - 24010) < 20


def test_the_index_comes_first_for_streaming(tmp_path):
    data = write(tmp_path / "x.mp4", noise(5, 32, 32), audio=tone(1, 16000)).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_stopped_run_leaves_nothing_and_spares_what_was_there(tmp_path, stop):
    target = tmp_path / "x.mp4"
    target.write_bytes(b"earlier result")
    with pytest.raises(stop), VideoWriter(target, 32, 32, 25, tone(1, 16000)) as writer:
        writer.write(noise(40, 32, 32))
        assert len(os.listdir(tmp_path)) == 2
        raise stop
    assert target.read_bytes() == b"earlier result"
    assert os.listdir(tmp_path) == ["x.mp4"]


def test_no_frames_and_wrong_frames_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="no frames"), VideoWriter(tmp_path / "x.mp4", 32, 32, 25):
        pass
    with pytest.raises(ValueError, match="expected uint8"), VideoWriter(tmp_path / "x.mp4", 32, 32, 25) as writer:
        writer.write(noise(1, 16, 32))
    assert not os.listdir(tmp_path)


def test_outputs_that_cannot_be_are_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    cases = {
        tmp_path: "the folder",
        tmp_path / "none" / "x.mp4": "no folder",
        tmp_path / "x.avi": "ends in .mp4",
        tmp_path / "file" / "x.mp4": "no folder",
        tmp_path / ("n" * 300 + ".mp4"): "cannot write",
    }
    for path, expected in cases.items():
        with pytest.raises(InputError, match=expected):
            VideoWriter(path, 32, 32, 25)
    assert os.listdir(tmp_path) == ["file"]
    assert check_output(tmp_path / "x.json") == tmp_path / "x.json"
    assert os.listdir(tmp_path) == ["file"]
