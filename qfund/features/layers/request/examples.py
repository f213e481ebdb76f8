"""What the page Layers opens on, and what ships with the model."""

from qfund.checkpoints import catalog
from qfund.core.request import Request
from qfund.features.layers.request.modules import LayersRequest
from qfund.features.layers.request.recipe import RecipeRequest
from qfund.features.layers.request.swaps import SwapsRequest

#: Per weight, scales included: as INT4 in groups of 32 takes on FP32.
BITS = 5.0

LAYERS: tuple[Request, ...] = (
    SwapsRequest(catalog.EXAMPLE, part="module"),
    LayersRequest(catalog.EXAMPLE, gradient=True),
    RecipeRequest(catalog.EXAMPLE, bits=BITS),
)
