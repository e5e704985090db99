"""Networks against the matched filter at equal masks of the lens's lines, on real galaxies of a selection.

The mask of snr_lae and the residual of snr_lae_template were chosen on the galaxies of li2018_lrg. Galaxies
that no choice was made on are a fairer judge; among the spectra at hand those are the ones at z < 0.27:

    lensmine select add holdout --where "class = 'GALAXY' and subclass is null and z > 0.001 and z < 0.27 and
        coalesce(objtype, '') <> 'SKY' and z_warning = 0"
    python -m benchmarks.compare_masks --selection holdout

Gains are completeness at 0.1% false positives less that of the filter of the same kind, on the same spectra,
with 95% intervals by bootstrap over the galaxies.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from scoring.evaluate.hosts import Hosts, read_hosts
from scoring.evaluate.injections import InjectionConfig, evaluate_injections
from scoring.evaluate.predict import with_mask
from scoring.registry import spectral_model

PAIRS = (("matched_filter_lae", "snr_lae"), ("matched_filter_lae_template", "snr_lae_template"))


def compare(hosts: Hosts, masks: list[int], config: InjectionConfig) -> list[dict[str, Any]]:
    """One row per mask, pair and line flux."""
    rows = []
    for mask in masks:
        for pair in PAIRS:
            models = [with_mask(spectral_model(name), mask) for name in pair]
            reference, network = evaluate_injections(models, hosts, config)
            curves = (reference.curve("completeness_flux"), network.curve("completeness_flux"))
            for filtered, found, gain in zip(*curves, network.curve("gain_flux"), strict=True):
                rows.append(
                    {
                        "mask_px": mask,
                        "model": pair[1],
                        "flux": gain.x,
                        "filter": filtered.value,
                        "network": found.value,
                        "gain": gain.value,
                        "gain_lo": gain.lo,
                        "gain_hi": gain.hi,
                    }
                )
    return rows


def main() -> None:
    """Print a row a line as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--selection", default="holdout", help="galaxies that lines are put into")
    parser.add_argument("--db", default=None, help="database; default as the command lensmine")
    parser.add_argument(
        "--masks", type=int, nargs="+", default=[8, 12], help="half widths [pixel of 69 km/s]"
    )
    parser.add_argument("--n", type=int, default=1000, help="lines of each flux")
    parser.add_argument("--negatives", type=int, default=20_000, help="negatives made of real parts")
    parser.add_argument("--seed", type=int, default=86, help="seed of the spectra")
    given = parser.parse_args()
    hosts = read_hosts(given.db, given.selection, seed=given.seed)
    config = InjectionConfig(n_each=given.n, n_negative=given.negatives, seed=given.seed)
    print(json.dumps({"galaxies": len(hosts.table), "selection": hosts.selection}))
    for row in compare(hosts, given.masks, config):
        print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}))


if __name__ == "__main__":
    main()
