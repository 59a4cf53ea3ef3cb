"""Generation and `speak` with untrained tiny networks: everything that must hold for any weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.canonical import canonical_face, from_canonical, mouth_opening, to_canonical
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.motion import generate
from comfyui_mytalk.motion.edit import INNER_LIP_PAIRS, Manner, close_mouth, match_manner, part_lips
from comfyui_mytalk.motion.generate import (
    MotionOptions,
    fit_length,
    generate_motion,
    resample,
    speak,
)
from comfyui_mytalk.motion.identity import IdentityExtractor, identity_tokens
from comfyui_mytalk.motion.model import MotionModel
from comfyui_mytalk.motion.params import IdentityParams, MotionParams
from tests.synthetic_clips import talking_points

PARAMS = MotionParams(
    speech_in=6, speech_dim=8, speech_layers=1, speech_heads=2, speech_ffn=16, dim=16, layers=2, heads=2, ffn=16,
    identity_dim=4, frames=20, overlap=6, relative=True, components=5, rotary=True,
)  # fmt: skip
FAST = MotionOptions(steps=4)


@pytest.fixture(scope="module")
def model() -> MotionModel:
    torch.manual_seed(0)
    model = MotionModel(PARAMS).eval()
    model.from_channels.mul_(0.2)
    return model


@pytest.fixture(scope="module")
def extractor() -> IdentityExtractor:
    torch.manual_seed(0)
    return IdentityExtractor(IdentityParams(width=16, layers=2, dim=4)).eval()


def conditions(frames: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    shapes = {"features": (2 * frames, 6), "upper": (frames, 103, 2), "identity": (3, 4), "reference": (8, 180, 2)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def make_track(frames: int, fps: float = 25.0, start: float = 0.0) -> FaceTrack:
    points, times = talking_points(frames, fps)
    return FaceTrack(points, torch.ones(frames, dtype=torch.bool), times + start, (256, 256))


def features_for(track: FaceTrack, fps: float) -> Tensor:
    frames = -(-len(track) * 25 // int(fps)) if fps > 1 else 1
    return torch.randn(2 * max(frames, 1), 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("frames", [1, 20, 47, 90])
def test_window_batch_bounds_memory_only(model: MotionModel, frames: int) -> None:
    results = [generate_motion(model, **conditions(frames), options=replace(FAST, window_batch=n)) for n in (1, 3, 8)]
    assert results[0].shape == (frames, 180, 2)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [FAST, replace(FAST, eta=1.0), replace(FAST, sampler="ddpm")])
def test_a_seed_gives_one_result(model: MotionModel, options: MotionOptions) -> None:
    given = conditions(30)
    first = generate_motion(model, **given, options=options)
    torch.manual_seed(99)
    assert torch.equal(generate_motion(model, **given, options=options), first)
    assert not torch.allclose(generate_motion(model, **given, options=replace(options, seed=1)), first)
    assert options is FAST or not torch.allclose(generate_motion(model, **given, options=FAST), first)


def test_strength_scales_the_motion_about_the_resting_face(model: MotionModel) -> None:
    given = conditions(10)
    free = ~torch.isin(landmark_set("generated"), torch.tensor(INNER_LIP_PAIRS))  # points that cannot cross
    rest = given["reference"].mean(0)[free]
    full, half, none = (
        generate_motion(model, **given, options=replace(FAST, strength=s))[:, free] for s in (1, 0.5, 0)
    )
    torch.testing.assert_close(half - rest, 0.5 * (full - rest), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(none, rest.expand_as(none), atol=1e-6, rtol=0)


def test_guidance_changes_the_result_and_zero_is_deaf(model: MotionModel) -> None:
    given = conditions(10)
    plain = generate_motion(model, **given, options=replace(FAST, guidance=1.0))
    assert not torch.allclose(generate_motion(model, **given, options=replace(FAST, guidance=3.0)), plain)
    deaf = [
        generate_motion(model, **{**given, "features": features}, options=replace(FAST, guidance=0.0))
        for features in (given["features"], torch.randn(20, 6))
    ]
    assert torch.equal(*deaf)


def test_no_seam_where_windows_meet(model: MotionModel) -> None:
    """Constant speech: the step from frame to frame is nowhere larger than inside a window."""
    given = conditions(120)
    given["features"] = given["features"][:1].expand(240, -1)
    steps = generate_motion(model, **given, options=MotionOptions(steps=10)).diff(dim=0).norm(dim=-1).mean(1)
    seams = torch.cat([steps[start : start + PARAMS.overlap] for start in range(14, 100, 14)])
    assert seams.mean() < 1.2 * steps.mean()
    assert seams.max() <= steps.quantile(0.98) * 1.5


def test_progress_counts_steps_and_can_cancel(model: MotionModel) -> None:
    seen = []
    generate_motion(model, **conditions(5), options=FAST, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_motion(model, **conditions(5), options=FAST, progress=cancel)


def test_bad_conditions_are_named(model: MotionModel) -> None:
    given = conditions(10)
    with pytest.raises(InputError, match="speech features 7 wide.*expect 6"):
        generate_motion(model, **{**given, "features": torch.randn(20, 7)})
    with pytest.raises(InputError, match="identity tokens 9 wide.*expect 4"):
        generate_motion(model, **{**given, "identity": torch.randn(3, 9)})
    with pytest.raises(InputError, match="sampler 'euler'"):
        MotionOptions(sampler="euler")


@pytest.mark.parametrize("fps", [16, 24, 25, 30, 60])
@pytest.mark.parametrize("frames", [1, 37])
def test_speak_moves_the_lower_face_only(
    model: MotionModel, extractor: IdentityExtractor, fps: int, frames: int
) -> None:
    track = make_track(frames, fps, start=3.2)
    spoken = speak(model, track, features_for(track, fps), identity_tokens(extractor, track), FAST)
    rest = torch.ones(478, dtype=torch.bool)
    rest[landmark_set("generated")] = False
    assert torch.equal(spoken.points[:, rest], track.points[:, rest])
    assert torch.equal(spoken.pose.rotation, track.pose.rotation)
    assert torch.equal(spoken.times, track.times) and spoken.size == track.size
    assert ((spoken.points - track.points)[:, ~rest].norm(dim=-1).amax(1) > 0.1).all()


def test_unusable_frames_stay_as_they_are(model: MotionModel, extractor: IdentityExtractor) -> None:
    track = make_track(40)
    found = track.found.clone()
    found[10:20] = False
    points = track.points.clone()
    points[10:20] = -1000.0
    broken = track.replace(points=points, found=found)
    tokens = identity_tokens(extractor, track)
    spoken = speak(model, broken, features_for(track, 25), tokens, FAST)
    assert torch.equal(spoken.points[10:20], points[10:20])
    assert (spoken.points[found] != points[found]).any(-1).any(-1).all()
    assert spoken.points[found].abs().max() < 1000
    with pytest.raises(InputError, match="no usable face"):
        speak(model, track.replace(found=torch.zeros(40, dtype=torch.bool)), features_for(track, 25), tokens, FAST)


def test_speak_puts_the_generated_shape_at_the_heads_pose(model: MotionModel, extractor: IdentityExtractor) -> None:
    """At 25 fps nothing is interpolated: back in the canonical frame, x and y are exactly what was generated."""
    track = make_track(30)
    tokens, features = identity_tokens(extractor, track), features_for(track, 25)
    lower = landmark_set("generated")
    still = speak(model, track, features, tokens, replace(FAST, strength=0.0))
    canonical = to_canonical(still.points, still.pose)[:, lower, :2]
    torch.testing.assert_close(canonical, canonical[:1].expand_as(canonical), atol=1e-3, rtol=0)


def test_strength_counts_where_the_range_is_matched(
    model: MotionModel, extractor: IdentityExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lip = landmark_set("generated").tolist().index(14)

    def talk(model, features, upper: Tensor, identity, rest: Tensor, options: MotionOptions, *more) -> Tensor:
        lower = rest.mean(0).repeat(len(upper), 1, 1)
        lower[:, lip, 1] -= options.strength * (0.5 + 0.4 * torch.sin(torch.arange(len(upper)) / 3))
        return lower

    monkeypatch.setattr(generate, "generate_motion", talk)
    track = make_track(60)
    given = (track, features_for(track, 25), identity_tokens(extractor, track))
    spoken = [speak(model, *given, replace(FAST, strength=strength)) for strength in (0.5, 1.0)]
    half, full = (mouth_opening(to_canonical(each.points, each.pose)).std().item() for each in spoken)
    assert half == pytest.approx(full / 2, rel=0.1)


def test_speech_of_another_length_is_refused() -> None:
    times = torch.arange(50, dtype=torch.float64) / 25
    assert len(fit_length(torch.randn(104, 6), times)) == len(fit_length(torch.randn(96, 6), times)) == 100
    with pytest.raises(InputError, match="1.80 s of speech for 2.00 s of video"):
        fit_length(torch.randn(90, 6), times)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strength", -0.5), ("strength", float("nan")), ("strength", float("inf")), ("guidance", float("nan")),
        ("guidance", -1.0), ("variation", float("inf")), ("variation", -1.0), ("eta", 1.5), ("seed", -1),
        ("seed", 2**64),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused_at_once(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"got {name} "):
        MotionOptions(**{name: value})


def test_every_seed_of_a_node_is_taken(model: MotionModel) -> None:
    for seed in (0, 2**63, 2**64 - 1):
        assert len(generate_motion(model, **conditions(4), options=replace(FAST, seed=seed))) == 4


def test_a_film_that_slows_down_is_as_long_as_its_last_frames_say() -> None:
    times = torch.cat([torch.arange(60) / 30, 2.0 + torch.arange(18)]).double()
    assert len(fit_length(torch.randn(50 * 20, 6), times)) == 2 * (19 * 25 + 1)


def test_resampling_is_exact_on_constants_and_samples_and_never_overshoots() -> None:
    times = torch.arange(30, dtype=torch.float64) / 29.97
    at = torch.linspace(-0.1, 1.2, 77, dtype=torch.float64)
    constant = torch.full((30, 2, 3), 1.234)
    assert torch.equal(resample(constant, times, at), constant[:1].expand(77, -1, -1))
    values = torch.randn(30, 4)
    torch.testing.assert_close(resample(values, times, times), values)
    closed = values.clamp(min=0)
    assert resample(closed, times, at).min() >= 0
    assert torch.equal(resample(values[:1], times[:1], at), values[:1].expand(77, -1))


def test_lips_meet_but_do_not_pass_through_each_other() -> None:
    points = landmark_set("generated").tolist()
    lower = canonical_face()[points][None, :, :2].repeat(3, 1, 1)
    upper, under = points.index(13), points.index(14)
    lower[0, under, 1], lower[1, under, 1] = lower[0, upper, 1] - 0.5, lower[1, upper, 1] + 0.3
    parted = part_lips(lower)
    assert torch.equal(parted[0, [upper, under]], lower[0, [upper, under]]), "an open mouth stays as it is"
    assert parted[1, upper, 1] == parted[1, under, 1] == (lower[1, upper, 1] + lower[1, under, 1]) / 2
    assert torch.equal(parted[:, points.index(152)], lower[:, points.index(152)])
    assert torch.equal(part_lips(parted), parted)


def test_the_mouth_opens_as_far_as_the_person_does() -> None:
    points, closed = landmark_set("generated").tolist(), canonical_face()[landmark_set("generated"), :2]
    lower = closed.repeat(50, 1, 1)
    lower[:, points.index(14), 1] -= 0.5 + 0.4 * torch.sin(torch.arange(50) / 3)

    def spread(face: Tensor) -> float:
        return (face[:, points.index(13)] - face[:, points.index(14)]).norm(dim=-1).std(correction=0).item()

    def matched(range_: float) -> Tensor:
        return match_manner(lower, Manner(closed[None], range_, 9.0, None))

    assert spread(matched(1.2 * spread(lower))) == pytest.approx(1.2 * spread(lower), rel=1e-3)
    assert spread(matched(9.0)) < 2 * spread(lower), "within limits"


def test_who_does_not_talk_in_the_clip_moves_as_most_people_do() -> None:
    """A still shows no manner; and motion adds to its resting mouth, which may be that of somebody who sings."""
    points, rest = landmark_set("generated").tolist(), canonical_face()[landmark_set("generated"), :2]
    upper, under = points.index(13), points.index(14)

    def openings(resting: float, far: float, spread: float = 0.0, widest: float = 0.0) -> Tensor:
        rest[under] = rest[upper] - torch.tensor([0.0, resting])
        lower = rest.repeat(63, 1, 1)
        lower[:, under, 1] -= 0.5 * far * (1 - torch.cos(torch.arange(63) / 5))
        matched = match_manner(lower, Manner(rest[None], spread, widest, None if spread else rest))
        return matched[:, upper, 1] - matched[:, under, 1]

    def spread(values: Tensor) -> float:
        return float(values.std(correction=0))

    assert spread(openings(0.0, 0.8)) == pytest.approx(0.4, abs=0.02), "a mumbler speaks up"
    assert spread(openings(0.0, 0.3)) == pytest.approx(1.6 * 0.3 / 8**0.5, abs=0.01), "within limits"
    for resting in (0.0, 0.7, 1.9, 2.8):
        found = openings(resting, 3.0)
        assert found.min() == pytest.approx(resting, abs=1e-4), "at rest it rests as it did"
        assert max(1.9, resting + 0.3) < found.max() <= max(2.2, resting + 0.4)
    assert torch.equal(openings(0.0, 1.0, 0.05), openings(0.0, 1.0, 0.1)), "a smile is not talk"
    talker = openings(0.0, 3.0, 0.9, widest=3.0)
    assert spread(talker) == pytest.approx(0.9, abs=0.15) and talker.max() > 2.2, "a talker's own manner counts"
    limited = openings(0.0, 3.0, 0.9, widest=1.5)
    assert 1.6 < limited.max() < 1.3 * 1.5, "hardly wider than the clip shows"
    assert torch.equal(limited[talker < 1.5], talker[talker < 1.5])


def test_a_mouth_is_shut_by_the_likeliest_movement() -> None:
    """Of two ways to shut it, the one that motions have more often."""
    points, lower = landmark_set("generated").tolist(), canonical_face()[landmark_set("generated"), :2]
    upper, under = ([points.index(pair[side]) for pair in INNER_LIP_PAIRS] for side in (0, 1))
    lower[under, 1] = lower[upper, 1] - 1.0
    components = torch.zeros(2, 180, 2)
    components[0, under, 1] = 0.9  # the lower lip
    components[1, upper, 1] = -0.1  # the upper lip, ever so little
    shut = close_mouth(lower, components.flatten(1))
    assert (shut[upper, 1] - shut[under, 1]).abs().max() < 0.01
    assert (shut - lower)[under, 1].min() > 0.9 and (shut - lower)[upper, 1].abs().max() < 0.1
    torch.testing.assert_close(close_mouth(shut, components.flatten(1)), shut, atol=5e-3, rtol=0)


def test_an_open_mouth_has_the_persons_shape_and_a_closed_one_stays_closed() -> None:
    points, closed = landmark_set("generated").tolist(), canonical_face()[landmark_set("generated"), :2]
    upper, under = points.index(13), points.index(14)
    closed[under] = closed[upper]
    lower = closed.repeat(60, 1, 1)
    lower[:, under, 1] -= (0.8 * torch.sin(torch.arange(60) / 3)).clamp(min=0)
    opening = lower[:, upper, 1] - lower[:, under, 1]
    parted = lower[opening > 0.25].mean(0)
    parted[:, 0] *= 1.05  # a wider mouth
    spread = opening.std(correction=0).item()
    matched = match_manner(lower, Manner(closed[None], spread, 9.0, parted))
    shut = opening == 0
    assert torch.equal(matched[shut], lower[shut])
    before, after = ((face[opening > 0.25].mean(0) - parted).norm(dim=-1).mean() for face in (lower, matched))
    assert after < 0.35 * before
    far = match_manner(lower, Manner(closed[None], spread, 9.0, parted + 5.0))
    assert (far - lower).norm(dim=-1).mean(-1).max() < 0.7, "within limits"


def test_a_clip_of_another_mood_gives_its_resting_mouth(model: MotionModel, extractor: IdentityExtractor) -> None:
    """Section 4.3: with no articulation left, the mouth rests as it does in the style clip."""
    track, smiling = make_track(30), make_track(40)
    corners = torch.tensor([61, 291])
    smiling.points[:, corners, 1] -= 4.0  # pixels: up
    tokens, still = identity_tokens(extractor, smiling), replace(FAST, strength=0.0)
    plain, styled = (speak(model, track, features_for(track, 25), tokens, still, style=s) for s in (None, smiling))
    raised = (plain.points - styled.points)[:, corners, 1]
    assert raised.min() > 2.0


def test_depth_is_not_smoothed_from_one_shot_into_the_next(model: MotionModel, extractor: IdentityExtractor) -> None:
    track, cut = make_track(60), 30
    canonical, lower = to_canonical(track.points, track.pose), landmark_set("generated")
    canonical[cut:, lower, 2] -= 1.0  # another lens, another guess of the mesh
    points = from_canonical(canonical, track.pose)
    points[cut:, :, 0] += 100.0
    film = track.replace(points=points)
    spoken = speak(model, film, features_for(film, 25), identity_tokens(extractor, film), FAST)
    depth = to_canonical(spoken.points, film.pose)[:, lower, 2].mean(1)
    filmed = canonical[:, lower, 2].mean(1)
    assert (depth - filmed)[cut - 3 : cut + 3].abs().max() < 0.1
