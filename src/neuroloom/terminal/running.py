"""A run of the workflow from the command line, and what is said at its end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from neuroloom.schema import ConfigError

QUIET = {
    "-n",
    "--dry-run",
    "--dryrun",
    "--dag",
    "--rulegraph",
    "--filegraph",
    "--lint",
    "--summary",
    "--unlock",
    "-h",
    "--help",
}


def run_study(config: Path, *, clone: Path, results: Path, cores: str, target: str, more: Sequence[str]) -> int:
    """Run Snakemake in the current folder.

    Parameters
    ----------
    config : Path
        Laid over the default one.
    clone : Path
        Folder of the repository, with the Snakefile.
    results : Path
        Of the study.
    cores : str
        A number, or `all`.
    target : str
        Rule or file.
    more : sequence of str
        Further words for Snakemake.

    Returns
    -------
    code : int
        Of Snakemake.

    Raises
    ------
    ConfigError
        If the workflow is not beside the package.
    """
    from neuroloom.terminal.summary import show_summary

    start = time.monotonic()
    code = subprocess.run(command(config, clone=clone, cores=cores, target=target, more=more), check=False).returncode
    if code == 0 and not QUIET & set(more):
        show_summary(results, seconds=time.monotonic() - start)
    return code


def command(config: Path, *, clone: Path, cores: str, target: str, more: Sequence[str]) -> list[str]:
    """Words of Snakemake's command line.

    Raises
    ------
    ConfigError
        If the workflow is not beside the package.
    """
    snakefile = clone / "Snakefile"
    if not snakefile.is_file():
        raise ConfigError(
            f"{snakefile}: the workflow is not beside the package, which was installed without it. Clone the "
            "repository and install it from there (pip install -e .), or run snakemake with the Snakefile of a clone"
        )
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--cores", cores]
    return [*words, "--configfile", str(config), *more, "--", target]
