-- One row per hit, with everything of cut_peak_flux: is the S/N of the matched filter at the hit at least snr_min? Shu
-- et al. (2016) ask for 6. What a network finds below is mostly noise: a probability is calibrated at a share of
-- lenses of one in fifteen, and the sky has one in thousands. Not among the cuts of Li et al. (2018).
select
    cut_peak_flux.*,
    coalesce(
        cut_peak_flux.snr
        >= (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'snr_min'
        ),
        false
    ) as passes_snr
from cut_peak_flux
;
