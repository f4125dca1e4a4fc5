from __future__ import annotations

from io import StringIO

import pandas as pd
import pytest

from thesis_rec.base.errors import ItemError
from thesis_rec.hardware.imports import import_timm_benchmark
from thesis_rec.hardware.profiling import COLUMNS

# The first lines as published (timm's results folder, benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv).
HEADER = "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs,"
PUBLISHED = f"""{HEADER}infer_macts
test_vit,160,707.29,1.405,1,0.37,0.04,0.48
resnet18,160,218.15,4.568,1,11.69,0.93,1.27
resnet18,224,126.23,7.907,1,11.69,1.82,2.48
mobilenetv3_large_150d,224,92.84,10.756,1,14.62,,
"""
NAME = "results/benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv"


def test_published_rows_become_profiles():
    rows = import_timm_benchmark(pd.read_csv(StringIO(PUBLISHED)), NAME)
    assert list(rows.columns) == COLUMNS
    assert rows["model_id"].tolist() == ["test_vit", "resnet18@160", "resnet18@224", "mobilenetv3_large_150d"]
    assert rows["device"].unique().tolist() == ["cpu_i9-10940x_torch2.4_compiled_nchw"]
    row = rows.iloc[2]
    assert (row["precision"], row["batch_size"], row["latency_ms_p50"]) == ("fp32", 1, 7.907)
    assert row["n_parameters"] == pytest.approx(11.69e6)
    assert row["macs"] == pytest.approx(1.82e9)
    assert row["activation_mb"] == pytest.approx(2.48e6 * 4 / 2**20)
    assert row["source"] == "timm:benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv"
    assert rows["macs"].isna().tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("name", "device", "precision"),
    [
        ("benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv", "cuda_rtx3090_torch2.4_nhwc", "fp16"),
        ("benchmark-infer-amp-nchw-pt113-cu117-rtx3090.csv", "cuda_rtx3090_torch1.13_nchw", "fp16"),
        ("benchmark-infer-bf16-nchw-pt291-cu130-pro6000maxq-dynamo.csv",
         "cuda_pro6000maxq_torch2.9_compiled_nchw", "bf16"),
    ],
)  # fmt: skip
def test_names_tell_device_and_precision(name, device, precision):
    rows = import_timm_benchmark(pd.read_csv(StringIO(PUBLISHED)), name)
    assert (rows["device"].iloc[0], rows["precision"].iloc[0]) == (device, precision)


def test_other_tables_are_refused_with_a_remedy():
    table = pd.read_csv(StringIO(PUBLISHED))
    with pytest.raises(ItemError, match="infer_step_time"):
        import_timm_benchmark(table.drop(columns="infer_step_time"), NAME)
    with pytest.raises(ItemError, match="Give device and precision"):
        import_timm_benchmark(table, "mine.csv")
    slim = import_timm_benchmark(table.drop(columns="infer_gmacs"), "mine.csv", device="x", precision="fp16")
    assert slim["macs"].isna().all()
    assert slim["device"].eq("x").all()
