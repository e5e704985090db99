-- One row per target whose reviewers disagree by review_disagreement steps or more (A, B, C, X are a step apart), and
-- on which no adjudicator has spoken since: what goes to adjudication, the furthest apart first.
select
    grade_count.target_id,
    grade_count.n_grade,
    grade_count.n_a,
    grade_count.n_b,
    grade_count.n_c,
    grade_count.n_x,
    grade_count.grade_range,
    grade_count.last_graded_at
from grade_count
left join calibrator on calibrator.target_id = grade_count.target_id
where
    calibrator.target_id is null
    and grade_count.n_grade > 1
    and grade_count.n_adjudication = 0
    and grade_count.grade_range >= (
        select max(cut_setting.value) from cut_setting
        where cut_setting.name = 'review_disagreement'
    )
;
