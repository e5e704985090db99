-- One row per model and step of the search, in order: how many targets enter and leave it, and how many of them are
-- injected lenses. Step 1 takes the scored targets to hits; n_out of the last step is the number of candidates.
-- The columns that end in _published follow the cuts of Li et al. (2018) alone (hit_cut.first_failed_cut_published):
-- their skewness stands in the row of asymmetry, and the steps that they lack let everything through.
-- A target counts for one version of a model, that of its listed_score.
with step (step_no, step, step_published, description) as (
    values
    (1, 'hit', 'hit', 'probability at or above the threshold of the model'),
    (2, 'fit', 'fit', 'line fitted'),
    (3, 'peak_flux', 'peak_flux', 'fitted peak flux'),
    (4, 'snr', '', 'S/N of the matched filter'),
    (5, 'width', '', 'no narrower than the spectrograph allows'),
    (6, 'airglow', 'airglow', 'no over-density of hits in observed wavelength'),
    (7, 'rest_frame', 'rest_frame', 'no over-density of hits in the rest frame of the lens'),
    (8, 'bad_pixel', 'bad_pixel', 'off masked wavelengths and pixels'),
    (9, 'known_lens', 'known_lens', 'not a known lens'),
    (10, 'asymmetry', 'skewness', 'no significant blue tail; as published: skewness above 0'),
    (11, 'oii', 'oii', 'no [OIII], H beta or H alpha if it were [OII]'),
    (12, 'source', '', 'the source lies behind the lens')
),

entered as (
    select
        listed_score.model_id,
        count(*) as n,
        count(*) filter (where injection.is_lens) as n_injected
    from listed_score
    left join injection on injection.target_id = listed_score.target_id
    group by listed_score.model_id
),

reached as (
    select
        hit_cut.model_id,
        coalesce(step.step_no, 13) as failed_at,
        coalesce(published.step_no, 13) as failed_at_published,
        coalesce(injection.is_lens, false) as is_lens,
        count(*) as n
    from hit_cut
    left join step on step.step = hit_cut.first_failed_cut
    left join step as published on published.step_published = hit_cut.first_failed_cut_published
    left join injection on injection.target_id = hit_cut.target_id
    group by
        hit_cut.model_id,
        coalesce(step.step_no, 13),
        coalesce(published.step_no, 13),
        coalesce(injection.is_lens, false)
),

counted as (
    select
        entered.model_id,
        step.step_no,
        step.step,
        step.description,
        entered.n as n_scored,
        entered.n_injected as n_scored_injected,
        sum(reached.n) filter (where reached.failed_at >= step.step_no) as n_in,
        sum(reached.n) filter (where reached.failed_at > step.step_no) as n_out,
        sum(reached.n) filter (where reached.failed_at >= step.step_no and reached.is_lens) as n_in_injected,
        sum(reached.n) filter (where reached.failed_at > step.step_no and reached.is_lens) as n_out_injected,
        sum(reached.n) filter (where reached.failed_at_published > step.step_no) as n_out_published,
        sum(reached.n) filter (
            where reached.failed_at_published > step.step_no and reached.is_lens
        ) as n_out_injected_published
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
    cast(case when counted.step_no = 1 then counted.n_scored else coalesce(counted.n_in, 0) end as bigint) as n_in,
    cast(coalesce(counted.n_out, 0) as bigint) as n_out,
    cast(
        case when counted.step_no = 1 then counted.n_scored_injected else coalesce(counted.n_in_injected, 0) end
        as bigint
    ) as n_in_injected,
    cast(coalesce(counted.n_out_injected, 0) as bigint) as n_out_injected,
    cast(coalesce(counted.n_out_published, 0) as bigint) as n_out_published,
    cast(coalesce(counted.n_out_injected_published, 0) as bigint) as n_out_injected_published
from counted
inner join model on model.model_id = counted.model_id
;
