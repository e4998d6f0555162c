"""What KubeRay's operator refuses although the schema allows it. One function for each rule.

Each takes what it looks at as a plain dict and yields one message for each fault. Written from the
documented behaviour of KubeRay 1.7.0; a rule of a newer operator is missing here until it is added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

Spec = Mapping[str, Any]

TOKENS_SINCE = (2, 52, 0)
# Custom resources, ports and the like stay allowed beside a group's `resources`.
RESOURCE_PARAMS = ("num-cpus", "num-gpus", "memory", "resources")
# Room for what the operator appends when it names pods and services.
LONGEST_NAME = {"RayCluster": 50, "RayJob": 47}


def groups(cluster: Spec) -> list[Spec]:
    """The head group and all worker groups of a cluster's spec."""
    return [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]


def containers(group: Spec) -> list[Spec]:
    return group["template"]["spec"]["containers"]


def environment(cluster: Spec) -> set[str]:
    """The names of all environment variables that Ray's containers are given."""
    return {
        variable["name"]
        for group in groups(cluster)
        for container in containers(group)
        for variable in container.get("env", [])
    }


def start_params(cluster: Spec) -> set[str]:
    return {name for group in groups(cluster) for name in group.get("rayStartParams", {})}


# --- both kinds ----------------------------------------------------------------------------------


def name_is_a_dns_label(document: Spec) -> Iterator[str]:
    name = document["metadata"]["name"]
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"the name {name!r} must be lower-case letters, digits and dashes"
    if len(name) > LONGEST_NAME[document["kind"]]:
        yield f"the name {name!r} is longer than {LONGEST_NAME[document['kind']]} characters"


# --- RayCluster ----------------------------------------------------------------------------------


def tokens_need_a_version_that_has_them(cluster: Spec) -> Iterator[str]:
    if cluster.get("authOptions", {}).get("mode") != "token":
        return
    version = cluster.get("rayVersion")
    if version is None:
        yield "authOptions.mode token needs rayVersion"
    elif tuple(int(part) for part in version.split(".")) < TOKENS_SINCE:
        yield f"authOptions.mode token needs Ray 2.52.0, rayVersion is {version}"


def redis_address_only_with_fault_tolerance(cluster: Spec) -> Iterator[str]:
    if "RAY_REDIS_ADDRESS" in environment(cluster) and "gcsFaultToleranceOptions" not in cluster:
        yield "RAY_REDIS_ADDRESS needs gcsFaultToleranceOptions"


def redis_password_in_one_place(cluster: Spec) -> Iterator[str]:
    if "gcsFaultToleranceOptions" not in cluster:
        return
    if "REDIS_PASSWORD" in environment(cluster):
        yield "REDIS_PASSWORD beside gcsFaultToleranceOptions"
    if "redis-password" in start_params(cluster):
        yield "redis-password in rayStartParams beside gcsFaultToleranceOptions"


def fault_tolerance_by_redis(cluster: Spec) -> Iterator[str]:
    """The other backend is an alpha, behind a feature gate of the operator."""
    options = cluster.get("gcsFaultToleranceOptions")
    if options is None:
        return
    if options.get("backend", "redis") != "redis":
        yield f"backend {options['backend']} needs a feature gate"
    elif not options.get("redisAddress"):
        yield "gcsFaultToleranceOptions needs redisAddress"


def resources_in_one_place(cluster: Spec) -> Iterator[str]:
    for group in groups(cluster):
        both = [p for p in RESOURCE_PARAMS if p in group.get("rayStartParams", {})]
        if group.get("resources") and both:
            yield f"group {group.get('groupName', 'head')}: resources and rayStartParams {both}"


def labels_not_among_start_params(cluster: Spec) -> Iterator[str]:
    if "labels" in start_params(cluster):
        yield "rayStartParams.labels is refused, use the group's labels"


def start_params_are_text(cluster: Spec) -> Iterator[str]:
    """They become words of a command line; custom resources are JSON within quotes."""
    for group in groups(cluster):
        for name, value in group.get("rayStartParams", {}).items():
            if not isinstance(value, str):
                yield f"rayStartParams.{name} must be text"
        custom = group.get("rayStartParams", {}).get("resources")
        if custom is not None and not _is_json_object(custom[1:-1].replace("\\", "")):
            yield f"rayStartParams.resources is not JSON within quotes: {custom}"


def autoscaler_v2_restarts_no_pods(cluster: Spec) -> Iterator[str]:
    if cluster.get("autoscalerOptions", {}).get("version") != "v2":
        return
    for group in groups(cluster):
        policy = group["template"]["spec"].get("restartPolicy", "Never")
        if policy != "Never":
            yield f"autoscaler v2 needs restartPolicy Never, not {policy}"


def autoscaler_version_in_one_place(cluster: Spec) -> Iterator[str]:
    chosen = "version" in cluster.get("autoscalerOptions", {})
    if chosen and "RAY_enable_autoscaler_v2" in environment(cluster):
        yield "RAY_enable_autoscaler_v2 beside autoscalerOptions.version"


def replicas_within_bounds(cluster: Spec) -> Iterator[str]:
    for group in cluster.get("workerGroupSpecs", []):
        least, most = group.get("minReplicas", 0), group.get("maxReplicas", 2**31 - 1)
        if not 0 <= least <= group.get("replicas", least) <= most:
            yield f"group {group['groupName']}: minReplicas <= replicas <= maxReplicas"


def group_names_differ(cluster: Spec) -> Iterator[str]:
    names = [group["groupName"] for group in cluster.get("workerGroupSpecs", [])]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two groups are named {name}"


# --- RayJob --------------------------------------------------------------------------------------


def deletion_needs_shutdown(job: Spec) -> Iterator[str]:
    if job.get("shutdownAfterJobFinishes"):
        return
    if job.get("ttlSecondsAfterFinished", 0) > 0:
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    if job.get("suspend"):
        yield "suspend needs shutdownAfterJobFinishes"


def one_way_of_deletion(job: Spec) -> Iterator[str]:
    rules = job.get("deletionStrategy", {}).get("deletionRules")
    if rules and (job.get("shutdownAfterJobFinishes") or job.get("ttlSecondsAfterFinished")):
        yield "deletionRules beside shutdownAfterJobFinishes or ttlSecondsAfterFinished"


def retries_need_a_cluster_of_their_own(job: Spec) -> Iterator[str]:
    if not job.get("backoffLimit"):
        return
    if "clusterSelector" in job:
        yield "backoffLimit with clusterSelector"
    if job.get("submissionMode") == "InteractiveMode":
        yield "backoffLimit in InteractiveMode"


def sidecar_mode_has_no_submitter(job: Spec) -> Iterator[str]:
    if job.get("submissionMode") != "SidecarMode":
        return
    for field in ("clusterSelector", "submitterPodTemplate", "submitterConfig"):
        if field in job:
            yield f"SidecarMode with {field}"
    head = job.get("rayClusterSpec", {}).get("headGroupSpec")
    if head and head["template"]["spec"].get("restartPolicy", "Never") != "Never":
        yield "SidecarMode needs the head's restartPolicy Never"


def runtime_env_is_yaml(job: Spec) -> Iterator[str]:
    try:
        parsed = yaml.safe_load(job.get("runtimeEnvYAML", "{}"))
    except yaml.YAMLError as problem:
        yield f"runtimeEnvYAML: {problem}"
        return
    if not isinstance(parsed, dict):
        yield "runtimeEnvYAML must hold keys and values"


def entrypoint_resources_are_json(job: Spec) -> Iterator[str]:
    if not _is_json_object(job.get("entrypointResources", "{}")):
        yield f"entrypointResources is not a JSON object: {job['entrypointResources']}"


def deadline_is_positive(job: Spec) -> Iterator[str]:
    if job.get("activeDeadlineSeconds", 1) <= 0:
        yield "activeDeadlineSeconds must be positive"


def no_kubernetes_tokens_in_a_job(job: Spec) -> Iterator[str]:
    if job.get("rayClusterSpec", {}).get("authOptions", {}).get("enableK8sTokenAuth"):
        yield "enableK8sTokenAuth is not for a RayJob"


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


CLUSTER_RULES = (
    tokens_need_a_version_that_has_them,
    redis_address_only_with_fault_tolerance,
    redis_password_in_one_place,
    fault_tolerance_by_redis,
    resources_in_one_place,
    labels_not_among_start_params,
    start_params_are_text,
    autoscaler_v2_restarts_no_pods,
    autoscaler_version_in_one_place,
    replicas_within_bounds,
    group_names_differ,
)
JOB_RULES = (
    deletion_needs_shutdown,
    one_way_of_deletion,
    retries_need_a_cluster_of_their_own,
    sidecar_mode_has_no_submitter,
    runtime_env_is_yaml,
    entrypoint_resources_are_json,
    deadline_is_positive,
    no_kubernetes_tokens_in_a_job,
)


def faults(document: Spec) -> list[tuple[str, str]]:
    """All faults of a RayCluster or RayJob: (name of the rule, message)."""
    looked_at: list[tuple[Any, Spec]] = [(name_is_a_dns_label, document)]
    if document["kind"] == "RayJob":
        looked_at += [(rule, document["spec"]) for rule in JOB_RULES]
        cluster = document["spec"].get("rayClusterSpec")
    else:
        cluster = document["spec"]
    if cluster is not None:
        looked_at += [(rule, cluster) for rule in CLUSTER_RULES]
    return [(rule.__name__, message) for rule, where in looked_at for message in rule(where)]
