"""The commands that list plugins: backbones, projections."""

from typing import TYPE_CHECKING, Annotated

from zeroshot.cli import options
from zeroshot.cli.tables import print_properties, print_rows

if TYPE_CHECKING:
    from zeroshot.registry import Kind

__all__ = ["COMMANDS", "plugin_rows"]

BACKBONE_COLUMNS = (
    "name",
    "distribution",
    "embeddings too",
    "numbers",
    "pixels",
    "MB",
    "licence",
)

NAME = options.argument(
    "Show this one in detail; none of its weights are loaded.",
    autocompletion=options.names_of("backbones"),
)


def _backbones(
    name: Annotated[str | None, NAME] = None,
    output: Annotated[options.Format, options.FORMAT] = options.Format.table,
) -> None:
    """List the backbones, or show one: sizes, pretraining, licence, weights, route.

    A backbone turns images into features, of so many numbers, from images of so many
    pixels a side, by weights of so many megabytes. One that is listed under embeddings
    too may need no others: a joint model (clip:/folder) is its own partner. Backbones
    of other installed packages are listed too.
    """
    if name is None:
        print_rows(BACKBONE_COLUMNS, _backbone_rows(), output)
        return
    from dataclasses import asdict

    from zeroshot import registry
    from zeroshot.backbones.base import card_of
    from zeroshot.backbones.keras.routes import KerasBackbone
    from zeroshot.joint.base import as_joint

    backbone = registry.resolve_backbone(name)
    owners = {
        registry.distribution_of("backbones", part): None
        for part in registry.backbone_names(name)
    }
    height, width = backbone.input_size
    joint = as_joint(backbone)
    partner = {}
    if joint is not None:
        partner = {
            "joint partner": "itself: it encodes texts into the same space",
            "logit scale": joint.logit_scale,
            "logit bias": joint.logit_bias,
        }
    route = (
        {"route": backbone.route_taken()} if isinstance(backbone, KerasBackbone) else {}
    )
    print_properties(
        {
            "name": backbone.name,
            "distribution": ", ".join(owners),
            "spec": registry.spec_of(backbone),
            "feature length": backbone.dim,
            "input size": f"{height} x {width} pixels",
            **partner,
            **asdict(card_of(backbone)),
            **route,
        },
        output,
    )


def _projections(
    output: Annotated[options.Format, options.FORMAT] = options.Format.table,
) -> None:
    """List the projections: maps from features to the vectors of labels."""
    print_rows(("name", "distribution"), plugin_rows("projections"), output)


def _backbone_rows() -> list[dict[str, object]]:
    """Return what is known of each without making one; None where nothing is."""
    from zeroshot import registry
    from zeroshot.backbones.keras.table import applications

    both, known = registry.names("embeddings"), applications()
    rows: list[dict[str, object]] = []
    for row in plugin_rows("backbones"):
        facts = known.get(row["name"])
        rows.append(
            {
                **row,
                "embeddings too": "yes" if row["name"] in both else None,
                "numbers": facts and facts.dim,
                "pixels": facts and facts.size,
                "MB": facts and round(4e-6 * facts.parameters),
                "licence": facts and (facts.licence or "not stated"),
            }
        )
    return rows


def plugin_rows(kind: "Kind") -> list[dict[str, str]]:
    """Return name and distribution of all registered plugins of a kind."""
    from zeroshot.registry import distribution_of, names

    return [
        {"name": name, "distribution": distribution_of(kind, name)}
        for name in names(kind)
    ]


COMMANDS = (
    (_backbones, "zeroshot backbones mobilenet-v2"),
    (_projections, "zeroshot projections"),
)
