-- One row per hit, with everything of cut_airglow: do too many hits crowd at its wavelength in the lens's rest frame,
-- as residuals of the galaxy template make them (Li et al. 2018, section 4)? View hit_crowd counts them.
select
    cut_airglow.*,
    hit_crowd.n_core as rest_frame_n_core,
    hit_crowd.n_near as rest_frame_n_near,
    hit_crowd.n_expected as rest_frame_n_expected,
    hit_crowd.p_value as rest_frame_p_value,
    not coalesce(hit_crowd.is_crowd, false) as passes_rest_frame
from cut_airglow
left join hit_crowd
    on
        hit_crowd.target_id = cut_airglow.target_id
        and hit_crowd.model_id = cut_airglow.model_id
        and hit_crowd.frame = 'rest_frame'
;
