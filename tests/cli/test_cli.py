"""The command line as a person meets it: exit codes, one line per mistake, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

import comfyui_mytalk.sync
from comfyui_mytalk import cli
from comfyui_mytalk.checkpoints import SHIPPED
from comfyui_mytalk.commands import sync as sync_command
from comfyui_mytalk.commands import tune as tune_command
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.inputs import read_inputs
from comfyui_mytalk.options import SyncOptions
from comfyui_mytalk.speech.audio import Audio, write_audio
from comfyui_mytalk.sync import sync_video
from comfyui_mytalk.training import prepare
from comfyui_mytalk.training.tune import TuneOptions
from comfyui_mytalk.tune import tune_video
from comfyui_mytalk.video.timing import MODES
from comfyui_mytalk.video.writer import SUFFIXES, VideoWriter


def faceless(path: Path, sound: bool = False) -> Path:
    audio = Audio(torch.zeros(1, 8000), 16000) if sound else None
    with VideoWriter(path, 64, 64, 25, audio) as writer:
        writer.write(np.full((6, 64, 64, 3), 128, np.uint8))
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Good and bad inputs; outputs go to an empty folder of their own."""
    (tmp_path / "out").mkdir()
    paths = {
        name: tmp_path / name for name in ("video.mp4", "sound.mp4", "speech.wav", "text.mp4", "empty.wav", "none.mp4")
    }
    faceless(paths["video.mp4"])
    faceless(paths["sound.mp4"], sound=True)
    write_audio(paths["speech.wav"], Audio(0.1 * torch.randn(1, 8000), 16000))
    paths["text.mp4"].write_text("not a film")
    paths["empty.wav"].touch()
    (tmp_path / "bad.safetensors").write_text("no weights")
    everything = paths | {"out": tmp_path / "out" / "x.mp4", "folder": tmp_path, "bad": tmp_path / "bad.safetensors"}
    return {name.split(".")[0]: str(path) for name, path in everything.items()}


def run(*argv: str) -> int:
    try:
        return cli.main(argv)
    except SystemExit as stop:
        return int(stop.code or 0)


MISTAKES = {
    "no such video": (["none", "speech", "-o", "out"], "there is no file"),
    "no such speech": (["video", "none", "-o", "out"], "there is no file"),
    "not a video": (["text", "speech", "-o", "out"], "cannot read"),
    "sound as video": (["speech", "speech", "-o", "out"], "no video"),
    "silent film as speech": (["video", "video", "-o", "out"], "no sound"),
    "empty speech": (["video", "empty", "-o", "out"], "empty"),
    "start too late": (["video", "speech", "-o", "out", "--start", "99"], "start earlier"),
    "output is a folder": (["video", "speech", "-o", "folder"], "the folder"),
    "output is the input": (["video", "speech", "-o", "video"], "is the input"),
    "output is the style": (["video", "speech", "-o", "sound", "--style-video", "sound"], "is the input"),
    "output is the reference": (["video", "speech", "-o", "sound", "--reference-video", "sound"], "is the input"),
    "output is the mask": (["video", "speech", "-o", "sound", "--keep-mask", "sound"], "is the input"),
    "report is the video": (["video", "speech", "-o", "out", "--report", "video"], "is the input"),
    "report is the tuning": (["video", "speech", "-o", "out", "--tuned", "bad", "--report", "bad"], "is the input"),
    "report is the output": (["video", "speech", "-o", "out", "--report", "out"], "is the output"),
    "gate out of range": (["video", "speech", "-o", "out", "--silence-gate", "2"], "0 to 1"),
    "no gate": (["video", "speech", "-o", "out", "--silence-gate", "nan"], "0 to 1"),
    "strength below 0": (["video", "speech", "-o", "out", "--strength", "-1"], "strength"),
    "strength of a slip": (["video", "speech", "-o", "out", "--strength", "100"], "strength 100, expected 0 to 10"),
    "no strength": (["video", "speech", "-o", "out", "--strength", "nan"], "strength"),
    "seed too large": (["video", "speech", "-o", "out", "--seed", "18446744073709551616"], "seed"),
    "seed below 0": (["video", "speech", "-o", "out", "--tune", "5", "--seed", "-1"], "seed"),
    "speech start too late": (["video", "speech", "-o", "out", "--speech-start", "9"], "from 9 s on"),
    "no speech left": (["video", "speech", "-o", "out", "--speech-duration", "0"], "--speech-duration: got '0'"),
    "no film left": (["video", "speech", "-o", "out", "--duration", "0"], "--duration: got '0'"),
    "output in no folder": (["video", "speech", "-o", "/no/such/folder/x.mp4"], "no folder"),
    "output of another kind": (["video", "speech", "-o", "x.avi"], ".mp4"),
    "report in no folder": (["video", "speech", "-o", "out", "--report", "/no/such/x.json"], "no folder"),
    "unreadable weights": (["video", "speech", "-o", "out", "--motion", "bad", "--appearance", "bad"], "cannot read"),
    "missing weights": (["video", "speech", "-o", "out", "--motion", "other"], "not found"),
    "missing tuning": (["video", "speech", "-o", "out", "--tuned", "other"], "not found"),
    "tuning of another kind": (["video", "speech", "-o", "out", "--tuned", "identity_small"], "expected tuned weights"),
    "no such reference video": (["video", "speech", "-o", "out", "--reference-video", "none"], "there is no file"),
    "no such style video": (["video", "speech", "-o", "out", "--style-video", "none"], "there is no file"),
    "no such device": (["video", "speech", "-o", "out", "--device", "abacus"], "abacus"),
    "no such dtype": (["video", "speech", "-o", "out", "--dtype", "int3"], "int3"),
    "no such face": (["video", "speech", "-o", "out", "--face", "mine"], "mine"),
    "face beside the picture": (["video", "speech", "-o", "out", "--face", "1920,540"], "outside the video's 64x64"),
    "face nowhere": (["video", "speech", "-o", "out", "--face", "nan,nan"], "outside"),
    "negative start": (["video", "speech", "-o", "out", "--start", "-1"], "seconds"),
    "no steps": (["video", "speech", "-o", "out", "--steps", "0"], "at least 1"),
    "crf out of range": (["video", "speech", "-o", "out", "--crf", "52"], "0 to 51"),
    "unknown mode": (["video", "speech", "-o", "out", "--length-mode", "stretch"], "pingpong"),
    "no output": (["video", "speech"], "--output"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_sync_says_in_one_line_what_is_wrong(files, capsys, mistake):
    argv, expected = MISTAKES[mistake]
    before = sorted(os.listdir(files["folder"]))
    assert run("sync", *(files.get(word, word) for word in argv), "--quiet") == 2
    out, err = capsys.readouterr()
    lines = err.strip().splitlines()
    assert out == ""
    assert lines[-1].startswith("error: ")
    assert expected in lines[-1]
    assert len(lines) == 1
    assert os.listdir(Path(files["out"]).parent) == []
    assert sorted(os.listdir(files["folder"])) == before


@pytest.mark.parametrize("options", [{"silence_gate": 2.0}, {"strength": float("nan")}, {"seed": -1}, {"tune": -1}])
def test_options_are_checked_before_any_network_is_loaded(files, monkeypatch, options):
    monkeypatch.setattr(comfyui_mytalk.sync, "load_models", lambda _: pytest.fail("too late"))
    with pytest.raises(InputError):
        sync_video(files["video"], files["speech"], files["out"], SyncOptions(**options))


def test_silent_speech_is_said(files, caplog):
    read_inputs(files["video"], files["speech"], files["out"], SyncOptions())
    assert caplog.text == ""
    voice = 0.1 * torch.randn(1, 8000)
    write_audio(Path(files["speech"]), Audio(torch.cat([voice, -voice]), 16000))
    read_inputs(files["video"], files["speech"], files["out"], SyncOptions())
    assert "speech.wav is silent" in caplog.text


def test_an_odd_size_and_half_pictures_are_said(files, caplog):
    video = Path(files["video"])
    with VideoWriter(video, 63, 64, 25) as writer:
        writer.write(np.zeros((2, 64, 63, 3), np.uint8))
    read_inputs(video, files["speech"], files["out"], SyncOptions())
    assert "odd size, 63x64" in caplog.text
    assert "interlaced" not in caplog.text
    with av.open(files["video"], "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "interlaced=1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    caplog.clear()
    read_inputs(video, files["speech"], files["out"], SyncOptions())
    assert "video.mp4 is interlaced" in caplog.text
    assert "odd size" not in caplog.text


@pytest.mark.parametrize("role", ["video", "speech", "reference_video", "style_video", "keep_mask"])
def test_the_library_does_not_write_over_what_it_reads(files, monkeypatch, role):
    monkeypatch.setattr(comfyui_mytalk.sync, "load_models", lambda _: pytest.fail("too late"))
    before = Path(files["sound"]).read_bytes()
    given = {"video": files["video"], "speech": files["speech"], role: files["sound"]}
    options = SyncOptions(**{name: path for name, path in given.items() if name not in ("video", "speech")})
    with pytest.raises(InputError, match=r"the output .*sound\.mp4 is the input .*; choose another name"):
        sync_video(given["video"], given["speech"], files["sound"], options)
    assert Path(files["sound"]).read_bytes() == before


def test_a_link_to_an_input_is_that_input(files, capsys):
    link = Path(files["folder"]) / "link.mp4"
    link.symlink_to(files["video"])
    assert run("sync", files["video"], files["speech"], "-o", str(link), "--quiet") == 2
    assert "is the input" in capsys.readouterr().err


@pytest.fixture
def fake_sync(monkeypatch):
    """Something else in place of `sync_video`, where only the command line is under test."""
    return lambda act: monkeypatch.setattr(comfyui_mytalk.sync, "sync_video", act)


def test_options_and_report_arrive(files, fake_sync, capsys):
    given = {}

    def act(video, speech, out, options, progress):
        for done in range(3):
            progress("face", done + 1, 3)
        given.update(video=video, speech=speech, out=out, options=options)
        return {"frames": 6}

    fake_sync(act)
    report = str(Path(files["out"]).with_name("x.json"))
    options = ["--seed=7", "--steps=3", "--face=1", "--start=0.5", "--duration=2"]
    options += ["--speech-start=0.1", "--speech-duration=0.2"]
    options += ["--length-mode=loop", "--crf=20", "--dtype=float32"]
    assert run("sync", files["video"], files["sound"], "-o", files["out"], "--report", report, *options) == 0
    chosen = given["options"]
    assert (chosen.seed, chosen.steps, chosen.face, chosen.start, chosen.duration) == (7, 3, "1", 0.5, 2.0)
    assert (chosen.length_mode, chosen.crf, chosen.dtype, chosen.motion) == ("loop", 20, "float32", "motion_small")
    assert (chosen.speech_start, chosen.speech_duration) == (0.1, 0.2)
    assert str(given["speech"]) == files["sound"]
    assert json.loads(Path(report).read_text()) == {"frames": 6}
    out, err = capsys.readouterr()
    assert files["out"] in out
    assert "face" in err


def test_options_of_tune_arrive(files, monkeypatch):
    given = {}
    monkeypatch.setattr(tune_command, "tune_video", lambda *inputs, **named: given.update(named, inputs=inputs))
    options = ["--steps=7", "--seed=3", "--face=1", "--start=0.5", "--duration=2", "--appearance=mine", "--device=cpu"]
    assert run("tune", files["video"], "-o", "x.safetensors", *options, "--quiet") == 0
    assert given.pop("inputs") == (Path(files["video"]), Path("x.safetensors"), TuneOptions(7, seed=3))
    given.pop("progress")
    assert given == {"face": "1", "start": 0.5, "duration": 2.0, "appearance": "mine", "device": "cpu"}


def test_options_of_prepare_arrive(files, monkeypatch):
    given = []
    monkeypatch.setattr(prepare, "prepare_folder", lambda *inputs: given.extend(inputs) or prepare.PrepareReport())
    options = ["--index", files["text"], "--val-share=0.3", "--shard=2/5", "--device=cpu"]
    assert run("prepare", files["folder"], "-o", files["out"], *options, "--quiet") == 0
    videos, out, _, index, share, _, shard = given
    assert [videos, out, index] == [Path(files[name]) for name in ("folder", "out", "text")]
    assert (share, shard) == (0.3, (1, 5))


ENDINGS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)] + ([(signal.SIGHUP, 129)] if hasattr(signal, "SIGHUP") else [])


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell starts background jobs with Ctrl-C ignored, `nohup` ignores SIGHUP, and then so would this process."""
    before = {event: signal.getsignal(event) for event, _ in ENDINGS}
    for event in before:
        signal.signal(event, signal.default_int_handler if event is signal.SIGINT else signal.SIG_DFL)
    yield
    for event, handler in before.items():
        signal.signal(event, handler)


@pytest.mark.parametrize(("event", "code"), ENDINGS)
def test_a_stopped_run_says_so_and_leaves_nothing(files, fake_sync, interruptible, event, code, capsys):
    def act(video, speech, out, options, progress):
        with VideoWriter(out, 64, 64, 25) as writer:
            writer.write(np.zeros((3, 64, 64, 3), np.uint8))
            signal.raise_signal(event)

    fake_sync(act)
    before = signal.getsignal(event)
    assert run("sync", files["video"], files["speech"], "-o", files["out"]) == code
    assert os.listdir(Path(files["out"]).parent) == []
    assert signal.getsignal(event) is before
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no nohup")
def test_nohup_is_heard(files, fake_sync):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        fake_sync(lambda *_: signal.raise_signal(signal.SIGHUP) or {})
        assert run("sync", files["video"], files["speech"], "-o", files["out"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(sys.platform == "win32", reason="its pipes break otherwise")
def test_nobody_reads_what_is_said(files, fake_sync, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    pipe = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", pipe)
    fake_sync(lambda *_: {})
    assert run("sync", files["video"], files["speech"], "-o", files["out"]) == 141
    assert pipe.closed


def test_a_bug_is_not_hidden(files, fake_sync):
    fake_sync(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["sync", files["video"], files["speech"], "-o", files["out"]])


def test_a_full_disk_is_no_bug(files, fake_sync, capsys):
    def act(*_):
        raise OSError(28, "No space left on device", files["out"])

    fake_sync(act)
    assert run("sync", files["video"], files["speech"], "-o", files["out"], "--quiet") == 2
    assert capsys.readouterr().err == f"error: {files['out']}: No space left on device\n"


def test_a_video_without_a_face_is_refused_before_anything_is_written(files, capsys):
    assert run("sync", files["video"], files["speech"], "-o", files["out"], "--quiet") == 2
    assert "face" in capsys.readouterr().err
    assert os.listdir(Path(files["out"]).parent) == []


@pytest.mark.parametrize(
    "argv",
    [[], ["sync"], ["prepare"], ["train"], ["train", "identity"], ["tune"], ["evaluate"], ["info"]],
    ids=" ".join,
)
def test_help_is_there(argv, capsys):
    assert run(*argv, "--help") == 0
    assert "usage:" in capsys.readouterr().out


def test_help_tells_every_format_and_how_people_are_counted(capsys):
    run("sync", "--help")
    words = " ".join(capsys.readouterr().out.split())
    assert " ".join(SUFFIXES) in words and "in order of appearance" in words
    run("tune", "--help")
    assert "in order of appearance" in " ".join(capsys.readouterr().out.split())


def test_the_part_of_the_speech_that_is_asked_for_is_what_is_said(files):
    click = torch.zeros(1, 16000)
    click[0, 12000] = 0.5
    write_audio(files["speech"], Audio(click, 16000))
    options = SyncOptions(speech_start=0.7, speech_duration=0.2)
    given = read_inputs(files["video"], files["speech"], files["out"], options)
    assert given.audio.waveform.shape == (1, 3840), "six pictures, silent at the end"
    assert int(given.audio.waveform.argmax()) == 800


@pytest.mark.parametrize("command", [[], ["sync"], ["prepare"], ["train"], ["info"]], ids=" ".join)
def test_help_needs_no_heavy_import(command):
    """The parser is built without any network: what `--help` shows is there at once."""
    heavy = "{'torch', 'numpy', 'av', 'transformers'} & set(sys.modules)"
    code = f"import sys; from comfyui_mytalk import cli; cli.build_parser({command}); sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(cli.__file__).parents[1]).returncode == 0


def test_what_ships_does_not_load_transformers():
    """It takes as long to import as torch does; only speech encoders of others need it."""
    code = "import sys; from comfyui_mytalk import models, sync; models.load_speech_encoder(); "
    code += "sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(cli.__file__).parents[1]).returncode == 0


def test_tune_says_in_one_line_what_is_wrong(files, capsys):
    for argv in (
        ["text", "-o", "out"],
        ["video", "-o", "out"],
        ["video", "-o", "out", "--steps", "0"],
        ["video", "-o", "out", "--face", "99,9"],
    ):
        words = [files.get(word, word).replace("out.mp4", "out.safetensors") for word in argv]
        assert run("tune", *words, "--quiet") == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert os.listdir(Path(files["out"]).parent) == []


def test_tune_does_not_write_over_what_it_reads(files, capsys):
    before = Path(files["bad"]).read_bytes()
    assert run("tune", files["video"], "-o", files["bad"], "--appearance", files["bad"], "--quiet") == 2
    assert "is the input" in capsys.readouterr().err
    assert run("tune", files["video"], "-o", files["out"], "--seed", "-1", "--quiet") == 2
    assert "--seed" in capsys.readouterr().err
    assert Path(files["bad"]).read_bytes() == before


def test_nor_does_tuning_from_python_not_even_weights_that_are_given_by_name(files, monkeypatch):
    for out, appearance in (
        (files["bad"], files["bad"]),
        (SHIPPED / "appearance_small.safetensors", "appearance_small"),
    ):
        before = Path(out).read_bytes()
        with pytest.raises(InputError, match="is the input"):
            tune_video(files["video"], out, appearance=appearance)
        assert Path(out).read_bytes() == before


def test_lists_that_are_repeated_for_speed_agree():
    assert sync_command.LENGTH_MODES == MODES
    assert sync_command.SUFFIXES == SUFFIXES


def test_info_names_what_a_bug_report_needs(capsys):
    assert run("info") == 0
    out = capsys.readouterr().out
    assert f"torch {torch.__version__.split('+')[0]}" in out
    assert f"Python {sys.version.split()[0]}" in out
    assert "face_landmarks" in out
    assert "device " in out


def test_prepare_names_what_is_missing(files, capsys):
    assert run("prepare", files["none"], "-o", files["out"]) == 2
    assert "none.mp4" in capsys.readouterr().err
    assert run("prepare", files["video"], "-o", files["speech"]) == 2
    assert "expected a folder" in capsys.readouterr().err


def test_prepare_takes_its_share_of_the_videos(tmp_path, monkeypatch, capsys):
    done = []
    monkeypatch.setattr("comfyui_mytalk.training.prepare.prepare_video", lambda source, *_: done.append(source.clip))
    videos = [tmp_path / f"{name}.mp4" for name in "abc"]
    for path in videos:
        path.touch()
    assert run("prepare", *map(str, videos), "-o", str(tmp_path / "out"), "--shard", "2/2", "--device", "cpu") == 0
    assert done == ["b.mp4"] and "1 prepared" in capsys.readouterr().out
    for wrong in ("3/2", "0/2", "2", "a/b", "1/-2"):
        assert run("prepare", *map(str, videos), "-o", str(tmp_path / "out"), "--shard", wrong) == 2
        assert "expected I/N such as 1/4" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["train", "motion", "--data", "x"], ["sync", "a", "b", "-o", "c.mp4"], ["info"]])
def test_an_unknown_option_names_the_help_of_its_command(command, capsys):
    assert run(*command, "--nonsense", "3") == 2
    known = " ".join(word for word in command[:2] if word in ("train", "motion", "sync", "info"))
    assert capsys.readouterr().err == (
        f"error: unrecognized arguments: --nonsense 3 (see python -m comfyui_mytalk {known} --help)\n"
    )
