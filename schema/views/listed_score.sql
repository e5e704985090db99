-- One row per target and model name that lists go by: the score that stands for the target, of the pixels and redshift
-- that now stand. Of the versions of a model (other weights, precision or preprocessing under one name) the one that
-- ran last, of those that have a current score of the spectrum, speaks for it (view version_order). Sky fibres and
-- further epochs of an object that has a primary one are left out (Li et al. 2018, section 4). "Current" stands in a
-- case so that PostgreSQL does not multiply the odds of three equalities, expect no row and loop.
select
    score.target_id,
    score.model_id,
    version_order.model,
    version_order.threshold,
    score.spectrum_id,
    score.run_id,
    score.content_hash,
    score.probability,
    score.wave_angstrom,
    score.snr,
    spec_obj.z as z_lens
from score
inner join version_order on version_order.model_id = score.model_id
inner join spectrum on spectrum.spectrum_id = score.spectrum_id and spectrum.is_primary
left join spec_obj on spec_obj.target_id = score.target_id
where
    coalesce(spectrum.content_hash = score.content_hash and score.z_used is not distinct from spec_obj.z, false)
    and coalesce(spec_obj.is_primary, true)
    and upper(trim(coalesce(spec_obj.objtype, ''))) <> 'SKY'
    and not exists (
        select 1
        from score as later
        inner join version_order as version on version.model_id = later.model_id
        where
            later.spectrum_id = score.spectrum_id
            and version.model = version_order.model
            and (
                version.last_run_id > version_order.last_run_id
                or (later.model_id = score.model_id and later.run_id > score.run_id)
            )
            and later.content_hash = score.content_hash
            and later.z_used is not distinct from score.z_used
    )
;
