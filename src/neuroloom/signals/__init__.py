"""EEG and MEG: reading, channel facts, filters, bad channels, references. Pure functions on arrays."""
