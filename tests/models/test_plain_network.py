"""What is no plain network is refused with what it is; what is, gives its own vector."""

from __future__ import annotations

import argparse
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from safetensors.torch import save_file

from tests.models.states import parameter_vector, small_state
from thesis_rec.base.errors import ItemError
from thesis_rec.models.checkpoint_reader import left_out, open_network, read_state

State = dict[str, torch.Tensor]


def floats(seed: int = 0) -> State:
    return {name: value for name, value in small_state(seed).items() if value.is_floating_point() and value.numel()}


def under(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def bitsandbytes(state: State) -> State:
    found = {}
    for name, value in state.items():
        if name.startswith("layer"):
            found[name] = (value * 30).to(torch.int8) if value.ndim > 1 else value
            found[name.replace("weight", "SCB")] = torch.ones(len(value))
        else:
            found[name] = value
    return found


def packed(state: State) -> State:
    """As GPTQ and AWQ keep a layer: eight numbers in one int32."""
    more = {"fc.qweight": torch.zeros(40, 32, dtype=torch.int32), "fc.scales": torch.ones(4, 32)}
    return {name: value for name, value in state.items() if name != "fc.weight"} | more


def eight_bit_floats(state: State) -> State:
    scaled = {"fc.weight": state["fc.weight"].to(torch.float8_e4m3fn), "fc.weight_scale_inv": torch.ones(1, 1)}
    return state | scaled


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("quantise", [bitsandbytes, packed, eight_bit_floats])
def test_quantised_weights_are_refused_with_their_share(
    quantise: Callable[[State], State], ending: str, tmp_path: Path
) -> None:
    save = save_file if ending == "safetensors" else torch.save
    save(quantise(floats()), tmp_path / f"model.{ending}")
    with pytest.raises(ItemError, match=r"\d+% of the values are quantised, and need scales .*\(") as caught:
        open_network(tmp_path, "the model")
    assert "dequantised" in caught.value.hint


def test_a_file_most_of_which_is_not_read_is_refused(tmp_path: Path) -> None:
    state = {"norm.weight": torch.ones(9), "filter.kernel": torch.ones(9, 9, dtype=torch.complex64)}
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(ItemError, match=r"90% of the values are of types that aren't read \(filter\.kernel"):
        open_network(tmp_path / "x.pt", "x")
    # Masks and indices may be larger than a small network.
    small = {"attn.weight": torch.ones(9), "attn.bias": torch.ones(9, 9).to(torch.uint8), "seen": torch.ones(99) > 0}
    torch.save(small, tmp_path / "x.pt")
    assert [tensor.name for tensor in open_network(tmp_path / "x.pt", "x").tensors] == ["attn.weight"]
    # A table of rotations beside weights is passed over.
    torch.save(state | {"linear.weight": torch.ones(99, 99)}, tmp_path / "x.pt")
    assert {tensor.name for tensor in open_network(tmp_path / "x.pt", "x").tensors} == {"norm.weight", "linear.weight"}


def test_eight_bit_floats_without_scales_are_plain(tmp_path: Path) -> None:
    save_file({name: value.to(torch.float8_e4m3fn) for name, value in floats().items()}, tmp_path / "model.safetensors")
    assert len(open_network(tmp_path, "m").tensors) == len(floats())


def test_adapters_are_refused_alone_and_unmerged(tmp_path: Path) -> None:
    lora = {f"base_model.model.fc.lora_{half}.weight": torch.randn(4, 4) for half in "AB"}
    save_file(lora, tmp_path / "adapter_model.safetensors")
    (tmp_path / "prompt").mkdir()
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "somebody/model"}))
    torch.save(lora, tmp_path / "alone.pth")
    torch.save(floats() | lora, tmp_path / "unmerged.pth")
    # A tuned prompt bears no name of an adapter, but its file does.
    save_file({"prompt_embeddings": torch.randn(20, 64)}, tmp_path / "prompt" / "adapter_model.safetensors")
    for path in (
        tmp_path / "adapter_model.safetensors",
        tmp_path / "alone.pth",
        tmp_path / "unmerged.pth",
        tmp_path / "prompt",
    ):
        with pytest.raises(ItemError, match="are an adapter") as caught:
            open_network(path, "m")
        assert "Merge it into its base model" in caught.value.hint


class TestSeveralNetworksInOneFile:
    """The trained network and its copy, as self-supervised training keeps them."""

    expected = parameter_vector(read_state(floats(0), "m"))

    def moco(self) -> State:
        halves = under("module.encoder_q.", floats(0)) | under("module.encoder_k.", floats(1))
        return halves | {"module.queue": torch.randn(16, 64)}

    @pytest.mark.parametrize("ending", ["safetensors", "pth"])
    def test_halves_are_named_and_each_can_be_chosen(self, ending: str, tmp_path: Path) -> None:
        file = tmp_path / f"model.{ending}"
        if ending == "safetensors":
            save_file(self.moco(), file)
        else:
            torch.save({"epoch": 3, "state_dict": self.moco()}, file)
        with pytest.raises(ItemError, match=r"a network twice, as encoder_[qk] and encoder_[qk]") as caught:
            open_network(file, "m")
        assert "column member" in caught.value.hint
        chosen = parameter_vector(open_network(file, "m", member="encoder_q"))
        np.testing.assert_array_equal(chosen, self.expected)
        with pytest.raises(ItemError, match="no network 'encoder_x'"):
            open_network(file, "m", member="encoder_x")

    def test_equal_halves_are_copies_whatever_they_are_called(self, tmp_path: Path) -> None:
        torch.save(under("left.", floats(0)) | under("right.", floats(1)), tmp_path / "m.pth")
        with pytest.raises(ItemError, match="a network twice, as left and right"):
            open_network(tmp_path, "m")

    def test_a_copy_may_lack_the_head_of_the_one_that_learns(self, tmp_path: Path) -> None:
        head = {"module.encoder_q.predictor.weight": torch.randn(40, 40)}
        torch.save({"state_dict": self.moco() | head}, tmp_path / "m.pth")
        with pytest.raises(ItemError, match=r"a network twice, as encoder_q and encoder_k"):
            open_network(tmp_path, "m")

    def test_networks_under_their_own_keys(self, tmp_path: Path) -> None:
        content = {
            "student": under("module.backbone.", floats(1)),
            "teacher": under("backbone.", floats(0)),
            "epoch": 7,
        }
        torch.save(content, tmp_path / "dino.pth")
        with pytest.raises(ItemError, match="holds several networks; it has student, teacher") as caught:
            open_network(tmp_path, "m")
        assert "student, teacher" in caught.value.hint
        with pytest.raises(ItemError, match="no network 'techer'"):
            open_network(tmp_path, "m", member="techer")
        chosen = parameter_vector(open_network(tmp_path, "m", member="teacher.backbone"))
        np.testing.assert_array_equal(chosen, self.expected)

    def test_a_single_network_under_an_unusual_key_is_read(self, tmp_path: Path) -> None:
        torch.save({"epoch": 1, "arch": "resnet18", "state_dict_ema": floats(0)}, tmp_path / "ema.pth")
        np.testing.assert_array_equal(parameter_vector(open_network(tmp_path, "m")), self.expected)

    def test_what_there_is_instead_of_a_state_dict_is_listed(self, tmp_path: Path) -> None:
        torch.save({"epoch": 1, "losses": [1.0]}, tmp_path / "log.pth")
        with pytest.raises(ItemError, match=r"no state dict .* but epoch, losses"):
            open_network(tmp_path, "m")

    def test_blocks_and_towers_of_one_network_are_no_copies(self, tmp_path: Path) -> None:
        image = under("image.encoder.", floats(0)) | {"image.patch": torch.randn(8, 3, 4, 4)}
        text = under("text.encoder.", floats(1)) | {"text.tokens": torch.randn(50, 8)}
        torch.save(image | text, tmp_path / "towers.pth")
        assert open_network(tmp_path, "m").tensors


@pytest.mark.parametrize("value", [float("-inf"), torch.finfo(torch.float32).min, -1e4, -100.0])
@pytest.mark.parametrize("name", ["attn_mask", "text.causal"])
def test_attention_masks_are_no_weights(value: float, name: str, tmp_path: Path) -> None:
    torch.save(floats() | {name: torch.full((20, 20), value).triu(1)}, tmp_path / "model.pth")
    reader = open_network(tmp_path, "m")
    np.testing.assert_array_equal(parameter_vector(reader), parameter_vector(read_state(floats(), "m")))
    share = 400 / (400 + sum(tensor.numel() for tensor in floats().values()))
    assert left_out(reader) == f"{share:.2%} of the values were left out, as they are no weights: {name} (mask)."


def test_an_infinite_weight_is_a_broken_checkpoint(tmp_path: Path) -> None:
    state = floats()
    state["fc.weight"][0, 0] = float("-inf")
    torch.save(state | {"square": torch.tensor([[0.0, float("inf")], [1.0, 2.0]])}, tmp_path / "model.pth")
    with pytest.raises(ItemError, match="NaN or infinite"):
        parameter_vector(open_network(tmp_path, "m"))


def test_counters_are_not_worth_telling_large_tables_are(tmp_path: Path) -> None:
    torch.save(floats() | {"num_batches_tracked": torch.tensor(3)}, tmp_path / "a.pth")
    torch.save(floats() | {"relative_position_index": torch.zeros(40, 40, dtype=torch.long)}, tmp_path / "b.pth")
    assert left_out(open_network(tmp_path / "a.pth", "m")) == ""
    assert "relative_position_index (I64)" in left_out(open_network(tmp_path / "b.pth", "m"))


def test_torchscript_and_other_archives_are_named(tmp_path: Path) -> None:
    module = torch.jit.trace(torch.nn.Linear(4, 2), torch.ones(1, 4))
    torch.jit.save(module, str(tmp_path / "jit.pt"))
    with pytest.raises(ItemError, match="TorchScript") as caught:
        open_network(tmp_path / "jit.pt", "m")
    assert "torch.jit.load" in caught.value.hint
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    with pytest.raises(ItemError, match="no PyTorch checkpoint"):
        open_network(tmp_path / "other.pt", "m")


def test_arguments_and_numbers_beside_weights_are_harmless(tmp_path: Path) -> None:
    more = {"args": argparse.Namespace(lr=0.1), "best": np.float64(71.2), "seen": np.int64(3)}
    torch.save({"state_dict": floats(), **more}, tmp_path / "model.pth")
    assert len(open_network(tmp_path, "m").tensors) == len(floats())


def test_refusals_of_code_are_one_plain_line(tmp_path: Path) -> None:
    torch.save({"state_dict": floats(), "model": Path}, tmp_path / "model.pth")
    with pytest.raises(ItemError, match="pickled code besides weights") as caught:
        open_network(tmp_path, "m")
    assert caught.value.error.isprintable()
    assert "pathlib" in caught.value.error


def test_overlapping_views_of_one_small_storage_are_bounded(tmp_path: Path) -> None:
    storage = torch.randn(1000)
    torch.save({f"w{i}": storage[i : i + 900] for i in range(50)}, tmp_path / "model.pth")
    with pytest.raises(ItemError, match=r"50 tensors claim 180,000 bytes of the 4,000 that the file holds"):
        open_network(tmp_path, "m")
    fused = torch.randn(12, 4)
    torch.save({"qkv": fused, "q": fused[:4], "k": fused[4:8], "v": fused[8:]}, tmp_path / "model.pth")
    assert len(open_network(tmp_path, "m").tensors) == 4


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json", "odd.pth"])
def test_pipes_are_named_and_never_opened(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(ItemError, match="is no ordinary file but a pipe"):
            open_network(path, "m")


def test_devices_are_named_and_never_read(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match="is no ordinary file but a pipe, a device"):
        open_network(Path("/dev/zero"), "m")


@pytest.mark.parametrize(("usual", "other"), [("model", "model_ema"), ("state_dict", "state_dict_ema")])
def test_of_several_networks_in_a_file_it_is_told_which_one_is_read(tmp_path, usual, other):
    content = {usual: small_state(0), other: small_state(1), "criterion": {"weight": torch.ones(3)}, "epoch": 3}
    torch.save(content, tmp_path / "m.pth")
    reader = open_network(tmp_path / "m.pth", "m")
    expected = read_state(small_state(0), "m")
    for tensor, same in zip(reader.tensors, expected.tensors, strict=True):
        np.testing.assert_array_equal(tensor.values(), same.values())
    assert left_out(reader) == f"{usual} was read, not {other} (the manifest's column member says which one)."
    assert left_out(open_network(tmp_path / "m.pth", "m", member=other)) == ""
    torch.save({usual: small_state(0), "optimizer": {"state": {0: {"exp_avg": torch.ones(9999)}}}}, tmp_path / "m.pth")
    assert left_out(open_network(tmp_path / "m.pth", "m")) == ""


def test_weights_beside_the_masks_that_prune_them_are_refused(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))
    plain = network.state_dict()
    torch.nn.utils.prune.random_unstructured(network[0], "weight", 0.5)
    torch.save(network.state_dict(), tmp_path / "m.pth")
    with pytest.raises(ItemError, match=r"pruned and kept beside their masks \(0\.weight_orig\)"):
        open_network(tmp_path / "m.pth", "m")
    torch.nn.utils.prune.remove(network[0], "weight")
    torch.save(network.state_dict(), tmp_path / "m.pth")
    assert open_network(tmp_path / "m.pth", "m").n_parameters == sum(value.numel() for value in plain.values())
