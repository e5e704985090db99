-- One row per hit and frame of wavelength: does it lie in a crowd of hits of its model? Frame airglow is the observed
-- wavelength (Shu et al. 2016), rest_frame that of the lens, where template residuals crowd (Li et al. 2018).
-- The hits within the half width of each hit, itself left out, are compared with those further out within the
-- reach: given n and k of them, n is binomial with the share of the wavelengths as its chance. A hit is in a crowd
-- when the count, the ratio to the expectation and the tail probability (bounded by a geometric series) all say so, and
-- a quarter of the others lie within half of the half width, where half would if they were spread evenly: the crowd is
-- at the hit, not at the edge of its window.
-- Injections into real hosts (injection.host_target_id) are judged by their real neighbours and are nobody's neighbour:
-- how many somebody injected must not change what the real list holds. Simulated surveys, without hosts, count as real.
with setting as (
    select
        'airglow' as frame,
        max(value) filter (where name = 'airglow_half_width_angstrom') as half_width,
        max(value) filter (where name = 'airglow_reach_angstrom') as reach,
        max(value) filter (where name = 'airglow_min_count') as min_count,
        max(value) filter (where name = 'airglow_min_ratio') as min_ratio,
        max(value) filter (where name = 'airglow_max_p_value') as max_p_value,
        max(value) filter (where name = 'search_wave_min_angstrom') as search_min,
        max(value) filter (where name = 'search_wave_max_angstrom') as search_max
    from cut_setting
    union all
    select
        'rest_frame' as frame,
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
        setting.*,
        hit.target_id,
        hit.model_id,
        case when injection.host_target_id is null then 1 end as weight,
        case setting.frame when 'airglow' then hit.wave_angstrom else hit.rest_wave_angstrom end as x,
        case setting.frame when 'airglow' then 1.0 else 1 + hit.z_lens end as stretch
    from hit
    left join injection on injection.target_id = hit.target_id
    cross join setting
    where hit.wave_angstrom > 0 and (setting.frame = 'airglow' or hit.z_lens > -1)
),

scaled as (
    select
        placed.*,
        x / half_width as x_near,
        2 * x / half_width as x_core,
        x / reach as x_far,
        least(x, search_min / stretch) as x_first,
        greatest(x, search_max / stretch) as x_last
    from placed
),

counted as (
    select
        scaled.*,
        coalesce(min(x_first * weight) over (partition by model_id, frame), x_first) as real_lo,
        coalesce(max(x_last * weight) over (partition by model_id, frame), x_last) as real_hi,
        1 - coalesce(weight, 0) + count(weight) over (
            partition by model_id, frame order by x_core range between 1 preceding and 1 following
        ) as n_core,
        1 - coalesce(weight, 0) + count(weight) over (
            partition by model_id, frame order by x_near range between 1 preceding and 1 following
        ) as n_near,
        1 - coalesce(weight, 0) + count(weight) over (
            partition by model_id, frame order by x_far range between 1 preceding and 1 following
        ) as n_far
    from scaled
),

bounded as (
    select
        counted.*,
        least(x_first, real_lo) as lo,
        greatest(x_last, real_hi) as hi
    from counted
),

share as (
    select
        bounded.*,
        cast(n_near - 1 as double precision) as n,
        cast(n_far - n_near as double precision) as k,
        (least(x + half_width, hi) - greatest(x - half_width, lo))
        / nullif(least(x + reach, hi) - greatest(x - reach, lo), 0) as p
    from bounded
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
    target_id,
    model_id,
    frame,
    n_core,
    n_near,
    n_expected,
    p_value,
    coalesce(
        n_near >= min_count
        and n_near >= min_ratio * n_expected
        and p_value < max_p_value
        and 4 * (n_core - 1) >= n_near - 1,
        false
    ) as is_crowd
from tail
;
