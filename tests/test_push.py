"""Submissions pushed to a site, and their log: by a stub of the site, and by a stand-in server."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from foldstack.errors import InputError
from foldstack.files import file_sha256, read_json
from foldstack.kaggle_site import SiteSubmission, connect
from foldstack.records import PushLog, SubmissionRecord, write_record
from foldstack.store import Store
from tiny import foldstack, go_through, make_workspace, refuses, write

FIRST = "submissions/blend.csv"


class StubSite:
    """A site that keeps what it is given, and scores what a test says."""

    def __init__(self) -> None:
        self.submitted: list[tuple[bytes, str, str]] = []
        self.listed: list[SiteSubmission] = []
        self.uploaded: list[tuple[list[str], str, str]] = []

    def submit(self, path: Path, message: str, competition: str) -> int:
        self.submitted.append((path.read_bytes(), message, competition))
        return 100 + len(self.submitted)

    def submissions(self, competition: str) -> list[SiteSubmission]:
        return self.listed

    def upload(self, folder: Path, dataset: str, message: str) -> bool:
        self.uploaded.append((sorted(path.name for path in folder.iterdir()), dataset, message))
        return True


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> StubSite:
    stub = StubSite()
    monkeypatch.setattr("foldstack.stages.push.connect", lambda: stub)
    return stub


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    settings = {"kaggle": {"competition": "toxic-toys"}, "runtime": {"threads": 1}}
    return go_through(make_workspace(tmp_path / "w", **settings))


def scored(ref: int, public: float | None, private: float | None = None) -> SiteSubmission:
    return SiteSubmission(ref, "2026-11-28 12:00", "complete", public, private, None)


def submission(root: Path, name: str, nested: float, values: list[float], error: float) -> None:
    """A submission of these six predictions and of this nested score."""
    beside = root / "submissions/blend.json"
    record = SubmissionRecord.model_validate({**read_json(beside)})
    estimate = {"score": nested, "low": nested - 0.1, "high": nested + 0.1}
    estimate = record.nested.model_copy(update=estimate | {"standard_error": error})
    text = "id,label\n" + "".join(f"t{i},{value}\n" for i, value in enumerate(values))
    path = write(root / f"submissions/{name}.csv", text)
    changes = {"nested": estimate, "sha256": file_sha256(path)}
    write_record(path.with_suffix(".json"), record.model_copy(update=changes).to_json())


# push


def test_a_submission_is_pushed_and_logged(workspace, site, capsys):
    assert foldstack(workspace, "push", "--message", "first try") == 0
    data = (workspace / FIRST).read_bytes()
    assert site.submitted == [(data, "first try", "toxic-toys")]
    (push,) = PushLog.model_validate(read_json(workspace / "submissions/log.json")).pushes
    record = read_json(workspace / "submissions/blend.json")
    assert (push.ref, push.sha256, push.message) == (101, record["sha256"], "first try")
    assert push.nested == record["nested"]["score"]
    assert Store(workspace).pushed_copy(push.sha256).read_bytes() == data
    assert "push: submissions/blend.csv is submission 101 to toxic-toys" in capsys.readouterr().out


def test_without_a_message_the_nested_score_is_one(workspace, site):
    assert foldstack(workspace, "push") == 0
    nested = read_json(workspace / "submissions/blend.json")["nested"]["score"]
    assert site.submitted[0][1] == f"blend, nested roc_auc {nested:.4f}"


def test_what_submit_did_not_write_so_is_refused(workspace, site, capsys):
    sentence = (
        "submissions/mine.csv is not a file that `submit` wrote: run `make submit NAME=mine` first"
    )
    write(workspace / "submissions/mine.csv", "id,label\n")
    refuses(workspace, ["push", "--name", "mine"], sentence, capsys)
    with (workspace / FIRST).open("a") as f:
        f.write("\n")
    sentence = (
        "submissions/blend.csv has been changed since `submit` wrote it: run `make submit NAME=blend` "
        "again"
    )
    refuses(workspace, ["push"], sentence, capsys)
    assert not site.submitted
    assert not (workspace / "submissions/log.json").exists()


def test_a_stale_blend_is_pushed_only_by_force(workspace, site, capsys):
    assert foldstack(workspace, "train", "--fold=0", "--set=min_count=1", "--force") == 0
    capsys.readouterr()
    assert foldstack(workspace, "push") == 2
    assert "submissions/blend.csv is stale, it " in capsys.readouterr().err
    assert not site.submitted
    assert foldstack(workspace, "push", "--force") == 0
    assert "push: STALE, " in capsys.readouterr().out


def test_the_same_file_is_pushed_twice_only_by_force(workspace, site, capsys):
    assert foldstack(workspace, "push", "--message", "first") == 0
    capsys.readouterr()
    sentence = (
        "submissions/blend.csv was pushed already, as submission 101 ('first'): FORCE=1 pushes it "
        "again"
    )
    refuses(workspace, ["push"], sentence, capsys)
    assert foldstack(workspace, "push", "--force") == 0
    assert len(site.submitted) == 2


def test_the_competition_is_a_setting(workspace, site, capsys):
    sentence = (
        "kaggle.competition is not set: write the last part of the competition's address there, as by "
        '`make set SET="kaggle.competition=NAME"`'
    )
    refuses(workspace, ["push", "--set", "kaggle.competition=none"], sentence, capsys)
    assert foldstack(workspace, "push", "--set", "kaggle.competition=other") == 0
    assert site.submitted[0][2] == "other"


def test_a_submission_called_log_and_the_log_do_not_meet(workspace, site, capsys):
    assert foldstack(workspace, "submit", "--model", "tfidf", "--name", "log") == 0
    capsys.readouterr()
    sentence = "submissions/log.json is there already and `push` did not write it so: move it away"
    refuses(workspace, ["push"], sentence, capsys)
    assert not site.submitted


def test_clean_keeps_the_log(workspace, site):
    assert foldstack(workspace, "push") == 0
    assert foldstack(workspace, "clean", "submissions") == 0
    left = {path.name for path in (workspace / "submissions").iterdir() if path.name[0] != "."}
    assert left == {"log.json", "pushed"}


def test_a_bundle_is_uploaded_as_a_data_set(workspace, site, capsys):
    sentence = "bundle/blend does not exist: run `make bundle` first"
    refuses(workspace, ["push", "--bundle"], sentence, capsys)
    write(workspace / "bundle/blend/infer.py", "pass\n")
    assert foldstack(workspace, "push", "--bundle") == 2
    assert "kaggle.dataset names the data set for the bundle" in capsys.readouterr().err
    dataset = ("--set", "kaggle.dataset=me/toxic-toys-bundle")
    assert foldstack(workspace, "push", "--bundle", "--message", "v1", *dataset) == 0
    assert site.uploaded == [(["infer.py"], "me/toxic-toys-bundle", "v1")]
    said = "push: bundle/blend is a new private data set me/toxic-toys-bundle"
    assert said in capsys.readouterr().out


# log


@pytest.fixture
def pushed(workspace: Path, site: StubSite) -> Path:
    """Four submissions: `near` is like `best`, `far` is as good and another, `weak` is worse."""
    rows = {
        "best": (0.90, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        "near": (0.89, [0.1, 0.2, 0.3, 0.4, 0.6, 0.5]),
        "far": (0.88, [0.2, 0.1, 0.4, 0.3, 0.6, 0.5]),
        "weak": (0.80, [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
    }
    for name, (nested, values) in rows.items():
        submission(workspace, name, nested, values, error=0.03)
        assert foldstack(workspace, "push", "--name", name) == 0
    return workspace


def test_the_log_shows_nested_beside_public_and_private(pushed, site, capsys):
    publics = {101: 0.91, 102: 0.92, 103: 0.87, 104: 0.81}
    site.listed = [scored(ref, public, public) for ref, public in publics.items()]
    site.listed.append(scored(7, 0.99))  # not pushed from here
    capsys.readouterr()
    assert foldstack(pushed, "log") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "submission", "message", "nested", "roc_auc", "public", "private", "status",
    ]  # fmt: skip
    assert lines[2].split()[-3:] == ["0.91", "0.91", "complete"]
    assert lines[6:] == [
        "log: rank correlation of nested and public scores: +0.80 of 4 submissions",
        "log: rank correlation of nested and private scores: +0.80 of 4 submissions",
        "log: select best (101): the best nested score",
        "log: select far (103): the most different of 2 within one standard error of it, correlation "
        "0.829",
    ]
    stored = read_json(pushed / "submissions/log.json")["pushes"]
    assert [push["public"] for push in stored] == list(publics.values())
    assert stored[0]["date"] == "2026-11-28 12:00"


def test_under_three_scores_there_is_no_rank_correlation(pushed, site, capsys):
    site.listed = [scored(101, 0.9), scored(102, 0.8)]
    capsys.readouterr()
    assert foldstack(pushed, "log", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["public"] == {"correlation": None, "submissions": 2}
    assert found["private"] == {"correlation": None, "submissions": 0}


def test_the_smallest_loss_is_the_best(pushed, site, capsys):
    """Of a loss `weak` has the best score, and none is within a standard error of it."""
    log = read_json(pushed / "submissions/log.json")
    log["pushes"] = [push | {"metric": "log_loss"} for push in log["pushes"]]
    write_record(pushed / "submissions/log.json", log)
    capsys.readouterr()
    assert foldstack(pushed, "log", "--json", "--set", "metric=log_loss") == 0
    found = json.loads(capsys.readouterr().out)
    assert [chosen["row"] for chosen in found["select"]] == [3]
    within = "no other is within one standard error (0.0300) of the best nested score"
    assert found["undecided"] == within


def test_without_a_copy_there_is_no_second_one(pushed, site, capsys):
    for path in (pushed / "submissions/pushed").iterdir():
        path.unlink()
    capsys.readouterr()
    assert foldstack(pushed, "log", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [chosen["row"] for chosen in found["select"]] == [0]
    assert found["undecided"] == "the other good submissions have no copy in submissions/pushed/"


def test_an_empty_log_is_refused(workspace, site, capsys):
    sentence = "nothing was pushed to 'toxic-toys': run `make push MESSAGE=…` first"
    refuses(workspace, ["log"], sentence, capsys)


def test_a_damaged_log_is_refused(pushed, capsys):
    path = pushed / "submissions/log.json"
    path.write_text(path.read_text().replace("0.9", "0.99"))
    capsys.readouterr()
    assert foldstack(pushed, "log") == 2
    assert "submissions/log.json is there already and `push` did not" in capsys.readouterr().err


# The package kaggle, against a stand-in server

SECRET = "s3cret-key"


class Server(ThreadingHTTPServer):
    """As much of the site's interface as `push` and `log` call."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: list[str] = []
        self.files: list[bytes] = []
        self.fails: int | None = None  # status of every answer
        self.listed: list[dict] = []
        self.datasets: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None: ...

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _answer(self, value: dict, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_PUT(self) -> None:
        self.server.files.append(self._body())
        self._answer({})

    def do_POST(self) -> None:
        call, body = self.path.rsplit("/", 1)[1], json.loads(self._body() or b"{}")
        self.server.calls.append(call)
        url = f"http://localhost:{self.server.server_port}/upload"
        if self.server.fails:
            self._answer(
                {"code": self.server.fails, "message": "no more submissions today"},
                self.server.fails,
            )
        elif call in ("StartSubmissionUpload", "StartBlobUpload"):
            self._answer({"token": "t", "createUrl": url})
        elif call == "CreateSubmission":
            assert body["competitionName"] == "toxic-toys"
            self._answer({"message": "ok", "ref": 4321})
        elif call == "ListSubmissions":
            self._answer({"submissions": self.server.listed})
        elif call == "GetDatasetStatus" and body["datasetSlug"] not in self.server.datasets:
            self._answer({"code": 404, "message": "none"}, 404)
        elif call == "GetDatasetStatus":
            self._answer({"status": "READY"})
        elif call == "CreateDataset":
            self.server.datasets.add(body["slug"])
            assert body["isPrivate"] is True
            self._answer({"ref": "x", "url": "x", "status": "ok"})
        else:
            self._answer({"status": "ok"})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A stand-in for the site, whose address the package has in a table and nowhere else."""
    pytest.importorskip("kaggle", reason="the package kaggle is not installed")
    from kagglesdk import kaggle_env

    made = Server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    here = f"http://localhost:{made.server_port}"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, here)
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield made
    made.shutdown()
    made.server_close()


def test_the_package_submits_and_lists(workspace, server, capsys):
    assert foldstack(workspace, "push", "--message", "hello") == 0
    assert server.files == [(workspace / FIRST).read_bytes()]
    server.listed = [
        {
            "ref": 4321,
            "date": "2026-11-28T12:00:00Z",
            "status": "COMPLETE",
            "publicScore": "0.91",
            "privateScore": "",
            "fileName": "blend.csv",
        }
    ]
    assert foldstack(workspace, "log") == 0
    (push,) = read_json(workspace / "submissions/log.json")["pushes"]
    assert (push["ref"], push["public"], push["private"]) == (4321, 0.91, None)
    assert (push["status"], push["date"]) == ("complete", "2026-11-28 12:00")
    said = "".join(capsys.readouterr())
    stored = b"".join(p.read_bytes() for p in workspace.rglob("*") if p.is_file())
    assert SECRET not in said and SECRET.encode() not in stored
    assert server.calls == ["StartSubmissionUpload", "CreateSubmission", "ListSubmissions"]


def test_the_package_uploads_a_folder_as_a_data_set(workspace, server, capsys):
    write(workspace / "bundle/blend/infer.py", "pass\n")
    write(workspace / "bundle/blend/models/a.txt", "a\n")
    args = ("push", "--bundle", "--set", "kaggle.dataset=me/toxic-toys-bundle")
    assert foldstack(workspace, *args) == 0
    assert "a new private data set" in capsys.readouterr().out
    assert len(server.files) == 2 and b"pass\n" in server.files
    assert foldstack(workspace, *args) == 0
    assert "another version of the data set" in capsys.readouterr().out
    inside = sorted(path.name for path in (workspace / "bundle/blend").iterdir())
    assert inside == ["infer.py", "models"]


def test_a_refusal_of_the_site_is_one_sentence(workspace, server, capsys):
    server.fails = 400
    sentence = (
        "Kaggle refused submitting to 'toxic-toys' (400, no more submissions today): try again "
        "later"
    )
    refuses(workspace, ["push"], sentence, capsys)
    server.fails = 403
    assert foldstack(workspace, "push") == 2
    assert "accept the competition's rules on its page" in capsys.readouterr().err
    assert not (workspace / "submissions/log.json").exists()


def test_a_site_out_of_reach_is_one_sentence(workspace, server, capsys):
    server.shutdown()
    server.server_close()
    sentence = (
        "Kaggle is out of reach, submitting to 'toxic-toys' failed (ConnectionError): check the "
        "connection, and try again"
    )
    refuses(workspace, ["push"], sentence, capsys)


def test_missing_credentials_are_one_sentence(workspace, server, capsys, monkeypatch):
    from kaggle.api.kaggle_api_extended import KaggleApi

    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.setattr(KaggleApi, "config", "/nowhere/kaggle.json")
    sentence = (
        "the package kaggle finds no credentials: create a token on the site's settings page and follow "
        "its instructions (~/.kaggle/, or KAGGLE_API_TOKEN)"
    )
    refuses(workspace, ["push"], sentence, capsys)


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "kaggle.api.kaggle_api_extended", None)
    monkeypatch.setitem(sys.modules, "kaggle", None)
    with pytest.raises(InputError, match=r"pip install 'foldstack\[kaggle\]'"):
        connect()
