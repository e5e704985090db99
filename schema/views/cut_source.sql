-- One row per hit, with everything of cut_oii: does the source, its line being Lyman alpha, lie behind the lens?
-- source_distance is (z_lya - z_lens) / (1 + z_lens); below source_min_distance the source stands in front of the lens
-- or beside it, and light that passes nothing is not lensed. Without either redshift it cannot be told: the hit stays.
select
    cut_oii.*,
    (cut_oii.z_lya - cut_oii.z_lens) / case when cut_oii.z_lens > -1 then 1 + cut_oii.z_lens end as source_distance,
    coalesce(
        (cut_oii.z_lya - cut_oii.z_lens) / case when cut_oii.z_lens > -1 then 1 + cut_oii.z_lens end
        >= (
            select cut_setting.value from cut_setting
            where cut_setting.name = 'source_min_distance'
        ),
        cut_oii.z_lya is null or cut_oii.z_lens is null
    ) as passes_source
from cut_oii
;
