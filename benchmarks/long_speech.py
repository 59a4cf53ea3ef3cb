"""Long speech: no seam between windows, no drift, the same for any window batch; and how time grows with steps.

    python benchmarks/long_speech.py [--minutes 10] [--seconds 60] [--steps 5 10 25]

The demo actor says the demo sentence again and again, after a second of silence each time, in one clip of `--minutes`:
then in one of `--seconds`, with other numbers of steps.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from comfyui_mytalk.evaluation.metrics import correlation
from comfyui_mytalk.landmarks.canonical import to_canonical
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.landmarks.track import load_face_landmarker, track_faces
from comfyui_mytalk.motion.edit import inner_distance, speech_activity
from comfyui_mytalk.motion.generate import MotionOptions, generate_motion
from comfyui_mytalk.motion.identity import identity_tokens, load_identity, resting_frames
from comfyui_mytalk.motion.model import load_motion
from comfyui_mytalk.motion.params import FPS
from comfyui_mytalk.motion.windows import window_starts
from comfyui_mytalk.speech.audio import SPEECH_RATE, read_audio, speech_16k
from comfyui_mytalk.speech.features import load_speech_encoder
from comfyui_mytalk.video.reader import VideoReader

DEMO = Path(__file__).parents[1] / "demo"
PAUSE = 1.0  # seconds before each sentence
AT_SEAM = 5  # motion frames to either side of a window's edge


class Bench:
    """The demo actor and voice, and the models that make the one speak like the other."""

    def __init__(self) -> None:
        self.model, self.encoder, extractor = load_motion(), load_speech_encoder(), load_identity()
        track = track_faces(VideoReader(DEMO / "actor.mp4").chunks(16), load_face_landmarker())
        canonical = to_canonical(track.points, track.pose)[track.usable][..., :2]
        self.upper, self.tokens = canonical[:, landmark_set("prefix")], identity_tokens(extractor, track)
        rest = resting_frames(canonical, torch.ones(len(canonical), dtype=torch.bool))
        self.rest = canonical[rest][:, landmark_set("generated")]
        sentence = speech_16k(read_audio(DEMO / "speech.wav"))
        frames = round(PAUSE * FPS) + len(sentence) * FPS // SPEECH_RATE + 1
        self.sentence = torch.nn.functional.pad(sentence, (round(PAUSE * SPEECH_RATE), 0))
        self.sentence = torch.nn.functional.pad(self.sentence, (0, frames * SPEECH_RATE // FPS - len(self.sentence)))
        self.frames = frames  # of one sentence with its pause

    def speech(self, seconds: float) -> Tensor:
        """Whole sentences, at least `seconds` long."""
        return self.sentence.repeat(-(-round(seconds * FPS) // self.frames))

    def motion(self, features: Tensor, **options: float) -> Tensor:
        """Lower face `(t, 180, 2)`, centimetres; the actor's upper face is played forwards and backwards."""
        count = len(features) // 2
        upper = torch.cat([self.upper, self.upper.flip(0)]).repeat(1 + count // (2 * len(self.upper)), 1, 1)[:count]
        return generate_motion(self.model, features, upper, self.tokens, self.rest, MotionOptions(**options))


def seams(lower: Tensor, starts: list[int], size: int) -> float:
    """Mean speed of the lower face near the edges of windows over that elsewhere; 1 is no seam."""
    speed = lower.diff(dim=0).norm(dim=-1).mean(1)
    edge = torch.zeros(len(speed), dtype=torch.bool)
    for place in [*starts[1:], *(start + size for start in starts[:-1])]:
        edge[max(place - AT_SEAM, 0) : place + AT_SEAM] = True
    return (speed[edge].mean() / speed[~edge].mean()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 25])
    args = parser.parse_args()
    bench, began = Bench(), time.perf_counter()
    speech = bench.speech(60 * args.minutes)
    features = bench.encoder(speech)
    encoded = time.perf_counter()
    lower = bench.motion(features)
    generated = time.perf_counter()
    params, count = bench.model.params, len(lower)
    print(f"{count / FPS:.0f} s of speech: features {encoded - began:.1f} s, motion {generated - encoded:.1f} s")
    opening = inner_distance(lower).view(-1, bench.frames)
    alike = [correlation(opening[0], row) for row in opening[1:]]
    print(f"sentence 1 against the others: correlation {min(alike):.3f} at least, {sum(alike) / len(alike):.3f} mean")
    for name, row in (("first", opening[:10]), ("last", opening[-10:])):
        print(f"{name} ten sentences: opening {row.mean():.3f} cm, deviation {row.std():.3f} cm")
    active, rest = speech_activity(speech, torch.arange(count) / FPS), bench.rest.mean(0)
    gated = rest + active[:, None, None] * (lower - rest)
    for name, motion in (("no gate", lower), ("silence gate", gated)):
        speed = inner_distance(motion).diff().abs()
        share = speed[active[1:] == 0].mean() / speed[active[1:] > 0].mean()
        print(f"movement in silence, {name}: {share:.3f} of that in speech")
    starts = window_starts(count, params.frames, params.overlap)
    print(f"speed at window edges / elsewhere: {seams(lower, starts, params.frames):.3f}")
    short = features[: 2 * round(args.seconds * FPS)]
    one, many = (bench.motion(short, window_batch=batch) for batch in (1, 16))
    print(f"window batch 1 against 16: {(one - many).abs().max():.1e} cm apart at most")
    reference = inner_distance(bench.motion(short, steps=max(args.steps)))
    for steps in args.steps:
        began = time.perf_counter()
        opening = inner_distance(bench.motion(short, steps=steps))
        took = time.perf_counter() - began
        same = f"correlation {correlation(opening, reference):.3f}, deviation {opening.std() / reference.std():.3f}"
        print(f"{steps} steps: {took:.1f} s for {args.seconds:.0f} s of speech; against {max(args.steps)}: {same}")


if __name__ == "__main__":
    main()
