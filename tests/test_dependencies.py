"""Every package that is imported is declared, and none besides."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
DISTRIBUTION = {
    "PIL": "pillow",
    "ai_edge_litert": "ai-edge-litert",
    "huggingface_hub": "huggingface-hub",
    "keras_hub": "keras-hub",
    "open_clip": "open-clip-torch",
    "mlflow": "mlflow-skinny",
    "prometheus_client": "prometheus-client",
    "skimage": "scikit-image",
    "sentence_transformers": "sentence-transformers",
    "sklearn": "scikit-learn",
    "tensorflow_hub": "tensorflow-hub",
    "tensorflow_text": "tensorflow-text",
}
BROUGHT_ALONG = {
    "click": "typer",
    "h11": "uvicorn",
    "joblib": "scikit-learn",
    "packaging": "tensorflow",
    "transformers": "sentence-transformers",
}
# By tensorflow-hub, in versions that we say; by starlette, for forms.
CALLED_BY_NAME = {"python-multipart", "tf-keras"}


def imported():
    """Return the packages that any module of ours imports, also inside functions."""
    found = set()
    for file in (ROOT / "zeroshot").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call) and "import_module" in ast.dump(node.func):
                found |= {
                    argument.value.partition(".")[0]
                    for argument in node.args
                    if isinstance(argument, ast.Constant)
                }
    return found - set(sys.stdlib_module_names) - {"zeroshot"}


def declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return {
        re.match(r"[\w-]+", requirement)[0]
        for group in (project["dependencies"], *extras)
        for requirement in group
    }


def test_dependencies_are_those_that_are_imported():
    needed = {
        BROUGHT_ALONG.get(name) or DISTRIBUTION.get(name, name) for name in imported()
    }
    assert needed - CALLED_BY_NAME == declared() - CALLED_BY_NAME
