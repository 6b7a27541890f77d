# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "onnxruntime", "pillow"]
# ///
"""Name photographs by what `zeroshot export --to onnx` wrote: FILE PHOTO ..."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

about = json.loads(Path(f"{sys.argv[1]}.json").read_text("utf-8"))
how, reject = about["preprocessing"], about["reject"]
size, bilinear = (how["width"], how["height"]), Image.Resampling.BILINEAR
fit = ImageOps.fit if how["resize"] == "crop" else Image.Image.resize
session = onnxruntime.InferenceSession(sys.argv[1])
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image).convert("RGB")
    image = fit(image, size, bilinear)
    found = session.run(None, {"image": np.asarray(image)[None]})
    out = dict(zip([each.name for each in session.get_outputs()], found, strict=True))
    best = out["scores"][0].argmax()
    label, probability = about["labels"][best], out["probabilities"][0][best]
    if reject and out[reject["where_the_largest_of"]].max() < reject["is_below"]:
        label = reject["answer"]
    print(f"{path}\t{label}\t{probability:.4f}")
