"""Wiring of the pipeline similarity_training."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.similarity_training import nodes
from thesis_rec.pipelines.study import NODES


def create_pipeline() -> Pipeline:
    """From measured performance, embeddings and tokens to splits, knowledge and a trained ranker."""
    steps = [
        *NODES,
        step(
            nodes.clean_performance,
            "performance",
            inputs=["performance_records", "own_measurements", "params:similarity_training", "params:published"],
        ),
        step(nodes.assign_splits, "splits"),
        step(nodes.assemble_training_study, "training_study"),
        step(nodes.fit_knowledge, ["knowledge", "knowledge_of_known"]),
        step(nodes.train_ranker, ["similarity_checkpoint", "similarity_history"]),
        step(nodes.draw_similarity_losses, "similarity_loss_plots"),
    ]
    return Pipeline(steps)
