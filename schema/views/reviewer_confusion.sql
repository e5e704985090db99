-- One row per reviewer, truth and grade: how often the reviewer gave the grade to calibrators of that truth, with the
-- 95% interval of Wilson (1927, J. Am. Stat. Assoc. 22, 209). P_grade is the estimate that the consensus weighs by:
-- (n + 1) / (N + 4), the rule of SWAP (Marshall et al. 2016, MNRAS 455, 1171, section 4.1) for four grades in place
-- of two, so that an untested reviewer counts for nothing. Calibrators are those in table calibrator.
with truth as (
    select * from (values (true), (false)) as t (is_lens) -- noqa: AL05
),

possible as (
    select * from (values ('A'), ('B'), ('C'), ('X')) as g (grade) -- noqa: AL05
),

seen as (
    select
        current_grade.reviewer_id,
        calibrator.is_lens,
        current_grade.grade,
        count(*) as n
    from current_grade
    inner join calibrator on calibrator.target_id = current_grade.target_id
    where current_grade.is_calibrator and not current_grade.is_adjudication
    group by current_grade.reviewer_id, calibrator.is_lens, current_grade.grade
),

total as (
    select
        reviewer_id,
        is_lens,
        cast(sum(n) as double precision) as n_truth
    from seen
    group by reviewer_id, is_lens
),

filled as (
    select
        reviewer.reviewer_id,
        reviewer.name as reviewer,
        truth.is_lens,
        possible.grade,
        cast(coalesce(seen.n, 0) as double precision) as n,
        coalesce(total.n_truth, 0) as n_truth
    from reviewer
    cross join truth
    cross join possible
    left join seen
        on
            seen.reviewer_id = reviewer.reviewer_id
            and seen.is_lens = truth.is_lens
            and seen.grade = possible.grade
    left join total on total.reviewer_id = reviewer.reviewer_id and total.is_lens = truth.is_lens
)

select
    reviewer_id,
    reviewer,
    is_lens,
    grade,
    cast(n as bigint) as n,
    cast(n_truth as bigint) as n_truth,
    n / nullif(n_truth, 0) as share,
    case
        when n_truth = 0 then 0.0
        else
            greatest(
                0.0,
                (n + 1.920729) / (n_truth + 3.841459)
                - 1.959964 * sqrt(n * (n_truth - n) / n_truth + 0.960365) / (n_truth + 3.841459)
            )
    end as share_lo,
    case
        when n_truth = 0 then 1.0
        else
            least(
                1.0,
                (n + 1.920729) / (n_truth + 3.841459)
                + 1.959964 * sqrt(n * (n_truth - n) / n_truth + 0.960365) / (n_truth + 3.841459)
            )
    end as share_hi,
    (n + 1) / (n_truth + 4) as p_grade,
    -- variance of ln p_grade under its Dirichlet posterior: trigamma(n + 1) - trigamma(N + 4), by its series at +2
    1 / power(n + 1, 2) + 1 / power(n + 2, 2)
    + 1 / (n + 3) + 1 / (2 * power(n + 3, 2)) + 1 / (6 * power(n + 3, 3))
    - (1 / (n_truth + 4) + 1 / (2 * power(n_truth + 4, 2)) + 1 / (6 * power(n_truth + 4, 3))) as var_ln_p
from filled
;
