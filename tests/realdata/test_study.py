"""The whole graph on real recordings of ten devices: every row of the sheet ends as an artifact or with a reason."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from tests.workflow.conftest import run_snakemake

from neuroloom.artifacts import open_artifact, verify
from neuroloom.study.sheet import read_sheet

ROOT = Path(__file__).parents[2]
LABELS = ("age", "sex", "group")
MORE = {"eegmat": 4, "eegmmidb": 2, "openbci": 6}  # recordings of a task, where models are trained


def few_of_each(sheet: Path) -> Path:
    """One recording of each task of a study, and more where people or runs are told apart: the rest is more of it."""
    rows = pd.read_csv(ROOT / "config/real.tsv", sep="\t", dtype=str, keep_default_na=False)
    number = rows.groupby(["study", "modality", "task"]).cumcount()
    rows[number < rows["study"].map(MORE).fillna(1)].to_csv(sheet, sep="\t", index=False)
    return sheet


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("real")
    overlay = folder / "here.yaml"
    few = {"lipcot": {"n_init": 1}, "braintokenizer": {"training": {"steps": 20}}}
    values = {
        "study": {"root": str(real_data.resolve()), "recordings": str(few_of_each(folder / "real.tsv"))},
        "pretrain": {
            "models": {"reve": {"training": {"steps": 10}}, "brainomni": {"training": {"steps": 10}}},
            "sweep": {"of": None},
        },
        "evaluate": {
            "n_seeds": 1,
            "shares": [1.0],
            "budget": {"epochs": 1, "candidates": 1},
            "n_permutations": 20,
            "audits": False,
        },
        "federate": {
            "use": ["local", "fedbn", "fleeg"],
            "rounds": 1,
            "local_epochs": 1,
            "n_seeds": 1,
            "n_permutations": 20,
            "attacks": False,
        },
        "synthesize": {"connectomes": {"n_draws": 19}},
        "tokenize": {"tokenizers": few, "max_segments": 2, "n_permutations": 20},
    }
    overlay.write_text(yaml.safe_dump(values))
    run = run_snakemake(folder, "--cores", "2", "--configfile", str(ROOT / "config/real.yaml"), str(overlay))
    assert run.returncode == 0, run.stdout[-5000:]
    return folder / "results" / "real"


def test_every_row_is_accounted_for(study: Path) -> None:
    rows = read_sheet(study.parents[1] / "real.tsv", labels=LABELS)
    recordings = pd.read_parquet(study / "tables/recordings.parquet").set_index("recording")
    quarantine = pd.read_parquet(study / "tables/quarantine.parquet").set_index("recording")
    assert set(recordings.index) == {row.recording for row in rows}
    assert set(quarantine.index) == set(recordings.index[recordings["status"] == "quarantined"])
    assert (quarantine[["reason", "remedy"]] != "").to_numpy().all()


def test_none_of_these_recordings_needs_quarantine(study: Path) -> None:
    """They were all looked at: a new entry here is a fault of ours until shown otherwise."""
    assert len(pd.read_parquet(study / "tables/quarantine.parquet")) == 0


def test_every_artifact_verifies_and_has_a_qc_row_and_a_figure(study: Path) -> None:
    recordings = pd.read_parquet(study / "tables/recordings.parquet")
    qc = pd.concat(pd.read_parquet(study / f"tables/qc_{kind}.parquet") for kind in ("meeg", "bold"))
    for name in recordings["recording"]:
        assert len(verify(study / "preprocess" / f"{name}.zarr")) == 64
        assert (study / "qc" / f"{name}.png").stat().st_size > 10_000
    assert set(qc["recording"]) == set(recordings["recording"])


def test_mains_of_the_grasp_recordings_falls(study: Path) -> None:
    """OpenBCI at 125 Hz: 28 to 52 dB of 50 Hz; a notch of two hertz takes at least 20 dB of it."""
    qc = pd.read_parquet(study / "tables/qc_meeg.parquet")
    openbci = qc[qc["recording"].str.startswith("openbci")]
    assert len(openbci) == 6
    assert (openbci["line_db_before"] > 25).all()
    assert (openbci["line_db_before"] - openbci["line_db_after"] > 20).all()


@pytest.mark.parametrize(
    ("recording", "n_channels", "ch_type"),
    [
        ("eegmat_eegmat_sub-00_task-rest_eeg", 19, "eeg"),
        ("eegmmidb_eegmmidb_sub-S001_task-fistexecution_run-03_eeg", 64, "eeg"),
        ("muse_muse_sub-1_ses-1_task-p300_run-01_eeg", 4, "eeg"),
        ("eyestate_eyestate_sub-01_task-eyestate_eeg", 14, "eeg"),
        ("megvectorview_megvectorview_sub-01_task-audvis_meg", 204, "grad"),
        ("megkit_megkit_sub-01_task-unknown_meg", 157, "mag"),
        ("megbti_megbti_sub-01_task-unknown_meg", 248, "mag"),
        ("megctf_megctf_sub-01_task-unknown_meg", 274, "mag"),
    ],
)
def test_devices_keep_their_sensors(study: Path, recording: str, n_channels: int, ch_type: str) -> None:
    artifact = open_artifact(study / "preprocess" / f"{recording}.zarr")
    assert list(artifact.read("type")).count(ch_type) == n_channels
    assert artifact.attrs["sfreq"] == 200.0


def test_every_device_has_tokens_of_both_kinds_or_a_reason(study: Path) -> None:
    table = pd.read_parquet(study / "tables/tokenizers.parquet")
    assert set(table.loc[table["held_out"], "device"]) >= {"muse-muse-eeg"}
    lost = pd.read_parquet(study / "tables/token_quarantine.parquet")
    assert set(lost["recording"]) == {"megbti-megbti-meg", "megctf-megctf-meg"}  # a second and less
    assert lost["reason"].str.contains("no usable window of 2 s").all()
    for tokenizer in ("lipcot", "braintokenizer"):
        stores = sorted((study / f"tokenize/{tokenizer}/fold-0").glob("*.manifest.json"))
        assert len(stores) == 9
        for path in stores:
            if path.name.removesuffix(".manifest.json") not in set(lost["recording"]):
                artifact = open_artifact(path, kind="tokens")
                codes = artifact.read("codes")
                assert codes.size
                sizes = artifact.attrs["codebook_sizes"]
                assert all((codes[..., level] < size).any() for level, size in enumerate(sizes))


def test_three_devices_are_federated(study: Path) -> None:
    """19 electrodes at 500 Hz, 64 at 160 and 15 at 125, and who was told apart from whom."""
    scores = pd.read_parquet(study / "tables/federation.parquet").query("metric == 'balanced_accuracy'")
    assert set(scores["site"]) == {"all", "eegmat/eegmat", "eegmmidb/eegmmidb", "openbci/openbci"}
    assert set(scores["strategy"]) == {"local", "fedbn", "fleeg"}
    assert scores["score"].between(0, 1).all()
    within = scores["note"].str.contains("within subjects")
    assert set(scores.loc[within, "site"]) == {"all", "eegmmidb/eegmmidb"}  # one person, whose runs are kept apart


def test_connectomes_of_fmri_are_predicted_beside_the_mean_and_nulls(study: Path) -> None:
    """The mean of other people is what all EEG models have to beat, and a null stands beside each of them."""
    table = pd.read_parquet(study / "tables/connectomes.parquet").query("group == 'all' and target == 'fc'")
    r = table[table["metric"] == "r"].set_index(["model", "kind"])["score"]
    assert 0.4 < r["training_mean", "baseline"] < 0.7
    assert {"eeg_edges", "eeg_components"} <= {model for model, kind in r.index if kind == "other_person"}
    assert (table["n_participants"] == 44).all()
