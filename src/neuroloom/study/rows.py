"""The recordings of a study, wherever they are listed."""

from __future__ import annotations

from pathlib import Path

from neuroloom.config import Config, ConfigError, RecordingRow, SourceConfig


def study_rows(config: Config, *, check: bool = True) -> list[RecordingRow]:
    """Rows of the study that a config describes.

    A study without a sheet is simulated; a sheet that `index_study` has still to write is empty.

    Parameters
    ----------
    config : Config
    check : bool
        Look for every file of the sheet; not in the jobs of a run that has done so.

    Raises
    ------
    ConfigError
        If the sheet is missing and there is no BIDS dataset to write it from, or if it is wrong.
    """
    from neuroloom.study.sheet import check_files, read_sheet
    from neuroloom.study.simulate import simulated_rows

    study = config.study
    if study.recordings is None:
        return simulated_rows(study.name, config.simulate)
    sheet = Path(study.recordings)
    if not sheet.exists() and study.bids_root is None:
        raise ConfigError(f"{sheet}: no such sheet; correct study.recordings, or set study.bids_root and index it")
    if not sheet.exists():
        return []
    rows = read_sheet(sheet, labels=study.labels)
    if check:
        check_files(rows, Path(study.root_path), sheet=sheet, folders=study.folders)
    return rows


def source_of(row: RecordingRow, config: Config) -> SourceConfig:
    """Facts about the dataset of a recording; EEG that is simulated with BOLD was in the scanner."""
    if config.study.recordings is not None:
        return config.sources.get(row.study, SourceConfig())
    site = config.simulate.sites[row.site]
    inside = row.modality == "eeg" and "bold" in site.modalities
    return SourceConfig(scanner_t_r=site.t_r if inside else None)
