"""Which clips are taken, and what the report makes of their figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation import report as report_module
from comfyui_mytalk.evaluation.clips import Clip, find_clips
from comfyui_mytalk.evaluation.page import Exhibit, html_page
from comfyui_mytalk.evaluation.plot import MADE, opening_plot
from comfyui_mytalk.evaluation.report import Table, write_report
from comfyui_mytalk.evaluation.statistics import Bootstrap, resample
from comfyui_mytalk.training.sources import find_sources
from comfyui_mytalk.video.media import VIDEO_SUFFIXES


def make_folder(root: Path) -> Path:
    rows = []
    for corpus, count in (("grid", 4), ("web", 1), ("tv", 2)):
        for i in range(count):
            name = f"val/{corpus}-{i}.mp4"
            rows.append({"file": name, "split": "val", "corpus": corpus, "identity": f"{corpus}{i}"})
            (root / "val").mkdir(exist_ok=True)
            (root / name).touch()
    rows.append({"file": "train/x.mp4", "split": "train", "corpus": "web"})
    (root / "train").mkdir(exist_ok=True)
    (root / "train" / "x.mp4").touch()
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


def test_every_video_that_prepare_takes_is_found(tmp_path: Path) -> None:
    for suffix in (*VIDEO_SUFFIXES, ".txt"):
        (tmp_path / f"clip{suffix}").touch()
    found = [clip.path for clip in find_clips(tmp_path)]
    assert found == [source.path for source in find_sources(tmp_path, None)] and len(found) == len(VIDEO_SUFFIXES)


def test_fields_of_an_index_may_be_numbers_or_null(tmp_path: Path) -> None:
    """As `prepare` takes them; people of both kinds could not be sorted once all clips were scored."""
    rows = [{"file": "a.mp4", "identity": 0, "corpus": None}, {"file": "b.mp4", "identity": None, "corpus": "grid"}]
    for row in rows:
        (tmp_path / row["file"]).touch()
    (tmp_path / "index.json").write_text(json.dumps(rows))
    found = {clip.name: (clip.identity, clip.corpus) for clip in find_clips(tmp_path)}
    assert found == {"a.mp4": ("0", "all"), "b.mp4": ("", "grid")}


@pytest.mark.parametrize("choice", [{"split": "val"}, {"corpus": "grid"}])
def test_a_split_or_corpus_that_nobody_tells_is_refused(tmp_path: Path, choice: dict[str, str]) -> None:
    """People who were trained on were scored as those held out."""
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match=r"got the (split val|corpus grid), which only an index tells"):
        find_clips(tmp_path, **choice)


def test_a_split_or_corpus_that_the_index_lacks_is_named_with_those_it_has(tmp_path: Path) -> None:
    """The videos were said to be missing, which were there."""
    make_folder(tmp_path)
    with pytest.raises(InputError, match=r"got the split 'valid', the clips of .*index.json have train and val$"):
        find_clips(tmp_path, split="valid")
    with pytest.raises(InputError, match=r"got the corpus 'LRS9', the clips of .*index.json have "):
        find_clips(tmp_path, corpus="LRS9")


def test_rows_of_other_folders_are_left_out_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (make_folder(tmp_path) / "val" / "tv-1.mp4").unlink()
    assert len(find_clips(tmp_path)) == 7
    assert "1 of the 8 clips of the index, such as val/tv-1.mp4, are not in" in caplog.text


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
    """Three clips of two people in one corpus, one clip in another."""
    corpora, people = ("grid", "grid", "grid", "web"), ("a", "a", "b", "c")
    table = Table([Clip(Path(), f"{i}.mp4", c, p) for i, (c, p) in enumerate(zip(corpora, people, strict=True))])
    for i, value in enumerate([1.0, 1.0, 2.0, 5.0]):
        table.add("paired", "mytalk", f"{i}.mp4", {"opening_correlation": value, "psnr_mouth": value})
        table.add("paired", "static mouth", f"{i}.mp4", {"opening_correlation": 0.0})
    return table


def test_a_large_corpus_does_not_drown_a_small_one() -> None:
    figures = filled().summary()["paired"]["mytalk"]["opening_correlation"]
    assert figures["median"] == 1.5
    assert figures["mean"] == 2.25
    assert figures["mean_of_corpora"] == 3
    assert figures["per_corpus"] == {"grid": 1, "web": 5}
    assert figures["per_clip"]["3.mp4"] == 5
    low, high = figures["ci"]["mean_of_corpora"]
    assert (low, high) == (3, 3.5), "grid's people are both a (median 1), or both b (median 2), or one of each"


def test_intervals_are_over_people_and_of_yes_and_no_there_is_no_median(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(report_module, "Bootstrap", lambda *who: drawn.append(who) or Bootstrap(*who))
    table = filled()
    table.add("paired", "mytalk", "3.mp4", {"in_sync": 1.0, "jerk": 1.0})
    lines = report_module.markdown({"about": {}, **table.summary()}).splitlines()
    assert drawn == [(["grid", "grid", "grid", "web"], ["a", "a", "b", "c"])]
    assert (
        sum(line.startswith("| jerk") for line in lines) == 2
        and sum(line.startswith("| in sync") for line in lines) == 1
    )


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    draw, covered = np.random.default_rng(1), 0
    for seed in range(100):
        values = draw.normal(size=30)
        low, high = Bootstrap(["x"] * 30, [str(i) for i in range(30)], seed).intervals(values)["median"]
        covered += low <= 0 <= high
    assert 88 <= covered <= 99


def test_clips_of_one_person_are_no_independent_evidence() -> None:
    values = np.repeat(np.linspace(0, 1, 10), 4)
    alone = Bootstrap(["x"] * 40, [str(i) for i in range(40)]).intervals(values)["median"]
    grouped = Bootstrap(["x"] * 40, [str(i // 4) for i in range(40)]).intervals(values)["median"]
    assert grouped[1] - grouped[0] > 1.3 * (alone[1] - alone[0])


def test_one_person_of_a_corpus_gives_no_interval_of_no_width() -> None:
    """All draws are that person: `38 (38 … 38)` read as certain."""
    nothing = {"median": [], "mean_of_corpora": []}
    alone = Bootstrap(["x", "x", "y"], ["a", "a", "b"])
    assert alone.intervals(np.array([1.0, 2.0, 3.0])) == nothing
    beside = Bootstrap(["x", "x", "y"], ["a", "b", "c"])
    assert beside.intervals(np.array([1.0, np.nan, 3.0])) == nothing
    assert beside.intervals(np.array([1.0, 2.0, 3.0]))["mean_of_corpora"] == [2.0, 2.5]
    table = Table([Clip(Path(), "a", "all")])
    table.add("paired", "mytalk", "a", {"psnr": 38.0})
    assert "| PSNR | 38 |" in report_module.markdown({"about": {}, **table.summary()})


def test_a_person_who_is_drawn_is_drawn_with_all_clips() -> None:
    rows = resample([0, 1, 2], ["a", "a", "b"], np.random.default_rng(0))
    first, second, other = ((rows == clip).sum(1) for clip in range(3))
    assert (first == second).all() and set(first) == {0, 1, 2} and (first + other == 2).all()


def test_a_figure_that_a_clip_cannot_give_is_left_out() -> None:
    table = Table([Clip(Path(), name, "all") for name in ("a", "b")])
    table.add("paired", "mytalk", "a", {"closure_f1": 0.5, "jerk": 1.0})
    table.add("paired", "mytalk", "b", {"jerk": 2.0})
    figures = table.summary()["paired"]["mytalk"]
    assert figures["closure_f1"]["per_clip"] == {"a": 0.5}
    assert figures["closure_f1"]["median"] == 0.5
    json.dumps(figures, allow_nan=False)


def test_report_is_written_whole_and_says_what_a_method_lacks(tmp_path: Path) -> None:
    table = filled()
    del table.rows["paired"]["static mouth"]["0.mp4"]
    report = {"about": {"clips": 4}, "failed": {"x.mp4": "no face"}, **table.summary()}
    folder = tmp_path / "new" / "report"
    write_report(folder, report, html_page(report, "mytalk", {}))
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    assert json.loads((folder / "report.json").read_text()) == report
    row = next(line for line in (folder / "report.md").read_text().splitlines() if line.startswith("| PSNR mouth"))
    assert row == "| PSNR mouth | 3 (3 … 3.5) | – |"
    assert "| clips | 4 | 3 |" in (folder / "report.md").read_text()
    assert "no face" in (folder / "report.html").read_text()


def test_the_worst_clip_comes_first() -> None:
    report = {"about": {}, **filled().summary()}
    page = html_page(report, "mytalk", {"paired": {f"{i}.mp4": Exhibit(b"\x89PNG") for i in (3, 0, 2)}})
    places = [page.index(f"<b>{i}.mp4</b>") for i in (0, 2, 3)]
    assert places == sorted(places)


def test_a_wider_mouth_is_drawn_higher() -> None:
    def height(opening: float) -> int:
        plot = np.asarray(opening_plot(torch.full((50,), opening), torch.full((50,), 1.4), None, "")).astype(int)
        red = (plot == np.array([int(MADE[i : i + 2], 16) for i in (1, 3, 5)])).all(-1)
        return int(red.any(1).nonzero()[0][0])

    assert height(1.2) < height(0.6) < height(0.1)
