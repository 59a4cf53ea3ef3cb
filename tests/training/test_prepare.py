"""What is prepared under which name: nothing is taken for something else, and nothing is left out in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training import prepare
from comfyui_mytalk.training.prepare import find_sources, prepare_folder


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
