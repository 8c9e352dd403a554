"""Splits keep participants apart, and the guard fires where they are not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from neuroloom.config import ConfigError, RecordingRow
from neuroloom.evaluation.splits import (
    LeakError,
    assign_folds,
    check_split,
    few_shot,
    from_json,
    published_split,
    split_site,
    split_subjects,
    split_within,
    time_parts,
    to_json,
    window_parts,
)
from neuroloom.manifest import ArtifactError


def row(site: str, subject: int, modality: str = "eeg", session: str | None = None) -> RecordingRow:
    facts = {"study": "demo", "site": site, "subject": f"{subject:02d}", "session": session}
    return RecordingRow(**facts, task="rest", modality=modality, path=f"{site}{subject}{modality}{session}")


ROWS = [row(site, subject) for site in ("north", "west", "east") for subject in range(4)]
MIXED = ROWS + [row("east", subject, "meg") for subject in range(4)]


def test_folds_follow_the_rule_and_cover_each_site() -> None:
    folds = assign_folds(ROWS, 4)
    assert folds["demo/east/00"] == 0  # first site in sorted order
    assert folds["demo/north/00"] == 1
    assert folds["demo/west/03"] == (3 + 2) % 4
    for site in ("north", "west", "east"):
        assert {folds[f"demo/{site}/{k:02d}"] for k in range(4)} == {0, 1, 2, 3}
    assert assign_folds(list(reversed(ROWS)), 4) == folds


def test_each_participant_is_tested_once_and_never_seen_before() -> None:
    splits = [split_subjects(ROWS, n_folds=4, fold=fold) for fold in range(4)]
    tested = [name for split in splits for name in split.test]
    assert sorted(tested) == sorted(row.recording for row in ROWS)
    for split in splits:
        sizes = (len(split.train), len(split.validation), len(split.test))
        assert sizes == (6, 3, 3)
        assert not set(split.people("train")) & set(split.people("test"))


def test_a_held_out_device_is_test_and_its_heads_are_not_trained_on() -> None:
    split = split_subjects(MIXED, n_folds=4, fold=0, held_out_devices=["demo-east-meg"])
    assert {name for name in split.test if name.endswith("meg")} == {
        f"demo_east_sub-0{k}_task-rest_meg" for k in range(4)
    }
    assert not any("east" in person for part in ("train", "validation") for person in split.people(part))
    assert len(split.left_out) == 3  # EEG of the three MEG participants who are not of this fold
    everything = {*split.train, *split.validation, *split.test, *split.left_out}
    assert everything == {row.recording for row in MIXED}
    with pytest.raises(ConfigError, match="demo-south-meg: not in the sheet"):
        split_subjects(MIXED, n_folds=4, fold=0, held_out_devices=["demo-south-meg"])


def test_leaving_a_site_out() -> None:
    split = split_site(ROWS, site="demo/west", n_folds=4)
    assert {name.split("_")[1] for name in split.test} == {"west"}
    assert (len(split.train), len(split.validation), len(split.test)) == (6, 2, 4)
    with pytest.raises(ConfigError, match="demo/south"):
        split_site(ROWS, site="demo/south", n_folds=4)


def test_across_sessions_only_sessions_are_apart_and_the_kind_says_so() -> None:
    rows = [row("north", subject, session=session) for subject in range(2) for session in ("a", "b", "c")]
    rows += [row("north", 7, session="a")]
    for fold in range(3):
        split = split_within(rows, by="session", fold=fold)
        assert split.kind == "sessions"
        assert {name.split("_")[3] for name in split.test} == {f"ses-{'abc'[fold]}"}
        assert "demo_north_sub-07_ses-a_task-rest_eeg" in split.train
        assert from_json(to_json(split)) == split
    with pytest.raises(LeakError, match=r"demo/north/00 session a is in train and in validation"):
        check_split(replace(split, blocks=dict.fromkeys(split.blocks, "a")))
    with pytest.raises(ConfigError, match="three sessions"):
        split_within([row("north", 1, session=session) for session in "ab"], by="session", fold=0)


@pytest.mark.parametrize("pair", [("train", "test"), ("train", "validation"), ("validation", "test")])
def test_a_planted_overlap_of_two_parts_is_found(pair: tuple[str, str]) -> None:
    """Each pair, because a triple intersection is empty in all three cases."""
    split = split_subjects(MIXED, n_folds=4, fold=1)
    one, other = pair
    eeg = next(name for name in split.recordings(one) if "east" in name and name.endswith("eeg"))
    meg = eeg.replace("eeg", "meg")
    rest = tuple(name for name in split.recordings(one) if name != meg)
    planted = replace(split, **{one: rest, other: (*split.recordings(other), meg)})
    assert not set(planted.people("train")) & set(planted.people("validation")) & set(planted.people("test"))
    with pytest.raises(LeakError, match=rf"demo/east/0\d is in {one} and in {other}"):
        check_split(planted)
    with pytest.raises(LeakError, match="participant"):
        to_json(planted)
    text = json.loads(to_json(split)) | {one: rest, other: planted.recordings(other)}
    with pytest.raises(LeakError, match="participant"):
        from_json(json.dumps(text))


def test_a_recording_in_two_parts_is_found() -> None:
    split = split_subjects(ROWS, n_folds=4, fold=0)
    with pytest.raises(LeakError, match="recording"):
        check_split(replace(split, test=(*split.test, split.train[0])))


def test_a_split_that_lies_about_who_a_recording_is_of_fails_against_the_sheet() -> None:
    split = split_subjects(MIXED, n_folds=4, fold=1)
    meg = next(name for name in split.train if name.endswith("meg"))
    train = tuple(name for name in split.train if name != meg)
    lying = replace(
        split, train=train, test=(*split.test, meg), participants={**split.participants, meg: "demo/east/99"}
    )
    assert from_json(to_json(lying)) == lying
    with pytest.raises(LeakError, match="demo/east"):
        from_json(to_json(lying), rows=MIXED)
    with pytest.raises(ArtifactError, match="not in the sheet"):
        from_json(to_json(split), rows=ROWS)


def test_a_file_that_is_no_split_is_named() -> None:
    with pytest.raises(ArtifactError, match=r"x\.json"):
        from_json("{", file="x.json")
    with pytest.raises(ArtifactError, match=r"x\.json"):
        from_json('{"schema": "neuroloom/split@1", "kind": "subjects"}', file="x.json")


def test_too_few_participants_are_counted_in_the_message() -> None:
    with pytest.raises(ConfigError, match=r"there are 2 participants at 1 sites\. Three participants are needed"):
        split_subjects([row("north", 0), row("north", 1)], n_folds=3, fold=0)
    with pytest.raises(ConfigError, match="nothing for test"):
        split_subjects([row("north", k) for k in range(4)], n_folds=6, fold=5)
    with pytest.raises(ConfigError, match="fold 4"):
        split_subjects(ROWS, n_folds=4, fold=4)
    with pytest.raises(ConfigError, match="3 or more"):
        assign_folds(ROWS, 2)


def test_few_shots_are_nested_and_hold_every_class() -> None:
    split = split_subjects([row("north", k) for k in range(40)], n_folds=4, fold=0)
    rare = split.train[7]
    labels = {name: ["rare" if name == rare else "common"] for name in split.train}
    shots = [few_shot(split, share=share, labels=labels, rng=np.random.default_rng(3)) for share in (0.01, 0.1, 0.5)]
    assert [len(shot.train) for shot in shots] == [2, 2, 10]  # 1 % of 20 is one for each of two classes
    assert all(rare in shot.train for shot in shots)
    assert set(shots[0].train) <= set(shots[1].train) <= set(shots[2].train)
    assert all(shot.test == split.test and shot.validation == split.validation for shot in shots)
    assert len(few_shot(split, share=0.01, rng=np.random.default_rng(3)).train) == 1
    with pytest.raises(ConfigError, match="share"):
        few_shot(split, share=0, rng=np.random.default_rng(3))


def test_the_published_split_has_the_published_sizes() -> None:
    """LiPCoT: 46 participants of 12 windows give 322 / 138 / 92."""
    participants_W = np.repeat([f"s{k}" for k in range(46)], 12)
    parts_W = published_split(participants_W, rng=np.random.default_rng(42))
    assert [int((parts_W == part).sum()) for part in ("train", "validation", "test")] == [322, 138, 92]
    assert set(participants_W[parts_W == "train"]) == set(participants_W[parts_W == "test"])
    again_W = published_split(participants_W, rng=np.random.default_rng(42))
    assert (parts_W == again_W).all()
    with pytest.raises(ConfigError, match="s1 has 4 windows"):
        published_split(["s1"] * 4, rng=np.random.default_rng(0))


def test_windows_take_the_part_of_their_recording() -> None:
    split = split_subjects(MIXED, n_folds=4, fold=0, held_out_devices=["demo-east-meg"])
    names = [split.train[0], split.test[0], split.left_out[0], split.validation[0]]
    assert window_parts(split, names).tolist() == ["train", "test", "", "validation"]


def test_parts_in_time_leave_a_gap() -> None:
    starts_W = np.random.default_rng(0).permutation(20)
    parts_W = time_parts(["a"] * 20, starts_W)[np.argsort(starts_W)]
    assert parts_W.tolist() == ["train"] * 10 + ["validation"] * 2 + [""] * 2 + ["test"] * 6
    assert set(time_parts(["a"] * 9, np.arange(9))) == {""}
