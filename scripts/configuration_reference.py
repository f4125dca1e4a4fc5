"""The configuration reference: every knob with its type, its value in ``conf/base`` and the comment above it.

Types and limits come from the pydantic models that the nodes are annotated with, values and explanations from the YAML
files, so that the page can't say anything else than the code. ``python scripts/configuration_reference.py`` writes it
to ``docs/configuration.md``; a test says when that is due.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PROJECT = Path(__file__).resolve().parents[1]
CONF = PROJECT / "conf" / "base"
PAGE = PROJECT / "docs" / "configuration.md"

_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of", "min_length": "length ≥"}


@dataclass(frozen=True)
class Knob:
    """One value that can be set.

    Attributes:
        path: Dotted name below the pipeline's.
        kind: Its type, for people.
        limits: What values are allowed, empty for any.
        value: As ``conf/base`` writes it.
        comment: The line above it there.
    """

    path: str
    kind: str
    limits: str
    value: str
    comment: str


def pipeline_names() -> list[str]:
    """All pipelines of the package, in the order of the registry."""
    import thesis_rec.pipelines
    from thesis_rec.pipeline_registry import AROUND, FIVE

    there = {module.name for module in pkgutil.iter_modules(thesis_rec.pipelines.__path__) if module.ispkg}
    return [name for name in (*FIVE, *AROUND) if name in there]


def parameter_model(pipeline: str) -> type[BaseModel] | None:
    """The model that a pipeline's nodes take their parameters as; None for a pipeline without parameters."""
    wanted = f"params:{pipeline}"
    for node in import_module(f"thesis_rec.pipelines.{pipeline}.pipeline").create_pipeline().nodes:
        if wanted not in node.inputs:
            continue
        bound = node._inputs
        names = list(inspect.signature(node.func).parameters)
        given = [bound] if isinstance(bound, str) else bound
        if isinstance(given, dict):
            argument = next(key for key, value in given.items() if value == wanted)
        else:
            argument = names[list(given).index(wanted)]
        model = get_type_hints(node.func)[argument]
        if isinstance(model, type) and issubclass(model, BaseModel):
            return model
    return None


def written(file: Path) -> dict[str, tuple[str, str]]:
    """Value and comment of every key of a YAML file, by dotted path; anchors and merges are followed."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    found: dict[str, tuple[str, str]] = {}

    def walk(node: yaml.Node, path: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            if key.value == "<<":
                walk(value, path)
                continue
            name = f"{path}.{key.value}" if path else key.value
            found.setdefault(name, (_source(value, text), _comment_above(lines, key.start_mark.line)))
            walk(value, name)

    walk(yaml.compose(text) or yaml.MappingNode("", []), "")
    return found


def _source(node: yaml.Node, text: str) -> str:
    if isinstance(node, yaml.MappingNode) and node.flow_style is False:
        return ""
    # The end of a list in lines is where the next key begins: comments stand between.
    lines = text[node.start_mark.index : node.end_mark.index].splitlines()
    return " ".join(" ".join(line for line in lines if not line.lstrip().startswith("#")).split())


def _comment_above(lines: list[str], line: int) -> str:
    """The comment lines directly above a line."""
    found: list[str] = []
    while line > 0 and lines[line - 1].strip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].strip().lstrip("#").strip())
    return " ".join(found)


def knobs(model: type[BaseModel], texts: dict[str, tuple[str, str]], path: str, prefix: str = "") -> Iterator[Knob]:
    """Every leaf of a model.

    Args:
        model: The model.
        texts: What :func:`written` found.
        path: Where the model's values are in the file.
        prefix: Dotted name of the model below the pipeline.
    """
    for name, field in model.model_fields.items():
        inner = _inner_model(field.annotation)
        here = f"{path}.{name}"
        if inner is not None and texts.get(here, ("", ""))[0].startswith("${"):
            # The whole mapping comes from somewhere else.
            value, comment = texts[here]
            yield Knob(f"{prefix}{name}", f"mapping of {', '.join(inner.model_fields)}", "", value, comment)
            continue
        if inner is not None:
            yield from knobs(inner, texts, here, f"{prefix}{name}.")
            continue
        value, comment = texts.get(here, (_default(field), ""))
        # Of a knob of a group that needs no explanation of its own; never the heading of the file.
        comment = comment or (texts.get(path, ("", ""))[1] if prefix else "")
        yield Knob(f"{prefix}{name}", _kind(field.annotation), _limits(field), value or _default(field), comment)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    options = [option for option in get_args(annotation) if option is not type(None)] or [annotation]
    if len(options) == 1 and isinstance(options[0], type) and issubclass(options[0], BaseModel):
        return options[0]
    return None


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{item}`" for item in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(item) for item in arguments)
    if origin in (list, tuple):
        return f"list of {_kind(arguments[0])}" if arguments else "list"
    if origin is dict:
        return "mapping"
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _limits(field: FieldInfo) -> str:
    parts = []
    for rule in field.metadata:
        for name, sign in _SIGNS.items():
            bound = getattr(rule, name, None)
            if bound is not None and not (name == "min_length" and bound == 1):
                parts.append(f"{sign} {bound}")
    return ", ".join(parts)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    return "null" if value is None else str(list(value) if isinstance(value, tuple) else value)


def table(found: list[Knob]) -> str:
    """Knobs as a table."""
    rows = ["| Knob | Value | Type | What it does |", "|---|---|---|---|"]
    for knob in found:
        kind = f"{knob.kind} ({knob.limits})" if knob.limits else knob.kind
        value = f"`{knob.value}`" if knob.value else ""
        cells = (f"`{knob.path}`", value, kind, _plain(knob.comment))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _plain(comment: str) -> str:
    """A comment without anything that Markdown would take for markup."""
    return re.sub(r"([*_<>\[\]{}])", r"\\\1", comment)


def reference() -> str:
    """The page."""
    parts = [_INTRODUCTION, "## Globals\n", _globals_table()]
    for name in pipeline_names():
        model = parameter_model(name)
        file = CONF / "parameters" / f"{name}.yml"
        if model is None or not file.is_file():
            continue
        parts += [
            f"\n## {name}\n",
            f"`conf/base/parameters/{name}.yml`, read as `{model.__module__}.{model.__name__}`.",
        ]
        parts += ["", table(list(knobs(model, written(file), name)))]
    from thesis_rec.cluster.plan import Cluster, Resources

    texts = {**written(PROJECT / "conf" / "gautschi" / "parameters" / "cluster.yml")}
    texts |= written(CONF / "parameters" / "cluster.yml")
    cluster = [knob for knob in knobs(Cluster, texts, "cluster") if knob.path != "pipelines"]
    each = list(knobs(Resources, texts, "cluster.default"))
    parts += [
        "\n## cluster\n",
        "What `kedro submit` asks SLURM for; values are those of `conf/gautschi`. `cluster.pipelines.<name>` may set",
        "any field of `default` for one pipeline.",
        "",
        table([*cluster, *(knob for knob in each if f"default.{knob.path}" not in {k.path for k in cluster})]),
    ]
    return "\n".join(parts) + "\n"


def _globals_table() -> str:
    texts = written(CONF / "globals.yml")
    rows = ["| Global | Value | What it is |", "|---|---|---|"]
    for path, (value, comment) in texts.items():
        if "." not in path and comment:
            shown = f"`{value}`" if value else "a mapping"
            rows.append(f"| `{path}` | {shown} | {_plain(comment)} |")
    return "\n".join(rows)


_INTRODUCTION = """# Configuration

Kedro reads `conf/base` and one environment on top of it: `conf/local` (yours, ignored by git) unless `--env` names
another. An environment that sets one knob keeps all others. For one run, `--params` sets them too:

```bash
kedro run --pipelines=dataset_features --params=dataset_features.batches=16,seed=1
```

A misspelt knob, a wrong type or a value out of range stops the run before anything is computed.
This page is made from the parameter models and the YAML files by `scripts/configuration_reference.py`.
"""


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
