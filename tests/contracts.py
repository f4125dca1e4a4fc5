"""What the catalog says of its entries, for data that tests have at hand: ``validate_<entry>(data)``."""

from functools import cache

from kedro.validation.core import ValidatorSpec, resolve_validator

from tests.conftest import PROJECT
from thesis_rec import settings


@cache
def catalog():
    loader = settings.CONFIG_LOADER_CLASS(str(PROJECT / "conf"), env="local", **settings.CONFIG_LOADER_ARGS)
    return loader["catalog"]


@cache
def contract(entry):
    spec = ValidatorSpec.from_dataset_config(entry, catalog()[entry]["validator"])
    return resolve_validator(spec).validate


def columns(entry):
    return catalog()[entry]["validator"]["options"]["columns"]


def __getattr__(name):
    if name.startswith("validate_"):
        return contract(name.removeprefix("validate_"))
    raise AttributeError(name)
