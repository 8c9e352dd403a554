"""Which people a model has seen: a list in its model card, hashed, that evaluation is checked against.

A hash says whether a participant is on the list without saying who is. The salt stands in the card: it keeps tables
of hashes of one model from serving for another one, not a determined reader from trying all subject numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from neuroloom.config import RecordingRow
from neuroloom.evaluation.splits import LeakError, participant_of
from neuroloom.manifest import ArtifactError

EVERYONE = "*"  # in place of a hash: the card does not say who of the dataset was seen, so that all count as seen
FIELDS = ("dataset", "version", "subject_sha256")


class ContaminationError(LeakError):
    """A model is to be evaluated on people it was trained on; the message names their recordings."""


def hash_subject(row: RecordingRow, salt: str) -> str:
    """sha256 of salt, dataset and participant."""
    return hashlib.sha256(f"{salt}\n{row.study}\n{participant_of(row)}".encode()).hexdigest()


def seen_subjects(
    rows: Sequence[RecordingRow], *, salt: str, versions: Mapping[str, str] | None = None
) -> list[dict[str, str]]:
    """The list of a model card: one entry for each participant, sorted.

    Parameters
    ----------
    rows : sequence of RecordingRow
        Recordings that the model, or the tokenizer under it, was trained or validated on.
    salt : str
        Kept in the card as `salt`.
    versions : mapping, optional
        Dataset -> version.
    """
    people = {participant_of(row): (row.study, hash_subject(row, salt)) for row in rows}
    entries = [(dataset, (versions or {}).get(dataset, ""), digest) for dataset, digest in people.values()]
    return [dict(zip(FIELDS, entry, strict=True)) for entry in sorted(entries)]


def seen_datasets(*datasets: str) -> list[dict[str, str]]:
    """Entries for datasets of which all count as seen, for weights from elsewhere; `*` is every dataset."""
    return [dict(zip(FIELDS, (name, "", EVERYONE), strict=True)) for name in sorted(datasets)]


def check_contamination(
    card: Mapping[str, Any], rows: Sequence[RecordingRow], *, allow_seen_subjects: bool, file: str = "model card"
) -> dict[str, bool]:
    """Whether the model has seen each participant of the test.

    Parameters
    ----------
    card : mapping
        The model card: `salt` and `seen_subjects`; cards of what it stands on (a tokenizer) under `upstream`.
    rows : sequence of RecordingRow
        Recordings of the test.
    allow_seen_subjects : bool
        Mark the rows instead of stopping.
    file : str
        Name of the card, for messages.

    Returns
    -------
    seen : dict
        Participant -> mark for the table's rows.

    Raises
    ------
    ContaminationError
        Naming the recordings, if some were seen and that is not allowed.
    ArtifactError
        If the card does not say what the model has seen.
    """
    met = [row for row in rows if any(_has_seen(one, row, file) for one in (card, *card.get("upstream", ())))]
    if met and not allow_seen_subjects:
        names = sorted(row.recording for row in met)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise ContaminationError(
            f"{file}: the model has seen the participants of {', '.join(names[:5])}{more}; test on others, or set "
            "allow_seen_subjects: true, which marks their rows"
        )
    seen = {participant_of(row) for row in met}
    return {participant_of(row): participant_of(row) in seen for row in rows}


def _has_seen(card: Mapping[str, Any], row: RecordingRow, file: str) -> bool:
    if not isinstance(card.get("seen_subjects"), list) or not isinstance(card.get("salt"), str):
        raise ArtifactError(
            f"{file}: no list of seen subjects (salt, seen_subjects), so that nothing can be said of leaks; write the "
            "card with seen_subjects(), or with seen_datasets() for weights from elsewhere"
        )
    own = hash_subject(row, card["salt"])
    known = [(entry["dataset"].casefold(), entry.get("subject_sha256", EVERYONE)) for entry in card["seen_subjects"]]
    return any(
        digest == own or (digest == EVERYONE and dataset in (row.study.casefold(), EVERYONE))
        for dataset, digest in known
    )
