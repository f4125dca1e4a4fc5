"""Checkpoints of every format give the same tensors; damaged and malicious ones are refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.models.states import KEPT, parameter_vector, save_sharded, small_state
from thesis_rec.base.errors import ItemError
from thesis_rec.models import checkpoint_reader as module
from thesis_rec.models.checkpoint_reader import left_out, open_network, read_state
from thesis_rec.models.model_extraction import weights_hash
from thesis_rec.models.weight_files import find_weights


def stored(kind: str, folder: Path) -> Path:
    state = small_state()
    folder.mkdir(exist_ok=True)
    if kind == "safetensors":
        save_file(state, folder / "model.safetensors")
        return folder
    if kind == "sharded safetensors":
        return save_sharded(state, folder)
    if kind == "sharded bin":
        return save_sharded(state, folder, torch_format=True)
    path = folder / "checkpoint.pth"
    if kind == "pth":
        torch.save(state, path)
    elif kind == "legacy pth":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "training checkpoint":
        optimizer = {"state": {0: {"momentum": torch.ones(3)}}}
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"epoch": 3, "state_dict": wrapped, "optimizer": optimizer}, path)
    elif kind == "nested twice":
        torch.save({"model": {"state_dict": state}}, path)
    elif kind == "compiled":
        torch.save({f"_orig_mod.{name}": tensor for name, tensor in state.items()}, path)
    elif kind == "not contiguous":
        state["fc.weight"] = state["fc.weight"].t().contiguous().t()
        torch.save(state, path)
    return path


KINDS = (
    "safetensors", "sharded safetensors", "sharded bin", "pth", "legacy pth", "training checkpoint",
    "nested twice", "compiled", "not contiguous",
)  # fmt: skip


@pytest.fixture(scope="module")
def reference():
    reader = read_state(small_state(), "reference")
    return weights_hash(reader), parameter_vector(reader)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_weights_give_the_same_vector_and_hash(kind, tmp_path, reference):
    reader = open_network(stored(kind, tmp_path / "m"), "m")
    assert {tensor.name for tensor in reader.tensors} == set(KEPT)
    state = small_state()
    for tensor in reader.tensors:
        np.testing.assert_array_equal(tensor.values(), state[tensor.name].numpy().ravel())
    assert reader.n_parameters == sum(state[name].numel() for name in KEPT) - 8  # without the running mean
    assert reader.n_bytes > 4 * reader.n_parameters
    assert weights_hash(reader) == reference[0]
    np.testing.assert_array_equal(parameter_vector(reader), reference[1])


def test_a_changed_weight_name_or_shape_changes_the_hash(reference):
    base = small_state()
    changed = {**base, "fc.bias": base["fc.bias"] + 1e-6}
    renamed = {("gc.bias" if name == "fc.bias" else name): tensor for name, tensor in base.items()}
    reshaped = {**base, "fc.weight": base["fc.weight"].reshape(32, 10)}
    hashes = {weights_hash(read_state(state, "m")) for state in (base, changed, renamed, reshaped)}
    assert len(hashes) == 4
    assert reference[0] in hashes


@pytest.mark.parametrize(
    ("dtype", "relative"),
    [(torch.float64, 1e-7), (torch.float16, 2**-10), (torch.bfloat16, 2**-7), (torch.float8_e5m2, 2**-2)],
)
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_other_precisions_differ_within_their_precision(dtype, relative, ending, tmp_path, reference):
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in small_state().items()}
    path = tmp_path / f"model.{ending}"
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    vector = parameter_vector(open_network(path, "m"))
    # Rounding moves values across the borders of clusters, hence not every centre is as close as the values are.
    assert np.linalg.norm(vector - reference[1]) <= 10 * relative * np.linalg.norm(reference[1])
    assert weights_hash(open_network(path, "m")) != reference[0]


def test_large_tensors_are_mapped_not_copied(tmp_path):
    values = torch.randn(300_000)
    save_file({"w": values, "b": torch.randn(3)}, tmp_path / "model.safetensors")
    reader = open_network(tmp_path, "m")
    array = (reader.tensors[-1] if reader.tensors[-1].size > 3 else reader.tensors[0]).values()
    maps = Path("/proc/self/maps")
    assert str(tmp_path) in maps.read_text()
    np.testing.assert_array_equal(array, values.numpy())
    del array
    assert str(tmp_path) not in maps.read_text()


def test_shared_weights_count_once_under_their_first_name():
    shared = torch.randn(4, 5)
    reader = read_state({"z.weight": shared, "a.weight": shared, "transposed": shared.t()}, "m")
    assert [tensor.name for tensor in reader.tensors] == ["a.weight", "transposed"]


def test_a_selection_reads_only_its_tensors():
    reader = read_state(small_state(), "m").select(lambda name: name.startswith("fc."))
    assert [tensor.name for tensor in reader.tensors] == ["fc.bias", "fc.weight"]
    assert reader.tensors[0].values().size == 10
    with pytest.raises(ItemError, match="no floating-point tensors"):
        reader.select(lambda name: False)


def test_a_folder_with_one_file_of_any_name_is_enough(tmp_path):
    torch.save(small_state(), tmp_path / "resnet20-12fca82f.th")
    assert len(open_network(tmp_path, "m").tensors) == len(KEPT)
    torch.save(small_state(), tmp_path / "other.th")
    with pytest.raises(ItemError, match="several weight files"):
        open_network(tmp_path, "m")


@pytest.mark.parametrize(
    ("name", "prepare", "message"),
    [
        ("missing.pth", lambda p: None, "doesn't exist"),
        ("empty", lambda p: p.mkdir(), "holds no weight file"),
        ("model.onnx", lambda p: p.write_bytes(b"x"), "not of the format"),
        ("a.pth", lambda p: torch.save([torch.ones(2)], p), "no state dict"),
        ("b.pth", lambda p: torch.save({"epoch": 3}, p), "no state dict"),
        ("c.pth", lambda p: torch.save({"n": torch.tensor(3)}, p), "no floating-point tensors"),
        ("d.pth", lambda p: p.write_bytes(b"PK\x03\x04 but no archive"), "truncated, damaged"),
        ("e.pkl", lambda p: p.write_bytes(bytes(range(1, 200))), "not of the format"),
        ("f.safetensors", lambda p: p.write_bytes(b"short"), "truncated"),
        ("g.pth", lambda p: torch.save({"s": torch.eye(3).to_sparse()}, p), "sparse"),
    ],
)
def test_unusable_files_are_named_with_a_remedy(name, prepare, message, tmp_path):
    path = tmp_path / name
    prepare(path)
    with pytest.raises(ItemError, match=message) as caught:
        open_network(path, "the model")
    assert caught.value.item == "the model"
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["safetensors", "pth", "legacy pth"])
def test_truncated_checkpoints_are_refused(kind, tmp_path):
    path = find_weights(stored(kind, tmp_path / "m"), "m")
    content = path.read_bytes()
    for share in (0.2, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ItemError, match=r"truncated|damaged"):
            open_network(path, "m")


def test_a_missing_shard_is_named(tmp_path):
    folder = save_sharded(small_state(), tmp_path / "m")
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ItemError, match="model-00002-of-00003"):
        open_network(folder, "m")


@pytest.mark.parametrize("torch_format", [False, True])
def test_tensors_that_an_index_lists_and_no_shard_holds_are_told(tmp_path, torch_format):
    """Vectors of a part of a model were made without a word."""
    tied = torch.rand(5, 5)
    state = small_state() | {"tied_a": tied, "tied_b": tied if torch_format else torch.rand(5, 5)}
    folder = save_sharded(state, tmp_path / "m", torch_format=torch_format, shards=1)
    assert not open_network(folder, "m").absent
    (index,) = folder.glob("*.index.json")
    content = json.loads(index.read_text())
    content["weight_map"] |= dict.fromkeys(("head.weight", "head.bias"), next(iter(content["weight_map"].values())))
    index.write_text(json.dumps(content))
    reader = open_network(folder, "m")
    told = "The index lists 2 tensors that no shard holds (head.bias, head.weight): tied, or lost."
    assert left_out(reader).endswith(told)
    assert not reader.select(lambda name: name.startswith("tied")).absent


def test_a_tensor_that_claims_more_than_it_holds_is_refused(tmp_path):
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, tmp_path / "model.pth")
    with pytest.raises(ItemError, match="1 tensors claim 4,398,046,511,104 bytes of the 4 that"):
        open_network(tmp_path, "m")


def header(content: dict[str, object], body: bytes, length: int | None = None) -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


@pytest.mark.parametrize(
    "content",
    [
        header({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, b"\0" * 8),
        header({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}, b"\0" * 8),
        header({"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}, b"\0" * 16),
        header({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8, length=1 << 40),
        header({"w": {"dtype": "F32", "shape": [1 << 62, 8], "data_offsets": [0, 8]}}, b"\0" * 8),
        header(
            {
                "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
            },
            b"\0" * 12,
        ),
    ],
    ids=["beyond the end", "shape against size", "gap", "length of header", "overflow", "overlap"],
)
def test_safetensors_headers_that_lie_are_refused(content, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ItemError, match="header doesn't fit"):
        open_network(path, "m")


def test_unknown_types_are_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(header({"w": {"dtype": "F8_E8M0", "shape": [8], "data_offsets": [0, 8]}}, b"\0" * 8))
    with pytest.raises(ItemError, match="F8_E8M0"):
        open_network(path, "m")


def test_real_checkpoints_are_read(shared_dir):
    files = sorted(file for file in (shared_dir / "data" / "checkpoints").iterdir() if file.suffix != ".md")
    sizes = {file.name: open_network(file, file.name).n_parameters for file in files}
    # Counted by their publisher.
    assert sizes["resnet20-12fca82f.th"] == 269_722
    assert sizes["dicenet_s_0.2_pascal_256x256.pth"] == 46_927
    vector = parameter_vector(open_network(files[0], "m"))
    assert np.isfinite(vector).all()


def test_names_that_become_one_are_refused():
    tensors = [module.TensorInfo("a", (2,), "F32", lambda: np.zeros(8, np.uint8))] * 2

    with pytest.raises(ItemError, match="several tensors of one name"):
        module.StateReader("m", tensors)
