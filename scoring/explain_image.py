"""What became of one image target: its cutouts, and what each model of images made of the primary one."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from scoring.find_target import query_rows

_CUTOUTS = """
select cutout.cutout_id, cutout.instrument, cutout.bands, cutout.ny, cutout.nx, cutout.pixscale_arcsec,
    cutout.frac_good, cutout.is_primary, cutout.content_hash, image_shard.name as shard, cutout.shard_row,
    source_file.path as file
from cutout
left join image_shard on image_shard.shard_id = cutout.shard_id
left join source_file on source_file.source_file_id = cutout.source_file_id
where cutout.target_id = :t
order by cutout.is_primary desc, cutout.cutout_id
"""
_SCORES = """
select image_score.model_id, model.name as model, model.weights_hash,
    version_order.last_run_id, image_score.cutout_id, image_score.run_id, image_score.probability,
    image_score.content_hash, cutout.content_hash as content_hash_now, cutout.is_primary,
    scoring_run.backend, scoring_run.precision, scoring_run.started_at
from image_score
inner join model on model.model_id = image_score.model_id
inner join version_order on version_order.model_id = image_score.model_id
left join cutout on cutout.cutout_id = image_score.cutout_id
left join scoring_run on scoring_run.run_id = image_score.run_id
where image_score.target_id = :t
order by version_order.last_run_id desc, image_score.run_id desc
"""
IMAGE_MODELS = """
select distinct model.model_id, model.name, model.threshold, model.weights_hash
from model inner join scoring_run on scoring_run.model_id = model.model_id
where scoring_run.modality = 'image'
order by model.name, model.model_id
"""
_PLACE = """
select count(*) as n_ranked,
    count(*) filter (where probability > :p) as n_above,
    count(*) filter (where probability = :p) as n_equal
from current_image_score where model_id = :m
"""


def explain_images(conn: sa.Connection, target_id: int, model: str | None = None) -> dict[str, Any]:
    """Cutouts of a target, and a verdict per model that scores images.

    Parameters
    ----------
    conn : Connection
        Open for reading.
    target_id : int
        The target.
    model : str, optional
        Only this model.

    Returns
    -------
    dict
        ``cutouts`` and ``verdicts``: model, threshold, verdict, reason, probability, and the place in the
        model's list (1 the best, equals share the mean of theirs) of how many. Both empty where it has
        no cutout.
    """
    cutouts = query_rows(conn, _CUTOUTS, t=target_id)
    if not cutouts:
        return {"cutouts": [], "verdicts": []}
    scores = query_rows(conn, _SCORES, t=target_id)
    models = [m for m in query_rows(conn, IMAGE_MODELS) if model in (None, m["name"])]
    return {"cutouts": cutouts, "verdicts": [_verdict(conn, m, scores) for m in models]}


def _verdict(conn: sa.Connection, model: dict[str, Any], scores: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [s for s in scores if s["model_id"] == model["model_id"]]
    current = [s for s in mine if s["is_primary"] and s["content_hash"] == s["content_hash_now"]]
    row: dict[str, Any] = {
        "model": model["name"], "model_id": model["model_id"], "weights_hash": model["weights_hash"],
        "threshold": model["threshold"], "probability": None, "place": None, "n_ranked": None,
    }  # fmt: skip
    if not mine:
        why = "no selection that was scored holds it, or it lacks the model's bands or pixels"
        return {**row, "verdict": "not scored", "reason": f"{model['name']} has not scored it: {why}"}
    if not current:
        return {**row, "verdict": "not current", "reason": "its score is of older pixels; score again"}
    since = [
        s for s in scores
        if s["model"] == model["name"] and s["last_run_id"] > current[0]["last_run_id"]
        and s["is_primary"] and s["content_hash"] == s["content_hash_now"]
    ]  # fmt: skip
    if since:
        why = f"other weights of {model['name']}, {since[0]['weights_hash'][:12]}, scored it and ran since"
        return {**row, "verdict": "superseded", "reason": why}
    p = current[0]["probability"]
    counts = query_rows(conn, _PLACE, m=model["model_id"], p=p)[0]
    place = counts["n_above"] + (counts["n_equal"] + 1) / 2
    row |= {"probability": p, "place": place, "n_ranked": counts["n_ranked"], "run_id": current[0]["run_id"]}
    hit = p >= (model["threshold"] or 0)
    share = f"place {place:,.10g} of {counts['n_ranked']:,}"
    return {
        **row,
        "verdict": "candidate" if hit else "not a hit",
        "reason": f"probability {p:.4g}, {'at or above' if hit else 'below'} the threshold "
        f"{model['threshold']:g}; {share}",
    }


def lines_about_images(found: dict[str, Any]) -> list[str]:
    """What `explain_images` found, for people."""
    out = []
    for c in found["cutouts"]:
        scale = (
            "pixel scale unknown" if c["pixscale_arcsec"] is None else f"{c['pixscale_arcsec']:.4g} arcsec"
        )
        mark = "cutout" if c["is_primary"] else "other cutout"
        out.append(f"{mark}: {c['instrument'] or '?'} {c['bands']}, {c['nx']}x{c['ny']} pixels, {scale}")
    out += [f"{v['model']}: {v['verdict']}; {v['reason']}" for v in found["verdicts"]]
    return out
