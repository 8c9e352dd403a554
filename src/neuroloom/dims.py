"""The legend of shape letters and units: `x_CT` is an array of channels by times.

Letters stand at the end of a name, one for each axis, in the order of the axes.
"""

LETTERS: dict[str, str] = {
    "B": "batch, or bands",
    "C": "channels",
    "A": "all electrodes, the references included",
    "T": "times (samples)",
    "G": "times of a slow grid (10 Hz), blocks of a mask, or edges where each has its own",
    "N": "patches, or any other count that a docstring names",
    "S": "distant sources, steps, seconds, scans, or people",
    "H": "harmonics of a field, or heads",
    "I": "inputs of a matrix",
    "J": "samples of one repetition",
    "W": "windows",
    "F": "frequencies, features, frames, or facts about a sensor",
    "E": "events, or edges",
    "Q": "quantizers",
    "R": "resamples or permutations",
    "K": "codebook entries, or components",
    "L": "latent sources, classes of labels, or lags",
    "D": "embedding",
    "P": "parcels",
    "V": "volumes",
    "M": "confounds, or hidden patches",
    "U": "montages that differ",
    "X": "voxels, first axis",
    "Y": "voxels, second axis",
    "Z": "voxels, third axis",
    "3": "x, y, z",
}

UNITS: dict[str, str] = {
    "eeg": "V",
    "eog": "V",
    "ecg": "V",
    "emg": "V",
    "mag": "T",
    "grad": "T/m",
    "ref_meg": "T",
    "misc": "",
}
