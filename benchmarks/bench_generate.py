"""Spectra simulated per second: in batches on tensors, one at a time in numpy, and the published reference.

    python benchmarks/bench_generate.py

The reference is CASIGLO (Summers et al. 2023): 11,960,320 spectra in about 4 days on 64 cores, that is
0.54 spectra a second per core. The numpy loop makes the same spectra as the published recipe, one at a time.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch

from schema.grid import window_wave
from scoring.generate.galaxies import template_bank
from scoring.generate.recipes import PublishedRecipe, RealisticRecipe, Recipe
from scoring.noise import load_noise

CASIGLO_PER_SECOND = 0.54


def batched(recipe: Recipe, n: int, batch: int, device: str) -> float:
    """Spectra per second of a recipe in batches."""
    generator = torch.Generator(device=device).manual_seed(1)
    recipe.sample(batch, generator)
    started = time.perf_counter()
    for _ in range(n // batch):
        recipe.sample(batch, generator)
    if device == "cuda":
        torch.cuda.synchronize()
    return n // batch * batch / (time.perf_counter() - started)


def looped(n: int) -> float:
    """Spectra per second of the published recipe in numpy, one spectrum at a time."""
    noise, bank, rng, wave = load_noise(), template_bank(), np.random.default_rng(1), window_wave()
    basis, coefficients = bank.basis.numpy(), bank.coefficients.numpy()
    share = (bank.weight / bank.weight.sum()).double().numpy()
    share /= share.sum()
    started = time.perf_counter()
    for _ in range(n):
        b = rng.choice(len(share), p=share)
        scatter = coefficients[b].std(0)
        drawn = coefficients[b, rng.integers(coefficients.shape[1])]
        drawn = drawn + 0.25 * scatter * rng.normal(size=6)
        flux = basis[b, 0] + drawn @ basis[b, 1:]
        sigma = np.exp(
            noise.log_sigma
            + noise.coefficients[rng.integers(len(noise.coefficients))] @ noise.components
            + float(noise.pixel_scatter) * rng.normal(size=len(wave))
        )
        if rng.random() < 1 / 15:
            center, width = rng.uniform(3800, 5000), rng.normal(300, 200) / 299792.458
            peak = 1.5 * 10 ** rng.random()
            flux = flux + peak * np.exp(-0.5 * ((wave - center) / (width * center / 2.3548)) ** 2)
        chi = np.convolve(rng.normal(size=len(wave)), noise.kernel, mode="same")
        wide = rng.random(len(wave)) < float(noise.tail_fraction)
        chi = np.where(wide, float(noise.tail_scale) * chi, chi) * np.exp(
            float(noise.ivar_scale) * rng.normal()
        )
        flux = flux + chi * sigma + 0.01 * rng.normal() * noise.sky
    return n / (time.perf_counter() - started)


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spectra", type=int, default=40_960)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = {
        "threads": torch.get_num_threads(),
        "published_per_s": batched(PublishedRecipe(), args.spectra, args.batch, args.device),
        "realistic_per_s": batched(RealisticRecipe(), args.spectra, args.batch, args.device),
        "numpy_loop_per_s": looped(1000),
        "casiglo_per_s": CASIGLO_PER_SECOND,
    }
    if args.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:18s} {value:12,.2f}")


if __name__ == "__main__":
    main()
