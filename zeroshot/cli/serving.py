"""The command that lets others ask a model over HTTP: serve."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot.cli import options
from zeroshot.cli.label_lists import given_labels
from zeroshot.cli.predicting import (
    LABELS,
    PRETRAINED_CLASSES,
    PROJECTION,
    TEMPLATE,
    refuse_nothing_to_learn,
    refuse_with_a_model,
)
from zeroshot.cli.tables import print_text
from zeroshot.cli.untrained import untrained_classifier
from zeroshot.defaults import BACKBONE
from zeroshot.errors import ArtifactError
from zeroshot.escaping import escaped
from zeroshot.progress import say

if TYPE_CHECKING:
    from fastapi import FastAPI

    from zeroshot.classifier import ZeroShotClassifier

__all__ = ["COMMANDS", "serve_app"]

MIB = 1 << 20

MODEL = options.argument(
    "A folder that 'zeroshot fit' wrote. Without one: what the backbone was trained on "
    "is all that is learnt from, as for 'zeroshot predict'.",
)
HOST = options.option(
    "--host HOST",
    "Where to listen. Any but 127.0.0.1, such as 0.0.0.0, lets other machines ask: "
    "give --api-key then.",
    show_default=True,
)
PORT = typer.Option("--port", min=0, max=65535, help="0: any that is free.")
NAME = options.option(
    "--name NAME", "Of the model, in addresses. Default: that of its folder."
)
API_KEY = options.option(
    "--api-key KEY",
    "What requests must bring as 'Authorization: Bearer KEY'. Better given as the "
    "environment variable ZEROSHOT_API_KEY: other users see command lines.",
    envvar="ZEROSHOT_API_KEY",
    show_envvar=False,
)
ALLOW_URLS = options.option(
    "--allow-urls HOSTS",
    "Hosts that images may be fetched from, separated by commas; none otherwise. "
    "Private addresses only where they are listed themselves.",
)
CORS_ORIGINS = options.option(
    "--cors-origins ORIGINS",
    "Origins whose pages may ask, separated by commas, such as https://example.org; "
    "none otherwise.",
)
NO_RELOAD = options.option(
    "--no-reload",
    "Keep the model, also where its folder is written anew; otherwise the new one is "
    "loaded and takes over between two requests.",
)


LEARN = options.option(
    "--learn",
    "Learn from each annotation that Label Studio sends (its ML backend is at "
    "/label-studio). Not saved: for that, 'zeroshot fit --add'.",
)


def _limit(name: str, told: str, least: float = 1) -> Any:
    return typer.Option(name, min=least, help=told)


MAX_BODY = _limit("--max-body", "MiB of a request.")
MAX_IMAGES = _limit("--max-images", "Images of a request.")
MAX_PIXELS = options.option(
    "--max-pixels NUMBER",
    "Pixels of an image. Default: ZEROSHOT_MAX_PIXELS, else 89 million.",
    min=1,
)
MAX_LABELS = _limit("--max-labels", "Labels of a request, with their other names.")
MAX_LABEL_LENGTH = _limit("--max-label-length", "Characters of a label.")
MAX_WAITING = _limit("--max-waiting", "Images that may wait; more are told to return.")
TIMEOUT = _limit("--timeout", "Seconds for a request to come, and for its answer.", 0.1)


def _serve(
    context: typer.Context,
    model: Annotated[Path | None, MODEL] = None,
    host: Annotated[str, HOST] = "127.0.0.1",
    port: Annotated[int, PORT] = 8000,
    labels: Annotated[str | None, LABELS] = None,
    api_key: Annotated[str | None, API_KEY] = None,
    name: Annotated[str | None, NAME] = None,
    allow_urls: Annotated[str, ALLOW_URLS] = "",
    cors_origins: Annotated[str, CORS_ORIGINS] = "",
    no_reload: Annotated[bool, NO_RELOAD] = False,
    learn: Annotated[bool, LEARN] = False,
    max_body: Annotated[int, MAX_BODY] = 20,
    max_images: Annotated[int, MAX_IMAGES] = 64,
    max_pixels: Annotated[int | None, MAX_PIXELS] = None,
    max_labels: Annotated[int, MAX_LABELS] = 10_000,
    max_label_length: Annotated[int, MAX_LABEL_LENGTH] = 200,
    max_waiting: Annotated[int, MAX_WAITING] = 256,
    timeout: Annotated[float, TIMEOUT] = 60.0,
    labels_file: Annotated[Path | None, options.LABELS_FILE] = None,
    embeddings: Annotated[str | None, options.EMBEDDINGS_OF_MODEL] = None,
    backbone: Annotated[str | None, options.BACKBONE_OF_MODEL] = None,
    projection: Annotated[str, PROJECTION] = "auto",
    template: Annotated[list[str] | None, TEMPLATE] = None,
    pretrained_classes: Annotated[str, PRETRAINED_CLASSES] = "auto",
    seen_penalty: Annotated[str | None, options.SEEN_PENALTY] = None,
    temperature: Annotated[str | None, options.TEMPERATURE] = None,
    reject: Annotated[str | None, options.REJECT] = None,
    batch_size: Annotated[int, options.BATCH_SIZE] = 32,
    no_cache: Annotated[bool, options.NO_CACHE] = False,
    yes: Annotated[bool, options.YES] = False,
) -> None:
    """Let programs and people ask a model: an HTTP service, and a page at /ui.

    Labels come with each request; --labels are taken where one names none. POST
    /predict takes files, as curl sends them. POST / is the Hugging Face task
    zero-shot-image-classification, so huggingface_hub's InferenceClient asks it
    unchanged; /v2 is the Open Inference Protocol, for Triton's clients. /openapi.json
    describes all routes.

    Requests that come together share one pass of the network. SIGTERM or Ctrl-C ends it
    once all that was accepted is answered. One process serves; for more, run several.
    """
    from zeroshot.serving import Limits, create_app
    from zeroshot.serving.reloading import Replaced, warmed
    from zeroshot.serving.running import is_loopback

    candidates = given_labels([] if labels is None else [labels], labels_file)
    settings: dict[str, Any] = options.score_settings(seen_penalty, temperature, reject)
    settings |= {"batch_size": batch_size, "cache": not no_cache}
    if candidates is not None:
        settings["candidate_labels"] = candidates
    if max_pixels is not None:
        os.environ["ZEROSHOT_MAX_PIXELS"] = str(max_pixels)
    with options.wrong_usage():
        limits = Limits(
            body=max_body * MIB,
            held=max(Limits.held, max_body * MIB),
            images=max_images,
            labels=max_labels,
            label_length=max_label_length,
            queue=max(max_waiting, max_images),
            seconds=timeout,
        )
    given = options.given(context)

    def opened() -> "ZeroShotClassifier":
        if model is not None:
            classifier = _loaded(model, backbone, embeddings)
        else:
            classifier = untrained_classifier(
                *(backbone or BACKBONE, embeddings, projection, pretrained_classes),
                options.templates_of(template),
                yes=yes,
            )
        classifier.set_params(**settings)
        return classifier

    if model is None:
        refuse_nothing_to_learn(pretrained_classes)
    else:
        refuse_with_a_model(given)
    classifier = opened()
    with options.wrong_usage():  # an auto that the model was not fitted with
        app = create_app(
            classifier,
            name=name or (model.resolve().name if model is not None else "zeroshot"),
            limits=limits,
            api_key=api_key,
            allow_urls=allow_urls.split(","),
            cors_origins=[one for one in cors_origins.split(",") if one.strip()],
            replaced=Replaced(model, opened) if model and not no_reload else None,
            learn=learn,
        )
    if candidates is not None or len(classifier.seen_classes_):
        classifier.candidates()  # unknown ones are errors now
    warmed(classifier)
    if not is_loopback(host) and api_key is None:
        say(
            f"warning: {escaped(host)} lets other machines ask this service, and no "
            f"key is needed. Give --api-key, or leave --host out."
        )
    serve_app(app, host, port, timeout)


def _loaded(
    model: Path, backbone: str | None, embeddings: str | None
) -> "ZeroShotClassifier":
    from zeroshot import load
    from zeroshot.saving.bundle import remains_of_bundle

    if not remains_of_bundle(model):
        raise ArtifactError(
            f"Expected a folder that 'zeroshot fit' wrote. Got '{model}', which is "
            f"none. Correct the path, or leave it out."
        )
    return load(model, backbone=backbone, embeddings=embeddings)


def serve_app(
    app: "FastAPI",
    host: str = "127.0.0.1",
    port: int = 8000,
    seconds: float = 60.0,
    *,
    opened: bool = False,
) -> None:
    """Serve an application until it is stopped, and say where.

    ``opened``: open the page in a browser.
    """
    import threading
    import webbrowser

    from zeroshot.serving.running import run

    def tell(address: str) -> None:
        page = f"{address}/ui/"
        print_text(f"Serving at {address}; for people: {page}", err=True)
        if opened:  # a browser of text would keep us
            threading.Thread(target=webbrowser.open, args=[page], daemon=True).start()

    run(app, host, port, seconds=seconds, started=tell)


COMMANDS = ((_serve, 'zeroshot serve model/ --labels "okapi,zebra,horse"'),)
