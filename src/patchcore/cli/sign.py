"""`patchcore sign`."""

from __future__ import annotations

from pathlib import Path

import click

from patchcore.cli.common import command, existing_path, say
from patchcore.errors import UsageError


@click.command()
@click.argument("model", type=existing_path)
@click.option("--key", metavar="KEY", required=True, help="Ed25519 private key, a PEM file.")
@command
def sign(model: Path, key: str) -> None:
    """Sign a detector file, or an exported folder.

    The signature is a small file: MODEL.sig beside a file, signature.json in a folder. It goes where the model goes,
    and --require-signature PUBLIC_KEY of the other commands checks it. Needs patchcore[sign]. To make a pair of keys:

    \b
    openssl genpkey -algorithm ed25519 -out KEY
    openssl pkey -in KEY -pubout -out PUBLIC_KEY

    The passphrase of a key that has one is taken from the environment variable PATCHCORE_PASSPHRASE.
    """
    from patchcore.model import signing, store

    signing.private_key(key)
    if model.is_file():
        store.read(model)  # nothing damaged or foreign is signed
    elif not (model / "manifest.json").is_file():
        raise UsageError(f"{model}: expected a folder that `patchcore export` has written, with a manifest.json in it.")
    say(f"Signature: {signing.sign(model, key)}")
