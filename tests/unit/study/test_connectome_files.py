"""Files of connectomes: read as their makers wrote them, sessions averaged, other forms refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from neuroloom.config import ConfigError
from neuroloom.study.connectome_files import EEG, NETWORKS, POSITIONS, read_connectomes

N_REGIONS, BANDS = 6, ["delta", "alpha"]
N_EDGES = N_REGIONS * (N_REGIONS - 1) // 2
STEM = "eeg-fmri_256Ch3T_controls"


def struct(**fields: Any) -> np.ndarray:
    record = np.zeros((1, 1), [(name, object) for name in fields])
    for name, value in fields.items():
        record[name][0, 0] = value
    return record


def row(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts, axis=1)


def session(seed: int, *, n_edges: int = N_EDGES, kind: str = EEG, bands: list[str] = BANDS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    of_bands = row([struct(name=band, conn=rng.random((n_edges, 1))) for band in bands])
    other = struct(name="other", bands=row([struct(name=band, conn=np.zeros((n_edges, 1))) for band in bands]))
    eeg = row([other, struct(name=kind, bands=of_bands)])
    return struct(sess_name="", fMRI=rng.normal(size=(n_edges, 1)), EEG=eeg, fd_power=rng.random((9, 1)))


def write(folder: Path, subjects: dict[str, list[np.ndarray]]) -> Path:
    people = row([struct(name=name, sess=row(sessions), atlas="desikan") for name, sessions in subjects.items()])
    path = folder / f"{STEM}_connectomes_desikan_scrubbed.mat"
    scipy.io.savemat(path, {"subj": people})
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savetxt(tmp_path / POSITIONS, np.random.default_rng(0).uniform(-60, 60, (N_REGIONS, 3)))
    scipy.io.savemat(tmp_path / NETWORKS, {"yeoROIs_eeg": np.arange(N_REGIONS)[:, None]})
    text = "participant_id\tgroup\tsex\tage\nSub-01\tcontrol\tM\t30\nsub-03\tcontrol\tF\t41\nsub-02\tcontrol\tF\t25\n"
    (tmp_path / f"{STEM}_participants.tsv").write_text(text)
    write(tmp_path, {"sub-01": [session(1), session(2)], "sub-02": [session(3)]})
    return tmp_path


def test_sessions_are_averaged_and_people_get_their_own_line(folder: Path) -> None:
    (one,) = read_connectomes(folder, groups=["controls"])
    assert (one.subjects, one.sex, list(one.age_S)) == (["sub-01", "sub-02"], ["M", "F"], [30, 25])
    assert (one.group, one.bands, one.eeg_SBE.shape) == ("controls", BANDS, (2, 2, N_EDGES))
    first, second = session(1), session(2)
    fmri_E = (first["fMRI"][0, 0] + second["fMRI"][0, 0]).ravel() / 2
    np.testing.assert_allclose(one.fmri_SE[0], fmri_E)
    alpha = [part["EEG"][0, 0][0, 1]["bands"][0, 1]["conn"].ravel() for part in (first, second)]
    np.testing.assert_allclose(one.eeg_SBE[0, 1], np.mean(alpha, axis=0))
    np.testing.assert_allclose(one.motion_S[1], session(3)["fd_power"][0, 0].mean())


@pytest.mark.parametrize(
    ("sessions", "words"),
    [
        ([session(1, n_edges=10)], "sub-01 has 10 fMRI edges and EEG of shape .*; 15 edges"),
        ([session(1), session(2, bands=["delta", "beta"])], "the same bands in each session"),
        ([session(1, kind="plv")], r"lacks name, sess, fMRI, EEG \(cohi\)"),
    ],
)
def test_other_shapes_are_refused(sessions: list[np.ndarray], words: str, folder: Path) -> None:
    path = write(folder, {"sub-01": sessions})
    with pytest.raises(ConfigError, match=words) as caught:
        read_connectomes(folder, groups=["controls"])
    assert str(path) in str(caught.value)


def test_values_that_are_not_finite_are_refused(folder: Path) -> None:
    broken = session(1)
    broken["fMRI"][0, 0][3] = np.nan
    write(folder, {"sub-01": [broken]})
    with pytest.raises(ConfigError, match=r"sub-01 has 15 fMRI edges .* not finite"):
        read_connectomes(folder, groups=["controls"])


def test_people_without_a_line_or_with_two_entries_are_refused(folder: Path) -> None:
    write(folder, {"sub-01": [session(1)], "sub-09": [session(2)]})
    with pytest.raises(ConfigError, match=r"participants\.tsv: no line for sub-09"):
        read_connectomes(folder, groups=["controls"])
    people = row([struct(name="sub-01", sess=session(seed), atlas="desikan") for seed in (1, 2)])
    scipy.io.savemat(folder / f"{STEM}_connectomes_desikan_scrubbed.mat", {"subj": people})
    with pytest.raises(ConfigError, match="subjects twice"):
        read_connectomes(folder, groups=["controls"])


def test_missing_and_foreign_files_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"0 files eeg-fmri_256Ch3T_rtle_connectomes_\*\.mat"):
        read_connectomes(folder, groups=["rtle"])
    path = folder / f"{STEM}_connectomes_desikan_scrubbed.mat"
    path.write_bytes(b"not a mat file")
    with pytest.raises(ConfigError, match=r"scrubbed\.mat: not a \.mat file"):
        read_connectomes(folder, groups=["controls"])
    scipy.io.savemat(path, {"people": 1})
    with pytest.raises(ConfigError, match="no variable subj, only people"):
        read_connectomes(folder, groups=["controls"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("participant_id\tsex\tage\nsub-01\tM\told\nsub-02\tF\t3\n", "age in years and sex F or M are needed"),
        ("participant_id\tsex\tage\nsub-01\tx\t30\nsub-02\tF\t3\n", "age in years and sex F or M are needed"),
    ],
)
def test_participants_need_age_and_sex(text: str, words: str, folder: Path) -> None:
    (folder / f"{STEM}_participants.tsv").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_connectomes(folder, groups=["controls"])


def test_positions_and_networks_have_to_fit(folder: Path) -> None:
    scipy.io.savemat(folder / NETWORKS, {"yeoROIs_eeg": np.arange(4)[:, None]})
    with pytest.raises(ConfigError, match="networks of 4 regions, positions of 6"):
        read_connectomes(folder, groups=["controls"])
    (folder / POSITIONS).write_text("1 2\n3 4\n")
    with pytest.raises(ConfigError, match="2 columns; x, y and z"):
        read_connectomes(folder, groups=["controls"])
    (folder / POSITIONS).unlink()
    with pytest.raises(ConfigError, match=r"desi_coord_68\.txt: cannot be read"):
        read_connectomes(folder, groups=["controls"])
