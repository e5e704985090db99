-- One row per hit, with everything of cut_rest_frame: does it lie in an interval of wave_mask, or beside more than
-- bad_pixel_max_near masked pixels? Intervals hold in the observed frame (lines of the sky) or in the rest frame of
-- the lens (Li et al. 2018, section 3).
with found as (
    select * from cut_rest_frame
),

masked as (
    select
        found.target_id,
        found.model_id,
        min(wave_mask.reason) as mask_reason
    from found
    inner join wave_mask
        on
            case wave_mask.frame
                when 'observed' then found.wave_angstrom
                when 'rest' then found.rest_wave_angstrom
            end between wave_mask.wave_min_angstrom and wave_mask.wave_max_angstrom
    group by found.target_id, found.model_id
)

select
    found.*,
    masked.mask_reason,
    masked.mask_reason is null
    and coalesce(
        found.n_mask_near
        <= (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'bad_pixel_max_near'
        ),
        true
    ) as passes_bad_pixel
from found
left join masked on masked.target_id = found.target_id and masked.model_id = found.model_id
;
