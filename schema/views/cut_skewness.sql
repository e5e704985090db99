-- One row per hit, with everything of cut_known_lens: has the line the blue edge and red tail of Lyman alpha?
-- passes_skewness is the published cut: skewness above skewness_min (Li et al. 2018, section 4: 0), and at least
-- skewness_min_sigma times its error. passes_asymmetry asks it of what the noise lets one know: a line fails when a
-- skew-normal with a blue tail fits better than the Gaussian by asymmetry_max_sigma standard deviations,
-- asymmetry_sigma being the square root of delta_chi2_gaussian with the sign of the skewness.
with measured as (
    select
        cut_known_lens.*,
        case
            when cut_known_lens.delta_chi2_gaussian is not null
                then sign(cut_known_lens.skewness) * sqrt(greatest(0.0, cut_known_lens.delta_chi2_gaussian))
        end as asymmetry_sigma
    from cut_known_lens
)

select
    measured.*,
    coalesce(
        measured.passes_fit
        and measured.skewness
        > (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'skewness_min'
        )
        and measured.skewness
        >= (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'skewness_min_sigma'
        )
        * coalesce(measured.skewness_err, 0),
        false
    ) as passes_skewness,
    coalesce(
        measured.passes_fit
        and measured.asymmetry_sigma
        >= -(
            select cut_setting.value from cut_setting
            where cut_setting.name = 'asymmetry_max_sigma'
        ),
        false
    ) as passes_asymmetry
from measured
;
