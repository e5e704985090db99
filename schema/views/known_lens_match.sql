-- One row per target and known lens within cut_setting known_lens_radius_arcsec: what is found already.
-- The cells of order 11 near each lens make it a join on one integer; the separation is the exact great circle.
with pair as (
    select
        target.target_id,
        known_lens.lens_id,
        known_lens.name,
        known_lens.z_lens,
        known_lens.z_source,
        known_lens.lens_type,
        known_lens.grading,
        7200.0 * degrees(asin(sqrt(least(
            1.0,
            power(sin(radians(target.dec_deg - known_lens.dec_deg) / 2), 2)
            + cos(radians(target.dec_deg)) * cos(radians(known_lens.dec_deg))
            * power(sin(radians(target.ra_deg - known_lens.ra_deg) / 2), 2)
        )))) as sep_arcsec
    from target
    inner join known_lens_cell on known_lens_cell.cell = (target.hpx29 >> 36)
    inner join known_lens on known_lens.lens_id = known_lens_cell.lens_id
)

select
    target_id,
    lens_id,
    name,
    z_lens,
    z_source,
    lens_type,
    grading,
    sep_arcsec
from pair
where
    sep_arcsec <= (
        select least(60.0, cut_setting.value) from cut_setting
        where cut_setting.name = 'known_lens_radius_arcsec'
    )
;
