import hashlib

import torch

from patchcore.backbones.weight_files import digest_of


def test_the_digest_is_of_names_shapes_types_and_bytes():
    expected = hashlib.sha256(b"head" + b"a(2,)torch.uint8" + bytes([1, 2]) + b"b()torch.int16" + bytes([3, 0]))
    tensors = {"b": torch.tensor(3, dtype=torch.int16), "a": torch.tensor([1, 2], dtype=torch.uint8)}
    assert digest_of(tensors, b"head") == expected.hexdigest()


def test_the_layout_in_memory_does_not_matter():
    tensor = torch.arange(6.0).reshape(2, 3)
    assert digest_of({"a": tensor.T}) == digest_of({"a": tensor.T.contiguous()}) != digest_of({"a": tensor})
