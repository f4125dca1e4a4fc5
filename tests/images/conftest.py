"""Generated examples may take their time: a busy machine is no failure."""

import pytest
from hypothesis import HealthCheck, settings

from tests.images.encoders.tiny import write_colour_folder

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def folder(tmp_path):
    write_colour_folder(tmp_path / "d")
    return tmp_path
