"""The bundle of the project: configuration as Kedro reads it, and of the files only those that an answer needs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os.path import expandvars
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_rec.base.errors import ConfigurationError, ThesisRecError, causes, listed
from thesis_rec.base.files import readable
from thesis_rec.base.settings import first_reason
from thesis_rec.door.configuration import ARGUMENTS, MergedGlobalsConfigLoader
from thesis_rec.models.model_manifest import read_manifest
from thesis_rec.recommendation.bundle import PROTOCOL, Bundle

#: The zoo that answers where nobody names one.
DEFAULT_ZOO = "hub"

#: Artefacts of runs that are of use whichever zoo the runs were about: rows of models that the zoo lacks don't matter.
OF_ANY_ZOO = (
    "performance", "hardware_profiles", "published_hardware_profiles", "model_metadata", "model_spectra",
    "extraction_outcomes",
)  # fmt: skip

#: What an answer loads.
ENTRIES = ("model_manifest", "dataset_manifest", "recommendation_artefacts")
#: What it loads only where one's own configuration names it: the zoo's own records are in its knowledge.
OWN_RECORDS = "performance_records"
#: The configuration that is read for that.
FEW: dict[str, Any] = {"entries": (*ENTRIES, OWN_RECORDS), "parameters": ("recommendation",)}


def load_bundle(project: str | Path | None = None, environment: str | None = None, zoo: str | None = None) -> Bundle:
    """Read what a recommendation needs.

    Args:
        project: Folder of the project; by default the present folder or the nearest above it.
        environment: Kedro environment, by default the usual one.
        zoo: Name of the zoo; by default the one that the environment or conf/local names, else :data:`DEFAULT_ZOO`.

    Raises:
        ConfigurationError: If there is no project, no such zoo, or nothing is known in it.
    """
    from kedro.io import AbstractDataset, DatasetError
    from pydantic import ValidationError

    from thesis_rec.pipelines.recommendation.nodes import RecommendationParameters, assemble_bundle
    from thesis_rec.truth.performance_records import clean_performance

    folder = find_project(project)
    loader = read_configuration(folder, environment, zoo, **FEW)
    try:
        given = _absolute(loader["parameters"]["recommendation"], folder)
        parameters = RecommendationParameters.model_validate(given)
    except ValidationError as error:
        raise ConfigurationError(f"The parameters of recommendation can't be used: {first_reason(error)}") from error
    entries = _absolute(loader["catalog"], folder)
    if loader["globals"]["zoo"] != loader.zoo_of_runs:
        # What this folder's runs made is about the models of another zoo.
        own = entries["recommendation_artefacts"]["own"]
        entries["recommendation_artefacts"]["own"] = {name: own[name] for name in OF_ANY_ZOO if name in own}

    def load(name: str) -> Any:
        entry = {key: value for key, value in entries[name].items() if key not in ("validator", "metadata")}
        return _checked(name, AbstractDataset.from_config(name, entry).load(), entries)

    try:
        manifest, datasets, artefacts = (load(name) for name in ENTRIES)
        if OWN_RECORDS in loader.named.get("zoos", {}).get(loader["globals"]["zoo"], {}):
            records = load(OWN_RECORDS)
            artefacts[OWN_RECORDS] = clean_performance([records])
            # Another zoo's records are learned from by runs, whatever their protocol.
            published = loader["globals"]["active"].get("published")
            if published and (others := sorted({*records["protocol"]} - {PROTOCOL})):
                note = f"Your own {OWN_RECORDS} of {listed(others, 3)} don't count: tries are of {PROTOCOL}."
                artefacts["notes"].append(note)
    except DatasetError as error:
        ours = (cause for cause in causes(error) if isinstance(cause, ThesisRecError))
        raise next(ours, ConfigurationError(str(error).strip())) from error
    own_models = [*_own_models(loader, folder, entries)]
    manifest, told = _with_own_models(manifest, own_models, artefacts.get("extraction_outcomes", {}))
    artefacts["notes"] += told
    bundle = assemble_bundle(manifest, datasets, artefacts, parameters)
    tries = folder / loader["globals"]["data_root"] / "07_model_output" / "tries.csv"
    return replace(bundle, tries=tries)


def read_configuration(
    folder: Path, environment: str | None, zoo: str | None, **only: Any
) -> MergedGlobalsConfigLoader:
    """The project's configuration as Kedro reads it, without a session; all of it, or ``only`` what the loader takes.

    Raises:
        ConfigurationError: If there is no such environment or zoo.
    """
    arguments: dict[str, Any] = {"conf_source": str(folder / "conf"), "env": environment, **ARGUMENTS, **only}
    return MergedGlobalsConfigLoader(**arguments, zoo=zoo, default_zoo=DEFAULT_ZOO)


def _checked(name: str, data: Any, entries: Mapping[str, Any]) -> Any:
    """The data, unless a run would refuse them by what the catalog says of the entry.

    Raises:
        ConfigurationError: With the reason.
    """
    from kedro.validation import ValidatorSpec, resolve_validator

    if (said := entries[name].get("validator")) is None:
        return data
    try:
        return resolve_validator(ValidatorSpec.from_dataset_config(name, said)).validate(data)
    except ValueError as error:
        hint = "Correct the file; docs/data-contracts.md says what is in it."
        raise ConfigurationError(f"Your own {name} can't be used: {error}. {hint}") from error


def _outcome(outcomes: Mapping[str, Any], model: str) -> dict[str, Any]:
    """What became of a model when it was read last; empty where that isn't known."""
    return (readable(outcomes[model]) if model in outcomes else None) or {}


def _own_models(loader: MergedGlobalsConfigLoader, folder: Path, entries: Mapping[str, Any]) -> Iterator[pd.DataFrame]:
    """Models that the user's own configuration adds to any zoo's manifest; they are candidates in every zoo.

    Raises:
        ConfigurationError: If it names a file that doesn't exist.
    """
    from thesis_rec.catalog import JoinedFilesDataset

    for name, settings in loader.named.get("zoos", {}).items():
        if "model_manifest" not in settings:
            continue
        zoo, shipped = loader["globals"]["zoos"][name], loader.base["zoos"].get(name, {})
        there = [path for path in _paths(shipped.get("model_manifest", []), folder) if path.is_file()]
        known = JoinedFilesDataset(filepath=there).load().set_index("model_id")["source"].to_dict() if there else {}
        paths = _paths(zoo["model_manifest"], folder)
        if absent := [path for path in paths if not path.is_file()]:
            whose = f"zoos.{name}.model_manifest in conf/{loader.env or loader.default_run_env}/globals.yml"
            raise ConfigurationError(f"{absent[0]} doesn't exist. Correct {whose}, or make the file.")
        table = _checked("model_manifest", JoinedFilesDataset(filepath=paths).load(), entries)
        own = table[~table["model_id"].isin(known)].drop_duplicates("model_id")
        strange = table["model_id"].isin(known) & table["source"].ne(table["model_id"].map(known))
        own.attrs["taken"] = table.loc[strange, "model_id"].tolist()
        root = folder / str(zoo.get("models_root", ""))
        own["source"] = [_from_root(str(source), root) for source in own["source"]]
        yield own


def _with_own_models(
    manifest: pd.DataFrame, own_models: Sequence[pd.DataFrame], outcomes: Mapping[str, Any]
) -> tuple[pd.DataFrame, list[str]]:
    """The manifest with one's own models, and notes on those that are left out or of which too little is known.

    Args:
        manifest: The zoo's.
        own_models: Of :func:`_own_models`.
        outcomes: Partitions of ``extraction_outcomes``.
    """
    own = pd.concat([manifest[:0], *own_models], ignore_index=True).drop_duplicates("model_id")
    # Files of one's own, and those that a shipped zoo only says where to put.
    files = pd.concat([manifest[manifest["source"].str.startswith("$")], own])
    # Nothing is known of those that aren't there, so that they would stand among the first.
    lost = dict(_absent(files, outcomes))
    whole = pd.concat([manifest, own], ignore_index=True).drop_duplicates("model_id")
    here = {row.model_id: row for row in read_manifest(own)[0] if row.hub_id is None and row.model_id not in lost}
    changed = []
    if read := [name for name in here if name in outcomes]:
        # What reads weights takes longer to import than the rest of an answer's code.
        from thesis_rec.models.model_extraction import outdated

        changed = [name for name in read if outdated(here[name], _outcome(outcomes, name))]
    command = "`kedro run --pipelines=model_extraction`"
    told = {
        "Left out of your own models: {} (others are called so). Rename yours.": [
            model for table in own_models for model in table.attrs["taken"]
        ],
        "Left out: {}.": [f"{model} ({why.rstrip('.')})" for model, why in lost.items()],
        "The weights of {} changed since they were read: what is said of them is of those before. "
        f"Run {command} again.": changed,
        f"The weights of {{}} weren't read yet, so that nothing is known of them: run {command}.": [
            name for name in here if name not in outcomes
        ],
    }
    notes = [text.format(listed(models, 3)) for text, models in told.items() if models]
    return whole[~whole["model_id"].isin(list(lost))].reset_index(drop=True), notes


def _paths(manifest: str | list[str], folder: Path) -> list[Path]:
    return [folder / path for path in ([manifest] if isinstance(manifest, str) else manifest)]


def _from_root(source: str, root: Path) -> str:
    if source.startswith(("hf-hub:", "$")):
        return source
    return str(root / Path(source.removeprefix("local-dir:")).expanduser())


def _absent(models: pd.DataFrame, outcomes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Models that are neither on the hub nor where their rows say, or couldn't be read, and why."""
    for name, source in zip(models["model_id"], models["source"].map(expandvars), strict=True):
        if source.startswith("hf-hub:"):
            continue
        if why := _outcome(outcomes, name).get("error") or ("" if Path(source).exists() else f"{source} isn't there"):
            yield name, why


def _absolute(entry: Any, folder: Path, key: str = "") -> Any:
    """Configuration whose relative paths are those of the project's folder, as Kedro's context makes the catalog's."""
    if isinstance(entry, dict):
        return {name: _absolute(value, folder, name) for name, value in entry.items()}
    if isinstance(entry, list):
        return [_absolute(one, folder, key) for one in entry]
    is_path = key in ("filepath", "path", "models_root") and "://" not in entry
    # A source of an image encoder may be a name of the hub's.
    return str(folder / entry) if is_path or (key == "source" and (folder / entry).is_dir()) else entry


def load_context(folder: Path, environment: str | None, runtime_params: dict[str, Any] | None = None) -> Any:
    """Kedro's context of a project: its parameters and catalog."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(folder)
    with KedroSession.create(project_path=folder, env=environment, runtime_params=runtime_params) as session:
        return session.load_context()  # type: ignore[attr-defined]


def find_project(start: str | Path | None = None) -> Path:
    """The nearest folder of this project, from ``start`` upwards.

    Raises:
        ConfigurationError: If there is none.
    """
    from kedro.utils import find_kedro_project

    folder = find_kedro_project(Path(start or Path.cwd()).expanduser().resolve())
    if folder is None:
        hint = "give its folder as `project=` or change to it."
        raise ConfigurationError(f"{start or Path.cwd()} is not within a project; {hint}")
    return Path(folder)
