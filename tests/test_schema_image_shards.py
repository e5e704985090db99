"""Image shards keep what was put in, refuse what is wrong, and normalise as the thesis does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from schema.errors import DataError, TransientError
from schema.image_shards import ImageShard, percentile_stamp, pixel_hashes, write_image_shard

RNG = np.random.default_rng(7)
IMAGE = RNG.normal(size=(5, 3, 8, 6)).astype(np.float32)
BANDS = ("g", "r", "i")


def write(root: Path, name: str = "s") -> ImageShard:
    stamp, _ = percentile_stamp(IMAGE)
    return write_image_shard(root, name, {"image": IMAGE, "stamp": stamp}, BANDS)


def test_pixels_come_back(tmp_path: Path) -> None:
    shard = write(tmp_path)
    assert shard.shape == (5, 3, 8, 6)
    assert shard.arrays == ("image", "stamp")
    np.testing.assert_array_equal(shard.read("image", slice(None)), IMAGE)
    np.testing.assert_array_equal(shard.read("image", [3, 1]), IMAGE[[3, 1]])
    np.testing.assert_array_equal(shard.read("image", np.array([1, 2, 3])), IMAGE[1:4])
    np.testing.assert_array_equal(shard.read("image", [0], bands=("i", "g")), IMAGE[:1][:, [2, 0]])
    assert shard.read("stamp", [0]).dtype == np.uint8
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_shard_that_is_there_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path)
    before = (tmp_path / "s" / "image.npy").stat().st_mtime_ns
    again = write_image_shard(tmp_path, "s", {"image": IMAGE * 2}, BANDS)
    np.testing.assert_array_equal(again.read("image", slice(None)), IMAGE)
    assert (tmp_path / "s" / "image.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("array", "rows", "bands", "told"),
    [
        ("noise", [0], None, "holds no noise"),
        ("image", [5], None, "no row 5"),
        ("image", [-1], None, "no row -1"),
        ("image", [0], ("g", "y"), "no band y"),
    ],
)
def test_what_is_not_there_is_told(
    tmp_path: Path, array: str, rows: list[int], bands: tuple[str, ...] | None, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        write(tmp_path).read(array, rows, bands)


def test_arrays_must_fit_each_other_and_the_bands(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 bands"):
        write_image_shard(tmp_path, "s", {"image": IMAGE}, ("g", "r"))
    with pytest.raises(DataError, match="one shape"):
        write_image_shard(tmp_path, "s", {"image": IMAGE, "stamp": IMAGE[:2].astype("u1")}, BANDS)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "s" / "image.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="cannot be read"):
        ImageShard(tmp_path / "s").verify()
    meta = json.loads((tmp_path / "s" / "meta.json").read_text())
    (tmp_path / "s" / "meta.json").write_text(json.dumps({**meta, "nx": 7}))
    with pytest.raises(DataError, match=r"shape|cannot be read"):
        ImageShard(tmp_path / "s").verify()
    (tmp_path / "s" / "meta.json").write_text("{")
    with pytest.raises(DataError, match=r"damaged meta.json"):
        ImageShard(tmp_path / "s")
    with pytest.raises(DataError, match="missing"):
        ImageShard(tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(TransientError, match="cannot be written"):
            write(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_name_taken_by_a_file_is_told_and_leaves_no_temporary(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("no folder")
    with pytest.raises(TransientError, match="cannot be written"):
        write(tmp_path / "root")
    assert [p.name for p in tmp_path.iterdir()] == ["root"]


def test_hashes_tell_pixels_and_shape_apart() -> None:
    first = pixel_hashes(IMAGE)
    assert len(set(first)) == len(IMAGE)
    assert pixel_hashes(IMAGE.astype(">f4")) == first
    changed = IMAGE.copy()
    changed[2, 0, 0, 0] += 1e-6
    differs = [a != b for a, b in zip(first, pixel_hashes(changed), strict=True)]
    assert differs == [False, False, True, False, False]
    assert pixel_hashes(IMAGE.reshape(5, 3, 6, 8)) != first


def test_stamps_are_the_percentiles_of_each_band() -> None:
    image = RNG.normal(size=(4, 2, 32, 32)).astype(np.float32) * 10
    stamp, clip = percentile_stamp(image)
    flat = image.reshape(4, 2, -1)
    want = np.stack(np.percentile(flat, [0.5, 99.5], axis=2), axis=-1)
    np.testing.assert_allclose(clip, want, rtol=1e-6)
    lo, hi = (want[..., k][..., None, None] for k in (0, 1))
    scaled = np.clip((image - lo) / (hi - lo), 0, 1) * 255
    assert np.abs(stamp - scaled).max() <= 0.5001
    assert stamp.min() == 0
    assert stamp.max() == 255


def test_stamps_of_bad_pixels() -> None:
    image = RNG.normal(size=(5, 1, 16, 16)).astype(np.float32)
    image[0] = np.nan
    image[1] = 3.0
    image[2, 0, :4] = np.nan
    image[3, 0, 0, 0] = np.inf
    stamp, clip = percentile_stamp(image)
    assert (stamp[0] == 0).all()
    assert np.isnan(clip[0]).all()
    assert (stamp[1] == 0).all()
    assert (stamp[2, 0, :4] == 0).all()
    assert stamp[2].max() == 255
    assert stamp[3, 0, 0, 0] == 0
    good = image[2, 0, 4:].ravel()
    np.testing.assert_allclose(clip[2, 0], np.percentile(good, [0.5, 99.5]), rtol=1e-5)
    np.testing.assert_array_equal(percentile_stamp(image[4:])[0], stamp[4:])  # alone as among others
