"""The names in paths, with the examples that the description of the API gives."""

from typing import Annotated

from fastapi import Path

_DEVICE = "1 to 128 ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '"

DeviceId = Annotated[str, Path(description=_DEVICE, examples=["edge-1"])]
ModuleId = Annotated[str, Path(description=f"{_DEVICE}; $edgeAgent and $edgeHub are there", examples=["sensor"])]
_DEPLOYMENT = "1 to 128 lower-case ASCII letters, digits and - + % _ * ! '"

DeploymentId = Annotated[str, Path(description=_DEPLOYMENT, examples=["north"])]
NewDeploymentId = Annotated[str, Path(description=_DEPLOYMENT, examples=["south"])]
StatusName = Annotated[str, Path(description="target, actual, healthy and so on", examples=["target"])]
