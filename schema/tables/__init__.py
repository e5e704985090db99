"""Every table of lensmine, with the unit and meaning of each column.

The data dictionary (``lensmine db dictionary``) and the metadata of every export are made from the ``doc``,
``unit`` and ``ucd`` given here. Units are those astropy.units reads, UCDs follow UCD1+ (IVOA 2018). Foreign
keys are declared for PostgreSQL; on DuckDB, where they block schema changes on the parent, ``lensmine db
check`` proves the same integrity by query.
"""

from __future__ import annotations

from schema.tables.base import FLUX_DENSITY_UNIT, FLUX_UNIT, NAMING, Json, Time, col, key, metadata
from schema.tables.hits import cut_setting, injection, line_fit, wave_mask
from schema.tables.images import cutout, image_score, image_shard, injection_lens, phot_obj, tracer
from schema.tables.keys import declare_keys
from schema.tables.lenses import known_lens, known_lens_cell, known_lens_name
from schema.tables.mining import mining_member, mining_round, selection_function
from schema.tables.outcome import evaluation, job, metric
from schema.tables.review import calibrator, grade, review_note, reviewer, saved_query
from schema.tables.runs import model, run_chunk, score, scoring_run, selection
from schema.tables.spectra import pixel_shard, spec_fill, spec_obj, spectrum
from schema.tables.survey import reject, source_file, target

declare_keys(metadata)

__all__ = [
    "FLUX_DENSITY_UNIT",
    "FLUX_UNIT",
    "NAMING",
    "Json",
    "Time",
    "calibrator",
    "col",
    "cut_setting",
    "cutout",
    "evaluation",
    "grade",
    "image_score",
    "image_shard",
    "injection",
    "injection_lens",
    "job",
    "key",
    "known_lens",
    "known_lens_cell",
    "known_lens_name",
    "line_fit",
    "metadata",
    "metric",
    "mining_member",
    "mining_round",
    "model",
    "phot_obj",
    "pixel_shard",
    "reject",
    "review_note",
    "reviewer",
    "run_chunk",
    "saved_query",
    "score",
    "scoring_run",
    "selection",
    "selection_function",
    "source_file",
    "spec_fill",
    "spec_obj",
    "spectrum",
    "target",
    "tracer",
    "wave_mask",
]
