"""A SLURM cluster of this one machine, on loopback only, in a folder of its own; nothing of the system is changed."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
# without these both daemons listen on all addresses
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
MpiDefault=none
# enforces memory without cgroups: what a job uses is looked at each second
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2
ReturnToService=2
MinJobAge=300
KillWait=2
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
# the plugin takes SLURM_CONF from the environment of the srun inside of a job
SRUN = '#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {srun} "$@"\n'


def missing() -> str:
    """Why there can be no cluster here; empty where there can."""
    if os.getuid() != 0:
        return "slurmd runs as root"
    path = f"{os.environ['PATH']}:/usr/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return f"no {', '.join(absent)}: make test-slurm installs Debian's slurm-wlm and munge" if absent else ""


@dataclass
class Cluster:
    """Daemons of a cluster, and how to speak to it."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        path = f"{self.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        return {**kept, "SLURM_CONF": f"{self.folder}/slurm.conf", "PATH": path, "OMP_NUM_THREADS": "1"}

    def call(self, *words: str, check: bool = True) -> str:
        """Output of a command of SLURM, without its errors."""
        run = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=check)
        return run.stdout.strip()

    def start(self, name: str) -> None:
        words = {
            "munged": ["munged", "--foreground", *(f"--{what}-file={self.folder}/munge.{what}" for what in MUNGE)],
            "slurmctld": ["slurmctld", "-D", "-f", f"{self.folder}/slurm.conf"],
            "slurmd": ["slurmd", "-D", "-f", f"{self.folder}/slurm.conf"],
        }[name]
        if name == "munged":
            # else it wants a socket that everyone can reach; here only root does
            words += ["--force", f"--socket={self.folder}/munge.socket"]
        log = (self.folder / f"{name}.log").open("ab")
        self.daemons[name] = subprocess.Popen(words, env=self.environment, stdout=log, stderr=log)

    def stop(self, name: str) -> None:
        daemon = self.daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def wait_until_idle(self, seconds: float = 60) -> None:
        limit = time.monotonic() + seconds
        while "idle" not in (found := self.call("sinfo", "-h", "-o", "%T", check=False)):
            if time.monotonic() > limit:
                raise TimeoutError(f"{self.folder}: the node is {found or 'unknown'}; see the logs there")
            time.sleep(0.2)


MUNGE = ("key", "log", "pid", "seed")  # files that munged would else keep in the system


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare(folder: Path) -> None:
    """Files of a cluster: configuration, key, and the places of its daemons."""
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 - 1024
    facts = {"host": socket.gethostname().split(".")[0], "folder": folder, "user": "root"}
    ports = {"controller_port": free_port(), "node_port": free_port()}
    conf = CONF.format(**facts, **ports, cpus=os.cpu_count(), memory=memory)
    (folder / "slurm.conf").write_text(conf)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")  # scheduling of GPUs, without any
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    srun = folder / "bin" / "srun"
    srun.write_text(SRUN.format(folder=folder, srun=shutil.which("srun")))
    srun.chmod(0o755)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A running cluster of one node; stopped in the end, with its jobs, whatever happened."""
    prepare(folder)
    found = Cluster(folder)
    try:
        found.start("munged")
        while not (folder / "munge.socket").exists():
            if found.daemons["munged"].poll() is not None:
                raise RuntimeError(f"{folder}/munged.log: {(folder / 'munged.log').read_text()}")
            time.sleep(0.05)
        found.start("slurmctld")
        found.start("slurmd")
        found.wait_until_idle()
        yield found
    finally:
        if "slurmctld" in found.daemons:
            found.call("scancel", "--signal=KILL", "--user=root", check=False)
            found.call("scancel", "--user=root", check=False)
            time.sleep(1)
        for name in list(reversed(found.daemons)):
            found.stop(name)


def end(process: subprocess.Popen[str]) -> None:
    """End a Snakemake that a test has started, with all that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
