"""Every test of nodes shares one host, real or double, and one small clip."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from pack import Host


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    from tiny import save_tiny_weights

    base = tmp_path_factory.mktemp("base")
    for folder in ("models/mytalk", "models/audio_encoders", "input", "output", "custom_nodes"):
        (base / folder).mkdir(parents=True)
    save_tiny_weights(base / "models" / "mytalk")
    return Host(base)


@pytest.fixture(scope="session")
def clip(host: Host) -> SimpleNamespace:
    """A small clip and everything that the nodes make of it, one after the other."""
    from tiny import NAMES, moving_face, tones

    c = SimpleNamespace(images=moving_face(), fps=24.0, audio={"waveform": tones(0.5)[None], "sample_rate": 16_000})
    c.speech = host.run("MyTalkLoadSpeech", audio=c.audio, duration=len(c.images) / c.fps)[0]
    c.features = host.run("MyTalkWav2VecFeatures", audio=c.speech, encoder=NAMES["speech"])[0]
    c.track, c.report = host.run("MyTalkExtractDenseLandmarks", images=c.images, fps=c.fps)
    c.identity = host.run("MyTalkIdentityEmbed", track=c.track, model=NAMES["identity"])[0]
    sampled = {"speech_features": c.features, "track": c.track, "identity": c.identity, "model": NAMES["motion"]}
    c.motion = host.run("MyTalkLandmarkDiffusionSampler", **sampled, seed=3, steps=4)[0]
    c.landmark_images = host.run("MyTalkRenderLandmarkImage", track=c.motion)[0]
    c.references, c.lips = host.run("MyTalkMaskedReferenceSelect", images=c.images, track=c.track, count=6)
    c.painted = {
        "track": c.track,
        "motion": c.motion,
        "landmark_images": c.landmark_images,
        "references": c.references,
        "model": NAMES["appearance"],
    }
    c.crops, c.crop_mask = host.run("MyTalkAppearanceVAE", images=c.images, **c.painted)
    c.laid = {"track": c.track, "motion": c.motion}
    c.frames, c.mask = host.run("MyTalkPasteBack", images=c.images, crops=c.crops, crop_mask=c.crop_mask, **c.laid)
    return c
