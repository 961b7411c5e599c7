"""Jobs of cross-validation, and the key by which the result of a finished one is reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osteo_models.core.stage_table import PAPER_TABLES
from osteo_models.core.terms import PRETRAINED, ImageSet, Modality, Protocol, Stage, Validation, job_name, modalities_of
from osteo_models.models import complete_spec, find_entry
from osteo_models.training.identity import list_versions
from osteo_models.training.pretrained_plan import PretrainedWeights, plan_pretrained
from osteo_models.training.recipe import Recipe

if TYPE_CHECKING:
    from osteo_models.core.params import Params
    from osteo_models.training.job_data import Tables

KEY_LENGTH = 16


@dataclass(frozen=True)
class Job:
    """One architecture on one image set in one stage under one protocol: a Ray Tune job whose trials are its folds.

    Attributes:
        spec: Settings of the architecture.
        recipe: With the precision already resolved.
        folds: Number of trials.
        threads: Of one trial; the order of sums, and so the last bits of a result, depend on them.
        device: `cpu` or `cuda`.
        inputs: Hashes of the images and of the rows of its folds, from `digest_inputs`.
        versions: Versions of the code that computes its result, from `list_versions`.
        pretrained: Initial weights of a pretrained network; None for all others.
    """

    stage: Stage
    architecture: str
    images: ImageSet
    protocol: Protocol
    validation: Validation
    spec: Mapping[str, Any]
    recipe: Recipe
    seed: int
    folds: int
    threads: int
    device: str
    inputs: Mapping[str, str] = field(repr=False)
    versions: Mapping[str, int | str] = field(repr=False)
    pretrained: PretrainedWeights | None = None

    @property
    def name(self) -> str:
        """Run name and file stem, such as `unimodal-mri-patient`."""
        return job_name(self.architecture, self.images, self.protocol)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities of its images; for the multimodal network one tower each, in this order."""
        return tuple(self.spec.get("modalities") or modalities_of(self.images))

    @property
    def key(self) -> str:
        """Hash of everything that decides the result; the same key means the same result."""
        content = asdict(self)
        content["start"] = pretrained = content.pop("pretrained")  # the name that the keys of finished jobs contain
        if pretrained:
            del pretrained["features"]  # made of all images; `inputs` are those that the job reads
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    def fold_seed(self, fold: int) -> int:
        """The seed of a fold's initial weights and batch order."""
        return int(np.random.SeedSequence((self.seed, fold)).generate_state(1)[0])


def plan_jobs(
    params: Params,
    tables: Tables,
    recipe: Recipe,
    *,
    threads: int = 1,
    device: str = "cpu",
    weights_dir: Path | None = None,
) -> list[Job]:
    """All jobs of the profile in force, the longest first so that the workers finish together.

    Args:
        params: params.yaml.
        tables: From `load_tables`.
        recipe: With the precision resolved for the workers.
        threads: Of one trial.
        device: Of the workers.
        weights_dir: OSTEO_WEIGHTS_DIR, searched first for the weights of pretrained networks.

    Raises:
        InputError: An architecture is not in the catalogue.
        WeightsError: A pretrained network's weights cannot be had.
    """
    settings = {"precision": recipe.precision, "device": device, "threads": threads}
    pretrained = plan_pretrained(params, weights_dir, tables.digest_images(), **settings)
    jobs = [
        Job(
            stage=stage.name,
            architecture=architecture,
            images=images,
            protocol=protocol,
            validation=stage.validation,
            spec=dict(params.architectures[architecture]),
            recipe=recipe,
            seed=params.experiments.seed,
            folds=stage.folds,
            threads=threads,
            device=device,
            inputs={},
            versions=list_versions(architecture, params.architectures[architecture]),
            pretrained=pretrained.get(architecture),
        )
        for stage in params.stage_table
        for architecture in params.list_run(stage.name)
        for images in stage.images
        if images in find_entry(architecture, params.architectures[architecture]).image_sets
        for protocol in params.protocols(stage.name, architecture)
    ]
    jobs = [replace(job, inputs=tables.digest_inputs(job)) for job in jobs]
    return sorted(jobs, key=lambda job: (-job.folds * len(job.modalities), job.stage, job.name))


def describe_left_out(params: Params) -> list[str]:
    """What the profile in force leaves out of the paper's protocol, in sentences; empty for the whole protocol."""
    profile, paper = params.active_profile, params.profiles.get("paper", params.active_profile)
    left_out: list[str] = []
    if profile.epochs < paper.epochs:
        left_out.append(f"{profile.epochs} epochs instead of {paper.epochs}")
    if profile.batch_norm_momentum != paper.batch_norm_momentum:
        left_out.append(f"batch-norm momentum {profile.batch_norm_momentum:g} instead of {paper.batch_norm_momentum:g}")
    run = {name for stage in params.stages for name in params.list_run(stage)}
    if absent := [name for name in PRETRAINED if name not in run]:
        left_out.append(f"the pretrained networks {', '.join(absent)}")
    specs = {name: complete_spec(name, params.architectures[name]) for name in PRETRAINED if name in run}
    if drawn := [name for name, spec in specs.items() if spec["weights"] == "random"]:
        left_out.append(f"the ImageNet weights of {', '.join(drawn)} (random ones instead)")
    missing = [table for table in PAPER_TABLES if not params.stage_table.find_paper_table(table)]
    left_out += [f"table {table} of the paper" for table in missing]
    without = [name for name in paper.image_protocol if name in run and name not in profile.image_protocol]
    if without:
        left_out.append(f"the image protocol of {', '.join(without)}")
    return left_out
