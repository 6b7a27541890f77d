# /// script
# requires-python = ">=3.11"
# dependencies = ["ai-edge-litert", "numpy", "pillow"]
# ///
"""Name photographs by what `zeroshot export --to tflite` wrote: FILE PHOTO ..."""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

about = json.loads(Path(f"{sys.argv[1]}.json").read_text("utf-8"))
how, reject = about["preprocessing"], about["reject"]
size, bilinear = (how["width"], how["height"]), Image.Resampling.BILINEAR
fit = ImageOps.fit if how["resize"] == "crop" else Image.Image.resize
run = Interpreter(sys.argv[1]).get_signature_runner("serving_default")
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image).convert("RGB")
    image = fit(image, size, bilinear)
    out = run(image=np.asarray(image)[None])
    best = out["scores"][0].argmax()
    label, probability = about["labels"][best], out["probabilities"][0][best]
    if reject and out[reject["where_the_largest_of"]].max() < reject["is_below"]:
        label = reject["answer"]
    print(f"{path}\t{label}\t{probability:.4f}")
