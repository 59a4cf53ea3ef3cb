"""What the nine nodes cost beside the library's `sync`, on the same clip, in one process, turn by turn.

    python -m benchmarks.node_overhead                       10 s at 1280x720, three turns
    python -m benchmarks.node_overhead --seconds 4 --turns 5 --threads 1

Both sides load their models. The nodes run in the host double of tests/fakehost, each on the IMAGE, MASK and AUDIO of
the ones before; their clip is decoded to an IMAGE and their result encoded as a host would, frame by frame, through
float pictures. That is the host's work, not the nodes': the second figure leaves it out, and takes from the library's
time what its three readings and one writing of the clip cost by themselves in the same turn. What else a real host
adds, such as scheduling, is in neither.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks.stages import make_clip, make_speech

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))


def run_library(folder: Path, steps: int, dtype: str) -> None:
    """`dtype` is the nodes' precision, which the host advises: their work is to be compared, not AMX."""
    from comfyui_mytalk.options import SyncOptions
    from comfyui_mytalk.sync import sync_video

    options = SyncOptions(steps=steps, device="cpu", dtype=dtype, length_mode="trim")
    sync_video(folder / "clip.mp4", folder / "speech.wav", folder / "library.mp4", options)


def run_codecs(folder: Path) -> None:
    """What `sync` spends on video alone: it reads the clip for faces, references and pictures, and writes one."""
    from comfyui_mytalk.frames import CHUNK
    from comfyui_mytalk.video.reader import VideoReader
    from comfyui_mytalk.video.writer import VideoWriter

    for _ in range(2):
        for _ in VideoReader(folder / "clip.mp4").chunks(CHUNK):
            pass
    reader = VideoReader(folder / "library.mp4")
    with VideoWriter(folder / "codecs.mp4", reader.info.width, reader.info.height, reader.info.fps) as writer:
        for frames, _ in reader.chunks(CHUNK):
            writer.write(frames)


class Graph:
    """The graph of nine nodes, one after the other; seconds of each are kept."""

    def __init__(self, host: Any, steps: int) -> None:
        self.host, self.steps = host, steps
        self.seconds: dict[str, list[float]] = {}
        self.alone = [0.0, 0.0]  # wall and CPU seconds of the nodes of the last run

    def node(self, name: str, **inputs: Any) -> tuple[Any, ...]:
        start, work = perf_counter(), process_time()
        result = self.host.run(f"MyTalk{name}", **inputs)
        took = perf_counter() - start
        self.seconds.setdefault(name, []).append(took)
        self.alone = [self.alone[0] + took, self.alone[1] + process_time() - work]
        return result

    def __call__(self, folder: Path) -> None:
        import torch

        from comfyui_mytalk.speech.audio import Audio, read_audio
        from comfyui_mytalk.video.reader import VideoReader
        from comfyui_mytalk.video.writer import VideoWriter

        self.alone = [0.0, 0.0]
        self.host.module("nodes.models")._networks.clear()  # the library loads its models in every run as well
        start = perf_counter()
        reader = VideoReader(folder / "clip.mp4")
        fps, images = float(reader.info.fps), torch.empty(reader.info.frames, reader.info.height, reader.info.width, 3)
        for done, (frames, _) in enumerate(reader.chunks(1)):
            images[done] = frames[0] / 255.0
        self.seconds.setdefault("decode", []).append(perf_counter() - start)
        sound = read_audio(folder / "speech.wav")
        audio = {"waveform": sound.waveform[None], "sample_rate": sound.sample_rate}
        speech = self.node("LoadSpeech", audio=audio, fps=fps)[0]
        features = self.node("Wav2VecFeatures", audio=speech)[0]
        track = self.node("ExtractDenseLandmarks", images=images, fps=fps)[0]
        identity = self.node("IdentityEmbed", track=track)[0]
        face = {"speech_features": features, "track": track, "identity": identity}
        motion = self.node("LandmarkDiffusionSampler", **face, steps=self.steps)[0]
        drawn = self.node("RenderLandmarkImage", track=motion)[0]
        references = self.node("MaskedReferenceSelect", images=images, track=track)[0]
        crops, mask = self.node(
            "AppearanceVAE", images=images, track=track, motion=motion, landmark_images=drawn, references=references
        )
        frames = self.node("PasteBack", images=images, crops=crops, crop_mask=mask, track=track)[0]
        start = perf_counter()
        sound = Audio(speech["waveform"][0], speech["sample_rate"])
        width, height = reader.info.width, reader.info.height
        with VideoWriter(folder / "nodes.mp4", width, height, reader.info.fps, sound) as writer:
            for frame in frames:
                writer.write((frame[None] * 255).round().byte())
        self.seconds.setdefault("encode", []).append(perf_counter() - start)


def measure(folder: Path, steps: int, turns: int) -> dict[str, Any]:
    from pack import Host

    graph = Graph(Host(folder), steps)
    dtype = str(graph.host.module("nodes.host").picture_dtype()).removeprefix("torch.")
    sides = {
        "library": lambda: run_library(folder, steps, dtype),
        "codecs": lambda: run_codecs(folder),
        "nodes": lambda: graph(folder),
    }
    for run in sides.values():  # the first run of a process pays for imports and caches
        run()
    graph.seconds.clear()
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    alone: list[tuple[float, ...]] = []
    for _ in range(turns):
        for name, run in sides.items():
            wall, work = perf_counter(), process_time()
            run()
            rows[name].append((perf_counter() - wall, process_time() - work))
        alone.append(tuple(graph.alone))
        print(*(f"{name}: {rows[name][-1][0]:.1f} s wall, {rows[name][-1][1]:.1f} s CPU" for name in sides), flush=True)
    found: dict[str, Any] = {"dtype": dtype} | {
        name: {"wall": [round(row[0], 2) for row in values], "cpu": [round(row[1], 2) for row in values]}
        for name, values in rows.items()
    }
    for place, clock in enumerate(("wall", "cpu")):
        library, codecs, nodes = (found[name][clock] for name in sides)
        whole = [n / lib - 1 for n, lib in zip(nodes, library, strict=True)]
        pure = [n[place] / (lib - c) - 1 for n, lib, c in zip(alone, library, codecs, strict=True)]
        found[f"with_codecs_{clock}"] = round(statistics.median(whole), 4)
        found[f"overhead_{clock}"] = round(statistics.median(pure), 4)
    found["each"] = {name: round(statistics.median(values), 2) for name, values in graph.seconds.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="length of the clip (default 10)")
    parser.add_argument("--size", default="1280x720", help="of the clip (default 1280x720)")
    parser.add_argument("--steps", type=int, default=10, help="of the motion sampler (default 10)")
    parser.add_argument("--turns", type=int, default=3, help="how often each side runs (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    width, height = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clip(folder / "clip.mp4", width, height, options.seconds)
        make_speech(folder / "speech.wav", options.seconds)
        found = measure(folder, options.steps, options.turns)
    for side in ("library", "codecs", "nodes"):
        print(f"{side}, {found['dtype']}: {found[side]['wall']} s wall, {found[side]['cpu']} s of the CPU")
    print("nodes, median seconds of each:", found["each"])
    for title, name in (("with the host's decoding and encoding", "with_codecs"), ("of the nodes alone", "overhead")):
        print(f"overhead {title}: {found[f'{name}_wall']:+.1%} wall, {found[f'{name}_cpu']:+.1%} CPU, median")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
