import logging
from pathlib import Path

import pandas as pd
import pytest
import torch

from neuroloom.training import progress
from neuroloom.training.progress import Curve, live_progress


def add(curve: Curve, step: int, loss: float = 1.0, norm: float = 1.0) -> None:
    curve.add({"step": step, "lr": 0.1}, {"loss": torch.tensor(loss), "grad_norm": torch.tensor(norm)}, f"r{step}")


def flush(curve: Curve) -> dict[str, float]:
    return curve.flush(lambda rows: rows * 2, str)


def test_rows_come_in_parts_and_back(tmp_path: Path) -> None:
    curve = Curve(tmp_path, 0)
    for step in (1, 2, 3):
        add(curve, step, loss=step / 4)
    assert flush(curve) == {"step": 3, "lr": 0.1, "loss": 1.5, "grad_norm": 2.0}
    curve.note({"validation_loss": 7.0})
    curve.save()
    add(curve, 4)
    flush(curve)
    curve.save()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["000000003.parquet", "000000004.parquet"]
    table = curve.table()
    assert list(table["loss"]) == [0.5, 1.0, 1.5, 2.0]
    assert table["validation_loss"].isna().tolist() == [True, True, False, True]
    pd.testing.assert_frame_equal(Curve(tmp_path, 4).table(), table)


def test_parts_behind_the_checkpoint_are_removed(tmp_path: Path) -> None:
    curve = Curve(tmp_path, 0)
    for step in (1, 2):
        add(curve, step)
        flush(curve)
        curve.save()
    assert list(Curve(tmp_path, 1).table()["step"]) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["000000001.parquet"]


@pytest.mark.parametrize(("loss", "norm", "name"), [(float("nan"), 1.0, "loss"), (1.0, float("inf"), "grad_norm")])
def test_a_loss_that_is_not_finite_names_step_and_recordings(loss: float, norm: float, name: str) -> None:
    curve = Curve(None, 0)
    add(curve, 1)
    add(curve, 2, loss, norm)
    add(curve, 3)
    with pytest.raises(FloatingPointError, match=rf"step 2: {name} is (nan|inf), on a batch of r2\. Lower lr"):
        flush(curve)


def test_without_a_terminal_lines_go_to_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO), live_progress(steps=10, done=0) as show:
        for step in range(1, 11):
            show(step, 100, 0.5)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("step 10 of 10: loss 0.5, ")
    caplog.clear()
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    with caplog.at_level(logging.INFO), live_progress(steps=10, done=5) as show:
        show(6, 100, 0.5)
        show(7, 100, 0.25)
    assert len(caplog.messages) == 2
    caplog.clear()
    with caplog.at_level(logging.INFO), live_progress(steps=1, done=0, quiet=True) as show:
        show(1, 100, 0.5)
    assert not caplog.messages


def test_a_terminal_shows_loss_rate_and_time_left(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with live_progress(steps=4, done=0) as show:
        for step in range(1, 5):
            show(step, 1000, 0.125)
    shown = capsys.readouterr().err
    assert "loss 0.125" in shown
    assert "tokens/s" in shown
    assert "4/4" in shown
