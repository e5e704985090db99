-- One row per hit, with everything of cut_rest_frame: does it lie in an interval of wave_mask, or beside more than
-- bad_pixel_max_near masked pixels? Intervals hold in the observed frame (lines of the sky) or in the rest frame of
-- the lens (Li et al. 2018, section 3).
with found as (
    select
        cut_rest_frame.*,
        (
            select min(wave_mask.reason) from wave_mask
            where
                case wave_mask.frame
                    when 'observed' then cut_rest_frame.wave_angstrom
                    when 'rest' then cut_rest_frame.rest_wave_angstrom
                end between wave_mask.wave_min_angstrom and wave_mask.wave_max_angstrom
        ) as mask_reason
    from cut_rest_frame
)

select
    found.*,
    found.mask_reason is null
    and coalesce(
        found.n_mask_near
        <= (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'bad_pixel_max_near'
        ),
        true
    ) as passes_bad_pixel
from found
;
