"""Signatures of model files and of exported folders, checked: Ed25519, in a small file of their own.

`parts.patchcore` is signed by `parts.patchcore.sig`, a folder by `signature.json` in it. Both hold JSON: the SHA-256
of every file (`files`), the signer's public key and the signature over `files`. Why: docs/decisions/0011-signatures.md
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchcore.errors import MissingExtraError, SignatureError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

IN_FOLDER = "signature.json"
_LONGEST = 1_000_000  # bytes of a signature file; it is not trusted when it is read
MAKE_KEYS = "openssl genpkey -algorithm ed25519 -out KEY, then openssl pkey -in KEY -pubout -out PUBLIC_KEY"


def check_signature(path: str | Path, key: str | Path, content: bytes | None = None) -> None:
    """Check that a file or folder is what the owner of the public key in the file `key` has signed.

    `content`: the bytes of a file that has been read; what is checked is then what is used, and not the file again.
    Only the signature's own small file is parsed; all others are hashed. Errors: SignatureError, UsageError for a
    key that cannot be used, MissingExtraError.
    """
    path, public = Path(path), public_key(key)
    from cryptography.exceptions import InvalidSignature

    files, signer, signature = _read(path)
    expected = public.public_bytes_raw().hex()
    if signer != expected:
        raise SignatureError(
            f"{path}: signed with another key (its public half is {signer[:16]}...); expected that of {key} "
            f"({expected[:16]}...). Get the file from whom you trust, or check against the key of its signer if you do."
        )
    try:
        public.verify(signature, signed_bytes(files))
    except InvalidSignature:
        raise SignatureError(
            f"{signature_of(path)}: not a signature by the key that it names: it was altered or damaged. "
            "Copy it and what it signs again."
        ) from None
    found = digests(path) if content is None else {".": hashlib.sha256(content).hexdigest()}
    for name in sorted({*files, *found}):
        if files.get(name) != found.get(name):
            what = "added" if name not in files else "removed" if name not in found else "changed"
            raise SignatureError(
                f"{path if name == '.' else path / name}: {what} after signing. Copy it again from where it was "
                "signed; sign it again only if the change is yours."
            )


def signature_of(path: Path) -> Path:
    """Where the signature of a file or folder lies."""
    return path / IN_FOLDER if path.is_dir() else path.with_name(f"{path.name}.sig")


def public_key(path: str | Path) -> Ed25519PublicKey:
    """The public key in a PEM file. Errors: UsageError, MissingExtraError."""
    from_pem, kind, unsupported = library()
    data = key_bytes(path)
    try:
        key = from_pem.load_pem_public_key(data)
    except (ValueError, unsupported):
        raise not_a_key(path, "public", "a private key" if b"PRIVATE KEY" in data else "") from None
    if not isinstance(key, kind.Ed25519PublicKey):
        raise not_a_key(path, "public", "a public key of another kind")
    return key


def library() -> tuple[Any, Any, Any]:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtraError("cryptography", "sign", "Signing, and checking signatures,") from None
    return serialization, ed25519, UnsupportedAlgorithm


def key_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: the key cannot be read ({error.strerror}). Make a pair: {MAKE_KEYS}") from None


def not_a_key(path: str | Path, half: str, got: str) -> UsageError:
    got = f"{got}; expected" if got else "not"
    return UsageError(f"{path}: {got} an Ed25519 {half} key in PEM. Make a pair: {MAKE_KEYS}")


def _read(path: Path) -> tuple[dict[str, str], str, bytes]:
    """Digests, public key and signature, as a signature file states them: nothing is checked yet."""
    place = signature_of(path)
    if not path.exists():
        raise SignatureError(f"{path}: no such file.")
    try:
        with place.open("rb") as file:
            document = json.loads(file.read(_LONGEST))
        files = {str(name): str(digest) for name, digest in document["files"].items()}
        return files, str(document["public_key"]), bytes.fromhex(document["signature"])
    except FileNotFoundError:
        raise SignatureError(
            f"{path}: not signed: there is no {place.name}{' in it' if path.is_dir() else ' beside it'}. Copy that "
            f"too, or sign: patchcore sign {path.name} --key KEY"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureError(f"{place}: not a signature, or a damaged one ({error}). Copy it again.") from error


def digests(path: Path) -> dict[str, str]:
    """SHA-256 by name: of a file, whose name does not matter, or of all files of a folder but the signature."""
    if not path.is_dir():
        return {".": _sha256(path)}
    files = [file for file in path.rglob("*") if file.is_file() and file != path / IN_FOLDER]
    return {file.relative_to(path).as_posix(): _sha256(file) for file in files}


def _sha256(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def signed_bytes(files: dict[str, str]) -> bytes:
    """The bytes that are signed. They say what they are for, since a key may sign other things too."""
    return json.dumps({"patchcore": 1, "files": files}, sort_keys=True, separators=(",", ":")).encode()
