"""Feature networks and sample quality: closed forms, agreement with torch-fidelity, the cache trap."""

import dataclasses
import os
import pickle
import re

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits, load_sample_image
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from dtri.files import digest
from dtri.finite import NonFinite
from dtri.metrics import classifier, features, frechet, generation, imagenet_lite


@pytest.fixture(scope="module")
def digits():
    """Handwritten digits at 28 px, uint8: (train images, train labels, test images, test labels), 80/20."""
    source = load_digits()
    images = torch.from_numpy(source.images).float()[:, None] * (255 / 16)
    images = torch.nn.functional.interpolate(images, size=(28, 28), mode="bilinear").round().to(torch.uint8).numpy()
    order = np.random.default_rng(0).permutation(len(images))
    train, test = np.split(order, [int(0.8 * len(order))])
    return images[train], source.target[train], images[test], source.target[test]


@pytest.fixture(scope="module")
def trained(digits):
    return classifier.train_classifier(digits[0], digits[1], 10, seed=0, steps=100)


@pytest.fixture(scope="module")
def weights(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "classifier.safetensors"
    classifier.save(trained, path, {"dataset": "digits"})
    return path


@pytest.fixture(scope="module")
def domain(weights):
    return features.extractor("domain", weights)


def noise(n: int, seed: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, channels, 28, 28), dtype=np.uint8)


# Classifier


def test_classifier_learns_digits(trained, digits):
    assert classifier.accuracy(trained, digits[2], digits[3]) > 0.97


def test_training_repeats_by_seed_and_leaves_the_generators_alone(digits):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    runs = [classifier.train_classifier(digits[0], digits[1], 10, seed, steps=2).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not torch.equal(runs[0]["last.weight"], runs[2]["last.weight"])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 29, 45)])
def test_classifier_takes_any_size(shape):
    network = classifier.Classifier(shape, 7).eval()
    found, logits = network(torch.zeros(2, *shape, dtype=torch.uint8))
    assert found.shape == (2, classifier.FEATURES)
    assert logits.shape == (2, 7)
    assert (found >= 0).all()


def test_classifier_refuses_what_does_not_fit(digits):
    with pytest.raises(ValueError, match="at least 28"):
        classifier.Classifier((1, 8, 8), 10)
    with pytest.raises(ValueError, match=r"labels in 0..4, found 0..9"):
        classifier.train_classifier(digits[0], digits[1], 5, seed=0, steps=1)
    with pytest.raises(ValueError, match="uint8 images"):
        classifier.train_classifier(digits[0].astype(np.float32), digits[1], 10, seed=0, steps=1)
    with pytest.raises(ValueError, match=r"shape \(1, 28, 28\), found \(3, 28, 28\)"):
        classifier.Classifier((1, 28, 28), 10)(torch.zeros(1, 3, 28, 28, dtype=torch.uint8))


def test_saved_classifier_is_the_same_one_and_the_same_bytes(trained, weights, digits, tmp_path):
    images = torch.from_numpy(digits[2][:20])
    with torch.no_grad():
        assert torch.equal(classifier.load(weights)(images)[1], trained(images)[1])
    again = tmp_path / "again.safetensors"
    classifier.save(classifier.load(weights), again, {"dataset": "digits"})
    assert again.read_bytes() == weights.read_bytes()
    assert list(tmp_path.iterdir()) == [again]


def test_loading_names_the_file_and_the_misfit(weights, tmp_path):
    path = tmp_path / "wrong.safetensors"
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        classifier.load(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        classifier.load(path)
    state = load_file(weights)
    header = {"classifier": '{"image_shape": [1, 28, 28], "n_classes": 10}'}
    save_file({**state, "last.weight": torch.zeros(3, 64)}, path, header)
    with pytest.raises(ValueError, match=r"last.weight: expected \(10, 64\), found \(3, 64\).*wrong.safetensors"):
        classifier.load(path)
    save_file(state, path)
    with pytest.raises(ValueError, match="header"):
        classifier.load(path)


def test_a_changed_bit_of_a_classifier_is_noticed(weights, tmp_path):
    """Of its tensors; what reads only the labels that it gives compares no other hash."""
    whole, path = weights.read_bytes(), tmp_path / "classifier.safetensors"
    start = 8 + int.from_bytes(whole[:8], "little")
    for k in np.random.default_rng(0).integers(start, len(whole), 20):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 16]) + whole[k + 1 :])
        with pytest.raises(ValueError, match=r"expected a classifier with sha256 .*classifier\.safetensors"):
            classifier.load(path)


# Extractors


def test_domain_extractor_carries_the_hash_of_its_weights(domain, weights):
    assert domain.hash == digest(weights, "sha256")
    assert domain.label == f"domain:{domain.hash[:12]}"


def test_domain_features_come_once_per_image_in_order(domain, trained):
    images = noise(11, seed=1)
    found = domain.features(images, batch_size=4)
    with torch.no_grad():
        expected, logits = trained(torch.from_numpy(images))
    torch.testing.assert_close(found["penultimate"], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["logits"], logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="uint8 images"):
        domain.features(images / 255.0, batch_size=4)


def test_unknown_extractor():
    with pytest.raises(ValueError, match="inception, domain or imagenet_lite, found 'vgg16'"):
        features.extractor("vgg16", "weights.pth")


def test_missing_inception_weights_say_what_goes_where(tmp_path):
    path = tmp_path / "inception" / features.INCEPTION_FILE
    with pytest.raises(FileNotFoundError) as caught:
        features.extractor("inception", path)
    message = str(caught.value)
    for part in (features.INCEPTION_FILE, "6726825d", "95.5 MB", str(path.parent), "nothing is downloaded"):
        assert part in message
    assert "\n" not in message


def test_wrong_inception_weights_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / features.INCEPTION_FILE
    path.write_bytes(b"a web page saying not found")
    with pytest.raises(ValueError, match=rf"sha256 6726825d\.\.\..*found {features.INCEPTION_FILE} of 0\.0 MB"):
        features.extractor("inception", path)


def test_inception_network_reads_local_weights_and_tiles_grey(tmp_path, monkeypatch):
    empty, path = tmp_path / "empty.pth", tmp_path / "random.pth"
    torch.save({}, empty)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        torch.save(features.inception_network(empty).state_dict(), path)
    inception = features.Extractor("inception", digest(path, "sha256"), features.inception_network(path))
    grey = noise(2, seed=0)
    found = inception.features(grey, batch_size=2)
    assert {name: value.shape for name, value in found.items()} == {"2048": (2, 2048), "logits_unbiased": (2, 1008)}
    colour = inception.features(np.repeat(grey, 3, axis=1), batch_size=2)
    assert torch.equal(found["2048"], colour["2048"])
    assert (inception.feature_layer, inception.logit_layer) == ("2048", "logits_unbiased")
    weight = inception.network.fc.weight
    torch.testing.assert_close(found["logits_unbiased"], found["2048"] @ weight.T, rtol=1e-4, atol=1e-4)  # no bias


# EfficientNet-Lite0


@pytest.fixture(scope="module")
def lite():
    if why := imagenet_lite.problem():
        pytest.skip(why)
    return features.extractor("imagenet_lite")


@pytest.fixture
def forget():
    """What is known of the packages, so that a test may put others in their place."""
    imagenet_lite.problem.cache_clear()
    yield
    imagenet_lite.problem.cache_clear()


@pytest.mark.parametrize("name, label", [("china", 698), ("flower", 985)])  # palace, daisy of ImageNet's 1,000 classes
def test_the_lite_network_knows_what_a_photograph_shows(lite, name, label):
    photo = load_sample_image(f"{name}.jpg")  # [427, 640, 3]
    square = Image.fromarray(photo[:, 106:533]).resize((224, 224), Image.Resampling.BICUBIC)
    found = lite.features(np.asarray(square).transpose(2, 0, 1)[None], batch_size=1)
    assert found["logits"].argmax() == label


@pytest.mark.parametrize("side", [28, 32, 64])
def test_lite_features_come_at_any_size_and_tile_grey(lite, side):
    grey = np.random.default_rng(side).integers(0, 256, (5, 1, side, side), dtype=np.uint8)
    found = lite.features(grey, batch_size=2)
    assert {name: value.shape for name, value in found.items()} == {"block8": (5, 112), "logits": (5, 1000)}
    colour = lite.features(np.repeat(grey, 3, axis=1), batch_size=2)
    assert torch.equal(found["block8"], colour["block8"])
    torch.testing.assert_close(lite.features(grey, batch_size=5)["block8"], found["block8"], rtol=1e-4, atol=1e-4)


def test_the_lite_features_are_those_of_the_first_block_of_112_channels_at_a_sixteenth_of_the_side(lite):
    maps, net = [], lite.network.network
    handles = [block.register_forward_hook(lambda _, __, out: maps.append(out)) for block in net._blocks]
    images = noise(2, seed=0, channels=3)
    found = lite.features(images, batch_size=2)
    with torch.no_grad():
        logits = net((torch.from_numpy(images).float() - 127) / 128)
    for handle in handles:
        handle.remove()
    wide = [k for k, out in enumerate(maps[:16]) if out.shape[2:] == (2, 2)]
    assert min(k for k in wide if maps[k].shape[1] == 112) == 8
    torch.testing.assert_close(found["block8"], maps[8].mean((2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["logits"], logits, rtol=1e-4, atol=1e-3)


def test_lite_features_notice_noise_that_grows(lite):
    rng = np.random.default_rng(0)
    pieces = np.concatenate([load_sample_image(f"{name}.jpg") for name in ("china", "flower")], axis=1)
    corners = rng.integers(0, (427 - 64, 1280 - 64), (600, 2))
    images = np.stack([pieces[i : i + 64, j : j + 64] for i, j in corners]).transpose(0, 3, 1, 2)
    levels = [
        (images[300:] + level * rng.standard_normal(images[300:].shape)).round().clip(0, 255).astype(np.uint8)
        for level in (0, 4, 16)
    ]
    distances = [generation.measure(found, images[:300], lite).fid.value for found in levels]
    assert distances == sorted(distances)
    assert distances[1] > 1.5 * distances[0]


def test_the_lite_extractor_carries_the_pinned_hash(lite):
    assert lite.hash == digest(imagenet_lite.weights(), "sha256") == imagenet_lite.HASH
    assert lite.label == f"imagenet_lite:{imagenet_lite.HASH[:12]}"


def test_another_version_of_the_lite_code_is_another_extractor(lite, monkeypatch):
    before = lite.version
    monkeypatch.setattr("importlib.metadata.version", lambda package: "9.9")
    assert lite.version != before


def lite_packages(folder, monkeypatch, weights: bytes | None):
    """Both packages as installed in `folder` alone; the file of weights as given, or none."""
    for package in imagenet_lite.PACKAGES:
        info = folder / f"{package.replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1.0\n")
    path = folder / imagenet_lite.FILE
    path.parent.mkdir(parents=True)
    if weights is not None:
        path.write_bytes(weights)
    monkeypatch.setattr("sys.path", [str(folder)])
    return path


def test_without_its_packages_the_lite_extractor_says_what_to_install(forget, monkeypatch):
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(ValueError, match=r"found no efficientnet-lite-pytorch; docs/datasets\.md says how"):
        features.extractor("imagenet_lite")


def test_other_lite_weights_are_refused_before_they_are_read(forget, monkeypatch, tmp_path):
    path = lite_packages(tmp_path, monkeypatch, b"not the weights")
    with pytest.raises(ValueError, match=r"sha256 579344248a93\.\.\., found [0-9a-f]{12}\.\.\.") as caught:
        features.extractor("imagenet_lite")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lite_package_without_its_weights_is_told(forget, monkeypatch, tmp_path):
    path = lite_packages(tmp_path, monkeypatch, None)
    with pytest.raises(ValueError, match=f"found no file {re.escape(str(path))}"):
        features.extractor("imagenet_lite")


def test_forged_lite_weights_run_no_code(lite, tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    torch.save({"_fc.bias": Evil()}, tmp_path / "forged.pth")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        features.ImagenetLiteExtractor("forged", ["block8"], str(tmp_path / "forged.pth"))
    assert not (tmp_path / "ran").exists()


# Metrics


class Images(Dataset):
    def __init__(self, images: np.ndarray):
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


def test_every_metric_agrees_with_torch_fidelity(domain, weights, digits):
    samples, reference = digits[2][:300].copy(), digits[0][:400]
    samples[:, :, 10:14] = 0
    torch_fidelity.register_feature_extractor("dtri-domain", features.DomainExtractor)
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(samples),
        input2=Images(reference),
        feature_extractor="dtri-domain",
        feature_extractor_weights_path=str(weights),
        cuda=False,
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        kid_subset_size=150,
        rng_seed=2020,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    ours = generation.measure(samples, reference, domain)
    assert ours.fid.value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert ours.inception_score.value == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert ours.inception_score.extra["std"] == pytest.approx(theirs["inception_score_std"], rel=1e-5)
    # float32 sums of a cubed kernel hold fewer digits than ours
    assert ours.kid.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert ours.kid.extra["subset_size"] == 150
    assert ours.precision.value == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours.precision.extra["recall"] == pytest.approx(theirs["recall"], abs=1e-6)
    assert (ours.n_samples, ours.n_reference, ours.extractor) == (300, 400, domain.label)


@pytest.mark.parametrize(("d", "n", "m"), [(8, 100, 90), (64, 2000, 1500), (256, 3000, 3000)])
def test_frechet_distance_agrees_with_torch_fidelity(d: int, n: int, m: int):
    """Correlated features of unlike scales, whose covariances share no eigenvectors."""
    rng = np.random.default_rng(d)
    a, b = (rng.gamma(2, size=(k, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d) for k in (n, m))
    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)), False)
    one, other = (frechet.Gaussian.of(torch.from_numpy(x)) for x in (a, b))
    assert frechet.distance(one, other) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert frechet.distance(other, one) == pytest.approx(frechet.distance(one, other), rel=1e-9)
    assert frechet.distance(one, one) == pytest.approx(0, abs=1e-9 * one.covariance.trace().item())


def test_frechet_distance_of_rank_deficient_covariances():
    """Fewer rows than dimensions, in subspaces at right angles: no overlap, so the traces add up."""
    rng = np.random.default_rng(0)
    a, b = np.zeros((5, 20)), np.zeros((6, 20))
    a[:, :8], b[:, 8:] = rng.normal(size=(5, 8)), rng.normal(size=(6, 12))
    one, other = (frechet.Gaussian.of(torch.from_numpy(x)) for x in (a, b))
    expected = (one.mean - other.mean).square().sum() + one.covariance.trace() + other.covariance.trace()
    assert frechet.distance(one, other) == pytest.approx(expected.item(), abs=1e-6)
    with pytest.raises(ValueError, match="N > 1"):
        frechet.Gaussian.of(torch.zeros(1, 3))


def test_bf16_features_are_close_and_labelled(domain, digits):
    half = dataclasses.replace(domain, precision="bf16")
    found, exact = half.features(digits[0][:50], 20), domain.features(digits[0][:50], 20)
    for layer in exact:
        assert found[layer].dtype == torch.float32
        assert not torch.equal(found[layer], exact[layer])
        torch.testing.assert_close(found[layer], exact[layer], rtol=0.05, atol=0.05 * exact[layer].abs().max().item())
    assert half.label == f"{domain.label} in bf16"
    assert half.version != domain.version


def test_fid_of_two_gaussians():
    """Diagonal Gaussians: |m1 - m2|^2 + sum of (s1 - s2)^2, from samples whose moments are made exact."""
    rng = np.random.default_rng(0)
    d, mean, scale = 6, np.arange(6.0), np.linspace(0.5, 3, 6)
    white = rng.normal(size=(200, d))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    statistics = frechet.Gaussian.of(torch.from_numpy(white))
    score = generation.fid(torch.from_numpy(mean + white * scale), statistics, 200)
    assert score.value == pytest.approx((mean**2).sum() + ((scale - 1) ** 2).sum(), rel=1e-9)
    assert "rank-deficient" not in score.protocol
    few = torch.from_numpy(white[:6])
    assert "rank-deficient" in generation.fid(few, statistics, 200).protocol


def test_kid_of_independent_draws_is_zero_and_of_a_shift_its_closed_form():
    """E k(x, x') for the kernel (x.y + 1)^3 in one dimension is a polynomial in the moments of x and y."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (2, 600, 1))
    same = generation.kid(torch.from_numpy(x), torch.from_numpy(y), seed=0)
    shifted = generation.kid(torch.from_numpy(x), torch.from_numpy(y + 1), seed=0)
    moments = [np.array([(z**k).mean() for k in range(4)]) for z in (x, y + 1)]  # about (1, 0, 1, 0), (1, 1, 2, 4)
    expected = (np.array([1, 3, 3, 1]) * (moments[0] - moments[1]) ** 2).sum()  # about 22
    assert abs(same.value) < 0.5
    assert shifted.value == pytest.approx(expected, rel=0.05)


def test_identical_sets_are_at_distance_zero(domain, digits):
    images = digits[2]
    found = generation.measure(images, images, domain)
    assert abs(found.fid.value) < 1e-9 * found.fid.extra["noise"]
    assert found.kid.value < 0  # unbiased for independent sets; shared images pull it below zero
    assert (found.precision.value, found.precision.extra["recall"]) == (1.0, 1.0)


def test_noise_is_far_from_digits_and_measuring_repeats(domain, digits):
    near = generation.measure(digits[2], digits[0][:500], domain)
    far = generation.measure(noise(360, seed=3), digits[0][:500], domain)
    assert far.fid.value > 10 * near.fid.value
    assert far.kid.value > 10 * near.kid.value
    assert far.precision.value < 0.1 < near.precision.value
    assert generation.measure(digits[2], digits[0][:500], domain) == near


def test_precision_and_recall_are_not_swapped():
    rng = np.random.default_rng(0)
    reference = torch.from_numpy(np.concatenate([rng.normal(0, 1, (200, 4)), rng.normal(50, 1, (200, 4))]))
    collapsed = torch.from_numpy(rng.normal(0, 0.5, (300, 4)))  # one of two modes, and its middle
    score = generation.precision(collapsed, reference, seed=0)
    assert score.value > 0.9
    assert score.extra["recall"] < 0.6


def test_precision_counts_the_images_it_used(monkeypatch):
    monkeypatch.setattr(generation, "PRC_LIMIT", 50)
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(120, 3)))
    score = generation.precision(points, points[:40], seed=0)
    assert (score.n_samples, score.n_reference) == (50, 40)
    assert "50 of 120 samples and 40 of 40" in score.protocol


def test_precision_takes_a_random_part_of_a_large_set(monkeypatch):
    """Drawn without replacement by the seed from all rows; the first ones alone would be the first classes of a set."""
    monkeypatch.setattr(generation, "PRC_LIMIT", 30)
    draw = np.random.default_rng(0)
    sampled, reference = (torch.from_numpy(draw.normal(size=(n, 2))) for n in (80, 100))
    sampled[:40] += 100  # so the first ones alone lie outside
    found = generation.precision(sampled, reference, seed=7)
    chosen = np.random.default_rng(7)
    a, b = (x.numpy()[np.sort(chosen.choice(len(x), 30, replace=False))] for x in (sampled, reference))
    between = lambda x, y: np.linalg.norm(x[:, None] - y, axis=2)  # noqa: E731
    inside = (between(a, b) <= np.sort(between(b, b), axis=1)[:, 3]).any(1)
    assert found.value == pytest.approx(inside.mean())
    assert found.value > 0.2
    assert (found.n_samples, found.n_reference) == (30, 30)


def test_inception_score_of_uniform_and_one_hot_logits():
    uniform = generation.inception_score(torch.zeros(100, 8), seed=0)
    assert uniform.value == pytest.approx(1.0)
    one_hot = 1e4 * torch.eye(8).repeat(100, 1)
    score = generation.inception_score(one_hot, seed=0)
    assert score.extra["one_split"] == pytest.approx(8.0)  # every class equally often
    assert 7.5 < score.value <= 8.0
    constant = generation.inception_score(one_hot[:1].repeat(100, 1), seed=0)
    assert constant.value == pytest.approx(1.0)
    assert score.n_reference == 0


def test_kid_subsets_shrink_with_the_sets():
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(100, 3)))
    score = generation.kid(points, points[:40], seed=0)
    assert score.extra["subset_size"] == 20
    assert score.extra["std"] > 0
    assert "100 subsets of 20 from 100 samples and 40" in score.protocol


def test_other_comparisons_take_the_first_samples_of_one_extraction(domain, digits, monkeypatch):
    samples, reference, other = digits[2][:60], digits[0][:60], digits[0][60:120]
    alone = [generation.measure(samples[:n], images, domain) for n, images in ((60, reference), (40, other))]
    seen = []
    extract = features.Extractor.features
    monkeypatch.setattr(
        features.Extractor, "features", lambda self, x, batch_size: seen.append(len(x)) or extract(self, x, batch_size)
    )
    together = generation.measure_each(samples, [(60, reference), (40, other)], domain)
    assert sorted(seen) == [60, 60, 60, 60]  # the samples once, two references and the noise
    for one, same in zip(together, alone, strict=True):
        assert (one.n_samples, one.n_reference) == (same.n_samples, same.n_reference)
        assert one.fid.value == pytest.approx(same.fid.value, rel=1e-6)
        assert one.inception_score.value == pytest.approx(same.inception_score.value, rel=1e-6)
    with pytest.raises(ValueError, match="expected at least 61 samples, found 60"):
        generation.measure_each(samples, [(61, reference)], domain)


def test_moments_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.gamma(2, size=(3000, 12)) @ rng.normal(size=(12, 12)) + 1e3)
    moments = frechet.Moments()
    for part in (features[:1], features[1:1500], features[1500:]):
        moments.add(part.float())
    found, exact = moments.gaussian(), features.float().double()
    covariance = torch.from_numpy(np.cov(exact.numpy(), rowvar=False))
    torch.testing.assert_close(found.mean, exact.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.covariance, covariance, rtol=1e-9, atol=1e-9)


def test_a_large_reference_is_a_stream(domain, digits, tmp_path, monkeypatch):
    """FID of all its images; KID, precision and recall of a fixed random subset, which the protocol counts."""
    samples, reference = digits[2][:100], digits[0][:600]
    whole = generation.measure(samples, reference, domain)
    seen, extract = [], features.Extractor.features
    monkeypatch.setattr(generation, "KEPT", 200)
    monkeypatch.setattr(generation, "BLOCK", 128)
    monkeypatch.setattr(
        features.Extractor, "features", lambda self, x, batch_size: seen.append(len(x)) or extract(self, x, batch_size)
    )
    found = generation.measure(samples, reference, domain, tmp_path)
    assert max(seen) <= 128
    assert found.fid.value == pytest.approx(whole.fid.value, rel=1e-6)
    assert (found.fid.n_reference, found.kid.n_reference, found.precision.n_reference) == (600, 200, 200)
    assert "100 samples and 200 of 600 reference images" in found.kid.protocol
    assert "200 of 600 reference images" in found.precision.protocol
    assert found.kid.value != whole.kid.value
    assert found.kid.value == pytest.approx(whole.kid.value, rel=0.5)
    assert generation.measure(samples, reference, domain, tmp_path) == found
    assert generation.measure(samples, reference, domain) == found


def test_values_that_mean_little_are_warned_of(domain, digits):
    fine = generation.measure(digits[2], digits[0][:500], domain)
    assert fine.fid.warning == fine.kid.warning == fine.precision.warning == ""
    assert fine.inception_score.warning == "only 36 images in a split, for 10 outputs"
    few = generation.measure(digits[2][:30], digits[0][:500], domain)
    assert few.fid.warning == "30 images for a covariance of 64 dimensions: it is rank-deficient"
    assert few.kid.warning == "only 15 images in a subset"
    collapsed = generation.measure(digits[2][:3].repeat(40, 0), digits[0][:500], domain)
    for score in (collapsed.fid, collapsed.inception_score, collapsed.kid, collapsed.precision):
        assert "only 3 distinct images among 120 samples" in score.warning
    repeated = generation.measure(digits[2][:200], digits[0][:3].repeat(40, 0), domain)
    assert "only 3 distinct images among 120 reference images" in repeated.precision.warning


def test_the_distance_of_a_set_from_itself_is_not_negative(domain, digits):
    for n in (20, 100, 360):
        assert generation.measure(digits[2][:n], digits[2][:n], domain).fid.value >= 0


def test_features_that_are_not_finite_are_refused(weights, digits):
    broken = features.extractor("domain", weights)
    with torch.no_grad():
        broken.network.classifier.penultimate.bias.fill_(torch.nan)
    said = f"expected finite features .* of the network {broken.label}, found .* in 20 of 20"
    with pytest.raises(NonFinite, match=said):
        broken.features(digits[0][:20], 8)


def test_features_are_made_on_the_device_that_is_handed_over(domain, digits, monkeypatch):
    """Also where there are GPUs, which other jobs hold."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert domain.features(digits[0][:4], 4)["logits"].shape == (4, 10)


# Cache


def test_cache_saves_the_second_pass(domain, digits, tmp_path, monkeypatch):
    samples, reference = digits[2][:50], digits[0][:60]
    first = generation.measure(samples, reference, domain, tmp_path)
    seen = []
    extract = features.Extractor.features
    monkeypatch.setattr(
        features.Extractor, "features", lambda self, x, batch_size: seen.append(len(x)) or extract(self, x, batch_size)
    )
    assert generation.measure(samples, reference, domain, tmp_path) == first
    assert seen == [50]  # the samples alone


def test_cache_notices_another_reference_of_the_same_size(domain, digits, tmp_path):
    samples, reference, other = digits[2][:50], digits[0][:60], digits[0][60:120]
    first = generation.measure(samples, reference, domain, tmp_path)
    second = generation.measure(samples, other, domain, tmp_path)
    assert second == generation.measure(samples, other, domain)
    assert second.fid.value != first.fid.value


def test_cache_notices_other_weights_under_the_same_file_name(digits, tmp_path):
    """The trap of torch-fidelity: its cache names know the extractor's name only."""
    samples, reference = digits[2][:50], digits[0][:60]
    path = tmp_path / "classifier.safetensors"
    found = []
    for seed in (1, 2):
        classifier.save(classifier.train_classifier(digits[0], digits[1], 10, seed, steps=2), path, {})
        domain = features.extractor("domain", path)
        cached = generation.measure(samples, reference, domain, tmp_path / "cache")
        assert cached == generation.measure(samples, reference, domain)
        found.append(cached)
    assert found[0].fid.value != found[1].fid.value
    assert found[0].extractor != found[1].extractor


def test_cache_notices_other_feature_code(domain, tmp_path, monkeypatch):
    before = domain.version
    edited = tmp_path / "classifier.py"
    edited.write_text("# features before the ReLU")
    monkeypatch.setattr(classifier, "__file__", str(edited))
    assert domain.version != before


@pytest.mark.parametrize(
    "damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c.replace(c[300:308], b"\0" * 8)]
)
def test_a_damaged_cache_is_made_anew(damage, domain, digits, tmp_path):
    samples, reference = digits[2][:50], digits[0][:60]
    first = generation.measure(samples, reference, domain, tmp_path)
    for path in tmp_path.iterdir():
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
    assert generation.measure(samples, reference, domain, tmp_path) == first
    assert all(path.suffix == ".npz" for path in tmp_path.iterdir())


def test_a_cache_is_whole_or_made_anew(tmp_path):
    """Whatever is wrong with it: bits that flipped, an end that was lost, bytes too many."""
    rng, path = np.random.default_rng(0), tmp_path / "features.npz"
    arrays = {"features": rng.normal(size=(9, 4)).astype(np.float32), "mean": rng.normal(size=4)}
    made = []

    def read() -> bool:
        """Whether the arrays were made, and not read."""
        before = len(made)
        found = generation._cached(path, lambda: made.append(1) or arrays)
        assert found.keys() == arrays.keys()
        assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
        return len(made) > before

    assert read()
    assert not read()
    whole = path.read_bytes()
    bits = rng.choice(8 * len(whole), 60, replace=False)
    flipped = [whole[: b // 8] + bytes([whole[b // 8] ^ 1 << b % 8]) + whole[b // 8 + 1 :] for b in bits]
    for damaged in (*flipped, *(whole[:n] for n in rng.integers(0, len(whole), 15)), whole + b"0"):
        path.write_bytes(damaged)
        assert read()
        assert not read()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("hindrance", ["a file", "a folder", "a full disk"])
def test_features_that_cannot_be_kept_cost_no_measurement(hindrance, tmp_path, monkeypatch, capsys):
    """Where a file stands for the folder, a folder for the file, or nothing more can be written."""
    path, arrays = tmp_path / "cache" / "features.npz", {"mean": np.ones(3)}
    if hindrance == "a file":
        path.parent.touch()
    elif hindrance == "a folder":
        path.mkdir(parents=True)
    else:
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert generation._cached(path, lambda: arrays) is arrays
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{path}: not kept: ")
    assert not list(tmp_path.rglob(".*"))


def test_a_forged_cache_or_network_runs_no_code(domain, digits, tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    samples, reference = digits[2][:50], digits[0][:60]
    first = generation.measure(samples, reference, domain, tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        np.savez(path, features=np.array([Evil()], dtype=object), mu=np.zeros(1), sigma=np.zeros(1))
    assert generation.measure(samples, reference, domain, tmp_path / "cache") == first
    torch.save({"fc.bias": Evil()}, tmp_path / "forged.pth")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        features.inception_network(tmp_path / "forged.pth")
    assert not (tmp_path / "ran").exists()


def test_measure_refuses_sets_that_do_not_fit(domain, digits):
    with pytest.raises(ValueError, match="of one shape"):
        generation.measure(noise(20, 0, channels=3), digits[0][:20], domain)
    with pytest.raises(ValueError, match="at least 10 of each"):
        generation.measure(digits[2][:5], digits[0][:20], domain)
