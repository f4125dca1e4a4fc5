"""How configuration is read: globals are merged over environments before they are resolved."""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import yaml
from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError
from omegaconf.resolvers import oc

from thesis_rec.base.errors import ConfigurationError, did_you_mean

#: What the loader is made with.
ARGUMENTS = {
    "base_env": "base",
    "default_run_env": "local",
    # Soft: an environment that changes one knob keeps the others of the same pipeline.
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
    "custom_resolvers": {"oc.env": oc.env},
}

#: What names of configuration files begin with, in the folder of an environment.
_READ = ("catalog", "credentials", "globals", "logging", "mlflow", "parameters")

#: OmegaConf knows one meaning of ``${globals:...}`` in a process: while one loader resolves it, others wait.
_RESOLVING = RLock()


class MergedGlobalsConfigLoader(OmegaConfigLoader):
    """Kedro's loader, but one key in an environment's globals changes all base globals that refer to it.

    Kedro resolves ``conf/base/globals.yml`` by itself and merges values afterwards: with ``zoo: hub`` in an
    environment, ``active: ${zoos.${zoo}}`` of base would still be the starter zoo.

    Args:
        args: Kedro's loader's own.
        entries: The catalog's entries that are resolved where not all are needed: all of them take longer than
            answering. They may refer to entries, which don't refer to others.
        parameters: Names of base's files of parameters that are read where not all are needed, for the same reason. An
            environment's files are read in any case.
        zoo: The zoo that is read about; None for the one that the globals name.
        default_zoo: Where it is given, base's globals name none.
        kwargs: Kedro's loader's own.

    Attributes:
        zoo_of_runs: The zoo that runs of this environment are about, whatever is chosen here.
        zoos: Names of all zoos.
    """

    def __init__(
        self,
        *args: Any,
        entries: Sequence[str] = (),
        parameters: Sequence[str] = (),
        zoo: str | None = None,
        default_zoo: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._entries, self._parameters = entries, parameters
        # The globals are read below, once.
        with _RESOLVING:
            super().__init__(*args, **{**kwargs, "config_patterns": {"globals": []}})
        if self.env and not self._fs.isdir(self._get_conf_env_path(self.env)):
            raise ConfigurationError(f"There is no environment {self.env} in {self.conf_source}.")
        try:
            self._parts = list(self._globals_of_environments())
            if not self._parts:
                hint = "Change to the project's folder, or name another by --conf-source."
                raise ConfigurationError(f"{self.conf_source} holds no {self.base_env}/globals.yml. {hint}")
            merged: Any = OmegaConf.merge(*self._parts)
            self.zoo_of_runs = str(OmegaConf.select(merged, "zoo"))
            self.zoos = [str(name) for name in OmegaConf.select(merged, "zoos")]
            if default_zoo:
                merged.zoo = zoo or self.named.get("zoo") or default_zoo
            if str(merged.zoo) not in self.zoos:
                raise ConfigurationError(f"There is no zoo {str(merged.zoo)!r}; there are {', '.join(self.zoos)}.")
            self["globals"] = OmegaConf.to_container(merged, resolve=True)
        except InterpolationResolutionError as error:
            # An environment variable that a cluster's globals need and that isn't set.
            reason = str(error).splitlines()[0].rpartition("interpolation: ")[2].strip('"')
            raise ConfigurationError(f"The globals of the environment {self.env} can't be read: {reason}.") from error
        if self.runtime_params:
            self._check_runtime_params(self.runtime_params)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """As of Kedro, with this loader's globals: another loader that was made since replaced them, or a thread's."""
        with _RESOLVING:
            self._register_globals_resolver()
            return super().__getitem__(key)

    @property
    def named(self) -> dict[str, Any]:
        """The globals that the environment itself names, or conf/local without one; those of base left out."""
        named: Any = OmegaConf.to_container(OmegaConf.merge({}, *self._parts[1:]))
        # An environment may take the zoo's name from a variable.
        return named | ({"zoo": self.zoo_of_runs} if "zoo" in named else {})

    @property
    def base(self) -> dict[str, Any]:
        """The globals of base alone."""
        found: Any = OmegaConf.to_container(self._parts[0], resolve=True)
        return found

    def _read_dir_configs(self, conf_path: str, patterns: Iterable[str], key: str, *others: Any) -> Any:
        of_base = conf_path == self._get_conf_env_path(self.base_env)
        if key == "catalog" and self._entries and of_base:
            others[0].add(Path(conf_path))  # something was read
            return {Path(conf_path): self._few_entries(conf_path)}
        if key == "parameters" and self._parameters and of_base:
            patterns = [f"{key}/{name}.yml" for name in self._parameters]
        found = super()._read_dir_configs(conf_path, patterns, key, *others)
        if key == "parameters" and not of_base:
            for path, name in ((path, str(name)) for path, part in found.items() for name in part):
                if not name.startswith("_") and name not in self._pipelines:
                    raise ConfigurationError(f"{path}: nothing takes {_unknown(name, self._pipelines)}")
        return found

    @cached_property
    def _pipelines(self) -> set[str]:
        """Names of pipelines, and of what else has parameters: those of base's files."""
        return {Path(path).stem for path in self._fs.glob(f"{self._get_conf_env_path(self.base_env)}/parameters/*.yml")}

    def _few_entries(self, conf_path: str) -> Any:
        """The entries asked for and those they refer to: all of them take OmegaConf longer than answering."""
        whole: dict[str, Any] = {}
        for path in self._fs.glob(f"{conf_path}/catalog/*.yml"):
            whole |= yaml.load(self._fs.cat_file(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        # As below, one that base lacks may be an environment's.
        entries = {name: whole[name] for name in self._entries if name in whole}
        return OmegaConf.create(entries | {name: whole[name] for name in re.findall(r"\$\{(\w+)\}", str(entries))})

    def _resolve_catalog_config(self, aggregate_config: Iterable[Any]) -> Any:
        if not self._entries:
            return super()._resolve_catalog_config(aggregate_config)
        merged: Any = OmegaConf.merge(*aggregate_config)
        return {name: OmegaConf.to_container(merged[name], resolve=True) for name in self._entries if name in merged}

    def _globals_of_environments(self) -> Iterator[Any]:
        """The globals of base and of the environment, unresolved; from a folder or from a packaged archive."""
        keys: set[str] = set()
        base: dict[str, Any] = {}
        for name in dict.fromkeys((self.base_env, self.env or self.default_run_env)):
            for path in self._files_of_globals(name):
                try:
                    part: Any = OmegaConf.load(io.StringIO(self._fs.cat_file(path).decode("utf-8")))
                except (yaml.YAMLError, UnicodeDecodeError) as error:
                    reason = " ".join(str(error).replace('"<file>", ', "").split())
                    raise ConfigurationError(f"{path} can't be read: {reason}. Correct it.") from error
                content: Any = OmegaConf.to_container(part)
                keys |= _check_zoos(path, content, keys)
                _check_spelling(path, content, base)
                base = base or content
                yield part

    def _files_of_globals(self, environment: str) -> list[str]:
        """The files of globals in an environment's folder, beside which nothing lies that looks read and isn't."""
        paths = sorted(map(str, self._fs.glob(f"{self._get_conf_env_path(environment)}/*.y*ml")))
        for stem, path in ((Path(path).stem, path) for path in paths):
            # Files of other names are those of Kedro's plugins.
            if near := "" if stem.startswith(_READ) else did_you_mean(stem, [*_READ, *self._pipelines], 0.8):
                hint = f" Call it parameters_{stem}.yml." if stem in self._pipelines else near
                raise ConfigurationError(f"{path} isn't read.{hint}")
        return [path for path in paths if Path(path).stem == "globals"]

    def _check_runtime_params(self, given: Mapping[str, Any]) -> None:
        """Refuse what ``--params`` gives to nobody: neither to a pipeline nor where the configuration asks for it."""
        read = [self._read_raw_config(key)[:2] for key in ("parameters", "catalog")]
        asked = set(re.findall(r"runtime_params:\s*([\w.]+)", str(read)))
        first_names = self._pipelines | {name.partition(".")[0] for name in asked}
        for name in _dotted(given):
            first = name.partition(".")[0]
            if first in self._pipelines or name in asked:
                continue
            wrong, known = (name, asked) if first in first_names else (first, first_names)
            raise ConfigurationError(f"--params: nothing takes {_unknown(wrong, known)}")


def _dotted(values: Mapping[str, Any]) -> Iterator[str]:
    """Names of nested values, as ``--params`` takes them."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from (f"{name}.{rest}" for rest in _dotted(value))
        else:
            yield str(name)


def _unknown(name: str, known: Iterable[str]) -> str:
    """The end of a sentence on a name that isn't known: the name, the one that may be meant, and all that are known."""
    return f"{name!r}.{did_you_mean(name, known)} Known are {', '.join(sorted(known))}."


def _check_spelling(path: str, found: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse what is nearly the name of a global of base; other names may be a user's own."""
    for name, value in found.items():
        if name not in known and (meant := did_you_mean(str(name), map(str, known), alike=0.8)):
            raise ConfigurationError(f"{path}: nothing takes {name!r}.{meant}")
        if name != "zoos" and isinstance(value, dict) and isinstance(known.get(name), dict):
            _check_spelling(path, value, known[name])


def _check_zoos(path: str, found: Any, keys: set[str]) -> set[str]:
    """The keys of a file's zoos, if they are mappings and, where some are known, have no other ``keys`` than these."""
    zoos = found.get("zoos", {}) if isinstance(found, dict) else None
    if not isinstance(zoos, dict) or not all(isinstance(zoo, dict) for zoo in zoos.values()):
        raise ConfigurationError(
            f"{path}: below `zoos:` must be names of zoos, and below each its settings, such as "
            "`zoos: {hub: {model_manifest: my_models.csv}}`. Correct it, or leave `zoos:` out."
        )
    for name, zoo in zoos.items():
        if keys and (strange := sorted({*map(str, zoo)} - keys)):
            raise ConfigurationError(f"{path}: the zoo {name} takes no {_unknown(strange[0], keys)}")
    return {str(key) for zoo in zoos.values() for key in zoo}
