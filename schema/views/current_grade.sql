-- One row per target and reviewer: the latest grade that the reviewer has not taken back; one more where the reviewer
-- also settled a disagreement on it. Value counts 3 for A down to 0 for X. Earlier grades stay in table grade.
with standing as (
    select
        grade.grade_id,
        grade.target_id,
        grade.reviewer_id,
        grade.grade,
        grade.queue,
        grade.seconds,
        grade.graded_at,
        coalesce(grade.is_calibrator, false) as is_calibrator,
        coalesce(grade.is_adjudication, false) as is_adjudication,
        row_number() over (
            partition by grade.target_id, grade.reviewer_id, coalesce(grade.is_adjudication, false)
            order by grade.graded_at desc, grade.grade_id desc
        ) as recency
    from grade
    where grade.undone_at is null
)

select
    standing.grade_id,
    standing.target_id,
    standing.reviewer_id,
    reviewer.name as reviewer,
    standing.grade,
    standing.queue,
    standing.is_calibrator,
    standing.is_adjudication,
    standing.seconds,
    standing.graded_at,
    case standing.grade when 'A' then 3 when 'B' then 2 when 'C' then 1 when 'X' then 0 end as grade_value
from standing
inner join reviewer on reviewer.reviewer_id = standing.reviewer_id
where standing.recency = 1
;
