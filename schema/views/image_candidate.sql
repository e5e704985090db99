-- One row per image candidate: a cutout whose current score reaches the model's threshold, with its photometry and
-- the known lens nearby. Of the versions of a model the one that ran last, of those that have a current score of the
-- cutout, speaks for it (view version_order). Known lenses stay in, marked: people look for new ones, and check that
-- old ones are found.
with known as (
    select
        target_id,
        sep_arcsec,
        name,
        row_number() over (partition by target_id order by sep_arcsec, lens_id) as nearness
    from known_lens_match
)

select
    target.native_id,
    target.survey,
    target.ra_deg,
    target.dec_deg,
    current_image_score.probability,
    model.name as model,
    model.threshold,
    cutout.instrument,
    cutout.bands,
    cutout.pixscale_arcsec,
    phot_obj.mag_g,
    phot_obj.mag_r,
    phot_obj.mag_i,
    phot_obj.mag_f814w,
    phot_obj.r_eff_arcsec,
    phot_obj.z_phot,
    phot_obj.z_spec,
    known.name as known_lens,
    known.sep_arcsec as known_lens_sep_arcsec,
    target.is_injection,
    target.target_id,
    current_image_score.cutout_id,
    current_image_score.model_id,
    current_image_score.run_id,
    phot_obj.mag_g - phot_obj.mag_r as g_r,
    phot_obj.mag_r - phot_obj.mag_i as r_i
from current_image_score
inner join model on model.model_id = current_image_score.model_id
inner join version_order on version_order.model_id = current_image_score.model_id
inner join target on target.target_id = current_image_score.target_id
inner join cutout on cutout.cutout_id = current_image_score.cutout_id
left join phot_obj on phot_obj.target_id = target.target_id
left join known on known.target_id = target.target_id and known.nearness = 1
where
    current_image_score.probability >= model.threshold
    and not exists (
        select 1
        from image_score as later
        inner join version_order as version on version.model_id = later.model_id
        where
            later.cutout_id = current_image_score.cutout_id
            and version.model = model.name
            and version.last_run_id > version_order.last_run_id
            and later.content_hash = current_image_score.content_hash
    )
;
