"""What games of particles in the plane have in common, whatever their rules."""

from rllib_hetero.envs.particles.game import ParticleGame
from rllib_hetero.envs.particles.geometry import between

__all__ = ["ParticleGame", "between"]
