"""Signing model files and exported folders (`signature.py` checks them)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from patchcore.errors import UsageError
from patchcore.files import appearing, targets
from patchcore.model.signature import digests, key_bytes, library, not_a_key, signature_of, signed_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PASSPHRASE = "PATCHCORE_PASSPHRASE"


def sign(path: str | Path, key: str | Path) -> Path:
    """Sign a file, or all files of a folder, with the private key in the file `key`.

    Returns the path of the signature; one that was there is replaced. Errors: UsageError for a key that
    cannot be used, StoreError, MissingExtraError.
    """
    path, private = Path(path), private_key(key)
    target = signature_of(path)
    targets.no_input([target], [key])
    files = digests(path)
    document = {
        "files": files,
        "public_key": private.public_key().public_bytes_raw().hex(),
        "signature": private.sign(signed_bytes(files)).hex(),
    }
    with appearing(target) as temporary:
        temporary.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")
    return target


def private_key(path: str | Path) -> Ed25519PrivateKey:
    """The private key in a PEM file. Errors: UsageError, MissingExtraError.

    A passphrase is taken from the environment variable PATCHCORE_PASSPHRASE.
    """
    from_pem, kind, unsupported = library()
    data = key_bytes(path)
    encrypted = b"ENCRYPTED" in data
    passphrase = os.environ.get(PASSPHRASE, "").encode() if encrypted else None
    if passphrase == b"":
        raise UsageError(f"{path}: a private key with a passphrase. Put it into the environment variable {PASSPHRASE}.")
    try:
        key = from_pem.load_pem_private_key(data, passphrase)
    except (ValueError, TypeError, unsupported):
        if encrypted:
            raise UsageError(f"{path}: the passphrase in {PASSPHRASE} does not open this private key.") from None
        raise not_a_key(path, "private", "a public key" if b"BEGIN PUBLIC KEY" in data else "") from None
    if not isinstance(key, kind.Ed25519PrivateKey):
        raise not_a_key(path, "private", "a private key of another kind")
    return key
