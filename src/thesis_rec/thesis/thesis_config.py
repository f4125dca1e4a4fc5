"""The thesis code's ``config.ini`` as parameters of this project."""

import ast
import configparser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from thesis_rec.base.errors import ItemError, explained

#: Where each setting goes: by section, key -> path of the parameter.
RULES: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))

#: How the values of some parameters change, by their own name.
_CHANGES: dict[str, Callable[[Any], Any]] = {
    "hidden": lambda value: list(value) if isinstance(value, list | tuple) else [value],
    "activation": lambda name: str(name).lower().replace("leakyrelu", "leaky_relu"),
    # Mean absolute error has no counterpart; a Smooth L1 with its usual beta is close to it.
    "loss": lambda name: {"mae": "smooth_l1"}.get(str(name), name),
    "gradient_clip": lambda value: value or 0,
    "patience": lambda value: value or 0,
}


def translate(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read a ``config.ini`` of the thesis code.

    Its trainers lower the learning rate when the loss stands still, so ``schedule`` becomes ``plateau`` wherever a
    trainer's section is read. Where two sections set one parameter, the later one counts.

    Args:
        path: The file.

    Returns:
        Nested parameters, as a parameters file holds them; and what has no counterpart, as ``section.key = value``.

    Raises:
        ItemError: If it can't be read, or has none of the known settings.
    """
    parser = configparser.ConfigParser(interpolation=None)
    with explained(str(path), "can't be read as an INI file ({reason}).", "Check the path and the file."):
        parser.read_string(path.read_text(encoding="utf-8"), path.name)
    parameters: dict[str, Any] = {}
    left_out: list[str] = []
    for section in parser.sections():
        rules = RULES.get(section, {})
        for key, text in parser.items(section):
            if key not in rules:
                left_out.append(f"{section}.{key} = {text}")
                continue
            name, value = rules[key], parse_value(text)
            change = _CHANGES.get(name.rpartition(".")[2])
            _put(parameters, name, change(value) if change else value)
            if ".fit." in name:
                _put(parameters, f"{name.partition('.fit.')[0]}.fit.schedule", "plateau")
    if not parameters:
        known = ", ".join(RULES)
        raise ItemError(str(path), "has no setting that is known here.", f"Its sections should be among {known}.")
    return parameters, left_out


def parse_value(text: str) -> Any:
    """A setting's text as a number, truth value, list or string, as the thesis code read it."""
    stripped = text.strip()
    if stripped.lower() in ("", "none", "null"):
        return None
    if stripped.lower() in ("true", "yes", "on", "false", "no", "off"):
        return stripped.lower() in ("true", "yes", "on")
    try:
        return ast.literal_eval(stripped)
    except (ValueError, SyntaxError):
        return [parse_value(part) for part in stripped.split(",")] if "," in stripped else stripped


def as_yaml(parameters: dict[str, Any], left_out: list[str], source: str) -> str:
    """A parameters file with what was taken over, and the rest in comments.

    Args:
        parameters: What became of the settings.
        left_out: Those that have no counterpart.
        source: Name of the file that they are from.
    """
    lines = [f"# From {source} of the thesis code; what isn't named here keeps its value of conf/base."]
    lines.append(yaml.safe_dump(parameters, sort_keys=False, default_flow_style=None).rstrip())
    if left_out:
        lines += ["", "# Without a counterpart here:"]
        lines += [f"#   {' '.join(setting.split())}" for setting in left_out]
    return "\n".join(lines) + "\n"


def _put(parameters: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        parameters = parameters.setdefault(part, {})
    parameters[last] = value
