"""`patchcore sign`."""

from __future__ import annotations

from pathlib import Path

import click

from patchcore.cli.common import command, existing_path, tell
from patchcore.errors import ExportError


@click.command(epilog="Example: patchcore sign parts.patchcore --key key.pem")
@click.argument("model", type=existing_path)
@click.option("--key", metavar="KEY", required=True, help="Ed25519 private key, a PEM file.")
@command
def sign(model: Path, key: str) -> None:
    """Sign a detector file, or an exported folder.

    The signature is a small file: MODEL.sig beside a file, signature.json in a folder. Keep it with the model: other
    commands check it with --require-signature PUBLIC_KEY. Needs patchcore[sign]. To make a pair of keys:

    \b
    openssl genpkey -algorithm ed25519 -out KEY
    openssl pkey -in KEY -pubout -out PUBLIC_KEY

    If the key has a passphrase, set the environment variable PATCHCORE_PASSPHRASE to it.
    """
    from patchcore.model import signing

    signing.private_key(key)
    from patchcore.model import store

    if model.is_file():
        store.read(model)  # refuses damaged and foreign files
    elif not (model / "manifest.json").is_file():
        raise ExportError(f"{model}: has no manifest.json. Expected a folder that `patchcore export` has written.")
    tell(f"Signature: {signing.sign(model, key)}")
