-- One row per hit, with the latest line fit of the pixels and the wavelength that now stand; nulls where none is.
-- The skew-normal plus constant of Li et al. (2018, section 4); skewness is its shape parameter, as in their Table 1.
with found as (
    select * from hit
),

latest as (
    select
        found.target_id,
        found.model_id,
        line_fit.fit_id,
        row_number() over (
            partition by found.target_id, found.model_id order by line_fit.fitted_at desc, line_fit.fit_id desc
        ) as recency
    from found
    inner join line_fit
        on
            line_fit.spectrum_id = found.spectrum_id
            and line_fit.model_id = found.model_id
            and line_fit.content_hash = found.content_hash
            and abs(line_fit.hit_wave_angstrom - found.wave_angstrom) < 0.01
)

select
    found.target_id,
    found.model_id,
    found.model,
    found.native_id,
    found.is_injection,
    found.spectrum_id,
    found.run_id,
    found.probability,
    found.threshold,
    found.wave_angstrom,
    found.rest_wave_angstrom,
    found.snr,
    found.z_lens,
    line_fit.fit_id,
    line_fit.fit_version,
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
    line_fit.n_mask_near,
    coalesce(line_fit.status, 'not fitted yet') as fit_status
from found
left join latest
    on latest.target_id = found.target_id and latest.model_id = found.model_id and latest.recency = 1
left join line_fit on line_fit.fit_id = latest.fit_id
;
