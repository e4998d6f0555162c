#!/usr/bin/env bash
# Builds the wheel of rllib_hetero.
#
#   docker/scripts/build_package.sh SOURCE FOLDER
#
# SOURCE  a checkout of the repository; nothing is written there
# FOLDER  where the wheel goes
set -euo pipefail

if (($# != 2)); then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# A copy, as setuptools writes build/ and *.egg-info beside the sources.
for name in pyproject.toml setup.py README.md LICENSE NOTICE rllib_hetero rllib_hetero_cli; do
    cp -r "$1/$name" "$scratch/"
done
mkdir -p "$2"
python3 -m pip wheel -q --disable-pip-version-check --no-cache-dir --no-deps -w "$2" "$scratch"
