"""Composed scenes: objects on textured grounds, landscapes, weather, times of day."""

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.grounds import GROUNDS, any_ground, ground
from thesis_rec.tasks.landscapes import LAND, LIGHTS, WEATHER, landscape, lit_landscape, weathered_landscape
from thesis_rec.tasks.objects import OBJECTS, place, thing


def _object(kind: str, n: int, rng: Rng) -> Array:
    return place(any_ground(n, rng), kind, rng)


def _with_object(kind: str, n: int, rng: Rng) -> Array:
    """The ground is the class; any object lies on it."""
    image = ground(kind, n, rng)
    for other, part in zip(OBJECTS, canvas.parts(n, len(OBJECTS), rng), strict=True):
        if len(part):
            image[part] = place(image[part], other, rng, (0.35, 0.6), 0.4)
    return image


def _companions(k: int, n: int, rng: Rng) -> Array:
    """K objects of any kinds on any ground."""
    image = any_ground(n, rng)
    spots = canvas.scatter_cells(n, rng, k, 2, 0.3)
    for i in range(k):
        for name, part in zip(OBJECTS, canvas.parts(n, len(OBJECTS), rng), strict=True):
            if len(part):
                for mask, colour in thing(name, len(part), rng, (0.34, 0.42), 0.0):
                    image[part] = canvas.over(image[part], canvas.sample(mask, *_moved(spots[part, i])), colour)
    return image


def _moved(spot: Array) -> tuple[Array, Array]:
    x, y = canvas.grid()
    return x - canvas.column(spot[:, 0]) + 0 * y, y - canvas.column(spot[:, 1]) + 0 * x


TASKS = family(
    "scenes",
    "natural",
    [
        ("object", "plain", "Which object stands on any ground.", _object, OBJECTS),
        ("object_dim", "lighting", "Which object stands on any unevenly lit ground.", _object, OBJECTS[:10]),
        ("object_hidden", "occlusion", "Which partly covered object it is.", _object, OBJECTS[:10]),
        ("ground", "noise", "Which ground an object stands on.", _with_object, GROUNDS),
        ("ground_grey", "grey", "Which ground it is, without colour.", _with_object, GROUNDS),
        ("landscape", "blur", "Which landscape it is.", landscape, LAND),
        ("light", "low_contrast", "Which time of day it is.", lit_landscape, list(LIGHTS)),
        ("weather", "plain", "Which weather it is.", weathered_landscape, WEATHER),
        (
            "companions",
            "clutter",
            "How many objects there are.",
            _companions,
            {"one": 1, "two": 2, "three": 3, "four": 4},
        ),
    ],
)
