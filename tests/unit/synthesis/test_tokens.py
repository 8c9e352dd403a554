"""Tokens of an encoder over a whole scan, and the head that reads them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.synthesis import N_PARCELS, centroids, made_pair, made_scan

from neuroloom.artifacts import write_artifact
from neuroloom.evaluation.contamination import ContaminationError, seen_subjects
from neuroloom.models.config import ReveConfig
from neuroloom.models.reve import REVE
from neuroloom.synthesis.config import HaemodynamicConfig, SynthesizeConfig
from neuroloom.synthesis.pairs import Pair
from neuroloom.synthesis.scans import Scan
from neuroloom.synthesis.synthesize import Synthesis, synthesize
from neuroloom.synthesis.tokens import RATE, ScanTokens, fit_components, pooled_tokens, scan_tokens
from neuroloom.training.checkpoint import write_card

PEOPLE = [(site, subject) for site in ("north", "south") for subject in range(3)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    config = ReveConfig(
        embed_dim=16, depth=1, num_heads=2, head_dim=8, n_frequencies=2, patch_size=100, patch_overlap=0
    )
    REVE.create(config, sfreq=100.0, seed=1).save(folder)
    write_card(folder, {"architecture": "reve", "salt": "s", "seen_subjects": []})
    return folder


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Preprocessed EEG of made people; a window in the middle of the first one is rejected."""
    from tests.conftest import make_recording

    folder, manifests, recording = tmp_path_factory.mktemp("eeg"), {}, make_recording(np.random.default_rng(0))
    for at, (site, subject) in enumerate(PEOPLE):
        scan = made_scan(site, subject)
        n_windows, n = scan.signal_CT.shape[1] // 1000, len(scan.ch_names)
        loc_C12 = np.zeros((n, 12), np.float32)
        loc_C12[:, :3] = scan.position_C3
        made = replace(
            recording,
            signal_CT=scan.signal_CT,
            sfreq=scan.sfreq,
            ch_names=scan.ch_names,
            ch_types=["eeg"] * n,
            units=["V"] * n,
            status=["good"] * n,
            coil_C=np.full(n, recording.coil_C[0]),
            loc_C12=loc_C12,
            window_status=["rejected: loud" if at == 0 and w == 5 else "good" for w in range(n_windows)],
        )
        path = folder / f"{scan.name}_eeg.zarr"
        attrs = {**made.attrs(), "recording": f"{scan.name}_eeg"}
        write_artifact(path, "recording", arrays=made.arrays(), attrs=attrs, window=1000)
        manifests[scan.name] = folder / f"{scan.name}_eeg.manifest.json"
    return manifests


def test_tokens_lie_on_a_regular_grid_where_the_electrodes_are(model: Path, stores: dict[str, Path]) -> None:
    scan = made_scan("north", 0)
    tokens = scan_tokens(model, stores[scan.name])
    assert (tokens.rate, tokens.start) == (RATE, 0.5)
    assert tokens.tokens_LSD.shape == (19, 150, 16)
    assert tokens.position_L3 is not None
    np.testing.assert_allclose(tokens.position_L3, scan.position_C3, atol=1e-6)
    inside_SD = tokens.tokens_LSD[3, 50:60]  # of the rejected window: a straight line
    np.testing.assert_allclose(np.diff(inside_SD, 2, axis=0), 0, atol=1e-5)
    assert np.abs(np.diff(tokens.tokens_LSD[3, 20:30], 2, axis=0)).max() > 1e-3


def test_a_parcel_reads_the_tokens_around_it() -> None:
    rng = np.random.default_rng(0)
    scan = made_scan("north", 0)
    values_LSD = rng.standard_normal((19, 40, 3)).astype(np.float32)
    components = fit_components([values_LSD], width=3)
    reduced_LSK = (values_LSD - components.mean_D) @ components.direction_DK
    np.testing.assert_allclose(reduced_LSK.reshape(-1, 3).std(axis=0), 1.0, rtol=1e-2)
    tokens = ScanTokens(values_LSD, scan.position_C3, RATE, 0.5)
    near_PKS = pooled_tokens(tokens, components, centroid_P3=centroids(), radius=1e-3)
    assert near_PKS.shape == (N_PARCELS, 3, 40)
    far_PKS = pooled_tokens(tokens, components, centroid_P3=centroids(), radius=100.0)
    np.testing.assert_allclose(far_PKS, np.repeat(reduced_LSK.mean(axis=0).T[None], N_PARCELS, axis=0), atol=1e-4)
    closest = [np.abs(reduced_LSK.transpose(0, 2, 1) - one_KS).max(axis=(1, 2)).min() for one_KS in near_PKS]
    assert max(closest) < 1e-3
    nowhere = pooled_tokens(replace(tokens, position_L3=None), components, centroid_P3=centroids(), radius=0.03)
    np.testing.assert_allclose(nowhere, far_PKS, atol=1e-3)


def asked(model: Path, stores: dict[str, Path], *, allowed: bool = False) -> tuple[list[Scan], Synthesis]:
    pairs: list[Pair] = [made_pair(*one) for one in PEOPLE]
    scans = [made_scan(*one) for one in PEOPLE]
    config = SynthesizeConfig(window=8.0, response=12.0, allow_seen_subjects=allowed)
    sheet = [row for pair in pairs for row in (pair.eeg, pair.bold)]
    given = {"pairs": pairs, "sheet": sheet, "scans": scans, "eeg": stores, "encoder": model, "n_folds": 3}
    settings = HaemodynamicConfig(sources=False, encoder="reve", width=4, lags=(0.0,))
    return scans, synthesize(model=settings, config=config, division="subject", folds=(0,), seed=1, **given)


def test_the_head_reads_an_encoder_under_any_cap(model: Path, stores: dict[str, Path]) -> None:
    _, found = asked(model, stores)
    assert [one.site for one in found.scans] == ["north", "south"]
    assert all(np.isfinite(one.bold_pred_PV).all() for one in found.scans)
    assert found.facts[0]["n_weights"] == N_PARCELS * 4
    assert found.seen == set()


def test_people_that_the_encoder_has_met_stop_the_run_or_are_marked(
    model: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    met = tmp_path / "met"
    shutil.copytree(model, met)
    rows = [made_pair(*one).eeg for one in PEOPLE]
    write_card(met, {"architecture": "reve", "salt": "s", "seen_subjects": seen_subjects(rows, salt="s")})
    with pytest.raises(ContaminationError, match="s_north_sub-00_task-rest_eeg"):
        asked(met, stores)
    _, found = asked(met, stores, allowed=True)
    assert found.seen == {one.participant for one in found.scans}
