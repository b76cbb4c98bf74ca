"""Passwords: made, hashed, compared, and what they must be."""

from __future__ import annotations

import secrets
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from patchcore.errors import UsageError
from patchcore.station.errors import UnavailableError, coded

SHORTEST, LONGEST = 10, 200  # letters

# What OWASP asks of Argon2id at least, on one thread: the other cores judge images.
_hasher = PasswordHasher(time_cost=1, memory_cost=47_104, parallelism=1)
_turns = threading.BoundedSemaphore(2)  # each takes 46 MiB
_waiting = threading.BoundedSemaphore(8)  # and a thread of the server, which has 40 for everything
# Of nobody's password. An unknown name is compared with it, so that it takes as long as a known one.
NOBODY = "$argon2id$v=19$m=47104,t=1,p=1$3j4kXk8tbRSg+4LrUwoz8w$b9wgrPe3S/eU774KNOlkxoJZS6pm+f/FdRdxcbIsnnY"


def new_password() -> str:
    """A random one, of 96 bits, that can be read out: its letters are unlike each other."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(4))


def check_strength(password: str, name: str) -> None:
    """Errors: UsageError if people should not have it as a password."""
    text = _same(password)
    rest = text.casefold().replace(name.casefold(), "")
    if not SHORTEST <= len(text) <= LONGEST:
        said = f"The password has {len(text)} letters; it must have {SHORTEST} to {LONGEST}."
        raise coded(UsageError(said), "password_length", length=len(text), least=SHORTEST, most=LONGEST)
    if len(set(rest)) < 6:
        said = "The password is too easy to guess: use more different letters, beside your name."
        raise coded(UsageError(said), "password_easy")


@contextmanager
def _turn() -> Iterator[None]:
    if not _waiting.acquire(blocking=False):
        raise coded(UnavailableError("Too many people log in at this moment. Try again in a few seconds."), "logins")
    try:
        with _turns:
            yield
    finally:
        _waiting.release()


def hashed(password: str) -> str:
    """Argon2id of a password, with its salt and parameters. Slow on purpose: never inside a transaction.

    Errors: UnavailableError if many wait for one already; so does `matches`.
    """
    with _turn():
        return _hasher.hash(_bytes(password))


def matches(stored: str | None, password: str) -> bool:
    """Whether it is the password of this hash; None, of somebody unknown, takes as long and is false."""
    with _turn():
        try:
            return _hasher.verify(stored or NOBODY, _bytes(password)) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def outdated(stored: str) -> bool:
    """Whether the hash was made with other parameters than `hashed` has."""
    return _hasher.check_needs_rehash(stored)


def _same(password: str) -> str:
    """Keyboards write one letter in several ways."""
    return unicodedata.normalize("NFKC", password)


def _bytes(password: str) -> bytes:
    return _same(password).encode("utf-8", "surrogatepass")
