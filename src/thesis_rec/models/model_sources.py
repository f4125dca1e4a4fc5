"""From a manifest row to files on this machine: a checked local path, or a download from the Hugging Face hub.

A plan tells what must be downloaded before models can be read, and which of them where a limit doesn't allow all.

Hub files are taken one by one, weights in the safest format that the repository offers, so that no other copy of them
is downloaded. The hub library's own settings hold: ``HF_HOME``, ``HF_HUB_CACHE``, ``HF_HUB_OFFLINE``, ``HF_TOKEN``.
"""

import functools
import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from thesis_rec.base.errors import Failure, ItemError, causes, explained
from thesis_rec.base.files import file_state, inside, sha256_file, sha256_json
from thesis_rec.models import weight_files
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.weight_files import WEIGHT_FILES

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 10

#: MiB and seconds of each file that this process downloaded; small files say more of waiting than of bandwidth.
_downloaded: list[tuple[float, float]] = []
_ENOUGH_MB = 4.0

#: Where transformers says how images are prepared: up to its version 4, and since then.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

#: Configuration files that the libraries need to build a network, by loader.
CONFIGURATION_FILES = {
    "timm": ("config.json",),
    "transformers": ("config.json", *PROCESSOR_FILES),
    "open_clip": ("open_clip_config.json",),
    "detector_pack": ("config.json",),
}

#: Name of the record in the zoo's folder; its ``files`` are SHA-256 by relative path.
PROVENANCE_FILE = "PROVENANCE.json"
#: What to do about files of the hub that aren't here.
CONNECT = "Connect to the internet once, or fill the hub cache (HF_HOME) on another machine and copy it here."
_RESTORE = "Restore it from the repository (git checkout), or rebuild the zoo."


def locate(row: ManifestRow, root: Path, cache: Path | None = None, build: bool = False, verify: bool = True) -> Path:
    """Folder or file that holds the weights of a model, downloaded when it is a hub model.

    Args:
        row: The model.
        root: Folder that relative sources refer to.
        cache: Folder of hub downloads (what ``HF_HUB_CACHE`` is to the hub library); None for the library's own.
        build: Whether the network will be built, which needs configuration files besides weights.
        verify: Whether files are compared with the zoo's record of them, for which all their bytes are read.

    Raises:
        ItemError: If the files don't exist, lead out of ``root``, differ from the zoo's record of them, or can't be
            downloaded.
    """
    if row.hub_id is not None:
        return _download(row, row.hub_id, cache, build)
    path = Path(expanded(row.source.removeprefix("local-dir:"), row.model_id)).expanduser()
    located = root / path
    if not path.is_absolute() and not inside(located, root):
        hint = "Copy the model into the folder instead of linking to it, or give its absolute path."
        raise ItemError(row.model_id, f"The source {row.source} leads out of the zoo's folder.", hint)
    if not located.exists():
        hint = "Correct the source column of the manifest (hf-hub:owner/name for a model of the hub), or add the files."
        raise ItemError(row.model_id, f"The source {located} doesn't exist.", hint)
    if verify and not path.is_absolute():
        check_source(root, path)
    return located


def weights_fingerprint(source: Path) -> str:
    """Hash of a model's files: of names and contents, so that a moved or copied model keeps it.

    Args:
        source: File, or folder of a checkpoint with its configuration.
    """
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    kept = [path for path in files if not path.name.startswith(".")]
    return sha256_json([(path.relative_to(source).as_posix(), sha256_file(path)) for path in kept])


def check_file(root: Path, name: str, expected: str) -> None:
    """Compare a file with its recorded hash.

    Raises:
        ItemError: Naming the file, if it is absent or changed.
    """
    path = root / name
    if not path.is_file():
        raise ItemError(name, "The file is missing from the embedded zoo.", _RESTORE)
    if sha256_file(path) != expected:
        raise ItemError(name, f"The file's bytes differ from those recorded in {PROVENANCE_FILE}.", _RESTORE)


def check_source(root: Path, source: Path) -> None:
    """Compare the recorded files of a model with their hashes; a folder without a record isn't checked.

    Args:
        root: Folder of the zoo.
        source: The model's folder or file, relative to it.

    Raises:
        ItemError: Naming the first file that is absent or changed.
    """
    try:
        recorded: dict[str, str] = json.loads((root / PROVENANCE_FILE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return
    name = source.as_posix()
    for file, expected in recorded.items():
        if file == name or file.startswith(name + "/"):
            check_file(root, file, expected)


def files_signature(path: Path) -> str:
    """Hash of what tells without reading a model's files that they are the same as before.

    Args:
        path: A file, or a folder whose files count.
    """
    files = sorted(entry.path for entry in os.scandir(path) if entry.is_file()) if path.is_dir() else [str(path)]
    return sha256_json([os.fspath(path.absolute()), files, [file_state(file).decode() for file in files]])


def expanded(source: str, item: str) -> str:
    """A source with environment variables (``$NAME`` or ``${NAME}``) replaced by their values.

    Raises:
        ItemError: If a variable isn't set.
    """
    text = os.path.expandvars(source)
    if unset := re.search(r"\$\{?(\w+)", text):
        error = f"The source {source} needs the environment variable {unset.group(1)}, which isn't set."
        raise ItemError(item, error, f"Set it: export {unset.group(1)}=<folder>.")
    return text


def _download(row: ManifestRow, hub_id: str, cache: Path | None, build: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    # The library tries each file for half a minute before it gives up: far too long for a zoo without network.
    online = hub_is_reachable()

    def fetch(name: str) -> Path:
        revision, began, clock = row.revision or None, time.time(), time.monotonic()
        try:
            path = Path(hf_hub_download(hub_id, name, revision=revision, cache_dir=cache, local_files_only=not online))
        except LocalEntryNotFoundError as error:
            if not online:
                raise
            hub_answers.cache_clear()  # so that it is asked anew, instead of for every file
            raise ConnectionError("the network went away") from error
        if path.stat().st_mtime >= began:  # else it was there
            _downloaded.append((path.stat().st_size / 2**20, time.monotonic() - clock))
        return path

    what = f"model {hub_id}" + (f" at revision {row.revision}" if row.revision else "")
    with of_the_hub(row.model_id, what, f"Downloading the {what} failed ({{reason}}).", "Try again later."):
        weights = _weights_by(fetch, row.model_id, row.loader)
        for name in CONFIGURATION_FILES.get(row.loader, ()) if build else ():
            try:
                fetch(name)
            except EntryNotFoundError:
                # Some repositories of open_clip's weights have no configuration: the library has it itself.
                if name not in (*PROCESSOR_FILES, "open_clip_config.json"):
                    raise
    return weights.parent


def _weights_by(fetch: Callable[[str], Path], item: str, prefer: str = "") -> Path:
    """The best weight file that ``fetch`` gives, after all shards where it is their index.

    Raises:
        EntryNotFoundError: As ``fetch`` does, of a shard, or where only the cache is looked into.
        ItemError: If the hub has none, or the index is damaged.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in weight_files.weight_names(prefer):
        try:
            weights = fetch(name)
            break
        except EntryNotFoundError as error:
            missing = error
    else:
        if isinstance(missing, LocalEntryNotFoundError):
            raise missing
        text = f"The hub has no weights of it in a known file: {', '.join(WEIGHT_FILES)}."
        raise ItemError(item, text, "Choose another extractor, or another model.") from missing
    if weights.name.endswith(weight_files.INDEX_ENDING):
        for shard in sorted(set(weight_files.shard_of_tensors(weights, item).values())):
            fetch(shard)
    return weights


def measured_bandwidth() -> float | None:
    """MiB per second of this process's downloads from the hub so far; None while they are too few to tell."""
    size, seconds = (sum(values) for values in zip(*_downloaded, strict=True)) if _downloaded else (0.0, 0.0)
    return size / seconds if size >= _ENOUGH_MB and seconds > 0 else None


def in_cache(hub_id: str, revision: str = "", cache: Path | None = None) -> bool:
    """Whether the weights of a hub model, all shards included, are in the hub cache.

    Args:
        hub_id: Its name on the hub.
        revision: Branch, tag or commit; empty for the default branch.
        cache: Folder of hub downloads; None for the library's own.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    # An answer asks this of hundreds of models, few of which have a folder there.
    if not (Path(cache or constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}").is_dir():
        return False

    def fetch(name: str) -> Path:
        return Path(hf_hub_download(hub_id, name, revision=revision or None, cache_dir=cache, local_files_only=True))

    try:
        return _weights_by(fetch, hub_id).is_file()
    except (EntryNotFoundError, ValueError, ItemError):  # also no name of a hub model, or a damaged index
        return False


@contextmanager
def no_network() -> Iterator[None]:
    """Nothing is fetched from the hub within the block, as if ``HF_HUB_OFFLINE`` were set.

    A model's folder may name other models (a text tower, a tokenizer, a base model), which its library would fetch.
    """
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_is_reachable() -> bool:
    """Whether the hub answers at all; False in offline mode."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and hub_answers()


@functools.cache
def hub_answers() -> bool:
    """Whether the hub answered when it was asked once."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE_SECONDS)
    except Exception as error:
        # The library changes the HTTP library under it, and with it the exceptions, from version to version.
        logger.warning("The Hugging Face hub can't be reached (%s): only its cache is used", error)
        return False
    return True


@contextmanager
def of_the_hub(item: str, what: str, error: str, hint: str) -> Iterator[None]:
    """As :func:`~thesis_rec.base.errors.explained`; what befalls a request to the hub is one sentence and a remedy.

    Libraries wrap the hub library's many exceptions in their own, so what they come from counts as well.

    Args:
        item: Name of the model, dataset or encoder.
        what: What is asked for, such as ``model openai/clip-vit-base-patch32``.
        error: What else is wrong, with ``{reason}`` where the library's words go.
        hint: What the user can do about that.
    """
    with explained(item, error, hint):
        try:
            yield
        except ItemError:
            raise
        except Exception as raised:
            from huggingface_hub import constants, errors

            chain = causes(raised)
            # What it is that can't connect changes with the HTTP library.
            if any(type(one).__name__.startswith("Connect") or "couldn't connect" in str(one) for one in chain):
                chain.append(ConnectionError())
            mode = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
            offline = f"isn't in the hub cache and this machine is offline{mode}.", CONNECT
            correct = "Correct the source, or set HF_TOKEN."
            log_in = "Accept its terms on its page, then log in with `hf auth login` or set HF_TOKEN."
            # Kinds of errors stand before those that they are kinds of.
            known: dict[type[Exception], tuple[str, str]] = {
                errors.GatedRepoError: ("is gated.", log_in),
                errors.RevisionNotFoundError: ("isn't on the hub.", "Correct the revision, or leave it empty."),
                errors.RepositoryNotFoundError: ("isn't on the hub, or is private.", correct),
                errors.HFValidationError: ("has no name of the hub's.", "Write owner/name as its source."),
                errors.LocalEntryNotFoundError: offline,
                ConnectionError: offline,
            }
            for kind, (text, remedy) in known.items():
                if any(isinstance(one, kind) for one in chain):
                    raise ItemError(item, f"The {what} {text}", remedy) from raised
            raise


def hub_cache_folder(home: str | os.PathLike[str] | None) -> Path | None:
    """Folder of hub downloads under a Hugging Face home, as the hub library lays it out (``<home>/hub``).

    ``HF_HUB_CACHE`` in the environment wins, as it does in the library.
    """
    if not home or os.environ.get("HF_HUB_CACHE"):
        return None
    return Path(home).expanduser() / "hub"


GB = 1e9
#: Speed of a common connection, for the hours that are announced.
MEGABIT_PER_SECOND = 100.0


#: What becomes of a model in a plan: it is on this machine, will be downloaded, or neither.
HERE, FETCHED, LEFT_OUT = "here", "fetched", "left out"


def plan_fetch(
    rows: Sequence[ManifestRow], here: Collection[str], weights: Mapping[str, float], max_gb: float, online: bool = True
) -> pd.DataFrame:
    """Which models are downloaded: those of most weight, of equal ones the smaller, until the limit is reached.

    A model that doesn't fit any more is passed over for smaller ones behind it. Under a limit, a model of unknown size
    is left out.

    Args:
        rows: The models; ``bytes`` of their rows are read.
        here: Models on this machine.
        weights: How much each matters, 0 where absent.
        max_gb: Gigabytes (10^9 bytes) that may be downloaded, infinite for no limit.
        online: Whether anything can be downloaded at all.

    Returns:
        By model, in the order of the rows: ``bytes``, NaN where unknown, and ``fate``, one of :data:`HERE`,
        :data:`FETCHED` and :data:`LEFT_OUT`.
    """
    told = pd.Series({row.model_id: (row.model_extra or {}).get("bytes") for row in rows}, dtype=object)
    plan = pd.DataFrame({"bytes": pd.to_numeric(told, errors="coerce"), "fate": LEFT_OUT})
    plan.loc[plan.index.isin(here), "fate"] = HERE
    free = max_gb * GB if online else 0.0
    unknown = 0.0 if online and max_gb == float("inf") else float("inf")
    sizes = plan.loc[plan["fate"] == LEFT_OUT, "bytes"].fillna(unknown)
    for model in sorted(sizes.index, key=lambda name: (-weights.get(name, 0.0), sizes[name])):
        if sizes[model] <= free:
            plan.loc[model, "fate"] = FETCHED
            free -= sizes[model]
    return plan


def models_here(rows: Sequence[ManifestRow], cache: Path | None) -> set[str]:
    """The models that need no download: those of folders, there or not, and those whose weights are in the hub cache.

    Args:
        rows: The models.
        cache: Folder of hub downloads; None for the hub library's own.
    """
    return {row.model_id for row in rows if row.hub_id is None or in_cache(row.hub_id, row.revision, cache)}


def left_out_failure(model_id: str, online: bool) -> Failure:
    """Why a model was left out, and what to do about it."""
    if online:
        hint = "Raise hub.fetch.max_gb, or fill the hub cache (HF_HOME)."
        return Failure(model_id, "It isn't in the hub cache, and what may be fetched leaves it out.", hint)
    return Failure(model_id, "It isn't in the hub cache and this machine is offline.", CONNECT)


def announcement(plan: pd.DataFrame, datasets: Sequence[str], encoder: str, online: bool) -> str:
    """What a run is about to fetch, or would if it were allowed to, in one paragraph.

    Args:
        plan: The models, as :func:`plan_fetch` has them.
        datasets: Datasets outside the cache that will be fetched.
        encoder: The image encoder if it must be fetched, else empty.
        online: Whether anything can be downloaded.
    """
    count = plan["fate"].value_counts().reindex([HERE, FETCHED, LEFT_OUT], fill_value=0)
    missing = plan.loc[plan["fate"] == (FETCHED if online else LEFT_OUT), "bytes"]
    size = missing.sum() / GB
    hours = size * 8e3 / MEGABIT_PER_SECOND / 3600
    parts = [f"{len(missing)} models ({size:.1f} GB, {hours:.1f} hours at {MEGABIT_PER_SECOND:.0f} Mbit/s)"]
    if unknown := missing.isna().sum():
        parts.append(f"{unknown} of them of unknown size")
    if datasets:
        parts.append(f"{len(datasets)} datasets (sizes aren't known beforehand)")
    if encoder:
        parts.append(f"the image encoder {encoder}")
    head = "To be fetched" if online else "This machine is offline, and does without"
    left = f"; {count[LEFT_OUT]} are left out" if online and count[LEFT_OUT] else ""
    return f"{head}: {', '.join(parts)}. {count[HERE]} models are on this machine{left}."
