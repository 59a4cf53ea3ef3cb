"""What is prepared under which name: nothing is taken for something else, and nothing is left out in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.clips import find_clips
from comfyui_mytalk.training import prepare
from comfyui_mytalk.training.clips import read_clip, read_clips
from comfyui_mytalk.training.prepare import prepare_folder
from comfyui_mytalk.training.sources import Source, find_sources, with_splits
from tests.synthetic_clips import write_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Videos that nobody opens: what is tested here is refused before."""
    for name in ("p1/clip.mp4", "p1/clip.mov", "p2/clip.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_two_kinds_of_one_video_are_refused_before_any_work(folder: Path) -> None:
    with pytest.raises(InputError, match=r"p1/clip\.mov and .*p1/clip\.mp4 would both become p1__clip\.safetensors"):
        prepare_folder(folder, folder / "out", None)
    assert not (folder / "out").exists()


def test_files_of_one_name_from_two_folders_are_refused(folder: Path) -> None:
    videos = [folder / "p1" / "clip.mp4", folder / "p2" / "clip.mp4"]
    with pytest.raises(InputError, match=r"p1/clip\.mp4 and .*p2/clip\.mp4 would both become clip\.safetensors"):
        prepare_folder(videos, folder / "out", None)


def test_a_row_listed_twice_is_refused(folder: Path) -> None:
    (folder / "index.json").write_text('[{"file": "p2/clip.mp4"}, {"file": "p2/clip.mp4"}]')
    with pytest.raises(InputError, match="would both become p2__clip"):
        prepare_folder(folder, folder / "out", None)


@pytest.mark.parametrize("content", [None, "no json", "[{}]", '{"a": 1}', "7"])
def test_an_index_that_was_asked_for_is_read_or_refused(folder: Path, content: str | None) -> None:
    """Not passed over: clips would get random splits."""
    index = folder / "typo.json"
    if content is not None:
        index.write_text(content)
    with pytest.raises(InputError, match=r"cannot read the index .*typo\.json: expected a JSON list"):
        prepare_folder(folder, folder / "out", None, index=index)


def test_an_index_does_not_go_with_a_list_of_videos(folder: Path) -> None:
    (folder / "index.json").write_text('[{"file": "p2/clip.mp4"}]')
    with pytest.raises(InputError, match=r"index\.json and a list of videos, expected one folder"):
        prepare_folder([folder / "p2" / "clip.mp4"], folder / "out", None, index=folder / "index.json")


def test_an_index_beside_the_folder_decides(folder: Path) -> None:
    index = folder / "mine.json"
    index.write_text('[{"file": "p2/clip.mp4", "split": "val"}]')
    (source,) = find_sources(folder, index)
    assert source.path == folder / "p2" / "clip.mp4" and source.row["split"] == "val" and source.row["identity"] == "p2"


def test_shards_share_the_videos_and_agree_on_the_splits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "p1" / "clip.mov").unlink()
    done = {}
    monkeypatch.setattr(
        prepare, "prepare_video", lambda source, path, _: done.update({source.clip: source.row["split"]})
    )
    prepare_folder(folder, folder / "out", None, val_share=0.5)
    whole, parts = dict(done), []
    for index in range(3):
        done.clear()
        prepare_folder(folder, folder / "out", None, val_share=0.5, shard=(index, 3))
        parts.append(dict(done))
    assert sorted(whole.values()) == ["train", "val"]
    assert [len(part) for part in parts] == [1, 1, 0] and parts[0] | parts[1] == whole


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Preparing a video takes a synthetic clip for it; one that is called silent has no sound."""

    def prepared(source: Source, path: Path, _: None) -> None:
        made = write_clip(tmp_path_factory.mktemp("made"), "train", 0, 0)
        tensors, metadata = load_file(made), read_clip(made).metadata
        if "silent" in source.clip:
            tensors["speech"] = torch.zeros(0, dtype=torch.int16)
        row = {name: str(value) for name, value in source.row.items()}
        save_file(tensors, path, metadata | row | {"clip": source.clip})

    monkeypatch.setattr(prepare, "prepare_video", prepared)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def rows_of(folder: Path, *names: str) -> dict[str, tuple[str, ...]]:
    return {clip.metadata["clip"]: tuple(clip.metadata[name] for name in names) for clip in read_clips(folder)}


def test_the_first_folder_is_the_person(tmp_path: Path) -> None:
    """Data sets have folders of views, levels or films below those of people, who must not be in both splits."""
    touch(tmp_path, "M003/front/level_1/001.mp4", "W009/front/level_1/002.mp4", "W009/left/3.mp4", "solo.mp4")
    people = {source.clip: source.row["identity"] for source in find_sources(tmp_path, None)}
    assert sorted(people.values()) == ["M003", "W009", "W009", "solo"] and people["solo.mp4"] == "solo"


def test_a_split_is_not_a_person(tmp_path: Path) -> None:
    touch(tmp_path, "train/anna/1.mp4", "val/bert/1.mp4")
    with pytest.raises(InputError, match=r"train/anna/1\.mp4 is in train: give the folder that holds people's folders"):
        find_sources(tmp_path, None)


@pytest.mark.parametrize(
    "row, complaint",
    [
        ({"split": "validation"}, "got the split 'validation', expected train or val"),
        ({"split": 1}, "got the split 1"),
        ({"identity": [1]}, r"got the identity \[1\], expected a name or a number"),
        ({"identity": " "}, "got the identity ' '"),
        ({"av_offset_ms": "late"}, "got 'late' as av_offset_ms, expected a number"),
        ({"face_px": [3]}, r"got \[3\] as face_px"),
    ],
)
def test_rows_that_no_trainer_would_read_are_refused(folder: Path, row: dict[str, Any], complaint: str) -> None:
    (folder / "index.json").write_text(json.dumps([{"file": "p2/clip.mp4"} | row]))
    with pytest.raises(InputError, match=rf"the index .*index\.json, row of p2/clip\.mp4: {complaint}"):
        prepare_folder(folder, folder / "out", None)


def test_numbers_are_names_and_null_is_nothing(folder: Path) -> None:
    rows = [{"file": "p1/clip.mp4", "identity": 7, "split": None}, {"file": "p2/clip.mp4", "identity": None}]
    (folder / "index.json").write_text(json.dumps(rows))
    sources = with_splits(find_sources(folder, None), 0.5)
    assert [source.row["identity"] for source in sources] == ["7", "p2"]
    assert sorted(source.row["split"] for source in sources) == ["train", "val"]


def test_two_folders_are_refused_as_such(folder: Path) -> None:
    with pytest.raises(InputError, match=r"got the folder .*p1 beside others, expected one folder, or video files"):
        prepare_folder([folder / "p1", folder / "p2"], folder / "out", None)
    with pytest.raises(InputError, match="got the folder of the videos"):
        prepare_folder(folder / "p2", folder / "p2", None)


def test_what_a_new_index_says_is_written_into_clips_that_are_there(folder: Path, tmp_path: Path, quick: None) -> None:
    out, index = tmp_path / "out", folder / "mine.json"
    rows = [{"file": "p1/clip.mp4", "split": "train", "corpus": "GRID"}, {"file": "p2/clip.mp4", "split": "val"}]
    index.write_text(json.dumps(rows))
    prepare_folder(folder, out, None, index)
    before = {clip.path.name: clip.points for clip in read_clips(out)}
    rows[0] |= {"split": "val", "identity": 5, "av_offset_ms": -80, "fps": 3}
    rows[1] |= {"split": "train"}
    index.write_text(json.dumps(rows))
    done = prepare_folder(folder, out, None, index)
    assert done.updated == ["p1/clip.mp4", "p2/clip.mp4"] and not done.skipped and not done.prepared
    said = rows_of(out, "split", "identity", "corpus", "av_offset_ms", "fps")
    assert said["p1/clip.mp4"] == ("val", "5", "GRID", "-80", "25.0")
    assert said["p2/clip.mp4"][:2] == ("train", "p2")
    assert all(torch.equal(clip.points, before[clip.path.name]) for clip in read_clips(out))
    assert prepare_folder(folder, out, None, index).skipped == done.updated
    index.unlink()
    (folder / "p1" / "clip.mov").unlink()
    assert prepare_folder(folder, out, None).skipped == done.updated  # what is known stays, without an index
    assert rows_of(out, "split", "identity")["p1/clip.mp4"] == ("val", "5")


def test_what_is_there_is_read_once(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds of hours that takes minutes."""
    folder = touch(tmp_path / "videos", "anna/1.mp4", "bert/1.mp4")
    first = prepare_folder(folder, tmp_path / "out", landmarker=None)
    read, real = [], prepare.read_clip
    monkeypatch.setattr(prepare, "read_clip", lambda path: read.append(path) or real(path))
    again = prepare_folder(folder, tmp_path / "out", landmarker=None)
    assert again.skipped == first.prepared and again.contents == first.contents
    assert sorted(read) == sorted((tmp_path / "out").glob("*.safetensors"))


def test_people_keep_their_split_when_others_come(tmp_path: Path, quick: None) -> None:
    """Who was validated on is not trained on later."""
    videos, out = touch(tmp_path / "videos", "a/1.mp4"), tmp_path / "out"
    prepare_folder(videos, out, None, val_share=0.5)
    assert rows_of(out, "split") == {"a/1.mp4": ("train",)}
    seen = {"a": "train"}
    for person in "bcdefgh":
        touch(videos, f"{person}/1.mp4", "a/2.mp4")
        prepare_folder(videos, out, None, val_share=0.5)
        splits = dict(rows_of(out, "identity", "split").values())
        assert splits | seen == splits
        seen = splits
    assert sorted(seen.values()) == ["train"] * 4 + ["val"] * 4
    assert rows_of(out, "split")["a/2.mp4"] == ("train",)


def test_people_of_older_folders_get_their_names(tmp_path: Path, quick: None) -> None:
    """They were called after the last folder."""
    videos, out = touch(tmp_path / "videos", "M003/level_1/001.mp4", "W009/level_1/002.mp4"), tmp_path / "out"
    prepare_folder(videos, out, None)
    for clip in read_clips(out):
        save_file(load_file(clip.path), clip.path, clip.metadata | {"identity": "level_1", "split": "train"})
    assert len(prepare_folder(videos, out, None).updated) == 2
    assert sorted(rows_of(out, "identity", "split").values())[0][0] == "M003"
    assert sorted(split for (split,) in rows_of(out, "split").values()) == ["train", "val"]


def test_the_index_of_what_is_there_tells_evaluate_the_splits(tmp_path: Path, quick: None) -> None:
    videos, out = touch(tmp_path / "videos", *(f"{person}/1.mp4" for person in "abcd")), tmp_path / "out"
    prepare_folder(videos, out, None, val_share=0.25)
    (clip,) = find_clips(videos, out / "index.json", "val")
    assert clip.path.is_file() and rows_of(out, "split")[clip.name] == ("val",) and clip.identity == clip.name[0]
    assert clip.corpus == read_clips(out, "val")[0].corpus
    touch(videos, "e/1.mp4")
    assert prepare_folder(videos, out, None, index=None).prepared == ["e/1.mp4"]
    assert len(find_clips(videos, out / "index.json")) == 5
    written = (out / "index.json").read_bytes()
    prepare_folder(videos, out, None, index=out / "index.json")
    assert len(prepare_folder(videos, out, None, index=out / "index.json").skipped) == 5
    assert (out / "index.json").read_bytes() == written


def test_an_index_of_ones_own_stays(folder: Path, quick: None, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "p1" / "clip.mov").unlink()
    own = touch(folder, "out/index.json") / "out" / "index.json"
    own.write_text('[{"file": "x.mp4"}]')
    prepare_folder(folder, folder / "out", None)
    assert own.read_text() == '[{"file": "x.mp4"}]' and "not made by `prepare`" in caplog.text


def test_what_is_there_is_told(tmp_path: Path, quick: None, caplog: pytest.LogCaptureFixture) -> None:
    videos = touch(tmp_path / "videos", "a/1.mp4", "a/silent.mp4")
    assert prepare_folder(videos, tmp_path / "out", None).contents == [
        "train: 2 clips of 1 person, 0.00 hours",
        "val: 0 clips of 0 people, 0.00 hours",
    ]
    assert "no val clip: training takes at least two people" in caplog.text
    assert "1 clip without sound: only train identity, appearance and occlusion use them" in caplog.text
    rows = [{"file": f"a/{name}.mp4", "split": split} for name, split in (("1", "train"), ("silent", "val"))]
    (videos / "index.json").write_text(json.dumps(rows))
    prepare_folder(videos, tmp_path / "out", None)
    assert "1 person in both splits, such as a" in caplog.text


def test_where_the_person_for_validation_failed_an_index_is_the_remedy(
    tmp_path: Path, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    """More people would not help: the one whose videos are bad stays first in line."""
    videos = touch(tmp_path / "videos", "anna/1.mp4", "carl/1.mp4")
    prepare_folder(videos, tmp_path / "out", None, val_share=0, shard=(0, 2))
    assert "no val clip" not in caplog.text, "it may come from the other shard"
    prepare_folder(videos, tmp_path / "out", None, val_share=0)
    assert "no val clip: people keep their split; an index says who goes where" in caplog.text
    (tmp_path / "who.json").write_text('[{"file": "anna/1.mp4", "split": "val"}]')
    assert prepare_folder(videos, tmp_path / "out", None, tmp_path / "who.json").contents[1].startswith("val: 1 clip")


def test_files_that_are_being_written_are_no_clips(tmp_path: Path, quick: None) -> None:
    videos, out = touch(tmp_path / "videos", "a/1.mp4", "b/1.mp4"), touch(tmp_path / "out", ".a__1.7.part.safetensors")
    assert len(prepare_folder(videos, out, None).prepared) == 2 and len(read_clips(out)) == 2
