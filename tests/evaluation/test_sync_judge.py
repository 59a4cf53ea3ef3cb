"""The judge on mouths that are drawn: what it must find is known."""

import json
import math
from argparse import ArgumentParser

import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.sync_judge import PRESETS, SyncJudge, load_sync_judge, mouth_pictures
from comfyui_mytalk.training import sync_judge as trainer
from comfyui_mytalk.training.clips import read_clips
from comfyui_mytalk.training.sync_judge_data import load_clip, load_clips
from tests.support.pretended_device import DEVICE, PretendedDevice
from tests.synthetic_clips import opening_curve, voice, write_clips

FRAMES = 75


def talking_crops(frames=FRAMES, fps=25.0, seed=0):
    """Aligned crops `(f, 3, 64, 64)` with a dark mouth as open as `opening_curve` says."""
    opening = opening_curve(torch.arange(frames, dtype=torch.float64) / fps, seed)
    y, x = torch.meshgrid(torch.arange(64) - 35.0, torch.arange(64) - 32.0, indexing="ij")
    inside = (x / 9) ** 2 + (y / (0.5 + 4 * opening[:, None, None])) ** 2 < 1
    return torch.where(inside, 40, 170).byte()[:, None].expand(-1, 3, -1, -1).contiguous()


def score_of(judge, crops, fps, *heard):
    return judge.score(crops, torch.arange(len(crops)) / fps, *heard)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny judge, trained for a few seconds on drawn mouths by the real trainer."""
    folder = tmp_path_factory.mktemp("judge")
    write_clips(folder / "clips", crops=talking_crops)
    parser = ArgumentParser()
    trainer.add_arguments(parser)
    options = ["--preset", "tiny", "--steps", "60", "--batch", "3", "--validate-every", "30", "--rate", "5e-3"]
    paths = ["--data", folder / "clips", "--run", folder / "run", "--save", folder / "sync_judge_tiny.safetensors"]
    trainer.main(parser.parse_args([*options, *map(str, paths)]))
    return folder


@pytest.fixture(scope="module")
def judge(trained):
    return load_sync_judge(trained / "sync_judge_tiny.safetensors")


def test_training_writes_validation_and_weights(trained, judge):
    header, *rows = (trained / "run" / "log.csv").read_text().splitlines()
    assert "clip mean" in header and "2s synthetic" in header and len(rows) == 2
    assert judge.name == "sync_judge_tiny" and len(judge.sha256) == 64


def test_frames_are_heard_when_they_are_shown(judge):
    """Of a varying rate: the first second at 50, the others at 25."""
    crops, speech = talking_crops(seed=7), voice(FRAMES / 25, seed=7)
    twice = torch.cat([crops[:25].repeat_interleave(2, 0), crops[25:]])
    times = torch.cat([torch.arange(50) / 50, 1 + torch.arange(50) / 25])
    assert judge.score(twice, times, speech) == score_of(judge, crops, 25.0, speech)


@pytest.mark.parametrize("late", [-5, 0, 5])
def test_sound_shifted_by_five_frames_has_offset_five(judge, late):
    crops, speech = talking_crops(FRAMES + 20, seed=7), voice((FRAMES + 20) / 25, seed=7)
    score = score_of(judge, crops[10 - late : 10 - late + FRAMES], 25.0, speech[10 * 640 : (10 + FRAMES) * 640])
    assert abs(score.offset_frames - late) <= 1 and score.in_sync == (late == 0)
    assert 0 < score.confidence < 2 and 0 < score.distance < 2


def test_any_frame_rate_loudness_and_number_type_give_the_same_answer(judge):
    crops, speech = talking_crops(seed=7), voice(FRAMES / 25, seed=7)
    score = score_of(judge, crops, 25.0, speech)
    assert score_of(judge, crops.repeat_interleave(2, 0), 50.0, speech) == score
    assert score_of(judge, crops.float() / 255, 25.0, speech).distance == pytest.approx(score.distance, abs=1e-4)
    assert score_of(judge, crops, 25.0, 0.1 * speech).distance == pytest.approx(score.distance, abs=1e-4)


def test_a_judge_on_a_device_says_the_same(trained, judge):
    crops, speech, seen = talking_crops(seed=7), voice(FRAMES / 25, seed=7), torch.arange(FRAMES) > 9
    with PretendedDevice() as device:
        there = load_sync_judge(trained / "sync_judge_tiny.safetensors", DEVICE)
        score = score_of(there, crops, 25.0, speech, seen)
    here = score_of(judge, crops, 25.0, speech, seen)
    assert score.offset_frames == here.offset_frames and score.distance == pytest.approx(here.distance, abs=1e-4)
    assert device.runs > 0


def test_validation_of_a_judge_on_a_device(trained):
    clips = load_clips(read_clips(trained / "clips", "val"))
    with PretendedDevice():
        figures = trainer.validate(load_sync_judge(trained / "sync_judge_tiny.safetensors", DEVICE), clips)
    assert figures.keys() == trainer.validate(load_sync_judge(trained / "sync_judge_tiny.safetensors"), clips).keys()


def test_a_mouth_that_stands_still_earns_less_confidence(judge):
    crops, speech = talking_crops(seed=7), voice(FRAMES / 25, seed=7)
    still = crops[20:21].expand_as(crops)
    assert score_of(judge, still, 25.0, speech).confidence < 0.5 * score_of(judge, crops, 25.0, speech).confidence


def test_the_upper_face_is_not_looked_at():
    crops = talking_crops(8)
    changed = crops.clone()
    changed[:, :, :18] = 255
    assert (mouth_pictures(changed) == mouth_pictures(crops)).all()


def test_clips_too_short_score_nan():
    judge = SyncJudge(PRESETS["tiny"])
    for frames in (0, 1, 4, 5, 26):
        assert math.isnan(score_of(judge, talking_crops(frames), 25.0, torch.randn(16000)).confidence)
    assert math.isnan(score_of(judge, talking_crops(FRAMES), 25.0, torch.zeros(0)).distance)
    unseen = torch.zeros(FRAMES, dtype=torch.bool)
    assert math.isnan(score_of(judge, talking_crops(), 25.0, torch.randn(FRAMES * 640), unseen).distance)


def test_wrong_input_is_named():
    judge = SyncJudge(PRESETS["tiny"])
    with pytest.raises(InputError, match="aligned crops"):
        score_of(judge, torch.zeros(8, 64, 64, 3), 25.0, torch.zeros(8000))
    with pytest.raises(InputError, match="one channel"):
        score_of(judge, talking_crops(8), 25.0, torch.zeros(1, 8000))
    with pytest.raises(InputError, match="train sync-judge"):
        load_sync_judge("sync_judge_nowhere")


def test_the_loss_of_a_right_answer_is_lower():
    vectors = torch.nn.functional.normalize(torch.randn(3, 25, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    contrast = trainer.Contrast()
    right, wrong = (contrast(x[:, :: trainer.STRIDE], vectors) for x in (vectors, vectors.roll(3, 1)))
    assert all(right[name] < wrong[name] for name in right)


def test_offsets_that_mend_a_clip(tmp_path):
    """Seconds by which speech is late, as every trainer reads them; to the sample."""
    clip = read_clips(write_clips(tmp_path, 1, 1), "train")[0]
    whole, early, late = load_clip(clip), load_clip(clip, 0.08), load_clip(clip, -0.08)
    assert len(late) == len(early) == 48
    assert (late.mouths == whole.mouths[2:]).all() and (late.speech == whole.speech[:-1280]).all()
    assert (early.mouths == whole.mouths[:48]).all() and (early.speech == whole.speech[1280:]).all()
    early, late = load_clip(clip, 0.02), load_clip(clip, -0.02)
    assert (early.mouths == whole.mouths[:49]).all() and (early.speech == whole.speech[320 : 320 + 49 * 640]).all()
    assert (late.mouths == whole.mouths[1:]).all() and (late.speech == whole.speech[320 : 320 + 49 * 640]).all()


def test_the_offsets_of_align_clips_mend_the_judges_clips(tmp_path):
    """They were rounded to whole frames, of which they had none."""
    clips = read_clips(write_clips(tmp_path, 1, 2), "train")
    (tmp_path / "offsets.json").write_text(json.dumps({clips[0].path.stem: 0.12}))
    moved, left = load_clips(clips, trainer.read_offsets(tmp_path / "offsets.json"))
    assert (moved.speech[:640] == load_clip(clips[0]).speech[3 * 640 : 4 * 640]).all() and len(left) == 50
    assert trainer.read_offsets(None) == {}


def test_clips_that_do_not_serve_are_counted(tmp_path, caplog):
    clips = read_clips(write_clips(tmp_path, 1, 3), "train")
    clips[0].samples, clips[1].metadata["av_offset_ms"] = 0, "-120"
    assert [clip.name for clip in load_clips(clips)] == [clips[2].path.stem]
    assert "left out 1 of 3 clips: 1 without sound" in caplog.text
    assert "left out 1 of 3 clips: 1 out of sync by their av_offset_ms" in caplog.text
    assert len(load_clips(clips, {clips[1].path.stem: 0.12})) == 2


def test_kept_mouths_belong_to_the_pictures_and_not_to_the_name(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    for seed in (1, 2):
        draw = lambda frames, fps, _, seed=seed: talking_crops(frames, seed)  # noqa: E731
        clip = read_clips(write_clips(tmp_path / str(seed), 1, 1, crops=draw), "train")[0]
        assert (load_clip(clip, cache=cache).mouths == load_clip(clip).mouths).all()
    monkeypatch.setattr("comfyui_mytalk.training.sync_judge_data.mouth_pictures", lambda _: pytest.fail("made again"))
    assert len(load_clip(clip, cache=cache)) == 50


def test_the_shipped_judge_loads_and_scores():
    """Drawn mouths and a buzz are not what it was trained for: only that it answers."""
    judge = load_sync_judge()
    score = score_of(judge, talking_crops(), 25.0, voice(FRAMES / 25, seed=0))
    assert judge.name == "sync_judge_small" and 0 < score.confidence < 2 and 0 < score.distance < 2
