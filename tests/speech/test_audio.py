from __future__ import annotations

import math
import os
import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.speech.audio import Audio, fit_audio, read_audio, speech_16k, write_audio


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def peak(speech: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(speech)).argmax() * rate / len(speech))


def film(path: Path, sound_at: float, rate: int = 16000, video_at: float = 0.0) -> Path:
    """Half a second of black and of a loud tone, which begin at the given seconds."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=20)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(video_at * 20) + i, Fraction(1, 20)
            container.mux(video.encode(frame))
        samples = (tone(0.5, rate)[None] * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(sound_at * rate)
        container.mux(sound.encode(frame))
        for stream in (video, sound):
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000, 44099])
def test_resampling_keeps_pitch_length_and_loudness(rate):
    sound = torch.from_numpy(tone(1, rate))
    speech = speech_16k(Audio(sound[None], rate))
    assert speech.dtype == torch.float32
    assert len(speech) == pytest.approx(16000, abs=2)
    assert peak(speech.numpy(), 16000) == pytest.approx(440, abs=1.1)
    assert float(speech[1000:-1000].square().mean()) == pytest.approx(0.125, rel=0.02)


def test_what_16_khz_cannot_hold_is_removed_not_folded():
    speech = speech_16k(Audio(torch.from_numpy(tone(1, 48000, 11000))[None], 48000))
    assert float(speech[1000:-1000].abs().max()) < 0.01


def test_speech_is_the_mean_of_the_channels():
    sound = torch.from_numpy(tone(0.1, 16000))
    assert speech_16k(Audio(torch.stack([sound, -sound]), 16000)).abs().max() == 0


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_files_come_back_to_16_bits(tmp_path, suffix, channels):
    sound = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (channels, 5001)).astype(np.float32))
    write_audio(tmp_path / f"x{suffix}", Audio(sound, 22050))
    found = read_audio(tmp_path / f"x{suffix}")
    assert found.sample_rate == 22050
    assert found.waveform.shape == sound.shape
    assert (found.waveform - sound).abs().max() < 2 / 32768


@pytest.mark.parametrize(
    ("codec", "kind", "dtype", "scale"),
    [("pcm_u8", "u8", np.uint8, None), ("pcm_s16le", "s16", np.int16, 2**15), ("pcm_s32le", "s32", np.int32, 2**31)],
)
def test_integer_formats_become_full_scale_one(tmp_path, codec, kind, dtype, scale):
    sound = tone(0.1, 8000)
    samples = np.round(sound * 127 + 128) if scale is None else sound * (scale - 1)
    with av.open(str(tmp_path / "x.wav"), "w") as container:
        stream = container.add_stream(codec, rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples.astype(dtype)[None], format=kind, layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = read_audio(tmp_path / "x.wav").waveform[0].numpy()
    assert np.abs(found - sound).max() < (0.01 if scale is None else 1e-4)


def test_surround_becomes_stereo(tmp_path):
    with av.open(str(tmp_path / "x.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="5.1")
        frame = av.AudioFrame.from_ndarray(np.full((1, 6 * 800), 1000, np.int16), format="s16", layout="5.1")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    assert read_audio(tmp_path / "x.wav").waveform.shape == (2, 800)


@pytest.mark.parametrize(("sound_at", "video_at"), [(0.0, 0.0), (0.25, 0.0), (0.0, 0.25), (0.25, 0.25)])
def test_sound_is_placed_relative_to_the_first_frame(tmp_path, sound_at, video_at):
    found = read_audio(film(tmp_path / "x.mkv", sound_at, video_at=video_at)).waveform[0]
    late = sound_at - video_at
    assert len(found) == pytest.approx(16000 * (0.5 + late), abs=20)
    first_loud = int((found.abs() > 0.05).nonzero()[0])
    assert first_loud == pytest.approx(max(16000 * late, 0), abs=24)


@pytest.mark.parametrize(
    ("start", "duration", "first", "stop"), [(0.1, None, 800, 8000), (0.1, 0.2, 800, 2400), (0, 9, 0, 8000)]
)
def test_cuts_are_exact(tmp_path, start, duration, first, stop):
    sound = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 8000)).astype(np.float32))
    write_audio(tmp_path / "x.wav", Audio(sound, 8000))
    found = read_audio(tmp_path / "x.wav", start, duration).waveform
    assert found.shape == (1, stop - first)
    assert (found - sound[:, first:stop]).abs().max() < 2 / 32768


def film_in_blocks(
    path: Path, sound: np.ndarray, video_at: float = 0.0, seconds: float = 2.0, codec: str = "pcm_s16le"
) -> Path:
    """Black for some seconds from `video_at` on, and 48 kHz `sound (n,)` from 0 on, in blocks of 1024 samples.

    AAC without noise of its own, which would be another in each decoder.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=100)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        options = {"aac_pns": "0", "b": "192k"} if codec == "aac" else {}
        stream = container.add_stream(codec, rate=48000, layout="mono", options=options)
        frames, kind, shown = round(100 * seconds), stream.format.name, 0
        for at in range(0, len(sound), 1024):
            while shown < min(frames, (at / 48000 - video_at) * 100):
                frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = round(video_at * 100) + shown, Fraction(1, 100)
                container.mux(video.encode(frame))
                shown += 1
            block = sound[None, at : at + 1024]
            block = block.astype(np.float32) if kind == "fltp" else (block * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format=kind, layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), at
            container.mux(stream.encode(frame))
        for each in (video, stream):
            container.mux(each.encode(None))
    return path


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
@pytest.mark.parametrize("early", [0, 20, 40, 60, 80, 100, 400])
def test_sound_that_begins_before_the_picture_does_not_come_late(tmp_path, codec, early):
    """Blocks are cut away until the first picture; the next one is early by less than a hole, and must be cut too."""
    sound = np.zeros(96000, np.float32)
    sound[48000:48010] = 0.9
    found = read_audio(film_in_blocks(tmp_path / "x.mkv", sound, early / 1000, codec=codec)).waveform[0]
    assert int(found.abs().argmax()) == pytest.approx(48005 - 48 * early, abs=60)


LONG = 0.3 * np.random.default_rng(0).standard_normal(12 * 48000).clip(-3, 3)


@pytest.mark.parametrize(
    ("name", "codec"), [("x.mp4", "aac"), ("x.mkv", "pcm_s16le"), ("x.mkv", "aac"), ("x.ts", "aac")]
)
@pytest.mark.parametrize("video_at", [0.0, 0.5])
def test_a_part_of_a_film_is_what_the_whole_has_there(tmp_path, name, codec, video_at):
    path = film_in_blocks(tmp_path / name, LONG, video_at, 12, codec=codec)
    whole = read_audio(path).waveform
    for start, duration in ((3.21, 2.5), (8.0, 1.0), (11.0, None)):
        part = read_audio(path, start, duration).waveform
        expected = whole[:, round(start * 48000) :][:, : part.shape[1]]
        assert part.shape[1] == (pytest.approx(expected.shape[1], abs=60) if duration is None else 48000 * duration)
        same = np.correlate(part[0, :8000].numpy(), expected[0, 100:7900].numpy(), "valid")
        assert same.max() > 0.95 * float(part[0, 100:7900].square().sum())
        assert int(same.argmax()) == pytest.approx(100, abs=60 if path.suffix == ".mkv" else 0), "Matroska rounds to ms"


def test_no_more_sound_is_held_than_asked_for(tmp_path):
    path = film_in_blocks(tmp_path / "x.mkv", LONG, seconds=0.1)
    write_audio(tmp_path / "x.flac", Audio(torch.from_numpy(LONG[None]).float(), 48000))
    for source, start, duration, bound in (
        (path, 8.0, 1.0, 1.0),
        (tmp_path / "x.flac", 8.0, 1.0, 1.0),
        (tmp_path / "x.flac", 0.0, None, 13.5),
    ):
        tracemalloc.start()
        audio = read_audio(source, start, duration)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert audio.duration == pytest.approx(duration or 12)
        assert peak_bytes < 4 * 48000 * bound + 2**19


def test_sound_of_joined_recordings_follows_each_other(tmp_path):
    """Their times start over, and all that the second one says would be early."""
    halves = [LONG[: 3 * 48000], LONG[4 * 48000 : 8 * 48000]]
    parts = [film_in_blocks(tmp_path / f"{len(half)}.ts", half, seconds=3, codec="aac") for half in halves]
    (tmp_path / "x.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert read_audio(tmp_path / "x.ts").duration == pytest.approx(7, abs=0.1)


def test_names_in_old_encodings_are_no_reason_to_refuse_a_recording(tmp_path):
    """Windows programs write Latin-1 or GBK into WAV and AVI; PyAV raised UnicodeDecodeError on opening them."""
    write_audio(tmp_path / "a.wav", Audio(torch.zeros(1, 800), 16_000))
    artist = b"INFOIART\x06\x00\x00\x00Andr\xe9\x00"
    info = b"LIST" + len(artist).to_bytes(4, "little") + artist
    riff = (tmp_path / "a.wav").read_bytes()
    size = int.from_bytes(riff[4:8], "little") + len(info)
    (tmp_path / "a.wav").write_bytes(b"RIFF" + size.to_bytes(4, "little") + riff[8:36] + info + riff[36:])
    assert read_audio(tmp_path / "a.wav").duration == 0.05


def test_fitting_cuts_or_fills_with_silence():
    audio = Audio(torch.ones(2, 800), 8000)
    assert fit_audio(audio, 0.05).waveform.shape == (2, 400)
    longer = fit_audio(audio, 0.15).waveform
    assert longer.shape == (2, 1200)
    assert longer[:, 800:].abs().max() == 0


def write_float(path, samples: np.ndarray, codec: str = "pcm_f32le"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def sowt(tmp_path):
    """A QuickTime film of sound alone, whose codec has a name that can be made unknown."""
    return write_float(tmp_path / "sound.mov", np.zeros((1, 800)), "pcm_s16le")


def test_every_bad_input_is_one_clear_line(tmp_path):
    silent = tmp_path / "silent.mp4"
    with av.open(str(silent), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    write_audio(tmp_path / "good.wav", Audio(torch.zeros(1, 800), 8000))
    with wave.open(str(tmp_path / "nothing.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
    (tmp_path / "text.wav").write_text("no sound")
    for name, bad in (("nan", math.nan), ("inf", -math.inf)):
        write_float(tmp_path / f"{name}.wav", torch.tensor([[0.5, bad, 0.5]]).repeat(1, 400).numpy())
    (tmp_path / "codec.mov").write_bytes(sowt(tmp_path).read_bytes().replace(b"sowt", b"zzzz"))
    cases = [
        (silent, 0, "has no sound"),
        (tmp_path / "none.wav", 0, "no file"),
        (tmp_path / "text.wav", 0, "cannot read"),
        (tmp_path / "nothing.wav", 0, "no sound|cannot read"),
        (tmp_path / "good.wav", 5, "no sound from 5 s on"),
        (tmp_path / "good.wav", -1, "0 or more"),
        (tmp_path, 0, "the folder"),
        (tmp_path / "nan.wav", 0, "no numbers"),
        (tmp_path / "inf.wav", 0, "no numbers"),
        (tmp_path / "codec.mov", 0, "audio codec is not supported"),
    ]
    for path, start, expected in cases:
        with pytest.raises(InputError, match=expected):
            read_audio(path, start)


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="ends in .wav"):
        write_audio(tmp_path / "x.ogg", Audio(torch.zeros(1, 800), 8000))
    with pytest.raises(InputError, match="0 samples"):
        write_audio(tmp_path / "x.wav", Audio(torch.zeros(1, 0), 8000))
    with pytest.raises(av.error.FFmpegError):
        write_audio(tmp_path / "x.flac", Audio(torch.zeros(1, 800), 2**30))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("start", [0.1, 0.5, 1.7])
def test_a_part_of_a_stereo_recording_begins_where_it_is_asked_to(tmp_path, start):
    """Whole blocks lie before it, which must leave room for both channels."""
    sound = torch.randn(2, 2 * 16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    write_audio(tmp_path / "x.wav", Audio(sound, 16_000))
    part = read_audio(tmp_path / "x.wav", start).waveform
    assert torch.allclose(part, sound[:, round(start * 16_000) :], atol=1e-4)
