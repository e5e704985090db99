-- One row per model version (name, preprocessing and weights together) with its latest run. Of the versions of one
-- name the one that ran last is in force: where it has a current score it speaks for the object, elsewhere the one
-- that ran before it. Running older weights again, also with nothing left to score, puts them in force again.
select
    model.model_id,
    model.name as model,
    model.threshold,
    coalesce(max(scoring_run.run_id), 0) as last_run_id
from model
left join scoring_run on scoring_run.model_id = model.model_id
group by model.model_id, model.name, model.threshold
;
