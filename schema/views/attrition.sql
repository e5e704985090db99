-- One row per model and step of the search, in order: how many targets enter and leave it, and how many of them are
-- injected lenses. Step 1 takes the scored targets to hits; n_out of the last step is the number of candidates.
-- The columns that end in _published follow the cuts of Li et al. (2018) alone (hit_cut.first_failed_cut_published):
-- their skewness stands in the row of asymmetry, and the steps that they lack let everything through.
-- A target counts for the version of the model that scored it last, as in view hit.
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

latest as (
    select
        score.target_id,
        max(score.run_id) as run_id,
        bool_or(coalesce(injection.is_lens, false)) as is_lens
    from score
    inner join model on model.model_id = score.model_id
    inner join spectrum on spectrum.spectrum_id = score.spectrum_id and spectrum.is_primary
    left join spec_obj on spec_obj.target_id = score.target_id
    left join injection on injection.target_id = score.target_id
    where
        -- a case, as in view hit
        coalesce(spectrum.content_hash = score.content_hash and score.z_used is not distinct from spec_obj.z, false)
        and coalesce(spec_obj.is_primary, true)
        and upper(trim(coalesce(spec_obj.objtype, ''))) <> 'SKY'
    group by model.name, score.target_id
),

scored as (
    select
        scoring_run.model_id,
        latest.is_lens
    from latest
    inner join scoring_run on scoring_run.run_id = latest.run_id
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
