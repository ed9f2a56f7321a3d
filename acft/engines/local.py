"""Drawing in this process, with the policy's own weights."""

from contextlib import AbstractContextManager, nullcontext

from acft.backbone.loading import Backbone
from acft.engines.base import ENGINES, Engine, EngineKind
from acft.sampling import DrawRequest, Samples, draw
from acft.settings import AdapterSettings, RunSettings


class LocalEngine:
    """Has the weights already."""

    def publish(
        self,
        tuned: Backbone,  # noqa: ARG002
        merged: Backbone,  # noqa: ARG002
        adapter: AdapterSettings | None,  # noqa: ARG002
    ) -> str:
        """Nothing to do; every policy brings its weights."""
        return ""

    def draw(self, backbone: Backbone, weights: str, request: DrawRequest) -> Samples:  # noqa: ARG002
        """See ``sampling.draw``."""
        return draw(backbone, request)

    def prepared(self, backbone: Backbone) -> AbstractContextManager[None]:  # noqa: ARG002
        """Nothing is set up."""
        return nullcontext()

    def close(self) -> None:
        """Nothing was left anywhere."""


LOCAL = LocalEngine()


def build(run: RunSettings) -> Engine:  # noqa: ARG001
    """This process, with the weights it trains; needs no server."""
    return LOCAL


ENGINES.add("local")(EngineKind(build))
