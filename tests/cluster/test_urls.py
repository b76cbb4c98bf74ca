"""Images at URLs."""

import pytest

from patchcore.cluster.urls import opened, samples_of, url_of
from patchcore.errors import DataError, ImageError

fsspec = pytest.importorskip("fsspec")


def put(url, hazelnut):
    """The images of a category, and a table of some of them."""
    system, path = fsspec.core.url_to_fs(url)
    for file in sorted(hazelnut.rglob("*.jpg")):
        place = f"{path}/{file.relative_to(hazelnut).as_posix()}"
        system.makedirs(place.rpartition("/")[0], exist_ok=True)
        system.pipe_file(place, file.read_bytes())
    system.pipe_file(f"{path}/notes.txt", b"no image")
    table = "path,label,part\ntrain/good/{0},good,p1\ntest/colour/00.jpg,cut,p2\n"
    name = sorted((hazelnut / "train" / "good").glob("*.jpg"))[0].name
    system.pipe_file(f"{path}/table.csv", table.format(name).encode())


@pytest.fixture(scope="module")
def s3():
    """A server on this machine that speaks S3."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    about = {
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
        "REGION": "us-east-1",
        "ENDPOINT_URL": f"http://{host}:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in about.items():
            patch.setenv(f"AWS_{name}", value)
        fsspec.filesystem("s3").mkdir("parts")
        yield "s3://parts"
    server.stop()


@pytest.fixture(params=["file", "memory", "s3"])
def root(request, hazelnut, tmp_path):
    """A category at a URL."""
    if request.param == "s3":
        url = f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    else:
        url = f"{request.param}://{tmp_path}/nuts"
    put(url, hazelnut)
    return url


def test_a_folder_at_a_url_is_read_as_one_on_the_disk(root, hazelnut):
    found = samples_of(root)
    assert [one.name for one in found] == sorted(p.relative_to(hazelnut).as_posix() for p in hazelnut.rglob("*.jpg"))
    assert all(opened(one).image == (hazelnut / one.name).read_bytes() for one in found)
    good = samples_of(root, learning=True)
    assert {one.name.rpartition("/")[0] for one in good} == {"train/good"}


def test_a_table_and_an_image_at_a_url(root, hazelnut):
    (good,) = samples_of(f"{root}/table.csv", learning=True)
    assert good.part == "p1"
    assert opened(good).image == (hazelnut / good.name).read_bytes()
    assert len(samples_of(f"{root}/table.csv")) == 2
    (one,) = samples_of(f"{root}/test/colour/00.jpg")
    assert opened(one).image == (hazelnut / "test/colour/00.jpg").read_bytes()


def test_what_is_not_there_says_so(root):
    with pytest.raises(DataError, match="holds no images"):
        samples_of(f"{root}/nothing")
    from patchcore import Sample

    with pytest.raises(ImageError, match="no such file"):
        opened(Sample("x", f"{root}/x.png"))


def test_a_url_that_was_taken_for_a_path_is_known():
    from pathlib import Path

    assert url_of(Path("s3://bucket/a b")) == "s3://bucket/a b"
    assert url_of(Path("/tmp/s3:/x")) is None
    assert url_of(Path("images")) is None
