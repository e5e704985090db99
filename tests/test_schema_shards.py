"""Shards give back exactly what was written, by window and by row, and say which file is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import psutil
import pytest

from schema.errors import DataError, TransientError
from schema.shards import Shard, write_shard

PIX0, N, NPIX = 35400, 37, 500


@pytest.fixture
def written(tmp_path: Path) -> tuple[Shard, dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    arrays = {
        "flux": rng.normal(size=(N, NPIX)).astype("f4"),
        "ivar": rng.random((N, NPIX)).astype("f4"),
        "mask": rng.integers(0, 2**32, (N, NPIX), dtype="u4"),
    }
    return write_shard(tmp_path, "s", arrays, PIX0), arrays


@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(3, 9),
        slice(30, 99),
        slice(5, 5),
        slice(0, 30, 7),
        [4],
        [9, 2, 2, 36],
        [3, 4, 5],
        [],
    ],
)
@pytest.mark.parametrize(
    "window", [(None, None), (PIX0, NPIX), (PIX0 + 17, 101), (PIX0 + NPIX - 1, 1), (PIX0 + 3, None)]
)
def test_windows_are_exact(
    written: tuple[Shard, dict[str, np.ndarray]],
    rows: slice | list[int],
    window: tuple[int | None, int | None],
) -> None:
    shard, arrays = written
    lo = 0 if window[0] is None else window[0] - PIX0
    hi = NPIX if window[1] is None else lo + window[1]
    index = rows if isinstance(rows, slice) else np.array(rows, dtype=int)
    for name, values in arrays.items():
        got = shard.read(name, index, *window)
        assert got.dtype == values.dtype
        assert np.array_equal(got, values[index, lo:hi])
        assert got.flags.c_contiguous
        assert got.flags.owndata or got.base is None or got.base.flags.owndata


def test_what_is_not_there_is_named(written: tuple[Shard, dict[str, np.ndarray]], tmp_path: Path) -> None:
    shard, _ = written
    with pytest.raises(DataError, match="shard s, which holds 35400 to 35899"):
        shard.read("flux", slice(None), PIX0 - 1, 5)
    with pytest.raises(DataError, match="not all in shard s"):
        shard.read("flux", slice(None), PIX0, NPIX + 1)
    with pytest.raises(DataError, match="holds no sky"):
        shard.read("sky", slice(None))
    with pytest.raises(DataError, match="no row 37"):
        shard.read("flux", [1, 37])
    with pytest.raises(DataError, match="is missing"):
        Shard(tmp_path / "nowhere")
    (shard.path / "ivar.npy").unlink()
    with pytest.raises(DataError, match=r"ivar\.npy cannot be read"):
        Shard(shard.path).verify()


def test_damage_is_found(written: tuple[Shard, dict[str, np.ndarray]]) -> None:
    shard, _ = written
    flux = shard.path / "flux.npy"
    flux.write_bytes(flux.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"flux\.npy cannot be read"):
        Shard(shard.path).read("flux", slice(None))
    np.save(flux, np.zeros((N, NPIX - 1), "f4"))
    with pytest.raises(DataError, match=r"its meta\.json says"):
        Shard(shard.path).read("flux", slice(None))
    meta = json.loads((shard.path / "meta.json").read_text())
    (shard.path / "meta.json").write_text(json.dumps({**meta, "version": 99}))
    with pytest.raises(DataError, match="has layout 99"):
        Shard(shard.path)
    (shard.path / "meta.json").write_text("{")
    with pytest.raises(DataError, match=r"damaged meta\.json"):
        Shard(shard.path)


def test_a_shard_is_written_once(written: tuple[Shard, dict[str, np.ndarray]], tmp_path: Path) -> None:
    shard, arrays = written
    write_shard(tmp_path, "s", {"flux": np.zeros((1, 2), "f4")})
    assert np.array_equal(Shard(shard.path).read("flux", slice(None)), arrays["flux"])
    assert not list(tmp_path.glob("*.tmp"))
    with pytest.raises(DataError, match="arrays of one shape"):
        write_shard(tmp_path, "t", {"flux": np.zeros((1, 2)), "ivar": np.zeros((2, 2))})


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TransientError, match="cannot be written"):
        write_shard(tmp_path / "file", "s", {"flux": np.zeros((1, 2), "f4")})
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_scan_keeps_memory_flat(tmp_path: Path) -> None:
    """Reading a 200 MB array piece by piece does not make the process 200 MB larger."""
    shard = write_shard(tmp_path, "big", {"flux": np.ones((10_000, 5_000), "f4")}, PIX0)
    process = psutil.Process()
    before = process.memory_info().rss
    total = 0.0
    for first in range(0, 10_000, 500):
        total += float(shard.read("flux", slice(first, first + 500), PIX0 + 100, 1000).sum())
    assert total == 10_000 * 1000
    assert process.memory_info().rss - before < 60e6
