"""Folder: image files that arrive in one, each inspected once, over restarts too."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import deque
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from pathlib import Path
from threading import Event
from typing import Any

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from patchcore.errors import DataError, ImageError
from patchcore.station.errors import UnavailableError, coded
from patchcore.station.running import Backoff, State
from patchcore.station.sources.specs import FolderSpec
from patchcore.station.sources.submit import Stored, Submit, handed_over
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Setting
from patchcore.watch import folder as watching
from patchcore.watch.folder import Arrived, Mark, arrived

DONE, FAILED = "done", "failed"  # sub-folders that are not watched
_AHEAD = 8  # images that wait for the engine: more would keep others out of its queue
_SAVED = 1.0  # seconds between two times that the position is written; keys drop what is read twice
_LISTED = 50  # files that could not be read, which are shown


class FolderSource:
    """Hands over the images of a folder in the order in which they arrive.

    What counts as arrived, and when a file is whole, is `patchcore.watch.folder.arrived`. The position is kept in the
    database, and moves on once a result is stored. What was read twice, as after a kill, is dropped by its key: of the
    line, the path, the time of writing and the content. Until the station can inspect again, no file is passed over.

    Args:
        spec: Its settings.
        line: Where its images are inspected.
        submit: Takes them.
        database: Where the position is kept.
        state: Where it says how it is.
        limit: Bytes of one file at most.
    """

    def __init__(
        self, spec: FolderSpec, line: int, submit: Submit, database: Database, state: State, limit: int
    ) -> None:
        self._spec, self._line, self._submit = spec, line, submit
        self._database, self._state, self._limit = database, state, limit
        self._moved = (spec.path / DONE, spec.path / FAILED)
        self._mark: Mark = (0, "")
        self._tried = dict[str, tuple[int, float]]()  # of files that cannot be read: how often, and when again
        self._bad = deque[dict[str, str]](maxlen=_LISTED)
        self._saved, self._unsaved = time.monotonic(), False
        self._clock = time.time() - time.monotonic()

    def run(self, stop: Event) -> None:
        self._restore()
        backoff = Backoff(1.0, 5.0)
        while not stop.is_set():
            try:
                self._follow(stop, backoff)
            except WatchfilesRustInternalError:  # a changed name is no UTF-8: it knows only that something has changed
                continue
            except UnavailableError as held:
                self._state.set("waiting", held)
            except OSError as error:
                why = coded(error, "folder_gone", path=str(self._spec.path), why=error.strerror or str(error))
                self._state.set("lost", why)
            except DataError as error:
                self._state.set("lost", error)
            stop.wait(backoff.next())

    def _follow(self, stop: Event, backoff: Backoff) -> None:
        """Look when the system tells of a change, and every so often; until the folder is another one."""
        folder = self._spec.path
        place = folder.stat().st_ino
        with RustNotify([str(folder)], False, False, 0, True, True) as changes:
            while not stop.is_set() and folder.stat().st_ino == place:
                fresh = self._look(stop)
                backoff.reset()
                soon = watching.SETTLE / 4 if fresh else watching.SETTLE if self._tried else self._spec.every
                changes.watch(100, 50, int(1000 * min(soon, self._spec.every)), stop)

    def _look(self, stop: Event) -> bool:
        """Hand over what is new; whether there is more that has not settled yet."""
        clock = time.time() - time.monotonic()
        if (back := self._clock - clock) > 0.1:  # the clock was set back: what arrives now is behind the mark
            self._mark = (self._mark[0] - int((back + 1) * 1e9), "")
        self._clock = clock
        begin = time.monotonic()
        new, fresh = arrived(self._spec.path, self._mark, without=self._moved)
        now = time.monotonic()
        again = [Arrived(Path(name), (0, name)) for name, (_, due) in self._tried.items() if due <= now]
        waiting = {str(one.path): one for one in (*again, *new)}
        flying = deque[tuple[Arrived, Future[Stored]]]()
        for one in waiting.values():
            if (future := self._taken(one, stop)) is not None:
                flying.append((one, future))
            if len(flying) >= _AHEAD:
                self._finish(*flying.popleft(), stop)
            if stop.is_set():
                break
        while flying:
            self._finish(*flying.popleft(), stop)
        self._save()
        self._state.set("running")
        stop.wait(min(1.0, now - begin))  # so that searching a large folder takes half of a core at most
        return fresh

    def _taken(self, one: Arrived, stop: Event) -> Future[Stored] | None:
        name = _shown(one.path.relative_to(self._spec.path))
        try:
            if not self._inside(one.path):
                raise ImageError(name, "a link that leads out of the folder, which is not followed.")
            with one.path.open("rb") as file:
                written = os.fstat(file.fileno()).st_mtime_ns
                content = file.read(self._limit + 1)
            if len(content) > self._limit:
                raise ImageError(name, f"larger than {self._limit} bytes, the limit of one image.")
        except FileNotFoundError:  # it has gone again
            self._tried.pop(str(one.path), None)
            return None
        except (OSError, ImageError) as error:
            future = Future[Stored]()
            future.set_exception(error if isinstance(error, ImageError) else ImageError(name, str(error.strerror)))
            return future
        told = hashlib.sha256(os.fsencode(one.path) + b"\0%d\0" % written + content).hexdigest()
        part = re.search(self._spec.part, one.path.name) if self._spec.part else None
        return handed_over(
            self._submit, content, stop, line=self._line, name=name, key=f"folder:{self._line}:{told}",
            part=_shown(part[1] or "")[:200] or None if part else None,
        )  # fmt: skip

    def _inside(self, path: Path) -> bool:
        """Whether it lies in the folder, and not where a link leads."""
        return path.resolve().is_relative_to(self._spec.path.resolve())

    def _finish(self, one: Arrived, future: Future[Stored], stop: Event) -> None:
        """Wait for the result; then the file is done with, and the position behind it."""
        while not wait_for([future], 0.1).done:
            if stop.is_set():
                return
        path = str(one.path)
        error = future.exception()
        if error is None:
            self._tried.pop(path, None)
            if not future.result().get("replayed"):
                self._state.count("images")
            self._away(one.path)
        elif isinstance(error, UnavailableError):  # the station cannot inspect now; the image is not to blame
            self._save()
            raise error
        else:
            tries = self._tried.pop(path, (0, 0.0))[0] + 1
            if tries < watching.TRIES:  # perhaps not all of it is there yet
                self._tried[path] = tries, time.monotonic() + watching.SETTLE
            else:
                self._give_up(one.path, error.reason if isinstance(error, ImageError) else str(error))
        self._state.set("running")
        self._mark, self._unsaved = max(self._mark, one.mark), True
        if time.monotonic() - self._saved > _SAVED:
            self._save()

    def _give_up(self, path: Path, why: str) -> None:
        self._bad.append({"name": _shown(path.relative_to(self._spec.path)), "error": why})
        self._state.count("failed")
        self._state.put("bad", list(self._bad))
        if self._spec.bad == "move" and self._inside(path.parent):
            self._move(path, self._moved[1])

    def _away(self, path: Path) -> None:
        if self._spec.afterwards == "move":
            self._move(path, self._moved[0])
        elif self._spec.afterwards == "delete":
            self._told(path, "deleted", lambda: path.unlink(missing_ok=True))

    def _move(self, path: Path, to: Path) -> None:
        """Into a sub-folder, under the same relative name, or one beside it where that is taken."""
        target = to / path.relative_to(self._spec.path)
        number = 1
        while os.path.lexists(target):
            target = target.with_name(f"{path.stem}-{number}{path.suffix}")
            number += 1

        def move() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)

        self._told(path, "moved", move)

    def _told(self, path: Path, done: str, work: Any) -> None:
        """Do it; what the system refuses is shown, and the file stays where it is."""
        try:
            work()
        except FileNotFoundError:
            pass
        except OSError as error:
            self._state.put("left", f"{_shown(path)} cannot be {done}: {error.strerror}. Mend its permissions.")

    def _restore(self) -> None:
        with self._database.read() as session:
            row = session.get(Setting, f"source:{self._line}")
        if row is not None and row.value.get("folder") == _shown(self._spec.path):
            number, name = row.value["mark"]
            if number < time.time_ns():  # otherwise the clock was set back: all is read again, and dropped by its keys
                self._mark = (number, name)
            self._tried = {name: (tries, 0.0) for name, tries in row.value["tried"].items()}
            self._bad.extend(row.value["bad"])
            self._state.put("bad", list(self._bad))

    def _save(self) -> None:
        if not self._unsaved:
            return
        value = {
            "folder": _shown(self._spec.path),
            "mark": [self._mark[0], _shown(self._mark[1])],
            "tried": {_shown(name): tries for name, (tries, _) in self._tried.items()},
            "bad": list(self._bad),
        }
        with self._database.begin() as session:
            session.merge(Setting(name=f"source:{self._line}", value=value))
        self._saved, self._unsaved = time.monotonic(), False


def _shown(name: str | Path) -> str:
    """A name that any database takes: bytes in it that are no UTF-8 are replaced, and so is NUL."""
    return os.fsencode(name).decode("utf-8", "replace").replace("\0", "�")
