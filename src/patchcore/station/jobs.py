"""Jobs: work of minutes, in a process of its own, which a page can follow, reload and stop."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError

from patchcore.station.errors import ConflictError, MissingError, coded
from patchcore.station.hub import Hub
from patchcore.station.people.trail import lock, record
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Job, JobState, now

log = logging.getLogger(__name__)
_BAR = re.compile(r"(?P<step>[^\r\n:]+?):\s+(?P<percent>\d+)%\|")  # what tqdm draws
_TOLD = 4000  # characters of what a job printed that are kept

_OWN = ("command", "target")  # of what is wanted: how it is done here

Done = Callable[[Job, list[dict[str, Any]]], dict[str, Any]]


class Jobs:
    """Runs `patchcore` commands as jobs, one at a time, each in a process of its own: it can be stopped at any moment,
    and what it takes of memory goes back.

    A job that ran when the station ended is `lost`, and says so: nothing that it had begun is kept.
    """

    def __init__(self, database: Database, hub: Hub) -> None:
        self._database, self._hub = database, hub
        self._lock, self._awake, self._closed = threading.Lock(), threading.Condition(), False
        self._running: tuple[int, subprocess.Popen[str]] | None = None
        self._done = dict[str, Done]()
        lost = "The station was stopped while this ran. Nothing of it was kept: start it again."
        with database.begin() as session:
            broken = update(Job).where(Job.state == JobState.running)
            session.execute(broken.values(state=JobState.lost, message=lost, ended=now()))
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def when_done(self, kind: str, done: Done) -> None:
        """What is made of a job of this kind, with the lines of JSON that its command printed; this is `Job.found`."""
        self._done[kind] = done

    def start(self) -> None:
        self._thread.start()

    def add(self, kind: str, command: list[str], who: str, wanted: dict[str, Any]) -> Job:
        """Put a job into the queue: `command` are the arguments of `patchcore`."""
        with self._database.begin() as session:
            lock(session)
            session.add(job := Job(kind=kind, who=who, wanted={**wanted, "command": command}))
            told = {key: value for key, value in wanted.items() if key not in _OWN}
            record(session, who, f"job.{kind}", str(wanted.get("name", "")), why=wanted.get("why", ""), detail=told)
        self._tell(job)
        with self._awake:
            self._awake.notify()
        return job

    def stop(self, number: int) -> Job:
        """Stop a job that waits or runs. Errors: MissingError, ConflictError for one that has ended."""
        with self._database.begin() as session:
            if (job := session.get(Job, number)) is None:
                raise coded(MissingError(f"There is no job {number}."), "missing", name=str(number))
            if job.state not in (JobState.waiting, JobState.running):
                text = f"Job {number} has ended: it is {job.state.value}."
                raise coded(ConflictError(text), "job_ended")
            job.state, job.ended, job.message = JobState.stopped, now(), "Stopped. Nothing of it was kept."
        with self._lock:
            if self._running is not None and self._running[0] == number:
                self._running[1].terminate()
        self._tell(job)
        return job

    def close(self) -> None:
        """Stop what runs; what waits goes on after the next start."""
        with self._awake:
            self._closed = True
            self._awake.notify()
        with self._lock:
            if self._running is not None:
                self._running[1].terminate()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    def _tell(self, job: Job) -> None:
        self._hub.publish("job", to_dict(job))

    def _work(self) -> None:
        while not self._closed:
            try:
                with self._database.read() as session:
                    job = session.scalar(select(Job).where(Job.state == JobState.waiting).order_by(Job.id).limit(1))
                if job is not None:
                    self._run(job)
                    continue
            except Exception as error:  # a database that is away: the next round tries again
                log.warning("Jobs: %s", error)
            self._wait()

    def _wait(self) -> None:
        """Until there is something new, or for two seconds."""
        with self._awake:
            if not self._closed:
                self._awake.wait(timeout=2)

    def _run(self, job: Job) -> None:
        command = [sys.executable, "-m", "patchcore", *job.wanted["command"]]
        self._change(job.id, state=JobState.running, began=now(), step="starting")
        with self._lock:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                errors="replace",
            )  # fmt: skip
            self._running = job.id, process
        said = list[str]()
        assert process.stdout is not None
        with process:  # closes its pipes
            reader = threading.Thread(target=self._follow, args=(job.id, process, said), daemon=True)
            reader.start()
            printed = process.stdout.read()
            code = process.wait()
            reader.join()
        with self._lock:
            self._running = None
        while self._database.alive() is not None and not self._closed:  # what it found waits for the database
            self._wait()
        self._end(job.id, code, printed, "".join(said)[-_TOLD:])
        if target := job.wanted.get("target"):  # of one that was stopped, or has failed
            Path(target).unlink(missing_ok=True)

    def _follow(self, number: int, process: subprocess.Popen[str], said: list[str]) -> None:
        """Progress bars become the job's progress; the rest is kept as what it said."""
        assert process.stderr is not None
        line, last = "", ("", -1)
        while letter := process.stderr.read(1):
            if letter not in "\r\n":
                line += letter
                continue
            if (bar := _BAR.search(line)) is not None:
                here = bar["step"].strip(), int(bar["percent"])
                if here != last:
                    last = here
                    with suppress(DBAPIError):  # the process goes on, and must find somebody who reads
                        self._change(number, step=here[0], progress=here[1] / 100)
            elif line.strip():
                said.append(line + "\n")
            line = ""
        said.append(line)

    def _change(self, number: int, **fields: Any) -> None:
        with self._database.begin() as session:
            job = session.get(Job, number)
            assert job is not None
            if job.state in (JobState.waiting, JobState.running):
                for name, value in fields.items():
                    setattr(job, name, value)
        self._tell(job)

    def _end(self, number: int, code: int, printed: str, said: str) -> None:
        with self._database.read() as session:
            job = session.get(Job, number)
        assert job is not None
        if job.state != JobState.running:
            return
        if self._closed:
            return  # the next start calls it lost
        try:
            if code and not (job.kind == "audit" and code == 4):  # 4: it has found something
                raise RuntimeError(said.strip().splitlines()[-1] if said.strip() else f"It ended with {code}.")
            found = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
            result = self._done[job.kind](job, found)
            self._change(number, state=JobState.done, progress=1.0, step="", ended=now(), found=result, message=said)
        except Exception as error:
            self._change(number, state=JobState.failed, step="", ended=now(), message=str(error))


def to_dict(job: Job) -> dict[str, Any]:
    """What is said of a job, in JSON."""
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state.value,
        "progress": job.progress,
        "step": job.step,
        "message": job.message,
        "found": job.found,
        "who": job.who,
        "wanted": {name: value for name, value in job.wanted.items() if name not in _OWN},
        "created": job.created.isoformat(timespec="seconds"),
        "ended": job.ended and job.ended.isoformat(timespec="seconds"),
    }
