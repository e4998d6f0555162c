#!/usr/bin/env bash
# Installs rllib_hetero, and football where its wheel is there, into the Python that is active.
#
#   docker/scripts/install_package.sh WHEELS CONSTRAINTS EXTRAS [TORCH_INDEX]
#
# WHEELS       folder with one wheel of rllib_hetero, and at most one of gfootball
# CONSTRAINTS  the versions that the tests ran with
# EXTRAS       extras of rllib_hetero, with commas between; may be empty
# TORCH_INDEX  a further index for torch, such as the one with builds without CUDA
set -euo pipefail

if (($# < 3 || $# > 4)) || [[ $1 == -* ]]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
extras=$3
index=()
if [[ -n ${4:-} ]]; then index=(--extra-index-url "$4"); fi

wheel=$(find "$1" -name 'rllib_hetero-*.whl')
if [[ ! -f $wheel ]]; then
    echo "install_package.sh: not one wheel of rllib_hetero in $1, but: ${wheel:-none}" >&2
    exit 1
fi
pip_install() { python3 -m pip install --disable-pip-version-check --no-cache-dir "$@"; }

football=$(find "$1" -name 'gfootball-*.whl')
if [[ -n $football ]]; then
    # --no-deps: it declares packages that it does not need and that get in the way of others.
    pip_install --no-deps "$football"
    extras=${extras:+$extras,}football
fi
# By its path, not its name: the index might have another package of that name.
pip_install -c "$2" "${index[@]}" "$wheel${extras:+[$extras]}"
