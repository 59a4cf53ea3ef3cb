"""Which clips are taken, and what the report makes of their figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.clips import find_clips
from comfyui_mytalk.evaluation.report import Table, write_report


def make_folder(root: Path) -> Path:
    rows = []
    for corpus, count in (("grid", 4), ("web", 1), ("tv", 2)):
        for i in range(count):
            name = f"val/{corpus}-{i}.mp4"
            rows.append({"file": name, "split": "val", "corpus": corpus, "identity": f"{corpus}{i}"})
            (root / "val").mkdir(exist_ok=True)
            (root / name).touch()
    rows.append({"file": "train/x.mp4", "split": "train", "corpus": "web"})
    (root / "index.json").write_text(json.dumps(rows))
    return root


def test_limit_takes_from_each_corpus_in_turn(tmp_path: Path) -> None:
    clips = find_clips(make_folder(tmp_path), split="val", limit=4)
    assert [clip.name for clip in clips] == ["val/grid-0.mp4", "val/tv-0.mp4", "val/web-0.mp4", "val/grid-1.mp4"]
    assert len(find_clips(tmp_path, split="val")) == 7
    assert len(find_clips(tmp_path)) == 8
    assert {clip.corpus for clip in find_clips(tmp_path, corpus="grid")} == {"grid"}


def test_a_folder_without_an_index_is_listed(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MOV", "note.txt"):
        (tmp_path / name).touch()
    assert [clip.name for clip in find_clips(tmp_path)] == ["a.MOV", "b.mp4"]


@pytest.mark.parametrize("problem", ["missing", "empty", "split", "index"])
def test_bad_folders_are_named(tmp_path: Path, problem: str) -> None:
    folder = tmp_path / "clips"
    if problem != "missing":
        folder.mkdir()
    if problem in ("split", "index"):
        make_folder(folder)
    if problem == "index":
        (folder / "index.json").write_text('{"file": 3}')
    with pytest.raises(InputError, match="clips") as error:
        find_clips(folder, split="test" if problem == "split" else None)
    assert "\n" not in str(error.value)


def filled() -> Table:
    table = Table()
    for i, value in enumerate([1.0, 1.0, 1.0, 5.0]):
        corpus = "web" if i == 3 else "grid"
        table.add("paired", "mytalk", f"{i}.mp4", corpus, {"opening_correlation": value, "psnr_mouth": value})
        table.add("paired", "static mouth", f"{i}.mp4", corpus, {"opening_correlation": 0.0})
    return table


def test_a_large_corpus_does_not_drown_a_small_one() -> None:
    figures = filled().summary()["paired"]["mytalk"]["opening_correlation"]
    assert figures["median"] == 1
    assert figures["mean"] == 2
    assert figures["mean_of_corpora"] == 3
    assert figures["per_corpus"] == {"grid": 1, "web": 5}
    assert figures["per_clip"]["3.mp4"] == 5


def test_report_is_written_whole_and_says_what_a_method_lacks(tmp_path: Path) -> None:
    write_report(tmp_path / "new" / "report", filled().summary(), {"clips": 4})
    folder = tmp_path / "new" / "report"
    assert sorted(path.name for path in folder.iterdir()) == ["report.json", "report.md"]
    report = json.loads((folder / "report.json").read_text())
    assert report["paired"]["mytalk"]["psnr_mouth"]["mean"] == 2
    assert report["about"] == {"clips": 4}
    row = next(line for line in (folder / "report.md").read_text().splitlines() if line.startswith("| static mouth"))
    assert row == "| static mouth | – | 0 |"
