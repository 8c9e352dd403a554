"""The study of three sites, for all tests of the package."""

from tests.federation import federation, no_memory, set_up

__all__ = ["federation", "no_memory", "set_up"]
