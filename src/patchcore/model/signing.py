"""Signatures of model files and of exported folders: Ed25519, in a small file of their own.

`parts.patchcore` is signed by `parts.patchcore.sig`, a folder by `signature.json` in it. Both hold JSON: the SHA-256
of every file (`files`), the signer's public key and the signature over `files`. Why: docs/decisions/0011-signatures.md
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchcore.errors import MissingExtraError, SignatureError, UsageError
from patchcore.files import appearing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

IN_FOLDER = "signature.json"
PASSPHRASE = "PATCHCORE_PASSPHRASE"
_LONGEST = 1_000_000  # bytes of a signature file; it is not trusted when it is read
_MAKE_KEYS = "openssl genpkey -algorithm ed25519 -out KEY, then openssl pkey -in KEY -pubout -out PUBLIC_KEY"


def sign(path: str | Path, key: str | Path) -> Path:
    """Sign a file, or all files of a folder, with the private key in the file `key`.

    Returns the path of the signature; one that was there is replaced. Errors: UsageError for a key that
    cannot be used, StoreError, MissingExtraError.
    """
    path, private = Path(path), private_key(key)
    files = _digests(path)
    document = {
        "files": files,
        "public_key": private.public_key().public_bytes_raw().hex(),
        "signature": private.sign(_signed(files)).hex(),
    }
    target = signature_of(path)
    with appearing(target) as temporary:
        temporary.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")
    return target


def check(path: str | Path, key: str | Path, content: bytes | None = None) -> None:
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
        public.verify(signature, _signed(files))
    except InvalidSignature:
        raise SignatureError(
            f"{signature_of(path)}: not a signature by the key that it names: it was altered or damaged. "
            "Copy it and what it signs again."
        ) from None
    found = _digests(path) if content is None else {".": hashlib.sha256(content).hexdigest()}
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


def private_key(path: str | Path) -> Ed25519PrivateKey:
    """The private key in a PEM file. Errors: UsageError, MissingExtraError.

    A passphrase is taken from the environment variable PATCHCORE_PASSPHRASE.
    """
    from_pem, kind, unsupported = _library()
    data = _bytes(path)
    encrypted = b"ENCRYPTED" in data
    passphrase = os.environ.get(PASSPHRASE, "").encode() if encrypted else None
    if passphrase == b"":
        raise UsageError(f"{path}: a private key with a passphrase. Put it into the environment variable {PASSPHRASE}.")
    try:
        key = from_pem.load_pem_private_key(data, passphrase)
    except (ValueError, TypeError, unsupported):
        if encrypted:
            raise UsageError(f"{path}: the passphrase in {PASSPHRASE} does not open this private key.") from None
        raise _not_a_key(path, "private", "a public key" if b"BEGIN PUBLIC KEY" in data else "") from None
    if not isinstance(key, kind.Ed25519PrivateKey):
        raise _not_a_key(path, "private", "a private key of another kind")
    return key


def public_key(path: str | Path) -> Ed25519PublicKey:
    """The public key in a PEM file. Errors: UsageError, MissingExtraError."""
    from_pem, kind, unsupported = _library()
    data = _bytes(path)
    try:
        key = from_pem.load_pem_public_key(data)
    except (ValueError, unsupported):
        raise _not_a_key(path, "public", "a private key" if b"PRIVATE KEY" in data else "") from None
    if not isinstance(key, kind.Ed25519PublicKey):
        raise _not_a_key(path, "public", "a public key of another kind")
    return key


def _library() -> tuple[Any, Any, Any]:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtraError("cryptography", "sign", "Signing, and checking signatures,") from None
    return serialization, ed25519, UnsupportedAlgorithm


def _bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: the key cannot be read ({error.strerror}). Make a pair: {_MAKE_KEYS}") from None


def _not_a_key(path: str | Path, half: str, got: str) -> UsageError:
    got = f"{got}; expected" if got else "not"
    return UsageError(f"{path}: {got} an Ed25519 {half} key in PEM. Make a pair: {_MAKE_KEYS}")


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


def _digests(path: Path) -> dict[str, str]:
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


def _signed(files: dict[str, str]) -> bytes:
    """The bytes that are signed. They say what they are for, since a key may sign other things too."""
    return json.dumps({"patchcore": 1, "files": files}, sort_keys=True, separators=(",", ":")).encode()
