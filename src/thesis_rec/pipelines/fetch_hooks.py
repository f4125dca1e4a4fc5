"""Before a run: what it will download, in one paragraph, and a stop where nothing of it is allowed."""

import logging
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline

from thesis_rec.base.errors import ConfigurationError

logger = logging.getLogger(__name__)


class FetchHooks:
    """Announces downloads of models, datasets and the image encoder from the Hugging Face hub."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: Any) -> None:
        """Say what will be fetched.

        Raises:
            ConfigurationError: If something must be fetched and ``hub.fetch`` allows nothing.
        """
        names = {node.name for node in pipeline.nodes}
        if not names & {"extract_vectors_node", "encode_datasets_node"}:
            return
        from thesis_rec.models import model_sources as hub
        from thesis_rec.pipelines.dataset_features.nodes import DatasetFeaturesParameters, outside_the_cache
        from thesis_rec.pipelines.model_extraction.nodes import ModelExtractionParameters, fetch_plan

        models = ModelExtractionParameters.model_validate(catalog.load("params:model_extraction"))
        features = DatasetFeaturesParameters.model_validate(catalog.load("params:dataset_features"))
        extracts, encodes = (f"{name}_node" in names for name in ("extract_vectors", "encode_datasets"))
        plan = fetch_plan(catalog.load("model_manifest"), models) if extracts else hub.plan_fetch([], (), {}, 0)
        datasets = outside_the_cache(catalog.load("dataset_manifest"), features) if encodes else []
        # Encoders are loaded from the library's own cache.
        source, name = features.encoder.source, features.encoder.source.removeprefix("hf-hub:")
        encoder = source if encodes and name != source and not hub.in_cache(name) else ""
        if plan["fate"].eq(hub.HERE).all() and not datasets and not encoder:
            return
        online = hub.hub_is_reachable()
        allowed = models.fetch_gb > 0 or features.fetch
        if online and not allowed:
            whole = plan.replace({"fate": {hub.LEFT_OUT: hub.FETCHED}})
            raise ConfigurationError(
                f"{hub.announcement(whole, datasets, encoder, online)} Nothing of it is allowed: give "
                "--params=hub.fetch.max_gb=20,hub.fetch.datasets=true, or set HF_HUB_OFFLINE=1 to use what is here."
            )
        fetched = datasets if features.fetch or not online else []
        logger.info("%s", hub.announcement(plan, fetched, encoder, online))
