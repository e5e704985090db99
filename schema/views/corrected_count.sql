-- One row per model, stage and bin of a parameter that candidates have too: how many real candidates were found, and
-- how many lenses there are for them, n / p with p the completeness of the bin. Null where p is zero or not known: no
-- count of found ones says how many there are that cannot be found. Candidates that are no lenses are counted as found
-- at stages scored and cut; at stage graded people have turned them down. Candidates are those of the instrument that
-- was simulated; one whose catalogue lacks the parameter is in no bin, and a band that phot_obj lacks has none.
-- Both sides of the division are binned by the same thing: images by total_mag, lens and arcs together as a catalogue
-- lists them, and by the lens's redshift (spectroscopic, else photometric as it is); spectra by what is fitted to
-- their line, so from stage cut on. The lens's own magnitude, size and shape are no parameters here: a catalogue's are
-- those of the blend. What another version of the model speaks for is that version's to count, as in views hit and
-- image_candidate.
with bin as (
    select
        cell_id,
        measurement_id,
        model_id,
        model,
        stage,
        mode,
        instrument,
        band,
        threshold,
        x_name,
        x_lo,
        x_hi,
        n_injected,
        p_selected,
        p_lo,
        p_hi,
        max(x_hi) over (partition by measurement_id, x_name) as x_last
    from completeness
    where
        y_name is null
        and mode in ('population', 'rows')
        and case
            when
                model_id in (
                    select scoring_run.model_id
                    from scoring_run
                    where scoring_run.modality = 'image'
                )
                then
                    x_name = 'z_lens'
                    or (x_name = 'total_mag' and lower(band) in ('u', 'g', 'r', 'i', 'z', 'y', 'f814w'))
            else stage <> 'scored' and x_name in ('line_flux', 'wave_angstrom', 'z_lens', 'z_source')
        end
),

accepted as (
    select
        target_id,
        coalesce(verdict in ('A', 'B'), 2 * (n_a + n_b) >= n_grade, false) as is_accepted
    from consensus
),

image_found as (
    select
        current_image_score.model_id,
        current_image_score.probability,
        cutout.instrument,
        phot_obj.mag_u,
        phot_obj.mag_g,
        phot_obj.mag_r,
        phot_obj.mag_i,
        phot_obj.mag_z,
        phot_obj.mag_y,
        phot_obj.mag_f814w,
        coalesce(accepted.is_accepted, false) as is_accepted,
        -- in, not a join: PostgreSQL takes the candidates for few, and would look through all for each score
        (current_image_score.target_id, current_image_score.model_id) in (
            select
                image_candidate.target_id,
                image_candidate.model_id
            from image_candidate
        ) as passes_cuts,
        coalesce(phot_obj.z_spec, phot_obj.z_phot) as z
    from current_image_score
    inner join target on target.target_id = current_image_score.target_id and not target.is_injection
    inner join cutout on cutout.cutout_id = current_image_score.cutout_id
    left join phot_obj on phot_obj.target_id = current_image_score.target_id
    left join accepted on accepted.target_id = current_image_score.target_id
    where
        not exists (
            select 1
            from image_score as later
            inner join version_order as version on version.model_id = later.model_id
            inner join version_order as mine on mine.model = version.model
            where
                mine.model_id = current_image_score.model_id
                and later.cutout_id = current_image_score.cutout_id
                and version.last_run_id > mine.last_run_id
                and later.content_hash = current_image_score.content_hash
        )
),

image_value as (
    select
        bin.cell_id,
        case bin.x_name
            when 'total_mag'
                then
                    case lower(bin.band)
                        when 'u' then image_found.mag_u
                        when 'g' then image_found.mag_g
                        when 'r' then image_found.mag_r
                        when 'i' then image_found.mag_i
                        when 'z' then image_found.mag_z
                        when 'y' then image_found.mag_y
                        when 'f814w' then image_found.mag_f814w
                    end
            when 'z_lens' then image_found.z
        end as x
    from bin
    inner join image_found
        on
            image_found.model_id = bin.model_id
            and (bin.instrument is null or image_found.instrument = bin.instrument)
    where
        case bin.stage
            when 'scored' then image_found.probability >= bin.threshold
            when 'cut' then image_found.passes_cuts
            else image_found.passes_cuts and image_found.is_accepted
        end
),

spectrum_value as (
    select
        bin.cell_id,
        case bin.x_name
            when 'line_flux' then candidate.line_flux
            when 'wave_angstrom' then candidate.wave_angstrom
            when 'z_lens' then candidate.z_lens
            when 'z_source' then candidate.z_source
        end as x
    from bin
    inner join candidate on candidate.model_id = bin.model_id and not candidate.is_injection
    left join accepted on accepted.target_id = candidate.target_id
    where bin.stage = 'cut' or (bin.stage = 'graded' and coalesce(accepted.is_accepted, false))
),

found as (
    select
        cell_id,
        x
    from image_value
    union all
    select
        cell_id,
        x
    from spectrum_value
),

counted as (
    select
        bin.cell_id,
        count(found.x) as n_candidate
    from bin
    left join found
        on
            found.cell_id = bin.cell_id
            and found.x >= bin.x_lo
            and (found.x < bin.x_hi or (found.x = bin.x_hi and bin.x_hi = bin.x_last))
    group by bin.cell_id
)

select
    bin.model_id,
    bin.model,
    bin.stage,
    bin.mode,
    bin.instrument,
    bin.band,
    bin.measurement_id,
    bin.x_name,
    bin.x_lo,
    bin.x_hi,
    counted.n_candidate,
    bin.n_injected,
    bin.p_selected as completeness,
    bin.p_lo as completeness_lo,
    bin.p_hi as completeness_hi,
    case when bin.p_selected > 0 then counted.n_candidate / bin.p_selected end as n_corrected,
    -- Poisson error of the count and, by the delta method, that of the completeness
    case
        when bin.p_selected > 0
            then
                sqrt(
                    counted.n_candidate
                    + power(counted.n_candidate * (bin.p_hi - bin.p_lo) / (2 * 1.959964 * bin.p_selected), 2)
                ) / bin.p_selected
    end as n_corrected_err
from bin
inner join counted on counted.cell_id = bin.cell_id
;
