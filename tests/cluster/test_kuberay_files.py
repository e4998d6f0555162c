"""KubeRay's files: the schema of its CRDs, the operator's own rules, Ray's autoscaler."""

import copy
import json
import os
import shlex
from pathlib import Path

import jsonschema
import kuberay_rules
import pytest
from files import CLUSTER, DOCKERFILE, ROOT, cluster_of, ray_document

from rllib_hetero.cli.request import make_config
from rllib_hetero_cli.parser import make_parser

FILES = ["raycluster.yaml", "rayjob.yaml"]
SCHEMAS = {"RayCluster": "rayclusters.v1.json", "RayJob": "rayjobs.v1.json"}


def schema_folder():
    """Not in this repository: the CRDs are KubeRay's own, and large."""
    named = os.environ.get("KUBERAY_CRDS")
    folder = Path(named) if named else ROOT.parent / "shared" / "kuberay-crds"
    if not folder.is_dir():
        pytest.skip(f"no schemas in {folder}; KUBERAY_CRDS names the folder with KubeRay's CRDs")
    return folder


def strict(schema):
    """As the API server with strict field validation: an unknown field is an error.

    A field with a default is filled in before the server looks at what is required.
    """
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    out = {k: v if k in ("enum", "default") else strict(v) for k, v in schema.items()}
    fields = schema.get("properties")
    if schema.get("type") == "object" and isinstance(fields, dict):
        if "additionalProperties" not in schema and not schema.get(
            "x-kubernetes-preserve-unknown-fields"
        ):
            out["additionalProperties"] = False
        required = schema.get("required", [])
        out["required"] = [f for f in required if "default" not in fields.get(f, {})]
    return out


def schema_faults(document):
    stored = json.loads((schema_folder() / SCHEMAS[document["kind"]]).read_text())
    schema = strict(stored["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    errors = jsonschema.Draft7Validator(schema).iter_errors(document)
    return ["/".join(map(str, e.absolute_path)) + ": " + e.message for e in errors]


@pytest.mark.parametrize("name", FILES)
def test_fits_the_crd(name):
    document = ray_document(name)
    assert document["apiVersion"] == "ray.io/v1"
    assert schema_faults(document) == []


def test_the_schema_is_taken_strictly():
    job = ray_document("rayjob.yaml")
    job["spec"]["shutdownAfterJobFinish"] = True  # one letter short of a field
    cluster = job["spec"]["rayClusterSpec"]
    cluster["autoscalerOptions"]["version"] = "v3"
    cluster["workerGroupSpecs"][0]["minReplicas"] = "none"
    faults = "\n".join(schema_faults(job))
    assert len(faults.splitlines()) == 3
    assert "shutdownAfterJobFinish" in faults
    assert "'v3' is not one of" in faults
    assert "workerGroupSpecs/0/minReplicas" in faults


@pytest.mark.parametrize("name", FILES)
def test_the_operator_accepts_it(name):
    assert kuberay_rules.faults(ray_document(name)) == []


# --- every rule catches a broken copy -------------------------------------------------------------


def pod(cluster, group=0):
    return cluster["workerGroupSpecs"][group]["template"]["spec"]


def variable(cluster, name):
    pod(cluster)["containers"][0]["env"].append({"name": name, "value": "x"})


def without_fault_tolerance(cluster):
    del cluster["gcsFaultToleranceOptions"]
    variable(cluster, "RAY_REDIS_ADDRESS")


BROKEN_CLUSTERS = {
    "tokens_need_a_version_that_has_them": [
        lambda c: c.pop("rayVersion"),
        lambda c: c.update(rayVersion="2.51.9"),
    ],
    "redis_address_only_with_fault_tolerance": [without_fault_tolerance],
    "redis_password_in_one_place": [
        lambda c: variable(c, "REDIS_PASSWORD"),
        lambda c: c["headGroupSpec"]["rayStartParams"].update({"redis-password": "x"}),
    ],
    "fault_tolerance_by_redis": [
        lambda c: c["gcsFaultToleranceOptions"].update(backend="rocksdb"),
        lambda c: c["gcsFaultToleranceOptions"].pop("redisAddress"),
    ],
    "resources_in_one_place": [
        lambda c: c["workerGroupSpecs"][0].update(resources={"CPU": "4"}),
    ],
    "labels_not_among_start_params": [
        lambda c: c["headGroupSpec"]["rayStartParams"].update(labels="a=b"),
    ],
    "start_params_are_text": [
        lambda c: c["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda c: c["workerGroupSpecs"][0]["rayStartParams"].update(resources="{driver: 1}"),
    ],
    "autoscaler_v2_restarts_no_pods": [lambda c: pod(c).update(restartPolicy="Always")],
    "autoscaler_version_in_one_place": [lambda c: variable(c, "RAY_enable_autoscaler_v2")],
    "replicas_within_bounds": [
        lambda c: c["workerGroupSpecs"][0].update(minReplicas=5),
        lambda c: c["workerGroupSpecs"][0].update(replicas=5),
    ],
    "group_names_differ": [lambda c: c["workerGroupSpecs"][0].update(groupName="learners")],
}
BROKEN_JOBS = {
    "deletion_needs_shutdown": [
        lambda j: j.pop("shutdownAfterJobFinishes"),
        lambda j: j.update(shutdownAfterJobFinishes=False, suspend=True),
    ],
    "one_way_of_deletion": [lambda j: j.update(deletionStrategy={"deletionRules": [{}]})],
    "retries_need_a_cluster_of_their_own": [
        lambda j: j.update(clusterSelector={"ray.io/cluster": "mine"}),
        lambda j: j.update(submissionMode="InteractiveMode"),
    ],
    "sidecar_mode_has_no_submitter": [
        lambda j: j.update(submissionMode="SidecarMode", submitterConfig={"backoffLimit": 1}),
    ],
    "runtime_env_is_yaml": [
        lambda j: j.update(runtimeEnvYAML="env_vars: ["),
        lambda j: j.update(runtimeEnvYAML="env_vars"),
    ],
    "entrypoint_resources_are_json": [lambda j: j.update(entrypointResources="driver: 1")],
    "deadline_is_positive": [lambda j: j.update(activeDeadlineSeconds=0)],
    "no_kubernetes_tokens_in_a_job": [
        lambda j: j["rayClusterSpec"]["authOptions"].update(enableK8sTokenAuth=True),
    ],
}


def cases(broken):
    return [(rule, damage) for rule, damages in broken.items() for damage in damages]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("rule", "damage"), cases(BROKEN_CLUSTERS))
def test_a_broken_cluster_is_caught_by(rule, damage, name):
    document = ray_document(name)
    damage(cluster_of(document))
    assert {found for found, _ in kuberay_rules.faults(document)} == {rule}


@pytest.mark.parametrize(("rule", "damage"), cases(BROKEN_JOBS))
def test_a_broken_job_is_caught_by(rule, damage):
    document = ray_document("rayjob.yaml")
    damage(document["spec"])
    assert {found for found, _ in kuberay_rules.faults(document)} == {rule}


@pytest.mark.parametrize("name", ["Happo", "9lives", "happo_spread", "h" * 48])
def test_a_bad_name_is_caught(name):
    document = ray_document("rayjob.yaml")
    document["metadata"]["name"] = name
    assert {found for found, _ in kuberay_rules.faults(document)} == {"name_is_a_dns_label"}


def test_no_rule_is_untested():
    tested = {*BROKEN_CLUSTERS, *BROKEN_JOBS}
    assert tested == {r.__name__ for r in kuberay_rules.CLUSTER_RULES + kuberay_rules.JOB_RULES}


# --- what Ray and this library make of them -------------------------------------------------------


def autoscaler_view(cluster):
    """What Ray's autoscaler, which runs beside the head, reads out of the cluster's spec."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    document = {"metadata": {"name": "c", "namespace": "n"}, "spec": copy.deepcopy(cluster)}
    return autoscaling_config._derive_autoscaling_config_from_ray_cr(document)


@pytest.mark.parametrize("name", FILES)
def test_the_autoscaler_sees_the_resources(name):
    seen = autoscaler_view(cluster_of(ray_document(name)))
    resources = {
        group: {k: v for k, v in kind["resources"].items() if k != "memory"}
        for group, kind in seen["available_node_types"].items()
    }
    assert resources == {
        "headgroup": {"CPU": 0},
        "drivers": {"CPU": 4, "driver": 1},
        "env-runners": {"CPU": 16, "env_runner": 16},
        "learners": {"CPU": 8, "GPU": 1},
    }


@pytest.mark.parametrize("name", FILES)
def test_an_idle_cluster_costs_its_head_only(name):
    kinds = autoscaler_view(cluster_of(ray_document(name)))["available_node_types"]
    assert sum(kind["min_workers"] for kind in kinds.values()) == 0


def entrypoint_config(job):
    """The config that the job's command trains with, through the command line's own code."""
    _, _, *arguments = shlex.split(job["spec"]["entrypoint"])
    return make_config(make_parser().parse_args(["train", *arguments]))


def test_the_jobs_command_is_valid_and_fits_the_cluster():
    pytest.importorskip("mpe2")
    job = ray_document("rayjob.yaml")
    config = entrypoint_config(job)
    kinds = autoscaler_view(cluster_of(job))["available_node_types"]

    def most(group, resource):
        return kinds[group]["max_workers"] * kinds[group]["resources"][resource]

    assert config.custom_resources_per_env_runner == {"env_runner": 1}
    assert 0 < config.num_env_runners <= most("env-runners", "env_runner")
    assert 0 < config.num_learners * config.num_gpus_per_learner <= most("learners", "GPU")
    asked = json.loads(job["spec"]["entrypointResources"])
    assert asked == {"driver": kinds["drivers"]["resources"]["driver"]}
    assert job["spec"]["entrypointNumCpus"] == kinds["drivers"]["resources"]["CPU"]


def test_the_jobs_command_is_in_the_image_and_writes_to_the_volume():
    job = ray_document("rayjob.yaml")
    script, folder, *_ = shlex.split(job["spec"]["entrypoint"])
    assert script == "/home/ray/cluster/train_or_resume.sh"
    assert "cluster/train_or_resume.sh /home/ray/cluster/" in DOCKERFILE.read_text()
    assert os.access(CLUSTER / "train_or_resume.sh", os.X_OK)
    for group in kuberay_rules.groups(cluster_of(job)):
        (mount,) = kuberay_rules.containers(group)[0]["volumeMounts"]
        assert Path(mount["mountPath"]) in Path(folder).parents
    # The submitter splits the command into words and quotes them again.
    assert not set("|&;<>()$`\\\"'*?[#~%\n") & set(job["spec"]["entrypoint"])
