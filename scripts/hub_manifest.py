"""Complete the manifest of the hub zoo and write its alias table.

Run it after adding a line to ``data/01_raw/hub/model_manifest.csv``: ``model_id`` and ``loader`` are enough where timm
or open_clip know the name. Rows keep their place and what they say; empty cells are filled from the libraries, and the
counts from ``architecture_counts.parquet``. Nothing is downloaded.

    python scripts/hub_manifest.py
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import measure_hub
import pandas as pd
from untrained import architecture_key, image_text_bytes

from thesis_rec.base.files import atomic_path
from thesis_rec.models.model_manifest import ManifestRow

HUB = Path(__file__).parents[1] / "data/01_raw/hub"

COLUMNS = [
    "model_id", "loader", "source", "revision", "family", "pretraining", "licence", "extractor", "architecture",
    "input_size", "parameters", "macs", "activations", "bytes", "bytes_basis", "reference",
]  # fmt: skip

#: Families that this project names by the architecture rather than by timm's module.
FAMILIES = {
    "vision_transformer": "vit",
    "swin_transformer": "swin",
    "swin_transformer_v2": "swin",
    "swin_transformer_v2_cr": "swin",
}

#: timm's names of open_clip's image towers and tags, for the licence of the same weights.
TOWERS = {
    "ViT-B-32": "vit_base_patch32_clip_224", "ViT-B-32-256": "vit_base_patch32_clip_256",
    "ViT-B-16": "vit_base_patch16_clip_224", "ViT-B-16-plus-240": "vit_base_patch16_plus_clip_240",
    "ViT-L-14": "vit_large_patch14_clip_224", "ViT-L-14-336": "vit_large_patch14_clip_336",
    "ViT-H-14": "vit_huge_patch14_clip_224", "ViT-H-14-378": "vit_huge_patch14_clip_378",
    "ViT-g-14": "vit_giant_patch14_clip_224", "ViT-bigG-14": "vit_gigantic_patch14_clip_224",
    "EVA01-g-14": "eva_giant_patch14_clip_224", "EVA01-g-14-plus": "eva_giant_patch14_clip_224",
    "EVA02-B-16": "eva02_base_patch16_clip_224", "EVA02-L-14": "eva02_large_patch14_clip_224",
    "EVA02-L-14-336": "eva02_large_patch14_clip_336", "EVA02-E-14": "eva02_enormous_patch14_clip_224",
    "EVA02-E-14-plus": "eva02_enormous_patch14_clip_224",
    "RN50": "resnet50_clip", "RN101": "resnet101_clip", "RN50x4": "resnet50x4_clip", "RN50x16": "resnet50x16_clip",
    "RN50x64": "resnet50x64_clip",
    "ViT-B-16-SigLIP": "vit_base_patch16_siglip_224", "ViT-B-16-SigLIP-256": "vit_base_patch16_siglip_256",
    "ViT-B-16-SigLIP-384": "vit_base_patch16_siglip_384", "ViT-B-16-SigLIP-512": "vit_base_patch16_siglip_512",
    "ViT-B-16-SigLIP-i18n-256": "vit_base_patch16_siglip_256",
    "ViT-L-16-SigLIP-256": "vit_large_patch16_siglip_256", "ViT-L-16-SigLIP-384": "vit_large_patch16_siglip_384",
    "ViT-SO400M-14-SigLIP": "vit_so400m_patch14_siglip_224",
    "ViT-SO400M-14-SigLIP-384": "vit_so400m_patch14_siglip_384",
    "convnext_base": "convnext_base", "convnext_base_w": "convnext_base", "convnext_base_w_320": "convnext_base",
    "convnext_large_d": "convnext_large_mlp", "convnext_large_d_320": "convnext_large_mlp",
    "convnext_xxlarge": "convnext_xxlarge", "MobileCLIP-S1": "fastvit_mci1",
}  # fmt: skip
TAGS = {
    "openai": "openai", "yfcc15m": "yfcc15m", "cc12m": "cc12m", "laion400m_e32": "laion400m_e32",
    "laion2b_s34b_b79k": "laion2b", "laion2b_s34b_b88k": "laion2b", "laion2b_s32b_b82k": "laion2b",
    "laion2b_s32b_b79k": "laion2b", "laion2b_s39b_b160k": "laion2b", "datacomp_xl_s13b_b90k": "datacompxl",
    "datacomp_s34b_b86k": "datacompxl", "dfn2b": "dfn2b", "dfn5b": "dfn5b", "metaclip_400m": "metaclip_400m",
    "metaclip_fullcc": "metaclip_2pt5b", "merged2b_s8b_b131k": "merged2b", "merged2b_s4b_b131k": "merged2b",
    "merged2b_s6b_b61k": "merged2b", "merged2b_s11b_b114k": "merged2b", "laion400m_s11b_b41k": "laion400m",
    "laion2b_s4b_b115k": "laion2b", "laion2b_s9b_b144k": "laion2b_plus", "webli": "webli",
    "laion2b_s13b_b82k": "clip_laion2b", "laion2b_s13b_b82k_augreg": "clip_laion2b_augreg",
    "laion_aesthetic_s13b_b82k": "clip_laiona", "laion_aesthetic_s13b_b82k_augreg": "clip_laiona_augreg",
    "laion2b_s26b_b102k_augreg": "clip_laion2b_augreg", "laion2b_s29b_b131k_ft": "clip_laion2b_ft_320",
    "laion2b_s29b_b131k_ft_soup": "clip_laion2b_ft_soup_320",
    "laion2b_s34b_b82k_augreg_soup": "clip_laion2b_soup", "laion2b_s34b_b82k_augreg_rewind": "clip_laion2b_rewind",
    "datacompdr": "apple_mclip",
}  # fmt: skip
#: Tags that differ from the rule.
TWINS = {
    ("ViT-B-16-SigLIP-i18n-256", "webli"): "vit_base_patch16_siglip_256.webli_i18n",
    ("convnext_base_w_320", "laion_aesthetic_s13b_b82k"): "convnext_base.clip_laiona_320",
    ("convnext_base_w_320", "laion_aesthetic_s13b_b82k_augreg"): "convnext_base.clip_laiona_augreg_320",
    # The second checkpoint of ViT-g-14 is the one that timm has.
    ("ViT-g-14", "laion2b_s34b_b88k"): "vit_giant_patch14_clip_224.laion2b",
}

#: Licences by the beginning of a hub repository's name, as the cards of its models give them: those of the files that
#: are downloaded, which timm's copies of the same weights needn't share.
CARDS = {
    "laion/": "mit", "UCSC-VLAA/": "apache-2.0", "google/vit-": "apache-2.0", "visheratin/nllb-clip": "cc-by-nc-4.0",
    "Salesforce/blip-": "bsd-3-clause",
}  # fmt: skip

#: MIEB's names of models whose weights open_clip publishes.
MIEB = {
    "QuanSun/EVA02-CLIP-B-16": "EVA02-B-16.merged2b_s8b_b131k",
    "QuanSun/EVA02-CLIP-L-14": "EVA02-L-14.merged2b_s4b_b131k",
    "QuanSun/EVA02-CLIP-bigE-14": "EVA02-E-14.laion2b_s4b_b115k",
    "QuanSun/EVA02-CLIP-bigE-14-plus": "EVA02-E-14-plus.laion2b_s9b_b144k",
    "openai/clip-vit-base-patch32": "ViT-B-32.openai",
    "openai/clip-vit-base-patch16": "ViT-B-16.openai",
    "openai/clip-vit-large-patch14": "ViT-L-14.openai",
    "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": "ViT-bigG-14.laion2b_s39b_b160k",
    "google/siglip-base-patch16-224": "ViT-B-16-SigLIP.webli",
    "google/siglip-base-patch16-256": "ViT-B-16-SigLIP-256.webli",
    "google/siglip-base-patch16-256-multilingual": "ViT-B-16-SigLIP-i18n-256.webli",
    "google/siglip-base-patch16-384": "ViT-B-16-SigLIP-384.webli",
    "google/siglip-base-patch16-512": "ViT-B-16-SigLIP-512.webli",
    "google/siglip-large-patch16-256": "ViT-L-16-SigLIP-256.webli",
    "google/siglip-large-patch16-384": "ViT-L-16-SigLIP-384.webli",
    "google/siglip-so400m-patch14-224": "ViT-SO400M-14-SigLIP.webli",
    "google/siglip-so400m-patch14-384": "ViT-SO400M-14-SigLIP-384.webli",
}

#: Networks of transformers whose weights timm publishes as well.
TRANSFORMERS = {
    "facebook/dinov2-small": "vit_small_patch14_dinov2.lvd142m",
    "facebook/dinov2-base": "vit_base_patch14_dinov2.lvd142m",
    "facebook/dinov2-large": "vit_large_patch14_dinov2.lvd142m",
    "facebook/dinov2-giant": "vit_giant_patch14_dinov2.lvd142m",
    "google/vit-base-patch16-224": "vit_base_patch16_224.orig_in21k_ft_in1k",
    "google/vit-base-patch16-384": "vit_base_patch16_384.orig_in21k_ft_in1k",
    "google/vit-large-patch32-384": "vit_large_patch32_384.orig_in21k_ft_in1k",
    "facebook/convnext-tiny-224": "convnext_tiny.fb_in1k",
    "facebook/convnext-small-224": "convnext_small.fb_in1k",
    "facebook/convnext-base-224": "convnext_base.fb_in1k",
    "facebook/convnext-large-224": "convnext_large.fb_in1k",
    "facebook/convnext-base-224-22k": "convnext_base.fb_in22k",
    "facebook/convnext-large-224-22k": "convnext_large.fb_in22k",
    "facebook/convnext-xlarge-224-22k": "convnext_xlarge.fb_in22k",
    "facebook/convnext-base-224-22k-1k": "convnext_base.fb_in22k_ft_in1k",
    "facebook/convnext-large-224-22k-1k": "convnext_large.fb_in22k_ft_in1k",
    "facebook/convnext-xlarge-224-22k-1k": "convnext_xlarge.fb_in22k_ft_in1k",
    "facebook/convnext-base-384-22k-1k": "convnext_base.fb_in22k_ft_in1k_384",
    "facebook/convnext-large-384-22k-1k": "convnext_large.fb_in22k_ft_in1k_384",
    "facebook/deit-tiny-patch16-224": "deit_tiny_patch16_224.fb_in1k",
    "facebook/deit-small-patch16-224": "deit_small_patch16_224.fb_in1k",
    "facebook/deit-base-patch16-224": "deit_base_patch16_224.fb_in1k",
    "facebook/deit-base-patch16-384": "deit_base_patch16_384.fb_in1k",
    "facebook/deit-tiny-distilled-patch16-224": "deit_tiny_distilled_patch16_224.fb_in1k",
    "facebook/deit-small-distilled-patch16-224": "deit_small_distilled_patch16_224.fb_in1k",
    "facebook/deit-base-distilled-patch16-224": "deit_base_distilled_patch16_224.fb_in1k",
    "facebook/deit-base-distilled-patch16-384": "deit_base_distilled_patch16_384.fb_in1k",
    "microsoft/beit-base-patch16-224": "beit_base_patch16_224.in22k_ft_in22k_in1k",
    "microsoft/beit-base-patch16-224-pt22k-ft22k": "beit_base_patch16_224.in22k_ft_in22k",
    "microsoft/beit-base-patch16-384": "beit_base_patch16_384.in22k_ft_in22k_in1k",
    "microsoft/beit-large-patch16-224": "beit_large_patch16_224.in22k_ft_in22k_in1k",
    "microsoft/beit-large-patch16-224-pt22k-ft22k": "beit_large_patch16_224.in22k_ft_in22k",
    "microsoft/beit-large-patch16-384": "beit_large_patch16_384.in22k_ft_in22k_in1k",
    "microsoft/swin-tiny-patch4-window7-224": "swin_tiny_patch4_window7_224.ms_in1k",
    "microsoft/swin-small-patch4-window7-224": "swin_small_patch4_window7_224.ms_in1k",
    "microsoft/swin-base-patch4-window7-224": "swin_base_patch4_window7_224.ms_in1k",
    "microsoft/swin-base-patch4-window7-224-in22k": "swin_base_patch4_window7_224.ms_in22k",
    "microsoft/swin-base-patch4-window12-384": "swin_base_patch4_window12_384.ms_in1k",
    "microsoft/swin-base-patch4-window12-384-in22k": "swin_base_patch4_window12_384.ms_in22k",
    "microsoft/swin-large-patch4-window7-224": "swin_large_patch4_window7_224.ms_in22k_ft_in1k",
    "microsoft/swin-large-patch4-window7-224-in22k": "swin_large_patch4_window7_224.ms_in22k",
    "microsoft/swin-large-patch4-window12-384": "swin_large_patch4_window12_384.ms_in22k_ft_in1k",
    "microsoft/swin-large-patch4-window12-384-in22k": "swin_large_patch4_window12_384.ms_in22k",
}

#: The torchvision checkpoints of Model Spider's table that timm publishes; the other three are in no hub library.
MODEL_SPIDER = ("densenet121", "densenet169", "densenet201", "inception_v3", "resnet50", "resnet101", "resnet152")

#: Checkpoints that two of open_clip's names share: the other name runs the same weights through another activation.
#: OpenAI's are run as they were trained under either name.
SHARED = {
    ("RN50-quickgelu", "openai"): "RN50.openai",
    ("RN101-quickgelu", "openai"): "RN101.openai",
    ("ViT-B-32-quickgelu", "openai"): "ViT-B-32.openai",
}


def main() -> None:
    """Fill the manifest and write the alias table."""
    manifest = pd.read_csv(HUB / "model_manifest.csv", dtype=str).fillna("")
    file = HUB / "architecture_counts.parquet"
    counts = pd.read_parquet(file).set_index("architecture") if file.is_file() else pd.DataFrame()
    first: dict[str, dict[str, Any]] = {}
    rows = [_completed(row, counts, first) for row in manifest.to_dict(orient="records")]
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object).fillna("")
    with atomic_path(HUB / "model_manifest.csv") as path:
        table.to_csv(path, index=False)
    aliases = pd.DataFrame(_aliases(table), columns=["model_id", "source", "name", "pretrained"])
    with atomic_path(HUB / "model_aliases.csv") as path:
        aliases.to_csv(path, index=False)
    logging.getLogger(__name__).info("%d models, %d aliases", len(table), len(aliases))


def _completed(row: dict[str, Any], counts: pd.DataFrame, first: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A row with everything that the libraries tell in its empty cells; ``first`` row of each architecture so far."""
    known = _library_facts(row)
    row = {**known, **{name: value for name, value in row.items() if value}}
    repository = row["source"].removeprefix("hf-hub:")
    card = next((licence for start, licence in CARDS.items() if repository.startswith(start)), "")
    if card:
        row["licence"] = card
        page = f"; licence: https://huggingface.co/{repository}"
        row["reference"] = row["reference"].removesuffix(page) + page
    elif row.get("licence", "unknown") == "unknown":
        row["licence"] = known.get("licence") or "unknown"
    parsed = ManifestRow.model_validate({name: row[name] for name in ("model_id", "loader", "source", "family")})
    row["architecture"] = architecture_key(parsed)
    first.setdefault(row["architecture"], row)
    found = counts.loc[row["architecture"]] if row["architecture"] in counts.index else _counted(parsed)
    if len(found):
        row |= {name: str(int(found[name])) for name in ("input_size", "macs", "activations")}
        # The network was counted with the classifier of its first checkpoint.
        extra = (_classes(row) - _classes(first[row["architecture"]])) * (int(found["n_features"]) + 1)
        row["parameters"] = str(int(found["n_parameters"]) + extra)
        # Four bytes for each weight and buffer of the file, the text half of an image-text model included.
        size = int(found["file_bytes"]) + 4 * extra if found["file_bytes"] else image_text_bytes(parsed)
        row["bytes"], row["bytes_basis"] = (str(size), "counts") if size else ("", "")
    return row


def _counted(row: ManifestRow) -> pd.Series:
    """Counts of one of the few networks of the ``detectors`` package; empty for any other row."""
    return pd.Series(measure_hub._count(row, None) if row.loader == "detector_pack" else {})


def _library_facts(row: dict[str, Any]) -> dict[str, str]:
    """What timm and open_clip say of a checkpoint, and the licence of the same weights in timm."""
    import timm
    from open_clip.pretrained import get_pretrained_cfg

    model_id, loader = row["model_id"], row["loader"]
    if loader == "timm" and model_id.startswith("timm/"):
        name = model_id.removeprefix("timm/")
        found = timm.models.get_pretrained_cfg(name)
        module = timm.models._registry._model_to_module[found.architecture]
        return {
            "source": f"hf-hub:{found.hf_hub_id}",
            "family": FAMILIES.get(module, module),
            "pretraining": found.tag,
            "licence": found.license or "unknown",
            "extractor": "timm",
            "reference": f"timm {timm.__version__}: pretrained_cfg of {name}",
        }
    twin = ""
    facts: dict[str, str] = {}
    if loader == "open_clip":
        import open_clip

        name, _, tag = model_id.removeprefix("open_clip/").partition(".")
        facts = {
            "source": f"hf-hub:{get_pretrained_cfg(name, tag)['hf_hub'].rstrip('/')}",
            "family": _open_clip_family(name),
            "pretraining": tag,
            "extractor": "open_clip",
            "reference": f"open_clip {open_clip.__version__}: pretrained {name} {tag}",
        }
        plain = name.removesuffix("-quickgelu")
        twin = TWINS.get((name, tag)) or f"{TOWERS.get(plain, '')}.{TAGS.get(tag, '')}"
    elif model_id in TRANSFORMERS:
        twin = TRANSFORMERS[model_id]
    if twin in _timm_checkpoints():
        facts["licence"] = timm.models.get_pretrained_cfg(twin).license or "unknown"
    return facts


def _classes(row: dict[str, Any]) -> int:
    """Classes of a timm network's classifier; 0 where the row's own classes aren't told."""
    import timm

    if row["loader"] == "detector_pack":
        return 100 if row["pretraining"] == "cifar100" else 10
    if not row["model_id"].startswith("timm/"):
        return 0
    return int(timm.models.get_pretrained_cfg(row["model_id"].removeprefix("timm/")).num_classes)


@cache
def _timm_checkpoints() -> frozenset[str]:
    import timm

    return frozenset(timm.list_pretrained())


def _open_clip_family(name: str) -> str:
    beginnings = {
        "RN": "clip_resnet", "convnext": "clip_convnext", "coca": "coca", "EVA": "eva", "MobileCLIP": "mobileclip",
        "nllb-clip": "clip_vit", "xlm": "clip_vit", "roberta": "clip_vit",
    }  # fmt: skip
    if "SigLIP" in name:
        return "siglip"
    return next((family for start, family in beginnings.items() if name.startswith(start)), "clip_vit")


def _aliases(table: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Names of each model in its library and in the published tables: (model_id, source, name, pretrained)."""
    ids = set(table["model_id"])
    found: list[tuple[str, str, str, str]] = []

    def add(model_id: str, source: str, name: str, pretrained: str = "") -> None:
        if model_id in ids:
            found.append((model_id, source, name, pretrained))

    canonical = {model_id: model_id for model_id in ids}
    # The same weights twice in the manifest: an image-text model is open_clip's (both halves, as the tables measured
    # it), DINOv2 that of transformers (224 pixels, as MIEB measured it), a classifier timm's where it has a row.
    for name, twin in TRANSFORMERS.items():
        one, other = (name, f"timm/{twin}") if "dinov2" in name else (f"timm/{twin}", name)
        if one in ids and other in ids:
            canonical[other] = one
    for name, clip in MIEB.items():
        if name in ids and f"open_clip/{clip}" in ids:
            canonical[name] = f"open_clip/{clip}"
    for model_id in sorted(ids):
        if model_id.startswith("open_clip/"):
            name, _, tag = model_id.removeprefix("open_clip/").partition(".")
            twin = TWINS.get((name, tag)) or f"{TOWERS.get(name.removesuffix('-quickgelu'), '')}.{TAGS.get(tag, '')}"
            if f"timm/{twin}" in ids:
                canonical[f"timm/{twin}"] = model_id
    rows = table.set_index("model_id")
    for model_id in sorted(ids):
        target, loader = canonical[model_id], str(rows.loc[model_id, "loader"])
        if loader == "open_clip":
            name, _, tag = model_id.removeprefix("open_clip/").partition(".")
            add(target, "open_clip", name, tag)
            add(target, "clip_benchmark", name, tag)
            hub = str(rows.loc[model_id, "source"]).removeprefix("hf-hub:")
            if hub.startswith("laion/"):
                add(target, "mieb", hub)
        else:
            add(target, loader, model_id.removeprefix("timm/"))
    for (name, tag), clip in SHARED.items():
        add(f"open_clip/{clip}", "open_clip", name, tag)
        add(f"open_clip/{clip}", "clip_benchmark", name, tag)
    # CLIP_benchmark's probes name the tower without its activation.
    add("open_clip/ViT-B-32-quickgelu.laion400m_e32", "clip_benchmark", "ViT-B-32", "laion400m_e32")
    for name, clip in MIEB.items():
        add(f"open_clip/{clip}", "mieb", name)
    for name, twin in TRANSFORMERS.items():
        target = canonical.get(name) or canonical.get(f"timm/{twin}") or ""
        add(target, "timm", twin)
        add(target, "transformers", name)
    for model_id in sorted(ids):
        if "MIEB" in str(rows.loc[model_id, "reference"]) or model_id.startswith("facebook/dinov2"):
            add(canonical[model_id], "mieb", model_id)
    for name in MODEL_SPIDER:
        add(f"timm/{name}.tv_in1k", "model_spider", name)
    return sorted(set(found))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
