"""Time per stage and peak memory of `sync`, each run in a process of its own.

    python benchmarks/stages.py                      10 s and 60 s at 1280x720 on two threads
    python benchmarks/stages.py --seconds 10 --size 1920x1080 --threads 4
    python benchmarks/stages.py --device cuda        with the GPU's peak memory too

The clip is the demo actor, enlarged, forwards and backwards; the speech is the demo sentence, repeated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
from itertools import chain, cycle, islice
from pathlib import Path

DEMO = Path(__file__).parents[1] / "demo"
FPS = 25


def make_clip(path: Path, width: int, height: int, seconds: float) -> None:
    """The demo actor in the middle of a larger picture."""
    import numpy as np
    from PIL import Image

    from comfyui_mytalk.video.reader import VideoReader
    from comfyui_mytalk.video.writer import VideoWriter

    actor = [frame for frames, _ in VideoReader(DEMO / "actor.mp4").chunks(16) for frame in np.asarray(frames)]
    canvas = np.full((height, width, 3), 96, np.uint8)
    left = (width - height) // 2
    with VideoWriter(path, width, height, FPS) as writer:
        for frame in islice(cycle(chain(actor, reversed(actor))), round(seconds * FPS)):
            canvas[:, left : left + height] = Image.fromarray(frame).resize((height, height))
            writer.write(canvas[None].copy())


def make_speech(path: Path, seconds: float) -> None:
    from comfyui_mytalk.speech.audio import Audio, read_audio, write_audio

    speech = read_audio(DEMO / "speech.wav")
    samples = round(seconds * speech.sample_rate)
    waveform = speech.waveform.repeat(1, -(-samples // speech.waveform.shape[1]))[:, :samples]
    write_audio(path, Audio(waveform, speech.sample_rate))


def measure(folder: Path, threads: int, steps: int, device: str, result: multiprocessing.Queue) -> None:
    """Runs in the child: `sync` once; peak memory is that of the process, and on CUDA what torch took there as well."""
    import torch

    from comfyui_mytalk.devices import pick_device
    from comfyui_mytalk.options import SyncOptions
    from comfyui_mytalk.sync import sync_video

    torch.set_num_threads(threads)
    used = pick_device(device)
    options = SyncOptions(steps=steps, device=str(used), length_mode="trim")
    report = sync_video(folder / "clip.mp4", folder / "speech.wav", folder / "out.mp4", options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    row = {"device": str(used), "frames": report["frames"], "seconds": report["seconds"], "peak_gib": round(peak, 2)}
    if used.type == "cuda":
        row["peak_cuda_gib"] = round(torch.cuda.max_memory_reserved(used) / 1024**3, 2)
    result.put(row)


def run(seconds: float, width: int, height: int, threads: int, steps: int, device: str) -> dict[str, object]:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clip(folder / "clip.mp4", width, height, seconds)
        make_speech(folder / "speech.wav", seconds)
        result = context.Queue()
        child = context.Process(target=measure, args=(folder, threads, steps, device, result))
        child.start()
        child.join()
        if child.exitcode:
            raise SystemExit(child.exitcode)
        return result.get()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[10, 60], help="lengths of the clip (default 10 60)"
    )
    parser.add_argument("--size", default="1280x720", help="of the clip (default 1280x720)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    parser.add_argument("--steps", type=int, default=10, help="of the motion sampler (default 10)")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, cuda:1, mps (default cpu)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    width, height = map(int, options.size.split("x"))
    rows = []
    for seconds in options.seconds:
        row = run(seconds, width, height, options.threads, options.steps, options.device)
        total = sum(row["seconds"].values())
        stages = ", ".join(f"{name} {value:.1f} s" for name, value in row["seconds"].items())
        gpu = f", {row['peak_cuda_gib']} GiB on the GPU" if "peak_cuda_gib" in row else ""
        print(f"{seconds:g} s at {options.size}, {row['device']}, {options.threads} threads: {stages}; "
              f"{row['frames'] / total:.1f} frames/s; peak {row['peak_gib']} GiB{gpu}")  # fmt: skip
        rows.append({"clip_seconds": seconds, "size": options.size, "threads": options.threads, **row})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
