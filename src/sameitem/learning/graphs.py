"""The two graphs that serving runs, made of what was learned: `detect` for whole photos, `embed` for crops."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sameitem.core.records import Pixels
from sameitem.features.model_folder import BOX_SCORES, BOXES, CATEGORY_LOGITS
from sameitem.features.preprocess import Fit, Layout, Preprocessing, to_square
from sameitem.learning.category import ShortCategory
from sameitem.learning.export import shrink_weights, to_int8, to_onnx
from sameitem.learning.network import Candidates, FeatureBranch
from sameitem.learning.phases import DETECT_PX
from sameitem.learning.trunk import MEAN, SPREAD, Trunk, folded_trunk
from sameitem.learning.weights import Learned

CANDIDATES = 3  # rectangles of a photo
DETECT_PREPROCESSING = Preprocessing(DETECT_PX, Fit.PAD, 255, (MEAN,) * 3, (SPREAD,) * 3, Layout.NCHW)


class Detect(nn.Module):
    """(n, 3, 160, 160) whole photos to (n, 3, 4) rectangles, (n, 3) scores and (n, categories) logits."""

    def __init__(self, trunk: Trunk, candidates: Candidates, category: ShortCategory | None) -> None:
        super().__init__()
        self.trunk, self.candidates, self.category = trunk, candidates, category

    def forward(self, photo: Tensor) -> tuple[Tensor, ...]:
        """Find the subject, other objects, and the category where there is a head for it."""
        fine, coarse = self.trunk.begin(photo)
        short = self.trunk.shorten(coarse)
        boxes, scores = self.candidates(fine, coarse, short)
        if self.category is None:
            return boxes, scores
        return boxes, scores, self.category(short)


def detect_module(learned: Learned) -> Detect:
    """Return the detection branch in torch, as its graph computes it."""
    assert learned.head is not None
    return Detect(folded_trunk(), Candidates(learned.head, count=CANDIDATES), learned.category).eval()


def detect_graph(learned: Learned, samples: Sequence[Pixels]) -> bytes:
    """Export the detection branch as int8.

    Args:
        learned: with a head.
        samples: photos that show the range of every activation.
    """
    names = [BOXES, BOX_SCORES, *([CATEGORY_LOGITS] if learned.category is not None else [])]
    exact = to_onnx(detect_module(learned), input_name="image", output_names=names, side_px=DETECT_PX)
    inputs = (to_square(sample, DETECT_PREPROCESSING)[None] for sample in samples)
    return shrink_weights(to_int8(exact, inputs, input_name="image"))


def embed_graph(learned: Learned, preprocessing: Preprocessing, samples: Sequence[Pixels]) -> bytes:
    """Export the feature branch as int8.

    Args:
        learned: what was learned.
        preprocessing: of crops; the side of the graph's input.
        samples: crops or photos that show the range of every activation.
    """
    exact = embed_exact(learned.feature, preprocessing)
    inputs = (to_square(sample, preprocessing)[None] for sample in samples)
    return shrink_weights(to_int8(exact, inputs, input_name="image"))


def embed_exact(branch: FeatureBranch, preprocessing: Preprocessing) -> bytes:
    """Export the feature branch in float32."""
    with torch.no_grad():
        return to_onnx(branch, input_name="image", output_names=["feature"], side_px=preprocessing.side_px)
