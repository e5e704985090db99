-- One row per target that someone graded: how many standing grades of each kind, and how far apart they are.
-- A verdict that settled a disagreement is not counted among the grades that it settled.
select
    target_id,
    count(*) filter (where not is_adjudication) as n_grade,
    count(*) filter (where grade = 'A' and not is_adjudication) as n_a,
    count(*) filter (where grade = 'B' and not is_adjudication) as n_b,
    count(*) filter (where grade = 'C' and not is_adjudication) as n_c,
    count(*) filter (where grade = 'X' and not is_adjudication) as n_x,
    avg(cast(grade_value as double precision)) filter (where not is_adjudication) as mean_value,
    coalesce(
        max(grade_value) filter (where not is_adjudication) - min(grade_value) filter (where not is_adjudication), 0
    ) as grade_range,
    count(*) filter (where is_adjudication) as n_adjudication,
    max(graded_at) as last_graded_at
from current_grade
group by target_id
;
