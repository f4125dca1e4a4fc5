"""Drawing primitives against independent references."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_rec.tasks import canvas, glyphs


def test_covered_area_is_the_discs_area():
    x, y = canvas.grid()
    area = canvas.cover(canvas.disc(x, y, 0.7)).mean() * 4
    assert area == pytest.approx(np.pi * 0.49, rel=0.01)


def test_covered_area_is_the_boxes_area():
    x, y = canvas.grid()
    assert canvas.cover(canvas.box(x, y, 0.5, 0.25)).mean() * 4 == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("sides", [3, 4, 5, 8])
def test_polygon_area(sides):
    x, y = canvas.grid(256)
    inside = canvas.polygon(x, y, sides, 0.9) < 0
    assert inside.mean() * 4 == pytest.approx(sides / 2 * 0.81 * np.sin(2 * np.pi / sides), rel=0.02)


@pytest.mark.parametrize("tips", [3, 5, 8])
def test_star_area(tips):
    x, y = canvas.grid(256)
    inside = canvas.star(x, y, tips, 0.5, 0.9) < 0
    # 2 k triangles between a tip, a notch and the middle.
    assert inside.mean() * 4 == pytest.approx(tips * 0.9 * 0.45 * np.sin(np.pi / tips), rel=0.02)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=50)
def test_hsv_equals_colorsys(h, s, v):
    assert canvas.hsv(h, s, v) == pytest.approx(colorsys.hsv_to_rgb(h, s, v), abs=1e-4)


@given(st.integers(0, 10_000))
@settings(max_examples=10)
def test_polyline_is_the_nearest_segment(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (2, 4, 2)).astype(np.float32)
    x, y = canvas.grid()
    expected = np.min(
        [
            canvas.segment(x, y, *(points[:, k + i, j].reshape(-1, 1, 1) for i in (0, 1) for j in (0, 1)))
            for k in range(3)
        ],
        axis=0,
    )
    assert canvas.polyline(x, y, points) == pytest.approx(expected, abs=1e-4)


def test_polyline_lifts_the_pen():
    x, y = canvas.grid()
    dashed = np.array([[[-0.8, 0.5], [-0.8, -0.5], [np.nan, np.nan], [0.8, -0.5], [0.8, 0.5]]])
    distance = canvas.polyline(x, y, dashed)
    assert distance[0, 16, 16] == pytest.approx(0.8, abs=0.05)


def test_scattered_things_keep_apart():
    spots = canvas.scatter_cells(20, np.random.default_rng(0), 9, 3, 0.4)
    gaps = np.linalg.norm(spots[:, :, None] - spots[:, None], axis=-1)[:, ~np.eye(9, dtype=bool)]
    assert gaps.min() >= 0.6 * 2 / 3 - 1e-5
    assert np.abs(spots).max() < 1


def test_parts_share_evenly_and_cover_everything():
    for n in (1, 5, 24):
        shares = canvas.parts(n, 4, np.random.default_rng(n))
        assert sorted(np.concatenate(shares)) == list(range(n))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_power_noise_has_its_slope():
    field = canvas.power_noise(60, np.random.default_rng(0), 1.5, 64)
    power = np.abs(np.fft.rfft2(field)).mean(0)
    low, high = power[0, 4], power[0, 16]
    assert np.log(low / high) / np.log(4) == pytest.approx(1.5, abs=0.15)
    assert field.mean() == pytest.approx(0, abs=1e-4)
    assert field.std() == pytest.approx(1, abs=1e-3)


def test_sampling_on_the_grid_changes_nothing():
    images = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)
    x, y = (np.broadcast_to(a, images.shape) for a in canvas.grid())
    assert canvas.sample(images, x, y) == pytest.approx(images, abs=1e-4)
    assert canvas.sample(images, x + 5, y).max() == pytest.approx(0)


def test_contrasting_colours_contrast():
    figure, ground = canvas.contrasting(200, np.random.default_rng(1), 0.4)
    luma = np.array([0.3, 0.59, 0.11])
    assert np.abs((figure - ground) @ luma).min() > 0.3
    assert min(figure.min(), ground.min()) >= 0
    assert max(figure.max(), ground.max()) <= 1


def test_glyphs_exist_in_the_fonts_that_ship():
    assert "DejaVuSans" in glyphs.fonts_of("A")
    assert glyphs.fonts_of("א")
    with pytest.raises(ValueError, match="no font has"):
        glyphs.fonts_of("\U0001f9ff")
    assert glyphs.stamp("A", "DejaVuSans").max() > 0.9
    assert glyphs.names("aA") == ("small_a", "capital_a")


@pytest.mark.parametrize("task", glyphs.TASKS, ids=lambda t: t.task_id)
def test_scripts_characters_differ(task):
    """No two classes of a script's task look alike in the first font, whatever their code points."""
    drawn = [task.draw(value, 1, np.random.default_rng(0)) for value in task.classes.values()]
    flat = np.stack(drawn).reshape(len(drawn), -1)
    gaps = np.linalg.norm(flat[:, None] - flat[None], axis=-1)[~np.eye(len(flat), dtype=bool)]
    assert gaps.min() > 0.5
