"""Conformance kits for authors of plugins: a check for each promise of a contract.

``check_backbone(MyBackbone())`` in one test is enough; with pytest, one test per check
reads better::

    @pytest.mark.parametrize("check", backbone_checks())
    def test_my_backbone_keeps_the_contract(check):
        check(MyBackbone())

A broken promise raises `zeroshot.errors.PluginContractError`, which names the plugin,
the check, what was expected and what came. The kits need no pytest, no network and no
files.
"""

from zeroshot.testing.backbones import backbone_checks, check_backbone
from zeroshot.testing.embeddings import check_text_embeddings, text_embeddings_checks
from zeroshot.testing.phrases import check_phrases, phrases_checks
from zeroshot.testing.projections import check_projection, projection_checks

__all__ = [
    "backbone_checks",
    "check_backbone",
    "check_phrases",
    "check_projection",
    "check_text_embeddings",
    "phrases_checks",
    "projection_checks",
    "text_embeddings_checks",
]
