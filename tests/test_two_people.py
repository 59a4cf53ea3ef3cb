"""A film that cuts between two people: each speaks with a mouth of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from comfyui_mytalk import pipeline
from comfyui_mytalk.appearance.bank import ReferenceBank, joined
from comfyui_mytalk.appearance.params import PRESETS
from comfyui_mytalk.frames import TensorSource
from comfyui_mytalk.geometry import geometry
from comfyui_mytalk.landmarks.canonical import from_canonical, mouth_opening, to_canonical
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.motion.edit import MotionEdit, edit_motion
from comfyui_mytalk.motion.generate import MotionOptions, speak
from comfyui_mytalk.motion.identity import IdentityExtractor, identity_tokens
from comfyui_mytalk.motion.model import MotionModel
from comfyui_mytalk.motion.params import IdentityParams, MotionParams
from comfyui_mytalk.sync import fit_track
from tests.synthetic_clips import face, opening_curve, pose, talking

HALF = 40
TIMES = torch.arange(2 * HALF).double() / 25
PEOPLE = torch.arange(2 * HALF) // HALF
WIDTHS = (0.8, 1.2)
LOWER = landmark_set("generated")


def track() -> FaceTrack:
    """A narrow face, then a wide one."""
    opening = opening_curve(TIMES, 0)
    faces = torch.cat([talking(face(width), opening[who == PEOPLE]) for who, width in enumerate(WIDTHS)])
    points = from_canonical(faces, pose(2 * HALF))
    return FaceTrack(points, torch.ones(2 * HALF, dtype=torch.bool), TIMES, (256, 256), people=PEOPLE)


def mouth_width(film: FaceTrack) -> torch.Tensor:
    canonical = to_canonical(film.points, film.pose)
    return canonical[:, 291, 0] - canonical[:, 61, 0]


def test_everybody_rests_as_they_do() -> None:
    torch.manual_seed(0)
    model = MotionModel(
        MotionParams(
            speech_in=6, speech_dim=8, speech_layers=1, speech_heads=2, speech_ffn=16, dim=16, layers=2, heads=2,
            ffn=16, identity_dim=4, frames=20, overlap=6, relative=True, components=5, rotary=True,
        )
    ).eval()  # fmt: skip
    extractor = IdentityExtractor(IdentityParams(width=16, layers=2, dim=4)).eval()
    film, told = track(), []
    features = torch.randn(2 * len(film), 6, generator=torch.Generator().manual_seed(0))
    options = MotionOptions(steps=2, strength=0.0, match_range=False)
    spoken = speak(model, film, features, identity_tokens(extractor, film), options, lambda *step: told.append(step))
    filmed = mouth_width(film)
    for who in range(2):
        assert (mouth_width(spoken) - filmed)[who == PEOPLE].abs().max() < 0.02
    assert filmed[0] < filmed[-1] - 1, "the resting mouth of both together would fit neither"
    assert told == sorted(told) and told[-1][0] == told[-1][1]
    quiet = edit_motion(film, spoken, MotionEdit(strength=0.0))
    assert (mouth_width(quiet) - filmed).abs().max() < 0.02
    others = torch.ones(478, dtype=torch.bool)
    others[LOWER] = False
    assert torch.equal(spoken.points[:, others], film.points[:, others])
    wide = film.replace(found=film.found & (PEOPLE == 1), people=None)
    styled = speak(model, film, features, identity_tokens(extractor, film), options, style=wide)
    assert (mouth_width(styled) - filmed[-1]).abs().max() < 0.02, "a style clip says for everybody how mouths rest"


def test_mouths_that_never_speak_rest_as_their_own_close_in_speech() -> None:
    spoken = track()
    still = torch.cat([talking(face(width), torch.full((HALF,), 0.1)) for width in WIDTHS])
    film = spoken.replace(points=from_canonical(still, pose(2 * HALF)))
    quiet = edit_motion(film, spoken, MotionEdit(strength=0.0))
    for who in range(2):
        alone = film.replace(found=film.found & (who == PEOPLE), people=None)
        own = edit_motion(alone, spoken.replace(found=alone.found, people=None), MotionEdit(strength=0.0))
        assert torch.equal(quiet.points[who == PEOPLE], own.points[who == PEOPLE])


def test_nobody_is_painted_from_the_other() -> None:
    film, params = track(), PRESETS["small"]
    frames = torch.full((2 * HALF, 256, 256, 3), 60, dtype=torch.uint8)
    frames[HALF:] = 180
    place = geometry(film)
    bank = pipeline.select_references(TensorSource(frames, 25), film, place, 12)
    assert bank.people.tolist() == [0] * int((bank.people == 0).sum()) + [1] * int((bank.people == 1).sum())
    assert (bank.frames < HALF).tolist() == (bank.people == 0).tolist()
    schedule = pipeline.reference_schedule(bank, film, place, params)
    assert (bank.people[schedule.index] == PEOPLE[:, None]).all()
    strangers = (bank.people != PEOPLE[:, None]) * schedule.share
    assert strangers.abs().max() < 1e-4
    early = film[: HALF + 10]
    trimmed = pipeline.reference_schedule(bank, early, geometry(early), params)
    assert (bank.people[trimmed.index] == PEOPLE[: HALF + 10, None]).all(), "a speech that is shorter than the film"
    begun = film[: int(bank.frames.min())]
    alone = pipeline.reference_schedule(bank, begun, geometry(begun), params)
    assert (alone.share[:, bank.people == 1]).abs().max() < 1e-4, "not one of the bank's frames is left of the film"
    shown = bank.gather(schedule[[5, HALF + 5]])
    for row, who in enumerate((0, 1)):
        own = mouth_opening(bank.points[bank.people == who])
        torch.testing.assert_close(shown.openings[row], torch.stack(own.aminmax()))
    alone = bank.gather(pipeline.reference_schedule(bank, film, place, replace(params, references=1))[[5, HALF + 5]])
    torch.testing.assert_close(alone.openings, shown.openings)
    fixed = pipeline.select_references(TensorSource(frames, 25), film, place, 3, fixed=True)
    few = pipeline.reference_schedule(fixed, film, place, replace(params, regression=False, detail=0.0))
    assert (fixed.people[few.index] == PEOPLE[:, None]).all()


def test_the_bar_of_several_peoples_references_never_goes_back() -> None:
    class Film:  # is read for each of them, as files are
        def pick(self, wanted: torch.Tensor, size: int):
            for at in wanted.split(size):
                yield torch.full((len(at), 256, 256, 3), 60, dtype=torch.uint8), torch.arange(len(at)), at

    film, told = track(), []
    pipeline.select_references(Film(), film, geometry(film), 4, progress=lambda *step: told.append(step))
    assert told == sorted(told) and told[-1][0] == told[-1][1]


@pytest.mark.parametrize(("sizes", "kept"), [((512, 512), 512), ((512, 768), None), ((None, 512), None)])
def test_larger_pictures_of_close_ups_are_kept_where_all_have_them(sizes, kept) -> None:
    def bank(size: int | None) -> ReferenceBank:
        full = None if size is None else torch.zeros(2, 3, size, size, dtype=torch.uint8)
        return ReferenceBank(torch.zeros(2, 3, 8, 8), torch.zeros(2, 478, 2), torch.zeros(2), torch.arange(2), full)

    both = joined([bank(size) for size in sizes], [4, 7], torch.zeros(478, 2))
    assert both.people.tolist() == [4, 4, 7, 7] and both.frames.tolist() == [0, 1, 0, 1]
    assert (None if both.full is None else both.full.shape[-1]) == kept


def test_pictures_of_another_clip_serve_everybody() -> None:
    film, frames = track(), torch.full((2 * HALF, 256, 256, 3), 60, dtype=torch.uint8)
    other = film.replace(points=film.points + 3.0)
    bank = pipeline.select_references(TensorSource(frames, 25), other, geometry(other), 6)
    schedule = pipeline.reference_schedule(bank, film, geometry(film), PRESETS["small"])
    assert len(schedule.index) == len(film)


def test_the_timeline_of_the_output_knows_who_is_shown() -> None:
    index = torch.tensor([0, 50, 10, 79])
    assert fit_track(track(), index, TIMES[:4]).people.tolist() == [0, 1, 0, 1]
