import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from snakemake.benchmark import BenchmarkRecord
from snakemake.script import PythonScript

from neuroloom.forking import NAME, Server, fork_jobs

Run = Callable[..., BenchmarkRecord]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Run:
    """Runs lines of code as a job of the rule `score`, in which `told` is a file."""
    return lambda code, **job: run_by(server, tmp_path, code, **job)


def run_by(server: Server, folder: Path, code: str, *, threads: int = 1, tmpdir: str | None = None) -> BenchmarkRecord:
    script, record = folder / "tmp_1.score.py", BenchmarkRecord()
    script.write_text(f"from pathlib import Path\ntold = Path({str(folder / 'told')!r})\n{code}")
    server.run(str(script), threads, tmpdir, record)
    return record


def told(folder: Path) -> str:
    return (folder / "told").read_text()


def process_of(server: Server) -> psutil.Process:
    assert server.process
    return psutil.Process(server.process.pid)


def test_a_job_runs_its_script_as_main_in_the_folder_of_snakemake(run: Run, tmp_path: Path) -> None:
    run("import os, sys\ntold.write_text(' '.join([__name__, os.getcwd(), *sys.argv]))")
    assert told(tmp_path) == f"__main__ {os.getcwd()} {tmp_path / 'tmp_1.score.py'}"


def test_a_job_has_the_name_of_its_rule(run: Run, server: Server, tmp_path: Path) -> None:
    run("import psutil\ntold.write_text(psutil.Process().name())")
    assert told(tmp_path) == "score"
    assert process_of(server).name() == NAME


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise ValueError('no such channel')", 1),
        ("import sys\nsys.exit(3)", 3),
        ("import os\nos.kill(os.getpid(), 9)", -9),
    ],
)
def test_a_job_that_fails_is_reported_and_the_next_one_runs(run: Run, tmp_path: Path, code: str, expected: int) -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        run(code)
    assert raised.value.returncode == expected
    assert str(tmp_path / "tmp_1.score.py") in str(raised.value)
    run("told.write_text('again')")
    assert told(tmp_path) == "again"


def test_a_job_gets_its_threads_and_its_temporary_folder(run: Run, tmp_path: Path) -> None:
    run("import numpy, sklearn.linear_model, torch")
    code = (
        "import os, tempfile, torch\nfrom threadpoolctl import threadpool_info\n"
        "counts = {pool['num_threads'] for pool in threadpool_info()} | {torch.get_num_threads()}\n"
        "told.write_text(f'{counts} {os.environ[\"OMP_NUM_THREADS\"]} {tempfile.gettempdir()}')"
    )
    for threads in (2, 1):
        run(code, threads=threads, tmpdir=str(tmp_path))
        assert told(tmp_path) == f"{{{threads}}} {threads} {tmp_path}"


def test_later_jobs_find_the_libraries_of_earlier_ones_and_nothing_else_of_them(run: Run, tmp_path: Path) -> None:
    run("import scipy.signal, mailbox, os, sys\nsys.modules['scipy'].left = 1\nos.environ['LEFT'] = '1'")
    run(
        "import os, sys\ntold.write_text(str(['scipy.signal' in sys.modules, 'mailbox' in sys.modules,"
        "hasattr(sys.modules['scipy'], 'left'), 'LEFT' in os.environ]))"
    )
    assert told(tmp_path) == "[True, False, False, False]"


def test_the_server_has_no_thread_that_a_fork_would_lose(run: Run, server: Server) -> None:
    run(
        "import scipy.signal, sklearn.linear_model, pandas, pyarrow.parquet, zarr, torch._dynamo, nilearn.image\n"
        "import matplotlib.figure, mne, nibabel\nfrom neuroloom.jobs import logged\nmne.io, mne.preprocessing"
    )
    run("")  # comes after what was to be learned
    tasks = Path(f"/proc/{process_of(server).pid}/task").iterdir()
    assert {(task / "comm").read_text().strip() for task in tasks} <= {NAME, "jemalloc_bg_thd"}


def test_time_and_memory_of_a_job_are_measured_to_its_end(run: Run) -> None:
    record = run("import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: block = b'1' * 10**8")
    assert record.data_collected
    assert record.running_time >= 0.4
    assert 0.4 <= record.cpu_time < 3
    assert record.max_rss > 100


def test_jobs_run_beside_each_other(run: Run, server: Server, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    waiting = "import time\ntold.touch()\nend = time.monotonic() + 60\n" + (
        f"while len(list(Path({str(tmp_path)!r}).glob('*/told'))) < 3 and time.monotonic() < end: time.sleep(0.01)"
    )
    for folder in folders:
        folder.mkdir()
    jobs = [threading.Thread(target=run_by, args=(server, folder, waiting)) for folder in folders]
    since = time.monotonic()
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert time.monotonic() - since < 50, "none waited in vain for the others"


def test_the_time_of_the_jobs_counts_as_that_of_snakemake(tmp_path: Path) -> None:
    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    server, before = Server(), cpu()
    record = run_by(server, tmp_path, "import time\nwhile time.process_time() < 0.5: pass")
    server.close()
    assert cpu() - before >= record.cpu_time >= 0.3


def test_ctrl_c_is_for_the_jobs(run: Run, server: Server, tmp_path: Path) -> None:
    assert server.process
    os.kill(server.process.pid, signal.SIGINT)
    with pytest.raises(subprocess.CalledProcessError):
        run("import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt:\n    raise")
    run("told.write_text('again')")
    assert told(tmp_path) == "again"


def test_a_server_that_was_killed_is_missed_and_replaced(tmp_path: Path) -> None:
    server = Server()
    try:
        with pytest.raises(ChildProcessError, match="was killed"):
            run_by(server, tmp_path, "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
        run_by(server, tmp_path, "told.write_text('again')")
        assert told(tmp_path) == "again"
    finally:
        server.close()


def test_the_server_ends_with_snakemake_and_a_job_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "tmp_1.score.py"
    script.write_text(
        f"import time\nfrom pathlib import Path\nfolder = Path({str(tmp_path)!r})\n(folder / 'told').touch()\n"
        "while not (folder / 'go').exists(): time.sleep(0.01)\n(folder / 'told').write_text('end')"
    )
    starting = f"from neuroloom.forking import Server\nServer().run({str(script)!r}, 1, None, None)"
    snakemake = subprocess.Popen([sys.executable, "-c", starting])
    wait_for(lambda: (tmp_path / "told").exists())
    (server,) = psutil.Process(snakemake.pid).children()
    (job,) = server.children()
    snakemake.kill()
    snakemake.wait()
    server.wait(60)
    (tmp_path / "go").touch()
    wait_for(lambda: told(tmp_path) == "end")
    wait_for(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE)


def wait_for(happens: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happens() and time.monotonic() < end:
        time.sleep(0.02)
    assert happens()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """How jobs of Snakemake are started: `new` or `fork`."""
    said: list[str] = []
    monkeypatch.setattr(PythonScript, "execute_script", lambda *_, **__: said.append("new"))
    monkeypatch.setattr(Server, "run", lambda *_: said.append("fork"))
    yield said
    if hasattr(PythonScript, "server"):
        del PythonScript.server


def job(**other: object) -> SimpleNamespace:
    own = {"source": "from neuroloom.jobs import logged", "threads": 1, "resources": {}, "bench_record": None}
    plain = dict.fromkeys(["conda_env", "container_img", "env_modules", "shadow_dir"])
    return SimpleNamespace(**{**own, **plain, "server": Server(), **other})


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({}, "fork"),
        ({"conda_env": "env"}, "new"),
        ({"container_img": "image"}, "new"),
        ({"env_modules": "module"}, "new"),
        ({"shadow_dir": "folder"}, "new"),
        ({"source": "import numpy"}, "new"),
    ],
)
def test_only_plain_jobs_of_this_workflow_are_forked(
    started: list[str], other: dict[str, object], expected: str
) -> None:
    fork_jobs()
    PythonScript.execute_script(job(**other), "script.py")
    assert started == [expected]


def test_a_user_can_have_every_job_started_anew(started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROLOOM_FORK", "no")
    fork_jobs()
    PythonScript.execute_script(job(), "script.py")
    assert started == ["new"]
