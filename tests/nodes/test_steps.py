"""The nine nodes on a real face: what goes in, what comes out, what must not change."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F


def test_track_has_a_row_for_every_frame(clip) -> None:
    assert len(clip.track) == len(clip.images) and clip.track.usable.all()
    assert clip.track.times.diff().mean().item() == pytest.approx(1 / clip.fps)
    assert clip.report.startswith("face found in 10 of 10 frames")


def test_motion_moves_the_lower_face_only(clip) -> None:
    moved = (clip.motion.points - clip.track.points).norm(dim=-1).amax(0)
    assert moved[[13, 14, 17, 152]].min() > 0.05, "lips and chin"
    assert moved[[33, 263, 10, 4, 168]].max() == 0, "eyes, forehead, nose"


def test_landmark_images_show_lips_in_red(clip) -> None:
    assert clip.landmark_images.shape == (10, 256, 256, 3)
    red = clip.landmark_images[0, ..., 0]
    rows = red.sum(1).nonzero()[:, 0]
    assert rows.min() > 100 and rows.max() < 220, "the mouth lies below the middle of the crop"


def test_landmark_images_are_black_where_there_is_no_face(host, clip) -> None:
    lost = clip.track.replace(found=torch.arange(10) < 3, filled=None)
    drawn = host.run("MyTalkRenderLandmarkImage", track=lost)[0]
    assert drawn[:3].amax((1, 2, 3)).min() > 0 == drawn[3:].max()


def test_references_show_lips_only(clip) -> None:
    assert clip.lips.shape[1:] == (256, 256, 3) and len(clip.lips) <= 6
    assert clip.lips[:, :60].abs().max() == 0, "eyes are hidden"
    assert clip.lips[:, 128:200, 96:160].mean() > 0.1


def test_crops_have_masks_of_their_size(clip) -> None:
    assert clip.crops.shape == (10, 256, 256, 3) and clip.crop_mask.shape == (10, 256, 256)
    assert clip.crops.min() >= 0 and clip.crops.max() <= 1 and clip.crop_mask.max() == 1


def test_pixels_outside_the_mask_are_the_inputs_own(clip) -> None:
    outside = clip.mask == 0
    assert outside.float().mean() > 0.5
    assert torch.equal(clip.frames[outside], clip.images[outside])
    assert not torch.equal(clip.frames, clip.images)


def test_all_in_one_gives_what_single_steps_give(host, clip) -> None:
    from tiny import NAMES

    names = {
        "speech_encoder": NAMES["speech"],
        "identity_model": NAMES["identity"],
        "motion_model": NAMES["motion"],
        "appearance_model": NAMES["appearance"],
    }
    inputs = {"images": clip.images, "fps": clip.fps, "seed": 3, "steps": 4, "reference_count": 6, **names}
    frames, speech, mask, report, fps = host.run("MyTalkLipSync", audio=clip.audio, silence_gate=0.0, **inputs)
    assert (frames - clip.frames).abs().max() < 1e-4
    assert (mask - clip.mask).abs().max() < 1e-4
    assert torch.equal(speech["waveform"], clip.speech["waveform"])
    assert "10 of 10 frames" in report and "0.50 s of speech for 0.42 s" in report and fps == clip.fps


def test_a_kept_hand_stays_in_front(host, clip) -> None:
    """In one node and in single steps alike: nothing under the mask changes, and the rest is as without it."""
    from tiny import NAMES

    keep = torch.zeros(clip.images.shape[:3])
    keep[:, :, : clip.images.shape[2] // 2] = 1
    names = {f"{role}_model": NAMES[role] for role in ("identity", "motion", "appearance")}
    inputs = {"images": clip.images, "fps": clip.fps, "seed": 3, "steps": 4, "speech_encoder": NAMES["speech"], **names}
    inputs |= {"reference_count": 6, "silence_gate": 0.0}
    frames, _, mask, _, _ = host.run("MyTalkLipSync", audio=clip.audio, keep_mask=keep[:1], **inputs)
    assert torch.equal(frames[keep == 1], clip.images[keep == 1]) and mask[keep == 1].max() == 0
    assert mask[keep == 0].max() == 1
    pasted, new = host.run(
        "MyTalkPasteBack",
        images=clip.images,
        crops=clip.crops,
        crop_mask=clip.crop_mask,
        keep_mask=keep,
        **clip.laid,
    )
    assert torch.equal(pasted[keep == 1], clip.images[keep == 1])
    assert (pasted - clip.frames)[keep == 0].abs().max() < 0.06 and torch.equal(new, clip.mask * (1 - keep))
    assert (frames - pasted)[keep == 0].abs().max() < 0.03
    gloved = torch.where(keep[..., None] == 1, torch.tensor([0.1, 0.9, 0.1]), clip.images)
    rest = {"crops": clip.crops, "crop_mask": clip.crop_mask, "keep_mask": keep, **clip.laid}
    beside, _ = host.run("MyTalkPasteBack", images=gloved, **rest)
    assert (beside - pasted)[keep == 0].abs().max() < 0.03, "no colour is taken from what is kept"


def test_a_microphone_stays_in_front_without_being_told(host, clip) -> None:
    """In one node by itself, and in single steps by the mask of Find Occlusions; or not, when it is switched off."""
    from tiny import NAMES

    images, at = clip.images.clone(), torch.arange(256) + 0.5
    for frame, points in enumerate(clip.track.points):
        x, y = points[152, :2]
        reach = 0.3 * (points[454, 0] - points[234, 0])
        images[frame][(at - x) ** 2 + (at[:, None] - y) ** 2 < reach**2] = 0.08
    seen, report = host.run("MyTalkFindOcclusions", images=images, track=clip.track, model="occlusion_small")
    assert report == "something is in front of the face in 10 of 10 frames"
    bare, report = host.run("MyTalkFindOcclusions", images=clip.images, track=clip.track, model="occlusion_small")
    assert report == "nothing is in front of the face" and bare.max() == 0
    for frame, points in enumerate(clip.track.points):
        (x, y), (nose_x, nose_y) = points[[152, 1], :2].long().tolist()
        assert seen[frame, y, x] > 0.9 and seen[frame, nose_y, nose_x] < 0.1
        middle = (seen[frame].sum(0) * at).sum() / seen[frame].sum()
        assert abs(middle - points[152, 0]) < 5, "the mask moves with the face"
    names = {f"{role}_model": NAMES[role] for role in ("identity", "motion", "appearance")}
    inputs = {"images": images, "audio": clip.audio, "fps": clip.fps, "reference_count": 6, "steps": 1, **names}
    inputs["speech_encoder"] = NAMES["speech"]
    kept, _, new, told, _ = host.run("MyTalkLipSync", **inputs)
    assert "in front of the face in 10 of 10" in told
    front = seen > 0.99
    changed = (kept - images)[front].abs().mean()  # the face is found anew, behind it: not quite the same
    assert new[front].mean() < 0.02 and new.max() == 1
    painted, _, over, told, _ = host.run("MyTalkLipSync", keep_occlusions=False, **inputs)
    assert "in front" not in told and over[front].mean() > 0.2
    assert changed < 0.05 * (painted - images)[front].abs().mean()


def test_frames_with_hidden_lips_are_no_references(host, clip) -> None:
    keep = torch.zeros(clip.images.shape[:3])
    keep[: len(keep) // 2] = 1
    bank, _ = host.run(
        "MyTalkMaskedReferenceSelect",
        images=clip.images,
        track=clip.track,
        mode="nearest mouth",
        count=6,
        keep_mask=keep,
    )
    assert bank.frames.min() >= len(keep) // 2


def test_what_is_told_and_what_is_found_before_the_face_both_count(host, clip, monkeypatch: pytest.MonkeyPatch) -> None:
    module, given = host.module("nodes.masked_reference_select"), []
    monkeypatch.setattr(module, "select_references", lambda *inputs: given.append(inputs[-1]))
    keep = torch.zeros(clip.images.shape[:3])
    keep[:5] = 1
    occlusion = host.module("comfyui_mytalk.appearance.occlusion").Occlusion
    found = occlusion.of([(frame, torch.ones(128, 128)) for frame in range(4, 8)], len(keep))
    for told, seen in ((keep, found), (keep, None), (None, found)):
        module.select(clip.images, clip.track, 6, False, module.Progress(), told, seen)
    covered = [(each.rows >= 0).nonzero()[:, 0].tolist() for each in given]
    assert covered == [list(range(8)), list(range(5)), [4, 5, 6, 7]]


def test_nodes_give_what_the_library_gives(host, clip) -> None:
    """A VIDEO, the widgets at their defaults: frame for frame, up to the rounding of the library's 8-bit frames."""
    from tiny import NAMES, Film

    names = ("pipeline", "frames", "geometry", "landmarks.track")
    pipeline, sources, places, track = (host.module(f"comfyui_mytalk.{name}") for name in names)
    generate, identity, edit = (host.module(f"comfyui_mytalk.motion.{n}") for n in ("generate", "identity", "edit"))
    audio = host.module("comfyui_mytalk.speech.audio")
    appearance, references = (
        host.module("comfyui_mytalk.appearance.model"),
        host.module("comfyui_mytalk.appearance.references"),
    )
    model = host.module("comfyui_mytalk.motion.model").load_motion(NAMES["motion"])
    images = (clip.images * 255).round().byte()
    source = sources.TensorSource(images, clip.fps)
    with torch.inference_mode():
        face = track.track_faces(source.chunks(8), track.load_face_landmarker("cpu"))
        features = clip.features.values
        tokens = identity.identity_tokens(identity.load_identity(NAMES["identity"]), face)
        spoken = generate.speak(model, face, features, tokens)
        heard = audio.speech_16k(audio.Audio(clip.speech["waveform"][0], clip.speech["sample_rate"]))
        spoken = edit.edit_motion(face, spoken, edit.MotionEdit(gate=1.0), heard)
        bank = pipeline.select_references(source, face, places.geometry(face), references.BANK)
        painter, place = appearance.load_appearance(NAMES["appearance"]), places.geometry(face, spoken)
        expected = torch.cat([part[0] for part in pipeline.render_clip(painter, source, spoken, place, bank)])
    names = {f"{role}_model": NAMES[role] for role in ("identity", "motion", "appearance")}
    film = Film(images / 255.0, Fraction(clip.fps))
    inputs = {"images": film, "fps": 1.0, "speech_encoder": NAMES["speech"], **names}
    frames, _, mask, _, fps = host.run("MyTalkLipSync", audio=clip.speech, **inputs)
    assert (frames * 255 - expected).abs().max() < 0.51 and fps == clip.fps
    assert torch.equal(frames[mask == 0], film.parts.images[mask == 0])


def test_all_in_one_keeps_pixels_alpha_and_precision(host, clip) -> None:
    from tiny import NAMES

    names = {f"{role}_model": NAMES[role] for role in ("identity", "motion", "appearance")}
    images = torch.cat([clip.images, clip.images[..., :1]], -1).half()[:4]
    inputs = {"images": images, "audio": clip.audio, "steps": 2, "speech_encoder": NAMES["speech"], **names}
    frames, _, mask, *_ = host.run("MyTalkLipSync", **inputs)
    assert frames.dtype == images.dtype and torch.equal(frames[mask == 0], images[mask == 0])
    assert torch.equal(frames[..., 3], images[..., 3]) and not torch.equal(frames, images)


def test_same_seed_same_frames_other_seed_other_motion(host, clip) -> None:
    from tiny import NAMES

    sampled = {
        "speech_features": clip.features,
        "track": clip.track,
        "identity": clip.identity,
        "model": NAMES["motion"],
        "steps": 4,
    }
    again = host.run("MyTalkLandmarkDiffusionSampler", **sampled, seed=3)[0]
    other = host.run("MyTalkLandmarkDiffusionSampler", **sampled, seed=4)[0]
    assert torch.equal(again.points, clip.motion.points) and not torch.equal(other.points, clip.motion.points)


@pytest.mark.parametrize("kind", ["half", "alpha"])
def test_half_precision_and_alpha_come_out_as_they_went_in(host, clip, kind: str) -> None:
    images = clip.images.half() if kind == "half" else torch.cat([clip.images, clip.images[..., :1]], -1)
    crops, mask = host.run("MyTalkAppearanceVAE", images=images, **clip.painted)
    frames, covered = host.run("MyTalkPasteBack", images=images, crops=crops, crop_mask=mask, **clip.laid)
    assert frames.dtype == images.dtype and frames.shape == images.shape
    assert torch.equal(frames[covered == 0], images[covered == 0])
    assert (frames[..., :3].float() - clip.frames).abs().max() < 0.02
    if kind == "alpha":
        assert torch.equal(frames[..., 3], images[..., 3])


def test_crops_may_come_back_larger_but_not_cut(host, clip) -> None:
    """An upscaler or a restorer between the two nodes: crops of any size cover the same part of the face."""
    larger = F.interpolate(clip.crops.permute(0, 3, 1, 2), scale_factor=2, mode="bicubic").permute(0, 2, 3, 1)
    given = {"images": clip.images, **clip.laid}
    _, mask = host.run("MyTalkAppearanceVAE", images=clip.images, **clip.painted)
    for masks in (mask, F.interpolate(mask[:, None], scale_factor=2, mode="bilinear")[:, 0]):
        frames, covered = host.run("MyTalkPasteBack", crops=larger, crop_mask=masks, **given)
        assert (frames - clip.frames).abs().mean() < 2e-3 and (frames - clip.frames).abs().max() < 0.2
        assert torch.equal(frames[covered == 0], clip.images[covered == 0])
    error = host.module("comfyui_mytalk.errors").InputError
    with pytest.raises(error, match=r"crops: got 512x500 pixels, expected a square"):
        host.run("MyTalkPasteBack", crops=larger[:, :500], crop_mask=mask, **given)
    with pytest.raises(error, match="crop_mask: got 1 mask, but"):
        host.run("MyTalkPasteBack", crops=larger, crop_mask=mask[:1], **given)
    with pytest.raises(error, match="motion: got 1 frame, but the track has 10"):
        host.run("MyTalkPasteBack", crops=larger, crop_mask=mask, **given | {"motion": clip.motion[:1]})
    with pytest.raises(error, match="motion: got 1 frame, but the track has 10"):
        host.run("MyTalkAppearanceVAE", images=clip.images, **clip.painted | {"motion": clip.motion[:1]})


def test_one_mask_of_one_frame_needs_no_count(host, clip) -> None:
    """MASKs of two dimensions are common: several mask nodes give them."""
    one = {"images": clip.images[:1], "crops": clip.crops[:1], "track": clip.track[:1], "motion": clip.motion[:1]}
    frames, _ = host.run("MyTalkPasteBack", crop_mask=clip.crop_mask[0], **one)
    expected, _ = host.run("MyTalkPasteBack", crop_mask=clip.crop_mask[:1], **one)
    assert torch.equal(frames, expected) and not torch.equal(frames, clip.images[:1])


def test_close_ups_are_painted_larger_in_single_steps_as_in_one(host, clip) -> None:
    """With the shipped painter, whose references tell which picture is the nearest."""
    from tiny import NAMES

    images = F.interpolate(clip.images[:4].permute(0, 3, 1, 2), scale_factor=4, mode="bicubic")
    images = images.clamp(0, 1).permute(0, 2, 3, 1)
    model, count = "appearance_small", 4
    track, _ = host.run("MyTalkExtractDenseLandmarks", images=images, fps=clip.fps)
    speech = host.run("MyTalkLoadSpeech", audio=clip.audio, duration=4 / clip.fps)[0]
    features = host.run("MyTalkWav2VecFeatures", audio=speech, encoder=NAMES["speech"])[0]
    identity = host.run("MyTalkIdentityEmbed", track=track, model=NAMES["identity"])[0]
    sampled = {"speech_features": features, "track": track, "identity": identity, "model": NAMES["motion"]}
    motion = host.run("MyTalkLandmarkDiffusionSampler", **sampled, seed=3, steps=4)[0]
    drawn = host.run("MyTalkRenderLandmarkImage", track=motion)[0]
    references, _ = host.run("MyTalkMaskedReferenceSelect", images=images, track=track, count=count)
    painted = {"track": track, "motion": motion, "landmark_images": drawn, "references": references, "model": model}
    crops, mask = host.run("MyTalkAppearanceVAE", images=images, **painted)
    assert crops.shape[1:] == (512, 512, 3) and mask.shape == crops.shape[:3]
    laid = {"crops": crops, "crop_mask": mask, "track": track, "motion": motion}
    frames, covered = host.run("MyTalkPasteBack", images=images, **laid)
    names = {f"{role}_model": NAMES[role] for role in ("identity", "motion")}
    inputs = {"images": images, "audio": clip.audio, "fps": clip.fps, "seed": 3, "steps": 4, "reference_count": count}
    inputs |= {"speech_encoder": NAMES["speech"], "appearance_model": model, "silence_gate": 0.0, **names}
    whole, _, other, *_ = host.run("MyTalkLipSync", **inputs)
    assert (frames - whole).abs().max() < 1e-3 and (covered - other).abs().max() < 1e-4
    assert torch.equal(frames[covered == 0], images[covered == 0]) and (frames - images).abs().max() > 0.05


def test_inputs_are_never_written_to(clip) -> None:
    from tiny import moving_face

    assert torch.equal(clip.images, moving_face())


def test_batches_change_nothing(host, clip, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("appearance_vae", {"cpu": 3}), ("paste_back", 7)):
        monkeypatch.setattr(host.module(f"nodes.{name}"), "BATCH", value)
    crops, mask = host.run("MyTalkAppearanceVAE", images=clip.images, **clip.painted)
    frames, _ = host.run("MyTalkPasteBack", images=clip.images, crops=crops, crop_mask=mask, **clip.laid)
    assert (frames - clip.frames).abs().max() < 1e-4


def test_an_edited_landmark_image_moves_the_painted_mouth(host, clip) -> None:
    """The lower lip drawn a fifth of the mouth's width lower is read, and painted as any other motion."""
    rings = host.module("comfyui_mytalk.landmarks.drawing").LIP_RINGS
    lower = torch.tensor([point for ring in rings for point in ring[1:10]])
    points = clip.track.points.clone()
    right, left = points[:, 61, :1], points[:, 291, :1]
    across = (2 * points[:, lower, 0] - right - left) / (left - right)
    points[:, lower, 1] += 0.2 * (left - right) * (1 - across**2).clamp(min=0)
    opened = clip.track.replace(points=points)
    drawn = host.run("MyTalkRenderLandmarkImage", track=opened)[0]

    module = host.module("nodes.appearance_vae")
    read, edited = module.follow(drawn, clip.track, clip.track, module.Progress())
    middle = slice(14, 15)  # of the lower lip
    error, moved = ((track.points - points)[:, middle, :2].norm(dim=-1) for track in (read, clip.track))
    assert edited.all() and error.max() < 0.4 * moved.min()
    painted = {**clip.painted, "motion": clip.track, "landmark_images": drawn}
    crops, mask = host.run("MyTalkAppearanceVAE", images=clip.images, **painted)
    wanted = {**clip.painted, "motion": read, "landmark_images": host.run("MyTalkRenderLandmarkImage", track=read)[0]}
    expected, room = host.run("MyTalkAppearanceVAE", images=clip.images, **wanted)
    assert torch.equal(mask, room) and (crops - expected).abs().max() < 1e-4
    unmoved = {**wanted, "motion": clip.track, "landmark_images": torch.zeros_like(drawn)}
    assert (crops - host.run("MyTalkAppearanceVAE", images=clip.images, **unmoved)[0])[mask > 0.5].abs().mean() > 0.005


@pytest.mark.parametrize("kind", ["untouched", "eight bits", "resized", "black"])
def test_landmark_images_that_nobody_edited_leave_the_motion(host, clip, kind: str) -> None:
    module = host.module("nodes.appearance_vae")
    images = {
        "untouched": clip.landmark_images,
        "eight bits": (clip.landmark_images * 255).round() / 255,
        "resized": host.run("MyTalkRenderLandmarkImage", track=clip.motion, size=512)[0],
        "black": torch.zeros_like(clip.landmark_images),
    }[kind]
    motion, edited = module.follow(images, clip.track, clip.motion, module.Progress())
    assert motion is clip.motion and not edited.any()


def test_pictures_without_a_mouth_are_refused(host, clip) -> None:
    photographs = {**clip.painted, "landmark_images": clip.images}
    with pytest.raises(ValueError, match="^landmark_images: .*no mouth on this face"):
        host.run("MyTalkAppearanceVAE", images=clip.images, **photographs)


def test_one_frame_is_a_clip(host, clip) -> None:
    from tiny import NAMES

    one = clip.images[:1]
    track, _ = host.run("MyTalkExtractDenseLandmarks", images=one, fps=25.0)
    identity = host.run("MyTalkIdentityEmbed", track=track, model=NAMES["identity"])[0]
    motion = host.run(
        "MyTalkLandmarkDiffusionSampler",
        speech_features=clip.features,
        track=track,
        identity=identity,
        steps=2,
        model=NAMES["motion"],
    )[0]
    assert len(motion) == 1


def test_frames_and_track_of_different_clips_are_refused(host, clip) -> None:
    with pytest.raises(ValueError, match="^images: got 9 frames, .*; connect the same frames to both$"):
        host.run("MyTalkMaskedReferenceSelect", images=clip.images[1:], track=clip.track)


def test_frames_without_a_face_are_refused(host) -> None:
    for face in ("largest", "index"):
        with pytest.raises(ValueError, match="^images: no face found"):
            host.run("MyTalkExtractDenseLandmarks", images=torch.rand(4, 64, 64, 3), face=face)


def test_a_face_that_is_not_there_is_refused(host, clip) -> None:
    with pytest.raises(ValueError, match="^face_index: got face 5"):
        host.run("MyTalkExtractDenseLandmarks", images=clip.images, face="index", face_index=5)
    with pytest.raises(ValueError, match="face: got 'prettiest'"):
        host.run("MyTalkExtractDenseLandmarks", images=clip.images, face="prettiest")


@pytest.mark.parametrize(
    ("start", "duration", "seconds", "shown"),
    [(0.0, 0.0, 0.5, 15), (0.1, 0.0, 0.4, 12), (0.1, 0.2, 0.2, 6), (0.0, 0.21, 0.21, 7)],
)
def test_load_speech_cuts(host, clip, start: float, duration: float, seconds: float, shown: int) -> None:
    speech, frames, length = host.run("MyTalkLoadSpeech", audio=clip.audio, start=start, duration=duration, fps=30.0)
    assert length == pytest.approx(seconds) and frames == shown
    assert speech["waveform"].shape == (1, 1, round(seconds * 16_000))


def test_load_speech_reads_a_file_anew_that_has_changed(host) -> None:
    asked = host.method("MyTalkLoadSpeech", "fingerprint_inputs")
    file = host.base / "input" / "take.wav"
    said = set()
    for content in (b"a", b"bb"):
        file.write_bytes(content)
        said |= {asked(file=file.name), asked(file=file.name)}
    assert len(said) == 2 and asked(file=None) == ""


def test_load_speech_amplifies_without_clipping(host, clip) -> None:
    louder = host.run("MyTalkLoadSpeech", audio=clip.audio, gain=6.0)[0]["waveform"]
    assert (louder.abs().max() / clip.audio["waveform"].abs().max()).item() == pytest.approx(2, rel=0.01)
    assert host.run("MyTalkLoadSpeech", audio=clip.audio, gain=40.0)[0]["waveform"].abs().max() <= 1


def test_load_speech_says_what_is_missing(host, clip) -> None:
    with pytest.raises(ValueError, match="^audio: got no audio, expected speech; choose a file, or connect another"):
        host.run("MyTalkLoadSpeech")
    with pytest.raises(ValueError, match="^duration: got 1e-05 s, which is no sample; keep more, or set 0"):
        host.run("MyTalkLoadSpeech", audio=clip.audio, duration=0.00001)
    with pytest.raises(ValueError, match="start: got 9 s"):
        host.run("MyTalkLoadSpeech", audio=clip.audio, start=9.0)
    assert "gone.wav" in host.method("MyTalkLoadSpeech", "validate_inputs")(file="gone.wav")


@pytest.fixture
def longer(clip) -> dict[str, object]:
    """Enough frames to tune on."""
    from tiny import NAMES

    track = clip.track.replace(
        points=torch.cat([clip.track.points, clip.track.points.flip(0)]),
        found=clip.track.found.repeat(2),
        times=torch.arange(20, dtype=torch.float64) / clip.fps,
        filled=None,
    )
    images = torch.cat([clip.images, clip.images.flip(0)])
    return {"images": images, "track": track, "model": NAMES["appearance"], "steps": 2}


def test_a_tuned_actor_is_painted_by_other_weights_and_kept(host, clip, longer) -> None:
    tuned = host.run("MyTalkTuneActor", **longer)[0]
    kept = host.run("MyTalkTuneActor", **longer)[0]
    assert kept.digest == tuned.digest and kept is not tuned, "read back from the output folder"
    crops, mask = host.run("MyTalkAppearanceVAE", images=clip.images, **clip.painted, tuned=tuned)
    assert torch.equal(mask, clip.crop_mask) and not torch.equal(crops, clip.crops)
    again, _ = host.run("MyTalkAppearanceVAE", images=clip.images, **clip.painted)
    assert torch.equal(again, clip.crops), "the shared weights are as they were"


def test_a_kept_tuning_is_of_the_same_clip_weights_and_options(host, clip) -> None:
    module = host.module("nodes.tune_actor")
    lost = clip.track.replace(found=torch.arange(10) > 2, filled=None)
    moved = clip.track.replace(points=clip.track.points + 1)
    painter = SimpleNamespace(sha256="a")
    same = (clip.images, clip.track, painter, module.TuneOptions(5))
    others = [
        (clip.images.flip(0), *same[1:]),
        *((clip.images, track, *same[2:]) for track in (lost, moved)),
        (*same[:2], SimpleNamespace(sha256="b"), same[3]),
        *((*same[:3], options) for options in (module.TuneOptions(6), module.TuneOptions(5, seed=1))),
    ]
    assert module.fingerprint(*same) == module.fingerprint(clip.images.clone(), *same[1:])
    assert len({module.fingerprint(*given) for given in (same, *others)}) == 1 + len(others)


def test_where_nothing_can_be_kept_nothing_is_trained(host, longer, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = host.module("nodes.tune_actor")
    monkeypatch.setattr(module, "tune_on_clip", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(module, "output_folder", lambda: tmp_path / "mytalk")
    (tmp_path / "mytalk").write_text("a file, where the folder should be")
    with pytest.raises(ValueError, match=r"^keep: cannot write .*mytalk.*, or switch it off$"):
        host.run("MyTalkTuneActor", **longer)


@pytest.mark.parametrize("kind", ["os", "safetensors"])
def test_a_disk_that_fills_up_does_not_undo_the_training(
    host, longer, tmp_path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    from safetensors import SafetensorError

    module = host.module("nodes.tune_actor")
    error = OSError(28, "No space left on device") if kind == "os" else SafetensorError("I/O error: no space left")

    def save(path: object, tuning: object) -> None:
        raise error

    monkeypatch.setattr(module, "output_folder", lambda: tmp_path / "mytalk")
    monkeypatch.setattr(module, "save_tuning", save)
    tuned = host.run("MyTalkTuneActor", **longer)[0]
    assert tuned.state and "is not kept" in caplog.text and "space left" in caplog.text
    assert list(tmp_path.iterdir()) == [], "what was tried beforehand is gone"
