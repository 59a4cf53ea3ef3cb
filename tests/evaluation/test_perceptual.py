"""LPIPS and FID with random networks: the machinery is real, only the trained weights are not ours to ship."""

import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation import perceptual


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any attempt to download fails the test."""

    def refuse(*_, **__):
        raise AssertionError("tried to download")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    """A hub folder that holds an AlexNet."""
    models = pytest.importorskip("torchvision.models")
    pytest.importorskip("torchmetrics")
    hub = tmp_path_factory.mktemp("hub")
    (hub / "checkpoints").mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = models.alexnet(weights=None).features.state_dict()
    path = hub / "checkpoints" / perceptual.ALEXNET
    torch.save({f"features.{name}": value for name, value in features.items()}, path)
    return path


def noise(count, seed):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_without_weights_there_is_a_line_and_no_download(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for available, measure in (
        (perceptual.available_lpips, perceptual.lpips),
        (perceptual.available_fid, perceptual.fid),
    ):
        reason = available()
        assert reason and "\n" not in reason
        with pytest.raises(InputError, match=reason[:8]):
            measure(noise(2, 0), noise(2, 1))


def test_lpips_is_zero_for_equal_pictures_and_grows_with_the_difference(alexnet, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(alexnet.parent.parent))
    assert perceptual.available_lpips() is None
    pictures = noise(2, 0)
    slightly = pictures.lerp(noise(2, 1), 0.1)
    assert (perceptual.lpips(pictures, pictures) == 0).all()
    near, far = perceptual.lpips(slightly, pictures), perceptual.lpips(noise(2, 1), pictures)
    assert near.shape == (2,) and (near > 0).all() and (near < far).all()
    assert (perceptual.lpips(slightly, pictures, alexnet) == near).all()


def test_lpips_is_torchmetrics_own(alexnet, monkeypatch):
    """With the weights in the cache, torchmetrics' public function gives the same figure."""
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
    from torchvision import models

    def from_file(weights=None):
        net = models.AlexNet()
        net.load_state_dict(torch.load(alexnet, weights_only=True), strict=False)
        return net

    own = perceptual.lpips(noise(2, 0), noise(2, 1), alexnet)
    monkeypatch.setattr(models, "alexnet", from_file)
    theirs = learned_perceptual_image_patch_similarity(noise(2, 0), noise(2, 1), "alex", "none", normalize=True)
    torch.testing.assert_close(own, theirs)


def test_fid_is_zero_for_equal_sets_alone(tmp_path, monkeypatch):
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path / perceptual.INCEPTION
    with monkeypatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        extractor = inception.FeatureExtractorInceptionV3
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(extractor, "load_state_dict", lambda *_: None)
        torch.save(extractor("random", ["64"]).state_dict(), path)
    assert perceptual.available_fid(path) is None
    pictures = noise(3, 0)
    equal, lighter = (
        perceptual.fid(other.split(2), pictures.split(2), path, features=64)
        for other in (pictures, pictures.lerp(torch.ones(()), 0.3))
    )
    assert abs(equal) < 1e-6 < lighter


def test_files_that_are_no_network_are_refused(tmp_path):
    for package in ("torchvision", "torchmetrics", "torch_fidelity"):
        pytest.importorskip(package)
    path = tmp_path / perceptual.ALEXNET
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="no AlexNet"):
        perceptual.lpips(noise(1, 0), noise(1, 1), path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="can be read"):
        perceptual.fid([noise(2, 0)], [noise(2, 1)], path)
