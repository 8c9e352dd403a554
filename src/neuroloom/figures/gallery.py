"""All figures of a study in one list: number in the paper, title, the tables it is drawn from, and what draws it.

`python -m neuroloom.figures.gallery` prints the names of the rules that draw figures and write tables.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
SECTIONS = {  # in the order of the stages; names of figures begin with one
    "study": "Study",
    "quality": "Quality",
    "cleaning": "Cleaning",
    "tokens": "Tokenizers",
    "models": "Foundation models",
    "evaluation": "Evaluation",
    "federation": "Federation",
    "synthesis": "EEG to fMRI",
    "computing": "Computing",
}


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes
    ----------
    number : int
        Of the figure in the paper that it is, or is a part of.
    title : str
    plot : str
        Module of this package and function, which takes the tables in their order.
    tables : tuple of str
        Names of the tables that it cannot do without.
    also : tuple of str
        Names of tables that the function takes by name, if the study has them.
    """

    number: int
    title: str
    plot: str
    tables: tuple[str, ...]
    also: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """Where the function is."""
        return f"neuroloom.figures.{self.plot.partition('.')[0]}"

    def needs(self, tables: Collection[str]) -> list[str]:
        """Names of what it reads in a study that has these tables."""
        return [*self.tables, *(name for name in self.also if name in tables)]

    def draw(self, tables: Mapping[str, pd.DataFrame]) -> Figure:
        """Draw it.

        Raises
        ------
        KeyError
            A table is missing.
        """
        module, _, name = self.plot.partition(".")
        plot: Any = getattr(import_module(f"neuroloom.figures.{module}"), name)
        figure: Figure = plot(
            *(tables[name] for name in self.tables), **{name: tables[name] for name in self.also if name in tables}
        )
        return figure


FIGURES: dict[str, Drawing] = {
    "study_pipeline": Drawing(
        1,
        "The study",
        "study_plots.plot_study_pipeline",
        ("recordings", "quarantine", "headline"),
        ("tokenizers", "models", "evaluation_summary", "federation_summary", "synthesis_summary"),
    ),
    "quality_sites": Drawing(
        2, "Quality over sites", "quality_plots.plot_quality_sites", ("recordings", "qc_meeg", "qc_bold")
    ),
    "cleaning_curves": Drawing(2, "Bounds of cleaning", "cleaning_plots.plot_cleaning_curves", ("cleaning_curves",)),
    "tokens_reconstruction": Drawing(3, "Reconstruction", "token_plots.plot_reconstruction", ("tokenizers",)),
    "tokens_rate_distortion": Drawing(3, "Rate and distortion", "token_plots.plot_rate_distortion", ("tokenizers",)),
    "tokens_code_usage": Drawing(3, "Use of codes", "token_plots.plot_code_usage", ("token_usage",)),
    "tokens_atlas": Drawing(3, "Token atlas", "token_spectra.plot_token_atlas", ("token_atlas",)),
    "tokens_examples": Drawing(
        3, "Examples", "token_spectra.plot_token_examples", ("token_examples", "token_example_spectra")
    ),
    "tokens_probes": Drawing(3, "What tokens tell", "token_probes.plot_token_probes", ("tokenizer_probes",)),
    "models_pretraining": Drawing(4, "Pretraining", "model_plots.plot_pretraining", ("pretraining", "models")),
    "models_scaling": Drawing(4, "Scaling", "model_plots.plot_scaling", ("pretraining", "models")),
    "evaluation_downstream": Drawing(
        5, "Tasks", "evaluation_plots.plot_downstream", ("evaluation", "evaluation_summary")
    ),
    "evaluation_audits": Drawing(5, "Audits", "evaluation_audits.plot_audits", ("evaluation_audits",)),
    "evaluation_variance": Drawing(5, "Why scores vary", "evaluation_audits.plot_variance", ("evaluation_variance",)),
    "evaluation_few_shot": Drawing(6, "Few people", "evaluation_plots.plot_few_shot", ("evaluation_summary",)),
    "federation_scores": Drawing(
        7, "Arms and sites", "federation_plots.plot_federation_scores", ("federation", "federation_summary")
    ),
    "federation_gains": Drawing(
        7, "Gain over every site alone", "federation_plots.plot_federation_gains", ("federation_gains",)
    ),
    "federation_rounds": Drawing(
        7, "Rounds", "federation_plots.plot_federation_rounds", ("federation_rounds", "federation")
    ),
    "federation_cost": Drawing(7, "Cost of a round", "federation_audits.plot_federation_cost", ("federation_cost",)),
    "federation_attacks": Drawing(7, "Attacks", "federation_audits.plot_federation_attacks", ("federation_attacks",)),
    "federation_privacy": Drawing(
        7, "Privacy", "federation_privacy.plot_federation_privacy", ("federation_rounds", "federation_summary")
    ),
    "synthesis_scores": Drawing(8, "Models and nulls", "synthesis_plots.plot_synthesis_scores", ("synthesis_summary",)),
    "synthesis_differences": Drawing(
        8, "Differences", "synthesis_plots.plot_synthesis_differences", ("synthesis_differences",)
    ),
    "synthesis_maps": Drawing(8, "Maps", "synthesis_maps.plot_synthesis_maps", ("synthesis_parcels",)),
    "synthesis_traces": Drawing(
        8,
        "Time courses",
        "synthesis_parcels.plot_synthesis_traces",
        ("synthesis_traces", "synthesis_parcels", "synthesis"),
    ),
    "synthesis_nulls": Drawing(
        8, "Parcels and chance", "synthesis_parcels.plot_synthesis_nulls", ("synthesis", "synthesis_parcels")
    ),
    "synthesis_connectivity": Drawing(
        8,
        "Functional connectivity",
        "synthesis_connectivity.plot_synthesis_connectivity",
        ("synthesis_connectivity", "synthesis_parcels", "synthesis_summary", "synthesis_scans"),
    ),
    "synthesis_attribution": Drawing(
        8,
        "Bands, electrodes and lags",
        "synthesis_attribution.plot_synthesis_attribution",
        ("synthesis_attribution", "synthesis_parcels"),
    ),
    "synthesis_calibration": Drawing(
        8, "Calibration", "synthesis_plots.plot_synthesis_calibration", ("synthesis_summary",)
    ),
    "computing_time": Drawing(9, "Time and memory", "computing_plots.plot_computing_time", ("runtime",)),
    "computing_speed": Drawing(
        9, "Speed of pretraining", "computing_plots.plot_computing_speed", ("pretraining", "models")
    ),
    "computing_cluster": Drawing(9, "Many jobs at a time", "computing_plots.plot_computing_cluster", ("schedule",)),
}


def label(name: str) -> str:
    """Number of a figure in the paper, with a letter where several have one number: `3b`."""
    number = FIGURES[name].number
    same = [other for other, drawing in FIGURES.items() if drawing.number == number]
    return f"{number}{chr(ord('a') + same.index(name)) if len(same) > 1 else ''}"


def drawn_from(tables: Collection[str]) -> dict[str, Drawing]:
    """The figures that a study with these tables has."""
    return {name: drawing for name, drawing in FIGURES.items() if set(drawing.tables) <= set(tables)}


def rule_names() -> list[str]:
    """Rules that draw figures and write tables, and the target of them all."""
    from neuroloom.figures.listings import LISTINGS

    return ["figures", *(f"draw_{name}" for name in FIGURES), *(f"write_{name}" for name in LISTINGS)]


if __name__ == "__main__":
    print(*rule_names())
