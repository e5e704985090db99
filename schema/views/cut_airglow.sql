-- One row per hit, with everything of cut_peak_flux: do too many hits of the model crowd at its observed wavelength?
-- Airglow does that (Shu et al. 2016).
-- The hits within the half width of each hit, itself left out, are compared with those further out within the
-- reach: given n and k of them, n is binomial with the share of the wavelengths as its chance. A hit fails when
-- the count, the ratio to the expectation and the tail probability (bounded by a geometric series) all say so.
with found as (
    select * from cut_peak_flux
),

setting as (
    select
        max(value) filter (where name = 'airglow_half_width_angstrom') as half_width,
        max(value) filter (where name = 'airglow_reach_angstrom') as reach,
        max(value) filter (where name = 'airglow_min_count') as min_count,
        max(value) filter (where name = 'airglow_min_ratio') as min_ratio,
        max(value) filter (where name = 'airglow_max_p_value') as max_p_value,
        max(value) filter (where name = 'search_wave_min_angstrom') as search_min,
        max(value) filter (where name = 'search_wave_max_angstrom') as search_max
    from cut_setting
),

placed as (
    select
        found.target_id,
        found.model_id,
        found.wave_angstrom as x,
        setting.half_width,
        setting.reach,
        setting.min_count,
        setting.min_ratio,
        setting.max_p_value,
        found.wave_angstrom / setting.half_width as x_near,
        found.wave_angstrom / setting.reach as x_far,
        least(found.wave_angstrom, setting.search_min) as x_first,
        greatest(found.wave_angstrom, setting.search_max) as x_last
    from found
    cross join setting
    where found.wave_angstrom > 0
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
    tail.n_near as airglow_n_near,
    tail.n_expected as airglow_n_expected,
    tail.p_value as airglow_p_value,
    not coalesce(
        tail.n_near >= tail.min_count
        and tail.n_near >= tail.min_ratio * tail.n_expected
        and tail.p_value < tail.max_p_value,
        false
    ) as passes_airglow
from found
left join tail on tail.target_id = found.target_id and tail.model_id = found.model_id
;
