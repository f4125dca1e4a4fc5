"""Published tables as cells: one measured value of one model on one dataset under one protocol.

The tables are had here whole, of the pinned commit, or not at all.

Rules, stated before any figure was looked at; rows that break one are dropped and counted by rule:

- ``unknown dataset``: its name isn't among those of ``datasets.yml``.
- ``no accuracy``: the value is missing or outside 0..1 (multi-label scores and clusterings are never read).
- ``at chance``: at most 1.5 times chance where the median of the same column is at least 3 times chance: a failed run.
- ``repeated``: a source gives the same model, dataset and protocol twice; the mean stays.

Models that the manifest doesn't have keep the source's name with the source before it: they teach what others have in
common and are no candidates.
"""

import ast
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pydantic import Field

from thesis_rec.base.errors import ItemError, explained
from thesis_rec.base.files import atomic_path, sha256_file
from thesis_rec.base.progress import track
from thesis_rec.base.settings import Settings
from thesis_rec.models.model_manifest import Aliases
from thesis_rec.published.descriptions import HEAD

_REMEDY = "Run once with network, or set THESIS_REC_BENCHMARKS to a folder that holds the tables."

#: Files that are fetched at a time.
AT_ONCE = 8


class TableFile(Settings):
    """One file of a source.

    Attributes:
        path: Its path in the repository; empty where the repository has no such single file.
        local: Its path below the folder of tables; empty where that has none.
        sha256: Checksum; empty where none is pinned, in which case the commit alone says what it is.
    """

    path: str = ""
    local: str = ""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")


class Source(Settings):
    """A published table, as ``sources.yml`` describes it.

    Attributes:
        format: How it is read; see :mod:`thesis_rec.published.cells`.
        repository: GitHub repository.
        commit: Pinned commit.
        licence: Licence of the figures; a table without one is no source.
        protocol: What was measured, in words.
        files: Its files in the repository, in the folder of tables, or in both.
        revisions: Revision by model, where there is one file for each model and task.
    """

    format: str
    repository: str
    commit: str = Field(min_length=7)
    licence: str = Field(min_length=2)
    protocol: str
    files: tuple[TableFile, ...] = ()
    revisions: Mapping[str, str] = Field(default_factory=dict)

    @property
    def address(self) -> str:
        """Address of the repository's files at the commit."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}"


def read_sources() -> dict[str, Source]:
    """The sources of ``sources.yml`` by name."""
    content = yaml.safe_load(Path(__file__).with_name("sources.yml").read_text(encoding="utf-8"))
    return {str(name): Source(**entry) for name, entry in content.items()}


def table_files(
    name: str, source: Source, tables: Path | None, cache: Path, tasks: Sequence[str] = ()
) -> tuple[list[Path], str]:
    """The files of a source on this machine, fetched if need be, and one checksum of them all.

    Args:
        name: Name of the source, for messages.
        source: The source.
        tables: Folder of tables (``THESIS_REC_BENCHMARKS``), or None to use the cache and the network.
        cache: Folder in which fetched files are kept, by source and commit.
        tasks: Tasks that are asked for, where there is one file for each model and task.

    Raises:
        ItemError: If a file is missing and can't be fetched, or its checksum differs.
    """
    given = tables is not None and any(one.local for one in source.files)
    root = tables if tables is not None and given else cache / name / source.commit
    chosen = [one for one in source.files if (one.local if given else one.path)]
    chosen += [] if given else _task_files(source, tasks)

    def have(one: TableFile) -> Path | None:
        path = root / (one.local if given else one.path)
        if not path.is_file():
            if given:
                raise ItemError(name, f"{path} doesn't exist.", _REMEDY)
            if not _fetch(name, f"{source.address}/{one.path}", path, one, bool(source.revisions)):
                return None
        _check(name, one, path)
        return path

    with ThreadPoolExecutor(AT_ONCE) as pool:
        # Thousands of small files: nearly all of the time is waiting for answers. One that fails cancels the others.
        paths = track(pool.map(have, chosen), f"Reading {name}", len(chosen))
        found = [path for path in paths if path is not None]
    if not found:
        raise ItemError(name, f"{source.address} holds none of the files asked for.", _REMEDY)
    return found, checksum(found, root)


def checksum(files: Sequence[Path], root: Path) -> str:
    """SHA-256 over sorted relative paths and the SHA-256 of each file's bytes."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda one: one.relative_to(root).as_posix()):
        digest.update(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def _task_files(source: Source, tasks: Sequence[str]) -> list[TableFile]:
    return [
        TableFile(path=str(PurePosixPath("results", model.replace("/", "__"), revision, f"{task}.json")))
        for model, revision in source.revisions.items()
        for task in tasks
    ]


def _fetch(name: str, address: str, path: Path, one: TableFile, may_lack: bool) -> bool:
    """Fetch a file, whole or not at all; False where the source has no such file and needn't."""
    import fsspec

    # The errors of aiohttp, ssl, sockets and disks share no base.
    with explained(name, f"{address} can't be fetched ({{reason}}).", _REMEDY):
        try:
            with fsspec.open(address, "rb") as remote, atomic_path(path) as temporary:
                with temporary.open("wb") as file:
                    shutil.copyfileobj(remote, file)
                _check(name, one, temporary)
        except FileNotFoundError as error:
            # fsspec says so of whatever befalls a request: no network and too many requests don't make a file absent.
            if (cause := error.__cause__) is not None and getattr(cause, "status", None) != HTTPStatus.NOT_FOUND:
                raise cause from None
            if may_lack:
                return False
            raise ItemError(name, f"{address} doesn't exist any more.", _REMEDY) from None
    return True


def _check(name: str, one: TableFile, path: Path) -> None:
    if one.sha256 and (found := sha256_file(path)) != one.sha256:
        text = f"{one.local or one.path} has the checksum {found[:12]}…, not the pinned {one.sha256[:12]}…."
        raise ItemError(name, text, "Delete it and fetch it again; if it was changed upstream, pin the new one.")


#: Columns of the table of cells. ``spread`` is the standard error of ``value``, NaN where unknown.
COLUMNS = ["model_id", "dataset_id", "protocol", "metric", "value", "spread", "source"]

#: What a reader gives of each cell; ``pretrained`` and ``spread`` are absent where its source has none.
_READ = ["name", "pretrained", "dataset", "protocol", "value", "spread"]

#: Under which source the alias table has the names of another one.
_ALIAS_SOURCES = {"clip_benchmark_probes": "open_clip", "clip_benchmark": "open_clip"}


class PublishedDataset(Settings):
    """A dataset of the tables, as ``datasets.yml`` describes it."""

    domain: str
    kind: str
    classes: int = Field(ge=2)
    images: str
    aliases: tuple[str, ...] = ()


def read_datasets(path: str | Path | None = None) -> dict[str, PublishedDataset]:
    """The published datasets by identifier.

    Args:
        path: YAML file; the project's own where None.

    Raises:
        ItemError: If one name means two datasets.
    """
    file = Path(path or Path(__file__).parent / "datasets.yml")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    datasets = {str(name): PublishedDataset(**{"images": str(name)} | entry) for name, entry in content.items()}
    _names(datasets)
    return datasets


def read_cells(
    sources: Mapping[str, Source],
    datasets: Mapping[str, PublishedDataset],
    aliases: Aliases,
    tables: Path | None,
    cache: Path,
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Read all sources; one that can't be had never stops the others.

    Args:
        sources: See :func:`~thesis_rec.published.cells.read_sources`.
        datasets: See :func:`read_datasets`.
        aliases: Canonical identifiers of models.
        tables: Folder of tables, or None for cache and network.
        cache: Folder of fetched files.

    Returns:
        Rows with :data:`COLUMNS`, and by source: ``sources``, where they are from (commit, licence, checksum);
        ``dropped``, numbers of rows by rule; ``unknown_models``, how many the manifest doesn't have; and ``missing``,
        why a source can't be had.
    """
    names = _names(datasets)
    tasks = [alias + end for one in datasets.values() for alias in one.aliases for end in ("", "ZeroShot")]
    parts = [pd.DataFrame(columns=COLUMNS)]
    report: dict[str, dict[str, Any]] = {"sources": {}, "dropped": {}, "unknown_models": {}, "missing": {}}
    for name, source in sources.items():
        try:
            files, digest = table_files(name, source, tables, cache, [t for t in tasks if re.fullmatch(r"\w+", t)])
            with explained(name, "it isn't the table it was ({reason}).", "Pin a commit that is."):
                rows = READERS[source.format](files).reindex(columns=_READ)
        except ItemError as error:
            report["missing"][name] = str(error)
            continue
        rows = rows.fillna({"pretrained": ""}).assign(metric="accuracy", source=name)
        kept, dropped = usable(rows, names, {key: one.classes for key, one in datasets.items()})
        called = _ALIAS_SOURCES.get(name, name)
        models = list(zip(kept["name"].astype(str), kept["pretrained"].astype(str), strict=True))
        own = {
            model: f"{called}/{'.'.join(filter(None, model))}" for model in models if (called, *model) not in aliases
        }
        kept["model_id"] = [own.get(model) or aliases[called, *model] for model in models]
        report["unknown_models"][name] = len(own)
        keys = ["model_id", "dataset_id", "protocol", "metric", "source"]
        merged = kept.groupby(keys, as_index=False, sort=True)[["value", "spread"]].mean()
        dropped["repeated"] = len(kept) - len(merged)
        report["dropped"][name] = dropped
        report["sources"][name] = source.model_dump(include={"repository", "commit", "licence"}) | {"sha256": digest}
        parts.append(merged[COLUMNS])
    return pd.concat(parts[1:] or parts, ignore_index=True), report


def usable(
    rows: pd.DataFrame, names: Mapping[str, str], classes: Mapping[str, int]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows that keep the rules, with ``dataset_id``, and how many each rule dropped.

    Args:
        rows: Columns name, pretrained, dataset (as the source calls it), protocol, metric, value, spread and source.
        names: ``dataset_id`` by simplified name.
        classes: Number of classes of each dataset.
    """
    numbers = {name: pd.to_numeric(rows[name], errors="coerce") for name in ("value", "spread") if name in rows}
    rows = rows.assign(dataset_id=rows["dataset"].map(lambda one: names.get(simplified(str(one)))), **numbers)
    known = rows["dataset_id"].notna()
    sound = known & rows["value"].between(0, 1)
    chance = 1 / rows["dataset_id"].map(classes).astype(float)
    usual = rows.where(sound).groupby(["dataset_id", "protocol", "source"])["value"].transform("median")
    failed = sound & (rows["value"] <= 1.5 * chance) & (usual >= 3 * chance)
    dropped = {"unknown dataset": ~known, "no accuracy": known & ~sound, "at chance": failed}
    return rows[sound & ~failed].copy(), {rule: int(broken.sum()) for rule, broken in dropped.items()}


def simplified(name: str) -> str:
    """A name without case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _names(datasets: Mapping[str, PublishedDataset]) -> dict[str, str]:
    names: dict[str, str] = {}
    for dataset, one in datasets.items():
        for alias in (dataset, *one.aliases):
            if names.setdefault(simplified(alias), dataset) != dataset:
                text = f"the name {alias} also means {names[simplified(alias)]}."
                raise ItemError(dataset, text, "Keep it under one of the two.")
    return names


def _mieb(files: Sequence[Path]) -> pd.DataFrame:
    """The long table, or one JSON file for each model and task (TaskResult of the package mteb)."""
    kinds = {"ImageClassification": "linear_probe", "ZeroShotClassification": "zero_shot"}
    if files[0].suffix == ".csv":
        table = pd.concat([pd.read_csv(file) for file in files])
        table = table[table["type"].isin(kinds)].rename(columns={"model": "name", "accuracy": "value"})
        spread = table["acc_std"] / np.sqrt(table["n_exp"].where(table["n_exp"] > 1))
        dataset = table["task"].str.removesuffix("ZeroShot")
        found = table.assign(dataset=dataset, protocol=table["type"].map(kinds), spread=spread)
    else:
        found = pd.DataFrame([_mieb_row(file) for file in files])
    return found[found["dataset"] != "VOC2007"]


def _mieb_row(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8"))
    task = str(content["task_name"])
    scores = next(iter(content["scores"].values()))[0]
    draws = [float(one["accuracy"]) for one in scores.get("scores_per_experiment", [])]
    return {
        "name": file.parent.parent.name.replace("__", "/", 1),
        "dataset": task.removesuffix("ZeroShot"),
        "protocol": "zero_shot" if task.endswith("ZeroShot") else "linear_probe",
        "value": scores["accuracy"],
        "spread": float(np.std(draws) / np.sqrt(len(draws))) if len(draws) > 1 else np.nan,
    }


def _open_clip(files: Sequence[Path]) -> pd.DataFrame:
    table = pd.read_csv(files[0])
    described = ("name", "pretrained", "params (M)", "FLOPs (B)")
    wide = [name for name in map(str, table) if name not in described and not name.startswith("Average")]
    long = table.melt(id_vars=["name", "pretrained"], value_vars=wide, var_name="dataset", value_name="value")
    return long.assign(protocol="zero_shot")


def _clip_benchmark(files: Sequence[Path]) -> pd.DataFrame:
    table = pd.read_csv(files[0])
    table = table[(table["task"] == "zeroshot_classification") & (table["dataset"] != "voc2007_multilabel")]
    return table.assign(name=table["model"], protocol="zero_shot", value=table["acc1"])


def _clip_probes(files: Sequence[Path]) -> pd.DataFrame:
    table = pd.DataFrame(json.loads(files[0].read_text(encoding="utf-8")))
    # Probes with all training images stand at another level than those of few shots, which ours are.
    table = table[table["fewshot_k"] > 0]
    best = table.groupby(["model", "pretrained", "dataset", "fewshot_k"], as_index=False)["lp_acc1"].max()
    dataset = best["dataset"].str.removesuffix("-unverified")
    return best.assign(name=best["model"], dataset=dataset, protocol="linear_probe", value=best["lp_acc1"])


def _model_spider(files: Sequence[Path]) -> pd.DataFrame:
    if files[0].suffix == ".csv":
        table = pd.read_csv(files[0])
        table = table[table["metric"] == "finetune_accuracy"]
        found = table.rename(columns={"model_id": "name", "dataset_id": "dataset"})
    else:
        text = files[0].read_text(encoding="utf-8")
        models = ast.literal_eval(_between(text, "BKB_SPECIFIC_RANK = "))
        values = _between(text, "DATA_SPECIFIC_RANK = ", "\nBKB_SPECIFIC_RANK")
        told = re.findall(r"'(\w+)':\s*{\s*'Finetuning': torch\.tensor\((\[[^\]]*\])\)", values)
        wide = pd.DataFrame({dataset: ast.literal_eval(numbers) for dataset, numbers in told}, index=models)
        wide = wide.loc[:, (wide >= 0).all()]  # negative: errors of regression tasks
        found = wide.rename_axis("name").reset_index().melt("name", var_name="dataset")
    return found.assign(value=found["value"] / 100, protocol="fine_tune")


def _between(text: str, start: str, end: str = "\n") -> str:
    if (at := text.find(start)) < 0 or (stop := text.find(end, at + len(start))) < 0:
        raise ValueError(f"{start.strip()} isn't in it")
    return text[at + len(start) : stop]


def _timm(files: Sequence[Path]) -> pd.DataFrame:
    tables = [pd.read_csv(file).assign(dataset=file.stem.removeprefix("results-")) for file in files]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(name=table["model"], protocol=HEAD, value=pd.to_numeric(table["top1"]) / 100)


READERS: dict[str, Callable[[Sequence[Path]], pd.DataFrame]] = {
    "mieb": _mieb,
    "open_clip": _open_clip,
    "clip_benchmark": _clip_benchmark,
    "clip_probes": _clip_probes,
    "model_spider": _model_spider,
    "timm": _timm,
}
