-- One row per hit, with everything of cut_snr: is the line at least as wide as the spectrograph makes every line?
-- A standard deviation that stays below width_min_angstrom even with width_max_sigma times its error added is a
-- cosmic ray or a bad pixel: no light has passed the slit of BOSS at that width. An error larger than the width itself
-- says that the fit stuck at its bound, and counts for nothing. Not among the published cuts.
select
    cut_snr.*,
    coalesce(
        cut_snr.sigma_angstrom
        + (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'width_max_sigma'
        )
        * case
            when cut_snr.sigma_err_angstrom < cut_snr.sigma_angstrom
                then cut_snr.sigma_err_angstrom
            else 0
        end
        >= (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'width_min_angstrom'
        ),
        false
    ) as passes_width
from cut_snr
;
