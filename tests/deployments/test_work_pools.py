"""Work-pool templates: what Prefect's workers make of them is what an operator means, and what the platform's schema accepts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import kubernetes_validate
import prefect
import pytest
import yaml
from docker.models.containers import _create_container_args
from jsonschema import Draft202012Validator
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.templating import find_placeholders
from prefect.workers.process import ProcessJobConfiguration
from prefect_docker.worker import DockerWorker, DockerWorkerJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
PREFECTS_OWN = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
TYPES = {"process": "prefect", "docker": "prefect-docker", "kubernetes": "prefect-kubernetes"}
WORKER = {
    "process": ProcessJobConfiguration,
    "docker": DockerWorkerJobConfiguration,
    "kubernetes": KubernetesWorkerJobConfiguration,
}
KUBERNETES = "1.37"


def template(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "work_pools" / f"{kind}.yaml").read_text())
    return found


def placeholders(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from placeholders(part)
    elif isinstance(value, str):
        yield from (found.name for found in find_placeholders(value))


def rendered(kind: str, **variables: Any) -> Any:
    """As the worker does it for a flow run of a deployment with these job variables."""
    given = {"env": {"GIVEN": "yes"}, **variables}
    made = asyncio.run(WORKER[kind].from_template_and_values(template(kind), given, client=object()))
    # Else the worker would look for a server on this machine, and use the machine's own network for it.
    with temporary_settings({PREFECT_API_URL: "http://prefect.example.com/api"}):
        made.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="weekly-run"))
    return made


@pytest.mark.parametrize("kind", TYPES)
def test_a_template_has_all_that_prefect_s_own_has(kind: str) -> None:
    own = json.loads(PREFECTS_OWN.read_text())[TYPES[kind]][kind]["default_base_job_configuration"]
    ours = template(kind)
    assert own["job_configuration"].keys() <= ours["job_configuration"].keys()
    assert own["variables"]["properties"].keys() <= ours["variables"]["properties"].keys()
    for name, schema in own["variables"]["properties"].items():
        here = ours["variables"]["properties"][name]
        kept = {key: schema[key] for key in ("type", "enum", "allOf", "items") if key in schema}
        assert {key: here.get(key) for key in kept} == kept, name


@pytest.mark.parametrize("kind", TYPES)
def test_every_variable_is_defined_used_and_has_a_legal_default(kind: str) -> None:
    ours = template(kind)
    schema = ours["variables"]
    Draft202012Validator.check_schema(schema)
    # Where `env` is a mapping with values of its own, workers merge the variable into it.
    assert {*placeholders(ours["job_configuration"]), "env"} == set(schema["properties"])
    for name, one in schema["properties"].items():
        if "default" in one:
            Draft202012Validator({**one, "definitions": schema.get("definitions", {})}).validate(one["default"])
        assert one.get("type") or one.get("allOf"), name


def test_a_process_gets_its_threads_and_sees_the_gpus_that_it_is_given() -> None:
    env = rendered("process").env
    assert (env["OMP_NUM_THREADS"], env["GIVEN"]) == ("4", "yes")
    assert rendered("process", gpus="1", threads="2").env["CUDA_VISIBLE_DEVICES"] == "1"
    assert rendered("process", env={"OMP_NUM_THREADS": "1"}).env["OMP_NUM_THREADS"] == "1"


def test_a_container_is_made_with_limits_and_the_volume() -> None:
    gpus = [{"driver": "nvidia", "count": 1, "capabilities": [["gpu"]]}]
    configuration = rendered("docker", gpus=gpus)
    settings = DockerWorker._build_container_settings(None, None, configuration)  # type: ignore[arg-type]
    sent = _create_container_args({**settings, "version": "1.50"})  # what docker-py would send to an engine
    host = sent["host_config"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (8 * 2**30, 8 * 2**30, 4 * 10**9)
    assert (host["Init"], host["AutoRemove"], host["CapDrop"]) == (True, True, ["ALL"])
    assert host["Binds"] == ["softprompt:/srv/softprompt"]
    assert host["DeviceRequests"][0]["Count"] == 1
    assert {"OMP_NUM_THREADS": "4", "GIVEN": "yes", "HF_HOME": "/srv/softprompt/models"}.items() <= sent["environment"].items()
    assert sent["command"] == "prefect flow-run execute" and "entrypoint" not in sent


def valid(manifest: dict[str, Any]) -> dict[str, Any]:
    """The pod's spec of a Job that Kubernetes takes as it stands."""
    pod: dict[str, Any] = manifest["spec"]["template"]["spec"]
    for field in ("parallelism", "completions"):  # Prefect's worker insists on them here, where Kubernetes knows none
        pod.pop(field)
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    return pod


def test_a_pod_requests_what_it_uses_and_is_the_only_one_of_its_run() -> None:
    manifest = rendered("kubernetes").job_manifest
    pod = valid(manifest)
    (container,) = pod["containers"]
    assert (manifest["spec"]["backoffLimit"], manifest["spec"]["parallelism"], pod["restartPolicy"]) == (0, 1, "Never")
    assert container["resources"] == {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"memory": "8Gi"}}
    env = {one["name"]: one["value"] for one in container["env"]}
    assert (env["GIVEN"], env["OMP_NUM_THREADS"], env["SOFTPROMPT_HOME"]) == ("yes", "2", "/srv/softprompt/home")
    assert container["args"] == ["prefect", "flow-run", "execute"] and "command" not in container


def test_a_pod_can_have_a_gpu_on_nodes_of_a_kind() -> None:
    given = {"gpus": 1, "node_selector": {"pool": "gpu"}, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}
    pod = valid(rendered("kubernetes", cpu_limit="8", **given).job_manifest)
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": "8", "memory": "8Gi", "nvidia.com/gpu": 1}
    assert pod["nodeSelector"] == {"pool": "gpu"}


def test_the_schema_would_notice_a_misspelt_field() -> None:
    manifest = rendered("kubernetes").job_manifest
    manifest["spec"]["template"]["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="resource"):
        valid(manifest)


def test_the_worker_s_manifests_are_legal_and_name_what_its_runs_expect() -> None:
    manifests = {one["kind"]: one for one in yaml.safe_load_all((DEPLOYMENTS / "kubernetes" / "worker.yaml").read_text())}
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    runs = {name: one.get("default") for name, one in template("kubernetes")["variables"]["properties"].items()}
    assert {one["metadata"].get("namespace", runs["namespace"]) for one in manifests.values()} == {runs["namespace"]}
    assert manifests["PersistentVolumeClaim"]["metadata"]["name"] == runs["volume_claim"]
    (container,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": runs["env_secret"]}}] and container["image"] == runs["image"]
