"""The imaging half of ``lensmine demo``: simulated lenses among ordinary sources, ranked and counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

MODEL = "arclet_gri"
SELECTION = "demo_images"
TRACERS = "demo_lenses"
WHERE = "survey = 'sim' and cutout_id is not null"

Advance = Callable[[int, int], None]
Stage = Callable[[str, Callable[[Advance], Any]], Any]


def search_images(
    db: str, n_lenses: int, n_others: int, seed: int, picture: Path, stage: Stage
) -> dict[str, Any]:
    """Simulate HSC cutouts, score them, and rank the lenses among the others.

    Parameters
    ----------
    db : str
        Database of the demo.
    n_lenses, n_others : int
        Lenses, and ordinary sources that they are hidden among.
    seed : int
        Seed of the simulation.
    picture : Path
        Picture of the head of the list to write.
    stage : callable
        Runs a named piece of work with a progress bar.

    Returns
    -------
    dict
        model, lenses, others, candidates, found (lenses among them), ranking_performance and its interval,
        inspect_90 and inspect_all (shares of the list), picture.
    """
    from schema.engine import connect_engine
    from scoring.evaluate.tracers import add_tracers, evaluate_trc
    from scoring.inject.simulate import simulate_lenses
    from scoring.run import score
    from scoring.selection import add_selection

    stage(
        "drawing image cutouts",
        lambda tell: simulate_lenses(
            db, n_lenses, instrument="hsc", n_nonlenses=n_others, seed=seed, progress=tell
        ),
    )
    add_selection(db, SELECTION, WHERE, "The cutouts that the demo simulated.")
    add_tracers(
        db,
        TRACERS,
        where_sql="survey = 'sim' and target_id in (select target_id from injection where is_lens)",
    )
    done = 0

    def ranked(tell: Advance) -> Any:
        def count(newly: int, todo: int) -> None:
            nonlocal done
            done += newly
            tell(done, todo)

        return score(db, MODEL, SELECTION, progress=count)

    report = stage("ranking them", ranked)
    evaluation = evaluate_trc(db, MODEL, TRACERS, SELECTION)
    wanted = ("ranking_performance", "inspect_90", "inspect_all")
    figures = {name: evaluation.get(name) for name in wanted}
    with connect_engine(db, read_only=True).connect() as conn:
        query = (
            "select c.target_id, c.native_id, c.probability, i.is_lens from image_candidate as c "
            f"left join injection as i on i.target_id = c.target_id where c.model = '{MODEL}' "
            "order by c.probability desc, c.target_id"
        )
        rows = conn.exec_driver_sql(query).all()
        head = conn.exec_driver_sql(
            "select r.target_id, r.probability, i.is_lens from ranked as r "
            "inner join injection as i on i.target_id = r.target_id "
            f"where r.model = '{MODEL}' order by r.probability desc, r.target_id limit 36"
        ).all()
    drawn = stage("drawing the head of the list", lambda tell: _draw(db, [tuple(r) for r in head], picture))
    return {
        "model": MODEL,
        "lenses": n_lenses,
        "others": n_others,
        "per_s": round(report.spectra_per_s, 1),
        "candidates": len(rows),
        "found": sum(bool(r[3]) for r in rows),
        "best": rows[0][1] if rows else None,
        **{name: [round(float(v or 0), 4) for v in (m.value, m.lo, m.hi)] for name, m in figures.items()},
        "picture": drawn,
    }


def _draw(db: str, head: list[tuple[Any, ...]], path: Path) -> str:
    """The first cutouts of the list in colour, lenses framed, each with its probability."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    from scoring.mining.pixels import images_of
    from scoring.registry import model_class

    images, targets = images_of(db, [int(r[0]) for r in head], model_class(MODEL)())  # type: ignore[arg-type]
    pixels = np.concatenate([part.pixels for part in images.parts]).astype(float)
    at = {int(t): k for k, t in enumerate(targets)}
    figure, axes = plt.subplots(4, 9, figsize=(9, 4.6))
    for axis, (target, probability, is_lens) in zip(axes.flat, head, strict=False):
        axis.imshow(_colour(pixels[at[int(target)]]), origin="lower", interpolation="nearest")
        axis.set_title(f"{probability:.2f}", fontsize=7, pad=2)
        for spine in axis.spines.values():
            spine.set_color("#e69f00" if is_lens else "#777777")
            spine.set_linewidth(2.2 if is_lens else 0.8)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    n = sum(bool(r[2]) for r in head)
    figure.suptitle(f"Head of the list by {MODEL}: {n} of {len(head)} are lenses (orange frame)", fontsize=9)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return str(path)


def _colour(bands: Any) -> Any:
    """Red, green and blue of one cutout after Lupton et al. (2004), shape (ny, nx, 3), values 0 to 1."""
    import numpy as np

    sky = np.median(bands, axis=(1, 2), keepdims=True)
    noise = 1.4826 * np.median(np.abs(bands - sky), axis=(1, 2), keepdims=True)
    flux = (bands - sky) / np.maximum(noise, 1e-12)
    mean = np.clip(flux.mean(axis=0), 1e-6, None)
    scale = np.arcsinh(mean / 8.0) / mean / np.arcsinh(np.percentile(mean, 99.7) / 8.0)
    return np.clip(np.moveaxis(flux * scale, 0, 2), 0, 1)


def image_lines(result: dict[str, Any]) -> list[str]:
    """What came out, for people."""
    value, lo, hi = result["ranking_performance"]
    lines = [
        f"[bold]Images[/bold] {result['model']} ranked {result['lenses'] + result['others']:,} simulated HSC "
        f"cutouts, {result['lenses']} of them lenses ({result['per_s']:,.0f} per s)",
        f"  ranking performance {value:.3f} (95% interval {lo:.3f} to {hi:.3f}); 90% of the lenses stand "
        f"in the first {100 * result['inspect_90'][0]:.1f}% of the list, all in the first "
        f"{100 * result['inspect_all'][0]:.1f}%",
        f"  {result['candidates']} candidates at the model's threshold, {result['found']} of them lenses",
    ]
    if result["picture"]:
        lines.append(f"  picture {result['picture']}")
    return lines
