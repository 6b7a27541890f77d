"""Where --help shows an option: the ones that most people need first."""

from typing import Any

__all__ = ["sort_into_panels"]

# Ten at most for a command; an option of none of these panels is in the first one.
MODEL = "Model and vectors"
SCORES = "Scores"
TRAINING = "Training"
IMAGES = "Images and cache"
LIMITS = "Limits; more is refused"
ENGINES = "Very many images"
PANELS = {
    MODEL: (
        *("backbone", "embeddings", "projection", "pretrained_classes", "pretrained"),
        "template",
        *("skip_unknown", "vocabulary", "model"),
    ),
    SCORES: ("seen_penalty", "temperature", "reject", "multi_label", "softmax"),
    TRAINING: (
        *("fine_tune", "hold_out", "unseen_labels", "seed", "proposed_split"),
        *("hierarchy", "images_alone", "unmasked"),
    ),
    IMAGES: (
        *("batch_size", "no_cache", "on_error", "fail_on_error", "class_names"),
        *("labels_file", "yes"),
    ),
    LIMITS: (
        *("max_body", "max_images", "max_pixels", "max_labels", "max_label_length"),
        *("max_waiting", "timeout"),
    ),
    ENGINES: ("engine", "address", "workers"),
}
# What a command cannot do without is in its first panel.
FIRST = {
    "fit": ("backbone", "embeddings", "pretrained", "fine_tune", "hold_out"),
    "evaluate": ("backbone", "embeddings", "model"),
    "predict": ("reject",),
    "sort": ("reject",),
    "serve": ("model",),
    "embed": ("backbone", "class_names"),
    "export": ("model", "labels_file", "reject"),
    "check": ("embeddings", "labels_file"),
    "lookup": ("embeddings",),
    "nearest": ("embeddings",),
}


def sort_into_panels(group: Any) -> None:
    """Put the options of all commands of a group into panels."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            sort_into_panels(command)
        for parameter in command.params:
            if parameter.name not in FIRST.get(name, ()):
                panel = next(
                    (p for p, of in PANELS.items() if parameter.name in of), None
                )
                parameter.rich_help_panel = panel
