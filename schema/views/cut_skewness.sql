-- One row per hit, with everything of cut_known_lens: has the line the blue edge and red tail of Lyman alpha?
-- Skewness above skewness_min, and at least skewness_min_sigma times its error (Li et al. 2018, section 4, ask for
-- skewness > 0 only).
select
    cut_known_lens.*,
    coalesce(
        cut_known_lens.passes_fit
        and cut_known_lens.skewness
        > (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'skewness_min'
        )
        and cut_known_lens.skewness
        >= (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'skewness_min_sigma'
        )
        * coalesce(cut_known_lens.skewness_err, 0),
        false
    ) as passes_skewness
from cut_known_lens
;
