#!/usr/bin/env bash
# Builds the wheel, installs it in a fresh environment beside the dependencies of another one, and runs
# what a user would: train, evaluate and check on the command line, check_env, and the policies without
# Ray. Nothing of the checkout can be imported there.
#
#   scripts/check_wheel.sh [PYTHON]    PYTHON has the dependencies installed; default: .venv/bin/python
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${1:-.venv/bin/python}")
work=$(mktemp -d /tmp/wheel.XXXXXX)
trap 'rm -rf "$work"' EXIT

# From a copy: a build leaves files behind, and takes up those of the build before.
mkdir "$work/source"
cp -r pyproject.toml setup.py README.md LICENSE NOTICE rllib_hetero rllib_hetero_cli "$work/source"
"$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work" "$work/source"

"$python" -m venv --without-pip "$work/venv"
fresh="$work/venv/bin/python"
"$python" -m pip --python "$fresh" install --quiet --no-deps --no-index "$work"/rllib_hetero-*.whl
# The other environment's packages, by their folder: an editable install of the checkout does not
# work through that.
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    >"$("$fresh" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"

mkdir "$work/elsewhere"
cd "$work/elsewhere"
export RAY_AUTH_MODE=disabled RAY_TMPDIR="$work/r" RAY_USAGE_STATS_ENABLED=0
unset PYTHONPATH
"$fresh" - "$work/venv" <<'PYTHON'
import sys

import rllib_hetero

assert rllib_hetero.__file__.startswith(sys.argv[1]), rllib_hetero.__file__
PYTHON
"$work/venv/bin/rllib-hetero" train --algo HAPPO --env mpe \
    --env-config '{"scenario": "simple_spread"}' --env-steps 400 --out run --seed 1 \
    --set env_runners.num_env_runners=0 --set training.train_batch_size_per_learner=200
"$work/venv/bin/rllib-hetero" evaluate run --episodes 3
"$work/venv/bin/rllib-hetero" check matrix_game '{"game": "climbing"}'
"$fresh" - <<'PYTHON'
import numpy as np
import torch

from rllib_hetero import check_env, export_programs, load_policies

policies = load_policies("run/checkpoint")
seen = {a: np.full(s.shape, 0.3, np.float32)
        for a, s in policies.layout.team.observation_spaces.items()}
actions = policies.act(seen)
for agent, file in export_programs("run/checkpoint", "programs").items():
    out = torch.export.load(file).module()(observation=torch.from_numpy(seen[agent])[None])
    np.testing.assert_allclose(out["action"][0], actions[agent], rtol=1e-5, atol=1e-6)
report = check_env("mpe", {"scenario": "simple_reference"}, steps=100)
assert report.ok, report
print(f"The wheel works: {len(actions)} policies act.")
PYTHON
