"""The cluster's files agree with each other, with Ray's launcher, and with the shell."""

import re
import subprocess

import pytest
import yaml
from files import (
    CLUSTER,
    DOCKERFILE,
    KUBERAY,
    LAUNCHER,
    ROOT,
    cluster_of,
    documents,
    ray_document,
    shell_scripts,
    tool,
)
from kuberay_rules import containers, groups

LAUNCHER_FILES = sorted(LAUNCHER.glob("*.yaml"))
RAY_FILES = ["raycluster.yaml", "rayjob.yaml"]


# --- KubeRay -------------------------------------------------------------------------------------


def core_objects():
    """Everything in cluster/kuberay that is not Ray's, by kind and name."""
    return {
        (document["kind"], document["metadata"]["name"]): document
        for name in ("redis.yaml", "storage.yaml")
        for document in documents(KUBERAY / name)
    }


def all_nodes(name):
    return groups(cluster_of(ray_document(name)))


def test_a_job_brings_the_same_cluster_as_the_one_that_stays():
    assert cluster_of(ray_document("rayjob.yaml")) == cluster_of(ray_document("raycluster.yaml"))


@pytest.mark.parametrize("name", RAY_FILES)
def test_redis_is_where_the_head_looks_for_it(name):
    objects = core_objects()
    options = cluster_of(ray_document(name))["gcsFaultToleranceOptions"]
    host, port = options["redisAddress"].split(":")
    service = objects["Service", host]["spec"]
    redis = objects["StatefulSet", "redis"]["spec"]
    assert [p["port"] for p in service["ports"]] == [int(port)]
    assert service["selector"].items() <= redis["template"]["metadata"]["labels"].items()
    assert redis["selector"]["matchLabels"] == service["selector"]
    (container,) = redis["template"]["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == int(port)
    (password,) = container["env"]
    assert password["valueFrom"] == options["redisPassword"]["valueFrom"]
    assert f"$({password['name']})" in container["args"]


def test_the_guide_makes_the_secret_that_is_read():
    options = cluster_of(ray_document("raycluster.yaml"))["gcsFaultToleranceOptions"]
    key = options["redisPassword"]["valueFrom"]["secretKeyRef"]
    command = f"kubectl create secret generic {key['name']} --from-literal={key['key']}="
    for path in (KUBERAY / "redis.yaml", ROOT / "docs" / "cluster.md"):
        assert command in path.read_text(), path


@pytest.mark.parametrize("name", RAY_FILES)
def test_every_node_mounts_the_volume_that_exists(name):
    ((_, claim),) = [key for key in core_objects() if key[0] == "PersistentVolumeClaim"]
    for group in all_nodes(name):
        (volume,) = group["template"]["spec"]["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim
        (mount,) = containers(group)[0]["volumeMounts"]
        assert mount == {"name": volume["name"], "mountPath": "/mnt/ray-results"}


@pytest.mark.parametrize("name", RAY_FILES)
def test_no_container_of_ray_is_root_or_becomes_it(name):
    for group in all_nodes(name):
        user = group["template"]["spec"]["securityContext"]
        assert (user["runAsNonRoot"], user["runAsUser"]) == (True, 1000)
        for container in containers(group):
            assert container["securityContext"] == {"allowPrivilegeEscalation": False}


@pytest.mark.parametrize("name", RAY_FILES)
def test_gpus_and_the_gpu_image_come_together(name):
    for group in all_nodes(name):
        (container,) = containers(group)
        has_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert container["image"].endswith("-gpu" if has_gpu else "-cpu")
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_no_file_holds_a_secret():
    for path in sorted(CLUSTER.rglob("*.yaml")):
        for document in documents(path):
            assert document.get("kind") != "Secret", path
        written = re.search(r"(?i)(password|token|api_?key): *['\"]?\w{8,}", path.read_text())
        assert written is None, f"{path}: {written}"


# --- all of them ---------------------------------------------------------------------------------


def images(value):
    """Every image of ours that a parsed file names."""
    if isinstance(value, dict):
        return {found for part in value.values() for found in images(part)}
    if isinstance(value, list):
        return {found for part in value for found in images(part)}
    return {value} if isinstance(value, str) and "rllib-hetero:" in value else set()


def test_one_image_tag_everywhere_and_it_is_what_the_dockerfile_builds():
    ray_version = re.search(r"^ARG RAY_VERSION=(\S+)$", DOCKERFILE.read_text(), re.M).group(1)
    python_tag = re.search(r"^ARG PYTHON_TAG=(\S+)$", DOCKERFILE.read_text(), re.M).group(1)
    package = re.search(r'^version = "([\d.]+?)(\.dev\d+)?"$', _pyproject(), re.M).group(1)
    tag = f"ghcr.io/example/rllib-hetero:{package}-ray{ray_version}-{python_tag}"
    for path in sorted(CLUSTER.rglob("*.yaml")):
        for document in documents(path):
            assert images(document) <= {f"{tag}-cpu", f"{tag}-gpu"}, path
    assert images(ray_document("rayjob.yaml")) == {f"{tag}-cpu", f"{tag}-gpu"}
    for name in RAY_FILES:
        assert cluster_of(ray_document(name))["rayVersion"] == ray_version


def test_the_images_ray_is_the_one_that_the_tests_run_with():
    ray_version = re.search(r"^ARG RAY_VERSION=(\S+)$", DOCKERFILE.read_text(), re.M).group(1)
    assert f"\nray=={ray_version}\n" in (ROOT / "requirements" / "constraints.txt").read_text()


def _pyproject():
    return (ROOT / "pyproject.toml").read_text()


# --- the cluster launcher ------------------------------------------------------------------------


def prepared(path):
    """What `ray up` does with a file before it talks to a cloud."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(path.read_text()))
    validate_config(config)
    return config


@pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.stem)
def test_the_launcher_accepts_it(path):
    config = prepared(path)
    assert config["cluster_name"] == "rllib-hetero"
    # Left out, Ray's defaults would install a nightly Ray over the image's.
    assert config["setup_commands"] == []


@pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.stem)
def test_a_typo_in_a_launcher_file_is_found(path, tmp_path):
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace("upscaling_speed", "upscaling_sped"))
    with pytest.raises(Exception, match="upscaling_sped"):
        prepared(copy)


@pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.stem)
def test_launched_nodes_want_a_token_and_bring_it(path):
    config = yaml.safe_load(path.read_text())
    assert config["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    start = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_cloud_learners_have_a_gpu_and_its_image(name):
    config = yaml.safe_load((LAUNCHER / f"{name}.yaml").read_text())
    kinds = config["available_node_types"]
    assert kinds[config["head_node_type"]]["resources"] == {"CPU": 0}
    assert kinds["learner"]["resources"]["GPU"] == 1
    assert kinds["learner"]["docker"]["worker_image"].endswith("-gpu")
    runner = kinds["env_runner"]["resources"]
    assert runner["CPU"] == runner["env_runner"]
    workers = sum(kind.get("max_workers", 0) for kind in kinds.values())
    assert config["max_workers"] == workers


def test_launched_and_slurm_jobs_have_time_for_a_checkpoint():
    for path in LAUNCHER_FILES:
        options = yaml.safe_load(path.read_text())["docker"]["run_options"]
        assert "--env RAY_JOB_STOP_WAIT_TIME_S=120" in options
    job = ray_document("rayjob.yaml")
    environment = yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]
    assert environment == {"RAY_JOB_STOP_WAIT_TIME_S": "120"}


# --- shell ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", shell_scripts(), ids=lambda path: path.name)
def test_bash_can_read_it(path):
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize("path", shell_scripts(), ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path):
    found = subprocess.run([tool("shellcheck"), path], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
