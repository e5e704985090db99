-- One row per hit, with everything of cut_airglow: do too many hits crowd at its wavelength in the lens's rest frame,
-- as residuals of the galaxy template make them (Li et al. 2018, section 4)? View hit_crowd counts them.
select
    cut_airglow.*,
    not cut_airglow.rest_frame_is_crowd as passes_rest_frame
from cut_airglow
;
