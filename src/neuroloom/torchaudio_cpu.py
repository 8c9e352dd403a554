"""Let torchaudio, and with it braindecode, be imported beside a CPU build of torch. `make env` runs this once.

braindecode imports torchaudio. The registry's torchaudio has native libraries that are linked against CUDA
(`libc10_cuda.so`), which a CPU build of torch does not bring: the import then ends in an OSError. Without its native
libraries torchaudio falls back, by its own design, to plain torch code (`_IS_TORCHAUDIO_EXT_AVAILABLE = False`); what
is lost are forced alignment and the CUDA decoder, which nothing here uses. So, where that import fails and torch has no
CUDA, the libraries are moved into a folder beside them, and the import of braindecode is tried. Beside a CUDA build of
torch nothing is touched.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

ASIDE = "needs_cuda"


def importable(module: str) -> bool:
    """Whether a fresh interpreter can import a module; one that failed half-way would stay in this one."""
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def set_libraries_aside(folder: Path) -> list[Path]:
    """Move the native libraries of torchaudio into a folder where it does not look; return their new places."""
    aside = folder / ASIDE
    aside.mkdir(exist_ok=True)
    return [library.rename(aside / library.name) for library in sorted(folder.glob("*torchaudio*.so"))]


def main() -> None:
    """Repair the import where it is broken.

    Raises
    ------
    SystemExit
        If braindecode cannot be imported afterwards: says which versions were found.
    """
    import torch

    if torch.version.cuda is None and not importable("torchaudio"):
        package = importlib.metadata.distribution("torchaudio")
        set_libraries_aside(Path(str(package.locate_file("torchaudio"))) / "lib")
    if not importable("braindecode.models"):
        found = ", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchaudio", "braindecode")
        )
        sys.exit(f"braindecode cannot be imported with {found}; install the versions of constraints.txt")


if __name__ == "__main__":
    main()
