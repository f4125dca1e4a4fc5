"""What every model costs on the present device: latency, throughput, memory."""

from thesis_rec.pipelines.hardware_profiling.pipeline import create_pipeline

__all__ = ["create_pipeline"]
