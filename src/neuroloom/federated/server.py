"""The ServerApp of Flower: rounds that go on when a site fails, and from where they stopped when the server does.

Aggregation is Flower's. Around it, each reply is checked against the declared tensors (`wire`), a site that is not
used is named with the reason, and after each round the state is on the disk.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, sleep, time
from typing import Any

import numpy as np
from flwr.app import Array as WireArray
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Strategy
from safetensors.numpy import load_file, save_file

from neuroloom.federated.network import build_network, shared_names, state_of
from neuroloom.federated.prompt import PromptGrid
from neuroloom.federated.rounds import SiteRound, reported, said
from neuroloom.federated.secure import HaltedError, secure_mean
from neuroloom.federated.site import Run, read_json
from neuroloom.federated.strategies import aggregation
from neuroloom.federated.wire import ARRAYS, FACTS, METRICS, WEIGHT, RefusedError, Schema, Tensors, digest, task_message
from neuroloom.schema import ConfigError, Frozen

logger = logging.getLogger(__name__)
STATE, RESULT = "server.json", "result.json"
SHARED, MOMENTS = "shared", ("m_t", "v_t")  # parts of a stored state; those of FedAdam have Flower's names
MAX_WINDOWS = 1e7  # that a site may say it has, as the weight of its update
LOOK_S = 0.5  # between two looks whether enough sites are there
app = ServerApp()


class TooFewSitesError(RuntimeError):
    """A round had fewer good replies than `min_sites`; the run can be resumed."""


class ServerFile(Frozen):
    """What the server is given.

    Attributes
    ----------
    run : Run
    sites : tuple of str
        That may take part, `study/site`.
    model : str, optional
        Folder of the pretrained model.
    state : str
        Folder for the state of the rounds.
    """

    run: Run
    sites: tuple[str, ...]
    model: str | None = None
    state: str


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Serve the run of the server file that `flwr run` names in its run config."""
    path = context.run_config.get("server-file")
    if not isinstance(path, str):
        raise ConfigError("run config: no server-file; start with flwr run --run-config 'server-file=\"PATH\"'")
    serve(PromptGrid(grid), read_server_file(Path(path)))


def read_server_file(path: Path) -> ServerFile:
    """A server file, checked.

    Raises
    ------
    ConfigError
        Naming the file and what is wrong in it.
    """
    return read_json(path, ServerFile, "server")


def serve(grid: Grid, file: ServerFile) -> dict[str, Any]:
    """All rounds of a run that are left, and what the sites score at the end.

    Parameters
    ----------
    grid : Grid
        To the sites.
    file : ServerFile

    Returns
    -------
    result : dict
        `rounds`: rows of `SiteRound`; `scores`: site -> balanced accuracies of its test participants; `validation`:
        site -> the last one. Also written to `result.json` in the state folder.

    Raises
    ------
    TooFewSitesError
        If fewer sites than `min_sites` gave a good reply; the state of the round before is kept.
    """
    run, folder = file.run, Path(file.state)
    model = Path(file.model) if file.model else None
    network = build_network(
        run.strategy, n_outputs=len(run.classes), seed=run.seed, window=run.task.window, model=model
    )
    initial = state_of(network, shared_names(run.strategy, network))
    schema = Schema.of(initial, max_update=run.settings.max_update)
    rounds = Rounds(aggregation(run.strategy), schema, file)
    tensors = rounds.resume(initial)
    left = run.settings.rounds - rounds.done
    if left and run.strategy.secure_aggregation:
        rounds.start_securely(grid, num_rounds=left)
    elif left:
        rounds.start(grid, schema.pack(tensors), num_rounds=left, timeout=run.settings.timeout)
    result = {"rounds": [asdict(row) for row in rounds.rows], **rounds.finish(grid)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_text(json.dumps(result, indent=1) + "\n")
    return result


def last_state(file: ServerFile) -> Tensors:
    """The shared tensors after the last whole round of a run that was served."""
    folder = Path(file.state)
    stored = load_file(folder / json.loads((folder / STATE).read_text())["tensors"])
    return _part_of(stored, SHARED)


def _part_of(stored: Tensors, part: str) -> Tensors:
    """What stands under one name (the shared state, or a moment) in a file of `Rounds`."""
    return {name.removeprefix(f"{part}/"): one for name, one in stored.items() if name.startswith(f"{part}/")}


class Rounds(Strategy):
    """Flower's aggregation with every reply checked, every site accounted for, and every round on the disk.

    Parameters
    ----------
    inner : FedAvg
        Flower's strategy, of which the aggregation is used.
    schema : Schema
    file : ServerFile

    Attributes
    ----------
    done : int
        Rounds.
    rows : list of SiteRound
    tensors : dict of array
        The shared state.
    """

    def __init__(self, inner: FedAvg, schema: Schema, file: ServerFile) -> None:
        self._inner, self._schema, self._file = inner, schema, file
        self._settings, self._folder = file.run.settings, Path(file.state)
        self.done, self.rows, self.tensors = 0, list[SiteRound](), Tensors()
        self._site_of: dict[int, str] = {}
        self._asked: list[int] = []
        self._began = 0.0

    def resume(self, initial: Tensors) -> Tensors:
        """The state after the last whole round, or the initial one.

        Raises
        ------
        ConfigError
            If the folder holds the state of another run.
        """
        self.tensors, path = initial, self._folder / STATE
        if not path.exists():
            return initial
        known = json.loads(path.read_text())
        if known["run"] != self._file.run.model_dump(mode="json"):
            raise ConfigError(f"{path}: the state of another run; give this run a folder of its own, or delete it")
        stored = load_file(self._folder / known["tensors"])
        shared = _part_of(stored, SHARED)
        self.tensors = {name: shared[name] for name in initial}
        for moment in MOMENTS:
            if found := _part_of(stored, moment):
                setattr(self._inner, moment, found)
        self.done, self.rows = known["done"], [SiteRound(**row) for row in known["rows"]]
        logger.info("goes on after round %d of %d", self.done, self._settings.rounds)
        return self.tensors

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask all sites that are there; a site that joins late is asked from then on."""
        self._began, self._asked = perf_counter(), self._wait(grid)
        if hasattr(self._inner, "current_arrays"):  # of FedAdam, which its own `configure_train` would set
            self._inner.current_arrays = {name: one.astype(np.float64) for name, one in self.tensors.items()}
        return self._messages(MessageType.TRAIN, self.done + 1)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Combine the good replies and note what became of all others."""
        number = self.done + 1
        good, rows = self._sorted_out(number, list(replies))
        self.rows += rows
        if len(good) < self._settings.min_sites:
            lost = "; ".join(f"{row.site} {row.status} ({row.reason})" for row in rows if row.status != "used")
            raise TooFewSitesError(
                f"round {number}: {len(good)} good replies, federate.min_sites is {self._settings.min_sites}: {lost}. "
                f"Mend the sites and start the run again; it goes on after round {self.done}"
            )
        # in the order of the sites' names, so that sums come out alike whoever is faster
        messages = [self._widened(message, tensors) for _, message, tensors in sorted(good, key=lambda one: one[0])]
        combined, _ = self._inner.aggregate_train(number, messages)
        if combined is None:
            raise TooFewSitesError(f"round {number}: Flower combined nothing from {len(good)} replies")
        self._save(number, {name: np.asarray(combined[name].numpy(), np.float32) for name in self._schema.shapes})
        return self._schema.pack(self.tensors), None

    def start_securely(self, grid: Grid, *, num_rounds: int) -> None:
        """Rounds of which the mean of the updates is opened, and nothing else."""
        for number in range(self.done + 1, self.done + num_rounds + 1):
            self._began, self._asked = perf_counter(), self._wait(grid)
            base_N = self._schema.flat(self.tensors)
            given: dict[str, Any] = {"facts": self._facts(number), "nodes": self._asked, "number": number}
            try:
                mean_N, results = secure_mean(grid, base_N, **given, timeout=self._settings.timeout)
                found = self._schema.split((base_N + mean_N).astype(np.float32))
                moved = self._schema.check_update(found, self.tensors)
            except (HaltedError, RefusedError) as error:
                raise TooFewSitesError(f"round {number}: {error}; it goes on after round {self.done}") from None
            for node, metrics in results:
                self._site_of[node] = str(metrics["site"])
                self.rows.append(self._row(number, self._name(node), "used", update_norm=moved, **reported(metrics)))
            lost = [node for node in self._asked if node not in dict(results)]
            self.rows += [self._row(number, self._name(node), "absent", "not in the sum") for node in lost]
            if len(results) < self._settings.min_sites:
                raise TooFewSitesError(f"round {number}: {len(results)} sites in the sum; it goes on after {self.done}")
            self._save(number, found)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: sites judge what they are sent before they train on it, which costs no message."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing was asked."""
        return None

    def summary(self) -> None:
        """Log what is shared."""
        logger.info("%d tensors are shared, %d bytes", len(self._schema.shapes), self._schema.n_bytes)

    def finish(self, grid: Grid) -> dict[str, Any]:
        """Ask all sites how they score with the last weights."""
        self._asked = self._wait(grid)
        replies = grid.send_and_receive(self._messages(MessageType.EVALUATE, self.done), timeout=self._settings.timeout)
        scores: dict[str, list[float]] = {}
        validation: dict[str, float] = {}
        failed: dict[str, str] = {}
        for message in replies:
            if message.has_error():
                failed[self._name(message.metadata.src_node_id)] = str(message.error.reason)
                continue
            facts, metrics = said(message)
            site = str(facts["site"])
            scores[site] = [float(one) for one in metrics["balanced-accuracy"]]
            validation[site] = float(metrics["validation"])
        return {"scores": scores, "validation": validation, "failed": failed}

    def _wait(self, grid: Grid) -> list[int]:
        """Nodes that are there, once they are enough."""
        until = time() + self._settings.timeout
        while len(nodes := sorted(grid.get_node_ids())) < self._settings.min_sites:
            if time() > until:
                raise TooFewSitesError(
                    f"{len(nodes)} sites are connected after {self._settings.timeout:g} s, federate.min_sites is "
                    f"{self._settings.min_sites}: start the SuperNodes, then the run again"
                )
            sleep(LOOK_S)
        return nodes

    def _messages(self, kind: str, number: int) -> list[Message]:
        tensors, facts = self._schema.pack(self.tensors), self._facts(number)
        return [task_message(kind, node, tensors=tensors, facts=facts) for node in self._asked]

    def _facts(self, number: int) -> dict[str, str | int | float | bool]:
        """What a site is told of a round."""
        return {
            "round": number,
            "schema": self._schema.digest,
            "digest": digest(self.tensors),
            "run": self._file.run.name,
        }

    def _sorted_out(
        self, number: int, replies: list[Message]
    ) -> tuple[list[tuple[str, Message, Tensors]], list[SiteRound]]:
        good: list[tuple[str, Message, Tensors]] = []
        rows: list[SiteRound] = []
        for message in replies:
            node = message.metadata.src_node_id
            if message.has_error():
                rows.append(self._row(number, self._name(node), "failed", str(message.error.reason)))
                continue
            try:
                site, tensors, moved = self._checked(number, message, taken={site for site, *_ in good})
            except RefusedError as error:
                rows.append(self._row(number, self._name(node), "refused", str(error)))
                continue
            self._site_of[node] = site
            good.append((site, message, tensors))
            rows.append(self._row(number, site, "used", update_norm=moved, **reported(said(message)[1])))
        answered = {message.metadata.src_node_id for message in replies}
        silent = [self._name(node) for node in self._asked if node not in answered]
        reason = f"no answer within {self._settings.timeout:g} s"
        return good, rows + [self._row(number, site, "absent", reason) for site in silent]

    def _checked(self, number: int, message: Message, taken: set[str]) -> tuple[str, Tensors, float]:
        """Site, tensors and norm of the update of one reply, if it can be used."""
        content = message.content
        if set(content) != {ARRAYS, METRICS, FACTS}:
            raise RefusedError(f"the reply holds {', '.join(sorted(content)) or 'nothing'}")
        facts, metrics = said(message)
        site = str(facts.get("site", ""))
        if site not in self._file.sites:
            raise RefusedError(f"it says that it is {site!r}, which is no site of this run")
        if site in taken or self._site_of.get(message.metadata.src_node_id, site) != site:
            raise RefusedError(f"another node is {site}")
        if facts.get("schema") != self._schema.digest:
            raise RefusedError(f"its tensors are those of schema {facts.get('schema')}, declared {self._schema.digest}")
        if facts.get("round") != number or facts.get("base") != digest(self.tensors):
            raise RefusedError(f"stale: it started from round {facts.get('round')}, state {facts.get('base')}")
        weight = metrics.get(WEIGHT)
        if not (isinstance(weight, float) and 0 < weight <= MAX_WINDOWS):
            raise RefusedError(f"it says that it has {weight} windows")
        tensors = self._schema.unpack(content.array_records[ARRAYS])
        return site, tensors, self._schema.check_update(tensors, self.tensors)

    def _widened(self, message: Message, tensors: Mapping[str, np.ndarray]) -> Message:
        """The reply as Flower combines it: in double precision, in which Krum's distances do not cancel."""
        wide = ArrayRecord({name: WireArray(one.astype(np.float64)) for name, one in tensors.items()})
        weight = MetricRecord({WEIGHT: said(message)[1][WEIGHT]})
        message.content = RecordDict({ARRAYS: wide, METRICS: weight})
        return message

    def _row(self, number: int, site: str, status: str, reason: str = "", **more: Any) -> SiteRound:
        seconds = perf_counter() - self._began
        sent = self._schema.n_bytes
        back = sent if status == "used" else 0
        known: dict[str, Any] = {"round_seconds": seconds, "bytes_down": sent, "bytes_up": back}
        return SiteRound(number, site, status, reason, **known, **more)

    def _name(self, node: int) -> str:
        return self._site_of.get(node, f"node {node}")

    def _save(self, number: int, found: Tensors) -> None:
        """Take on the state after a round, and write it; it is whole before it counts."""
        self.tensors, self.done = found, number
        self._folder.mkdir(parents=True, exist_ok=True)
        parts = {SHARED: found, **{moment: getattr(self._inner, moment, None) or {} for moment in MOMENTS}}
        tensors = {f"{part}/{name}": one for part, state in parts.items() for name, one in state.items()}
        name = f"round-{self.done:04d}.safetensors"
        save_file(tensors, self._folder / name)
        known = {
            "run": self._file.run.model_dump(mode="json"),
            "done": self.done,
            "tensors": name,
            "rows": [asdict(row) for row in self.rows],
        }
        partial = self._folder / f"{STATE}.partial"
        partial.write_text(json.dumps(known) + "\n")
        partial.replace(self._folder / STATE)
        for old in self._folder.glob("round-*.safetensors"):
            if old.name != name:
                old.unlink()
