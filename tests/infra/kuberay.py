"""The fields of KubeRay's ray.io/v1 and of Kubernetes' pods that the files use; a field that is not here is a fault.

A subset, written by hand from KubeRay's reference (RayCluster, RayJob, AuthOptions) of 1.5.1 and later: no installed
package carries the CRD. It finds a field misspelt or misplaced; what the operator makes of the rest is not tested.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Quantity = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(_Strict):
    name: Label


class AuthOptions(_Strict):
    mode: Literal["disabled", "token"]


class Port(_Strict):
    name: Label
    containerPort: int = Field(gt=0, lt=65536)


class Resources(_Strict):
    requests: dict[str, Quantity | int]
    limits: dict[str, Quantity | int]


class Mount(_Strict):
    name: Label
    mountPath: str


class Reference(_Strict):
    name: Label


class Source(_Strict):
    secretRef: Reference


class Variable(_Strict):
    name: str
    value: str


class Capabilities(_Strict):
    drop: list[str]


class ContainerSecurity(_Strict):
    allowPrivilegeEscalation: bool
    capabilities: Capabilities


class Container(_Strict):
    name: Label
    image: str
    workingDir: str
    securityContext: ContainerSecurity
    resources: Resources
    volumeMounts: list[Mount]
    ports: list[Port] = []
    env: list[Variable] = []
    envFrom: list[Source] = []


class Claim(_Strict):
    claimName: Label


class Volume(_Strict):
    name: Label
    persistentVolumeClaim: Claim


class PodSecurity(_Strict):
    runAsNonRoot: bool
    runAsUser: int = Field(gt=0)
    fsGroup: int = Field(gt=0)


class Pod(_Strict):
    automountServiceAccountToken: bool
    securityContext: PodSecurity
    containers: list[Container] = Field(min_length=1)
    volumes: list[Volume]

    @model_validator(mode="after")
    def _mounts_are_volumes(self) -> Pod:
        known = {volume.name for volume in self.volumes}
        if unknown := {mount.name for each in self.containers for mount in each.volumeMounts} - known:
            raise ValueError(f"no volume {', '.join(sorted(unknown))}")
        return self


class Template(_Strict):
    spec: Pod


class HeadGroup(_Strict):
    serviceType: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    rayStartParams: dict[str, str]  # each of them a string, numbers too
    template: Template


class WorkerGroup(_Strict):
    groupName: Label
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=1)
    rayStartParams: dict[str, str]
    template: Template

    @model_validator(mode="after")
    def _replicas_lie_between(self) -> WorkerGroup:
        if not self.minReplicas <= self.replicas <= self.maxReplicas:
            raise ValueError("replicas must lie between minReplicas and maxReplicas")
        return self


class ClusterSpec(_Strict):
    rayVersion: str
    authOptions: AuthOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]


class RayCluster(_Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class JobSpec(_Strict):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int = Field(ge=0)
    activeDeadlineSeconds: int = Field(gt=0)
    backoffLimit: int = Field(ge=0)
    rayClusterSpec: ClusterSpec


class RayJob(_Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec
