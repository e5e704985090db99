-- One row per hit, with the latest line fit of the pixels and the wavelength that now stand; nulls where none is.
-- The skew-normal plus constant of Li et al. (2018, section 4); skewness is its shape parameter, as in their Table 1.
with fitted as (
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
        coalesce(line_fit.status, 'not fitted yet') as fit_status,
        row_number() over (
            partition by hit.target_id, hit.model_id
            order by line_fit.fitted_at desc nulls last, line_fit.fit_id desc nulls last
        ) as recency
    from hit
    left join line_fit
        on
            line_fit.spectrum_id = hit.spectrum_id
            and line_fit.model_id = hit.model_id
            and line_fit.content_hash = hit.content_hash
            and abs(line_fit.hit_wave_angstrom - hit.wave_angstrom) < 0.01
)

select
    target_id,
    model_id,
    model,
    native_id,
    is_injection,
    spectrum_id,
    run_id,
    probability,
    threshold,
    wave_angstrom,
    rest_wave_angstrom,
    snr,
    z_lens,
    fit_id,
    fit_version,
    line_wave_angstrom,
    line_wave_err_angstrom,
    peak_wave_angstrom,
    line_flux,
    line_flux_err,
    line_snr,
    peak_flux,
    peak_flux_err,
    sigma_angstrom,
    sigma_err_angstrom,
    skewness,
    skewness_err,
    constant,
    constant_err,
    chi2,
    dof,
    delta_chi2_gaussian,
    z_lya,
    z_oii,
    snr_oiii_5008,
    snr_oiii_4960,
    snr_hbeta,
    snr_halpha,
    n_mask_near,
    fit_status
from fitted
where recency = 1
;
