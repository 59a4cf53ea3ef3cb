"""The original SyncNet's layout, with random weights; its trained weights are not ours to ship."""

import math

import numpy as np
import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.syncnet import SyncNet, load_syncnet, mel_filters, mfcc, whole_face

# Shapes that `syncnet_v2.model` is known to hold.
KNOWN = {
    "netcnnaud.0.weight": (64, 1, 3, 3),
    "netcnnaud.4.weight": (192, 64, 3, 3),
    "netcnnaud.14.weight": (256, 256, 3, 3),
    "netcnnaud.18.weight": (512, 256, 5, 4),
    "netcnnaud.19.running_var": (512,),
    "netfcaud.3.weight": (1024, 512),
    "netcnnlip.0.weight": (96, 3, 5, 7, 7),
    "netcnnlip.4.weight": (256, 96, 1, 5, 5),
    "netcnnlip.14.weight": (256, 256, 1, 3, 3),
    "netcnnlip.18.weight": (512, 256, 1, 6, 6),
    "netfclip.0.weight": (512, 512),
    "netfclip.3.bias": (1024,),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A file as torch 0.4 wrote it: no count of batches."""
    path = tmp_path_factory.mktemp("syncnet") / "syncnet_v2.model"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = SyncNet().state_dict()
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, path)
    return path


def test_a_checkpoint_in_the_original_layout_is_read_and_scores(checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    assert {name: tuple(state[name].shape) for name in KNOWN} == KNOWN and len(state) == 88
    net = load_syncnet(checkpoint)
    assert net.name == "syncnet_v2"
    crops = torch.randint(0, 256, (28, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    speech = 0.1 * torch.randn(28 * 640, generator=torch.Generator().manual_seed(0))
    score = net.score(crops, torch.arange(28) / 25, speech)
    assert -15 <= score.offset_frames <= 15 and math.isfinite(score.confidence) and score.distance > 0
    assert math.isnan(net.score(crops[:20], torch.arange(20) / 25, speech).distance)
    assert math.isnan(net.score(crops[:3], torch.arange(3) / 25, speech).distance)


def test_windows_do_not_depend_on_their_neighbours(checkpoint):
    net = load_syncnet(checkpoint)
    pictures = 255 * torch.rand(6, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        both = net.see(pictures)
        torch.testing.assert_close(both[1:], net.see(pictures[1:]), rtol=1e-3, atol=1e-4)
        sound = torch.randn(28, 13, generator=torch.Generator().manual_seed(1))
        assert net.hear(sound).shape == (3, 1024) and both.shape == (2, 1024)
        torch.testing.assert_close(net.hear(sound)[2:], net.hear(sound[8:]), rtol=1e-3, atol=1e-4)


def test_coefficients_of_a_tone():
    """Values by hand: a tone's energy, and filters whose largest answer is the one around the tone."""
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)
    values = mfcc(tone)
    assert values.shape == (99, 13)
    gain = abs(1 - 0.97 * np.exp(-2j * np.pi * 1000 / 16_000))  # of the pre-emphasis
    mean_square = (0.5 * 32768 * gain) ** 2 / 2
    # Parseval: the one-sided spectrum holds half of 512 times the frame's energy, over 512.
    assert values[50, 0].item() == pytest.approx(np.log(400 * mean_square / 2), abs=0.02)
    filters = mel_filters()
    assert filters.shape == (26, 257) and filters.max() == 1 and (filters[:, 0] == 0).all()
    peak = filters[:, round(1000 / 16_000 * 512)].argmax()
    assert abs(filters[peak].argmax() * 16_000 / 512 - 1000) < 100


def test_silence_has_finite_coefficients():
    assert mfcc(torch.zeros(1000)).isfinite().all()


def test_the_face_is_framed_as_around_a_detectors_box():
    crops = torch.zeros(1, 3, 256, 256)
    crops[:, 0] = 1.0  # red
    blue, green, red = whole_face(crops)[0]
    assert (red > 254.9).all() and not blue.any() and not green.any()
    marked = torch.zeros(1, 3, 256, 256)
    marked[:, :, 124:132, 124:132] = 1.0  # the crop's centre: 3.7 cm below the origin
    y, x = (whole_face(marked)[0, 0] > 100).nonzero().float().mean(0).tolist()
    scale = 224 / (8.5 * 2.8)
    assert (x + 0.5, y + 0.5) == pytest.approx((112, (7.5 + 3.7) * scale), abs=1)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "net.model"
    with pytest.raises(InputError, match="no SyncNet checkpoint at"):
        load_syncnet(path)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="original format"):
        load_syncnet(path)
    torch.save({"netfclip.3.weight": SyncNet}, path)  # more than tensors
    with pytest.raises(InputError, match="can be read"):
        load_syncnet(path)
