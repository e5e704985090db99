-- One row per hit: target and model whose current score reaches the model's threshold.
-- Sky fibres and further epochs of an object that has a primary one are left out (Li et al. 2018, section 4).
select
    current_score.target_id,
    current_score.model_id,
    model.name as model,
    target.native_id,
    target.is_injection,
    current_score.spectrum_id,
    current_score.run_id,
    current_score.content_hash,
    current_score.probability,
    model.threshold,
    current_score.wave_angstrom,
    current_score.snr,
    coalesce(current_score.z_used, spec_obj.z) as z_lens,
    current_score.wave_angstrom
    / case when coalesce(current_score.z_used, spec_obj.z) > -1 then 1 + coalesce(current_score.z_used, spec_obj.z) end
        as rest_wave_angstrom
from current_score
inner join model on model.model_id = current_score.model_id
inner join target on target.target_id = current_score.target_id
inner join spectrum on spectrum.spectrum_id = current_score.spectrum_id and spectrum.is_primary
left join spec_obj on spec_obj.target_id = current_score.target_id
where
    current_score.probability >= model.threshold
    and coalesce(spec_obj.is_primary, true)
    and upper(trim(coalesce(spec_obj.objtype, ''))) <> 'SKY'
;
