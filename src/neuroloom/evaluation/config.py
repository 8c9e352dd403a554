"""Settings of splits and evaluation. Nothing heavy is imported here: a config is checked before any job."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from neuroloom.schema import Frozen, Label

Regime = Literal["linear", "attentive", "lora", "full", "scratch"]
BaselineName = Literal["majority", "band_power_lda", "csp_lda", "riemann", "eegnet", "shallow"]


class SplitConfig(Frozen):
    """Who is trained on, who validates and who is tested; one for all that learns in a study."""

    n_folds: int = Field(4, ge=3, description="Parts that the people are divided into.")
    folds: tuple[int, ...] = Field((0,), min_length=1, description="Parts that are held out in turn.")
    held_out_devices: tuple[str, ...] = Field(
        (),
        description="Devices (`<study>-<site>-<modality>`) nothing is trained on; other studies' do not count.",
    )

    @model_validator(mode="after")
    def _folds(self) -> Self:
        if wrong := [fold for fold in self.folds if not 0 <= fold < self.n_folds]:
            raise ValueError(f"folds {wrong} are not among 0 to {self.n_folds - 1} (n_folds)")
        return self


class TaskConfig(Frozen):
    """A question that recordings have answers to."""

    by: str = Field(
        "event",
        description="Where the answer stands: `event`, a column of the sheet, or several (`event|task`), in turn.",
    )
    classes: dict[str, tuple[str, ...]] = Field(
        {}, description="Class -> events, or values of the column, it stands for."
    )
    studies: tuple[Label, ...] = Field((), description="Studies that are asked; none means all.")
    modality: Literal["eeg", "meg"] = Field("eeg", description="Recordings that are asked.")
    tasks: tuple[str, ...] = Field((), description="Values of the sheet's task column that are asked; none means all.")
    window: float = Field(4.0, gt=0, description="Length of a window, s.")
    offset: float = Field(0.0, ge=0, description="From the start of an event to its first window, s.")
    max_windows: int = Field(0, ge=0, description="Windows of one recording at most; 0 takes all.")
    split: Literal["subject", "site", "session", "run"] = Field(
        "subject", description="What is kept apart; sessions and runs are of people known from training."
    )

    @model_validator(mode="after")
    def _events(self) -> Self:
        if "event" in self.by.split("|") and len(self.classes) < 2:
            raise ValueError("a task by events needs two or more classes; name them with their events under classes")
        if self.classes and len(self.classes) < 2:
            raise ValueError("one class is no question; name two or more, or none for numbers")
        return self

    @property
    def within(self) -> bool:
        """Whether people of the test are known from training."""
        return self.split in ("session", "run")


class BudgetConfig(Frozen):
    """Tuning that every model and every baseline gets alike."""

    epochs: int = Field(20, ge=1, description="Passes over the training part that the last candidate has had.")
    candidates: int = Field(4, ge=1, description="Settings that are tried; the better half goes on, again and again.")


class EvaluateConfig(Frozen):
    """What models are asked, and how hard everyone tries."""

    use: tuple[Label, ...] = Field((), description="Tasks that are evaluated, by name; none leaves the stage out.")
    tasks: dict[Label, TaskConfig] = Field({}, description="Tasks by name.")
    regimes: tuple[Regime, ...] = Field(
        ("linear", "attentive", "lora", "full", "scratch"), min_length=1, description="Ways to use a model."
    )
    baselines: tuple[BaselineName, ...] = Field(
        ("majority", "band_power_lda", "csp_lda", "riemann", "eegnet", "shallow"), description="What it has to beat."
    )
    shares: tuple[float, ...] = Field((1.0,), min_length=1, description="Shares of the training people (few-shot).")
    n_seeds: int = Field(3, ge=1, description="Repetitions with other random numbers.")
    budget: BudgetConfig = BudgetConfig()
    n_permutations: int = Field(200, ge=20, description="Shuffled labels that chance is measured with.")
    audits: bool = Field(True, description="Ask what else could have answered: person, site, slope, bands, eyes.")
    allow_seen_subjects: bool = Field(False, description="Mark people a model was trained on instead of stopping.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if unknown := [name for name in self.use if name not in self.tasks]:
            raise ValueError(
                f"use names {', '.join(unknown)}; described under tasks: {', '.join(self.tasks) or 'none'}"
            )
        if wrong := [share for share in self.shares if not 0 < share <= 1]:
            raise ValueError(f"shares {wrong} are no parts of the training people; give numbers above 0 and up to 1")
        return self
