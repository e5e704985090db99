-- One row per cutout and model: the score of the latest run of the pixels that now stand.
-- A score of older pixels is stale, and left out until the model scores them again.
with fresh as (
    select
        image_score.cutout_id,
        image_score.model_id,
        image_score.run_id,
        image_score.target_id,
        image_score.content_hash,
        image_score.probability,
        row_number() over (
            partition by image_score.cutout_id, image_score.model_id order by image_score.run_id desc
        ) as recency
    from image_score
    inner join cutout
        on cutout.cutout_id = image_score.cutout_id and cutout.content_hash = image_score.content_hash
    where cutout.is_primary
)

select
    cutout_id,
    model_id,
    run_id,
    target_id,
    content_hash,
    probability
from fresh
where recency = 1
;
