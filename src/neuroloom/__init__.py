"""NeuroLoom: raw EEG, MEG and fMRI to foundation models and back to science, in one Snakemake graph."""
