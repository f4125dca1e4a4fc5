"""How configuration is read: globals are merged over environments before they are resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf


class MergedGlobalsConfigLoader(OmegaConfigLoader):
    """Kedro's loader, but one key in an environment's globals changes all base globals that refer to it.

    Kedro resolves ``conf/base/globals.yml`` by itself and merges values afterwards: with ``zoo: hub`` in an
    environment, ``active: ${zoos.${zoo}}`` of base would still be the starter zoo.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        environments = dict.fromkeys((self.base_env, self.env or self.default_run_env))
        paths = [Path(self.conf_source) / str(name) / "globals.yml" for name in environments]
        merged = OmegaConf.merge(*(OmegaConf.load(path) for path in paths if path.is_file()))
        self["globals"] = OmegaConf.to_container(merged, resolve=True)
