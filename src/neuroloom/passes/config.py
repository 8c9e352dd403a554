"""Where passes over a corpus run. Nothing heavy is imported here: a config is checked before any job."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from neuroloom.schema import Frozen


class DaskConfig(Frozen):
    """Where a job's passes over all its recordings run; what they give is the same to the bit."""

    scheduler: Literal["threads", "address", "slurm"] = Field(
        "threads", description="Threads of the job, a Dask scheduler that is running, or workers as jobs of SLURM."
    )
    address: str | None = Field(
        None, description="address: tcp:// or tls://host:port of the scheduler; ${VAR:-default} is filled in."
    )
    workers: int = Field(4, ge=1, description="slurm: jobs of workers at most, each as large as the job that asks.")
    partition: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.,-]+$", description="slurm: of the workers; null: that of the job that asks."
    )

    @model_validator(mode="after")
    def _address(self) -> Self:
        if self.scheduler == "address" and not self.address:
            raise ValueError("scheduler: address needs an address, such as tls://node01:8786; or say threads")
        return self


class Placement(DaskConfig):
    """Where the passes of one job run, and the size of this job, which workers on SLURM share."""

    threads: int = Field(1, ge=1, description="Of the job.")
    mem_mb: int = Field(4000, ge=1, description="Of the job, MB.")
    runtime: int = Field(60, ge=1, description="Of the job, minutes.")
    logs: str = Field("logs", description="Folder for the logs of workers on SLURM, which all nodes see.")
