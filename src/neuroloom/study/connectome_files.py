"""Paired EEG and fMRI connectomes of Wirsich et al. 2024 (Network Neuroscience, doi 10.1162/netn_a_00362; MIT licence).

Files of github.com/jwirsich/eeg-fmri-tle: `eeg-fmri_<device>_<group>_connectomes_*.mat` with one struct for each
subject and session, `eeg-fmri_<device>_<group>_participants.tsv`, the centres of the 68 regions of the Desikan atlas
(`desi_coord_68.txt`, mm) and their networks (Yeo's seven, `aparc_aseg_yeo*.mat`). An edge is a pair of regions, row by
row of the upper triangle (`getLoopedVec` of their `Connectome.m`). EEG is the imaginary part of coherency (`cohi`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from neuroloom.config import ConfigError
from neuroloom.records import Array
from neuroloom.synthesis.connectomes import ConnectomeSet
from neuroloom.trial import find_harm

CONNECTOMES = "eeg-fmri_{device}_{group}_connectomes_*.mat"
PARTICIPANTS = "eeg-fmri_{device}_{group}_participants.tsv"
POSITIONS = "desi_coord_68.txt"
NETWORKS = "aparc_aseg_yeoRS7_68reg_eeg_nosubc_cmfg2dan.mat"
EEG = "cohi"


def read_connectomes(
    folder: Path, *, device: str = "256Ch3T", groups: Iterable[str] = ("controls", "ltle", "rtle")
) -> list[ConnectomeSet]:
    """Read the connectomes of one device.

    Parameters
    ----------
    folder : Path
    device : str
        `256Ch3T` or `64Ch3T`.
    groups : iterable of str

    Returns
    -------
    list of ConnectomeSet
        One for each group; a subject's sessions are averaged, as its makers do.

    Raises
    ------
    ConfigError
        If a file is missing or of another form, or subjects and participants disagree.
    """
    position_N3 = _positions(folder / POSITIONS)
    network_N = _network(folder / NETWORKS, len(position_N3))
    return [_read_group(folder, device, group, position_N3, network_N) for group in groups]


def _read_group(folder: Path, device: str, group: str, position_N3: Array, network_N: Array) -> ConnectomeSet:
    pattern = CONNECTOMES.format(device=device, group=group)
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        raise ConfigError(f"{folder}: {len(files)} files {pattern}; place the files of eeg-fmri-tle there, one each")
    n_edges = len(position_N3) * (len(position_N3) - 1) // 2
    people = [_read_subject(entry, files[0], n_edges) for entry in _load(files[0], "subj").ravel()]
    subjects, bands = [one["name"] for one in people], people[0]["bands"]
    if any(one["bands"] != bands for one in people) or len(set(subjects)) != len(subjects):
        raise ConfigError(f"{files[0]}: subjects twice, or bands that differ between them; bring the file again")
    facts = _participants(folder / PARTICIPANTS.format(device=device, group=group), subjects)
    return ConnectomeSet(
        eeg_SBE=np.stack([one["eeg_BE"] for one in people]),
        fmri_SE=np.stack([one["fmri_E"] for one in people]),
        subjects=subjects,
        group=group,
        age_S=np.array([age for age, _ in facts]),
        sex=[sex for _, sex in facts],
        motion_S=np.array([one["motion"] for one in people]),
        bands=bands,
        position_N3=position_N3,
        network_N=network_N,
    )


def _load(path: Path, name: str) -> Any:
    import scipy.io

    if not path.is_file():
        raise ConfigError(f"{path}: the file does not exist; place the files of eeg-fmri-tle there")
    if harm := find_harm(lambda: scipy.io.loadmat(path), size=path.stat().st_size):
        raise ConfigError(f"{path}: not a .mat file that SciPy reads ({harm}); bring it again")
    try:
        content = scipy.io.loadmat(path)
    except Exception as error:  # SciPy raises anything over a damaged file
        raise ConfigError(f"{path}: not a .mat file that SciPy reads ({error}); bring it again") from error
    if name not in content:
        found = ", ".join(key for key in content if not key.startswith("__"))
        raise ConfigError(f"{path}: no variable {name}, only {found}; it is not a file of eeg-fmri-tle")
    return content[name]


def _read_subject(entry: Any, path: Path, n_edges: int) -> dict[str, Any]:
    """Name, bands, mean motion (mm), and means over sessions of EEG (B, E) and fMRI (E,)."""
    try:
        name = str(entry["name"][0])
        sessions = entry["sess"].ravel()
        of_kind = [next(kind for kind in one["EEG"].ravel() if kind["name"][0] == EEG) for one in sessions]
        bands = [[str(band["name"][0]) for band in kind["bands"].ravel()] for kind in of_kind]
        eeg_NBE = np.stack([[band["conn"].ravel() for band in kind["bands"].ravel()] for kind in of_kind])
        fmri_NE = np.stack([one["fMRI"].ravel() for one in sessions])
        motion = float(np.mean([one["fd_power"].mean() for one in sessions]))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, StopIteration) as error:
        said = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{path}: a subject lacks name, sess, fMRI, EEG ({EEG}) or fd_power ({said})") from error
    found = f"{path}: {name} has {fmri_NE.shape[1]} fMRI edges and EEG of shape {eeg_NBE.shape[1:]}"
    if fmri_NE.shape[1] != n_edges or eeg_NBE.shape[2] != n_edges or any(one != bands[0] for one in bands):
        raise ConfigError(f"{found}; {n_edges} edges and the same bands in each session are needed")
    if not (np.isfinite(fmri_NE).all() and np.isfinite(eeg_NBE).all() and np.isfinite(motion)):
        raise ConfigError(f"{found}, some of them not finite; leave the subject out of the file")
    return {
        "name": name,
        "bands": bands[0],
        "eeg_BE": eeg_NBE.mean(axis=0),
        "fmri_E": fmri_NE.mean(axis=0),
        "motion": motion,
    }


def _participants(path: Path, subjects: list[str]) -> list[tuple[float, str]]:
    """Age and sex of each subject; names are compared without their case (`Sub-24`)."""
    if not path.is_file():
        raise ConfigError(f"{path}: the file does not exist; place the files of eeg-fmri-tle there")
    with path.open() as stream:
        lines = {str(line["participant_id"]).lower(): line for line in csv.DictReader(stream, delimiter="\t")}
    if missing := [name for name in subjects if name.lower() not in lines]:
        raise ConfigError(f"{path}: no line for {', '.join(missing)}; the connectomes have them")
    chosen = [lines[name.lower()] for name in subjects]
    try:
        return [(float(line["age"]), {"F": "F", "M": "M"}[line["sex"]]) for line in chosen]
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{path}: age in years and sex F or M are needed ({error})") from error


def _positions(path: Path) -> Array:
    try:
        position_N3 = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); place the files of eeg-fmri-tle there") from error
    if position_N3.shape[1] != 3:
        raise ConfigError(f"{path}: {position_N3.shape[1]} columns; x, y and z in mm are needed")
    return position_N3


def _network(path: Path, n_regions: int) -> Array:
    network_N = np.asarray(_load(path, "yeoROIs_eeg")).ravel().astype(int)
    if len(network_N) != n_regions:
        raise ConfigError(f"{path}: networks of {len(network_N)} regions, positions of {n_regions}")
    return network_N
