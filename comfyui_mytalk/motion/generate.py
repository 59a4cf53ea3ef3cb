"""From speech features to a face track whose lower face speaks them.

f source frames   t motion frames (25 fps)   s speech frames (50 Hz)   r identity references
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from ..errors import InputError
from ..landmarks.canonical import from_canonical, to_canonical
from ..landmarks.sets import landmark_set
from ..stages import Progress, in_turn
from ..video.timing import last_shown
from .diffusion import Denoise, cosine_alphas, guide, sample_ddim, sample_ddpm
from .edit import Manner, close_mouth, manner, match_manner, part_lips, smooth_motion
from .model import MotionModel
from .params import FPS
from .style import StyleMemory
from .turning import turn_effect
from .windows import cut_windows, fuse_windows, in_batches, window_starts

if TYPE_CHECKING:
    from ..landmarks.track import FaceTrack

LENGTH_TOLERANCE = 2  # motion frames by which speech and video may differ
SEEDS = 2**64  # what torch's generators tell apart
MOST = 10  # of each strength: hands slip, and a mouth a hundred times as wide takes all memory
DEPTH_SMOOTHING = 0.5  # seconds: depth follows the head, not the old mouth


@dataclass(frozen=True)
class MotionOptions:
    """How to sample. `window_batch` bounds memory and changes nothing else; `strength` scales the articulation.

    steps: of the sampler. sampler: `ddim`, or `ddpm` for ancestral sampling. eta: noise added back by DDIM, 0..1.
    guidance: weight of the speech against no speech, 1 is off. variation: size of the starting noise; below 1 the
    motion is nearer to what is most likely for the speech. match_range: open the mouth as far as the person does in
    the clip, and as they shape it (`speak` only), so far as the clip shows them talking; see `match_manner`.
    style_strength: weight of the style reference, where one is given; 0 is without.
    Raises InputError for a value out of its range.
    """

    steps: int = 10
    seed: int = 0
    sampler: str = "ddim"
    eta: float = 0.0
    guidance: float = 1.5
    window_batch: int = 8
    strength: float = 1.0
    variation: float = 0.5
    match_range: bool = True
    style_strength: float = 1.0

    def __post_init__(self) -> None:
        if self.sampler not in ("ddim", "ddpm"):
            raise InputError(f"got sampler {self.sampler!r}, expected ddim or ddpm")
        if self.steps < 1 or self.window_batch < 1:
            raise InputError(
                f"got {self.steps} steps and a window batch of {self.window_batch}, expected at least 1 of each"
            )
        if not 0 <= self.seed < SEEDS:
            raise InputError(f"got seed {self.seed}, expected a whole number from 0 to {SEEDS - 1}")
        for name in ("strength", "guidance", "variation", "style_strength"):
            if not 0 <= getattr(self, name) <= MOST:
                raise InputError(f"got {name} {getattr(self, name):g}, expected 0 to {MOST}")
        if not 0 <= self.eta <= 1:
            raise InputError(f"got eta {self.eta:g}, expected 0 to 1")


@torch.inference_mode()
def generate_motion(
    model: MotionModel,
    features: Tensor,
    upper: Tensor,
    identity: Tensor,
    reference: Tensor,
    options: MotionOptions | None = None,
    progress: Progress = None,
    memory: StyleMemory | None = None,
) -> Tensor:
    """Lower-face motion for any length of speech, in fused windows (MyTalk, section 3.3).

    `features (s, d)` with s = 2 t, `upper (t, 103, 2)`, `identity (r, d)`, `reference (r, 180, 2)`: resting lower faces
    -> `(t, 180, 2)`. Landmarks are canonical centimetres. `memory`: how the person shapes sounds (`remember`). Raises
    InputError when the conditions do not fit the model.
    """
    options = options or MotionOptions()
    check_shapes(model, features, upper, identity)
    device, frames = model.lower_mean.device, len(upper)
    generator = torch.Generator().manual_seed(options.seed)
    noise = options.variation * torch.randn(frames, model.params.channels, generator=generator).to(device)
    denoise = window_denoiser(model, features.to(device), upper.to(device), identity.to(device), options, memory)
    alphas = cosine_alphas().to(device)
    denoise = with_progress(denoise, options.steps, progress)
    if options.sampler == "ddpm":
        x = sample_ddpm(denoise, noise, alphas, options.steps, generator)
    else:
        x = sample_ddim(denoise, noise, alphas, options.steps, options.eta, generator)
    rest = reference.to(device).mean(0, keepdim=True)
    lower = model.decode(x[None], rest)[0]
    return part_lips((rest + options.strength * (lower - rest)).cpu())


def check_shapes(model: MotionModel, features: Tensor, upper: Tensor, identity: Tensor) -> None:
    """Raise InputError when the conditions do not fit the model or each other."""
    params = model.params
    if features.shape[1] != params.speech_in:
        raise InputError(
            f"got speech features {features.shape[1]} wide, the motion weights expect {params.speech_in} "
            f"({model.needs.speech or 'their own encoder'}); choose the speech encoder that they were trained with"
        )
    if identity.shape[1] != params.identity_dim:
        raise InputError(
            f"got identity tokens {identity.shape[1]} wide, the motion weights expect {params.identity_dim}; "
            "choose the matching identity weights"
        )
    if len(features) != 2 * len(upper):
        raise InputError(f"got {len(features)} speech frames for {len(upper)} motion frames, expected two for each")


def window_denoiser(
    model: MotionModel,
    features: Tensor,
    upper: Tensor,
    identity: Tensor,
    options: MotionOptions,
    memory: StyleMemory | None = None,
) -> Denoise:
    """A function `(x (t, c), step) -> x0 (t, c)` that runs the denoiser on fused windows of the whole clip."""
    params, frames = model.params, len(upper)
    size = min(params.frames, frames)
    starts = window_starts(frames, size, params.overlap)
    speech = cut_windows(features, [2 * start for start in starts], 2 * size)
    speech = in_batches(model.speech_encoder, options.window_batch, speech)
    upper = cut_windows(model.encode_upper(upper[None])[0], starts, size)
    style = mixed_style(model, speech, memory, options)

    def run(speech: Tensor, style: Tensor) -> Denoise:
        def denoise(x: Tensor, step: int) -> Tensor:
            def network(x: Tensor, upper: Tensor, speech: Tensor, style: Tensor) -> Tensor:
                steps = torch.full((len(x),), step, device=x.device)
                return model.denoiser(x, upper, steps, speech, identity.expand(len(x), -1, -1), style)

            windows = in_batches(network, options.window_batch, cut_windows(x, starts, size), upper, speech, style)
            return fuse_windows(windows, starts, frames, params.overlap)

        return denoise

    return guide(run(speech, style), run(torch.zeros_like(speech), torch.zeros_like(style)), options.guidance)


def mixed_style(model: MotionModel, speech: Tensor, memory: StyleMemory | None, options: MotionOptions) -> Tensor:
    """What `memory` says of encoded speech in windows `(w, t, e)`, as strong as `options` want it: `(w, t, dim)`."""
    attention = model.style
    if attention is None or memory is None or options.style_strength == 0:
        return speech.new_zeros(*speech.shape[:2], model.params.dim)
    parts = [x.to(speech.device) for x in memory]

    def mix(windows: Tensor) -> Tensor:
        return attention(windows, StyleMemory(*(x.expand(len(windows), *x.shape[1:]) for x in parts)))

    return options.style_strength * in_batches(mix, options.window_batch, speech)


def with_progress(denoise: Denoise, steps: int, progress: Progress) -> Denoise:
    """Report after each call of `denoise`."""
    if progress is None:
        return denoise
    done = 0

    def reported(x: Tensor, step: int) -> Tensor:
        nonlocal done
        clean = denoise(x, step)
        done += 1
        progress(done, steps)
        return clean

    return reported


def shut(person: Manner, model: MotionModel) -> Manner:
    """`person` with a resting mouth that is shut, where the clip does not show how it shuts: nobody talks in it.

    Motion is added to the resting mouth; lips that are parted in a still would stay so in every `p` and `m`.
    """
    rest, open_share = person.rest.mean(0), 1 - person.talks
    if open_share == 0:
        return person
    closed = close_mouth(rest, model.from_channels.cpu())
    return person._replace(rest=person.rest + open_share * (closed - rest))


def resample(values: Tensor, times: Tensor, at: Tensor) -> Tensor:
    """`values (f, ...)` at `times (f,)` -> the values at the times `at`; the ends are held.

    Piecewise cubic and monotone (PCHIP): exact on the given samples, and a closed mouth stays closed between them.
    """
    if len(values) == 1:
        return values.expand(len(at), *values.shape[1:]).clone()
    curve = PchipInterpolator(times.double().cpu().numpy(), values.double().cpu().numpy(), axis=0)
    return torch.from_numpy(curve(at.double().clamp(times[0].item(), times[-1].item()).cpu().numpy())).to(values)


def fit_length(features: Tensor, times: Tensor) -> Tensor:
    """Speech features `(s, d)` cut or held to two for each motion frame of a track that starts at 0.

    Raises InputError when speech and track differ by more than two motion frames.
    """
    duration = times[-1].item() + last_shown(times)
    if abs(len(features) / (2 * FPS) - duration) > (LENGTH_TOLERANCE + 1e-6) / FPS:
        raise InputError(
            f"got {len(features) / (2 * FPS):.2f} s of speech for {duration:.2f} s of video, expected the same length; "
            "cut or pad the speech first (--length-mode)"
        )
    wanted = 2 * (math.ceil(times[-1].item() * FPS - 1e-6) + 1)
    return torch.cat([features, features[-1:].expand(max(0, wanted - len(features)), -1)])[:wanted]


def speak(
    model: MotionModel,
    track: FaceTrack,
    features: Tensor,
    identity: Tensor,
    options: MotionOptions | None = None,
    progress: Progress = None,
    style: FaceTrack | None = None,
    memory: StyleMemory | None = None,
) -> FaceTrack:
    """The same track with a lower face that speaks `features (s, d)`, which start with the track's first frame.

    Pose, upper face and the remaining points of every frame, and whole frames without a usable face, stay
    bit-identical. `identity (r, d)` comes from `identity_tokens`. `style` is another clip of the same person, smiling
    perhaps: the mouth rests as it does there and opens as far (section 4.3; take the identity from it too). `memory`:
    how the lips of that clip, or of this one, shape sounds (`reference.remember`); of one person only. Raises
    InputError when no frame is usable, or when speech and track differ in length.
    """
    options = options or MotionOptions()
    if track.people is not None:
        return _speak_in_turn(model, track, features, identity, options, progress, style)
    pose, usable, times = track.pose, track.usable, track.times - track.times[0]
    canonical, effect = to_canonical(track.points, pose), turn_effect(track)
    features = fit_length(features, times)
    lower, upper = landmark_set("generated"), landmark_set("prefix")
    person = manner(track if style is None else style)
    if options.match_range:
        person = shut(person, model)
    grid = torch.arange(len(features) // 2, dtype=torch.float64) / FPS
    given = resample(canonical[usable][:, upper, :2], times[usable], grid)
    motion = generate_motion(model, features, given, identity, person.rest, options, progress, memory)
    if options.match_range:
        motion = match_manner(motion, person, options.strength)
    motion = resample(motion, grid, times)
    depth = smooth_motion((canonical[:, lower] - effect)[..., 2:], track, DEPTH_SMOOTHING)
    spoken = canonical[usable]
    spoken[:, lower] = (torch.cat([motion, depth], -1) + effect)[usable]
    spoken[:, lower, :2] = part_lips(spoken[:, lower, :2])
    points = track.points.clone()
    points[usable.nonzero(), lower] = from_canonical(spoken, pose[usable])[:, lower].to(points)
    return track.replace(points=points)


def _speak_in_turn(
    model: MotionModel,
    track: FaceTrack,
    features: Tensor,
    identity: Tensor,
    options: MotionOptions,
    progress: Progress,
    style: FaceTrack | None,
) -> FaceTrack:
    """`speak` for each of the people whom a film with cuts shows, with the resting mouth and manner of their own."""
    people, points = list(track.each_person()), track.points.clone()
    for turn, (person, own) in enumerate(people):
        part = in_turn(progress, turn, len(people))
        points[own] = speak(model, person, features, identity, options, part, style).points[own]
    if not people:
        speak(model, track.replace(people=None), features, identity, options)  # says that no face is usable
    return track.replace(points=points)
