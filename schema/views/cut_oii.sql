-- One row per hit: if the line were [OII], would [OIII], H beta or H alpha be there at oii_min_snr or more?
-- A line outside the spectrum or on masked pixels cannot tell, and counts as absent (Li et al. 2018, section 4).
select
    target_id,
    model_id,
    fit_id is not null
    and coalesce(
        greatest(snr_oiii_5008, snr_oiii_4960, snr_hbeta, snr_halpha)
        < (select cut_setting.value from cut_setting where cut_setting.name = 'oii_min_snr'),
        true
    ) as passes,
    z_oii,
    snr_oiii_5008,
    snr_oiii_4960,
    snr_hbeta,
    snr_halpha
from hit_fit
;
