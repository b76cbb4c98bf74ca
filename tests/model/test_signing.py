"""Signatures: what is signed is found whole, and what is not is said to be not, and why."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from patchcore import Detector
from patchcore.errors import MissingExtraError, SignatureError, StoreError, UsageError
from patchcore.model import signature, signing

# RFC 8032, section 7.1, test 1.
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
PEM = serialization.Encoding.PEM
PLAIN = serialization.NoEncryption()


def private_pem(key, encryption=PLAIN):
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption)


def public_pem(key):
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Files: private.pem and public.pem; other_private.pem and other_public.pem."""
    folder = tmp_path_factory.mktemp("keys")
    for begin, key in (
        ("", ed25519.Ed25519PrivateKey.from_private_bytes(SECRET)),
        ("other_", ed25519.Ed25519PrivateKey.generate()),
    ):
        (folder / f"{begin}private.pem").write_bytes(private_pem(key))
        (folder / f"{begin}public.pem").write_bytes(public_pem(key))
    return folder


@pytest.fixture
def signed(model_file, keys, tmp_path):
    """A model file with its signature beside it."""
    path = tmp_path / "nuts.patchcore"
    shutil.copy(model_file, path)
    signing.sign(path, keys / "private.pem")
    return path


@pytest.fixture
def export(keys, tmp_path):
    """A signed folder."""
    folder = tmp_path / "export"
    (folder / "vectors").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "vectors" / "0.npz").write_bytes(b"numbers")
    signing.sign(folder, keys / "private.pem")
    return folder


# ---- there and back


def test_a_signed_file_loads_and_says_the_same(signed, keys, detector, hazelnut):
    loaded = Detector.load(signed, require_signature=keys / "public.pem")
    image = hazelnut / "test/colour/00.jpg"
    assert loaded.predict(image).score == detector.predict(image).score


def test_signing_changes_nothing_in_the_file(signed, model_file):
    assert signed.read_bytes() == model_file.read_bytes()
    assert sorted(p.name for p in signed.parent.iterdir()) == ["nuts.patchcore", "nuts.patchcore.sig"]


def test_a_signature_is_the_same_every_time(signed, keys):
    first = signature.signature_of(signed).read_bytes()
    signing.sign(signed, keys / "private.pem")
    assert signature.signature_of(signed).read_bytes() == first
    assert json.loads(first)["public_key"] == PUBLIC


def test_the_signature_is_that_of_the_documented_bytes(signed):
    # docs/decisions/0011-signatures.md, with sha256sum and without a line of ours.
    document = json.loads(signature.signature_of(signed).read_text())
    digest = subprocess.run(["sha256sum", signed], capture_output=True, text=True, check=True).stdout.split()[0]
    message = f'{{"files":{{".":"{digest}"}},"patchcore":1}}'.encode()
    key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(PUBLIC))
    key.verify(bytes.fromhex(document["signature"]), message)


def test_a_file_may_be_renamed_with_its_signature(signed, keys):
    moved = signed.with_name("bolts.patchcore")
    signature.signature_of(signed).rename(signature.signature_of(moved))
    signed.rename(moved)
    signature.check_signature(moved, keys / "public.pem")


def test_a_folder_may_be_moved(export, keys):
    signature.check_signature(export.rename(export.with_name("elsewhere")), keys / "public.pem")


# ---- what is detected


@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_one_changed_bit_anywhere_is_detected(place, bit, tmp_path_factory, keys):
    path = tmp_path_factory.mktemp("m") / "m"
    data = bytearray(range(256)) * 5
    path.write_bytes(data)
    signing.sign(path, keys / "private.pem")
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(SignatureError, match=r"m: changed after signing\. Copy it again"):
        signature.check_signature(path, keys / "public.pem")


@pytest.mark.parametrize("where", [0.0, 0.001, 0.5, 0.999])
def test_a_model_with_one_changed_byte_is_not_even_opened(signed, keys, where, monkeypatch):
    data = bytearray(signed.read_bytes())
    data[int(where * len(data))] ^= 1
    signed.write_bytes(data)
    monkeypatch.setattr("safetensors.torch.load", lambda content: pytest.fail("it was read"))
    with pytest.raises(SignatureError, match="changed after signing"):
        Detector.load(signed, require_signature=keys / "public.pem")


def test_a_model_altered_with_its_own_hash_made_right_is_detected(signed, keys, detector):
    # What the SHA-256 in the file cannot see: somebody wrote another whole model in its place.
    Detector.of(replace(detector.fitted, fingerprint="other")).save(signed)
    Detector.load(signed)
    with pytest.raises(SignatureError, match="changed after signing"):
        Detector.load(signed, require_signature=keys / "public.pem")


def test_an_altered_list_of_hashes_is_detected(signed, keys):
    signed.write_bytes(b"other")
    place = signature.signature_of(signed)
    document = json.loads(place.read_text())
    document["files"] = {".": signature._sha256(signed)}
    place.write_text(json.dumps(document))
    with pytest.raises(SignatureError, match=r"\.sig: not a signature by the key that it names: it was altered"):
        signature.check_signature(signed, keys / "public.pem")


def test_a_signature_by_another_key_is_none(signed, keys):
    with pytest.raises(SignatureError, match=rf"signed with another key \(its public half is {PUBLIC[:16]}"):
        signature.check_signature(signed, keys / "other_public.pem")


def test_a_signature_that_only_claims_to_be_by_the_key_is_none(signed, keys):
    signing.sign(signed, keys / "other_private.pem")
    place = signature.signature_of(signed)
    place.write_text(json.dumps({**json.loads(place.read_text()), "public_key": PUBLIC}))
    with pytest.raises(SignatureError, match="not a signature by the key that it names"):
        signature.check_signature(signed, keys / "public.pem")


def test_a_file_without_a_signature_says_so(model_file, keys):
    with pytest.raises(SignatureError, match=r"not signed: there is no nuts\.patchcore\.sig beside it.*patchcore sign"):
        Detector.load(model_file, require_signature=keys / "public.pem")


def test_a_file_that_is_not_there_says_so(keys, tmp_path):
    with pytest.raises(SignatureError, match=r"gone: no such file"):
        signature.check_signature(tmp_path / "gone", keys / "public.pem")


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "3", "{}", '{"files": 3, "public_key": "", "signature": ""}', "[" * 100_000, "\ud800",
     '{"files": {}, "public_key": "", "signature": "xyz"}', '{"files": {}, "public_key": "", "signature": 3}'],
)  # fmt: skip
def test_a_damaged_signature_says_so(signed, keys, text):
    signature.signature_of(signed).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(SignatureError, match=r"nuts\.patchcore\.sig: not a signature, or a damaged one"):
        signature.check_signature(signed, keys / "public.pem")


def test_it_is_a_store_error():
    assert issubclass(SignatureError, StoreError)


# ---- folders


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "model.onnx").write_bytes(b"Graph"), r"model\.onnx: changed after signing"),
        (lambda f: (f / "vectors/0.npz").unlink(), r"vectors.0\.npz: removed after signing"),
        (lambda f: (f / "vectors/1.npz").touch(), r"vectors.1\.npz: added after signing"),
        (lambda f: (f / "vectors/signature.json").touch(), r"vectors.signature\.json: added after signing"),
        (lambda f: (f / "signature.json").unlink(), r"not signed: there is no signature\.json in it"),
    ],
)
def test_what_happened_to_a_folder_is_said_with_the_file(export, keys, change, message):
    signature.check_signature(export, keys / "public.pem")
    change(export)
    with pytest.raises(SignatureError, match=message):
        signature.check_signature(export, keys / "public.pem")


def test_a_file_is_not_taken_for_a_folder_of_one(export, keys, tmp_path):
    # The signature of a folder, beside a file with the contents of one of its files.
    path = tmp_path / "m"
    path.write_bytes(b"graph")
    shutil.copy(signature.signature_of(export), signature.signature_of(path))
    with pytest.raises(SignatureError):
        signature.check_signature(path, keys / "public.pem")


# ---- keys

OF_KEYS = {
    "nothing": (b"", "not an Ed25519"),
    "text": (b"my key", "not an Ed25519"),
    "RSA": (rsa.generate_private_key(65537, 2048), "of another kind; expected an Ed25519"),
    "EC": (ec.generate_private_key(ec.SECP256R1()), "of another kind; expected an Ed25519"),
}


@pytest.mark.parametrize("kind", OF_KEYS)
def test_what_is_no_key_says_what_is_and_how_to_make_it(kind, signed, tmp_path):
    key, message = OF_KEYS[kind]
    path = tmp_path / "key.pem"
    for use, pem in ((signing.sign, private_pem), (signature.check_signature, public_pem)):
        path.write_bytes(key if isinstance(key, bytes) else pem(key))
        with pytest.raises(UsageError, match=rf"key\.pem: .*{message} (private|public) key in PEM\. .*openssl genpkey"):
            use(signed, path)


def test_the_halves_of_a_pair_are_not_mixed_up(signed, keys):
    with pytest.raises(UsageError, match="a public key; expected an Ed25519 private key"):
        signing.sign(signed, keys / "public.pem")
    with pytest.raises(UsageError, match="a private key; expected an Ed25519 public key"):
        signature.check_signature(signed, keys / "private.pem")


def test_a_key_that_is_not_there_says_how_to_make_one(signed, tmp_path):
    for use in (signing.sign, signature.check_signature):
        with pytest.raises(UsageError, match=r"gone\.pem: the key cannot be read \(No such file.*openssl genpkey"):
            use(signed, tmp_path / "gone.pem")


def test_a_passphrase_comes_from_the_environment(signed, keys, tmp_path, monkeypatch):
    key = ed25519.Ed25519PrivateKey.from_private_bytes(SECRET)
    path = tmp_path / "locked.pem"
    path.write_bytes(private_pem(key, serialization.BestAvailableEncryption("Tür 7".encode())))
    expected = signature.signature_of(signed).read_bytes()
    signature.signature_of(signed).unlink()
    monkeypatch.delenv("PATCHCORE_PASSPHRASE", raising=False)
    with pytest.raises(UsageError, match=r"with a passphrase\. Put it into the environment variable PATCHCORE_PASS"):
        signing.sign(signed, path)
    monkeypatch.setenv("PATCHCORE_PASSPHRASE", "wrong")
    with pytest.raises(UsageError, match="does not open this private key"):
        signing.sign(signed, path)
    assert not signature.signature_of(signed).exists()
    monkeypatch.setenv("PATCHCORE_PASSPHRASE", "Tür 7")
    signing.sign(signed, path)
    assert signature.signature_of(signed).read_bytes() == expected
    signing.sign(signed, keys / "private.pem")  # one without a passphrase does not mind


def test_keys_that_openssl_makes_work(signed, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    private, public = tmp_path / "k.pem", tmp_path / "p.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    signing.sign(signed, private)
    signature.check_signature(signed, public)


def test_without_the_library_the_extra_is_named(signed, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    for use, key in ((signing.sign, "private.pem"), (signature.check_signature, "public.pem")):
        with pytest.raises(MissingExtraError, match=r"'cryptography'.*pip install 'patchcore\[sign\]'"):
            use(signed, keys / key)


def test_checking_a_signature_loads_neither_torch_nor_safetensors(signed, keys):
    code = (
        "import sys; from patchcore.model import signature; signature.check_signature(*sys.argv[1:]); "
        "assert not {'torch', 'safetensors', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, signed, keys / "public.pem"], check=True)
