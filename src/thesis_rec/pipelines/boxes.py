"""How nodes are named, and their boxes in kedro-viz: each pipeline is one that opens."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from kedro.pipeline import Node, Pipeline

Names = list[str] | dict[str, str] | None


def step(
    work: Callable[..., Any], outputs: str | list[str] | None = None, inputs: Names = None, tags: str | None = None
) -> Node:
    """A node that bears its function's name, as all of the project do: ``<function>_node``.

    Args:
        work: The function.
        outputs: Datasets that it makes.
        inputs: Datasets that it reads; by default those that its parameters are called like, ``parameters`` being
            those of its pipeline.
        tags: A tag.
    """
    own = f"params:{work.__module__.split('.')[-2]}"
    read = inputs or [own if name == "parameters" else name for name in signature(work).parameters]
    return BoxedNode(work, read, outputs, name=f"{work.__name__}_node", tags=tags)


class BoxedNode(Node):
    """A node whose namespace is its box in kedro-viz and no part of its name.

    Run reports, cluster jobs and ``kedro run --nodes`` know nodes by their names, and a node that two pipelines share
    is one in their sum: the box is that of the first.
    """

    @property
    def name(self) -> str:
        """The name without the namespace."""
        return self.short_name

    def _copy(self, **overwrite_params: Any) -> Node:
        copied = super()._copy(**overwrite_params)
        copied.__class__ = BoxedNode
        return copied


def boxed(pipeline: Pipeline, box: str) -> Pipeline:
    """The same pipeline in a box, whose name is a tag of its nodes as well."""
    return Pipeline([node._copy(namespace=box) for node in pipeline.nodes], tags=box)
