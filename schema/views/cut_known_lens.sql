-- One row per hit, with everything of cut_bad_pixel: is it a new find? A known lens within known_lens_radius_arcsec
-- leaves the list of new candidates, but stays here with its name (Li et al. 2018, section 4: 161 of 1232 hits).
with found as (
    select * from cut_bad_pixel
),

nearest as (
    select
        found.target_id,
        found.model_id,
        known_lens_match.lens_id,
        known_lens_match.name,
        known_lens_match.sep_arcsec,
        row_number() over (
            partition by found.target_id, found.model_id
            order by known_lens_match.sep_arcsec, known_lens_match.lens_id
        ) as rank_no
    from found
    inner join known_lens_match on known_lens_match.target_id = found.target_id
)

select
    found.*,
    nearest.lens_id as known_lens_id,
    nearest.name as known_lens,
    nearest.sep_arcsec as known_lens_sep_arcsec,
    nearest.lens_id is null as passes_known_lens
from found
left join nearest
    on nearest.target_id = found.target_id and nearest.model_id = found.model_id and nearest.rank_no = 1
;
