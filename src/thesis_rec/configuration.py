"""How configuration is read: globals are merged over environments before they are resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from thesis_rec.errors import ConfigurationError


class MergedGlobalsConfigLoader(OmegaConfigLoader):
    """Kedro's loader, but one key in an environment's globals changes all base globals that refer to it.

    Kedro resolves ``conf/base/globals.yml`` by itself and merges values afterwards: with ``zoo: hub`` in an
    environment, ``active: ${zoos.${zoo}}`` of base would still be the starter zoo.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
            if self.env and not (Path(self.conf_source) / self.env).is_dir():
                raise ConfigurationError(f"There is no environment {self.env} in {self.conf_source}.")
            environments = dict.fromkeys((self.base_env, self.env or self.default_run_env))
            paths = [Path(self.conf_source) / str(name) / "globals.yml" for name in environments]
            merged = OmegaConf.merge(*(OmegaConf.load(path) for path in paths if path.is_file()))
            self["globals"] = OmegaConf.to_container(merged, resolve=True)
        except InterpolationResolutionError as error:
            # An environment variable that a cluster's globals need and that isn't set.
            reason = str(error).splitlines()[0].rpartition("interpolation: ")[2].strip('"')
            raise ConfigurationError(f"The globals of the environment {self.env} can't be read: {reason}.") from error
