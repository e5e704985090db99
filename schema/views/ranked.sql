-- One row per target and model version that scored it, spectra and images alike, with its place in the version's list:
-- the rounds of a mining campaign are versions of one model, and go on from the list of the one before.
-- Place 1 is the highest probability; equal probabilities share the mean of their places, so a model that gives all
-- targets one value ranks none of them. Ordinality is the share of the list above or at that place (Pourrahmani 2019,
-- section 4.6, counts from the other end).
with scored as (
    select
        current_score.target_id,
        current_score.model_id,
        current_score.run_id,
        current_score.probability,
        'spectrum' as modality
    from current_score
    inner join spectrum on spectrum.spectrum_id = current_score.spectrum_id and spectrum.is_primary
    union all
    select
        current_image_score.target_id,
        current_image_score.model_id,
        current_image_score.run_id,
        current_image_score.probability,
        'image' as modality
    from current_image_score
),

placed as (
    select
        scored.*,
        rank() over (partition by scored.model_id order by scored.probability desc) as first_place,
        count(*) over (partition by scored.model_id, scored.probability) as n_tied,
        count(*) over (partition by scored.model_id) as n_ranked
    from scored
)

select
    placed.target_id,
    placed.model_id,
    model.name as model,
    target.survey,
    target.native_id,
    target.ra_deg,
    target.dec_deg,
    target.is_injection,
    placed.modality,
    placed.run_id,
    placed.probability,
    placed.n_tied,
    placed.n_ranked,
    placed.first_place + (placed.n_tied - 1) / cast(2 as double precision) as place,
    (placed.first_place + (placed.n_tied - 1) / cast(2 as double precision))
    / cast(placed.n_ranked as double precision) as ordinality
from placed
inner join model on model.model_id = placed.model_id
inner join target on target.target_id = placed.target_id
;
