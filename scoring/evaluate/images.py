"""``lensmine evaluate images``: models against test sets of images, from the scores in the database."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from schema.engine import connect_engine
from schema.errors import UserError
from schema.tables import tracer
from scoring.evaluate.figures import Evaluation, at_threshold
from scoring.evaluate.images_figures import add_image_figures
from scoring.evaluate.images_sets import SETS, read_set
from scoring.evaluate.stored import latest_version


def evaluate_images(
    db: str | None, models: Sequence[str], sets: Sequence[str], lenses: str | None = None
) -> list[Evaluation]:
    """Every model on every set.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    models : sequence of str
        Models that have scored images; of several versions of one the version that scored last.
    sets : sequence of str
        Names in scoring.evaluate.images_sets.SETS.
    lenses : str, optional
        Set of tracers (`lensmine tracers add`) that the user says are lenses, beside the known ones.

    Returns
    -------
    list of Evaluation
        Set by set, model by model. Where a set lacks lenses or others that the model has scored, the
        evaluation holds what can be said: the share of lenses at the model's threshold, or nothing.

    Raises
    ------
    UserError
        An unknown set, one of tracers too, a model that has scored nothing, or no lens scored.
    """
    unknown = [name for name in sets if name not in SETS]
    if unknown:
        raise UserError(f"no test set of images is called {unknown[0]!r}; choose from {', '.join(SETS)}")
    if lenses is not None:
        with connect_engine(db, read_only=True).connect() as conn:
            there = conn.execute(sa.select(tracer.c.name).distinct().order_by(tracer.c.name)).scalars().all()
        if lenses not in there:
            raise UserError(
                f"no set of tracers is called {lenses!r}; there are {', '.join(there) or 'none'}; "
                "make one: lensmine tracers add"
            )
    found = [evaluate_set(db, model, name, lenses) for name in sets for model in models]
    if not any(each.n_positive for each in found):
        told = "; ".join(dict.fromkeys(filter(None, map(advice, found))))
        raise UserError(
            f"no lens of {', '.join(sets)} is scored by {', '.join(models)}; "
            + (
                told
                or "ingest images and a catalogue of lenses (lensmine ingest lenses FILE), or simulate some, "
                f"then: lensmine score {models[0]} all_images"
            )
        )
    return found


def advice(each: Evaluation) -> str | None:
    """What to do about images whose names alone hint at lenses."""
    n = each.recipe["n_left_out"]
    if not n:
        return None
    return (
        f"{n:,} images are called as lens searches call theirs, which proves nothing, so they are left out: "
        "load a catalogue that lists them (lensmine ingest lenses FILE), or say that they are lenses "
        "(lensmine tracers add NAME --where CONDITION, then --lenses NAME)"
    )


def evaluate_set(db: str | None, model_name: str, set_name: str, lenses: str | None = None) -> Evaluation:
    """One model on one set; as `evaluate_images`."""
    with connect_engine(db, read_only=True).connect() as conn:
        model_id, threshold = latest_version(conn, model_name)
        frame, n_left_out = read_set(conn, set_name, model_id, lenses)
    label = frame.is_lens.to_numpy(dtype=bool)
    score = frame.probability.to_numpy(dtype=float)
    real = frame.is_real.to_numpy(dtype=bool)
    n_positive, n_negative = int(label.sum()), int((~label).sum())
    note = {
        "recipe": "stored scores",
        "set": set_name,
        "note": SETS[set_name].note,
        "threshold": threshold,
        "n_real_lenses": int((label & real).sum()),
        "n_real_others": int((~label & real).sum()),
        "n_simulated_lenses": int((label & ~real).sum()),
        "n_simulated_others": int((~label & ~real).sum()),
        "n_left_out": n_left_out,
        "lenses": lenses,
    }
    evaluation = Evaluation(model_name, f"images_{set_name}", n_positive, n_negative, note, model_id=model_id)
    if n_positive or n_negative:
        evaluation.metrics += [m for m in at_threshold(label, score, threshold) if np.isfinite(m.value)]
    if n_positive and n_negative:
        add_image_figures(evaluation, label, score)
    return evaluation
