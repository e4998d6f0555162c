"""Plays an episode with the policies of a checkpoint and films it. Ray is not started.

How to run this script
----------------------
`python examples/play_checkpoint.py results/happo-simple_spread-s0/checkpoint episode.mp4`

For a checkpoint of another environment, give what was given to `config.environment(...)`:
`--env mamujoco --env-config '{"scenario": "HalfCheetah", "agent_conf": "6x1"}'`

Results to expect
-----------------
The team's return, and a video of it; a file name that ends in .gif makes a GIF.
"""

import argparse
import json

from rllib_hetero import load_policies
from rllib_hetero.envs import ENVIRONMENTS
from rllib_hetero.reporting import record_episode

parser = argparse.ArgumentParser(description="Films an episode with a checkpoint's policies.")
parser.add_argument("checkpoint", help="the folder that algo.save_to_path() or Tune wrote")
parser.add_argument("video", help="the file to write, .mp4 or .gif")
# Matrix games have nothing to film.
parser.add_argument("--env", choices=["mpe", "mamujoco"], default="mpe")
parser.add_argument("--env-config", type=json.loads, default={"scenario": "simple_spread"})
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fps", type=int, default=15)


if __name__ == "__main__":
    args = parser.parse_args()
    policies = load_policies(args.checkpoint)
    env = ENVIRONMENTS[args.env]({**args.env_config, "render_mode": "rgb_array"})
    team_return = record_episode(policies, env, args.video, seed=args.seed, fps=args.fps)
    env.close()
    print(f"team return {team_return:.2f}, filmed in {args.video}")
