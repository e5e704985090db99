-- One row per hit: target and model whose current score reaches the model's threshold. Of the versions of a model
-- (other weights, precision or preprocessing under one name) the one that scored the spectrum last speaks for it.
-- Sky fibres and further epochs of an object that has a primary one are left out (Li et al. 2018, section 4).
-- The scores that reach it are taken first and shown to be current after: one in a thousand is a hit. "Current"
-- stands in a case so that PostgreSQL does not multiply the odds of three equalities, expect no row and loop.
select
    score.target_id,
    score.model_id,
    model.name as model,
    target.native_id,
    target.is_injection,
    score.spectrum_id,
    score.run_id,
    score.content_hash,
    score.probability,
    model.threshold,
    score.wave_angstrom,
    score.snr,
    spec_obj.z as z_lens,
    score.wave_angstrom / case when spec_obj.z > -1 then 1 + spec_obj.z end as rest_wave_angstrom
from score
inner join model on model.model_id = score.model_id and score.probability >= model.threshold
inner join spectrum on spectrum.spectrum_id = score.spectrum_id and spectrum.is_primary
inner join target on target.target_id = score.target_id
left join spec_obj on spec_obj.target_id = score.target_id
where
    coalesce(spectrum.content_hash = score.content_hash and score.z_used is not distinct from spec_obj.z, false)
    and coalesce(spec_obj.is_primary, true)
    and upper(trim(coalesce(spec_obj.objtype, ''))) <> 'SKY'
    and not exists (
        select 1
        from score as later
        inner join model as version on version.model_id = later.model_id
        where
            later.spectrum_id = score.spectrum_id
            and version.name = model.name
            and later.run_id > score.run_id
            and later.content_hash = score.content_hash
            and later.z_used is not distinct from score.z_used
    )
;
