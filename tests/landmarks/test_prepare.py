"""A folder of videos becomes clips that the trainers read."""

import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.align import cut_crops
from comfyui_mytalk.speech.audio import Audio
from comfyui_mytalk.training.clips import read_clips
from comfyui_mytalk.training.prepare import prepare_folder
from comfyui_mytalk.training.sources import find_sources, with_splits
from comfyui_mytalk.video.writer import VideoWriter


@pytest.fixture(scope="module")
def videos(tmp_path_factory, moving):
    """Two people: one with speech, one silent film; and a broken file."""
    folder = tmp_path_factory.mktemp("videos")
    tone = Audio(torch.sin(torch.arange(22050 * 16 // 25) / 20)[None], 22050)
    for name, audio in (("anna", tone), ("bert", None)):
        (folder / name).mkdir()
        with VideoWriter(folder / name / "clip.mp4", 288, 288, 25, audio=audio) as writer:
            writer.write(moving)
    (folder / "bert" / "broken.mp4").write_bytes(b"no video")
    return folder


def test_prepared_clips_can_be_read(videos, landmarker, tmp_path, moving):
    report = prepare_folder(videos, tmp_path, landmarker)
    assert report.prepared == ["anna/clip.mp4", "bert/clip.mp4"] and list(report.failed) == ["bert/broken.mp4"]
    anna, bert = read_clips(tmp_path)
    assert (anna.identity, bert.identity) == ("anna", "bert") and {anna.metadata["split"], bert.metadata["split"]} == {
        "train",
        "val",
    }
    assert len(anna) == 16 and anna.fps == 25 and 80 < anna.face_px < 140
    assert len(anna.speech) == pytest.approx(16 * 640, abs=320) and not len(bert.speech)
    expected = cut_crops(moving[3:4].permute(0, 3, 1, 2).float() / 255, anna.transform[3:4])[0] * 255
    assert (anna.crop(3) - expected).abs().mean() < 4  # two lossy codings apart
    assert prepare_folder(videos, tmp_path, landmarker).skipped == report.prepared


def test_splits_keep_people_together(tmp_path):
    for name in ("a/1.mp4", "a/2.mp4", "b/1.mov", "c.mkv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sources = with_splits(find_sources(tmp_path, None), val_share=0.3)
    splits = {source.row["identity"]: source.row["split"] for source in sources}
    assert sorted(splits) == ["a", "b", "c"] and sorted(splits.values()) == ["train", "train", "val"]
    assert len({source.row["split"] for source in sources if source.row["identity"] == "a"}) == 1


def test_index_decides(tmp_path):
    (tmp_path / "index.json").write_text('[{"file": "x.mp4", "split": "val", "identity": "zoe", "corpus": "GRID"}]')
    (source,) = with_splits(find_sources(tmp_path, None), 0.5)
    assert source.row == {"file": "x.mp4", "split": "val", "identity": "zoe", "corpus": "GRID"}


def test_empty_folder(tmp_path, landmarker):
    with pytest.raises(InputError, match="no video in"):
        prepare_folder(tmp_path, tmp_path / "out", landmarker)
