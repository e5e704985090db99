-- One row per hit, with everything of hit_fit: was a line fitted, and is its peak at least peak_flux_min?
-- Li et al. (2018, section 4) reject peaks below about 1e-17 erg/s/cm2/Angstrom by eye. The views of the cuts form
-- a chain, each adding its verdict to the columns of the one before; no verdict depends on another.
select
    hit_fit.*,
    left(hit_fit.fit_status, 2) = 'ok' as passes_fit,
    coalesce(
        left(hit_fit.fit_status, 2) = 'ok'
        and hit_fit.peak_flux
        >= (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'peak_flux_min'
        ),
        false
    ) as passes_peak_flux
from hit_fit
;
