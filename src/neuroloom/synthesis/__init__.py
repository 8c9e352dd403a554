"""EEG-to-fMRI synthesis: pairs on one clock, targets, models, and scores that stand next to their nulls."""
