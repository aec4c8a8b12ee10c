"""Torch checkpoints: every storage found by reading the pickle as data, in files made by hand and by torch itself."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import pytest
from safetensors.numpy import save as save_safetensors

from layout.listing import layout_of, tensors_in
from layout.torch_files import Instance, Storage, View, checkpoint, pickle_of, zip_of
from shardflow.dtype import DType

DATA = Path(__file__).parent / "data"


def floats(count: int, first: float = 0.0) -> bytes:
    return struct.pack(f"<{count}f", *(first + i for i in range(count)))


def one_tensor(view: View, content: bytes) -> bytes:
    return checkpoint({"w": view}, {view.storage.key: content})


def kind_of(data: bytes) -> str:
    return layout_of(data).kind


def test_every_storage_is_a_segment_named_by_its_tensor() -> None:
    weight, bias = Storage("0", elements=6), Storage("1", "BFloat16Storage", 3)
    data = checkpoint(
        {"layer.weight": View(weight, (2, 3)), "layer.bias": View(bias, (3,))}, {"0": floats(6), "1": b"abcdef"}
    )
    assert kind_of(data) == "torch"
    assert tensors_in(data) == [
        ("layer.weight", DType.F32, (2, 3), floats(6)),
        ("layer.bias", DType.BF16, (3,), b"abcdef"),
    ]


def test_contents_lie_at_multiples_of_64_as_torch_aligns_them() -> None:
    data = one_tensor(View(Storage("0", elements=6), (2, 3)), floats(6))
    assert [at.offset % 64 for at in layout_of(data).segments if at.name] == [0]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("DoubleStorage", DType.F64),
        ("HalfStorage", DType.F16),
        ("LongStorage", DType.I64),
        ("CharStorage", DType.I8),
        ("ByteStorage", DType.U8),
        ("BoolStorage", DType.BOOL),
        ("ComplexDoubleStorage", DType.C128),
    ],
)
def test_the_storage_type_gives_the_dtype(kind: str, dtype: DType) -> None:
    content = bytes(4 * dtype.width)
    assert tensors_in(one_tensor(View(Storage("0", kind, 4), (4,)), content)) == [("w", dtype, (4,), content)]


@pytest.mark.parametrize(
    ("name", "dtype"), [("float8_e4m3fn", DType.F8_E4M3), ("uint16", DType.U16), ("bfloat16", DType.BF16)]
)
def test_newer_element_types_come_with_the_tensor(name: str, dtype: DType) -> None:
    content = bytes(4 * dtype.width)
    view = View(Storage("0", "UntypedStorage", len(content)), (4,), dtype=name)
    assert tensors_in(one_tensor(view, content)) == [("w", dtype, (4,), content)]


def test_an_element_type_unknown_here_stays_bytes_with_name_and_shape() -> None:
    view = View(Storage("0", "UntypedStorage", 8), (4, 4), dtype="float4_e2m1fn_x2")
    assert tensors_in(one_tensor(view, bytes(8))) == [("w", DType.BYTES, (4, 4), bytes(8))]


def test_tied_tensors_and_views_share_the_segment_of_the_first() -> None:
    storage = Storage("0", elements=6)
    tree = {"embed": View(storage, (2, 3)), "head": View(storage, (2, 3)), "row": View(storage, (3,), offset=3)}
    assert tensors_in(checkpoint(tree, {"0": floats(6)})) == [("embed", DType.F32, (2, 3), floats(6))]
    tree["row"] = View(storage, (4,), offset=3)
    assert kind_of(checkpoint(tree, {"0": floats(6)})) == "plain", "a view reaches past the end"


def test_a_view_of_a_part_gives_the_storage_a_flat_shape() -> None:
    view = View(Storage("0", elements=6), (2, 2), stride=(3, 1), offset=1)
    assert tensors_in(one_tensor(view, floats(6))) == [("w", DType.F32, (6,), floats(6))]


def test_a_transposed_tensor_has_the_shape_that_lies_in_memory() -> None:
    view = View(Storage("0", elements=6), (3, 2), stride=(1, 3))
    assert tensors_in(one_tensor(view, floats(6))) == [("w", DType.F32, (2, 3), floats(6))]


def test_names_are_the_path_through_dicts_lists_and_modules() -> None:
    tensor = [View(Storage(str(i), elements=1), (1,)) for i in range(5)]
    layer = Instance("torch.nn.modules.linear", "Linear", {"_parameters": {"weight": tensor[0]}, "_buffers": {}})
    tree = {
        "model": Instance("project.models", "Net", {"_modules": {"0": layer}, "steps": 12}),
        "optimizer": {"state": {0: {"exp_avg": tensor[1]}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "ema": [tensor[2], (tensor[3], None)],
        "best": View(Storage("4", elements=1), (1,), parameter=True),
    }
    names = [name for name, *_ in tensors_in(checkpoint(tree, {str(i): floats(1) for i in range(5)}))]
    assert names == ["model.0.weight", "optimizer.state.0.exp_avg", "ema.0", "ema.1.0", "best"]


def test_a_tensor_alone_has_a_name_too() -> None:
    data = checkpoint(View(Storage("0", elements=2), (2,)), {"0": floats(2)})
    assert tensors_in(data) == [("tensor", DType.F32, (2,), floats(2))]


def test_an_empty_tensor_has_no_segment_but_counts_in_the_fingerprint() -> None:
    full, empty = View(Storage("0", elements=2), (2,)), View(Storage("1", elements=0), (0, 5))
    with_empty = checkpoint({"a": full, "b": empty}, {"0": floats(2), "1": b""})
    without = checkpoint({"a": full}, {"0": floats(2)})
    assert tensors_in(with_empty) == tensors_in(without)
    assert layout_of(with_empty).fingerprint != layout_of(without).fingerprint


def test_the_fingerprint_is_that_of_the_same_tensors_as_safetensors() -> None:
    import numpy as np

    arrays = {"b.weight": np.ones((2, 3), np.float32), "a.count": np.ones((), np.int64)}
    tree = {"b.weight": View(Storage("0", elements=6), (2, 3)), "a.count": View(Storage("1", "LongStorage", 1), ())}
    data = checkpoint(tree, {"0": floats(6), "1": bytes(8)})
    assert layout_of(data).fingerprint == layout_of(save_safetensors(arrays)).fingerprint


def test_a_big_endian_file_keeps_its_names_but_is_bytes_to_the_codecs() -> None:
    data = checkpoint({"w": View(Storage("0", elements=6), (2, 3))}, {"0": floats(6)}, byteorder=b"big")
    assert tensors_in(data) == [("w", DType.BYTES, (2, 3), floats(6))]


def test_functions_named_in_the_pickle_are_never_called(tmp_path: Path) -> None:
    command = f"echo harm > {tmp_path / 'harm'}"
    harm = b"cposix\nsystem\n(X" + struct.pack("<I", len(command)) + command.encode() + b"tR"
    tensor = pickle_of(View(Storage("0", elements=2), (2,)))[2:-1]
    data = zip_of({"data.pkl": b"\x80\x02(" + harm + tensor + b"l.", "data/0": floats(2)})
    assert tensors_in(data) == [("1", DType.F32, (2,), floats(2))]
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "view",
    [
        View(Storage("0", elements=6), (7,)),
        View(Storage("0", elements=6), (2**62, 2**62), stride=(1, 1)),
        View(Storage("0", elements=6), (-1,)),
        View(Storage("0", elements=6), (2,), stride=(-1,)),
        View(Storage("0", elements=6), (2,), offset=-1),
        View(Storage("0", elements=6), (2,), offset=5),
        View(Storage("0", elements=6), (2, 3), stride=(3,)),
        View(Storage("0", "DoubleStorage", 6), (3,), offset=1),
        View(Storage("9", elements=6), (2, 3)),
        View(Storage("../0", elements=6), (2, 3)),
        View(Storage("0", elements=6), (1,) * 65),
    ],
)
def test_a_tensor_that_does_not_fit_its_storage_makes_the_file_plain(view: View) -> None:
    assert kind_of(checkpoint({"w": view}, {"0": floats(6)})) == "plain"


def test_compressed_records_are_not_unpacked() -> None:
    tree = {"w": View(Storage("0", elements=1 << 20), (1 << 20,))}
    assert kind_of(checkpoint(tree, {"0": bytes(4 << 20)}, method=zipfile.ZIP_DEFLATED)) == "plain"


def test_one_name_for_two_storages_makes_the_file_plain() -> None:
    tree = {"a": {"b": View(Storage("0", elements=1), (1,))}, "a.b": View(Storage("1", elements=1), (1,))}
    assert kind_of(checkpoint(tree, {"0": floats(1), "1": floats(1)})) == "plain"


@pytest.mark.parametrize(
    "body",
    [
        b"(" * 100_000 + b"t" * 100_000,
        b"]q\x00h\x00a",
        b"cx\ny\n)R2b",
        b"]" + b"".join(b"(h%ch%cl" % (i, i) + b"q%c" % (i + 1) for i in range(200)),
        b"]q\x00" + b"".join(b"(h%ch%clq%c" % (i, i, i + 1) for i in range(200)),
        b"]" + b"(h\x00h\x00l" * 10,
        b"X" + struct.pack("<I", 1 << 31),
        b"\x8e" + struct.pack("<Q", 1 << 62),
        b"I" + b"9" * 100_000 + b"\n",
        b"\x85\x85\x85",
        b"c\\e\n\\z\n)R",
        b"S'\\e'\n",
        b"P\\e\n",
        b"R",
        b"0",
        b"t",
        b"",
    ],
)
def test_hostile_pickles_end_quickly_without_tensors(body: bytes) -> None:
    data = zip_of({"data.pkl": b"\x80\x02" + body + b".", "data/0": floats(6)})
    assert [at.name for at in layout_of(data).segments if at.name] == []


def test_a_pickle_of_too_many_steps_is_plain() -> None:
    assert kind_of(zip_of({"data.pkl": b"\x80\x02" + b"N0" * 1_000_001 + b"N."})) == "plain"


def test_shared_containers_cannot_multiply_the_walk() -> None:
    doubled = b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)) + b"."
    assert kind_of(zip_of({"data.pkl": b"\x80\x02" + doubled})) == "plain"


@pytest.mark.parametrize("name", sorted(path.stem for path in DATA.glob("*.pt")))
def test_files_that_torch_wrote_are_listed_as_torch_sees_them(name: str) -> None:
    data = (DATA / f"{name}.pt").read_bytes()
    listed = [[name, dtype.name, list(shape), content.hex()] for name, dtype, shape, content in tensors_in(data)]
    assert listed == json.loads((DATA / f"{name}.json").read_text())


def test_a_saved_module_has_the_fingerprint_of_its_state_dict() -> None:
    module = layout_of((DATA / "module.pt").read_bytes())
    assert module.fingerprint == layout_of((DATA / "module_state_dict.pt").read_bytes()).fingerprint
    assert module.fingerprint is not None
