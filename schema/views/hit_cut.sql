-- One row per hit with the verdict of every cut, its numbers, and the first cut that dropped it; null for a candidate.
-- The order is that of Li et al. (2018, section 4); the cuts do not depend on one another.
with verdict as (
    select
        hit_fit.target_id,
        hit_fit.model_id,
        hit_fit.model,
        hit_fit.native_id,
        hit_fit.is_injection,
        hit_fit.run_id,
        hit_fit.fit_id,
        hit_fit.probability,
        hit_fit.wave_angstrom,
        hit_fit.rest_wave_angstrom,
        hit_fit.snr,
        hit_fit.z_lens,
        coalesce(hit_fit.fit_status, 'not fitted yet') as fit_status,
        coalesce(left(hit_fit.fit_status, 2) = 'ok', false) as passes_fit,
        cut_peak_flux.passes as passes_peak_flux,
        hit_fit.peak_flux,
        coalesce(cut_airglow.passes, true) as passes_airglow,
        cut_airglow.n_near as airglow_n_near,
        cut_airglow.n_expected as airglow_n_expected,
        cut_airglow.p_value as airglow_p_value,
        coalesce(cut_rest_frame.passes, true) as passes_rest_frame,
        cut_rest_frame.n_near as rest_frame_n_near,
        cut_rest_frame.n_expected as rest_frame_n_expected,
        cut_rest_frame.p_value as rest_frame_p_value,
        cut_bad_pixel.passes as passes_bad_pixel,
        cut_bad_pixel.mask_reason,
        hit_fit.n_mask_near,
        cut_known_lens.passes as passes_known_lens,
        cut_known_lens.known_lens,
        cut_known_lens.sep_arcsec as known_lens_sep_arcsec,
        cut_skewness.passes as passes_skewness,
        hit_fit.skewness,
        hit_fit.skewness_err,
        hit_fit.delta_chi2_gaussian,
        cut_oii.passes as passes_oii,
        hit_fit.z_oii,
        hit_fit.snr_oiii_5008,
        hit_fit.snr_oiii_4960,
        hit_fit.snr_hbeta,
        hit_fit.snr_halpha
    from hit_fit
    inner join cut_peak_flux
        on cut_peak_flux.target_id = hit_fit.target_id and cut_peak_flux.model_id = hit_fit.model_id
    left join cut_airglow
        on cut_airglow.target_id = hit_fit.target_id and cut_airglow.model_id = hit_fit.model_id
    left join cut_rest_frame
        on cut_rest_frame.target_id = hit_fit.target_id and cut_rest_frame.model_id = hit_fit.model_id
    inner join cut_bad_pixel
        on cut_bad_pixel.target_id = hit_fit.target_id and cut_bad_pixel.model_id = hit_fit.model_id
    inner join cut_known_lens
        on cut_known_lens.target_id = hit_fit.target_id and cut_known_lens.model_id = hit_fit.model_id
    inner join cut_skewness
        on cut_skewness.target_id = hit_fit.target_id and cut_skewness.model_id = hit_fit.model_id
    inner join cut_oii
        on cut_oii.target_id = hit_fit.target_id and cut_oii.model_id = hit_fit.model_id
)

select
    verdict.*,
    case
        when not passes_fit then 'fit'
        when not passes_peak_flux then 'peak_flux'
        when not passes_airglow then 'airglow'
        when not passes_rest_frame then 'rest_frame'
        when not passes_bad_pixel then 'bad_pixel'
        when not passes_known_lens then 'known_lens'
        when not passes_skewness then 'skewness'
        when not passes_oii then 'oii'
    end as first_failed_cut
from verdict
;
