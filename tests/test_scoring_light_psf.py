"""PSF files, made here and real: what is taken, what is mended with a note, what is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from astropy.io import fits

from schema.errors import DataError, UserError
from scoring.light.psf import check_kernel, gaussian_psf, load_psf, moffat_psf


def _kernel(size: int = 21, total: float = 1.0) -> np.ndarray:
    return gaussian_psf(3.0, size).numpy() * total


def _fits(path: Path, data: np.ndarray) -> Path:
    fits.PrimaryHDU(data.astype(">f4")).writeto(path)
    return path


def test_a_good_psf_is_taken_as_it_is(tmp_path: Path) -> None:
    loaded = load_psf(_fits(tmp_path / "p.fits", _kernel()))
    assert loaded.kernel.shape == (1, 21, 21)
    assert loaded.notes == ()
    assert np.allclose(loaded.kernel[0].numpy(), _kernel(), atol=1e-8)


def test_a_sum_of_097_is_an_error_unless_accepted(tmp_path: Path) -> None:
    path = _fits(tmp_path / "p.fits", _kernel(total=0.97))
    with pytest.raises(UserError, match=r"sums to 0\.9700, not 1.*normalise=True"):
        load_psf(path)
    loaded = load_psf(path, normalise=True)
    assert loaded.kernel.sum().item() == pytest.approx(1.0)
    assert loaded.sums[0] == pytest.approx(0.97, abs=1e-6)
    assert "0.9700" in loaded.notes[0]


def test_nan_is_refused(tmp_path: Path) -> None:
    data = _kernel()
    data[3, 4] = np.nan
    with pytest.raises(DataError, match="1 PSF values are not finite"):
        load_psf(_fits(tmp_path / "p.fits", data))


def test_even_and_oblong_stamps_are_centred_with_a_note(tmp_path: Path) -> None:
    for cut in (np.s_[1:, 1:], np.s_[2:-2, :]):
        path = tmp_path / f"{cut[1].start}.fits"
        loaded = load_psf(_fits(path, _kernel()[cut]), normalise=True)
        kernel = loaded.kernel[0]
        assert kernel.shape[0] == kernel.shape[1] == 21
        assert divmod(int(kernel.argmax()), 21) == (10, 10)
        assert "padded to 21 x 21" in loaded.notes[0]


def test_a_peak_far_off_the_middle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="px off the middle"):
        load_psf(_fits(tmp_path / "p.fits", np.roll(_kernel(), 5, axis=1)))


def test_hdf5_by_key(tmp_path: Path) -> None:
    path = tmp_path / "p.h5"
    with h5py.File(path, "w") as file:
        file["kernel_point_source"] = _kernel(61)
        file["other"] = np.stack([_kernel(11), _kernel(11)])
    assert load_psf(path).kernel.shape == (1, 61, 61)
    assert load_psf(path, key="other", bands=[1]).kernel.shape == (1, 11, 11)
    with pytest.raises(UserError, match=r"no data set psf_g; it holds kernel_point_source, other"):
        load_psf(path, key="psf_g")
    with pytest.raises(UserError, match="has 0 to 0"):
        load_psf(path, bands=[1])


def test_files_that_are_no_psf(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no PSF file"):
        load_psf(tmp_path / "none.fits")
    for name in ("text.fits", "text.h5"):
        (tmp_path / name).write_text("not a PSF")
        with pytest.raises(DataError):
            load_psf(tmp_path / name)
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    with pytest.raises(DataError, match="holds no image"):
        load_psf(tmp_path / "empty.fits")


@pytest.mark.parametrize(
    "psf",
    [torch.ones(4, 4) / 16, torch.ones(3, 5) / 15, torch.ones(2, 3, 3) / 9, torch.full((3, 3), torch.nan)],
)
def test_kernels_the_renderer_cannot_use(psf: torch.Tensor) -> None:
    with pytest.raises(UserError, match="PSF"):
        check_kernel(psf, 3)


def test_moffat_has_wider_wings_than_a_gaussian_of_its_width() -> None:
    g, m = gaussian_psf(4.0, 31), moffat_psf(4.0, 3.0, 31)
    assert m[15, 0] > 100 * g[15, 0]
    assert m[15, 17] / m[15, 15] == pytest.approx(0.5, rel=1e-6)
    assert g[15, 17] / g[15, 15] == pytest.approx(0.5, rel=1e-6)


def test_real_psfs_load(data_dir: Path) -> None:
    files = [p for p in sorted((data_dir / "psf").rglob("*")) if p.suffix in (".fits", ".h5")]
    assert files
    cut = 0
    for path in files:
        loaded = load_psf(path, normalise=True)
        size = loaded.kernel.shape[-1]
        assert size % 2 == 1
        check_kernel(loaded.kernel, len(loaded.kernel))
        for plane in loaded.kernel:
            assert divmod(int(plane.argmax()), size) == (size // 2, size // 2)
        if max(abs(total - 1) for total in loaded.sums) > 1e-3:
            cut += 1
            with pytest.raises(UserError, match="not 1"):
                load_psf(path)
    assert cut  # HDF5 stamps cut off up to 3 per cent of the light
