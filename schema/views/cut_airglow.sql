-- One row per hit, with everything of cut_width: do too many hits of the model crowd at its observed wavelength, as
-- airglow makes them (Shu et al. 2016)? View hit_crowd counts them; its numbers in the rest frame, which the next cut
-- judges, are taken along, so that they are counted once.
with crowd as (
    select
        target_id,
        model_id,
        max(n_core) filter (where frame = 'airglow') as airglow_n_core,
        max(n_near) filter (where frame = 'airglow') as airglow_n_near,
        max(n_expected) filter (where frame = 'airglow') as airglow_n_expected,
        max(p_value) filter (where frame = 'airglow') as airglow_p_value,
        bool_or(is_crowd) filter (where frame = 'airglow') as airglow_is_crowd,
        max(n_core) filter (where frame = 'rest_frame') as rest_frame_n_core,
        max(n_near) filter (where frame = 'rest_frame') as rest_frame_n_near,
        max(n_expected) filter (where frame = 'rest_frame') as rest_frame_n_expected,
        max(p_value) filter (where frame = 'rest_frame') as rest_frame_p_value,
        bool_or(is_crowd) filter (where frame = 'rest_frame') as rest_frame_is_crowd
    from hit_crowd
    group by target_id, model_id
)

select
    cut_width.*,
    crowd.airglow_n_core,
    crowd.airglow_n_near,
    crowd.airglow_n_expected,
    crowd.airglow_p_value,
    crowd.rest_frame_n_core,
    crowd.rest_frame_n_near,
    crowd.rest_frame_n_expected,
    crowd.rest_frame_p_value,
    coalesce(crowd.rest_frame_is_crowd, false) as rest_frame_is_crowd,
    not coalesce(crowd.airglow_is_crowd, false) as passes_airglow
from cut_width
left join crowd on crowd.target_id = cut_width.target_id and crowd.model_id = cut_width.model_id
;
