#!/usr/bin/env bash
# Checks what was installed: versions, a step of an algorithm's config, football where it belongs.
#
#   docker/scripts/check_image.sh RAY_VERSION [WHEELS]
#
# Ends with an error if the packages pulled in another Ray than the image's: nodes with unequal
# versions refuse to work together.
set -euo pipefail

if (($# < 1 || $# > 2)) || [[ $1 == -* ]]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
if ((EUID == 0)); then
    echo "check_image.sh: runs as root; the image's user has to be ray" >&2
    exit 1
fi
# From elsewhere, so that the installed package is imported and no checkout.
cd /
RAY_VERSION=$1 python3 - <<'PYTHON'
import os
import sys

import ray
import torch

import rllib_hetero

wanted = os.environ["RAY_VERSION"]
if ray.__version__ != wanted:
    sys.exit(f"check_image.sh: Ray {ray.__version__} is installed, the image's is {wanted}")
rllib_hetero.HAPPOConfig().environment("matrix_game", env_config={"game": "climbing"}).validate()
print(f"ray {ray.__version__}, torch {torch.__version__}, CUDA {torch.version.cuda}")
PYTHON
if [[ -n ${2:-} && -n $(find "$2" -name 'gfootball-*.whl') ]]; then
    python3 -c 'import gfootball_engine; print("football loads")'
fi
