"""What a user may choose of `sync`. Imports nothing heavy: the command line shows it as help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SyncOptions:
    """Everything a user may choose. `face`, `length_mode`: see `parse_choice` and `fit_timeline`.

    `start`, `duration`, `speech_start`, `speech_duration`: the part of video and speech that is used, seconds.
    `silence_gate`: how far the mouth rests where the speech is silent, 0..1.
    `references`: "retrieved" for each frame from the whole clip, or the paper's three "fixed" ones; they are taken
    from `reference_video` when given, whose lips and teeth then show. `style_video`: another clip of the same person,
    in another mood perhaps, whose way of holding and opening the mouth is taken (section 4.3). `style_strength`: how
    much of how the person shapes sounds is taken from that clip, or from the video, where it is heard too; 0 is
    nothing. `keep_mask`: a picture or video, light where the film stays as it is, a hand in front of the mouth for one.
    `keep_occlusions`: what a network finds in front of the mouth stays too, or is painted over. `tune`: steps of actor
    tuning before the pictures are made; `tuned`: an earlier tuning. Names of weights are shipped names or paths.
    """

    seed: int = 0
    steps: int = 10
    face: str = "largest"
    start: float = 0.0
    duration: float | None = None
    speech_start: float = 0.0
    speech_duration: float | None = None
    length_mode: str = "auto"
    references: str = "retrieved"
    reference_video: str | Path | None = None
    style_video: str | Path | None = None
    keep_mask: str | Path | None = None
    keep_occlusions: bool = True
    tune: int = 0
    tuned: str | Path | None = None
    strength: float = 1.0
    style_strength: float = 1.0
    silence_gate: float = 1.0
    speech_encoder: str = "speech_small"
    identity: str = "identity_small"
    motion: str = "motion_small"
    appearance: str = "appearance_small"
    occlusion: str = "occlusion_small"
    device: str = "auto"
    dtype: str = "auto"
    crf: int = 14

    @property
    def files(self) -> tuple[str | Path | None, ...]:
        """What a run may read beside the film and the speech, by path or by name."""
        media = (self.reference_video, self.style_video, self.keep_mask)
        weights = (self.tuned, self.speech_encoder, self.identity, self.motion, self.appearance, self.occlusion)
        return media + weights
