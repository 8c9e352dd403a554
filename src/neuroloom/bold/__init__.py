"""fMRI: reading, masking, confounds, parcels and the haemodynamic response."""
