"""The log of pushes to a site: submissions/log.json, and copies in submissions/pushed/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from foldstack.files import file_sha256, locked, publish
from foldstack.records import Push, PushLog, read_record, write_record
from foldstack.store.part import StorePart


class PushFiles(StorePart):
    """The log of one workspace."""

    @property
    def push_log_path(self) -> Path:
        return self.root / "submissions" / "log.json"

    def pushed_copy(self, sha256: str) -> Path:
        """Return the copy of a pushed file, which a later `submit` does not write over."""
        return self.root / "submissions" / "pushed" / f"{sha256[:16]}.csv"

    def read_push_log(self) -> PushLog:
        path = self.push_log_path
        if not path.exists():
            return PushLog(pushes=[])
        again = "move it away; the site still lists the submissions"
        return read_record(path, PushLog, self.name(path), again)

    def refuse_foreign_log(self) -> None:
        """Raise InputError if the log's path holds something else, as a submission named `log`."""
        self._refuse_foreign(
            self.push_log_path, lambda path: self._is_record(path, PushLog), "push"
        )

    def add_push(self, push: Push, file: Path) -> None:
        """Add a pushed submission to the log, and keep a copy of its file."""
        copy = self.pushed_copy(push.sha256)
        if not copy.exists() or file_sha256(copy) != push.sha256:
            publish(copy, file.read_bytes())
        self.change_push_log(lambda pushes: [*pushes, push])

    def change_push_log(self, change: Callable[[list[Push]], list[Push]]) -> PushLog:
        """Replace the log by what a function makes of its entries; return it."""
        path = self.push_log_path
        with locked(path.with_name(".log.lock")):
            log = PushLog(pushes=change(self.read_push_log().pushes))
            write_record(path, log.to_json())
        return log
