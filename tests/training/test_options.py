"""What `train MODEL --help` says, and that a training runs where it is told to."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import pytest
import torch

from comfyui_mytalk.cli import TRAINERS
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.motion import params
from comfyui_mytalk.motion.identity import IdentityExtractor, load_identity
from comfyui_mytalk.motion.model import Needs
from comfyui_mytalk.motion.params import IdentityParams
from comfyui_mytalk.training import appearance, appearance_gan, identity, motion, occlusion
from tests.motion.test_training import TINY, loudness
from tests.support.pretended_device import DEVICE, PretendedDevice
from tests.synthetic_clips import write_clips
from tests.training.test_appearance import TINY as TINY_APPEARANCE


def parser_of(trainer: str) -> ArgumentParser:
    parser = ArgumentParser()
    import_module(f"comfyui_mytalk.training.{trainer.replace('-', '_')}").add_arguments(parser)
    return parser


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("prepared"), identities=2, takes=1, frames=40)


def arguments(trainer: str, data: Path, run: Path, *options: str) -> Namespace:
    fixed = ("--data", str(data), "--run", str(run), "--save", str(run / "weights.safetensors"), "--steps", "2")
    return parser_of(trainer).parse_args([*fixed, "--device", DEVICE, *options])


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_option_says_what_it_does_and_its_default(trainer: str) -> None:
    for action in parser_of(trainer)._actions:
        if action.dest != "help":
            assert action.help, f"{action.option_strings} says nothing"
            assert action.required or "default" in action.help, f"{action.option_strings} has which default?"
    parser_of(trainer).format_help()


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_chooses_its_device_by_itself_or_is_told(trainer: str) -> None:
    parser = parser_of(trainer)
    assert parser.get_default("device") == "auto"


def test_motion_says_where_new_identity_weights_are() -> None:
    defaults = parser_of("identity").get_default
    written = f"{defaults('run')}/identity_{defaults('preset')}.safetensors"
    (said,) = (action.help for action in parser_of("motion")._actions if action.dest == "identity")
    assert written in said and "the one that ships, unless" in said


@pytest.mark.parametrize(
    "options",
    [
        ("--steps", "0"), ("--steps", "-5"), ("--minutes", "0"), ("--batch", "0"), ("--rate", "nan"), ("--seed", "-1"),
        ("--validate-every", "0"), ("--echo", "0"), ("--pool", "0"), ("--cut", "0", "8"), ("--workers", "-1"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(options: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parser_of("appearance").parse_args(["--data", "x", *options])
    assert f"argument {options[0]}: got '{options[1]}', expected a" in capsys.readouterr().err


@pytest.mark.parametrize("trainer", TRAINERS)
def test_no_trainer_takes_numbers_that_are_none_or_below_0(trainer: str, capsys: pytest.CaptureFixture) -> None:
    """AdamW raised ValueError for its decay, once the features were there; a loss of weight nan trained to the end."""
    parser = parser_of(trainer)
    for option in (a.option_strings[0] for a in parser._actions if isinstance(a.default, float)):
        for value in ("nan", "-0.5"):
            with pytest.raises(SystemExit):
                parser.parse_args(["--data", "x", f"{option}={value}"])
            assert f"argument {option}: got {value!r}, expected a number" in capsys.readouterr().err


@pytest.mark.parametrize("save", ["weights.pt", "folder.safetensors", "file/weights.safetensors"])
def test_weights_that_cannot_be_written_are_refused_before_any_work(data: Path, tmp_path: Path, save: str) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    for trainer in (identity, motion, appearance, occlusion):
        name = trainer.__name__.rpartition(".")[2]
        args = arguments(name, data / "not read", tmp_path / "run", "--save", str(tmp_path / save))
        with pytest.raises(InputError, match="as output, expected|cannot write"):
            trainer.main(args)
    assert not (tmp_path / "run").exists()


def test_other_options_are_refused_before_clips_are_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of hundreds of hours were computed first, with another speech encoder all of them anew."""
    fixed = ["--data", str(data), "--run", str(tmp_path), "--steps", "1", "--batch", "8", "--device", "cpu"]
    identity.main(parser_of("identity").parse_args(fixed))
    monkeypatch.setattr(identity, "read_clips", lambda *_: pytest.fail("clips are read"))
    with pytest.raises(InputError, match=r"was started with --rate 0\.001, now 0\.5"):
        identity.main(parser_of("identity").parse_args([*fixed, "--rate", "0.5"]))


def test_a_training_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for parts in ("runs/a", "there/b"):
        args = parser_of("identity").parse_args(["--data", str(tmp_path / "none"), "--run", str(tmp_path / parts)])
        with pytest.raises(InputError, match="no prepared clips"):
            identity.main(args)
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_weights_go_into_the_run_folder_and_are_named(data: Path, tmp_path: Path) -> None:
    args = parser_of("identity").parse_args(
        ["--data", str(data), "--run", str(tmp_path / "mine"), "--steps", "2", "--batch", "8", "--device", "cpu"]
    )
    said = identity.main(args)
    assert (tmp_path / "mine/identity_small.safetensors").is_file()
    assert said.startswith(f"wrote {tmp_path / 'mine/identity_small.safetensors'}")


@pytest.mark.parametrize("cut", [("1000", "1000"), ("64", "8")])
def test_a_cut_is_a_part_that_the_network_can_take(data: Path, tmp_path: Path, cut: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=f"got --cut {cut[0]} {cut[1]}, expected multiples of 16 up to 160 192"):
        args = arguments("appearance", data, tmp_path, "--validate-clips", "0", "--cut", *cut)
        args.device = "cpu"
        appearance.main(args)


def test_identity_trains_on_a_device(data: Path, tmp_path: Path) -> None:
    with PretendedDevice() as device:
        identity.main(arguments("identity", data, tmp_path, "--batch", "16", "--validate-every", "1"))
    assert device.runs > 100
    assert torch.isfinite(load_identity(str(tmp_path / "weights.safetensors")).mean).all()


def test_motion_trains_on_a_device(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(params.PRESETS, "small", TINY)
    args = arguments(
        "motion", data, tmp_path, "--cache", str(tmp_path), "--tokens", "50", "--validate-every", "2", "--versions", "1"
    )
    kinds = []
    monkeypatch.setattr(torch, "autocast", lambda kind, *_, **__: kinds.append(kind) or nullcontext())  # it has none
    with PretendedDevice() as device:
        model = motion.train(args, loudness, Needs(), IdentityExtractor(IdentityParams(width=8, layers=1, dim=4)))
    assert device.runs > 100 and kinds == 2 * ["pretended"] and model.lower_mean.device == torch.device(DEVICE)
    assert (tmp_path / "sheet_000002.png").is_file()


def test_appearance_and_occlusion_ask_for_their_device(
    monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path
) -> None:
    """Of `pick_device`, as all do: torch itself knows no auto."""

    def ask(name: str) -> None:
        raise InputError(f"asked for {name}")

    for trainer in (appearance_gan, occlusion):
        monkeypatch.setattr(trainer, "pick_device", ask)
    with pytest.raises(InputError, match=f"asked for {DEVICE}"):
        occlusion.main(arguments("occlusion", data, tmp_path / "occlusion"))
    with pytest.raises(InputError, match=f"asked for {DEVICE}"):
        appearance_gan.Trainer(TINY_APPEARANCE, arguments("appearance", data, tmp_path / "appearance"))
