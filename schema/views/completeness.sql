-- One row per cell of the selection functions that stand: the latest measurement of each model version, stage, mode
-- and instrument. Share of lenses selected, given one or two of their parameters (Pourrahmani 2019, section 3.1.1).
with measurement as (
    select
        measurement_id,
        row_number() over (
            partition by model_id, stage, mode, instrument order by max(measured_at) desc, measurement_id desc
        ) as recency
    from selection_function
    group by measurement_id, model_id, stage, mode, instrument
)

select
    selection_function.cell_id,
    selection_function.measurement_id,
    selection_function.model_id,
    model.name as model,
    selection_function.stage,
    selection_function.mode,
    selection_function.instrument,
    selection_function.band,
    selection_function.threshold,
    selection_function.x_name,
    selection_function.x_lo,
    selection_function.x_hi,
    selection_function.y_name,
    selection_function.y_lo,
    selection_function.y_hi,
    selection_function.n_injected,
    selection_function.n_selected,
    selection_function.n_eff,
    selection_function.p_selected,
    selection_function.p_lo,
    selection_function.p_hi
from selection_function
inner join measurement on measurement.measurement_id = selection_function.measurement_id
inner join model on model.model_id = selection_function.model_id
where measurement.recency = 1
;
