"""Rows of table model: one for every name, preprocessing, weights and precision that scored something."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from schema.console import jsonable
from schema.ids import hashed_id
from schema.tables import model as model_table

if TYPE_CHECKING:
    from scoring.models.base import Model


def versioned_weights(model: Model, precision: str = "fp32") -> str:
    """Hash of the weights as they are computed with: ``-int8`` and ``-bf16`` are versions of their own."""
    return model.weights_hash if precision == "fp32" else f"{model.weights_hash}-{precision}"


def model_key(model: Model, precision: str = "fp32") -> int:
    """Key of the model version in table model."""
    return hashed_id("model", model.name, model.preprocessing_hash, versioned_weights(model, precision))


def ensure_model(
    conn: sa.Connection, model: Model, precision: str = "fp32", check: dict[str, object] | None = None
) -> int:
    """Add the row of a model version if the database lacks it.

    Parameters
    ----------
    conn : Connection
        Open for writing.
    model : Model
        Loaded model.
    precision : str
        fp32, bf16 or int8.
    check : dict, optional
        What was measured before this precision was allowed; kept in the card.

    Returns
    -------
    int
        model_id.
    """
    model_id = model_key(model, precision)
    c = model_table.c
    if conn.execute(sa.select(c.model_id).where(c.model_id == model_id)).first() is None:
        card = dict(model.card) | ({"precision": precision, "precision_check": check} if check else {})
        row = {
            "model_id": model_id,
            "name": model.name,
            "kind": model.kind,
            "reference": getattr(model, "reference", "") or model.card.get("reference"),
            "preprocessing_hash": model.preprocessing_hash,
            "weights_hash": versioned_weights(model, precision),
            "threshold": float(model.default_threshold),
            "config": jsonable(dataclasses.asdict(model.config)),
            "card": jsonable(card),
            "registered_at": datetime.datetime.now(datetime.UTC),
        }
        conn.execute(model_table.insert(), [row])
    return model_id
