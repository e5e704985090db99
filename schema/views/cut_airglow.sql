-- One row per hit, with everything of cut_width: do too many hits of the model crowd at its observed wavelength, as
-- airglow makes them (Shu et al. 2016)? View hit_crowd counts them.
select
    cut_width.*,
    hit_crowd.n_core as airglow_n_core,
    hit_crowd.n_near as airglow_n_near,
    hit_crowd.n_expected as airglow_n_expected,
    hit_crowd.p_value as airglow_p_value,
    not coalesce(hit_crowd.is_crowd, false) as passes_airglow
from cut_width
left join hit_crowd
    on
        hit_crowd.target_id = cut_width.target_id
        and hit_crowd.model_id = cut_width.model_id
        and hit_crowd.frame = 'airglow'
;
