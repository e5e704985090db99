-- One row per target that a model proposes, spectra and images alike: what the dashboard shows to reviewers. The
-- probability is the highest of those of the models that propose it; spread is how far apart all models that scored
-- it are.
with proposed as (
    select
        candidate.target_id,
        candidate.model_id,
        candidate.probability
    from candidate
    union all
    select
        image_candidate.target_id,
        image_candidate.model_id,
        image_candidate.probability
    from image_candidate
),

best as (
    select
        target_id,
        max(probability) as probability,
        count(distinct model_id) as n_model
    from proposed
    group by target_id
),

said as (
    select
        target_id,
        probability
    from current_score
    union all
    select
        target_id,
        probability
    from current_image_score
),

apart as (
    select
        target_id,
        max(probability) - min(probability) as spread
    from said
    group by target_id
),

known as (
    select distinct target_id from known_lens_match
)

select
    best.target_id,
    best.probability,
    best.n_model,
    apart.spread,
    known.target_id is not null as is_known
from best
left join apart on apart.target_id = best.target_id
left join known on known.target_id = best.target_id
;
