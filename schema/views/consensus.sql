-- One row per graded target: the probability that it is a lens given every reviewer's grade, each weighed by the
-- reviewer's confusion matrix (SWAP, Marshall et al. 2016, MNRAS 455, 1171, equations 1 to 5, with four grades): from
-- the prior odds of review_prior_lens each grade g multiplies the odds by P(g | lens) / P(g | not). The interval at 95%
-- is that of the confusion matrices, by the delta method in the log odds. An adjudicator's verdict, where there is
-- one, stands in verdict beside it.
with ratio as (
    select
        lens.reviewer_id,
        lens.grade,
        ln(lens.p_grade) - ln(other.p_grade) as ln_ratio,
        lens.var_ln_p + other.var_ln_p as var_ln_ratio
    from reviewer_confusion as lens
    inner join reviewer_confusion as other
        on other.reviewer_id = lens.reviewer_id and other.grade = lens.grade and not other.is_lens
    where lens.is_lens
),

start as (
    select least(0.999999, greatest(0.000001, max(value))) as p
    from cut_setting
    where name = 'review_prior_lens'
),

summed as (
    select
        current_grade.target_id,
        count(*) as n_grade,
        sum(ratio.ln_ratio) as ln_ratio,
        sum(ratio.var_ln_ratio) as var_ln_ratio
    from current_grade
    inner join ratio on ratio.reviewer_id = current_grade.reviewer_id and ratio.grade = current_grade.grade
    where not current_grade.is_adjudication
    group by current_grade.target_id
),

logit as (
    select
        summed.*,
        ln(start.p / (1 - start.p)) + summed.ln_ratio as ln_odds,
        sqrt(summed.var_ln_ratio) as sigma
    from summed
    cross join start
),

verdict as (
    select
        target_id,
        grade,
        row_number() over (partition by target_id order by graded_at desc, grade_id desc) as recency
    from current_grade
    where is_adjudication
)

select
    target.target_id,
    target.native_id,
    target.survey,
    target.ra_deg,
    target.dec_deg,
    grade_count.n_grade,
    grade_count.n_a,
    grade_count.n_b,
    grade_count.n_c,
    grade_count.n_x,
    grade_count.mean_value,
    grade_count.grade_range,
    verdict.grade as verdict,
    calibrator.is_lens as calibrator_is_lens,
    target.is_injection,
    1 / (1 + exp(-least(700.0, greatest(-700.0, logit.ln_odds)))) as p_lens,
    1 / (1 + exp(-least(700.0, greatest(-700.0, logit.ln_odds - 1.959964 * logit.sigma)))) as p_lens_lo,
    1 / (1 + exp(-least(700.0, greatest(-700.0, logit.ln_odds + 1.959964 * logit.sigma)))) as p_lens_hi,
    calibrator.target_id is not null as is_calibrator
from grade_count
inner join target on target.target_id = grade_count.target_id
left join logit on logit.target_id = grade_count.target_id
left join verdict on verdict.target_id = grade_count.target_id and verdict.recency = 1
left join calibrator on calibrator.target_id = grade_count.target_id
;
