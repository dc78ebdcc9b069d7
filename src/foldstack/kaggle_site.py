"""Kaggle's site, by the package kaggle, whose business credentials are: none is read or kept here."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from foldstack.errors import InputError, cut

PAGE = 200  # submissions per request
HINTS = {
    401: "check the credentials of the package kaggle",
    403: "accept the competition's rules on its page, and check the credentials",
    404: "check the name in competition.yaml",
    429: "wait, and try again",
}


@dataclass(frozen=True)
class SiteSubmission:
    """A submission as the site lists it; scores are None until they are shown.

    status: 'pending', 'complete' or 'error'.
    """

    ref: int
    date: str
    status: str
    public: float | None
    private: float | None
    error: str | None


class Site(Protocol):
    """Requests to the site; each method raises InputError if it fails."""

    def submit(self, path: Path, message: str, competition: str) -> int:
        """Submit a file; return the submission's number."""

    def submissions(self, competition: str) -> list[SiteSubmission]:
        """Return the account's submissions to a competition, the latest first."""

    def upload(self, folder: Path, dataset: str, message: str) -> bool:
        """Upload a folder as a private data set `OWNER/NAME`; return whether it is new."""


def connect() -> Site:
    """Return the site, with the credentials that the package finds.

    Raises InputError if the package or the credentials are missing, or the site is out of reach.
    """
    try:
        with _silently():  # the package authenticates when it is imported, and prints help
            from kaggle.api.kaggle_api_extended import KaggleApi
    except ImportError:
        raise InputError(
            "push and log require the package kaggle, which is not installed: pip install "
            "'foldstack[kaggle]'"
        ) from None
    api = KaggleApi()
    try:
        with _reported("signing in"):
            api.authenticate()
    except SystemExit:
        raise InputError(
            "the package kaggle finds no credentials: create a token on the site's settings page and "
            "follow its instructions (~/.kaggle/, or KAGGLE_API_TOKEN)"
        ) from None
    return _KaggleSite(api)


class _KaggleSite:
    def __init__(self, api: Any):
        self._api = api

    def submit(self, path: Path, message: str, competition: str) -> int:
        with _reported(f"submitting to '{competition}'"):
            found = self._api.competition_submit(str(path), message, competition, quiet=True)
        if not found.ref and found.message == self._api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:
            raise InputError(f"Kaggle: the upload of {path.name} failed: try again")
        return int(found.ref)

    def submissions(self, competition: str) -> list[SiteSubmission]:
        with _reported(f"reading the submissions to '{competition}'"):
            listed = self._api.competition_submissions(competition, page_size=PAGE)
        return [_submission(each) for each in listed or () if each is not None]

    def upload(self, folder: Path, dataset: str, message: str) -> bool:
        title = dataset.split("/")[1]
        about = {"id": dataset, "title": title, "licenses": [{"name": "other"}]}
        with tempfile.TemporaryDirectory() as staged, _reported(f"uploading to '{dataset}'"):
            # The package reads the description from the folder, where it is no part of a bundle.
            for path in sorted(folder.iterdir()):
                Path(staged, path.name).symlink_to(path.resolve())
            Path(staged, "dataset-metadata.json").write_text(json.dumps(about), encoding="utf-8")
            options = {"quiet": True, "dir_mode": "zip"}
            new = not self._has(dataset)
            if new:
                found = self._api.dataset_create_new(staged, public=False, **options)
            else:
                found = self._api.dataset_create_version(staged, message, **options)
        if found.error:
            raise InputError(f"Kaggle refused the data set '{dataset}': {cut(found.error)}")
        return new

    def _has(self, dataset: str) -> bool:
        """Return whether the account has this data set; of others' the site says 403."""
        import requests

        try:
            self._api.dataset_status(dataset)
        except requests.HTTPError as e:
            if e.response is not None and e.response.status_code in (403, 404):
                return False
            raise
        return True


def _submission(listed: Any) -> SiteSubmission:
    return SiteSubmission(
        ref=int(listed.ref),
        date="" if listed.date is None else f"{listed.date:%Y-%m-%d %H:%M}",
        status=listed.status.name.lower(),
        public=_score(listed.public_score),
        private=_score(listed.private_score),
        error=listed.error_description or None,
    )


def _score(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


@contextmanager
def _silently() -> Iterator[None]:
    """Discard what the package prints, since nobody knows what of it is secret."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Raise InputError with one sentence for an error of the network or of the site.

    Addresses are not repeated: those of uploads are secret.
    """
    import requests

    try:
        with _silently():
            yield
    except requests.HTTPError as e:
        status = e.response.status_code if e.response is not None else None
        said = _said_by(e.response)
        hint = HINTS.get(status, "try again later")
        raise InputError(f"Kaggle refused {what} ({status}{said}): {hint}") from None
    except requests.RequestException as e:
        raise InputError(
            f"Kaggle is out of reach, {what} failed ({type(e).__name__}): check the connection, and "
            "try again"
        ) from None


def _said_by(response: Any) -> str:
    """Return the site's own reason, as a part of a sentence."""
    try:
        message = response.json()["message"]
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""
    return f", {cut(str(message))}" if message else ""
