-- One row per hit: has the line the blue edge and red tail of Lyman alpha? Skewness above skewness_min, and at least
-- skewness_min_sigma times its error (Li et al. 2018, section 4, ask for skewness > 0 only).
select
    target_id,
    model_id,
    coalesce(
        left(fit_status, 2) = 'ok'
        and skewness > (select cut_setting.value from cut_setting where cut_setting.name = 'skewness_min')
        and skewness
        >= (select cut_setting.value from cut_setting where cut_setting.name = 'skewness_min_sigma')
        * coalesce(skewness_err, 0),
        false
    ) as passes,
    skewness,
    skewness_err,
    delta_chi2_gaussian
from hit_fit
;
