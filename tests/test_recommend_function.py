"""The one Python door, ``thesis_rec.recommend``: a function that nothing hides and that costs nothing to import."""

import inspect
import json
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import thesis_rec
from tests.recommendation.test_trying import save_images
from thesis_rec.base.errors import ConfigurationError
from thesis_rec.recommendation.request import Request


def test_no_module_hides_the_function():
    function = thesis_rec.recommend
    names = [module.name for module in pkgutil.walk_packages(thesis_rec.__path__, "thesis_rec.")]
    for name in names:
        if not name.endswith("__main__"):
            import_module(name)
    assert inspect.isfunction(thesis_rec.recommend)
    assert thesis_rec.recommend is function
    assert "thesis_rec.recommend" not in names


def test_it_takes_every_wish_with_its_own_default():
    given = inspect.signature(thesis_rec.recommend).parameters
    for name, field in Request.model_fields.items():
        assert given[name].default == field.default, name
    assert {"images", "zoo", "environment", "project", "bundle"} <= set(given)
    assert not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in given.values())


def test_a_wish_that_isn_t_there_or_is_impossible_is_refused(tmp_path):
    with pytest.raises(TypeError, match="'colour'"):
        thesis_rec.recommend(tmp_path, colour="blue")
    with pytest.raises(ConfigurationError, match="max_latency_ms is -1: input should be greater than 0"):
        thesis_rec.recommend(tmp_path, max_latency_ms=-1)
    with pytest.raises(ConfigurationError, match="max_memory_mb is inf: input should be a finite number"):
        thesis_rec.recommend(tmp_path, max_memory_mb=float("inf"))


def test_importing_the_package_imports_no_library():
    code = "import sys, thesis_rec; print(sorted({'numpy', 'pandas', 'pydantic', 'torch', 'kedro'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


HUB = """
import sys, json, thesis_rec
from thesis_rec.knowledge.posterior import Posterior
from thesis_rec.recommendation.bundle import Bundle

ours, called, bundle_takers = sys.argv[2], set(), set()

def trace(frame, event, argument):
    if event != "call" or not frame.f_code.co_filename.startswith(ours):
        return None
    taken = [frame.f_locals.get(name) for name in frame.f_code.co_varnames[: frame.f_code.co_argcount]]
    own = frame.f_code.co_qualname.startswith(("Bundle.", "Posterior."))
    if not own and any(isinstance(one, (Bundle, Posterior)) for one in taken):
        bundle_takers.add(frame.f_code.co_qualname)
    return None

sys.setprofile(trace)
found = thesis_rec.recommend(sys.argv[1], zoo="hub", top=3)
sys.setprofile(None)
libraries = {"torch", "torchvision", "open_clip", "transformers", "timm", "sklearn", "scipy", "numba"}
heavy = sorted(libraries & set(sys.modules))
print(json.dumps({"heavy": heavy, "takers": sorted(bundle_takers), "rows": len(found.table) + len(found.excluded)}))
"""


def test_an_answer_without_looking_at_images_imports_no_torch_and_walks_a_short_way(project_dir, tmp_path):
    images = save_images(tmp_path / "mine")
    ours = str(Path(thesis_rec.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", HUB, str(images), ours], cwd=project_dir, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["heavy"] == []
    assert found["rows"] >= 200
    assert 2 <= len(found["takers"]) <= 12, " ".join(found["takers"])
