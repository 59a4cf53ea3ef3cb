"""Step 3: frames -> face track."""

from __future__ import annotations

from torch import Tensor, nn

from ..comfyui_mytalk.errors import InputError
from ..comfyui_mytalk.frames import TensorSource
from ..comfyui_mytalk.landmarks.track import Choice, FaceTrack, load_face_landmarker, track_faces
from ..comfyui_mytalk.landmarks.tracker import BATCH, FaceLandmarker
from .checks import checked_inputs, counted
from .host import device, field, io, schema
from .inputs import CATEGORY, face_choice, face_inputs, fps_input
from .media import check_fps, read_images
from .models import missing_models, network
from .progress import Progress, retrying
from .types import Track

WEIGHTS = "face_landmarks"


class ExtractDenseLandmarks(io.ComfyNode):
    """Find and follow one face."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkExtractDenseLandmarks",
            display_name="Extract Dense Landmarks (MyTalk)",
            category=CATEGORY,
            description="Follows one face through the frames: 478 points per frame, short gaps interpolated.",
            search_aliases=["face mesh", "face landmarks", "face tracking"],
            inputs=[
                field(io.Image, "images", tooltip="The frames of the clip, in order. A portrait may be one frame."),
                fps_input(),
                *face_inputs(),
            ],
            outputs=[
                Track.Output(display_name="track", tooltip="The face in every frame."),
                io.String.Output(display_name="report", tooltip="In how many frames the face was found."),
            ],
        )

    @classmethod
    def validate_inputs(cls, face: str | None = None) -> bool | str:
        return missing_models(("face", WEIGHTS))

    @classmethod
    @checked_inputs
    def execute(
        cls, images: Tensor, fps: float, face: str, face_index: int, point_x: float, point_y: float
    ) -> io.NodeOutput:
        choice = face_choice(face, face_index, point_x, point_y, read_images(images).shape[1:3])
        track = extract(images, check_fps(fps), choice, Progress())
        return io.NodeOutput(track, describe(track))


class LandmarkNetworks(nn.Module):
    """Detector and mesh as one network for the host to move."""

    def __init__(self, path: str) -> None:
        super().__init__()
        landmarker = load_face_landmarker("cpu", path)
        self.detector, self.mesh = landmarker.detector, landmarker.mesh


def load_landmarker(batch: int | None = None) -> FaceLandmarker:
    """The networks that find faces, on the host's device; `batch` frames at a time."""
    networks = network("face", WEIGHTS, LandmarkNetworks)
    return FaceLandmarker(networks.detector, networks.mesh, device(), batch or BATCH.get(device().type, BATCH["cpu"]))


def extract(images: Tensor, fps: float, choice: Choice, progress: Progress) -> FaceTrack:
    """The chosen face of the frames `(f, h, w, c)`."""
    source, shown = TensorSource(images, fps), progress.showing(images.__getitem__)

    def run(batch: int) -> FaceTrack:
        return track_faces(source.chunks(batch), load_landmarker(batch), choice, shown, len(images))

    batch = load_landmarker().batch
    try:
        return retrying(run, batch, least=BATCH["cpu"])
    except InputError as error:
        beyond = isinstance(choice, int) and str(error).startswith("got face ")  # else there is no face at all
        raise InputError(f"{'face_index' if beyond else 'images'}: {error}") from error


def describe(track: FaceTrack) -> str:
    """One line for people."""
    found, usable, total = int(track.found.sum()), int(track.usable.sum()), counted(len(track), "frame")
    lost = len(track) - usable
    several = f"; {track.count} people, told apart at cuts" if track.count > 1 else ""
    return f"face found in {found} of {total}, {usable - found} interpolated, {lost} left unchanged{several}"
