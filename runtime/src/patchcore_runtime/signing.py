"""Checking the signature of a folder (`patchcore export --sign`, `patchcore sign`), as `patchcore.signing` does."""

from __future__ import annotations

import json
from pathlib import Path

from patchcore_runtime.errors import ExportError, SignatureError
from patchcore_runtime.folder import sha256

NAME = "signature.json"
_LONGEST = 1_000_000  # bytes of a signature file; it is not trusted when it is read


def check(folder: Path, key: str | Path) -> None:
    """Check that a folder is what the owner of the public key in the PEM file `key` has signed.

    Only the signature's own small file is parsed; all others are hashed. Errors: SignatureError, ExportError
    for a key that cannot be used.
    """
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise ExportError(
            "Checking a signature needs the package 'cryptography', which is not installed. Install it with: "
            "pip install 'patchcore-runtime[sign]'"
        ) from None
    try:
        public = load_pem_public_key(Path(key).read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ExportError(f"{key}: expected an Ed25519 public key in PEM ({error}).") from None
    if not isinstance(public, Ed25519PublicKey):
        raise ExportError(f"{key}: a public key of another kind; expected an Ed25519 public key in PEM.")
    try:
        with (folder / NAME).open("rb") as file:
            document = json.loads(file.read(_LONGEST))
        files, signer = dict(document["files"]), str(document["public_key"])
        signature = bytes.fromhex(document["signature"])
    except FileNotFoundError:
        raise SignatureError(f"{folder}: not signed: there is no {NAME} in it. Copy that too.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SignatureError(f"{folder / NAME}: not a signature, or a damaged one ({error}). Copy it again.") from error
    expected = public.public_bytes_raw().hex()
    if signer != expected:
        raise SignatureError(
            f"{folder}: signed with another key (its public half is {signer[:16]}...); expected that of {key} "
            f"({expected[:16]}...). Get the folder from whom you trust."
        )
    try:
        message = json.dumps({"patchcore": 1, "files": files}, sort_keys=True, separators=(",", ":"))
        public.verify(signature, message.encode())
    except InvalidSignature:
        raise SignatureError(
            f"{folder / NAME}: not a signature by the key that it names: it was altered or damaged. Copy the folder "
            "again."
        ) from None
    present = [path for path in folder.rglob("*") if path.is_file() and path != folder / NAME]
    found = {path.relative_to(folder).as_posix(): sha256(path) for path in present}
    for name in sorted({*files, *found}):
        if files.get(name) != found.get(name):
            what = "added" if name not in files else "removed" if name not in found else "changed"
            raise SignatureError(f"{folder / name}: {what} after signing. Copy it again from where it was signed.")
