"""A recogniser that is a mean of pixels per cell: what it sees of a face can be computed."""

import sys

import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.arcface import FIVE, TEMPLATE, aligned_faces, load_arcface, similarity
from comfyui_mytalk.landmarks.track import FaceTrack


def write_onnx(path, batch, outputs=512):
    """Weighted sums of the means of 8 x 8 pixels, `outputs` of them."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weight = torch.randn(3 * 14 * 14, outputs, generator=torch.Generator().manual_seed(0)).numpy()
    nodes = [
        helper.make_node("AveragePool", ["x"], ["mean"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 112, 112])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, outputs])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return torch.from_numpy(weight)


def face_track(frames, scale=1.5, shift=20.0):
    """Landmarks at the template's places, `scale` times as large and shifted."""
    points = torch.zeros(frames, 478, 3)
    for group, place in zip(FIVE, torch.tensor(TEMPLATE), strict=True):
        points[:, list(group), :2] = scale * (place + 0.5) + shift
    return FaceTrack(points, torch.ones(frames, dtype=torch.bool), torch.arange(frames) / 25, (224, 224))


def pictures(frames):
    """`(f, 224, 224, 3)` with a slope, which resampling keeps."""
    slope = torch.arange(224).float()[:, None] * 0.7 + torch.arange(224).float() * 0.3
    return torch.stack([slope, slope.T, slope / 2], -1).round().byte().expand(frames, -1, -1, -1)


def test_a_similarity_is_recovered():
    source = torch.tensor(TEMPLATE)
    turned = torch.tensor([[1.2, -0.5], [0.5, 1.2]])
    target = source @ turned.T + torch.tensor([7.0, -3.0])
    found = similarity(source, target[None])[0]
    torch.testing.assert_close(found[:, :2], turned)
    torch.testing.assert_close(found[:, 2], torch.tensor([7.0, -3.0]), rtol=0, atol=1e-4)


def test_faces_are_cut_where_the_landmarks_are():
    faces = aligned_faces(pictures(1), face_track(1).points[..., :2])
    x = 1.5 * (torch.arange(112) + 0.5) + 20 - 0.5  # pixel of the frame under each of the face's
    expected = (x[:, None] * 0.7 + x * 0.3 - 127.5) / 127.5
    assert (faces[0, 0] - expected).abs().max() < 0.01  # the frame is rounded to whole values


@pytest.mark.parametrize("batch", [1, "n"])
def test_embeddings_are_the_networks_of_the_aligned_faces(tmp_path, batch):
    pytest.importorskip("onnxruntime")
    weight = write_onnx(tmp_path / "tiny.onnx", batch)
    recogniser, track, frames = load_arcface(tmp_path / "tiny.onnx"), face_track(18), pictures(18)
    vectors = recogniser.embed(frames, track)
    means = torch.nn.functional.avg_pool2d(aligned_faces(frames, track.points[..., :2]), 8).flatten(1)
    expected = torch.nn.functional.normalize(means @ weight, dim=1)
    assert vectors.shape == (18, 512) and recogniser.name == "tiny"
    torch.testing.assert_close(vectors, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(18))
    with pytest.raises(InputError, match="18"):
        recogniser.embed(frames, face_track(3))


def test_wrong_models_are_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no ArcFace model at"):
        load_arcface(tmp_path / "none.onnx")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a network")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="pip install"):
        load_arcface(bad)
    monkeypatch.undo()
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match="cannot read"):
        load_arcface(bad)
    write_onnx(tmp_path / "narrow.onnx", 1, outputs=8)
    with pytest.raises(InputError, match=r"gives \[8\]"):
        load_arcface(tmp_path / "narrow.onnx")
