-- One row per spectrum and model: the score of the latest run, of the pixels and redshift that now stand.
-- A score of older pixels or another lens redshift is stale, and left out until the model scores them again.
with fresh as (
    select
        score.spectrum_id,
        score.model_id,
        score.run_id,
        score.target_id,
        score.content_hash,
        score.z_used,
        score.probability,
        score.wave_angstrom,
        score.snr,
        row_number() over (
            partition by score.spectrum_id, score.model_id order by score.run_id desc
        ) as recency
    from score
    inner join spectrum
        on spectrum.spectrum_id = score.spectrum_id and spectrum.content_hash = score.content_hash
    left join spec_obj on spec_obj.target_id = score.target_id
    where score.z_used is not distinct from spec_obj.z
)

select
    spectrum_id,
    model_id,
    run_id,
    target_id,
    content_hash,
    z_used,
    probability,
    wave_angstrom,
    snr
from fresh
where recency = 1
;
