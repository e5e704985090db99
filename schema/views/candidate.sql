-- One row per candidate: a hit that no cut dropped, with the columns of Table 1 of Li et al. (2018).
-- The name truncates the position, never rounds it, to HHMMSS.ss+DDMMSS.s as the IAU asks.
with placed as (
    select
        hit_cut.*,
        target.survey,
        target.ra_deg,
        target.dec_deg,
        -- hundredths of a second of time, tenths of an arcsecond; 1e-6 of them against a last bit that rounds down
        floor((target.ra_deg - 360 * floor(target.ra_deg / 360)) * 24000 + 1e-6) as ra_unit,
        floor(abs(target.dec_deg) * 36000 + 1e-6) as dec_unit
    from hit_cut
    inner join target on target.target_id = hit_cut.target_id
    where hit_cut.first_failed_cut is null
),

named as (
    select
        placed.*,
        case survey when 'sdss' then 'SDSS' else upper(survey) end || ' J'
        || lpad(cast(cast(floor(ra_unit / 360000) as integer) as varchar), 2, '0')
        || lpad(cast(cast(floor((ra_unit - 360000 * floor(ra_unit / 360000)) / 6000) as integer) as varchar), 2, '0')
        || lpad(cast(cast(floor((ra_unit - 6000 * floor(ra_unit / 6000)) / 100) as integer) as varchar), 2, '0')
        || '.' || lpad(cast(cast(ra_unit - 100 * floor(ra_unit / 100) as integer) as varchar), 2, '0')
        || case when dec_deg < 0 then '-' else '+' end
        || lpad(cast(cast(floor(dec_unit / 36000) as integer) as varchar), 2, '0')
        || lpad(cast(cast(floor((dec_unit - 36000 * floor(dec_unit / 36000)) / 600) as integer) as varchar), 2, '0')
        || lpad(cast(cast(floor((dec_unit - 600 * floor(dec_unit / 600)) / 10) as integer) as varchar), 2, '0')
        || '.' || cast(cast(dec_unit - 10 * floor(dec_unit / 10) as integer) as varchar) as name
    from placed
)

select
    named.name,
    named.native_id,
    named.z_lens,
    named.z_lya as z_source,
    named.ra_deg,
    named.dec_deg,
    spec_obj.cmodel_mag_i,
    named.line_flux,
    named.line_flux_err,
    named.skewness,
    named.skewness_err,
    named.probability,
    named.model,
    named.line_wave_angstrom as wave_angstrom,
    named.snr,
    named.peak_flux,
    named.line_snr,
    named.fit_status,
    named.is_injection,
    named.target_id,
    named.model_id,
    named.run_id,
    named.fit_id
from named
left join spec_obj on spec_obj.target_id = named.target_id
;
