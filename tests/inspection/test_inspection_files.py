"""Saving, loading, and reading what patchcore-inspection has saved."""

import collections
import contextlib
import datetime
import json
import pickle
import pickletools
import random
import struct

import faiss
import numpy as np
import pytest
import torch
from hostile import Runs
from inspection_golden import Stages

from patchcore import Detector, StoreError, UsageError, WeightsError
from patchcore.inspection import ApproximateFaissNN, ExactNN, FaissNN, PatchCore, backbones, detector_of
from patchcore.inspection.plain_pickle import load

PARAMETERS = {
    "backbone.name": "resnet50",
    "layers_to_extract_from": ["layer1", "layer2"],
    "input_shape": (3, 64, 64),
    "pretrain_embed_dimension": 48,
    "target_embed_dimension": 40,
    "patchsize": 3,
    "patchstride": 1,
    "anomaly_scorer_num_nn": 1,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A state dict for torchvision's resnet50, as its V1 file is one, with random numbers in it."""
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(backbones.load("resnet50", "random").state_dict(), path)
    return path


@pytest.fixture
def reference(tmp_path):
    """A folder as patchcore-inspection saves it: FAISS's own file, and a pickle."""
    folder = tmp_path / "mvtec_bottle"
    folder.mkdir()
    rows = np.random.default_rng(0).standard_normal((60, 40)).astype(np.float32)
    index = faiss.IndexFlatL2(40)
    index.add(rows)
    faiss.write_index(index, str(folder / "nnscorer_search_index.faiss"))
    write(folder, PARAMETERS)
    return folder


def write(folder, parameters, protocol=pickle.HIGHEST_PROTOCOL, prepend=""):
    (folder / f"{prepend}patchcore_params.pkl").write_bytes(pickle.dumps(parameters, protocol))


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 3, 64, 64)).astype(np.float32))


# Our own files


@pytest.mark.parametrize("search", [ExactNN, FaissNN])
def test_a_saved_model_scores_the_same(search, make, network, good, new, tmp_path):
    model = make(anomaly_score_num_nn=2, nn_method=search(), patchsize=5)
    model.fit([good])
    model.save_to_path(tmp_path, prepend="m_")
    names = {f"m_nnscorer_search_index{suffix}" for suffix in {search.suffix, ".faiss"}} | {"m_patchcore_params.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    again = PatchCore("cpu")
    again.load_from_path(tmp_path, "cpu", search(), prepend="m_", backbone=network)
    scores, maps = model.predict(new)
    assert again.predict(new)[0] == scores
    np.testing.assert_array_equal(again.predict(new)[1], maps)
    assert again.described() == model.described()


def test_parameters_are_readable_and_hold_no_machine(fitted, tmp_path):
    fitted.save_to_path(tmp_path)
    data = json.loads((tmp_path / "patchcore_params.json").read_text())
    assert set(data) == {*PARAMETERS, "format", "backbone.sha256"}
    assert data["layers_to_extract_from"] == ["low", "high"]
    assert data["backbone.name"] is None


def test_a_network_of_the_caller_s_own_is_asked_for_and_compared(fitted, tmp_path):
    fitted.save_to_path(tmp_path)
    with pytest.raises(StoreError, match=r"network of the caller's own. Give it again: load_from_path\(..., backbone="):
        PatchCore("cpu").load_from_path(tmp_path, "cpu")
    with pytest.raises(WeightsError, match="not those that the model was saved with: SHA-256"):
        PatchCore("cpu").load_from_path(tmp_path, "cpu", backbone=Stages(seed=1))


def test_a_named_network_is_found_again_by_its_name(tmp_path, weights):
    model = PatchCore("cpu")
    network = backbones.load("resnet50", str(weights), size=(64, 64))
    model.load(network, ["layer1"], "cpu", (3, 64, 64), 16, 16)
    model.fit([images(1)])
    model.save_to_path(tmp_path)
    again = PatchCore("cpu")
    again.load_from_path(tmp_path, "cpu", weights=str(weights))
    assert again.predict(images(1, 1))[0] == model.predict(images(1, 1))[0]
    assert again.backbone.name == "resnet50"


def test_an_empty_model_is_not_saved(make, tmp_path):
    with pytest.raises(Exception, match="This model is empty"):
        PatchCore("cpu").save_to_path(tmp_path)
    with pytest.raises(Exception, match="no search index"):
        make().save_to_path(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:40], "patchcore_params.json: Invalid JSON: .*Expected a dict of parameters"),
        (lambda text: "[" * 1000 + "]" * 1000, "patchcore_params.json: Invalid JSON: recursion limit"),
        (
            lambda text: text.replace('"format": 1', '"format": 2'),
            "format got 2: Input should be less than or equal to 1. Of a later format.*Upgrade: pip",
        ),
        (
            lambda text: text.replace('"patchsize": 3', '"patchsize": 0'),
            "patchsize got 0: .*A whole number, at least 1",
        ),
        (lambda text: "[]", r"got \[\]. Expected a dict of parameters"),
    ],
)
def test_damaged_parameters_are_explained(change, message, fitted, tmp_path):
    fitted.save_to_path(tmp_path)
    path = tmp_path / "patchcore_params.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(StoreError, match=message):
        PatchCore("cpu").load_from_path(tmp_path, "cpu", backbone=fitted.backbone)


# patchcore-inspection's files


@pytest.mark.parametrize("search", [None, FaissNN])
def test_a_model_of_patchcore_inspection_is_read(search, reference, weights):
    model = PatchCore("cpu")
    model.load_from_path(reference, "cpu", search and search(), weights=str(weights))
    rows = faiss.read_index(str(reference / "nnscorer_search_index.faiss")).reconstruct_n(0, 60)
    np.testing.assert_array_equal(model.anomaly_scorer.nn_method.rows(), rows)
    assert model.layers_to_extract_from == ["layer1", "layer2"]
    new = images(2)
    patches = np.stack(model.embed(new))
    distances = ((patches[:, None] - rows[None]) ** 2).sum(2).min(1)
    np.testing.assert_allclose(model.predict(new)[0], distances.reshape(2, -1).max(1), rtol=1e-4)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("shape", [(3, 64, 64), [3, 64, 64], torch.Size([3, 64, 64])])
def test_every_protocol_of_pickle_is_read(protocol, shape, reference):
    write(reference, {**PARAMETERS, "input_shape": shape, "layers_to_extract_from": ("a", "b")}, protocol)
    found = load(reference / "patchcore_params.pkl")
    assert tuple(found.pop("input_shape")) == (3, 64, 64)
    assert found == {
        **{k: v for k, v in PARAMETERS.items() if k != "input_shape"},
        "layers_to_extract_from": ("a", "b"),
    }


def test_plain_values_come_as_they_went(tmp_path):
    value = {"a": [1, -5, 2**70, 1.5, True, False, None, "grün", {}], "b": (1, (), ("x", "y", "z", "w")), 3: {"c": []}}
    (tmp_path / "p").write_bytes(pickle.dumps(value))
    assert load(tmp_path / "p") == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_a_program_is_refused_and_runs_nothing(protocol, reference, tmp_path):
    write(reference, {**PARAMETERS, "patchsize": Runs(tmp_path / "ran")}, protocol)
    with pytest.raises(StoreError, match=r"patchcore_params.pkl: refused: it asks for (posix|nt).system"):
        PatchCore("cpu").load_from_path(reference, "cpu")
    assert not (tmp_path / "ran").exists()
    pickle.loads((reference / "patchcore_params.pkl").read_bytes())
    assert (tmp_path / "ran").exists()  # it would have


@pytest.mark.parametrize(
    "value",
    [
        np.int64(3), np.zeros(2), torch.zeros(2), torch.device("cpu"), collections.OrderedDict(a=1), {1}, b"abc",
        bytearray(b"abc"), datetime.date(2020, 1, 1), len, Runs, Runs("x"), complex(1, 2), range(3),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_other_things_than_plain_values_are_refused(value, tmp_path):
    (tmp_path / "p").write_bytes(pickle.dumps({"patchsize": value}))
    with pytest.raises(StoreError, match=r"refused: it (asks for|has the instruction) .*Expected only strings"):
        load(tmp_path / "p")


@pytest.mark.parametrize(
    "data",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x05torch\x8c\x04load\x93\x8c\x01x\x85R.",
        b"\x80\x02ctorch\nSize\n)\x81}(\x8c\x01a\x8c\x01bub.",  # sets what a tuple does not have
        b"P7\n.",  # somebody else's object
        b"\x82\x01.",  # an extension
        b"\x80\x04N" + b"r" + struct.pack("<I", 2**31) + b".",  # memory for so many objects
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x02)" + b"\x85" * 500_000 + b".",  # tuples in tuples in tuples
        b"\x80\x02})" + b"2\x86" * 60 + b"Ns.",  # hashed 2 ** 60 times
        b"\x80\x02ctorch\nSize\nq\0](" + b"N" * 999 + b"eq\1(" + b"h\0h\1\x85R" * 999 + b"t.",  # copies of a list
        b"\x80\x02ctorch\nSize\nX\3\0\0\0abc\x85R.",  # a tuple of letters
        b"\x80\x02\x8b" + struct.pack("<i", 5000) + b"\x7f" * 5000 + b".",  # a number of 40,000 bits
        b"",
        b"nonsense",
        b"\x80\x04]",
    ],
)
def test_hostile_and_broken_pickles_are_refused(data, tmp_path):
    (tmp_path / "p").write_bytes(data)
    with pytest.raises(StoreError, match="refused: "):
        load(tmp_path / "p")


def test_a_damaged_pickle_is_plain_values_or_refused(tmp_path):
    rng, plain = random.Random(0), (dict, list, tuple, str, bytes, int, float, bool, type(None))
    seeds = [pickle.dumps(PARAMETERS, protocol) for protocol in range(6)]
    for _ in range(3000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(len(data))] = rng.choice(
                [rng.randrange(256), *b"(.0125NRabcdehijlopqrstu]}\x80\x85\x93"]
            )
        cut = rng.randrange(len(data))
        if rng.random() < 0.3:
            data[cut:cut] = data[rng.randrange(len(data)) :][: rng.randrange(40)]
        (tmp_path / "p").write_bytes(data[: rng.choice([len(data), len(data), cut])])
        with contextlib.suppress(StoreError):
            assert isinstance(load(tmp_path / "p"), plain)


def test_lists_within_lists_are_not_unfolded(reference):
    bomb: list = []
    for _ in range(60):
        bomb = [bomb, bomb]  # 2 ** 60 empty lists, in a few hundred bytes
    write(reference, {**PARAMETERS, "layers_to_extract_from": bomb})
    assert len(list(pickletools.genops((reference / "patchcore_params.pkl").read_bytes()))) < 1000
    with pytest.raises(StoreError, match=r"refused: it has a list in two places\. "):
        PatchCore("cpu").load_from_path(reference, "cpu")


def test_a_large_or_a_missing_pickle_is_not_read(reference):
    path = reference / "patchcore_params.pkl"
    path.write_bytes(b"\0" * (1 << 21))
    with pytest.raises(StoreError, match="2097152 bytes; expected a few hundred"):
        PatchCore("cpu").load_from_path(reference, "cpu")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:3cdd\nsize 228\n")
    with pytest.raises(StoreError, match="a Git LFS pointer, not the file itself"):
        PatchCore("cpu").load_from_path(reference, "cpu")
    path.unlink()
    with pytest.raises(StoreError, match=r"holds no patchcore_params.json and no patchcore_params.pkl\.$"):
        PatchCore("cpu").load_from_path(reference, "cpu")
    with pytest.raises(StoreError, match="There is no such folder"):
        PatchCore("cpu").load_from_path(reference / "nowhere", "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_shape": (64, 64)}, r"input_shape got \(64, 64\): .*Channels, height, width"),
        ({"layers_to_extract_from": [1]}, "from got 1: Input should be a text. The names of layers"),
        ({"layers_to_extract_from": []}, r"from got \[\]: .*The names of layers"),
        ({"patchsize": "3"}, "patchsize got '3': .*A whole number, at least 1"),
        ({"patchsize": True}, "patchsize got True: .*A whole number"),
        ({"backbone.name": 5}, "backbone.name got 5: Input should be a text"),
    ],
)
def test_parameters_of_the_wrong_kind_are_named(change, message, reference):
    write(reference, {**PARAMETERS, **change})
    with pytest.raises(StoreError, match=message):
        PatchCore("cpu").load_from_path(reference, "cpu")
    write(reference, {k: v for k, v in PARAMETERS.items() if k not in change})
    with pytest.raises(StoreError, match=f"there is no {next(iter(change))!r}"):
        PatchCore("cpu").load_from_path(reference, "cpu")


def test_an_ensemble_s_members_are_listed(reference):
    (reference / "patchcore_params.pkl").unlink()
    for i in (1, 2):
        write(reference, PARAMETERS, prepend=f"Ensemble-{i}-2_")
    with pytest.raises(StoreError, match=r"begin with 'Ensemble-1-2_', 'Ensemble-2-2_'.*give one as prepend"):
        PatchCore("cpu").load_from_path(reference, "cpu")


def test_more_neighbours_count_and_are_warned_of(reference, weights):
    write(reference, {**PARAMETERS, "anomaly_scorer_num_nn": 5})
    model = PatchCore("cpu")
    with pytest.warns(UserWarning, match="saved with anomaly_scorer_num_nn=5, and is loaded with it"):
        model.load_from_path(reference, "cpu", weights=str(weights))
    assert model.anomaly_scorer.n_nearest_neighbours == 5


def test_weights_that_cannot_be_had_name_both_ways_out(reference, monkeypatch, tmp_path):
    import urllib.error

    def offline(*arguments, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("socket.create_connection", offline)
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(WeightsError, match=r"The weights of resnet50 .*IMAGENET1K_V1.*Load them once.*weights=PATH"):
        PatchCore("cpu").load_from_path(reference, "cpu")


def test_the_cache_that_patchcore_inspection_filled_is_used(reference, monkeypatch, tmp_path, weights):
    from torchvision.models import ResNet50_Weights

    name = ResNet50_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name).write_bytes(weights.read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = PatchCore("cpu")
    model.load_from_path(reference, "cpu")
    local = PatchCore("cpu")
    local.load_from_path(reference, "cpu", weights=str(weights))
    assert model.predict(images(1))[0] == local.predict(images(1))[0]


# To a detector


def test_a_detector_has_the_model_s_scores(reference, weights, tmp_path, hazelnut):
    from patchcore.inspection.datasets.mvtec import DatasetSplit, MVTecDataset

    model = PatchCore("cpu")
    model.load_from_path(reference, "cpu", weights=str(weights))
    data = MVTecDataset(hazelnut.parent, "hazelnut", resize=73, imagesize=64, split=DatasetSplit.TEST)
    items = [data[0], data[5]]
    scores, masks = model.predict(torch.stack([item["image"] for item in items]))
    detector = detector_of(model)
    assert (detector.recipe.size, detector.recipe.crop) == (73, 64)
    digest = detector.save(tmp_path / "m.patchcore")
    assert digest
    again = Detector.load(tmp_path / "m.patchcore")
    for item, score, mask in zip(items, scores, masks, strict=True):
        for one in (detector.predict(item["image_path"]), again.predict(item["image_path"])):
            assert one.score == pytest.approx(score, rel=1e-5)
            assert one.decision == "unsure"
            assert one.map.shape == (512, 512)
            assert np.nanmax(one.map) == pytest.approx(mask.max(), rel=0.05)  # brought to another size
    np.testing.assert_array_equal(
        again.fitted.members[0].bank.rows, model.anomaly_scorer.nn_method.rows()
    )  # with all their bits


def test_a_detector_is_calibrated_with_good_images(reference, weights, hazelnut):
    model = PatchCore("cpu")
    model.load_from_path(reference, "cpu", weights=str(weights))
    detector = detector_of(model, calibration=hazelnut / "test/good")
    scores = [result.score for result in detector.predict(hazelnut / "test/good")]
    assert detector.fitted.calibration.scores == tuple(scores)
    assert detector.fitted.calibration.threshold == pytest.approx(1.0001 * max(scores))
    maxima = [np.nanmax(result.map) for result in detector.predict(hazelnut / "test/good")]
    assert detector.fitted.calibration.pixel_threshold == pytest.approx(1.0001 * max(maxima))


def test_a_detector_of_a_network_of_the_caller_s_own(make, good, network, tmp_path):
    model = PatchCore("cpu")
    model.load(network, ["low"], "cpu", (3, 48, 48), 8, 8)
    model.fit([good[..., :40].new_zeros(1, 3, 48, 48)])
    detector = detector_of(model, resize=48)
    detector.save(tmp_path / "m")
    again = Detector.load(tmp_path / "m", backbone=network)
    image = np.zeros((48, 48, 3), np.uint8)
    assert again.predict(image).score == detector.predict(image).score
    black = -torch.tensor([0.485, 0.456, 0.406]) / torch.tensor([0.229, 0.224, 0.225])
    face = model.predict(black.view(1, 3, 1, 1).expand(1, 3, 48, 48))[0][0]
    assert detector.predict(image).score == pytest.approx(face, rel=1e-4)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_a_detector_reads_images_as_the_dataset_did(kernel, reference, weights, hazelnut, tmp_path):
    from patchcore.inspection.datasets.mvtec import DatasetSplit, MVTecDataset

    model = PatchCore("cpu")
    model.load_from_path(reference, "cpu", weights=str(weights))
    more = {"interpolation": kernel, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
    data = MVTecDataset(hazelnut.parent, "hazelnut", 80, 64, DatasetSplit.TEST, **more)
    (score,), _ = model.predict(data[0]["image"][None])
    path = data[0]["image_path"]
    detector = detector_of(model, dataset=data)
    detector.save(tmp_path / "m")
    assert detector.predict(path).score == pytest.approx(score, rel=1e-5)
    assert Detector.load(tmp_path / "m").predict(path).score == pytest.approx(score, rel=1e-5)
    other = {"bilinear": "bicubic", "bicubic": "bilinear"}[kernel]
    data.interpolation = other
    assert abs(detector_of(model, dataset=data).predict(path).score / score - 1) > 1e-4
    stated, plain = (detector_of(model, resize=80, interpolation=name) for name in (kernel, None))
    assert [one.recipe.interpolation for one in (stated, plain)] == [kernel, "bilinear"]


def test_a_dataset_that_the_model_cannot_have_seen_is_explained(reference, weights, hazelnut):
    from patchcore.inspection.datasets.mvtec import MVTecDataset

    model = PatchCore("cpu")
    model.load_from_path(reference, "cpu", weights=str(weights))
    with pytest.raises(UsageError, match=r"images are \(3, 48, 48\), and the model's input_shape is \(3, 64, 64\)"):
        detector_of(model, dataset=MVTecDataset(hazelnut.parent, "hazelnut", 80, 48))
    data = MVTecDataset(hazelnut.parent, "hazelnut", 80, 64)
    with pytest.raises(UsageError, match=r"either dataset=, .* or these alone"):
        detector_of(model, dataset=data, resize=80)
    with pytest.raises(UsageError, match=r"dataset is a list; expected an MVTecDataset.* state resize= and inter"):
        detector_of(model, dataset=[data[0]])


def test_what_a_detector_cannot_take_is_explained(make, fitted, good):
    with pytest.raises(UsageError, match=r"input_shape is \(3, 40, 48\); expected equal height and width"):
        detector_of(fitted)
    model = make(pretrain_embed_dimension=64, target_embed_dimension=64, nn_method=ApproximateFaissNN())
    many = [good[:1].roll(i, 2) for i in range(6)]
    with pytest.warns(UserWarning, match="720 rows"):
        model.fit(many)
    assert len(model.predict(good)[0]) == 3
    with pytest.raises(UsageError, match="ApproximateFaissNN stores codes, not the rows"):
        detector_of(model)
