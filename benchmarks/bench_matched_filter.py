"""Spectra per second of the matched filter, batched here against a plain per-spectrum loop, in one run.

Li et al. (2018, section 5) report 10 hours for 1,241,799 spectra with the filter of Shu et al.: 34 a second.

    python -m benchmarks.bench_matched_filter
    python -m benchmarks.bench_matched_filter --calibrate
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from numpy.typing import NDArray

from scoring.evaluate.predict import logits
from scoring.evaluate.testsets import paper_test
from scoring.localise import localise
from scoring.models.matched_filter_lae import MatchedFilterLae
from scoring.registry import get_model


def plain_loop(
    flux: NDArray[np.float64], ivar: NDArray[np.float64], sigma_px: float = 2.0, half: int = 40
) -> float:
    """Highest S/N of one spectrum: continuum and Gaussian fitted by least squares pixel by pixel."""
    best = 0.0
    for at in range(len(flux)):
        lo, hi = max(0, at - half), min(len(flux), at + half + 1)
        x = np.arange(lo, hi) - at
        w, f = ivar[lo:hi], flux[lo:hi]
        columns = np.stack([np.exp(-0.5 * (x / sigma_px) ** 2), np.ones(len(x)), x])
        normal = (columns * w) @ columns.T
        try:
            cov = np.linalg.inv(normal)
        except np.linalg.LinAlgError:
            continue
        amplitude = cov[0] @ (columns @ (w * f))
        best = max(best, float(amplitude / np.sqrt(max(cov[0, 0], 1e-30))))
    return best


def measure(n: int, n_plain: int) -> dict[str, float]:
    """Rates [spectra/s] over `n` spectra of the published recipe; the plain loop over the first `n_plain`."""
    spectra = next(paper_test(n, 1, batch=n))
    flux, ivar = spectra.flux.double().numpy(), spectra.ivar.double().numpy()
    began = time.perf_counter()
    for i in range(n_plain):
        plain_loop(flux[i], ivar[i])
    plain = n_plain / (time.perf_counter() - began)
    model = get_model("matched_filter_lae")
    logits(model, spectra.take(torch.arange(256)))
    began = time.perf_counter()
    logits(model, spectra)
    batched = n / (time.perf_counter() - began)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        began, cpu = time.perf_counter(), time.process_time()
        for i in range(0, n, 256):
            part = slice(i, i + 256)
            localise(spectra.flux[part], spectra.ivar[part], spectra.z[part])
        core = n / (time.process_time() - cpu)
    torch.set_num_threads(threads)
    return {
        "plain_loop_per_s": plain,
        "matched_filter_per_s": batched,
        "ratio": batched / plain,
        "localise_per_core_s": core,
        "published_per_s": 34.0,
    }


def calibrate(n: int = 30_000) -> dict[str, float]:
    """Logistic map from S/N to probability, by maximum likelihood on the published recipe."""
    from scipy.optimize import minimize

    model = get_model("matched_filter_lae")
    assert isinstance(model, MatchedFilterLae)
    config = model.config
    snr, label = [], []
    for batch in paper_test(n, seed=77):
        snr.append(logits(model, batch) / config.logit_per_snr + config.snr_even)
        label.append(batch.label)
    s, y = np.concatenate(snr), np.concatenate(label)

    def loss(p: NDArray[np.float64]) -> float:
        logit = p[1] * (s - p[0])
        return float(np.logaddexp(0, np.where(y, -logit, logit)).mean())

    best = minimize(loss, [5.0, 2.0], method="Nelder-Mead").x
    return {"snr_even": float(best[0]), "logit_per_snr": float(best[1])}


def main() -> None:
    """Print figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=20_000, help="spectra")
    parser.add_argument("--plain", type=int, default=40, help="spectra for the plain loop")
    parser.add_argument(
        "--calibrate", action="store_true", help="fit the map from S/N to probability instead"
    )
    given = parser.parse_args()
    found = calibrate() if given.calibrate else measure(given.n, given.plain)
    print(json.dumps({k: round(v, 4) for k, v in found.items()}))


if __name__ == "__main__":
    main()
