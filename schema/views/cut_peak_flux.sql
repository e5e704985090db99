-- One row per hit: is the fitted peak at least peak_flux_min? Fainter lines are noise as a rule.
-- Li et al. (2018, section 4) reject peaks below about 1e-17 erg/s/cm2/Angstrom by eye.
select
    target_id,
    model_id,
    coalesce(
        left(fit_status, 2) = 'ok'
        and peak_flux >= (select cut_setting.value from cut_setting where cut_setting.name = 'peak_flux_min'),
        false
    ) as passes,
    peak_flux,
    peak_flux_err,
    fit_status
from hit_fit
;
