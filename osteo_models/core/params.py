"""params.yaml as frozen models: read once, checked as a whole, every fault reported together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from osteo_models.core.errors import ParamsError
from osteo_models.core.params_faults import as_list, explain_fault, find_reference_faults
from osteo_models.core.search_params import FrozenModel, Search, check_order
from osteo_models.core.stage_table import PAPER_TABLES, StageRow, StageTable
from osteo_models.core.terms import (
    IMAGE_SETS,
    MODALITIES,
    STAGE_PATTERN,
    Finding,
    ImageSet,
    Modality,
    Precision,
    Protocol,
    Stage,
    Validation,
    WordMeaning,
)

PARAMS_FILE = "params.yaml"


Percent = Annotated[float, Field(ge=0, le=100)]
Millimetres = Annotated[float, Field(gt=0)]
Years = Annotated[int, Field(ge=0, le=120)]
Range = Annotated[tuple[float, float], AfterValidator(check_order)]
Percentiles = Annotated[tuple[Percent, Percent], AfterValidator(check_order)]
Ages = Annotated[tuple[Years, Years], AfterValidator(check_order)]


class Synthetic(FrozenModel):
    """The synthetic cohort that stands in for hospital data."""

    seed: int = Field(ge=0)
    scale: Literal["paper", "small"]


class Data(FrozenModel):
    """Where the image data set lies, and how to make it when it is synthetic."""

    path: str
    synthetic: Synthetic | None = None
    words: Mapping[WordMeaning, tuple[str, ...]] = {}  # further words of headers, by meaning


class Cohort(FrozenModel):
    """Inclusion and exclusion (figures 1 and 2 of the paper)."""

    t_score_below: float
    imaging_within_days: int = Field(ge=0)
    control_age_years: Ages
    excluded_findings: tuple[Finding, ...]
    control_excluded_findings: tuple[Finding, ...]


class Intensity(FrozenModel):
    """What becomes black and white in the images of one modality; which of the two, `terms.MODALITIES` says."""

    window_hu: Range | None = None
    percentiles: Percentiles | None = None


Section = TypeVar("Section", bound=FrozenModel)


def _check_each(by_modality: Mapping[Modality, Section]) -> Mapping[Modality, Section]:
    faults = [f"missing {name}" for name in MODALITIES if name not in by_modality]
    faults += [f"unknown modality {name!r}; known: {', '.join(MODALITIES)}" for name in by_modality.keys() - MODALITIES]
    for name, section in by_modality.items():
        if isinstance(section, Intensity) and name in MODALITIES:
            needed = "window_hu" if MODALITIES[name].intensity == "hounsfield" else "percentiles"
            if section.model_dump(exclude_none=True).keys() != {needed}:
                faults.append(f"{name}: give `{needed}` alone")
    if faults:
        raise ValueError("; ".join(faults))
    return by_modality


EachModality = Annotated[Mapping[Modality, Section], AfterValidator(_check_each)]


class Prepare(FrozenModel):
    """From a slice to 80 x 60 grey values of 8 bits."""

    crop_mm: tuple[Millimetres, Millimetres]
    intensity: EachModality[Intensity]


class Holdout(FrozenModel):
    """The hold-out of one modality: whole patients of close ages."""

    images_per_class: int = Field(ge=1)
    control_age_years: Ages
    osteoporosis_age_years: Ages


class PatientTest(FrozenModel):
    """The patient-based test set of one modality: whole patients of varied ages."""

    images_per_class: int = Field(ge=1)
    control_patients: int = Field(ge=1)
    osteoporosis_patients: int = Field(ge=1)


class Splits(FrozenModel):
    """Hold-out, patient-based test set and folds."""

    seed: int = Field(ge=0)
    folds: int = Field(ge=2, le=20)
    holdout: EachModality[Holdout]
    patient_test: EachModality[PatientTest]


def _check_paper_table(table: int) -> int:
    if table not in PAPER_TABLES:
        raise ValueError(f"{table} is no table of networks in the paper; those are {list(PAPER_TABLES)}")
    return table


StageName = Annotated[str, Field(pattern=STAGE_PATTERN)]


def _check_images(images: ImageSet) -> ImageSet:
    if images not in IMAGE_SETS:
        raise ValueError(f"{images!r} is no image set; those are {', '.join(IMAGE_SETS)}")
    return images


class StageParams(FrozenModel):
    """One stage: networks on image sets under one validation.

    Attributes:
        title: Heading of the report; by default made from validation and images.
        paper_table: The paper's table of the same experiment, which the report shows next to it.
    """

    images: tuple[Annotated[ImageSet, AfterValidator(_check_images)], ...] = Field(min_length=1)
    validation: Validation
    architectures: tuple[str, ...] = Field(min_length=1)
    title: str = ""
    paper_table: Annotated[int, AfterValidator(_check_paper_table)] | None = None


class Resources(FrozenModel):
    """What one trial takes of the cluster."""

    cpu: float = Field(gt=0)
    gpu: float = Field(ge=0)


class Experiments(FrozenModel):
    """The training recipe (the paper's is Adam 1e-3, batches of 16)."""

    seed: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    precision: Precision
    resources: Resources


class Profile(FrozenModel):
    """How much of the paper's protocol is run, and with which momentum of batch norm (0.99 is the paper's)."""

    epochs: int = Field(ge=1)
    batch_norm_momentum: float = Field(ge=0, lt=1)
    image_protocol: tuple[str, ...]
    leave_out: tuple[str, ...] = ()


class Evaluate(FrozenModel):
    """Statistics computed from the predictions."""

    threshold: float = Field(ge=0, le=1)
    seed: int = Field(ge=0)


class GateRule(FrozenModel):
    """One promotion rule; `registry/rules` holds the functions by name.

    Attributes:
        stages: That it is asked of; `parse_params` adds those of `validation`.
        validation: Asks it of every stage with one of these validations.
        test: Which claim against the champion is tested.
        bound: What is compared with `value`: the lower end of the 95 % interval (the rule needs certainty), the
            estimate, or the upper end (the rule only vetoes what is certainly too low).
        profiles: Versions of other profiles are not asked; empty means all.
    """

    rule: str
    stages: tuple[Stage, ...] = ()
    validation: Annotated[tuple[Validation, ...], BeforeValidator(as_list)] = ()
    metric: str | None = None
    value: float | None = None
    test: Literal["superiority", "non_inferiority"] | None = None
    bound: Literal["low", "point", "high"] | None = None
    profiles: tuple[str, ...] = ()


class Params(FrozenModel):
    """The whole of params.yaml."""

    profile: str
    data: Data
    cohort: Cohort
    prepare: Prepare
    splits: Splits
    architectures: Mapping[str, Mapping[str, Any]]
    stages: Annotated[Mapping[StageName, StageParams], Field(min_length=1)]
    experiments: Experiments
    profiles: Mapping[str, Profile]
    search: Search
    evaluate: Evaluate
    ensembles: tuple[str, ...] = ()
    gate: Annotated[tuple[GateRule, ...], Field(min_length=1)]

    @property
    def active_profile(self) -> Profile:
        """The profile in force."""
        return self.profiles[self.profile]

    @property
    def stage_table(self) -> StageTable:
        """The stages as rows."""
        return StageTable(
            tuple(
                StageRow(
                    name,
                    item.validation,
                    item.images,
                    item.architectures,
                    self.splits.folds if item.validation == "folds" else 1,
                    item.title,
                    item.paper_table,
                )
                for name, item in self.stages.items()
            )
        )

    def list_run(self, stage: Stage) -> tuple[str, ...]:
        """The architectures that a stage runs in the profile in force."""
        left_out = self.active_profile.leave_out
        return tuple(name for name in self.stages[stage].architectures if name not in left_out)

    def protocols(self, stage: Stage, architecture: str) -> tuple[Protocol, ...]:
        """The protocols that a stage runs for an architecture; test sets are of whole patients only."""
        if self.stages[stage].validation != "folds":
            return ("patient",)
        return ("patient", "image") if architecture in self.active_profile.image_protocol else ("patient",)


def parse_params(raw: object, *, where: str = PARAMS_FILE) -> Params:
    """Check a parsed YAML document.

    Raises:
        ParamsError: Listing every fault with its path and what was found.
    """
    if not isinstance(raw, dict):
        raise ParamsError(f"a mapping was expected, found {type(raw).__name__}", where=where)
    faults = find_reference_faults(cast("dict[str, Any]", raw))
    params = None
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        faults = [explain_fault(fault) for fault in error.errors()] + faults
    if params is None or faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        remedy = "fix params.yaml and run the command again"
        raise ParamsError(f"{count}: " + "; ".join(faults), where=where, remedy=remedy)
    return params.model_copy(update={"gate": tuple(_name_stages(rule, params.stage_table) for rule in params.gate)})


def _name_stages(rule: GateRule, table: StageTable) -> GateRule:
    """The rule with the stages of its `validation` among those that it names."""
    return rule.model_copy(update={"stages": tuple(dict.fromkeys((*rule.stages, *table.select(*rule.validation))))})


def load_params(path: Path | None = None) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: The file is missing, is no YAML, or holds faults (all of them are listed).
    """
    path = path or Path(PARAMS_FILE)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError("file not found", where=str(path), remedy="run the command in the project's folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"not valid YAML ({' '.join(str(error).split())})", where=str(path)) from None
    return parse_params(raw, where=str(path))
