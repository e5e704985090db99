-- One row per model and step of the search, in order: how many targets enter and leave it, and how many of them are
-- injected lenses. Step 1 takes the scored targets to hits; n_out of step 9 is the number of candidates.
with step (step_no, step, description) as (
    values
    (1, 'hit', 'probability at or above the threshold of the model'),
    (2, 'fit', 'line fitted'),
    (3, 'peak_flux', 'fitted peak flux'),
    (4, 'airglow', 'no over-density of hits in observed wavelength'),
    (5, 'rest_frame', 'no over-density of hits in the rest frame of the lens'),
    (6, 'bad_pixel', 'off masked wavelengths and pixels'),
    (7, 'known_lens', 'not a known lens'),
    (8, 'skewness', 'blue edge and red tail'),
    (9, 'oii', 'no [OIII], H beta or H alpha if it were [OII]')
),

scored as (
    select
        score.model_id,
        score.target_id,
        bool_or(coalesce(injection.is_lens, false)) as is_lens
    from score
    inner join spectrum on spectrum.spectrum_id = score.spectrum_id and spectrum.is_primary
    left join spec_obj on spec_obj.target_id = score.target_id
    left join injection on injection.target_id = score.target_id
    where
        -- a case, as in view hit
        coalesce(spectrum.content_hash = score.content_hash and score.z_used is not distinct from spec_obj.z, false)
        and coalesce(spec_obj.is_primary, true)
        and upper(trim(coalesce(spec_obj.objtype, ''))) <> 'SKY'
    group by score.model_id, score.target_id
),

entered as (
    select
        model_id,
        count(*) as n,
        count(*) filter (where is_lens) as n_injected
    from scored
    group by model_id
),

reached as (
    select
        hit_cut.model_id,
        coalesce(step.step_no, 10) as failed_at,
        count(*) as n,
        count(*) filter (where injection.is_lens) as n_injected
    from hit_cut
    left join step on step.step = hit_cut.first_failed_cut
    left join injection on injection.target_id = hit_cut.target_id
    group by hit_cut.model_id, coalesce(step.step_no, 10)
),

counted as (
    select
        entered.model_id,
        step.step_no,
        step.step,
        step.description,
        case
            when step.step_no = 1 then entered.n
            else coalesce(sum(reached.n) filter (where reached.failed_at >= step.step_no), 0)
        end as n_in,
        coalesce(sum(reached.n) filter (where reached.failed_at > step.step_no), 0) as n_out,
        case
            when step.step_no = 1 then entered.n_injected
            else coalesce(sum(reached.n_injected) filter (where reached.failed_at >= step.step_no), 0)
        end as n_in_injected,
        coalesce(sum(reached.n_injected) filter (where reached.failed_at > step.step_no), 0) as n_out_injected
    from entered
    cross join step
    left join reached on reached.model_id = entered.model_id
    group by
        entered.model_id, entered.n, entered.n_injected, step.step_no, step.step, step.description
)

select
    counted.model_id,
    model.name as model,
    counted.step_no,
    counted.step,
    counted.description,
    cast(counted.n_in as bigint) as n_in,
    cast(counted.n_out as bigint) as n_out,
    cast(counted.n_in_injected as bigint) as n_in_injected,
    cast(counted.n_out_injected as bigint) as n_out_injected
from counted
inner join model on model.model_id = counted.model_id
;
