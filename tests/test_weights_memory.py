"""What fits on a card: the formulas against another count, and the page against the formulas."""

import re
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from minidream.tuning.needs import Fused
from minidream.weights import __main__ as command
from minidream.weights import memory
from minidream.weights.fake import outline_7b
from minidream.weights.memory import PRECISIONS, USES

HOUSE = Path(__file__).parents[1]
PAGE = HOUSE / "notebooks" / "book" / "weights.md"


class Living(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and the most that there ever were."""

    def __init__(self):
        super().__init__()
        self.seen, self.now, self.most = WeakIdKeyDictionary(), 0, 0

    def free(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in tree_leaves((args, kwargs)):  # weights, of which views are made
            if isinstance(tensor, Tensor):
                self.seen.setdefault(tensor.untyped_storage(), True)
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in self.seen:
                storage = tensor.untyped_storage()
                self.seen[storage] = True
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.free, storage.nbytes())
        return made


def most_alive(work) -> int:
    """The most bytes of tensors that a call without gradients has at once."""
    with torch.no_grad(), Fused(), Living() as living:
        kept = work()  # noqa: F841  (what is returned counts too)
    return living.most


def kept_for_backward(model: nn.Module, work) -> int:
    """The bytes that a call keeps for the backward pass, without the weights."""
    weights = [*model.parameters(), *model.buffers()]
    own = {tensor.untyped_storage()._cdata for tensor in weights}
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = tensor  # the tensor, so that its place is not used again
        return tensor

    with Fused(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = work()  # noqa: F841
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.fixture(scope="module")
def model():
    """The published sizes in bfloat16, without memory."""
    return outline_7b(None).to(torch.bfloat16).requires_grad_(False)


def empty(*shape: int, gradient: bool = False) -> Tensor:
    return torch.empty(shape, device="meta", dtype=torch.bfloat16, requires_grad=gradient)


def unet_inputs(batch: int, gradient: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    times = torch.empty(batch, device="meta", dtype=torch.long)
    return empty(batch, 4, 64, 64), times, empty(batch, 64, 1024, gradient=gradient)


def layer_inputs(positions: int, gradient: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    angles = torch.empty(1, 1, positions, 64, device="meta")
    return empty(1, positions, 4096, gradient=gradient), angles, angles


def near(count: float):
    """Within 5 %, since other versions of the libraries may make a copy more or less."""
    return pytest.approx(count, rel=0.05)


def test_the_passes_need_what_is_counted_here(model):
    decoder, layer = model.decoder, model.llm.layers[0]
    pair = unet_inputs(2)
    assert memory.UNET_OF_TWO == near(most_alive(lambda: decoder.unet(*pair).sample))
    latents = empty(1, 4, 64, 64)
    assert memory.VAE_DECODER == near(most_alive(lambda: decoder.vae.decode(latents).sample))
    inputs = layer_inputs(512)
    assert memory.LAYER_PER_POSITION == near(most_alive(lambda: layer(*inputs)) / 512)


def test_the_backward_pass_needs_what_is_counted_here(model):
    unet, inputs = model.decoder.unet, unet_inputs(1, gradient=True)
    assert memory.KEPT_BY_UNET == near(kept_for_backward(unet, lambda: unet(*inputs).sample))
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=memory.RANK)
    adapted = peft.get_peft_model(outline_7b(None).llm.to(torch.bfloat16), lora)
    trained = [each for each in adapted.parameters() if each.requires_grad]
    assert sum(each.numel() for each in trained) == 4_194_304
    layer, inputs = adapted.base_model.model.layers[0], layer_inputs(512, gradient=True)
    kept = kept_for_backward(layer, lambda: layer(*inputs)) / 512
    assert memory.KEPT_PER_LAYER_AND_POSITION == near(kept)


def test_what_is_alive_and_what_is_kept_by_hand():
    def twice():
        first = torch.empty(3, 5, device="meta") + 1
        return (first + 1) + 1

    assert most_alive(twice) == 4 * 15 * 3  # one is freed before the last is made
    assert most_alive(lambda: twice() + twice()) == 4 * 15 * 4
    linear = nn.Linear(5, 7, device="meta").requires_grad_(False)
    inputs = torch.empty(3, 5, device="meta", requires_grad=True)
    assert kept_for_backward(linear, lambda: linear(inputs)) == 0
    assert kept_for_backward(linear, lambda: linear(inputs).sigmoid()) == 4 * 21


def test_the_bytes_of_the_weights():
    numbers = {stem: count for stem, (_, count) in memory.file_sizes().items()}
    # What the official classes gave for the official configs.
    assert numbers["model"] == 6_738_481_152
    for precision, size in (("float32", 4), ("bfloat16", 2)):
        expected = {stem: size * count for stem, count in numbers.items()}
        assert memory.weight_bytes(precision) == expected
    layers = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    rows = 32 * (5 * 4096 + 2 * 11008)
    saved = memory.weight_bytes("bfloat16")["model"] - memory.weight_bytes("int8")["model"]
    assert saved == layers - 5 * rows
    saved = memory.weight_bytes("bfloat16")["model"] - memory.weight_bytes("int4", "cpu")["model"]
    assert saved == 2 * layers - layers // 2 - 4 * layers // 128
    for precision in PRECISIONS[2:]:
        for stem, size in memory.weight_bytes(precision).items():
            assert stem == "model" or size == 2 * numbers[stem]


def test_more_exact_needs_more_and_more_work_needs_more():
    for use in USES:
        needed = [memory.needed_bytes(use, precision) for precision in PRECISIONS]
        if use == "tuning":
            # Its gradient unpacks all matrices, so int8 would take more than bfloat16.
            assert needed.pop() is None and needed.pop() > needed[1]
        assert needed == sorted(needed, reverse=True)
    for precision in PRECISIONS:
        needed = [memory.needed_bytes(use, precision) for use in USES]
        assert all(each is None or each >= needed[0] for each in needed)


def test_what_fits_by_hand(monkeypatch):
    sizes = {"float32": 20.0, "bfloat16": 16.1, "int8": 8.0, "int4": None}
    monkeypatch.setattr(
        memory, "needed_bytes", lambda use, precision: sizes[precision] and sizes[precision] * 1e9
    )
    assert [memory.fitting("dream", card) for card in (7, 8, 16, 17, 20)] == [
        *(None, "int8", "int8", "bfloat16", "float32")
    ]


@pytest.mark.parametrize("name", ["files_table", "sizes_table", "needs_table", "fits_table"])
def test_the_page_has_the_tables_of_the_formulas(name):
    assert f"\n\n{getattr(memory, name)()}\n\n" in PAGE.read_text(encoding="utf-8")


def test_the_page_says_what_each_use_is():
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for use, does in USES.items():
        assert f"**{use}**: {does}" in page


def test_the_command_prints_the_tables(capsys):
    command.main(["fits"])
    printed = capsys.readouterr().out
    for shown in (memory.sizes_table(), memory.needs_table(), memory.fits_table()):
        assert shown in printed
    assert re.search(r"^tuning: a LoRA of rank 8", printed, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["fake-7b"], ["fits", "folder"]])
def test_only_one_of_the_commands_takes_a_folder(arguments, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert "fake-7b takes a folder, DIR, and fits takes none" in capsys.readouterr().err
