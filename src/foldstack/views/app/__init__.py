"""The local page: Gradio on 127.0.0.1, which asks nothing of the network.

Everything of the data passes through jinja2's autoescape before Gradio gets it.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from foldstack import system
from foldstack.errors import InputError, Interrupted
from foldstack.progress import say
from foldstack.records import AppDescription
from foldstack.views.app.html import file_shown, head, read, sentence_shown, text_shown

if TYPE_CHECKING:
    import gradio as gr

    from foldstack.stages.explained import Explainer

HOST = "127.0.0.1"
HOSTS = [HOST, "localhost"]  # names of it in a browser
FIRST_PORT, LAST_PORT = 7860, 7959  # as Gradio's own
# Before Gradio is imported: it reports its use, and asks for the latest version, unless told not to.
OFFLINE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "no_proxy": "*",  # a proxy cannot reach this machine's own address
}
# The page may fetch from its own address only.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'"


def serve(description: AppDescription, explainer: Explainer, port: int | None) -> None:
    """Serve the page until Ctrl-C.

    Raises InputError if the port is in use; Interrupted after another signal.
    """
    with tempfile.TemporaryDirectory(prefix="foldstack-app-") as folder:
        page = build(description, explainer, Path(folder))
        try:
            address = launch(page, port)
            say(f"app: {address} shows {description.source}; Ctrl-C stops it")
            threading.Event().wait()
        except Interrupted as e:
            if e.signum != signal.SIGINT:
                raise
        finally:
            page.close(verbose=False)


def build(description: AppDescription, explainer: Explainer, folder: Path) -> gr.Blocks:
    """Return the page; uploads and predictions go into `folder`."""
    os.environ.update(OFFLINE | {"GRADIO_TEMP_DIR": str(folder)})
    import gradio as gr

    with gr.Blocks(title=f"foldstack: {description.competition}", analytics_enabled=False) as page:
        gr.HTML(head(description), padding=False)
        with gr.Tab("Text"):
            _text_tab(gr, description, explainer)
        with gr.Tab("File"):
            _file_tab(gr, explainer, folder)
    # One prediction at a time: learners are not made for several threads.
    return page.queue(default_concurrency_limit=1)


def launch(page: gr.Blocks, port: int | None) -> str:
    """Start the server in a thread and return its address; raise InputError if the port is in use."""
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    try:
        _, address, _ = page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            prevent_thread_lock=True,
            inbrowser=False,
            quiet=True,
            ssr_mode=False,
            mcp_server=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            theme=gr.themes.Default(primary_hue="blue"),
            css=read("app.css"),
            app_kwargs={"middleware": [trusted, Middleware(_OwnPage)], "docs_url": None},
        )
    except OSError as e:
        if system.sentence(e) is not None:
            raise
        where = f"PORT={port} is" if port else f"all ports from {FIRST_PORT} to {LAST_PORT} are"
        raise InputError(f"{where} in use on {HOST}: give another PORT=") from None
    return address


class _OwnPage:
    """Middleware that sends the page's content security policy, and refuses what other pages ask."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        origin = dict(scope.get("headers", ())).get(b"origin", b"").decode("latin-1")
        if origin and urlsplit(origin).hostname not in HOSTS:
            from starlette.responses import PlainTextResponse

            await PlainTextResponse("this page answers itself only", 403)(scope, receive, send)
            return

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"content-security-policy", POLICY.encode()))
            await send(message)

        await self.app(scope, receive, sending)


def _text_tab(gr: Any, description: AppDescription, explainer: Explainer) -> None:
    names = [each.name for each in description.fields]
    of_texts = [each for each in description.fields if each.what == "text"]
    boxes = []
    for each in description.fields:
        if each.what == "text":
            lines = 6 if len(of_texts) == 1 else 4
            boxes.append(gr.Textbox(label=each.name, lines=lines, max_lines=20))
        else:
            what = "a number" if each.what == "number" else "a category"
            boxes.append(gr.Textbox(label=each.name, placeholder=f"{what}, or nothing"))
    button = gr.Button("Predict", variant="primary", elem_classes="fs-button")
    shown = gr.HTML(padding=False)

    def predict(*values: str) -> Iterator[str]:
        try:
            row = explainer.row({n: v or "" for n, v in zip(names, values, strict=True)})
            found = explainer.explain(row)
            yield text_shown(description, found, waiting=True)
            yield text_shown(description, explainer.attributed(found, row))
        except Exception as e:
            yield sentence_shown(_sentence(e))

    gr.on(
        [button.click, *([boxes[0].submit] if len(boxes) == 1 else [])],
        predict,
        boxes,
        shown,
        api_name="predict_text",
        concurrency_id="predictor",
    )


def _file_tab(gr: Any, explainer: Explainer, folder: Path) -> None:
    upload = gr.File(label="A file of any format that the competition's own may have", height=140)
    button = gr.Button("Predict the file", variant="primary", elem_classes="fs-button")
    shown = gr.HTML(padding=False)
    download = gr.DownloadButton(
        "Download the predictions", visible=False, elem_classes="fs-button"
    )

    def predict(file: str | None) -> tuple[str, Any]:
        try:
            if file is None:
                raise InputError("there is no file yet: choose one")
            stem = Path(file).name.split(".")[0]
            place = Path(tempfile.mkdtemp(dir=folder)) / f"{stem}-submission.csv"
            found = explainer.predict_file(Path(file), place)
        except Exception as e:
            return sentence_shown(_sentence(e)), gr.DownloadButton(visible=False)
        return file_shown(found, Path(file).name), gr.DownloadButton(value=found.file, visible=True)

    button.click(
        predict, upload, [shown, download], api_name="predict_file", concurrency_id="predictor"
    )


def _sentence(error: Exception) -> str:
    """Return the message for an error of the user or the machine; raise any other."""
    said = str(error) if isinstance(error, InputError) else system.sentence(error)
    if said is None:
        raise error
    return said
