-- One row per hit with its fit, the verdict and numbers of every cut, and the first cut that dropped it; null for a
-- candidate. first_failed_cut_published asks the cuts of Li et al. (2018, section 4) alone, in their order: skewness
-- above 0 in place of asymmetry, and neither snr, width nor source.
select
    cut_source.*,
    case
        when not passes_fit then 'fit'
        when not passes_peak_flux then 'peak_flux'
        when not passes_snr then 'snr'
        when not passes_width then 'width'
        when not passes_airglow then 'airglow'
        when not passes_rest_frame then 'rest_frame'
        when not passes_bad_pixel then 'bad_pixel'
        when not passes_known_lens then 'known_lens'
        when not passes_asymmetry then 'asymmetry'
        when not passes_oii then 'oii'
        when not passes_source then 'source'
    end as first_failed_cut,
    case
        when not passes_fit then 'fit'
        when not passes_peak_flux then 'peak_flux'
        when not passes_airglow then 'airglow'
        when not passes_rest_frame then 'rest_frame'
        when not passes_bad_pixel then 'bad_pixel'
        when not passes_known_lens then 'known_lens'
        when not passes_skewness then 'skewness'
        when not passes_oii then 'oii'
    end as first_failed_cut_published
from cut_source
;
