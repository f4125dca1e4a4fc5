"""What a recommendation is made of: models, what is known of them, and the tokens of known datasets.

A bundle is put together from the artefacts of one's own runs and from a folder that was written earlier; every zoo
ships such a folder, so a fresh clone can recommend before anything was run. The folder is small: embeddings and weights
as float16, tokens as 8-bit integers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import ConfigurationError, ItemError, first_line, listed
from thesis_rec.base.files import atomic_path, load_arrays, save_arrays, write_json
from thesis_rec.base.tables import MEASURED, Floats, ModelTable, TaskTokens, unit
from thesis_rec.hardware.contexts import COLUMNS
from thesis_rec.knowledge.knowledge import Knowledge
from thesis_rec.knowledge.posterior import Posterior, strangers, with_strangers
from thesis_rec.knowledge.protocols import ProtocolKnowledge
from thesis_rec.models.model_manifest import ManifestRow, read_aliases, read_manifest, same_weights
from thesis_rec.truth.performance_records import error_of_accuracy
from thesis_rec.truth.responses import ON_SUBTASK, ON_TASK

PROTOCOL = "linear_probe"
#: What published figures under each protocol are.
IN_WORDS = {"linear_probe": "linear probes", "zero_shot": "zero-shot accuracies", "fine_tune": "fine-tuned accuracies"}

#: Performance of a bundle that keeps no cells, and models of one that keeps none.
NOTHING_MEASURED = pd.DataFrame(columns=["model_id", "dataset_id", "value"])
NO_MODELS = ModelTable([], np.zeros((0, 0), np.float32), [], np.zeros(0))

#: What an answer can't do without: knowledge, and embeddings and tokens of the spaces that it was learned in.
NEEDED = ("knowledge", "model_embeddings", "dataset_tokens", "performance")

#: Files of a bundle's folder.
MODELS, TOKENS, ENCODER = "models.npz", "dataset_tokens.npz", "encoder.pt"
KNOWLEDGE = "knowledge.npz"
#: Beside the folder of published knowledge: what sets domains apart, and other names of the same weights.
DOMAINS, ALIASES = "domains.npz", "model_aliases.csv"
PERFORMANCE, DESCRIPTION = "performance.parquet", "bundle.json"

#: What published knowledge was learned from.
PROVENANCE = "PROVENANCE.json"

#: What is known of models beside names and families.
KNOWN = ("embedding", "n_parameters", *MEASURED)

#: What is stored of models, and how precisely.
STORED = (
    ("embedding", np.float16), ("n_parameters", np.float64), ("reference", np.float32), ("subtasks", np.float16),
)  # fmt: skip


@dataclass(frozen=True)
class PublishedBeliefs:
    """What published figures say: of each model, whatever the images, under one protocol.

    Attributes:
        published: What was learned from them.
        protocol: Protocol of the values that are predicted; tries, which are linear probes, inform any.
        domain: What the images are of; None where that isn't said.
        twins: By model, the one of the published models that has the same weights under another name.
    """

    published: ProtocolKnowledge
    protocol: str = PROTOCOL
    domain: str | None = None
    twins: Mapping[str, str] = field(default_factory=dict)

    @property
    def model_ids(self) -> list[str]:
        """Models with figures of their own."""
        return [model for model in self.published.model_ids if self.published.figures(model)]

    def with_twins(self, names: Mapping[str, str]) -> PublishedBeliefs:
        """The same where figures count for further models, each with the weights of another of which more is known."""
        figures = self.published.figures
        return replace(self, twins={model: twin for model, twin in names.items() if figures(twin) > figures(model)})

    def figures(self, model_id: str, protocol: str | None = None) -> int:
        """Number of published figures of a model's weights, under one protocol or any; 0 where they aren't known."""
        return self.published.figures(self.twins.get(model_id, model_id), protocol)

    def posterior(self, models: ModelTable, task: TaskTokens) -> Posterior:
        """A Gaussian over ``models``; one of which nothing is known could be any known one.

        Raises:
            ConfigurationError: If nothing was published under the protocol.
        """
        if self.protocol not in self.published.protocols:
            there = ", ".join(self.published.protocols)
            raise ConfigurationError(f"Nothing is known under the protocol {self.protocol}; choose one of {there}.")
        n_classes, listed = max(len(task.class_names), 2), set(self.published.model_ids)
        weights = {model: self.twins.get(model, model) for model in models.model_ids}
        known = {model: name for model, name in weights.items() if name in listed}
        others = [model for model in weights if model not in known]
        # In a zoo of which nothing was published they could be any published model.
        like = [*known.values()] or self.published.model_ids
        belief = self.published.posterior(like, self.protocol, n_classes, self.domain)
        rows = np.arange(len(like) + len(others))
        strange = rows >= len(like)
        wider = replace(belief.only(np.where(strange, 0, rows)), model_ids=[*(known or like), *others])
        found = with_strangers(wider, strange, ~strange)
        return found if known else found.only(rows[strange])


def no_autoencoder() -> None:
    """What gives no checkpoint that embeds new models."""


@dataclass(frozen=True)
class Bundle:
    """Everything that one recommendation reads.

    Attributes:
        manifest: The model manifest: ``model_id``, ``family``, ``licence`` and so on, as strings.
        models: The models that have an embedding.
        tokens: Tokens of known datasets, by id.
        performance: ``model_id, dataset_id, protocol, value``: what was measured.
        datasets: The dataset manifest: ``dataset_id``, ``domain``, ``group``.
        profiles: ``hardware_profiles`` of any devices.
        encoder: Configuration of the image encoder that made the tokens.
        models_root: Folder to which the manifest's sources are relative.
        hub_cache: Folder of hub downloads.
        sources: For each artefact, where it is from.
        knowledge: What earlier datasets say of a new one.
        zoo: Name of the zoo.
        tries: File of what was tried before on users' images; None keeps nothing.
        notes: What was left out of the artefacts, and why.
        folder: Folder of the stored bundle that it was made from.
        autoencoder: Gives the checkpoint that embeds new models, or None where there is none; reading it takes torch.
    """

    manifest: pd.DataFrame
    models: ModelTable
    tokens: dict[str, TaskTokens]
    performance: pd.DataFrame
    datasets: pd.DataFrame
    profiles: pd.DataFrame
    knowledge: Knowledge | PublishedBeliefs
    encoder: dict[str, Any] = field(default_factory=dict)
    models_root: Path = Path()
    hub_cache: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    zoo: str = "starter"
    tries: Path | None = None
    notes: tuple[str, ...] = ()
    folder: Path = Path()
    autoencoder: Callable[[], dict[str, Any] | None] = no_autoencoder

    def rests_on(self, looked_at: bool) -> str:
        """A sentence on what predictions for images rest on."""
        figures = f"measurements on {self.performance['dataset_id'].nunique()} datasets"
        if isinstance(self.knowledge, PublishedBeliefs):
            published, protocol, known = self.knowledge.published, self.knowledge.protocol, self.knowledge.model_ids
            count = sum(published.figures(model, protocol) > 0 for model in known)
            figures = f"published {IN_WORDS[protocol]} of {count} models"
            if n_datasets := published.n_datasets(protocol):
                figures += f" on {n_datasets} datasets"
            if domain := self.knowledge.domain:
                same = published.domains.get((protocol, domain))
                weigh = f"{same.n_datasets} of the domain {domain} weighing more" if same else f"none of them {domain}"
                figures += f" ({weigh})"
            figures += f" and other figures of {len(known) - count} more"
        alike = "the same for any images with as many classes until you try some"
        toys = " The models are toys, the laboratory's: ask the zoo hub for real ones." if self.zoo != "hub" else ""
        if looked_at and isinstance(self.knowledge, PublishedBeliefs):
            return f"Rests on {figures}, {alike}; {self.encoder_id} looked at yours only to find like datasets."
        looked = f"looked at by {self.encoder_id}" if looked_at else f"not looked at: {alike}"
        return f"Rests on {figures}; your images were {looked}.{toys}"

    @cached_property
    def rows(self) -> dict[str, ManifestRow]:
        """Usable rows of the manifest, by model."""
        return {row.model_id: row for row in read_manifest(self.manifest)[0]}

    def weights_of(self, model_id: str) -> str | None:
        """What tells a model's weights from others of its name: its revision on the hub, or a hash of its files."""
        from thesis_rec.models.model_sources import locate, weights_fingerprint

        row = self.rows.get(model_id)
        if row is None or row.hub_id is not None:
            return row.revision if row else None
        with suppress(ItemError):
            return weights_fingerprint(locate(row, self.models_root, verify=False))[:16]
        return ""

    def on_this_machine(self) -> set[str]:
        """Models whose files are here now: those with a path as source, and those in the hub library's cache."""
        from thesis_rec.models.model_sources import hub_cache_folder, models_here

        return models_here([*self.rows.values()], hub_cache_folder(self.hub_cache))

    @cached_property
    def unlike_measured(self) -> tuple[dict[str, str], dict[str, str]]:
        """Models that nothing measured is like: see :func:`~thesis_rec.knowledge.posterior.strangers`."""
        from thesis_rec.published.descriptions import told_by_tags

        ids, columns = self.models.model_ids, ["input_size", "pretraining"]
        rows = self.manifest.drop_duplicates("model_id").set_index("model_id").reindex(index=ids, columns=columns)
        about = {
            "n_parameters": self.models.n_parameters,
            "resolution": pd.to_numeric(rows["input_size"], errors="coerce").to_numpy(dtype=float),
            "corpus": told_by_tags("corpora", rows["pretraining"].fillna("").astype(str)),
        }
        return strangers(pd.DataFrame(about, index=ids), self.knowledge.model_ids)

    @property
    def from_afar(self) -> dict[str, str]:
        """By model of whose like nothing is known: a sentence that says so."""
        if isinstance(self.knowledge, PublishedBeliefs):
            listed = {*self.knowledge.published.model_ids, *self.knowledge.twins}
            found = {name: "it could be as any other model" for name in self.models.model_ids if name not in listed}
        else:
            of_another_size, otherwise = self.unlike_measured
            found = otherwise | of_another_size
        return {model: f"Nothing like it is known: {why}. Trying it tells most." for model, why in found.items()}

    @property
    def encoder_id(self) -> str:
        """Identifier of the encoder that made the tokens."""
        return next((tokens.encoder_id for tokens in self.tokens.values()), "")


def under_protocol(bundle: Bundle, protocol: str, domain: str | None = None) -> Bundle:
    """The bundle whose predictions are of another protocol, and of images of a domain.

    Raises:
        ConfigurationError: If its knowledge is of linear probes only, or doesn't tell domains apart.
    """
    if isinstance(bundle.knowledge, PublishedBeliefs):
        if domain and not bundle.knowledge.published.domains:
            raise ConfigurationError(
                f"This zoo's knowledge doesn't tell domains apart: {DOMAINS} is missing. Restore it, make it by "
                "`kedro run --pipelines=published`, or leave out the domain."
            )
        return replace(bundle, knowledge=replace(bundle.knowledge, protocol=protocol, domain=domain))
    if protocol != PROTOCOL:
        raise ConfigurationError(f"The zoo {bundle.zoo} knows linear probes only; ask the zoo hub for {protocol}.")
    if domain:
        raise ConfigurationError(f"The zoo {bundle.zoo} looks at the images themselves: leave out the domain {domain}.")
    return bundle


def mean_performance(records: pd.DataFrame) -> pd.DataFrame:
    """One value of a linear probe per model and dataset, the mean over repeats, and its standard error as ``noise``.

    Args:
        records: ``model_id, dataset_id, value``; ``protocol`` where there are several; ``noise``, or ``std`` (between
            repeats, which share their test images), ``n_repeats`` and ``n_test``, where they are known. Without them
            the noise is NaN.
    """
    chosen = records[records["protocol"] == PROTOCOL] if "protocol" in records else records
    known = chosen.reindex(columns=[*NOTHING_MEASURED, "noise", "std", "n_repeats", "n_test"])
    draws, images = known["std"] ** 2 / known["n_repeats"], error_of_accuracy(known["value"], known["n_test"]) ** 2
    known["noise"] = known["noise"].fillna(pd.concat([draws, images], axis=1).sum(axis=1, min_count=1) ** 0.5)
    means: pd.DataFrame = known.groupby(["model_id", "dataset_id"], sort=False)[["value", "noise"]].mean()
    return means.reset_index()


def model_table(embeddings: pd.DataFrame, manifest: pd.DataFrame, n_parameters: Mapping[str, float]) -> ModelTable:
    """The models that are in both the manifest and the embeddings, in the manifest's order.

    Args:
        embeddings: ``model_id`` and the columns of the code.
        manifest: The model manifest.
        n_parameters: Number of weights by model; 0 where unknown.
    """
    ids = embeddings["model_id"].astype(str).tolist()
    counts = np.array([float(n_parameters.get(model, 0.0)) for model in ids])
    code = embeddings.drop(columns="model_id").to_numpy(dtype=np.float32)
    table, rows = ModelTable(ids, code, [""] * len(ids), counts), manifest[manifest["model_id"].astype(str).isin(ids)]
    return with_listed(table, rows, n_parameters)


def with_measured(models: ModelTable, given: Mapping[str, NDArray[Any]] | None) -> ModelTable:
    """The models with what was measured of them laid over what they have; a model without keeps that, or gets NaN.

    Args:
        models: M models.
        given: ``model_ids`` (K,) and ``responses`` (K, R) on the reference bank with their ``names`` (R,), or
            ``spectra`` (K, P) of their weights against random ones, in which a number that a model lacks, for it has no
            such tensor, becomes 0, as of random weights; or None.
    """
    if not given or not len(given["model_ids"]):
        return models
    if "spectra" in given:
        spectra = np.nan_to_num(np.asarray(given["spectra"], dtype=np.float32))
        return _with_rows(models, given["model_ids"], {"spectra": spectra})
    responses, names = np.asarray(given["responses"], dtype=np.float32), np.asarray(given["names"], dtype=str)
    endings = {"reference": ON_TASK, "subtasks": ON_SUBTASK}
    parts = {field: responses[:, np.char.endswith(names, ending)] for field, ending in endings.items()}
    return _with_rows(models, given["model_ids"], parts)


def _with_rows(models: ModelTable, ids: Iterable[Any], tables: Mapping[str, Floats]) -> ModelTable:
    """The models with rows of some measured fields, (K, F) each, laid over what they have."""
    names = list(map(str, ids))
    given = np.isin(models.model_ids, names)[:, None]
    laid: dict[str, Any] = {}
    for name, table in tables.items():
        if table.shape[1]:
            before = getattr(models, name)
            kept = np.nan if before is None or before.shape[1] != table.shape[1] else before
            laid[name] = np.where(given, pd.DataFrame(table, names).reindex(models.model_ids), kept)
    return replace(models, **laid)


def add_models(
    models: ModelTable,
    vectors: Mapping[str, Callable[[], Mapping[str, Any]]],
    read_autoencoder: Callable[[], Mapping[str, Any] | None],
    made_by: str = "",
) -> tuple[ModelTable, list[str], list[str]]:
    """Embed models that have a parameter vector but no embedding yet: no training is needed for them.

    Args:
        models: All models.
        vectors: Partitions of ``model_vectors``; of those that can't be read there is a note.
        read_autoencoder: Gives the checkpoint, whole or its encoder half, or None where there is none. It is asked only
            where a model is new: reading it takes torch.
        made_by: Id of the autoencoder that made the embeddings, where it is known; another one's don't compare.

    Returns:
        All models, the ids of the new ones, and notes.
    """
    codes = zip(models.model_ids, models.embedding, strict=True)
    new = [model for model, code in codes if model in vectors and np.isnan(code).any()]
    if not new:
        return models, [], []
    try:
        autoencoder = read_autoencoder()
    except Exception as error:  # readers of damaged files raise anything at all
        return models, [], [f"{' '.join(str(error).split())} Until then models added have no embedding."]
    if autoencoder is None:
        return models, [], []
    if made_by and made_by != autoencoder.get("autoencoder_id"):
        note = f"Your autoencoder isn't the one that made your embeddings ({made_by}): models added since have none. "
        return models, [], [note + "Run `kedro run --pipelines=autoencoder` again."]
    from thesis_rec.models.auto_encoder import autoencoder_input, embed_vectors

    kind, notes = str(autoencoder.get("input", "kmeans")), list[str]()
    found, spectra = dict[str, tuple[Floats, float]](), dict[str, Any]()
    for model in new:
        try:
            vector = vectors[model]()
            found[model] = autoencoder_input(vector, kind, model), float(vector["n_parameters"])
        except Exception as error:  # readers of damaged files raise anything at all
            why = str(error).removeprefix(f"{model}: ")
            notes.append(f"The vector of your model {model} was left out: {' '.join(why.split())}")
            continue
        if "spectra" in vector:
            spectra[model] = vector["spectra"]
    if not found:
        return models, [], notes
    inputs, counts = zip(*found.values(), strict=True)
    models = _with_rows(models, found, {"embedding": embed_vectors(autoencoder, np.stack(inputs))})
    counted = dict(zip(models.model_ids, models.n_parameters, strict=True)) | dict(zip(found, counts, strict=True))
    described = {"model_ids": np.array(list(spectra)), "spectra": np.array([*spectra.values()])}
    return with_measured(replace(models, n_parameters=np.array([*counted.values()])), described), list(found), notes


def with_listed(models: ModelTable, manifest: pd.DataFrame, counted: Mapping[str, float]) -> ModelTable:
    """All models that the manifest lists, with their families there; nothing was measured of those beyond ``models``.

    Args:
        models: M models.
        manifest: The model manifest; the ``parameters`` of further models are taken where given.
        counted: Number of weights by model, of those whose weights were read.
    """
    rows = manifest.drop_duplicates("model_id").reindex(columns=["model_id", "family", "parameters"], fill_value="")
    ids = rows["model_id"].astype(str)
    columns = {name: table for name in KNOWN if (table := getattr(models, name)) is not None}
    laid = {name: pd.DataFrame(table, models.model_ids).reindex(ids).to_numpy() for name, table in columns.items()}
    given = pd.to_numeric(rows["parameters"], errors="coerce").fillna(ids.map(counted).fillna(0.0))
    known = ids.isin(models.model_ids)
    laid["n_parameters"] = np.where(known, np.nan_to_num(laid["n_parameters"][:, 0]), given.to_numpy(dtype=float))
    return ModelTable(ids.tolist(), families=rows["family"].astype(str).tolist(), **laid)


# --- a folder ------------------------------------------------------------------------------------------------------


def write_bundle(bundle: Bundle, folder: Path, autoencoder: dict[str, Any] | None = None) -> None:
    """Write what can't be made from the zoo's own tables to a folder: embeddings, tokens, knowledge, encoder.

    It is meant to be shipped, so that it is small: embeddings and weights as float16, tokens as 8-bit integers (each
    with its own scale; a cosine changes by less than 1e-3), performance on the datasets whose tokens are there.

    Args:
        bundle: The bundle.
        folder: Where to.
        autoencoder: Checkpoint that embeds new models; its decoder may be left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        name: np.asarray(table, kind) for name, kind in STORED if (table := getattr(bundle.models, name)) is not None
    }
    save_arrays(folder / MODELS, {"model_ids": np.array(bundle.models.model_ids), **tables})
    save_arrays(folder / TOKENS, pack_tokens(bundle.tokens))
    if isinstance(bundle.knowledge, Knowledge):
        save_arrays(folder / KNOWLEDGE, bundle.knowledge.to_arrays())
    if autoencoder:
        import torch

        with atomic_path(folder / ENCODER) as temporary:
            torch.save(autoencoder, temporary)
    known = bundle.performance["dataset_id"].isin(bundle.tokens)
    with atomic_path(folder / PERFORMANCE) as temporary:
        table = bundle.performance[known].astype({"value": "float32"})
        table.to_parquet(temporary, index=False, compression="zstd")
    counts = {"models": len(bundle.models), "datasets": len(bundle.tokens)}
    write_json(folder / DESCRIPTION, {"encoder_id": bundle.encoder_id, **counts})


def read_bundle(folder: Path) -> Bundle:
    """Read the folder that :func:`write_bundle` wrote, or one that holds what was learned from published figures.

    The zoo's own tables are joined to it by :func:`assemble`.

    Raises:
        ConfigurationError: If a file is missing or damaged.
    """
    lacking = [name for name in (KNOWLEDGE, MODELS, TOKENS, PERFORMANCE) if not (folder / name).is_file()]
    domains, made_by = folder.parent / DOMAINS, "similarity_training"
    if KNOWLEDGE in lacking and domains.is_file():
        lacking, made_by = [KNOWLEDGE], "published"
    if KNOWLEDGE not in lacking:
        beliefs = _read(folder / KNOWLEDGE, _beliefs)
        if isinstance(beliefs, ProtocolKnowledge):
            if domains.is_file():
                beliefs = _read(domains, lambda path: beliefs.with_domains(load_arrays(path)))
            return _bare(PublishedBeliefs(beliefs), folder=folder, notes=_unread(folder))
    if lacking:
        raise ConfigurationError(
            f"Nothing is known to recommend from: {folder} lacks {', '.join(lacking)}. "
            f"Run `kedro run --pipelines={made_by}` first, which learns it."
        )
    models = _read(folder / MODELS, _models)
    tokens = _read(folder / TOKENS, lambda path: unpack_tokens(load_arrays(path)))
    performance = _read(folder / PERFORMANCE, pd.read_parquet)
    autoencoder = partial(_autoencoder, folder / ENCODER)
    return _bare(beliefs, models=models, tokens=tokens, performance=performance, folder=folder, autoencoder=autoencoder)


def _bare(knowledge: Knowledge | PublishedBeliefs, **more: Any) -> Bundle:
    """A bundle of knowledge and what else is given, without the zoo's tables."""
    empty: dict[str, Any] = {"models": NO_MODELS, "tokens": {}, "performance": NOTHING_MEASURED}
    tables = dict.fromkeys(("manifest", "datasets", "profiles"), pd.DataFrame())
    return Bundle(knowledge=knowledge, **(empty | tables | more))


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """One of a bundle's files; whatever is wrong with it, the remedy is the same."""
    try:
        return reader(path)
    except Exception as error:
        raise ConfigurationError(
            f"{path} is damaged ({first_line(error)}). Restore it, as by `git checkout {path}`."
        ) from error


def _autoencoder(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    import torch

    return dict(_read(path, partial(torch.load, weights_only=True, map_location="cpu")))


def _unread(folder: Path) -> tuple[str, ...]:
    """A note on published tables that couldn't be read when a folder's knowledge was learned from the others."""
    path = folder / PROVENANCE
    missing = _read(path, lambda path: json.loads(path.read_text()).get("missing")) if path.is_file() else None
    if not missing:
        return ()
    return (
        f"The published figures of {listed(list(missing), 5)} couldn't be read when this was learned: it rests on the "
        f"others. Run `kedro run --pipelines=published` with all of them, or `git checkout {folder}`.",
    )


def _beliefs(path: Path) -> Knowledge | ProtocolKnowledge:
    arrays = load_arrays(path)
    return ProtocolKnowledge.from_arrays(arrays) if "head" in arrays else Knowledge.from_arrays(arrays)


def _models(path: Path) -> ModelTable:
    stored = load_arrays(path)
    ids = stored.pop("model_ids").astype(str).tolist()
    # Earlier bundles hold further responses.
    known = [name for name, _ in STORED if name in stored]
    tables = {name: stored[name] if name == "n_parameters" else stored[name].astype(np.float32) for name in known}
    return ModelTable(model_ids=ids, families=[""] * len(ids), **tables)


def pack_tokens(tokens: Mapping[str, TaskTokens]) -> dict[str, NDArray[Any]]:
    """Tokens of all datasets as a few arrays.

    Returns:
        ``features`` (rows, D) int8, to be scaled to length 1; ``shape`` (N, 2) batches and classes of each dataset;
        names as JSON; ``encoder_id``; ``landmarks`` (N, L) float16, NaN where a dataset has none.
    """
    items = list(tokens.values())
    # Rows that are shorter than others are filled up with NaN.
    landmarks = pd.DataFrame([() if item.landmarks is None else item.landmarks for item in items])
    parts = [item.features.reshape(-1, item.features.shape[-1]) for item in items]
    rows = np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
    scale = np.abs(rows).max(axis=1, initial=1e-12, keepdims=True) / 127
    names = [{"id": i.dataset_id, "classes": i.class_names, "n_images": i.n_images} for i in items]
    return {
        "features": np.rint(rows / scale).astype(np.int8),
        "shape": np.array([item.features.shape[:2] for item in items], dtype=np.int64).reshape(-1, 2),
        "names": np.array(json.dumps(names)),
        "encoder_id": np.array(items[0].encoder_id if items else ""),
        "landmarks": landmarks.to_numpy(dtype=np.float16),
    }


def unpack_tokens(arrays: Mapping[str, NDArray[Any]]) -> dict[str, TaskTokens]:
    """What :func:`pack_tokens` packed, L2-normalised again after the rounding."""
    found: dict[str, TaskTokens] = {}
    names = json.loads(str(arrays["names"]))
    landmarks = arrays.get("landmarks", np.full((len(names), 0), np.nan)).astype(np.float32)
    parts = np.split(arrays["features"], np.cumsum(arrays["shape"].prod(axis=1))[:-1]) if names else []
    for shape, name, values, part in zip(arrays["shape"], names, landmarks, parts, strict=True):
        found[name["id"]] = TaskTokens(
            name["id"],
            # The scale drops out of the normalisation.
            unit(part.astype(np.float32)).reshape(*shape, -1),
            name["classes"],
            int(name["n_images"]),
            str(arrays["encoder_id"]),
            values if len(values) and np.isfinite(values).all() else None,
        )
    return found


# --- joining artefacts ---------------------------------------------------------------------------------------------


def assemble(
    manifest: pd.DataFrame, datasets: pd.DataFrame, artefacts: Mapping[str, Any], zoo: str = "starter"
) -> Bundle:
    """Join manifests and artefacts; one's own are laid over the shipped ones item by item.

    One's own knowledge (and with it the space of embeddings) answers only where it was made of all that the shipped one
    rests on; else the shipped one does, with one's own datasets, cells, models and profiles beside its own.

    Args:
        manifest: The model manifest.
        datasets: The dataset manifest.
        artefacts: By catalog name; ``stored`` is what :func:`read_bundle` read, or None where embeddings, tokens,
            knowledge and performance are among the others.
        zoo: Name of the zoo.
    """
    mine: Any = Knowledge.from_arrays(artefacts["knowledge"]) if all(name in artefacts for name in NEEDED) else None
    # Where nothing was shipped, one's own knowledge is all there is.
    stored = artefacts["stored"] or _bare(mine)
    knowledge: Knowledge | PublishedBeliefs = stored.knowledge
    of_published, own = isinstance(knowledge, PublishedBeliefs), False
    notes: list[str] = [*artefacts.get("notes", ()), *stored.notes]
    own_tokens = _own_tokens(datasets, artefacts["dataset_tokens"], notes) if artefacts.get("dataset_tokens") else {}
    if mine is not None:
        if isinstance(knowledge, PublishedBeliefs):
            published = knowledge.published
            needed = published.n_datasets(PROTOCOL) or published.protocols[PROTOCOL].n_tasks
            missing = max(needed - len(own_tokens), 0)
        else:
            needed = len(knowledge.dataset_ids)
            missing = len(set(knowledge.dataset_ids) - set(mine.dataset_ids))
        own = not missing
        if missing:
            notes.append(
                f"Your own runs lack {missing} of the {needed} datasets that the shipped knowledge "
                f"was made of: it answers, and your {len(own_tokens)} datasets are laid over it."
            )
    tokens, left_out = _laid_over(stored.tokens, own_tokens, own)
    # What was published doesn't ask how images look: one's own cells of any images count beside it.
    seen = {} if of_published else tokens
    measured = {zoo: mean_performance(stored.performance), "own": _own_cells(artefacts.get("performance"), seen)}
    if of_published and not own:
        # Runs learn from records, which published knowledge is not made by: they count as they are.
        measured["own records"] = _own_cells(artefacts.get("performance_records"), seen)
    performance, cells_from = _joined(measured, ["model_id", "dataset_id"], NOTHING_MEASURED)
    own_fit = any(tokens.get(name) is task for name, task in own_tokens.items())
    tokens_from = " and ".join(sorted([zoo] * bool(stored.tokens) + ["own"] * own_fit))
    whose, embedded = "own" if own else zoo, own or len(stored.models)
    sources = {"knowledge": whose, "model embeddings": whose if embedded else ""}
    sources |= {"dataset tokens": tokens_from, "performance": cells_from}
    if own:
        knowledge = mine
        models = model_table(artefacts["model_embeddings"], manifest, _counted(artefacts))
        autoencoder = artefacts.get("autoencoder_checkpoint", no_autoencoder)
        made_by = artefacts["model_embeddings"].attrs.get("autoencoder_id", "")
    else:
        models = stored.models
        if isinstance(knowledge, PublishedBeliefs):
            if (names := stored.folder.parent / ALIASES).is_file():
                knowledge = knowledge.with_twins(same_weights(manifest, read_aliases(names)))
            copies = manifest["model_id"].isin(_listed_twice(manifest, knowledge.twins))
            # Its weights are not looked at, so that what can't be run can be neither tried nor used.
            bare = manifest["loader"].eq("local") & manifest["source"].astype(str).str.startswith("hf-hub:")
            for why, rows in (("listed under another name", copies), ("built by no library", bare & ~copies)):
                sources[why] = listed(manifest.loc[rows, "model_id"].tolist(), 3)
            manifest = manifest[~(copies | bare)]
        autoencoder, made_by = stored.autoencoder, ""
    notes += left_out
    models = with_listed(models, manifest, _counted(artefacts))
    models, new, unread = add_models(models, artefacts.get("model_vectors", {}), autoencoder, made_by)
    notes += unread
    if new:
        sources["models added without training"] = listed(new, 3)
        notes.append(f"models added without training: {listed(new, 3)}")
    for name in ("model_responses", "published_model_spectra", "model_spectra"):
        models = with_measured(models, artefacts.get(name))
    tables = {zoo: artefacts.get("published_hardware_profiles"), "own": artefacts.get("hardware_profiles")}
    key = ["model_id", "device", "precision", "batch_size"]
    profiles, sources["hardware profiles"] = _joined(tables, key, pd.DataFrame(columns=COLUMNS))
    return Bundle(
        manifest=manifest,
        models=models,
        tokens=tokens,
        performance=performance,
        datasets=datasets,
        profiles=profiles,
        sources={name: source for name, source in sources.items() if source},
        knowledge=knowledge,
        zoo=zoo,
        notes=tuple(notes),
        autoencoder=autoencoder,
    )


def _laid_over(
    shipped: Mapping[str, TaskTokens], own: Mapping[str, TaskTokens], own_answers: bool
) -> tuple[dict[str, TaskTokens], list[str]]:
    """Datasets of both, one's own in front of the shipped ones of the same name; and a note on what was left out."""
    # The encoder of the knowledge that answers is the one; where nothing was shipped, one's own.
    in_order = (*own.values(), *shipped.values()) if own_answers else (*shipped.values(), *own.values())
    encoder = next((tokens.encoder_id for tokens in in_order), "")
    shipped = {name: tokens for name, tokens in shipped.items() if tokens.encoder_id == encoder}
    fitting = {name: tokens for name, tokens in own.items() if tokens.encoder_id == encoder}
    strange = [name for name in own if name not in fitting]
    if not strange:
        return {**shipped, **fitting}, []
    why = f"encoded by {own[strange[0]].encoder_id}, the shipped datasets by {encoder or 'no encoder'}"
    return {**shipped, **fitting}, [f"Left out of your own datasets: {listed(strange, 3)} ({why})."]


def _listed_twice(manifest: pd.DataFrame, twins: Mapping[str, str]) -> list[str]:
    """Models whose weights the manifest lists under the published name as well, for images of the same size."""
    # Of sizes that aren't known none equals another; a manifest of one's own may lack the column.
    given = pd.to_numeric(manifest.reindex(columns=["input_size"])["input_size"], errors="coerce").astype(float)
    sizes = dict(zip(manifest["model_id"], given, strict=True))
    return [model for model, twin in twins.items() if sizes[model] == sizes.get(twin)]


def _own_cells(own: pd.DataFrame | None, tokens: Mapping[str, TaskTokens]) -> pd.DataFrame | None:
    """One's own mean performance by model and dataset, where datasets have tokens of those that have them."""
    if own is None:
        return None
    means = mean_performance(own)
    return means[means["dataset_id"].isin(tokens)] if tokens else means


def _joined(tables: Mapping[str, pd.DataFrame | None], key: list[str], none: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Tables by where they are from, the last one in front of the others' rows of the same key, and who gave any."""
    present = {name: table for name, table in tables.items() if table is not None and len(table)}
    if not present:
        return none, ""
    joined = pd.concat(present.values(), ignore_index=True).drop_duplicates(key, keep="last", ignore_index=True)
    return joined, " and ".join(sorted(present))


def _counted(artefacts: Mapping[str, Any]) -> dict[str, float]:
    """Number of weights by model, of those that were read or profiled."""
    counts: dict[str, float] = {}
    for name in ("published_hardware_profiles", "hardware_profiles", "model_metadata"):
        table = artefacts.get(name)
        if table is not None and len(table):
            known = table.dropna(subset=["n_parameters"])
            counts |= dict(zip(known["model_id"].astype(str), known["n_parameters"].astype(float), strict=True))
    return counts


def _own_tokens(datasets: pd.DataFrame, shards: Mapping[str, Any], notes: list[str]) -> dict[str, TaskTokens]:
    from thesis_rec.images.manifest import base_rows, read_dataset_manifest
    from thesis_rec.views.tokens import load_task_tokens

    found, failures = load_task_tokens(shards, base_rows(read_dataset_manifest(datasets)[0]))
    notes += [f"Your dataset {one.item} was left out: {one.error}" for one in failures]
    return found
