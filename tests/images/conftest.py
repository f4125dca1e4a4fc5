"""A folder of images."""

import pytest

from tests.images.encoders.tiny import write_colour_folder


@pytest.fixture
def folder(tmp_path):
    write_colour_folder(tmp_path / "d")
    return tmp_path
