"""How far a run is: its jobs by stage, in the order of the data, and what is left of it."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

RULE = re.compile(r"^\s*(?:rule|checkpoint)\s+(\w+)\s*:|^\s*name:\s*f?[\"'](\w+)", re.MULTILINE)
INCLUDE = re.compile(r"^\s*include:\s*[\"']([^\"']+\.smk)[\"']", re.MULTILINE)
OTHER = "other"
MAX_BENCHMARKS = 20  # files of a rule, of an earlier run
CLONE = Path(__file__).resolve().parents[3]


def stage_of_rules(*snakefiles: Path) -> dict[str, str]:
    """Rule -> name of the file in `rules/` that it stands in, in the order of the includes.

    Rules that are made in a loop, with a `name:` of their own, stand for all by what comes before the first brace.

    Parameters
    ----------
    snakefiles : sequence of Path
        Those that do not exist count for nothing; rules of a main Snakefile itself are of no stage.
    """
    found: dict[str, str] = {}
    for snakefile in snakefiles:
        for name in INCLUDE.findall(_text(snakefile)):
            for rule, prefix in RULE.findall(_text(snakefile.parent / name)):
                found.setdefault(rule or prefix, Path(name).stem)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def earlier_seconds(folder: Path, rules: Iterable[str]) -> dict[str, float]:
    """Mean seconds of a job of each rule in the benchmark files of an earlier run.

    Parameters
    ----------
    folder : Path
        With a folder of tsv files for each rule.
    rules : iterable of str
    """
    found = {}
    for rule in rules:
        seconds = [s for path in sorted((folder / rule).glob("*.tsv"))[:MAX_BENCHMARKS] if (s := _seconds(path))]
        if seconds:
            found[rule] = sum(seconds) / len(seconds)
    return found


def _seconds(path: Path) -> float | None:
    """First cell of the first line below the header of a benchmark file."""
    try:
        return float(path.read_text().splitlines()[1].split("\t")[0])
    except (OSError, IndexError, ValueError):
        return None


def _begins(rule: str, name: str) -> bool:
    return name.endswith("_") and f"_{name}" in f"_{rule}"


@dataclass(frozen=True)
class Stage:
    """Jobs of one stage, as numbers for a bar."""

    name: str
    total: int
    done: int
    failed: int
    running: tuple[str, ...]

    @property
    def over(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.done + self.failed >= self.total


@dataclass
class Progress:
    """Jobs of a run as Snakemake tells of them.

    Attributes
    ----------
    totals : mapping
        Rule -> jobs.
    stages : mapping
        Rule -> stage, in the order of the data.
    clock : callable
        Seconds; another one in tests.
    """

    totals: Mapping[str, int]
    stages: Mapping[str, str]
    clock: Callable[[], float] = time.monotonic
    earlier: dict[str, float] = field(default_factory=dict)
    running: dict[int, tuple[str, float]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    failed: dict[int, str] = field(default_factory=dict)
    took: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    rule_of: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = self.clock()
        order = [*dict.fromkeys(self.stages.values()), OTHER]
        self.rules_of: dict[str, list[str]] = {name: [] for name in order}
        for rule in self.totals:
            self.rules_of[self.stage_of(rule)].append(rule)

    def start(self, job: int, rule: str) -> None:
        """A job runs, perhaps once more."""
        self.failed.pop(job, None)
        self.rule_of[job] = rule
        self.running[job] = (rule, self.clock())

    def finish(self, job: int) -> None:
        """A job is done."""
        rule, since = self.running.pop(job, (self.rule_of.get(job), None))
        if rule is None:
            return
        if since is not None:
            self.took[rule].append(self.clock() - since)
        self.done[rule] += 1

    def fail(self, job: int, rule: str) -> None:
        """A job failed; it may be tried again."""
        self.running.pop(job, None)
        self.failed[job] = rule

    def stage_of(self, rule: str) -> str:
        """Stage of a rule; one of a module has words before the name it has here, one of a loop has words behind it."""
        if rule in self.stages:
            return self.stages[rule]
        known = [name for name in self.stages if f"_{rule}".endswith(f"_{name}") or _begins(rule, name)]
        return self.stages[max(known, key=len)] if known else OTHER

    def overview(self) -> list[Stage]:
        """Stages with at least one job, in the order of the data."""
        at_work = [rule for rule, _ in list(self.running.values())]
        failed = Counter(self.failed.values())
        return [
            Stage(
                name=name,
                total=sum(self.totals[rule] for rule in rules),
                done=sum(self.done[rule] for rule in rules),
                failed=sum(failed[rule] for rule in rules),
                running=tuple(rule for rule in at_work if rule in rules),
            )
            for name, rules in self.rules_of.items()
            if rules
        ]

    @property
    def n_jobs(self) -> int:
        """Number of all jobs."""
        return sum(self.totals.values())

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.began

    def seconds_left(self) -> float | None:
        """Seconds that the rest takes: work that is left over jobs at a time so far; None where nothing is known."""
        here = {rule: sum(took) / len(took) for rule, took in list(self.took.items())}
        known = self.earlier | here
        if not known:
            return None
        typical = sum(known.values()) / len(known)
        now, work = self.clock(), 0.0
        failed = Counter(self.failed.values())
        for rule, total in self.totals.items():
            work += max(total - self.done[rule] - failed[rule], 0) * known.get(rule, typical)
        busy = sum(sum(took) for took in list(self.took.values()))
        for rule, since in list(self.running.values()):
            work -= min(now - since, known.get(rule, typical))
            busy += now - since
        return max(work, 0.0) / max(busy / max(self.elapsed, 1e-9), 1.0)
