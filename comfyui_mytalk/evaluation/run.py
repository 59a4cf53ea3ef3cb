"""One evaluation: every clip in every protocol by every method. Results are kept clip by clip in a folder, so that an
interrupted run goes on where it stopped, and several machines can share the clips.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..errors import InputError
from ..geometry import geometry
from ..output import write_aside
from .clips import Clip
from .methods import ORIGINAL, OURS, Rendered, Studio, methods_of
from .outputs import find_output, read_output
from .page import Exhibit, encode
from .plot import opening_plot
from .score import Figures, Judges, Score, opening_agreement, score
from .sheet import contact_sheet, pick_moments
from .talks import UNPAIRED, Case, Talk, aligned_crops, make_case, partners, read_talk

logger = logging.getLogger(__name__)
LIBRARY = Path(__file__).resolve().parent.parent
SHEET_COLUMNS, SHEET_SIDE = 10, 76
SAMPLES = 10  # crops of each video for FID


@dataclass
class ClipResult:
    """What one clip gave: `figures` by protocol and method, `exhibits` by protocol, what `failed` and why.

    `samples` are PNG crops by protocol and method for figures of all clips together (FID); empty where there are none.
    """

    figures: dict[str, dict[str, Figures]] = field(default_factory=dict)
    exhibits: dict[str, Exhibit] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    samples: dict[str, dict[str, list[bytes]]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        kept = {
            "figures": self.figures,
            "failed": self.failed,
            "exhibits": {name: to_text(shown) for name, shown in self.exhibits.items()},
            "samples": {p: {m: to_text(crops) for m, crops in of.items()} for p, of in self.samples.items()},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_aside(path) as aside:
            aside.write_text(json.dumps(kept), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> ClipResult:
        kept = json.loads(path.read_text(encoding="utf-8"))
        shown = {name: Exhibit(*map(base64.b64decode, parts)) for name, parts in kept["exhibits"].items()}
        samples = {p: {m: [*map(base64.b64decode, c)] for m, c in of.items()} for p, of in kept["samples"].items()}
        return cls(kept["figures"], shown, kept["failed"], samples)


def to_text(parts: Iterable[bytes]) -> list[str]:
    return [base64.b64encode(part).decode() for part in parts]


@dataclass
class Run:
    """What one evaluation is made of. `settings` is all that its figures depend on."""

    clips: list[Clip]
    protocols: list[str]
    methods: list[str]
    judges: Judges
    studio: Studio | None
    outputs: Path | None
    duration: float | None
    folder: Path
    settings: dict[str, Any]
    talks: dict[str, Talk] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The method whose clips the page exhibits."""
        return self.outputs.name if self.outputs else OURS

    def kept(self, clip: Clip) -> Path:
        """Where a clip's result is kept. With other settings, clips, videos of the other tool or code it has another
        name."""
        paths = {c.name: c.path for c in self.clips}
        partner = partners(self.clips).get(clip.name)
        used = [clip.path, *([paths[partner]] if partner else [])]
        if self.outputs is not None:
            used += filter(None, (find_output(self.outputs, protocol, clip) for protocol in self.protocols))
        files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in used]
        key = json.dumps([self.settings, files, source_hash()], sort_keys=True, default=str)
        return self.folder / "clips" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"

    def score_clips(self, shard: tuple[int, int] = (0, 1)) -> dict[str, ClipResult]:
        """Results of the clips number `shard[0]`, every `shard[1]`-th, those kept from before included."""
        results = {}
        for clip in tqdm(self.clips[shard[0] :: shard[1]], unit="clip"):
            path = self.kept(clip)
            if path.is_file():
                results[clip.name] = ClipResult.read(path)
                continue
            results[clip.name] = self.score_clip(clip)
            if results[clip.name].figures:
                results[clip.name].write(path)
        return results

    def score_clip(self, clip: Clip) -> ClipResult:
        result = ClipResult()
        with Noting(result.failed, clip.name):
            for case in self.cases(clip, result):
                for method, rendered in self.videos(clip, case, result):
                    with Noting(result.failed, f"{clip.name}, {case.protocol}, {method}"):
                        scored = score(case, rendered.frames, rendered.mask, self.judges)
                        figures = scored.figures | self.stability(case, method, scored)
                        result.figures.setdefault(case.protocol, {})[method] = figures
                        if self.judges.fid:
                            result.samples.setdefault(case.protocol, {})[method] = sample_crops(case, rendered.frames)
                        if method == self.shown:
                            result.exhibits[case.protocol] = exhibit(case, rendered, scored, method)
        return result

    def cases(self, clip: Clip, result: ClipResult) -> Iterator[Case]:
        """The clip in every protocol; unpaired where there is somebody else whose words it can speak.

        Raises InputError when the clip itself cannot be read; a partner that cannot be is noted in `result`.
        """
        own, partner = self.talk(clip.name), partners(self.clips).get(clip.name)
        for protocol in self.protocols:
            if protocol != UNPAIRED:
                yield make_case(protocol, own, own)
            elif partner is not None:
                speaker = None
                with Noting(result.failed, f"{partner}, whose words {clip.name} was to speak"):
                    speaker = self.talk(partner)
                if speaker is not None:
                    yield make_case(protocol, own, speaker)

    def talk(self, name: str) -> Talk:
        """Landmarks and speech of a clip, found once."""
        if name not in self.talks:
            path = next(clip.path for clip in self.clips if clip.name == name)
            self.talks[name] = read_talk(path, self.judges.landmarker, self.duration)
        return self.talks[name]

    def videos(self, clip: Clip, case: Case, result: ClipResult) -> Iterator[tuple[str, Rendered]]:
        """The videos of a case: another tool's first, then those of the wanted methods."""
        if self.outputs is not None:
            with Noting(result.failed, f"{clip.name}, {case.protocol}, {self.outputs.name}"):
                path = find_output(self.outputs, case.protocol, clip)
                if path is None:
                    raise InputError(f"no video of this clip in {self.outputs}")
                yield self.outputs.name, Rendered(read_output(path, case), geometry(case.talk.track).mask(256))
        for method in methods_of(case.protocol):
            if method == ORIGINAL and method in self.methods:
                yield method, Rendered(case.frames, geometry(case.talk.track).mask(256))
            elif method in self.methods:
                with Noting(result.failed, f"{clip.name}, {case.protocol}, {method}"):
                    yield method, self.studio.make(case, method)

    def stability(self, case: Case, method: str, scored: Score) -> Figures:
        """Our unpaired result against the one over a shifted source: the new mouth must not follow the old."""
        if case.protocol != UNPAIRED or method != OURS:
            return {}
        shifted = self.studio.make_shifted(case)
        return {"shift_stability": opening_agreement(scored.track, self.judges.track(shifted.frames, case.talk.fps))}


@cache
def source_hash() -> str:
    """Hash of the library's code, which decides the figures as much as the weights do."""
    digest = hashlib.sha256()
    for path in sorted(LIBRARY.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Noting:
    """What turns out to be bad input is noted and logged, and the run goes on."""

    def __init__(self, failed: dict[str, str], what: str) -> None:
        self.failed, self.what = failed, what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> bool:
        if not isinstance(error, InputError):
            return False
        logger.warning("%s is left out: %s", self.what, error)
        self.failed[self.what] = str(error)
        return True


def sample_crops(case: Case, frames: Tensor) -> list[bytes]:
    """A few aligned crops as PNG."""
    usable = case.talk.track.usable.nonzero()[:, 0]
    chosen = usable[pick_moments(len(usable), SAMPLES)]
    crops = aligned_crops(frames[chosen], case.talk.track[chosen])
    return [encode(Image.fromarray(crop.permute(1, 2, 0).numpy())) for crop in crops]


def exhibit(case: Case, rendered: Rendered, scored: Score, method: str) -> Exhibit:
    """Plot and mouths of one result."""
    made, truth, level = scored.series
    title = f"{method}, {case.protocol}: mouth opening, result red, speaker black"
    plot = opening_plot(made, truth, level / level.max().clamp_min(1e-6), title)
    moments = pick_moments(len(rendered.frames), SHEET_COLUMNS)
    pictures = (case.frames[moments].numpy(), rendered.frames[moments].numpy())
    labels = [f"{case.talk.track.times[m]:.2f} s" for m in moments]
    sheet = contact_sheet(*pictures, scored.track.points[moments], labels, side=SHEET_SIDE, faces=False)
    return Exhibit(encode(plot), encode(sheet, "JPEG"))
