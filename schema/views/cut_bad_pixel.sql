-- One row per hit: does it lie in an interval of wave_mask, or beside more than bad_pixel_max_near masked pixels?
-- Intervals hold in the observed frame (lines of the sky) or in the lens's rest frame (Li et al. 2018, section 3).
with masked as (
    select
        hit_fit.target_id,
        hit_fit.model_id,
        min(wave_mask.reason) as mask_reason
    from hit_fit
    inner join wave_mask
        on
            case wave_mask.frame when 'observed' then hit_fit.wave_angstrom when 'rest' then hit_fit.rest_wave_angstrom end
            between wave_mask.wave_min_angstrom and wave_mask.wave_max_angstrom
    group by hit_fit.target_id, hit_fit.model_id
)

select
    hit_fit.target_id,
    hit_fit.model_id,
    masked.mask_reason is null
    and coalesce(
        hit_fit.n_mask_near
        <= (select cut_setting.value from cut_setting where cut_setting.name = 'bad_pixel_max_near'),
        true
    ) as passes,
    masked.mask_reason,
    hit_fit.n_mask_near
from hit_fit
left join masked on masked.target_id = hit_fit.target_id and masked.model_id = hit_fit.model_id
;
