import numpy as np
import pytest

from neuroloom.training.config import TrainingConfig
from neuroloom.training.schedules import schedule_factor


def factors(**settings: object) -> np.ndarray:
    config = TrainingConfig(**settings)
    return np.array([schedule_factor(step, config) for step in range(config.steps)])


def test_trapezoid_of_reve() -> None:
    """lr 1e-3: from 1e-5 up to the peak, flat, down to 1e-6."""
    rate = factors(steps=1000, schedule="trapezoid", warmup=0.1, cooldown=0.1, warmup_start=0.01, floor=0.001)
    assert rate[0] == 0.01
    assert rate[-1] == pytest.approx(0.001)
    assert (rate[100:900] == 1).all()
    np.testing.assert_allclose(np.diff(rate[:101]), 0.0099)
    np.testing.assert_allclose(np.diff(rate[899:]), -0.00999)


def test_warmup_cosine_of_brainomni() -> None:
    rate = factors(steps=201, schedule="warmup_cosine", warmup=0.1, warmup_start=0.1, floor=0.05)
    assert rate[0] == 0.1
    assert rate[20] == 1
    assert rate[110] == pytest.approx((1 + 0.05) / 2)
    assert rate[-1] == pytest.approx(0.05)
    np.testing.assert_allclose(np.diff(rate[:21]), 0.045)
    assert (np.diff(rate[20:]) < 0).all()


def test_constant_and_the_shortest_runs() -> None:
    assert (factors(steps=5, schedule="constant") == 1).all()
    for schedule in ("trapezoid", "warmup_cosine"):
        for steps in (1, 2, 3):
            rate = factors(steps=steps, schedule=schedule)
            assert np.isfinite(rate).all()
            assert (rate > 0).all()
    assert (factors(steps=10, schedule="trapezoid", warmup=0, cooldown=0) == 1).all()
