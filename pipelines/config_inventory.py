"""``inventory:`` and ``training:`` of ``modelport.yaml``: what the SBOM says beyond what the image tells."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from pipelines.config_values import Section, problem

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]


def _licence(text: str) -> str:
    from pipelines.scanners.licence_names import from_expression  # noqa: PLC0415  700 names, for who names one

    known = from_expression(text)
    if not known:
        hint = 'write it like "Apache-2.0"; one of your own is "LicenseRef-Name"'
        raise problem("licence", f'"{text}" is not an SPDX licence expression', hint)
    return known


class WeightsOrigin(Section):
    """Where some of the weight files come from, where the image doesn't tell."""

    files: _Text
    """A glob of paths in the image, like "**/model.safetensors"."""
    source: _Text | None = None
    """An address, or "hf://ORGANISATION/NAME@REVISION" for the Hugging Face hub."""
    license: Annotated[_Text, AfterValidator(_licence)] | None = None
    """The SPDX licence expression of these weights, where it is another than the image's."""


class InventorySettings(Section):
    """What goes into the SBOM beyond what is found in the image."""

    spdx: bool = False
    """Also an SPDX 2.3 document, in the run's directory and beside the image."""
    task: _Text | None = None
    """What the model is for, like "text-classification"; else its model card's pipeline_tag."""
    weights: tuple[WeightsOrigin, ...] = ()
    """Origin and licence of weight files; the first glob that fits a file counts."""


class Training(Section):
    """The training run that made the weights; the SBOM names it. It is not asked for."""

    run: _Text | None = None
    """Its address, like "https://mlflow.example/#/experiments/1/runs/4f2c" or "mlflow://…"."""
    id: _Text | None = None
    """Its id in the system that tracks training runs."""
    data: tuple[_Text, ...] = Field(default=())
    """The data that it was trained on, by names or addresses."""

    @model_validator(mode="after")
    def _says_something(self) -> Training:
        if not (self.run or self.id):
            raise problem(
                "either", 'training needs a "run" or an "id"', "remove the section if it has neither"
            )
        return self
