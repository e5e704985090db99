-- One row per hit, with everything of cut_airglow: do too many hits crowd at its wavelength in the lens's rest frame?
-- Template residuals do that (Li et al. 2018, section 4).
-- The hits within the half width of each hit, itself left out, are compared with those further out within the
-- reach: given n and k of them, n is binomial with the share of the wavelengths as its chance. A hit fails when
-- the count, the ratio to the expectation and the tail probability (bounded by a geometric series) all say so.
with found as (
    select * from cut_airglow
),

setting as (
    select
        max(value) filter (where name = 'rest_frame_half_width_angstrom') as half_width,
        max(value) filter (where name = 'rest_frame_reach_angstrom') as reach,
        max(value) filter (where name = 'rest_frame_min_count') as min_count,
        max(value) filter (where name = 'rest_frame_min_ratio') as min_ratio,
        max(value) filter (where name = 'rest_frame_max_p_value') as max_p_value,
        max(value) filter (where name = 'search_wave_min_angstrom') as search_min,
        max(value) filter (where name = 'search_wave_max_angstrom') as search_max
    from cut_setting
),

placed as (
    select
        found.target_id,
        found.model_id,
        found.rest_wave_angstrom as x,
        setting.half_width,
        setting.reach,
        setting.min_count,
        setting.min_ratio,
        setting.max_p_value,
        found.rest_wave_angstrom / setting.half_width as x_near,
        found.rest_wave_angstrom / setting.reach as x_far,
        least(found.rest_wave_angstrom, setting.search_min / (1 + found.z_lens)) as x_first,
        greatest(found.rest_wave_angstrom, setting.search_max / (1 + found.z_lens)) as x_last
    from found
    cross join setting
    where found.rest_wave_angstrom > 0
),

counted as (
    select
        placed.*,
        min(x_first) over (partition by model_id) as lo,
        max(x_last) over (partition by model_id) as hi,
        count(*) over (
            partition by model_id order by x_near range between 1 preceding and 1 following
        ) as n_near,
        count(*) over (
            partition by model_id order by x_far range between 1 preceding and 1 following
        ) as n_far
    from placed
),

share as (
    select
        counted.*,
        cast(n_near - 1 as double precision) as n,
        cast(n_far - n_near as double precision) as k,
        (least(x + half_width, hi) - greatest(x - half_width, lo))
        / nullif(least(x + reach, hi) - greatest(x - reach, lo), 0) as p
    from counted
),

expected as (
    select
        share.*,
        case when p < 1 then k * p / (1 - p) end as n_expected,
        -- ln m! by Stirling's series at m + 1, right to 5e-4 at m = 0 and far better above
        (n + 0.5) * ln(n + 1) - (n + 1) + 1 / (12 * (n + 1)) as ln_n,
        (k + 0.5) * ln(k + 1) - (k + 1) + 1 / (12 * (k + 1)) as ln_k,
        (n + k + 0.5) * ln(n + k + 1) - (n + k + 1) + 1 / (12 * (n + k + 1)) - 0.91893853320467 as ln_all
    from share
),

tail as (
    select
        expected.*,
        case
            when p <= 0 or p >= 1 or n_near < min_count or n <= n_expected then 1.0
            else
                least(
                    1.0, exp(greatest(-700, ln_all - ln_n - ln_k + n * ln(p) + k * ln(1 - p)))
                    / (1 - k / (n + 1) * p / (1 - p))
                )
        end as p_value
    from expected
)

select
    found.*,
    tail.n_near as rest_frame_n_near,
    tail.n_expected as rest_frame_n_expected,
    tail.p_value as rest_frame_p_value,
    not coalesce(
        tail.n_near >= tail.min_count
        and tail.n_near >= tail.min_ratio * tail.n_expected
        and tail.p_value < tail.max_p_value,
        false
    ) as passes_rest_frame
from found
left join tail on tail.target_id = found.target_id and tail.model_id = found.model_id
;
