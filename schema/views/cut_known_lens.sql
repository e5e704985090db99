-- One row per hit: is it a new find? A known lens within known_lens_radius_arcsec leaves the list of new candidates,
-- but stays here with its name (Li et al. 2018, section 4: 161 of 1232 hits were known).
with nearest as (
    select
        hit.target_id,
        hit.model_id,
        known_lens_match.lens_id,
        known_lens_match.name,
        known_lens_match.sep_arcsec,
        count(*) over (partition by hit.target_id, hit.model_id) as n_known,
        row_number() over (
            partition by hit.target_id, hit.model_id order by known_lens_match.sep_arcsec, known_lens_match.lens_id
        ) as rank_no
    from hit
    inner join known_lens_match on known_lens_match.target_id = hit.target_id
)

select
    hit.target_id,
    hit.model_id,
    nearest.lens_id is null as passes,
    coalesce(nearest.n_known, 0) as n_known,
    nearest.lens_id as known_lens_id,
    nearest.name as known_lens,
    nearest.sep_arcsec
from hit
left join nearest
    on nearest.target_id = hit.target_id and nearest.model_id = hit.model_id and nearest.rank_no = 1
;
