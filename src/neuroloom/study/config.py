"""Where the recordings of a study are, and what a row of its sheet says about one."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from neuroloom.schema import Frozen, Label

Modality = Literal["eeg", "meg", "bold"]
MODALITIES: tuple[Modality, ...] = ("eeg", "meg", "bold")
# in braces Snakemake looks for wildcards
FilePath = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f{}]*$", max_length=4096)]
MAX_NAME = 220  # a file name has 255 bytes, of which a manifest in the making takes 22
ENVIRONMENT_DEFAULT = re.compile(r"\$\{(\w+):-([^}]*)\}")


def fill_environment(text: str) -> str:
    """A path with environment variables filled in, as in a shell: `${NAME:-default}`."""
    return ENVIRONMENT_DEFAULT.sub(lambda found: os.environ.get(found[1], found[2]), text)


class StudyConfig(Frozen):
    """What is run and where its recordings are."""

    name: Label = Field(description="Name of the study; results go to `results/<name>/`.")
    seed: int = Field(ge=0, description="The one seed; every job derives its own from it.")
    recordings: str | None = Field(None, description="Recordings sheet (tsv); null simulates the study.")
    root: str = Field(
        ".", description="Folder that relative paths of the sheet start from; ${VAR:-default} is filled in."
    )
    bids_root: str | None = Field(
        None, description="BIDS dataset that `index_study` writes the sheet from; ${VAR:-default} is filled in."
    )
    elsewhere: tuple[str, ...] = Field(
        (),
        description="Other folders that paths and links of the sheet may lead to, beside root and bids_root; / allows "
        "all.",
    )
    labels: tuple[str, ...] = Field((), description="Extra columns of the sheet that are labels, such as age or group.")

    @property
    def root_path(self) -> str:
        """`root` with environment variables filled in, as in a shell: `${NAME:-default}`."""
        return fill_environment(self.root)

    @property
    def folders(self) -> list[str]:
        """Where recordings may lie."""
        named = [self.root, *([self.bids_root] if self.bids_root else []), *self.elsewhere]
        return [fill_environment(folder) for folder in named]


class RecordingRow(Frozen):
    """One row of the recordings sheet."""

    study: Label
    site: Label
    subject: Label
    session: Label | None = None
    task: Label
    run: Label | None = None
    modality: Modality
    path: FilePath
    labels: dict[str, str] = Field({})

    @model_validator(mode="after")
    def _name(self) -> Self:
        if len(self.recording) > MAX_NAME:
            raise ValueError(f"a name of {len(self.recording)} characters, at most {MAX_NAME} make a file name")
        return self

    @property
    def recording(self) -> str:
        """The identifier of the recording, which is also its wildcard and file name."""
        parts = [self.study, self.site, f"sub-{self.subject}"]
        parts += [f"ses-{self.session}"] if self.session else []
        parts += [f"task-{self.task}"]
        parts += [f"run-{self.run}"] if self.run else []
        return "_".join([*parts, self.modality])
