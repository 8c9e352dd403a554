"""The study of three sites, for all tests of the package."""

from tests.federation import federation, one_thread, set_up

__all__ = ["federation", "one_thread", "set_up"]
