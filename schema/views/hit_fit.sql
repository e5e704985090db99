-- One row per hit, with the latest line fit of the pixels and the wavelength that now stand; nulls where none is.
-- The skew-normal plus constant of Li et al. (2018, section 4); skewness is its shape parameter, as in their Table 1.
with latest as (
    select
        hit.target_id,
        hit.model_id,
        line_fit.fit_id,
        row_number() over (
            partition by hit.target_id, hit.model_id order by line_fit.fitted_at desc, line_fit.fit_id desc
        ) as recency
    from hit
    inner join line_fit
        on
            line_fit.spectrum_id = hit.spectrum_id
            and line_fit.model_id = hit.model_id
            and line_fit.content_hash = hit.content_hash
            and abs(line_fit.hit_wave_angstrom - hit.wave_angstrom) < 0.01
)

select
    hit.target_id,
    hit.model_id,
    hit.model,
    hit.native_id,
    hit.is_injection,
    hit.spectrum_id,
    hit.run_id,
    hit.probability,
    hit.threshold,
    hit.wave_angstrom,
    hit.rest_wave_angstrom,
    hit.snr,
    hit.z_lens,
    line_fit.fit_id,
    line_fit.fit_version,
    line_fit.status as fit_status,
    line_fit.wave_angstrom as line_wave_angstrom,
    line_fit.wave_err_angstrom as line_wave_err_angstrom,
    line_fit.peak_wave_angstrom,
    line_fit.line_flux,
    line_fit.line_flux_err,
    line_fit.line_snr,
    line_fit.peak_flux,
    line_fit.peak_flux_err,
    line_fit.sigma_angstrom,
    line_fit.sigma_err_angstrom,
    line_fit.skewness,
    line_fit.skewness_err,
    line_fit.constant,
    line_fit.constant_err,
    line_fit.chi2,
    line_fit.dof,
    line_fit.delta_chi2_gaussian,
    line_fit.z_lya,
    line_fit.z_oii,
    line_fit.snr_oiii_5008,
    line_fit.snr_oiii_4960,
    line_fit.snr_hbeta,
    line_fit.snr_halpha,
    line_fit.n_mask_near
from hit
left join latest
    on latest.target_id = hit.target_id and latest.model_id = hit.model_id and latest.recency = 1
left join line_fit on line_fit.fit_id = latest.fit_id
;
