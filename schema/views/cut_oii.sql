-- One row per hit, with everything of cut_skewness: if the line were [OII], would [OIII], H beta or H alpha be there
-- at oii_min_snr or more? A line outside the spectrum or on masked pixels cannot tell, and counts as absent
-- (Li et al. 2018, section 4).
select
    cut_skewness.*,
    cut_skewness.fit_id is not null
    and coalesce(
        greatest(
            cut_skewness.snr_oiii_5008, cut_skewness.snr_oiii_4960, cut_skewness.snr_hbeta, cut_skewness.snr_halpha
        ) < (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'oii_min_snr'
        ),
        true
    ) as passes_oii
from cut_skewness
;
