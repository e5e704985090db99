-- One row per hit: target and model whose score (view listed_score: one version of a model for each target) reaches
-- the model's threshold. The scores that reach it are taken first and shown to be current after: one in a thousand is
-- a hit.
select
    listed_score.target_id,
    listed_score.model_id,
    listed_score.model,
    target.native_id,
    target.is_injection,
    listed_score.spectrum_id,
    listed_score.run_id,
    listed_score.content_hash,
    listed_score.probability,
    listed_score.threshold,
    listed_score.wave_angstrom,
    listed_score.snr,
    listed_score.z_lens,
    listed_score.wave_angstrom / case when listed_score.z_lens > -1 then 1 + listed_score.z_lens end
        as rest_wave_angstrom
from listed_score
inner join target on target.target_id = listed_score.target_id
where listed_score.probability >= listed_score.threshold
;
