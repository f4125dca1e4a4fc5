"""The one Python door, ``thesis_rec.recommend``: a function that nothing hides and that costs nothing to import."""

import inspect
import pkgutil
import subprocess
import sys
from dataclasses import fields
from importlib import import_module

import thesis_rec
from thesis_rec.hardware.budget import Budget
from thesis_rec.recommendation.answer import Options


def test_no_module_hides_the_function():
    function = thesis_rec.recommend
    names = [module.name for module in pkgutil.walk_packages(thesis_rec.__path__, "thesis_rec.")]
    for name in names:
        if not name.endswith("__main__"):
            import_module(name)
    assert inspect.isfunction(thesis_rec.recommend)
    assert thesis_rec.recommend is function
    assert "thesis_rec.recommend" not in names


def test_it_takes_every_limit_and_option_with_their_own_defaults():
    given = inspect.signature(thesis_rec.recommend).parameters
    for field in (*fields(Budget), *fields(Options)):
        assert given[field.name].default == field.default, field.name


def test_importing_the_package_imports_no_library():
    code = "import sys, thesis_rec; print(sorted({'numpy', 'pandas', 'torch', 'kedro'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
